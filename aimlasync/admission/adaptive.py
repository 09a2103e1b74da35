"""How many attempts may be in flight at one endpoint, and how fast they may be sent: two bounds learned from refusals.

It is arithmetic without I/O, asyncio or a clock; the caller passes `now` (one monotonic clock, in seconds). It may
import `admission.bound` and `admission.refusals`.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from aimlasync.admission.bound import CUT, MAX, MIN_RATE, Bound, bound_in_flight, bound_per_second
from aimlasync.admission.refusals import Diagnosis

# What each constant is for, and what breaks without it; measured as in `admission.bound`. "Not on the grid" means that
# the grid has no such server or timer.
#
#   constant         without it     what breaks
#   _START           1              goodput .975: a large server is reached late
#   _RATED_START     _START         not on the grid: at 7 s an answer, each doubling costs 2 % of the first five minutes
#   _PRICE           20             1.8 % refused, 29 cells miss the target
#   _MAX_CREDIT      0              nothing on the grid
#   _MIN_DEBT        _PRICE         goodput .956; 5 per second, burst of 0.1 s, answers in 2 s: .38
#   _MAX_DEBT        _UNSURE_DEBT   1.3 % refused, 28 cells miss the target
#   _UNSURE_DEBT     _MAX_DEBT      nothing on the grid
#   _PATIENCE        1              2.3 % refused, 29 cells miss the target
#   _PROBE_SECONDS   0              .79 % refused, 11 cell miss the target
#   _PAUSE_PRICE     0              not on the grid: each probe pauses the endpoint (a unit test states the interval)
#   _PAUSE_PATIENCE  1              not on the grid: the first levels, which are guesses, are probed a minute later
#   _CATCH_UP        0              5 per second, answers in 0.5 s: goodput .79; late timers lose a part of each rate
#   _SILENCE         infinite       after an outage the rate never recovers (goodput 0)
#   _SILENT_CUT      CUT            nothing on the grid
#   _SILENCES        0              nothing on the grid
#   _MARGIN          0              .70 % refused, 8 cells miss the target
#   _RATE_EPOCH      0              10 per second, burst of 0.1 s, answers in 0.5 s: goodput .58

# Where slow start begins: a small server refuses a few of these, and a large one is reached in a few round trips.
_START = 8.0
# The same where the user stated a rate limit, which spaces the first attempts out, so that more of them are no burst.
_RATED_START = 32.0
_MAX_DELAY = 1 / MIN_RATE
# Answers that pay for a refusal: 0.6 % of attempts are refused when all credit goes into probes.
_PRICE = 160
_MAX_CREDIT = 2 * _PRICE
# Debt beyond these answers is forgiven: at first, while the diagnosis is unsure, and at most. A refused probe
# multiplies the patience.
_MIN_DEBT = 10
_UNSURE_DEBT = 40
_MAX_DEBT = 4 * _PRICE
_PATIENCE = 8
# Seconds between probes, so that a fast server is not probed all the time.
_PROBE_SECONDS = 2.0
# Where a refusal pauses the whole endpoint, the next probe comes after so many times the pause: pauses take 4 % of the
# time. Less for a bound that is a guess, whose patience is below the second number.
_PAUSE_PRICE = 25.0
_PAUSE_PATIENCE = 80
# Seconds that a late timer may make up for; more would be a burst.
_CATCH_UP = 0.02
# After so many seconds without an answer the server is silent. The rate at which it fell silent is cut to a share.
_SILENCE = 5.0
_SILENT_CUT = 0.2
# A server that falls silent again within so many seconds counts requests over a minute.
_SILENCES = 90.0
# The rate rests this share below the refused one: the server's windows and clock are not ours.
_MARGIN = 0.03
# Seconds after a cut of the rate in which refusals tell nothing new: the server's window, mostly a second, moves on.
_RATE_EPOCH = 0.7
# The sent attempts are counted in eighths of a second; sixteen of them are kept.
_TICKS = 8
_RING = 16
_MASK = _RING - 1


class Learned(NamedTuple):
    """What was learned of one server, in plain values; an earlier run's is a start for the next."""

    in_flight: float
    """Attempts in flight that the limit allows."""
    rate: float | None = None
    """Attempts per second, None while no limit of them is known."""


class AdaptiveLimit:
    """What one endpoint can take: attempts in flight, and attempts per second.

    With `limit`, that many attempts may be in flight at all times, and nothing is learned. `is_rated` tells that the
    user stated a rate limit, which the limiter enforces. `start` is what an earlier run learned; it is taken for a
    guess.

    Latency is no signal: a model's latency follows the length of its answer. A refusal of an attempt that was sent
    before the last cut tells nothing new, else a burst of N refusals would cut N times (one cut per congestion epoch).
    A refusal speaks of one of the two bounds, and `admission.refusals` tells which. While that is not sure, a refusal
    cuts both. When it is sure, a refusal cuts one bound, and the other is in slow start, so that it does not limit a
    probe. A refused probe costs the caller an attempt. So probes are paid for: each answer earns a little credit, each
    refusal takes `_PRICE` of it, and only a limit without debt may probe. Debt beyond `_patience` is forgiven: little
    at first, when the bounds are guesses, and more after each refused probe, which confirms them.
    """

    __slots__ = (
        "_answered_at",
        "_answers",
        "_awake_at",
        "_counts",
        "_diagnosis",
        "_epoch",
        "_first_tick",
        "_held_until",
        "_in_flight",
        "_is_silent",
        "_last_cut",
        "_next_at",
        "_owed",
        "_patience",
        "_probe_at",
        "_rate",
        "_row_began",
        "_silent_again",
        "_tick",
        "is_fixed",
        "refusals",
    )

    def __init__(self, limit: float | None = None, *, is_rated: bool = False, start: Learned | None = None) -> None:
        self.refusals = 0
        self.is_fixed = limit is not None
        if limit is None:
            limit = (_RATED_START if is_rated else _START) if start is None else min(MAX, max(1.0, start.in_flight))
        self._in_flight = bound_in_flight(float(limit))
        # None until a refusal may speak of a rate.
        self._rate: Bound | None = None
        if start is not None and start.rate is not None and not self.is_fixed:
            self._rate = bound_per_second(min(MAX, max(MIN_RATE, start.rate)))
        self._diagnosis = Diagnosis()
        # When the next attempt may be sent, and until when the rate last held one back.
        self._next_at = self._held_until = -math.inf
        # The refusal of an attempt that was sent up to here tells nothing new.
        self._epoch = -math.inf
        self._answers = 0
        # The number of answers that there must be before the next probe, how many may be missing at most, and the time
        # before which there is none.
        self._owed = 0
        self._patience = _MIN_DEBT
        self._probe_at = -math.inf
        # (time, answers so far) of the last cut of the rate, and of the cut before the present row of cuts.
        self._last_cut = self._row_began = (0.0, 0)
        # Whether the last cut found the server silent, and whether it had been silent shortly before.
        self._is_silent = self._silent_again = False
        # The last answer, and the last cut of a silent server.
        self._answered_at = self._awake_at = -math.inf
        # Attempts sent per tick, refused ones taken out; the newest tick, and the first.
        self._counts = [0] * _RING
        self._tick = self._first_tick = 0

    @property
    def limit(self) -> float:
        """How many attempts may be in flight, at least 1.0; round down."""
        return self._in_flight.value

    @property
    def rate(self) -> float | None:
        """Attempts per second, None while no limit of them is known."""
        return None if self._rate is None else self._rate.value

    @property
    def learned(self) -> Learned:
        """What is known at this moment."""
        return Learned(self.limit, self.rate)

    def delay(self, now: float) -> float:
        """Return the seconds until the next attempt may be sent, 0.0 if it may be sent now."""
        wait = self._next_at - now
        if wait > 0.0:
            self._held_until = self._next_at
            return wait
        return 0.0

    def sent(self, now: float) -> None:
        """Note that an attempt is sent."""
        tick = int(now * _TICKS)
        if tick != self._tick:
            self._roll(tick)
        self._counts[tick & _MASK] += 1
        if self._rate is not None:
            self._next_at = min(max(self._next_at, now - _CATCH_UP) + 1 / self._rate.value, now + _MAX_DELAY)

    def answered(self, now: float, in_flight: int) -> None:
        """Take in an answer that came while `in_flight` attempts, itself included, were at the server."""
        if self.is_fixed:
            return
        if in_flight > self._diagnosis.proven:
            self._diagnosis.accepted(in_flight)
        if not self._answers:
            self._last_cut = self._row_began = (now, 0)
        self._answers += 1
        self._answered_at = now
        may_probe = self._answers >= self._owed and now >= self._probe_at
        limit, rate = self._in_flight, self._rate
        full = in_flight + 1 > limit.value
        # One bound probes at a time, else a refusal could speak of either.
        may_probe_limit = may_probe
        if rate is not None:
            if self._rate_holds(now, rate):
                rate.grow(True, may_probe and not (full and limit.probing))
                may_probe_limit = may_probe and not rate.exploring
            else:
                rate.answers += 1
        if in_flight * 2 >= limit.value:
            limit.grow(full, may_probe_limit)
        else:
            limit.answers += 1

    def refused(
        self, now: float, started: float, in_flight: int, kind: Literal["concurrency", "rate"] | None = None
    ) -> bool:
        """Take in a refusal; return whether it began a congestion epoch, and so changed something.

        The attempt was sent at `started`, beside `in_flight` others. `kind` is the limit that the server named, None
        if it named none.
        """
        self.refusals += 1
        tick = int(started * _TICKS)
        if self._tick - _RING < tick <= self._tick and self._counts[tick & _MASK]:
            self._counts[tick & _MASK] -= 1
        self._owed = min(max(self._owed, self._answers - _MAX_CREDIT) + _PRICE, self._answers + self._patience)
        if started <= self._epoch:
            return False
        self._epoch = now
        if self.is_fixed:
            return True
        self._probe_at = max(self._probe_at, now + _PROBE_SECONDS)
        limit, rate, diagnosis = self._in_flight, self._rate, self._diagnosis
        before = diagnosis.verdict
        rate_holds = rate is not None and self._rate_holds(now, rate)
        below = diagnosis.weigh(in_flight, kind, limit, rate, rate_holds=rate_holds)
        verdict = diagnosis.verdict
        self._adjust_patience(rate if rate is not None and in_flight + 2 <= limit.value else limit, before)
        if verdict >= 0 or (rate is None and kind is None):
            height = in_flight if below else max(in_flight, int(diagnosis.proven + 0.5))
            # Before the first answer, what was sent at once was a burst, and tells little of what can be in flight.
            level = max(1.0, min(float(int(limit.value)), height + 1.0)) if diagnosis.proven else limit.value
            limit.cut(level, level - 1.0 if limit.answers else math.inf)
        else:
            limit.forget()
        if verdict <= 0:
            self._slow_down(now)
            self._epoch = now + _RATE_EPOCH
        elif rate is not None:
            rate.forget()
        diagnosis.lower(in_flight)
        return True

    def paused(self, now: float, seconds: float) -> None:
        """Note that a refusal pauses the whole endpoint for so many seconds: the next probe waits in proportion."""
        price = _PAUSE_PRICE * min(1.0, self._patience / _PAUSE_PATIENCE)
        self._probe_at = max(self._probe_at, now + seconds * price)

    def _adjust_patience(self, bound: Bound, before: int) -> None:
        """Set how long the next probe waits: `bound` held the refused attempt back, `before` is the last verdict."""
        verdict = self._diagnosis.verdict
        if bound.probing or (bound is self._rate and bound.starting and bound.settled):
            self._patience = min(_MAX_DEBT if verdict else _UNSURE_DEBT, _PATIENCE * self._patience)
        elif (verdict != before and (before or verdict < 0)) or not bound.answers:
            # What was learned is void: refusals spoke of the other bound, or the server was gone.
            self._patience = _MIN_DEBT
        elif not bound.settled:
            self._patience = max(_MIN_DEBT, self._patience // 2)
        self._owed = min(self._owed, self._answers + self._patience)

    def _slow_down(self, now: float) -> None:
        """Cut the rate, or begin to limit it at what was sent in the last second."""
        rate, per_second = self._rate, self._measured(now)
        before, self._last_cut = self._last_cut, (now, self._answers)
        if rate is None:
            value = min(max(1.0, per_second), MAX)
            rate = self._rate = bound_per_second(value)
            if self._diagnosis.proven:
                rate.cut(value, value * (1 - _MARGIN))
        else:
            # One more for the refused attempt. A rate that held attempts back is cut to half at most.
            level = min(rate.value, max(MIN_RATE, per_second + 1.0))
            if self._rate_holds(now, rate):
                level = max(level, rate.value / 2)
            rest = level * (1 - _MARGIN)
            is_silent = self._answers > 0 and now - self._answered_at > _SILENCE
            if is_silent:
                if not self._is_silent:
                    self._silent_again = self._answered_at - self._awake_at < _SILENCES
                # A server that was silent once was away, and its rate is what it was. One that falls silent again
                # counts over a long window, and its rate is what it gave on average.
                rest = self._average(now if self._silent_again else self._answered_at)
                self._awake_at = now
            elif rate.settled:
                self._row_began = before
            else:
                # Cuts in a row: a bucket was full at the last cuts and is full now, so the rate is what it accepted
                # since.
                rest = max(min(rest, self._average(now)), level * CUT)
            self._is_silent = is_silent
            rate.cut(level, rest)
            if is_silent:
                rate.value = max(MIN_RATE, min(rate.value, _SILENT_CUT * level))
        self._next_at = max(self._next_at, now + 1 / rate.value)

    def _average(self, now: float) -> float:
        """Return the answers per second since the cut before the present row of cuts."""
        began, answers = self._row_began
        return (self._answers - answers) / max(1.0, now - began)

    def _rate_holds(self, now: float, rate: Bound) -> bool:
        """Whether the rate is what holds attempts back."""
        return now < self._held_until + 1 / rate.value

    def _measured(self, now: float) -> float:
        """Return the attempts of the last second, refused ones taken out, scaled up while there is no full second."""
        at = now * _TICKS
        tick = int(at)
        if tick != self._tick:
            self._roll(tick)
        counts = self._counts
        total = float(sum(counts[past & _MASK] for past in range(tick - _TICKS + 1, tick + 1)))
        total += counts[(tick - _TICKS) & _MASK] * (tick + 1 - at)
        return total / min(1.0, (tick + 1 - self._first_tick) / _TICKS)

    def _roll(self, tick: int) -> None:
        """Move to a newer tick, and clear the ticks that the ring no longer covers."""
        if not self._tick:
            self._first_tick = tick
        for new in range(max(self._tick + 1, tick - _MASK), tick + 1):
            self._counts[new & _MASK] = 0
        self._tick = tick

    def __repr__(self) -> str:
        rate = "" if self._rate is None else f", {self._rate.value:.1f}/s"
        return f"<AdaptiveLimit {self.limit:.0f} in flight{rate}, {self.refusals} refused>"
