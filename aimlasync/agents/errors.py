"""The errors that end a run without an answer, and the error that a tool raises.

    AimlasyncError                      .run: what was done until then, also on the errors of a call that ended a run
    └─ AgentError                       a bound of the run was exceeded
       ├─ MaxTurnsExceeded              the model wanted another turn
       ├─ MaxToolCallsExceeded          the model wanted more tool calls; none of that turn was begun
       ├─ RepeatedCallsError            the model made the same call again and again, also after it was told not to
       └─ RunTimeoutError               `timeout` seconds passed
    ToolError                           raised by a tool: the model gets its text as the result

A run that ended in one of these can be continued: `run(client, history=error.run, ...)`.
This module may import `run_state` and the package's errors.
"""

from __future__ import annotations

from aimlasync.agents.run_state import Run
from aimlasync.errors import AimlasyncError


class AgentError(AimlasyncError):
    """A bound of a run was exceeded; `.run` holds what was done."""

    def __init__(self, message: str, *, run: Run) -> None:
        super().__init__(message)
        self.run = run


class MaxTurnsExceeded(AgentError):
    """The model wanted another turn than `max_turns`; the results of its last calls are in the history."""


class MaxToolCallsExceeded(AgentError):
    """The model wanted more tool calls than `max_tool_calls`; those that were not begun are in `.run.pending`."""


class RepeatedCallsError(AgentError):
    """The model made the same call with the same result again and again, and again after it was told not to."""


class RunTimeoutError(AgentError):
    """The run took longer than its `timeout`; the model call or tools under way were cancelled."""


class ToolError(Exception):
    """Raise it in a tool to tell the model why there is no result; the model gets the text as the result."""
