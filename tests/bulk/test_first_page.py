"""The first page of a report: what was asked and what came of it, in words for the reader who pays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aimlasync.errors
from aimlasync.bulk import evaluate
from aimlasync.bulk.journal.record import Facts, Failure, Record, Response, encode_record
from aimlasync.bulk.report import collect, render
from aimlasync.bulk.report.failure_words import _WORDS, in_words
from aimlasync.bulk.report.fields import Field, FormAnswers
from tests.bulk.test_report import Page

SCHEMA = {
    "type": "object",
    "properties": {
        "topic": {"enum": ["bug", "money"]},
        "urgent": {"type": "boolean"},
        "score": {"type": ["number", "null"]},
        "where": {"$ref": "#/$defs/Place"},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}},
        "note": {"type": "string"},
    },
    "$defs": {"Place": {"type": "object", "properties": {"floor": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}},
}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "out.csv.journal"


def answer(text: str) -> Response:
    body = {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": text}}]}
    return Response(status_code=200, body=msgspec.Raw(json.dumps(body).encode()))


def written(journal: Path, job: dict[str, Any], *records: Record, **facts: Any) -> Page:
    manifest = {"aimlasync": "journal", "version": 2, "job": job, "facts": facts}
    journal.with_name(journal.name + ".manifest").write_text(json.dumps(manifest))
    journal.write_bytes(b"".join(encode_record(record) + b"\n" for record in records))
    return page_of(journal)


def page_of(journal: Path, **options: Any) -> Page:
    return Page(render(collect(journal, **options)))


def row(name: str, label: str | None = None, code: str | None = None, *, response: Response | None = None) -> Record:
    failure = None if code is None else Failure(code=code, message=f"MESSAGE {code}")
    response = response or (None if failure else Response(status_code=200))
    return Record(id="x", custom_id=name, response=response, error=failure, info=Facts(label=label))


def words(page: Page) -> str:
    return " ".join(page.text.split())


CLASSIFY = {"task": "classify", "labels": {"billing": "invoices", "sales": ""}, "model": "gpt-x", "prompt": "SECRET"}


def test_it_says_what_was_asked_of_how_many_rows_and_of_whom(journal: Path) -> None:
    facts = {"input": "/data/tickets.csv", "rows": 5000, "columns": ["text"]}
    job = {**CLASSIFY, "input": "0" * 64, "answerer": "simulator"}
    said = words(written(journal, job, row("a", "billing"), row("b", code="RateLimitError"), **facts))
    assert "For each row of tickets.csv : one of 2 labels for its text , asked of gpt-x ." in said
    assert "Simulated: the built-in simulator answered, and no model." in said
    assert "Rows not done 4,998" in said
    assert "0" * 64 not in said
    assert "SECRET" not in said
    assert "Simulated" not in words(written(journal, {**CLASSIFY, "answerer": "model"}, row("a", "billing")))


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({**CLASSIFY, "several labels": True}, "all that apply of 2 labels for its text"),
        ({"task": "prompt", "form": None}, "an answer to a prompt for its text"),
        ({"task": "prompt", "form": SCHEMA}, "the fields topic, urgent, score, where, tags and 1 more for its text"),
        ({"task": "requests"}, "the answer to a request of its own"),
        ({"task": 7, "labels": 3, "form": [], "model": None}, ""),
    ],
)
def test_every_kind_of_job_is_said_in_words(job: dict[str, Any], said: str, journal: Path) -> None:
    columns = [] if job["task"] == "requests" else ["text"]
    assert said in words(written(journal, job, row("a"), columns=columns))


def test_labels_that_no_row_has_are_there_with_their_meanings(journal: Path) -> None:
    said = words(written(journal, CLASSIFY, row("a", "sales"), row("b", "sales")))
    assert "sales 2 100.0%" in said
    assert "billing invoices 0 0.0%" in said
    ordinal = {**CLASSIFY, "labels": {"low": "", "high": ""}, "ordinal": True}
    said = words(written(journal, ordinal, row("a", "high")))
    assert said.index("low 0") < said.index("high 1")


def test_quality_is_on_the_page_where_a_gold_column_is_named(journal: Path) -> None:
    written(journal, CLASSIFY, row("a", "sales"), row("b", "sales"), row("c", "billing"))
    quality = evaluate(journal, {"a": "Sales", "b": "billing", "c": ""})
    said = words(page_of(journal, quality=quality))
    assert "Accuracy 50.0% 1 of 2 rows with a gold label; 95% interval 9.5 to 90.5%" in said
    assert "sales 50.0% 100.0% 66.7% 1 2" in said
    assert "Gold (down), given (across) billing sales billing · 1 sales · 1" in said


def test_a_failure_is_said_in_words_with_what_to_do(journal: Path) -> None:
    codes = ["AnswerRefusedError", "HTTP 429", "NoSuchError", "AnswerRefusedError"]
    said = words(written(journal, CLASSIFY, *(row(f"r{n}", code=code) for n, code in enumerate(codes))))
    assert "The model refused to answer. Run the same command again with --retry-invalid 2. 2 r0" in said
    assert "It failed (NoSuchError). See its message below, and run the same command again. 1 r2" in said


def test_every_error_of_the_library_has_words() -> None:
    named = {name for name, kind in vars(aimlasync.errors).items() if isinstance(kind, type)}
    assert set(_WORDS) - {"EmptyTextError", "UnpricedError"} <= named
    assert in_words("HTTP 429", 429) == in_words("RateLimitError", None)
    assert in_words("HTTP 503", 503) == in_words("InternalServerError", 500)


def test_every_enum_number_and_bool_of_a_schema_has_its_distribution(journal: Path) -> None:
    answers = [
        {"topic": "bug", "urgent": True, "score": 1.5, "where": {"floor": 3}, "tags": ["x", "y"], "note": "SECRET"},
        {"topic": "bug", "urgent": False, "score": None, "where": {"floor": None}, "tags": [], "note": "SECRET"},
        {"topic": "spam", "urgent": True, "score": 2.5, "tags": ["x"], "note": "SECRET"},
    ]
    rows = [row(f"r{n}", response=answer(json.dumps(each))) for n, each in enumerate(answers)]
    said = words(written(journal, {"task": "prompt", "form": SCHEMA}, *rows, row("r9", response=answer("no JSON"))))
    assert "topic Value Rows Share bug 2 66.7% money 0 0.0%" in said
    assert "urgent Value Rows Share true 2 66.7% false 1 33.3%" in said
    assert "score Mean 2, lowest 1.5, highest 2.5. Value Rows Share 1.5 1 33.3% 2.5 1 33.3% (none) 1 33.3%" in said
    assert "where.floor Mean 3" in said
    assert "tags A row may have several. Value Rows Share x 2 66.7% y 1 33.3%" in said
    assert "SECRET" not in said
    assert "spam" not in said


@given(st.lists(st.floats(-1e12, 1e12) | st.integers(-5, 5), min_size=1, max_size=300))
def test_every_number_is_in_one_bin(numbers: list[float]) -> None:
    field = Field("n", is_number=True)
    for number in numbers:
        field.add(number)
    assert sum(rows for _, rows in field.bins()) == len(numbers)
    assert len(field.bins()) <= 14
    assert field.low == min(numbers)


def test_many_different_numbers_take_bounded_memory() -> None:
    field = Field("n", is_number=True)
    for number in range(20_000):
        field.add(number * 1.0001)
    assert len(field.numbers) <= 512
    assert field.mean == pytest.approx(10_000.9, rel=1e-3)
    assert sum(rows for _, rows in field.bins()) == 20_000


@pytest.mark.parametrize(
    "schema",
    [{}, {"properties": 3}, {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}],
)
def test_a_schema_that_says_nothing_has_no_fields(schema: dict[str, Any]) -> None:
    form = FormAnswers(schema)
    form.add(answer('{"a": 1}'))
    assert form.fields == []
