"""An agent's run in a browser, under both frameworks: what is sent, who decides, how it ends, what is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import msgspec
import pytest
from aiohttp import web

pytest.importorskip("sse_starlette", reason="pip install 'aimlasync[test]' has what these tests need")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aimlasync import AsyncClient, Endpoint, Limits, Retry, agents, aiohttp_web, relay, starlette
from aimlasync.agents import web_events
from aimlasync.simulator import Answer, Call, Fault, Problem, Simulator
from tests.support.scripted import MODEL, calls, told
from tests.support.servers import until
from tests.support.web import browser, events_of, serving

# What a page asks: a question, or decisions on the calls of a run.
Asked = dict[str, Any]


class Desk:
    """An app's agent and where it keeps its runs, whatever the framework."""

    def __init__(self, *tools: Any, save: Any = None, events: Any = "text", **options: Any) -> None:
        self.agent = agents.Agent(model=MODEL, tools=tools, **options)
        self.saved: dict[str, bytes] = {}
        self.ended: list[relay.Relayed] = []
        self.saves = save or self.save
        self.options: dict[str, Any] = {"events": events, "on_end": self.ended.append}
        self.client: AsyncClient | None = None

    async def save(self, run: agents.Run) -> None:
        # A store takes its time.
        await anyio.sleep(0.01)
        self.saved[run.id] = run.to_json()

    async def answer(self, client: AsyncClient, asked: Asked) -> agents.RunStream:
        if "run" not in asked:
            return agents.stream(client, self.agent, input=asked["question"], save=self.saves)
        run = agents.Run.from_json(self.saved.pop(asked["run"]))
        return agents.stream(
            client,
            self.agent,
            history=run,
            approvals=asked.get("approvals"),
            input=asked.get("question"),
            save=self.saves,
        )


@asynccontextmanager
async def starlette_app(desk: Desk, **options: Any) -> AsyncIterator[str]:
    async def ask(request: Request) -> Response:
        asked = await request.json()
        return starlette.event_stream(desk.answer(starlette.client_of(request), asked), **desk.options)

    def make(**options: Any) -> AsyncClient:
        desk.client = AsyncClient(**options)
        return desk.client

    app = Starlette(
        routes=[Route("/ask", ask, methods=["POST"])],
        lifespan=starlette.lifespan(make, **options),
        exception_handlers=starlette.exception_handlers,
    )
    async with serving(app) as server:
        yield server.url


@asynccontextmanager
async def aiohttp_app(desk: Desk, **options: Any) -> AsyncIterator[str]:
    async def ask(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        return await aiohttp_web.event_stream(
            request, desk.answer(aiohttp_web.client_of(request), asked), **desk.options
        )

    app = web.Application(middlewares=[aiohttp_web.errors])
    app.router.add_post("/ask", ask)
    aiohttp_web.setup(app, **options)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    desk.client = app[aiohttp_web.CLIENT]
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


class Page:
    """A page of the app."""

    def __init__(self, session: aiohttp.ClientSession, url: str, simulator: Simulator) -> None:
        self.session = session
        self.url = url
        self.simulator = simulator

    def post(self, **asked: Any) -> Any:
        return self.session.post(f"{self.url}/ask", json=asked)

    async def read(self, **asked: Any) -> list[tuple[str, Any]]:
        """All messages of one request, by name and data."""
        async with self.post(**asked) as response:
            assert response.status == 200, await response.text()
            return [(event.event, json.loads(event.data)) async for event in events_of(response)]


@pytest.fixture(params=[starlette_app, aiohttp_app], ids=["starlette", "aiohttp"])
def framework(request: pytest.FixtureRequest) -> Any:
    return request.param


@asynccontextmanager
async def visiting(framework: Any, desk: Desk, *turns: Any, **options: Any) -> AsyncIterator[Page]:
    simulator_options: dict[str, Any] = {"script": turns} if turns else {}
    simulator_options |= {name: options.pop(name) for name in ("faults",) if name in options}
    async with Simulator(keep_bodies=True, **simulator_options) as simulator:
        endpoint = Endpoint.aimlapi(api_key="k", base_url=simulator.base_url)
        options = {"endpoints": [endpoint], "retry": Retry(attempts=1), **options}
        async with framework(desk, **options) as url, browser() as session:
            yield Page(session, url, simulator)


async def weather(city: str) -> str:
    """What the weather is like in a city."""
    return f"sunny in {city}"


@agents.tool(approve=True)
async def refund(order: int) -> str:
    """Refund an order."""
    return f"order {order} was refunded"


def names(messages: list[tuple[str, Any]]) -> list[str]:
    """The names of messages, repeated ones once."""
    return [name for at, (name, _) in enumerate(messages) if at == 0 or messages[at - 1][0] != name]


async def test_text_tools_and_the_end_are_messages(framework: Any) -> None:
    desk = Desk(weather)
    turn = Answer(text="Let me look.", calls=[Call.of("weather", city="Rome")])
    async with visiting(framework, desk, turn, "It is sunny.") as page, page.post(question="Rome?") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        events = [event async for event in events_of(response)]
    messages = [(event.event, json.loads(event.data)) for event in events]
    assert names(messages) == [
        "message",
        "turn_finished",
        "tool_started",
        "tool_finished",
        "message",
        "turn_finished",
        "done",
    ]
    by_name = dict(messages)
    assert "".join(data["text"] for name, data in messages if name == "message") == "Let me look.It is sunny."
    started, finished = by_name["tool_started"], by_name["tool_finished"]
    assert (started["name"], json.loads(started["arguments"])) == ("weather", {"city": "Rome"})
    assert (finished["id"], finished["output"], finished["is_error"]) == (started["id"], "sunny in Rome", False)
    assert finished["seconds"] >= 0
    assert messages[1][0] != "turn_finished" or messages[1][1]["calls"] == [started]
    done = by_name["done"]
    assert (done["output"], done["turns"], done["tool_calls"]) == ("It is sunny.", 2, 1)
    assert done["usage"]["total_tokens"] > 0
    assert "usd" not in json.dumps(messages)
    # The run has an id, which the first message carries, and is saved under it.
    assert events[0].id == done["run"] == next(iter(desk.saved))
    (end,) = desk.ended
    assert (end.outcome, end.error, end.run.status) == ("finished", None, "completed")
    assert end.run.usage.cost_usd


async def test_a_call_is_decided_by_another_request_and_the_run_is_saved_between(framework: Any) -> None:
    desk = Desk(refund, weather)
    turn = calls(Call.of("refund", order=17), Call.of("weather", city="Rome"), Call.of("refund", order=18))
    async with visiting(framework, desk, turn, "done", "no more") as page:
        # The store has the run by the time that the page is asked.
        async with page.post(question="go") as response:
            async for event in events_of(response):
                if event.event == "approval_needed":
                    assert desk.saved
        messages = [(event.event, json.loads(event.data))]
        name, asked = messages[-1]
        assert name == "approval_needed"
        assert [json.loads(call["arguments"]) for call in asked["calls"]] == [{"order": 17}, {"order": 18}]
        yes, no = (call["id"] for call in asked["calls"])
        run = asked["run"]
        # A server that restarts between has nothing but the store.
        messages = await page.read(run=run, approvals={yes: True, no: False})
        assert names(messages) == ["tool_started", "tool_finished"] * 2 + ["message", "turn_finished", "done"]
        assert told(agents.Run.from_json(desk.saved[run])) == [
            "order 17 was refunded",
            "sunny in Rome",
            "error: this call was not approved; do not make it again",
        ]
        # And a conversation goes on under its id.
        messages = await page.read(run=run, question="And now?")
        assert messages[-1][1]["output"] == "no more"
        assert messages[-1][1]["run"] == run
    assert [end.outcome for end in desk.ended] == ["finished"] * 3
    assert [end.run.status for end in desk.ended] == ["waiting", "completed", "completed"]


@pytest.mark.parametrize(
    ("options", "turns", "code"),
    [
        ({"max_turns": 1}, [Call.of("weather", city="Rome")], "max_turns"),
        ({"max_tool_calls": 0}, [Answer(text="Hm", calls=[Call.of("weather", city="Rome")])], "max_tool_calls"),
        ({"max_repeats": 1}, [Call.of("weather", city="Rome")], "repeated_calls"),
        ({"max_repairs": 0, "output": int}, ["not a number"], "no_answer"),
        ({}, [Call.of("weather", city="Rome"), Problem(429, "org-4711 is limited")], "rate_limited"),
        ({}, [Call.of("weather", city="Rome"), Problem(400, "too long")], "bad_request"),
        ({}, [Call.of("weather", city="Rome"), Answer(refusal="I must not.")], "refused"),
        ({}, [Answer(text="one two", finish_reason="length")], "truncated"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_an_error_after_the_first_message_is_the_last_one(
    framework: Any, options: Any, turns: Any, code: str
) -> None:
    desk = Desk(weather, **options)
    async with visiting(framework, desk, *turns) as page:
        messages = await page.read(question="go")
    name, data = messages[-1]
    assert name == "error"
    error = data["error"]
    assert error["code"] in (code, "invalid_param") if code == "bad_request" else error["code"] == code
    assert "org-4711" not in json.dumps(messages)
    # It says which run to go on with, and that is saved.
    assert error["run"] in desk.saved
    assert [end.outcome for end in desk.ended] == ["failed"]


async def test_an_error_before_the_first_message_is_a_status(framework: Any) -> None:
    desk = Desk(weather)
    async with visiting(framework, desk, faults=[Fault("status", status=429, headers={"Retry-After": "7"})]) as page:
        async with page.post(question="go") as response:
            assert response.status == 429
            assert int(response.headers["Retry-After"]) >= 7
            error = (await response.json())["error"]
    assert error["code"] == "rate_limited"
    assert error["retry_after"] == int(response.headers["Retry-After"])
    assert error["run"] in desk.saved


async def test_a_wait_that_a_server_asks_for_within_a_run_is_in_the_message(framework: Any) -> None:
    desk = Desk(weather)
    turns = [Call.of("weather", city="Rome"), Call.of("weather", city="Oslo"), "done"]
    async with visiting(
        framework, desk, *turns, faults=[Fault("status", after=1, status=429, headers={"Retry-After": "7"})]
    ) as page:
        messages = await page.read(question="go")
    assert messages[-1][1]["error"]["retry_after"] >= 7


async def test_a_browser_that_leaves_ends_the_run_and_what_was_done_is_saved(framework: Any) -> None:
    cancelled = anyio.Event()

    async def forever() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    desk = Desk(weather, forever)
    turn = calls(Call.of("weather", city="Rome"), Call.of("forever"))
    async with visiting(framework, desk, turn, "done") as page:
        response = await page.post(question="go")
        async for event in events_of(response):
            if event.event == "tool_finished":
                break
        response.close()
        with anyio.fail_after(60):
            await cancelled.wait()
            await until(lambda: bool(desk.ended and desk.saved))
        (saved,) = desk.saved.values()
        assert [call.output for call in agents.Run.from_json(saved).pending] == ["sunny in Rome", None]
    assert [(end.outcome, end.run.status) for end in desk.ended] == [("left", "open")]


async def test_a_browser_that_leaves_in_the_line_loses_no_decision(framework: Any) -> None:
    desk = Desk(refund)
    options: dict[str, Any] = {"faults": [Fault("stall", after=1)], "limits": Limits(concurrency=1)}
    async with visiting(framework, desk, Call.of("refund", order=17), "done", **options) as page:
        (*_, (_, asked)) = await page.read(question="go")
        other = asyncio.create_task(page.session.post(f"{page.url}/ask", json={"question": "another"}))
        await until(lambda: len(page.simulator.ledger) == 2)
        response = await page.post(run=asked["run"], approvals={asked["calls"][0]["id"]: True})
        async for event in events_of(response):
            if event.event == "tool_finished":
                break
        response.close()
        with anyio.fail_after(60):
            await until(lambda: asked["run"] in desk.saved)
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
    run = agents.Run.from_json(desk.saved[asked["run"]])
    # The refund was made, and is not made again.
    assert told(run) == ["order 17 was refunded"]


async def test_a_mistake_of_the_app_is_told_and_logged(framework: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def save(run: agents.Run) -> None:
        raise OSError("db-7 is away")

    desk = Desk(weather, save=save)
    async with visiting(framework, desk, Call.of("weather", city="Rome"), "done") as page:
        messages = await page.read(question="go")
    assert messages[-1][0] == "error"
    assert messages[-1][1]["error"]["code"] == "internal"
    assert "db-7" not in json.dumps(messages)
    assert "db-7 is away" in caplog.text
    assert [end.outcome for end in desk.ended] == ["failed"]


async def test_a_run_that_is_not_known_is_a_mistake_of_the_app(framework: Any) -> None:
    async with visiting(framework, Desk(weather)) as page, page.post(run="nobody's") as response:
        assert response.status == 500


async def test_a_function_says_what_a_browser_may_see(framework: Any) -> None:
    def events(event: agents.Event) -> Any:
        match event:
            case agents.ToolFinished(call):
                return relay.Named("tool", {"name": call.name})
            case agents.TextDelta():
                return web_events.message_of(event)
        return None

    class Report(msgspec.Struct):
        city: str

    desk = Desk(weather, events=events, output=Report)
    async with visiting(framework, desk, Call.of("weather", city="Rome"), '{"city":"Rome"}') as page:
        messages = await page.read(question="go")
    # The last message is always the same.
    assert names(messages) == ["tool", "message", "done"]
    assert messages[0][1] == {"name": "weather"}
    assert messages[-1][1]["output"] == {"city": "Rome"}
    assert "sunny" not in json.dumps(messages)


async def test_comments_keep_a_slow_tool_alive(framework: Any) -> None:
    go_on = anyio.Event()

    async def slow() -> str:
        await go_on.wait()
        return "at last"

    desk = Desk(slow)
    desk.options["ping"] = 0.05
    async with visiting(framework, desk, Call.of("slow"), "done") as page:
        async with page.post(question="go") as response:
            received = b""
            with anyio.fail_after(60):
                async for data in response.content.iter_any():
                    received += data
                    if received.count(b": keep-alive") >= 2:
                        go_on.set()
    assert b"event: done" in received


async def test_a_run_that_nobody_reads_is_not_begun() -> None:
    saved: list[agents.Run] = []

    async def save(run: agents.Run) -> None:
        saved.append(run)

    async with AsyncClient(api_key="k", base_url="http://127.0.0.1:1") as client:
        await relay.Relay(agents.stream(client, model=MODEL, input="go", save=save)).close()
        assert not saved
        # One that was taken out of a store goes back into it.
        history = agents.Run(model=MODEL, items=[{"role": "user", "content": "go"}])
        await relay.Relay(agents.stream(client, history=history, model=MODEL, save=save)).close()
        assert saved == [history]
        for given in (agents.stream(client, model=MODEL, input="go"),):
            with pytest.raises(ValueError, match="no events of a vendor"):
                relay.Relay(given, events="raw")


def test_every_event_has_its_message_and_is_documented() -> None:
    call = agents.ToolCall(id="1", name="n", arguments="{}", output="x" * 20_000)
    run = agents.Run(model=MODEL)
    events: list[agents.Event] = [
        agents.TextDelta("a"),
        agents.ToolStarted(call),
        agents.ToolFinished(call, 0.12345),
        agents.TurnFinished(1, "a", [call], run.usage),
        agents.ApprovalNeeded([call], run.id),
        agents.RunFinished(None, run),
    ]
    made = [web_events.message_of(event) for event in events]
    for named in made:
        assert (named.event or "without name") in (web_events.__doc__ or "")
        assert all(f'"{key}"' in (web_events.__doc__ or "") for key in named.data)
    assert len(made[2].data["output"]) == 10_001
