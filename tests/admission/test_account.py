"""Claims about an account's limit behind many models, and about the trial that finds it."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
from itertools import pairwise
from typing import Any

import pytest

from aimlasync.admission.account_trial import AccountTrial
from aimlasync.admission.outcome import Outcome
from tests.support.permits import permit_now, permit_of
from tests.support.refusing_server import RefusingServer, upstream
from tests.support.virtual import run


class Patient(RefusingServer):
    """Its callers wait before they try again, longer each time, as the client's calls do."""

    def __init__(self, *of: Any, **more: Any) -> None:
        super().__init__(*of, **more)
        self.refusals: list[float] = []

    async def _call(self, model: str) -> None:
        loop = asyncio.get_running_loop()
        for tries in range(4):
            lane = self.upstream.lane(model)
            permit = permit_now(lane) or await permit_of(lane)
            await asyncio.sleep(0.01 * (0.5 + self.draw.random()))
            if self._takes(model, loop.time()):
                self.in_flight.update((model, ""))
                await asyncio.sleep(self.seconds)
                self.in_flight.subtract((model, ""))
                self.answers[model].append(loop.time())
                permit.release(Outcome.OK)
                return
            self.refusals.append(loop.time())
            permit.release(Outcome.DROPPED, kind=self.kind, names_account=self.names_account)
            await asyncio.sleep(1.5 * 2**tries * self.draw.random())

    def from_to(self, begin: float, end: float) -> tuple[int, float]:
        """Return the answers in a time, and the share of the attempts that was refused in it."""
        answers = sum(begin <= at < end for times in self.answers.values() for at in times)
        refused = sum(begin <= at < end for at in self.refusals)
        return answers, refused / (refused + answers)


@pytest.mark.parametrize("names_account", [False, True])
@pytest.mark.parametrize("limit", [{"limits": {"": 20}}, {"rate": 10.0}, {"minute": 300, "kind": "rate"}])
def test_a_hundred_models_behind_one_limit_of_the_account_come_to_share_it(
    limit: dict[str, Any], names_account: bool
) -> None:
    """Where refusals go on and on, no row of them is longer than others: 20 to 80 % were refused, for good."""

    shares = []

    async def main(seed: int) -> None:
        made = upstream()
        server = Patient(made, **{"limits": {}, **limit}, names_account=names_account)
        server.draw = random.Random(seed)
        start = asyncio.get_running_loop().time()
        await server.load({f"m{number}": 1 for number in range(100)}, 240.0)
        assert made.account.signs.is_account
        answers, refused = server.from_to(start + 150, start + 240)
        assert answers > 0.7 * 90 * {"limits": 20 / 1.02, "rate": 10, "minute": 5}[next(iter(limit))]
        shares.append(refused)

    for seed in range(1, 5):
        run(main(seed))
    # Mostly hardly any; of a minute's, a tenth with one seed of six.
    assert statistics.fmean(shares) < 0.03


class Tried:
    """A trial told second by second of ten answers, and of so many refusals of two models."""

    def __init__(self) -> None:
        self.trial = AccountTrial()
        self.now = self.count = 0

    def second(self, answers: int, *refused: str) -> None:
        """Let a second pass."""
        self.now += 1
        self.count += answers
        for model in refused:
            self.trial.refused(model, self.now, self.answers)

    def answers(self) -> int:
        return self.count

    def begins(self, sent_at: float | None = None) -> bool:
        """Tell it of an answer to an attempt that was sent just now, or then."""
        return self.trial.begins(self.now - 0.5 if sent_at is None else sent_at, self.now, self.answers)

    def shows(self) -> bool | None:
        return self.trial.shows(self.now, self.answers)


@pytest.mark.parametrize(
    ("refused", "answered", "is_account"), [(0, 10, True), (0, 7, True), (0, 1, False), (10, 10, False), (1, 10, True)]
)
def test_a_trial_shows_the_account_where_refusals_end_and_answers_do_not(
    refused: int, answered: int, is_account: bool
) -> None:
    tried = Tried()
    while not tried.begins():
        tried.second(10, *"ab" * 5)
        assert tried.now < 60
    while (shown := tried.shows()) is None:
        tried.second(answered, *"a" * refused)
        assert tried.now < 120
    assert shown is is_account


def test_trials_that_fail_are_further_and_further_apart() -> None:
    tried = Tried()
    began: list[int] = []
    while tried.now < 10_000:
        tried.second(10, *"ab" * 5)
        if not tried.trial.is_on:
            if tried.begins():
                began.append(tried.now)
        elif tried.shows() is False:
            tried.trial.end(tried.now, is_account=False)
    assert len(began) == 6
    pauses = [later - sooner for sooner, later in pairwise(began)]
    assert all(later > min(3 * sooner, 3600) for sooner, later in pairwise(pauses))


@pytest.mark.parametrize("refused", ["aaaaaaaaaa", "ab", "aaaaaaaab"])
def test_no_trial_is_begun_for_one_model_alone_nor_for_few_refusals(refused: str) -> None:
    tried = Tried()
    for _ in range(60):
        tried.second(10 if len(refused) > 2 else 20, *refused)
        assert not tried.begins()


def test_a_trial_begins_with_the_answer_to_what_was_sent_after_it_was_asked_for() -> None:
    tried = Tried()
    for _ in range(16):
        tried.second(10, *"ab" * 5)
    # What was sent before may be answered in a silence.
    assert not tried.begins(5.0)
    assert tried.begins()
    assert tried.trial.rate is not None
    assert math.isclose(tried.trial.rate, 10.0, rel_tol=0.2)
