"""The events of a stream's body, as the reads bring them: bytes in, a few events at a time out.

A read may bring one event or forty thousand. They are parsed at once and handed out in small numbers, so that the
pieces made of them are gone before the next ones are made, and other calls have their turn. It knows nothing of what
events mean, and does not read itself. It may import `framing` and `sse`.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from aimlasync import sse
from aimlasync.client.framing import Parser, Unframed, last_block

# Events that are taken in at once: few, so that most pieces are gone again while they are in the processor's cache, and
# before the collector comes to see them.
_AT_ONCE = 32
# Events that are taken in before other calls go on: 40,000 fit into one read.
_IN_A_ROW = 512

Few: TypeAlias = tuple[str, list[bytes]]
"""The type of some consecutive events, and the data of each."""


class Incoming:
    """The events of one body; `says_events` is its content type's word."""

    __slots__ = ("_at", "_before", "_data", "_found", "_in_a_row", "_parser", "_within", "body", "is_behind", "is_over")

    def __init__(self, *, says_events: bool) -> None:
        self.body = Unframed(says_events=says_events)
        """How the body is framed, as far as it is known."""
        self.is_over = False
        """Whether the body has ended: an event that comes then ended with it, and may be cut."""
        self.is_behind = False
        """Whether there are events that were read and not handed out."""
        self._parser: Parser = self.body
        # What the last two reads brought.
        self._before = self._data = b""
        # The events of the last read, and where the first is that was not handed out: its place, and within a series.
        self._found: list[sse.Event | sse.Series] = []
        self._at = self._within = 0
        # How many events `more` handed out since the last pause.
        self._in_a_row = 0

    def read(self, data: bytes) -> list[Few]:
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
        if len(found) == 1:
            one = found[0]
            if type(one) is sse.Event:
                return [(one.event, [one.data])]
            if len(one.data) <= _AT_ONCE:
                return [(one.event, one.data)]
        self._found, self._at, self._within = found, 0, 0
        return self.more()

    def more(self) -> list[Few]:
        """Hand out the next events."""
        few: list[Few] = []
        room = _AT_ONCE
        while room > 0 and self._at < len(self._found):
            one = self._found[self._at]
            if type(one) is sse.Event:  # `isinstance` takes longer for a struct
                data = [one.data]
                self._at += 1
            else:
                data = one.data[self._within : self._within + room]
                self._within += len(data)
                if self._within == len(one.data):
                    self._at, self._within = self._at + 1, 0
            room -= len(data)
            if few and few[-1][0] == one.event:
                few[-1][1].extend(data)
            else:
                few.append((one.event, data))
        self._in_a_row += _AT_ONCE
        self.is_behind = self._at < len(self._found)
        return few

    async def pause(self) -> None:
        """Let other calls go on, if they waited for many events."""
        if self._in_a_row >= _IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)

    def between(self) -> bytes:
        """Return what the last reads brought that is in no event."""
        return last_block(self._before + self._data)
