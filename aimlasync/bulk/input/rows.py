"""Rows of a text input, one at a time: CSV and its like, JSONL, or a JSON array.

Reads and never writes; memory is one row and the block that it came in, whatever the size of the input. Everything
wrong with an input is an `InputError` that names the input, the line where there is one, what is wrong and what to do.
What is read at once is read again line by line where something is wrong in it, so that a bad byte has a line. Input is
UTF-8 with or without a byte order mark (`encoding` makes it so); CSV is RFC 4180 with strict quoting, because a
lenient reader takes the rest of the file behind one stray quote for one field. Imports `dialect` and `json_array`.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO, StringIO
from itertools import chain, count, islice, repeat
from typing import Any, Literal, Protocol, cast

import msgspec

from aimlasync.bulk.input.dialect import Dialect, advised, named_by, open_table, why_too_many
from aimlasync.bulk.input.json_array import array_items, whole_pairs

Format = Literal["csv", "tsv", "jsonl", "json", "parquet", "xlsx"]

MAX_LINE = 16 * 2**20
"""Longest line that is read, in bytes."""

# Lines that are decoded at once.
_AT_ONCE = 64

# Python's json module writes these.
_NO_JSON = re.compile(rb"[:\[,]\s*-?(?:NaN|Infinity)\b")

_decode = msgspec.json.Decoder().decode

_ENCODING = "save the file as UTF-8, or say how it is encoded, as in --encoding cp1252"


class InputError(ValueError):
    """An input that cannot be used as it is."""

    def __init__(self, name: str, what: str, *, line: int | None = None) -> None:
        super().__init__(f"{name}: {what}" if line is None else f"{name}: line {line}: {what}")
        self.name = name
        self.what = what
        self.line = line


class NoRowsError(InputError):
    """An input without rows."""


class Reading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the caller says about an input that its content does not say; None leaves it to the content."""

    encoding: str | None = None
    """Of text, by Python's name for it; None is UTF-8, and UTF-16 with a byte order mark."""
    delimiter: str | None = None
    """Of CSV."""
    header: bool | None = None
    """Whether the first line of a table names its columns; without one they are named 1, 2, 3."""
    sheet: str | None = None
    """Of a workbook: the name of a sheet, or its number from 1."""


AS_FOUND = Reading()
"""Nothing is said."""


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
    """The line of the input on which it begins, 1 for the first; of a sheet its row; of Parquet its number."""
    fields: dict[str, Any]
    """Column -> value."""
    cells: list[str] | None = None
    """CSV: the values in the order of the header."""
    raw: Any = None
    """The row as it was written, so that writing it again loses nothing: of JSON the bytes, of Parquet its values."""
    file: str | None = None
    """The file that it is from, where an input is several."""

    @property
    def custom_id(self) -> str:
        """Its name in the journal."""
        return numbered_id(self.number)


def numbered_id(number: int) -> str:
    """Return the name of the row of this number, where rows have no names of their own."""
    return f"row-{number}"


Wanted = Callable[[int], bool]
"""Whether the row of this number is to be read."""

Skim = Callable[[bytes, int], int | None]
"""Checks all lines of a block of JSONL at once, given how many lines are above it, and returns how many rows they are.

None where a line is not written as usual: then the rows of the block are read and checked one by one.
"""


class Reader:
    """Iterates one input's rows, once; `columns`, `headings` (CSV's) and `dialect` are known with the first row."""

    def __init__(
        self, lines: Lines, format: Format, name: str, reading: Reading = AS_FOUND, *, first: int = 1, file: str = ""
    ) -> None:
        self.name, self._file = name, file or None
        self.format: Format = format
        self.columns: list[str] = []
        self.headings: list[str] = []
        self.dialect = Dialect(has_mark=reading.encoding is not None)
        self._lines = lines
        self._reading = reading
        # The number of the row before the first one, and of JSONL that of the row before the block that is being read.
        self._first = self._number = first - 1
        # Bytes and lines before the block that is being read; and lines up to its end, once they were numbered.
        self._before = self._above = self._below = 0
        # Of a table: the lines that were read, and what is left of the block that is being read.
        self._line = 0
        self._rest: Iterable[str] = ()

    def __iter__(self) -> Iterator[Row]:
        if self.format == "jsonl":
            return cast(Iterator[Row], self._jsonl(None))
        return self._json() if self.format == "json" else chain.from_iterable(self._table())

    def chosen(self, wanted: Wanted) -> Iterator[Row | int]:
        """Iterate the rows, with its number in the place of each that is not wanted; such JSON lines are not decoded.

        So nobody learns of one that is bad: whoever leaves out rows has checked them all before.
        """
        if self.format == "jsonl":
            return self._jsonl(wanted)
        return (row if wanted(row.number) else row.number for row in self)

    def error(self, what: str, line: int | None = None) -> InputError:
        """Return the error that says `what` about this input."""
        return InputError(self.name, what, line=line)

    def _blocks(self) -> Iterator[bytes]:
        # The limit includes the mark, so that a line of the greatest length is whole once the mark is removed.
        block = self._lines.readline(MAX_LINE + 1 + len(codecs.BOM_UTF8))
        if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise self.error("UTF-16, not UTF-8; save it as UTF-8, or say --encoding utf-16", 1)
        if block.startswith(codecs.BOM_UTF8):
            self.dialect = msgspec.structs.replace(self.dialect, has_mark=True)
            self._before = len(codecs.BOM_UTF8)
            block = block[self._before :]
        while block:
            self._below = 0
            yield block
            self._before += len(block)
            # Counting takes a tenth of the time of reading.
            self._above = self._below or self._above + block.count(b"\n")
            block = self._lines.readline(MAX_LINE + 1)

    def _text(self, raw: bytes, line: int, block: bytes) -> str:
        """Return one line of the block as text. Raises InputError for what makes it none."""
        if len(raw) > MAX_LINE:
            raise self.error(f"longer than {MAX_LINE} bytes; is this a CSV or JSONL file?", line)
        bad, what = raw.find(0), "a NUL at byte {}; is this a text file? Save it as UTF-8, or say its --encoding"
        if bad < 0:
            try:
                return raw.decode()
            except UnicodeDecodeError as error:
                bad, what = error.start, f"not UTF-8: 0x{raw[error.start]:02x} at byte {{}}; {_ENCODING}"
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

    def _text_lines(self) -> Iterator[str]:
        for lines in self._texts():
            self._rest = lines
            yield from lines

    def _table(self) -> Iterator[Iterable[Row]]:
        """Give the rows of a table, those of some lines at a time: in a map where each line is a row with all cells."""
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
        text, first = self._text_lines(), self._number
        said, usual = self._reading, "\t" if self.format == "tsv" else None
        dialect, self._line, lines = open_table(text, said.delimiter, usual, header=said.header)
        self.dialect = msgspec.structs.replace(dialect, has_mark=self.dialect.has_mark)
        # One of these names the columns.
        yield self._rows_one_by_one(chain(lines, text), len(lines))
        while lines := self._some_lines() or list(islice(text, 1)):
            if (rows := self._whole_rows(lines)) is None:
                # Where a row has several lines, or cells too few, more will.
                yield self._rows_one_by_one(chain(lines, text))
                break
            yield rows
        if not self.columns:
            raise NoRowsError(self.name, "empty; the first line must be a header that names the columns")
        if self._number == first:
            raise NoRowsError(self.name, "a header and no rows; there is nothing to do")

    def _some_lines(self) -> list[str]:
        """Return lines of the block that is being read, none of one in which something is wrong."""
        return list(islice(self._rest, _AT_ONCE)) if type(self._rest) is StringIO else []

    def _cells(self, lines: Iterable[str]) -> Any:
        dialect = self.dialect
        return csv.reader(lines, delimiter=dialect.delimiter, skipinitialspace=bool(dialect.pad), strict=True)

    def _whole_rows(self, lines: list[str]) -> map[Row] | None:
        number, above = self._number, self._line
        try:
            some = list(self._cells(lines))
        except csv.Error:
            return None
        if len(some) != len(lines) or {*map(len, some)} != {len(self.columns)}:
            return None
        self._number, self._line = number + len(some), above + len(some)
        fields = map(dict, map(zip, repeat(self.columns), some))
        return map(Row, count(number + 1), count(above + 1), fields, some, repeat(None), repeat(self._file))

    def _rows_one_by_one(self, lines: Iterable[str], stop: float = float("inf")) -> Iterator[Row]:
        """Give the rows that begin in the first `stop` lines."""
        table, above, number, dialect = self._cells(lines), self._line, self._number, self.dialect
        while table.line_num < stop:
            begins = above + table.line_num + 1
            try:
                cells = next(table, None)
            except csv.Error as error:
                raise self.error(advised(str(error)), begins) from None
            if cells is None:
                break
            if not cells or (len(cells) == 1 and len(self.columns) != 1 and not cells[0].strip()):
                continue  # A blank line.
            if not self.columns:
                self.columns, self.headings = named_by(cells, dialect)
                if not any(self.columns):
                    raise self.error("no header; the first line must name the columns, or say --no-header", begins)
                if dialect.has_header:
                    continue
            number += 1
            if (missing := len(self.columns) - len(cells)) < 0:
                raise self.error(why_too_many(len(cells), len(self.columns), dialect), begins)
            cells += [""] * missing
            yield Row(number, begins, dict(zip(self.columns, cells)), cells, None, self._file)  # noqa: B905  # as long
        self._line, self._number = above + table.line_num, number

    def check_jsonl(self, check: Callable[[Row], object], skim: Skim) -> int:
        """Check all rows of JSONL, and return the number of the last. Raises InputError."""
        for block in self._blocks():
            found = None if len(block) > MAX_LINE else skim(block, self._above)
            if found is None:
                for row in chain.from_iterable(self._rows_of(block, None)):
                    check(cast(Row, row))
            else:
                self._number, self._below = self._number + found, self._above + found
        self._must_have_rows()
        return self._number

    def check_table(self, check: Callable[[Row], object]) -> int:
        """Check the rows of a table, and of those with all cells the first alone; return the number of the last."""
        is_checked = False
        for rows in self._table():
            for row in islice(rows, int(not is_checked)) if type(rows) is map else rows:
                check(row)
                is_checked = True
        return self._number

    def _jsonl(self, wanted: Wanted | None) -> Iterator[Row | int]:
        # The chain takes no time of its own, as a generator around the rows of some lines would.
        return chain.from_iterable(self._some_rows(wanted))

    def _some_rows(self, wanted: Wanted | None) -> Iterator[Iterable[Row | int]]:
        for block in self._blocks():
            yield from self._rows_of(block, wanted)
        self._must_have_rows()

    def _must_have_rows(self) -> None:
        if self._number == self._first:
            raise NoRowsError(self.name, "no rows; write one JSON object per line")

    def _rows_of(self, block: bytes, wanted: Wanted | None) -> Iterator[Iterable[Row | int]]:
        lines, line = BytesIO(block), self._above
        takes_all = wanted is None and len(block) <= MAX_LINE
        while some := list(islice(lines, _AT_ONCE)):
            rows = self._objects(some, line) if takes_all else None
            yield self._rows_in(some, line, block, wanted) if rows is None else rows
            line += len(some)
        self._below = line

    def _objects(self, lines: list[bytes], above: int) -> Iterator[Row] | None:
        """Return the rows of lines that are all JSON objects; None where a line has to be looked at."""
        try:
            values = list(map(_decode, lines))
        except (ValueError, RecursionError):
            return None
        if {*map(type, values)} != {dict}:
            return None
        number = self._number
        if number == self._first:
            self.columns = list(values[0])
        self._number = number + len(values)
        # No step of it is Python's.
        return map(
            Row, count(number + 1), count(above + 1), values, repeat(None), map(bytes.strip, lines), repeat(self._file)
        )

    def _rows_in(self, lines: list[bytes], above: int, block: bytes, wanted: Wanted | None) -> Iterator[Row | int]:
        first, number = self._first, self._number
        for line, raw in enumerate(lines, above + 1):
            is_wanted = wanted is None or wanted(number + 1)
            # The first row names the columns. A line that does not begin so may be blank.
            if not is_wanted and number != first and raw.startswith(b"{"):
                number += 1
                yield number
                continue
            stripped = raw.strip()
            try:
                value = _decode(stripped)
            except (ValueError, RecursionError):
                # The line is blank or bad, or has white space around it that is not ASCII, or the byte order mark of a
                # file that was appended to another.
                stripped = self._text(raw, line, block).strip().removeprefix("\ufeff").strip().encode()
                if not stripped:
                    continue
                value, stripped = self._value(stripped, line, "write one JSON object per line")
            if type(value) is not dict:
                raise self.error("not a JSON object; write one JSON object per line", line)
            if len(raw) > MAX_LINE:
                self._text(raw, line, block)
            if number == first:
                self.columns = list(value)
            number += 1
            yield Row(number, line, value, None, stripped, self._file) if is_wanted else number
        self._number = number

    def _json(self) -> Iterator[Row]:
        first = number = self._number
        for line, raw in array_items(self._lines.readline, self.error, MAX_LINE):
            value, raw = self._value(raw, line, "write a list of JSON objects")
            if type(value) is not dict:
                raise self.error("not a JSON object; write a list of JSON objects", line)
            if b"\n" in raw or b"\r" in raw:
                raw = msgspec.json.format(raw, indent=-1)
            number += 1
            if number == first + 1:
                self.columns = list(value)
            yield Row(number, line, value, None, raw, self._file)
        if number == first:
            raise NoRowsError(self.name, "an empty list; there is nothing to do")

    def _value(self, text: bytes, line: int, advice: str) -> tuple[Any, bytes]:
        """Return what a text is, and the text, without halves of surrogate pairs. Raises InputError."""
        try:
            return _decode(text), text
        except (ValueError, RecursionError) as error:
            if (mended := whole_pairs(text)) != text:
                return self._value(mended, line, advice)
            said = str(error).removeprefix("JSON is malformed: ")
            if _NO_JSON.search(text):
                advice = "NaN and Infinity are none; write null"
            raise self.error(f"not JSON: {said}; {advice}", line) from None


def checked(rows: Iterable[Row | int], check: Callable[[Row], object], limit: int | None) -> int:
    """Check the rows up to `limit`, and return the number of the last of them, be it left out; 0 without any."""
    number = 0
    for row in rows if limit != 0 else ():
        if isinstance(row, int):
            number = row if limit is None else min(row, limit)
        elif limit is not None and row.number > limit:
            return limit
        else:
            check(row)
            number = row.number
        if number == limit:
            break
    return number
