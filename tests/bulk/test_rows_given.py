"""Rows that a program gives: values of numpy and pandas, missing ones, what JSON cannot carry, and whole tables."""

from __future__ import annotations

import datetime
import decimal
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from aimlasync import AsyncClient
from aimlasync.bulk import EmptyTextError, InputError, PromptTask, classify, map, run
from aimlasync.bulk.api import open_rows
from aimlasync.simulator import Simulator

MODEL = "openai/gpt-4.1-nano-2025-04-14"

# A value, and what is read of it, as of a batch or a file.
VALUES: list[tuple[Any, Any]] = [
    (np.int64(2**53 + 1), 2**53 + 1),
    (np.str_("a"), "a"),
    (np.bool_(True), True),
    (np.array([1, 2]), [1, 2]),
    (np.datetime64("2024-01-02"), "2024-01-02T00:00:00"),
    (pd.Timestamp("2024-01-02"), "2024-01-02T00:00:00"),
    (datetime.date(2024, 1, 2), "2024-01-02"),
    (decimal.Decimal("1.10"), "1.10"),
    (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    (b"caf\xc3\xa9", "café"),
    ("cut \ud83d", "cut \ufffd"),
    ({"a": [np.float64(0.5), pd.NaT]}, {"a": [0.5, None]}),
    (float("nan"), None),
    (pd.NA, None),
    (pd.NaT, None),
    (None, None),
]


@pytest.mark.parametrize(("given", "read"), VALUES, ids=repr)
async def test_a_row_of_a_program_is_read_as_one_of_a_file(given: Any, read: Any) -> None:
    for rows in ([{"id": 1, "value": given}], iter([{"id": 1, "value": given}])):
        with closing(await open_rows(rows)) as source:
            assert [row.fields for row in source] == [{"id": 1, "value": read}]


async def test_what_json_cannot_carry_is_named_with_its_row() -> None:
    with pytest.raises(InputError, match=r"rows: line 2: text: cannot send a pathlib\.[\w.]+ as JSON"):
        await open_rows([{"text": "a"}, {"text": Path("x")}])


async def test_what_is_missing_in_a_frame_is_not_asked_about(vendor: Any) -> None:
    sim: Simulator = vendor()
    frame = pd.DataFrame({"id": [1, 2, 3], "text": ["my card was charged", np.nan, None], "n": [np.nan, 1, 2]})
    rows = frame.to_dict("records")
    async with AsyncClient(base_url=sim.base_url, api_key="k") as client:
        for given in (rows, frame["text"], [*frame["text"]]):
            found = [result async for result in classify(client, given, labels=["billing", "support"], model=MODEL)]
            assert [result.label for result in found] == ["billing", None, None]
            assert [type(result.error) for result in found[1:]] == [EmptyTextError] * 2
            if given is rows:
                # The rows are those that were given.
                assert [result.fields for result in found] == rows
    assert len(sim.ledger) == 3


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        (pd.DataFrame({"text": ["a", "b"]}), r"a DataFrame is neither; give its .to_dict\('records'\)"),
        (pa.table({"text": ["a", "b"]}), r"a Table is neither; give its .to_pylist\(\)"),
    ],
)
async def test_the_columns_of_a_table_are_no_rows(table: Any, rows: str, vendor: Any, tmp_path: Path) -> None:
    sim: Simulator = vendor()
    async with AsyncClient(base_url=sim.base_url, api_key="k") as client:
        with pytest.raises(TypeError, match=rows):
            await run(client, table, tmp_path / "out.jsonl", task=PromptTask(prompt="{text}", model=MODEL))
        for results in (map(client, table), classify(client, table, labels=["good", "bad"], model=MODEL)):
            with pytest.raises(TypeError, match=rows):
                async for _ in results:
                    pass
        row: Any = {"text": "a"}
        with pytest.raises(TypeError, match="not as one dict"):
            await run(client, row, tmp_path / "out.jsonl", task=PromptTask(prompt="{text}", model=MODEL))
    assert not sim.ledger
