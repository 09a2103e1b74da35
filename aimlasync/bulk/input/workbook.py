"""A sheet of an Excel workbook as lines of JSON, which are read like any others.

openpyxl is imported here, and only when a workbook is read or written. It reads a row at a time; the rows are written
into a temporary file once, because a job reads its input several times and a sheet is slow to read. The n-th line of
that file is the n-th row of the sheet, so that errors name the row that people see. Imports `dialect` and `rows`.
"""

from __future__ import annotations

import datetime
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, BinaryIO

import msgspec

from aimlasync.addresses import FULL
from aimlasync.bulk.input.dialect import distinct, plain_name
from aimlasync.bulk.input.rows import InputError, Reading
from aimlasync.bulk.input.spool import temporary_file

# Errors of formulas, which are no values.
_ERRORS = {"#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#DIV/0!", "#SPILL!", "#CALC!", "#GETTING_DATA"}
# Excel writes control characters, mostly carriage returns, like this.
_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")

_encode = msgspec.json.Encoder().encode


def openpyxl(name: str) -> Any:
    """Return openpyxl. Raises InputError about `name` when it is not installed."""
    try:
        import openpyxl
    except ImportError:
        raise InputError(name, "Excel needs openpyxl; install it with: pip install 'aimlasync[excel]'") from None
    return openpyxl


def sheet_lines(file: BinaryIO, name: str, reading: Reading) -> tuple[BinaryIO, list[str], list[str]]:
    """Write the rows of a sheet into a temporary file; return it, the columns, and their headings.

    Raises InputError.
    """
    with temporary_file() as lines, _sheet(file, name, reading.sheet) as sheet:
        columns, headings = _write_lines(_rows(sheet), lines, name, has_header=reading.header is not False)
    return lines, columns, headings


@contextmanager
def _sheet(file: BinaryIO, name: str, wanted: str | None) -> Iterator[Any]:
    library = openpyxl(name)
    import zipfile
    from xml.etree.ElementTree import ParseError

    try:
        with warnings.catch_warnings():
            # It warns of styles and validations that it does not know, which are none of the rows' business.
            warnings.simplefilter("ignore")
            with closing(library.load_workbook(file, read_only=True, data_only=True, keep_links=False)) as book:
                yield _chosen(book, name, wanted)
    except InputError:
        raise
    except (zipfile.BadZipFile, ParseError, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            # Of the file that its rows are written into.
            raise
        said = " ".join(str(error).split()).rstrip(".")
        if isinstance(error, KeyError) and "[Content_Types].xml" in said:
            raise InputError(
                name, "a ZIP archive and no workbook; unpack it first, or name zip://*.csv::file:///PATH"
            ) from None
        what = f"cannot be read as a workbook ({said or type(error).__name__}); save it again as .xlsx, or as CSV"
        raise InputError(name, what) from None


def _chosen(book: Any, name: str, wanted: str | None) -> Any:
    sheets = book.worksheets
    if wanted is not None:
        found = next((sheet for sheet in sheets if sheet.title == wanted), None)
        if found is None and wanted.isdecimal() and 0 < int(wanted) <= len(sheets):
            found = sheets[int(wanted) - 1]
        if found is None:
            there = ", ".join(sheet.title for sheet in sheets)
            raise InputError(name, f"no sheet {wanted!r}; there are: {there}")
        return found
    full = [sheet for sheet in sheets if sheet.sheet_state == "visible" and next(_full_rows(sheet), None) is not None]
    if len(full) > 1:
        there = ", ".join(sheet.title for sheet in full)
        raise InputError(name, f"{len(full)} sheets with rows; say which with --sheet: {there}")
    if not full:
        raise InputError(name, "no sheet with rows that is visible; there is nothing to do")
    return full[0]


def _rows(sheet: Any) -> Iterator[list[Any]]:
    # What a file says of the size of a sheet is often wrong.
    sheet.reset_dimensions()
    for row in sheet.iter_rows(values_only=True):
        yield [_plain(value) for value in row]


def _full_rows(sheet: Any) -> Iterator[list[Any]]:
    return (row for row in _rows(sheet) if any(value is not None for value in row))


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        if value[:1] == "#" and value in _ERRORS:
            return None
        return _ESCAPED.sub(_unescaped, value) if "_x" in value else value or None
    if kind is float:
        # Large whole numbers are written as 1E+15.
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if value is None or kind is int or kind is bool:
        return value
    if kind is datetime.datetime and value.time() == datetime.time():
        # A date and a midnight look the same in the file.
        return value.date().isoformat()
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else str(value)


def _unescaped(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return found[0] if 0xD800 <= code < 0xE000 or not code else chr(code)


def _write_lines(
    rows: Iterator[list[Any]], out: BinaryIO, name: str, *, has_header: bool
) -> tuple[list[str], list[str]]:
    columns: list[str] = []
    headings: list[str] = []
    count = 0
    for line, row in enumerate(rows, 1):
        while row and row[-1] is None:
            row.pop()
        if not row:
            out.write(b"\n")
            continue
        if not columns:
            columns, headings = _names(row) if has_header else _numbers(row)
            if has_header:
                out.write(b"\n")
                continue
        if len(row) > len(columns):
            place = f"{_letters(len(row))}{line}"
            what = f"a value in {place}, right of the last column that the first row names; name that column, or"
            raise InputError(name, f"{what} remove what is above or beside the table", line=line)
        row += [None] * (len(columns) - len(row))
        out.write(_encode(dict(zip(columns, row, strict=True))) + b"\n")
        count += 1
    if not count:
        raise InputError(name, "a header and no rows; there is nothing to do")
    return columns, headings


def _names(row: Sequence[Any]) -> tuple[list[str], list[str]]:
    headings = ["" if value is None else value if isinstance(value, str) else _encode(value).decode() for value in row]
    # A column without a name is called as Excel calls it.
    return distinct([plain_name(text) or _letters(at) for at, text in enumerate(headings, 1)]), headings


def _numbers(row: Sequence[Any]) -> tuple[list[str], list[str]]:
    names = [str(number) for number in range(1, len(row) + 1)]
    return names, names


def _letters(number: int) -> str:
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
