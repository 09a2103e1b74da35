"""A worker's side of a shared quota: the lease that it spends, and its requests for the next one.

A worker holds at most one lease and has at most one request to the shared place under way. What it did not spend of a
lease is returned with its next request, or by `Leases.close`. `admission.limiter` says
what it needs; this file knows no queue. Times are those of the event loop, read cautiously: a lease begins when the
answer has arrived, and ends as if it had begun when the request was sent. It may import `config` and `quota.protocol`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Literal

from aimlasync.config import Limits
from aimlasync.logs import log_of
from aimlasync.quota.protocol import Ask, Lease, Quota, QuotaDownError

# An attempt is taken from a lease that has at least this share of its tokens. Estimates may grow after the lease was
# requested; what is missing is settled after the answer.
_ENOUGH = 0.8
# Seconds after which a settled difference is reported, unless another request reports it earlier.
_REPORT_AFTER = 0.5
# Seconds until a shared place that failed is asked again; also how long a closing worker waits for it.
_RETRY_AFTER = 1.0
# Seconds between reports of an idle worker, and of one that waits for its lease to begin. A report keeps the worker's
# part of the limits its own, and tells a shared place that lost its state what the worker knows.
_IDLE_REPORT = 20.0
_WAITING_REPORT = 1.0
# After so many leases in a row of which nothing could be spent, the worker waits before the next request.
_MAX_UNUSABLE = 5
# Seconds between two warnings.
_WARN_AGAIN = 60.0

_log = log_of("aimlasync.quota")


class Allotment:
    """What one attempt took of a lease: one request, and `tokens`."""

    __slots__ = ("lease", "tokens")

    def __init__(self, lease: HeldLease, tokens: float) -> None:
        self.lease = lease
        self.tokens = tokens


class HeldLease:
    """A lease that was granted: what is left of it, what was spent, and when it may be spent (loop time)."""

    __slots__ = (
        "ends",
        "epoch",
        "granted",
        "left_requests",
        "left_tokens",
        "number",
        "spent_requests",
        "spent_tokens",
        "starts",
        "step",
    )

    def __init__(self, lease: Lease, asked: float, now: float) -> None:
        self.number = lease.number
        self.epoch = lease.epoch
        self.step = lease.step
        self.granted = (lease.requests, lease.tokens)
        self.left_requests = lease.requests
        self.left_tokens = lease.tokens
        self.spent_requests = 0.0
        self.spent_tokens = 0.0
        self.starts = now + lease.starts
        self.ends = asked + lease.starts + lease.seconds


class Leases:
    """The leases of one endpoint, taken from `quota`.

    The callback that `on_change` sets is called whenever an attempt that did not fit may fit now. The mutable state is
    the lease, what was spent of it, what must still be reported, and the timers.
    """

    __slots__ = (
        "_changed",
        "_closed",
        "_corrections",
        "_epoch",
        "_held",
        "_held_by",
        "_limits",
        "_paused_until",
        "_quota",
        "_report_timer",
        "_reports_at",
        "_request",
        "_rpm",
        "_spent_last",
        "_timer",
        "_tpm",
        "_unusable",
        "_warned",
        "_worker",
    )

    def __init__(self, quota: Quota, limits: Limits) -> None:
        if not limits.is_rated:
            raise ValueError("quota= shares what limits= allow: give Limits(requests_per_minute=..., ...) as well")
        self._quota = quota
        self._limits = limits
        self._changed: Callable[[], None] = _nothing
        # The limits in force: lower than those of this worker where another worker was given lower ones.
        self._rpm = limits.requests_per_minute
        self._tpm = limits.tokens_per_minute
        self._worker = os.urandom(6).hex()
        self._epoch = ""
        self._held: HeldLease | None = None
        # The attempts of the lease before: the next one is requested for as many more.
        self._spent_last = 0
        # How many leases in a row nothing could be spent of.
        self._unusable = 0
        self._held_by: Literal["requests", "tokens", "pause"] = "requests"
        # Step -> tokens beyond those that the shared place counted there, in this epoch.
        self._corrections: dict[int, float] = {}
        self._paused_until = float("-inf")
        self._request: asyncio.Task[None] | None = None
        # Calls `_changed` when the lease begins, or when a failed place is asked again.
        self._timer: asyncio.TimerHandle | None = None
        # Sends what must be reported, or that the worker still exists.
        self._report_timer: asyncio.Handle | None = None
        # When it does. uvloop's handle of less than half a millisecond cannot tell.
        self._reports_at = 0.0
        self._warned = float("-inf")
        self._closed = False

    def on_change(self, changed: Callable[[], None]) -> None:
        """Set the callback for when an attempt that did not fit may fit now."""
        self._changed = changed

    @property
    def counts_tokens(self) -> bool:
        """Whether estimates of tokens are used: always, since another worker may set a limit of tokens."""
        return True

    @property
    def held_by(self) -> Literal["requests", "tokens", "pause"]:
        """What the next attempt waits for."""
        return self._held_by

    def take(self, tokens: float, now: float) -> Allotment | None:
        """Take one attempt of about `tokens` from the lease; None when the lease does not allow it now."""
        held = self._held
        if held is None or not held.starts <= now < held.ends:
            return None
        if self._rpm is not None and held.left_requests < 1:
            return None
        if self._tpm is not None:
            # A request larger than a minute's limit counts as a whole minute.
            tokens = min(tokens, self._tpm)
            if held.left_tokens < tokens * _ENOUGH:
                return None
            held.left_tokens = max(0.0, held.left_tokens - tokens)
            held.spent_tokens += tokens
        held.left_requests -= 1
        held.spent_requests += 1
        return Allotment(held, tokens)

    def want(self, calls: int, tokens: float, now: float) -> None:
        """Request a lease for `calls` attempts, the first of about `tokens`; the callback is called when it begins."""
        if self._held is not None and now < self._held.starts:
            # A lease is granted and begins later; the timer calls back then.
            return
        if self._request is not None or self._closed:
            return
        if self._unusable >= _MAX_UNUSABLE:
            # A shared place that grants unusable leases is not asked in a busy loop.
            self._unusable = 0
            self._call_back_in(_RETRY_AFTER, asyncio.get_running_loop())
        else:
            self._send(calls + self._spent_last, tokens, ends=True)

    def settle(self, allotment: Allotment, tokens: float) -> None:
        """Note how many tokens an attempt really took."""
        difference, held = tokens - allotment.tokens, allotment.lease
        if not difference or self._tpm is None:
            return
        allotment.tokens = tokens
        if held is self._held:
            held.spent_tokens = max(0.0, held.spent_tokens + difference)
        elif held.epoch == self._epoch:
            self._corrections[held.step] = self._corrections.get(held.step, 0.0) + difference
        elif difference > 0:
            # The place that counted the attempt lost its state: the place of today counts the excess as sent now.
            self._owe({0: difference})
        else:
            return
        self._report_in(_REPORT_AFTER)

    def withdraw(self, allotment: Allotment) -> None:
        """Put back what an attempt took that was never sent."""
        held = allotment.lease
        if held is self._held:
            held.left_requests += 1
            held.spent_requests -= 1
            held.left_tokens += allotment.tokens
            held.spent_tokens = max(0.0, held.spent_tokens - allotment.tokens)
            allotment.tokens = 0.0
        else:
            self.settle(allotment, 0.0)

    def pause(self, until: float) -> None:
        """Report that the server told the account to send nothing before `until` (loop time)."""
        self._paused_until = max(self._paused_until, until)
        self._report_in(0.0)

    async def close(self) -> None:
        """Return what is left to the shared place; harmless more than once."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._timer, self._report_timer):
            if timer is not None:
                timer.cancel()
        if self._request is not None:
            # The lease that it brings must be returned, else its part of the limits is unused for a minute.
            await asyncio.wait([self._request], timeout=_RETRY_AFTER)
            if self._request is not None:
                self._request.cancel()
        if self._epoch:
            try:
                async with asyncio.timeout(_RETRY_AFTER):
                    await self._quota.lease(self._ask(0, 0.0, ends=True, leaves=True))
            except Exception as error:  # noqa: BLE001  # a shared place that is gone takes nothing back
                _log.debug("a lease could not be returned to the shared quota: %s", type(error).__name__)

    def _report_in(self, delay: float) -> None:
        """Report to the shared place within `delay` seconds, even if no lease is needed."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + delay
        if self._report_timer is not None:
            if self._reports_at <= at:
                return
            self._report_timer.cancel()
        self._reports_at = at
        self._report_timer = loop.call_at(at, self._report)

    def _report(self) -> None:
        self._report_timer = None
        held = self._held
        now = asyncio.get_running_loop().time()
        if self._request is not None:
            self._report_in(_REPORT_AFTER)
        elif held is None or not held.starts <= now < held.ends or self._corrections or self._paused_until > now:
            # It returns what is left of a lease that ended, or says that nothing is needed: other workers get it.
            self._send(0, 0.0, ends=held is not None and now >= held.ends)
        else:
            self._report_later(now)

    def _report_later(self, now: float) -> None:
        held = self._held
        if held is None:
            self._report_in(_IDLE_REPORT)
        elif now < held.starts:
            self._report_in(min(_WAITING_REPORT, held.starts - now))
        else:
            self._report_in(max(0.0, held.ends - now))

    def _send(self, calls: int, tokens: float, *, ends: bool) -> None:
        """Start a request to the shared place; `ends` says that it ends the lease at hand."""
        if self._report_timer is not None:
            self._report_timer.cancel()
            self._report_timer = None
        ending = self._held if ends else None
        ask = self._ask(calls, tokens, ends=ends)
        loop = asyncio.get_running_loop()
        self._request = loop.create_task(self._lease(ask, ending, loop), name="aimlasync lease")

    def _ask(self, calls: int, tokens: float, *, ends: bool, leaves: bool = False) -> Ask:
        """Return a request with all that must be reported, and forget that it must be."""
        held = self._held if ends else None
        corrections, self._corrections = self._corrections, {}
        paused_until, self._paused_until = self._paused_until, float("-inf")
        if held is not None:
            self._held = None
            self._unusable = self._unusable + 1 if calls and not held.spent_requests else 0
            self._spent_last = int(held.spent_requests)
        return Ask(
            worker=self._worker,
            requests_per_minute=self._limits.requests_per_minute,
            tokens_per_minute=self._limits.tokens_per_minute,
            calls=calls,
            tokens=tokens,
            epoch=self._epoch,
            lease=0 if held is None else held.number,
            spent_requests=0.0 if held is None else held.spent_requests,
            spent_tokens=0.0 if held is None else held.spent_tokens,
            corrections=corrections,
            pause=max(0.0, paused_until - asyncio.get_running_loop().time()),
            leaves=leaves,
        )

    async def _lease(self, ask: Ask, ending: HeldLease | None, loop: asyncio.AbstractEventLoop) -> None:
        """Request a lease, settle the one that is `ending`, and hold what is granted. A failure is tried again."""
        asked = loop.time()
        try:
            lease = await self._quota.lease(ask)
        except Exception as error:  # noqa: BLE001  # whatever it is, calls go on when the shared place is back
            self._request = None
            self._warn(error, loop.time())
            # The next request reports what this one did not.
            if ask.pause:
                self._paused_until = max(self._paused_until, asked + ask.pause)
            self._owe(ask.corrections)
            if self._held is None:
                self._call_back_in(_RETRY_AFTER, loop)
            else:
                # The timer is that of the lease at hand, which calls may wait for.
                self._report_in(_RETRY_AFTER)
            return
        self._request = None
        now = loop.time()
        if lease.requests_per_minute is not None or lease.tokens_per_minute is not None:
            self._rpm, self._tpm = lease.requests_per_minute, lease.tokens_per_minute
        if lease.epoch != self._epoch:
            # Another place, or one that lost its state: tokens that the old one counted too high are lost.
            self._epoch = lease.epoch
            corrections, self._corrections = self._corrections, {}
            self._owe(corrections)
        elif ending is not None and lease.ended:
            correction = self._corrections.pop(ending.step, 0.0)
            ending.step = lease.ended
            if correction:
                self._corrections[ending.step] = self._corrections.get(ending.step, 0.0) + correction
        if lease.number:
            # A lease is never larger than its request, whatever the answer says.
            lease.requests = min(lease.requests, max(1.0, ask.calls))
            self._held = HeldLease(lease, asked, now)
            self._held_by = lease.held_by
            self._report_later(now)
            self._call_back_in(lease.starts, loop)
        elif not self._closed:
            self._report_later(now)
            # Calls that came while this report was under way have no lease requested for them yet.
            self._changed()

    def _owe(self, corrections: dict[int, float]) -> None:
        """Report as sent now the tokens that attempts took beyond those counted, in whichever epoch that was."""
        more = sum(tokens for tokens in corrections.values() if tokens > 0)
        if more:
            self._corrections[0] = self._corrections.get(0, 0.0) + more

    def _warn(self, error: Exception, now: float) -> None:
        again = now - self._warned < _WARN_AGAIN
        if not again:
            self._warned = now
        # The text of any other error may hold a secret.
        why = str(error) if isinstance(error, QuotaDownError) else type(error).__name__
        level = logging.DEBUG if again else logging.WARNING
        _log.log(level, "no lease of the shared quota (%s): calls wait, and it is asked again every second", why)

    def _call_back_in(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._closed:
            return
        if seconds > 0:
            self._timer = loop.call_later(seconds, self._changed)
        else:
            self._changed()


def _nothing() -> None:
    return None
