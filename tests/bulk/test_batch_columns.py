"""Columns that `BatchChat` adds have the same types in every batch, whichever engine cuts the batches."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import shutil
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from aimlasync.bulk import BatchChat, InputError
from aimlasync.bulk.batch_columns import Column, json_values
from aimlasync.simulator import Fault

MODEL = "openai/gpt-5-nano-2025-08-07"
GOOD, BAD, MISSING = ["my card was charged"] * 2, ["bad"] * 2, [None] * 2
# A batch is two rows. The first has no errors, no answers, or no texts at all.
ORDERS: list[Any] = [[*GOOD, *BAD], [*BAD, *GOOD], [*MISSING, *GOOD, *BAD]]
ERRORS = {"bad": "BadRequestError", None: "EmptyTextError"}

# What engines of their own bring along is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def chat(vendor: Any) -> BatchChat:
    sim = vendor(faults=[Fault("status", status=400, match=lambda asked: "bad" in str(asked.body))])
    add = {"label": "label", "why": "error", "status": "status", "ok": "ok", "cost": "cost_usd"}
    # The URL is said, since the clients of `sync` outlive a test.
    where = {"base_url": sim.base_url, "key_env": "AIML_API_KEY"}
    return BatchChat(model=MODEL, labels=["billing", "support"], add=add, **where)


def errors(texts: list[Any]) -> list[str | None]:
    return [ERRORS.get(text) for text in texts]


def test_values_that_json_has_no_type_for_are_read_as_those_of_a_file() -> None:
    day, moment = dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, 3, 4, 5)
    given = [Decimal("1.10"), day, moment, dt.time(1, 2), dt.timedelta(hours=30), UUID(int=1), b"caf\xc3\xa9", b"\xff"]
    read = ["1.10", "2024-01-02", "2024-01-02T03:04:05", "01:02:00", 108000.0, str(UUID(int=1)), "café", "/w=="]
    assert json_values(given) == read
    assert json_values([{"a": given}]) == [{"a": read}]
    assert json_values([float("nan"), float("inf"), 1.5, True, None]) == [None, "inf", 1.5, True, None]


def test_times_of_numpy_and_pandas_are_no_nanoseconds() -> None:
    np = pytest.importorskip("numpy")
    times = np.array(["2024-01-02T03:04:05.000000006", "NaT"], "datetime64[ns]")
    assert json_values(times) == ["2024-01-02T03:04:05", None]
    assert json_values([times]) == [["2024-01-02T03:04:05", None]]
    assert json_values(np.array([90 * 10**9], "timedelta64[ns]")) == [90.0]
    pd = pytest.importorskip("pandas")
    assert json_values(pd.Series(times)) == ["2024-01-02T03:04:05.000000006", None]


async def test_two_columns_of_one_name_are_refused_before_anything_is_asked(chat: BatchChat) -> None:
    pd = pytest.importorskip("pandas")
    with pytest.raises(InputError, match="2 columns 'text'; rename them"):
        await chat(pd.DataFrame([["a", "b"]], columns=["text", "text"]))
    other = await chat(pd.DataFrame([["a", 1, 2]], columns=["text", "x", "x"]))
    assert list(other.columns[:3]) == ["text", "x", "x"]


@pytest.mark.parametrize("texts", ORDERS)
def test_arrow_reads_the_columns_of_a_dict_with_their_types(chat: BatchChat, texts: list[Any]) -> None:
    pa = pytest.importorskip("pyarrow", reason="pip install 'aimlasync[parquet]' runs this test")
    batches = [pa.table(chat.sync({"text": pa.array(texts[at : at + 2], pa.string())})) for at in (0, 2)]
    assert batches[0].schema == batches[1].schema
    assert [str(kind) for kind in batches[0].schema.types[1:]] == ["string", "string", "int64", "bool", "double"]
    record_batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    assert chat.sync(record_batch).column("why").to_pylist() == errors(texts)


def test_a_column_of_a_dict_is_a_list_in_another_process_too() -> None:
    pa = pytest.importorskip("pyarrow", reason="pip install 'aimlasync[parquet]' runs this test")
    column = pickle.loads(pickle.dumps(Column([None, None], "texts")))
    assert (column, str(pa.array(column).type)) == ([None, None], "list<item: string>")
    assert pa.array(column, pa.large_string()).type == pa.large_string()


@pytest.mark.parametrize("texts", ORDERS)
def test_datasets_map_takes_any_batch_first(chat: BatchChat, texts: list[Any], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="pip install datasets runs this test")
    datasets.disable_progress_bars()
    text = datasets.Features({"text": datasets.Value("string")})
    given = datasets.Dataset.from_dict({"text": texts}, features=text)
    out = given.map(chat.sync, batched=True, batch_size=2)
    assert out["why"][:] == errors(texts)
    assert [out.features[name].dtype for name in ("label", "why", "status")] == ["string", "string", "int64"]
    # A stream has no place to keep types, but Arrow has.
    stream = given.to_iterable_dataset().with_format("arrow").map(chat.sync, batched=True, batch_size=2)
    stream.to_parquet(tmp_path / "out.parquet")
    assert datasets.Dataset.from_parquet(str(tmp_path / "out.parquet"))["why"][:] == errors(texts)


@pytest.mark.parametrize("texts", ORDERS)
def test_dask_writes_any_partition_first(chat: BatchChat, texts: list[Any], tmp_path: Path) -> None:
    dd = pytest.importorskip("dask.dataframe", reason="pip install 'dask[dataframe]' runs this test")
    pd = pytest.importorskip("pandas")
    frame = dd.from_pandas(pd.DataFrame({"text": pd.Series(texts, dtype="string")}), npartitions=2)
    frame.map_partitions(chat.sync, meta=chat.sync(frame._meta)).to_parquet(tmp_path / "out")
    why = pd.read_parquet(tmp_path / "out")["why"]
    assert [None if pd.isna(each) else each for each in why] == errors(texts)


@pytest.mark.parametrize("texts", ORDERS)
def test_a_frame_of_polars_is_a_batch(chat: BatchChat, texts: list[Any]) -> None:
    pl = pytest.importorskip("polars", reason="pip install polars runs this test")
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    out = pl.concat([chat.sync(part) for part in frame.iter_slices(2)])
    assert out["why"].to_list() == errors(texts)
    lazy = frame.lazy().map_batches(chat.sync, schema=chat.sync(frame.clear()).schema)
    assert lazy.collect().schema == out.schema
    several = BatchChat(model=MODEL, labels=["a", "b"], multi=True, add={"label": "label"})
    assert several.sync(frame.head(0)).schema["label"] == pl.List(pl.String)


def test_spark_takes_frames_and_arrow_batches(chat: BatchChat, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = pytest.importorskip("pyspark.sql", reason="pip install pyspark, and Java, run this test")
    if shutil.which("java") is None:
        pytest.skip("Java runs this test: apt install default-jre-headless")
    # Its worker processes are this Python, with the same packages.
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    settings = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1"}
    settings["spark.sql.execution.arrow.maxRecordsPerBatch"] = "2"
    spark = sql.SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()
    try:
        frame = spark.createDataFrame([(text,) for text in ORDERS[0]], "text string").coalesce(1)
        schema = "text string, label string, why string, status bigint, ok boolean, cost double"
        for apply in (frame.mapInPandas, frame.mapInArrow):
            assert [row.why for row in apply(chat.frames, schema).collect()] == errors(ORDERS[0])
    finally:
        spark.stop()
