"""Rows of a CSV or JSONL input, one at a time.

Reads and never writes; memory is one row and the block that it came in, whatever the size of the input. Everything
wrong with an input is an `InputError` that names the input, the line where there is one, what is wrong and what to do.
A block is decoded at once, and again line by line where something is wrong in it, so that a bad byte has a line. Input
is UTF-8 with or without a byte order mark; CSV is RFC 4180 with strict quoting, because a lenient reader takes the
rest of the file behind one stray quote for one field. Imports msgspec alone.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator
from io import BytesIO, StringIO
from itertools import chain, islice
from typing import Any, Literal, Protocol

import msgspec

Format = Literal["csv", "jsonl", "parquet"]

MAX_LINE = 16 * 2**20
"""Longest line that is read, in bytes."""

_decode = msgspec.json.Decoder().decode


class InputError(ValueError):
    """An input that cannot be used as it is."""

    def __init__(self, name: str, what: str, *, line: int | None = None) -> None:
        super().__init__(f"{name}: {what}" if line is None else f"{name}: line {line}: {what}")
        self.name = name
        self.what = what


class Lines(Protocol):
    """What rows are read from: a binary file, or a thing that reads one in larger pieces."""

    def readline(self, limit: int, /) -> bytes:
        """Return the next line with its end, or several whole lines; at most `limit` bytes of the last; b"" at the end.

        A pipe gives one line, so that a line does not wait for the next one.
        """


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row of the input."""

    number: int
    """1 for the first row."""
    line: int
    """The line of the input on which it begins, 1 for the first; in Parquet, which has no lines, its number."""
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
        # Bytes and lines before the block that is being read.
        self._before = self._above = 0

    def __iter__(self) -> Iterator[Row]:
        return self._csv() if self.format == "csv" else self._jsonl()

    def error(self, what: str, line: int | None = None) -> InputError:
        """Return the error that says `what` about this input."""
        return InputError(self.name, what, line=line)

    def _blocks(self) -> Iterator[bytes]:
        # The limit includes the mark, so that a line of the greatest length is whole once the mark is removed.
        block = self._lines.readline(MAX_LINE + 1 + len(codecs.BOM_UTF8))
        if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise self.error("UTF-16, not UTF-8; save it as UTF-8", 1)
        if block.startswith(codecs.BOM_UTF8):
            self._before = len(codecs.BOM_UTF8)
            block = block[self._before :]
        while block:
            yield block
            self._before += len(block)
            self._above += block.count(b"\n")
            block = self._lines.readline(MAX_LINE + 1)

    def _text(self, raw: bytes, line: int, block: bytes) -> str:
        """Return one line of the block as text. Raises InputError for what makes it none."""
        if len(raw) > MAX_LINE:
            raise self.error(f"longer than {MAX_LINE} bytes; is this a CSV or JSONL file?", line)
        bad, what = raw.find(0), "a NUL at byte {}; is this a text file? Save it as UTF-8"
        if bad < 0:
            try:
                return raw.decode()
            except UnicodeDecodeError as error:
                bad, what = error.start, f"not UTF-8: 0x{raw[error.start]:02x} at byte {{}}; save the file as UTF-8"
        before = sum(map(len, islice(BytesIO(block), line - self._above - 1)))
        raise self.error(what.format(self._before + before + bad), line)

    def _texts(self) -> Iterator[Iterable[str]]:
        for block in self._blocks():
            try:
                text = block.decode()
            except UnicodeDecodeError:
                text = "\0"
            if "\0" in text or len(block) > MAX_LINE:
                yield (self._text(raw, line, block) for line, raw in enumerate(BytesIO(block), self._above + 1))
            else:
                yield StringIO(text)

    def _csv(self) -> Iterator[Row]:
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
        text = chain.from_iterable(self._texts())
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
            yield Row(number, begins, dict(zip(self.columns, cells)), cells)  # noqa: B905  # as long, and faster
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
        for block in self._blocks():
            for line, raw in enumerate(BytesIO(block), self._above + 1):
                stripped = raw.strip()
                if not stripped:
                    continue
                try:
                    value = _decode(stripped)
                except (ValueError, RecursionError):
                    # The line is bad, or has white space around it that is not ASCII, or the byte order mark of a file
                    # that was appended to another.
                    stripped = self._text(raw, line, block).strip().removeprefix("\ufeff").strip().encode()
                    if not stripped:
                        continue
                    value = self._json(stripped, line)
                if type(value) is not dict:
                    raise self.error("not a JSON object; write one JSON object per line", line)
                if len(raw) > MAX_LINE:
                    self._text(raw, line, block)
                number += 1
                if number == 1:
                    self.columns = list(value)
                yield Row(number, line, value, None, stripped)
        if not number:
            raise self.error("no rows; write one JSON object per line")

    def _json(self, text: bytes, line: int) -> Any:
        try:
            return _decode(text)
        except (ValueError, RecursionError) as error:
            said = str(error).removeprefix("JSON is malformed: ")
            raise self.error(f"not JSON: {said}; write one JSON object per line", line) from None


def _delimiter(header: str) -> str:
    """Return what divides the columns: tabs or semicolons in a header without commas, as spreadsheets write them."""
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
