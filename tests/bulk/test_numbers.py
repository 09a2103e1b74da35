"""What a job adds up to, when it is enough, and how sure a model was."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimlasync import Limits, Price
from aimlasync.bulk import Caps, Row
from aimlasync.bulk.jobs.caps import read_seconds, token_cap
from aimlasync.bulk.jobs.dry_run import Estimate, Sample, estimate, forecast
from aimlasync.bulk.jobs.stop_rules import (
    MAX_REFUSED,
    MAX_UNFIT,
    MAX_UNREACHED,
    Ending,
    StopRules,
    is_to_come_back,
    is_unpaid,
)
from aimlasync.bulk.journal.record import Facts, Failure, Record
from aimlasync.bulk.progress.progress import Progress, limited_by
from aimlasync.bulk.progress.totals import Spending, Totals
from aimlasync.bulk.tasks.confidence import confidence_of
from aimlasync.bulk.tasks.result import is_refused
from aimlasync.chat.types import decode_completion
from aimlasync.endpoints.statistics import EndpointStatistics
from aimlasync.errors import (
    AimlasyncError,
    AnswerInvalidError,
    AnswerTruncatedError,
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    InsufficientCreditError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
    UnsupportedRequestError,
)
from aimlasync.responses.types import decode_response


def record(error: str | None = None, **facts: Any) -> Record:
    failure = None if error is None else Failure(code=error, message=f"it was {error}")
    return Record(id="x", custom_id="row-1", error=failure, info=Facts(**facts))


# Totals


def test_a_cost_that_nobody_stated_is_unknown_and_not_zero() -> None:
    totals = Totals()
    totals.add_record(record(tokens_in=3, tokens_out=4))
    assert (totals.cost, totals.replies, totals.priced) == (None, 1, 0)
    totals.add_record(record(tokens_in=1, tokens_out=1, cost_usd=0.0))
    assert (totals.cost, totals.replies, totals.priced) == (0.0, 2, 1)
    totals.add_record(record(cost_usd=0.5))
    assert (totals.cost, totals.uncounted, totals.tokens_in, totals.tokens_out) == (0.5, 1, 4, 5)


def test_a_failure_counts_as_paid_for_only_where_something_says_so() -> None:
    totals = Totals()
    totals.add_record(record("RateLimitError", attempts=3))
    assert (totals.failed, totals.replies, totals.uncounted) == (1, 0, 0)
    totals.add_record(record("AnswerRefusedError", tokens_in=5, tokens_out=1, cost_usd=0.1))
    assert (totals.failed, totals.replies, totals.tokens_in, totals.cost) == (2, 1, 5, 0.1)
    assert {kind: (one.count, one.message) for kind, one in totals.failures.items()} == {
        "RateLimitError": (1, "it was RateLimitError"),
        "AnswerRefusedError": (1, "it was AnswerRefusedError"),
    }


def test_a_row_that_shares_a_call_is_done_and_costs_nothing() -> None:
    totals = Totals()
    totals.add_record(record(shared_with="row-9", label="a"))
    assert (totals.ok, totals.shared, totals.replies, totals.uncounted, totals.labels) == (1, 1, 0, 0, {"a": 1})
    totals.add_record(record(shared_with="row-9", tokens_in=2, tokens_out=1, cost_usd=0.25))
    assert (totals.shared, totals.replies, totals.cost) == (2, 1, 0.25)


def test_a_refusal_is_seen_on_both_endpoints_and_an_answer_without_choices_is_none() -> None:
    def chat(**choice: Any) -> bool:
        return is_refused(decode_completion(msgspec.json.encode({"choices": [{"index": 0, **choice}]})))

    assert chat(message={"role": "assistant", "refusal": "no"}, finish_reason="stop")
    assert chat(message={"role": "assistant", "content": "a"}, finish_reason="content_filter")
    assert not chat(message={"role": "assistant", "content": "a"}, finish_reason="length")
    assert not is_refused(decode_completion(b'{"choices": []}'))
    assert is_refused(decode_response(b'{"id": "r", "incomplete_details": {"reason": "content_filter"}}'))
    assert not is_refused(decode_response(b'{"id": "r", "incomplete_details": {"reason": "max_output_tokens"}}'))


# Caps


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("45s", 45), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), (" 1.5H ", 5400)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "h", "5x", "1e3", "nan", "inf", "5 m", "1..5h", ".", "\u00b2"])
def test_what_is_no_duration_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="write 90, 45s, 30m, 2h or 1h30m"):
        read_seconds(text)


async def test_rows_in_flight_are_taken_to_use_as_many_tokens_as_those_before() -> None:
    async def is_used_up(max_tokens: int | None, tokens: int, replies: int, in_flight: int) -> bool:
        totals = Totals()
        cap = token_cap("tokens", max_tokens, totals)
        admitted = cap.admit(iter([Row(number, number, {}) for number in range(1, in_flight + 1)]), Ending())
        # As if rows before had taken nothing: else the first one would be let in alone.
        totals.replies = 1
        for _ in range(in_flight):
            await anext(admitted)
        totals.tokens_in, totals.replies = tokens, replies
        return cap.is_used_up

    assert not await is_used_up(100, 60, 6, 3)
    assert await is_used_up(100, 60, 6, 4)
    assert await is_used_up(100, 101, 0, 0)
    assert not await is_used_up(None, 10**12, 1, 0)


def test_a_budget_is_what_earlier_runs_left_also_where_the_vendor_states_no_cost() -> None:
    assert Caps().budget(Spending(usd=5)) is None
    prices = {"m": Price.per_million(input=1, output=10)}
    caps = Caps(max_usd=1, prices=prices)
    for spent, unpriced, left in [
        (0.25, {}, 0.75),
        (3.0, {}, 0.0),
        (0.25, {"m": (250_000, 10_000)}, 0.4),
        (0.0, {"nobody knows": (10**9, 10**9)}, 1.0),
    ]:
        budget = caps.budget(Spending(usd=spent, unpriced=unpriced))
        assert budget is not None
        assert math.isclose(budget.remaining, left)
    totals = Totals()
    for _ in range(2):
        totals.add_record(record(tokens_in=5, tokens_out=7, model="m"))
    totals.add_record(record(tokens_in=5, tokens_out=7, model="m", cost_usd=0.1))
    assert totals.unpriced == {"m": [10, 14]}


# Progress


def test_speeds_are_those_of_the_last_half_minute() -> None:
    progress = Progress(100.0)
    assert progress.speed(100.0, 0, 0) == (0.0, 0.0)
    for second in range(1, 61):
        progress.sample(100.0 + second, second, 10 * second)
    assert progress.speed(160.0, 60, 600) == (1.0, 10.0)
    for second in range(61, 121):
        progress.sample(100.0 + second, 60, 600)
    assert progress.speed(220.0, 60, 600) == (0.0, 0.0)
    assert progress.seconds(220.0) == 120.0


def test_many_samples_in_a_moment_take_the_room_of_one() -> None:
    progress = Progress(0.0)
    for number in range(10_000):
        progress.sample(number / 10_000, number, number)
    assert len(progress._samples) <= 6


def lane(**options: Any) -> EndpointStatistics:
    known: dict[str, Any] = dict.fromkeys(EndpointStatistics.__struct_fields__, 0)
    return EndpointStatistics(**{**known, "limited_by": None, **options})


def test_a_job_is_held_back_by_what_most_calls_wait_for() -> None:
    assert limited_by([lane(limited_by="rate", queued=2), lane(limited_by="tokens", queued=3)], 5, 5) == "tokens"
    assert limited_by([lane(), lane(limited_by="pause", queued=0)], 5, 9) == "pause"
    assert limited_by([lane(in_flight=2), lane(in_flight=3)], 5, 5) == "concurrency"
    assert limited_by([lane(in_flight=4)], 4, 5) == "input"
    assert limited_by([lane(in_flight=2)], 4, 5) == "input"
    assert limited_by([lane(in_flight=1)], 4, 5) == "retry"
    assert limited_by([lane()], 5, 5) == "retry"
    assert limited_by([lane()], 0, 5) == "input"


# Forecast


def sample_of(rows: list[tuple[int, float]], *, left: int, length: int) -> Sample:
    """Rows that took so many tokens for their length, and the rows beside them."""
    return Sample(
        rows=len(rows) + left,
        length=sum(each for each, _ in rows) + length,
        lengths=[each for each, _ in rows],
        tokens_in=[tokens for _, tokens in rows],
        tokens_out=[50.0] * len(rows),
        costs=[None] * len(rows),
        asked=len(rows),
        asked_length=sum(each for each, _ in rows),
    )


def test_a_forecast_extrapolates_and_leaves_unknown_what_nobody_said() -> None:
    totals = Totals()
    found = forecast(totals, Sample(), 4, Limits(), [])
    assert (found.rows, found.tokens_in, found.cost_usd, found.seconds, found.limited_by) == (0, None, None, None, None)
    totals.left, totals.finished, totals.answered, totals.seconds_answering = 110, 10, 20, 40.0
    for _ in range(9):
        totals.add_record(record(tokens_in=100, tokens_out=50))
    totals.add_record(record("RateLimitError"))
    limits = Limits(requests_per_minute=60, tokens_per_minute=3000)
    sample = sample_of([(400, 100.0)] * 9, left=100, length=40_000)
    found = forecast(totals, sample, 4, limits, [lane(limit=2)])
    assert (found.asked, found.failed, found.rows, found.calls) == (10, 1, 100, 200)
    assert (found.tokens_in, found.tokens_out) == (Estimate(10_000, 10_000, 10_000), Estimate(5_000, 5_000, 5_000))
    assert found.cost_usd is None
    # 200 requests take 200 s, 200 calls of 4 s two at a time 400 s, 15,000 tokens 300 s.
    assert (found.seconds, found.limited_by) == (400.0, "concurrency")
    found = forecast(totals, sample, 4, limits, [lane(limit=100)])
    assert (found.seconds, found.limited_by) == (300.0, "tokens")
    sample.costs = [0.5] * 9
    assert forecast(totals, sample, 4, limits, []).cost_usd == Estimate(50.0, 50.0, 50.0)


def test_what_rows_take_is_told_from_their_length_where_it_goes_with_it() -> None:
    # Ten tokens and a quarter of the characters; the rows that are left are a hundred times as long.
    sample = sample_of([(length, 10 + length / 4) for length in range(10, 110, 10)], left=1000, length=5_500_000)
    found = sample.estimate(sample.tokens_in, 1000)
    assert found is not None
    assert math.isclose(found.sum, 1000 * 10 + 5_500_000 / 4)
    # What does not go with the length has the mean, and a range.
    random.seed(3)
    missed = 0
    for _ in range(300):
        values = [random.gauss(100, 20) for _ in range(1000)]
        found = estimate([(random.random(), value) for value in values[:20]], 980, 490.0)
        assert found.low is not None
        assert found.high is not None
        missed += not found.low <= sum(values[20:]) <= found.high
    assert 3 <= missed <= 32
    assert estimate([(5, 100.0)], 10, 50) == Estimate(1000.0)


# StopRules


def failed(kind: type[AimlasyncError]) -> AimlasyncError:
    return kind("no", status=400) if issubclass(kind, APIStatusError) else kind("no")


@pytest.mark.parametrize("kind", [AuthenticationError, InsufficientCreditError, BudgetExceededError])
@pytest.mark.parametrize("alike", [True, False])
def test_what_would_fail_for_every_row_stops_the_job(kind: type[AimlasyncError], alike: bool) -> None:
    rules = StopRules(succeeded=True, alike=alike)
    assert rules.check(None) is None
    error = failed(kind)
    assert rules.check(error) is error


def test_an_account_without_money_stops_the_job_and_is_nothing_to_come_back_for() -> None:
    for error in (
        RateLimitError("HTTP 429: You exceeded your current quota", status=429, code="insufficient_quota"),
        BadRequestError("HTTP 400: Access denied", status=400, code="Arrearage"),
        PermissionDeniedError("HTTP 403: x", status=403, code="insufficient_user_quota"),
        PermissionDeniedError("HTTP 403: You've run out of credits. Please top up", status=403),
        PermissionDeniedError("HTTP 403: balance is not enough", status=403),
        RateLimitError("HTTP 429: 余额不足", status=429, code="1113", retryable=False),
    ):
        assert StopRules(succeeded=True).check(error) is error
        assert (is_unpaid(error), is_to_come_back(error)) == (True, False)
    for error in (RateLimitError("HTTP 429: top up", status=429), BadRequestError("insufficient_quota", status=400)):
        assert not is_unpaid(error)


def test_a_row_that_is_forbidden_is_no_key_that_may_not_do_this() -> None:
    flagged = PermissionDeniedError("HTTP 403: Your input was flagged", status=403)
    forbidden = PermissionDeniedError("HTTP 403: Forbidden", status=403)
    assert StopRules().check(forbidden) is forbidden
    assert StopRules().check(flagged) is None
    for alike in (True, False):
        rules = StopRules(succeeded=True, alike=alike)
        assert not any(verdicts(rules, [forbidden, forbidden, None] * 5))
        # A key that lost its rights.
        assert verdicts(rules, [forbidden] * MAX_REFUSED) == [False] * (MAX_REFUSED - 1) + [True]
        assert not any(verdicts(StopRules(succeeded=True, alike=alike), [flagged] * 40))


def test_a_model_that_is_not_there_stops_a_job_whose_rows_are_alike() -> None:
    assert StopRules(alike=True).check(failed(NotFoundError)) is not None
    assert StopRules(alike=False).check(failed(NotFoundError)) is None


def verdicts(rules: StopRules, errors: list[AimlasyncError | None]) -> list[bool]:
    return [rules.check(error) is not None for error in errors]


@pytest.mark.parametrize("kind", [BadRequestError, UnprocessableEntityError])
def test_a_refused_request_stops_the_job_only_while_nothing_succeeded(kind: type[AimlasyncError]) -> None:
    refused: list[AimlasyncError | None] = [failed(kind)] * MAX_REFUSED
    assert verdicts(StopRules(), refused) == [False] * (MAX_REFUSED - 1) + [True]
    assert not any(verdicts(StopRules(succeeded=True), refused * 5))
    assert not any(verdicts(StopRules(), [None, *refused * 5]))
    assert not any(verdicts(StopRules(alike=False), refused * 5))
    assert verdicts(StopRules(), [failed(UnsupportedRequestError)]) == [True]


def test_what_identical_rows_share_counts_once() -> None:
    reply: Any = None
    for error, bound in (
        (failed(BadRequestError), MAX_REFUSED),
        (AnswerInvalidError("no", reply=reply), MAX_UNFIT),
        (APITimeoutError("no", phase="attempt"), MAX_UNREACHED),
    ):
        rules = StopRules()
        for _ in range(bound - 1):
            assert rules.check(error) is None
            assert not any(rules.check(error, is_shared=True) for _ in range(bound))
        assert rules.check(error) is error
    key = failed(AuthenticationError)
    assert StopRules().check(key, is_shared=True) is key


def test_paid_answers_that_are_all_in_vain_stop_a_job_whose_rows_are_alike() -> None:
    reply: Any = None
    in_vain: list[AimlasyncError | None] = [AnswerInvalidError("no", reply=reply)] * (MAX_UNFIT - 1)
    in_vain.append(AnswerTruncatedError("no", reply=reply))
    assert verdicts(StopRules(), in_vain) == [False] * (MAX_UNFIT - 1) + [True]
    for rules in (StopRules(succeeded=True), StopRules(alike=False)):
        assert not any(verdicts(rules, in_vain * 2))
    assert not any(verdicts(StopRules(), [*in_vain[1:], None, *in_vain * 2]))


@pytest.mark.parametrize(
    "error",
    [
        APIResponseValidationError("HTTP 200 with a body that is not the JSON expected (text/html): Login"),
        APIResponseValidationError("HTTP 200 with a JSON body that has no choices"),
        APIStatusError("HTTP 301: it redirects to https://host/v1", status=301),
        APIStatusError("HTTP 405: Method Not Allowed", status=405),
        InternalServerError("HTTP 501: Unsupported method", status=501, retryable=False),
    ],
)
def test_what_is_no_api_stops_a_job_whose_rows_are_alike_while_nothing_succeeded(error: AimlasyncError) -> None:
    errors: list[AimlasyncError | None] = [error] * MAX_UNFIT
    assert verdicts(StopRules(), errors) == [False] * (MAX_UNFIT - 1) + [True]
    for rules in (StopRules(succeeded=True), StopRules(alike=False)):
        assert not any(verdicts(rules, errors * 2))
    assert not any(verdicts(StopRules(), [*errors[1:], None, *errors * 2]))
    # A row from elsewhere that is answered shows that it was these rows.
    rules = StopRules(probes=True)
    assert not any(verdicts(rules, errors))
    assert rules.doubt is error
    rules.probe({1000, 2000})
    assert (rules.check(error, 1000), rules.check(None, 2000), rules.check(error, 51)) == (None, None, None)


def test_rows_in_a_row_without_a_connection_stop_the_job() -> None:
    nearly: list[AimlasyncError | None] = [failed(APIConnectionError)] * (MAX_UNREACHED - 1)
    rules = StopRules(alike=False)
    assert not any(verdicts(rules, [*nearly, None, *nearly, failed(RateLimitError), *nearly]))
    assert rules.check(failed(APIConnectionError)) is not None


def test_a_server_that_is_overloaded_stops_nothing() -> None:
    errors: list[AimlasyncError | None] = [failed(InternalServerError), failed(RateLimitError)] * 100
    assert not any(verdicts(StopRules(), errors))


# Confidence


def said(*tokens: tuple[str, float], endpoint: str = "chat") -> Any:
    """A reply made of these tokens, with the probability of each."""
    logprobs: list[dict[str, Any]] = [
        {"token": token, "logprob": math.log(p), "top_logprobs": [], "bytes": None} for token, p in tokens
    ]
    text = "".join(token for token, _ in tokens)
    if endpoint == "responses":
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
        message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
        return decode_response(msgspec.json.encode({"id": "r", "object": "response", "output": [message]}))
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": logprobs}}
    return decode_completion(msgspec.json.encode({"choices": [choice]}))


def sure(reply: Any, label: str) -> float:
    found = confidence_of(reply, label)
    assert found is not None
    return round(found, 9)


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_the_tokens_of_a_label_are_multiplied_and_no_others(endpoint: str) -> None:
    reply = said(('{"label":"', 0.1), ("bill", 0.5), ("ing", 0.8), ('"}', 0.2), endpoint=endpoint)
    assert sure(reply, "billing") == 0.4


def test_tokens_that_hold_a_quote_beside_letters_count() -> None:
    assert sure(said(('{"label":', 0.1), ('"b', 0.5), ('ug"}', 0.5)), "bug") == 0.25
    assert sure(said(('{"label":"bug"}', 0.5)), "bug") == 0.5


def test_the_last_place_where_a_label_stands_counts_and_its_quotes_belong_to_it() -> None:
    assert sure(said(('{"', 0.9), ("label", 0.9), ('":"', 0.9), ("label", 0.5), ('"}', 0.9)), "label") == 0.5
    several = said(('{"labels":["', 0.9), ("bug", 0.5), ('","', 0.9), ("bug", 0.25), (" report", 0.5), ('"]}', 0.9))
    assert sure(several, "bug") == 0.5
    assert sure(several, "bug report") == 0.125


def test_labels_are_found_as_json_writes_them() -> None:
    reply = said(('{"label":"', 0.9), ("a ", 0.5), ('\\"b\\"', 0.5), ('"}', 0.9))
    assert sure(reply, 'a "b"') == 0.25
    assert sure(said(('{"label":"', 0.9), ("caf", 0.5), ("é", 0.5), ('"}', 0.9)), "café") == 0.25


def test_without_probabilities_or_without_the_label_among_them_nothing_is_known() -> None:
    assert confidence_of(decode_completion(b'{"choices": []}'), "a") is None
    assert confidence_of(decode_completion(b'{"choices": [{"index": 0, "message": {"content": "x"}}]}'), "a") is None
    assert confidence_of(decode_response(b'{"id": "r", "output": []}'), "a") is None
    assert confidence_of(said(('{"label":"b"}', 0.5)), "a") is None
    # Half a character is a token of bytes, spelled in a way of the vendor's own.
    assert (
        confidence_of(said(('{"label":"caf', 0.9), ("bytes:\\xc3", 0.5), ("bytes:\\xa9", 0.5), ('"}', 0.9)), "café")
        is None
    )


def test_a_probability_is_never_more_than_one() -> None:
    reply = said(('{"label":"', 0.9), ("a", 1.0000001), ('"}', 0.9))
    assert confidence_of(reply, "a") == 1.0
    reply = said(('{"label":"', 0.9), ("a", 1e300), ("b", 1e300), ('"}', 0.9))
    assert confidence_of(reply, "ab") == 1.0


@given(st.text(min_size=1), st.data())
def test_wherever_the_tokens_are_cut_every_token_of_the_label_counts_once(label: str, data: st.DataObject) -> None:
    text = msgspec.json.encode({"label": label}).decode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1))))
    begins = [0, *cuts]
    tokens = [text[begin:end] for begin, end in zip(begins, [*cuts, len(text)], strict=True)]
    first, last = len('{"label":"'), len(text) - len('"}')
    inside = sum(begin < last and begin + len(token) > first for begin, token in zip(begins, tokens, strict=True))
    found = confidence_of(said(*((token, 0.5) for token in tokens)), label)
    assert found is not None
    assert math.isclose(found, 0.5**inside)
