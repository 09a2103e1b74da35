"""Whether one limit of all models serves better than one for each: it is tried where the refusals of several last.

At a limit that is reached all the time, refusals look like chance: no row of them is longer than others. What tells an
account's limit from models' own and from chance is what happens when all models are held to one. Where a quarter of the
refusals is left, and answers come about as often, the limit is the account's. Else each model has its own again, and
the next trial is four times as far away. It is arithmetic alone, and imports nothing of this library.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

# A period lasts for so many seconds at least, and until there were so many answers and refusals. After so many at most
# it is of another time.
_PERIOD = 5.0
_FEW = 8
_LONGEST = 120.0
# So many periods one after the other, in which more than this share of the attempts was refused, ask for a trial: a
# limit of a model learns in less. Of few models twice that: each of them has answers to learn from, and chance may
# refuse the rest.
_PERIODS = 2
_SHARE = 0.15
_FEW_MODELS = 16
# A model that has more than this share of the refusals is refused for itself.
_ONE = 0.75
# What a trial must leave of the refusals at most, and of the answers at least; and in how many seconds.
_REFUSALS = 0.25
_ANSWERS = 0.6
_TRIAL = 45.0
# Seconds from a trial that failed to the next: the first, and the most. Each is so many times as long as the last.
_PAUSE, _MAX_PAUSE = 60.0, 3600.0
_LONGER = 4
# So many models are told apart.
_MAX_MODELS = 256


class _Period(NamedTuple):
    """What came in some seconds."""

    refusals: int
    answers: int
    seconds: float

    @property
    def share(self) -> float:
        return self.refusals / (self.refusals + self.answers)

    @property
    def rate(self) -> float:
        return self.answers / self.seconds


class AccountTrial:
    """When to try one limit for all models, and what that shows. Its mutable state: the period under way.

    `answers` counts the answers of all models so far.
    """

    __slots__ = ("_asked_at", "_bad", "_began", "_from", "_models", "_pause", "_tried", "_until", "is_on")

    def __init__(self) -> None:
        self.is_on = False
        """Whether all models are held to one limit on trial."""
        # When the period under way began, when it may end, the answers before it, and the refusals in it by model.
        self._began = self._until = -math.inf
        self._from = 0
        self._models = Counter[str]()
        # The last periods, where too much was refused in each; since when there were enough of them, never before that.
        self._bad: list[_Period] = []
        self._asked_at = math.inf
        # The periods of the trial that is on.
        self._tried: list[_Period] = []
        self._pause = _PAUSE

    @property
    def rate(self) -> float | None:
        """The answers a second before the trial that is on, None while there is none."""
        return _sum(self._bad).rate if self.is_on else None

    def refused(self, model: str, now: float, answers: Callable[[], int]) -> None:
        """Take in a refusal of a model that was answered before; others are refused for themselves."""
        if model in self._models or len(self._models) < _MAX_MODELS:
            self._models[model] += 1
        if self.is_on or now < self._until or (period := self._ended(now, answers(), _FEW)) is None:
            return
        most = _SHARE if len(self._models) > _FEW_MODELS else 2 * _SHARE
        is_bad = period.share > most and max(self._models.values()) <= _ONE * period.refusals
        self._bad = [*self._bad[1 - _PERIODS :], period] if is_bad and period.seconds < _LONGEST else []
        self._asked_at = now if len(self._bad) == _PERIODS else math.inf
        self._begin(now, answers())

    def begins(self, sent_at: float, now: float, answers: Callable[[], int]) -> bool:
        """Take in an answer while none is on; return whether one begins now.

        It does not begin in a silence, from which nothing would be learned, but once an attempt is answered that was
        sent after it was asked for.
        """
        if sent_at <= self._asked_at:
            return False
        self.is_on = True
        self._begin(now, answers())
        return True

    def shows(self, now: float, answers: Callable[[], int]) -> bool | None:
        """Take in an answer or refusal while one is on; return whether the limit is the account's, None before that.

        Its last period counts, or all of it: in the first it learns, and in the last a window may be full. What has
        learned too little to answer as often gets another period.
        """
        if now < self._until or (period := self._ended(now, answers(), 0)) is None:
            return None
        self._tried.append(period)
        self._begin(now, answers(), 2 * _PERIOD)
        if len(self._tried) < 2:
            return None
        before, tried = _sum(self._bad), _sum(self._tried)
        few = [each for each in (period, tried) if each.share <= _REFUSALS * before.share]
        if any(each.rate >= _ANSWERS * before.rate for each in few):
            return True
        return None if few and tried.seconds < _TRIAL else False

    def end(self, now: float, *, is_account: bool) -> None:
        """End a trial, or note what was found without one."""
        self.is_on, self._asked_at = False, math.inf
        self._bad, self._tried = [], []
        if not is_account:
            self._begin(now, self._from, self._pause)
            self._pause = min(_LONGER * self._pause, _MAX_PAUSE)

    def _begin(self, now: float, answers: int, seconds: float = _PERIOD) -> None:
        self._began, self._until, self._from = now, now + seconds, answers
        self._models.clear()

    def _ended(self, now: float, answers: int, refusals: int) -> _Period | None:
        """Return the period under way if it had enough answers and so many refusals."""
        period = _Period(self._models.total(), answers - self._from, now - self._began)
        if period.answers >= _FEW and period.refusals >= refusals:
            return period
        # To count answers takes a step for each model.
        self._until = now + 1.0
        return None


def _sum(periods: Sequence[_Period]) -> _Period:
    return _Period(*map(sum, zip(*periods, strict=True)))
