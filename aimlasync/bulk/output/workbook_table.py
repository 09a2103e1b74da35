"""An Excel workbook with one sheet, written a row at a time by openpyxl.

Text is text, whatever it begins with: nothing is a formula. Numbers that Excel would round are text too. Imports
input's `workbook` and `spool`, and `cells`.
"""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any, BinaryIO

import msgspec

from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.input.spool import filling, temporary_file
from aimlasync.bulk.input.workbook import openpyxl
from aimlasync.bulk.output.cells import text_of

MAX_ROWS = 2**20
"""Of a sheet."""
MAX_TEXT = 32_767
"""Characters of a cell."""
# Of a cell's number, which is written with 16 digits; a larger one is a text.
_MOST = 1.797693134862315e308

# What XML has no character for, the carriage return that it does not keep, and what reads like the escape of one.
_ESCAPED = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


class WorkbookTable:
    """Rows of a sheet, the first of them the headings."""

    def __init__(self, file: BinaryIO, headings: Sequence[str], *, has_header: bool, name: str) -> None:
        library = openpyxl(name)
        self._cell = library.cell.WriteOnlyCell
        self._file = file
        self._name = name
        self._book = library.Workbook(write_only=True)
        self._sheet = self._book.create_sheet("Sheet1")
        self._rows = 0
        if has_header:
            self._sheet.freeze_panes = "A2"
            self.write(headings)

    def write(self, values: Sequence[Any], /) -> None:
        """Add one row. Raises InputError for what no sheet holds."""
        self._rows += 1
        if self._rows > MAX_ROWS:
            raise InputError(self._name, f"more rows than a sheet holds ({MAX_ROWS:,}); write .csv or .parquet")
        cells = [self._value(value) for value in values]
        with filling():
            self._sheet.append(cells)

    def finish(self) -> None:
        """Write the file."""
        # A workbook is a ZIP archive, which goes back to what it has written; a pipe or a packed file cannot.
        with closing(self._saved()) as whole:
            shutil.copyfileobj(whole, self._file)

    def _saved(self) -> BinaryIO:
        with temporary_file() as whole:
            self._book.save(whole)
        return whole

    def abandon(self) -> None:
        """Remove the temporary file that the rows are in, which openpyxl does when it saves."""
        with suppress(Exception):
            self._book.save(io.BytesIO())

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if value is None or value is msgspec.UNSET or kind is bool:
            return None if value is msgspec.UNSET else value
        if (kind is int and abs(value) < 10**15) or (kind is float and abs(value) <= _MOST):
            return value
        text = _ESCAPED.sub(lambda found: f"_x{ord(found[0]):04X}_", text_of(value))
        if len(text) > MAX_TEXT:
            what = f"a value of {len(text):,} characters, and a cell holds {MAX_TEXT:,}; write .csv or .jsonl"
            raise InputError(self._name, what, line=self._rows)
        if text[:1] not in ("=", "#"):
            return text
        # openpyxl takes these for formulas and errors.
        cell = self._cell(self._sheet, text)
        cell.data_type = "s"
        return cell
