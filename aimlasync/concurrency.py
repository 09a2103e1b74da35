"""How many attempts may be in flight at one endpoint, and how fast they may be sent: two numbers learned from refusals.

Law: pure arithmetic; no I/O, no asyncio, no clock: `now` is handed in (one monotonic clock).

Each number is a `Bound`: slow start, multiplicative decrease, and a memory of the level that was refused. Latency is no
signal: a model's follows the length of its answer. A refusal of an attempt sent before the last cut is no news, else a
burst of N refusals cuts N times.

Which bound a refusal speaks of follows from one fact: a server that limits what is in flight refuses only above what it
has accepted. So `_proven` follows the most that was at the server when answers came. A refusal below it speaks of the
rate; one at its height, while the pace and not the limit held us back, of concurrency. `_belief` sums these up: above
zero concurrency is cut, otherwise the rate, and the other bound forgets its ceiling, so that it is in no test's way.
The first refusal cuts both. A refusal at the limit tells neither, and lets the belief in concurrency fade: now and then
it is tested again, since a limit that is always full looks right whatever the server counts.

The numbers below that are called tuned have no better reason than the simulation of tests/test_concurrency.py, run on
other seeds than the test's.
"""

from __future__ import annotations

import math
from typing import Literal

# Where slow start begins: a small server refuses a few of these, a large one is reached in a few round trips.
_START = 8.0
# The same where a told rate spaces the first attempts out, so that more of them are no burst: at 7 s an answer each
# doubling costs 2 % of the first five minutes.
_PACED_START = 32.0
_MAX = 4096.0
# Attempts per second: below this a server had better say Retry-After. It also bounds the delay.
_MIN_RATE = 0.1
_MAX_DELAY = 1 / _MIN_RATE
# A cut from a level that held for a while, and from a guess: after slow start, or when cuts come in a row.
_CUT = 0.9
_HARD_CUT = 0.8
# Growth per answer, so for the limit per round trip and for the rate per second: back to what worked, and beyond it.
_RECOVER = 0.1
_PROBE = 0.02
# A probe costs about one refusal: with 200 answers between two, half a percent. The seconds keep a fast server from
# being probed all the time, and bound how long a capacity that grew stays unnoticed.
_PROBE_ANSWERS = 200
_PROBE_SECONDS = 4.0
# A slow server would wait minutes for those answers; one refusal a minute is bearable whatever its share.
_MAX_PROBE_SECONDS = 60.0
# The first probes come after an eighth of that, each later one after twice as long: the first level is only a guess.
_IMPATIENCE = 0.125
# This far above the ceiling without a refusal: the capacity grew, slow start again (tuned).
_ABOVE_CEILING = 1.08
# How far below a refused rate to stay: windows and clocks are not the server's (tuned). For the limit it is one.
_MARGIN = 0.03
# After a cut of the rate, refusals go on until the server's window has moved on, which is mostly a second (tuned).
_RATE_EPOCH = 0.7
# What a late timer lost may be made up: more would be a burst.
_CATCH_UP = 0.02
# Weight of a new height of `_proven`: one answer that came while a refusal was under way does not make it (tuned).
_WEIGHT = 0.25
# A refusal is below `_proven` by more than this: replies under way and overtaking count for one attempt, or a share.
_SLACK = 1.01
_SLACK_SHARE = 0.03
# A low count contradicts concurrency; a high one is half an argument for it, since by chance a rate's are high too.
_FOR_CONCURRENCY = 0.5
_MAX_BELIEF = 2.0
_FADE = 0.1
# The rate is counted in eighths of a second; sixteen of them are kept.
_TICKS = 8
_RING = 16
_MASK = _RING - 1


class Bound:
    """A number that grows with answers and is cut by refusals."""

    __slots__ = ("_ceiling", "_cut_at", "_floor", "_margin", "_patience", "_rest", "_step", "answers", "value")

    def __init__(self, value: float, *, floor: float, step: float, margin: float) -> None:
        self.value = value
        self._floor = floor
        # The smallest change that matters: one slot. A rate has none.
        self._step = step
        self._margin = margin
        # The level that was refused, None in slow start, and where to rest below it.
        self._ceiling: float | None = None
        self._rest = math.inf
        # Since the last cut.
        self.answers = 0
        self._cut_at = -math.inf
        self._patience = _IMPATIENCE

    @property
    def starting(self) -> bool:
        """Whether this is slow start."""
        return self._ceiling is None

    def grow(self, now: float) -> None:
        """Take in an answer that came while this bound was in use."""
        value, ceiling = self.value, self._ceiling
        self.answers += 1
        if ceiling is None:
            value += 1.0
        elif value < self._rest:
            value = min(self._rest, value + max(_RECOVER, min(1.0, self._step / value)))
        elif self._may_probe(now):
            value += max(_PROBE, self._step / value)
            if value > ceiling * _ABOVE_CEILING + self._step:
                self.forget()
        else:
            return
        self.value = min(value, _MAX)

    def _may_probe(self, now: float) -> bool:
        rested = (now - self._cut_at) / self._patience
        enough = self.answers > _PROBE_ANSWERS * self._patience
        return rested >= (_PROBE_SECONDS if enough else _MAX_PROBE_SECONDS)

    def cut(self, now: float, level: float) -> None:
        """Go below `level`, which was refused, and remember it; if nothing at all was answered, it is no ceiling."""
        settled = self.answers >= 2 * self.value
        hard = self._ceiling is None or not settled
        if settled:
            self._patience = min(1.0, 2 * self._patience)
        if self.answers:
            self.remember(level)
        else:
            self.forget()
        self.value = max(self._floor, min(level * (_HARD_CUT if hard else _CUT), self._rest))
        self._cut_at = now
        self.answers = 0

    def remember(self, level: float) -> None:
        """Set the ceiling."""
        self._ceiling = level
        self._rest = max(self._floor, level - max(self._step, level * self._margin))

    def forget(self) -> None:
        """Forget the ceiling: slow start, from where it is."""
        self._ceiling = None
        self._rest = math.inf


class Congestion:
    """What one endpoint can take. With `limit`, that is in flight, always, and nothing is learned.

    `paced` tells that a rate is kept by someone else.
    """

    __slots__ = ("_belief", "_counts", "_epoch", "_fixed", "_next", "_pace", "_proven", "_slots", "_tick", "refusals")

    def __init__(self, limit: float | None = None, *, paced: bool = False) -> None:
        self.refusals = 0
        self._fixed = limit is not None
        start = _PACED_START if paced else _START
        self._slots = Bound(start if limit is None else float(limit), floor=1.0, step=1.0, margin=0.0)
        # Attempts per second, None until a refusal speaks of a rate; and when the next one may be sent.
        self._pace: Bound | None = None
        self._next = -math.inf
        # Attempts sent up to here are of an epoch that has been answered by a cut.
        self._epoch = -math.inf
        self._proven = 0.0
        # Above zero: concurrency.
        self._belief = 0.0
        # Attempts sent per tick, refusals taken out; the newest tick.
        self._counts = [0] * _RING
        self._tick = 0

    @property
    def limit(self) -> float:
        """How many attempts may be in flight, at least 1.0; round down."""
        return self._slots.value

    @property
    def rate(self) -> float | None:
        """Attempts per second, None while no limit of them is known."""
        return None if self._pace is None else self._pace.value

    def delay(self, now: float) -> float:
        """Return the seconds until the next attempt may be sent, 0.0 if it may now."""
        wait = self._next - now
        return wait if wait > 0.0 else 0.0

    def sent(self, now: float) -> None:
        """Note that an attempt is sent."""
        tick = int(now * _TICKS)
        if tick != self._tick:
            self._roll(tick)
        self._counts[tick & _MASK] += 1
        if self._pace is not None:
            self._next = min(max(self._next, now - _CATCH_UP) + 1 / self._pace.value, now + _MAX_DELAY)

    def answered(self, now: float, in_flight: int) -> None:
        """Take in an answer that came while `in_flight` attempts, itself included, were at the server."""
        if self._fixed:
            return
        if in_flight > self._proven:
            self._proven += (in_flight - self._proven) * (_WEIGHT if self._proven else 1.0)
        slots, pace = self._slots, self._pace
        if pace is not None:
            if self._is_paced(now, pace):
                pace.grow(now)
            else:
                pace.answers += 1
        if in_flight * 2 >= slots.value:
            slots.grow(now)
        else:
            slots.answers += 1

    def refused(
        self, now: float, started: float, in_flight: int, kind: Literal["concurrency", "rate"] | None = None
    ) -> bool:
        """Take in a refusal of an attempt sent at `started` beside `in_flight` others; return whether it was news.

        `kind` is what the server said that it limits, None if it did not.
        """
        self.refusals += 1
        per_second = self._measure(now)
        tick = int(started * _TICKS)
        if self._tick - _RING < tick <= self._tick and self._counts[tick & _MASK]:
            self._counts[tick & _MASK] -= 1
        if started <= self._epoch:
            return False
        self._epoch = now
        if self._fixed:
            return True
        slots, pace = self._slots, self._pace
        paced = pace is not None and self._is_paced(now, pace)
        # Both bounds are new to the server: it may mean either.
        fresh = pace is None or (paced and pace.starting)
        below = self._weigh(in_flight, fresh=fresh, paced=paced, kind=kind)
        more = kind == "concurrency" or (kind is None and (self._belief > 0 or pace is None))
        faster = not more or (kind is None and (pace is None or (fresh and self._belief <= 1)))
        if more:
            height = in_flight if below else max(in_flight, int(self._proven + 0.5))
            # Before the first answer, what was sent at once was a burst, and tells little of what can be in flight.
            slots.cut(now, max(1.0, min(slots.value, height + 1.0)) if self._proven else slots.value)
        else:
            slots.forget()
        if faster:
            self._slow_down(now, per_second)
            self._epoch = now + _RATE_EPOCH
        elif pace is not None:
            pace.forget()
        if in_flight < self._proven:
            self._proven = in_flight if more and self._belief >= 1 else (self._proven + in_flight) / 2
        return True

    def _weigh(self, in_flight: int, *, fresh: bool, paced: bool, kind: str | None) -> bool:
        """Change the belief by one refusal; return whether it was below what is proven."""
        below = in_flight < self._proven - max(_SLACK, _SLACK_SHARE * self._proven)
        if kind is not None:
            self._belief = _MAX_BELIEF if kind == "concurrency" else -_MAX_BELIEF
        elif not in_flight:
            # Alone at the server, and refused.
            self._belief = -_MAX_BELIEF
        elif self._slots.answers * 2 < self._slots.value:
            # What is proven is older than the last cut: half a round trip ago.
            pass
        elif below:
            self._belief = max(-_MAX_BELIEF, self._belief - 1.0)
        elif paced and not fresh:
            self._belief = min(_MAX_BELIEF, self._belief + _FOR_CONCURRENCY)
        elif not paced and self._belief > 0:
            self._belief = max(0.0, self._belief - _FADE)
        return below

    def _slow_down(self, now: float, per_second: float) -> None:
        pace = self._pace
        if pace is None:
            pace = self._pace = Bound(max(1.0, per_second), floor=_MIN_RATE, step=0.0, margin=_MARGIN)
            if self._proven:
                pace.remember(pace.value)
                pace.value *= 1 - _MARGIN
        else:
            # After a rest the last second says little; half is the most that is taken at once.
            pace.cut(now, max(_MIN_RATE, min(pace.value, max(per_second, pace.value / 2))))
        self._next = max(self._next, now + 1 / pace.value)

    def _is_paced(self, now: float, pace: Bound) -> bool:
        """Whether the pace is what holds attempts back: at least half of it is in use."""
        return now < self._next + 1 / pace.value

    def _measure(self, now: float) -> float:
        """Attempts of the last second or a little more: a count that is too low would be a cut too deep."""
        tick = int(now * _TICKS)
        if tick != self._tick:
            self._roll(tick)
        return float(sum(self._counts[past & _MASK] for past in range(tick - _TICKS, tick + 1)))

    def _roll(self, tick: int) -> None:
        """Move to a newer tick; the ring forgets what is older than it is long."""
        for new in range(max(self._tick + 1, tick - _MASK), tick + 1):
            self._counts[new & _MASK] = 0
        self._tick = tick

    def __repr__(self) -> str:
        rate = "" if self._pace is None else f", {self._pace.value:.1f}/s"
        return f"<Congestion {self.limit:.0f} in flight{rate}, {self.refusals} refused>"
