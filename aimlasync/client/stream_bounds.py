"""The timeouts of a stream: `total`, `first_token` and `idle` of `Timeout`.

Each stream has one timer, which computes the next timeout when it fires; moving it with every event would cost more. It
holds no reference to the stream, so that a stream that its reader dropped is garbage-collected. It may import `call`,
`deadlines` and what lies below.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from aimlasync.client.call import Attempt
from aimlasync.deadlines import grace
from aimlasync.errors import APITimeoutError
from aimlasync.transport.base import RawReply

_Expiry = Literal["total", "first_token", "idle"]


class StreamBounds:
    """The bounds of one attempt, whose reply is dropped when one of them passes."""

    __slots__ = (
        "_attempt",
        "_deadline",
        "_due",
        "_expired",
        "_loop",
        "_reply",
        "_timeout",
        "_timer",
        "got_event",
        "waiting",
    )

    def __init__(self, attempt: Attempt, reply: RawReply, loop: asyncio.AbstractEventLoop) -> None:
        self._attempt = attempt
        self._deadline = attempt.call.deadline
        self._timeout = attempt.call.timeout
        self._reply = reply
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._expired: _Expiry | None = None
        # When the timer is to ring; infinite once it is to ring however late it is.
        self._due = float("inf")
        self.got_event = False
        self.waiting: float | None = None
        """Since when the reader waits for an event; None while it does not: only the server's silence counts."""

    def arm(self) -> None:
        """Begin to watch the clock, or look anew at what is the next bound."""
        self.stop()
        bound = self._next()
        if bound is not None:
            self._due = bound[0]
            self._timer = self._loop.call_at(bound[0], self._ring)

    def stop(self) -> None:
        """Watch the clock no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def error(self, partial: object) -> APITimeoutError | None:
        """Return the error of the bound that has passed, None where none has."""
        phase = self._expired
        if phase is None:
            return None
        seconds = getattr(self._timeout, phase)
        said = {
            "total": f"the call took longer than {seconds} s",
            "first_token": f"no event within {seconds} s",
            "idle": f"no further event within {seconds} s",
        }[phase]
        return APITimeoutError(said, phase=phase, partial=partial)

    def _next(self) -> tuple[float, _Expiry] | None:
        """When the next bound passes if nothing arrives, and which one it is."""
        bounds: list[tuple[float, _Expiry]] = []
        if self._deadline is not None:
            bounds.append((self._deadline, "total"))
        if not self.got_event:
            # An answer may come as a stream without being asked to.
            first_token = self._timeout.first_token if self._attempt.call.streams else None
            if first_token is not None:
                bounds.append((self._attempt.sent_at + first_token, "first_token"))
        elif self._timeout.idle is not None:
            since = self._loop.time() if self.waiting is None else self.waiting
            bounds.append((since + self._timeout.idle, "idle"))
        return min(bounds, default=None)

    def _ring(self) -> None:
        bound, now = self._next(), self._loop.time()
        if bound is not None and bound[0] <= now:
            if seconds := grace(self._due, now):
                self._due = float("inf")
                self._timer = self._loop.call_at(now + seconds, self._ring)
                return
            self._timer = None
            self._expired = bound[1]
            # The pending read fails, or the next one does.
            self._reply.abort()
        else:
            self.arm()
