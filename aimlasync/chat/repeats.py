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
_list = msgspec.json.Decoder(list[str]).decode
# The fields of a delta that may be its text, each as it is found in a chunk.
_TEXTS = {
    name: re.compile(rb'"%b"\s*:\s*("(?:[^"\\]|\\.)*")' % name.encode()) for name in ("content", "reasoning_content")
}

_ATOMS = (str, int, float, bool, type(None))
# Of a delta, texts would be joined.
_NUMBERS = (int, float, bool, type(None))

# A copy of the declared fields alone, with another value of one.
_with: Any = msgspec.structs.replace


class Repeats:
    """What repeats a chunk: the same bytes, but for the text of its one choice."""

    __slots__ = (
        "_at_once",
        "_before",
        "_behind",
        "_beside",
        "_choice",
        "_chunk",
        "_delta",
        "_from",
        "_name",
        "_pieces",
        "_since",
        "_to",
    )

    def __init__(self, raw: bytes, name: str, text: slice, chunk: ChatCompletionChunk, pieces: list[str]) -> None:
        self._name = name
        self._from, self._to = text.start, text.stop - len(raw)
        self._before, self._behind = raw[: self._from], raw[self._to :]
        choice = chunk.choices[0]
        structs = (chunk, choice, choice.delta)
        # Copied, since the caller has the chunk.
        self._chunk, self._choice, self._delta = map(_with, structs)
        # The undeclared fields of all three, where there are any.
        self._beside = None if type(chunk.json_place) is bytes else [dict(vars(struct)) for struct in structs]
        self._pieces = pieces
        self._since = len(pieces)
        self._at_once = 1

    @property
    def is_idle(self) -> bool:
        """Whether no chunk has repeated it."""
        return len(self._pieces) == self._since

    @property
    def is_plain(self) -> bool:
        """Whether no byte but those of the text is escaped, so that each key is spelled as it is."""
        return b"\\" not in self._before + self._behind

    def read(self, events: list[bytes]) -> list[ChatCompletionChunk]:
        """Return the chunks of the first of some events that repeat it, by their data; add their texts to the pieces.

        The list is empty only where the first event is no repeat; who has more comes again with the rest.
        """
        if len(events) > 1:
            # One at first, then twice as many each time: what does not repeat is not looked at again and again.
            events = events[: self._at_once]
            self._at_once = 2 * len(events)
        texts = self._all(events) if len(events) > 1 else None
        if texts is None:
            texts = self._first(events)
        self._pieces += texts
        is_content, beside = self._name == "content", self._beside
        a_delta, a_choice, a_chunk = self._delta, self._choice, self._chunk
        chunks: list[ChatCompletionChunk] = []
        # There may be fewer texts than events.
        for text, raw in zip(texts, events, strict=False):
            delta = _with(a_delta, content=text) if is_content else _with(a_delta, reasoning_content=text)
            delta.json_place = (raw, "choices", 0, "delta")
            choice = _with(a_choice, delta=delta)
            choice.json_place = (raw, "choices", 0)
            chunk = _with(a_chunk, choices=[choice])
            if beside is None:
                chunk.json_place = raw
            else:
                chunk.json_place = (raw,)
                for struct, more in zip((chunk, choice, delta), beside, strict=True):
                    struct.__dict__.update(more)
            chunks.append(chunk)
        return chunks

    def _first(self, events: list[bytes]) -> list[str]:
        """Return the texts of the first of some events, up to one that is no repeat."""
        texts: list[str] = []
        for raw in events:
            said = raw[self._from : self._to]
            # To join and compare takes a third of `startswith` and `endswith`.
            if self._before + said + self._behind != raw:
                break
            try:
                texts.append(_text(said))
            except (ValueError, RecursionError):
                break
        return texts

    def _all(self, events: list[bytes]) -> list[str] | None:
        """Return the texts of events that all are repeats, None where one is not."""
        start, stop, before, behind = self._from, self._to, self._before, self._behind
        texts = [raw[start:stop] for raw in events]
        # No event is longer than what is put together for it here: so if all are the same, each is.
        if b"%b%b%b" % (before, (behind + before).join(texts), behind) != b"".join(events):
            return None
        # No string goes beyond a line end, so that each text has strings of its own: one, if there are as many in all.
        try:
            said = _list(b"[%b]" % b",\n".join(texts))
        except (ValueError, RecursionError):
            return None
        return said if len(said) == len(events) else None


def repeats_of(chunk: ChatCompletionChunk, name: str, pieces: list[str]) -> Repeats | None:
    """Return what repeats a chunk of one choice, whose delta has the text `name`, which was added to `pieces`.

    None where it adds anything else that would count again, or it cannot be told where its text is.
    """
    raw, choice = chunk.raw, chunk.choices[0]
    delta = choice.delta
    if not raw or getattr(delta, "json_place", None) != (raw, "choices", 0, "delta"):
        return None
    said = msgspec.structs.asdict(delta)
    # A role may come again and again.
    text, _ = said.pop(name), said.pop("role")
    more = (*said.values(), choice.finish_reason, choice.logprobs, choice.usage)
    about = [value for key, value in msgspec.structs.asdict(chunk).items() if key != "choices"]
    if (
        not text
        or any(value is not None for value in more)
        or any(type(value) not in _NUMBERS for value in vars(delta).values())
        or any(type(value) not in _ATOMS for value in (*about, *vars(chunk).values(), *vars(choice).values()))
    ):
        return None
    found = _TEXTS[name].search(raw)
    if found is None or raw.count(b'"%b"' % name.encode()) != 1:
        return None
    repeats = Repeats(raw, name, slice(*found.span(1)), chunk, pieces)
    return repeats if repeats.is_plain else None
