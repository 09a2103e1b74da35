"""Labels, prompts, and what becomes of a row."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from aimlasync import AnswerRefusedError, AsyncClient, Endpoint, Retry
from aimlasync.bulk import EmptyTextError, InputError, LabelsError, Prompt, PromptError, Row, classify
from aimlasync.bulk.classify import Api, Result
from aimlasync.bulk.labels import answer_type, read_labels, text_column
from aimlasync.bulk.patience import Patience
from aimlasync.bulk.record import label_reader, record_of, reply_of, row_number
from aimlasync.bulk.tally import Tally
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    InsufficientCreditError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnsupportedRequestError,
)
from aimlasync.providers import AIMLAPI
from aimlasync.schema import format_of
from aimlasync.simulator import Fault, Simulator

MODEL = AIMLAPI.default_model


def rows(*texts: object, column: str = "text") -> list[Row]:
    return [Row(number, number + 1, {column: text}, raw=b"{}") for number, text in enumerate(texts, 1)]


def client_of(sim: Simulator) -> AsyncClient:
    endpoint = Endpoint(base_url=sim.base_url, api_key="k", provider=AIMLAPI)
    return AsyncClient(endpoints=[endpoint], retry=Retry(attempts=1))


def test_labels_are_trimmed() -> None:
    assert read_labels(" a , b c,d ") == ["a", "b c", "d"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no labels"), (" , ", "no labels"), ("a,,b", "an empty label"), ("a, b ,a", "'a' is there twice")],
)
def test_labels_that_nobody_could_answer_with_are_refused(text: str, said: str) -> None:
    with pytest.raises(LabelsError, match=said):
        read_labels(text)


def test_the_schema_lets_the_model_say_nothing_but_a_label() -> None:
    schema = format_of(answer_type(["a", 'b "quoted"', "café"])).schema
    assert schema["properties"] == {"label": {"type": "string", "enum": ["a", 'b "quoted"', "café"]}}
    assert schema["additionalProperties"] is False


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
    columns, sample = prose(word="x")
    assert text_column(columns, sample, None, "in") == "word"


def test_a_text_column_that_cannot_be_guessed_is_asked_for() -> None:
    columns, sample = prose(q="where is my parcel please", a="it is on its way", n="1")
    with pytest.raises(InputError, match=r"in: which column is the text\?.*there are: q, a, n"):
        text_column(columns, sample, None, "in")
    with pytest.raises(InputError, match="in: no column 'body'; there are: q, a, n"):
        text_column(columns, sample, "body", "in")


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
async def test_every_row_gets_a_label_and_survives_the_journal(endpoint: Api) -> None:
    labels = ["support", "billing", "sales"]
    read = label_reader(answer_type(labels))
    async with Simulator() as sim, client_of(sim) as client:
        asked = rows("I want a refund for my invoice", "the app crashes", "what does the business plan cost", 7)
        async with classify(client, asked, labels=labels, model=MODEL, endpoint=endpoint) as work:
            results = [result async for result in work]
    assert len(results) == 4
    tally = Tally()
    for result in results:
        assert result.error is None
        tally.saw(result)
        record = msgspec.json.decode(msgspec.json.encode(record_of(result)), type=type(record_of(result)))
        assert row_number(record) == result.row.number
        reply = reply_of(record, endpoint)
        assert reply is not None
        assert read(reply) == result.label
        assert record.response is not None
        assert record.response.cost_usd == result.reply.info.cost_usd if result.reply else False
    assert tally.labelled == tally.replies == tally.priced == 4
    assert tally.tokens_in > 0 < tally.tokens_out


async def test_a_row_without_text_is_failed_and_not_sent() -> None:
    async with Simulator() as sim, client_of(sim) as client:
        async with classify(client, rows("", "  \n", None, "hello"), labels=["a", "b"], model=MODEL) as work:
            results = [result async for result in work]
        assert [type(result.error) for result in sorted(results, key=lambda r: r.row.number)] == [
            EmptyTextError,
            EmptyTextError,
            EmptyTextError,
            type(None),
        ]
        assert len(sim.ledger) == 1


async def test_a_row_whose_text_is_no_text_ends_the_work() -> None:
    async with Simulator() as sim, client_of(sim) as client:
        async with classify(client, rows(["a"]), labels=["a"], model=MODEL, name="f.jsonl") as work:
            with pytest.raises(InputError, match=r"f\.jsonl: line 2: 'text' is not text"):
                await anext(work)


async def test_failures_are_results_and_a_refusal_keeps_what_was_paid() -> None:
    async with Simulator(faults=[Fault("status", status=429, times=1)]) as sim, client_of(sim) as client:
        asked = rows("hello", "[refuse] hello")
        async with classify(client, asked, labels=["a", "b"], model=MODEL, concurrency=1) as work:
            limited, refused = [result async for result in work]
    assert isinstance(limited.error, RateLimitError)
    assert isinstance(refused.error, AnswerRefusedError)
    record = record_of(limited)
    assert record.error is not None
    assert (record.error.code, record.error.status, record.error.attempts) == ("RateLimitError", 429, 1)
    assert record.response is not None
    assert record.response.status_code == 429
    paid = record_of(refused)
    assert paid.error is not None
    assert reply_of(paid, "chat") is not None
    tally = Tally()
    tally.saw(limited)
    tally.saw(refused)
    assert (tally.labelled, tally.failed, tally.replies) == (0, 2, 1)


def outcome(error: AimlasyncError | None) -> Result:
    return Result(Row(1, 2, {}), label=None if error else "a", error=error)


def fail(kind: type[AimlasyncError]) -> Result:
    error: AimlasyncError = kind.__new__(kind)
    AimlasyncError.__init__(error, "no")
    return outcome(error)


@pytest.mark.parametrize("kind", [AuthenticationError, InsufficientCreditError, PermissionDeniedError, NotFoundError])
def test_what_would_fail_for_every_row_stops_the_job(kind: type[AimlasyncError]) -> None:
    patience = Patience(succeeded=True)
    assert patience.saw(outcome(None)) is None
    assert isinstance(patience.saw(fail(kind)), kind)


def test_a_refused_request_stops_the_job_only_while_nothing_succeeded() -> None:
    def verdicts(patience: Patience, results: Iterator[Result] | list[Result]) -> list[bool]:
        return [patience.saw(result) is not None for result in results]

    assert verdicts(Patience(), [fail(UnsupportedRequestError)]) == [True]
    assert verdicts(Patience(), [fail(BadRequestError)] * 3) == [False, False, True]
    assert verdicts(Patience(succeeded=True), [fail(BadRequestError)] * 20) == [False] * 20
    assert verdicts(Patience(), [outcome(None), *[fail(BadRequestError)] * 20]) == [False] * 21


def test_ten_rows_in_a_row_without_a_connection_stop_the_job() -> None:
    patience = Patience()
    nine = [fail(APIConnectionError)] * 9
    assert not any(patience.saw(result) for result in [*nine, outcome(None), *nine, fail(RateLimitError), *nine])
    assert patience.saw(fail(APIConnectionError)) is not None


def test_a_tally_knows_agreement_with_gold_values_that_are_no_labels() -> None:
    tally = Tally()
    tally.gold.update({("a", "a"): 3, ("a", "b"): 1, ("c", "b"): 2})
    assert tally.right == 3
    assert tally.confusion(["a", "b"]) == [("a", [3, 1]), ("b", [0, 0]), ("c", [0, 2])]
