"""`evaluate`: how well the labels in a journal agree with gold ones.

Reads a journal and the rows that were asked about, or gold labels that a program has. Imports input, journal and the
way from a row to its record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.input.values import json_value
from aimlasync.bulk.journal.index import Index
from aimlasync.bulk.journal.manifest import job_of
from aimlasync.bulk.output.asked_rows import Rows, names_of, rows_of
from aimlasync.bulk.output.copies import Copies
from aimlasync.bulk.output.gold import gold_of
from aimlasync.bulk.output.rows_of_today import finder
from aimlasync.bulk.progress.quality import Quality, quality_of_job
from aimlasync.bulk.tasks.prompt import as_text
from aimlasync.spelling import spelled


@spelled
def evaluate(
    journal: str | os.PathLike[str],
    gold: str | Mapping[Any, Any],
    *,
    input: Rows | Source | None = None,
    id: str | None = None,
) -> Quality:
    """Return how well the labels in a journal agree with gold ones; rows whose gold label is blank are not judged.

    `gold` is a column of `input`, a file of the rows that were asked about (by default the one that the job read), or
    gold labels by custom_id, which may be numbers. A gold label is one of the job's labels in any spelling; several are
    a list, or stand in a text with | between them, and [] says that none applies. `id` is the column that names the
    rows of `input`, by default as the job was told. The journal and `input` may be at addresses. Raises InputError and
    OSError.
    """
    with Copies() as copies, Index([path := copies.journal(journal)]) as index, ExitStack() as opened:
        if not isinstance(gold, str):
            return _compared(index, path, gold)
        source = input if isinstance(input, Source) else opened.enter_context(closing(rows_of(path, input)))
        return _evaluated(index, path, gold, source, id)


def _compared(index: Index, path: str, gold: Mapping[Any, Any]) -> Quality:
    if not hasattr(gold, "items"):
        raise TypeError(f"gold is the name of a column, or gold labels by custom_id, not a {type(gold).__name__}")
    quality, strange = quality_of_job(job_of(path)), None
    for name, right in gold.items():
        # An id may be a number, as it may in the rows.
        text = as_text(json_value(name))
        if (record := index.find(text)) is None:
            strange = text
        elif record.error is None and record.info and record.info.label is not None:
            quality.add(json_value(right), record.info.label)
    if not (quality.judged or quality.blank) and strange is not None:
        there = next((record.custom_id for record in index.records()), "none")
        said = f"none of its rows has a gold label: they are named like {there!r}, and the labels are for {strange!r}"
        raise InputError(path, said)
    return quality


def _evaluated(index: Index, path: str, column: str, source: Source, id: str | None) -> Quality:
    source.sample(1)
    gold = gold_of(source, column, job_of(path))
    find = finder(index, path, source, names_of(path, id, source.name))
    for row in source:
        _, record = find(row)
        if record is not None and record.error is None and record.info is not None:
            gold.is_right(row.fields, record.info.label)
    return gold.quality
