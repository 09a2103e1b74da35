"""A loop whose time is made of numbers: minutes pass in milliseconds, and always the same way."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where an ordinary loop would sleep until the next timer, this one moves its clock there.

    Every turn takes a microsecond, since limiters that wait for a float remainder would otherwise turn for ever. It
    does what asyncio's loop does, in the same order, and less slowly, since tests make millions of turns and timers:
    timers are compared as tuples are, no turn asks for sockets where there are none, and a callback is not looked at
    before it is called.
    """

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())
        self.now = 1000.0
        self._timers: list[tuple[float, asyncio.TimerHandle]] = []
        self._cancelled = 0

    def time(self) -> float:
        return self.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        timer._scheduled = True  # type: ignore[attr-defined]
        heappush(self._timers, (when, timer))
        return timer

    def _timer_handle_cancelled(self, timer: Any) -> None:
        self._cancelled += timer._scheduled

    def _run_once(self) -> None:
        self.now += 1e-6
        ready, timers = self._ready, self._timers  # type: ignore[attr-defined]
        if timers and not ready:
            self.now = max(self.now, timers[0][0])
        if len(timers) > 100 and self._cancelled > len(timers) / 2:
            timers[:] = [each for each in timers if not each[1].cancelled()]
            heapify(timers)
            self._cancelled = 0
        while timers and timers[0][1]._cancelled:
            heappop(timers)
            self._cancelled -= 1
        if len(self._selector.get_map()) > 1:  # type: ignore[attr-defined]
            # The loop's own socket would wake it, and it never sleeps.
            self._process_events(self._selector.select(0))  # type: ignore[attr-defined]
        until = self.now + 1e-9
        while timers and timers[0][0] < until:
            timer: Any = heappop(timers)[1]
            timer._scheduled = False
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        # Threads end in real time. From Python 3.12 on, the runner gives them five minutes, which pass at once here.
        await super().shutdown_default_executor()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
