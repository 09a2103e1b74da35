"""How much of a quota is used, and how far it is passed, while the tokens of a request are being learned.

A closed loop of callers against one upstream, five virtual minutes: estimate, admission, answer, learning, settling,
as in `Balancer.admit` and `Attempt.succeed`; concurrency is learned too. The server is a judge that refuses nothing
and counts what arrived in every sliding 60 seconds. What servers count differs, so each run is judged three ways:
 - "arrival": prompt and answer when the request arrives. No server can know that; none is stricter, and it is what the
   simulator does;
 - "end": the prompt when it arrives, the answer when it ends (gateways and Anthropic, who count what was used);
 - "requested": the prompt and the whole cap of the answer when it arrives, nothing given back (OpenAI and Azure); this
   needs `Limits(tokens_counted="requested")`.
A request that takes a twentieth of the limit cannot use it to the full: on average half of it is left over. The shares
below are for requests of at most two hundredths.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest

from aimlasync.admission.outcome import Outcome
from aimlasync.admission.token_estimate import Estimator
from aimlasync.config import Limits
from aimlasync.endpoints.endpoint import Endpoint
from aimlasync.endpoints.upstream import Upstream
from tests.support.permits import permit_now, permit_of
from tests.support.virtual import run
from tests.support.windows import worst

SECONDS = 300.0
# After this the estimates are those of the traffic.
LEARNED = 60.0


class Asked(NamedTuple):
    """A request, and what it will turn out to take."""

    size: int
    """Bytes of the body."""
    cap: int | None
    prompt: float
    output: float


Traffic = Callable[[random.Random], Asked]


def short_answers(draw: random.Random) -> Asked:
    """Escaped text, a generous cap, short answers: guessed four times too high."""
    size = draw.randint(1000, 3000)
    return Asked(size, 4096, size / 16 * draw.uniform(0.8, 1.2), draw.randint(20, 100))


def short_answers_to_long_texts(draw: random.Random) -> Asked:
    size = draw.randint(6000, 14_000)
    return Asked(size, 4096, size / 16 * draw.uniform(0.8, 1.2), draw.randint(20, 200))


def long_answers(draw: random.Random) -> Asked:
    """No cap, long answers: guessed three times too low."""
    size = draw.randint(400, 1200)
    return Asked(size, None, size / 2 * draw.uniform(0.8, 1.2), draw.randint(500, 1500))


def dense_prompts(draw: random.Random) -> Asked:
    """An image by its URL, or an earlier response by its id, and a label for an answer: guessed three times too low."""
    size = draw.randint(200, 600)
    return Asked(size, 16, size * 0.8 * draw.uniform(0.8, 1.2), draw.randint(4, 16))


class Server:
    """One upstream under load, and what its server saw."""

    def __init__(
        self, traffic: Traffic, limits: Limits, *, callers: int, seconds: float = SECONDS, seed: int = 0
    ) -> None:
        self.upstream = Upstream(Endpoint(base_url="https://one.example", api_key="test"), limits)
        self.limit = limits.tokens_per_minute or 0.0
        self.traffic = traffic
        self.seconds = seconds
        self.draw = random.Random(seed)
        self.requests: list[tuple[float, float]] = []
        self.arrivals: list[tuple[float, float]] = []
        self.ends: list[tuple[float, float]] = []
        self.caps: list[tuple[float, float]] = []
        run(self._main(callers))

    async def _main(self, callers: int) -> None:
        self.begun = asyncio.get_running_loop().time()
        await asyncio.gather(*(self._caller() for _ in range(callers)))
        assert self.upstream.limiter.in_flight == self.upstream.limiter.waiting == 0

    async def _caller(self) -> None:
        loop = asyncio.get_running_loop()
        upstream, draw = self.upstream, self.draw
        while loop.time() - self.begun < self.seconds:
            size, cap, prompt, output = self.traffic(draw)

            def tokens(size: int = size, cap: int | None = cap) -> float:
                return upstream.estimator.estimate("m", size, cap, in_full=upstream.counts_requested)

            lane = upstream.lane("m")
            permit = permit_now(lane, tokens()) or await permit_of(lane, tokens, "interactive")
            await asyncio.sleep(0.05 * draw.random())
            self.requests.append((loop.time(), 1.0))
            self.arrivals.append((loop.time(), prompt + output))
            self.ends.append((loop.time(), prompt))
            self.caps.append((loop.time(), prompt + (cap or output)))
            await asyncio.sleep((0.4 + output / 150) * draw.lognormvariate(0, 0.3))
            self.ends.append((loop.time(), output))
            upstream.estimator.learn("m", size, round(prompt), round(output))
            permit.release(Outcome.OK, prompt + output)

    def use(self, seen: list[tuple[float, float]], limit: float | None = None) -> float:
        """The share of the quota that was used."""
        total = sum(amount for when, amount in seen if when - self.begun < self.seconds)
        return total / (self.seconds / 60) / (limit or self.limit)

    def worst(self, seen: list[tuple[float, float]], limit: float | None = None, *, since: float = 0.0) -> float:
        """The fullest minute that began so many seconds after the start, as a share of the quota."""
        return worst([(when, n) for when, n in sorted(seen) if when - self.begun >= since]) / (limit or self.limit)


CASES = [
    pytest.param(short_answers, 20_000, 16, 4.0, id="4x-too-high-20k"),
    pytest.param(short_answers, 200_000, 64, 4.0, id="4x-too-high-200k"),
    pytest.param(short_answers_to_long_texts, 2_000_000, 200, 4.0, id="4x-too-high-2M"),
    pytest.param(dense_prompts, 20_000, 16, 1 / 3, id="3x-too-low-20k"),
    pytest.param(long_answers, 200_000, 64, 1 / 3, id="3x-too-low-200k"),
    pytest.param(long_answers, 2_000_000, 400, 1 / 3, id="3x-too-low-2M"),
]


@pytest.mark.parametrize(("traffic", "tpm", "callers", "wrong"), CASES)
def test_tokens_are_used_and_not_passed_while_they_are_learned(
    traffic: Traffic, tpm: int, callers: int, wrong: float
) -> None:
    draw = random.Random(0)
    first = [
        (Estimator().estimate("m", a.size, a.cap), a.prompt + a.output) for a in (traffic(draw) for _ in range(99))
    ]
    assert sum(guess for guess, _ in first) / sum(took for _, took in first) == pytest.approx(wrong, rel=0.1)
    server = Server(traffic, Limits(tokens_per_minute=tpm), callers=callers)
    assert server.use(server.arrivals) >= 0.93
    # At its arrival nothing is ever above the limit, so that nothing would have been refused.
    assert server.worst(server.arrivals) <= 1.0
    assert server.worst(server.ends) <= 1.05
    assert server.worst(server.ends, since=LEARNED) <= 1.02


@pytest.mark.parametrize("seed", range(4))
def test_requests_of_a_fifteenth_of_the_limit_are_admitted_one_by_one(seed: int) -> None:
    server = Server(long_answers, Limits(tokens_per_minute=20_000), callers=16, seed=seed)
    assert server.use(server.arrivals) >= 0.85
    assert server.worst(server.arrivals) <= 1.0
    assert server.worst(server.ends) <= 1.05


def test_a_line_that_joined_before_the_first_answer_is_estimated_by_it() -> None:
    # All at once, as `asyncio.gather` over the rows of a table: the last waits for minutes.
    server = Server(long_answers, Limits(tokens_per_minute=200_000), callers=500, seconds=0.5)
    assert len(server.requests) == 500
    assert server.requests[-1][0] - server.begun > 180
    assert server.worst(server.arrivals) <= 1.0
    assert server.worst(server.ends, since=LEARNED) <= 1.02


@pytest.mark.parametrize(("rpm", "callers"), [(60, 16), (600, 64), (1200, 64)])
def test_requests_are_used_and_not_passed_while_concurrency_is_learned(rpm: int, callers: int) -> None:
    server = Server(dense_prompts, Limits(requests_per_minute=rpm), callers=callers)
    assert server.use(server.requests, rpm) >= 0.97
    assert server.worst(server.requests, rpm) <= 1.0


def test_requests_and_tokens_hold_at_once_while_tokens_are_learned() -> None:
    limits = Limits(requests_per_minute=300, tokens_per_minute=400_000)
    server = Server(long_answers, limits, callers=64)
    assert server.use(server.requests, 300) >= 0.97 or server.use(server.arrivals) >= 0.93
    assert server.worst(server.requests, 300) <= 1.0
    assert server.worst(server.arrivals) <= 1.0


@pytest.mark.parametrize("seed", range(3))
def test_where_the_whole_cap_counts_it_is_kept_to(seed: int) -> None:
    def capped(draw: random.Random) -> Asked:
        asked = short_answers(draw)
        return asked._replace(cap=1000)

    limits = Limits(tokens_per_minute=200_000, tokens_counted="requested")
    server = Server(capped, limits, callers=64, seed=seed)
    assert server.worst(server.caps) <= 1.0
    assert server.use(server.caps) >= 0.93
