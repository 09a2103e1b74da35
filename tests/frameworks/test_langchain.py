"""langchain's standard suite for chat models, over our pipeline and over httpx's own connections.

The suite is a package, `langchain-tests`. Both run against the same simulator, so that a test which passes with httpx
passes with `aimlasync.httpx`. Most of its tests are synchronous: they reach the pipeline through a loop in a thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

import aimlasync.httpx
from aimlasync import AsyncClient
from aimlasync.simulator import Answer, Call, SimRequest, Simulator, serve_in_thread

NEEDS = "pip install 'aimlasync[frameworks]'"
langchain_openai: Any = pytest.importorskip("langchain_openai", reason=NEEDS)
suites: Any = pytest.importorskip("langchain_tests.integration_tests", reason=NEEDS)
httpx: Any = aimlasync.httpx.package_of_sdk()

# What other packages deprecate of each other is theirs.
pytestmark = pytest.mark.filterwarnings("default")

# Which of the calls that a model could make the suite wants.
CALLS = {
    "San Francisco, CA": Call.of("get_weather", location="San Francisco, CA"),
    "'你好啊集团'": Call.of("unicode_customer", customer_name="你好啊集团", description="技术"),
    "'こんにちは株式会社'": Call.of("unicode_customer", customer_name="こんにちは株式会社", description="日本"),
}


def answer(request: SimRequest) -> Answer | str | None:
    if request.json_object:
        return '{"setup": "Why?", "punchline": "Because."}'
    wanted = [call for text, call in CALLS.items() if text in request.text and not request.results]
    return Answer(calls=wanted) if wanted else None


class Synchronous(httpx.BaseTransport):  # type: ignore[misc]
    """The transport of `client` for httpx's synchronous client."""

    def __init__(self, portal: BlockingPortal, client: AsyncClient) -> None:
        self.portal = portal
        self.transport = aimlasync.httpx.Transport(client)

    def handle_request(self, request: Any) -> Any:
        response = self.portal.call(self.transport.handle_async_request, request)
        body = SynchronousBody(self.portal, response.stream)
        return httpx.Response(response.status_code, headers=response.headers, stream=body)


class SynchronousBody(httpx.SyncByteStream):  # type: ignore[misc]
    def __init__(self, portal: BlockingPortal, body: Any) -> None:
        self.portal = portal
        self.body = body

    def __iter__(self) -> Iterator[bytes]:
        pieces = aiter(self.body)
        while (piece := self.portal.call(anext, pieces, None)) is not None:
            yield piece

    def close(self) -> None:
        self.portal.call(self.body.aclose)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def benchmark() -> None:
    """Of pytest-benchmark, which measures nothing here."""


@pytest.fixture
def vcr() -> None:
    """Of pytest-recording, which records nothing here."""


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    with serve_in_thread(vendor="openai", answer=answer) as simulator:
        yield simulator


class Suite(suites.ChatModelIntegrationTests):  # type: ignore[misc]
    chat_model_class = langchain_openai.ChatOpenAI
    supports_json_mode = True
    model_override_value = "b"
    use_responses_api = False

    @property
    def chat_model_params(self) -> dict[str, Any]:
        options = {"model": "a", "api_key": "k", "use_responses_api": self.use_responses_api, "stream_usage": True}
        return {**options, **self.options}


class Httpx(Suite):
    @pytest.fixture(autouse=True)
    async def connections(self, anyio_backend: str, server: Simulator) -> AsyncIterator[None]:
        # The server has no TLS: to load what is trusted takes most of the time of a test.
        async with httpx.AsyncClient(verify=False) as later:
            with httpx.Client(verify=False) as now:
                self.options = {"base_url": server.base_url, "http_async_client": later, "http_client": now}
                yield


class Ours(Suite):
    @pytest.fixture(autouse=True)
    async def connections(self, anyio_backend: str, server: Simulator) -> AsyncIterator[None]:
        before = len(server.ledger)
        later, now = (AsyncClient(api_key="k", base_url=server.base_url) for _ in range(2))
        async with later:
            with start_blocking_portal() as portal, portal.wrap_async_context_manager(now):
                self.options = {
                    "http_async_client": aimlasync.httpx.client(later),
                    "http_client": httpx.Client(transport=Synchronous(portal, now)),
                }
                yield
        counts = [upstream for client in (later, now) for upstream in client.statistics()]
        assert sum(count.in_flight for count in counts) == 0
        assert sum(count.answered for count in counts) == len(server.ledger) - before


class TestChatOverHttpx(Httpx):
    pass


class TestChatOverOurs(Ours):
    pass


class TestResponsesOverHttpx(Httpx):
    use_responses_api = True


class TestResponsesOverOurs(Ours):
    use_responses_api = True
