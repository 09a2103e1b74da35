"""Reads chunks that repeat the one before but for their text, as most chunks of a stream do.

The bytes before and behind the text are compared, and the text alone is decoded. It must be one whole JSON string, and
the bytes around it end and begin between two tokens: so the chunk is what a decoder would read. It works on bytes,
without I/O. It may import `chat.chunks`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from aimlasync.chat.chunks import ChatCompletionChunk

_text = msgspec.json.Decoder(str).decode
_CONTENT = re.compile(rb'"content"\s*:\s*("(?:[^"\\]|\\.)*")')

_ATOMS = (str, int, type(None))

# Of the declared fields alone: a chunk that is repeated has no more.
_copy: Any = msgspec.Struct.__copy__  # type: ignore[attr-defined]


class Repeats:
    """What repeats a chunk: the same bytes, but for the text of its one choice."""

    __slots__ = ("_before", "_behind", "_choice", "_chunk", "_delta", "_from", "_pieces", "_since", "_to")

    def __init__(self, raw: bytes, text: slice, chunk: ChatCompletionChunk, pieces: list[str]) -> None:
        self._from, self._to = text.start, text.stop - len(raw)
        self._before, self._behind = raw[: self._from], raw[self._to :]
        # Copied, since the caller has the chunk.
        self._chunk, self._choice, self._delta = map(_copy, (chunk, chunk.choices[0], chunk.choices[0].delta))
        self._pieces = pieces
        self._since = len(pieces)

    @property
    def is_idle(self) -> bool:
        """Whether no chunk has repeated it."""
        return len(self._pieces) == self._since

    def read(self, raw: bytes) -> ChatCompletionChunk | None:
        """Return the chunk of an event's data, and add its text to the pieces; None where it is no repeat."""
        text = raw[self._from : self._to]
        # To join and compare takes a third of `startswith` and `endswith`.
        if self._before + text + self._behind != raw:
            return None
        try:
            content = _text(text)
        except (ValueError, RecursionError):
            return None
        self._pieces.append(content)
        delta = _copy(self._delta)
        delta.content = content
        delta.json_place = (raw, "choices", 0, "delta")
        choice = _copy(self._choice)
        choice.delta = delta
        choice.json_place = (raw, "choices", 0)
        chunk: ChatCompletionChunk = _copy(self._chunk)
        chunk.choices = [choice]
        chunk.json_place = raw
        return chunk


def repeats_of(raw: bytes, chunk: ChatCompletionChunk, pieces: list[str]) -> Repeats | None:
    """Return what repeats a chunk that was decoded from `raw` by the exact types, and adds a text to `pieces`.

    None where it adds something else, or it cannot be told where its text is.
    """
    [choice] = chunk.choices
    delta = msgspec.structs.asdict(choice.delta)
    # A role may come again and again.
    content, _ = delta.pop("content"), delta.pop("role")
    beside = (*delta.values(), choice.finish_reason, choice.logprobs, choice.usage)
    about = (value for name, value in msgspec.structs.asdict(chunk).items() if name != "choices")
    if not content or any(value is not None for value in beside) or not all(type(value) in _ATOMS for value in about):
        return None
    found = _CONTENT.search(raw)
    if found is None or raw.count(b'"content"') != 1:
        return None
    return Repeats(raw, slice(*found.span(1)), chunk, pieces)
