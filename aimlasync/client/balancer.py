"""The load balancer: chooses the upstream for the next attempt of a call, and waits there until it is admitted.

The choice goes by health, pauses, free capacity and latency, all of which the upstreams keep; calls with the same
affinity go to the same endpoint as long as it is among the best. It may import `call` and what lies below `client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

from aimlasync.admission.endpoint_limiter import Admission
from aimlasync.admission.limiter import SentAway
from aimlasync.client.call import MAY_HOLD_MEDIA, Attempt, Call
from aimlasync.client.changing_queues import ChangingQueues
from aimlasync.client.target import Target
from aimlasync.client.wait_reasons import note_wait, why_it_waits
from aimlasync.config import Limits, check_at_least
from aimlasync.cost.budget import output_cap
from aimlasync.endpoints.endpoint import Endpoint
from aimlasync.endpoints.lane import Lane
from aimlasync.endpoints.learned_limits import LearnedLimits, Starts
from aimlasync.endpoints.providers import VENDORS, Api, Provider, refusal
from aimlasync.endpoints.upstream import STRETCH, Upstream
from aimlasync.errors import APIConnectionError, OverloadedError, UnsupportedRequestError
from aimlasync.info import Info, Step
from aimlasync.logs import log_of
from aimlasync.wire.redaction import Secrets
from aimlasync.wire.request_body import encode_request

# An endpoint whose answers have not been timed yet is taken for this fast, in seconds: worth a try.
_UNTRIED = 0.5

_log = log_of("aimlasync.retry")


class Balancer:
    """The upstreams of a client."""

    __slots__ = ("changing_queues", "max_queue", "max_queue_per_tenant", "max_wait", "upstreams")

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        limits: Limits,
        *,
        max_queue: int | None = None,
        max_queue_per_tenant: int | None = None,
        max_wait: float | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        if not endpoints:
            raise ValueError("endpoints= must name at least one endpoint")
        check_at_least(0, max_queue=max_queue, max_queue_per_tenant=max_queue_per_tenant, max_wait=max_wait)
        self.upstreams = [Upstream(endpoint, limits, secrets, is_alone=len(endpoints) == 1) for endpoint in endpoints]
        self.changing_queues = ChangingQueues(self.upstreams, self._choose) if len(endpoints) > 1 else None
        self.max_queue = max_queue
        self.max_queue_per_tenant = max_queue_per_tenant
        self.max_wait = max_wait

    async def close(self) -> None:
        """Give back what was leased of a shared quota."""
        for upstream in self.upstreams:
            await upstream.limiter.close()

    @property
    def is_shared(self) -> bool:
        """Whether another process shares a rate limit."""
        return any(upstream.limiter.leases is not None for upstream in self.upstreams)

    def begin_again(self) -> None:
        """Let go of what waited or was in flight in an event loop that is closed."""
        for upstream in self.upstreams:
            upstream.begin_again()
        if self.changing_queues is not None:
            self.changing_queues.forget()

    def start_from(self, known: Starts, share: float) -> None:
        """Let models start with a share of what is known of them, by the endpoint's address and the model."""
        upstreams = self._by_address()
        for (endpoint, model), learned in known.items():
            if endpoint in upstreams:
                upstreams[endpoint].starts.setdefault(model, learned.times(share))

    def _by_address(self) -> dict[str, Upstream]:
        from aimlasync.endpoints.learned_file import addresses

        return dict(zip(addresses(each.endpoint.base_url for each in self.upstreams), self.upstreams, strict=True))

    def queued(self) -> int:
        """Calls that wait for an upstream."""
        waiting = 0
        for upstream in self.upstreams:
            waiting += upstream.limiter.waiting
        return waiting

    def learned(self, now: float) -> LearnedLimits:
        """Return what was learned here and has held."""
        limits = LearnedLimits()
        for place, upstream in self._by_address().items():
            limits.starts |= {(place, model): each for model, each in upstream.learned().items()}
            lanes = upstream.lanes.values()
            limits.told += [lane.told(found) for lane in lanes if (found := lane.look(now)) is not None]
        return limits

    def shortest_queues(self, now: float) -> int:
        """Return how many calls wait at the model in use that has fewest, at all endpoints together."""
        return sum(upstream.shortest_queue(now) for upstream in self.upstreams)

    def targets(
        self, api: Api, body: Mapping[str, Any], info: Info, validate: bool, written: bytes | None = None
    ) -> tuple[Target, ...]:
        """Return who can serve `body`, each with the bytes it takes, encoded once, or `written` where that says it.

        Raises UnsupportedRequestError when the table says that nobody can.
        """
        if len(self.upstreams) == 1:
            upstream = self.upstreams[0]
            provider = upstream.endpoint.provider
            if validate and not provider.knows_aliases and _written_for(body) not in (None, provider):
                # Another vendor's name for a model, as in code that was written for that one.
                return self._translated(api, body, info, validate, written)
            # A server whose models no table names is never second-guessed.
            why = refusal(provider, api, body) if validate and provider.models else None
            if why is None:
                return (Target(upstream, upstream.urls[api], written or encode_request(body)),)
            raise _unsupported(*why, info)
        return self._translated(api, body, info, validate, written)

    def _translated(
        self, api: Api, body: Mapping[str, Any], info: Info, validate: bool, written: bytes | None
    ) -> tuple[Target, ...]:
        """Do what `targets` does where the request is rewritten for a vendor. Each vendor's bytes are made once."""
        found: list[Target] = []
        reasons: list[str] = []
        encoded: dict[str, bytes] = {}
        for upstream in self.upstreams:
            provider = upstream.endpoint.provider
            bytes_for = encoded.get(provider.name)
            if bytes_for is None:
                fitted = body
                # A server whose models no table names is never second-guessed.
                if validate and provider.models:
                    from aimlasync.endpoints.translate import translate

                    translated = translate(body, api, _written_for(body), provider)
                    if isinstance(translated, str):
                        reasons.append(f"{upstream.endpoint.name}: {translated}")
                        continue
                    fitted = translated[0]
                bytes_for = written if written and fitted is body else encode_request(fitted)
                encoded[provider.name] = bytes_for
            found.append(Target(upstream, upstream.urls[api], bytes_for))
        if not found:
            raise _unsupported("model", "; ".join(reasons), info)
        return tuple(found)

    def admit_nowait(self, call: Call, now: float, loop: asyncio.AbstractEventLoop) -> Attempt | None:
        """Do what `admit` does if there is nothing to wait for. Raises OverloadedError when every endpoint rests."""
        targets = call.targets
        target = targets[0] if len(targets) == 1 else self._choose(call, now)
        upstream = target.upstream
        tokens = _estimate(call, target) if upstream.limiter.counts_tokens else 0.0
        lane = upstream.lanes.get(call.info.model) or upstream.lane(call.info.model)
        admission = lane.limiter.enter_nowait(tokens, now)
        if admission is None:
            return None
        if len(targets) > 1 and not lane.is_well:
            lane.probing(now)
        return call.attempt(target, lane, loop, now, lane.counted.in_flight - 1, admission)

    async def admit(self, call: Call) -> Attempt:
        """Choose where the next attempt goes, and wait there until it may be sent.

        Raises OverloadedError at once when the queue is too long, or the wait longer than the call has time for.
        """
        loop = asyncio.get_running_loop()
        until, was_sent_away = None if self.max_wait is None else loop.time() + self.max_wait, False
        while True:
            target = call.targets[0] if len(call.targets) == 1 else self._choose(call, loop.time())
            upstream = target.upstream
            if call.tried and upstream not in call.tried:
                info = call.info
                why = info.steps[-1].why if info.steps else ""
                _log.info(
                    "the call %s goes on from %s to %s: %s", info.request_id, info.endpoint, upstream.endpoint.name, why
                )
            tokens, lane = _tokens(call, target), upstream.lane(call.info.model)
            since = loop.time()
            admission = lane.limiter.enter_nowait(tokens(), since)
            at, beside = since, lane.counted.in_flight - 1
            if admission is None:
                if not was_sent_away:
                    self._refuse_the_hopeless(call, lane, since)
                kind, why = why_it_waits(lane, tokens(), since)
                is_full = kind == "concurrency"
                goes_first = was_sent_away or call.goes_first
                ahead = 0 if goes_first else lane.limiter.queue.ahead(call.priority, call.tenant)
                call.waits_for = why
                try:
                    admission = await self._wait(call, lane, tokens, until, again=goes_first)
                    at, beside = admission.at, admission.beside
                    call.waits_for = None
                except SentAway:
                    was_sent_away = True
                    continue
                except asyncio.CancelledError:
                    # It may wait for another thing by now, as for the end of a pause.
                    call.waits_for = why_it_waits(lane, tokens(), loop.time())[1]
                    raise
                finally:
                    seconds = loop.time() - since
                    step = Step(kind=kind, endpoint=upstream.endpoint.name, seconds=seconds, why=why, ahead=ahead)
                    call.info.steps += (step,)
                    note_wait(call.info.timing, seconds, is_full)
            if len(call.targets) > 1 and not lane.is_well and lane.allows(loop.time()):
                lane.probing(loop.time())
            return call.attempt(target, lane, loop, at, beside, admission)

    def spare(self, first: Attempt) -> Attempt:
        """Return a second attempt beside `first`, at another endpoint if there is one.

        Raises OverloadedError unless there is room for it at once, BudgetExceededError unless there is money.
        """
        call = first.call
        assert call.hedging is not None
        reservation = call.reserve()
        has_hedge = call.hedging.take()
        now = first.loop.time()
        for target in sorted(call.targets, key=lambda target: target is first.target) if has_hedge else ():
            lane = target.upstream.lane(call.info.model)
            if target.upstream in call.tried or not lane.allows(now) or lane.is_probed:
                continue
            admission = lane.limiter.enter_nowait(_tokens(call, target)(), now)
            if admission is not None:
                lane.counters.hedges += 1
                return first.hedge(target, lane, now, admission, reservation)
        if has_hedge:
            call.hedging.give_back()
        if reservation is not None and call.budget is not None:
            call.budget.release(reservation)
        raise OverloadedError("there is no room for a second attempt", info=call.info)

    async def _wait(
        self, call: Call, lane: Lane, tokens: Callable[[], float], until: float | None, *, again: bool
    ) -> Admission:
        """Wait for a place until `until`. Raises SentAway where another endpoint has room, OverloadedError too late."""
        if not lane.standstill.is_watching:
            lane.standstill.watch()
        if self.changing_queues is None or len(call.targets) == 1:
            served = lane.limiter.enter(tokens, call.priority, call.tenant, again=again)
        else:
            served = self.changing_queues.wait(call, lane, tokens, again=again)
        if until is None:
            return await served
        try:
            async with asyncio.timeout_at(until):
                return await served
        except TimeoutError:
            pass
        raise OverloadedError(
            f"{lane.name}: no place in the queue within {self.max_wait} s",
            retry_after=self.max_wait,
            info=call.info,
        )

    def _refuse_the_hopeless(self, call: Call, lane: Lane, now: float) -> None:
        """Raise OverloadedError for a call that would wait longer, or behind more calls, than it may."""
        pause = lane.paused_until - now
        if pause > 0:
            left = float("inf") if call.deadline is None else call.deadline - now
            # Stretched: what the server stated may be all that the policy allows.
            if pause > min(left, call.retry.max_retry_after * STRETCH[1]):
                raise OverloadedError(
                    f"{lane.name} was told to wait for another {pause:.1f} s, longer than this call can",
                    retry_after=pause,
                    info=call.info,
                )
        if self.max_queue is None and self.max_queue_per_tenant is None and self.max_wait is None:
            return
        upstream = lane.upstream
        expected = 0.0 if call.goes_first else lane.expected_wait(call.priority, call.tenant)
        why = None
        if self.max_queue is not None and (waiting := upstream.waiting_for(call.priority)) >= self.max_queue:
            why = f"{waiting} calls are waiting already"
        elif (
            self.max_queue_per_tenant is not None
            and call.tenant is not None
            and (waiting := upstream.waiting_of(call.tenant)) >= self.max_queue_per_tenant
        ):
            why = f"{waiting} calls of this tenant are waiting already"
        elif self.max_wait is not None and expected > self.max_wait:
            why = f"the queue is about {expected:.1f} s long"
        if why is not None:
            raise OverloadedError(f"{lane.name}: {why}", retry_after=expected, info=call.info)

    def _choose(self, call: Call, now: float) -> Target:
        """Return the best endpoint for the next attempt. Raises when all of them are out.

        An endpoint that has not failed this call goes before one that has, then one whose pause, if it has one, ends
        sooner; then the cheapest, or the one of the call's affinity.
        """
        best: Target | None = None
        least: tuple[bool, float, float | bytes] | None = None
        tried, affinity, model = call.tried, call.affinity, call.info.model
        for target in call.targets:
            upstream = target.upstream
            lane = upstream.lanes.get(model) or upstream.lane(model)
            if not lane.is_well and not lane.allows(now):
                continue
            cost = _cost(lane, now) if affinity is None else _rank(affinity, target)
            pause = lane.paused_until - now
            key = (upstream in tried, pause if pause > 0.0 else 0.0, cost)
            if least is None or key < least:
                best, least = target, key
        if best is not None:
            return best
        if all(target.upstream.circuit.state == "retired" for target in call.targets):
            reasons = "; ".join(f"{t.upstream.endpoint.name}: {t.upstream.circuit.reason}" for t in call.targets)
            raise APIConnectionError(f"no endpoint is left: {reasons}", info=call.info, billed=False)
        wait = min(target.upstream.lane(call.info.model).wait(now) for target in call.targets)
        raise OverloadedError(
            "every endpoint has failed again and again and rests",
            retry_after=None if wait == float("inf") else wait,
            info=call.info,
        )


def _tokens(call: Call, target: Target) -> Callable[[], float]:
    """What tells how many tokens an attempt will take, as far as is known by then."""
    return partial(_estimate, call, target) if target.upstream.limiter.counts_tokens else float


def _estimate(call: Call, target: Target) -> float:
    """How many tokens an attempt will take, as far as is known."""
    upstream, body = target.upstream, target.body
    if body is None:
        return 0.0
    size, beside = len(body), 0
    if size > MAY_HOLD_MEDIA and (media := call.media):
        size, beside = max(0, size - media.size), media.likely
    cap = output_cap(call.body or {})
    return beside + upstream.estimator.estimate(call.info.model, size, cap, in_full=upstream.counts_requested)


def _cost(lane: Lane, now: float) -> float:
    """How long a call would take there: its latency, longer the fuller it is, behind those that wait for a rate."""
    latency = lane.circuit.latency
    limiter, upstream = lane.limiter, lane.upstream
    shared, waiting = upstream.limiter, limiter.queue.waiting
    load = (limiter.in_flight + waiting + 1) / limiter.limit
    of_all = (shared.in_flight + shared.waiting + 1) / shared.limit
    cost = (_UNTRIED if latency is None else latency) * (load if load > of_all else of_all)
    if shared.waiting:
        cost += shared.waiting * upstream.seconds_each
    if limiter.learned_rate is not None:
        cost += limiter.learned_rate.expected_wait(now, waiting)
    if shared.learned_rate is not None:
        cost += shared.learned_rate.expected_wait(now, shared.waiting)
    return cost


def _rank(key: str, target: Target) -> bytes:
    """Rendezvous hashing: one that goes takes only its own keys along."""
    return blake2b(f"{key}\0{target.upstream.endpoint.name}\0{target.url}".encode(), digest_size=8).digest()


def _written_for(body: Mapping[str, Any]) -> Provider | None:
    """The vendor whose table names the model, None when no table does."""
    model = body.get("model")
    for vendor in VENDORS if isinstance(model, str) else ():
        if model in vendor.models:
            return vendor
    return None


def _unsupported(parameter: str, text: str, info: Info) -> UnsupportedRequestError:
    return UnsupportedRequestError(
        f"{text} (checked before sending; validate=False sends it anyway)",
        status=400,
        code="unsupported_model" if parameter == "model" else "unsupported_parameter",
        param=parameter,
        info=info,
        billed=False,
    )
