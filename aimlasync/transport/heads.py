"""The head of an HTTP/1.1 response: its status, its fields, and where the response ends.

A server sends much the same head with every response: the names, their order and most values stay, and a date, an id or
a length change. So `Heads` remembers a few, and of one with the same names only the lines that change are read; the
verdict is the same either way. Pure: it imports `headers`. Source: RFC 9112, sections 4 (status line),
5 (fields), and 6.2 and 6.3, of which it takes what says once where the response ends.
"""

from __future__ import annotations

import re

import msgspec

from aimlasync.headers import Fields, text_of

# No control character, so no bare CR or LF either; a folded line has no name, or a space before its colon.
_FIRST_LINE = re.compile(rb"HTTP/1\.1 [0-9]{3}(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+:)[^\x00-\x08\x0a-\x1f\x7f]*")
# Changes each character that `_FIELD_LINE` has in no value.
_CHANGED = bytes(ord("?") if byte == 0x7F or (byte < 0x20 and byte != 0x09) else byte for byte in range(256))
# What decides where a response ends is said once.
_FRAMING = frozenset(("content-length", "transfer-encoding", "content-encoding", "connection"))
# Digits of a length: a longer number is no length, but an attempt to make somebody's integer overflow.
_LONGEST = 15
_MAX_KNOWN = 16
_MAX_KNOWN_BYTES = 4096


class Head(msgspec.Struct, eq=False, gc=False):
    """What a plain head says. It is to be looked at before another one is read, which it may become."""

    status: int
    headers: Fields
    length: int | None
    is_chunked: bool
    closes: bool
    """Whether the connection ends with this response."""
    is_encoded: bool
    is_plain: bool
    """Whether it is that of a final response which says no more of its end than its length."""
    raw: bytes
    lines: list[bytes]
    # How each line begins, and its name in `headers`: "" where that is another line's.
    names: list[tuple[bytes, str]]
    # The lines that have changed: number, beginning, its size, and name.
    changing: list[tuple[int, bytes, int, str]] = []

    def becomes(self, raw: bytes, lines: list[bytes]) -> bool:
        """Become the head of `lines`, and return True, if it is plain and differs in nothing but in values."""
        fields, length, mine, rest, values = self.headers.by_name.copy(), self.length, self.lines, lines.copy(), b""
        for at, begin, size, name in self.changing:
            line = lines[at]
            if line[:size] != begin:
                return False
            rest[at] = mine[at]
            values += line
            if name:
                fields[name] = line.decode("latin-1")  # of ASCII, see below
                if name == "content-length" and (length := _length(line[size:])) is None:
                    return False
        if rest != mine:
            return self._changes(rest) and self.becomes(raw, lines)
        if not values.isascii() or values.translate(_CHANGED) != values:
            return False
        self.raw, self.lines, self.headers, self.length = raw, lines, Fields(fields), length
        return True

    def _changes(self, lines: list[bytes]) -> bool:
        """Note which further lines change; return whether they may."""
        changing = []
        for at, (line, mine, (begin, name)) in enumerate(zip(lines, self.lines, self.names, strict=True)):
            if line != mine:
                if not line.startswith(begin) or (name in _FRAMING and name != "content-length"):
                    return False
                changing.append((at, begin, len(begin), name))
        self.changing = self.changing + changing
        return True


class Heads:
    """The heads of one server; one thread reads them."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # The last one first.
        self._known: list[Head] = []

    def read(self, raw: bytes) -> Head | None:
        """Return what a head says that comes without the empty line at its end.

        None unless all of it is as the grammar says, and says once what decides where the response ends.
        """
        known = self._known
        for head in known:
            if head.raw == raw:
                return head
        lines = raw.split(b"\r\n")
        for at, head in enumerate(known):
            if len(head.lines) == len(lines) and head.becomes(raw, lines):
                if at:
                    known.insert(0, known.pop(at))
                return head
        made = _read(raw, lines)
        if made is not None and len(raw) <= _MAX_KNOWN_BYTES:
            known.insert(0, made)
            del known[_MAX_KNOWN:]
        return made


def _read(raw: bytes, lines: list[bytes]) -> Head | None:
    if not _FIRST_LINE.fullmatch(lines[0]):
        return None
    fields: dict[str, str] = {}
    # No line begins so: another first line is another head.
    names = [(b"\n", "")]
    for line in lines[1:]:
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            return None
        text = text_of(line)
        name = text[: match.end(1) - 1].lower()
        if name not in fields:
            fields[name] = text
        elif name in _FRAMING:
            return None
        else:
            name = ""
        names.append((match[1], name))
    stated, coding = _value(fields, "content-length"), _value(fields, "transfer-encoding")
    length = None if stated is None else _length(stated)
    if length is None is not stated or (coding is not None and (coding != b"chunked" or stated is not None)):
        return None
    closes = _value(fields, "connection") not in (None, b"keep-alive")
    is_encoded = _value(fields, "content-encoding") not in (None, b"identity")
    status, is_chunked = int(lines[0][9:12]), coding is not None
    is_plain = status >= 200 and status not in (204, 304) and not (is_chunked or closes or is_encoded)
    return Head(status, Fields(fields), length, is_chunked, closes, is_encoded, is_plain, raw, lines, names)


def _value(fields: dict[str, str], name: str) -> bytes | None:
    line = fields.get(name)
    return None if line is None else line.partition(":")[2].encode().strip(b" \t").lower()


def _length(value: bytes) -> int | None:
    value = value.strip(b" \t")
    return int(value) if value.isdigit() and len(value) <= _LONGEST else None
