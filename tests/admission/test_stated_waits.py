"""Claims about `admission.stated_waits`: which waits are kept by all, which are tested, and what a test shows."""

from __future__ import annotations

import itertools

import pytest

from aimlasync.admission.adaptive import AdaptiveLimit
from aimlasync.admission.stated_waits import StatedWaits
from tests.support.grid import grid
from tests.support.unknown_servers import Run


@pytest.mark.parametrize("seconds", [0.02, 3.0, 60.0, 28_800.0])
def test_the_wait_of_an_attempt_that_was_refused_alone_is_kept_by_all(seconds: float) -> None:
    waits = StatedWaits()
    for now in (10.0, 50_000.0):
        assert waits.kept(now, now - 0.1, 0, seconds) == seconds
        assert not waits.is_tested


def test_a_wait_is_tested_where_it_is_long_or_the_same_again_and_none_of_hours() -> None:
    waits = StatedWaits()
    assert [waits.kept(now, now - 0.1, 5, 2.0) for now in (10.0, 20.0)] == [2.0, 0.5]
    assert waits.is_tested
    waits = StatedWaits()
    assert [waits.kept(now, now - 0.1, 5, 1.0 + now / 100) for now in (10.0, 20.0, 30.0)] == [1.1, 1.2, 1.3]
    assert not waits.is_tested
    assert StatedWaits().kept(10.0, 9.9, 5, 30.0) == 1.0
    assert StatedWaits().kept(10.0, 9.9, 5, 28_800.0) == 28_800.0


def test_one_answer_within_a_wait_shows_that_it_is_for_the_refused_call_alone() -> None:
    waits = StatedWaits()
    waits.kept(10.0, 9.9, 5, 30.0)
    # These were sent before it was stated, and after its end.
    for started in (9.5, 10.0, 40.0, 50.0):
        waits.answered(started)
        assert waits.is_tested
    waits.answered(11.5)
    assert not waits.is_tested
    assert [waits.kept(now, now - 0.1, 5, 30.0) for now in (20.0, 60.0)] == [0.0, 0.0]


def test_the_refusals_of_one_burst_are_one_wait() -> None:
    waits = StatedWaits()
    assert [waits.kept(10.0 + step / 100, 9.9, 5, 30.0) for step in range(20)] == [1.0] * 20


def test_a_test_that_is_refused_beside_others_keeps_twice_as_much_of_the_wait() -> None:
    waits = StatedWaits()
    now, kept = 10.0, []
    for _ in range(8):
        kept.append(waits.kept(now, now - 0.1, 3, 20.0))
        now += kept[-1]
    assert kept == [1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 1.0, 2.0]


def test_tests_that_are_refused_alone_become_rare() -> None:
    waits = StatedWaits()
    now, tests = 10.0, []
    for number in range(600):
        if waits.kept(now, now - 0.1, 3, 30.0 + number % 7) < 30.0:
            tests.append(number)
            now += 1.0
            assert waits.kept(now, now - 0.1, 0, 20.0) == 20.0
        now += 1000.0
    gaps = [after - before for before, after in itertools.pairwise(tests)]
    assert gaps[:8] == [2, 4, 8, 16, 32, 64, 65, 65]


def test_where_a_server_begins_to_refuse_alone_its_waits_hold_for_all_again() -> None:
    waits = StatedWaits()
    waits.kept(10.0, 9.9, 5, 30.0)
    waits.answered(11.5)
    assert waits.kept(20.0, 19.9, 5, 30.0) == 0.0
    assert waits.kept(21.0, 20.9, 0, 30.0) == 30.0
    assert not waits.is_tested


@pytest.mark.parametrize("name", ["5 in flight, 0.2 s, 60 s told", "50 in flight, 1.0 s, 10 s told"])
def test_a_server_that_always_states_the_same_wait_is_kept_busy(name: str) -> None:
    """Of UKGovernmentBEIS/inspect_ai#5138: a provider that states 89 s with nearly each refusal; .02 and .27 before."""
    (cell,) = [cell for cell in grid() if cell.name == name]
    score = Run(cell, AdaptiveLimit, 7).score()
    assert score.goodput > 0.9
    assert score.refused < 0.03
