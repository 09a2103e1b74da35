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
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from aimlasync._version import __version__
from aimlasync.admission.adaptive import AdaptiveLimit
from aimlasync.admission.limiter import Admission, Limiter
from aimlasync.admission.outcome import Outcome
from aimlasync.admission.token_estimate import Estimator
from aimlasync.config import Limits, Mode, Priority
from aimlasync.endpoints.endpoint import Endpoint, sent_key
from aimlasync.endpoints.paths import id_in_path
from aimlasync.endpoints.statistics import Counters, EndpointStatistics
from aimlasync.errors import in_one_line
from aimlasync.headers import Headers, keyless
from aimlasync.quota.lease import Leases
from aimlasync.resilience.circuit_breaker import CircuitBreaker, State
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
# How many of the keys that a function returned one after the other are cut out of errors.
_RECENT_KEYS = 16
# Seconds from which a pause is said at INFO.
_LONG_PAUSE = 5.0

Refused = Literal["concurrency", "rate", "down"]

_log_limits = logging.getLogger("aimlasync.limits")
_log_pool = logging.getLogger("aimlasync.pool")


class Upstream:
    """The live state of one endpoint."""

    # With slots, `vars` shows no key.
    __slots__ = (
        "_counts_requested",
        "_is_alone",
        "_keyless_secrets",
        "_recent_keys",
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
        "paused_because",
        "retry_budget",
        "secrets",
        "urls",
    )

    def __init__(
        self, endpoint: Endpoint, limits: Limits, secrets: Secrets | None = None, *, is_alone: bool = True
    ) -> None:
        """`is_alone` says that the client has no other endpoint."""
        limits = endpoint.limits or limits
        self.endpoint = endpoint
        self.adaptive = AdaptiveLimit(limit=limits.concurrency, is_rated=limits.is_rated)
        leases = None if endpoint.quota is None else Leases(endpoint.quota, limits)
        # A fixed limit learns nothing.
        learned_rate = None if self.adaptive.is_fixed else self.adaptive
        self.limiter = Limiter(limits, limit=int(self.adaptive.limit), learned_rate=learned_rate, leases=leases)
        self.estimator = Estimator()
        self._counts_requested = limits.tokens_counted == "requested"
        self.circuit = CircuitBreaker(changed=self._circuit_changed)
        self._is_alone = is_alone
        # The average seconds that an answered attempt holds its permit: for a stream, until its last byte.
        self.held_for = 0.0
        self._seconds_each = 0.0 if limits.requests_per_minute is None else 60 / limits.requests_per_minute
        self.retry_budget = RetryBudget()
        self.counters = Counters()
        self.paused_because = ""
        """Why the endpoint last paused."""
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
        elif outcome is Outcome.CANCELLED:
            counters.cancelled += 1
        else:
            if now is None:
                now = permit.loop.time()
            if outcome is Outcome.OK:
                counters.answered += 1
                self._refusals = 0
                held = now - permit.sent_at
                self.held_for += _WEIGHT * (held - self.held_for) if self.held_for else held
                if not adaptive.is_fixed:
                    adaptive.answered(now, limiter.in_flight, permit.sent_at, permit.beside)
                if self._counts_requested:
                    # The server counts the tokens that were requested, whatever was used of them.
                    tokens = None
            else:
                counters.refused += 1
                is_news = adaptive.refused(now, permit.sent_at, permit.beside, kind)
                if is_news and kind in (None, "rate"):
                    self._refused_again(now)
            # The new limit is set before the place is freed, so that it holds for the next waiter.
            limit = int(adaptive.limit)
            if limit != limiter.limit:
                limiter.resize(limit)
        limiter.leave(permit.admission, tokens)

    # What the server says

    def pause(self, seconds: float, now: float, why: str, *, at_most: float = 0.0) -> None:
        """Pause the whole endpoint for the stated seconds and some jitter; `at_most` is what a caller's policy allows.

        `why` goes into the log, and into the story of the calls that wait for it.
        A pause for a spending window (US dollars) is a minute at most, however far its reset is: the account may be
        topped up before that.
        """
        counts_dollars = self.endpoint.provider.ratelimit_unit == "usd"
        seconds = min(seconds, _MAX_PAUSE if counts_dollars else max(at_most, _MAX_PAUSE))
        limiter, until = self.limiter, now + seconds * random.uniform(*STRETCH)
        # Hundreds of attempts may be told of the same pause, one after the other; one line is enough.
        longer = until - max(now, limiter.paused_until)
        if longer > 0:
            self.paused_because = why
        limiter.pause(until)
        self.adaptive.paused(now, seconds)
        level = logging.INFO if longer > _LONG_PAUSE else logging.DEBUG
        _log_limits.log(level, "%s pauses for %.1f s: %s", self.endpoint.name, until - now, why)

    def _refused_again(self, now: float) -> None:
        """Note a refusal that led to a cut: from the second one without an answer between them, each opens a pause."""
        self._refusals += 1
        if self._refusals > 1:
            seconds = min(_FIRST_PAUSE * 2.0 ** (self._refusals - 2), _MAX_OWN_PAUSE)
            self.pause(seconds, now, f"it refused {self._refusals} times in a row")

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
            _log_pool.warning("%s leaves the rotation: %s", self.endpoint.name, in_one_line(reason))
        self.circuit.retire(reason)

    def _circuit_changed(self, now: float, was: State, why: object) -> None:
        name = self.endpoint.name
        if self.circuit.state == "closed":
            _log_pool.warning("%s answers again: its circuit is closed", name)
            return
        if self._is_alone:
            then = "calls still go to it, since there is no other endpoint"
        else:
            then = f"calls go elsewhere where they can; it is tried again in {self.circuit.wait(now):.1f} s"
        if was == "half-open":
            _log_pool.info("%s still fails (%s); %s", name, in_one_line(why), then)
        else:
            _log_pool.warning("%s fails again and again (%s): its circuit is open; %s", name, in_one_line(why), then)

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
            state="ok" if self.circuit.state == "closed" else self.circuit.state,
            attempts=counters.attempts,
            answered=counters.answered,
            refused=counters.refused,
            failed=counters.failed,
            cancelled=counters.cancelled,
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
