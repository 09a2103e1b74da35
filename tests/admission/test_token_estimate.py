"""Claims about `admission.token_estimate`: how soon it is right, and what cannot lead it astray."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.admission.token_estimate import Estimator


def taught(*answers: tuple[int, float | None, float | None]) -> Estimator:
    """One that has seen answers of (bytes, prompt, completion) to model "m"."""
    estimator = Estimator()
    for answer in answers:
        estimator.learn("m", *answer)
    return estimator


def ratio(estimator: Estimator) -> float:
    """Tokens per byte of input."""
    return (estimator.estimate("m", 10**6, 1) - 1) / 10**6


def output(estimator: Estimator) -> float:
    return estimator.estimate("m", 0)


# --- the first guess ---------------------------------------------------------------------------------------------


def test_first_guess_is_a_quarter_of_the_bytes_and_256() -> None:
    assert Estimator().estimate("m", 1000, None) == 506
    assert Estimator().estimate("m", 1000) == 506


@pytest.mark.parametrize(("cap", "tokens"), [(100, 350), (256, 506), (4096, 506), (0.5, 250.5)])
def test_cap_of_the_request_counts_where_it_is_lower(cap: float, tokens: float) -> None:
    assert Estimator().estimate("m", 1000, cap) == tokens


@pytest.mark.parametrize(("cap", "tokens"), [(100, 350), (4096, 4346), (0, 506), (None, 506)])
def test_cap_counts_in_full_where_the_server_does(cap: float | None, tokens: float) -> None:
    assert Estimator().estimate("m", 1000, cap, in_full=True) == tokens
    assert taught((1000, 250, 40)).estimate("m", 1000, 4096, in_full=True) == 4346


@pytest.mark.parametrize("cap", [0, -1, float("nan"), float("-inf")])
def test_cap_that_is_none_leaves_it_to_recent_answers(cap: float) -> None:
    assert Estimator().estimate("m", 1000, cap) == 506


# --- learning ----------------------------------------------------------------------------------------------------


def test_first_answer_replaces_the_guess() -> None:
    assert taught((1000, 500, 40)).estimate("m", 2000) == 1040


def test_first_answers_are_averaged_and_later_ones_weigh_an_eighth() -> None:
    answers = [(1000, 100.0 * n, None) for n in range(1, 9)]
    assert ratio(taught(*answers[:2])) == pytest.approx(0.15)
    assert ratio(taught(*answers)) == pytest.approx(0.45)
    assert ratio(taught(*answers, (1000, 1250, None))) == pytest.approx(0.45 * 7 / 8 + 1.25 / 8)


def test_ratio_is_that_of_the_sums() -> None:
    # An image by its URL: few bytes, many tokens.
    assert ratio(taught((9_800, 2_000, None), (200, 3_000, None))) == pytest.approx(0.5)


@pytest.mark.parametrize(("right", "wrong"), [(0.0625, "4x too high"), (0.75, "3x too low")])
def test_wrong_first_guess_is_right_within_thirty_answers(right: float, wrong: str) -> None:
    draw = random.Random(7)
    estimator = Estimator()
    for _ in range(30):
        size = draw.randint(400, 4_000)
        estimator.learn("m", size, round(size * right * draw.uniform(0.8, 1.2)), round(256 * right * 4))
    assert ratio(estimator) == pytest.approx(right, rel=0.1), wrong
    assert output(estimator) == 1024 * right


@pytest.mark.parametrize("change", [0.25, 3.0])
def test_change_of_the_traffic_is_followed_within_thirty_answers(change: float) -> None:
    before = [(1000, 250.0, 100.0)] * 100
    after = [(1000, 250.0 * change, 100.0 * change)] * 30
    estimator = taught(*before, *after)
    assert ratio(estimator) == pytest.approx(0.25 * change, rel=0.1)
    if change > 1:
        assert output(estimator) == 300


def test_images_by_value_among_texts_do_not_blow_the_estimates_up() -> None:
    draw = random.Random(11)
    estimator = Estimator()
    guessed = used = naive = 0.0
    for number in range(2_000):
        # One request in ten carries an image: many bytes, few tokens.
        size, tokens = (draw.randint(200, 4_000), 0.3) if draw.random() < 0.9 else (200_000, 0.004)
        prompt = round(size * tokens)
        if number >= 30:
            guessed += estimator.estimate("m", size, 1) - 1
            used += prompt
            # What the average of the ratios would have said.
            naive += size * 0.27
        estimator.learn("m", size, prompt, None)
    assert 0.8 < guessed / used < 2.5 < 9 < naive / used


def test_output_is_what_four_of_five_recent_answers_stay_under() -> None:
    outputs = list(range(1, 65))
    random.Random(3).shuffle(outputs)
    assert output(taught(*((1, None, float(tokens)) for tokens in outputs))) == 52


@pytest.mark.parametrize(("count", "tokens"), [(1, 10), (2, 20), (4, 40), (5, 40), (7, 60)])
def test_first_outputs_are_taken_at_once_and_the_largest_of_few(count: int, tokens: float) -> None:
    assert output(taught(*((1, None, 10.0 * n) for n in range(1, count + 1)))) == tokens


def test_later_outputs_are_taken_every_eighth_answer() -> None:
    first = [(1, None, 10.0)] * 8
    assert output(taught(*first, *[(1, None, 90.0)] * 7)) == 10
    assert output(taught(*first, *[(1, None, 90.0)] * 8)) == 90


def test_outputs_before_the_last_64_are_forgotten() -> None:
    assert output(taught(*[(1, None, 5_000.0)] * 64, *[(1, None, 20.0)] * 64)) == 20


def test_long_answers_among_many_short_ones_do_not_set_the_estimate() -> None:
    assert output(taught(*((1, None, 4_000.0 if n % 8 == 0 else 30.0) for n in range(64)))) == 30


# --- what servers report -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [None, 0, -5, float("nan"), float("inf"), 1e12, 10**400])
def test_count_that_is_none_teaches_nothing(count: float | None) -> None:
    assert taught((1000, count, count)).estimate("m", 1000) == 506
    assert taught((1000, 500, 40), (1000, count, count)).estimate("m", 1000) == 540
    assert taught((1000, 500, count)).estimate("m", 1000) == 756
    assert taught((1000, count, 40)).estimate("m", 1000) == 290


def test_body_of_no_size_teaches_nothing_of_the_ratio() -> None:
    assert taught((0, 500, 40)).estimate("m", 1000) == 290


@pytest.mark.parametrize(("prompt", "answer"), [(1, 424), (294, 2520), (0.5, 0.25)])
def test_credits_in_the_place_of_tokens_are_learned_like_tokens(prompt: float, answer: float) -> None:
    estimator = taught(*[(100, prompt, answer)] * 20)
    assert estimator.estimate("m", 100) == pytest.approx(prompt + max(1, answer))


def test_models_are_learned_apart() -> None:
    estimator = taught((1000, 500, 40))
    estimator.learn("n", 1000, 100, 900)
    assert estimator.estimate("m", 1000) == 540
    assert estimator.estimate("n", 1000) == 1000
    assert estimator.estimate("other", 1000) == 506


# --- bounds ------------------------------------------------------------------------------------------------------


def test_models_that_answered_last_are_remembered() -> None:
    estimator = Estimator(max_models=2)
    for model in ("a", "b", "a", "c"):
        estimator.learn(model, 1000, 500, 40)
    assert len(estimator) == 2
    assert [estimator.estimate(model, 1000) for model in "abc"] == [540, 506, 540]


def test_asking_remembers_nothing() -> None:
    estimator = Estimator()
    for number in range(1000):
        estimator.estimate(str(number), 1)
    assert len(estimator) == 0


def test_ten_thousand_models_take_the_memory_of_the_bound() -> None:
    estimator = Estimator(max_models=10)
    for number in range(10_000):
        estimator.learn(str(number), 100, 25, 10)
    assert len(estimator) == 10


def test_bound_below_one_is_misuse() -> None:
    with pytest.raises(ValueError, match="max_models"):
        Estimator(max_models=0)


COUNTS = st.none() | st.integers() | st.floats()
ANSWERS = st.lists(st.tuples(st.integers(0, 2**26), COUNTS, COUNTS), max_size=20)


@settings(max_examples=200, deadline=None)
@given(ANSWERS, st.integers(0, 2**26), st.integers(0, 2**26), st.none() | st.floats() | st.integers())
def test_estimate_is_positive_finite_and_grows_with_the_body(
    answers: list[tuple[int, float | None, float | None]], size: int, more: int, cap: float | None
) -> None:
    estimator = taught(*answers)
    small, large = estimator.estimate("m", size, cap), estimator.estimate("m", size + more, cap)
    assert 0 < small <= large
    assert math.isfinite(large)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**6), st.floats(0.01, 40), st.integers(1, 100_000))
def test_steady_traffic_is_estimated_exactly(size: int, each: float, answer: int) -> None:
    estimator = taught(*[(size, size * each, answer)] * 20)
    assert estimator.estimate("m", size) == pytest.approx(size * each + answer)
    assert estimator.estimate("m", size, 1) == pytest.approx(size * each + 1)
