"""One model at one endpoint: what is learned of it alone, and the permits for its attempts.

A lane holds the model's adaptive limit (`law`), its queue and pause (`Limiter`), its circuit breaker and its counters.
Every attempt is a `Permit`, made of what its lane admitted and released once, with an outcome; the lane learns from the
release. What the models of an endpoint share is in `upstream`. It has no I/O. It may import `admission`, `resilience`
and `statistics`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from aimlasync.admission.adaptive import AdaptiveLimit
from aimlasync.admission.endpoint_limiter import Admission, EndpointLimiter
from aimlasync.admission.learned import Finding, Watch
from aimlasync.admission.limiter import Limiter
from aimlasync.admission.outcome import CANCELLED, IGNORED, OK, Outcome, Refused
from aimlasync.admission.recall import Recall
from aimlasync.config import Priority
from aimlasync.endpoints.learned_limits import Told
from aimlasync.endpoints.standstill import Standstill
from aimlasync.endpoints.statistics import Counters, ModelStatistics
from aimlasync.logs import log_of
from aimlasync.resilience.circuit_breaker import CircuitBreaker, State

if TYPE_CHECKING:
    from aimlasync.admission.stated_waits import StatedWaits
    from aimlasync.admission.used_up import UsedUp
    from aimlasync.endpoints.upstream import Upstream

_log = log_of("aimlasync.limits")

# The weight of a new sample in the average time that a permit is held.
_WEIGHT = 0.1
# The pauses, in seconds, that repeated refusals open when the server states no wait: the first, and the longest.
_FIRST_PAUSE = 0.25
_MAX_OWN_PAUSE = 4.0
# From this length on, in seconds, a window that was measured is a minute's.
_MINUTE = 55.0


class Lane:
    """One model at one endpoint; calls that name no model share one lane."""

    __slots__ = (
        "_refusals",
        "_refused_at",
        "circuit",
        "counted",
        "counters",
        "held_for",
        "law",
        "law_since",
        "limiter",
        "model",
        "paused_because",
        "recall",
        "standstill",
        "stated_waits",
        "upstream",
        "used_at",
        "used_up",
        "watch",
    )

    def __init__(self, upstream: Upstream, model: str, law: AdaptiveLimit, limiter: Limiter) -> None:
        self.upstream = upstream
        self.model = model
        # What is learned, and the limiter whose attempts in flight it counts and limits: this lane's, or, where the
        # limits are the account's, those of the endpoint.
        self.law = law
        self.limiter = limiter
        self.counted: Limiter | EndpointLimiter = limiter
        # What was sent before this time was counted by another law, and its refusal teaches this one nothing.
        self.law_since = float("-inf")
        self.watch = Watch()
        self.recall = Recall()
        self.standstill = Standstill(self)
        self.stated_waits: StatedWaits | None = None
        self.used_up: UsedUp | None = None
        self.circuit = CircuitBreaker(changed=self._circuit_changed)
        self.counters = Counters()
        # The average seconds that an answered attempt holds its permit: for a stream, until its last byte.
        self.held_for = 0.0
        self.paused_because = ""
        """Why the model last paused."""
        # When its last attempt was sent.
        self.used_at = float("-inf")
        # Refusals in a row, that is, since the last answer; and when the last of them came.
        self._refusals = 0
        self._refused_at = float("-inf")

    @property
    def name(self) -> str:
        """Say what it is, for a reader."""
        endpoint = self.upstream.endpoint.name
        return f"{self.model} at {endpoint}" if self.model and len(self.upstream.lanes) > 1 else endpoint

    @property
    def paused_until(self) -> float:
        """When the pause of the model and that of the endpoint are over (loop time)."""
        mine, of_all = self.limiter.paused_until, self.upstream.limiter.paused_until
        return mine if mine > of_all else of_all

    @property
    def why_paused(self) -> str:
        """Say why the longer of the two pauses began."""
        upstream = self.upstream
        is_longer = self.limiter.paused_until > upstream.limiter.paused_until
        return self.paused_because if is_longer else upstream.paused_because

    def is_idle(self, now: float) -> bool:
        """Whether nothing is in flight, nothing waits, and no pause of the model must be remembered."""
        limiter = self.limiter
        return not limiter.in_flight and not limiter.queue.waiting and limiter.paused_until <= now

    def expected_wait(self, priority: Priority, tenant: str | None) -> float:
        """Return the seconds that a call that joins the queue now will probably wait."""
        ahead = self.limiter.queue.ahead(priority, tenant)
        if not ahead:
            return 0.0
        upstream = self.upstream
        # The models that wait for the rate limits take turns.
        turns = min(upstream.limiter.waiting, ahead * max(1, len(upstream.limiter.ready)))
        places = max(1, min(self.limiter.limit, upstream.limiter.limit))
        return max((ahead + 1) * self.held_for / places, (turns + 1) * upstream.seconds_each)

    def take_back(
        self,
        permit: Permit,
        outcome: Outcome,
        tokens: float | None,
        now: float | None,
        kind: Refused | None = None,
        names_account: bool = False,
    ) -> None:
        """Learn from a permit that is held, and free its place; see `Permit.release`."""
        permit.is_held = False
        law, counters, upstream = self.law, self.counters, self.upstream
        hung, beside = law.hung, permit.beside
        if hung.count:
            beside = max(0, beside - hung.count)
            hung.ended(permit.sent_at, is_answered=outcome is OK)
            self.counted.resize(law.allowed)
        if outcome is OK:
            if now is None:
                now = permit.loop.time()
            counters.answered += 1
            self._refusals = 0
            held, average = now - permit.sent_at, self.held_for
            self.held_for = average + _WEIGHT * (held - average) if average else held
            if not law.is_fixed:
                law.answered(now, self.counted.in_flight - hung.count, permit.sent_at, beside)
                if self.recall.is_fallen and permit.sent_at >= self.law_since:
                    self._recall(now)
            if self.stated_waits is not None and self.stated_waits.is_tested:
                self.stated_waits.answered(permit.sent_at)
            if (signs := upstream.account.signs).refused_models or signs.is_account:
                upstream.account.answered(self, permit.sent_at, now)
            if upstream.counts_requested:
                # The server counts the tokens that were requested, whatever was used of them.
                tokens = None
            if not self.law.is_fixed and self.law.allowed != self.counted.limit:
                self._allow(now)
        elif outcome is IGNORED:
            counters.failed += 1
        elif outcome is CANCELLED:
            counters.cancelled += 1
        else:
            if now is None:
                now = permit.loop.time()
            self._failed(permit, outcome, now, beside, kind, names_account)
            if not self.law.is_fixed and self.law.allowed != self.counted.limit:
                self._allow(now)
        self.limiter.leave(permit.admission, tokens)
        # Where calls wait here, the place is one of theirs.
        if upstream.attempt_ended is not None and not self.limiter.queue.waiting:
            upstream.attempt_ended()

    def _allow(self, now: float) -> None:
        """Change the limit to what the law allows: before a place is freed, so that it holds for the next waiter."""
        # Whose limits they are may have changed just now.
        self.counted.resize(self.law.allowed)
        self.look(now)

    def _failed(
        self, permit: Permit, outcome: Outcome, now: float, beside: int, kind: Refused | None, names_account: bool
    ) -> None:
        """Count an attempt that the server refused or kept too long, and learn from it."""
        law, counters, upstream = self.law, self.counters, self.upstream
        if outcome is Outcome.LATE:
            counters.failed += 1
            if now - permit.sent_at > self.held_for and permit.sent_at >= self.law_since:
                # It had the time that others needed: its caller's bound was not just about to pass.
                law.timed_out(now, permit.sent_at, beside)
        elif outcome is Outcome.OUTAGE:
            counters.refused += 1
            if permit.sent_at >= self._refused_at and kind in (None, "rate", "tokens"):
                self._refused_again(now)
        else:
            counters.refused += 1
            if self.used_up is not None:
                self.used_up.refused()
            if permit.sent_at >= self.law_since:
                self.watch.waited(now, self.paused_until)
                self.watch.tokens_each = self.upstream.account.tokens_each(self) if kind == "tokens" else 0.0
                # What was kept until now.
                self.look(now)
                self.recall.refused(
                    now,
                    law.learned,
                    is_sure=law.verdict == "concurrency",
                    answered=upstream.account.answers(self),
                    seconds=self.held_for,
                    beside=beside,
                )
                before = law.by_chance
                if law.refused(now, permit.sent_at, beside, kind) and kind in (None, "rate", "tokens"):
                    self._refused_again(now)
                if law.by_chance > before:
                    said = "%s refuses about %.0f %% of all attempts, however few are sent; they are sent again"
                    _log.info(said, self.name, 100 * law.by_chance)
                self.look(now, refused_beside=beside)
            upstream.account.refused(self, permit.sent_at, now, kind, names_account=names_account)

    def look(self, now: float, *, refused_beside: int | None = None) -> Finding | None:
        """Note the limit in force, tell once what has held, and return that.

        `refused_beside` is how many other attempts were in flight beside one that was refused just now.
        """
        law, counted = self.law, self.counted
        if law.is_fixed or (refused_beside is not None and law.by_chance):
            return None
        limit, verdict, known = int(law.limit), law.verdict, law.learned
        if verdict is None and refused_beside is not None and refused_beside + 2 <= limit:
            # Below the limit it is probably the rate.
            verdict = "rate"
        if refused_beside is not None and verdict == "rate":
            found = self.watch.refused(now, self.upstream.account.answers(self), law.refusals, known.rate)
        elif verdict is None and known.knee is not None:
            found = self.watch.queues(now, known.knee) if known.knee_is_sure else None
        elif verdict == "rate" and known.rate is not None and known.rate_has_held and known.period > _MINUTE:
            found = self.watch.holds(known.rate, law.refusals) if self.limiter.waiting else None
        else:
            is_full = refused_beside is not None or counted.in_flight + 1 >= counted.limit
            # Without a verdict, long answers let it grow slowly, or what was refused may be a rate.
            is_tested = is_full and verdict == "concurrency"
            found = self.watch.see(now, limit, refusals=law.refusals, is_full=is_tested)
        if found is not None:
            _log.info("%s", self.told(found).words())
        return self.watch.learned

    def told(self, learned: Finding) -> Told:
        """Say whose it is; to state the limit of one of several models would limit all of them together."""
        upstream = self.upstream
        if self.counted is upstream.limiter:
            return Told(upstream.endpoint.name, True, learned)
        return Told(self.name, len(upstream.lanes) == 1, learned)

    def _recall(self, now: float) -> None:
        """Start again with what was known before a bad time, if that is over."""
        start = self.recall.answered(now, self.law)
        if start is not None and self.counted.waiting:
            self.upstream.account.start(self, start, now)

    def pause(self, seconds: float, now: float, why: str, *, at_most: float = 0.0) -> None:
        """Pause this model; see `Upstream.pause`."""
        self.upstream.pause(seconds, now, why, at_most=at_most, lane=self)

    def told_to_wait(
        self, permit: Permit, seconds: float, now: float, why: str, *, at_most: float, is_models: bool
    ) -> None:
        """Pause this model, or the endpoint, for what all calls are to keep of the wait that a refusal states."""
        if self.stated_waits is None:
            # Loaded with the first such refusal.
            from aimlasync.admission.stated_waits import StatedWaits

            self.stated_waits = StatedWaits()
        kept = self.stated_waits.kept(now, permit.sent_at, permit.beside, seconds)
        if kept < seconds:
            why += ", which is tested: it may take others meanwhile"
        if kept > 0:
            lane = self if is_models else None
            self.upstream.pause(kept, now, why, at_most=at_most, lane=lane, is_stated=kept == seconds)

    def _refused_again(self, now: float) -> None:
        """Note a refusal that led to a cut: from the second one without an answer between them, each opens a pause."""
        self._refusals += 1
        self._refused_at = now
        if self._refusals > 1:
            seconds = min(_FIRST_PAUSE * 2.0 ** min(self._refusals - 2, 64), _MAX_OWN_PAUSE)
            why = f"it refused {self._refusals} times in a row"
            lane = None if self.upstream.account.signs.is_account else self
            self.upstream.pause(seconds, now, why, lane=lane, is_stated=False)

    # Health

    def allows(self, now: float) -> bool:
        """Whether the circuits of the endpoint and of this model let an attempt be sent now."""
        return self.circuit.allows(now) and self.upstream.circuit.allows(now)

    def wait(self, now: float) -> float:
        """Return the seconds until both circuits let an attempt be sent; see `CircuitBreaker.wait`."""
        return max(self.circuit.wait(now), self.upstream.circuit.wait(now))

    @property
    def is_well(self) -> bool:
        """Whether both circuits are closed."""
        return self.circuit.state == "closed" and self.upstream.circuit.state == "closed"

    @property
    def is_probed(self) -> bool:
        """Whether one attempt is finding out if the endpoint or the model answers again."""
        return self.circuit.state == "half-open" or self.upstream.circuit.state == "half-open"

    def probing(self, now: float) -> None:
        """Note that an attempt begins; it is the probe of each circuit that is open."""
        for circuit in (self.circuit, self.upstream.circuit):
            if circuit.state != "closed":
                circuit.probing(now)

    def answered(self, now: float, seconds: float) -> None:
        """Tell the circuits that a working server refused a request, or that a stream has begun."""
        self.circuit.answered(now, seconds)
        if self.upstream.circuit.state != "closed":
            self.upstream.circuit.answered(now, seconds)

    @property
    def is_out(self) -> bool:
        """Whether a circuit is open: what fails then is an outage, and no sign of a limit."""
        return not self.is_well

    def failed(self, now: float, seconds: float, why: object) -> None:
        """Tell the circuits that the model failed."""
        self.circuit.failed(now, seconds, why)
        if self.upstream.circuit.state != "closed":
            self.upstream.circuit.answered(now, seconds)

    def unreachable(self, now: float, seconds: float, why: object) -> None:
        """Tell the circuits that there was no connection, or that it broke."""
        self.circuit.abandoned(now, seconds)
        self.upstream.circuit.failed(now, seconds, why)

    def abandoned(self, now: float, seconds: float) -> None:
        """Tell the circuits of an attempt without an outcome."""
        self.circuit.abandoned(now, seconds)
        self.upstream.circuit.abandoned(now, seconds)

    def _circuit_changed(self, now: float, was: State, why: object) -> None:
        self.upstream.say_circuit(self.circuit, self.name, now, was, why)

    def statistics(self, now: float) -> ModelStatistics:
        """Return this model's figures; `now` is the loop's time."""
        limiter, upstream, counters = self.limiter, self.upstream, self.counters
        rate = None if self.law.is_fixed else self.law.rate
        learned = self.look(now)
        return ModelStatistics(
            model=self.model,
            rate=rate,
            learned=None if learned is None else self.told(learned).words(),
            in_flight=limiter.in_flight,
            queued=limiter.waiting,
            limit=min(limiter.limit, upstream.limiter.limit),
            limited_by=limiter.held_by(now),
            paused_for=max(0.0, self.paused_until - now),
            state="ok" if self.circuit.state == "closed" else self.circuit.state,
            **counters.all(),
        )


class Permit(msgspec.Struct, eq=False):
    """The right to have one attempt in flight; it is released once, and later releases do nothing."""

    lane: Lane
    loop: asyncio.AbstractEventLoop
    sent_at: float
    beside: int
    """How many other attempts were in flight when this one was sent."""
    admission: Admission
    is_held: bool = True

    def release(
        self,
        outcome: Outcome,
        tokens: float | None = None,
        *,
        now: float | None = None,
        kind: Refused | None = None,
        names_account: bool = False,
    ) -> None:
        """Release it with the outcome of the attempt; later calls do nothing.

        `tokens` is how many the attempt took, None when that is not known. `kind` is the limit that a refusal named,
        and `names_account` says that it named the account. `now` is the loop's time, where the caller has it.
        """
        if self.is_held:
            self.lane.take_back(self, outcome, tokens, now, kind, names_account)
