"""Claims about `resilience.circuit_breaker`: when it opens, for how long, who probes it, how latency is averaged."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aimlasync.resilience.circuit_breaker import CircuitBreaker

NOW = 1000.0
QUICK = 0.1


def breaker(draw: float = 1.0) -> CircuitBreaker:
    return CircuitBreaker(draw=lambda: draw)


def opened(draw: float = 1.0) -> CircuitBreaker:
    """A circuit that opened at `NOW`, for two seconds with the largest draw."""
    found = breaker(draw)
    for _ in range(5):
        found.failed(NOW, QUICK)
    assert found.state == "open"
    return found


def half_open() -> CircuitBreaker:
    """One whose probe began two seconds later."""
    found = opened()
    found.probing(NOW + 2)
    assert found.state == "half-open"
    return found


# --- opening -----------------------------------------------------------------------------------------------------


def test_new_endpoint_may_be_tried_at_once() -> None:
    new = breaker()
    assert (new.state, new.allows(NOW), new.wait(NOW), new.latency, new.reason) == ("closed", True, 0, None, None)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("f" * 4, "closed"),
        ("f" * 5, "open"),
        ("s" * 4 + "f" * 5, "open"),
        ("s" * 5 + "f" * 5, "closed"),  # half is not more than half
        ("s" * 5 + "f" * 6, "open"),
        ("s" * 100 + "f" * 100, "closed"),
        ("s" * 100 + "f" * 101, "open"),
        ("sf" * 500, "closed"),
        ("a" * 5 + "f" * 5, "closed"),  # a refusal is a sign of life
        ("a" * 1000, "closed"),
    ],
)
def test_circuit_opens_after_five_failures_that_are_more_than_half(outcomes: str, state: str) -> None:
    circuit = breaker()
    for outcome in outcomes:
        tell(circuit, outcome, NOW)
    assert circuit.state == state
    assert circuit.allows(NOW) == (state == "closed")


def tell(circuit: CircuitBreaker, outcome: str, now: float, seconds: float = QUICK) -> None:
    """End an attempt: s(ucceeded), f(ailed), a(nswered) or c(ancelled)."""
    if outcome == "s":
        circuit.succeeded(now, seconds)
    elif outcome == "f":
        circuit.failed(now, seconds)
    elif outcome == "a":
        circuit.answered(now, seconds)
    else:
        circuit.abandoned(now, seconds)


@pytest.mark.parametrize(
    ("first", "last", "state"),
    [
        (1000.0, 1000.0, "open"),
        (1000.0, 1029.9, "open"),
        (1000.0, 1030.0, "closed"),
        (1004.9, 1029.9, "open"),
        (1004.9, 1030.0, "closed"),  # 25.1 s: buckets are five seconds wide
        (0.0, 29.9, "open"),
        (-7.0, 3.0, "open"),
        (1000.0, 1035.0, "closed"),
        (1000.0, 4000.0, "closed"),
    ],
)
def test_failures_count_for_thirty_seconds_and_for_no_less_than_twenty_five(
    first: float, last: float, state: str
) -> None:
    circuit = breaker()
    for _ in range(4):
        circuit.failed(first, QUICK)
    circuit.failed(last, QUICK)
    assert circuit.state == state


@pytest.mark.parametrize("later", [30, 36, 3000, 3003])
def test_old_successes_do_not_hide_new_failures(later: float) -> None:
    circuit = breaker()
    for _ in range(1000):
        circuit.succeeded(NOW, QUICK)
    for _ in range(5):
        circuit.failed(NOW + later, QUICK)
    assert circuit.state == "open"


def test_memory_does_not_grow_with_the_number_of_attempts() -> None:
    circuit = breaker()
    for number in range(2_000):
        circuit.succeeded(number / 2, QUICK)
        circuit.failed(number / 2, QUICK)
    assert circuit.state == "closed"
    assert len(circuit._buckets) == 6


# --- how long it is open -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("draw", "first"), [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)])
def test_open_circuit_allows_nothing_until_its_backoff_is_over(draw: float, first: float) -> None:
    circuit = opened(draw)
    assert [circuit.wait(NOW + age) for age in (0, first / 2, first, 99)] == [first, first / 2, 0, 0]
    assert [circuit.allows(NOW + age) for age in (0, first - 0.001, first, 99)] == [False, False, True, True]
    assert circuit.state == "open"


@pytest.mark.parametrize(("draw", "share"), [(0.0, 0.5), (1.0, 1.0)])
def test_backoff_doubles_with_every_probe_that_fails_up_to_a_minute(draw: float, share: float) -> None:
    circuit, now, waits = opened(draw), NOW, []
    for _ in range(70):
        waits.append(circuit.wait(now))
        now += waits[-1]
        circuit.probing(now)
        now += 0.5
        circuit.failed(now, 0.5)
    assert waits == pytest.approx([bound * share for bound in (2, 4, 8, 16, 32, *[60] * 65)])


def test_attempts_from_before_the_opening_change_nothing() -> None:
    for outcome in "fsac":
        circuit = opened()
        tell(circuit, outcome, NOW + 1, 30.0)
        assert (circuit.state, circuit.wait(NOW + 1)) == ("open", 1)
        circuit.probing(NOW + 2)
        tell(circuit, outcome, NOW + 3, 30.0)
        assert not circuit.allows(NOW + 3), "the probe is still under way"
        circuit.succeeded(NOW + 4, 2.0)
        for _ in range(20):
            tell(circuit, outcome, NOW + 5, 30.0)
        assert circuit.state == "closed"


def test_failure_whose_beginning_is_unknown_does_not_prolong_an_outage() -> None:
    circuit = opened()
    circuit.failed(NOW + 1)
    assert circuit.wait(NOW + 1) == 1


# --- the probe ---------------------------------------------------------------------------------------------------


def test_one_probe_goes_and_nothing_beside_it() -> None:
    circuit = half_open()
    assert (circuit.allows(NOW + 3), circuit.wait(NOW + 3)) == (False, 29)
    with pytest.raises(RuntimeError, match="half-open"):
        circuit.probing(NOW + 3)


@pytest.mark.parametrize("outcome", ["answer", "failure"])
def test_a_probe_that_hangs_makes_room_for_another_whose_outcome_counts(outcome: str) -> None:
    circuit = half_open()
    assert (circuit.allows(NOW + 32), circuit.wait(NOW + 32)) == (True, 0)
    circuit.probing(NOW + 32)
    assert circuit.wait(NOW + 33) == 29
    if outcome == "answer":
        circuit.answered(NOW + 33, 1)
        assert circuit.state == "closed"
    else:
        circuit.failed(NOW + 33, 1)
        # Of the first one, which began before that.
        circuit.failed(NOW + 34, 32)
        assert (circuit.state, circuit.wait(NOW + 34)) == ("open", 3)


def test_probe_before_its_time_is_refused() -> None:
    circuit = opened()
    with pytest.raises(RuntimeError, match="open"):
        circuit.probing(NOW + 1.9)


def test_attempt_of_a_closed_circuit_is_no_probe() -> None:
    circuit = breaker()
    circuit.probing(NOW)
    circuit.probing(NOW)
    assert circuit.state == "closed"


@pytest.mark.parametrize("outcome", ["s", "a"])
def test_probe_that_gets_an_answer_closes_the_circuit(outcome: str) -> None:
    circuit = half_open()
    tell(circuit, outcome, NOW + 2.1)
    assert (circuit.state, circuit.allows(NOW + 2.1), circuit.wait(NOW + 2.1)) == ("closed", True, 0)


@pytest.mark.parametrize("seconds", [0.1, None])
def test_probe_that_fails_opens_it_for_twice_as_long(seconds: float | None) -> None:
    circuit = half_open()
    circuit.failed(NOW + 2.1, seconds)
    assert (circuit.state, circuit.wait(NOW + 2.1)) == ("open", 4)


def test_probe_that_was_cancelled_makes_room_for_another() -> None:
    circuit = half_open()
    circuit.abandoned(NOW + 2.1, QUICK)
    assert circuit.allows(NOW + 2.1)
    circuit.probing(NOW + 2.1)
    circuit.failed(NOW + 2.2, QUICK)
    assert circuit.wait(NOW + 2.2) == 4


def test_cancelled_attempt_of_a_closed_circuit_counts_for_nothing() -> None:
    circuit = breaker()
    for _ in range(4):
        circuit.failed(NOW, QUICK)
        circuit.abandoned(NOW, QUICK)
    circuit.failed(NOW, QUICK)
    assert circuit.state == "open"


def test_closed_circuit_has_forgotten_the_failures_that_opened_it() -> None:
    circuit = half_open()
    circuit.succeeded(NOW + 2.1, QUICK)
    for _ in range(4):
        circuit.failed(NOW + 3, QUICK)
    assert circuit.state == "closed"


@pytest.mark.parametrize(("calm", "backoff"), [(1, 4), (29, 4), (31, 2), (3600, 2)])
def test_backoff_goes_on_doubling_where_the_recovery_did_not_last(calm: float, backoff: float) -> None:
    circuit = half_open()
    circuit.succeeded(NOW + 2.1, QUICK)
    again = NOW + 2.1 + calm
    for _ in range(5):
        circuit.failed(again, QUICK)
    assert circuit.state == "open"
    assert circuit.wait(again) == pytest.approx(backoff)


# --- retirement --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [breaker, opened, half_open])
def test_retired_endpoint_never_comes_back_and_keeps_its_reason(make: Any) -> None:
    circuit = make()
    circuit.retire("out of credit")
    circuit.retire("bad key")
    for now in (NOW + 2.5, NOW + 1e9):
        for outcome in "sfac":
            tell(circuit, outcome, now)
        assert (circuit.state, circuit.reason) == ("retired", "out of credit")
        assert (circuit.allows(now), circuit.wait(now)) == (False, math.inf)
        with pytest.raises(RuntimeError, match="retired"):
            circuit.probing(now)


# --- latency -----------------------------------------------------------------------------------------------------


def test_latency_is_the_moving_average_of_answers_alone() -> None:
    circuit, seen = breaker(), []
    for seconds in (1.0, 2.0, 2.0, 0.0):
        circuit.succeeded(NOW, seconds)
        circuit.answered(NOW, 50.0)
        circuit.failed(NOW, 50.0)
        circuit.abandoned(NOW, 50.0)
        seen.append(circuit.latency)
    assert seen == pytest.approx([1.0, 1.2, 1.36, 1.088])


def test_latency_may_be_the_time_to_the_first_byte_of_an_answer_that_took_longer() -> None:
    circuit = half_open()
    circuit.succeeded(NOW + 2.5, 30.0, latency=0.4)
    assert circuit.latency == 0.4
    assert not circuit.allows(NOW + 2.5), "it began before the outage, however late its first byte came"
    circuit.succeeded(NOW + 2.6, 0.6, latency=0.0)
    assert circuit.latency == pytest.approx(0.32)
    assert circuit.state == "closed"


def test_stream_may_close_the_circuit_at_its_first_event() -> None:
    circuit = half_open()
    circuit.answered(NOW + 3, 1.0)
    assert (circuit.state, circuit.latency) == ("closed", None)
    circuit.succeeded(NOW + 60, 58.0, latency=1.0)
    assert (circuit.state, circuit.latency) == ("closed", 1.0)


def test_latency_follows_a_server_that_slows_down_within_ten_answers() -> None:
    circuit = breaker()
    for _ in range(50):
        circuit.succeeded(NOW, 1.0)
    for _ in range(10):
        circuit.succeeded(NOW, 11.0)
    assert circuit.latency == pytest.approx(10, abs=0.1)


def test_repr_tells_the_state_the_reason_and_the_latency() -> None:
    circuit = breaker()
    assert repr(circuit) == "<CircuitBreaker closed>"
    circuit.succeeded(NOW, 0.25)
    circuit.retire("bad key")
    assert repr(circuit) == "<CircuitBreaker retired: bad key, 0.250 s>"


# --- any order ---------------------------------------------------------------------------------------------------


class Callers(RuleBasedStateMachine):
    """Attempts begin, end and are cancelled in any order while the server goes up and down."""

    @initialize(draws=st.lists(st.floats(0, 1), min_size=1, max_size=5))
    def begin(self, draws: list[float]) -> None:
        turns = iter(draws * 1000)
        self.circuit = CircuitBreaker(draw=lambda: next(turns))
        self.now = NOW
        # When each attempt in flight began, and whether it is a probe of this circuit since it last opened.
        self.flight: list[tuple[float, bool]] = []

    @rule()
    def attempt(self) -> None:
        allowed = self.circuit.allows(self.now)
        assert allowed == (self.circuit.wait(self.now) == 0)
        if allowed:
            probe = self.circuit.state != "closed"
            self.circuit.probing(self.now)
            assert not probe or all(self.now - began >= 30 for began in self.probes), "two probes at once"
            self.flight.append((self.now, probe))

    @precondition(lambda self: self.flight)
    @rule(data=st.data(), outcome=st.sampled_from("sffac"))
    def end(self, data: st.DataObject, outcome: str) -> None:
        began, probe = self.flight.pop(data.draw(st.integers(0, len(self.flight) - 1)))
        before = self.circuit.state
        tell(self.circuit, outcome, self.now, self.now - began)
        if probe:
            assert self.circuit.state == ("closed" if outcome in "sa" else "open")
            if self.circuit.state == "closed" or (outcome == "f" and before == "half-open"):
                self.flight = [(began, False) for began, _ in self.flight]
        elif before != "closed":
            assert self.circuit.state == before, "an old attempt passed for the probe"
        else:
            assert self.circuit.state == "closed" or outcome == "f"

    @rule(count=st.integers(1, 12), outcome=st.sampled_from("sf"))
    def burst(self, count: int, outcome: str) -> None:
        """Many short attempts, so that the circuit does open."""
        for _ in range(count):
            if self.circuit.state == "closed":
                self.now += 0.01
                tell(self.circuit, outcome, self.now, 0.005)

    @rule(seconds=st.sampled_from([0.01, 0.5, 3.0, 10.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @property
    def probes(self) -> list[float]:
        return [began for began, probe in self.flight if probe]

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "circuit"):
            return
        assert self.probes or self.circuit.state != "half-open"
        assert self.circuit.wait(self.now) <= 60
        assert self.circuit.allows(self.now + 60)

    def teardown(self) -> None:
        """Whatever happened, a server that has recovered is in use again within a minute."""
        if not hasattr(self, "circuit"):
            return
        for began, _ in self.flight:
            self.circuit.abandoned(self.now, self.now - began)
        self.now += self.circuit.wait(self.now)
        self.circuit.probing(self.now)
        self.circuit.succeeded(self.now + 1, 1.0)
        assert self.circuit.state == "closed"


TestCallers = Callers.TestCase
TestCallers.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


# --- patience ----------------------------------------------------------------------------------------------------


def test_an_answer_is_waited_for_as_long_as_others_took_of_late() -> None:
    found = breaker()
    assert found.patience == 1.0
    found.succeeded(NOW, 0.25)
    assert found.patience == 0.25
    # The first event of a stream.
    found.answered(NOW, 20.0)
    assert found.patience == 20.0
    for _ in range(200):
        found.answered(NOW, 0.5)
    assert found.patience == 0.5
