"""What was known of a limit before a bad time, so that a short outage or storm does not outlive itself.

Where everything is refused for a minute, whatever it is, a rate falls to one attempt in many seconds, and from there it
would take minutes to grow: probes follow so many answers. So what was known before is kept for some minutes. Once
answers come again, and no refusal, half of that is tried. Where that was wrong, it takes twice as long until the next
try. It is arithmetic without I/O or a clock, and may import `admission.adaptive`.
"""

from __future__ import annotations

import math
from typing import Protocol

from aimlasync.admission.adaptive import Learned

# A rate that has fallen below this share of what it was has fallen by no limit's probe.
_FALLEN = 0.25
# Seconds after which what is known now replaces what was known, if it has not fallen; and if it has: it is no storm.
_NEWER, _OLDER = 60.0, 600.0
# Seconds and answers without a refusal before the first try, and how many times as long before each further one.
_QUIET, _ANSWERS, _LONGER = 5.0, 2, 2.0
# What is tried of what was known.
_SHARE = 0.5


class Law(Protocol):
    """What `Recall` needs of `AdaptiveLimit`."""

    @property
    def learned(self) -> Learned:
        """What is known at this moment."""


class Recall:
    """What was known of one limit, and when to try it again. Its mutable state: that, and what came since a refusal."""

    __slots__ = ("_answered", "_answers", "_before", "_quiet", "_rate", "_refused_at", "_since", "is_fallen")

    def __init__(self, answered: int = 0) -> None:
        """`answered` is how many answers there were before."""
        self.is_fallen = False
        """Whether what is known may have fallen far below what it was; only then is an answer worth a word."""
        # What was known, since when, and the attempts a second that it allowed.
        self._before: Learned | None = None
        self._since, self._rate = -math.inf, 0.0
        self._refused_at = -math.inf
        self._answered = answered
        # Answers since the last refusal, and the seconds without one that are waited for.
        self._answers = 0
        self._quiet = _QUIET

    def refused(
        self, now: float, known: Learned, *, is_sure: bool, answered: int, seconds: float, beside: int = 0
    ) -> None:
        """Take in a refusal and what was known before it, after so many answers, which take so many `seconds`.

        It is no first guess where it `is_sure`, or where so many answers, with `beside` attempts beside each, took a
        minute.
        """
        has_held = is_sure or (known.rate is not None and known.rate_has_held)
        has_held = has_held or (answered - self._answered) * seconds > _NEWER * (beside + 1)
        self._answered = answered
        self._refused_at, self._answers = now, 0
        age, rate = now - self._since, math.inf if known.rate is None else known.rate
        has_fallen = rate < _FALLEN * self._rate
        if has_held and (age > _OLDER or (age > _NEWER and not has_fallen)):
            if not has_fallen:
                self._quiet = _QUIET
            self._before, self._since = known, now
            self._rate = min(rate, known.in_flight / max(seconds, 1e-3))
        # What this refusal leaves shows later: the end of a silence may lower a rate further.
        self.is_fallen = self._before is not None

    def answered(self, now: float, law: Law) -> Learned | None:
        """Take in an answer while it may have fallen; return what to start again with, None for nothing."""
        before = self._before
        self._answers += 1
        if before is None or now - self._refused_at < self._quiet or self._answers < _ANSWERS:
            return None
        if (rate := law.learned.rate) is None or rate >= _FALLEN * self._rate:
            self.is_fallen = False
            return None
        self._quiet *= _LONGER
        self._answers = 0
        return Learned(max(1.0, _SHARE * before.in_flight), None if before.rate is None else _SHARE * before.rate)
