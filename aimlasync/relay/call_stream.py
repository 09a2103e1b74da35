"""The stream of a call as the source of a relay. It may import `failures`, `messages`, streams and structs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from aimlasync.chat.types import ChatCompletion, Usage
from aimlasync.client.chat_stream import ChatStream
from aimlasync.client.response_stream import ResponseStream
from aimlasync.errors import AimlasyncError
from aimlasync.info import Info
from aimlasync.relay.failures import Failure, failure
from aimlasync.relay.messages import Events, Named, chosen
from aimlasync.responses.types import Response, ResponseUsage

_DONE = Named(None, msgspec.Raw(b"[DONE]"))


class CallStream:
    """The stream of a call as a source; it has its first event."""

    run = None

    def __init__(self, stream: ChatStream | ResponseStream, events: Events) -> None:
        self._stream = stream
        self._events = events
        self.read_some: Callable[[], Coroutine[Any, Any, Sequence[Any]]] = stream.read_some

    @property
    def id(self) -> str:
        return self._stream.info.request_id

    @property
    def info(self) -> Info:
        return self._stream.info

    async def open(self) -> None:
        """Return at once."""

    def messages_of(self, pieces: Sequence[Any]) -> list[Named]:
        if self._events == "text":
            text_of: Callable[[Any], str | None] = self._stream.text_of
            text = "".join(filter(None, map(text_of, pieces)))
            return [Named(None, {"text": text})] if text else []
        if self._events == "raw":
            return [Named(getattr(piece, "type", None) or None, _raw(piece)) for piece in pieces]
        assert callable(self._events)
        return chosen(self._events, pieces)

    async def end(self) -> tuple[Named | None, Usage | ResponseUsage | None]:
        # The stream is read to its end, so this only assembles the answer.
        whole = await self._stream.collect()
        if self._events != "raw":
            return Named("done", _summary(whole)), whole.usage
        return (_DONE if isinstance(whole, ChatCompletion) else None), whole.usage

    def failure(self, error: AimlasyncError) -> Failure:
        return failure(error)

    async def close(self) -> None:
        await self._stream.close()


def _raw(piece: Any) -> Any:
    """Return an event as the vendor sent it."""
    return msgspec.Raw(piece.raw) if piece.raw else piece.to_dict()


def _summary(whole: ChatCompletion | Response) -> dict[str, Any]:
    if isinstance(whole, ChatCompletion):
        refusal = whole.choices[0].message.refusal if whole.choices else None
    else:
        refusal = whole.refusal
    usage = None if whole.usage is None else whole.usage.to_dict()
    return {"truncated": whole.truncated, "refusal": refusal, "usage": usage}
