"""Claims about whatever a tool returns or raises: it ends as one text for the model, and never the run."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import datetime
import enum
import gc
import sys
from collections import ChainMap, OrderedDict, UserDict, deque
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any
from weakref import ref

import msgspec
import pytest

from aimlasync import agents
from aimlasync.agents.results import MAX_ITEMS, text_of
from aimlasync.simulator import Call
from tests.support.scripted import ENDPOINTS, MODEL, calls, scripted, told

NEUTRAL = "error: the tool failed; try it another way, or answer without it"


class Colour(enum.Enum):
    RED = "red"


class Row(msgspec.Struct):
    name: str
    of: Any = None


@dataclasses.dataclass
class Point:
    x: int
    inner: Any = None


class Model:
    """What pydantic's models have."""

    def model_dump(self, *, mode: str) -> dict[str, str]:
        return {"mode": mode}


class Told:
    def __str__(self) -> str:
        return "told"


CYCLE: list[Any] = [1]
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("plain", "plain"),
        (None, "null"),
        (b"bytes", "bytes"),
        (b"\xff\x00", "[2 bytes that are not text]"),
        (Colour.RED, "red"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (Decimal("1.50"), "1.50"),
        (Fraction(1, 4), "0.25"),
        (float("nan"), "null"),
        (2**80, str(2**80)),
        ({(1, "a"): 2}, '{"1, a":2}'),
        ({None: 1, Colour.RED: 2, 1.5: 3}, '{"None":1,"red":2,"1.5":3}'),
        ({"a": {("x", 1): {2}}}, '{"a":{"x, 1":[2]}}'),
        (UserDict(a=1), '{"a":1}'),
        (ChainMap({"a": 1}), '{"a":1}'),
        (OrderedDict(a=1), '{"a":1}'),
        (deque([1, 2]), "[1,2]"),
        (range(3), "[0,1,2]"),
        ({"a": 1}.keys(), '["a"]'),
        ([Row("a"), Point(1)], '[{"name":"a","of":null},{"x":1,"inner":null}]'),
        (Row("a", {(1, 2): Point(1, {(3, 4): 5})}), '{"name":"a","of":{"1, 2":{"x":1,"inner":{"3, 4":5}}}}'),
        (Model(), '{"mode":"json"}'),
        (Told(), "told"),
        ({"a": Told()}, '{"a":"told"}'),
        (ValueError("an error that is returned"), "an error that is returned"),
        ("\ud800", "?"),
        ({"\ud800": "\ud800"}, '{"?":"?"}'),
        (CYCLE, '[1,"[cycle]"]'),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_whatever_is_returned_has_a_text(result: Any, text: str) -> None:
    async def returns() -> Any:
        return result

    async with scripted(Call.of("returns"), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[returns])
    assert told(run) == [text]
    # The history can be sent and saved.
    assert agents.Run.from_json(run.to_json()).items == run.items


def test_what_is_too_deep_or_too_long_is_cut() -> None:
    deep: Any = 0
    for _ in range(200_000):
        deep = [deep]
    assert "[cut: too many items, or too deep]" in text_of(deep, None)
    assert text_of(10**5000, None)
    assert text_of("x" * 11, 10).startswith("x" * 10 + "\n[cut: these are the first 10 of 11 characters")
    # What was read before the key was refused is not lost.
    assert text_of({"a": iter([1, 2]), "b": {(1, 2): iter("x")}}, None) == '{"a":[1,2],"b":{"1, 2":["x"]}}'
    endless = text_of(iter(int, 1), None)
    assert endless.count("0,") == MAX_ITEMS
    assert endless.endswith('"[cut: too many items, or too deep]"]')


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_generators_are_read(endpoint: Any) -> None:
    closed = []

    def counts() -> Iterator[int]:
        yield from (1, 2)

    async def pages() -> AsyncIterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    async with scripted(calls(Call.of("counts"), Call.of("pages")), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[counts, pages], endpoint=endpoint)
    assert told(run) == ["[1,2]", '["a","b"]']
    assert closed == [True]


# --- what a tool raises --------------------------------------------------------------------------------------------


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot be told")


class NotFound(agents.ToolError):
    """An error of an app that is fit for the model."""


class SpokenPoorly(agents.ToolError):
    def __str__(self) -> str:
        raise RuntimeError("cannot be told")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (LookupError("password=hunter2"), NEUTRAL),
        (Unspeakable(), NEUTRAL),
        (TimeoutError("db-7.internal"), NEUTRAL),
        (ExceptionGroup("two", [ValueError("secret"), LookupError()]), NEUTRAL),
        (SystemExit(3), NEUTRAL),
        (StopAsyncIteration(), NEUTRAL),
        (agents.ToolError("there is no order 3"), "error: there is no order 3"),
        (agents.ToolError(), "error: ToolError"),
        (NotFound("no order 3"), "error: NotFound: no order 3"),
        (SpokenPoorly(), "error: SpokenPoorly: SpokenPoorly"),
        (asyncio.CancelledError(), "error: it was cancelled"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("alone", [True, False])
async def test_whatever_is_raised_is_a_result(
    error: BaseException, text: str, alone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def raises() -> None:
        raise error

    async def works() -> str:
        return "worked"

    turn = [Call.of("raises")] if alone else [Call.of("raises"), Call.of("works")]
    async with scripted(calls(*turn), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[raises, works])
    assert told(run) == [text, *["worked"][alone:]]
    # What the model is not told is in the log.
    assert ("tool raises failed" in caplog.text) == (text == NEUTRAL)


async def test_a_hook_chooses_what_the_model_is_told() -> None:
    asked: list[tuple[str, str, type[BaseException]]] = []

    async def hook(call: agents.ToolCall, error: BaseException) -> str | None:
        asked.append((call.name, call.arguments, type(error)))
        return "out of stock" if isinstance(error, LookupError) else None

    @agents.tool(timeout=0.01)
    async def slow() -> None:
        await asyncio.Event().wait()

    async def missing() -> None:
        raise LookupError("secret")

    async def bug() -> None:
        raise ZeroDivisionError("secret")

    turn = calls(Call.of("missing"), Call.of("bug"), Call.of("slow"))
    async with scripted(turn, "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[missing, bug, slow], on_tool_error=hook)
    assert told(run) == ["error: out of stock", NEUTRAL, "error: it took longer than 0.01 s"]
    assert sorted(name for name, _, _ in asked) == ["bug", "missing", "slow"]


@pytest.mark.parametrize("alone", [True, False])
async def test_a_hook_that_raises_ends_the_run_with_its_own_error(alone: bool) -> None:
    class Stop(Exception):
        pass

    def hook(call: agents.ToolCall, error: BaseException) -> str:
        raise Stop from error

    async def bug() -> None:
        raise ZeroDivisionError

    async def forever() -> None:
        await asyncio.Event().wait()

    turn = [Call.of("bug")] if alone else [Call.of("bug"), Call.of("forever")]
    saved = []

    async def save(run: agents.Run) -> None:
        saved.append(run.to_json())

    async with scripted(calls(*turn), "done") as (_, client):
        with pytest.raises(Stop):
            await agents.run(
                client, model=MODEL, input="go", tools=[bug, forever], on_tool_error=hook, save=save, timeout=5
            )
        run = agents.Run.from_json(saved[0])
        assert [call.output for call in run.pending] == [None] * len(turn)

        async def ready() -> str:
            return "ready"

        made: list[Any] = [bug, agents.tool(ready, name="forever")]
        run = await agents.run(client, history=run, tools=made)
    assert told(run) == [NEUTRAL, *["ready"][alone:]]


async def test_a_sub_agent_that_finds_no_answer_says_why() -> None:
    async def again() -> int:
        return len(sys.path)

    inner = agents.Agent(model="inner", tools=[again], max_turns=1)
    outer = agents.Agent(model=MODEL, tools=[inner.as_tool(name="inner", description="Thinks")])
    script = {"inner": [Call.of("again")], MODEL: [Call.of("inner", task="think"), "done"]}
    async with scripted(script=script) as (_, client):
        run = await agents.run(client, outer, input="go")
    assert told(run) == ["error: MaxTurnsExceeded: no answer within 1 turn"]


# --- what an event told stays told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_events_stay_as_they_were_told(endpoint: Any) -> None:
    async def weather(city: str) -> str:
        return f"sunny in {city}"

    async def yes(call: agents.ToolCall) -> bool:
        return True

    made = agents.tool(weather, approve=True)
    script = calls(Call.of("weather", city="Rome"), Call.of("weather", city="Oslo")), "done"
    async with scripted(*script) as (_, client):
        agent = agents.Agent(model=MODEL, tools=[made], endpoint=endpoint)
        events, as_told = [], []
        async with agents.stream(client, agent, input="go", approve=yes) as running:
            async for event in running:
                events.append(event)
                as_told.append(copy.deepcopy(event))
    for event, before in zip(events[:-1], as_told[:-1], strict=True):
        assert event == before
        if isinstance(event, agents.ToolStarted):
            assert event.call.output is None
        if isinstance(event, agents.TurnFinished):
            assert all(call.approved is None and call.output is None for call in event.calls)
    with pytest.raises(AttributeError):
        events[0].text = "other"  # type: ignore[union-attr, misc]


async def test_approvals_are_given_by_id() -> None:
    async def refund(order: int) -> str:
        return f"refunded {order}"

    made = agents.tool(refund, approve=True)
    saved: list[bytes] = []

    async def save(run: agents.Run) -> None:
        saved.append(run.to_json())

    async with scripted(calls(Call.of("refund", order=1), Call.of("refund", order=2)), "done") as (_, client):
        agent = agents.Agent(model=MODEL, tools=[made])
        run = await agents.run(client, agent, input="go", save=save)
        assert run.status == "waiting"
        first, second = (call.id for call in run.waiting)
        refused: list[tuple[Any, Any]] = [({"nobody": True}, ValueError), ({first: "yes"}, TypeError)]
        for wrong, kind in refused:
            with pytest.raises(kind):
                await agents.run(client, agent, history=agents.Run.from_json(saved[0]), approvals=wrong)
        half = await agents.run(
            client, agent, history=agents.Run.from_json(saved[0]), approvals={first: True}, save=save
        )
        assert [call.id for call in half.waiting] == [second]
        run = await agents.run(client, agent, history=agents.Run.from_json(saved[-1]), approvals={second: False})
    assert told(run) == ["refunded 1", "error: this call was not approved; do not make it again"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_calls_may_be_given_up_for_another_question(endpoint: Any) -> None:
    async def weather(city: str) -> str:
        return f"sunny in {city}"

    async def refund(order: int) -> str:
        return f"refunded {order}"

    tools: list[Any] = [weather, agents.tool(refund, approve=True)]
    script = calls(Call.of("weather", city="Rome"), Call.of("refund", order=1)), "something else"
    async with scripted(*script) as (sim, client):
        agent = agents.Agent(model=MODEL, tools=tools, endpoint=endpoint)
        run = await agents.run(client, agent, input="go")
        run.abandon()
        assert not run.waiting
        run = await agents.run(client, agent, history=agents.Run.from_json(run.to_json()), input="No, another thing.")
    assert run.output == "something else"
    assert told(run) == ["sunny in Rome", "error: it has no result, because the user went on without it"]
    # The results stand before the question, as servers want them.
    results = [at for at, item in enumerate(run.items) if "tool_call_id" in item or "output" in item]
    assert max(results) < run.items.index({"role": "user", "content": "No, another thing."})
    assert [one.status for one in sim.ledger] == [200, 200]


async def test_what_a_tool_that_failed_held_is_free_when_its_call_has_ended() -> None:
    raised: list[ref[Exception]] = []

    async def fail() -> str:
        """Fail."""
        error = agents.ToolError("no")
        raised.append(ref(error))
        try:
            raise error
        finally:
            del error

    async with scripted(calls(Call("fail")), "done") as (_, client):
        gc.collect()
        gc.disable()
        try:
            await agents.run(client, model=MODEL, tools=[fail], input="Go")
            assert [error() for error in raised] == [None]
        finally:
            gc.enable()
