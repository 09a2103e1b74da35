"""What a streamed run tells, as it happens.

Law: plain data. Each call has one ToolStarted and one ToolFinished; those of parallel calls are mixed as they happen.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aimlasync.agents.run_state import Run, ToolCall, Usage


class TextDelta(msgspec.Struct, frozen=True):
    """A piece of the model's text, in any turn."""

    text: str


class ToolStarted(msgspec.Struct, frozen=True):
    """A tool is called."""

    call: ToolCall


class ToolFinished(msgspec.Struct, frozen=True):
    """A call has its result: see `call.output` and `call.is_error`."""

    call: ToolCall
    seconds: float


class TurnFinished(msgspec.Struct, frozen=True):
    """The model has spoken: a text, calls, or both."""

    number: int
    """Counted from 1, over the whole run."""
    text: str
    calls: list[ToolCall]
    usage: Usage
    """Of the run so far; it goes on changing."""


class ApprovalNeeded(msgspec.Struct, frozen=True):
    """The run ends here until somebody answers for these calls: set `approved` and go on with `history=`."""

    calls: list[ToolCall]


class RunFinished(msgspec.Struct, frozen=True):
    """There is an answer."""

    output: Any
    run: Run


Event = TextDelta | ToolStarted | ToolFinished | TurnFinished | ApprovalNeeded | RunFinished
