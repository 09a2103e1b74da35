"""Prompts, the text of a row, examples, and `classify` from texts to labels."""

from __future__ import annotations

import enum
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from aimlasync import AnswerInvalidError, AnswerRefusedError, AnswerTruncatedError, AsyncClient, RateLimitError
from aimlasync.bulk import (
    EmptyTextError,
    InputError,
    Prompt,
    PromptError,
    PromptTask,
    Record,
    RequestError,
    Result,
    Row,
    classify,
    run,
)
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.journal.convert import record_of
from aimlasync.bulk.journal.manifest import read_manifest
from aimlasync.bulk.journal.record import decode_record, encode_record
from aimlasync.bulk.tasks.answer_schema import form_of_schema
from aimlasync.bulk.tasks.classification import ClassifyTask
from aimlasync.bulk.tasks.few_shot import MAX_SHOTS, read_shots
from aimlasync.bulk.tasks.labels import answer_type
from aimlasync.bulk.tasks.request import Api
from aimlasync.bulk.tasks.result import reply_of
from aimlasync.bulk.tasks.text_column import text_column
from aimlasync.endpoints.providers import AIMLAPI
from aimlasync.simulator import Answer, Fault, SimRequest, Simulator
from aimlasync.structured.schema import format_of
from tests.support.servers import LEARNS_NOTHING

MODEL = AIMLAPI.default_model
ADDED = {"label": "label"}
LABELS = {"support": "", "billing": "", "sales": ""}
TEXTS = ["I want a refund for my invoice", "the app crashes", "what does the business plan cost"]


def client_of(simulator: Simulator) -> AsyncClient:
    return AsyncClient(api_key="k", base_url=simulator.base_url, max_retries=0, limits=LEARNS_NOTHING)


def test_the_schema_lets_the_model_say_nothing_but_a_label() -> None:
    schema = format_of(answer_type({"a": "", 'b "quoted"': "", "café": ""})).schema
    assert schema["properties"] == {"label": {"type": "string", "enum": ["a", 'b "quoted"', "café"]}}
    assert schema["additionalProperties"] is False


# Prompts and columns


def test_a_prompt_is_filled_with_the_text_and_any_column() -> None:
    prompt = Prompt("s", "{text} ({channel}, {first name}) {{literal}} {n}")
    assert prompt.columns() == ["text", "channel", "first name", "n"]
    fields = {"text": "no", "channel": "{text}", "first name": "Al", "n": 3}
    assert prompt.user("yes", fields) == "yes ({text}, Al) {literal} 3"


@pytest.mark.parametrize(
    ("template", "said"), [("hello", "no {text}"), ("{text} {", "a lone {"), ("{text} }", "a lone }")]
)
def test_a_prompt_that_cannot_be_filled_is_refused(template: str, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        Prompt("s", template)


@pytest.mark.parametrize(
    ("template", "right"),
    [
        ("Judge: {{ text }}", "{text}"),
        ("{{text}}", "{text}"),
        ("{text} of {{city}}", "{city}"),
        ("{text} {{ city|upper }}", "{city}"),
        ("{text} {{- city -}}", "{city}"),
        ("{% if text %}{text}{% endif %}", "{column}"),
        ("{text} {{#each rows}}", "{column}"),
    ],
)
@pytest.mark.parametrize("where", ["prompt", "system"])
def test_what_is_another_template_language_is_refused_with_the_right_spelling(
    template: str, right: str, where: str
) -> None:
    said = ("s", template) if where == "prompt" else (template, "{text}")
    with pytest.raises(PromptError, match=f"Jinja.*{re.escape(right)}"):
        Prompt(*said, fills_system=True).check(["text", "city"])


def test_a_system_message_is_filled_in_too_where_it_is_a_template() -> None:
    prompt = Prompt('Know {city}: {text}. {{"a": 1}}', "{text}", fills_system=True)
    assert prompt.columns() == ["text", "city"]
    assert prompt.system_for("hello", {"city": "Rome"}) == 'Know Rome: hello. {"a": 1}'
    assert Prompt("{city} {{", "{text}").system_for("hello", {"city": "Rome"}) == "{city} {{"
    with pytest.raises(
        PromptError, match=r'system message names \{"a": 1\}, .*braces themselves are written \{\{ and \}\}'
    ):
        Prompt('{"a": 1}', "{text}", fills_system=True).check(["city"])


@pytest.mark.parametrize("name", ["model", "messages", "input", "instructions", "stream"])
def test_parameters_that_rows_bring_themselves_are_refused(name: str) -> None:
    for make in (
        lambda: ClassifyTask(labels=["a", "b"], model="m", params={name: "x"}),
        lambda: PromptTask(prompt="{a}", model="m", params={"seed": 1, name: "x"}),
    ):
        with pytest.raises(RequestError, match=f'"{name}" is among the parameters .*; (name|say|leave) it'):
            make()


def test_an_unknown_name_in_a_prompt_is_refused_with_the_columns() -> None:
    with pytest.raises(PromptError, match=r"\{subject\}, which is no column; there are: id, body"):
        Prompt("s", "{text} {subject}").check(["id", "body"])


def prose(**columns: str) -> tuple[list[str], list[Row]]:
    return list(columns), [Row(1, 2, dict(columns), raw=b"{}")]


def test_the_text_column_is_the_one_with_prose_in_it() -> None:
    columns, sample = prose(id="T1", when="2026-01-02 10:00", body="my screen is dark again", team="support")
    assert text_column(columns, sample, None, "in") == "body"
    columns, sample = prose(id="T1", body="画面がまた暗くなりました")
    assert text_column(columns, sample, None, "in") == "body"
    columns, sample = prose(text="x", body="my screen is dark again")
    assert text_column(columns, sample, None, "in") == "text"
    columns, sample = prose(Text="x", body="my screen is dark again")
    assert text_column(columns, sample, None, "in") == "Text"
    columns, sample = prose(Text="x", TEXT="y", body="my screen is dark again")
    assert text_column(columns, sample, None, "in") == "body"
    columns, sample = prose(word="x")
    assert text_column(columns, sample, None, "in") == "word"


def test_a_text_column_that_cannot_be_guessed_is_asked_for() -> None:
    columns, sample = prose(q="where is my parcel please", a="it is on its way", n="1")
    with pytest.raises(InputError, match=r"in: which column is the text\?.*there are: q, a, n"):
        text_column(columns, sample, None, "in")
    with pytest.raises(InputError, match="in: no column 'body'; there are: q, a, n"):
        text_column(columns, sample, "body", "in")


# Examples


def test_examples_are_read_from_a_table_by_the_names_of_the_input(tmp_path: Path) -> None:
    path = tmp_path / "shots.csv"
    path.write_text("body,team,label\nhi,a,b\n")
    assert read_shots(str(path), text="body", label="team") == [("hi", "a")]
    assert read_shots(str(path), text="body", label="gone") == [("hi", "b")]
    path = tmp_path / "shots.jsonl"
    path.write_text('{"text": "hi", "why": "x", "n": 1}\n')
    assert read_shots(str(path), text="body", label="label") == [("hi", {"why": "x", "n": 1})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "no column 'text' with the texts; there are: a, b"),
        ("text,label\n", "a header and no rows"),
        ("text,label\n" + "x,a\n" * (MAX_SHOTS + 1), "line 102: more than 100 examples"),
    ],
)
def test_examples_that_cannot_be_used_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "shots.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_shots(str(path), text="text", label="label")


# classify


async def labels_of(client: AsyncClient, texts: Any, **options: Any) -> list[Result]:
    given: dict[str, Any] = {"labels": LABELS, "model": MODEL, **options}
    return [result async for result in classify(client, texts, **given)]


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
async def test_every_text_gets_a_label_in_its_turn_and_survives_the_journal(client: AsyncClient, endpoint: Api) -> None:
    task = ClassifyTask(labels=LABELS, model=MODEL, endpoint=endpoint)
    results = await labels_of(client, [*TEXTS, "7"], endpoint=endpoint, concurrency=3)
    assert [result.answer and result.answer.label for result in results][:3] == ["billing", "support", "sales"]
    assert [result.custom_id for result in results] == ["row-1", "row-2", "row-3", "row-4"]
    for result in results:
        assert result.ok
        record = decode_record(encode_record(record_of(result)))
        assert record.info is not None
        assert record.response is not None
        reply = reply_of(bytes(record.response.body))
        assert reply is not None
        assert task.read is not None
        assert result.answer is not None
        assert task.read(reply) == result.answer
        assert record.info.label == result.answer.label
        assert record.info.cost_usd == result.cost_usd is not None


async def test_texts_may_be_rows_and_come_asynchronously(client: AsyncClient) -> None:
    async def rows() -> AsyncIterator[dict[str, Any]]:
        for text in TEXTS:
            yield {"body": text, "channel": "mail"}

    results = await labels_of(client, rows(), text="body", prompt="{channel}: {text}", labels=list(LABELS))
    assert [result.answer and result.answer.label for result in results] == ["billing", "support", "sales"]
    assert results[0].request.body["messages"][-1]["content"] == f"mail: {TEXTS[0]}"


async def test_several_labels_and_forms_of_the_callers_own_are_answered(client: AsyncClient) -> None:
    class Ticket(msgspec.Struct):
        why: str
        team: Literal["support", "billing"]

    several = await labels_of(client, TEXTS, multi=True)
    assert all(one.answer is not None and isinstance(one.answer.label, list) for one in several)
    (form,) = await labels_of(client, TEXTS[:1], labels=Ticket)
    assert form.answer is not None
    assert form.answer.label == "billing"
    assert isinstance(form.parsed, Ticket)
    assert form.parsed.team == "billing"
    (failed,) = await labels_of(client, [""], labels=Ticket)
    assert (failed.parsed, failed.fields) == (None, {"text": ""})


async def test_an_empty_text_is_a_failed_row_and_the_others_are_asked(
    client: AsyncClient, simulator: Simulator
) -> None:
    results = await labels_of(client, ["", "hello", {"text": None}, " \n"])
    assert [type(result.error) for result in results] == [EmptyTextError, type(None), EmptyTextError, EmptyTextError]
    assert [(result.custom_id, result.calls, result.attempts) for result in results[::2]] == [
        ("row-1", 0, 0),
        ("row-3", 0, 0),
    ]
    assert len(simulator.ledger) == 1
    assert [result.row and result.row.number for result in results] == [1, 2, 3, 4]


async def test_a_row_whose_text_is_no_text_ends_the_iteration_after_what_was_answered(client: AsyncClient) -> None:
    results = []
    with pytest.raises(InputError, match="line 2: 'text' is not text"):  # noqa: PT012
        async for result in classify(client, ["hello", {"text": ["a"]}], labels=LABELS, model=MODEL):
            results.append(result)  # noqa: PERF401  # what came before the error counts
    assert [result.ok for result in results] == [True]


async def test_failures_are_results_and_a_refusal_keeps_what_was_paid() -> None:
    async with Simulator(faults=[Fault("status", status=429, times=1)]) as simulator, client_of(simulator) as client:
        limited, refused = await labels_of(client, ["hello", "[refuse] hello"], concurrency=1)
        assert isinstance(limited.error, RateLimitError)
        assert isinstance(refused.error, AnswerRefusedError)
        assert (limited.attempts, limited.tokens_in, limited.cost_usd) == (1, None, None)
        assert refused.cost_usd == pytest.approx(simulator.ledger.cost_usd)
        record = record_of(limited)
        assert record.error is not None
        assert (record.error.code, record.error.status, record.error.attempts) == ("RateLimitError", 429, 1)
        assert record.response is not None
        assert record.response.status_code == 429
        paid = record_of(refused)
        assert paid.response is not None
        assert reply_of(bytes(paid.response.body)) is not None


async def test_answers_that_are_no_good_are_asked_for_again_and_all_of_them_paid_for() -> None:
    said = iter(["nonsense", '{"label":"', '{"label":"billing"}', "nonsense", "nonsense"])

    def answer(request: SimRequest) -> Answer:
        text = next(said)
        return Answer(text=text, finish_reason="length" if text == '{"label":"' else None)

    async with Simulator(answer=answer) as simulator, client_of(simulator) as client:
        (good,) = await labels_of(client, ["a"], retry_invalid=2)
        (bad,) = await labels_of(client, ["b"], retry_invalid=1)
        assert (good.ok, good.calls, good.attempts) == (True, 3, 3)
        assert isinstance(bad.error, AnswerInvalidError)
        assert (bad.calls, bad.attempts) == (2, 2)
        assert bad.reply is not None
        attempts = list(simulator.ledger)
        for result, asked in ((good, attempts[:3]), (bad, attempts[3:])):
            assert result.tokens_in == sum(one.prompt_tokens for one in asked)
            assert result.tokens_out == sum(one.completion_tokens for one in asked)
            assert result.cost_usd == pytest.approx(sum(one.cost_usd for one in asked))


async def test_a_cut_answer_and_a_failure_behind_it_are_both_told() -> None:
    def answer(request: SimRequest) -> Answer:
        return Answer(text='{"label":"bil', finish_reason="length")

    faults = [Fault("status", status=429, after=1)]
    async with Simulator(answer=answer, faults=faults) as simulator, client_of(simulator) as client:
        (result,) = await labels_of(client, ["a"], retry_invalid=5)
        assert isinstance(result.error, RateLimitError)
        assert (result.calls, result.attempts) == (2, 2)
        assert result.cost_usd == pytest.approx(simulator.ledger.cost_usd)
        assert result.info is result.error.info
        record = record_of(result)
        assert record.error is not None
        assert record.response is not None
        assert (record.error.status, record.response.status_code) == (429, 200)
        assert result.reply is not None
        assert record.response.request_id == result.reply.info.inference_id
        (cut,) = await labels_of(client, ["a"])
        assert isinstance(cut.error, RateLimitError)
    async with Simulator(answer=answer) as simulator, client_of(simulator) as client:
        (cut,) = await labels_of(client, ["a"])
        assert isinstance(cut.error, AnswerTruncatedError)


async def test_rows_of_a_job_have_labels_in_the_journal_and_gold_beside_them(
    client: AsyncClient, tmp_path: Path
) -> None:
    rows = [{"text": text, "team": team} for text, team in zip(TEXTS, ["billing", "sales", ""], strict=True)]
    kept: list[Record] = []
    summary = await run(
        client,
        rows,
        tmp_path / "out.jsonl",
        task=ClassifyTask(labels=LABELS, model=MODEL),
        options=Options(gold="team"),
        seen=lambda result, record: kept.append(record),
    )
    assert summary.totals.labels == {"support": 1, "billing": 1, "sales": 1}
    assert (summary.totals.right, summary.totals.judged, summary.totals.quality.blank) == (1, 2, 1)
    assert {record.custom_id: record.info and record.info.label for record in kept} == {
        "row-1": "billing",
        "row-2": "support",
        "row-3": "sales",
    }


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
@pytest.mark.parametrize("kind", ["json_schema", "tool", "json_object", "text"])
async def test_models_of_every_kind_label_rows_and_the_manifest_says_how_they_were_asked(
    tmp_path: Path, kind: Any, endpoint: Api
) -> None:
    async def label(structured: Any = "auto") -> Any:
        task = ClassifyTask(labels=LABELS, model=MODEL, endpoint=endpoint, structured=structured)
        async with client_of(simulator) as client:
            return await run(client, [{"text": text} for text in TEXTS], tmp_path / "out.csv", task=task, add=ADDED)

    async with Simulator(structured=kind) as simulator:
        summary = await label()
    assert (summary.totals.ok, summary.totals.structured) == (3, {kind: 3})
    assert read_manifest(f"{summary.journal}.manifest")["facts"]["structured"] == {kind: 3}  # type: ignore[index]
    table = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in table] == ["label", "billing", "support", "sales"]
    # A run that has nothing to do leaves it, and another may claim the journal.
    async with Simulator(structured=kind) as simulator:
        assert (await label()).totals.structured == {kind: 3}
        assert len(simulator.ledger) == 0


@pytest.mark.parametrize("kind", ["tool", "text"])
async def test_forms_of_the_callers_own_are_exported_from_answers_of_every_kind(tmp_path: Path, kind: Any) -> None:
    schema = {"type": "object", "properties": {"team": {"enum": ["billing", "support", "sales"], "type": "string"}}}
    task = ClassifyTask(form=form_of_schema("mail", schema), model=MODEL)
    async with Simulator(structured=kind) as simulator, client_of(simulator) as client:
        added = {"team": "answer.team"}
        await run(client, [{"text": text} for text in TEXTS], tmp_path / "out.csv", task=task, add=added)
    table = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in table] == ["team", "billing", "support", "sales"]


async def test_an_enum_or_a_literal_is_a_list_of_labels(client: AsyncClient) -> None:
    for labels in (enum.Enum("Team", {"A": "support", "B": "billing"}), Literal["support", "billing"]):
        (result,) = await labels_of(client, [TEXTS[0]], labels=labels)
        assert result.label == "billing"
