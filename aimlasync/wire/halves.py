"""Characters that a server cuts in two: servers that count in UTF-16 end a piece of a text in the middle of one.

Half a surrogate pair is no text, so of each half alone nothing would be left but U+FFFD. It works on the bytes of JSON,
without I/O, and imports nothing of this library.
"""

from __future__ import annotations

import re
from collections import deque

# An escaped backslash, a pair, or half of one.
_ESCAPE = re.compile(rb"\\\\|\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|(\\u[dD][89a-fA-F][\da-fA-F]{2})")
# What most JSON has not.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def has_half(raw: bytes) -> bool:
    """Whether JSON has half a surrogate pair."""
    return _SURROGATE.search(raw) is not None and any(match[1] for match in _ESCAPE.finditer(raw))


class Halves:
    """The first halves of characters at the ends of the pieces so far. Mutable."""

    __slots__ = ("_first",)

    def __init__(self) -> None:
        self._first: deque[bytes] = deque()

    def mended(self, raw: bytes) -> bytes:
        """Return the JSON of a piece without halves: a second one gets its first, which an earlier piece ended with."""

        def whole(match: re.Match[bytes]) -> bytes:
            half = match[1]
            if half is None:
                return match[0]
            if half[3:4] in b"89abAB":
                if raw[match.end() : match.end() + 1] == b'"':
                    self._first.append(half)
                    return b""
            elif self._first and raw[match.start() - 1 : match.start()] == b'"':
                return self._first.popleft() + half
            return rb"\ufffd"

        return _ESCAPE.sub(whole, raw)
