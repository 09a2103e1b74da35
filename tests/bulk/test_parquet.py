"""Rows of Parquet: JSON's values whatever the file holds, in bounded pieces."""

from __future__ import annotations

import datetime
import decimal
import io
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aimlasync.bulk.input.parquet import ParquetReader
from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.input.source import open_source, open_stream
from aimlasync.bulk.output.tables import open_table, style_of

pa = pytest.importorskip("pyarrow", reason="pip install 'aimlasync[parquet]' runs these tests")
pq = pytest.importorskip("pyarrow.parquet", reason="pip install 'aimlasync[parquet]' runs these tests")


def parquet(table: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def fields(table: Any) -> list[dict[str, Any]]:
    return [row.fields for row in ParquetReader(io.BytesIO(parquet(table)), "in")]


def test_rows_are_numbered_over_row_groups_and_batches() -> None:
    data = parquet(pa.table({"id": range(2500), "text": [f"é{n}" for n in range(2500)]}), row_group_size=700)
    reader = ParquetReader(io.BytesIO(data), "in")
    rows = list(reader)
    assert reader.columns == ["id", "text"]
    assert [(row.number, row.line) for row in rows] == [(n, n) for n in range(1, 2501)]
    assert rows[2499].fields == {"id": 2499, "text": "é2499"}
    assert rows[0].custom_id == "row-1"


def test_a_page_that_differs_from_its_checksum_is_no_value() -> None:
    table = pa.table({"id": [f"name-{number}" for number in range(100)]})
    data = parquet(table, write_page_checksum=True, compression="none", use_dictionary=False)
    assert data.count(b"name-57") == 1
    with pytest.raises(InputError, match=r"in: cannot be read as Parquet .*is it whole"):
        list(ParquetReader(io.BytesIO(data.replace(b"name-57", b"name-56")), "in"))
    assert len(list(ParquetReader(io.BytesIO(data), "in"))) == 100


def three_groups(*, broken: int) -> bytes:
    """30 rows in three row groups, of which one cannot be decoded."""
    data = parquet(pa.table({"id": range(30), "text": [f"é{n}" for n in range(30)]}), row_group_size=10)
    column = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(broken).column(0)
    start: int = column.dictionary_page_offset or column.data_page_offset
    size: int = column.total_compressed_size
    return data[:start] + b"\xff" * size + data[start + size :]


def test_a_row_group_is_read_when_the_rows_before_it_were_given() -> None:
    rows = iter(ParquetReader(io.BytesIO(three_groups(broken=1)), "in"))
    assert [next(rows).fields["id"] for _ in range(10)] == list(range(10))
    with pytest.raises(InputError, match="in: line 11: cannot be read as Parquet"):
        next(rows)


def test_a_row_group_without_a_wanted_row_is_not_read() -> None:
    reader = ParquetReader(io.BytesIO(three_groups(broken=1)), "in")
    found = list(reader.chosen(lambda number: number in (2, 9, 23)))
    rows = [row for row in found if not isinstance(row, int)]
    assert [(row.number, row.line, row.fields["id"], row.fields["text"]) for row in rows] == [
        (2, 2, 1, "é1"),
        (9, 9, 8, "é8"),
        (23, 23, 22, "é22"),
    ]
    assert rows[1].raw.cells()["text"][0][rows[1].raw.cells()["text"][1]].as_py() == "é8"
    assert [row for row in found if isinstance(row, int)] == [10, 20, 30]


@pytest.mark.parametrize("group", [1, 700, 5000])
def test_rows_that_are_wanted_are_those_of_all_rows(group: int) -> None:
    data = parquet(pa.table({"id": range(2500), "tags": [["a"] * (n % 3) for n in range(2500)]}), row_group_size=group)
    for wanted in (range(7, 2500, 7), range(2400, 2501), (1, 2), range(1, 2501), ()):
        found = list(ParquetReader(io.BytesIO(data), "in", first=101).chosen({n + 100 for n in wanted}.__contains__))
        rows = [row for row in found if not isinstance(row, int)]
        assert [(row.number - 100, row.fields) for row in rows] == [
            (n, {"id": n - 1, "tags": ["a"] * ((n - 1) % 3)}) for n in wanted
        ]
        last = found[-1]
        assert (last if isinstance(last, int) else last.number) == 2600


def test_what_json_knows_stays_what_it_is() -> None:
    (row,) = fields(
        pa.table(
            {
                "s": ["a"],
                "i": [2**63 - 1],
                "u": pa.array([2**64 - 1], pa.uint64()),
                "f": [1.5],
                "b": [True],
                "n": pa.array([None], pa.null()),
                "absent": pa.array([None], pa.int64()),
                "list": [[1, None]],
                "struct": [{"a": {"b": ["c"]}}],
                "map": pa.array([[("k", 1), ("l", 2)]], pa.map_(pa.string(), pa.int64())),
                "dictionary": pa.array(["x"]).dictionary_encode(),
                "large": pa.array(["y"], pa.large_string()),
            }
        )
    )
    assert row == {
        "s": "a",
        "i": 2**63 - 1,
        "u": 2**64 - 1,
        "f": 1.5,
        "b": True,
        "n": None,
        "absent": None,
        "list": [1, None],
        "struct": {"a": {"b": ["c"]}},
        "map": {"k": 1, "l": 2},
        "dictionary": "x",
        "large": "y",
    }


def test_what_json_does_not_know_becomes_text() -> None:
    moment = datetime.datetime(2026, 8, 1, 12, 30, 15, 250)
    (row,) = fields(
        pa.table(
            {
                "date": [datetime.date(2026, 8, 1)],
                "moment": pa.array([moment], pa.timestamp("us")),
                "zoned": pa.array([moment], pa.timestamp("ms", "UTC")),
                "nanoseconds": pa.array([1], pa.timestamp("ns")),
                "time": [datetime.time(1, 2, 3)],
                "duration": pa.array([1500], pa.duration("ms")),
                "price": [decimal.Decimal("1.10")],
                "utf8": [b"caf\xc3\xa9"],
                "image": [b"\x89PNG"],
                "deep": [{"at": [moment], "raw": b"a", "price": decimal.Decimal("2.50")}],
            }
        )
    )
    assert row == {
        "date": "2026-08-01",
        "moment": "2026-08-01T12:30:15.000250",
        "zoned": "2026-08-01T12:30:15Z",
        "nanoseconds": "1970-01-01T00:00:00.000000001",
        "time": "01:02:03",
        "duration": 1.5,
        "price": "1.10",
        "utf8": "café",
        "image": "iVBORw==",
        "deep": {"at": ["2026-08-01T12:30:15.000250"], "raw": "a", "price": "2.50"},
    }


def test_texts_and_bytes_as_views_are_read_and_written_again(tmp_path: Path) -> None:
    text, data = pa.string_view(), pa.binary_view()
    kinds = {
        "text": (text, ["a", None]),
        "data": (data, [b"a", b"\xff"]),
        "struct": (pa.struct([("x", text)]), [{"x": "a"}, None]),
        "list": (pa.list_(text), [["a"], None]),
        "map": (pa.map_(pa.string(), text), [[("k", "a")], None]),
    }
    table = pa.table({name: pa.array(values, type=kind) for name, (kind, values) in kinds.items()})
    path, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(table, path)
    with closing(open_source(str(path))) as source:
        rows = source.sample(2)
        assert rows[0].fields == {"text": "a", "data": "a", "struct": {"x": "a"}, "list": ["a"], "map": {"k": "a"}}
        kept = [row for row in source.chosen(lambda number: number == 2) if not isinstance(row, int)]
        assert [row.fields["data"] for row in kept] == ["/w=="]
        with (
            out.open("wb") as file,
            open_table(file, "out", "parquet", list(kinds), {}, style_of(source, "parquet")) as to,
        ):
            for row in rows:
                to.write(list(row.raw.cells().values()))
    assert pq.read_table(out).to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "in: cannot be read as Parquet ("),
        (b"id,text\n1,a\n", "in: cannot be read as Parquet ("),
        (parquet(pa.table({"a": ["x"]}))[:-9], "in: cannot be read as Parquet ("),
        (parquet(pa.table({"a": pa.array([], pa.string())})), "in: no rows"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(data: bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        list(ParquetReader(io.BytesIO(data), "in"))
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_file_is_sampled_surveyed_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    path.write_bytes(parquet(pa.table({"text": [f"a{n}" for n in range(1500)]})))
    with closing(open_source(str(path))) as source:
        assert source.format == "parquet"
        assert len(source.sample(3)) == 3
        assert source.columns == ["text"]
        survey = source.survey(lambda row: None, limit=1200)
        assert (survey.rows, survey.digest) == (1200, source.digest())
        assert len(list(source)) == len(list(source)) == 1500


@pytest.mark.parametrize("spool", [True, False])
def test_a_stream_is_spooled_in_any_case(spool: bool) -> None:
    file = io.BytesIO(parquet(pa.table({"text": ["a", "b"]})))
    with closing(open_stream(file, "parquet", spool=spool)) as source:
        assert source.can_reread
        assert source.sample(1)[0].fields == {"text": "a"}
        assert len(list(source)) == 2


def test_a_missing_pyarrow_is_one_line_of_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"^in: Parquet needs pyarrow; install it with: pip install 'aimlasync\[parq"):
        list(ParquetReader(io.BytesIO(b""), "in"))
