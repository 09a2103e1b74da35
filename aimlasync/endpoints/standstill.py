"""Whether the calls of a lane stand still: some wait for a place, and no attempt has begun or ended for long.

Then all attempts in flight hang (`admission.hung`). A limit that the user stated is kept all the same.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aimlasync.logs import log_of

if TYPE_CHECKING:
    from aimlasync.endpoints.lane import Lane

_log = log_of("aimlasync.limits")

# Seconds, and how many times as long as an attempt takes in the mean, after which one that has not ended hangs.
_LONG = 30.0
_EVERY = 10.0
_TIMES = 4.0


class Standstill:
    """Looks now and then at a lane in which calls wait. Its mutable state: what it saw last, and since when."""

    __slots__ = ("_lane", "_seen", "_since", "is_watching")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.is_watching = False
        self._seen = (0, 0)
        self._since = 0.0

    def watch(self) -> None:
        """Look at the lane for as long as calls wait in it; call it in its event loop, unless it `is_watching`."""
        if not self._lane.law.is_fixed:
            loop = asyncio.get_running_loop()
            self._seen, self._since = self._progress(), loop.time()
            self._look_later(loop)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_watching = True
        loop.call_later(_EVERY, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        lane, now = self._lane, loop.time()
        self.is_watching = False
        if not lane.limiter.waiting:
            return
        counted, seen = lane.counted, self._progress()
        # Where nothing was answered yet, nobody knows how long it takes.
        long = max(_LONG, _TIMES * (lane.held_for or _LONG))
        if seen != self._seen or counted.in_flight < counted.limit or lane.law.is_fixed:
            self._seen, self._since = seen, now
        elif now - self._since >= long:
            self._since = now
            many = counted.in_flight
            _log.warning("%s: %d calls hang while others wait for their places; one more is sent", lane.name, many)
            lane.law.hung.found(now, many)
            counted.resize(lane.law.allowed)
        self._look_later(loop)

    def _progress(self) -> tuple[int, int]:
        """Return what changes when an attempt begins or ends."""
        return self._lane.counted.in_flight, self._lane.upstream.account.attempts(self._lane)
