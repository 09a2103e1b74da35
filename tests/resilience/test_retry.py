"""Claims about `resilience.retry`: after which error, after how long, and when not."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aimlasync import errors
from aimlasync.endpoints.ratelimit_headers import retry_after
from aimlasync.errors import AimlasyncError, APIConnectionError, APITimeoutError, OverloadedError
from aimlasync.resilience.retry import Retry, retry_after_of
from aimlasync.resilience.retry_budget import RetryBudget
from aimlasync.wire.error_bodies import status_error

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


@pytest.mark.parametrize(("attempt", "most"), [(1, 0.5), (4, 4), (7, 30), (1000, 30), (100_000, 30)])
def test_backoff_has_no_last_attempt(attempt: int, most: float) -> None:
    assert Retry(attempts=1).backoff(attempt, broken(), draw=lambda: 1) == most
    assert Retry(attempts=1).backoff(attempt, broken(10), draw=lambda: 1) == 12
    assert Retry(attempts=1).backoff(attempt, broken(61), draw=lambda: 1) is None


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
        "5 apples",
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


# --- the quota ---------------------------------------------------------------------------------------------------

LATE = APITimeoutError("x", phase="first_token")


@pytest.mark.parametrize(
    ("error", "cost"),
    [
        (broken(), 5),
        (throttled(3), 5),
        (errors.StreamError("x"), 5),
        (LATE, 10),
        (APIConnectionError("x"), 10),
        (errors.TruncatedStreamError("x"), 10),
    ],
    ids=lambda value: type(value).__name__,
)
def test_retry_costs_five_and_ten_after_a_timeout_or_a_broken_connection(error: AimlasyncError, cost: int) -> None:
    quota = RetryBudget()
    assert (quota.take(error), quota.available) == (cost, 500 - cost)


def test_quota_pays_for_a_hundred_retries_and_then_for_none() -> None:
    quota = RetryBudget()
    assert [quota.take(broken()) for _ in range(102)] == [5] * 100 + [None] * 2
    assert quota.available == 0


def test_retry_that_cannot_be_paid_for_costs_nothing() -> None:
    quota = RetryBudget(capacity=13)
    assert [quota.take(LATE), quota.take(LATE), quota.available] == [10, None, 3]


def test_success_after_a_retry_gives_its_cost_back_and_another_one_earns_one() -> None:
    quota = RetryBudget()
    first, second = quota.take(LATE), quota.take(broken())
    assert (first, second, quota.available) == (10, 5, 485)
    quota.give_back(10)
    assert quota.available == 495
    quota.succeeded()
    assert quota.available == 496


def test_quota_never_holds_more_than_its_capacity() -> None:
    quota = RetryBudget()
    quota.succeeded()
    quota.give_back(10)
    assert quota.available == 500


@pytest.mark.parametrize(
    "costs",
    [{"capacity": 9}, {"capacity": 0}, {"retry_cost": 0}, {"timeout_cost": -1}, {"no_retry_increment": 0}],
    ids=str,
)
def test_quota_that_could_never_pay_or_never_recover_is_refused(costs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        RetryBudget(**costs)


def test_one_probe_at_a_time_goes_on_while_the_quota_is_empty() -> None:
    quota = RetryBudget(capacity=10)
    assert not quota.probe(broken()), "there is quota: take it"
    assert quota.take(LATE) == 10
    assert [quota.probe(broken()), quota.probe(broken()), quota.probe(LATE)] == [True, False, False]
    quota.probed(False)
    assert (quota.probe(broken()), quota.failed_probes, quota.available) == (True, 1, 0)


def test_probe_that_succeeds_earns_one_retry_and_starts_the_backoff_anew() -> None:
    quota = RetryBudget(capacity=10)
    quota.take(LATE)
    for succeeded, failed, available in [(False, 1, 0), (False, 2, 0), (True, 0, 5), (False, 1, 5)]:
        assert quota.probe(LATE)
        quota.probed(succeeded)
        assert (quota.failed_probes, quota.available) == (failed, available)


def test_probe_that_was_cancelled_is_neither_a_failure_nor_a_success() -> None:
    quota = RetryBudget(capacity=10)
    quota.take(LATE)
    assert quota.probe(LATE)
    quota.probed(None)
    assert (quota.failed_probes, quota.available, quota.probe(LATE)) == (0, 0, True)


def test_quota_shows_what_is_left() -> None:
    quota = RetryBudget(capacity=10)
    assert repr(quota) == "<RetryBudget 10 of 10>"
    quota.take(LATE)
    quota.probe(LATE)
    assert repr(quota) == "<RetryBudget 0 of 10, probing>"


class Callers(RuleBasedStateMachine):
    """Any order of failures, successes, probes and cancels, against a list of what is owed."""

    def __init__(self) -> None:
        super().__init__()
        self.quota = RetryBudget(capacity=40)
        self.paid: list[int] = []
        self.probes = 0

    @rule(error=st.sampled_from([broken(), throttled(), LATE]))
    def fail(self, error: AimlasyncError) -> None:
        before = self.quota.available
        cost = self.quota.take(error)
        if cost is not None:
            self.paid.append(cost)
            assert self.quota.available == before - cost
        else:
            assert self.quota.available == before
            got = self.quota.probe(error)
            assert got == (self.probes == 0)
            self.probes += got

    @precondition(lambda self: self.paid)
    @rule(outcome=st.booleans())
    def end_retry(self, outcome: bool) -> None:
        cost = self.paid.pop()
        if outcome:
            self.quota.give_back(cost)

    @precondition(lambda self: self.probes)
    @rule(outcome=st.sampled_from([True, False, None]))
    def end_probe(self, outcome: bool | None) -> None:
        self.probes -= 1
        self.quota.probed(outcome)

    @rule()
    def succeed(self) -> None:
        self.quota.succeeded()

    @invariant()
    def is_within_bounds(self) -> None:
        assert 0 <= self.quota.available <= self.quota.capacity
        assert self.probes <= 1


TestCallers = Callers.TestCase
TestCallers.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


# --- the quota in an outage --------------------------------------------------------------------------------------

Step = float | None


class World:
    """Virtual time. A caller is a generator: it yields seconds to sleep, or None to wait until the quota changes."""

    def __init__(self, failure: Callable[[float, float], AimlasyncError | None], *, seed: int = 1) -> None:
        self.now = 0.0
        self.quota = RetryBudget()
        self.retry = Retry()
        self.draw = random.Random(seed).random
        self.failure = failure
        self.attempts = self.served = self.failed = self.unpaid = self.waiting = self.probes = 0
        self.lowest = self.quota.available
        self._timers: list[tuple[float, int, Iterator[Step]]] = []
        self._parked: list[Iterator[Step]] = []
        self._numbers = itertools.count()

    def start(self, caller: Iterator[Step], *, at: float = 0.0) -> None:
        heapq.heappush(self._timers, (at, next(self._numbers), caller))

    def run(self, *, until: float = math.inf) -> None:
        while self._timers and self._timers[0][0] <= until:
            self.now, _, caller = heapq.heappop(self._timers)
            before = self.quota.available, self.probes
            for step in caller:
                if step is None:
                    self._parked.append(caller)
                else:
                    self.start(caller, at=self.now + step)
                break
            self.lowest = min(self.lowest, self.quota.available)
            if self._parked and (self.quota.available, self.probes) != before:
                parked, self._parked = self._parked, []
                for waiter in parked:
                    self.start(waiter, at=self.now)

    def interactive(self) -> Iterator[Step]:
        """One call that fails with the error it has when it may not be retried."""
        cost = None
        for attempt in itertools.count(1):
            self.attempts += 1
            yield 1.0
            error = self.failure(self.now, self.draw())
            if error is None:
                self.quota.succeeded() if cost is None else self.quota.give_back(cost)
                self.served += 1
                return
            delay = self.retry.delay(attempt, error, remaining=math.inf, draw=self.draw)
            if delay is not None:
                cost = self.quota.take(error)
                self.unpaid += cost is None
            if delay is None or cost is None:
                self.failed += 1
                return
            yield delay

    def bulk(self, rows: Iterator[int]) -> Iterator[Step]:
        """One worker of a bulk job: no row fails for lack of quota, and none is begun while one waits for it."""
        for _ in rows:
            while self.waiting:
                yield None
            cost, probing = None, False
            for attempt in itertools.count(1):
                self.attempts += 1
                yield 1.0
                error = self.failure(self.now, self.draw())
                if probing:
                    self.probes -= 1
                    self.quota.probed(error is None)
                elif error is None:
                    self.quota.succeeded() if cost is None else self.quota.give_back(cost)
                if error is None:
                    self.served += 1
                    break
                probing = False
                while (cost := self.quota.take(error)) is None and not (probing := self.quota.probe(error)):
                    self.waiting += 1
                    yield None
                    self.waiting -= 1
                self.probes += probing
                assert self.probes <= 1
                failures = self.quota.failed_probes + 1 if probing else attempt
                yield self.retry.backoff(failures, error, draw=self.draw) or 0.0


def outage(begin: float, end: float, error: AimlasyncError) -> Callable[[float, float], AimlasyncError | None]:
    return lambda now, draw: error if begin <= now < end else None


@pytest.mark.parametrize(("calls", "most"), [(1_000, 1.1), (5_000, 1.02), (10_000, 1.01)])
@pytest.mark.parametrize(
    ("error", "retries"), [(broken(), 100), (throttled(), 100), (LATE, 50)], ids=["503", "429", "-"]
)
def test_total_outage_is_met_with_a_fixed_number_of_retries(
    calls: int, most: float, error: AimlasyncError, retries: int
) -> None:
    world = World(outage(0, math.inf, error))
    for number in range(calls):
        world.start(world.interactive(), at=number / 100)
    world.run()
    assert world.attempts == calls + retries
    assert world.attempts / calls <= most
    assert world.failed == calls


def test_quota_is_whole_again_soon_after_an_outage() -> None:
    world = World(outage(0, 100, broken()))
    for number in range(20_000):
        world.start(world.interactive(), at=number / 100)
    world.run(until=99.9)
    assert world.quota.available == 0
    world.run(until=107)
    assert world.quota.available == 500
    world.run()
    assert world.served == pytest.approx(10_100, abs=1)


@pytest.mark.parametrize("error", [broken(), LATE], ids=["503", "timeout"])
@pytest.mark.parametrize("per_second", [1, 100, 1_000])
@pytest.mark.parametrize("seed", range(3))
def test_failure_rate_of_five_percent_never_empties_it(error: AimlasyncError, per_second: int, seed: int) -> None:
    world = World(lambda now, draw: error if draw < 0.05 else None, seed=seed)
    for number in range(3_000):
        world.start(world.interactive(), at=number / per_second)
    world.run()
    assert world.unpaid == 0
    assert world.lowest > 400
    assert world.served >= 2_999


@pytest.mark.parametrize(
    ("error", "pays", "drains"), [(broken(), 0.3, 0.35), (LATE, 0.22, 0.26)], ids=["503", "timeout"]
)
def test_quota_lasts_up_to_a_failure_rate_and_not_above_it(error: AimlasyncError, pays: float, drains: float) -> None:
    for rate, empties in ((pays, False), (drains, True)):
        world = World(lambda now, draw, rate=rate: error if draw < rate else None)  # type: ignore[misc]
        for number in range(5_000):
            world.start(world.interactive(), at=number / 50)
        world.run()
        assert (world.unpaid > 0) == empties


def test_bulk_job_waits_for_the_end_of_an_outage_with_one_probe_at_a_time_and_loses_no_row() -> None:
    world = World(outage(20, 620, broken()))
    rows = iter(range(20_000))
    for _ in range(200):
        world.start(world.bulk(rows))
    world.run()
    assert (world.served, world.failed, world.waiting, world.probes) == (20_000, 0, 0, 0)
    # 200 were in flight when it began, 100 retries were paid for, and ten minutes saw some fifty probes.
    assert world.attempts - 20_000 == pytest.approx(350, abs=30)
    # Without the outage it takes 100 s; what is above 700 s is the last probe's wait and the way back to full speed.
    assert 700 < world.now < 760
