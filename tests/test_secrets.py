"""One key, every failure, and a search for it in all that a person or a log might see."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import traceback
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from servers import Script, raw_server

from aimlasync import AimlasyncError, AsyncClient, Endpoint, Retry
from aimlasync.endpoint import Secret

KEY = "sk-sentinel-5f1c2e77aa"
HELLO = [{"role": "user", "content": "Hello"}]

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


async def ask(client: AsyncClient, *, stream: bool) -> None:
    answer: Any = await client.chat.completions.create(model="m", messages=HELLO, stream=stream)
    if stream:
        await answer.collect()


def seen(error: BaseException) -> str:
    """All that a traceback, a debugger's locals or a structured log would show, of the whole chain."""
    text = io.StringIO()
    pending: list[BaseException | None] = [error]
    while pending:
        link = pending.pop()
        if link is None:
            continue
        pending += [link.__cause__, link.__context__]
        shown = traceback.TracebackException.from_exception(link, capture_locals=True)
        # This test's own frames name the key; the library's must not.
        shown.stack[:] = [frame for frame in shown.stack if "/tests/" not in frame.filename]
        text.write("".join(shown.format()))
        text.write(f"{link!r} {link!s} {link.args!r} {vars(link)!r}")
    return text.getvalue()


@pytest.mark.parametrize("script", FAILURES, ids=range(len(FAILURES)))
@pytest.mark.parametrize("stream", [False, True])
async def test_no_failure_shows_the_key(script: Script, stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with raw_server(script) as server:
        client = AsyncClient(api_key=KEY, base_url=server.base_url, retry=Retry(attempts=1), timeout=0.3)
        async with client:
            with pytest.raises(AimlasyncError) as caught:
                await ask(client, stream=stream)
        assert KEY in server.requests[0].decode()
    assert KEY not in seen(caught.value)
    assert KEY not in caplog.text
    assert KEY not in repr(client)


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
