"""A .json file with one object: a row, a list of rows within it, or a whole table."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aimlasync.bulk.input.rows import Format, InputError
from aimlasync.bulk.input.source import open_source


def rows(folder: Path, value: Any, format: Format | None = None) -> list[dict[str, Any]]:
    path = folder / "in.json"
    path.write_text(json.dumps(value))
    with closing(open_source(str(path), format)) as source:
        source.sample(1)
        return [row.fields for row in source]


@pytest.mark.parametrize(
    "table",
    [
        {"id": {"0": 1, "1": 2}, "text": {"0": "a", "1": "b"}},
        {"id": [1, 2], "text": ["a", "b"]},
        {"0": {"id": 1, "text": "a"}, "1": {"id": 2, "text": "b"}},
        {"columns": ["id", "text"], "index": [0, 1], "data": [[1, "a"], [2, "b"]]},
    ],
)
def test_a_frame_in_one_object_is_no_row(table: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"write a list of rows .* or --format jsonl if it is one row"):
        rows(tmp_path, table)
    assert rows(tmp_path, table, "jsonl") == [table]


@pytest.mark.parametrize("row", [{"id": 1, "tags": ["x", "y"]}, {"meta": {"a": 1}}, {"a": {"x": 1}, "b": {"y": 1}}, {}])
def test_one_object_with_values_of_its_own_is_a_row(row: dict[str, Any], tmp_path: Path) -> None:
    assert rows(tmp_path, row) == [row]


def test_one_object_with_a_list_is_one_row_where_that_is_said(tmp_path: Path) -> None:
    assert rows(tmp_path, {"data": [{"a": 1}]}, "jsonl") == [{"data": [{"a": 1}]}]
