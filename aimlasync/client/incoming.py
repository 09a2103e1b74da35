"""The events of a stream's body, as the reads bring them: bytes in, a few events at a time out.

A read may bring one event or forty thousand. They are parsed at once and handed out in small numbers, so that the
pieces made of them are gone before the next ones are made, and other calls have their turn. It knows nothing of what
events mean, and does not read itself. It may import `framing` and `sse`.
"""

from __future__ import annotations

import asyncio
from collections import deque

from aimlasync import sse
from aimlasync.client.framing import Parser, Unframed, last_block

# Events that are taken in at once: few, so that most pieces are gone again while they are in the processor's cache, and
# before the collector comes to see them.
_AT_ONCE = 32
# Events that are taken in before other calls go on: 40,000 fit into one read.
_IN_A_ROW = 512


class Incoming:
    """The events of one body; `says_events` is its content type's word."""

    __slots__ = ("_before", "_data", "_in_a_row", "_parser", "body", "is_over", "waiting")

    def __init__(self, *, says_events: bool) -> None:
        self.body = Unframed(says_events=says_events)
        """How the body is framed, as far as it is known."""
        self.is_over = False
        """Whether the body has ended: an event that comes then ended with it, and may be cut."""
        self.waiting: deque[sse.Series] = deque()
        """Events that were read and not handed out, at most _AT_ONCE in a series."""
        self._parser: Parser = self.body
        # What the last two reads brought.
        self._before = self._data = b""
        # How many events `more` handed out since the last pause.
        self._in_a_row = 0

    def read(self, data: bytes) -> list[sse.Series]:
        """Take in what a read brought, nothing at the end of the body, and hand out the first events of it.

        Raises sse.EventTooLargeError.
        """
        if data:
            self._before, self._data = self._data, data
            found = self._parser.read(data)
        else:
            self.is_over = True
            found = self._parser.end()
        if self._parser is self.body and self.body.parser is not None:
            self._parser = self.body.parser
        if len(found) == 1 and len(found[0].data) <= _AT_ONCE:
            return found
        for series in found:
            for at in range(0, len(series.data), _AT_ONCE):
                few = series.data[at : at + _AT_ONCE]
                self.waiting.append(sse.Series(series.event, few, series.id, series.retry))
        return self.more()

    def more(self) -> list[sse.Series]:
        """Hand out the next events that wait."""
        few: list[sse.Series] = []
        many = 0
        while self.waiting and many < _AT_ONCE:
            series = self.waiting.popleft()
            few.append(series)
            many += len(series.data)
        self._in_a_row += many
        return few

    async def pause(self) -> None:
        """Let other calls go on, if they waited for many events."""
        if self._in_a_row >= _IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)

    def between(self) -> bytes:
        """Return what the last reads brought that is in no event."""
        return last_block(self._before + self._data)
