"""How many attempts may be in flight: slow start in which each step must pay, and the level that was refused.

It is arithmetic without I/O or a clock, for `admission.adaptive`, and imports nothing of this library. `FEW` and
`MARGIN` are shared with `admission.pace`; the head of `admission.adaptive` explains the law.
"""

from __future__ import annotations

import math
from typing import Literal

# Samples from which something is concluded, answers for which a level must hold, and the first patience of a probe.
FEW = 8
# How far below a refused level to rest: the server's clocks and counts are not ours.
MARGIN = 0.01
MAX = 4096.0
# How far above the last level that paid slow start may grow before the next is measured; less once a knee is known.
_AHEAD = 3.0
_AGAIN = 2.0
# A higher level pays where latency grows with it to a lesser power than this.
_PAYS = 0.5
# How far above an estimated knee to rest: below it throughput is lost, above it only latency.
_ROOM = 1.5
# Answers that take less are all as quick: their time is this process's, which does more at once for less, and no
# queue's. Without, three calls at a time use a server that answers at once, for a third of what 32 get of it.
_BRISK = 0.01
# The longest patience, in answers; FEW rounds of answers where the level is high. A probe takes some five rounds, in
# which a server that gets less done beyond its knee loses throughput (without: .892 for .924 there).
LAST = 256
# So many attempts of a level are followed at most, and where fewer may tell what is chance.
_MANY = 4 * FEW

Measurement = tuple[float, float, float]
"""A level, the seconds in which half of the attempts there were answered, and the variance of their logarithm."""


class Knee:
    """The limit of attempts in flight, and what is known of the level above which answers come no faster."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.knee: float | None = None
        """Attempts in flight above which the server queues, as last measured; None while no queue was seen."""
        self.is_sure = False
        """Whether two measurements in a row agreed."""
        # rest; step: one more, until that held; grow: slow start; low: measuring below a level that brought nothing.
        self._mode: Literal["rest", "step", "grow", "low"] = "grow"
        # From where slow start began; the highest level that held; the answers at this one.
        self._start, self._sure, self._held = max(FEW / 2, value), 0.0, 0
        # Answers since the last probe ended, and those that there must be before the next begins.
        self._waited, self._patience = 0, FEW
        # The last level measured, and the seconds at a level without a queue.
        self._base: Measurement | None = None
        self._alone = 0.0
        self.to_send = 0
        """How many of the next attempts are followed, to measure this level."""
        self._follow()

    @property
    def exploring(self) -> bool:
        """Whether the value is above what is known to hold."""
        return self._mode in ("step", "grow")

    @property
    def has_held(self) -> bool:
        """Whether this value was in use for a round without a refusal."""
        return self._sure >= self.value

    def sent(self, now: float) -> None:
        """Note that an attempt is sent that is followed: call it while `to_send` is not 0."""
        if self.to_send == self._followed:
            self._first = now
        self.to_send -= 1
        self._last = now

    def answered(self, now: float, in_flight: int, started: float, beside: int, is_held: bool) -> None:
        """Take in an answer to an attempt sent at `started` beside others, while `in_flight` are at the server.

        `is_held` says that the rate holds attempts back: then their number follows latency, not latency their number.
        """
        self._waited += 1
        value = self.value
        if self._mode == "grow":
            ahead = _AHEAD if self._base is not None and self.knee is None else _AGAIN
            level = self._start if self._base is None else max(self._base[0], self._start)
            if 2 * in_flight >= value and value < ahead * level:
                self.value = min(value + 1.0, MAX)
            if not self._followed and in_flight + 1 > 0.7 * ahead * level:
                self._follow()
        elif in_flight + 1 > value:
            self._held += 1
            if self._held >= max(FEW, value):
                self._sure = value
                if self._mode == "step" and self._base is not None:
                    self._mode = "grow"
                elif self._mode == "rest" and self._waited >= self._patience and not is_held:
                    self._mode, self._base, self._held = "step", None, 0
                    self._follow()
                    self.value = min(value + 1.0, MAX)
        if self._followed:
            self._follows(now, in_flight, started, beside, is_held)

    def _follow(self, at_least: int = FEW) -> None:
        """Measure the present level: follow the next few attempts until half of them are answered."""
        self._followed = self.to_send = max(at_least, int(min(_MANY, self.value)))
        self._first = self._last = math.inf
        self._times: list[float] = []
        self._levels = self._later = 0

    def _follows(self, now: float, in_flight: int, started: float, beside: int, is_held: bool) -> None:
        if self._first <= started <= self._last:
            self._times.append(now - started)
            self._levels += beside + 1
        elif started > self._last:
            self._later += 1
            if self._later > 4 * self._followed + in_flight:
                # Too many of the followed were refused, cancelled or lost.
                self._follow()
                return
        times = self._times
        if not self.to_send and 2 * len(times) >= self._followed:
            # Those not answered count as slower. So the first answers, which are the short ones, are no biased sample.
            times.sort()
            middle = (self._followed - 1) // 2
            if now - self._last >= times[middle]:
                half = max(_BRISK, times[middle])
                self._count, self._followed = self._followed, 0
                # The quicker half tells how much they vary.
                spread = sum(math.log(half / max(_BRISK, quicker)) for quicker in times[:middle]) / max(1, middle)
                doubt = 3 * spread**2 / self._count
                self._measured((self._levels / len(times), half, doubt), is_held)

    def _measured(self, new: Measurement, is_held: bool) -> None:
        if self._base is None:
            self._base = new
            return
        (low, quick, doubt), (high, slow, other) = sorted((self._base, new))
        loss = math.log(slow / quick) - _PAYS * math.log(high / low)
        chance = math.sqrt(doubt + other)
        if (-chance if self.exploring else 0) <= loss < chance and not is_held and self._count < _MANY:
            # That may be chance; and what only seems to pay leads to a long queue.
            self._follow(_MANY)
            return
        if self.exploring:
            if loss < 0 or is_held:
                self._base = new
                return
            # By Little's law, where an attempt is as quick without a queue as it was: never quicker than that.
            knee = low * self._alone / quick
            if self.knee is not None and self.knee / _ROOM <= knee <= low:
                # As was known. The mean of many is better than the last.
                self._found(math.sqrt(self.knee * knee))
                return
        elif loss < 0 or low < 2:
            self._alone = quick
            self._found(max(low, min(high, high * quick / slow)))
            return
        # It brings nothing: the server may have queued at the lower level already.
        self._mode, self._base, self.value, self._held = "low", (low, quick, doubt), max(1.0, low / 2), 0
        self._follow()

    def _found(self, knee: float) -> None:
        self.is_sure = self.knee is not None and 1 / _ROOM < knee / self.knee < _ROOM
        self.knee = knee
        # As long again as the wait and the probe took: where answers are few, a probe is no small part of them.
        # Without: streams .977 for .989. A knee that is not sure is soon asked for again.
        patience = max(2 * self._patience, self._waited) if self.is_sure else 2 * FEW
        self._rest(max(knee + 1, _ROOM * knee), patience)

    def _rest(self, value: float, patience: int) -> None:
        self.value = max(1.0, min(MAX, value))
        self._patience = min(patience, int(max(LAST, FEW * self.value)))
        self._mode, self._start = "rest", 1.0
        self._waited = self._held = self._followed = self.to_send = 0

    def refused(self, in_flight: int) -> None:
        """Take in a refusal, beside `in_flight` others, that may speak of the attempts in flight."""
        if self.exploring:
            held = max(self._sure, float(round(in_flight * (1 - MARGIN))))
            self._rest(min(self.value, held), 2 * self._patience)
        else:
            # Soon probed again, or two laws that share one limit never find that (without: none of twelve runs did).
            self._sure = 0.0
            self._rest(min(self.value * (1 - MARGIN), float(in_flight)), FEW)

    def forget(self) -> None:
        """Return to slow start from the value at hand: refusals speak of the rate."""
        if self._mode == "rest":
            self._mode, self._base, self._start = "grow", None, self.value
            self._follow()
