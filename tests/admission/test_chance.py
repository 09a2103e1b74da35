"""Refusals that come by chance do not slow a client down; those of a limit still do."""

from __future__ import annotations

import math
import random

import pytest

from aimlasync import AsyncClient, RateLimitError, Retry
from aimlasync.admission.adaptive import AdaptiveLimit
from aimlasync.admission.chance import Chance
from tests.support.grid import grid
from tests.support.servers import Script, raw_server
from tests.support.unknown_servers import Run


def refuse_by_chance(law: AdaptiveLimit, share: float) -> None:
    """Let a law send one attempt after the other, of which this share is refused, until it takes that for chance."""
    now, draw = 0.0, random.Random(7)
    for _ in range(20_000):
        now += law.delay(now) + 0.01
        law.sent(now)
        if draw.random() < share:
            law.refused(now + 0.01, now, 1)
        else:
            law.answered(now + 0.01, 1, now, 1)
        if law.by_chance:
            return
    raise AssertionError(f"{law} takes no share for chance")


CELLS = [cell for cell in grid() if cell.group == "by chance" and not cell.name.startswith("1%")]


@pytest.mark.parametrize("name", ["5%, 16 slots, 0.2 s", "5%, bucket of 20/s, 0.2 s", "20%, 50 in flight, 1.0 s"])
def test_a_server_that_refuses_by_chance_is_used(name: str) -> None:
    (cell,) = (cell for cell in CELLS if cell.name == name)
    # Without `admission.chance`, each of them gives less than .2 of what it could.
    assert Run(cell, AdaptiveLimit, 1).score().goodput > 0.7


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_the_share_that_comes_by_chance_is_known_and_forgotten_when_it_is_over(share: float) -> None:
    law = AdaptiveLimit()
    refuse_by_chance(law, share)
    assert share / 2 < law.by_chance < 2 * share
    assert law.rate is None
    for number in range(int(14 / law.by_chance)):
        now = 10_000.0 + number
        law.sent(now)
        law.answered(now + 0.01, 1, now, 1)
    law.sent(20_000.0)
    assert law.refused(20_000.01, 20_000.0, 1)
    assert law.by_chance == 0


def test_more_refusals_than_chance_brings_speak_of_a_limit() -> None:
    law = AdaptiveLimit()
    refuse_by_chance(law, 0.05)
    assert law.rate is None
    for number in range(20):
        now = 10_000.0 + number
        law.sent(now)
        law.refused(now + 0.01, now, 1)
    assert law.rate is not None


@pytest.mark.parametrize(
    ("shares", "is_chance"),
    [
        ((0.1, 0.1), True),
        ((0.1, 0.15), True),
        ((0.1, 0.0), False),
        ((0.4, 0.1), False),
        # Nothing is accepted: the server has no room at any rate.
        ((0.9, 0.9), False),
    ],
)
def test_the_same_share_at_a_lower_rate_is_chance(shares: tuple[float, float], is_chance: bool) -> None:
    chance, accepted, found, now = Chance(), 0, False, 0.0
    for share, rate in zip(shares, (70.0, 49.0), strict=True):
        for number in range(200):
            now += 1 / rate
            if int(number * share) == int((number + 1) * share):
                accepted += 1
            elif not found:
                assert not chance.explains(now, accepted, 0, rate, 10.0)
                found = chance.slowed()
    assert found == (chance.share > 0) == is_chance


def test_refusals_of_probes_of_bursts_and_of_a_limit_that_fell_after_it_had_held_are_not_chance() -> None:
    chance, accepted = Chance(), 0

    def refuse(rate: float, *counts: int, probed: int = 0) -> None:
        nonlocal accepted
        for between in counts:
            accepted += between + probed
            chance.explains(0.0, accepted, probed, rate, 10.0)
            assert not chance.slowed()

    # It holds: those that are refused are probes' last. Then the server takes less.
    refuse(100.0, 20, 20, 20, 20, 20, 20)
    refuse(100.0, *[60] * 8, probed=20)
    refuse(50.0, 20, 1, 1, 1, 1, 1, 20)
    # The same share at both rates, of bursts.
    refuse(100.0, *[80, 0, 0, 0, 0] * 3)
    refuse(50.0, *[80, 0, 0, 0, 0] * 3)
    assert not chance.share


@pytest.mark.parametrize(("at_the_server", "is_over"), [(200.0, False), (20.0, True)])
def test_attempts_that_may_be_refused_still_do_not_end_chance(at_the_server: float, is_over: bool) -> None:
    chance = Chance()
    for number in range(200):
        chance.explains(0.0, 9 * number, 0, 80.0 * 0.97**number, 10.0)
        if chance.slowed():
            break
    assert chance.share == pytest.approx(0.1, rel=0.2)
    # A burst, the first of which is refused.
    chance.explains(1.0, 9 * number + 150, 0, math.inf, at_the_server)
    assert (chance.share == 0.0) is is_over


def test_a_rate_that_was_learned_too_high_beside_refusals_by_chance_is_not_kept() -> None:
    (cell,) = (cell for cell in CELLS if cell.name == "5%, bucket of 20/s, 0.2 s")
    # It is known within a few percent, whatever a probe's end and the share that is borne make of it.
    rates = [run.laws[0].learned.rate for run in (Run(cell, AdaptiveLimit, seed) for seed in (11, 14))]
    assert all(rate is not None and 17 < rate < 23 for rate in rates), rates


def test_a_bucket_whose_rate_is_halved_is_not_taken_for_chance() -> None:
    (cell,) = (cell for cell in grid() if cell.name == "bucket of 5/s halves, doubles")
    assert [Run(cell, AdaptiveLimit, seed).laws[0].by_chance for seed in (41, 42, 44)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("by_chance", [False, True])
async def test_a_wait_that_a_refusal_by_chance_states_is_its_own_calls_alone(by_chance: bool) -> None:
    refusal = Script([b'{"error": {"message": "busy"}}'], status=429, headers=[("Retry-After", "30")])
    async with raw_server(refusal) as server:
        client = AsyncClient(api_key="k", base_url=server.base_url, retry=Retry(attempts=1))
        async with client:
            (upstream,) = client._pipeline.balancer.upstreams
            if by_chance:
                refuse_by_chance(upstream.lane("m").law, 0.1)
            with pytest.raises(RateLimitError):
                await client.chat.completions.create(model="m", messages=[])
            assert (client.statistics()[0].paused_for > 20) == (not by_chance)
