"""An observer is told of every call once how it began and once how it ended, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from aimlasync import AimlasyncError, AsyncClient, Budget, Endpoint, Hedge, Info, Price, Retry, Timeout
from aimlasync.simulator import Fault, Simulator
from aimlasync.wire.base import Reply
from tests.support.servers import Script, raw_server, until

NANO = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]
CHUNK = b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n'


class Told:
    """A watch that writes down what it is told."""

    def __init__(self) -> None:
        self.headers: Mapping[str, str] = {"Traceparent": "00-1"}
        self.stumbles: list[str] = []
        self.pieces = 0
        self.ends: list[Any] = []

    def stumbled(self, error: AimlasyncError, endpoint: str) -> None:
        self.stumbles.append(type(error).__name__)

    def arrived(self, pieces: int) -> None:
        self.pieces += pieces

    def answered(self, reply: Reply) -> None:
        self.ends.append(reply)

    def failed(self, error: BaseException | None) -> None:
        self.ends.append(error if error is None else type(error).__name__)


class Observer:
    """Keeps the watches of all calls."""

    def __init__(self) -> None:
        self.calls: list[Told] = []

    def began(self, api: str, body: Mapping[str, Any], info: Info, endpoints: Sequence[Endpoint]) -> Told:
        assert body["model"] == info.model
        assert endpoints
        self.calls.append(Told())
        return self.calls[-1]

    @property
    def only(self) -> Told:
        (call,) = self.calls
        return call


def over(base_url: str, observer: Observer, **options: Any) -> AsyncClient:
    options.setdefault("retry", Retry(attempts=2, base=0.001))
    client = AsyncClient(api_key="k", base_url=base_url, **options)
    client.observe(observer)
    return client


async def ask(client: AsyncClient, **options: Any) -> Any:
    return await client.chat.completions.create(model=NANO, messages=HELLO, **options)


async def test_an_answer_is_told_with_its_stumbles(simulator: Simulator) -> None:
    simulator.faults = [Fault("status", status=500, times=1)]
    observer = Observer()
    async with over(simulator.base_url, observer) as client:
        reply = await ask(client.with_options(timeout=5))
    assert observer.only.stumbles == ["InternalServerError"]
    assert observer.only.ends == [reply]


async def test_the_headers_of_a_watch_are_sent() -> None:
    async with raw_server(Script([b"{}"], content_type="application/json")) as server:
        async with over(server.base_url, Observer()) as client:
            with pytest.raises(AimlasyncError):
                await ask(client)
    assert b"Traceparent: 00-1\r\n" in server.requests[0]


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_stream_is_told_piece_by_piece_and_ends_with_all_of_it(simulator: Simulator, api: str) -> None:
    observer = Observer()
    async with over(simulator.base_url, observer) as client:
        stream: Any
        if api == "chat":
            stream = await ask(client, stream=True)
        else:
            stream = await client.responses.create(model=NANO, input="Hello", stream=True)
        assert observer.only.ends == [] or observer.only.pieces
        pieces = [piece async for piece in stream]
        whole = await stream.collect()
    assert observer.only.pieces == len(pieces)
    (end,) = observer.only.ends
    assert end == whole
    assert end.info.cost_usd is not None


async def test_a_whole_answer_to_a_stream_request_ends_once() -> None:
    body = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}'
    observer = Observer()
    async with raw_server(Script([body], content_type="application/json")) as server:
        async with over(server.base_url, observer) as client:
            assert (await (await ask(client, stream=True)).collect()).text == "hi"
    assert observer.only.pieces == 1
    assert len(observer.only.ends) == 1


async def test_a_failure_is_told_once(simulator: Simulator) -> None:
    simulator.faults = [Fault("status", status=500)]
    observer = Observer()
    async with over(simulator.base_url, observer) as client:
        with pytest.raises(AimlasyncError):
            await ask(client)
    assert observer.only.stumbles == ["InternalServerError"] * 2
    assert observer.only.ends == ["InternalServerError"]


async def test_a_call_that_no_budget_covers_is_told(simulator: Simulator) -> None:
    observer = Observer()
    budget = Budget(1e-9, prices={NANO: Price.per_million(input=1, output=1)})
    async with over(simulator.base_url, observer, budget=budget) as client:
        with pytest.raises(AimlasyncError):
            await ask(client, max_completion_tokens=100)
    assert observer.only.ends == ["BudgetExceededError"]


@pytest.mark.parametrize(
    ("end", "told"), [("eof", "TruncatedStreamError"), ("reset", "TruncatedStreamError"), ("stall", "APITimeoutError")]
)
async def test_a_stream_that_fails_is_told_as_its_failure(end: Any, told: str) -> None:
    observer = Observer()
    async with raw_server(Script([CHUNK], end=end)) as server:
        async with over(server.base_url, observer, timeout=Timeout(idle=0.05 if end == "stall" else 60)) as client:
            with pytest.raises(AimlasyncError):
                await (await ask(client, stream=True)).collect()
    assert observer.only.ends == [told]
    assert observer.only.pieces == 1


@pytest.mark.parametrize("how", ["close", "cancel", "forget"])
async def test_a_reader_that_leaves_is_told_as_such(how: str) -> None:
    observer = Observer()
    async with raw_server(Script([CHUNK], end="stall")) as server, over(server.base_url, observer) as client:
        stream = await ask(client, stream=True)
        if how == "close":
            await stream.close()
        elif how == "cancel":
            task = asyncio.ensure_future(stream.collect())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        del stream
        await until(lambda: observer.only.ends)
    assert observer.only.ends == [None]


async def test_a_call_that_is_cancelled_is_told_at_any_step() -> None:
    observer = Observer()
    async with raw_server(Script(head=b"", end="stall")) as server, over(server.base_url, observer) as client:
        for step in range(12):
            task = asyncio.ensure_future(ask(client))
            for _ in range(step):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert len(observer.calls) >= 10
    assert all(call.ends == ["CancelledError"] for call in observer.calls)


async def test_of_two_hedged_attempts_only_the_call_is_told() -> None:
    observer = Observer()
    async with raw_server(Script(head=b"", end="stall"), Script([CHUNK, b"data: [DONE]\n\n"])) as server:
        async with over(server.base_url, observer, hedge=Hedge(after=0.01, max_extra=1.0)) as client:
            await (await ask(client, stream=True)).collect()
    assert len(observer.only.ends) == 1
    assert observer.only.stumbles == []


async def test_one_observer_at_a_time(simulator: Simulator) -> None:
    first, second = Observer(), Observer()
    async with over(simulator.base_url, first) as client:
        with pytest.raises(RuntimeError, match="observed already"):
            client.observe(second)
        client.observe(None)
        client.observe(second)
        await ask(client)
    assert (len(first.calls), len(second.calls)) == (0, 1)
