"""The function `map`: many agent runs over one client, their results as they are completed.

Inputs are read as they are needed, and only runs in progress and results not yet read are kept in memory. A run has at
most one model call at a time in the client's fair queue (and one for each sub-agent in progress), so long conversations
take turns with short ones. It may import everything in the package of the agents, and of bulk its function `each`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, overload

from aimlasync.agents.agent import Agent, Options, Parts
from aimlasync.agents.api import Input, budget_of, prepare
from aimlasync.agents.run_state import OutputT, Run, Save
from aimlasync.agents.tools import Approve
from aimlasync.bulk.api import each
from aimlasync.config import check_headers
from aimlasync.cost.budget import Budget

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

# The arguments of a run that an input may bring.
_OF_A_RUN = ("input", "history", "context", "approve", "approvals", "save")


T = TypeVar("T")

Inputs = Iterable[Input | Mapping[str, Any]] | AsyncIterable[Input | Mapping[str, Any]]


class MapOptions(Parts, total=False):
    """What `map` takes: the parts of an agent, and how the runs are made."""

    concurrency: int
    order: Literal["completion", "input"]
    context: Any
    approve: Approve | None
    budget: Budget | float | None
    timeout: float | None
    save: Save | None


class Result(Generic[OutputT]):
    """The outcome of one run: its answer, or an error."""

    __slots__ = ("error", "given", "number", "run")

    def __init__(self, number: int, given: Any, run: Run[OutputT] | None, error: Exception | None) -> None:
        self.number = number
        """The position of its input, from 1."""
        self.given = given
        """Its input."""
        self.run = run
        """The run, also when it failed; None when it could not begin."""
        self.error = error
        """The error that ended the run, or None."""

    @property
    def ok(self) -> bool:
        """Whether the run is completed and has an answer."""
        return self.run is not None and self.run.status == "completed" and self.error is None

    @property
    def output(self) -> OutputT | None:
        """The answer, or None when there is none."""
        return self.run.output if self.run is not None and self.ok else None

    def __repr__(self) -> str:
        return f"<Result {self.number} {self.run!r}{'' if self.error is None else f', {self.error!r}'}>"


@overload
def map(
    client: AsyncClient, inputs: Inputs, agent: Agent[OutputT], **options: Unpack[MapOptions]
) -> AsyncGenerator[Result[OutputT]]: ...
@overload
def map(
    client: AsyncClient,
    inputs: Inputs,
    agent: Agent[Any] | None = None,
    *,
    output: type[T],
    **options: Unpack[MapOptions],
) -> AsyncGenerator[Result[T]]: ...
@overload
def map(
    client: AsyncClient, inputs: Inputs, agent: None = None, *, output: None = None, **options: Unpack[MapOptions]
) -> AsyncGenerator[Result[str]]: ...
@overload
def map(
    client: AsyncClient,
    inputs: Inputs,
    agent: Agent[Any] | None = None,
    *,
    output: Any,
    **options: Unpack[MapOptions],
) -> AsyncGenerator[Result[Any]]: ...


async def map(
    client: AsyncClient,
    inputs: Inputs,
    agent: Agent | None = None,
    *,
    concurrency: int = 256,
    order: Literal["completion", "input"] = "completion",
    context: Any = None,
    approve: Approve | None = None,
    budget: Budget | float | None = None,
    timeout: float | None = None,
    save: Save | None = None,
    **options: Unpack[Options],
) -> AsyncGenerator[Result[Any]]:
    """Run an agent on each of `inputs` and iterate the results: `async for result in agents.map(client, texts, agent)`.

    An input is a text, messages, or a dict of arguments for this run alone: `input`, `history`, `context`,
    `approve`, `approvals`, `timeout`, `save`, and options of an agent. At most `concurrency` runs are in progress
    at a time. `order="input"` yields the results in the order of the inputs; it keeps at most a few times
    `concurrency` results that are completed too early. A run that fails is a result with its `error`, also one whose
    `save` or `on_tool_error` raised it. `budget` is shared by all runs, `timeout` (seconds) holds for each. Model calls
    have the priority "bulk" unless `priority=` says otherwise. Leaving the iteration cancels the runs in progress;
    `contextlib.aclosing` makes that happen at once. Raises ValueError for a concurrency below 1, and RuntimeError, as
    for a closed client.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
    check_headers(options)
    options.setdefault("priority", "bulk")
    agent = Agent(**options) if agent is None else agent.but(**options)
    shared = budget_of(client, budget)

    async def run_one(item: tuple[int, Any]) -> Result[Any]:
        number, given = item
        loop = None
        try:
            own: dict[str, Any] = {"context": context, "approve": approve, "timeout": timeout, "save": save}
            own.update(given if isinstance(given, Mapping) else {"input": given})
            bound = own.pop("timeout")
            given_to_run = {name: own.pop(name) for name in _OF_A_RUN if name in own}
            # The rest are options of an agent; an unknown one is an error of this run.
            options: Any = own
            loop, new_items = prepare(client, agent, options, budget=shared, **given_to_run)
            await loop.execute(new_items, bound)
        except RuntimeError:
            # A client that is closed, or of another loop, is so for all of them.
            raise
        except Exception as error:  # noqa: BLE001  # whatever the caller's `save` or hooks raise is this run's alone
            return Result(number, given, None if loop is None else loop.run, error)
        return Result(number, given, loop.run, None)

    async with aclosing(
        each(inputs, lambda given, number: (number, given), run_one, workers=concurrency, order=order)
    ) as runs:
        async for result in runs:
            yield result
