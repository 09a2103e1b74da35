"""Files as people have them: delimiters, headers, encodings, packed files, JSON arrays, workbooks."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.bulk.input.dialect import Dialect
from aimlasync.bulk.input.rows import AS_FOUND, Format, InputError, Reader, Reading
from aimlasync.bulk.input.source import Source, open_source, open_stream
from aimlasync.bulk.tasks.prompt import listed


def opened(folder: Path, name: str, data: bytes, format: Format | None = None, reading: Reading = AS_FOUND) -> Source:
    path = folder / name
    path.write_bytes(data)
    return open_source(str(path), format, reading=reading)


def fields(folder: Path, name: str, data: bytes, reading: Reading = AS_FOUND) -> list[dict[str, Any]]:
    with closing(opened(folder, name, data, reading=reading)) as source:
        source.sample(1)
        return [row.fields for row in source]


def refusal(folder: Path, name: str, data: bytes, reading: Reading = AS_FOUND) -> str:
    with pytest.raises(InputError) as caught:
        fields(folder, name, data, reading)
    said = str(caught.value)
    assert "\n" not in said
    return said.removeprefix(f"{folder}/")


def sheet(*rows: list[Any], title: str = "Sheet1", more: dict[str, list[list[Any]]] | None = None) -> bytes:
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    for name, others in (more or {}).items():
        added = book.create_sheet(name)
        for row in others:
            added.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


WHOLE = [{"id": "1", "text": "a; b"}, {"id": "2", "text": "c, d"}]


@pytest.mark.parametrize(
    "data",
    [
        b'sep=;\nid;text\n1;"a; b"\n2;c, d\n',
        b'"sep=;"\r\nid;text\r\n1;"a; b"\r\n2;c, d\r\n',
        b'\xef\xbb\xbfsep=;\r\nid;text\r\n1;"a; b"\r\n2;c, d\r\n',
        b"SEP=\t\nid\ttext\n1\ta; b\n2\tc, d\n",
        b"id\ttext\n1\ta; b\n2\tc, d\n",
        b"id|text\n1|a; b\n2|c, d\n",
        b'id;text\n1;"a; b"\n2;c, d\n',
        b'\xef\xbb\xbfid,text\r\n1,a; b\r\n2,"c, d"\r\n',
        b'id, text\n1, a; b\n2, "c, d"\n',
        b'\n\n id ,text\n1,a; b\n2,"c, d"\n',
    ],
)
def test_a_table_is_read_however_it_is_divided(data: bytes, tmp_path: Path) -> None:
    assert fields(tmp_path, "in.csv", data) == WHOLE


def test_a_delimiter_in_the_header_is_told_by_the_line_below(tmp_path: Path) -> None:
    assert fields(tmp_path, "in.csv", b"id;name, first\n1;Ann\n") == [{"id": "1", "name, first": "Ann"}]
    assert fields(tmp_path, "in.csv", b'"id","a;b;c"\n1,x\n') == [{"id": "1", "a;b;c": "x"}]


def test_a_name_in_the_header_may_have_several_lines(tmp_path: Path) -> None:
    with closing(opened(tmp_path, "in.csv", b'"full\n; name";b\nx;1\n"y\nz";2\n')) as source:
        assert [(row.line, row.fields) for row in source] == [
            (3, {"full\n; name": "x", "b": "1"}),
            (4, {"full\n; name": "y\nz", "b": "2"}),
        ]


def test_what_is_not_seen_around_a_name_is_no_part_of_it(tmp_path: Path) -> None:
    text = "\ufeff\u200eid\u200b , \u2060text\u202c\xa0,a\u200bb\n1,x,y\n"
    found = [{"id": "1", "text": "x", "a\u200bb": "y"}]
    assert fields(tmp_path, "in.csv", text.encode()) == found
    assert fields(tmp_path, "in.xlsx", sheet(["\u200eid", "text\u200b ", "a\u200bb"], ["1", "x", "y"])) == found
    assert listed(["id", "a\u200bb", "", "c\x01d"]) == r"id, 'a\u200bb', 'c\x01d'"
    assert listed([""]) == "none"


def test_a_delimiter_can_be_said(tmp_path: Path) -> None:
    assert fields(tmp_path, "in.csv", b"id~text\n1~a\n", Reading(delimiter="~")) == [{"id": "1", "text": "a"}]
    assert "--delimiter is for csv and tsv, and this is jsonl" in refusal(
        tmp_path, "in.jsonl", b'{"a":1}\n', Reading(delimiter=";")
    )


def test_how_a_table_is_written_is_known(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfsep=;\r\n id;text;text;\r\n1;a;b;c\r\n"
    with closing(opened(tmp_path, "in.csv", data)) as source:
        source.sample(1)
        assert source.dialect == Dialect(delimiter=";", line_end="\r\n", has_mark=True, sep_line=True)
        assert source.columns == ["id", "text_1", "text_2", ""]
        assert source.headings == [" id", "text", "text", ""]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"1,Hello there\n2,How are you\n", "line 1: the first line may be no header: '1' is a number"),
        (b"2026-01-02,a\n2026-01-03,b\n", "'2026-01-02' is a date"),
        (b"a@b.org,x\nc@d.org,y\n", "'a@b.org' is an address"),
        (b"hello,spam\nyou,ham\nthere,spam\nagain,ham\n", "'spam' is a value of the same column too"),
    ],
)
def test_a_first_line_that_is_a_row_is_refused_with_the_way_out(data: bytes, said: str, tmp_path: Path) -> None:
    refused = refusal(tmp_path, "in.csv", data)
    assert said in refused
    assert "--no-header" in refused
    assert len(fields(tmp_path, "in.csv", data, Reading(header=False))) == data.count(b"\n")
    assert len(fields(tmp_path, "in.csv", data, Reading(header=True))) == data.count(b"\n") - 1


def test_columns_without_a_header_are_numbered(tmp_path: Path) -> None:
    assert fields(tmp_path, "in.csv", b"7,a\n8,b\n", Reading(header=False))[0] == {"1": "7", "2": "a"}


@pytest.mark.parametrize(
    "data",
    [
        b"id,text\n1,a\n2,b\n",
        b"text\nHello\nHello\n",
        b"2019,2020,2021\n1,2,3\n4,5,6\n",
        b"0,1,2\n5,a,b\n6,c,d\n",
        b"name,1st\nAnn,yes\nBen,no\n",
        b"label\nbilling\nsales\nbilling\n",
    ],
)
def test_a_header_is_believed_where_it_can_be_one(data: bytes, tmp_path: Path) -> None:
    assert len(fields(tmp_path, "in.csv", data)) == data.count(b"\n") - 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"])
@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.json"])
def test_other_encodings_can_be_said(name: str, encoding: str, tmp_path: Path) -> None:
    text = {
        "in.csv": "text,n\ncafé,1\n",
        "in.jsonl": '{"text":"café","n":"1"}\n',
        "in.json": '[{"text":"café","n":"1"}]',
    }
    data = text[name].encode(encoding)
    assert fields(tmp_path, name, data, Reading(encoding=encoding)) == [{"text": "café", "n": "1"}]


@pytest.mark.parametrize("reading", [AS_FOUND, Reading(encoding="cp1252"), Reading(encoding="utf-8")])
@pytest.mark.parametrize("marked", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_mark_says_the_encoding_whatever_else_is_said(marked: str, reading: Reading, tmp_path: Path) -> None:
    rows = fields(tmp_path, "in.csv", "text\tn\ncafé\t1\n".encode(marked), reading)
    assert rows == [{"text": "café", "n": "1"}]


def test_a_wrong_encoding_is_one_line_that_says_which_and_where(tmp_path: Path) -> None:
    assert "line 2: not UTF-8: 0xe9 at byte 8" in refusal(tmp_path, "in.csv", "text\ncafé\n".encode("cp1252"))
    assert "line 2: not ascii" in refusal(tmp_path, "in.csv", "text\ncafé\n".encode(), Reading(encoding="ascii"))
    assert "there is no encoding 'klingon'" in refusal(tmp_path, "in.csv", b"text\na\n", Reading(encoding="klingon"))
    assert "there is no encoding 'base64'" in refusal(tmp_path, "in.csv", b"text\na\n", Reading(encoding="base64"))


def parquet(**columns: list[Any]) -> bytes:
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


PACKERS = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}
PLAIN = {
    "in.csv": b"id,text\n1,a\n2,b\n",
    "in.tsv": b"id\ttext\n1\ta\n2\tb\n",
    "in.jsonl": b'{"id":"1","text":"a"}\n{"id":"2","text":"b"}\n',
    "in.json": b'[{"id":"1","text":"a"},\n {"id":"2","text":"b"}]',
    "in.parquet": parquet(id=["1", "2"], text=["a", "b"]),
    "in.xlsx": sheet(["id", "text"], ["1", "a"], ["2", "b"]),
}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", PLAIN)
def test_packed_files_are_read_whatever_is_in_them(name: str, packing: str, tmp_path: Path) -> None:
    packed = PACKERS[packing](PLAIN[name])
    rows = [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]
    assert fields(tmp_path, f"{name}.{packing}", packed) == rows
    assert fields(tmp_path, name, packed) == rows
    for spool in (True, False):
        with closing(open_stream(io.BufferedReader(io.BytesIO(packed)), None, spool=spool, default="csv")) as source:
            source.sample(1)
            assert [row.fields for row in source] == rows
    with closing(opened(tmp_path, f"{name}.{packing}", packed)) as source:
        assert source.survey(lambda row: None).rows == 2
        assert source.survey(lambda row: None).digest == source.digest()


@pytest.mark.parametrize("packing", PACKERS)
def test_a_packed_file_that_was_cut_off_is_no_shorter_file(packing: str, tmp_path: Path) -> None:
    rows = "".join(f'{{"n": {n}, "hash": "{hash(n * 7919) % 10**9}"}}\n' for n in range(20_000)).encode()
    packed = PACKERS[packing](rows)
    assert "damaged or cut off" in refusal(tmp_path, f"in.jsonl.{packing}", packed[: len(packed) // 2])
    assert "damaged or cut off" in refusal(tmp_path, f"in.jsonl.{packing}", packed[:-4])
    twice = fields(tmp_path, f"in.jsonl.{packing}", packed + packed)
    assert len(twice) == 40_000


def test_frames_that_are_skipped_or_look_far_back_are_read(tmp_path: Path) -> None:
    skipped = b"\x5e\x2a\x4d\x18\3\0\0\0abc"
    far = zstandard.ZstdCompressionParameters.from_level(3, window_log=28, enable_ldm=True)
    frame = zstandard.ZstdCompressor(compression_params=far).compressobj()
    packed = frame.compress(b"id\n1\n") + frame.flush()
    near = zstandard.ZstdCompressor().compress(b"2\n")
    for name in ("in.csv.zst", "in.csv"):
        whole = skipped + packed + skipped + near + skipped
        assert fields(tmp_path, name, whole) == [{"id": "1"}, {"id": "2"}]
    assert "damaged or cut off" in refusal(tmp_path, "in.csv.zst", skipped + packed[:-2])


VALUES = st.recursive(
    st.text(max_size=9) | st.floats() | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@settings(max_examples=60)
@given(
    st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), min_size=1, max_size=4),
    st.integers(1, 9),
    st.sampled_from([None, 1, "\t"]),
)
def test_items_of_an_array_come_whatever_the_blocks(items: list[dict[str, Any]], size: int, indent: Any) -> None:
    text = json.dumps(json.loads(msgspec.json.encode(items)), indent=indent, ensure_ascii=False, allow_nan=False)
    data = io.BytesIO(text.encode("utf-8", "surrogatepass"))

    class Pieces:
        def readline(self, limit: int, /) -> bytes:
            return data.read(size)

    assert [row.fields for row in Reader(Pieces(), "json", "in")] == json.loads(text)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[]", "an empty list"),
        (b'[{"a":1},]', "line 1: not JSON: "),
        (b'[{"a":1}\n{"a":2}]', "line 2: not JSON: no comma between two objects"),
        (b'[{"a":1},\n{"a":', "line 2: not JSON: "),
        (b'[{"a":1},\n 3]', "line 2: not a JSON object"),
        (b'[{"a":1}', "line 1: not JSON: the file ends within the list"),
        (b'[{"a":1}]\n[{"a":2}]', "line 2: more than one list"),
        (b'{\n "rows": [1]\n}', "one JSON object over many lines"),
        (b'{"n":1,"data":[{"a":1}]}', "one object, with a list of objects in 'data'; write that list alone"),
        (b'{"data":[' + b'{"a":1},' * 20_000 + b'{"a":1}]}', "one object, with a list of objects in 'data'"),
        (b'[{"a":NaN}]', "line 1: not JSON: "),
        (b'[{"a":"caf\xe9"}]', "line 1: not UTF-8: 0xe9 at byte 10"),
    ],
)
def test_what_is_wrong_with_an_array_has_its_line(data: bytes, said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, "in.json", data)


@pytest.mark.parametrize(
    ("name", "data", "rows"),
    [
        ("in.csv", b'{"id": "1"}\n{"id": "2"}\n', [{"id": "1"}, {"id": "2"}]),
        ("in.jsonl", b'[\n{"id": "1"}\n]', [{"id": "1"}]),
        ("in.json", b'{"id": "1"}\n{"id": "2"}\n', [{"id": "1"}, {"id": "2"}]),
        ("in.xlsx", b"id,text\n1,a\n", [{"id": "1", "text": "a"}]),
        ("in.csv", parquet(id=["1"]), [{"id": "1"}]),
        ("in.csv", sheet(["id"], ["1"]), [{"id": "1"}]),
        ("in.json", b'[{"id":"1"}]', [{"id": "1"}]),
        ("in.csv", b"{id},text\n1,a\n", [{"{id}": "1", "text": "a"}]),
    ],
)
def test_the_content_is_right_where_the_name_is_wrong(
    name: str, data: bytes, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert fields(tmp_path, name, data) == rows


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a workbook of an old Excel, or one with a password"),
        (b"%PDF-1.7", "a PDF"),
        (b"<html><table>", "HTML or XML"),
        (b"BZh91AY", "packed with bzip2"),
        (b"\x04\x22\x4d\x18", "packed with lz4"),
        (gzip.compress(gzip.compress(b"a\n1\n", mtime=0), mtime=0), "packed twice"),
        (gzip.compress(bytes(257) + b"ustar\x0000" + bytes(300), mtime=0), "a tar archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "a pointer of Git LFS"),
        (b"\xff\xff\xff\xff\x10\x01", "an Arrow stream"),
        (b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "an OpenDocument file"),
    ],
)
def test_a_file_of_another_kind_is_named(data: bytes, said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, "in.csv", data)


def test_what_is_no_json_is_said_and_a_list_in_a_row_is_none(tmp_path: Path) -> None:
    assert "NaN and Infinity are none; write null" in refusal(tmp_path, "in.jsonl", b'{"a":[1, -Infinity]}\n')
    assert "NaN" not in refusal(tmp_path, "in.jsonl", b'{"a":"NaN"\n')
    assert fields(tmp_path, "in.jsonl", b'{"messages":[{"role":"user"}]}\n') == [{"messages": [{"role": "user"}]}]


def test_values_of_a_workbook_are_those_that_people_see(tmp_path: Path) -> None:
    data = sheet(
        ["id", " name ", "when", "at", "share", "ok", "big"],
        [7, "Ann_x000D_\nB", datetime.datetime(2026, 8, 1), datetime.time(1, 2), 0.5, True, 1e15],
        [],
        ["007", "#N/A", datetime.datetime(2026, 8, 1, 9, 30), None, 1.0, False, None],
    )
    assert fields(tmp_path, "in.xlsx", data) == [
        {
            "id": 7,
            "name": "Ann\r\nB",
            "when": "2026-08-01",
            "at": "01:02:00",
            "share": 0.5,
            "ok": True,
            "big": 10**15,
        },
        {
            "id": "007",
            "name": None,
            "when": "2026-08-01T09:30:00",
            "at": None,
            "share": 1,
            "ok": False,
            "big": None,
        },
    ]


def test_a_sheet_is_chosen_by_name_or_number(tmp_path: Path) -> None:
    data = sheet(["id"], [1], title="One", more={"Two": [["id"], [2]], "Empty": []})
    assert "2 sheets with rows; say which with --sheet: One, Two" in refusal(tmp_path, "in.xlsx", data)
    assert fields(tmp_path, "in.xlsx", data, Reading(sheet="Two")) == [{"id": 2}]
    assert fields(tmp_path, "in.xlsx", data, Reading(sheet="1")) == [{"id": 1}]
    assert "no sheet 'Three'; there are: One, Two, Empty" in refusal(tmp_path, "in.xlsx", data, Reading(sheet="Three"))
    assert "--sheet is for xlsx, and this is csv" in refusal(tmp_path, "in.csv", b"a\n1\n", Reading(sheet="1"))


def test_what_is_wrong_with_a_workbook_is_one_line(tmp_path: Path) -> None:
    whole = sheet(["id", "text"], [1, "a"], [2, "b", "c"])
    assert "line 3: a value in C3, right of the last column" in refusal(tmp_path, "in.xlsx", whole)
    assert "cannot be read as a workbook (" in refusal(tmp_path, "in.xlsx", whole[:-30])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("in.csv", "id\n1\n")
    assert "a ZIP archive and no workbook; unpack it first, or name zip://*.csv::file:///PATH" in refusal(
        tmp_path, "in.xlsx", archive.getvalue()
    )
    assert "no sheet with rows" in refusal(tmp_path, "in.xlsx", sheet())
    assert "a header and no rows" in refusal(tmp_path, "in.xlsx", sheet(["id"]))
    numbers = sheet([1, "a"], [2, "b"])
    assert "the first line may be no header: '1' is a number" in refusal(tmp_path, "in.xlsx", numbers)
    assert fields(tmp_path, "in.xlsx", numbers, Reading(header=False)) == [{"1": 1, "2": "a"}, {"1": 2, "2": "b"}]


@pytest.mark.parametrize(("module", "name"), [("openpyxl", "in.xlsx"), ("zstandard", "in.csv.zst")])
def test_what_is_not_installed_is_one_line_of_advice(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sheet(["id"], [1]) if name == "in.xlsx" else PACKERS["zst"](b"id\n1\n")
    monkeypatch.setitem(sys.modules, module, None)
    extra = {"openpyxl": "excel", "zstandard": "zstd"}[module]
    assert f"pip install 'aimlasync[{extra}]'" in refusal(tmp_path, name, data)
