"""Rows of a CSV or JSONL input, one at a time.

Law: reads, never writes; holds one row, whatever the size of the input. Everything wrong with an input is an
`InputError` that names the input, the line where there is one, what is wrong and what to do.
Bytes become text line by line, so that a bad byte has a line. UTF-8 with or without a mark; RFC 4180 quoting, strict,
because a lenient reader swallows the rest of the file behind one stray quote.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, Protocol

import msgspec

Format = Literal["csv", "jsonl"]

MAX_LINE = 16 * 2**20
"""Longest line that is read, in bytes."""

_decode = msgspec.json.Decoder().decode


class InputError(ValueError):
    """An input that cannot be used as it is."""

    def __init__(self, name: str, what: str, *, line: int | None = None) -> None:
        super().__init__(f"{name}: {what}" if line is None else f"{name}: line {line}: {what}")


class Lines(Protocol):
    """What rows are read from: a binary file, or a thing that looks on while one is read."""

    def readline(self, limit: int, /) -> bytes:
        """Return the next line with its end, at most `limit` bytes of it, b"" at the end."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the input; exactly one of `cells` and `raw` is set."""

    number: int
    """1 for the first row."""
    line: int
    """The line of the input on which it begins, 1 for the first."""
    fields: dict[str, Any]
    """Column -> value."""
    cells: list[str] | None = None
    """CSV: the values in the order of the header."""
    raw: bytes | None = None
    """JSONL: the object as it was written, so that writing it again loses nothing."""

    @property
    def custom_id(self) -> str:
        """Its name in the journal."""
        return f"row-{self.number}"


class Reader:
    """Iterates the rows of one input, once; `columns` is known with the first row."""

    def __init__(self, lines: Lines, format: Format, name: str) -> None:
        self.name = name
        self.format: Format = format
        self.columns: list[str] = []
        self._lines = lines

    def __iter__(self) -> Iterator[Row]:
        return self._csv() if self.format == "csv" else self._jsonl()

    def error(self, what: str, line: int | None = None) -> InputError:
        """Return the error that says `what` about this input."""
        return InputError(self.name, what, line=line)

    def _text(self) -> Iterator[str]:
        before = number = 0
        while raw := self._lines.readline(MAX_LINE + 1):
            number += 1
            if len(raw) > MAX_LINE:
                raise self.error(f"longer than {MAX_LINE} bytes; is this a CSV or JSONL file?", number)
            if number == 1:
                if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise self.error("UTF-16, not UTF-8; save it as UTF-8", 1)
                before = len(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else 0
                raw = raw[before:]
            if b"\0" in raw:
                raise self.error(
                    f"a NUL at byte {before + raw.index(0)}; is this a text file? Save it as UTF-8", number
                )
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                bad, at = raw[error.start], before + error.start
                raise self.error(f"not UTF-8: 0x{bad:02x} at byte {at}; save the file as UTF-8", number) from None
            before += len(raw)
            yield text

    def _csv(self) -> Iterator[Row]:
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
        text = self._text()
        head: list[str] = []
        for line in text:
            head.append(line)
            if line.strip():
                break
        table = csv.reader(chain(head, text), delimiter=_delimiter(head[-1] if head else ""), strict=True)
        number = begins = 0
        while True:
            begins = table.line_num + 1
            try:
                cells = next(table, None)
            except csv.Error as error:
                raise self.error(_advised(str(error)), begins) from None
            if cells is None:
                break
            if not cells:
                continue
            if not self.columns:
                self._header(cells, begins)
                continue
            number += 1
            missing = len(self.columns) - len(cells)
            if missing < 0:
                raise self.error(
                    f"{len(cells)} fields under a header of {len(self.columns)}; put quotes around a field that has a "
                    "comma in it",
                    begins,
                )
            if missing:
                cells += [""] * missing
            yield Row(number, begins, dict(zip(self.columns, cells, strict=True)), cells=cells)
        if not self.columns:
            raise self.error("empty; the first line must be a header that names the columns")
        if not number:
            raise self.error("a header and no rows; there is nothing to do")

    def _header(self, names: list[str], line: int) -> None:
        named = [name for name in names if name]
        if not named:
            raise self.error("no header; the first line must name the columns", line)
        for name in named:
            if named.count(name) > 1:
                raise self.error(f"two columns are named {name!r}; rename one", line)
        self.columns = names

    def _jsonl(self) -> Iterator[Row]:
        number = 0
        for line, text in enumerate(self._text(), 1):
            stripped = text.strip()
            if not stripped:
                continue
            try:
                value = _decode(stripped)
            except msgspec.DecodeError as error:
                said = str(error).removeprefix("JSON is malformed: ")
                raise self.error(f"not JSON: {said}; write one JSON object per line", line) from None
            if not isinstance(value, dict):
                raise self.error("not a JSON object; write one JSON object per line", line)
            number += 1
            if not self.columns:
                self.columns = list(value)
            yield Row(number, line, value, raw=stripped.encode())
        if not number:
            raise self.error("no rows; write one JSON object per line")


def _delimiter(header: str) -> str:
    """A header without commas that has tabs or semicolons in it is divided by those: spreadsheets write such files."""
    if "," not in header:
        for other in "\t;":
            if other in header:
                return other
    return ","


def _advised(said: str) -> str:
    if "unexpected end" in said:
        return "a quote is opened here and never closed; close it, or double it if it is part of the text"
    if "expected after" in said:
        return 'text after a closing quote; double a quote that is part of the text ("")'
    if "new-line" in said:
        return "a bare carriage return; save the file with ordinary line ends"
    return f"{said}; mend the line"
