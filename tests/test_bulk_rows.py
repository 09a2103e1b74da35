"""Rows of CSV and JSONL: what is read, and the one line that says why something cannot be."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from aimlasync.bulk import InputError, Reader, Row
from aimlasync.bulk.output import Writer, replacing
from aimlasync.bulk.rows import Format
from aimlasync.bulk.source import open_source, open_stream


def read(data: bytes, format: Format = "csv") -> list[Row]:
    return list(Reader(io.BytesIO(data), format, "in"))


def test_csv_rows_keep_quotes_commas_and_line_ends_inside_fields() -> None:
    rows = read(b'id,text\n1,"a, ""b""\r\nc"\n2,d\n')
    assert [row.fields for row in rows] == [{"id": "1", "text": 'a, "b"\r\nc'}, {"id": "2", "text": "d"}]
    assert [(row.number, row.line) for row in rows] == [(1, 2), (2, 4)]


def test_a_byte_order_mark_and_blank_lines_are_no_rows() -> None:
    assert [row.fields for row in read(b"\xef\xbb\xbftext\n\na\n\n\nb")] == [{"text": "a"}, {"text": "b"}]
    assert [row.line for row in read(b'\xef\xbb\xbf{"text":"a"}\n\n{"text":"b"}\n', "jsonl")] == [1, 3]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_header_without_commas_is_divided_as_spreadsheets_do(delimiter: str) -> None:
    (row,) = read(f"id{delimiter}text\n1{delimiter}a, b\n".encode())
    assert row.fields == {"id": "1", "text": "a, b"}


def test_a_short_csv_row_is_filled_up() -> None:
    (row,) = read(b"id,text,team\n1,a\n")
    assert row.cells == ["1", "a", ""]


@pytest.mark.parametrize(
    ("data", "format", "said"),
    [
        (b"", "csv", "in: empty; the first line must be a header"),
        (b"\n\n", "csv", "in: empty; the first line must be a header"),
        (b",,\na,b,c\n", "csv", "in: line 1: no header"),
        (b"text\n", "csv", "in: a header and no rows"),
        (b"text,text\na,b\n", "csv", "in: line 1: two columns are named 'text'"),
        (b"id,text\n1,a\n2,b,c\n", "csv", "in: line 3: 3 fields under a header of 2"),
        (b'id,text\n1,"a\n2,b\n', "csv", "in: line 2: a quote is opened here and never closed"),
        (b'id,text\n1,"a" b\n', "csv", "in: line 2: text after a closing quote"),
        (b"text\nok\nna\xefve\n", "csv", "in: line 3: not UTF-8: 0xef at byte 10"),
        (b"\xef\xbb\xbftext\nna\xefve\n", "csv", "in: line 2: not UTF-8: 0xef at byte 10"),
        ("text\na\n".encode("utf-16"), "csv", "in: line 1: UTF-16, not UTF-8"),
        (b"text\na\0b\n", "csv", "in: line 2: a NUL at byte 6"),
        (b"text\ra\rb", "csv", "in: line 1: a bare carriage return"),
        (b"", "jsonl", "in: no rows"),
        (b'{"text":"a"}\n{"text":\n', "jsonl", "in: line 2: not JSON"),
        (b'{"text":"a"}\n["a"]\n', "jsonl", "in: line 2: not a JSON object"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(data: bytes, format: Format, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(data, format)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_rows_of_a_stream_are_read_only_as_far_as_they_are_wanted() -> None:
    class Endless:
        taken = 0

        def readline(self, limit: int, /) -> bytes:
            self.taken += 1
            return b"text\n" if self.taken == 1 else b"hello\n"

    lines = Endless()
    rows = iter(Reader(lines, "csv", "in"))
    assert [next(rows).number for _ in range(5)] == [1, 2, 3, 4, 5]
    assert lines.taken < 10


def test_a_file_is_counted_checked_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("text\na\nb\nc\n")
    source = open_source(str(path))
    assert source.sample(2)[0].fields == {"text": "a"}
    assert source.columns == ["text"]
    checked: list[int] = []
    whole = source.survey(lambda row: checked.append(row.number))
    part = source.survey(lambda row: None, limit=2)
    assert (whole.rows, part.rows, checked) == (3, 2, [1, 2, 3])
    assert whole.digest == part.digest
    assert len(list(source)) == 3
    source.close()


def test_the_sample_of_a_stream_comes_again() -> None:
    source = open_stream(io.BytesIO(b"text\na\nb\nc\n"), "csv", keep=False)
    source.sample(2)
    assert [row.fields["text"] for row in source] == ["a", "b", "c"]


def test_a_kept_stream_can_be_read_twice() -> None:
    source = open_stream(io.BytesIO(b"text\na\nb\n"), "csv", keep=True)
    assert source.survey(lambda row: None).rows == 2
    assert source.survey(lambda row: None).stamp == source.stamp()
    assert len(list(source)) == 2
    source.close()


def write(rows: list[Row], format: Format, columns: list[str], labels: list[str | None]) -> str:
    file = io.BytesIO()
    writer = Writer(file, format, columns, "label")
    for row, label in zip(rows, labels, strict=True):
        writer.write(row, label)
    return file.getvalue().decode()


def test_csv_comes_back_as_it_was_with_a_label() -> None:
    rows = read('id,text\n1,"a, ""b""\nç"\n2,\n'.encode())
    assert write(rows, "csv", ["id", "text"], ["x,y", None]) == 'id,text,label\n1,"a, ""b""\nç","x,y"\n2,,\n'


def test_jsonl_keeps_the_spelling_of_its_objects() -> None:
    rows = read(b'{"text": "a", "n": 12345678901234567890123, "f": 1.0 }\n', "jsonl")
    assert write(rows, "jsonl", [], ["é"]) == '{"text": "a", "n": 12345678901234567890123, "f": 1.0,"label":"é"}\n'


def test_formats_can_be_crossed() -> None:
    assert write(read(b"id,text\n1,a\n"), "jsonl", [], [None]) == '{"id":"1","text":"a","label":null}\n'
    rows = read(b'{"text":"a","tags":["x"],"n":null}\n', "jsonl")
    assert write(rows, "csv", ["text", "tags", "n"], ["b"]) == 'text,tags,n,label\na,"[""x""]",,b\n'


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(str(path)) as file:  # noqa: PT012
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old"
    with replacing(str(path)) as file:
        file.write(b"new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
