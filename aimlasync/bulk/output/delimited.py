"""A delimited table: CSV and TSV, in the dialect of the input, and safe for spreadsheets where that is asked for.

RFC 4180 but for what the dialect says. Imports `input.dialect` and `cells`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Any, BinaryIO

from msgspec.structs import replace

from aimlasync.bulk.input.dialect import Dialect
from aimlasync.bulk.output.cells import text_of

# What a spreadsheet takes for a formula, also in wide forms. Source: OWASP, "CSV Injection".
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?%?")


class DelimitedTable:
    """Writes rows; with `safe` a text that a spreadsheet would take for a formula begins with an apostrophe."""

    # The csv module's writer is slower, and before Python 3.13 puts no quotes around a lone carriage return.

    def __init__(self, file: BinaryIO, headings: Sequence[str], dialect: Dialect, *, safe: bool) -> None:
        self._write = file.write
        self._between = dialect.delimiter + dialect.pad
        self._line_end = dialect.line_end
        self._safe = safe
        special = f'{re.escape(dialect.delimiter)}"\\n\\r\\0'
        # Behind a padded delimiter blanks are no part of a value, so one that begins with them has quotes.
        self._needs_quotes = re.compile(f"^ |[{special}]" if dialect.pad else f"[{special}]").search
        if dialect.has_mark:
            self._write(codecs.BOM_UTF8)
        if dialect.sep_line:
            self._write(f"sep={dialect.delimiter}{dialect.line_end}".encode())
        if dialect.has_header:
            self.write(headings)

    def write(self, values: Sequence[Any], /) -> None:
        """Add one row."""
        line = self._between.join([self._cell(value if type(value) is str else text_of(value)) for value in values])
        # A single empty field has quotes, or the line would be blank. No lone surrogate can be here: the input was
        # UTF-8, and JSON's are refused when it is read.
        self._write(((line or '""') + self._line_end).encode())

    def _cell(self, text: str) -> str:
        if self._safe:
            text = safe_text(text)
        if not self._needs_quotes(text):
            return text
        # CSV cannot say a NUL: a reader takes a file that has one for no text, or ends the value there.
        return '"' + text.replace('"', '""').replace("\0", "\ufffd") + '"'


def safe_text(text: str) -> str:
    """Return a text that no spreadsheet runs: with an apostrophe before what reads like a formula and is no number."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def dialect_for(format: str, source_format: str | None, found: Dialect, *, excel: bool) -> Dialect:
    """Return how a .csv or .tsv is written: as the input, which was `found` to be written so, where that is one."""
    if source_format not in ("csv", "tsv"):
        # A table without a header has none in another format either.
        found = Dialect(has_header=found.has_header)
    if format == "tsv":
        found = replace(found, delimiter="\t", pad="", sep_line=False)
    elif source_format == "tsv":
        found = replace(found, delimiter=",")
    return replace(found, has_mark=True) if excel else found
