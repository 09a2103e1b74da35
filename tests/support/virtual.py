"""A loop whose time is made of numbers: minutes pass in milliseconds, and always the same way."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where an ordinary loop would sleep until the next timer, this one moves its clock there.

    Every turn takes a microsecond, since limiters that wait for a float remainder would otherwise turn for ever.
    """

    def __init__(self) -> None:
        super().__init__(_NoWait())
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        self.now += 1e-6
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        # Threads end in real time. From Python 3.12 on, the runner gives them five minutes, which pass at once here.
        await super().shutdown_default_executor()


class _NoWait(selectors.SelectSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # The loop's own socket would wake it, and it never sleeps.
        return super().select(0) if len(self.get_map()) > 1 else []


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
