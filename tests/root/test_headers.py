"""Headers of callers: one check for both transports, a refusal that shows no value, and one Host on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aimlasync import AsyncClient, Endpoint
from aimlasync.headers import FRAMING
from aimlasync.transport.aiohttp_session import AiohttpTransport
from aimlasync.transport.base import Transport
from aimlasync.transport.connection_pool import LeanTransport
from tests.support.servers import Script, raw_server
from tests.support.tracebacks import seen

KEY = "sk-sentinel-5f1c2e77aa"
HELLO = [{"role": "user", "content": "Hello"}]
ANSWER = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}'
GOOD = Script([ANSWER], content_type="application/json", end="keep")
TRANSPORTS: list[Callable[[], Transport]] = [LeanTransport, AiohttpTransport]

UNFIT: dict[str, tuple[Any, Any]] = {
    "half a surrogate pair": ("X-Api-Key", f"{KEY}\udce9"),
    "a line end": ("X-Api-Key", f"{KEY}\r\nX-B: c"),
    "a line feed at its end": ("X-Api-Key", f"{KEY}\n"),
    "a NUL": ("X-Api-Key", f"{KEY}\0"),
    "a DEL": ("X-Api-Key", f"{KEY}\x7f"),
    "a control character of Latin-1": ("X-Api-Key", f"{KEY}\x85"),
    "outside Latin-1": ("X-Api-Key", f"{KEY}\u4f60"),
    "bytes": ("X-Api-Key", KEY.encode()),
    "a number": ("X-Api-Key", 7),
    "None": ("X-Api-Key", None),
    "a list": ("X-Api-Key", [KEY]),
    "a name with a line end": (f"X-Api-Key: {KEY}\r\nX-B", "c"),
    "a name with a colon": (f"X-Api-Key:{KEY}", "c"),
    "a name that is not ASCII": ("X-Api-Key\u00e9", KEY),
    "an empty name": ("", KEY),
    "a name of bytes": (b"X-Api-Key", KEY),
    "a Host that is none": ("Host", f"a b{KEY}"),
    **{name: (name.title(), KEY) for name in sorted(FRAMING)},
    "framing in upper case": ("TRANSFER-ENCODING", "chunked"),
}


def refused(error: pytest.ExceptionInfo[ValueError], name: Any) -> None:
    text = seen(error.value)
    assert "sentinel" not in text
    assert type(error.value) is ValueError
    assert len(str(error.value).splitlines()) == 1
    if isinstance(name, str) and name and "key" in name.lower():
        assert "X-Api-Key" in str(error.value)
    elif isinstance(name, str) and name:
        assert name.lower() in str(error.value).lower()


@pytest.mark.parametrize("make", TRANSPORTS, ids=["lean", "session"])
@pytest.mark.parametrize("unfit", UNFIT)
async def test_both_transports_refuse_what_cannot_be_sent_and_send_nothing(
    unfit: str, make: Callable[[], Transport]
) -> None:
    name, value = UNFIT[unfit]
    fit = {"Authorization": f"Bearer {KEY}"}
    async with raw_server(GOOD) as server:
        transport = make()
        for headers, own in (({**fit, name: value}, {}), (fit, {name: value}), (fit, {"X-A": "b", name: value})):
            for _ in range(2):
                with pytest.raises(ValueError, match="cannot be sent") as caught:
                    await transport.send("POST", f"{server.base_url}/x", headers, own, b"{}", connect=1)
                refused(caught, name)
        assert server.requests == []
        # Once a name was seen with a good value, a bad one is still refused.
        reply = await transport.send("POST", f"{server.base_url}/x", fit, {"X-Api-Key": "good"}, b"{}", connect=1)
        assert await reply.read() == ANSWER
        if name == "X-Api-Key":
            with pytest.raises(ValueError, match="cannot be sent") as caught:
                await transport.send("POST", f"{server.base_url}/x", fit, {name: value}, b"{}", connect=1)
            refused(caught, name)
        assert len(server.requests) == 1
        await transport.close()


@pytest.mark.parametrize("unfit", UNFIT)
async def test_a_header_is_refused_where_it_is_given(unfit: str) -> None:
    name, value = UNFIT[unfit]
    given: Any = {"X-Other-Key": KEY, name: value}
    with pytest.raises(ValueError, match=r"^Endpoint\(headers=\): .*cannot be sent") as caught:
        Endpoint(base_url="https://x/v1", api_key=KEY, headers=given)
    refused(caught, name)
    with pytest.raises(ValueError, match=r"^Endpoint\(headers=\): ") as caught:
        Endpoint.aimlapi(api_key=KEY, headers=given)
    refused(caught, name)
    with pytest.raises(ValueError, match=r"^default_headers: .*cannot be sent") as caught:
        AsyncClient(api_key=KEY, default_headers=given)
    refused(caught, name)
    async with raw_server(GOOD) as server, AsyncClient(api_key=KEY, base_url=server.base_url) as client:
        with pytest.raises(ValueError, match=r"^default_headers: ") as caught:
            client.with_options(default_headers=given)
        refused(caught, name)
        calls: list[Callable[[], Any]] = [
            lambda: client.chat.completions.create(model="m", messages=HELLO, extra_headers=given),
            lambda: client.chat.completions.parse(model="m", messages=HELLO, response_format=int, extra_headers=given),
            lambda: client.responses.create(model="m", input="a", extra_headers=given),
            lambda: client.responses.parse(model="m", input="a", text_format=int, extra_headers=given),
            lambda: client.forward("POST", "chat/completions", b"{}", extra_headers=given),
            lambda: client.forward("GET", "files", extra_headers=given),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=r"^extra_headers: .*cannot be sent") as caught:
                await call()
            refused(caught, name)
        assert server.requests == []
        assert client.statistics()[0].attempts == 0


@pytest.mark.parametrize("given", [[("X-Api-Key", KEY)], KEY, 7, {KEY}])
async def test_headers_that_are_no_mapping_are_refused_without_showing_them(given: Any) -> None:
    for make in (
        lambda: Endpoint(base_url="https://x/v1", headers=given),
        lambda: AsyncClient(api_key=KEY, default_headers=given),
    ):
        with pytest.raises(ValueError, match="is a mapping of header names to values") as caught:
            make()
        assert KEY not in seen(caught.value)
    async with AsyncClient(api_key=KEY, base_url="http://127.0.0.1:9/v1") as client:
        with pytest.raises(ValueError, match="extra_headers is a mapping") as caught:
            await client.chat.completions.create(model="m", messages=HELLO, extra_headers=given)
        assert KEY not in seen(caught.value)


async def test_a_header_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="X-A cannot be sent: it is given twice"):
        Endpoint(base_url="https://x/v1", headers={"X-A": "b", "x-a": "c"})
    async with raw_server(GOOD) as server:
        for make in TRANSPORTS:
            transport = make()
            with pytest.raises(ValueError, match="Host cannot be sent: it is given twice"):
                await transport.send("GET", server.base_url, {}, {"Host": "a", "HOST": "b"}, None, connect=1)
            await transport.close()


@pytest.mark.parametrize("make", TRANSPORTS, ids=["lean", "session"])
@pytest.mark.parametrize("name", ["Host", "host", "HOST"])
@pytest.mark.parametrize("place", ["endpoint", "default", "extra", "all"])
async def test_a_callers_host_is_the_only_one(place: str, name: str, make: Callable[[], Transport]) -> None:
    def given(where: str) -> dict[str, str]:
        return {name: f"{where}.example:8"} if place in (where, "all") else {}

    async with raw_server(GOOD) as server:
        endpoint = Endpoint(base_url=server.base_url, api_key=KEY, headers=given("endpoint"))
        transport = make()
        async with AsyncClient(endpoints=[endpoint], default_headers=given("default"), transport=transport) as client:
            for _ in range(2):
                await client.chat.completions.create(model="m", messages=HELLO, extra_headers=given("extra"))
            answer = await client.forward("GET", "files", extra_headers=given("extra"))
            assert [piece async for piece in answer] == [ANSWER]
        await transport.close()
        for head in server.requests:
            hosts = [line for line in head.split(b"\r\n") if line.lower().startswith(b"host:")]
            assert [host.partition(b":")[2].strip() for host in hosts] == [
                f"{'extra' if place == 'all' else place}.example:8".encode()
            ]


@pytest.mark.parametrize("make", TRANSPORTS, ids=["lean", "session"])
async def test_latin_1_and_tabs_are_sent_alike(make: Callable[[], Transport]) -> None:
    async with raw_server(GOOD) as server:
        transport = make()
        reply = await transport.send(
            "POST", f"{server.base_url}/x", {"X-A": "b"}, {"X-C": "caf\u00e9\td"}, b"{}", connect=1
        )
        await reply.read()
        await transport.close()
        assert "X-C: caf\u00e9\td\r\n".encode() in server.requests[0]


@pytest.mark.parametrize("make", TRANSPORTS, ids=["lean", "session"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET /admin HTTP/1.1\r\nX:", "/x"), ("G T", "/x"), ("GET", "/x y"), ("GET", "/x\r\nX-B: c")]
)
async def test_both_transports_refuse_what_would_leave_the_request_line(
    method: str, path: str, make: Callable[[], Transport]
) -> None:
    async with raw_server(GOOD) as server:
        transport = make()
        with pytest.raises(ValueError, match="cannot be sent"):
            await transport.send(method, f"http://127.0.0.1:{server.port}{path}", {}, {}, None, connect=1)
        await transport.close()
        assert server.requests == []
