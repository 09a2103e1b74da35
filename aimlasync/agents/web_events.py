"""The run of an agent for a browser: what `event_stream` sends of `agents.stream(...)`.

    message          data                                              when
    (without name)   {"text"}                                          the model has written more
    tool_started     {"id", "name", "arguments"}                       a tool begins; the arguments are JSON as a text
    tool_finished    {"id", "name", "output", "is_error", "seconds"}   it has its result, of which 10,000 characters
    turn_finished    {"number", "calls", "usage"}                      the model's turn is whole
    approval_needed  {"run", "calls"}                                  the last one: somebody has to decide
    done             {"run", "output", "turns", "tool_calls", "usage"} the last one: the answer
    error            {"error": {"code", "message", "run", ...}}        the last one: no answer

A call is {"id", "name", "arguments"}; usage has tokens and no cost. The id of the first message is that of the run.
`message_of` is the form of one event; `events=` of `event_stream` may be a function that leaves out or changes what is
not for a browser, for all but the last message. It may import the events and errors of this package, and `relay`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aimlasync.agents.errors import MaxToolCallsExceeded, MaxTurnsExceeded, RepeatedCallsError, RunTimeoutError
from aimlasync.agents.events import (
    ApprovalNeeded,
    Event,
    RunFinished,
    TextDelta,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from aimlasync.agents.run_state import Run, ToolCall, Usage
from aimlasync.errors import AimlasyncError, AnswerRefusedError, AnswerTruncatedError
from aimlasync.relay import Events, Failure, Named, chosen, failed, failure

if TYPE_CHECKING:
    from aimlasync.agents.api import RunStream

# Characters of a tool's result that a browser gets.
_MAX_OUTPUT = 10_000

_FAILURES: dict[type[AimlasyncError], tuple[int, str, str]] = {
    RunTimeoutError: (504, "run_timeout", "the run took longer than it may"),
    MaxTurnsExceeded: (502, "max_turns", "there was no answer within the turns that a run may take"),
    MaxToolCallsExceeded: (502, "max_tool_calls", "the model wanted more tool calls than it may make"),
    RepeatedCallsError: (502, "repeated_calls", "the model made the same tool call again and again"),
    AnswerTruncatedError: (502, "truncated", "the answer reached its greatest length"),
}


def message_of(event: Event) -> Named:
    """Return the message that tells an event; a text has no name."""
    match event:
        case TextDelta(text):
            return Named(None, {"text": text})
        case ToolStarted(call):
            return Named("tool_started", _call(call))
        case ToolFinished(call, seconds):
            output = call.output or ""
            if len(output) > _MAX_OUTPUT:
                output = f"{output[:_MAX_OUTPUT]}…"
            data = {"id": call.id, "name": call.name, "output": output, "is_error": call.is_error}
            return Named("tool_finished", {**data, "seconds": round(seconds, 3)})
        case TurnFinished(number, _, calls, usage):
            data = {"number": number, "calls": [_call(call) for call in calls], "usage": _usage(usage)}
            return Named("turn_finished", data)
        case ApprovalNeeded(calls, run):
            return Named("approval_needed", {"run": run, "calls": [_call(call) for call in calls]})
        case RunFinished(output, run):
            counts = {"turns": run.turns, "tool_calls": run.tool_calls, "usage": _usage(run.usage)}
            return Named("done", {"run": run.id, "output": output, **counts})


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "name": call.name, "arguments": call.arguments}


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "requests": usage.requests,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }


class RunSource:
    """A streamed run as the source of a relay. Mutable: the events that were read ahead, and the last message."""

    info = None

    def __init__(self, running: RunStream, events: Events) -> None:
        if events == "raw":
            raise ValueError('a run has no events of a vendor to relay: events= is "text" or a function')
        self._running = running
        self._events = events
        self._ahead: list[Event] | None = None
        self._last: Named | None = None

    @property
    def id(self) -> str:
        """The id of the run."""
        return self._running.run.id

    @property
    def run(self) -> Run:
        """The run so far."""
        return self._running.run

    async def open(self) -> None:
        """Begin the run and wait for its first event."""
        await self._running.__aenter__()
        self._ahead = await self._running.read_some()

    async def read_some(self) -> Sequence[Event]:
        """Return the events that have arrived, none at the end of the run."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return ahead
        return await self._running.read_some()

    def messages_of(self, pieces: Sequence[Event]) -> list[Named]:
        """Return the messages of these events; texts that arrived together are one."""
        if pieces and isinstance(pieces[-1], (ApprovalNeeded, RunFinished)):
            self._last = message_of(pieces[-1])
            pieces = pieces[:-1]
        if callable(self._events):
            return chosen(self._events, pieces)
        made: list[Named] = []
        for piece in pieces:
            if isinstance(piece, TextDelta) and made and made[-1].event is None:
                made[-1].data["text"] += piece.text
            else:
                made.append(message_of(piece))
        return made

    async def end(self) -> tuple[Named | None, None]:
        """Return the last message; the run has the usage."""
        return self._last, None

    def failure(self, error: AimlasyncError) -> Failure:
        """Return what a browser is told of an error that ended the run."""
        if isinstance(error, AnswerRefusedError):
            # What a model says to a user is for the user.
            return failed(422, "refused", error.message, run=self.id)
        for kind, (status, code, text) in _FAILURES.items():
            if isinstance(error, kind):
                return failed(status, code, text, run=self.id)
        return failure(error)

    async def close(self) -> None:
        """Cancel the run if it has not ended; it has been saved then."""
        await self._running.close()
