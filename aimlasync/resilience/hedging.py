"""Hedging: when a second attempt is sent while the first is under way, how many there may be, and the race of both.

`Hedging` is arithmetic without I/O or a clock. `race` runs the two attempts: until the delay has passed it costs one
timer, and the first attempt runs in the caller's own task. A hedge helps against a slow server, and hurts a server that
is slow because it is overloaded. So hedging is opt-in, bounded as a share of the calls, and a hedge is sent only where
a permit is free at once. It imports nothing of this library. Source: J. Dean and L. A. Barroso, "The Tail at Scale",
Communications of the ACM 56(2), 2013.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec

from aimlasync.spelling import Spelled

# How many durations are kept for each kind of call; the percentile is computed from them.
_RECENT = 256
# With fewer durations the percentile is unreliable, and nothing is hedged.
_ENOUGH = 20
_SORT_EVERY = 16
_PERCENTILE = 0.95
# How many unused hedges are saved up: more would be a burst at the moment when a server is slow for all calls.
_MAX_SAVED = 5.0
_MAX_KINDS = 64


T = TypeVar("T")


class Hedge(msgspec.Struct, frozen=True, kw_only=True, metaclass=Spelled):
    """Send a second attempt when the first is slow, and take the first answer of the two."""

    after: float | None = None
    """Seconds after which the second attempt is sent; None for the 95th percentile of such calls, once it is known."""
    max_extra: float = 0.05
    """The most second attempts, as a share of all calls."""

    def __post_init__(self) -> None:
        if self.after is not None and not 0 <= self.after < float("inf"):
            raise ValueError(f"after must be seconds, 0 or more, not {self.after}")
        if not 0 < self.max_extra <= 1:
            raise ValueError(f"max_extra must be a share above 0 and up to 1, not {self.max_extra}")


class _Durations:
    """The recent durations of one kind of call, and their percentile."""

    __slots__ = ("percentile", "recent", "unsorted")

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=_RECENT)
        self.percentile: float | None = None
        self.unsorted = 0

    def add(self, seconds: float) -> None:
        self.recent.append(seconds)
        self.unsorted += 1
        if len(self.recent) >= _ENOUGH and (self.percentile is None or self.unsorted >= _SORT_EVERY):
            self.unsorted = 0
            self.percentile = sorted(self.recent)[int(_PERCENTILE * len(self.recent))]


class Hedging:
    """The hedging of one client: the durations of its calls, and how many second attempts it may send."""

    __slots__ = ("_kinds", "_saved", "hedge")

    def __init__(self, hedge: Hedge) -> None:
        self.hedge = hedge
        # By (model, whether it streams), the most recently used last; the least recently used is dropped.
        self._kinds: OrderedDict[tuple[str, bool], _Durations] = OrderedDict()
        self._saved = 0.0

    def delay(self, kind: tuple[str, bool]) -> float | None:
        """Count a call, and return after how many seconds it should be hedged; None while that is unknown."""
        self._saved = min(_MAX_SAVED, self._saved + self.hedge.max_extra)
        if self.hedge.after is not None:
            return self.hedge.after
        durations = self._kinds.get(kind)
        return None if durations is None else durations.percentile

    def take(self) -> bool:
        """Use one hedge; return False when none is left."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True

    def give_back(self) -> None:
        """Return a hedge that was not sent."""
        self._saved += 1.0

    def took(self, kind: tuple[str, bool], seconds: float) -> None:
        """Note how long an answer, or the first event of a stream, took."""
        if self.hedge.after is not None:
            # No percentile is asked for.
            return
        durations = self._kinds.get(kind)
        if durations is None:
            durations = self._kinds[kind] = _Durations()
            if len(self._kinds) > _MAX_KINDS:
                self._kinds.popitem(last=False)
        else:
            self._kinds.move_to_end(kind)
        durations.add(seconds)


class Timers(Protocol):
    """What calls back after some seconds."""

    def after(self, seconds: float, callback: Callable[[], object], /) -> Any:
        """Start a timer, and return what `cancel` takes."""

    def cancel(self, timer: Any, /) -> None:
        """End a timer."""


async def race(
    first: Awaitable[T],
    second: Callable[[], Coroutine[Any, Any, T]],
    *,
    delay: float,
    timers: Timers | None = None,
) -> T:
    """Return the result of `first`, or of the faster of both if `first` takes longer than `delay` seconds.

    `second` is started after the delay. It may be cancelled before it has begun, so it takes what it needs when it
    runs. When both fail, the error of `first` is raised. The result of the slower one is abandoned. Both have ended
    when this returns. `timers` are those of the event loop where none are given.
    """
    loop = asyncio.get_running_loop()
    race = _Race(second, loop, asyncio.current_task(loop))
    timer = loop.call_later(delay, race.begin) if timers is None else timers.after(delay, race.begin)
    try:
        return await first
    except asyncio.CancelledError:
        if race.cancelled_the_first():
            return race.take()  # type: ignore[no-any-return]  # what `second` returns
        raise
    except Exception:
        if await race.has_other():
            return race.take()  # type: ignore[no-any-return]
        raise
    finally:
        timer.cancel() if timers is None else timers.cancel(timer)
        race.is_over = True
        if race.second is not None:
            await race.end()


class _Race(msgspec.Struct, eq=False):
    """The second attempt of a race; when it wins, it cancels the task of the first."""

    make: Callable[[], Coroutine[Any, Any, Any]]
    loop: asyncio.AbstractEventLoop
    first: asyncio.Task[Any] | None
    second: asyncio.Task[Any] | None = None
    is_over: bool = False
    _has_won: bool = False
    # How many cancellations of the first's task were requested before the second began.
    _cancelling: int = 0

    def begin(self) -> None:
        assert self.first is not None
        self._cancelling = self.first.cancelling()
        self.second = self.loop.create_task(self.make())
        self.second.add_done_callback(self._ended)

    def _ended(self, second: asyncio.Task[Any]) -> None:
        if not self.is_over and _has_result(second) and self.first is not None:
            self._has_won = self.is_over = True
            self.first.cancel()

    def cancelled_the_first(self) -> bool:
        """Whether the second won and cancelled the first, and no other code cancelled it as well."""
        return self._has_won and self.first is not None and self.first.uncancel() <= self._cancelling

    async def has_other(self) -> bool:
        """Wait for the second after the first has failed, and return whether the second has a result."""
        self.is_over = True
        if self.second is None:
            return False
        await asyncio.wait([self.second])
        return _has_result(self.second)

    def take(self) -> Any:
        """Return the result of the second."""
        assert self.second is not None
        second, self.second = self.second, None
        return second.result()

    async def end(self) -> None:
        """Cancel the second and wait for its end; its result, if it has one, is abandoned."""
        second = self.second
        assert second is not None
        second.cancel()
        await asyncio.wait([second])
        if _has_result(second):
            # A stream still holds its connection and permit.
            getattr(second.result(), "abandon", lambda: None)()


def _has_result(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
