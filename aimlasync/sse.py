"""A parser of server-sent events: bytes in, events out.

It implements the event stream of the WHATWG HTML standard, sections 9.2.5 (grammar) and 9.2.6 (interpretation), and
nothing else. It has no I/O, clock or logging, and knows nothing of HTTP, JSON, ``[DONE]`` or providers. It imports
nothing of this library. Three guarantees hold for every input:

* The result does not depend on how the stream is cut into chunks, and an event is returned by the ``feed`` that brings
  its last byte.
* Time is linear in the bytes fed; memory is bounded by a small multiple of ``max_event_bytes`` and the chunk in hand.
* ``Event.data`` is valid UTF-8. Framing happens on bytes, so a character cut by a chunk is never damaged.
"""

from __future__ import annotations

import re
from typing import final

import msgspec

__all__ = ["Event", "EventTooLargeError", "Parser", "Series"]

_LF, _CR = 0x0A, 0x0D
_BOM = b"\xef\xbb\xbf"
_FIELDS = frozenset((b"data", b"event", b"id", b"retry"))
_LONGEST_FIELD = 5
# How most blocks begin, up to their data; and the first six bytes of that, which are looked at before.
_BEGIN = re.compile(rb"(?:event: ([^\n]*)\n)?data: ")
_FIRST = frozenset((b"data: ", b"event:"))
# A longer ``retry`` is ignored, like any invalid value: `int` may refuse longer strings (this is the lowest limit that
# sys.set_int_max_str_digits allows).
_MAX_RETRY_DIGITS = 640


class EventTooLargeError(ValueError):
    """One event (or one line that has not ended yet) outgrew ``max_event_bytes``."""

    def __init__(self, max_event_bytes: int) -> None:
        super().__init__(max_event_bytes)
        self.max_event_bytes = max_event_bytes

    def __str__(self) -> str:
        return f"server-sent event is larger than {self.max_event_bytes} bytes"


# A Struct without GC tracking is built in a third of the time of a class with slots, and a quarter of a NamedTuple's.
# Its fields are atoms, so it can be part of no cycle.
@final
class Event(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event."""

    event: str = "message"
    """The event type."""
    data: bytes = b""
    """The values of the ``data`` lines joined with LF: valid UTF-8, invalid input replaced by U+FFFD."""
    id: str = ""
    """The last event id at the time of dispatch; it carries over from earlier events."""
    retry: int | None = None
    """The last valid ``retry`` value (milliseconds) inside this event's own block."""


@final
class Series(msgspec.Struct, frozen=True, gc=False):
    """Consecutive events that differ in nothing but their data, and have no `Event.retry`."""

    event: str
    data: list[bytes]
    """The data of each event, in order: at least one."""
    id: str = ""


class Parser:
    """Incremental parser for one stream; make a new one for every response.

    ``strict=True`` is the standard: an event that the end of the stream cuts off is discarded. With ``strict=False``
    ``close()`` dispatches it, including a last line without a line end, for servers that stop after ``data: [DONE]``.

    The size of an event is the length of its ``data``, ``event``, ``id`` and ``retry`` lines without their line ends.
    Comments and unknown fields count for nothing and are not kept. When an event outgrows ``max_event_bytes``, the
    events completed before it are returned first and `EventTooLargeError` is raised by the next call; it is raised at
    once if there are none. It is raised once and ends the parser.
    """

    __slots__ = (
        "_after_cr",
        "_begin",
        "_data",
        "_ended",
        "_head",
        "_id",
        "_line",
        "_name",
        "_overflow",
        "_retry",
        "_size",
        "_skip",
        "_type",
        "last_event_id",
        "max_event_bytes",
        "retry",
        "strict",
    )

    def __init__(self, *, max_event_bytes: int = 16 * 2**20, strict: bool = True) -> None:
        self.max_event_bytes = max_event_bytes
        self.strict = strict
        self.last_event_id: str = ""
        """The id committed by the latest blank line, even of a block without data."""
        self.retry: int | None = None
        """The latest valid reconnection time in milliseconds."""

        # The stream.
        self._head: bytes | None = b""  # the first bytes while they may begin a BOM; None after that
        self._after_cr = False  # "...CR" | "LF...": the CR ended its line, and the LF belongs to it
        self._ended = False  # by close() or an oversized event
        self._overflow = False  # the next call raises EventTooLargeError

        # How blocks begin, mostly, and the type of event that it says.
        self._begin, self._name = b"data: ", "message"

        # A line that the end of the chunk cut: "data: a" | "b LF". It is a bytearray, since a list of two-byte chunks
        # would take twenty times the memory that max_event_bytes allows.
        self._line = bytearray()
        self._skip = False  # ": long comm" | "ent LF": the line is ignored, and its rest is dropped as it arrives

        # The block: everything since the last blank line.
        self._size = 0  # the bytes of its known fields; 0 means that it has none, and the following are unset
        self._data: list[bytes] = []
        self._type = ""
        self._id: str | None = None  # becomes last_event_id at the blank line: "id: 1 LF" EOF commits nothing
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes (any number of them) and return the events that they complete, in order.

        Raises `RuntimeError` after ``close()`` or after `EventTooLargeError`: bytes after the end are a mistake of the
        caller, and dropping them silently would hide it.
        """
        return _one_by_one(self.read(chunk))

    def close(self) -> list[Event]:
        """End the stream; with ``strict=False`` return the event that it left unfinished, if any.

        Later calls return nothing. Raises `EventTooLargeError` if that is due, in both modes.
        """
        return _one_by_one(self.end())

    def read(self, chunk: bytes) -> list[Event | Series]:
        """Do what `feed` does, and return events that begin alike together, which costs less."""
        if self._ended:
            self.end()  # raises EventTooLargeError if that is due
            raise RuntimeError("the SSE parser has ended")
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if _CR in chunk:  # an integer, as ``b"\r" in chunk`` takes four times as long
            # From here on LF is the only line end, so that the streams of CRLF servers take the fast path.
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._head is not None:
            chunk = self._head + chunk
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._head = chunk
                return []
            self._head = None
            chunk = chunk.removeprefix(_BOM)

        found: list[Event | Series] = []
        try:
            if self._line or self._skip:
                # Only the new bytes are searched, else a long line in tiny chunks would take quadratic time.
                end = chunk.find(b"\n")
                if end < 0:
                    self._hold(chunk)
                    return found
                if self._skip:
                    self._skip = False
                    chunk = chunk[end + 1 :]
                else:
                    chunk = b"".join((self._line, chunk))
                    self._line.clear()
            if self._size and (end := _end_of_block(chunk)):
                # What is left of the block that earlier chunks began.
                self._read_lines(chunk[:end], found)
                chunk = chunk[end:]
            if not self._size and chunk[:6] in _FIRST:
                chunk = self._read_alike(chunk, found)
            if chunk:
                self._read_lines(chunk, found)
        except EventTooLargeError:
            self._ended = True
            if not found:
                raise
            self._overflow = True
        return found

    def end(self) -> list[Event | Series]:
        """Do what `close` does, for who uses `read`."""
        if self._ended:
            if self._overflow:
                self._overflow = False
                raise EventTooLargeError(self.max_event_bytes)
            return []
        # The first LF ends the unfinished line, or completes a CRLF; the second one is the missing blank line.
        found = [] if self.strict else self.read(b"\n\n")
        self._ended = True
        return found

    def _read_alike(self, chunk: bytes, found: list[Event | Series]) -> bytes:
        """Read a chunk at the start of a block by the fast path; return what is left for `_read_lines`.

        Most blocks begin like the one before: with ``data: ``, or with the same ``event: `` line and then ``data: ``.
        So the chunk is cut where a block begins so; what has one line between two cuts is one event, and what has more
        is read by block. The chunk must be valid UTF-8.
        """
        is_usual = chunk[: len(self._begin)] == self._begin  # `startswith` takes longer
        if not (is_usual or self._begins(chunk, 0)):
            return chunk
        data = chunk[len(self._begin) : -2]
        if (
            _LF not in data
            and chunk[-2:] == b"\n\n"
            and len(chunk) <= self.max_event_bytes
            and (data.isascii() or _is_utf8(data))
        ):
            # One event in the chunk, as is common.
            found.append(Series(self._name, [data], self.last_event_id))
            return b""
        last = chunk.rfind(b"\n\n")
        if last < 0 or last > self.max_event_bytes or not (chunk.isascii() or _is_utf8(chunk[:last])):
            return chunk
        if is_usual:
            begin, name = self._begin, self._name
            parts = chunk[len(begin) : last].split(b"\n\n" + begin)
        else:
            # What is in the middle tells most of how the others begin.
            middle = chunk.rfind(b"\n\n", 0, last // 2)
            if middle >= 0:
                self._begins(chunk, middle + 2)
            begin, name = self._begin, self._name
            first, *parts = (b"\n\n" + chunk[:last]).split(b"\n\n" + begin)
            if first:
                self._read_blocks(first[2:], found)
        # To look into each takes three times as long.
        if _LF in b"".join(parts):
            alike = 0
            for at, part in enumerate(parts):
                if _LF in part:
                    if at > alike:
                        found.append(Series(name, parts[alike:at], self.last_event_id))
                    self._read_blocks(begin + part, found)
                    alike = at + 1
            parts = parts[alike:]
        if parts:
            found.append(Series(name, parts, self.last_event_id))
        self._begin, self._name = begin, name
        return chunk[last + 2 :]

    def _begins(self, block: bytes, at: int) -> bool:
        """Whether a block begins as most do, which is noted then."""
        begin = _BEGIN.match(block, at)
        if begin is None:
            return False
        self._begin, self._name = begin[0], (begin[1] or b"").decode("utf-8", "replace") or "message"
        return True

    def _read_blocks(self, blocks: bytes, found: list[Event | Series]) -> None:
        """Read whole blocks in valid UTF-8, without the blank line behind the last of them."""
        parts = blocks.split(b"\n\n")
        for at, block in enumerate(parts):
            is_usual = block[: len(self._begin)] == self._begin or self._begins(block, 0)
            data = block[len(self._begin) :]
            if not is_usual or _LF in data:
                self._read_lines(b"\n\n".join(parts[at:]) + b"\n\n", found)
                return
            found.append(Event(self._name, data, self.last_event_id))

    def _read_lines(self, chunk: bytes, found: list[Event | Series]) -> None:
        """Interpret each finished line of a chunk that begins a line, and hold the last, unfinished one."""
        lines = chunk.split(b"\n")
        rest = lines.pop()
        for line in lines:
            if line:
                name, _, value = line.partition(b":")
                if name not in _FIELDS:  # a comment is a field without a name
                    continue
                self._size += len(line)
                if self._size > self.max_event_bytes:
                    raise EventTooLargeError(self.max_event_bytes)
                value = value.removeprefix(b" ")
                if name == b"data":
                    self._data.append(value)
                elif name == b"event":
                    self._type = value.decode("utf-8", "replace")
                elif name == b"id":
                    if b"\0" not in value:
                        self._id = value.decode("utf-8", "replace")
                elif value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
                    self.retry = self._retry = int(value)
            elif self._size:
                if self._id is not None:
                    self.last_event_id = self._id
                if self._data:  # "data" alone counts: it appends an empty line, and the event has empty data
                    data = b"\n".join(self._data)
                    if not _is_utf8(data):
                        data = data.decode("utf-8", "replace").encode()
                    found.append(Event(self._type or "message", data, self.last_event_id, self._retry))
                self._size = 0
                self._data.clear()
                self._type = ""
                self._id = self._retry = None
        if rest:
            self._hold(rest)

    def _hold(self, piece: bytes) -> None:
        """Keep a piece of an unfinished line, or only the fact that the line will be ignored."""
        if self._skip:
            return
        line = self._line
        line += piece
        if len(line) > _LONGEST_FIELD:  # enough to tell whether the line can be of a known field
            if bytes(line[: _LONGEST_FIELD + 1]).partition(b":")[0] not in _FIELDS:
                self._skip = True
                line.clear()
            elif self._size + len(line) > self.max_event_bytes:
                raise EventTooLargeError(self.max_event_bytes)


def _end_of_block(lines: bytes) -> int:
    """Return where the first block of `lines` ends, behind its blank line; 0 where they have none."""
    if lines.startswith(b"\n"):
        return 1
    at = lines.find(b"\n\n")
    return at + 2 if at >= 0 else 0


def _one_by_one(found: list[Event | Series]) -> list[Event]:
    events: list[Event] = []
    for one in found:
        if type(one) is Series:
            events += [Event(one.event, data, one.id) for data in one.data]
        else:
            events.append(one)
    return events


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
