"""Large heads are read, larger ones refused once; what fails on the way to a server is named."""

from __future__ import annotations

import gzip
import socket
from typing import Any

import aiohttp
import pytest
from yarl import URL

from aimlasync import APIConnectionError, APITimeoutError, AsyncClient, Retry
from aimlasync.transport.aiohttp_errors import translated
from tests.client.test_endings import ask_chat, whole
from tests.client.test_stream import connect
from tests.support.servers import Script, raw_server


def with_head(fields: int, size: int, *, packed: bool) -> Script:
    body = gzip.compress(whole()) if packed else whole()
    lines = [b"HTTP/1.1 200 OK", b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    if packed:
        lines.append(b"Content-Encoding: gzip")
    lines += [b"X-Policy-%d: %b" % (number, b"a" * size) for number in range(fields)]
    return Script(head=b"\r\n".join([*lines, b"", body]))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("fields", "size"), [(1, 9_000), (1, 40_000), (5, 9_000), (200, 100)])
async def test_a_large_head_is_read(fields: int, size: int, packed: bool) -> None:
    async with raw_server(with_head(fields, size, packed=packed)) as server:
        assert await ask_chat(server, False) == "hello"


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_a_head_that_is_too_large_is_said_to_be_and_not_asked_for_again(packed: bool) -> None:
    async with raw_server(with_head(1, 70_000, packed=packed)) as server:
        with pytest.raises(APIConnectionError, match=r"headers of the response .* are larger than 65536 bytes"):
            await ask_chat(server, False, retry=Retry(attempts=3, base=0.01))
        assert len(server.requests) == 1


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("words", "encoding"), [("café 余额", "utf-8"), ("café", "latin-1")])
async def test_the_words_of_a_header_are_those_that_the_server_wrote(words: str, encoding: str, packed: bool) -> None:
    head = with_head(1, 1, packed=packed).head or b""
    head = head.replace(b"X-Policy-0: a", b"X-Request-Id: " + words.encode(encoding))
    async with raw_server(Script(head=head)) as server, connect(server) as client:
        for _ in range(2):
            info = (await client.chat.completions.create(model="m", messages=[])).info
            assert (info.headers["x-request-id"], info.server_request_id) == (words, words)


async def test_a_proxy_that_is_down_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        # Bound, and nobody listens.
        proxy = f"http://127.0.0.1:{port}"
        async with AsyncClient(
            api_key="k", base_url="https://api.example.com/v1", proxy=proxy, retry=Retry(attempts=1)
        ) as client:
            with pytest.raises(APIConnectionError, match=rf"the proxy 127\.0\.0\.1:{port}, .* api\.example\.com:443"):
                await client.chat.completions.create(model="m", messages=[])


@pytest.mark.parametrize(
    ("head", "words", "sent"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            "the proxy refused .* HTTP 407",
            1,
        ),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "the proxy refused .* HTTP 403", 1),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "the proxy refused .* HTTP 502", 2),
        (
            b"SSH-2.0-OpenSSH\r\n",
            r"api.example.com:443 through the proxy 127\.0\.0\.1:\d+ sent something .* not HTTP",
            1,
        ),
        (b"", r"api.example.com:443 through the proxy 127\.0\.0\.1:\d+ closed the connection", 2),
    ],
)
async def test_what_a_proxy_says_to_a_connection_is_told(head: bytes, words: str, sent: int) -> None:
    async with raw_server(Script(head=head)) as proxy:
        retry = Retry(attempts=2, base=0.01)
        through = f"http://user:s3cret@127.0.0.1:{proxy.port}"
        async with AsyncClient(
            api_key="k", base_url="https://api.example.com/v1", proxy=through, retry=retry
        ) as client:
            with pytest.raises(APIConnectionError, match=words) as refused:
                await client.chat.completions.create(model="m", messages=[])
        assert len(proxy.requests) == sent
        assert "s3cret" not in str(refused.value)


class _Refused(OSError):
    errno = 111
    strerror = "Connection refused"


def failure(url: str, **more: Any) -> str:
    error = aiohttp.ClientConnectorError(_key(), _Refused())
    return translated(error, URL(url), fresh=True, **more).message


def _key() -> Any:
    class Key:
        host, port, ssl = "api.example.com", 443, True

    return Key()


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_that_is_not_used_is_mentioned(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://user:s3cret@proxy.example:3128")
    said = failure("https://api.example.com/v1")
    assert f"{name.upper()} of the environment is not used: give proxy=" in said
    assert "s3cret" not in said
    late = translated(TimeoutError(), URL("https://api.example.com/v1"), fresh=True)
    assert isinstance(late, APITimeoutError)
    assert name.upper() in late.message


def test_it_is_not_mentioned_where_it_would_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "_PROXY" not in failure("https://api.example.com/v1")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert "_PROXY" not in failure("http://127.0.0.1:1/v1")
    assert "_PROXY" not in failure("https://localhost:1/v1")
    assert "_PROXY" not in failure("https://api.example.com/v1", proxy=URL("http://other.example:1"))
    monkeypatch.setenv("NO_PROXY", "example.com")
    assert "_PROXY" not in failure("https://api.example.com/v1")
