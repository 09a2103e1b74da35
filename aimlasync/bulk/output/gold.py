"""The gold column of an input beside the labels of a journal: for the column `correct` of an export, and as a whole.

Imports the input, the manifest of a journal and `Quality`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aimlasync.bulk.input.columns import column_of, value_of
from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.progress.quality import Label, Quality, quality_of_job
from aimlasync.bulk.tasks.prompt import as_text, listed

_QUOTED = 5

CORRECT = "correct"
"""The column that says whether a label is the gold one."""


class Gold:
    """The gold column of an input; what is judged is counted in `quality`."""

    def __init__(self, column: str, quality: Quality) -> None:
        self.column = column
        self.quality = quality

    def is_right(self, fields: Mapping[str, Any], label: Label | None) -> bool | None:
        """Return whether the label of a row is the gold one, None where either is missing."""
        return None if label is None else self.quality.add(value_of(fields, self.column), label)


def gold_of(source: Source | None, column: str, job: Mapping[str, Any]) -> Gold:
    """Return the gold column of an input for the labels of a job. Raises InputError where there is none."""
    if source is None:
        raise InputError(column, "a gold column is one of the rows that were asked about; name their file with --input")
    check_gold(source, column)
    return Gold(column, quality_of_job(job))


def check_gold_labels(source: Source, column: str, quality: Quality) -> None:
    """Raises InputError for a column without any label to judge by. A pipe is not looked at."""
    check_gold(source, column)
    if not source.can_reread:
        return
    strange: dict[str, None] = {}
    for row in source:
        value = value_of(row.fields, column)
        if quality.is_label(value):
            return
        if (text := as_text(value).strip()) and len(strange) < _QUOTED:
            strange[text] = None
    if not strange:
        raise InputError(source.name, f"{column!r} is blank in every row, so nothing can be judged by it")
    values, labels = (", ".join(map(repr, list(each)[:_QUOTED])) for each in (strange, quality.labels))
    what = f"no {column!r} is one of the labels: it has {values}, and labels are {labels}"
    raise InputError(source.name, f"{what}; choose another --gold, or spell them alike")


def check_gold(source: Source, column: str) -> None:
    """Raises InputError for a column that no row has."""
    columns: Sequence[str] = source.columns
    if column_of(columns, column) is not None:
        return
    # Objects may have different members, and the first of them no gold label.
    if source.format in ("json", "jsonl") and source.can_reread and any(column in row.fields for row in source):
        return
    raise InputError(source.name, f"no column {column!r} for --gold; there are: {listed(columns, column)}")
