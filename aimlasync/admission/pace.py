"""How fast attempts may follow each other: what a server accepted between two rows of refusals, over the time between.

Every limiter of rates, a bucket or a window of whatever length, gives from one refusal to the next what it gives in
that time. It is arithmetic without I/O or a clock, for `admission.adaptive`, and may import `admission.knee`.
"""

from __future__ import annotations

import math
from collections import deque

from aimlasync.admission.knee import FEW, LAST, MARGIN, MAX

# Attempts per second: three a minute, the least that a free tier gives. It bounds the delay.
MIN_RATE = 0.05
# A probe begins this share above the rate, and goes twice as far above it with each period that holds.
_STEP = 0.1
# What a refusal leaves of a rate at least: an average over a short time is noisy.
_CUT = 0.7
# Seconds: the shortest window that servers count over, and the longest. What refuses for longer is away.
SECOND = 1.0
_LONGEST = 60.0
# Seconds that a late timer may make up for; more would be a burst.
_CATCH_UP = 0.02

Count = tuple[float, int]
"""A time, and how many attempts had been accepted by then."""


class Pace:
    """The limit of attempts per second, and over how long the server counts."""

    def __init__(self) -> None:
        self.rate = math.inf
        """Attempts per second, infinite while no limit of them is known."""
        self.known = math.inf
        """The rate without a probe, and without the delay of a row of refusals."""
        self.period = SECOND
        """Seconds over which the server counts, as far as is known."""
        self.paused_until = -math.inf
        # When the next attempt may be sent, and until when the rate last held one back.
        self._next = self._held = -math.inf
        self.accepted = 0
        """Attempts sent, refused ones taken out."""
        # The counts of the last minute, one a second.
        self._counts: deque[Count] = deque([(-math.inf, 0)], maxlen=int(_LONGEST / SECOND) + 4)
        # Where counting begins: the end of the last row of refusals. The last refusal. Where the last probe began.
        self._mark = self._refused = self._began = self._counts[0]
        # The seconds after which the last refusal came.
        self._trip = 0.0
        # The row of refusals under way: when it began (never, where there is none), the first attempt since its last
        # one, whether nothing was known before it, and whether callers had asked for less than they might.
        self._row = math.inf
        self._trial: Count | None = None
        self._is_first = self._was_idle = False
        # What had been accepted when such a row last told nothing.
        self._lifted = -LAST
        # Since when there was no silence: one after longer than the longest window is no window's.
        self._steady = -math.inf
        # Whether the last probe's last second was taken for the rate, and whether that was wrong: the server gives
        # bursts.
        self._is_raised = self._gives_bursts = False
        # The share of the attempts that is refused at any rate.
        self._borne = 0.0
        # Answers since the last probe that was refused, and those from which on the rate is probed.
        self._waited, self._patience = 0, FEW

    @property
    def probing(self) -> bool:
        """Whether the rate is above what is known to hold."""
        return self.rate > self.known

    def probe(self, now: float) -> tuple[float, int, float]:
        """Return the rate, and of the probe under way the attempts accepted and the seconds; 0 where there is none."""
        since, count = self._began if self.probing else (now, self.accepted)
        return self.rate, self.accepted - count, now - since

    @property
    def has_held(self) -> bool:
        """Whether the rate was kept for a further period, and a few attempts, without a refusal."""
        return (
            not self.probing
            and self._counts[-1][0] - self._refused[0] >= self.period
            and self._counts[-1][1] - self._refused[1] >= FEW / 2
        )

    def delay(self, now: float) -> float:
        """Return the seconds until the next attempt may be sent, 0.0 if it may be sent now."""
        wait = self.until_next(now)
        if wait > 0.0:
            self._held = self._next
        return wait

    def until_next(self, now: float) -> float:
        """Do what `delay` does for somebody who does not wait."""
        return min(max(0.0, self._next - now), 1 / MIN_RATE)

    def binds(self, now: float) -> bool:
        """Whether the rate is what holds attempts back."""
        return now < self._held + 1 / self.rate

    def sent(self, now: float) -> None:
        """Note that an attempt is sent; it counts as accepted until it is refused."""
        since = now - self._counts[-1][0]
        if since >= SECOND:
            if since > 2 * _LONGEST:
                self.restart(now)
                self._steady = now
            self._counts.append((now, self.accepted))
        if self.rate < math.inf:
            if self._row < math.inf:
                if self._trial is None:
                    self._trial = now, self.accepted
                    if self._was_silent(now):
                        # Without: full windows, always told, .720 for .733 and .676 for .692.
                        self.rate = min(self.rate, self._average(now, self.accepted))
                elif now - self._trial[0] >= min(SECOND, 4 * self._trip):
                    # Its refusal would have come.
                    self._end_row(self._trial)
            self._next = min(max(self._next, now - _CATCH_UP) + 1 / self.rate, now + 1 / MIN_RATE)
        self.accepted += 1

    def answered(self, now: float, started: float) -> bool:
        """Take in the answer to an attempt sent at `started`; return whether the rate is what holds attempts back."""
        if self._row < math.inf:
            if self._trial is not None and started >= self._trial[0]:
                self._end_row(self._trial)
            return self.binds(now)
        if now >= self._held + 1 / self.rate:
            return False
        self._waited += 1
        least = self.known * self.period
        wait = max(self._patience, least)
        if self._waited <= wait:
            self._began = now, self.accepted
        else:
            # The longer the wait before it, the more is known, and the slower the probe.
            periods = (self._waited - wait) / max(self._patience / FEW, least)
            self.rate = min(MAX, self.known * (1 + _STEP * (2.0 ** min(4 * FEW, periods) - 1)))
        return True

    def withdraw(self, started: float) -> None:
        """Take out an attempt that was refused."""
        self.accepted -= 1
        if self._trial is not None and started == self._trial[0]:
            self._trial = None

    def refused_beside(self, now: float, started: float) -> None:
        """Take in another refusal of an attempt sent at `started`, before the last cut."""
        if self._row == math.inf:
            return
        if self._is_first and now - self._row < SECOND:
            # Less was accepted than was thought. With later rows as well: where chance refuses .957 for .967.
            self.known = min(self.known, self._average(now, self.accepted))
            self.rate = min(self.rate, self.known)
        if started > self._refused[0]:
            self._slow()
            self._refused, self._trip = (now, self.accepted), now - started

    def refused(
        self, now: float, started: float, since: Count | None = None, borne: float = 0.0, *, is_idle: bool = False
    ) -> None:
        """Take in a refusal of an attempt sent at `started` that speaks of the rate.

        Where the share `borne` of the attempts is refused by chance, more than that is since `since`. `is_idle` says
        that callers asked for less than they might: then what was accepted before is no rate of the server.
        """
        self._borne = borne
        if self.probing:
            # Only its refusal puts the next one off: those that come by chance, or with others' traffic, go on.
            self._waited = 0
        if since is not None:
            self._mark = since
        if self._row < math.inf:
            self._slow()
        else:
            self._row, self._is_first, self._was_idle = now, self.known == math.inf, is_idle
            least = self.rate * _CUT if since is None and not self._is_first else 0.0
            average = self._average(now, self.accepted)
            known = min(self.rate, max(least, average))
            # What was known held before the probe, unless a server without a window accepted less in all.
            held = self.period > SECOND or average >= (1 - _STEP) * self.known
            if self.probing and held:
                known = self._probe_failed(now, max(known, self.known))
            elif self._is_raised:
                self._gives_bursts, self._is_raised = True, False
            self.rate = self.known = known
        self._trial = None
        self._next = max(self._next, now + 1 / self.rate)
        self._refused, self._trip = (now, self.accepted), now - started

    def _slow(self) -> None:
        """Nothing has been accepted since the row's last refusal: send less and less, down to one a second."""
        self.rate = min(self.rate, max(1.0, self.rate / 2))

    def _probe_failed(self, now: float, cut: float) -> float:
        """Rest at the rate that held before the probe, or at what its last period took.

        A bucket takes bursts in its last second: there it is what the whole probe took, less a burst.
        """
        # Without what the last period took: buckets, told .974 for .982, sliding minutes .968 for .973.
        self._patience = min(LAST // 4, 2 * self._patience)
        is_burst = self._gives_bursts and self.period <= SECOND
        since, count = self._began if is_burst else self._a_period_before(now)
        took = self._rate(self.accepted - count - is_burst * self.known, now - since)
        self._is_raised = took > cut
        return max(cut, took)

    def restart(self, now: float) -> None:
        """Count from now on: the server was away, or nothing was sent, and that says nothing of a rate."""
        if self._row < math.inf:
            self.rate, self._row, self._trial = self.known, math.inf, None
        self._mark = self._refused = now, self.accepted
        self._counts.clear()
        self._counts.append(self._mark)

    def lift(self, now: float) -> None:
        """Know of no limit again."""
        self.restart(now)
        self.rate = self.known = math.inf
        self._next = -math.inf
        self._waited, self._patience = 0, FEW

    def _was_silent(self, at: float) -> bool:
        """Whether the row of refusals was a silence, and not just the time between two attempts."""
        # Up to the last refusal, or the end of the wait that it stated: after that nobody may have asked. Stated waits
        # are rounded up to a second.
        until = max(self._refused[0], min(at, self.paused_until) - SECOND)
        return until - self._row >= max(SECOND, 1 / self.known)

    def _a_period_before(self, now: float) -> Count:
        """Return the last count from which on a period and a few attempts have passed, or the oldest."""
        marks = (mark for mark in reversed(self._counts) if now - mark[0] >= self.period)
        return next((mark for mark in marks if self.accepted - mark[1] >= FEW), self._counts[0])

    def _rate(self, accepted: float, seconds: float) -> float:
        """Return the rate of attempts of which so many are accepted in so many seconds."""
        return accepted / max(SECOND, seconds) * (1 - MARGIN) / (1 - self._borne)

    def _average(self, now: float, accepted: int) -> float:
        for since, count in self._mark, self._a_period_before(now):
            if math.inf > now - since >= 0.9 * self.period and accepted - count >= FEW:
                break
        # Half of what a server gives at least, which is one attempt in the time over which it counts.
        least = max(MIN_RATE, 0.5 / self.period)
        return max(least, self._rate(accepted - count, now - since))

    def _end_row(self, trial: Count) -> None:
        """The attempt that was tried is accepted."""
        at, accepted = trial
        if self.paused_until > self._row:
            at = min(at, self.paused_until)
        mark, new = self._mark, self._refused
        self.rate = self.known
        is_silent = self._was_silent(at)
        is_stray = self._was_idle and not is_silent and accepted - self._lifted >= LAST // 4
        if self._is_first and (is_stray or not accepted):
            # Of what the server gives, nothing was seen. Without: each of nine calls behind a first one that is refused
            # waits for two seconds.
            self._lifted = accepted
            self.lift(at)
            return
        if is_silent:
            # A silence belongs to the time over which the server counts, unless it would have refused before: then the
            # server was away. Without: 85 s to recover from an outage told as refusals, for less than 20.
            was_away = at - self._row > self.period and self._row - self._steady > _LONGEST
            self._steady = at
            if was_away:
                self.restart(at)
                return
            self.period = min(_LONGEST, max(self.period, at - mark[0]))
            self.rate = self.known = min(self.known, self._average(at, accepted))
            new = at, accepted
        self._mark = new
        self._row, self._trial = math.inf, None
