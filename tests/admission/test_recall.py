"""Claims about what a bad time teaches: it does not outlive it, and a limit that was lowered is kept."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from aimlasync.admission.adaptive import Learned
from aimlasync.admission.outcome import Outcome
from aimlasync.admission.recall import Recall
from tests.support.permits import permit_now, permit_of
from tests.support.refusing_server import RefusingServer, upstream
from tests.support.virtual import run


class Failing(RefusingServer):
    """From `begin` to `end` it answers a share of the attempts with a 503 without a word. Its callers back off."""

    begin = end = share = 0.0

    async def _call(self, model: str) -> None:
        loop, lane = asyncio.get_running_loop(), self.upstream.lane(model)
        for tries in range(4):
            permit = permit_now(lane) or await permit_of(lane)
            await asyncio.sleep(0.01 * (0.5 + self.draw.random()))
            now = loop.time()
            if self.begin <= now < self.end and self.draw.random() < self.share:
                outcome = Outcome.OUTAGE if lane.is_out else Outcome.DROPPED
                lane.failed(now, now - permit.sent_at, "HTTP 503")
                permit.release(outcome)
            elif self._takes(model, now):
                self.in_flight.update((model, ""))
                await asyncio.sleep(self.draw.lognormvariate(0.0, 0.4))
                self.in_flight.subtract((model, ""))
                self.answers[model].append(loop.time())
                lane.circuit.succeeded(loop.time(), loop.time() - permit.sent_at)
                permit.release(Outcome.OK)
                return
            else:
                self.refused[model] += 1
                lane.answered(now, now - permit.sent_at)
                permit.release(Outcome.DROPPED)
            await asyncio.sleep(0.5 * 2**tries * self.draw.random())

    def per_second(self, begin: float, end: float) -> float:
        return sum(begin <= at < end for times in self.answers.values() for at in times) / (end - begin)


@pytest.mark.parametrize(
    ("limit", "possible"), [({"limits": {"": 50}}, 46), ({"rate": 20.0}, 20), ({"limits": {"": 1000}}, 180)]
)
@pytest.mark.parametrize("share", [0.7, 1.0])
def test_a_minute_in_which_a_server_fails_is_over_when_it_is_over(
    limit: dict[str, Any], possible: float, share: float
) -> None:
    """It sent 0.1 to 0.3 attempts a second for four minutes more."""

    async def main() -> None:
        server = Failing(upstream(), **{"limits": {}, **limit})
        server.draw = random.Random(seed)
        start = asyncio.get_running_loop().time()
        server.begin, server.end, server.share = start + 120, start + 180, share
        await server.load({"m": 200}, 240.0)
        answers.append(server.per_second(start + 200, start + 240))

    answers: list[float] = []
    for seed in (1, 2, 3, 4):
        random.seed(seed)
        run(main())
    assert min(answers) > 0.1 * possible
    assert sum(answers) > 0.5 * possible * len(answers)


@pytest.mark.parametrize(
    ("limit", "lower"),
    [
        ({"rate": 20.0}, lambda server: setattr(server, "rate", 2.0)),
        ({"minute": 600}, lambda server: setattr(server, "minute", 60)),
        ({"limits": {"": 50}}, lambda server: server.limits.update({"": 5})),
    ],
)
def test_a_limit_that_was_lowered_is_tried_less_and_less(
    limit: dict[str, Any], lower: Callable[[RefusingServer], None]
) -> None:
    async def main(begins: float) -> tuple[int, int]:
        server = Failing(upstream(), **{"limits": {}, **limit})
        await server.load({"m": 100}, 200.0 + begins)
        lower(server)
        await server.load({"m": 100}, 200.0)
        answered, refused = len(server.answers["m"]), server.refused["m"]
        await server.load({"m": 100}, 300.0)
        return server.refused["m"] - refused, len(server.answers["m"]) - answered

    # Where in a minute it is lowered makes a part of the difference, and chance another one.
    refused, answered = map(sum, zip(*(run(main(begins)) for begins in (0, 7, 23, 41, 52)), strict=True))
    assert refused < 0.12 * answered


class Law(NamedTuple):
    """What is known, as a law tells it."""

    learned: Learned


def fallen(recall: Recall) -> bool:
    return recall.is_fallen


def test_what_was_known_is_tried_once_answers_come_and_no_refusal_and_after_twice_the_time_if_it_was_wrong() -> None:
    recall, low = Recall(), Law(Learned(4.0, 0.1))
    recall.refused(0.0, Learned(40.0, 20.0), is_sure=True, answered=0, seconds=1.0)
    recall.refused(70.0, low.learned, is_sure=True, answered=0, seconds=1.0)
    assert fallen(recall)
    assert recall.answered(72.0, low) is None
    assert recall.answered(76.0, low) == Learned(20.0, 10.0)
    recall.refused(77.0, low.learned, is_sure=True, answered=0, seconds=1.0)
    assert [recall.answered(at, low) for at in (83.0, 84.0)] == [None, None]
    assert recall.answered(88.0, low) == Learned(20.0, 10.0)
    # After ten minutes it is no bad time.
    recall.refused(610.0, low.learned, is_sure=True, answered=0, seconds=1.0)
    assert [recall.answered(at, low) for at in (616.0, 630.0)] == [None, None]
    assert not fallen(recall)


def test_a_fall_that_the_last_refusal_or_the_end_of_a_silence_brings_is_seen() -> None:
    recall = Recall()
    for at in (0.0, 50.0):
        recall.refused(at, Learned(40.0, 20.0), is_sure=True, answered=0, seconds=1.0)
    assert fallen(recall)
    low = Law(Learned(4.0, 0.1))
    assert [recall.answered(at, low) for at in (52.0, 56.0)] == [None, Learned(20.0, 10.0)]


def test_a_first_guess_is_no_knowledge_and_where_no_rate_was_known_the_attempts_at_once_tell_it() -> None:
    recall = Recall()
    recall.refused(0.0, Learned(400.0, 200.0), is_sure=False, answered=0, seconds=1.0)
    recall.refused(70.0, Learned(4.0, 0.1), is_sure=False, answered=0, seconds=1.0)
    assert not fallen(recall)
    recall = Recall()
    recall.refused(0.0, Learned(40.0), is_sure=True, answered=0, seconds=2.0)
    recall.refused(1.0, Learned(40.0, 6.0), is_sure=False, answered=0, seconds=2.0)
    assert [recall.answered(at, Law(Learned(40.0, 6.0))) for at in (7.0, 8.0)] == [None, None]
    assert not fallen(recall)
    recall.refused(10.0, Learned(40.0, 4.0), is_sure=False, answered=0, seconds=2.0)
    assert [recall.answered(at, Law(Learned(40.0, 4.0))) for at in (16.0, 17.0)] == [None, Learned(20.0)]
