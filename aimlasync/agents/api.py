"""The functions `run` and `stream`: one agent run, awaited to its end or iterated as events.

Both check their arguments here and leave the work to the agent loop. It may import everything in the package of the
agents but `many_runs`, and of the rest the budget.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, overload

import anyio
import msgspec

from aimlasync.agents.adapters import items_of
from aimlasync.agents.agent import Agent, Options, Parts
from aimlasync.agents.events import Emit, Event, TextDelta
from aimlasync.agents.loop import AgentLoop
from aimlasync.agents.run_state import OutputT, Run, Save
from aimlasync.agents.tools import Approve
from aimlasync.client.client import AsyncClient
from aimlasync.config import check_headers, of_kind
from aimlasync.cost.budget import Budget
from aimlasync.wire.base import Unknown
from aimlasync.wire.json_text import Dumpable

if TYPE_CHECKING:
    from aimlasync.relay import Events, Source

Input = str | Iterable[Mapping[str, Any] | msgspec.Struct | Unknown | Dumpable]

T = TypeVar("T")


class RunOptions(Parts, total=False):
    """What `run` and `stream` take: the parts of an agent, and what is of one run."""

    input: Input | None
    history: Run | None
    context: Any
    approve: Approve | None
    approvals: Mapping[str, bool] | None
    budget: Budget | float | None
    timeout: float | None
    save: Save | None


# Events that are kept for a reader who is slower than the run; beyond that the run waits.
_MAX_BUFFERED = 64


@overload
async def run(client: AsyncClient, agent: Agent[OutputT], **options: Unpack[RunOptions]) -> Run[OutputT]: ...
@overload
async def run(
    client: AsyncClient, agent: Agent[Any] | None = None, *, output: type[T], **options: Unpack[RunOptions]
) -> Run[T]: ...
@overload
async def run(
    client: AsyncClient, agent: None = None, *, output: None = None, **options: Unpack[RunOptions]
) -> Run[str]: ...
@overload
async def run(
    client: AsyncClient, agent: Agent[Any] | None = None, *, output: Any, **options: Unpack[RunOptions]
) -> Run[Any]: ...


async def run(
    client: AsyncClient,
    agent: Agent | None = None,
    *,
    input: Input | None = None,
    history: Run | None = None,
    context: Any = None,
    approve: Approve | None = None,
    approvals: Mapping[str, bool] | None = None,
    budget: Budget | float | None = None,
    timeout: float | None = None,
    save: Save | None = None,
    **options: Unpack[Options],
) -> Run:
    """Let a model call tools until it has an answer, which is the `.output` of the run that is returned.

    The agent is `agent`, or is made of `model=` and the other `options` (those of `Agent`); given both, the options
    take precedence. `input` is a text, or messages in the endpoint's form. `history` is an earlier run, which is
    continued in place: its tool calls without a result are executed first. `context` is passed to the tools and never
    sent. `approve` decides on the calls of tools that need an approval; without it, the run that is returned has the
    status "waiting", and is continued with `history=` and `approvals=`, which has True or False for the id of a call.
    `budget` is a cap in US dollars, or a Budget that several runs share. `timeout` is in seconds. `save` is called
    with the run, and awaited if need be, when it is completed, waits, or was ended by an error or a cancellation.

    Raises the errors of `aimlasync.agents`, the errors of a call, and AnswerError (refused, truncated, or invalid after
    `max_repairs`), all with what was done in `.run`; ValueError and TypeError for arguments that cannot be used,
    such as a history that is under way; what `on_tool_error` and `save` raise.
    """
    loop, new_items = prepare(
        client,
        agent,
        options,
        input=input,
        history=history,
        context=context,
        approve=approve,
        approvals=approvals,
        budget=budget_of(client, budget),
        save=save,
    )
    await loop.execute(new_items, timeout)
    return loop.run


@overload
def stream(client: AsyncClient, agent: Agent[OutputT], **options: Unpack[RunOptions]) -> RunStream[OutputT]: ...
@overload
def stream(
    client: AsyncClient, agent: Agent[Any] | None = None, *, output: type[T], **options: Unpack[RunOptions]
) -> RunStream[T]: ...
@overload
def stream(
    client: AsyncClient, agent: None = None, *, output: None = None, **options: Unpack[RunOptions]
) -> RunStream[str]: ...
@overload
def stream(
    client: AsyncClient, agent: Agent[Any] | None = None, *, output: Any, **options: Unpack[RunOptions]
) -> RunStream[Any]: ...


def stream(
    client: AsyncClient,
    agent: Agent | None = None,
    *,
    input: Input | None = None,
    history: Run | None = None,
    context: Any = None,
    approve: Approve | None = None,
    approvals: Mapping[str, bool] | None = None,
    budget: Budget | float | None = None,
    timeout: float | None = None,
    save: Save | None = None,
    **options: Unpack[Options],
) -> RunStream[Any]:
    """Like `run`, as events: `async with stream(...) as running: async for event in running`.

    Leaving the block cancels the model call and the tools; `.run` holds what was done. `event_stream` of
    `aimlasync.starlette` and `aimlasync.aiohttp_web` hands the events on to a browser. `save` has returned before an
    event tells that the run waits or is finished.
    """

    async def emit(event: Event) -> None:
        await running._put(event)

    loop, new_items = prepare(
        client,
        agent,
        options,
        input=input,
        history=history,
        context=context,
        approve=approve,
        approvals=approvals,
        budget=budget_of(client, budget),
        save=save,
        emit=emit,
    )
    running: RunStream[Any] = RunStream(loop, new_items, timeout)
    return running


class RunStream(Generic[OutputT]):
    """A run as events: iterate it, iterate `.text`, or `collect` the rest. Raises what `run` raises."""

    def __init__(self, loop: AgentLoop, new_items: list[Any], timeout: float | None) -> None:
        self.run: Run[OutputT] = loop.run
        """The run so far."""
        self._loop = loop
        self._new_items = new_items
        self._timeout = timeout
        # The task that executes the run; None until the block is entered.
        self._task: asyncio.Task[None] | None = None
        # Events that the reader has not taken yet.
        self._events: deque[Event] = deque()
        # Set whenever the reader has taken an event, so that a run with a full buffer goes on.
        self._has_room = asyncio.Event()
        # Set whenever there is an event, or the end, so that all readers that wait go on.
        self._has_news = asyncio.Event()

    async def _put(self, event: Event) -> None:
        """Buffer an event for the reader; a full buffer makes the agent loop wait."""
        while len(self._events) >= _MAX_BUFFERED:
            self._has_room.clear()
            await self._has_room.wait()
        self._events.append(event)
        self._has_news.set()

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a streamed run runs once")
        self._task = asyncio.create_task(
            self._loop.execute(self._new_items, self._timeout), name=f"aimlasync run {self.run.id}"
        )
        self._task.add_done_callback(lambda _: self._has_news.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what is under way, and wait until the run is saved. Leaving the block does the same."""
        with anyio.CancelScope(shield=True):
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
                if not self._task.cancelled():
                    # Retrieved, so that asyncio does not log an error that no reader has seen.
                    self._task.exception()
            if self.run.items or self.run.pending:
                # One that was left before its first step has not been saved, and may be one that was gone on with.
                await self._loop.store_at_last()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await self._arrived()
        if not self._events:
            raise StopAsyncIteration
        self._has_room.set()
        return self._events.popleft()

    async def read_some(self) -> list[Event]:
        """Return the events that are here, or else wait for one; none at the end."""
        await self._arrived()
        events = list(self._events)
        self._events.clear()
        self._has_room.set()
        return events

    async def _arrived(self) -> None:
        """Wait for an event, or the end of the run. Raises the error that ended it."""
        if self._task is None:
            raise RuntimeError("a streamed run begins with its block: async with stream(...) as running")
        while not self._events:
            if self._task.done():
                if self._task.cancelled():
                    raise RuntimeError("the run was cancelled")
                error = self._task.exception()
                if error is None:
                    return
                raise error
            self._has_news.clear()
            await self._has_news.wait()

    def relayed(self, events: Events) -> Source:
        """Return what `event_stream` reads; `web_events` has the messages. Raises ValueError for `events="raw"`."""
        from aimlasync.agents.web_events import RunSource

        return RunSource(self, events)

    @property
    def text(self) -> AsyncIterator[str]:
        """The model's text deltas of all turns, as they arrive."""
        return self._text()

    async def _text(self) -> AsyncIterator[str]:
        async for event in self:
            if isinstance(event, TextDelta):
                yield event.text

    async def collect(self) -> Run[OutputT]:
        """Wait for the end of the run and return it."""
        async for _ in self:
            pass
        return self.run


def prepare(
    client: AsyncClient,
    agent: Agent | None,
    options: Options,
    *,
    input: Input | None = None,
    history: Run | None = None,
    context: Any = None,
    approve: Approve | None = None,
    approvals: Mapping[str, bool] | None = None,
    budget: Budget | None = None,
    save: Save | None = None,
    emit: Emit | None = None,
) -> tuple[AgentLoop, list[Any]]:
    """Return an agent loop, and the input as items that are to join the history first.

    Raises ValueError and TypeError for arguments that cannot be used together.
    """
    check_headers(options)
    if not isinstance(client, AsyncClient):
        raise TypeError(f"client is an AsyncClient, the first argument, not {type(client).__name__}")
    of_kind("agent", agent, Agent, 'Agent(model="...")')
    of_kind("history", history, Run, "what agents.run returned (messages are input=)")
    if history is not None and agent is None:
        options = {"model": history.model, "endpoint": history.endpoint, **options}
    agent = Agent(**options) if agent is None else agent.but(**options)
    if input is None and (history is None or not history.items or history.status == "completed"):
        raise ValueError("there is nothing to ask: give input=, or a history= that is not completed")
    if history is None:
        history = Run(model=agent.model, endpoint=agent.endpoint)
    elif history.endpoint != agent.endpoint:
        raise ValueError(f"the history is one of {history.endpoint}, and the agent speaks {agent.endpoint}")
    elif input is not None and any(call.output is None for call in history.pending):
        raise ValueError(
            "the history has calls without a result: go on with it first, without input=, or give them up: .abandon()"
        )
    if approvals is not None:
        history.decide(approvals)
    history.model = agent.model
    loop = AgentLoop(client, agent, history, context=context, approve=approve, budget=budget, save=save, emit=emit)
    return loop, [] if input is None else items_of(input)


def budget_of(client: AsyncClient, given: Budget | float | None) -> Budget | None:
    """Return a Budget as it is; a number of US dollars becomes a Budget with the client's prices."""
    if given is None or isinstance(given, Budget):
        return given
    return Budget(given, prices=None if client.budget is None else client.budget.prices)
