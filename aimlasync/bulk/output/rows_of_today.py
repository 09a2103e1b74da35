"""Finds the record of a row of the input in a journal, also where the input has changed since the job ran.

A record is found by name where the input is the one that the manifest knows, else as another run of the job would find
it: by name and content, or for rows without ids of their own by content. Memory then is some 25 bytes a row. Imports
input, journal and the content of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.journal.index import Index
from aimlasync.bulk.journal.known_rows import NumberedRows, give
from aimlasync.bulk.journal.manifest import read_manifest
from aimlasync.bulk.journal.record import Record
from aimlasync.bulk.tasks.content import contents_of

Find = Callable[[Row], tuple[str, Record | None]]


def finder(
    index: Index, journal_path: str, source: Source, id_of: Callable[[Row], str], *, limit: int | None = None
) -> Find:
    """Return what gives the name of a row and its record, None where the journal has none of it."""
    found = read_manifest(f"{journal_path}.manifest") or {}
    job, facts = found.get("job") or {}, found.get("facts") or {}
    columns = facts.get("columns")

    def by_name(row: Row) -> tuple[str, Record | None]:
        name = id_of(row)
        return name, index.find(name)

    if not columns or "input" not in job or job["input"] == source.digest():
        return by_name
    content_of = contents_of(columns)

    def by_name_and_content(row: Row) -> tuple[str, Record | None]:
        name, record = by_name(row)
        return name, record if record is not None and _content(record) == content_of(row) else None

    if facts.get("named"):
        return by_name_and_content
    known = NumberedRows()
    for row in islice(source, limit):
        known.add(row.number, row.custom_id, content_of(row))
    give(known, ((record.custom_id, _content(record), record.error is None) for record in index.records()))

    def by_content(row: Row) -> tuple[str, Record | None]:
        name = known.answer_of(row.number)
        return row.custom_id, None if name is None else index.find(name)

    return by_content


def _content(record: Record) -> str:
    return "" if record.info is None else record.info.content or ""
