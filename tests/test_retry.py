"""Claims about `aimlasync.retry`: after which error, after how long, and when not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync import errors
from aimlasync.errors import AimlasyncError, APIConnectionError, APITimeoutError, OverloadedError, status_error
from aimlasync.retry import Retry, retry_after, retry_after_of

FOREVER = float("inf")


def throttled(retry_after: float | None = None) -> AimlasyncError:
    return status_error(429, b"", retry_after=retry_after)


def broken(retry_after: float | None = None) -> AimlasyncError:
    return status_error(503, b"", retry_after=retry_after)


def delay(
    attempt: int, error: AimlasyncError, draw: float, *, retry: Retry | None = None, remaining: float = FOREVER
) -> float | None:
    policy = retry or Retry(attempts=100)
    return policy.delay(attempt, error, remaining=remaining, draw=lambda: draw)


# --- how long ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "half", "most"),
    [(1, 0.25, 0.5), (2, 0.5, 1), (3, 1, 2), (4, 2, 4), (5, 4, 8), (6, 8, 16), (7, 15, 30), (8, 15, 30), (99, 15, 30)],
)
@pytest.mark.parametrize("error", [broken(), APIConnectionError("x")], ids=["503", "no connection"])
def test_bound_doubles_up_to_the_largest_backoff(error: AimlasyncError, attempt: int, half: float, most: float) -> None:
    assert [delay(attempt, error, draw) for draw in (0, 0.5, 1)] == [0, half, most]


@pytest.mark.parametrize(
    ("attempt", "half", "most"), [(1, 0.75, 1.5), (2, 1.5, 3), (3, 3, 6), (4, 6, 12), (5, 12, 24), (6, 15, 30)]
)
def test_bound_is_larger_after_a_429(attempt: int, half: float, most: float) -> None:
    assert [delay(attempt, throttled(), draw) for draw in (0, 0.5, 1)] == [0, half, most]


def test_bounds_are_the_policys() -> None:
    mine = Retry(attempts=100, base=2, throttle_base=3, max_backoff=5)
    assert [delay(attempt, broken(), 1, retry=mine) for attempt in (1, 2, 3)] == [2, 4, 5]
    assert [delay(attempt, throttled(), 1, retry=mine) for attempt in (1, 2, 3)] == [3, 5, 5]


@pytest.mark.parametrize("attempt", [1, 5])
@pytest.mark.parametrize("make", [throttled, broken])
def test_stated_wait_is_a_floor_with_jitter_above_it(attempt: int, make: type[AimlasyncError]) -> None:
    error = make(10)  # type: ignore[arg-type]
    assert [delay(attempt, error, draw) for draw in (0, 0.5, 1)] == pytest.approx([10, 11, 12])


def test_stated_wait_of_zero_is_at_once() -> None:
    assert delay(1, throttled(0), 1) == 0


def test_stated_wait_may_be_longer_than_the_largest_backoff() -> None:
    assert delay(1, throttled(45), 0) == 45


def test_longer_wait_than_the_policy_allows_gives_up_at_once() -> None:
    assert delay(1, throttled(60), 0) == 60
    assert delay(1, throttled(60.001), 0) is None
    assert delay(1, throttled(5), 0, retry=Retry(max_retry_after=4)) is None


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.none() | st.floats(0, 60), st.booleans())
def test_wait_is_never_negative_nor_below_what_was_asked_nor_unbounded(
    attempt: int, asked: float | None, busy: bool
) -> None:
    wait = Retry(attempts=100).delay(attempt, throttled(asked) if busy else broken(asked), remaining=FOREVER)
    assert wait is not None
    assert (asked or 0) <= wait <= (30 if asked is None else asked * 1.2)


# --- whether -----------------------------------------------------------------------------------------------------


def test_attempts_count_the_first_one() -> None:
    retry = Retry(attempts=3)
    assert [delay(attempt, broken(), 0, retry=retry) for attempt in (1, 2, 3, 4)] == [0, 0, None, None]


def test_one_attempt_never_retries() -> None:
    for error in (broken(), throttled(0), APIConnectionError("x"), APITimeoutError("x", phase="connect")):
        assert delay(1, error, 0, retry=Retry(attempts=1)) is None


def test_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    assert delay(1, broken(), 1, remaining=0.51) == 0.5
    assert delay(1, broken(), 1, remaining=0.5) is None
    assert delay(1, throttled(10), 0, remaining=9) is None
    assert delay(1, broken(), 0, remaining=0) is None
    assert delay(1, broken(), 0, remaining=-1) is None


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_status_that_stays_wrong_is_never_retried(status: int) -> None:
    assert delay(1, status_error(status, b"", retry_after=1), 0) is None


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_status_that_may_pass_is_retried(status: int) -> None:
    assert delay(1, status_error(status, b""), 0) == 0


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, b'{"error":{"message":"x","code":"insufficient_quota"}}'),
        (429, b'{"statusCode":"429","message":"Free-tier limit: reached"}'),
        (500, b'{"message":"The model is under maintenance"}'),
    ],
)
def test_text_that_waiting_does_not_cure_is_never_retried(status: int, body: bytes) -> None:
    assert delay(1, status_error(status, body, retry_after=1), 0) is None


@pytest.mark.parametrize(
    "error",
    [
        AimlasyncError("x"),
        APITimeoutError("x", phase="total"),
        errors.APIResponseValidationError("x"),
        errors.AnswerInvalidError("x", reply=None),
        errors.UnsupportedRequestError("x", status=400),
        errors.StreamError("x", retryable=False),
        OverloadedError("x", retry_after=1),
        errors.BudgetExceededError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_that_is_not_retryable_is_never_retried(error: AimlasyncError) -> None:
    assert delay(1, error, 0) is None


@pytest.mark.parametrize(
    "error",
    [
        APIConnectionError("x"),
        errors.TruncatedStreamError("x"),
        errors.StreamError("x"),
        APITimeoutError("x", phase="connect"),
        APITimeoutError("x", phase="first_token"),
        APITimeoutError("x", phase="idle"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_of_the_connection_is_retried(error: AimlasyncError) -> None:
    assert delay(1, error, 1) == 0.5


# --- what the server asked for -----------------------------------------------------------------------------------

NOW = 1_764_672_000.0  # Tue, 02 Dec 2025 10:40:00 GMT


def asked(**headers: str) -> float | None:
    return retry_after({name.replace("_", "-"): value for name, value in headers.items()}, now=lambda: NOW)


def test_no_header_asks_for_nothing() -> None:
    assert asked() is None


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("0", 0), ("1.5", 1.5), (" 3 ", 3), ("120", 120)])
def test_seconds_are_read(value: str, seconds: float) -> None:
    assert asked(retry_after=value) == seconds


@pytest.mark.parametrize(("value", "seconds"), [("250", 0.25), ("0", 0), ("1500.5", 1.5005)])
def test_milliseconds_are_read_and_come_first(value: str, seconds: float) -> None:
    assert asked(retry_after_ms=value, retry_after="9") == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["soon", "", "-1", "nan", "inf"])
def test_nonsense_milliseconds_leave_it_to_the_seconds(value: str) -> None:
    assert asked(retry_after_ms=value, retry_after="9") == 9


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Tue, 02 Dec 2025 10:40:30 GMT", 30),
        ("Tuesday, 02-Dec-25 10:40:30 GMT", 30),
        ("Tue, 02 Dec 2025 10:40:00 GMT", 0),
        ("Tue, 02 Dec 2025 10:39:00 GMT", 0),
        ("Wed, 03 Dec 2025 10:40:00 GMT", 86_400),
    ],
)
def test_http_date_is_the_time_until_then_and_never_negative(date: str, seconds: float) -> None:
    assert asked(retry_after=date) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "soon",
        "-1",
        "-0.5",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "5s",
        "Tue, 99 Dec 2025 10:40:30 GMT",
        "Tue",
        ",",
        "0,",
    ],
)
def test_nonsense_asks_for_nothing(value: str) -> None:
    assert asked(retry_after=value) is None


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=40) | st.from_regex(r"(Mon, )?\d{1,2}[ -][A-Z][a-z]{2}[ -]\d{2,5} \d+:\d+(:\d+)?( [+-]\d+| GMT)?")
)
def test_no_header_breaks_the_reading_of_it(value: str) -> None:
    for found in (asked(retry_after=value), asked(retry_after_ms=value)):
        assert found is None or 0 <= found < FOREVER


def test_wait_is_that_of_the_errors_that_state_one() -> None:
    assert retry_after_of(throttled(3)) == 3
    assert retry_after_of(OverloadedError("x", retry_after=2)) == 2
    assert retry_after_of(throttled()) is None
    assert retry_after_of(APIConnectionError("x")) is None
