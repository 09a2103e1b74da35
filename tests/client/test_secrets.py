"""One key, every failure, and a search for it in all that a person or a log might see."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

import aimlasync.opentelemetry
import aimlasync.starlette
from aimlasync import (
    AimlasyncError,
    AsyncClient,
    ClientClosedError,
    Endpoint,
    Limits,
    Retry,
    Timeout,
    agents,
    bulk,
    relay,
)
from aimlasync.endpoints.keys import Secret
from aimlasync.transport.aiohttp_session import AiohttpTransport
from aimlasync.transport.base import Transport
from aimlasync.transport.connection_pool import LeanTransport
from tests.support.servers import LEARNS_NOTHING, Script, raw_server, until
from tests.support.tracebacks import seen

sdk_trace = pytest.importorskip("opentelemetry.sdk.trace")
sdk_export = pytest.importorskip("opentelemetry.sdk.trace.export")
in_memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

KEY = "sk-sentinel-5f1c2e77aa"
HELLO = [{"role": "user", "content": "Hello"}]

CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\n'
ECHO = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}}).encode()
FAILURES: Sequence[Script] = [
    Script([ECHO], status=401, content_type="application/json"),
    Script([f"<html>your key {KEY} is bad</html>".encode()], status=403, content_type="text/html"),
    Script([KEY.encode()], status=500, content_type="text/plain"),
    Script([f"<html>{KEY}</html>".encode()], content_type="text/html"),
    Script([ECHO], content_type="application/json"),
    Script([b"data: %b\n\n" % ECHO]),
    Script([b'data: {"choices": []}\n\ndata: {"error": "%b"}\n\n' % KEY.encode()]),
    Script([b"data: %b\n\n" % KEY.encode()]),
    Script(end="reset"),
    Script([b"data: "], end="truncated_chunked"),
    Script(head=b"", end="stall"),
    Script(head=b"garbage %b\r\n\r\n" % KEY.encode()),
    Script([b"{}"], status=307, headers=[("Location", "http://127.0.0.1:1/")]),
]


class Telemetry:
    """Spans, kept."""

    def __init__(self) -> None:
        self.exporter = in_memory.InMemorySpanExporter()
        self.provider = sdk_trace.TracerProvider()
        self.provider.add_span_processor(sdk_export.SimpleSpanProcessor(self.exporter))


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def ask(client: AsyncClient, *, stream: bool, **options: Any) -> None:
    answer: Any = await client.chat.completions.create(model="m", messages=HELLO, stream=stream, **options)
    if stream:
        await answer.collect()


@pytest.mark.parametrize("script", FAILURES, ids=range(len(FAILURES)))
@pytest.mark.parametrize("stream", [False, True])
async def test_no_failure_shows_the_key(script: Script, stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with raw_server(script) as server:
        # Time enough to send it, on any machine; only a server that stalls takes it all.
        seconds = 1.0 if script.end == "stall" else 30.0
        client = AsyncClient(api_key=KEY, base_url=server.base_url, retry=Retry(attempts=1), timeout=seconds)
        async with client:
            with pytest.raises(AimlasyncError) as caught:
                await ask(client, stream=stream)
        assert KEY in server.requests[0].decode()
    assert KEY not in seen(caught.value)
    assert KEY not in caplog.text
    assert KEY not in repr(client)


# --- every place that a secret is given in, every form in which it comes back ---------------------------------------


# Place -> the endpoint's options, the client's, the call's headers, and the header that brings it.
PLACES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "api_key": ({"api_key": KEY}, {}, {}),
    "endpoint's api-key": ({"headers": {"api-key": KEY}}, {}, {}),
    "endpoint's cookie": ({"headers": {"cookie": f"theme=a; session={KEY}; b=c"}}, {}, {}),
    "default x-api-key": ({}, {"default_headers": {"x-api-key": KEY}}, {}),
    "default authorization": ({}, {"default_headers": {"AUTHORIZATION": f"Bearer {KEY}"}}, {}),
    "default basic": ({}, {"default_headers": {"Authorization": f"Basic {b64(f'user:{KEY}')}"}}, {}),
    "call's token": ({}, {}, {"X-Auth-Token": KEY}),
    "call's secret": ({}, {}, {"client-secret": f"Key {KEY}"}),
    "call's subscription key": ({"api_key": "other-key-1234"}, {}, {"Ocp-Apim-Subscription-Key": KEY}),
    "proxy-authorization": ({}, {}, {"Proxy-Authorization": f"Bearer {KEY}"}),
    "a header that the caller names": ({}, {"secret_headers": ["x-mine"]}, {"X-Mine": KEY}),
}

FORMS: dict[str, Callable[[str], str]] = {
    "whole": str,
    "upper": str.upper,
    "cut": lambda key: f"{key[:14]}...",
    "masked": lambda key: f"{key[:9]}*****{key[-4:]}",
    "URL": lambda key: "".join(f"%{byte:02X}" for byte in key.encode()),
    "JSON": lambda key: "".join(f"\\u{byte:04x}" for byte in key.encode()),
    "basic": lambda key: b64(f"user:{key}"),
    "header": lambda key: f"Authorization: Bearer {key}",
}


def failures_with(said: str) -> list[Script]:
    error = '{"error": {"message": "bad: ?", "code": "?", "type": "?", "param": ["?"], "?": {"a": "?"}}}'
    error = error.replace("?", said)
    raw = error.encode()
    padding = f"{'x' * 190}{said}{'y' * 400}"
    echo = [("X-Echo", said), ("X-Request-Id", said), ("Set-Cookie", f"a={said}")]
    return [
        Script([raw], status=401, content_type="application/json", headers=echo),
        Script([raw], status=429, content_type="application/json", headers=echo),
        Script([raw[:-40]], status=500, content_type="application/json"),
        Script([b'{"message": "500 ' + json.dumps(error).encode()[1:-1] + b'"}'], status=500),
        Script([raw], status=500, end="truncated_chunked"),
        Script([f"<html>{padding}</html>".encode()], status=403, content_type="text/html"),
        Script([padding.encode()], content_type="text/html"),
        Script([raw], content_type="application/json", headers=echo),
        Script([b'{"headers": {"a": "%b"}}' % said.encode()], content_type="application/json"),
        Script([b"data: %b\n\n" % raw]),
        Script([CHUNK, b"event: error\ndata: %b\n\n" % raw]),
        Script([CHUNK, b"data: %b\n\n" % raw[:-9]], headers=echo),
        Script([CHUNK.replace(b"hi", said.encode()), b"data: %b\n\n" % raw]),
        Script([CHUNK.replace(b"hi", said.encode())], end="truncated_chunked"),
    ]


async def run_a_job(client: AsyncClient, folder: Path) -> list[str]:
    """Return what a bulk job leaves behind."""
    asked = folder / "in.jsonl"
    request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    asked.write_text(json.dumps({**request, "body": {"model": "m", "messages": HELLO}}))
    summary = await bulk.run(client, str(asked), str(folder / "out.jsonl"), restart=True)
    parts = repr([getattr(summary, field.name) for field in fields(summary)])
    return [repr(summary), parts, *(path.read_text() for path in [*folder.glob("out*")] if path.is_file())]  # noqa: ASYNC240


def leaks(text: str, said: str) -> list[str]:
    """What can be read of the key, as it is and in the form in which it came."""
    low = text.lower()
    parts = {KEY[at : at + 8] for at in range(len(KEY) - 7)} | {said, said[-12:]}
    return [part for part in parts if part.lower() in low]


@pytest.mark.parametrize(
    ("place", "form"), [*((place, "whole") for place in PLACES), *(("api_key", form) for form in [*FORMS][1:])]
)
async def test_no_secret_that_a_server_echoes_is_shown(
    place: str, form: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    of_endpoint, of_client, extra_headers = PLACES[place]
    said = FORMS[form](KEY)
    shown: list[str] = []
    sent: list[bytes] = []
    for script in failures_with(said):
        telemetry = Telemetry()
        async with raw_server(script) as server:
            endpoint = Endpoint(base_url=server.base_url, limits=LEARNS_NOTHING, **of_endpoint)
            attempts = 2 if script.status == 500 else 1
            client = AsyncClient(endpoints=[endpoint], retry=Retry(attempts=attempts, base=0.0), timeout=2, **of_client)
            async with client:
                aimlasync.opentelemetry.instrument(client, tracer_provider=telemetry.provider, capture_content=True)
                for stream in (False, True):
                    with pytest.raises(AimlasyncError) as caught:
                        await ask(client, stream=stream, extra_headers=extra_headers)
                    shown += [seen(caught.value), relay.failure(caught.value).body.decode()]
                    shown.append(repr(pickle.loads(pickle.dumps(caught.value)).__dict__))
                if (place, form) == ("api_key", "whole"):
                    shown += await run_a_job(client, tmp_path)
                shown += [repr(client), repr(endpoint), repr(client.statistics())]
            sent += server.requests
        shown += [span.to_json() for span in telemetry.exporter.get_finished_spans()]
    assert any(KEY.encode() in head or b64(f"user:{KEY}").encode() in head for head in sent)
    shown += [caplog.text, *(repr(record.__dict__) for record in caplog.records)]
    for text in shown:
        assert leaks(text, said) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["api_key", "call's token"])
async def test_what_is_forwarded_of_a_failure_shows_no_secret(place: str, form: str) -> None:
    of_endpoint, _, extra_headers = PLACES[place]
    said = FORMS[form](KEY)
    body = json.dumps({"model": "m", "messages": HELLO}).encode()
    for script in failures_with(said):
        if script.status == 200 and script.content_type == "text/html":
            continue
        async with raw_server(script) as server:
            endpoint = Endpoint(base_url=server.base_url, limits=LEARNS_NOTHING, **of_endpoint)
            async with AsyncClient(endpoints=[endpoint], retry=Retry(attempts=1), timeout=2) as client:
                for method, path, asked in (
                    ("GET", "files", None),
                    ("POST", "chat/completions", body),
                    ("POST", "chat/completions", body.replace(b"{", b'{"stream": true, ', 1)),
                ):
                    if path == "files" and script.status < 400:
                        continue
                    text = b""
                    try:
                        answer = await client.forward(method, path, asked, extra_headers=extra_headers)
                        text += repr((dict(answer.headers), answer.info)).encode()
                        async for piece in answer:
                            text += piece
                    except AimlasyncError as error:
                        text += seen(error).encode()
                    # What an answer said before it failed was handed on as it came.
                    if script.chunks[0].find(b"choices") < 0:
                        assert leaks(text.decode(), said) == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_is_cancelled_or_late_shows_no_secret(stream: bool, over: str) -> None:
    headers = {"X-Auth-Token": KEY}
    async with raw_server(Script(head=b"", end="stall")) as server:
        endpoint = Endpoint(base_url=server.base_url, api_key=KEY, headers={"api-key": KEY})
        async with AsyncClient(endpoints=[endpoint], default_headers={"X-Api-Key": KEY}) as client:
            with pytest.raises(TimeoutError) as late:
                async with asyncio.timeout(0.05):
                    await ask(client, stream=stream, extra_headers=headers)
            assert KEY not in seen(late.value)
            task = asyncio.create_task(ask(client, stream=stream, extra_headers=headers | {"X-Who": "cancelled"}))
            await until(lambda: any(b"X-Who: cancelled" in head for head in server.requests))
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as cancelled:
                await task
            assert KEY not in seen(cancelled.value)
    with pytest.raises(ClientClosedError) as closed:
        await ask(client, stream=stream, extra_headers=headers)
    assert KEY not in seen(closed.value)


ECHOED = [("X-Echo", KEY), ("X-Request-Id", KEY), ("X-Inference-Id", KEY.upper())]


@pytest.mark.parametrize("status", [200, 401])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_a_call_that_ends_in_the_middle_of_its_answer_shows_no_secret(status: int, kind: str) -> None:
    chunk = b"data: {" + ECHO if kind == "application/json" else CHUNK.replace(b"hi", KEY.encode())
    body = json.dumps({"model": "m", "messages": HELLO}).encode()

    async def forwarded(client: AsyncClient, method: str, path: str, asked: bytes | None) -> None:
        async for _ in await client.forward(method, path, asked):
            pass

    async def relayed(client: AsyncClient) -> None:
        ended: list[relay.Relayed] = []
        call = client.chat.completions.create(model="m", messages=HELLO, stream=True)
        async for _ in relay.Relay(call, on_end=ended.append).messages():
            pass
        assert ended[0].error is not None
        raise ended[0].error

    async with raw_server(Script([chunk], status=status, content_type=kind, headers=ECHOED, end="stall")) as server:
        endpoint = Endpoint(base_url=server.base_url, api_key=KEY, limits=Limits(concurrency=16))
        async with AsyncClient(endpoints=[endpoint], retry=Retry(attempts=1), timeout=Timeout(total=0.3)) as late:
            idle = late.with_options(timeout=Timeout(total=20, idle=0.3, first_token=0.3))
            calls: list[Callable[[AsyncClient], Any]] = [
                lambda client: ask(client, stream=False),
                lambda client: ask(client, stream=True),
                lambda client: client.responses.create(model="m", input="a"),
                lambda client: client.models.retrieve("m"),
                lambda client: agents.run(client, model="m", input="a"),
                lambda client: forwarded(client, "GET", "files", None),
                lambda client: forwarded(client, "POST", "chat/completions", body),
                relayed,
            ]

            async def error(call: Callable[[AsyncClient], Any], client: AsyncClient) -> BaseException:
                # A call that this client's bounds do not end is cancelled.
                with pytest.raises((AimlasyncError, TimeoutError)) as caught:
                    async with asyncio.timeout(0.6):
                        await call(client)
                return caught.value

            for ended in await asyncio.gather(*(error(call, client) for call in calls for client in (late, idle))):
                assert leaks(seen(ended), KEY) == []
        assert len(server.requests) == 16
        await until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("make", [LeanTransport, AiohttpTransport])
async def test_what_is_asked_wrongly_shows_no_secret(make: Callable[[], Transport]) -> None:
    headers = {"X-Auth-Token": KEY}
    async with raw_server(Script([b"{}"], content_type="application/json")) as server:
        endpoint = Endpoint(base_url=server.base_url, api_key=KEY)
        transport = make()
        async with AsyncClient(endpoints=[endpoint], transport=transport) as made:
            client: Any = made
            wrong: list[Callable[[], Any]] = [
                lambda: client.chat.completions.create(model="m", messages=HELLO, oops=1, extra_headers=headers),
                lambda: client.chat.completions.create(extra_headers=headers),
                lambda: client.chat.completions.create(model="m", messages=[object()], extra_headers=headers),
                lambda: client.chat.completions.create(model="m", messages=HELLO, timeout="x", extra_headers=headers),
                lambda: client.chat.completions.parse(
                    model="m", messages=HELLO, response_format=object, extra_headers=headers
                ),
                lambda: client.responses.parse(model="m", input="a", text_format=object, extra_headers=headers),
                lambda: client.forward("POST", "chat/completions", b"[]", extra_headers=headers),
                lambda: client.forward("GET", "../x", extra_headers=headers),
                lambda: agents.run(client, input="a", model="", extra_headers=headers),
                lambda: agents.run(client, input="a", model="m", extra_headers=headers, max_turns=1),
                lambda: agents.run(client, model="m", extra_headers=headers),
            ]
            for call in wrong:
                with pytest.raises((TypeError, ValueError, AimlasyncError)) as caught:
                    await call()
                assert KEY not in seen(caught.value)
        await transport.close()


PROXY = f"http://user:{KEY}@127.0.0.1:9"


@pytest.mark.parametrize(
    "make",
    [
        lambda: AsyncClient(KEY, endpoints=[]),
        lambda: AsyncClient(endpoints=[], default_headers={"X-Api-Key": KEY}),
        lambda: AsyncClient(api_key=KEY, base_url=f"https://user:{KEY}@host/v1"),
        lambda: AsyncClient(api_key=KEY, base_url=f"https://host/v1?key={KEY}"),
        lambda: AsyncClient(api_key=KEY, base_url=f"https://host:{KEY}/v1"),
        lambda: AsyncClient(api_key=KEY, base_url=f"https://[{KEY}/v1"),
        lambda: AsyncClient(api_key=f"{KEY} {KEY}"),
        lambda: AsyncClient(api_key=KEY.encode()),  # type: ignore[arg-type]
        lambda: AsyncClient(api_key=KEY, oops=KEY),  # type: ignore[call-arg]
        lambda: AsyncClient(api_key=KEY, max_retries=KEY),  # type: ignore[arg-type]
        lambda: AsyncClient(api_key=KEY, proxy=f"socks5://user:{KEY}@host"),
        lambda: AsyncClient(api_key=KEY, proxy=f"http://user:{KEY}@host:port"),
        lambda: AsyncClient(api_key=KEY, proxy=f"{KEY}@host"),
        lambda: AsyncClient(api_key="k", proxy=PROXY, endpoints=[]),
        lambda: Endpoint(base_url="http://host/v1", api_key=KEY),
        lambda: Endpoint(base_url=f"https://host:{KEY}/v1", api_key=KEY),
        lambda: Endpoint(base_url="https://host/v1", api_key=KEY.encode()),  # type: ignore[arg-type]
        lambda: Endpoint.aimlapi(api_key=f"{KEY}\u00e9"),
        lambda: Endpoint.bytespike(api_key=KEY, base_url=f"ftp://{KEY}@host"),
        lambda: Endpoint.aimlapi(api_key=KEY, oops=KEY),
        lambda: AsyncClient(api_key=KEY).with_options(default_headers={"X-Api-Key": f"{KEY}\n"}),
        lambda: AsyncClient(api_key="k").with_options(default_headers={"X-Api-Key": KEY}, max_retries=KEY),  # type: ignore[arg-type]
    ],
)
def test_what_is_made_wrongly_shows_no_secret(make: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, ValueError, AimlasyncError)) as caught:
        make()
    assert KEY not in seen(caught.value)
    assert len(str(caught.value).splitlines()) == 1


async def test_an_app_that_cannot_begin_shows_no_secret() -> None:
    lifespan = aimlasync.starlette.lifespan(api_key=f"{KEY} x", default_headers={"X-Api-Key": KEY})
    with pytest.raises(ValueError, match="api_key") as caught:
        async with lifespan(None):
            raise AssertionError
    assert KEY not in seen(caught.value)


async def test_a_proxy_is_told_its_password_and_nobody_else_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = FORMS["basic"](KEY)
    echo = json.dumps({"error": {"message": f"{KEY} {said} {quote(PROXY, safe='')}"}}).encode()
    async with raw_server(Script([echo], status=407), Script(end="reset"), Script([b"{}"])) as server:
        proxy = PROXY.replace(":9", f":{server.port}")
        client = AsyncClient(
            endpoints=[Endpoint(base_url="http://api.example/v1", allow_http=True)],
            proxy=proxy,
            retry=Retry(attempts=1),
        )
        for _ in range(3):
            with pytest.raises(AimlasyncError) as caught:
                await ask(client, stream=False)
            assert leaks(seen(caught.value), said) == []
        assert f"Proxy-Authorization: Basic {said}".encode() in server.requests[0]
        assert server.requests[0].startswith(b"POST http://api.example/v1/chat/completions")
        assert leaks(repr(client) + repr(vars(client)), said) == []
        await client.close()
    async with raw_server(Script(head=b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", end="keep")) as server:
        proxy = PROXY.replace(":9", f":{server.port}")
        async with AsyncClient(api_key="k", base_url="https://api.example/v1", proxy=proxy, max_retries=0) as client:
            with pytest.raises(AimlasyncError, match="407") as caught:
                await ask(client, stream=False)
        assert leaks(seen(caught.value), said) == []
        assert server.requests[0].startswith(b"CONNECT api.example:443")
        assert f"Proxy-Authorization: Basic {said}".encode() in server.requests[0]
    assert leaks(caplog.text, said) == []


async def test_a_refused_connection_does_not_show_the_key() -> None:
    async with AsyncClient(api_key=KEY, base_url="http://127.0.0.1:9/v1", retry=Retry(attempts=1)) as client:
        with pytest.raises(AimlasyncError) as caught:
            await client.chat.completions.create(model="m", messages=HELLO)
    assert KEY not in seen(caught.value)


async def test_a_reply_does_not_show_the_key() -> None:
    body = json.dumps({"choices": [{"message": {"content": "hi"}}]}).encode()
    async with raw_server(Script([body], content_type="application/json")) as server:
        async with AsyncClient(api_key=KEY, base_url=server.base_url) as client:
            reply = await client.chat.completions.create(model="m", messages=HELLO)
    assert KEY not in f"{reply!r} {reply.info!r} {vars(reply)!r} {reply.to_dict()}"


@pytest.mark.parametrize("key", [f"{KEY} x", f"{KEY}\nX-Other: 1", f"{KEY}\x00", f"{KEY}\u00e9"])
def test_a_key_that_no_header_may_carry_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        Endpoint(base_url="https://x/v1", api_key=key)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_secret_hides_from_everything_but_reveal() -> None:
    secret = Secret(KEY)
    endpoint = Endpoint(base_url="https://x/v1", api_key=KEY)
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r}", repr(endpoint), str([secret])):
        assert KEY not in shown
    for leak in (pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode, json.dumps):
        with pytest.raises(TypeError):
            leak(secret)
    assert secret.reveal() == KEY


@pytest.mark.parametrize("url", [f"https://user:{KEY}@host/v1", f"https://host/v1?key={KEY}", f"http://{KEY}@host/v1"])
def test_a_url_with_a_secret_in_it_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="base_url") as caught:
        Endpoint(base_url=url)
    assert KEY not in str(caught.value)


def test_a_key_goes_in_the_clear_only_to_this_machine() -> None:
    with pytest.raises(ValueError, match="allow_http"):
        Endpoint(base_url="http://10.0.0.1/v1", api_key=KEY)
    for url in ("http://localhost:1/v1", "http://127.0.0.9/v1", "http://[::1]:80/v1"):
        assert Endpoint(base_url=url, api_key=KEY).base_url == url
    assert Endpoint(base_url="http://10.0.0.1/v1", api_key=KEY, allow_http=True).base_url == "http://10.0.0.1/v1"
