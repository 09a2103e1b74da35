"""The events of a streamed run.

Plain data that the run does not change afterwards. Each tool call has one ToolStarted and one ToolFinished; those of
concurrent calls interleave as they happen. `web_events` has their form for browsers. This module may import `run_state`
alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from aimlasync.agents.run_state import Run, ToolCall, Usage


class TextDelta(msgspec.Struct, frozen=True):
    """A piece of the model's text, in any turn."""

    text: str


class ToolStarted(msgspec.Struct, frozen=True):
    """The execution of a tool call begins."""

    call: ToolCall


class ToolFinished(msgspec.Struct, frozen=True):
    """A tool call has its result: see `call.output` and `call.is_error`."""

    call: ToolCall
    seconds: float


class TurnFinished(msgspec.Struct, frozen=True):
    """A turn of the model is complete: a text, tool calls, or both."""

    number: int
    """Counted from 1, over the whole run."""
    text: str
    calls: list[ToolCall]
    usage: Usage
    """The usage of the run so far."""
    request_id: str = ""
    """The `info.request_id` of the model call."""


class ApprovalNeeded(msgspec.Struct, frozen=True):
    """The run stops until somebody decides on these calls: continue with `history=` and `approvals=`.

    Setting `approved` of these calls, which are those of `run.waiting`, decides as well.
    """

    calls: list[ToolCall]
    run: str = ""
    """The id of the run."""


class RunFinished(msgspec.Struct, frozen=True):
    """The run is completed and has an output."""

    output: Any
    run: Run


Event = TextDelta | ToolStarted | ToolFinished | TurnFinished | ApprovalNeeded | RunFinished

Emit = Callable[[Event], Awaitable[None]]
"""Takes the events of a run; awaiting it lets a slow reader hold the run back."""
