"""Claims about `admission.knee` at servers that queue: a slow beginning, and small servers, each with several seeds."""

from __future__ import annotations

import math
import statistics

import pytest

from aimlasync.admission.adaptive import AdaptiveLimit
from tests.support.grid import grid, lognormal
from tests.support.unknown_servers import Cell, Draw, Latency, Run, Server

MEAN = 0.2


def at_once(draw: Draw, now: float) -> float:
    return 5 * MEAN if now < 30 else MEAN


def bit_by_bit(draw: Draw, now: float) -> float:
    return MEAN * max(1.0, 5 - 4 * now / 30)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("warms_up", [at_once, bit_by_bit])
def test_a_server_that_began_slowly_is_not_taken_to_be_larger(warms_up: Latency, seed: int) -> None:
    # Every level paid, while the model was still being loaded; what was quick then is slow now.
    spread = lognormal(1.0, 0.3)

    def latency(draw: Draw, now: float) -> float:
        return warms_up(draw, now) * spread(draw, now)

    best = [(0.0, 32 / MEAN)]
    cell = Cell("", "", lambda: [Server(slots=32)], latency, 150.0, 90.0, best, knee=32)
    score = Run(cell, AdaptiveLimit, seed).score()
    assert score.knee <= 4
    assert score.goodput >= 0.95


@pytest.mark.parametrize("name", ["1 slots, 1.0 s", "1 slots, 5.0 s"])
def test_a_server_with_one_slot_is_measured_with_few_attempts(name: str) -> None:
    # Each answer takes the whole server: a long measurement is a long queue.
    (cell,) = (cell for cell in grid() if (cell.group, cell.name) == ("queue", name))
    scores = [Run(cell, AdaptiveLimit, seed).score() for seed in range(20, 36)]
    assert statistics.fmean(score.p95 for score in scores) <= 7
    assert statistics.fmean(score.goodput for score in scores) >= 0.94
    assert sum(score.timeouts for score in scores) == 0
    assert all(math.isfinite(score.knee) for score in scores)
