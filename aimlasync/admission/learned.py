"""What was learned of a server's limits and has held since, in words that a user can act on.

A limit is told once it has held for a further period and was tested meanwhile: calls waited for it, it was refused
again at about the same height, or the level above which the server queues was measured again. The caller reports the
values in force at refusals, at changes of the limit, and when somebody asks; nothing is done for an answer. It is
arithmetic alone. It may import `admission.endpoint_limiter`.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec

from aimlasync.admission.endpoint_limiter import UNLIMITED

# Seconds for which a limit must have held: the longest window that servers commonly count over, and once more.
_PERIOD = 60.0
# By which share it may change meanwhile, and by how many attempts at once, since it is probed.
_SAME = 0.2
_PROBES = 2.0
# By which share two periods may differ, and what was answered and the rate in force; which share of the time may be
# paused, since pauses keep from a server what it would take.
_SAME_RATE = 0.05
_PAUSED = 0.02
# Fewer answers are no measure of a rate.
_FEW = 8
# Where more than this share of the answers was refused beside them, refusals do not follow the rate.
_REFUSED = 0.25
# The level above which a server queues is the median of so many measurements, and is another from this factor on.
_MEASURED = 5
_SAME_KNEE = 1.5
# A measured level is some percent low, and a queue needs one attempt more than it has slots, lest one of them waits.
_ABOVE = 1.2
# A number is rounded to the roundest one that differs by no more.
_ROUND = 0.03


class Finding(msgspec.Struct, frozen=True):
    """Limits of a server that nobody stated and that have held."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Set beside the requests where refusals name tokens."""
    concurrency: int | None = None
    """Attempts at once: more were refused, or answered no faster."""
    was_refused: bool = False

    def words(self, name: str, *, advise: bool) -> str:
        """Say it, and (`advise`) what to give so that it need not be learned."""
        if self.tokens_per_minute is not None:
            rounded = roundest(self.tokens_per_minute)
            said = f"{name} takes about {self.tokens_per_minute:,.0f} tokens a minute"
            return f"{said}: give --tpm {rounded} (Limits(tokens_per_minute={rounded}))" if advise else said
        if self.requests_per_minute is not None:
            rounded = roundest(self.requests_per_minute)
            said = f"{name} takes about {self.requests_per_minute:,.0f} requests a minute"
            return f"{said}: give --rpm {rounded} (Limits(requests_per_minute={rounded}))" if advise else said
        limit = self.concurrency
        said = f"{name} {'takes no more than' if self.was_refused else 'answers no faster above'} {limit} at once"
        return f"{said}: give --concurrency {limit} (Limits(concurrency={limit}))" if advise else said


class _Height:
    """The number of attempts at once that is in force: its mean over the time for which it has hardly changed."""

    __slots__ = ("_area", "_last", "_last_at", "_since")

    def __init__(self) -> None:
        self._area = self._last = self._last_at = 0.0
        self._since: float | None = None

    def see(self, value: float, now: float) -> float | None:
        """Take in the value in force from now on; return the mean where it has held for a period, else None."""
        if self._since is None:
            self._since = self._last_at = now
        self._area += self._last * (now - self._last_at)
        seconds = self._last_at = now
        seconds -= self._since
        mean = self._area / seconds if seconds > 0 else self._last
        self._last = value
        if abs(value - mean) > max(_SAME * mean, _PROBES):
            self._since, self._area = now, 0.0
            return None
        return mean if seconds >= _PERIOD else None


class _PerMinute:
    """The answers a minute from one row of refusals to another, a period later: what the server gave in that time."""

    __slots__ = ("_answers", "_before", "_paused", "_refusals", "_since")

    def __init__(self) -> None:
        self._answers = self._refusals = 0
        self._paused = 0.0
        self._since: float | None = None
        self._before: float | None = None

    def see(self, answers: int, refusals: int, paused: float, now: float) -> float | None:
        """Take in a refusal, after so many seconds of pauses; return the rate where two periods in a row gave the same.

        Else return None.
        """
        if self._since is None:
            self._since, self._answers, self._refusals, self._paused = now, answers, refusals, paused
        elif (seconds := now - self._since) >= _PERIOD and answers - self._answers >= _FEW:
            took, refused = answers - self._answers, refusals - self._refusals
            is_alike = refused <= _REFUSED * took and paused - self._paused <= _PAUSED * seconds
            before, self._before = self._before, took * 60 / seconds if is_alike else None
            rate = self._before
            self._since, self._answers, self._refusals, self._paused = now, answers, refusals, paused
            if before and rate and abs(rate - before) <= _SAME_RATE * before:
                return (rate + before) / 2
        return None


class Watch:
    """Watches what one adaptive limit learns; `learned` is what has held, None before."""

    __slots__ = (
        "_height",
        "_kept",
        "_knees",
        "_knees_since",
        "_paused",
        "_rate",
        "_rate_refused_at",
        "_refused_at",
        "learned",
        "tokens_each",
    )

    def __init__(self) -> None:
        self.learned: Finding | None = None
        self.tokens_each = 0.0
        """The tokens of an answer, where the last refusal named tokens; else 0.0."""
        self._height = _Height()
        self._rate = _PerMinute()
        self._rate_refused_at = float("-inf")
        # When the last refusal came, and for how long nothing was sent until then.
        self._refused_at, self._paused = float("inf"), 0.0
        # The rate that was kept last, and how many refusals there had been.
        self._kept: tuple[float, int] | None = None
        # The levels above which the server queued when it was last measured, and since when it does.
        self._knees: deque[float] = deque(maxlen=_MEASURED)
        self._knees_since = 0.0

    def waited(self, now: float, paused_until: float) -> None:
        """Take in, at each refusal, until when nothing was sent before it."""
        self._paused += max(0.0, min(now, paused_until) - self._refused_at)
        self._refused_at = now

    def refused(self, now: float, answers: int, refusals: int, rate: float | None) -> Finding | None:
        """Take in a refusal that speaks of a rate, after so many; return what is new of what has held.

        `rate` is the one in force, in attempts per second.
        """
        self._rate_refused_at = now
        took = self._rate.see(answers, refusals, self._paused, now)
        if took is None or rate is None or abs(60 * rate - took) > _SAME_RATE * took:
            return None
        return self._told(self._rated(max(took, 60 * rate)))

    def holds(self, rate: float, refusals: int) -> Finding | None:
        """Take in a rate of a whole minute's window that was kept for another one; return what is new of what has held.

        It is in attempts per second, after so many refusals. What was kept may be too little, so it is told once more
        was refused, and about the same was kept again.
        """
        before = self._kept
        if before is not None and refusals == before[1]:
            return None
        self._kept = rate, refusals
        if before is None or abs(rate - before[0]) > _SAME_RATE * before[0]:
            return None
        return self._told(self._rated(30 * (rate + before[0])))

    def see(self, now: float, limit: int, *, refusals: int, is_full: bool) -> Finding | None:
        """Take in the limit in force from now on; return what is new of what has held, None for nothing.

        `is_full` says that calls use all of it, or want to.
        """
        height = self._height.see(limit, now)
        if height is None or not is_full or limit >= UNLIMITED or now - self._rate_refused_at < _PERIOD:
            # Where a rate is refused, the attempts at once follow from it.
            return None
        return self._told(Finding(concurrency=round(height), was_refused=refusals > 0))

    def queues(self, now: float, knee: float) -> Finding | None:
        """Take in the level above which the server queues, as last measured; return what is new of what has held."""
        knees, before = self._knees, self.learned
        if not knees:
            self._knees_since = now
        if not knees or knee != knees[-1]:
            knees.append(knee)
        if now - self._knees_since < _PERIOD:
            return None
        limit = _ABOVE * sorted(knees)[len(knees) // 2]
        if before is not None and before.concurrency and 1 / _SAME_KNEE < limit / before.concurrency < _SAME_KNEE:
            return None
        return self._told(Finding(concurrency=math.ceil(limit)))

    def _rated(self, per_minute: float) -> Finding:
        return Finding(per_minute, per_minute * self.tokens_each or None)

    def _told(self, found: Finding) -> Finding | None:
        before = self.learned
        if before is not None and (before.concurrency is None) == (found.concurrency is None):
            old, new = (each.requests_per_minute or each.concurrency or 1 for each in (before, found))
            if abs(old - new) <= _SAME * old:
                return None
        self.learned = found
        return found


def roundest(number: float) -> int:
    """Return the number with the fewest digits that differs by no more than a few percent."""
    digits = len(str(int(number)))
    for kept in range(1, digits + 1):
        rounded = round(number, kept - digits)
        if abs(rounded - number) <= _ROUND * number:
            return max(1, int(rounded))
    return max(1, round(number))
