"""The clients that are compared: how each makes one call, and reads one stream, as its own documentation says.

Every `open` is used in a process of its own (`worker`) and imports its library there. It gives what the client can do:
`call` asks once, `chunks` and `events` read one chat or responses stream of `pieces` events, `batch` makes many calls
at its own pace. All of them check the answer, to the last character, and none retries. `most` is how many calls there
will be in flight.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from answers import TEXT
from measure import MESSAGES, MODEL

Doing = dict[str, Callable[..., Awaitable[None]]]
Open = Callable[[str, int, int], AbstractAsyncContextManager[Doing]]

BODY: Any = {"model": MODEL, "messages": MESSAGES}
QUESTION = MESSAGES[0]["content"]
KEY = "bench"
HEADERS = {"Authorization": f"Bearer {KEY}"}


def check_text(text: str | None) -> None:
    assert text == TEXT, f"another answer: {text!r:.80}"


def check_chunks(seen: int, pieces: int) -> None:
    assert seen == 4 * (pieces - 1), f"{seen} characters of {4 * (pieces - 1)}"


def check_events(seen: int, pieces: int) -> None:
    assert seen == 4 * (pieces - 8), f"{seen} characters of {4 * (pieces - 8)}"


@asynccontextmanager
async def aimlasync(base: str, most: int, pieces: int) -> AsyncIterator[Doing]:
    from aimlasync import AsyncClient, Limits

    async with AsyncClient(api_key=KEY, base_url=base, limits=Limits(concurrency=most)) as client:
        yield as_openai(client, pieces)


@asynccontextmanager
async def openai(base: str, most: int, pieces: int) -> AsyncIterator[Doing]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(api_key=KEY, base_url=base, max_retries=0) as client:
        yield as_openai(client, pieces)


@asynccontextmanager
async def openai_aiohttp(base: str, most: int, pieces: int) -> AsyncIterator[Doing]:
    from openai import AsyncOpenAI, DefaultAioHttpClient

    async with AsyncOpenAI(api_key=KEY, base_url=base, max_retries=0, http_client=DefaultAioHttpClient()) as client:
        yield as_openai(client, pieces)


def as_openai(client: Any, pieces: int) -> Doing:
    """What AsyncOpenAI and AsyncClient are asked in the same words."""

    async def call() -> None:
        reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
        check_text(reply.choices[0].message.content)

    async def chunks() -> None:
        seen = 0
        async for chunk in await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
            for choice in chunk.choices:
                seen += len(choice.delta.content or "")
        check_chunks(seen, pieces)

    async def events() -> None:
        seen = 0
        async for event in await client.responses.create(model=MODEL, input=QUESTION, stream=True):
            if event.type == "response.output_text.delta":
                seen += len(event.delta)
        check_events(seen, pieces)

    return {"call": call, "chunks": chunks, "events": events}


@asynccontextmanager
async def raw_aiohttp(base: str, most: int, pieces: int) -> AsyncIterator[Doing]:
    import aiohttp

    async with aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call() -> None:
            async with session.post(f"{base}/chat/completions", json=BODY) as response:
                reply = await response.json()
            check_text(reply["choices"][0]["message"]["content"])

        async def chunks() -> None:
            seen = 0
            async with session.post(f"{base}/chat/completions", json={**BODY, "stream": True}) as response:
                async for line in response.content:
                    seen += _of_chunk(line)
            check_chunks(seen, pieces)

        async def events() -> None:
            seen = 0
            asked = {"model": MODEL, "input": QUESTION, "stream": True}
            async with session.post(f"{base}/responses", json=asked) as response:
                async for line in response.content:
                    if line.startswith(b"data: "):
                        event = json.loads(line[6:])
                        if event["type"] == "response.output_text.delta":
                            seen += len(event["delta"])
            check_events(seen, pieces)

        yield {"call": call, "chunks": chunks, "events": events}


def _of_chunk(line: bytes) -> int:
    if not line.startswith(b"data: ") or line[6:12] == b"[DONE]":
        return 0
    return sum(len(choice["delta"].get("content") or "") for choice in json.loads(line[6:])["choices"])


@asynccontextmanager
async def litellm(base: str, most: int, pieces: int) -> AsyncIterator[Doing]:
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    asked: Any = {"model": f"openai/{MODEL}", "api_base": base, "api_key": KEY, "num_retries": 0, "max_retries": 0}

    async def call() -> None:
        reply = await litellm.acompletion(messages=MESSAGES, **asked)
        check_text(reply.choices[0].message.content)

    async def chunks() -> None:
        seen = 0
        async for chunk in await litellm.acompletion(messages=MESSAGES, stream=True, **asked):
            for choice in chunk.choices:
                seen += len(choice.delta.content or "")
        check_chunks(seen, pieces)

    yield {"call": call, "chunks": chunks}


@asynccontextmanager
async def baseten(base: str, most: int, pieces: int) -> AsyncIterator[Doing]:
    from baseten_performance_client import PerformanceClient, RequestProcessingPreference

    client = PerformanceClient(base_url=base, api_key=KEY)

    async def batch(times: int, in_flight: int) -> None:
        # A batch of sixteen is for embeddings; without it more than 512 at a time are refused.
        how = RequestProcessingPreference(max_concurrent_requests=in_flight, max_retries=0, batch_size=16)
        done = await client.async_batch_post("/chat/completions", [BODY] * times, preference=how)
        assert len(done.data) == times
        for reply in done.data:
            check_text(reply["choices"][0]["message"]["content"])

    yield {"batch": batch}


@asynccontextmanager
async def pyreqwest(base: str, most: int, pieces: int) -> AsyncIterator[Doing]:
    import os
    import ssl

    from pyreqwest.client import ClientBuilder

    builder = ClientBuilder().default_headers(HEADERS).error_for_status()
    if "SSL_CERT_FILE" in os.environ:
        # It does not read the environment.
        for authority in ssl.create_default_context().get_ca_certs(binary_form=True):
            builder = builder.add_root_certificate_der(authority)
    async with builder.build() as client:

        async def call() -> None:
            response = await client.post(f"{base}/chat/completions").body_json(BODY).build().send()
            check_text((await response.json())["choices"][0]["message"]["content"])

        async def chunks() -> None:
            seen, rest = 0, b""
            asked = client.post(f"{base}/chat/completions").body_json({**BODY, "stream": True})
            async with asked.build_streamed() as response:
                while piece := await response.body_reader.read_chunk():
                    *lines, rest = (rest + bytes(piece)).split(b"\n")
                    seen += sum(map(_of_chunk, lines))
            check_chunks(seen, pieces)

        yield {"call": call, "chunks": chunks}


@asynccontextmanager
async def floor(base: str, most: int, pieces: int) -> AsyncIterator[Doing]:
    """The least that asyncio allows: a bare protocol on kept connections, typed decoding, and nothing that can fail."""
    import ssl
    from urllib.parse import urlsplit

    import msgspec

    from aimlasync.chat import ChatCompletion
    from aimlasync.chat.chunks import ChatCompletionChunk

    class Event(msgspec.Struct):
        type: str
        delta: str = ""

    loop = asyncio.get_running_loop()
    url: Any = urlsplit(base)
    context = ssl.create_default_context() if url.scheme == "https" else None
    idle: list[Any] = []
    opened: list[asyncio.BaseTransport] = []
    encode = msgspec.json.Encoder().encode
    completion = msgspec.json.Decoder(ChatCompletion).decode
    chunk, event = msgspec.json.Decoder(ChatCompletionChunk).decode, msgspec.json.Decoder(Event).decode

    class Bare(asyncio.Protocol):
        waiter: asyncio.Future[bytes]

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            opened.append(transport)

        def data_received(self, data: bytes) -> None:
            if self.waiter.done():
                # A second read before the reader had its turn.
                self.waiter = resolved(loop, self.waiter.result() + data)
            else:
                self.waiter.set_result(data)

    async def ask(path: str, body: dict[str, Any]) -> Bare:
        protocol = idle.pop() if idle else (await loop.create_connection(Bare, url.hostname, url.port, ssl=context))[1]
        written = encode(body)
        protocol.waiter = loop.create_future()
        protocol.transport.write(
            b"POST %b/%b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n\r\n%b"
            % (url.path.encode(), path.encode(), url.netloc.encode(), KEY.encode(), len(written), written)
        )
        return protocol

    async def call() -> None:
        protocol = await ask("chat/completions", BODY)
        data = await protocol.waiter
        idle.append(protocol)
        check_text(completion(data[data.index(b"\r\n\r\n") + 4 :]).choices[0].message.content)

    async def lines(path: str, body: dict[str, Any]) -> AsyncIterator[bytes]:
        protocol = await ask(path, {**body, "stream": True})
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            data = await protocol.waiter
            protocol.waiter = loop.create_future()
            *found, rest = (rest + data).split(b"\n\n")
            for one in found:
                at = one.find(b"data: ")
                if at >= 0 and one[at + 6 : at + 12] != b"[DONE]":
                    yield one[at + 6 :]
        idle.append(protocol)

    async def chunks() -> None:
        seen = 0
        async for line in lines("chat/completions", BODY):
            for choice in chunk(line).choices:
                seen += len(choice.delta.content or "")
        check_chunks(seen, pieces)

    async def events() -> None:
        seen = 0
        async for line in lines("responses", {"model": MODEL, "input": QUESTION}):
            if (piece := event(line)).type == "response.output_text.delta":
                seen += len(piece.delta)
        check_events(seen, pieces)

    yield {"call": call, "chunks": chunks, "events": events}
    for transport in opened:
        transport.close()


def resolved(loop: asyncio.AbstractEventLoop, value: bytes) -> asyncio.Future[bytes]:
    future: asyncio.Future[bytes] = loop.create_future()
    future.set_result(value)
    return future


@asynccontextmanager
async def nothing(base: str, most: int, pieces: int) -> AsyncIterator[Doing]:
    """Tasks that wait for nothing: what a call in flight takes before there is a client."""

    async def call() -> None:
        await asyncio.sleep(1.0)

    yield {"call": call}


PEERS: dict[str, Open] = {
    "floor": floor,
    "aimlasync": aimlasync,
    "raw aiohttp + json": raw_aiohttp,
    "pyreqwest": pyreqwest,
    "baseten": baseten,
    "AsyncOpenAI": openai,
    "AsyncOpenAI, aiohttp": openai_aiohttp,
    "litellm": litellm,
    "a task": nothing,
}
PACKAGES = {
    "floor": "aimlasync",
    "raw aiohttp + json": "aiohttp",
    "baseten": "baseten-performance-client",
    "AsyncOpenAI": "openai",
    "AsyncOpenAI, aiohttp": "openai",
    "a task": "aimlasync",
}
