"""`run` and `stream`: the same loop, awaited to its end or told as it happens.

Law: brings together what a caller gives; no loop of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import msgspec

from aimlasync.agents.adapters import items_of
from aimlasync.agents.agent import Agent, Options
from aimlasync.agents.events import Event, TextDelta
from aimlasync.agents.loop import Emit, Loop
from aimlasync.agents.run_state import Run
from aimlasync.agents.tools import Approve
from aimlasync.config import check_headers
from aimlasync.cost.budget import Budget

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

Input = str | Iterable[Mapping[str, Any] | msgspec.Struct]

# Events that a reader has not taken yet.
_MAX_AHEAD = 64


async def run(
    client: AsyncClient,
    agent: Agent | None = None,
    *,
    input: Input | None = None,
    history: Run | None = None,
    context: Any = None,
    approve: Approve | None = None,
    budget: Budget | float | None = None,
    timeout: float | None = None,
    **options: Unpack[Options],
) -> Run:
    """Let a model work with its tools until it has an answer: `.output` of what is returned.

    `agent`, or `model=` and the other `options` of one, say what is asked; given both, the options go first. `input` is
    a text, or messages in the endpoint's form. `history` is an earlier run: it goes on where it stopped, in place, and
    calls of it that have no result are made first. `context` is for the tools and never sent. `approve` answers for
    the calls of tools that ask for it; without it, the run that is returned has the status "waiting". `budget` is a cap
    in US dollars, or a Budget that runs share. `timeout` is in seconds.

    Raises the errors of `aimlasync.agents`, of a call, and AnswerError (refused, cut, or invalid after `max_repairs`),
    all with what was done in `.run`; ValueError and TypeError for what cannot be asked.
    """
    loop, fresh = begin(client, agent, input, history, context, approve, budget, None, options)
    await loop.go(fresh, timeout)
    return loop.run


def stream(
    client: AsyncClient,
    agent: Agent | None = None,
    *,
    input: Input | None = None,
    history: Run | None = None,
    context: Any = None,
    approve: Approve | None = None,
    budget: Budget | float | None = None,
    timeout: float | None = None,
    **options: Unpack[Options],
) -> RunStream:
    """Like `run`, told as it happens: `async with stream(...) as running: async for event in running`.

    Leaving the block cancels the model call and the tools; `.run` has what was done.
    """

    async def emit(event: Event) -> None:
        await running._put(event)

    loop, fresh = begin(client, agent, input, history, context, approve, budget, emit, options)
    running = RunStream(loop, fresh, timeout)
    return running


class RunStream:
    """A run under way, as events: iterate it, iterate `.text`, or `collect` the rest. Raises what `run` raises."""

    def __init__(self, loop: Loop, fresh: list[Any], timeout: float | None) -> None:
        self.run = loop.run
        """What was done so far."""
        self._loop = loop
        self._fresh = fresh
        self._timeout = timeout
        self._task: asyncio.Task[None] | None = None
        # Events not yet taken, what lets the loop go on when there is room for more, and who waits for one.
        self._events: deque[Event] = deque()
        self._room = asyncio.Event()
        self._reader: asyncio.Future[None] | None = None

    async def _put(self, event: Event) -> None:
        """Hand an event to the reader; one who is slow makes the loop wait."""
        while len(self._events) >= _MAX_AHEAD:
            self._room.clear()
            await self._room.wait()
        self._events.append(event)
        self._wake()

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a streamed run runs once")
        self._task = asyncio.create_task(self._loop.go(self._fresh, self._timeout), name=f"aimlasync run {self.run.id}")
        self._task.add_done_callback(self._wake)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                # An error that nobody read is nobody's.
                self._task.exception()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._task is None:
            raise RuntimeError("a streamed run begins with its block: async with stream(...) as running")
        while not self._events:
            if self._task.done():
                if self._task.cancelled():
                    raise RuntimeError("the run was cancelled")
                error = self._task.exception()
                raise StopAsyncIteration if error is None else error
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        self._room.set()
        return self._events.popleft()

    def _wake(self, _: object = None) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    @property
    def text(self) -> AsyncIterator[str]:
        """The model's text as it arrives, of all turns."""
        return self._text()

    async def _text(self) -> AsyncIterator[str]:
        async for event in self:
            if isinstance(event, TextDelta):
                yield event.text

    async def collect(self) -> Run:
        """Wait for the end and return the run."""
        async for _ in self:
            pass
        return self.run


def begin(
    client: AsyncClient,
    agent: Agent | None,
    input: Input | None,
    history: Run | None,
    context: Any,
    approve: Approve | None,
    budget: Budget | float | None,
    emit: Emit | None,
    options: Options,
) -> tuple[Loop, list[Any]]:
    """Return a loop that is ready to go, and what joins the history first."""
    check_headers(options)
    if history is not None and agent is None:
        options = {"model": history.model, "endpoint": history.endpoint, **options}
    agent = Agent(**options) if agent is None else agent.but(**options)
    if input is None and (history is None or not history.items or history.status == "completed"):
        raise ValueError("there is nothing to ask: give input=, or a history= that is not completed")
    if history is None:
        history = Run(model=agent.model, endpoint=agent.endpoint)
    elif history.endpoint != agent.endpoint:
        raise ValueError(f"the history is one of {history.endpoint}, and the agent speaks {agent.endpoint}")
    elif history.pending and input is not None:
        raise ValueError("the history has calls without a result: go on with it first, without input=")
    history.model = agent.model
    fresh = [] if input is None else items_of(input)
    loop = Loop(client, agent, history, context=context, approve=approve, budget=budget_of(client, budget), emit=emit)
    return loop, fresh


def budget_of(client: AsyncClient, given: Budget | float | None) -> Budget | None:
    """Return a budget for what was given: a number of US dollars is one with the client's prices."""
    if given is None or isinstance(given, Budget):
        return given
    return Budget(given, prices=None if client.budget is None else client.budget.prices)
