"""Whatever a caller gives as a path or an id, the request stays below the base URL: looked at on the wire."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aimlasync.httpx
from aimlasync import AsyncClient, Endpoint, UnsupportedRequestError
from aimlasync.endpoints.paths import id_in_path, path_below
from tests.support.cases import case
from tests.support.servers import RawServer, Script, raw_server

KEY = "sk-sentinel-5f1c2e77aa"
ANSWER = Script([b"{}"], content_type="application/json", end="keep")
NO_MODELS = Script([b'{"data": []}'], content_type="application/json", end="keep")

ELSEWHERE = [
    "../admin",
    "..",
    ".",
    "files/../../admin",
    "files/..",
    "files/./a",
    "//evil.test/x",
    "///evil.test/x",
    "/..",
    "/../admin",
    "https://evil.test/x",
    "http:/evil.test",
    "HTTP://evil.test",
    "\\\\evil.test\\x",
    "..\\admin",
    "files\\..\\..\\admin",
    "%2e%2e/admin",
    "%2E%2E%2Fadmin",
    ".%2e/admin",
    "%252e%252e/admin",
    "files%2f..%2f..%2fadmin",
    "files%5c..%5c..%5cadmin",
    "%2f%2fevil.test/x",
    "..;/admin",
    "..%3f/admin",
    "a/..%23x",
    "..%3bx/admin",
    ".. /admin",
    "files/a\r\nX-B: c",
    "files/a\nb",
    "files/a\0",
    "files/a%0d%0ab",
    "files/a%00",
    "files/\x7f",
    "files/\x85",
    "\ud800",
    "files/\udfff",
    "%25252525252e/a",
]
QUERIES = ["files?a=b", "files#a", "?", "#", "chat/completions?x"]
BELOW = {
    "files": "files",
    "/files": "files",
    "files/": "files/",
    "files/a b": "files/a%20b",
    "files/a%20b": "files/a%20b",
    "models/openai%2Fgpt": "models/openai%2Fgpt",
    "models/openai/gpt-5:free@1": "models/openai/gpt-5:free@1",
    "files/\u00e9\u4f60": "files/%C3%A9%E4%BD%A0",
    "files/a//b": "files/a//b",
    "files/...": "files/...",
    "files/..a": "files/..a",
    'files/"<>': "files/%22%3C%3E",
    "files/a\\b": "files/a%5Cb",
}


def paths(server: RawServer) -> list[str]:
    return [head.split(b" ")[1].decode("ascii") for head in server.requests]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_forward_refuses_a_path_that_might_lead_elsewhere(method: str) -> None:
    async with raw_server(ANSWER) as server, AsyncClient(api_key=KEY, base_url=server.base_url) as client:
        for path in (*ELSEWHERE, *QUERIES):
            with case(path):
                with pytest.raises(UnsupportedRequestError) as caught:
                    await client.forward(method, path, b"{}" if method == "POST" else None)
                assert len(str(caught.value).splitlines()) == 1
                assert server.requests == []


@pytest.mark.parametrize("path", BELOW)
async def test_forward_sends_any_other_path_quoted(path: str) -> None:
    async with raw_server(ANSWER) as server, AsyncClient(api_key=KEY, base_url=server.base_url) as client:
        answer = await client.forward("GET", path, query="limit=2&after=a%20b")
        assert [piece async for piece in answer] == [b"{}"]
        assert paths(server) == [f"/v1/{BELOW[path]}?limit=2&after=a%20b"]


@pytest.mark.parametrize("query", ["a=b#c", "a b", "a\r\nX-B: c", "a\0", "\ud800", "\u00e9", b"a", 7])
async def test_forward_refuses_a_query_that_is_not_quoted(query: Any) -> None:
    async with raw_server(ANSWER) as server, AsyncClient(api_key=KEY, base_url=server.base_url) as client:
        with pytest.raises(UnsupportedRequestError, match="query"):
            await client.forward("GET", "files", query=query)
        with pytest.raises(ValueError, match="cannot be sent"):
            await client.forward("GET /x HTTP/1.1\r\nX-B:", "files")
        assert server.requests == []


@pytest.mark.parametrize("vendor", [Endpoint, Endpoint.aimlapi])
async def test_retrieve_refuses_an_id_that_might_lead_elsewhere(vendor: Any) -> None:
    async with raw_server(ANSWER) as server:
        async with AsyncClient(endpoints=[vendor(api_key=KEY, base_url=server.base_url)]) as client:
            models: list[Any] = [*ELSEWHERE, "", "/etc", b"gpt", None, 7]
            for model in models:
                # An id is quoted once more, and means what it says.
                if isinstance(model, str) and model.startswith("%25252525"):
                    continue
                with case(model):
                    with pytest.raises(UnsupportedRequestError, match="model's id") as caught:
                        await client.models.retrieve(model)
                    assert len(str(caught.value).splitlines()) == 1
                    assert server.requests == []


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("openai/gpt-5", "openai/gpt-5"),
        ("a:free", "a:free"),
        ("a?b#c%2f", "a%3Fb%23c%252f"),
        ("\u00e9 b", "%C3%A9%20b"),
        ("a\\b", "a%5Cb"),
    ],
)
async def test_retrieve_quotes_an_id(model: str, sent: str) -> None:
    async with raw_server(ANSWER) as server, AsyncClient(api_key=KEY, base_url=server.base_url) as client:
        await client.models.retrieve(model)
        assert paths(server) == [f"/v1/models/{sent}"]


async def test_filters_of_a_list_are_quoted() -> None:
    async with raw_server(NO_MODELS) as server, AsyncClient(api_key=KEY, base_url=server.base_url) as client:
        await client.models.list(type="a&b=c#\r\n", tags="x,y/z")
        with pytest.raises(UnsupportedRequestError, match="surrogate"):
            await client.models.list(type="\ud800")
        assert paths(server) == ["/v1/models?type=a%26b%3Dc%23%0D%0A&tags=x,y/z"]


@pytest.mark.parametrize("path", ["/v1/%2e%2e/a", "/v1//evil.test/x", "/v1/..%2f..%2fa", "/v1/a/%2e%2e%5cx"])
async def test_an_httpx_request_stays_below_the_base_url(path: str) -> None:
    flavour = pytest.importorskip("httpx", reason="pip install httpx runs this test")
    async with raw_server(ANSWER) as server, AsyncClient(api_key=KEY, base_url=server.base_url) as client:
        async with flavour.AsyncClient(transport=aimlasync.httpx.Transport(client), base_url="https://x") as http:
            response = await http.get(f"https://x{path}")
            assert response.status_code in (200, 400)
        assert all(sent.startswith("/v1/") and ".." not in unquote(unquote(sent)) for sent in paths(server))


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="./\\%2eE25cC;?#:ahtp \r\n\ud800\u00e9", max_size=24))
def test_no_path_leads_elsewhere(text: str) -> None:
    for make in (path_below, lambda text: id_in_path(text, "the id")):
        try:
            sent = make(text)
        except UnsupportedRequestError:
            continue
        for _ in range(3):
            assert sent.isascii() or sent != make(text)
            parts = sent.replace("\\", "/").split("/")
            assert ".." not in parts
            assert not sent.startswith("//")
            sent = unquote(sent)
