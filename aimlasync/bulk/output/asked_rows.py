"""The rows that the job of a journal asked about, and their names: its input, opened as the job read it.

Imports input, journal, the ids of tasks, and `result_rows`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from aimlasync.addresses import is_address
from aimlasync.bulk.input.many import open_files
from aimlasync.bulk.input.rows import AS_FOUND, InputError, Reading, Row
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.journal.manifest import facts_of, job_of
from aimlasync.bulk.output.result_rows import results_as_rows
from aimlasync.bulk.tasks.request import RequestError, is_request_line, line_id
from aimlasync.bulk.tasks.tasks import id_of

Rows = str | os.PathLike[str] | Sequence[str]
"""A file of rows by its path or address, a directory, a pattern, or several names: what the input of a job may be."""


def rows_of(journal: str, input: Rows | None = None, reading: Reading = AS_FOUND) -> Source:
    """Return the rows of a file, by default of the one that the job of a journal read. Raises InputError and OSError.

    Where nothing is said of the job's own file, it is read as the job was told: its sheet, encoding and delimiter.
    """
    if input is None:
        input = _input_of(journal)
    names = [os.fspath(input)] if isinstance(input, str | os.PathLike) else input
    if hasattr(names, "columns") or not all(isinstance(name, str) for name in names):
        # Rows of a program, or the names of a frame's columns.
        raise TypeError(
            f"the rows that were asked about come as a file, or as several, not as a {type(input).__name__}"
        )
    if reading == AS_FOUND:
        facts = facts_of(journal) or {}
        if "reading" in facts and isinstance(facts.get("input"), str) and _is_input(names, facts["input"]):
            with suppress(msgspec.ValidationError):
                reading = msgspec.convert(facts["reading"], Reading)
    return results_as_rows(open_files(names, reading=reading))


def names_of(journal: str, id: str | None, name: str) -> Callable[[Row], str]:
    """Return what gives the custom_id of a row of the input `name`: by a column, by default the job's."""
    column = job_of(journal).get("id") if id is None else id
    return (lambda row: id_of(row, column, name)) if isinstance(column, str) else _default_id


def _default_id(row: Row) -> str:
    """Return the custom_id that a row brings with it as a request, else its own."""
    name = None
    if is_request_line(row.fields):
        with suppress(RequestError):
            name = line_id(row.fields)
    return row.custom_id if name is None else name


def _is_input(names: Sequence[str], other: str) -> bool:
    try:
        return len(names) == 1 and (names[0] == other or os.path.samefile(names[0], other))
    except OSError:
        return False


def _input_of(journal: str) -> str:
    """Return the file that the job of a journal read. Raises InputError where that is no file here, nor an address."""
    name = (facts_of(journal) or {}).get("input")
    if not isinstance(name, str) or not (is_address(name) or os.path.isfile(name)):
        there = f"the rows were read from {name}, which is not there" if name else "it does not say where its rows are"
        raise InputError(journal, f"{there}; name their file with --input")
    return name
