"""How a run ends without an answer, and what a tool says to the model when it fails.

    AimlasyncError                      .run: what was done until then, also on the errors of a call that ended a run
    └─ AgentError                       a bound of the run passed
       ├─ MaxTurnsExceeded              the model wanted another turn
       ├─ MaxToolCallsExceeded          the model wanted more calls; none of that turn was begun
       ├─ RepeatedCallsError            the same call again and again, also after the model was told
       └─ RunTimeoutError               `timeout` seconds passed
    ToolError                           raised by a tool: its text goes to the model

A run that ended so can be gone on with: `run(client, history=error.run, ...)`.
"""

from __future__ import annotations

from aimlasync.agents.run_state import Run
from aimlasync.errors import AimlasyncError


class AgentError(AimlasyncError):
    """A bound of a run passed; `.run` has what was done."""

    def __init__(self, message: str, *, run: Run) -> None:
        super().__init__(message)
        self.run = run


class MaxTurnsExceeded(AgentError):
    """The model wanted another turn than `max_turns`; the results of its last calls are in the history."""


class MaxToolCallsExceeded(AgentError):
    """The model wanted more calls than `max_tool_calls`; those that were not begun are in `.run.pending`."""


class RepeatedCallsError(AgentError):
    """The model made the same call with the same result again and again, and again after it was told not to."""


class RunTimeoutError(AgentError):
    """The run took longer than its `timeout`; what it had under way was cancelled."""


class ToolError(Exception):
    """Raise it in a tool to tell the model, in its own words, why there is no result."""
