"""Over TLS: the same answers, one clear error for a server that cannot prove who it is, and no cut taken for an end."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import re
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aimlasync import (
    APIConnectionError,
    APIResponseValidationError,
    APITimeoutError,
    AsyncClient,
    Limits,
    Timeout,
    TruncatedStreamError,
)
from tests.support.servers import RawServer, Script, listening, raw_server, until

trustme = pytest.importorskip("trustme", reason="pip install 'aimlasync[test]' brings trustme")

HELLO: Any = [{"role": "user", "content": "Hello"}]
KEY = "sentinel-key-4712"
BODY = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SIZED = OK + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
DELTA = b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n'
END = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
STREAM = DELTA + DELTA + END
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


class Served:
    """A server over TLS, and how many times a handshake with it was begun."""

    def __init__(self, raw: RawServer, hellos: list[object]) -> None:
        self.raw = raw
        self.hellos = hellos


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A certificate authority that clients trust."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    # aiohttp makes its context when it is imported.
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", context)
    return authority


@asynccontextmanager
async def tls_server(certificate: Any, *scripts: Script) -> AsyncIterator[Served]:
    hellos: list[object] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.sni_callback = lambda *hello: hellos.append(hello)
    async with raw_server(*scripts, tls=context) as server:
        yield Served(server, hellos)


@asynccontextmanager
async def without_tls(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
) -> AsyncIterator[str]:
    """A server that knows nothing of TLS, and the URL that says it does."""
    async with listening(serve) as port:
        yield f"https://127.0.0.1:{port}/v1"


def connect(server: RawServer, **options: Any) -> AsyncClient:
    options.setdefault("timeout", Timeout(total=60, connect=60))
    return AsyncClient(api_key=KEY, base_url=server.base_url, **options)


async def ask(client: AsyncClient) -> str | None:
    return (await client.chat.completions.create(model="m", messages=HELLO)).choices[0].message.content


async def test_calls_and_streams_share_a_connection(authority: Any) -> None:
    scripts = [
        Script(head=SIZED, end="keep"),
        # Its end comes with its last event, so that nobody has to wait for the connection.
        Script(head=EVENTS + b"Content-Length: %d\r\n\r\n%b" % (len(STREAM), STREAM), end="keep"),
        Script(head=SIZED, end="keep"),
    ]
    async with tls_server(authority.issue_cert("127.0.0.1"), *scripts) as server, connect(server.raw) as client:
        assert await ask(client) == "hi"
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        assert [text async for text in stream.text] == ["hi", "hi"]
        await until(lambda: not client._pipeline.balancer.upstreams[0].limiter.in_flight)
        assert await ask(client) == "hi"
        assert (server.raw.connections, len(server.hellos), len(server.raw.requests)) == (1, 1, 3)


async def test_many_at_once_are_all_answered_and_their_connections_serve_again(authority: Any) -> None:
    async with tls_server(authority.issue_cert("127.0.0.1"), Script(head=SIZED, end="keep")) as server:
        async with connect(server.raw, limits=Limits(concurrency=100)) as client:
            for _ in range(2):
                assert await asyncio.gather(*(ask(client) for _ in range(100))) == ["hi"] * 100
            assert server.raw.connections <= 100
        await until(lambda: server.raw.open_connections == 0)


async def test_a_body_larger_than_a_record_and_an_answer_larger_than_a_read_arrive_whole(authority: Any) -> None:
    content = "a" * 2**21
    body = json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}).encode()
    script = Script(head=OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), end="keep")
    async with tls_server(authority.issue_cert("127.0.0.1"), script) as server, connect(server.raw) as client:
        messages: Any = [{"role": "user", "content": content}]
        for _ in range(2):
            reply = await client.chat.completions.create(model="m", messages=messages)
            assert reply.choices[0].message.content == content
        assert all(json.loads(body)["messages"] == messages for body in server.raw.bodies)
        assert server.raw.connections == 1


LONG_AGO = datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("authority", "issuer"), ("name", "mismatch"), ("expired", "expired")],
    ids=["not-trusted", "another-name", "expired"],
)
async def test_a_server_that_cannot_prove_who_it_is_gets_no_key_and_no_second_try(
    authority: Any, wrong: str, said: str
) -> None:
    certificate = {
        "authority": lambda: trustme.CA().issue_cert("127.0.0.1"),
        "name": lambda: authority.issue_cert("elsewhere.example", "127.0.0.2"),
        "expired": lambda: authority.issue_cert(
            "127.0.0.1", not_before=datetime.datetime(2020, 1, 1), not_after=LONG_AGO
        ),
    }[wrong]()
    async with tls_server(certificate, Script(head=SIZED, end="keep")) as server, connect(server.raw) as client:
        with pytest.raises(APIConnectionError, match=rf"certificate of 127\.0\.0\.1:\d+ .*{said}") as caught:
            await ask(client)
        error = caught.value
        assert (error.retryable, error.__context__, error.__cause__) == (False, None, None)
        assert error.info is not None
        assert error.info.attempts == 1
        assert KEY not in repr(error) + str(error)
        assert len(server.hellos) == 1
        # Nor do many calls make a storm of it: one handshake each.
        errors = await asyncio.gather(*(ask(client) for _ in range(20)), return_exceptions=True)
        assert {type(error) for error in errors} == {APIConnectionError}
        assert len(server.hellos) <= 21
        assert (server.raw.requests, server.raw.bodies) == ([], [])


async def test_a_server_without_tls_is_no_matter_of_certificates() -> None:
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(2**16))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    async with without_tls(refuse) as url, AsyncClient(api_key=KEY, base_url=url, timeout=5) as client:
        with pytest.raises(APIConnectionError, match=r"no TLS connection to 127\.0\.0\.1:\d+: ") as caught:
            await ask(client)
    assert caught.value.info is not None
    assert caught.value.info.attempts == len(asked) == 1
    assert KEY.encode() not in asked[0]


async def test_a_handshake_that_is_never_answered_is_bounded_by_the_connect_timeout() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    bound = Timeout(connect=0.05)
    async with (
        without_tls(say_nothing) as url,
        AsyncClient(api_key=KEY, base_url=url, max_retries=0, timeout=bound) as c,
    ):
        with pytest.raises(APITimeoutError) as caught:
            await ask(c)
    assert caught.value.phase == "connect"


CUT = {
    "length": OK + b"Content-Length: %d\r\n\r\n%b" % (len(BODY) + 1, BODY),
    "length-in-json": OK + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY[:-9]),
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(BODY), BODY),
    "chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b" % (len(BODY), BODY[:-9]),
    "head": OK,
    "nothing": b"",
}


@pytest.mark.parametrize("data", CUT.values(), ids=CUT.keys())
async def test_an_answer_that_is_cut_without_a_goodbye_is_no_answer(authority: Any, data: bytes) -> None:
    async with tls_server(authority.issue_cert("127.0.0.1"), Script(head=data, chunks=[b""], end="cut")) as server:
        async with connect(server.raw, max_retries=0) as client:
            with pytest.raises(APIConnectionError) as caught:
                await ask(client)
            assert caught.value.__context__ is None
        await until(lambda: server.raw.open_connections == 0)


async def test_json_that_ends_with_its_connection_and_too_early_is_no_answer(authority: Any) -> None:
    script = Script(head=OK + b"\r\n" + BODY[:-9], chunks=[b""], end="cut")
    async with tls_server(authority.issue_cert("127.0.0.1"), script) as server:
        async with connect(server.raw, max_retries=0) as client:
            with pytest.raises(APIResponseValidationError):
                await ask(client)


FRAMED = {
    "chunked": (EVENTS + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (len(DELTA), DELTA)),
    "length": (EVENTS + b"Content-Length: 10000\r\n\r\n", DELTA),
    "until-close": (EVENTS + b"\r\n", DELTA),
}


@pytest.mark.parametrize(("head", "piece"), FRAMED.values(), ids=FRAMED.keys())
async def test_a_stream_that_is_cut_without_a_goodbye_is_truncated(authority: Any, head: bytes, piece: bytes) -> None:
    script = Script(head=head, chunks=[piece, piece], end="cut")
    async with tls_server(authority.issue_cert("127.0.0.1"), script) as server, connect(server.raw) as client:
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        with pytest.raises(TruncatedStreamError) as caught:
            [text async for text in stream.text]
        assert caught.value.partial.text == "hihi"
        assert len(server.raw.requests) == 1


ASK = """
import asyncio, sys
from aimlasync import APIConnectionError, AsyncClient

async def main():
    async with AsyncClient(api_key="k", base_url=sys.argv[1]) as client:
        try:
            reply = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
            print(reply.choices[0].message.content)
        except APIConnectionError as error:
            print(error.message)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("ca.pem", r"hi"),
        (None, r"the TLS certificate of .* was not accepted: .*; .* name the file of that authority in SSL_CERT_FILE"),
        ("nothing.pem", r"the TLS certificate of .* was not accepted: .*; SSL_CERT_FILE is .*, which is no file"),
    ],
)
def test_the_environment_names_the_authorities_to_trust(tmp_path: Path, named: str | None, said: str) -> None:
    # Another process asks, with a loop and a transport of its own: those of this one make no difference.
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    environment = {**os.environ, **({"SSL_CERT_FILE": str(tmp_path / named)} if named else {})}

    async def asked() -> tuple[bytes, bytes]:
        async with tls_server(authority.issue_cert("127.0.0.1"), Script(head=SIZED, end="keep")) as server:
            asking = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "error", "-c", ASK, server.raw.base_url,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
            )  # fmt: skip
            return await asking.communicate()

    out, err = asyncio.run(asked())
    assert err == b""
    assert re.fullmatch(said, out.decode().strip())
