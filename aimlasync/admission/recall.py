"""What was known of a limit before a bad time, so that a short outage or storm does not outlive itself.

Where everything is refused for a minute, whatever it is, a rate falls to one attempt in many seconds, and from there it
would take minutes to grow: probes follow so many answers. So what was known before is kept for some minutes. Once
answers come again, and no refusal, half of that is tried. Where that was wrong, it takes twice as long until the next
try. It is arithmetic without I/O or a clock, and may import `admission.adaptive`.
"""

from __future__ import annotations

import math

from aimlasync.admission.adaptive import Learned

# A rate that has fallen below this share of what it was has fallen by no limit's probe.
_FALLEN = 0.25
# Seconds after which what is known now replaces what was known, if it has not fallen; and if it has: it is no storm.
_NEWER, _OLDER = 60.0, 600.0
# Seconds and answers without a refusal before the first try, and how many times as long before each further one.
_QUIET, _ANSWERS, _LONGER = 5.0, 2, 2.0
# What is tried of what was known.
_SHARE = 0.5


class Recall:
    """What was known of one limit, and when to try it again. Its mutable state: that, and what came since a refusal."""

    __slots__ = ("_answers", "_before", "_quiet", "_rate", "_refused_at", "_since", "is_fallen")

    def __init__(self) -> None:
        self.is_fallen = False
        """Whether what is known has fallen far below what it was; only then is an answer worth a word."""
        # What was known, since when, and the attempts a second that it allowed.
        self._before: Learned | None = None
        self._since, self._rate = -math.inf, 0.0
        self._refused_at = -math.inf
        # Answers since the last refusal, and the seconds without one that are waited for.
        self._answers = 0
        self._quiet = _QUIET

    def refused(self, now: float, known: Learned, *, has_held: bool, seconds: float) -> None:
        """Take in a refusal and what was known before it.

        `has_held` says that it is no first guess. An attempt takes so many `seconds`.
        """
        self._refused_at, self._answers = now, 0
        age, rate = now - self._since, math.inf if known.rate is None else known.rate
        self.is_fallen = rate < _FALLEN * self._rate
        if has_held and (age > _OLDER or (age > _NEWER and not self.is_fallen)):
            if not self.is_fallen:
                self._quiet = _QUIET
            self._before, self._since, self.is_fallen = known, now, False
            self._rate = min(rate, known.in_flight / max(seconds, 1e-3))

    def answered(self, now: float, known: Learned) -> Learned | None:
        """Take in an answer while it has fallen; return what to start again with, None for nothing."""
        before = self._before
        self._answers += 1
        if before is None or known.rate is None or known.rate >= _FALLEN * self._rate:
            self.is_fallen = False
            return None
        if now - self._refused_at < self._quiet or self._answers < _ANSWERS:
            return None
        self._quiet *= _LONGER
        self._answers = 0
        return Learned(max(1.0, _SHARE * before.in_flight), None if before.rate is None else _SHARE * before.rate)
