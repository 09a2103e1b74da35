"""How many attempts may be in flight at one endpoint, and how fast they may be sent: two numbers learned from refusals.

Law: pure arithmetic; no I/O, no asyncio, no clock: `now` is handed in (one monotonic clock).

Each number is a `Bound`: slow start, multiplicative decrease, and a memory of the level that held. Latency is no
signal: a model's follows the length of its answer. A refusal of an attempt sent before the last cut is no news, else a
burst of N refusals cuts N times.

A probe costs a refusal, so it is paid for: each answer earns a little credit, each refusal takes `_PRICE`, and only who
has no debt may probe. Early debts are forgiven (`_patience`), since what is known then is a guess; a refused probe,
which confirms it, makes them weigh more. It goes back to where it was, and costs no goodput.

Which bound a refusal speaks of follows from one fact: a server that limits what is in flight refuses only above what it
has accepted. So `_proven` follows the most that was at the server when answers came. A refusal below it speaks of the
rate, and so does one at a limit that had held; one at its height, while the pace and not the limit held us back, speaks
of concurrency, and a little so does a probe of the limit. `_belief` sums these up. Unsure, a refusal cuts both bounds;
sure, it cuts one, and the other is in slow start, so that it is in no test's way.

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
_MIN_RATE = 0.2
_MAX_DELAY = 1 / _MIN_RATE
# A cut of a level that has held for a while, and of a guess: after slow start, or when cuts come in a row.
_CUT = 0.9
_HARD_CUT = 0.8
# Growth per answer, so for the limit per round trip and for the rate per second: back to what worked, once near it.
_RECOVER = 0.1
# In slow start. A rate is measured over seconds, and overshoots by what they hide.
_GROW = 1.0
_GROW_RATE = 0.25
# Answers that pay for a refusal: 0.6 % of attempts are refused when all credit goes into probes.
_PRICE = 160
_MAX_CREDIT = 2 * _PRICE
# Debt is forgiven beyond this: a guess is probed after the first many answers, what was confirmed after the last many.
_MIN_DEBT = 10
_MAX_DEBT = 4 * _PRICE
_UNSURE_DEBT = 40
_PATIENCE = 8
# The seconds keep a fast server from being probed all the time. A pause that a probe brings is to be 4 % of the time.
_PROBE_SECONDS = 2.0
_PAUSE_PRICE = 25.0
# What is still a guess, with little patience, is not to wait that long (tuned).
_PAUSE_PATIENCE = 80
# A probe of the rate starts this far above it, lasts so many seconds, and is followed by one of so many times the step;
# this far above the rest it is slow start (tuned: a bucket hides a small step for long, and a large one is refused).
_PROBE_SHARE = 0.04
_PROBE_ROUNDS = 1.5
_LEAP = 3.0
_MAX_LEAP = 0.25
_FAR = 1.2
# A slow server needs more than two seconds to show that a cut of the rate was enough.
_SETTLED = 20
# Seconds without an answer; a rate at which there is none is left far behind.
_SILENCE = 5.0
_SILENT_CUT = 0.2
# Silent again within this, a server counts over a minute.
_SILENCES = 90.0
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
# A refusal's weight (tuned). Below what is proven, or alone at the server, it is the rate.
_BELOW = 1.0
# At a limit that had held: the rate, or a capacity that shrank, which refuses once and not again.
_AT_LIMIT = 0.6
# Above it, in a probe, both are likely.
_ABOVE_LIMIT = 0.25
# At the height of what is proven while paced. While the rate probes, or soon after a cut, that is half expected.
_AT_HEIGHT = 1.0
_AT_HEIGHT_PROBING = 0.5
_AT_HEIGHT_UNSETTLED = 0.25
_HEIGHT = 0.98
_SURE = 0.4
_MAX_BELIEF = 2.0
# The rate is counted in eighths of a second; sixteen of them are kept.
_TICKS = 8
_RING = 16
_MASK = _RING - 1


class Bound:
    """A number that grows with answers and is cut by refusals.

    It rests at the highest level that held, and probes above it: refused, it is back where it was; not refused for a
    round, it goes further, and then it is slow start again.
    """

    __slots__ = (
        "_far",
        "_floor",
        "_grow",
        "_held",
        "_rest",
        "_rounds",
        "_settle",
        "_share",
        "_step",
        "answers",
        "value",
    )

    def __init__(
        self,
        value: float,
        *,
        floor: float,
        grow: float,
        step: float = 0.0,
        share: float = 0.0,
        rounds: float = 1.0,
        far: float = 1.0,
        settle: int = 0,
    ) -> None:
        self.value = value
        self._floor = floor
        # Growth per answer in slow start.
        self._grow = grow
        # A probe goes this far above the rest, or that share of it, and lasts so many times its value in answers.
        self._step = step
        self._share = share
        self._rounds = rounds
        # A probe that goes through is slow start when it was above so many times the rest.
        self._far = far
        self._settle = settle
        # The highest level that is believed to hold, infinite in slow start.
        self._rest = math.inf
        # Answers since the last cut, and those that came at the full level: since the probe began, or the last cut.
        self.answers = 0
        self._held = 0

    @property
    def starting(self) -> bool:
        """Whether this is slow start."""
        return self._rest == math.inf

    @property
    def probing(self) -> bool:
        """Whether this is above what is known to hold."""
        return self.value > self._rest

    @property
    def exploring(self) -> bool:
        """Whether this is above what is known to hold, or nothing is."""
        return self._rest == math.inf or self.probing

    @property
    def settled(self) -> bool:
        """Whether the last cut was a while ago."""
        return self.answers >= max(self._settle, 2 * self.value)

    @property
    def has_held(self) -> bool:
        """Whether all of this was in use for a while, below any probe."""
        return self._held >= 2 * self.value

    def grow(self, full: bool, may_probe: bool) -> None:
        """Take in an answer that came while at least half of this was in use, or (`full`) all of it."""
        value, rest = self.value, self._rest
        self.answers += 1
        if rest == math.inf:
            value += self._grow
        elif value < rest:
            value = min(rest, value + (_RECOVER if 2 * value > rest else 1.0))
        elif not full:
            return
        elif value > rest:
            self._held += 1
            if self._held < self._rounds * value:
                return
            self._held = 0
            if value > rest * self._far:
                self._rest = math.inf
            else:
                self._rest = value
                value += min(_LEAP * (value - rest), _MAX_LEAP * value)
        elif may_probe:
            self._held = 0
            value += max(self._step, value * self._share)
        else:
            self._held += 1
            return
        self.value = min(value, _MAX)

    def cut(self, level: float, rest: float) -> None:
        """Rest at `rest`, or where it did if `level`, which was refused, was a probe's."""
        if level > self._rest:
            self.value = self._rest
        else:
            hard = self.starting or not self.settled
            self._rest = max(self._floor, rest)
            self.value = max(self._floor, min(self._rest, level * (_HARD_CUT if hard else _CUT)))
        self.answers = self._held = 0

    def forget(self) -> None:
        """Slow start, from where it is."""
        self._rest = math.inf


class AdaptiveLimit:
    """What one endpoint can take. With `limit`, that is in flight, always, and nothing is learned.

    `paced` tells that a rate is kept by someone else.
    """

    __slots__ = (
        "_again",
        "_answered_at",
        "_answers",
        "_awake_at",
        "_begun",
        "_belief",
        "_counts",
        "_epoch",
        "_fixed",
        "_full",
        "_held",
        "_mark",
        "_next",
        "_owed",
        "_pace",
        "_patience",
        "_probe_at",
        "_proven",
        "_side",
        "_silent",
        "_slots",
        "_tick",
        "refusals",
    )

    def __init__(self, limit: float | None = None, *, paced: bool = False) -> None:
        self.refusals = 0
        self._fixed = limit is not None
        first = (_PACED_START if paced else _START) if limit is None else float(limit)
        self._slots = Bound(first, floor=1.0, grow=_GROW, step=1.0)
        # Attempts per second, None until a refusal speaks of a rate; and when the next one may be sent.
        self._pace: Bound | None = None
        self._next = -math.inf
        # Until when it held an attempt back.
        self._held = -math.inf
        # Attempts sent up to here are of an epoch that has been answered by a cut.
        self._epoch = -math.inf
        self._proven = 0.0
        # Above zero: concurrency.
        self._belief = 0.0
        # 1 when that is sure, -1 when it is surely the rate.
        self._side = 0
        self._answers = 0
        # How many answers there must be before the next probe, the most that may be missing, and when it may come.
        self._owed = 0
        self._patience = _MIN_DEBT
        self._probe_at = -math.inf
        # (time, answers so far) of the last cut of the rate, and of the last one before cuts came in a row.
        self._full = self._mark = (0.0, 0)
        # Nothing is answered; for how long, when that was so the last time, and whether it soon was so again.
        self._silent = self._again = False
        self._answered_at = self._awake_at = -math.inf
        # Attempts sent per tick, refusals taken out; the newest tick, and the first.
        self._counts = [0] * _RING
        self._tick = 0
        self._begun = 0

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
        if wait > 0.0:
            self._held = self._next
            return wait
        return 0.0

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
        if not self._answers:
            self._full = self._mark = (now, 0)
        self._answers += 1
        self._answered_at = now
        may_probe = self._answers >= self._owed and now >= self._probe_at
        slots, pace = self._slots, self._pace
        full = in_flight + 1 > slots.value
        # One experiment at a time: else a refusal would tell of neither.
        may_probe_slots = may_probe
        if pace is not None:
            if self._is_paced(now, pace):
                pace.grow(True, may_probe and not (full and slots.probing))
                may_probe_slots = may_probe and not pace.exploring
            else:
                pace.answers += 1
        if in_flight * 2 >= slots.value:
            slots.grow(full, may_probe_slots)
        else:
            slots.answers += 1

    def refused(
        self, now: float, started: float, in_flight: int, kind: Literal["concurrency", "rate"] | None = None
    ) -> bool:
        """Take in a refusal of an attempt sent at `started` beside `in_flight` others; return whether it was news.

        `kind` is what the server said that it limits, None if it did not.
        """
        self.refusals += 1
        tick = int(started * _TICKS)
        if self._tick - _RING < tick <= self._tick and self._counts[tick & _MASK]:
            self._counts[tick & _MASK] -= 1
        self._owed = min(max(self._owed, self._answers - _MAX_CREDIT) + _PRICE, self._answers + self._patience)
        if started <= self._epoch:
            return False
        self._epoch = now
        if self._fixed:
            return True
        self._probe_at = max(self._probe_at, now + _PROBE_SECONDS)
        slots, pace = self._slots, self._pace
        below = self._weigh(now, in_flight, kind)
        before = self._side
        self._side = side = 1 if self._belief > _SURE else -1 if self._belief < -_SURE else 0
        self._be_patient(pace if pace is not None and in_flight + 2 <= slots.value else slots, before)
        more = side >= 0 or (pace is None and kind is None)
        if more:
            height = in_flight if below else max(in_flight, int(self._proven + 0.5))
            # Before the first answer, what was sent at once was a burst, and tells little of what can be in flight.
            level = max(1.0, min(float(int(slots.value)), height + 1.0)) if self._proven else slots.value
            slots.cut(level, level - 1.0 if slots.answers else math.inf)
        else:
            slots.forget()
        if side <= 0:
            self._slow_down(now)
            self._epoch = now + _RATE_EPOCH
        elif pace is not None:
            pace.forget()
        if in_flight < self._proven:
            self._proven = in_flight if side > 0 else (self._proven + in_flight) / 2
        return True

    def paused(self, now: float, seconds: float) -> None:
        """Note that a refusal stops the whole endpoint for so long: the next probe is to be worth it."""
        price = _PAUSE_PRICE * min(1.0, self._patience / _PAUSE_PATIENCE)
        self._probe_at = max(self._probe_at, now + seconds * price)

    def _weigh(self, now: float, in_flight: int, kind: str | None) -> bool:
        """Change the belief by one refusal; return whether it was below what is proven."""
        slots, pace, belief = self._slots, self._pace, self._belief
        below = in_flight < self._proven - max(_SLACK, _SLACK_SHARE * self._proven)
        if kind is not None:
            belief = _MAX_BELIEF if kind == "concurrency" else -_MAX_BELIEF
        elif not self._proven:
            # Before the first answer all is a burst.
            pass
        elif not in_flight:
            belief = -_MAX_BELIEF
        elif pace is None or slots.answers * 2 < slots.value:
            # What is proven is older than the last cut: half a round trip ago.
            pass
        elif below:
            belief -= _BELOW
        elif in_flight + 2 > slots.value:
            if slots.exploring:
                belief += _ABOVE_LIMIT
            elif slots.has_held:
                belief -= _AT_LIMIT
        elif in_flight * 2 <= slots.value + 4 and self._is_paced(now, pace) and in_flight + 1 >= _HEIGHT * self._proven:
            # The limit is twice as high as it is used, so it has long been the server or the pace that held us back.
            if not pace.settled:
                belief += _AT_HEIGHT_UNSETTLED
            else:
                belief += _AT_HEIGHT_PROBING if pace.exploring else _AT_HEIGHT
        self._belief = min(_MAX_BELIEF, max(-_MAX_BELIEF, belief))
        return below

    def _be_patient(self, bound: Bound, before: int) -> None:
        """Set how long the next probe waits; `bound` is what held the refused attempt back, `before` the last side."""
        if bound.probing or (bound is self._pace and bound.starting and bound.settled):
            self._patience = min(_MAX_DEBT if self._side else _UNSURE_DEBT, _PATIENCE * self._patience)
        elif (self._side != before and (before or self._side < 0)) or not bound.answers:
            # What was learned is void: the other bound was meant, or the server was gone.
            self._patience = _MIN_DEBT
        elif not bound.settled:
            self._patience = max(_MIN_DEBT, self._patience // 2)
        self._owed = min(self._owed, self._answers + self._patience)

    def _slow_down(self, now: float) -> None:
        pace, per_second = self._pace, self._measure(now)
        before, self._full = self._full, (now, self._answers)
        if pace is None:
            value = min(max(1.0, per_second), _MAX)
            pace = self._pace = Bound(
                value,
                floor=_MIN_RATE,
                grow=_GROW_RATE,
                share=_PROBE_SHARE,
                rounds=_PROBE_ROUNDS,
                far=_FAR,
                settle=_SETTLED,
            )
            if self._proven:
                pace.cut(value, value * (1 - _MARGIN))
        else:
            # One more for the one that was refused. Half is the most that is taken of a pace that was in use.
            level = min(pace.value, max(_MIN_RATE, per_second + 1.0))
            if self._is_paced(now, pace):
                level = max(level, pace.value / 2)
            rest = level * (1 - _MARGIN)
            silent = self._answers > 0 and now - self._answered_at > _SILENCE
            if silent:
                if not self._silent:
                    self._again = self._answered_at - self._awake_at < _SILENCES
                # Silent once, it was away, and the rate is what it was; again, it counts over a long window, and the
                # rate is what it gave on average.
                rest = self._average(now if self._again else self._answered_at)
                self._awake_at = now
            elif pace.settled:
                self._mark = before
            else:
                # Cuts in a row: a bucket was full at the end of the last ones and is full now, so what was accepted
                # since is the rate.
                rest = max(min(rest, self._average(now)), level * _HARD_CUT)
            self._silent = silent
            pace.cut(level, rest)
            if silent:
                pace.value = max(_MIN_RATE, min(pace.value, _SILENT_CUT * level))
        self._next = max(self._next, now + 1 / pace.value)

    def _average(self, now: float) -> float:
        """Answers per second since before the last cuts in a row."""
        return (self._answers - self._mark[1]) / max(1.0, now - self._mark[0])

    def _is_paced(self, now: float, pace: Bound) -> bool:
        """Whether the pace is what holds attempts back."""
        return now < self._held + 1 / pace.value

    def _measure(self, now: float) -> float:
        """Attempts of the last second, refusals taken out; before the first second is over, as many as it would be."""
        at = now * _TICKS
        tick = int(at)
        if tick != self._tick:
            self._roll(tick)
        counts = self._counts
        total = float(sum(counts[past & _MASK] for past in range(tick - _TICKS + 1, tick + 1)))
        total += counts[(tick - _TICKS) & _MASK] * (tick + 1 - at)
        return total / min(1.0, (tick + 1 - self._begun) / _TICKS)

    def _roll(self, tick: int) -> None:
        """Move to a newer tick; the ring forgets what is older than it is long."""
        if not self._tick:
            self._begun = tick
        for new in range(max(self._tick + 1, tick - _MASK), tick + 1):
            self._counts[new & _MASK] = 0
        self._tick = tick

    def __repr__(self) -> str:
        rate = "" if self._pace is None else f", {self._pace.value:.1f}/s"
        return f"<AdaptiveLimit {self.limit:.0f} in flight{rate}, {self.refusals} refused>"
