"""Which limit a refusal speaks of: the server's limit of attempts in flight, or its limit of attempts per second.

A server that limits the attempts in flight refuses only above what it has accepted. So a diagnosis follows the most
attempts that were at the server when answers came (`proven`), and compares each refusal with it:

 - A refusal below `proven` speaks of the rate.
 - A refusal at a limit that has held for a while speaks of the rate.
 - A refusal at `proven`, while the learned rate and not the limit held attempts back, speaks of concurrency.
 - A refusal of a probe of the limit speaks of concurrency, a little.

Each refusal adds its weight to a belief, and beyond `_SURE` the belief is a verdict. It is arithmetic alone. It may
import `admission.bound`.
"""

from __future__ import annotations

from aimlasync.admission.bound import Bound

# What each constant is for, and what breaks without it; measured as in `admission.bound`.
#
#   constant              without it      what breaks
#   _WEIGHT               1               nothing on the grid
#   _SLACK                0               5 in flight, answers in 0.2 s: goodput .72
#   _SLACK_SHARE          0               nothing on the grid
#   _RATE                 0               goodput .905, 23 cells miss the target; a server that limits both: .69
#   _ABOVE_LIMIT          0               goodput .955, 18 cells miss the target; 2 in flight: .76
#   _AT_PROVEN            0 (all three)   nothing on the grid
#   _AT_PROVEN_PROBING    as _AT_PROVEN   7 cells miss the target
#   _AT_PROVEN_UNSETTLED  as _AT_PROVEN   6 cells miss the target; 5 per second, answers in 2 s: .57 for .69
#   _SURE                 0               5 per second, burst of 0.1 s, answers in 2 s: goodput .64
#   _MAX_BELIEF           1               7 cells miss the target

# The weight of a new height of `proven`: one answer that came while a refusal was under way does not make it.
_WEIGHT = 0.25
# A refusal is below `proven` by more than this: attempts whose replies are under way may overtake each other.
_SLACK = 1.01
_SLACK_SHARE = 0.03
# The weights of refusals. Below `proven`, or at a limit that has held: the rate. (A capacity that shrank refuses there
# too, but once and not again.)
_RATE = 1.0
# Above the limit, in a probe: either is likely.
_ABOVE_LIMIT = 0.25
# At `proven` while the rate holds attempts back: concurrency. It weighs less while the rate probes, or soon after a
# cut, when a refusal of the rate is half expected.
_AT_PROVEN = 1.0
_AT_PROVEN_PROBING = 0.5
_AT_PROVEN_UNSETTLED = 0.25
_SURE = 0.4
_MAX_BELIEF = 2.0


class Diagnosis:
    """What the refusals of one endpoint say together."""

    __slots__ = ("_belief", "proven", "verdict")

    def __init__(self) -> None:
        self.proven = 0.0
        """The most attempts that were at the server when answers came, smoothed; 0.0 before the first answer."""
        # Above zero: concurrency. Below zero: the rate.
        self._belief = 0.0
        self.verdict = 0
        """1 when it is sure that concurrency is limited, -1 when it is sure that the rate is, 0 otherwise."""

    def accepted(self, in_flight: int) -> None:
        """Note an answer that came while `in_flight` attempts, more than `proven`, were at the server."""
        self.proven += (in_flight - self.proven) * (_WEIGHT if self.proven else 1.0)

    def weigh(self, in_flight: int, kind: str | None, limit: Bound, rate: Bound | None, *, rate_holds: bool) -> bool:
        """Take in a refusal of an attempt beside `in_flight` others; return whether it was below what is proven.

        `kind` is the limit that the server named, None if it named none. `rate_holds` tells whether the rate, and not
        the limit, held attempts back.
        """
        belief = self._belief
        below = in_flight < self.proven - max(_SLACK, _SLACK_SHARE * self.proven)
        if kind is not None:
            belief = _MAX_BELIEF if kind == "concurrency" else -_MAX_BELIEF
        elif not self.proven:
            # Before the first answer, everything that was sent is one burst.
            pass
        elif not in_flight:
            # An attempt that was alone at the server was refused by the rate.
            belief = -_MAX_BELIEF
        elif rate is None or limit.answers * 2 < limit.value:
            # The last cut was less than half a round trip ago, and what is proven is older.
            pass
        elif below:
            belief -= _RATE
        elif in_flight + 2 > limit.value:
            if limit.exploring:
                belief += _ABOVE_LIMIT
            elif limit.has_held:
                belief -= _RATE
        elif in_flight * 2 <= limit.value + 4 and rate_holds:
            # Half of the limit is used at most, so the server or the rate has long held attempts back.
            if not rate.settled:
                belief += _AT_PROVEN_UNSETTLED
            else:
                belief += _AT_PROVEN_PROBING if rate.exploring else _AT_PROVEN
        self._belief = belief = min(_MAX_BELIEF, max(-_MAX_BELIEF, belief))
        self.verdict = 1 if belief > _SURE else -1 if belief < -_SURE else 0
        return below

    def lower(self, in_flight: int) -> None:
        """Lower what is proven after a refusal beside `in_flight` others; fully where concurrency is the verdict."""
        if in_flight < self.proven:
            self.proven = in_flight if self.verdict > 0 else (self.proven + in_flight) / 2
