"""Examples to show to a model: texts with their labels, read from a small file. Imports input and `prompt`."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.input.source import open_source
from aimlasync.bulk.tasks.prompt import as_text, listed

# Every call pays for all examples.
MAX_SHOTS = 100


def read_shots(path: str, *, text: str, label: str) -> list[tuple[str, Any]]:
    """Return the examples of a CSV, JSONL or Parquet file: the columns are named like those of the input.

    The label's column is `label` or "label"; without one, all columns but the text are the answer. Raises InputError.
    """
    shots: list[tuple[str, Any]] = []
    with closing(open_source(path)) as source:
        columns = source.sample(1)[0].fields
        said = text if text in columns else "text"
        if said not in columns:
            raise InputError(path, f"no column {text!r} with the texts; there are: {listed(list(columns))}")
        answer = next((name for name in (label, "label", "labels") if name in columns and name != said), None)
        for row in source:
            if len(shots) == MAX_SHOTS:
                raise InputError(
                    path, f"more than {MAX_SHOTS} examples; every call pays for all of them", line=row.line
                )
            value = (
                row.fields.get(answer)
                if answer is not None
                else {name: value for name, value in row.fields.items() if name != said}
            )
            shots.append((as_text(row.fields.get(said)), value))
    if not shots:
        raise InputError(path, "no examples")
    return shots
