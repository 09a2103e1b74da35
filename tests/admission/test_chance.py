"""Refusals that come by chance do not slow a client down; those of a limit still do."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from aimlasync import AsyncClient, RateLimitError, Retry
from aimlasync.admission.adaptive import AdaptiveLimit
from aimlasync.admission.chance import Chance
from tests.support.grid import grid, lognormal
from tests.support.servers import Script, raw_server
from tests.support.unknown_servers import Cell, Run, Server


def refuse_by_chance(law: AdaptiveLimit, share: float) -> None:
    """Let a law send one attempt after the other, of which this share is refused, until it takes that for chance."""
    now, draw = 0.0, random.Random(7)
    for _ in range(20_000):
        now += law.delay(now) + 0.01
        law.sent(now)
        if draw.random() < share:
            law.refused(now + 0.01, now, 0)
        else:
            law.answered(now + 0.01, 1, now, 0)
        if law.by_chance:
            return
    raise AssertionError(f"{law} takes no share for chance")


CELLS = [cell for cell in grid() if cell.group == "by chance" and not cell.name.startswith("1%")]


@pytest.mark.parametrize("name", ["5%, 16 slots, 0.2 s", "5%, bucket of 20/s, 0.2 s", "20%, 50 in flight, 1.0 s"])
def test_a_server_that_refuses_by_chance_is_used(name: str) -> None:
    (cell,) = (cell for cell in CELLS if cell.name == name)
    # Without `admission.chance`, each of them gives less than .2 of what it could.
    assert Run(cell, AdaptiveLimit, 1).score().goodput > 0.7


@pytest.mark.parametrize("seed", [3, 4, 7])
def test_a_server_that_is_overloaded_for_a_minute_is_used_meanwhile(seed: int) -> None:
    def loses(share: float) -> Callable[[Server], None]:
        return lambda server: setattr(server, "chance", share)

    changes = (60.0, loses(0.3)), (120.0, loses(0.005))
    cell = Cell(
        *("overloaded", "a minute", lambda: [Server(in_flight=100)], lognormal(1.0, 0.5), 180.0, 60.0, [(0.0, 98.0)]),
        changes=changes,
    )
    # Within twenty seconds it is known that to send less is in vain.
    assert Run(cell, AdaptiveLimit, seed).score().goodput > 0.7


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_the_share_that_comes_by_chance_is_known_and_forgotten_when_it_is_over(share: float) -> None:
    law = AdaptiveLimit()
    refuse_by_chance(law, share)
    assert share / 2 < law.by_chance < 2 * share
    assert law.rate is None
    for number in range(int(16 / law.by_chance)):
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
                assert not chance.explains(now, accepted, rate, (rate, 0, 0.0), number % 17, 10.0)
                found = chance.slowed()
    assert found == (chance.share > 0) == is_chance


def refuse(chance: Chance, accepted: int, rate: float, *counts: int, probed: int = 0, beside: int | None = None) -> int:
    """Let attempts be refused after so many accepted ones each, and as many more in a probe; return those accepted."""
    for number, between in enumerate(counts):
        accepted += between + probed
        probe = (1.1 * rate, probed, probed / rate)
        chance.explains(0.0, accepted, rate, probe, number % 20 if beside is None else beside, 10.0)
        if chance.slowed():
            break
    return accepted


def test_refusals_of_probes_of_bursts_and_of_a_limit_that_fell_after_it_had_held_are_not_chance() -> None:
    chance = Chance()
    # It holds: those that are refused are probes' last. Then the server takes less.
    accepted = refuse(chance, 0, 100.0, 20, 20, 20, 20, 20, 20)
    accepted = refuse(chance, accepted, 100.0, *[60] * 8, probed=20)
    accepted = refuse(chance, accepted, 50.0, 20, 1, 1, 1, 1, 1, 20)
    # The same share at both rates, of bursts.
    accepted = refuse(chance, accepted, 100.0, *[80, 0, 0, 0, 0] * 3)
    refuse(chance, accepted, 50.0, *[80, 0, 0, 0, 0] * 3)
    assert not chance.share


@pytest.mark.parametrize(("outside", "beside", "is_chance"), [(4, None, True), (1, None, False), (4, 30, False)])
def test_chance_refuses_outside_probes_as_in_them_and_at_any_height(
    outside: int, beside: int | None, is_chance: bool
) -> None:
    chance, accepted = Chance(), 0
    for number in range(8):
        rate = 100.0 - number
        accepted = refuse(chance, accepted, rate, *[50] * outside, beside=beside)
        # Where few are refused outside probes, that many are accepted there.
        accepted = refuse(chance, accepted + 60 * (4 - outside), rate, 0, 0, probed=50, beside=beside)
    assert (chance.share > 0) == is_chance


def test_a_limit_beside_chance_is_told_by_a_few_refusals() -> None:
    chance = Chance()
    accepted = refuse(chance, refuse(chance, 0, math.inf, 0), 100.0, *[99] * 12)
    assert chance.share == pytest.approx(0.01)
    # By chance, as many as come in a thousand attempts; or as come in four.
    assert all(chance.explains(1.0, accepted + 99 * number, 100.0, (100.0, 0, 0.0), 5, 10.0) for number in range(10))
    accepted += 1000
    told = [chance.explains(1.0, accepted, 100.0, (110.0, 50, 0.5), 5, 10.0) for _ in range(4)]
    assert told.count(False) >= 2


@pytest.mark.parametrize("seed", [405, 423])
def test_a_fresh_client_soon_finds_that_a_large_server_refuses_by_chance(seed: int) -> None:
    (cell,) = (cell for cell in grid() if cell.name == "1% and above 400, 1.0 s")
    assert Run(cell, AdaptiveLimit, seed).score().goodput > 0.85


@pytest.mark.parametrize(("at_the_server", "is_over"), [(200.0, False), (20.0, True)])
def test_attempts_that_may_be_refused_still_do_not_end_chance(at_the_server: float, is_over: bool) -> None:
    chance = Chance()
    for number in range(200):
        chance.explains(0.0, 9 * number, 80.0 * 0.97**number, (0.0, 0, 0.0), number % 20, 10.0)
        if chance.slowed():
            break
    assert chance.share == pytest.approx(0.1, rel=0.2)
    # A burst, the first of which is refused.
    chance.explains(1.0, 9 * number + 150, math.inf, (math.inf, 0, 0.0), 0, at_the_server)
    assert (chance.share == 0.0) is is_over


def test_a_rate_that_was_learned_too_high_beside_refusals_by_chance_is_not_kept() -> None:
    (cell,) = (cell for cell in CELLS if cell.name == "5%, bucket of 20/s, 0.2 s")
    # It is known, whatever a probe's end and the share that is borne make of it.
    rates = [run.laws[0].learned.rate for run in (Run(cell, AdaptiveLimit, seed) for seed in (11, 14))]
    assert all(rate is not None and 17 < rate < 25 for rate in rates), rates


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
