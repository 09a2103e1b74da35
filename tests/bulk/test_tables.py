"""Tables as they are written: in the dialect of the input, packed, safe for spreadsheets, with the types of Parquet."""

from __future__ import annotations

import datetime
import decimal
import io
from contextlib import closing
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.bulk.input.dialect import Dialect
from aimlasync.bulk.input.rows import AS_FOUND, InputError, Reading
from aimlasync.bulk.input.source import Source, open_source, open_stream
from aimlasync.bulk.journal.record import Facts
from aimlasync.bulk.output.delimited import safe_text
from aimlasync.bulk.output.export import export
from aimlasync.bulk.output.tables import Style, check_format, open_table
from tests.bulk.test_export import Files, good


def labelled(folder: Path, name: str, data: bytes, out: str, *, reading: Reading = AS_FOUND, **options: Any) -> bytes:
    """The rows of a file with an answer for the first."""
    files = Files(folder)
    journal = files.journal(good("row-1", "A", info=Facts(label="x,y")))
    (folder / name).write_bytes(data)
    with closing(open_source(str(folder / name), reading=reading)) as source:
        export(journal, str(folder / out), source=source, add={"label": "label"}, **options)
    return (folder / out).read_bytes()


@pytest.mark.parametrize(
    ("data", "written", "reading"),
    [
        (b"id,text\n1,a\n", b'id,text,label\n1,a,"x,y"\n', AS_FOUND),
        (b"id;text\r\n1;a\r\n", b"id;text;label\r\n1;a;x,y\r\n", AS_FOUND),
        (b"\xef\xbb\xbfid\ttext\n1\ta\n", b"\xef\xbb\xbfid\ttext\tlabel\n1\ta\tx,y\n", AS_FOUND),
        (b"sep=;\nid;text\n1;a\n", b"sep=;\nid;text;label\n1;a;x,y\n", AS_FOUND),
        (b'id, text\n1, " a"\n', b'id, text, label\n1, " a", "x,y"\n', AS_FOUND),
        (b" id ,text,text\n1,a,b\n", b' id ,text,text,label\n1,a,b,"x,y"\n', AS_FOUND),
        (b"1;a\n2;b\n", b"1;a;x,y\n2;b;\n", Reading(header=False)),
        ("id,text\n1,é\n".encode("cp1252"), '\ufeffid,text,label\n1,é,"x,y"\n'.encode(), Reading(encoding="cp1252")),
        ("id\ttext\n1\té\n".encode("utf-16"), "\ufeffid\ttext\tlabel\n1\té\tx,y\n".encode(), AS_FOUND),
    ],
)
def test_csv_is_written_as_its_input_is(data: bytes, written: bytes, reading: Reading, tmp_path: Path) -> None:
    assert labelled(tmp_path, "in.csv", data, "out.csv", reading=reading) == written


def test_a_delimiter_follows_the_name(tmp_path: Path) -> None:
    assert labelled(tmp_path, "in.csv", b"id;text\r\n1;a\r\n", "out.tsv") == b"id\ttext\tlabel\r\n1\ta\tx,y\r\n"
    assert labelled(tmp_path, "in.tsv", b"id\ttext\n1\ta\n", "out.csv") == b'id,text,label\n1,a,"x,y"\n'


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.jsonl", "out.json", "out.parquet", "out.xlsx"])
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_every_format_comes_back(name: str, packing: str, tmp_path: Path) -> None:
    labelled(tmp_path, "in.jsonl", b'{"n":1,"t":"=1+1","x":["a"],"z":null}\n', name + packing)
    with closing(open_source(str(tmp_path / (name + packing)))) as source:
        source.sample(1)
        (row,) = source
    is_text = name in ("out.csv", "out.tsv")
    nested: Any = ["a"] if name.startswith("out.json") else '["a"]'
    nothing = "" if is_text else None
    assert row.fields == {"n": "1" if is_text else 1, "t": "=1+1", "x": nested, "z": nothing, "label": "x,y"}


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.jsonl", "out.parquet"])
def test_a_table_with_a_nul_can_be_read_again(name: str, tmp_path: Path) -> None:
    labelled(tmp_path, "in.jsonl", b'{"t":"a\\u0000\\"b"}\n', name)
    with closing(open_source(str(tmp_path / name))) as source:
        (row,) = source
    # CSV has no way to say it.
    assert row.fields["t"] == ('a\ufffd"b' if name in ("out.csv", "out.tsv") else 'a\0"b')


def test_a_list_without_rows_is_a_list(tmp_path: Path) -> None:
    assert labelled(tmp_path, "in.jsonl", b'{"n":1}\n{"n":2}\n', "out.json") == (
        b'[\n{"n":1,"label":"x,y"},\n{"n":2,"label":null}\n]\n'
    )
    journal = Files(tmp_path).journal(good("row-9", "A"))
    with closing(open_source(str(tmp_path / "in.jsonl"))) as source:
        export(journal, str(tmp_path / "none.json"), source=source, only_done=True)
    assert (tmp_path / "none.json").read_bytes() == b"[]\n"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30 1", "'+49 30 1"),
        ("-a", "'-a"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1", "' =1"),
        ("\t1", "'\t1"),
        ("\r=1", "'\r=1"),
        ("\uff1d1", "'\uff1d1"),
        ("-1-cmd|' /C calc'!A0", "'-1-cmd|' /C calc'!A0"),
        ("-5", "-5"),
        ("+1,234.50", "+1,234.50"),
        ("-5%", "-5%"),
        ("1e5", "1e5"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_is_text(text: str, safe: str) -> None:
    assert safe_text(text) == safe


def test_excel_gets_a_mark_and_no_formulas_and_plain_csv_neither(tmp_path: Path) -> None:
    data = b"id;=text\n-1;=1+1\n"
    safe = labelled(tmp_path, "in.csv", data, "out.csv", excel=True)
    assert safe == "\ufeffid;'=text;label\n-1;'=1+1;x,y\n".encode()
    assert labelled(tmp_path, "in.csv", data, "plain.csv") == b"id;=text;label\n-1;=1+1;x,y\n"
    with pytest.raises(InputError, match=r"out\.jsonl: --excel is for \.csv, \.tsv and \.xlsx"):
        labelled(tmp_path, "in.csv", data, "out.jsonl", excel=True)


CELLS = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    | st.integers(-(10**14), 10**14)
    | st.floats(-1.79e308, 1.79e308)
    | st.booleans()
)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(CELLS | st.sampled_from(["=A1", "#N/A", "_x000D_", "\r\n", " a ", "\x0b"])), min_size=1, max_size=4
    )
)
def test_any_value_comes_back_from_a_workbook(rows: list[tuple[Any, ...]]) -> None:
    file = io.BytesIO()
    with open_table(file, "out.xlsx", "xlsx", ["id", "value"], {}) as table:
        for row in rows:
            table.write(["i", *row])
    file.seek(0)
    with closing(open_stream_of(file)) as source:
        found = [row.fields["value"] for row in source]
    for (value,), back in zip(rows, found, strict=True):
        if isinstance(value, str):
            # Errors of formulas are no values, and what is empty is nothing.
            assert back == (None if value in ("", "#N/A") else value)
        else:
            assert back == pytest.approx(value, rel=1e-15)


def test_a_number_that_no_cell_holds_is_a_text() -> None:
    file = io.BytesIO()
    with open_table(file, "out.xlsx", "xlsx", ["id", "value"], {}) as table:
        table.write(["i", 1.7976931348623157e308])
    file.seek(0)
    with closing(open_stream_of(file)) as source:
        assert [float(row.fields["value"]) for row in source] == [1.7976931348623157e308]


def open_stream_of(file: io.BytesIO) -> Source:
    source = open_stream(file, None, spool=True)
    source.sample(1)
    return source


def test_a_workbook_has_no_formula_and_a_header_that_stays(tmp_path: Path) -> None:
    labelled(tmp_path, "in.csv", b"id,text\n007,=1+1\n", "out.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "out.xlsx").active
    assert [[(cell.value, cell.data_type) for cell in row] for row in sheet.iter_rows()] == [
        [("id", "s"), ("text", "s"), ("label", "s")],
        [("007", "s"), ("=1+1", "s"), ("x,y", "s")],
    ]
    assert sheet.freeze_panes == "A2"


def test_what_no_sheet_holds_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    long = b'{"text":"' + b"a" * 40_000 + b'"}\n'
    with pytest.raises(InputError, match=r"out\.xlsx: line 2: a value of 40,000 characters, and a cell holds 32,767"):
        labelled(tmp_path, "in.jsonl", long, "out.xlsx")
    assert not (tmp_path / "out.xlsx").exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("out.xls", "a workbook is written as .xlsx"),
        ("out.txt", "neither .csv nor .tsv, .jsonl, .json, .parquet or .xlsx"),
        ("out.gz", "neither .csv nor"),
    ],
)
def test_what_cannot_be_written_is_said(path: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        check_format(path, None)
    assert said in str(caught.value)


TYPES = {
    "when": pa.array([datetime.datetime(2026, 8, 1, 12), None], pa.timestamp("us", "Europe/Berlin")),
    "day": pa.array([datetime.date(2026, 8, 1), None]),
    "price": pa.array([decimal.Decimal("1.10"), decimal.Decimal("2.00")], pa.decimal128(10, 2)),
    "tags": pa.array([["a", "b"], []]),
    "deep": pa.array([{"a": 1, "b": "x"}, None]),
    "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int8())),
    "raw": pa.array([b"\x00\xff", b""]),
    "kind": pa.array(["x", "y"]).dictionary_encode(),
    "small": pa.array([1, None], pa.uint8()),
    "nan": pa.array([float("nan"), 1.5], pa.float32()),
}


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    table = pa.table(TYPES)
    file = io.BytesIO()
    pa.parquet.write_table(pa.concat_tables([table] * 1500), file)
    labelled(tmp_path, "in.parquet", file.getvalue(), "out.parquet")
    written = pa.parquet.read_table(tmp_path / "out.parquet")
    assert written.schema.names == [*TYPES, "label"]
    for name, column in TYPES.items():
        assert written.schema.field(name).type == column.type, name
        repeated = pa.concat_tables([table] * 1500)[name]
        assert written[name].cast(repeated.type).to_pylist()[2:] == repeated.to_pylist()[2:] or name == "nan", name
    assert written["label"].to_pylist()[:2] == ["x,y", None]


def test_parquet_types_are_kept_by_chosen_columns(tmp_path: Path) -> None:
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(TYPES), file)
    (tmp_path / "in.parquet").write_bytes(file.getvalue())
    journal = Files(tmp_path).journal(good("row-2", "A"))
    with closing(open_source(str(tmp_path / "in.parquet"))) as source:
        export(journal, str(tmp_path / "out.parquet"), source=source, columns=["answer", "day"], only_done=True)
    written = pa.parquet.read_table(tmp_path / "out.parquet")
    assert written.schema.field("day").type == pa.date32()
    assert written.to_pylist() == [{"answer": "A", "day": None}]


def test_rows_without_a_header_are_written_without_one() -> None:
    file = io.BytesIO()
    with open_table(file, "out.csv", "csv", ["1"], {}, Style(dialect=Dialect(has_header=False))) as table:
        table.write(["a"])
    assert file.getvalue() == b"a\n"
