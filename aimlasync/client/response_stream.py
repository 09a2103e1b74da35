"""A streamed response.

Law: what its events mean; how they are read and how a stream ends is the business of `stream`. Loaded with the first
stream: the structs of fifty event types take longer to make than all the rest of the library.
"""

from __future__ import annotations

from typing import cast

from aimlasync import sse
from aimlasync.client.call import Attempt
from aimlasync.client.stream import Stream
from aimlasync.responses import events as response_events
from aimlasync.responses.assembler import Assembler
from aimlasync.responses.events import ResponseStreamEvent
from aimlasync.responses.types import Response
from aimlasync.wire.base import Unknown


class ResponseStream(Stream[ResponseStreamEvent, Response]):
    """A streamed response."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self._assembler = Assembler()
        self.sequence_number: int | None = None
        """The number of the last event that arrived, None before there is one: where a background response that broke
        off goes on, with `retrieve(id, stream=True, starting_after=number)`."""

    def continues(self, id: str, after: int | None) -> None:
        """Note what the stream is the rest of, so that `.partial` and `sequence_number` say where it goes on."""
        self._assembler.continues(id)
        if self.sequence_number is None:
            self.sequence_number = after

    def prefill_whole(self, reply: Response) -> None:
        """Become the stream of a whole answer, from a server that did not stream."""
        self.prefill(response_events.events_of(reply))

    def _decode(self, data: bytes) -> ResponseStreamEvent:
        return response_events.decode_event(data)

    def _take_piece(self, piece: ResponseStreamEvent, event: sse.Event) -> None:
        number = getattr(piece, "sequence_number", None)
        if number is not None:
            self.sequence_number = number
        if isinstance(piece, response_events.ResponseErrorEvent):
            self._error(piece.to_dict())
            return
        if isinstance(piece, Unknown):
            self._take_unknown(piece, event)
            return
        self._assembler.add(piece)
        self._ready.append(piece)
        if isinstance(piece, response_events.TERMINAL):
            self._attempt.charge(piece.response.meta)
            if isinstance(piece, response_events.ResponseFailedEvent):
                error = piece.response.error
                self._error(piece.response.to_dict() if error is None else {"error": error.to_dict()})
            else:
                self._finish()

    def _take_unknown(self, piece: Unknown, event: sse.Event) -> None:
        """An event of a new type, or an object without one: an error, or the bare cost at the end."""
        body = piece.to_dict()
        if event.event == "error" or body.get("error") is not None or body.get("object") == "error":
            self._error(body)
        elif piece.type:
            self._ready.append(cast(ResponseStreamEvent, piece))
        else:
            self._after(event)

    def text_of(self, piece: ResponseStreamEvent) -> str | None:
        """Return what a piece adds to the text of the (first) answer."""
        return piece.delta if isinstance(piece, response_events.ResponseTextDeltaEvent) else None
