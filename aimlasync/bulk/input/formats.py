"""Which format an input is in: what its name says, and what its first bytes say, which are right where they differ.

Pure. Imports `compression` and `rows`.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from aimlasync.bulk.input.compression import unpacked_path
from aimlasync.bulk.input.encoding import marked_encoding
from aimlasync.bulk.input.rows import Format, InputError

HEAD = 2**16
"""Bytes that are enough to tell a format."""

KNOWN = "neither .csv nor .tsv, .jsonl, .json, .parquet or .xlsx"
"""Of a name without an extension that says a format."""

_EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".xls": "xlsx",
}

# What rows cannot be read from, and what to do.
_REFUSED = (
    (b"\xd0\xcf\x11\xe0", "a workbook of an old Excel, or one with a password; save it as .xlsx without one"),
    (b"BZh", "packed with bzip2; unpack it first"),
    (b"\xfd7zXZ\0", "packed with xz; unpack it first"),
    (b"\x04\x22\x4d\x18", "packed with lz4; unpack it first"),
    # Below the packing that is unpacked here.
    (b"\x1f\x8b", "packed twice; unpack it once"),
    (b"\x28\xb5\x2f\xfd", "packed twice; unpack it once"),
    (b"version https://git-lfs.", "a pointer of Git LFS in the place of the file; get the file with: git lfs pull"),
    (b"7z\xbc\xaf", "packed with 7-Zip; unpack it first"),
    (b"%PDF", "a PDF; save its table as CSV"),
    (b"ARROW1", "an Arrow or Feather file; write it as Parquet"),
    (b"\xff\xff\xff\xff", "an Arrow stream, as datasets keeps them; write it as Parquet"),
    (b"Obj\x01", "an Avro file; write it as Parquet or JSONL"),
    (b"SQLite format 3\0", "a database; write a query's rows as CSV"),
)


def format_of_path(path: str) -> Format | None:
    """Return the format that the extension of `path` says, before .gz or .zst; None when it says none."""
    return _EXTENSIONS.get(os.path.splitext(unpacked_path(path))[1].lower())


def format_of_content(head: bytes, said: Format | None, name: str) -> Format | None:
    """Return the format of a file that begins with `head` and whose name says `said`; None when neither says one.

    Raises InputError about `name` for a file of another kind.
    """
    for magic, what in _REFUSED:
        if head.startswith(magic):
            raise InputError(name, what)
    if head[257:262] == b"ustar":
        raise InputError(name, "a tar archive; unpack it first")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04"):
        if b"opendocument" in head[:100]:
            raise InputError(name, "an OpenDocument file; save it as .xlsx or .csv")
        return "xlsx"
    encoding = marked_encoding(head)
    if encoding is not None:
        head = codecs.decode(head, encoding, "ignore").encode()
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text[:5].lower() in (b"<html", b"<!doc", b"<?xml", b"<tabl"):
        raise InputError(name, "HTML or XML; open it in a spreadsheet and save it as .xlsx or .csv")
    if text[:1] == b"[" and text[1:].lstrip()[:1] in (b"{", b"]", b""):
        return "json"
    if text[:1] == b"{":
        return _of_object(text, said, name)
    if said in ("parquet", "xlsx") and text and b"\0" not in head:
        return "csv"
    return said


def _of_object(text: bytes, said: Format | None, name: str) -> Format:
    line, end, _ = text.partition(b"\n")
    try:
        msgspec.json.decode(line)
    except (ValueError, RecursionError):
        if said in ("csv", "tsv") and (end or text[1:2] != b'"'):
            # A column may be named with a brace.
            return said
        if end and (not line[1:].strip() or said == "json"):
            what = "one JSON object over many lines; write a list of the rows, or one object per line"
            raise InputError(name, what) from None
    return "jsonl"


def why_one_row(fields: Mapping[str, Any]) -> str | None:
    """Return what a file's only object is when it holds many rows in another form, None for a row."""
    for name, value in fields.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            return f"one object, with a list of objects in {name!r}; write that list alone"
    values = list(fields.values())
    if all(isinstance(value, dict) for value in values):
        is_table = len(values) > 1 and len({frozenset(value) for value in values}) == 1
    else:
        is_table = all(isinstance(value, list) for value in values) and len({len(value) for value in values}) == 1
    # As pandas writes a frame unless it is told otherwise.
    whole = "one object with a whole table in it; write a list of rows (in pandas orient='records')"
    return whole if is_table else None
