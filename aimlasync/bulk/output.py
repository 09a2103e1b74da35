"""Rows with their label, as CSV or JSONL.

Law: bytes out; knows nothing of how a label came about. A file appears whole or not at all.
A row without a label gets an empty one: null in JSONL, nothing in CSV.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import msgspec

from aimlasync.bulk.rows import Format, Row

_encode = msgspec.json.Encoder().encode


class Writer:
    """Writes rows in one format to a binary file."""

    def __init__(self, file: BinaryIO, format: Format, columns: Sequence[str], label_column: str) -> None:
        self._file = file
        self._format = format
        self._columns = list(columns)
        self._label_column = label_column
        self._key = _encode(label_column)
        self._buffer = io.StringIO()
        self._csv = csv.writer(self._buffer, lineterminator="\n")
        if format == "csv":
            self._write_cells([*self._columns, label_column])

    def write(self, row: Row, label: str | None) -> None:
        """Write one row."""
        if self._format == "csv":
            cells = row.cells or [_cell(row.fields.get(column)) for column in self._columns]
            self._write_cells([*cells, label or ""])
            return
        raw = _encode(row.fields) if row.raw is None else row.raw
        # Added to the text of the object: decoding and encoding again would lose its spacing and its long numbers.
        self._file.write(b"%b,%b:%b}\n" % (raw[:-1].rstrip(), self._key, _encode(label)))

    def _write_cells(self, cells: list[str]) -> None:
        self._csv.writerow(cells)
        # No lone surrogate can be here: the input was UTF-8, and JSON's are refused when it is read.
        self._file.write(self._buffer.getvalue().encode())
        self._buffer.seek(0)
        self._buffer.truncate()


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else _encode(value).decode()


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Give a file that takes the place of `path` when the block ends well, and is gone when it does not."""
    # Beside it, not in /tmp: a rename is only whole within one file system. A link stays a link.
    path = os.path.realpath(path)
    beside = f"{path}.{os.getpid()}.part"
    try:
        with open(beside, "wb") as file:
            yield file
        os.replace(beside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise
