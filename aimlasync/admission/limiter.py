"""The limiter of one model at one endpoint: which attempt may be sent, when, and what the others wait for.

`stands_against` names what the next attempt waits for; users see it as `limited_by` of `client.statistics()`. How long
one call waited is in its `info.timing`: `queued` for the concurrency limit, `limited` for a rate limit or a pause. It
is arithmetic on the event loop's clock, without I/O. It may import `config` and the other files of this package.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aimlasync.admission.endpoint_limiter import UNCOUNTED, Admission, EndpointLimiter, LearnedRate, WaitsFor
from aimlasync.admission.fair_queue import FairQueue, Waiter
from aimlasync.config import Priority


class SentAway(Exception):
    """The call is to wait elsewhere."""


class Limiter:
    """One model's limiter. Its mutable state: the count in flight, the pause, and the queue.

    An attempt is admitted in the instant in which all of these hold:

     - Fewer than `limit` attempts of the model are in flight.
     - The model's learned rate, where there is one, allows the next attempt; it is told of every admission in the
       instant in which it is made.
     - The model is not paused.
     - What all models of the endpoint share (`endpoint`, an `EndpointLimiter`) allows it.

    Only the head of the queue is tried. A waiting call holds nothing, and its tokens are estimated again each time it
    is tried: an estimate made before the first answer may be far off. A model that is full, paused or slowed down does
    not take part in the endpoint's turns, so its calls hold back no call of another model.
    """

    __slots__ = (
        "_timer",
        "endpoint",
        "in_flight",
        "learned_rate",
        "limit",
        "paused_until",
        "queue",
    )

    def __init__(self, endpoint: EndpointLimiter, *, limit: int, learned_rate: LearnedRate | None = None) -> None:
        self.endpoint = endpoint
        self.learned_rate = learned_rate
        self.limit = limit
        self.in_flight = 0
        self.paused_until = float("-inf")
        self.queue: FairQueue[Admission] = FairQueue()
        """The waiting calls; callers may read it and must not change it."""
        # What will try the head of the queue again after a pause or a delay.
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many attempts wait in the queue."""
        return self.queue.waiting

    def enter_nowait(self, tokens: float, now: float) -> Admission | None:
        """Admit an attempt of about `tokens` if that is possible at once and no other call waits; else return None."""
        endpoint, learned_rate = self.endpoint, self.learned_rate
        if self.in_flight >= self.limit or endpoint.in_flight >= endpoint.limit:
            return None
        if self.paused_until > now or endpoint.paused_until > now:
            return None
        if learned_rate is not None and learned_rate.delay(now) > 0:
            return None
        if endpoint.ready or (self.queue.waiting and self.queue.head() is not None):
            return None
        if endpoint.is_rated or endpoint.learned_rate is not None:
            admission = endpoint.take(tokens, now)
            if admission is None:
                return None
        else:
            endpoint.in_flight += 1
            admission = UNCOUNTED
        self.in_flight += 1
        if learned_rate is not None:
            learned_rate.sent(now)
        return admission

    async def enter(
        self,
        tokens: float | Callable[[], float],
        priority: Priority = "interactive",
        tenant: str | None = None,
        *,
        again: bool = False,
    ) -> Admission:
        """Wait in the queue until an attempt of about `tokens` may be sent; a cancelled wait holds nothing.

        Where `tokens` is a function, it is called each time the call is tried, so that newer estimates are used. A call
        that is tried `again` goes first.
        """
        return await self.served(self.join(tokens, priority, tenant, again=again))

    def join(
        self, tokens: float | Callable[[], float], priority: Priority, tenant: str | None, *, again: bool
    ) -> Waiter[Admission]:
        """Do the first half of `enter`, and return what waits in the queue; it is to be awaited with `served`."""
        need = tokens if callable(tokens) else lambda: tokens
        waiter = self.queue.join(priority, need, tenant, again=again)
        self.endpoint.joined(waiter)
        if self.in_flight < self.limit:
            # The new waiter may be the head, also before waiters that were there.
            self.advance()
        return waiter

    async def served(self, waiter: Waiter[Admission]) -> Admission:
        """Wait until a call of the queue may be sent. Raises SentAway when `send_away` took it out of the queue."""
        try:
            return await waiter.turn
        except SentAway:
            raise
        except BaseException:
            if waiter.turn.done() and not waiter.turn.cancelled():
                if waiter.turn.exception() is not None:
                    # It was sent away and cancelled in the same iteration.
                    raise
                # It was admitted and cancelled in the same iteration of the event loop: nothing was sent.
                self.withdraw(waiter.turn.result())
            else:
                waiter.turn.cancel()
                self.queue.left(waiter)
                self.endpoint.left(waiter)
                self.advance()
            raise

    def send_away(self, waiter: Waiter[Admission]) -> None:
        """Take a call out of the queue that shall wait elsewhere: its `served` raises SentAway."""
        waiter.turn.set_exception(SentAway())
        self.queue.left(waiter)
        self.endpoint.left(waiter)
        self.advance()

    def room(self, now: float) -> int:
        """Return how many attempts could be sent at once, as far as that is known before their tokens are."""
        endpoint = self.endpoint
        if self.queue.waiting or endpoint.ready or self.opens_in(now) > 0:
            return 0
        return max(0, min(self.limit - self.in_flight, endpoint.limit - endpoint.in_flight))

    def opens_in(self, now: float) -> float:
        """Return the seconds until the pauses are over and the learned rates allow an attempt."""
        wait = max(self.paused_until, self.endpoint.paused_until) - now
        for learned_rate in (self.learned_rate, self.endpoint.learned_rate):
            if learned_rate is not None:
                wait = max(wait, learned_rate.expected_wait(now, 0))
        return max(0.0, wait)

    def leave(self, admission: Admission, tokens: float | None = None) -> None:
        """End an admitted attempt; `tokens` is how many it really took, None when that is not known."""
        endpoint = self.endpoint
        self.in_flight -= 1
        endpoint.in_flight -= 1
        if tokens is not None and admission is not UNCOUNTED:
            endpoint.settle(admission, tokens)
        if self.queue.waiting:
            self.advance()
        elif endpoint.ready:
            endpoint.advance()

    def withdraw(self, admission: Admission) -> None:
        """End an admitted attempt that was never sent: it counts neither as a request nor by its tokens."""
        self.endpoint.withdraw(admission)
        self.leave(admission, 0.0)

    def resize(self, limit: int) -> None:
        """Set how many attempts may be in flight; a lower limit lets those in flight end and admits no others."""
        grown = limit > self.limit
        self.limit = limit
        if grown and self.queue.waiting:
            self.advance()

    def pause(self, until: float) -> None:
        """Admit nothing of this model before `until` (loop time); a shorter pause never shortens a longer one."""
        self.paused_until = max(self.paused_until, until)

    def advance(self) -> None:
        """Let the endpoint admit from the head of the queue while nothing of this model stands against it.

        A timer tries the head again after a pause or a delay, and `leave` when an attempt ends.
        """
        endpoint = self.endpoint
        if self.head() is not None:
            endpoint.ready.setdefault(self)
        elif self in endpoint.ready:
            del endpoint.ready[self]
        endpoint.advance()

    def head(self) -> Waiter[Admission] | None:
        """Return the head of the queue if nothing of this model stands against it.

        Else arrange that it is tried again, and return None.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.in_flight >= self.limit or (waiter := self.queue.head()) is None:
            return None
        loop = waiter.turn.get_loop()
        wait = self.paused_until - (now := loop.time())
        if self.learned_rate is not None:
            wait = max(wait, self.learned_rate.delay(now))
        if wait > 0:
            self._timer = loop.call_later(wait, self.advance)
            return None
        return waiter

    def serve(self, waiter: Waiter[Admission], admission: Admission, now: float) -> None:
        """Give the head of the queue what the endpoint admitted; the endpoint calls this."""
        self.in_flight += 1
        if self.learned_rate is not None:
            self.learned_rate.sent(now)
        if admission is UNCOUNTED:
            admission = Admission()
        counted = self.endpoint if self.learned_rate is None else self
        admission.at, admission.beside = now, counted.in_flight - 1
        self.queue.serve(waiter, admission)

    def held_by(self, now: float) -> WaitsFor | None:
        """Return what the head of the queue waits for, None when nobody waits."""
        waiter = self.queue.head() if self.queue.waiting else None
        return None if waiter is None else self.stands_against(waiter.need(), now)

    def stands_against(self, tokens: float, now: float) -> WaitsFor | None:
        """Return what an attempt of about `tokens` would have to wait for, None where that is not known."""
        if self.paused_until > now:
            return "pause"
        if self.in_flight >= self.limit:
            return "concurrency"
        if self.learned_rate is not None and self.learned_rate.delay(now) > 0:
            return "rate"
        return self.endpoint.stands_against(tokens, now)
