"""How many attempts may be in flight at one endpoint, and how fast they may be sent: two limits that are learned.

 - How many (`admission.knee`): slow start, in which each level must pay. Where attempts take longer in proportion to
   the level, by more than chance makes of latencies that vary so much, the server queues. Then half as many are
   measured, until latency no longer falls with the level, and the limit rests a little above that. Where a level is
   refused, that is the limit.
 - How fast (`admission.pace`): what was accepted in a period, or since the last row of refusals. A row that lasts is a
   full window, and tells over how long the server counts. In it each refused attempt halves the pace. A stray refusal
   of callers that ask for little tells nothing, nor does one before anything was accepted.
 - Both are probed again after so many answers, twice as many after each probe that failed; one probes at a time.
 - Which of them a refusal speaks of: of the rate, where fewer are in flight than were accepted before, or where the
   limit has held; of the attempts in flight, at that height, where a rate that has held holds attempts back. Signs add
   up to a verdict. Before it a refusal cuts both limits. After it, one, and the other is probed when its turn comes, so
   that what was blamed wrongly grows back. What was sent before the last cut and is refused cuts nothing but the pace.
 - Where to send more slowly saves no refusals, the share that is refused is chance (`admission.chance`), and is borne.
   A connection that fails is a refusal too.

It is arithmetic without I/O, asyncio or a clock; the caller passes `now` (one monotonic clock, in seconds). It may
import `admission.chance`, `hung`, `knee`, `pace` and what a refusal names (`outcome`).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from aimlasync.admission.chance import Chance
from aimlasync.admission.hung import Hung
from aimlasync.admission.knee import FEW, MARGIN, MAX, Knee
from aimlasync.admission.outcome import Refused
from aimlasync.admission.pace import MIN_RATE, SECOND, Pace

# What breaks without each constant of the four files, on the grid with seed 504 (mean goodput of its classes .949,
# 2.0 % refused, queues at 2.2 times their knee). `benchmarks/adaptive_grid.py --seeds 504 --without`. MAX: not on the
# grid. What breaks without a branch is said beside it in the files: on the grid of 274 servers, seeds 401, 402, 901 and
# 902 (mean goodput .952, 1.9 % refused).
#
#   constant   without  what breaks
#   _SIGN      1        small windows .944 for .971, where a server dies 7 s to recover for 4
#   _VERDICT   1        minutes that are told 4.1 % refused for 1.3, always told 2.3 for .7
#   FEW        2        hard limits .950 for .986, always told .881 for .984
#   MARGIN     0        nothing; clocks and counts of a real server are not ours
#   _AHEAD     8        queues at 5.3 times their knee for 2.2, .962 for .995, 102 calls time out
#   _AGAIN     8        queues at 6.5 times their knee, batches at 5.2 for 1.9, 37 calls time out
#   _PAYS      0.9      queues at 7.0 times their knee, 94 calls time out
#   _BRISK     1e-6     nothing; a server that answers at once is used by three calls at a time (`features.py`)
#   _ROOM      1        queues .867 for .995, batches .859 for .998, streams beside short calls .955 for .987
#   LAST       8        hard limits 7.0 % refused for .9, buckets 8.3 for 2.0 and .938 for .969
#   _MANY      16       nothing; where answers are of very different lengths .86 for .93 (forty seeds)
#   MIN_RATE   1        buckets 15 % refused for 2.0, .930 for .969
#   _STEP      1        fixed minutes .955 for .974, 6.5 % refused for 4.9, buckets 3.7 for 2.0
#   _CUT       0        where a server dies .954 for .972, small windows .957 for .971
#   SECOND     0.1      buckets .911 for .969, small windows 4.4 % refused for 1.0
#   _LONGEST   1        sliding minutes 24 % refused for 5, fixed ones 20: they are never found
#   _CATCH_UP  0        nothing, since timers of the grid are never late
#   _ALIKE     1        where chance refuses .368 for .949, where connections fail .799 for .984 (seeds 501 to 504)
#   _ENOUGH    1        where chance refuses .572 for .949, where connections fail .867 for .984 (seeds 501 to 504)

# Beliefs: a sign counts 4, a hint 1; from `_VERDICT` on it is a verdict.
_SIGN = 4
_VERDICT = 2


class Learned(NamedTuple):
    """What was learned of one endpoint, in plain values; an earlier run's is a start for the next."""

    in_flight: float
    """Attempts in flight that the limit allows."""
    rate: float | None = None
    """Attempts per second, None while no limit of them is known."""
    period: float = SECOND
    """Seconds over which the server counts attempts, as far as is known."""
    rate_has_held: bool = False
    """Whether the rate was kept for a further period without a refusal."""
    knee: float | None = None
    """Attempts in flight above which answers come no faster, None while the server was not seen to queue."""
    knee_is_sure: bool = False
    """Whether two measurements of the knee agreed."""

    def times(self, factor: float) -> Learned:
        """Return a start for a process with so much of the account."""
        return Learned(
            in_flight=max(1.0, factor * self.in_flight), rate=None if self.rate is None else factor * self.rate
        )


class AdaptiveLimit:
    """What one endpoint can take: attempts in flight, and attempts per second; see the module.

    With `limit`, that many attempts may be in flight at all times, and nothing is learned. `is_rated` tells that the
    user stated a rate limit, which the limiter enforces. `start` is what an earlier run learned; it is taken for a
    guess.
    """

    def __init__(self, limit: float | None = None, *, is_rated: bool = False, start: Learned | None = None) -> None:
        self.refusals = 0
        self.hung = Hung()
        """The attempts in flight that hang, which the limit leaves out."""
        self.is_fixed = limit is not None
        if limit is None:
            # A small server queues a few of these; a stated rate spaces the first attempts out, and more are no burst.
            limit = (4 * FEW if is_rated else FEW / 2) if start is None else min(MAX, max(1.0, start.in_flight))
        self._knee, self._pace = Knee(float(limit)), Pace()
        if start is not None and start.rate is not None and not self.is_fixed:
            self._pace.rate = self._pace.known = min(MAX, max(MIN_RATE, start.rate * (1 - MARGIN)))
            self._pace.period = start.period
        self._chance = Chance()
        # The refusal of an attempt that was sent up to here tells nothing new.
        self._epoch = -math.inf
        # The most attempts that were at the server when answers came; 0.0 before the first answer.
        self._proven = 0.0
        # Above zero: refusals speak of the attempts in flight. Below zero: of the rate.
        self._belief = 0
        # The last wait that was stated.
        self._stated = 0.0

    @property
    def limit(self) -> float:
        """How many attempts may be in flight, at least 1.0; round down."""
        return self._knee.value

    @property
    def allowed(self) -> int:
        """How many attempts may be in flight, those that hang included."""
        limit = int(self._knee.value)
        return self.hung.beside(limit) if self.hung.count else limit

    @property
    def rate(self) -> float | None:
        """Attempts per second, None while no limit of them is known."""
        rate = self._pace.rate
        return None if rate == math.inf else rate

    @property
    def verdict(self) -> Literal["concurrency", "rate"] | None:
        """What refusals speak of, as far as is known."""
        if abs(self._belief) < _VERDICT:
            return None
        return "concurrency" if self._belief > 0 else "rate"

    @property
    def by_chance(self) -> float:
        """The share of the attempts that is refused however few are sent; 0.0 while refusals speak of limits."""
        return self._chance.share

    @property
    def learned(self) -> Learned:
        """What is known at this moment."""
        knee, pace = self._knee, self._pace
        rate = None if pace.known == math.inf else pace.known / (1 - MARGIN)
        return Learned(knee.value, rate, pace.period, pace.has_held, knee.knee, knee.is_sure)

    def delay(self, now: float) -> float:
        """Return the seconds until the next attempt may be sent, 0.0 if it may be sent now."""
        pace = self._pace
        return 0.0 if pace.rate == math.inf else pace.delay(now)

    def expected_wait(self, now: float, ahead: int) -> float:
        """Return the seconds until an attempt may be sent behind so many others; it holds back nothing to ask."""
        return self._pace.until_next(now) + ahead / self._pace.rate

    def sent(self, now: float) -> None:
        """Note that an attempt is sent."""
        self._pace.sent(now)
        if self._knee.to_send:
            self._knee.sent(now)

    def paused(self, now: float, seconds: float, *, is_stated: bool) -> None:
        """Note that a refusal pauses the whole endpoint for so many seconds, which the server stated or we chose."""
        # A stated wait that is always the same is a habit of the server, and says nothing of its window.
        if not is_stated or seconds != self._stated:
            self._pace.paused_until = max(self._pace.paused_until, now + seconds)
        if is_stated:
            self._stated = seconds

    def answered(self, now: float, in_flight: int, started: float, beside: int) -> None:
        """Take in an answer that came while `in_flight` attempts, itself included, were at the server.

        The attempt was sent at `started`, beside `beside` others.
        """
        if self.is_fixed:
            return
        if in_flight > self._proven:
            self._proven = in_flight
        is_held = self._pace.rate < math.inf and self._pace.answered(now, started)
        self._knee.answered(now, in_flight, started, beside, is_held)

    def refused(self, now: float, started: float, in_flight: int, kind: Refused | None = None) -> bool:
        """Take in a refusal; return whether it began a congestion epoch, and so changed something.

        The attempt was sent at `started`, beside `in_flight` others. `kind` is the limit that the server named, None
        if it named none.
        """
        self.refusals += 1
        knee, pace, proven = self._knee, self._pace, self._proven
        pace.withdraw(started)
        if self._chance.explains(now, pace.accepted, pace.known, pace.probe(now), in_flight, knee.value):
            return False
        if started <= self._epoch:
            pace.refused_beside(now, started)
            return False
        self._epoch = now
        if self.is_fixed:
            return True
        if kind == "down":
            if not proven:
                pace.restart(now)
                return True
            # Where others are answered it takes no more connections, or loses some by chance: a refusal as any other.
            kind = None
        # The number at the server varies by its root where some of those in flight are on their way.
        below = in_flight < proven - max(1.01, math.sqrt(proven) / 2)
        is_full, is_idle = in_flight + 2 > knee.value, 2 * in_flight + 2 < knee.value
        self._believe(now, in_flight, kind, below, is_full)
        is_many, is_fast = self.verdict == "concurrency", self.verdict == "rate"
        # Where a rate is known, what was sent at once first of all, or in a probe of the limit, was too many.
        is_burst = pace.rate < math.inf and (is_full and knee.exploring if proven else in_flight > 0)
        if is_fast:
            knee.forget()
        elif is_many or proven or is_burst:
            knee.refused(in_flight)
        if below or is_many:
            self._proven = (proven + min(proven, in_flight)) / 2
        if not is_many and (is_fast or not is_burst):
            pace.refused(now, started, self._chance.since, self._chance.share, is_idle=is_idle)
            # Until the window of the server has moved on, its refusals tell the pace alone.
            self._epoch = now + SECOND / 2
            if self._chance.slowed():
                pace.lift(now)
                # What was believed was drawn from chance.
                self._belief = 0
                knee.forget()
                # Where there is a limit after all, its refusals come at once, and by the hundred.
                self._epoch = now
        return True

    def timed_out(self, now: float, started: float, in_flight: int) -> bool:
        """Take in that an attempt of `started` was given up before its answer; return whether that changed something.

        A server that queues does not refuse. Where the limit was not in use, the attempt was slow by itself.
        """
        if started <= self._epoch or self.is_fixed or in_flight + 2 <= self._knee.value:
            return False
        self._epoch = now
        self._knee.refused(in_flight)
        return True

    def _believe(self, now: float, in_flight: int, kind: Refused | None, below: bool, is_full: bool) -> None:
        belief, knee, pace = self._belief, self._knee, self._pace
        if kind is not None:
            belief = 2 * _SIGN if kind == "concurrency" else -2 * _SIGN
        elif not self._proven:
            # Everything that was sent is one burst.
            pass
        elif below or not in_flight or (is_full and knee.has_held):
            belief -= _SIGN
        elif is_full:
            belief += knee.exploring
        elif pace.binds(now):
            # Where it is the rate, probes end at different heights.
            belief += _SIGN if pace.has_held else pace.probing and in_flight + 1 >= self._proven
        self._belief = max(-2 * _SIGN, min(2 * _SIGN, belief))

    def __repr__(self) -> str:
        rate = "" if self.rate is None else f", {self.rate:.1f}/s"
        return f"<AdaptiveLimit {self.limit:.0f} in flight{rate}, {self.refusals} refused>"
