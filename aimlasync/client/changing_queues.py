"""Calls that wait at one endpoint while another has room: they choose anew.

An endpoint that hangs, pauses or is slow would otherwise keep the calls that chose it while it was the best. With each
attempt that ends where no call waits, and when a pause, a circuit or a learned rate of another endpoint opens, as many
calls go as there are places; who goes first is what the queue of their endpoint says. A client with one endpoint has
none of this. It may import `call` and what lies below `client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aimlasync.admission.endpoint_limiter import Admission
from aimlasync.admission.fair_queue import Waiter
from aimlasync.client.call import Call
from aimlasync.client.target import Target
from aimlasync.endpoints.lane import Lane
from aimlasync.endpoints.upstream import Upstream
from aimlasync.errors import APIConnectionError, OverloadedError


class ChangingQueues:
    """The calls that wait at one endpoint of several. Mutable: they come and go."""

    __slots__ = ("_calls", "_choose", "_looks_at", "_timer", "_upstreams")

    def __init__(self, upstreams: Sequence[Upstream], choose: Callable[[Call, float], Target]) -> None:
        self._upstreams = upstreams
        self._choose = choose
        self._calls: dict[Waiter[Admission], Call] = {}
        # What will look again when an endpoint opens that calls could go to.
        self._timer: asyncio.Handle | None = None
        # When that is. The handle cannot tell: within half a millisecond, uvloop's is none of a timer.
        self._looks_at = 0.0

    async def wait(self, call: Call, lane: Lane, tokens: Callable[[], float], *, again: bool) -> Admission:
        """Wait for a permit of `lane`. Raises SentAway when the call is to choose anew."""
        waiter = lane.limiter.join(tokens, call.priority, call.tenant, again=again)
        if not self._calls:
            self._listen(self._spread)
        self._calls[waiter] = call
        try:
            self._wait_for_openings(call, lane)
            return await lane.limiter.served(waiter)
        finally:
            self._calls.pop(waiter, None)
            if not self._calls:
                self._listen(None)
                self._rest()

    def forget(self) -> None:
        """Let go of what waited in an event loop that is closed."""
        self._calls.clear()
        self._listen(None)
        self._timer = None

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _listen(self, ended: Callable[[], None] | None) -> None:
        for upstream in self._upstreams:
            upstream.attempt_ended = ended

    def _wait_for_openings(self, call: Call, lane: Lane) -> None:
        """Look again when the first of the endpoints opens that a call could have gone to."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for target in call.targets:
            other = target.upstream.lane(call.info.model)
            opens = max(other.limiter.opens_in(now), 0.0 if other.is_well else other.wait(now))
            if other is lane or not 0.0 < opens < float("inf"):
                continue
            if self._timer is None or now + opens < self._looks_at:
                self._rest()
                self._looks_at = now + opens
                self._timer = loop.call_at(self._looks_at, self._opened)

    def _opened(self) -> None:
        self._timer = None
        if self._calls:
            self._spread()

    def _spread(self) -> None:
        """Send as many calls to choose anew as others have room for."""
        now = next(iter(self._calls)).turn.get_loop().time()
        room: dict[Lane, int] = {}
        for upstream in self._upstreams:
            if upstream.limiter.waiting:
                for lane in list(upstream.lanes.values()):
                    while lane.limiter.queue.waiting and self._send_one(lane, room, now):
                        pass

    def _send_one(self, lane: Lane, room: dict[Lane, int], now: float) -> bool:
        waiter = lane.limiter.queue.head()
        call = None if waiter is None else self._calls.get(waiter)
        if waiter is None or call is None:
            return False
        if self._goes(call, lane, room, now):
            lane.limiter.send_away(waiter)
            return True
        self._wait_for_openings(call, lane)
        return False

    def _goes(self, call: Call, lane: Lane, room: dict[Lane, int], now: float) -> bool:
        """Whether another endpoint has room for a call and is the better choice; its place there is then taken."""
        for target in call.targets:
            other = target.upstream.lane(call.info.model)
            if other is not lane and other not in room:
                room[other] = other.limiter.room(now)
        if not any(room.values()):
            return False
        try:
            other = self._choose(call, now).upstream.lane(call.info.model)
        except (OverloadedError, APIConnectionError):
            # Every endpoint rests.
            return False
        if not room.get(other):
            return False
        room[other] -= 1
        return True
