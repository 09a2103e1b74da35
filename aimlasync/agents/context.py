"""What a tool can see of the run that calls it.

`RunContext` is the first parameter of a tool that asks for one. It reaches the run through the `Runner` protocol, so
that this module imports neither the agent loop nor the agents. It may import `run_state` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from aimlasync.agents.run_state import Run, ToolCall

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

T = TypeVar("T")


class Runner(Protocol):
    """What executes a run, as far as a tool needs it; `loop.AgentLoop` is the implementation."""

    @property
    def client(self) -> AsyncClient:
        """The client that the run uses."""

    @property
    def run(self) -> Run:
        """The run so far."""

    async def delegate(self, agent: Any, run: Run, task: str) -> None:
        """Run another `Agent` on `task` with the client, context, budget and approvals of this run.

        `run` is the new agent's own and holds the outcome. Raises what a run raises.
        """


class RunContext(Generic[T]):
    """What a tool may know of the run that calls it: its first parameter, if it wants one. The model never sees it."""

    __slots__ = ("_runner", "call", "context")

    def __init__(self, context: T, call: ToolCall, runner: Runner) -> None:
        self.context = context
        """What was given as `context=`."""
        self.call = call
        """The call that is being executed."""
        self._runner = runner

    @property
    def run(self) -> Run:
        """The run so far."""
        return self._runner.run

    @property
    def client(self) -> AsyncClient:
        """The client that the run uses."""
        return self._runner.client
