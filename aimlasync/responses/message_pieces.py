"""What came of one message in pieces, by the index of each part: texts, refusals, and what is said beside them.

A text is said by its pieces, by its end, by the end of its part, or by that of the message; servers leave out any of
these. It has no I/O. It may import `responses.items` and what lies below it.
"""

from __future__ import annotations

from collections import defaultdict

from aimlasync.chat.types import TokenLogprob
from aimlasync.responses.items import Annotation, OutputRefusal, OutputText, Part
from aimlasync.responses.restated import changed, is_blank
from aimlasync.wire.pieces import joined


class MessagePieces:
    """The pieces of one message. Mutable."""

    __slots__ = ("logprobs", "notes", "parts", "refusals", "texts")

    def __init__(self) -> None:
        self.texts: dict[int, list[str]] = defaultdict(list)
        self.refusals: dict[int, list[str]] = defaultdict(list)
        self.parts: dict[int, Part] = {}
        """The parts as the server told of them: what they say beside their text."""
        self.notes: dict[int, list[Annotation]] = defaultdict(list)
        """Annotations of texts, of which some servers tell in events of their own alone."""
        self.logprobs: dict[int, list[TokenLogprob]] = defaultdict(list)

    def has_pieces(self, index: int | None = None) -> bool:
        """Whether a text came in pieces, or by its end, at an index or at any."""
        return any(map(any, self.texts.values())) if index is None else any(self.texts.get(index, ()))

    def has_text(self) -> bool:
        """Whether a text was said, or a part that has one."""
        return self.has_pieces() or not all(map(is_blank, self.parts.values()))

    def says_something(self) -> bool:
        """Whether it has more than empty pieces, which alone make no item."""
        return self.has_text() or any(map(any, self.refusals.values()))

    def says(self, text: str) -> bool:
        """Whether a text was said in pieces at any index."""
        return any(joined(pieces) == text for pieces in self.texts.values())

    def added_to(self, known: list[Part], *, is_whole: bool) -> list[Part]:
        """Return the parts of the message with what was streamed; `is_whole` tells that `known` is all of them."""
        content = known[:]
        told = (index for index, part in self.parts.items() if not is_blank(part))
        for index in sorted({*self.texts, *self.refusals, *told}):
            if index < len(content):
                if is_blank(content[index]):
                    content[index] = self._part(index, content[index])
            elif not is_whole:
                content.append(self._part(index, self.parts.get(index)))
        return content

    def _part(self, index: int, known: Part | None) -> Part:
        """Return a part with the text that was streamed; `known` is what else was said of it."""
        if index in self.texts:
            text = joined(self.texts[index])
            part = changed(known, text=text) if isinstance(known, OutputText) else OutputText(text=text)
            part.annotations = part.annotations or self.notes.get(index, [])[:]
            part.logprobs = part.logprobs or self.logprobs.get(index, [])[:] or part.logprobs
            return part
        if index not in self.refusals and known is not None:
            return known
        refusal = joined(self.refusals[index])
        return changed(known, refusal=refusal) if isinstance(known, OutputRefusal) else OutputRefusal(refusal=refusal)
