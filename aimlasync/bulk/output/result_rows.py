"""A file of results as rows: the journal of a job, or a result file of OpenAI's Batch API, is the input of another job.

A row has the answer and what belongs to it as columns. Imports input, journal records and `export`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.journal.record import read_record
from aimlasync.bulk.output.layout import RESULTS, Outcome

_COLUMNS = ("custom_id", "answer", "error", "error_message", "finish_reason", "model")

_encode = msgspec.json.Encoder().encode


def is_result_line(fields: Mapping[str, Any]) -> bool:
    """Whether a row is a line of results, or was one before `results_as_rows`."""
    return "custom_id" in fields and ("response" in fields or {*_COLUMNS} <= fields.keys()) and "body" not in fields


def results_as_rows(source: Source) -> Source:
    """Let the source, if its first row is a line of results, give their columns. Raises InputError without any row."""
    try:
        first = source.sample(1)[0].fields
        if source.format in ("json", "jsonl") and "response" in first and is_result_line(first):
            # A column of labels is there where the job was one of labels.
            facts = first.get("info")
            labels = ("label",) if isinstance(facts, dict) and facts.get("label") is not None else ()
            columns = (*_COLUMNS[:2], *labels, *_COLUMNS[2:])
            source.show_as(list(columns), lambda row: _row(row, columns, source.name))
    except BaseException:
        source.close()
        raise
    return source


def _row(row: Row, columns: tuple[str, ...], name: str) -> Row:
    try:
        record = read_record(row.raw)
    except (ValueError, RecursionError):
        raise InputError(name, "no line of results, as the first line is", line=row.line) from None
    outcome = Outcome(record.custom_id, record)
    fields = {column: RESULTS[column][1](outcome) for column in columns}
    if isinstance(fields.get("label"), list):
        fields["label"] = "|".join(fields["label"])
    return Row(row.number, row.line, fields, None, _encode(fields), row.file)
