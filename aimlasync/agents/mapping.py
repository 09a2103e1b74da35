"""Many runs over one client, their results as they come.

Law: keeps nothing beyond what is at work and not yet read. Every run has at most one call of its own in the client's
line (and one for each sub-agent at work), and each of its calls stands at the end of it: a long conversation goes on
beside short ones, not before them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, Unpack

from aimlasync.agents.agent import Agent, Options
from aimlasync.agents.run_state import Run
from aimlasync.agents.runner import Input, begin, budget_of
from aimlasync.agents.tools import Approve
from aimlasync.bulk.api import each
from aimlasync.config import check_headers
from aimlasync.cost.budget import Budget
from aimlasync.errors import AimlasyncError

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

_OF_ONE_RUN = ("input", "history", "context", "approve", "timeout")


class Result:
    """What became of one run: its answer, or an error."""

    __slots__ = ("error", "given", "number", "run")

    def __init__(self, number: int, given: Any, run: Run | None, error: Exception | None) -> None:
        self.number = number
        """Its place in the input, from 1."""
        self.given = given
        """What was given for it."""
        self.run = run
        """What was done, also when it failed; None when it could not begin."""
        self.error = error

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.run is not None and self.run.status == "completed" and self.error is None

    @property
    def output(self) -> Any:
        """The answer, None without one."""
        return self.run.output if self.run is not None and self.ok else None

    def __repr__(self) -> str:
        return f"<Result {self.number} {self.run!r}{'' if self.error is None else f', {self.error!r}'}>"


async def map(
    client: AsyncClient,
    inputs: Iterable[Input | Mapping[str, Any]] | AsyncIterable[Input | Mapping[str, Any]],
    agent: Agent | None = None,
    *,
    concurrency: int = 256,
    order: Literal["completion", "input"] = "completion",
    context: Any = None,
    approve: Approve | None = None,
    budget: Budget | float | None = None,
    timeout: float | None = None,
    **options: Unpack[Options],
) -> AsyncGenerator[Result]:
    """Run an agent on each of `inputs` and iterate the results: `async for result in agents.map(client, texts, agent)`.

    An input is a text, messages, or a dict with what is this run's own: `input`, `history`, `context`, `approve`,
    `timeout`, and options of an agent. Inputs are read as they are needed, and at most `concurrency` runs are at work.
    `order="input"` holds back what is early, at most a few times the concurrency, and makes the rest wait.
    A run that fails is a result with its `error`. `budget` is one for all of them, `timeout` is for each. Calls are of
    the bulk lane unless `priority=` says otherwise. Left early, all that is at work is cancelled
    (`contextlib.aclosing` makes it at once).
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
    check_headers(options)
    options.setdefault("priority", "bulk")
    agent = Agent(**options) if agent is None else agent.but(**options)
    shared = budget_of(client, budget)

    async def do(item: tuple[int, Any]) -> Result:
        number, given = item
        loop = None
        try:
            own: dict[str, Any] = {"context": context, "approve": approve, "timeout": timeout, "history": None}
            own.update(given if isinstance(given, Mapping) else {"input": given})
            mine, rest = {name: own.pop(name, None) for name in _OF_ONE_RUN}, own
            loop, fresh = begin(
                client,
                agent,
                mine["input"],
                mine["history"],
                mine["context"],
                mine["approve"],
                shared,
                None,
                rest,  # type: ignore[arg-type]  # options, if they are such, and else an error for this run
            )
            await loop.go(fresh, mine["timeout"])
        except (AimlasyncError, ValueError, TypeError) as error:
            return Result(number, given, None if loop is None else loop.run, error)
        return Result(number, given, loop.run, None)

    async with aclosing(
        each(inputs, lambda given, number: (number, given), do, workers=concurrency, order=order)
    ) as runs:
        async for result in runs:
            yield result
