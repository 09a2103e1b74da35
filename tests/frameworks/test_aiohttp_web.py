"""The same promises under aiohttp.web: text, statuses, browsers that leave, shutting down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from aimlasync import Endpoint, Limits, Retry
from aimlasync.aiohttp_web import CLIENT, client_of, errors, event_stream, setup
from aimlasync.relay import Relayed
from aimlasync.simulator import Fault, Latency, Simulator
from tests.support.servers import until
from tests.support.web import browser, events_of

NANO = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]
SLOW = Latency.of(ttft=0.0, tokens_per_second=50)
LONG = "one two three four five six seven eight nine ten " * 20


class Running:
    """An app at work."""

    def __init__(self, app: web.Application, runner: web.AppRunner, ended: list[Relayed]) -> None:
        self.client = app[CLIENT]
        self.runner = runner
        self.ended = ended

    @property
    def url(self) -> str:
        host, port = self.runner.addresses[0][:2]
        return f"http://{host}:{port}"

    @property
    def idle(self) -> bool:
        (state,) = self.client.statistics()
        return (state.in_flight, state.queued) == (0, 0)


@asynccontextmanager
async def running(
    simulator: Simulator, *, relay: dict[str, Any] | None = None, server: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Running]:
    ended: list[Relayed] = []

    async def stream(request: web.Request) -> web.StreamResponse:
        call = client_of(request).chat.completions.create(model=NANO, messages=HELLO, stream=True)
        return await event_stream(request, call, on_end=ended.append, **(relay or {}))

    async def whole(request: web.Request) -> web.Response:
        return web.json_response(
            {"text": (await client_of(request).chat.completions.create(model=NANO, messages=HELLO)).text}
        )

    inner = web.Application()
    inner.router.add_get("/stream", stream)
    inner.router.add_get("/whole", whole)
    app = web.Application(middlewares=[errors])
    app.add_subapp("/in", inner)
    endpoint = Endpoint.aimlapi(api_key="test", base_url=simulator.base_url)
    setup(app, **{"endpoints": [endpoint], "retry": Retry(attempts=1), **options})
    runner = web.AppRunner(app, **(server or {}))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made = Running(app, runner, ended)
    try:
        yield made
    finally:
        await runner.cleanup()
        assert made.client.is_closed


async def test_text_arrives_in_pieces_and_ends_with_a_summary() -> None:
    async with Simulator() as simulator, running(simulator) as app, browser() as session:
        async with session.get(f"{app.url}/in/stream") as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            *texts, done = [event async for event in events_of(response)]
        async with session.get(f"{app.url}/in/whole") as answer:
            assert "".join(json.loads(event.data)["text"] for event in texts) == (await answer.json())["text"]
        assert app.idle
    assert done.event == "done"
    assert [end.outcome for end in app.ended] == ["finished"]


async def test_an_error_before_the_first_token_is_a_status_and_later_a_message() -> None:
    faults = [Fault("status", status=400, message="the words", times=2), Fault("cut_stream", at=5)]
    async with (
        Simulator(faults=faults, answer=lambda _: LONG) as simulator,
        running(simulator) as app,
        browser() as session,
    ):
        for path in ("stream", "whole"):
            async with session.get(f"{app.url}/in/{path}") as response:
                assert response.status == 400
                assert "the words" in (await response.json())["error"]["message"]
        async with session.get(f"{app.url}/in/stream") as response:
            assert [event async for event in events_of(response)][-1].event == "error"
        async with session.get(f"{app.url}/in/stream", headers={"Last-Event-ID": "x"}) as response:
            assert response.status == 409
        assert len(simulator.ledger) == 3


@pytest.mark.parametrize("cancels", [False, True], ids=["default", "handler_cancellation"])
async def test_a_browser_that_leaves_cancels_the_call(cancels: bool) -> None:
    async with (
        Simulator(latency=SLOW, answer=lambda _: LONG, faults=[Fault("stall", after=1)]) as simulator,
        running(simulator, server={"handler_cancellation": cancels}, limits=Limits(concurrency=2)) as app,
        browser() as session,
    ):
        async with session.get(f"{app.url}/in/stream") as response:
            await anext(events_of(response))
        await until(lambda: simulator.ledger[0].disconnected and app.idle)
        pending = [asyncio.create_task(session.get(f"{app.url}/in/stream")) for _ in range(5)]
        await until(lambda: app.client.queued == 3)
        for request in pending:
            request.cancel()
        await until(lambda: app.idle)
        assert len(simulator.ledger) == 3
        await asyncio.gather(*pending, return_exceptions=True)
    assert {end.outcome for end in app.ended} == {"left"}


async def test_comments_keep_a_slow_stream_alive() -> None:
    latency = Latency.of(ttft=0.0, tokens_per_second=5)
    async with (
        Simulator(latency=latency, answer=lambda _: LONG) as simulator,
        running(simulator, relay={"ping": 0.02}) as app,
        browser() as session,
        session.get(f"{app.url}/in/stream") as response,
    ):
        await response.content.readuntil(b"\n: keep-alive\n")
        await response.content.readuntil(b"data: {")


async def test_shutting_down_cuts_what_does_not_end_in_time() -> None:
    async with (
        Simulator(latency=SLOW, answer=lambda _: LONG) as simulator,
        running(simulator, relay={"drain": 0.05}) as app,
        browser() as session,
        session.get(f"{app.url}/in/stream") as response,
    ):
        stopping = asyncio.create_task(app.runner.cleanup())
        last = [event async for event in events_of(response)][-1]
        assert json.loads(last.data)["error"]["code"] == "shutting_down"
        await stopping
    assert [end.outcome for end in app.ended] == ["drained"]


async def test_an_app_without_a_client_says_so() -> None:
    app = web.Application()
    request: Any = type("Request", (), {"config_dict": app})()
    with pytest.raises(RuntimeError, match="setup"):
        client_of(request)
