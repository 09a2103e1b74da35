"""Which failures stop a job, and which leave it to the next row."""

from __future__ import annotations

from typing import Any

import pytest

from aimlasync.bulk.jobs.stop_rules import (
    MAX_REFUSED,
    MAX_UNFIT,
    MAX_UNREACHED,
    StopRules,
    is_to_come_back,
    is_unpaid,
)
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
        PermissionDeniedError("HTTP 403: Your team doesn't have any credits yet", status=403),
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
