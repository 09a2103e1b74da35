"""A streamed chat completion: what its events mean.

`chat.chunks` decodes an event. How events are read and how a stream ends is in `stream`. It may import `call`,
`failures`, `stream` and the structs of `chat`. It is imported with the first stream, because a program without streams
does not need the structs of chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aimlasync.chat import chunks as chat_chunks
from aimlasync.chat.assembler import Assembler
from aimlasync.chat.chunks import ChatCompletionChunk, ChunkChoice
from aimlasync.chat.endings import says_something, tells_reason
from aimlasync.chat.types import ChatCompletion, decode_completion
from aimlasync.client.call import Attempt
from aimlasync.client.failures import no_answer
from aimlasync.client.framing import is_heartbeat
from aimlasync.client.stream import Stream
from aimlasync.errors import AimlasyncError
from aimlasync.transport.base import RawReply
from aimlasync.wire.error_bodies import unfinished
from aimlasync.wire.error_shapes import read_error

# How answers of responses, and of Anthropic's messages, end.
_FOREIGN_ENDS = ("response.completed", "response.incomplete", "message_stop")


class ChatStream(Stream[ChatCompletionChunk, ChatCompletion]):
    """A streamed chat completion."""

    def __init__(self, attempt: Attempt, body: RawReply | None = None) -> None:
        super().__init__(attempt, body)
        self._assembler = Assembler()
        self._decode = chat_chunks.decode_chunk
        # The index of the last choice that came, None once there may be several of them.
        self._last_index: int | None = 0 if (attempt.call.body or {}).get("n") in (None, 1) else None
        # Whether a piece came as a whole answer: what follows may, too.
        self._came_whole = False

    def _take_alike(self, event: str, events: list[bytes]) -> list[ChatCompletionChunk]:
        repeats = self._assembler.repeats
        return [] if repeats is None else repeats.read(events)

    def _take_piece(self, piece: ChatCompletionChunk, data: bytes, event: str) -> None:
        # An error is looked for before the choices: it comes with or without them.
        if piece.error or piece.object == "error" or event == "error":
            self._error(piece.to_dict(), data)
            return
        if piece.x_groq is not None and piece.x_groq.error:
            self._error({"error": piece.x_groq.error}, data)
            return
        if not piece.choices and _is_heartbeat(piece, event):
            return
        if not self._says_something and self._take_first(piece, data):
            return
        if self._came_whole and piece.choices:
            piece = self._go_on(piece, data)
        if not piece.choices and piece.usage is None is piece.meta:
            self._unsaid = data
        if self._last_index is not None and piece.choices:
            self._one_choice(piece.choices, self._last_index)
        failure = self._assembler.add(piece)
        if piece.meta is not None:
            self._attempt.charge(piece.meta)
        self._ready.append(piece)
        if failure is not None:
            self._give_up(failure, piece.to_dict(), data)

    def _after(self, data: bytes) -> None:
        try:
            piece = self._decode(data)
        except msgspec.DecodeError:
            return
        self._assembler.add_tail(piece)
        self._attempt.charge(piece.meta)

    def _take_first(self, piece: ChatCompletionChunk, data: bytes) -> bool:
        """Look into a piece before which nothing was said; return whether it was a whole answer, and is taken."""
        body = piece.to_dict()
        choices = body.get("choices")
        said = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
        self._says_something = any(map(says_something, said))
        if not self._says_something:
            self._unsaid = data
        if not any(map(_is_whole, said)):
            return False
        self._take_whole(decode_completion(data), body, data)
        return True

    def _take_whole(self, reply: ChatCompletion, body: Mapping[str, Any], data: bytes) -> None:
        """Take in a whole answer, from a server that does not stream."""
        piece = chat_chunks.chunk_of(reply)
        if self._last_index is not None and piece.choices:
            self._one_choice(piece.choices, self._last_index)
        failure = self._assembler.add(piece)
        self._attempt.charge(piece.meta)
        if failure is not None or _error_of(body) is not None:
            self._give_up(failure, body, data)
            return
        self._whole_reply, self._came_whole = reply, True
        self._ready.append(piece)
        if self.is_lines:
            self._finish()

    def _one_choice(self, choices: list[ChunkChoice], last: int) -> None:
        """Give the only choice that was asked for the index 0: some servers count the chunks (text-generation-inference
        until 1.4, Foundry Local). Several choices in a chunk, or an index that goes back, are several choices.
        """
        index = choices[0].index
        if len(choices) > 1 or 0 <= index < last:
            self._last_index = None
        elif index:
            self._last_index, choices[0].index = max(index, last), 0

    def _give_up(self, failure: str | None, body: Mapping[str, Any], data: bytes) -> None:
        """The server gave up on a choice, by a finish reason or with an error object in it."""
        error, partial = _error_of(body), self._whole()
        # Before there is more than the reason, the call may be tried again.
        self._says_something = any(says_something({"message": c.message.to_dict()}) for c in partial.choices)
        if error is not None:
            self._error(error, data)
        else:
            self._fail(unfinished(failure, body, partial=partial, info=self.info, billed=self._attempt.billed))

    def _go_on(self, piece: ChatCompletionChunk, data: bytes) -> ChatCompletionChunk:
        """Return a piece behind what came as a whole answer: a gateway may say `message` where `delta` is meant."""
        said = [choice for choice in piece.to_dict()["choices"] if isinstance(choice, dict)]
        if any(map(says_something, said)):
            # The answer is what all pieces say.
            self._whole_reply = None
        return chat_chunks.chunk_of(decode_completion(data)) if any(map(_is_whole, said)) else piece

    def _error_aside(self) -> Any:
        # DashScope, FastAPI and others tell of a failure in a way of their own, and gateways put their mark behind it.
        aside = self._assembler.aside
        body = None if aside is None else aside.to_dict()
        return body if read_error(body).message else None

    def _is_cut(self) -> bool:
        return bool(self._assembler.is_cut())

    def _last_words(self) -> str:
        words = super()._last_words()
        if words or self._says_something or (aside := self._assembler.aside) is None:
            return words
        kind = aside.to_dict().get("type")
        return f": its last event, {kind}, is none of chat/completions" if isinstance(kind, str) else ""

    def _is_foreign(self) -> bool:
        aside = self._assembler.aside
        return not self._says_something and aside is not None and aside.to_dict().get("type") in _FOREIGN_ENDS

    def _no_answer(self) -> AimlasyncError:
        lacks = "says nothing, and not why" if self._assembler.whole().choices else "has no choices"
        return no_answer(self._attempt, self._unsaid, f"{self._framing} that {lacks}")

    def text_of(self, piece: ChatCompletionChunk) -> str | None:
        """Return what a piece adds to the text of the (first) answer."""
        for choice in piece.choices:
            if choice.index == 0:
                return choice.delta.content
        return None


def _is_whole(choice: Mapping[str, Any]) -> bool:
    """Whether a choice is of a whole answer, and not of a chunk."""
    return not choice.get("delta") and bool(choice.get("message") or ("delta" not in choice and tells_reason(choice)))


def _error_of(body: Mapping[str, Any]) -> Any:
    """Return an error body of what a choice says to have gone wrong (OpenRouter), None where none does."""
    for choice in body["choices"]:
        if isinstance(choice, dict) and choice.get("error"):
            return {"error": choice["error"]}
    return None


def _is_heartbeat(piece: ChatCompletionChunk, event: str) -> bool:
    return is_heartbeat(event) or is_heartbeat(str(piece.to_dict().get("type")))
