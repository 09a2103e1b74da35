"""A streamed chat completion.

Law: what its events mean; how they are read and how a stream ends is the business of `stream`. Loaded with the first
stream: who asks for whole answers alone does without the structs of chunks.
"""

from __future__ import annotations

from aimlasync import sse
from aimlasync.chat import chunks as chat_chunks
from aimlasync.chat.assembler import Assembler
from aimlasync.chat.chunks import ChatCompletionChunk
from aimlasync.chat.types import ChatCompletion
from aimlasync.client.call import Attempt
from aimlasync.client.stream import Stream


class ChatStream(Stream[ChatCompletionChunk, ChatCompletion]):
    """A streamed chat completion."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self._assembler = Assembler()

    def prefill_whole(self, reply: ChatCompletion) -> None:
        """Become the stream of a whole answer, from a server that did not stream."""
        self.prefill([chat_chunks.chunk_of(reply)])

    def _decode(self, data: bytes) -> ChatCompletionChunk:
        return chat_chunks.decode_chunk(data)

    def _take_piece(self, piece: ChatCompletionChunk, event: sse.Event) -> None:
        # An error is looked for before the choices: it comes with or without them.
        if piece.error is not None or piece.object == "error" or event.event == "error":
            self._error(piece.to_dict())
            return
        self._assembler.add(piece)
        self._attempt.charge(piece.meta)
        self._ready.append(piece)
        if any(choice.finish_reason == "error" for choice in piece.choices):
            self._error(piece.to_dict())

    def text_of(self, piece: ChatCompletionChunk) -> str | None:
        """Return what a piece adds to the text of the (first) answer."""
        return piece.choices[0].delta.content if piece.choices and piece.choices[0].index == 0 else None
