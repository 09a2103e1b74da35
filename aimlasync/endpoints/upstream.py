"""The live state of one endpoint: its URLs and headers, its limiter, circuit breaker and retry budget, its lanes.

What the user stated and what concerns the host is kept here; what is learned of one model is in its `Lane`, of all
together in `AccountLimits`. It connects the parts that learn (`admission.adaptive`, `admission.token_estimate`,
`resilience`) with the part that enforces (`admission.limiter`), without I/O. It may import `admission`, `resilience`,
`quota`, `wire.redaction` and the other files of this package.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable

from aimlasync._version import __version__
from aimlasync.admission.adaptive import AdaptiveLimit, Learned
from aimlasync.admission.endpoint_limiter import UNLIMITED, EndpointLimiter
from aimlasync.admission.limiter import Limiter
from aimlasync.admission.token_estimate import Estimator
from aimlasync.config import Limits, Mode, Priority
from aimlasync.endpoints.account_limits import AccountLimits
from aimlasync.endpoints.endpoint import Endpoint
from aimlasync.endpoints.keys import sent_key
from aimlasync.endpoints.lane import Lane
from aimlasync.endpoints.paths import id_in_path
from aimlasync.endpoints.statistics import Counters, EndpointStatistics
from aimlasync.errors import in_one_line
from aimlasync.headers import Headers, keyless
from aimlasync.logs import log_of
from aimlasync.quota.lease import Leases
from aimlasync.resilience.circuit_breaker import CircuitBreaker, State
from aimlasync.resilience.retry_budget import RetryBudget
from aimlasync.wire.redaction import Secrets

# A pause is stretched by a random factor in this range, so that clients that were told the same wait do not return at
# once.
STRETCH = (1.10, 1.25)
# The longest pause that a server's statement opens, in seconds, unless the caller's retry policy allows a longer wait.
_MAX_PAUSE = 60.0
# How many of the keys that a function returned one after the other are cut out of errors.
_RECENT_KEYS = 16
# Seconds from which a pause is said at INFO.
_LONG_PAUSE = 5.0
# There are at most so many lanes. From the second number on, those that were idle for so many seconds are dropped when
# another is made; at the most, the half of the idle ones that were used longest ago.
_MAX_LANES = 256
_FEW_LANES = 16
_IDLE_SECONDS = 600.0
# What is remembered of so many models, at most, after their lanes.
_MAX_STARTS = 1000
# Seconds after its last attempt for which a model is in use.
_IN_USE = 60.0
# A longer name of a model is no name.
_MAX_NAME = 256

_log_limits = log_of("aimlasync.limits")
_log_pool = log_of("aimlasync.pool")


class Upstream:
    """The live state of one endpoint."""

    # With slots, `vars` shows no key.
    __slots__ = (
        "_full_until",
        "_is_alone",
        "_keyless_secrets",
        "_many",
        "_recent_keys",
        "account",
        "answer_modes",
        "attempt_ended",
        "circuit",
        "counts_requested",
        "endpoint",
        "estimator",
        "forgotten",
        "headers",
        "kept",
        "lanes",
        "limiter",
        "paused_because",
        "retry_budget",
        "seconds_each",
        "secrets",
        "starts",
        "stated",
        "urls",
    )

    def __init__(
        self, endpoint: Endpoint, limits: Limits, secrets: Secrets | None = None, *, is_alone: bool = True
    ) -> None:
        """`is_alone` says that the client has no other endpoint."""
        limits = endpoint.limits or limits
        self.endpoint = endpoint
        self.stated = limits
        leases = None if endpoint.quota is None else Leases(endpoint.quota, limits)
        self.limiter = EndpointLimiter(limits, leases=leases)
        """What all models share: the stated limits, the pauses of the endpoint, the count in flight."""
        self.lanes: dict[str, Lane] = {}
        """Model -> its lane, for the models of late; `lane` makes one. Read it first: it is one look-up a call."""
        self.starts: dict[str, Learned] = {}
        """Model -> what an earlier run learned of it; its first lane starts with that."""
        self.kept: dict[str, Learned] = {}
        """Model -> what was learned of it here and has held; its next lane starts with that."""
        # At how many lanes some are forgotten; until when nothing can be (loop time); what the forgotten ones counted.
        self._many = _FEW_LANES
        self._full_until = float("-inf")
        self.forgotten = Counters()
        self.account = AccountLimits(self)
        self.estimator = Estimator()
        self.counts_requested = limits.tokens_counted == "requested"
        """Whether the server counts the tokens that were requested, whatever was used of them."""
        self.circuit = CircuitBreaker(changed=self._circuit_changed, attempts=self._attempts)
        """Whether the host can be reached; a model's own failures are in its lane."""
        self._is_alone = is_alone
        self.seconds_each = 0.0 if limits.requests_per_minute is None else 60 / limits.requests_per_minute
        """The seconds between two requests, 0.0 where their rate is not stated."""
        self.attempt_ended: Callable[[], None] | None = None
        """Called with the end of each attempt that leaves a place, while calls wait that others could send."""
        self.retry_budget = RetryBudget()
        self.paused_because = ""
        """Why the endpoint last paused."""
        # Model -> the way in which it gave a structured answer after it had refused a surer one (client/answer_modes).
        self.answer_modes: dict[str, Mode] = {}
        self.urls = {
            "chat": endpoint.url(endpoint.provider.chat_path),
            "responses": endpoint.url(endpoint.provider.responses_path),
        }
        self.headers = Headers(
            {
                # Compression delays a stream's tokens, and costs more than it saves on a reply of a few kilobytes.
                "Accept": "application/json, text/event-stream",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": f"aimlasync/{__version__}",
                **endpoint.headers,
            }
        )
        if endpoint.api_key is not None:
            # Only Bearer is sent: ByteSpike prefers x-api-key when it gets both, and takes only Bearer on
            # /v1/responses.
            self.headers["Authorization"] = f"Bearer {endpoint.api_key.reveal()}"
        self.secrets = (Secrets() if secrets is None else secrets).with_headers(self.headers)
        # Of a key that changes: what is secret besides it, and its last values.
        self._keyless_secrets = self.secrets
        self._recent_keys: deque[str] = deque(maxlen=_RECENT_KEYS)

    def path_url(self, path: str, **fields: str) -> str:
        """Return the URL of a path of the provider table, its fields filled in; slashes in a model id stay.

        Raises UnsupportedRequestError for a field that would lead out of the path.
        """
        quoted = {name: id_in_path(value, f"the model's {name}") for name, value in fields.items()}
        return self.endpoint.url(path.format(**quoted))

    async def renew_key(self) -> None:
        """Call the function that the endpoint has for a key, and send that key from now on.

        The last keys stay secret, since requests with them may still be under way. Raises what the function raises, and
        ValueError for a key that cannot be sent.
        """
        source = self.endpoint.key_source
        assert source is not None
        given = source()
        try:
            self._use(await given if isinstance(given, Awaitable) else given)
        finally:
            del given

    @keyless
    def _use(self, key: str) -> None:
        authorization = f"Bearer {sent_key(key)}"
        if self.headers.get("Authorization") != authorization:
            # Transports keep what they make of headers that are the same object.
            self.headers = Headers({**self.headers, "Authorization": authorization})
            self._recent_keys.append(authorization)
            self.secrets = self._keyless_secrets
            for recent in self._recent_keys:
                self.secrets = self.secrets.with_headers({"Authorization": recent})

    def __repr__(self) -> str:
        here, limit = self.limiter, self._limit()
        return f"<Upstream {self.endpoint.name} {here.in_flight} in flight, {here.waiting} queued, limit {limit}>"

    # Lanes

    def lane(self, model: str) -> Lane:
        """Return the lane of a model; it is made if there is none."""
        lane = self.lanes.get(model)
        return self._new_lane(model) if lane is None else lane

    def _new_lane(self, model: str) -> Lane:
        if model and (len(model) > _MAX_NAME or (len(self.lanes) >= self._many and not self._forget_some())):
            return self.lane("")
        law = self.law_for(model)
        # A fixed limit learns nothing.
        limiter = Limiter(self.limiter, limit=law.allowed, learned_rate=None if law.is_fixed else law)
        lane = self.lanes[model] = Lane(self, model, law, limiter)
        self.account.join(lane)
        return lane

    def _forget_some(self) -> bool:
        """Drop lanes that are idle; return whether there is room for another."""
        now = asyncio.get_running_loop().time()
        if now < self._full_until:
            return False
        idle = sorted((lane for lane in self.lanes.values() if lane.is_idle(now)), key=lambda lane: lane.used_at)
        if len(self.lanes) < _MAX_LANES:
            idle = [lane for lane in idle if now - lane.used_at > _IDLE_SECONDS]
        else:
            idle = idle[: max(1, len(idle) // 2)]
        for lane in idle:
            self.forgotten.add(lane.counters)
            self.keep(lane)
            del self.lanes[lane.model]
        self._many = min(_MAX_LANES, max(_FEW_LANES, 2 * len(self.lanes)))
        if len(self.lanes) < self._many:
            return True
        self._full_until = now + 1.0
        return False

    def asked(self) -> list[Lane]:
        """Return the lanes at which anything was asked."""
        return [lane for lane in self.lanes.values() if lane.counters.attempts]

    def law_for(self, model: str) -> AdaptiveLimit:
        """Return a limit that starts with what is known of a model."""
        limits, start = self.stated, self.kept.get(model) or self.starts.get(model)
        return AdaptiveLimit(limit=limits.concurrency, is_rated=limits.is_rated, start=start)

    def keep(self, lane: Lane) -> None:
        """Note what was learned of a model here and has held."""
        found, law = lane.watch.learned, lane.law.learned
        is_shared = lane.counted is not lane.limiter and len(self.asked()) > 1
        if found is None or is_shared:
            # A guess, or the account's: not what this model alone may take.
            return
        rate = law.rate if found.requests_per_minute is None else found.requests_per_minute / 60
        if len(self.kept) < _MAX_STARTS or lane.model in self.kept:
            self.kept[lane.model] = Learned(in_flight=float(found.concurrency or law.in_flight), rate=rate)

    def learned(self) -> dict[str, Learned]:
        """Return what was learned of each model here and has held."""
        for lane in self.lanes.values():
            self.keep(lane)
        return self.kept

    def waiting_for(self, priority: Priority) -> int:
        """Return how many waiting calls, of all models, a new call of this priority cannot overtake by it."""
        return sum(lane.limiter.queue.waiting_for(priority) for lane in self.lanes.values())

    def waiting_of(self, tenant: str) -> int:
        """Return how many calls of a tenant wait, at all models."""
        return sum(lane.limiter.queue.waiting_of(tenant) for lane in self.lanes.values())

    def shortest_queue(self, now: float) -> int:
        """Return how many calls wait at the model that has fewest, of those in use."""
        used = [lane for lane in self.lanes.values() if now - lane.used_at < _IN_USE or lane.limiter.queue.waiting]
        return min((lane.limiter.queue.waiting for lane in used), default=0)

    def _attempts(self, now: float) -> int:
        return sum(lane.circuit.attempts(now) for lane in self.lanes.values())

    def begin_again(self) -> None:
        """Keep what was sent and learned, and forget what waited or was in flight: its event loop is closed."""
        for lane in self.lanes.values():
            self.forgotten.add(lane.counters)
            self.keep(lane)
        self.lanes.clear()
        self.limiter = self.limiter.begun_again(self.stated)
        self.account = AccountLimits(self)
        if self.circuit.reason is None:
            self.circuit = CircuitBreaker(changed=self._circuit_changed, attempts=self._attempts)

    # What the server says

    def pause(
        self,
        seconds: float,
        now: float,
        why: str,
        *,
        at_most: float = 0.0,
        lane: Lane | None = None,
        is_stated: bool = True,
    ) -> None:
        """Pause the endpoint, or one model (`lane`), for the seconds that the server stated, or ours, and some jitter.

        `at_most` is what a caller's policy allows. `why` goes into the log, and into the story of the calls that wait.
        A pause for a spending window (US dollars) is a minute at most, however far its reset is: the account may be
        topped up before that.
        """
        counts_dollars = self.endpoint.provider.ratelimit_unit == "usd"
        seconds = min(seconds, _MAX_PAUSE if counts_dollars else max(at_most, _MAX_PAUSE))
        until = now + seconds * random.uniform(*STRETCH)
        paused, limiter, name = (
            (self, self.limiter, self.endpoint.name) if lane is None else (lane, lane.limiter, lane.name)
        )
        # Hundreds of attempts may be told of the same pause, one after the other; one line is enough.
        longer = until - max(now, limiter.paused_until)
        if longer > 0:
            paused.paused_because = why
        limiter.pause(until)
        for law in {each.law for each in self.lanes.values()} if lane is None else {lane.law}:
            law.paused(now, seconds, is_stated=is_stated)
        level = logging.INFO if longer > _LONG_PAUSE else logging.DEBUG
        _log_limits.log(level, "%s pauses for %.1f s: %s", name, until - now, why)

    def retire(self, reason: str) -> None:
        """Take the endpoint out of the rotation for good; the first reason is kept."""
        if self.circuit.reason is None:
            _log_pool.warning("%s leaves the rotation: %s", self.endpoint.name, in_one_line(reason))
        self.circuit.retire(reason)

    def _circuit_changed(self, now: float, was: State, why: object) -> None:
        self.say_circuit(self.circuit, self.endpoint.name, now, was, why)

    def say_circuit(self, circuit: CircuitBreaker, name: str, now: float, was: State, why: object) -> None:
        """Log that a circuit, the endpoint's or that of one model, has opened or closed."""
        if circuit.state == "closed":
            _log_pool.warning("%s answers again: its circuit is closed", name)
            return
        if self._is_alone:
            then = "calls still go to it, since there is no other endpoint"
        else:
            then = f"calls go elsewhere where they can; it is tried again in {circuit.wait(now):.1f} s"
        if was == "half-open":
            _log_pool.info("%s still fails (%s); %s", name, in_one_line(why), then)
        else:
            _log_pool.warning("%s fails again and again (%s): its circuit is open; %s", name, in_one_line(why), then)

    def _limit(self) -> int:
        """Return how many attempts may be in flight: the stated or the account's limit, else the sum of the models'."""
        if self.limiter.limit != UNLIMITED:
            return self.limiter.limit
        learned = sum(lane.limiter.limit for lane in self.lanes.values())
        return learned or int(AdaptiveLimit(is_rated=self.stated.is_rated).limit)

    def statistics(self, now: float) -> EndpointStatistics:
        """Return this endpoint's figures and those of its models; `now` is the loop's time."""
        limiter, counters = self.limiter, Counters()
        models = [lane.statistics(now) for lane in self.lanes.values()]
        for lane in self.lanes.values():
            counters.add(lane.counters)
        counters.add(self.forgotten)
        waits = Counter[str]()
        for model in models:
            if model.limited_by is not None:
                waits[model.limited_by] += model.queued
        state = self.circuit.state
        if state == "closed" and models and all(model.state != "ok" for model in models):
            # No model answers.
            state = "half-open" if all(model.state == "half-open" for model in models) else "open"
        return EndpointStatistics(
            name=self.endpoint.name,
            in_flight=limiter.in_flight,
            queued=limiter.waiting,
            limit=self._limit(),
            limited_by=waits.most_common(1)[0][0] if waits else None,
            paused_for=min((model.paused_for for model in models), default=max(0.0, limiter.paused_until - now)),
            state="ok" if state == "closed" else state,
            models=models,
            **counters.all(),
        )
