"""A streamed response: what its events mean.

`responses.events` decodes an event. How events are read and how a stream ends is in `stream`. It may import `call`,
`failures`, `stream` and the structs of `responses`. It is imported with the first stream, because the structs of fifty
event types take longer to make than all the rest of the library.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from aimlasync.client.call import Attempt
from aimlasync.client.failures import no_answer
from aimlasync.client.framing import is_heartbeat
from aimlasync.client.stream import Stream
from aimlasync.errors import AimlasyncError, TruncatedStreamError
from aimlasync.responses import events as response_events
from aimlasync.responses.assembler import STATING, Assembler
from aimlasync.responses.events import ResponseStreamEvent, TerminalEvent
from aimlasync.responses.items import OutputMessage
from aimlasync.responses.types import (
    Response,
    decode_response,
    ended_well,
    has_failed,
    has_output,
    is_answer,
    runs_on,
    why_not,
)
from aimlasync.transport.base import LARGE_BODY, RawReply
from aimlasync.wire.base import Meta, Unknown, decode, encode
from aimlasync.wire.error_bodies import is_error, limit_status


class ResponseStream(Stream[ResponseStreamEvent, Response]):
    """A streamed response."""

    def __init__(self, attempt: Attempt, body: RawReply | None = None) -> None:
        super().__init__(attempt, body)
        self._assembler = Assembler()
        self._decode = response_events.decode_event
        # The events, by their addresses, that say a text as a whole of which no piece came, or a piece by another name,
        # for who reads text alone.
        self._late: dict[int, tuple[ResponseStreamEvent, str]] = {}
        asked = attempt.call.body
        # One that is stored may be the rest of what was read before.
        self._is_stored = asked is None
        # It goes on at the server whether or not somebody reads this: that it began is an answer.
        self._is_background = asked is None or bool(asked.get("background"))
        # How many times in a row to look for deltas in vain: a server may add a field of its own to each.
        self._tries = _TRIES
        self.sequence_number: int | None = None
        """The number of the last event that arrived, None before there is one: where a background response that broke
        off goes on, with `retrieve(id, stream=True, starting_after=number)`."""

    def continues(self, id: str, after: int | None) -> None:
        """Note what the stream is the rest of, so that `.partial` and `sequence_number` say where it goes on."""
        self._assembler.continues(id)
        if self.sequence_number is None:
            self.sequence_number = after

    def _take_alike(self, event: str, events: list[bytes]) -> list[ResponseStreamEvent]:
        if len(events) == 1 or event not in _DELTAS or not (self._says_something and self._tries):
            return []
        if max(map(len, events)) > LARGE_BODY:
            return []
        deltas = response_events.decode_deltas(events)
        self._tries = _TRIES if deltas else self._tries - 1
        self._assembler.add(*deltas)
        for delta in reversed(deltas):
            if delta.sequence_number is not None:
                self.sequence_number = delta.sequence_number
                break
        return deltas

    def _take_piece(self, piece: ResponseStreamEvent, data: bytes, event: str) -> None:
        # By its class, since isinstance takes longer for a struct than for anything else; no event has a subclass.
        kind = type(piece)
        if kind is Unknown:
            self._take_unknown(cast(Unknown, piece), data, event)
            return
        if piece.sequence_number is not None:
            self.sequence_number = piece.sequence_number
        if kind is _ErrorEvent:
            self._error(piece.to_dict(), data)
            return
        states = kind in STATING
        if states and not self._is_stored and (text := self._assembler.unsaid(piece)):
            self._late[id(piece)] = piece, text
        self._assembler.add(piece)
        self._ready.append(piece)
        if not self._says_something:
            self._says_something = self._is_background or _says_something(piece)
            self._unsaid = data
        if states and kind in _TERMINAL:
            self._take_end(cast(TerminalEvent, piece), data)

    def _take_end(self, piece: TerminalEvent, data: bytes) -> None:
        response = piece.response
        self._attempt.charge(response.meta)
        if isinstance(piece, response_events.ResponseFailedEvent) or response.status == "failed":
            self._error(_failure(response), data)
        else:
            self._finish()

    def _take_unknown(self, piece: Unknown, data: bytes, event: str) -> None:
        """An event of a new type, or an object without one: an error, a whole response, the bare cost at the end."""
        number = getattr(piece, "sequence_number", None)
        if number is not None:
            self.sequence_number = number
        body = piece.to_dict()
        response = body.get("response")
        if is_heartbeat(piece.type or event):
            return
        # What is said of an item, such as the output of a command or why it failed, is not said of the response.
        is_of_item = body.get("output_index") is not None or bool(body.get("item_id"))
        if not is_of_item and (body.get("object") == "response" or isinstance(body.get("output"), list)):
            self._take_whole(decode_response(data), data)
        elif event == "error" or (not is_of_item and is_error(body)):
            self._error(body, data)
        elif not piece.type and event in response_events.KINDS:
            # A gateway that says the type in the name of the event alone.
            self._take(encode({**body, "type": event}), "message")
        elif isinstance(response, dict) and (end := _end_of(response.get("status"))) is not None:
            # The end by another name, such as response.done.
            self._take(encode({**body, "type": end}), "message")
        elif piece.type:
            if self.is_lines and not self._says_something:
                # The whole answer of another API, such as Anthropic's, or the first of some events.
                self._unsaid = data
            else:
                self._says_something = True
            self._ready.append(cast(ResponseStreamEvent, piece))
            self._add_by_other_name(piece, body)
        else:
            self._unsaid = data
            self._after(data)

    def _add_by_other_name(self, piece: Unknown, body: dict[str, Any]) -> None:
        """Let a piece of a text be one, also where its event is not named as OpenAI's; the reader has it as it came."""
        kind, delta = _PIECES.get(piece.type), body.get("delta")
        text = delta.get("text") if isinstance(delta, dict) else delta
        if kind == _TEXT and isinstance(delta, dict) and delta.get("type") not in (None, "output_text", "text"):
            # A part of another kind, such as reasoning.
            return
        if kind is not None and isinstance(text, str) and text:
            self._says_something = True
            self._assembler.add(response_events.decode_event(encode({**body, "type": kind, "delta": text})))
            if kind == _TEXT:
                self._late[id(piece)] = cast(ResponseStreamEvent, piece), text

    def _after(self, data: bytes) -> None:
        try:
            tail = decode(data, _tail, _Tail)
        except msgspec.MsgspecError:
            return
        self._attempt.charge(tail.meta)

    def _take_whole(self, reply: Response, data: bytes) -> None:
        """Take in a whole response, from a server that does not stream."""
        self._unsaid = data
        if runs_on(reply.status) and not self._is_background:
            what = f"a response that is {reply.status or 'empty'}, not done"
            if reply.status is not None and reply.id:
                what = f"{what}; client.responses.wait({reply.id!r}) waits for it"
            self._fail(no_answer(self._attempt, data, what))
            return
        if reply.error is not None:
            # A response that failed is an answer, and what it says of that comes from where keys are echoed.
            self._attempt.secrets.without(reply)
        for piece in response_events.events_of(reply):
            self._assembler.add(piece)
            self._ready.append(piece)
        self._attempt.charge(reply.meta)
        self._whole_reply = reply
        self._says_something = is_answer(reply)
        self._finish()

    def _done(self) -> None:
        if self._says_something:
            said = "the stream ended without the event that ends a response"
            self._fail(TruncatedStreamError(said, partial=self._whole()))
        else:
            super()._done()

    def _no_answer(self) -> AimlasyncError:
        return no_answer(self._attempt, self._unsaid, f"{self._framing} that has no output, a list of items")

    def text_of(self, piece: ResponseStreamEvent) -> str | None:
        """Return what a piece adds to the text of the (first) answer."""
        if isinstance(piece, response_events.ResponseTextDeltaEvent):
            return piece.delta
        late = self._late.get(id(piece)) if self._late else None
        return None if late is None else late[1]


class _Tail(msgspec.Struct):
    meta: Meta | None = None


_tail = msgspec.json.Decoder(_Tail)
_ErrorEvent = response_events.ResponseErrorEvent
_TRIES = 8
_DELTAS = frozenset(("message", *response_events.DELTAS))
_TEXT = "response.output_text.delta"
# What the pieces of texts were named before, and are by OpenRouter and others.
_PIECES = {
    "response.content_part.delta": _TEXT,
    "response.text.delta": _TEXT,
    "response.reasoning.delta": "response.reasoning_text.delta",
    "response.reasoning_summary.delta": "response.reasoning_summary_text.delta",
}
_TERMINAL = frozenset(response_events.TERMINAL)
_BEGUN = (
    response_events.ResponseCreatedEvent,
    response_events.ResponseQueuedEvent,
    response_events.ResponseInProgressEvent,
)


def _end_of(status: Any) -> str | None:
    """Return the event by which a response with a status ends, None for one that runs on."""
    if not isinstance(status, str):
        return None
    if status in ("incomplete", "failed"):
        return f"response.{status}"
    # One that was cancelled or has expired says so by its status.
    return "response.completed" if ended_well(status) or has_failed(status) else None


def _failure(response: Response) -> Any:
    """Return an error body of what a response that failed says of that."""
    if response.error is not None:
        return {"error": response.error.to_dict()}
    if (reason := why_not(response)) is not None:
        return {"error": {"code": reason}}
    return response.to_dict()


def _says_something(piece: ResponseStreamEvent) -> bool:
    """Whether an event has a part of the answer in it, or tells of one that takes time."""
    if isinstance(piece, _BEGUN):
        return False
    if isinstance(piece, response_events.ResponseFailedEvent):
        # Other failures are told by their event; a limit is a matter of time, and nothing was read yet.
        error = piece.response.error
        return error is None or limit_status(error.code, None) is None
    if isinstance(piece, response_events.ResponseCompletedEvent):
        return has_output(piece.response)
    if isinstance(piece, response_events.ResponseOutputItemAddedEvent):
        return not isinstance(piece.item, OutputMessage) or bool(piece.item.content)
    if isinstance(piece, response_events.ResponseContentPartAddedEvent):
        return bool(getattr(piece.part, "text", None) or getattr(piece.part, "refusal", None))
    return getattr(piece, "delta", True) != ""
