"""Rows of CSV and JSONL: what is read, and the one line that says why something cannot be."""

from __future__ import annotations

import hashlib
import io
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aimlasync.bulk.input.rows as rows_module
from aimlasync.bulk.input.formats import format_of_path
from aimlasync.bulk.input.rows import Format, InputError, Lines, Reader, Row
from aimlasync.bulk.input.source import open_source, open_stream
from aimlasync.bulk.journal.record import Facts, Record
from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.result import Result
from aimlasync.cli.files import row_writer


def read(data: bytes, format: Format = "csv") -> list[Row]:
    return list(Reader(io.BytesIO(data), format, "in"))


def test_csv_rows_keep_quotes_commas_and_line_ends_inside_fields() -> None:
    rows = read(b'id,text\n1,"a, ""b""\r\nc"\n2,d\n')
    assert [row.fields for row in rows] == [{"id": "1", "text": 'a, "b"\r\nc'}, {"id": "2", "text": "d"}]
    assert [(row.number, row.line) for row in rows] == [(1, 2), (2, 4)]


@pytest.mark.parametrize("odd", ["200,a", "", "  ", "1", '1,"a\nb"', "1,2,3", '1,a"b', '1,"a'])
def test_rows_of_many_lines_are_those_that_are_read_one_by_one(odd: str, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    for at in (0, 62, 63, 64, 127, 128, 199):
        written = [f"{number},text {number}" for number in range(200)]
        written.insert(at, odd)
        path.write_text("id,text\n" + "\n".join(written) + "\n")
        data, checked = path.read_bytes(), list[Row]()
        # A pipe gives line by line.
        rows, said = outcome(Pieces(data, 1), "csv")
        assert outcome(io.BytesIO(data), "csv") == (rows, said), at
        with closing(open_source(str(path))) as source:
            if said:
                with pytest.raises(InputError) as caught:
                    source.survey(checked.append, alike=True)
                assert str(caught.value) == f"{path}{said.removeprefix('in')}", at
            else:
                found = source.survey(checked.append, alike=True)
                assert (found.rows, found.digest) == (len(rows), hashlib.sha256(data).hexdigest()), at
        # The first, and those from the lines on in which one is not like the others.
        assert checked[:1] == rows[:1], at
        assert len(checked) < 2 or (odd != "200,a" and checked[-1] == rows[-1]), at
        assert len(checked) < len(rows) or at < 64, at


def test_a_byte_order_mark_and_blank_lines_are_no_rows() -> None:
    assert [row.fields for row in read(b"\xef\xbb\xbftext\n\na\n\n\nb")] == [{"text": "a"}, {"text": "b"}]
    assert [row.line for row in read(b'\xef\xbb\xbf{"text":"a"}\n\n{"text":"b"}\n', "jsonl")] == [1, 3]
    # A line of blanks is a blank line, but where the blanks are the only cell.
    assert [row.fields for row in read(b"id,text\n1,a\n  \n\t\n2,b\n \n")] == [
        {"id": "1", "text": "a"},
        {"id": "2", "text": "b"},
    ]
    assert [row.fields for row in read(b"text\na\n  \nb\n")] == [{"text": "a"}, {"text": "  "}, {"text": "b"}]
    twice = b"\xef\xbb\xbf\xef\xbb\xbfid,text\n1,a\n"
    assert [row.fields for row in read(twice)] == [{"id": "1", "text": "a"}]


def test_half_a_surrogate_pair_is_the_replacement_character_and_a_whole_one_a_character() -> None:
    # As Python's json writes a text that was cut within a character.
    data = rb'{"id": 1, "text": "cut \ud83d"}' + b"\n" + rb'{"id": 2, "text": "\\ud83d \ud83d\ude00 \uDE00\ud83d\n"}'
    whole = [{"id": 1, "text": "cut \ufffd"}, {"id": 2, "text": "\\ud83d \U0001f600 \ufffd\ufffd\n"}]
    formats: list[tuple[Format, bytes]] = [("jsonl", data), ("json", b"[" + data.replace(b"\n", b",") + b"]")]
    for name, text in formats:
        rows = read(text, name)
        assert [row.fields for row in rows] == whole
        assert [msgspec.json.decode(row.raw) for row in rows if isinstance(row.raw, bytes)] == whole


LINES = [
    b'{"n": 1}',
    b'  {"n": 2}\t',
    b"",
    b" \t",
    b"\xef\xbb\xbf",
    b'\xef\xbb\xbf{"n": 3}',
    b"\xc2\xa0",
    b'\xc2\xa0{"n": 4}',
]


@given(
    lines=st.lists(st.sampled_from(LINES), min_size=1),
    wanted=st.sets(st.integers(1, 9)),
    end=st.sampled_from([b"", b"\r"]),
)
def test_json_lines_that_are_left_out_are_counted_like_those_that_are_read(
    lines: list[bytes], wanted: set[int], end: bytes
) -> None:
    data = b"".join(line + end + b"\n" for line in [b'{"n": 0}', *lines])
    every = read(data, "jsonl")
    found = list(Reader(io.BytesIO(data), "jsonl", "in").chosen(wanted.__contains__))
    assert found == [row if row.number in wanted else row.number for row in every]


def test_a_json_line_that_is_left_out_is_not_decoded() -> None:
    data = b'{"n": 1}\n{"n": bad}\n{"n": 3}\n'
    reader = Reader(io.BytesIO(data), "jsonl", "in")
    assert list(reader.chosen((3).__eq__))[:2] == [1, 2]
    assert reader.columns == ["n"]


def test_a_byte_order_mark_of_a_file_that_was_put_behind_another_is_no_part_of_its_row() -> None:
    assert [row.fields for row in read(b'{"text":"a"}\n\xef\xbb\xbf{"text":"b"}\n', "jsonl")] == [
        {"text": "a"},
        {"text": "b"},
    ]


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
        (
            b"id,text\n1,a\n2,b,c\n",
            "csv",
            "in: line 3: 3 fields under a header of 2, divided by comma; put quotes around a field that has one",
        ),
        (
            b"id~text\n1~a, b\n",
            "csv",
            "in: line 2: 2 fields under a header of 1, divided by comma; say what divides the columns with --delimiter",
        ),
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


class Pieces:
    """A file in pieces of a few whole lines, as a large one is read."""

    def __init__(self, data: bytes, size: int) -> None:
        self.file = io.BytesIO(data)
        self.size = size

    def readline(self, limit: int, /) -> bytes:
        return b"".join(self.file.readline(limit) for _ in range(self.size))


def outcome(lines: Lines, format: Format) -> tuple[list[Row], str]:
    rows: list[Row] = []
    try:
        rows.extend(Reader(lines, format, "in"))
    except InputError as error:
        return rows, str(error)
    return rows, ""


PIECE = st.sampled_from(
    [b'{"a":1}', b'{"a":"\xc3\xa9"}', b"{", b"[]", b'"', b"\xff", b"\0", b"\xc2\xa0", b"a,b", b",", b"\r", b"\n", b"\n"]
)


@given(st.lists(PIECE).map(b"".join), st.integers(2, 5), st.sampled_from(["csv", "jsonl"]), st.booleans())
def test_it_does_not_matter_in_what_pieces_lines_come(data: bytes, size: int, format: Format, marked: bool) -> None:
    data = b"\xef\xbb\xbf" * marked + (b"a,b\n" if format == "csv" else b"") + data
    assert outcome(Pieces(data, size), format) == outcome(io.BytesIO(data), format)


def test_a_bad_byte_of_a_large_file_has_its_line_and_place(tmp_path: Path) -> None:
    line = b'{"text":"\xc3\xa9"}\n'
    for name, before in (("in.jsonl", b""), ("in.csv", b"text\n")):
        path = tmp_path / name
        path.write_bytes(before + line * 40_000 + b'{"text":"\xff"}\n' + line * 10)
        number = 40_001 + bool(before)
        with closing(open_source(str(path))) as source, pytest.raises(InputError) as caught:
            source.survey(lambda row: None)
        assert f"line {number}: not UTF-8: 0xff at byte {len(before) + len(line) * 40_000 + 9};" in str(caught.value)


def test_a_line_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MAX_LINE", 100)
    for lines in (io.BytesIO(b"a\n" + b"x" * 1000), Pieces(b"a\n" + b"x" * 1000, 2)):
        assert "in: line 2: longer than 100 bytes" in outcome(lines, "csv")[1]
    assert "in: line 1: longer than 100 bytes" in outcome(io.BytesIO(b'{"a":"%b"}' % (b"x" * 200)), "jsonl")[1]
    # A whole line that is too long is refused as well, however it came.
    assert "in: line 1: longer than 100 bytes" in outcome(Pieces(b'{"a":"%b"}\n{}\n' % (b"x" * 92), 2), "jsonl")[1]


def test_json_that_is_nested_too_deeply_is_an_error_of_its_line() -> None:
    rows, said = outcome(io.BytesIO(b'{"a":1}\n{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"), "jsonl")
    assert len(rows) == 1
    assert said.startswith("in: line 2: not JSON")


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
    assert whole.digest == part.digest == source.digest() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(list(source)) == 3
    source.close()


def test_the_sample_of_a_stream_comes_again() -> None:
    source = open_stream(io.BytesIO(b"text\na\nb\nc\n"), "csv", spool=False)
    source.sample(2)
    assert [row.number for row in source.sample(1)] == [1]
    assert [row.number for row in source.sample(3)] == [1, 2, 3]
    assert [row.fields["text"] for row in source] == ["a", "b", "c"]


def test_a_kept_stream_can_be_read_twice() -> None:
    source = open_stream(io.BytesIO(b"text\na\nb\n"), "csv", spool=True)
    assert source.survey(lambda row: None).rows == 2
    assert source.survey(lambda row: None).stamp == source.stamp()
    assert len(list(source)) == 2
    source.close()


def write(data: bytes, given: Format, format: Format, labels: list[str | None]) -> str:
    source = open_stream(io.BytesIO(data), given, spool=False)
    source.sample(1)
    file = io.BytesIO()
    with row_writer(file, source, {"label": "label"}, format) as write_row:
        for row, label in zip(source, labels, strict=True):
            request = Request(custom_id=row.custom_id, api="chat", body={})
            write_row(Result(request, row=row), Record(id="", custom_id=row.custom_id, info=Facts(label=label)))
    return file.getvalue().decode()


def test_csv_comes_back_as_it_was_with_a_label() -> None:
    data = 'id,text\n1,"a, ""b""\nç"\n2,\n'.encode()
    assert write(data, "csv", "csv", ["x,y", None]) == 'id,text,label\n1,"a, ""b""\nç","x,y"\n2,,\n'


def test_jsonl_keeps_the_spelling_of_its_numbers() -> None:
    data = b'{"text": "a", "n": 12345678901234567890123, "f": 1.0 }\n'
    assert write(data, "jsonl", "jsonl", ["é"]) == '{"text":"a","n":12345678901234567890123,"f":1.0,"label":"é"}\n'


def test_formats_can_be_crossed() -> None:
    assert write(b"id,text\n1,a\n", "csv", "jsonl", [None]) == '{"id":"1","text":"a","label":null}\n'
    data = b'{"text":"a","tags":["x"],"n":null}\n'
    assert write(data, "jsonl", "csv", ["b"]) == 'text,tags,n,label\na,"[""x""]",,b\n'


def test_an_object_without_members_gets_a_label() -> None:
    assert write(b"{ }\n", "jsonl", "jsonl", ["b"]) == '{"label":"b"}\n'


@pytest.mark.parametrize(("name", "format"), [("a.PQ", "parquet"), ("a.parquet", "parquet"), ("a.ndjson", "jsonl")])
def test_a_name_says_its_format(name: str, format: Format) -> None:
    assert format_of_path(name) == format
