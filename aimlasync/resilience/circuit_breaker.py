"""The circuit breaker of an endpoint, or of a model there: whether an attempt may be sent; and the average latency.

    closed ──5 failures, more than half of the last 30 s──> open ──backoff is over──> half-open: one probe
    half-open ──the probe gets an answer──> closed
    half-open ──the probe fails──> open, for twice as long
    half-open ──the probe hangs for half a minute──> half-open: another probe
    open ──backoff is over, and an attempt that was sent all the same gets an answer──> closed
    any ──retire(reason)──> retired, for good

It is arithmetic without I/O; the caller passes `now` (one monotonic clock) and the source of randomness. It imports
nothing of this library. An attempt that began before the circuit last opened is ignored: when hundreds of attempts were
in flight as a server died, and time out one after the other, they do not open the circuit again, and do not count as
its probe. Attempts are sent to an open circuit where no other endpoint can serve the call.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half-open", "retired"]

_FAILURES = 5
_SHARE = 0.5
# The last 30 seconds in buckets of 5 seconds: memory does not grow with the rate, and a failure counts for 25 to 30 s.
_BUCKETS = 6
_BUCKET_SECONDS = 5.0
_WINDOW = _BUCKETS * _BUCKET_SECONDS
_BACKOFF = 2.0
_MAX_BACKOFF = 60.0
# Seconds that a probe has the circuit for itself.
_PROBE = 30.0
# The weight of the newest answer: the last ten make nine tenths of the average.
_WEIGHT = 0.2
# What is left of the slowest answer with each further one.
_FADES = 0.98
# Seconds that an answer is waited for at least, as long as nothing was answered.
_PATIENCE = 1.0


class CircuitBreaker:
    """One circuit and average latency.

    Every attempt is reported once: as `succeeded`, `answered` (4xx and 429: the server works and refused the request),
    `failed` (5xx, no connection, a timeout), or `abandoned` (cancelled: the outcome is unknown). `seconds` is how long
    the attempt took, so it began at `now - seconds`. A stream may be reported as `answered` at its first event, so that
    a probe need not last until the last one.
    """

    __slots__ = (
        "_attempts",
        "_buckets",
        "_changed",
        "_closed_at",
        "_current",
        "_draw",
        "_opened_at",
        "_openings",
        "_slowest",
        "_turns_at",
        "_until",
        "latency",
        "reason",
        "state",
    )

    def __init__(
        self,
        *,
        draw: Callable[[], float] = random.random,
        changed: Callable[[float, State, object], None] | None = None,
        attempts: Callable[[float], int] | None = None,
    ) -> None:
        # Called with the time, the state before, and the `why` of `failed`, when the circuit has opened or closed.
        self._changed = changed
        # Returns the attempts of the last 30 seconds that were reported to other circuits and count here as well: an
        # endpoint's circuit is told of failed connections, and those of its models of everything else.
        self._attempts = attempts
        self.state: State = "closed"
        self.reason: str | None = None
        """Why the endpoint is retired; None while it is not."""
        self.latency: float | None = None
        """The moving average of the seconds that answers take; None before the first."""
        # The slowest answer, or first event of a stream, of late, in seconds.
        self._slowest = 0.0
        self._draw = draw
        # Per bucket: its number, the attempts and the failures in it. Counted while the circuit is closed.
        self._buckets = [[-1, 0, 0] for _ in range(_BUCKETS)]
        # The one of now, and when the next one begins.
        self._current, self._turns_at = self._buckets[0], float("-inf")
        # When the circuit last opened, until when it stays open, and how many times in a row it opened.
        self._opened_at = float("-inf")
        self._until = float("-inf")
        self._openings = 0
        self._closed_at = float("-inf")

    def allows(self, now: float) -> bool:
        """Whether an attempt may be sent now; the caller reports one that it sends with `probing`."""
        return self.state == "closed" or (self.state != "retired" and now >= self._until)

    def wait(self, now: float) -> float:
        """Return the seconds until an attempt may be sent, at most; infinite for a retired endpoint."""
        if self.state == "closed":
            return 0.0
        return float("inf") if self.state == "retired" else max(0.0, self._until - now)

    @property
    def patience(self) -> float:
        """The seconds that an answer is to be waited for: others took so long, and who left sooner saw no failure."""
        return max(self._slowest, self.latency or 0.0) or _PATIENCE

    def probing(self, now: float) -> None:
        """Note that an attempt begins; it is the probe if the circuit is not closed.

        Raises RuntimeError when no attempt may be sent.
        """
        if not self.allows(now):
            raise RuntimeError(f"the circuit is {self.state}: nothing may be sent now")
        if self.state != "closed":
            self.state = "half-open"
            self._until = now + _PROBE

    def succeeded(self, now: float, seconds: float, latency: float | None = None) -> None:
        """Note an answer; `latency`, if given, goes into the average instead of `seconds` (a stream's first byte)."""
        sample, average = seconds if latency is None else latency, self.latency
        self.latency = sample if average is None else average + _WEIGHT * (sample - average)
        if self.state == "closed" and now - seconds > self._opened_at:
            if now >= self._turns_at:
                self._turn(now)
            self._current[1] += 1
        else:
            self.answered(now, seconds)

    def answered(self, now: float, seconds: float) -> None:
        """Note that a working server refused a request: it closes the circuit, and the latency does not count."""
        self._slowest = max(seconds, _FADES * self._slowest)
        if now - seconds <= self._opened_at:
            return
        if self.state == "closed":
            if now >= self._turns_at:
                self._turn(now)
            self._current[1] += 1
        elif self.state == "half-open" or (self.state == "open" and now >= self._until):
            was, self.state = self.state, "closed"
            self._closed_at = now
            if self._changed is not None:
                self._changed(now, was, None)

    def failed(self, now: float, seconds: float | None = None, why: object = "") -> None:
        """Note a failure; without `seconds`, as of an attempt that began after the circuit opened."""
        if seconds is not None and now - seconds <= self._opened_at:
            return
        if self.state == "half-open":
            self._open(now, why)
        elif self.state == "closed":
            if now >= self._turns_at:
                self._turn(now)
            bucket = self._current
            bucket[1] += 1
            bucket[2] += 1
            oldest = bucket[0] - _BUCKETS
            failures = sum(count for number, _, count in self._buckets if number > oldest)
            attempts = self.attempts(now) + (0 if self._attempts is None else self._attempts(now))
            if failures >= _FAILURES and failures > _SHARE * attempts:
                if now - self._closed_at > _WINDOW:
                    self._openings = 0
                self._open(now, why)

    def abandoned(self, now: float, seconds: float) -> None:
        """Note an attempt that was cancelled; if it was the probe, another may be sent at once."""
        if self.state == "half-open" and now - seconds > self._opened_at:
            self.state = "open"
            self._until = now

    def attempts(self, now: float) -> int:
        """Return how many attempts were reported in the last 30 seconds while the circuit was closed."""
        oldest = int(now / _BUCKET_SECONDS) - _BUCKETS
        return sum(count for number, count, _ in self._buckets if number > oldest)

    def retire(self, reason: str) -> None:
        """Take the endpoint out of the rotation for good; the first reason is kept."""
        if self.reason is None:
            self.state = "retired"
            self.reason = reason

    def _open(self, now: float, why: object) -> None:
        bound = min(_BACKOFF * 2.0 ** min(self._openings, 64), _MAX_BACKOFF)
        was, self.state = self.state, "open"
        self._openings += 1
        self._opened_at = now
        # A random wait from half of the bound to all of it, so that many clients do not probe together.
        self._until = now + bound * (1 + self._draw()) / 2
        self._buckets = [[-1, 0, 0] for _ in range(_BUCKETS)]
        self._turns_at = float("-inf")
        if self._changed is not None:
            self._changed(now, was, why)

    def _turn(self, now: float) -> None:
        """Go to the bucket of now."""
        number = int(now / _BUCKET_SECONDS)
        self._current, self._turns_at = self._buckets[number % _BUCKETS], (number + 1) * _BUCKET_SECONDS
        if self._current[0] != number:
            self._current[:] = number, 0, 0

    def __repr__(self) -> str:
        latency = "" if self.latency is None else f", {self.latency:.3f} s"
        return f"<CircuitBreaker {self.state}{f': {self.reason}' if self.reason else ''}{latency}>"
