"""One call and its attempts: what is sent and until when, and what each attempt does to its upstream when it ends.

`Attempt.succeed`, `fail` and `abandon` release the attempt with an outcome; they book tokens and cost, settle the
reservation and the retry budget, tell the circuit breaker, and pause the upstream for a stated wait (Retry-After). It
has no I/O. It may import what lies below `client`, `drain`, `observer` and `target`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from aimlasync.admission.endpoint_limiter import Admission
from aimlasync.admission.outcome import CANCELLED, IGNORED, OK, SPENT, Outcome
from aimlasync.client.drain import Waits
from aimlasync.client.failure_signs import NO_ACCESS, health_of, is_free, signal_of, stated_wait
from aimlasync.client.observer import Watch
from aimlasync.client.target import AnswerModes, Target
from aimlasync.config import Priority, Timeout
from aimlasync.cost.budget import Budget, Reservation, output_cap
from aimlasync.cost.plain_text import is_plain_text
from aimlasync.cost.tokens import plainly_taken, stated_usd, tokens_of
from aimlasync.deadlines import Bounded
from aimlasync.endpoints.lane import Lane, Permit
from aimlasync.endpoints.providers import model_of
from aimlasync.endpoints.upstream import Upstream
from aimlasync.errors import AimlasyncError, APIStatusError, APITimeoutError
from aimlasync.headers import Headers
from aimlasync.info import Info
from aimlasync.plain_stores import plainly_stored
from aimlasync.resilience.hedging import Hedging
from aimlasync.resilience.retry import Retry
from aimlasync.resilience.retry_budget import PaidRetry
from aimlasync.transport.base import RawReply, StaleConnectionError
from aimlasync.wire.base import Meta
from aimlasync.wire.json_text import plain
from aimlasync.wire.redaction import Secrets

if TYPE_CHECKING:
    from aimlasync.chat.types import Usage
    from aimlasync.cost.media import Media
    from aimlasync.responses.types import ResponseUsage

MAY_HOLD_MEDIA = 16_384
"""Bytes of a body: in a smaller one, no image or file by value is large enough to spoil an estimate of its tokens."""

# What the bytes say that are sent: its objects would take memory, and the collector would look at each.
_AS_SENT: Mapping[str, Any] = {}


class Settings(msgspec.Struct, frozen=True):
    """What each copy of a client has of its own (`with_options`)."""

    retry: Retry
    timeout: Timeout
    headers: Headers
    waits: Waits
    query: Mapping[str, Any] = {}


@plainly_stored
class Call(Bounded, eq=False):
    """One logical use of the API, whatever attempts it takes."""

    method: str
    targets: tuple[Target, ...]
    headers: dict[str, str]
    info: Info
    timeout: Timeout
    retry: Retry
    started: float
    asked: Mapping[str, Any] | None = None
    """What was asked for, before it was encoded, until `let_go`."""
    streams: bool = False
    budget: Budget | None = None
    hedging: Hedging | None = None
    waits: Waits = msgspec.field(default_factory=Waits)
    """It is among them while it waits to be sent."""
    priority: Priority = "interactive"
    tenant: str | None = None
    affinity: str | None = None
    reservation: Reservation | None = None
    """Set aside for the next attempt."""
    lost_usd: float = 0.0
    """US dollars that were stated for attempts that failed, before the one under way."""
    watch: Watch | None = None
    """Told how the call goes, where somebody wants to know."""
    tried: frozenset[Upstream] = frozenset()
    """Endpoints that failed this call; others go first."""
    paid: PaidRetry | None = None
    """The retry under way, of the endpoint whose failure it follows."""
    waits_for: str | None = None
    """What it waits for before its next attempt, said for a reader."""
    weighed: Media | None = None
    """What `media` found."""
    only_refused: bool = False
    """Whether it may be sent again only where the server did not take it: 429, 503, and no connection."""
    replaced: bool = False
    """Whether a kept connection died at once under an attempt, which was then made again over a fresh one."""
    modes: AnswerModes | None = None
    """The ways in which it asks for a structured answer."""

    @property
    def body(self) -> Mapping[str, Any] | None:
        """What was asked for, or what the first target is sent for it; None for a call that asks no model."""
        if self.asked is _AS_SENT:
            self.asked = plain(self.targets[0].body or b"{}")
        return self.asked

    def let_go(self) -> None:
        """Keep `body` as bytes alone, for it is hardly read any more; what is large would stop the loop when it is."""
        if self.asked is not None and len(self.targets[0].body or b"") <= MAY_HOLD_MEDIA:
            self.asked = _AS_SENT

    @property
    def kind(self) -> tuple[str, bool]:
        """What calls have in common whose durations may be compared."""
        return self.info.model, self.streams

    @property
    def bound(self) -> float | None:
        """Seconds that the whole of it may take, None without a bound."""
        timeout = self.timeout
        return timeout.total if timeout.answer is None or self.streams else timeout.answer

    @property
    def deadline(self) -> float | None:
        """When the whole of it must be over, None for never."""
        timeout = self.timeout
        bound = timeout.total if timeout.answer is None or self.streams else timeout.answer
        return None if bound is None else self.started + bound

    @property
    def media(self) -> Media:
        """The images and files of the request; it is walked through once."""
        if self.weighed is None:
            from aimlasync.cost.media import media_in

            self.weighed = media_in(self.body or {})
        return self.weighed

    @property
    def goes_first(self) -> bool:
        """Whether it goes before calls that have waited less: once, and no row of a job, which is in no hurry."""
        # More than once, a minute without room would fail the same few.
        return self.info.attempts == 1 and self.priority == "interactive"

    def reserve(self) -> Reservation | None:
        """Set aside the most that one attempt may cost. Raises BudgetExceededError when that is more than is left."""
        budget, model, body = self.budget, self.info.model, self.body or {}
        if budget is None:
            return None
        # A byte of text is at most a token, and mostly a quarter of one: what is asked for is a bound, not a guess.
        size = len(self.targets[0].body or b"")
        if not is_plain_text(body):
            size = self.media.input_bound(size)
        if (cap := output_cap(body)) is None:
            # There is none that could leave the reasoning out.
            return budget.reserve(model, size)
        known = model_of(model)
        return budget.reserve(model, size, cap, reasons_outside=known is not None and known.reasons_outside)

    def attempt(
        self, target: Target, lane: Lane, loop: asyncio.AbstractEventLoop, at: float, beside: int, admission: Admission
    ) -> Attempt:
        """Return the next attempt, which takes with it what was set aside for it; the rest is that of a `Permit`."""
        info, reservation = self.info, self.reservation
        if not self.streams:
            self.let_go()
        info.attempts += 1
        if info.cost_usd is not None:
            # Of an attempt that failed.
            self.lost_usd += info.cost_usd
            info.cost_usd = info.credits = None
        if self.modes is not None:
            info.structured = target.mode
        if reservation is not None:
            self.reservation = None
        lane.counters.attempts += 1
        lane.used_at = at
        return Attempt(lane, loop, at, beside, admission, call=self, target=target, info=info, reservation=reservation)

    def too_late(self, before: str) -> APITimeoutError:
        """Return the error of a deadline that has passed; `before` says how the last attempt failed."""
        waited = f", waiting for {self.waits_for}" if self.waits_for is not None else ""
        said = f"the call took longer than {self.bound} s{waited}{before}"
        return APITimeoutError(said, phase="total", info=self.info)

    def retry_ended(self, succeeded: bool | None) -> None:
        """Tell the budget that paid for it how a retry ended; None is for one without an outcome."""
        if (paid := self.paid) is not None:
            self.paid = None
            paid.ended(succeeded)

    def give_up(self, error: BaseException | None) -> None:
        """The call failed, or (None) was left: there will be no other attempt."""
        if self.watch is not None:
            self.watch.failed(error)
        self.release()

    def release(self) -> None:
        """Free what was set aside for another attempt; there will be none."""
        if self.reservation is not None and self.budget is not None:
            self.budget.release(self.reservation)


# A struct less of each call for the collector to look at than with a permit of its own.
@plainly_stored
class Attempt(Permit, eq=False, kw_only=True):
    """One HTTP try, from its admission to its end, which comes once: `succeed`, `fail` or `abandon`."""

    call: Call
    target: Target
    info: Info
    """The call's, but for a hedge, whose facts must not be mixed with those of the attempt beside it."""
    reservation: Reservation | None = None
    """What it may cost, until it has ended."""
    reply: RawReply | None = None
    """None until the headers are in."""

    def hedge(
        self, target: Target, lane: Lane, now: float, admission: Admission, reservation: Reservation | None
    ) -> Attempt:
        """Return a second attempt of the same call, with facts of its own."""
        self.info.attempts += 1
        timing = msgspec.structs.replace(self.info.timing)
        info = msgspec.structs.replace(self.info, timing=timing, structured=target.mode)
        beside = lane.counted.in_flight - 1
        lane.counters.attempts += 1
        lane.used_at = now
        return Attempt(
            lane, self.loop, now, beside, admission, call=self.call, target=target, info=info, reservation=reservation
        )

    @property
    def response(self) -> RawReply:
        """The response, once its headers are in."""
        assert self.reply is not None
        return self.reply

    @property
    def billed(self) -> bool | None:
        """Whether a failure here is charged: False where the vendor states that it is not, None where nobody says."""
        return False if self.target.upstream.endpoint.provider.failures_are_free else None

    @property
    def secrets(self) -> Secrets:
        """The keys that it was sent with: servers are known to echo them."""
        return self.target.upstream.secrets.with_headers(self.call.headers)

    def charge(self, meta: Meta | None) -> None:
        """Note the cost that a body or a stream states, if it does."""
        if meta is not None and meta.usage is not None:
            stated, rate = meta.usage, self.target.upstream.endpoint.provider.credits_per_usd
            credits = stated.tokens_used if stated.credits_used is None else stated.credits_used
            self.info.saw_cost(stated.usd_spent, credits, credits_per_usd=rate)

    def began(self) -> None:
        """The first event of a stream is here: the endpoint is well, however long the stream goes on."""
        call, now = self.call, self.loop.time()
        self.lane.answered(now, now - self.sent_at)
        # Others may wait for its end, and a reader may take an hour.
        call.retry_ended(True)
        if call.hedging is not None:
            call.hedging.took(call.kind, now - self.sent_at)

    def succeed(self, usage: Usage | ResponseUsage | None, cost: Any = None) -> None:
        """The last byte is in: learn, settle, give the permit back. The answer states `cost` beside its usage."""
        if not self.is_held:
            return
        call, info, lane, reservation = self.call, self.info, self.lane, self.reservation
        upstream, counters, timing = lane.upstream, lane.counters, info.timing
        now = self.loop.time()
        seconds = now - self.sent_at
        timing.total = now - call.started
        plain = None if reservation is None else plainly_taken(usage)
        tokens = tokens_of(usage) if plain is None else plain[0]
        usd = info.cost_usd
        if (
            usd is None
            and (stated := stated_usd(usage, cost)) is not None
            and upstream.endpoint.provider.usage_states_charge
        ):
            info.cost_usd = usd = stated
        if usd is not None:
            counters.cost_usd = (counters.cost_usd or 0.0) + usd
        taken = None
        if tokens is not None:
            info.tokens = tokens
            prompt, answer = tokens
            taken = prompt + answer
            counters.prompt_tokens += prompt
            counters.completion_tokens += answer
            if upstream.limiter.counts_tokens:
                # Only such a limiter uses estimates. A prompt with media says nothing about text.
                size = len(self.target.body or b"")
                learned = 0 if size > MAY_HOLD_MEDIA and call.media else size
                upstream.estimator.learn(info.model, learned, prompt, answer)
        if call.paid is None:
            upstream.retry_budget.succeeded()
        else:
            call.retry_ended(True)
        lane.circuit.succeeded(now, seconds, timing.first_byte)
        if upstream.circuit.state != "closed":
            upstream.circuit.answered(now, seconds)
        if call.hedging is not None and not call.streams:
            call.hedging.took(call.kind, seconds)
        if reservation is not None and call.budget is not None:
            call.budget.settle(reservation, usd, usage, plain)
        if call.lost_usd and usd is not None:
            info.cost_usd = usd + call.lost_usd
        lane.take_back(self, OK, taken, now)

    def fail(self, error: AimlasyncError) -> None:
        """There is no answer, or only a part of one: learn from it, drop the connection, give the permit back."""
        error.info = self.info
        self.secrets.redact(error)
        if self.reply is not None:
            # Harmless where the body was read to its end.
            self.reply.abort()
        if not self.is_held:
            return
        call, upstream = self.call, self.target.upstream
        now = self.loop.time()
        if self.reservation is not None and call.budget is not None:
            if call.reservation is None and is_free(error):
                # It pays for the next attempt.
                call.reservation = self.reservation
            elif is_free(error):
                call.budget.release(self.reservation)
            else:
                call.budget.settle(self.reservation, self.info.cost_usd)
        call.retry_ended(False)
        seconds, lane = now - self.sent_at, self.lane
        if self.info.cost_usd is not None:
            lane.counters.cost_usd = (lane.counters.cost_usd or 0.0) + self.info.cost_usd
        if isinstance(error, StaleConnectionError):
            # It says nothing of the server, but that it closes what is idle.
            lane.abandoned(now, seconds)
            self.release(IGNORED, now=now)
            return
        call.tried |= {upstream}
        # As it was before this failure.
        is_out = lane.is_out
        signal = signal_of(error, call.info.model)
        if (stated := stated_wait(error, signal)) is not None and not lane.law.by_chance:
            wait, why = stated
            is_models = signal.scope == "model" or upstream.account.signs.is_passed_over(lane.model)
            lane.told_to_wait(self, wait, now, why, at_most=call.retry.max_retry_after, is_models=is_models)
        health = health_of(error, seconds, lane.circuit.patience)
        if health == "failed":
            lane.failed(now, seconds, error)
        elif health == "unreachable":
            lane.unreachable(now, seconds, error)
        elif health == "unknown":
            lane.abandoned(now, seconds)
        else:
            lane.answered(now, seconds)
        refused = False
        if isinstance(error, APIStatusError):
            refused = error.status == 429
            if len(call.targets) > 1 and (isinstance(error, NO_ACCESS) or signal is SPENT):
                upstream.retire(error.message)
        outcome = signal.outcome
        if is_out and outcome is Outcome.DROPPED and not refused:
            outcome = Outcome.OUTAGE
        tokens, names_account = 0.0 if refused else None, signal.scope == "account"
        self.release(outcome, tokens, now=now, kind=signal.kind, names_account=names_account)

    def abandon(self) -> None:
        """The caller left: drop the connection; it says nothing about the server."""
        if self.reply is not None:
            self.reply.abort()
        if not self.is_held:
            return
        # The error of a deadline shows it, and a response's headers may echo a key.
        self.secrets.without(self.info)
        call = self.call
        call.retry_ended(None)
        if self.reservation is not None and call.budget is not None:
            # It may have been answered.
            call.budget.settle(self.reservation)
        now = self.loop.time()
        self.lane.abandoned(now, now - self.sent_at)
        self.release(Outcome.LATE if self._is_late(now) else CANCELLED, now=now)

    def _is_late(self, now: float) -> bool:
        """Whether a bound of ours ended it, which is the endpoint's failure and no caller's wish."""
        call, most = self.call, self.call.timeout.attempt
        # Loops round their time to milliseconds: a timer may seem to come that much early.
        now += 0.002
        is_over = call.deadline is not None and now >= call.deadline
        return is_over or (most is not None and not call.streams and now - self.sent_at >= most)
