"""`evaluate`: how well the labels in a journal agree with gold ones.

Reads a journal and the rows that were asked about, or gold labels that a program has. Imports input, journal and the
way from a row to its record.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

import msgspec

from aimlasync.addresses import is_address
from aimlasync.bulk.input.many import open_files
from aimlasync.bulk.input.rows import AS_FOUND, InputError, Reading, Row
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.journal.index import Index
from aimlasync.bulk.journal.manifest import facts_of, job_of
from aimlasync.bulk.output.export import default_id, id_column
from aimlasync.bulk.output.gold import gold_of
from aimlasync.bulk.output.result_rows import results_as_rows
from aimlasync.bulk.output.rows_of_today import finder
from aimlasync.bulk.progress.quality import Quality, quality_of_job
from aimlasync.bulk.tasks.tasks import id_of


def evaluate(
    journal: str | os.PathLike[str],
    gold: str | Mapping[str, Any],
    *,
    input: str | os.PathLike[str] | Source | None = None,
    id: str | None = None,
) -> Quality:
    """Return how well the labels in a journal agree with gold ones; rows whose gold label is blank are not judged.

    `gold` is a column of `input`, a file of the rows that were asked about (by default the one that the job read), or
    gold labels by custom_id. A gold label is one of the job's labels in any spelling; several are a list, or stand in
    a text with | between them, and [] says that none applies. `id` is the column that names the rows of `input`, by
    default as the job was told. Raises InputError and OSError.
    """
    path = os.fspath(journal)
    with Index([path]) as index:
        if not isinstance(gold, str):
            quality = quality_of_job(job_of(path))
            for name, right in gold.items():
                record = index.find(name)
                if record is not None and record.error is None and record.info and record.info.label is not None:
                    quality.add(right, record.info.label)
            return quality
        source = input if isinstance(input, Source) else rows_of(path, input)
        with closing(source):
            return _evaluated(index, path, gold, source, id)


def rows_of(
    journal: str, input: str | os.PathLike[str] | Sequence[str] | None = None, reading: Reading = AS_FOUND
) -> Source:
    """Return the rows of a file, by default of the one that the job of a journal read. Raises InputError and OSError.

    Several names, a directory, a pattern or an address mean what they mean as the input of a job.
    Where nothing is said of the job's own file, it is read as the job was told: its sheet, encoding and delimiter.
    """
    if input is None:
        input = input_of(journal)
    names = [os.fspath(input)] if isinstance(input, str | os.PathLike) else input
    if reading == AS_FOUND:
        facts = facts_of(journal) or {}
        if "reading" in facts and isinstance(facts.get("input"), str) and _is_input(names, facts["input"]):
            with suppress(msgspec.ValidationError):
                reading = msgspec.convert(facts["reading"], Reading)
    return results_as_rows(open_files(names, reading=reading))


def _is_input(names: Sequence[str], other: str) -> bool:
    try:
        return len(names) == 1 and (names[0] == other or os.path.samefile(names[0], other))
    except OSError:
        return False


def input_of(journal: str) -> str:
    """Return the file that the job of a journal read. Raises InputError where that is no file here, nor an address."""
    name = (facts_of(journal) or {}).get("input")
    if not isinstance(name, str) or not (is_address(name) or os.path.isfile(name)):
        there = f"the rows were read from {name}, which is not there" if name else "it does not say where its rows are"
        raise InputError(journal, f"{there}; name their file with --input")
    return name


def _evaluated(index: Index, path: str, column: str, source: Source, id: str | None) -> Quality:
    source.sample(1)
    gold = gold_of(source, column, job_of(path))
    named = id or id_column(path)
    name_of: Callable[[Row], str] = default_id if named is None else lambda row: id_of(row, named, source.name)
    find = finder(index, path, source, name_of)
    for row in source:
        _, record = find(row)
        if record is not None and record.error is None and record.info is not None:
            gold.is_right(row.fields, record.info.label)
    return gold.quality
