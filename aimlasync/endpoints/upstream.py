"""The live state of one endpoint: its URLs and headers, its limiter, circuit breaker and retry budget, its counters.

It connects the parts that learn (`admission.adaptive`, `admission.token_estimate`, `resilience`) with the part that
enforces (`admission.limiter`), without I/O. Every attempt takes a `Permit` from its upstream and releases it once, with
an outcome; the upstream learns from the release. It may import `admission`, `resilience`, `quota`, `wire.redaction` and
the other files of this package.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Literal

import msgspec

from aimlasync._version import __version__
from aimlasync.admission.adaptive import AdaptiveLimit
from aimlasync.admission.limiter import Admission, Limiter
from aimlasync.admission.outcome import Outcome
from aimlasync.admission.token_estimate import Estimator
from aimlasync.config import Limits, Mode, Priority
from aimlasync.endpoints.endpoint import Endpoint
from aimlasync.endpoints.paths import id_in_path
from aimlasync.endpoints.statistics import Counters, EndpointStatistics
from aimlasync.headers import Headers
from aimlasync.quota.lease import Leases
from aimlasync.resilience.circuit_breaker import CircuitBreaker
from aimlasync.resilience.retry_budget import RetryBudget
from aimlasync.wire.redaction import Secrets

# A pause is stretched by a random factor in this range, so that clients that were told the same wait do not return at
# once.
STRETCH = (1.10, 1.25)
# The longest pause that a server's statement opens, in seconds, unless the caller's retry policy allows a longer wait.
_MAX_PAUSE = 60.0
# The weight of a new sample in the average time that a permit is held.
_WEIGHT = 0.1
# The pauses, in seconds, that repeated refusals open when the server states no wait: the first, and the longest.
_FIRST_PAUSE = 0.25
_MAX_OWN_PAUSE = 4.0

Refused = Literal["concurrency", "rate"]

_log_limits = logging.getLogger("aimlasync.limits")
_log_pool = logging.getLogger("aimlasync.pool")


class Upstream:
    """The live state of one endpoint."""

    # With slots, `vars` shows no key.
    __slots__ = (
        "_counts_requested",
        "_refusals",
        "_seconds_each",
        "adaptive",
        "answer_modes",
        "circuit",
        "counters",
        "endpoint",
        "estimator",
        "headers",
        "held_for",
        "limiter",
        "retry_budget",
        "secrets",
        "urls",
    )

    def __init__(self, endpoint: Endpoint, limits: Limits, secrets: Secrets | None = None) -> None:
        limits = endpoint.limits or limits
        self.endpoint = endpoint
        self.adaptive = AdaptiveLimit(limit=limits.concurrency, is_rated=limits.is_rated)
        leases = None if endpoint.quota is None else Leases(endpoint.quota, limits)
        # A fixed limit learns nothing.
        learned_rate = None if self.adaptive.is_fixed else self.adaptive
        self.limiter = Limiter(limits, limit=int(self.adaptive.limit), learned_rate=learned_rate, leases=leases)
        self.estimator = Estimator()
        self._counts_requested = limits.tokens_counted == "requested"
        self.circuit = CircuitBreaker()
        # The average seconds that an answered attempt holds its permit: for a stream, until its last byte.
        self.held_for = 0.0
        self._seconds_each = 0.0 if limits.requests_per_minute is None else 60 / limits.requests_per_minute
        self.retry_budget = RetryBudget()
        self.counters = Counters()
        # Model -> the way in which it gave a structured answer after it had refused a surer one (client/answer_modes).
        self.answer_modes: dict[str, Mode] = {}
        # Refusals in a row, that is, since the last answer.
        self._refusals = 0
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

    def path_url(self, path: str, **fields: str) -> str:
        """Return the URL of a path of the provider table, its fields filled in; slashes in a model id stay.

        Raises UnsupportedRequestError for a field that would lead out of the path.
        """
        quoted = {name: id_in_path(value, f"the model's {name}") for name, value in fields.items()}
        return self.endpoint.url(path.format(**quoted))

    def __repr__(self) -> str:
        here = self.limiter
        return f"<Upstream {self.endpoint.name} {here.in_flight} in flight, {here.waiting} queued, limit {here.limit}>"

    def expected_wait(self, priority: Priority, tenant: str | None) -> float:
        """Return the seconds that a call that joins the queue now will probably wait."""
        ahead = self.limiter.queue.ahead(priority, tenant)
        if not ahead:
            return 0.0
        return (ahead + 1) * max(self.held_for / max(1, self.limiter.limit), self._seconds_each)

    # Admission

    def estimate(self, model: str, body_bytes: int, max_output: float | None = None, beside: float = 0.0) -> float:
        """Return the tokens that this endpoint will probably count for a request; see `Estimator.estimate`.

        `body_bytes` are those of text; `beside` are the tokens of what is no text.
        """
        return beside + self.estimator.estimate(model, body_bytes, max_output, in_full=self._counts_requested)

    def admit_nowait(self, tokens: float, loop: asyncio.AbstractEventLoop, now: float | None = None) -> Permit | None:
        """Return a permit if none must be waited for, else None; `now` is the loop's time, where the caller has it."""
        if now is None:
            now = loop.time()
        limiter = self.limiter
        admission = limiter.enter_nowait(tokens, now)
        if admission is None:
            return None
        self.counters.attempts += 1
        return Permit(self, loop, now, limiter.in_flight - 1, admission)

    async def admit(self, tokens: float | Callable[[], float], priority: Priority, tenant: str | None = None) -> Permit:
        """Wait in the queue for a permit; a function `tokens` is called each time the call is tried."""
        admission = await self.limiter.enter(tokens, priority, tenant)
        loop = asyncio.get_running_loop()
        self.counters.attempts += 1
        return Permit(self, loop, loop.time(), self.limiter.in_flight - 1, admission)

    def take_back(
        self, permit: Permit, outcome: Outcome, tokens: float | None, now: float | None, kind: Refused | None
    ) -> None:
        """Learn from a permit that is released, and free its place; `Permit.release` calls this once."""
        adaptive, counters, limiter = self.adaptive, self.counters, self.limiter
        if outcome is Outcome.IGNORED:
            counters.failed += 1
        else:
            if now is None:
                now = permit.loop.time()
            if outcome is Outcome.OK:
                counters.answered += 1
                self._refusals = 0
                held = now - permit.sent_at
                self.held_for += _WEIGHT * (held - self.held_for) if self.held_for else held
                if not adaptive.is_fixed:
                    adaptive.answered(now, limiter.in_flight)
                if self._counts_requested:
                    # The server counts the tokens that were requested, whatever was used of them.
                    tokens = None
            else:
                counters.refused += 1
                if adaptive.refused(now, permit.sent_at, permit.beside, kind) and kind != "concurrency":
                    self._refused_again(now)
            # The new limit is set before the place is freed, so that it holds for the next waiter.
            limit = int(adaptive.limit)
            if limit != limiter.limit:
                limiter.resize(limit)
        limiter.leave(permit.admission, tokens)

    # What the server says

    def pause(self, seconds: float, now: float, *, at_most: float = 0.0) -> None:
        """Pause the whole endpoint for the stated seconds and some jitter; `at_most` is what a caller's policy allows.

        A pause for a spending window (US dollars) is a minute at most, however far its reset is: the account may be
        topped up before that.
        """
        counts_dollars = self.endpoint.provider.ratelimit_unit == "usd"
        seconds = min(seconds, _MAX_PAUSE if counts_dollars else max(at_most, _MAX_PAUSE))
        self.limiter.pause(now + seconds * random.uniform(*STRETCH))
        self.adaptive.paused(now, seconds)
        _log_limits.info("%s pauses for %.1f s", self.endpoint.name, seconds)

    def _refused_again(self, now: float) -> None:
        """Note a refusal that led to a cut: from the second one without an answer between them, each opens a pause."""
        self._refusals += 1
        if self._refusals > 1:
            self.pause(min(_FIRST_PAUSE * 2.0 ** (self._refusals - 2), _MAX_OWN_PAUSE), now)

    def learn(self, model: str, body_bytes: int, prompt_tokens: int, completion_tokens: int) -> None:
        """Count the tokens that an answer reported, and let the estimator learn from them."""
        counters = self.counters
        counters.prompt_tokens += prompt_tokens
        counters.completion_tokens += completion_tokens
        if self.limiter.counts_tokens:
            # Only such a limiter uses estimates.
            self.estimator.learn(model, body_bytes, prompt_tokens, completion_tokens)

    def retire(self, reason: str) -> None:
        """Take the endpoint out of the rotation for good; the first reason is kept."""
        if self.circuit.reason is None:
            _log_pool.warning("%s leaves the rotation: %s", self.endpoint.name, reason)
        self.circuit.retire(reason)

    def statistics(self, now: float) -> EndpointStatistics:
        """Return this endpoint's figures; `now` is the loop's time."""
        limiter, counters = self.limiter, self.counters
        return EndpointStatistics(
            name=self.endpoint.name,
            in_flight=limiter.in_flight,
            queued=limiter.waiting,
            limit=limiter.limit,
            limited_by=limiter.held_by(now),
            paused_for=max(0.0, limiter.paused_until - now),
            state=self.circuit.state,
            attempts=counters.attempts,
            answered=counters.answered,
            refused=counters.refused,
            failed=counters.failed,
            retries=counters.retries,
            hedges=counters.hedges,
            prompt_tokens=counters.prompt_tokens,
            completion_tokens=counters.completion_tokens,
            cost_usd=counters.cost_usd,
        )


class Permit(msgspec.Struct, eq=False):
    """The right to have one attempt in flight at one endpoint; it is released once, and later releases do nothing."""

    upstream: Upstream
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
    ) -> None:
        """Release it with the outcome of the attempt; later calls do nothing.

        `tokens` is how many the attempt took, None when that is not known. `kind` is the limit that a refusal named.
        `now` is the loop's time, where the caller has it.
        """
        if self.is_held:
            self.is_held = False
            self.upstream.take_back(self, outcome, tokens, now, kind)
