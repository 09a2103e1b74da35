"""Examples to show to a model: texts with their labels, read from a small file. Imports input and `prompt`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from msgspec import UNSET

from aimlasync.bulk.input.columns import value_of
from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.input.source import open_source
from aimlasync.bulk.tasks.prompt import as_text, listed

# Every call pays for all examples.
MAX_SHOTS = 100


def read_shots(
    path: str, *, text: str | None, label: str | None, columns: Sequence[str] = ()
) -> list[tuple[str | dict[str, Any], Any]]:
    """Return the examples of a CSV, JSONL or Parquet file: the columns are named like those of the input.

    An example is its `text`, or where a prompt names other `columns` too, a dict of them all. The label's column is
    `label` or "label"; without one, or where `label` is None, all other columns are the answer. Raises InputError.
    """
    shots: list[tuple[str | dict[str, Any], Any]] = []
    with closing(open_source(path)) as source:
        there = source.sample(1)[0].fields
        said = text if text is not None and value_of(there, text) is not UNSET else "text"
        needed = [name for name in columns if name != text]
        for name in needed if text is None else [said, *needed]:
            if value_of(there, name) is UNSET:
                wanted = f"{text!r} with the texts" if name == said else f"{name!r}, which the prompt names"
                raise InputError(path, f"no column {wanted}; there are: {listed(list(there), name)}")
        names = () if label is None else (label, "label", "labels")
        answer = next((name for name in names if name in there and name not in (said, *needed)), None)
        for row in source:
            if len(shots) == MAX_SHOTS:
                raise InputError(
                    path, f"more than {MAX_SHOTS} examples; every call pays for all of them", line=row.line
                )
            fields = row.fields
            value = (
                fields.get(answer)
                if answer is not None
                else {name: value for name, value in fields.items() if name not in (said, *needed)}
            )
            shown: dict[str, Any] = {name: value_of(fields, name) for name in needed}
            if text is not None:
                shown[text] = value_of(fields, said)
            shots.append((shown if needed else as_text(value_of(fields, said)), value))
    if not shots:
        raise InputError(path, "no examples")
    return shots
