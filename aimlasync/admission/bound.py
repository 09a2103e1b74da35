"""A bound that is learned from refusals: it grows with answers and is cut by refusals.

`admission.adaptive` keeps two of them, one for the attempts in flight and one for the attempts per second. A bound
begins in slow start. A refusal cuts it (multiplicative decrease), and it recovers up to its resting level: the highest
level that is believed to hold. From there it probes. A refused probe returns to the resting level; a probe that holds
becomes the new resting level. It is arithmetic alone and imports nothing of this library.
"""

from __future__ import annotations

import math

# What each constant is for, and what breaks without it. Measured on the grid of tests/admission/test_adaptive.py (54
# unknown servers; seeds other than the test's): goodput .978 of what the server can do, .61 % refused, 4 cells miss the
# target.
#
#   constant         without it              what breaks
#   MAX              no cap                  the limit grows without end where nothing limits it
#   MIN_RATE         0.001 per second        after an outage the rate never recovers (goodput 0)
#   CUT              0.9                     5 per second, burst of 0.1 s, answers in 2 s: goodput .61; 5 % refused
#   _RECOVER         1, as in slow start     100 per second, burst of 0.1 s, answers in 2 s: goodput .70
#   _GROW            0.25                    slow start no longer doubles per round trip; a halved limit: .95 for .99
#   _GROW_RATE       1                       10 per second, burst of 0.1 s, answers in 2 s: goodput .69
#   _PROBE_SHARE     0.1                     5 per second, answers in 2 s: goodput .54
#   _PROBE_ROUNDS    1                       5 per second, answers in 2 s: goodput .45; 10 cells miss the target
#   _LEAP            1                       a rate that doubled is found late: .80 of it for .98
#   _MAX_LEAP        infinite                a limit that halved: .92 for .99
#   _FAR             1                       goodput .975, 5 cells miss the target
#   _SETTLED         0                       5 per second, burst of 0.1 s, answers in 2 s: goodput .92 (test's seeds)

MAX = 4096.0
# Attempts per second. A server that takes fewer should say Retry-After. It also bounds the delay between attempts.
MIN_RATE = 0.2
# A cut leaves this share of the refused level.
CUT = 0.8
# Growth per answer while it recovers to the resting level, once it is above half of it.
_RECOVER = 0.1
# Growth per answer in slow start: the limit doubles per round trip. The rate is measured over seconds, and overshoots
# by what they hide.
_GROW = 1.0
_GROW_RATE = 0.25
# A probe of the rate begins this share above the resting level, and must hold for so many times its value in answers.
_PROBE_SHARE = 0.04
_PROBE_ROUNDS = 1.5
# A probe that holds is followed by one whose step is so many times larger, up to this share of the value.
_LEAP = 3.0
_MAX_LEAP = 0.25
# A probe of the rate that holds this far above the resting level becomes slow start. (A bucket hides a small step for
# long, and a large step is refused.)
_FAR = 1.2
# Answers after which a cut of the rate has settled: a slow server needs more than two seconds to show that the cut was
# enough.
_SETTLED = 20


class Bound:
    """A number that grows with answers and is cut by refusals; see the module.

    `grow` is the growth per answer in slow start. A probe goes `step` above the resting level, or the share `share` of
    it, and lasts `rounds` times its value in answers. A probe that holds more than `far` times the resting level
    becomes slow start. A cut has settled after `settle` answers, or two round trips. The value stays between `floor`
    and MAX.
    """

    __slots__ = (
        "_far",
        "_floor",
        "_grow",
        "_held",
        "_rest",
        "_rounds",
        "_share",
        "_step",
        "answers",
        "settle",
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
        self._grow = grow
        self._step = step
        self._share = share
        self._rounds = rounds
        self._far = far
        self.settle = settle
        # The resting level: infinite in slow start.
        self._rest = math.inf
        self.answers = 0
        """Answers since the last cut."""
        # Answers at the full level since the last cut, or since the probe began.
        self._held = 0

    @property
    def starting(self) -> bool:
        """Whether this is slow start."""
        return self._rest == math.inf

    @property
    def probing(self) -> bool:
        """Whether the value is above the resting level."""
        return self.value > self._rest

    @property
    def exploring(self) -> bool:
        """Whether the value is in slow start or in a probe, and so not known to hold."""
        return self._rest == math.inf or self.probing

    @property
    def settled(self) -> bool:
        """Whether the last cut was at least two round trips ago, and `settle` answers."""
        return self.answers >= max(self.settle, 2 * self.value)

    @property
    def has_held(self) -> bool:
        """Whether the whole value was in use for two round trips, without a probe."""
        return self._held >= 2 * self.value

    def grow(self, full: bool, may_probe: bool) -> None:
        """Take in an answer that came while at least half of the value was in use, or (`full`) all of it."""
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
        self.value = min(value, MAX)

    def cut(self, level: float, rest: float) -> None:
        """Cut below the refused `level` and rest at `rest`, or return to the old resting level where it was a probe."""
        if level > self._rest:
            self.value = self._rest
        else:
            self._rest = max(self._floor, rest)
            self.value = max(self._floor, min(self._rest, level * CUT))
        self.answers = self._held = 0

    def forget(self) -> None:
        """Return to slow start, from the value at hand."""
        self._rest = math.inf


def bound_in_flight(value: float) -> Bound:
    """Return a bound of attempts in flight: it probes one attempt at a time."""
    return Bound(value, floor=1.0, grow=_GROW, step=1.0)


def bound_per_second(value: float) -> Bound:
    """Return a bound of attempts per second: it probes by a share, for longer."""
    return Bound(
        value,
        floor=MIN_RATE,
        grow=_GROW_RATE,
        share=_PROBE_SHARE,
        rounds=_PROBE_ROUNDS,
        far=_FAR,
        settle=_SETTLED,
    )
