"""A journal as a table: the order of the input, the columns that were asked for, and every character of them."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.bulk.input.rows import Format, InputError, Reader
from aimlasync.bulk.input.source import Source, open_source, open_stream
from aimlasync.bulk.journal.record import Facts, Failure, Record, Response, encode_record
from aimlasync.bulk.output.export import Exported, export
from aimlasync.bulk.output.layout import RESULTS


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return msgspec.json.encode(
        {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    )


def good(custom_id: str, text: str = "", *, body: bytes | None = None, info: Facts | None = None) -> Record:
    response = Response(status_code=200, request_id="req", body=msgspec.Raw(body or completion(text)))
    return Record(id="x", custom_id=custom_id, response=response, info=info)


def bad(custom_id: str, *, response: Response | None = None, **options: Any) -> Record:
    failure = Failure(code="RateLimitError", message="slow down", **options)
    return Record(id="x", custom_id=custom_id, response=response, error=failure)


class Files:
    """Inputs, journals and outputs of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def journal(self, *records: Record) -> str:
        path = self.folder / "j.journal"
        path.write_bytes(b"".join(encode_record(record) + b"\n" for record in records))
        return str(path)

    def source(self, data: str | bytes, name: str = "in.csv") -> Source:
        path = self.folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return open_source(str(path))

    def export(self, journal: str, source: Source | None = None, name: str = "out.csv", **options: Any) -> str:
        path = self.folder / name
        if source is None:
            self.done = export(journal, str(path), **options)
        else:
            with closing(source):
                self.done = export(journal, str(path), source=source, **options)
        return path.read_bytes().decode()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_rows_come_in_the_order_of_the_input(files: Files) -> None:
    journal = files.journal(good("row-3", "C"), bad("row-1"), good("row-1", "A"), bad("row-4"), good("row-9", "?"))
    source = files.source('id,text\n1,"a, b"\n2,b\n3,"c\nd"\n4,d\n')
    assert files.export(journal, source) == (
        'id,text,answer,error\n1,"a, b",A,\n2,b,,\n3,"c\nd",C,\n4,d,,RateLimitError\n'
    )
    assert files.done == Exported(rows=4, ok=2, failed=1, missing=1, unmatched=1)


def test_rows_without_a_record_can_be_left_out(files: Files) -> None:
    journal = files.journal(good("row-3", "C"), bad("row-1"))
    text = files.export(journal, files.source("id\n1\n2\n3\n4\n"), only_done=True)
    assert text == "id,answer,error\n1,,RateLimitError\n3,C,\n"
    assert files.done == Exported(rows=2, ok=1, failed=1, missing=2, unmatched=0)
    assert (
        files.export(journal, files.source("id\n1\n2\n3\n4\n"), limit=2) == "id,answer,error\n1,,RateLimitError\n2,,\n"
    )


def test_without_an_input_rows_go_by_number_or_as_they_were_done(files: Files) -> None:
    journal = files.journal(good("row-10", "J"), bad("row-9"), good("row-2", "B"), good("row-9", "I"))
    assert files.export(journal) == "custom_id,answer,error\nrow-2,B,\nrow-9,I,\nrow-10,J,\n"
    assert files.export(journal, order="done", columns=["answer"]) == "answer\nJ\nB\nI\n"
    for name in ("b", "row-01", "row-", "row-\u0661", "row-1234567890"):
        journal = files.journal(good("row-2", "2"), good(name, "b"), good("row-1", "1"))
        assert files.export(journal, columns=["answer"]) == "answer\n2\nb\n1\n"


def test_requests_of_the_batch_api_are_found_by_their_own_names(files: Files) -> None:
    lines = [{"custom_id": name, "method": "POST", "url": "/v1/x", "body": {"n": name}} for name in ("x", "y", "z")]
    data = "".join(json.dumps(line) + "\n" for line in lines)
    journal = files.journal(good("z", "Z"), good("x", "X"))
    assert files.export(journal, files.source(data, "in.jsonl")) == "custom_id,answer,error\nx,X,\ny,,\nz,Z,\n"
    text = files.export(journal, files.source(data, "in.jsonl"), columns=["url", "body", "answer"], name="out.jsonl")
    assert text.splitlines()[2] == '{"url":"/v1/x","body":{"n": "z"},"answer":"Z"}'


def test_rows_can_be_named_by_the_caller(files: Files) -> None:
    journal = files.journal(good("k2", "B"), good("k1", "A"))
    text = files.export(journal, files.source("key\nk1\nk2\n"), id_of=lambda row: str(row.fields["key"]))
    assert text == "key,answer,error\nk1,A,\nk2,B,\n"


def test_every_result_column(files: Files) -> None:
    facts = Facts(
        seconds=1.5, attempts=2, model="m", tokens_in=10, tokens_out=3, cost_usd=0.25, label=["a", "b"], confidence=0.75
    )
    failed = Response(status_code=429, request_id="r2", body=msgspec.Raw(b'{"error":{"message":"slow"}}'))
    journal = files.journal(
        good("row-1", "A", info=facts), bad("row-2", response=failed, attempts=6), bad("row-3", status=500)
    )
    text = files.export(journal, name="out.jsonl", columns=[*RESULTS, "body.choices.0.message.content", "body.error"])
    one, two, three = [msgspec.json.decode(line) for line in text.splitlines()]
    assert one == {
        "custom_id": "row-1",
        "place": None,
        "ok": True,
        "answer": "A",
        "label": ["a", "b"],
        "confidence": 0.75,
        "finish_reason": "stop",
        "error": None,
        "error_message": None,
        "status": 200,
        "attempts": 2,
        "tokens_in": 10,
        "tokens_out": 3,
        "cost_usd": 0.25,
        "seconds": 1.5,
        "model": "m",
        "request_id": "req",
        "body.choices.0.message.content": "A",
        "body.error": None,
    }
    told = {"ok", "answer", "error", "error_message", "status", "attempts", "request_id", "body.error"}
    assert {name: value for name, value in two.items() if name in told} == {
        "ok": False,
        "answer": None,
        "error": "RateLimitError",
        "error_message": "slow down",
        "status": 429,
        "attempts": 6,
        "request_id": "r2",
        "body.error": {"message": "slow"},
    }
    assert (three["status"], three["request_id"]) == (500, None)
    columns = ["ok", "label", "confidence", "body.choices.0.index", "body.choices.1.index", "body.choices.x"]
    assert files.export(journal, columns=columns).splitlines()[1:3] == ["true,a|b,0.75,0,,", "false,,,,,"]


@pytest.mark.parametrize(
    ("body", "answer", "reason"),
    [
        ({"object": "response", "output_text": "R", "status": "completed"}, "R", "completed"),
        (
            {
                "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "R"}]}],
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
            },
            "R",
            "max_output_tokens",
        ),
        ({"choices": [{"message": {"content": "C"}, "finish_reason": "length"}]}, "C", "length"),
        ({"object": 7, "choices": []}, "", None),
        ([], None, None),
        ("text", None, None),
        (None, None, None),
    ],
)
def test_an_answer_is_read_by_the_api_it_is_of(files: Files, body: Any, answer: str | None, reason: str | None) -> None:
    journal = files.journal(good("row-1", body=msgspec.json.encode(body)))
    text = files.export(journal, name="out.jsonl", columns=["answer", "finish_reason", "body.object.x"])
    assert msgspec.json.decode(text) == {"answer": answer, "finish_reason": reason, "body.object.x": None}


def test_an_answer_that_was_paid_for_is_shown_beside_its_error(files: Files) -> None:
    record = good("row-1", "nonsense")
    record.error = Failure(code="AnswerInvalidError", message="no label")
    assert files.export(files.journal(record)) == "custom_id,answer,error\nrow-1,nonsense,AnswerInvalidError\n"


def test_a_result_named_like_a_column_of_the_input_gets_a_prefix(files: Files) -> None:
    journal = files.journal(good("row-1", "A"))
    data = "answer,error,result_error\nmine,e,f\n"
    assert files.export(journal, files.source(data)) == (
        "answer,error,result_error,result_answer,result_result_error\nmine,e,f,A,\n"
    )
    columns = ["result_answer", "answer", "status"]
    assert files.export(journal, files.source(data), columns=columns) == "result_answer,answer,status\nA,mine,200\n"


def test_columns_are_added_under_names_of_ones_own(files: Files) -> None:
    row = Record(
        id="x",
        custom_id="row-1",
        response=Response(
            status_code=200, body=msgspec.Raw(b'{"choices":[{"message":{"content":"{\\"team\\":\\"b\\"}"}}]}')
        ),
        info=Facts(label=["a", "b"]),
    )
    add = {"mine": "label", "team": "answer.team", "gone": "answer.nope"}
    assert files.export(files.journal(row), files.source("id\n7\n"), add=add) == "id,mine,team,gone\n7,a|b,b,\n"
    line = files.export(files.journal(row), files.source("id\n7\n"), add=add, format="jsonl")
    assert msgspec.json.decode(line) == {"id": "7", "mine": ["a", "b"], "team": "b", "gone": None}


def test_a_field_with_dots_in_its_name_is_found_before_one_within_another(files: Files) -> None:
    journal = files.journal(good("a", json.dumps({"a.b": 1, "a": {"b": 2, "c": 3}, "l": [{"x.y": 4}]})))
    columns = ["answer.a.b", "answer.a.c", "answer.l.0.x.y", "answer.a", "answer.l.1"]
    text = files.export(journal, name="out.jsonl", columns=columns)
    assert list(msgspec.json.decode(text).values()) == [1, 3, 4, {"b": 2, "c": 3}, None]


@pytest.mark.parametrize("column", ["nope", "body.", "body", "", "result_status"])
def test_an_unknown_column_is_one_line_that_says_what_there_is(files: Files, column: str) -> None:
    with pytest.raises(InputError) as caught:
        files.export(files.journal(good("row-1")), files.source("id,my text\n1,a\n"), columns=["id", column])
    assert str(caught.value).endswith(
        f"in.csv: no column {column!r}; there are: id, 'my text', {', '.join(RESULTS)}, answer.KEY, body.PATH.IN.IT"
    )
    assert not (files.folder / "out.csv").exists()


def test_columns_without_a_name_are_spooled(files: Files) -> None:
    journal = files.journal(good("row-1", "A"))
    data = ",text,,\n0,a,x,y\n"
    assert files.export(journal, files.source(data)) == ",text,,,answer,error\n0,a,x,y,A,\n"
    assert (
        files.export(journal, files.source(data), name="out.jsonl") == '{"":"y","text":"a","answer":"A","error":null}\n'
    )


def test_objects_keep_their_own_members_and_the_spelling_of_numbers(files: Files) -> None:
    data = '{"a": 1.10, "b": 12345678901234567890123}\n{"a":null,"answer":"mine"}\n'
    journal = files.journal(good("row-2", "B"), good("row-1", "A"))
    assert files.export(journal, files.source(data, "in.jsonl"), name="out.jsonl") == (
        '{"a":1.10,"b":12345678901234567890123,"result_answer":"A","error":null}\n'
        '{"a":null,"answer":"mine","result_answer":"B","error":null}\n'
    )
    assert files.export(journal, files.source(data, "in.jsonl")) == (
        "a,b,answer,result_answer,error\n1.1,12345678901234567890123,,A,\n,,mine,B,\n"
    )


def test_a_stream_is_an_input_when_it_is_spooled(files: Files) -> None:
    journal = files.journal(good("row-2", "B"))
    data = b'{"a":1}\n{"b":2}\n'
    spooled = open_stream(io.BytesIO(data), "jsonl", spool=True)
    assert files.export(journal, spooled) == "a,b,answer,error\n1,,,\n,2,B,\n"
    with pytest.raises(InputError, match="stdin: a pipe, and an export reads its input more than once"):
        files.export(journal, open_stream(io.BytesIO(data), "jsonl", spool=False))


def test_standard_output_is_written_as_it_is(files: Files, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    journal = files.journal(good("row-1", "A"))
    export(journal, "-", format="csv")
    export(journal, "-", columns=["answer"])
    assert capfdbinary.readouterr().out == b'custom_id,answer,error\nrow-1,A,\n{"answer":"A"}\n'


def test_a_device_is_not_replaced_by_a_file(files: Files) -> None:
    pipe = files.folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    export(files.journal(good("row-1", "A")), str(pipe), format="csv")
    assert os.read(reader, 1000) == b"custom_id,answer,error\nrow-1,A,\n"
    os.close(reader)


def test_nothing_that_is_read_is_written_over(files: Files) -> None:
    journal = files.journal(good("row-1"))
    source = files.source("a\n1\n")
    with pytest.raises(InputError, match="choose another name"):
        export(journal, journal, format="csv")
    with pytest.raises(InputError, match="choose another name"):
        export(journal, source.name, source=source)
    with pytest.raises(InputError, match=r"neither \.csv nor \.tsv"):
        export(journal, str(files.folder / "out"))
    with pytest.raises(InputError, match=r"^stdout: Parquet is written to a file"):
        export(journal, "-", format="parquet")
    with pytest.raises(InputError, match="no journal can be read there"):
        export(str(files.folder / "none"), str(files.folder / "out.csv"))
    with pytest.raises(InputError, match="'a' is asked for twice"):
        export(journal, str(files.folder / "out.csv"), source=source, columns=["a", "a"])
    source.close()


def test_a_failed_export_leaves_the_old_file(files: Files) -> None:
    journal = files.journal(good("row-1"))
    files.export(journal, files.source("a\n1\n"))
    old = (files.folder / "out.csv").read_text()
    with pytest.raises(InputError, match="line 3"):
        files.export(journal, files.source('a\n1\n"2\n'))
    assert (files.folder / "out.csv").read_text() == old
    assert not list(files.folder.glob("*.part"))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@pytest.mark.parametrize("format", ["csv", "jsonl"])
@settings(deadline=None)
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_any_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, format: Format, rows: list[tuple[str, str]]
) -> None:
    files = Files(tmp_path_factory.mktemp("export"))
    data = "".join(json.dumps({"text": text}) + "\n" for text, _ in rows)
    numbered = list(enumerate(rows, 1))
    journal = files.journal(*[good(f"row-{number}", answer) for number, (_, answer) in reversed(numbered)])
    once = files.export(journal, files.source(data, "in.jsonl"), name=f"out.{format}")
    read = list(Reader(io.BytesIO(once.encode()), format, "out"))
    assert [(row.fields["text"], row.fields["answer"]) for row in read] == rows
    # And as an input, with a result that has the same name by now.
    again = files.export(journal, files.source(once, f"again.{format}"), name=f"twice.{format}")
    read = list(Reader(io.BytesIO(again.encode()), format, "twice"))
    assert [(row.fields["text"], row.fields["result_answer"]) for row in read] == rows


# --- Parquet ----------------------------------------------------------------------------------------------------------


def table_of(path: Path) -> Any:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'aimlasync[parquet]' runs these tests")
    return parquet.read_table(path)


def columns_of(
    files: Files, journal: str, rows: Sequence[dict[str, Any]], **options: Any
) -> dict[str, tuple[str, Any]]:
    pytest.importorskip("pyarrow", reason="pip install 'aimlasync[parquet]' runs these tests")
    data = "".join(json.dumps(row) + "\n" for row in rows)
    with closing(files.source(data, "in.jsonl")) as source:
        export(journal, str(files.folder / "out.parquet"), source=source, **options)
    table = table_of(files.folder / "out.parquet")
    return {name: (str(table.schema.field(name).type), table[name].to_pylist()) for name in table.column_names}


def test_parquet_has_a_kind_for_every_column(files: Files) -> None:
    journal = files.journal(good("row-1", "A", info=Facts(cost_usd=1, label=["x"])), bad("row-2"))
    columns = ["i", "f", "b", "s", "mixed", "big", "nested", "none", "ok", "answer", "label", "cost_usd", "status"]
    rows: list[dict[str, Any]] = [
        {"i": 1, "f": 1.5, "b": True, "s": "a", "mixed": 1, "big": 2**63, "nested": [1], "none": None},
        {"i": None, "f": 2, "b": False, "s": "b", "mixed": True, "big": 1, "nested": {"a": "é"}},
        {},
    ]
    assert columns_of(files, journal, rows, columns=[*columns, "body.choices.0.index"]) == {
        "i": ("int64", [1, None, None]),
        "f": ("double", [1.5, 2.0, None]),
        "b": ("bool", [True, False, None]),
        "s": ("string", ["a", "b", None]),
        "mixed": ("string", ["1", "true", None]),
        "big": ("string", ["9223372036854775808", "1", None]),
        "nested": ("string", ["[1]", '{"a":"é"}', None]),
        "none": ("string", [None, None, None]),
        "ok": ("bool", [True, False, None]),
        "answer": ("string", ["A", None, None]),
        "label": ("string", ["x", None, None]),
        "cost_usd": ("double", [1.0, None, None]),
        "status": ("int64", [200, None, None]),
        "body.choices.0.index": ("int64", [0, None, None]),
    }


def test_a_column_whose_kind_changes_later_is_text_from_the_start(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aimlasync.bulk.output.parquet_table._GROUP", 2)
    rows: list[dict[str, Any]] = [
        {"a": 1, "b": 1, "c": 0.5, "d": None, "e": 1},
        {"a": 2, "b": 1, "c": 1},
        {"a": "x", "b": None, "c": 2**60, "d": 7, "e": 1.5},
    ]
    assert columns_of(files, files.journal(good("row-9")), rows, columns=["a", "b", "c", "d", "e"]) == {
        "a": ("string", ["1", "2", "x"]),
        "b": ("int64", [1, 1, None]),
        "c": ("string", ["0.5", "1", str(2**60)]),
        "d": ("string", [None, None, "7"]),
        "e": ("string", ["1", None, "1.5"]),
    }
    assert not list(files.folder.glob("*.part"))


def test_parquet_in_and_out(files: Files) -> None:
    pytest.importorskip("pyarrow", reason="pip install 'aimlasync[parquet]' runs these tests")
    journal = files.journal(good("row-2", "B"), good("row-1", "A"))
    files.export(journal, files.source("id,text\n1,a\n2,b\n"), name="out.csv")
    with closing(files.source("id,text\n1,a\n2,b\n")) as source:
        export(journal, str(files.folder / "one.parquet"), source=source)
    with closing(open_source(str(files.folder / "one.parquet"))) as source:
        assert export(journal, str(files.folder / "two.parquet"), source=source).ok == 2
    table = table_of(files.folder / "two.parquet")
    assert table.to_pylist()[1] == {
        "id": "2", "text": "b", "answer": "B", "error": None, "result_answer": "B", "result_error": None
    }  # fmt: skip


def test_a_table_without_rows_has_its_columns(files: Files) -> None:
    columns = columns_of(files, files.journal(), [{"a": 1}], columns=["a", "status"], only_done=True)
    assert columns == {"a": ("string", []), "status": ("int64", [])}
