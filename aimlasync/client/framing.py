"""How the body of an answer is framed, by its first bytes: server-sent events, JSON, or neither.

Content types of streams are often wrong: events come as text/plain, one JSON value a line as application/json, and a
whole answer or an error as text/event-stream. The parsers here read like `sse.Parser`, and so return JSON values as
events. No I/O. It may import `sse`.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from typing import Literal, Protocol

import msgspec

from aimlasync import sse
from aimlasync.transport.base import MAX_BODY, MAX_ERROR_BODY

Kind = Literal["events", "json", "text"]

_SPACE = b" \t\r\n"
_FIELD = re.compile(rb"(?:data|event|id|retry):")
# Comments, which some routers send while they wait, in front of whole answers too.
_COMMENTS = re.compile(rb"\s*(?:\xef\xbb\xbf\s*)?(?::[^\r\n]*[\r\n]\s*)*(:?)")
_NAMES = (b"data:", b"event:", b"id:", b"retry:")

_HEARTBEATS = frozenset(
    ("heart-beat", "heart_beat", "heartbeat", "keep-alive", "keep_alive", "keepalive", "noop", "null", "ping", "pong")
)

# Values with nothing between them; more of them are not read.
_MOST_JOINED = 10_000

_BLANK = re.compile(r"\s*")
# The values do not matter, only where they end; and Python refuses to read numbers of more than 4,300 digits.
_scan = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len).raw_decode


class Parser(Protocol):
    """Bytes in, events out."""

    def read(self, chunk: bytes, /) -> list[sse.Event | sse.Series]:
        """Return the events that `chunk` completes. Raises sse.EventTooLargeError."""

    def end(self) -> list[sse.Event | sse.Series]:
        """Return what the end of the body completes."""


def kind_of(head: bytes) -> Kind | None:
    """Return how a body that begins with `head` is framed, None while that is not enough to tell, as in a comment."""
    head = head.lstrip(_SPACE).removeprefix(BOM_UTF8).lstrip(_SPACE)
    if head[:1] in (b"{", b"["):
        return "json"
    if _FIELD.match(head):
        return "events"
    if head[:1] == b":" or BOM_UTF8.startswith(head) or any(name.startswith(head) for name in _NAMES):
        return None
    return "text"


def is_heartbeat(type: str) -> bool:
    """Whether a type of events, or their data, only says that the server is there."""
    return type.lower().removeprefix("response.") in _HEARTBEATS


def is_foreign(type: str, data: bytes) -> bool:
    """Whether an event is none of the API's: it has a type of its own, and data that was not meant to be JSON."""
    return type != "message" and not type.startswith("response.") and not data.startswith((b"{", b"["))


def last_block(events: bytes) -> bytes:
    """Return the last lines of an event stream that are no event's, from after a blank line; `[DONE]` is left out."""
    lines = events.replace(b"\r\n", b"\n").rstrip().removesuffix(b"data: [DONE]").rstrip()
    return lines[lines.rfind(b"\n\n") + 1 :].strip()


class Unframed:
    """The parser of a body until its framing is known, and of one that has none; `says_events` is its content type's
    word, which counts where its bytes tell nothing.
    """

    def __init__(self, *, says_events: bool) -> None:
        self.kind: Kind | None = None
        self.parser: Parser | None = None
        """The parser that goes on, once the framing is known."""
        self.head = bytearray()
        """What has come of a body that has no framing that is known."""
        self.says_events = says_events

    def read(self, chunk: bytes) -> list[sse.Event | sse.Series]:
        """Take the next bytes; see `Parser`."""
        if self.parser is not None:
            return self.parser.read(chunk)
        self.head += chunk
        if self.kind is None:
            self._pass_comments()
            self.kind = kind_of(bytes(self.head))
        if self.kind == "text":
            if self.says_events:
                # Fields of unknown names are allowed before the first event.
                self.parser = sse.Parser(strict=False)
                return self.parser.read(bytes(self.head))
            if len(self.head) > MAX_ERROR_BODY:
                raise sse.EventTooLargeError(MAX_ERROR_BODY)
            return []
        if self.kind is None:
            return []
        held = bytes(self.head)
        self.head.clear()
        self.parser = sse.Parser(strict=False) if self.kind == "events" else JsonParser()
        return self.parser.read(held)

    def end(self) -> list[sse.Event | sse.Series]:
        """End the body; see `Parser`."""
        if self.parser is not None:
            return self.parser.end()
        if self.head == b":":
            self.head.clear()
        return []

    def _pass_comments(self) -> None:
        """Drop the comments that the body begins with; of one that has not ended, the colon stays."""
        comments = _COMMENTS.match(self.head)
        if comments is not None and b":" in comments[0]:
            self.says_events = True
            self.head[:] = b":" if comments[1] else self.head[comments.end() :]


class JsonParser:
    """Reads a body that begins with JSON: one value, a value a line, or values with nothing between them.

    Events that follow a value are read as such: servers put `data: [DONE]` behind a whole answer. A value over several
    lines is read when the body ends. Time is linear; a value of more than MAX_BODY bytes raises sse.EventTooLargeError.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        # Up to where the held bytes have no line end.
        self._searched = 0
        # Whether a line is a value: None before the first line end.
        self._by_line: bool | None = None
        self._events: sse.Parser | None = None

    def read(self, chunk: bytes) -> list[sse.Event | sse.Series]:
        """Take the next bytes; see `Parser`."""
        if self._events is not None:
            return self._events.read(chunk)
        held = self._held
        held += chunk
        found: list[bytes] = []
        while self._by_line is not False:
            end = held.find(b"\n", self._searched)
            if end < 0:
                self._searched = len(held)
                break
            line = _bare(bytes(held[:end]))
            if line:
                if self._by_line is None:
                    self._by_line = _is_json(line)
                    continue
                if line[:1] not in (b"{", b"["):
                    return _series(found) + self._turn_to_events()
                found.append(line)
            del held[: end + 1]
            self._searched = 0
        if len(held) > MAX_BODY:
            raise sse.EventTooLargeError(MAX_BODY)
        return _series(found)

    def end(self) -> list[sse.Event | sse.Series]:
        """End the body; see `Parser`."""
        if self._events is not None:
            return self._events.end()
        rest = _bare(bytes(self._held))
        self._held.clear()
        if not rest or _is_json(rest):
            return _series([rest] if rest else [])
        found: list[bytes] = []
        text, at = rest.decode("utf-8", "replace"), 0
        while text.startswith(("{", "["), at):
            try:
                end = _scan(text, at)[1]
            except (ValueError, RecursionError):
                # The end of the body cut it, or it never was JSON.
                return _series([*found, text[at:].encode()])
            if len(found) >= _MOST_JOINED:
                raise sse.EventTooLargeError(MAX_BODY)
            if not found and end == len(text):
                # As it came: it is not valid UTF-8.
                return _series([rest])
            found.append(text[at:end].encode())
            at = _BLANK.match(text, end).end()  # type: ignore[union-attr]  # it matches nothing, too
        self._held += text[at:].encode()
        return _series(found) + self._turn_to_events() + self.end()

    def _turn_to_events(self) -> list[sse.Event | sse.Series]:
        self._events = sse.Parser(strict=False)
        held = bytes(self._held)
        self._held.clear()
        return self._events.read(held)


def values_in(data: bytes) -> list[bytes]:
    """Return the JSON values that stand in one event with nothing or line ends between them; what follows counts too.

    Servers leave out the blank line that ends an event.
    """
    parser = JsonParser()
    values: list[bytes] = []
    for one in parser.read(data) + parser.end():
        values += one.data if type(one) is sse.Series else [one.data]
    return values


def _series(values: list[bytes]) -> list[sse.Event | sse.Series]:
    return [sse.Series("message", values)] if values else []


def _bare(line: bytes) -> bytes:
    return line.strip(_SPACE).removeprefix(BOM_UTF8).lstrip(_SPACE)


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True
