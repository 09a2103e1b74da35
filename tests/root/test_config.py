"""Limits and timeouts are checked where they are made."""

from __future__ import annotations

from typing import Any

import pytest

from aimlasync.config import Limits, Timeout


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_limit_that_is_not_above_zero_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


def test_what_counts_as_tokens_is_one_of_two() -> None:
    assert Limits().tokens_counted == "used"
    with pytest.raises(ValueError, match="tokens_counted"):
        Limits(tokens_counted="charged")  # type: ignore[arg-type]


def test_limits_are_unknown_unless_given() -> None:
    limits = Limits()
    assert (limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency) == (None, None, None)


@pytest.mark.parametrize("name", ["total", "connect", "first_token", "idle"])
@pytest.mark.parametrize("value", [0, -0.1, float("nan")])
def test_timeout_that_is_not_above_zero_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Timeout(**{name: value})


def test_timeout_of_one_call_replaces_the_total_and_keeps_the_other_bounds() -> None:
    mine = Timeout(total=60, connect=1, first_token=2, idle=3)
    assert mine.but(5) == Timeout(total=5, connect=1, first_token=2, idle=3)
    assert mine.but(None) == Timeout(total=None, connect=1, first_token=2, idle=3)
    other = Timeout(total=9)
    assert mine.but(other) is other
