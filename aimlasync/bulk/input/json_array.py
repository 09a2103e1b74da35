"""The items of a JSON array, one at a time, whatever the size of the array; and texts that Python's json wrote.

Pure functions. The standard decoder finds where an item ends; memory is one item and the block that it ends in. It
imports the standard library alone.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator

# Bytes that are asked for at once, more of them while an item is longer.
_BLOCK = 2**16
_SPACE = " \t\r\n"

# A pair of surrogates, half of one, and any other escape.
_ESCAPES = re.compile(rb"\\(?:(u[dD][89abAB]..\\u[dD][c-fC-F]..)|(u[dD][89a-fA-F]..)|.)", re.DOTALL)

_scan = json.JSONDecoder().raw_decode


def whole_pairs(text: bytes) -> bytes:
    """Return JSON with U+FFFD for each half of a surrogate pair, which a cut text has and no request can have."""
    return _ESCAPES.sub(lambda escape: b"\\ufffd" if escape[2] else escape[0], text)


def array_items(
    readline: Callable[[int], bytes], error: Callable[[str, int], Exception], max_size: int
) -> Iterator[tuple[int, bytes]]:
    """Give the line on which each item begins, and the item as it is written, in UTF-8.

    Raises `error` of what is wrong and its line, also for an item of more than `max_size` characters.
    """
    text = _Text(readline, error)
    if text.next_character() != "[":
        raise error("not a list; write a list of JSON objects, or one object per line", text.line)
    text.skip(1)
    character = text.next_character()
    while character != "]":
        line, item = text.line, text.item(max_size)
        yield line, item.encode()
        character = text.next_character()
        if character == ",":
            text.skip(1)
            text.next_character()
        elif character != "]":
            what = "the file ends within the list; is it whole?" if not character else "no comma between two objects"
            raise error(f"not JSON: {what}", text.line)
    text.skip(1)
    if text.next_character():
        raise error("more than one list; write one list, or one JSON object per line", text.line)


class _Text:
    """The decoded text of a file, read as far as it is needed."""

    def __init__(self, readline: Callable[[int], bytes], error: Callable[[str, int], Exception]) -> None:
        self._readline = readline
        self._error = error
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._text = ""
        self._at = 0
        self._before = 0
        self._is_whole = False
        self.line = 1

    def next_character(self) -> str:
        """Go to the next character that is no white space, and return it; "" at the end."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in _SPACE:
                at += 1
            self.skip(at - self._at)
            if at < len(text):
                return text[at]
            if not self._read(_BLOCK):
                return ""

    def skip(self, count: int) -> None:
        """Go on by so many characters."""
        self.line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def item(self, max_size: int) -> str:
        """Return the next item as it is written, and go on behind it."""
        while True:
            try:
                end = _scan(self._text, self._at)[1]
            except json.JSONDecodeError as error:
                found, what, where = None, error.msg, error.pos
            except RecursionError:
                raise self._error("not JSON: nested too deeply", self.line) from None
            else:
                # A number goes on in the next block, where one ends with it.
                found, what, where = end, "", 0
            size = len(self._text) - self._at
            if found is not None and (found < len(self._text) or self._is_whole):
                if found - self._at > max_size:
                    raise self._error(f"longer than {max_size} characters; is this a list of rows?", self.line)
                item = self._text[self._at : found]
                self.skip(found - self._at)
                return item
            # An item that does not end here may end in the next block; asking for as much again bounds the attempts.
            if size > max_size:
                raise self._error(f"longer than {max_size} characters, or not JSON: {what}", self.line)
            if not self._read(max(_BLOCK, size)) and found is None:
                line = self.line + self._text.count("\n", self._at, where)
                raise self._error(f"not JSON: {what[:1].lower()}{what[1:]}; is the file whole?", line)

    def _read(self, size: int) -> bool:
        """Read about `size` more bytes; return whether there were any."""
        blocks: list[str] = []
        while size > 0 and not self._is_whole:
            block = self._readline(_BLOCK)
            self._is_whole = not block
            try:
                blocks.append(self._decode(block, self._is_whole))
            except UnicodeDecodeError as error:
                place = self._before + len(block) - len(error.object) + error.start
                line = self.line + self._text.count("\n", self._at) + sum(text.count("\n") for text in blocks)
                line += error.object.count(b"\n", 0, error.start)
                what = f"not UTF-8: 0x{error.object[error.start]:02x} at byte {place}; save the file as UTF-8, or say"
                raise self._error(f"{what} how it is encoded, as in --encoding cp1252", line) from None
            self._before += len(block)
            size -= len(block)
        self._text, self._at = self._text[self._at :] + "".join(blocks), 0
        if self._before and self._text.startswith("\ufeff"):
            self._text = self._text[1:]
        return bool(blocks) and not (self._is_whole and not any(blocks))
