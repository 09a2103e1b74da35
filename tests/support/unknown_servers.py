"""Servers whose limits nobody states, and a closed loop of callers at them in virtual time.

`tests.support.grid` has the cases. A law is what decides how many attempts may be in flight and how fast they are sent:
an `AdaptiveLimit`, or anything with its methods. Of the library this file imports `admission.stated_waits` alone, so
that a law can be run alone.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections import deque
from typing import Any, Callable, NamedTuple  # noqa: UP035

from aimlasync.admission.stated_waits import StatedWaits

Draw = random.Random
Latency = Callable[[Draw, float], float]
"""The seconds that an attempt takes which begins at this time."""

_TIMEOUT = 120.0
CALLERS = 400
TRIP = 0.01


class RateLimit:
    """Refuses by a rate: a token bucket that holds `window` seconds, a fixed window, or a sliding one."""

    def __init__(self, kind: str, rate: float, window: float) -> None:
        self.kind, self.rate, self.window = kind, rate, window
        self._level = self._asked = 0.0
        self._index = -1
        self._taken: deque[float] = deque()

    def wait(self, now: float) -> float:
        """Return the seconds until there is room, 0.0 if there is."""
        most = max(1.0, self.rate * self.window)
        if self.kind == "bucket":
            self._level = max(0.0, self._level - (now - self._asked) * self.rate)
            self._asked = now
            over = self._level + 1 - most
            return 0.0 if over <= 1e-9 else over / self.rate
        whole, taken = max(1, round(most - 1e-9)), self._taken
        if self.kind == "fixed":
            index = int(now // self.window)
            if index != self._index:
                self._index = index
                taken.clear()
            return 0.0 if len(taken) < whole else (index + 1) * self.window - now
        while taken and taken[0] <= now - self.window:
            taken.popleft()
        return 0.0 if len(taken) < whole else taken[len(taken) - whole] + self.window - now

    def take(self, now: float) -> None:
        """Count an attempt that is accepted."""
        if self.kind == "bucket":
            self._level += 1
        else:
            self._taken.append(now)


class Server:
    """Takes so many in flight, so many per second, and answers in so many slots, or in batches of a size.

    Beyond `in_flight` and `rate` it refuses. Beyond `slots` attempts wait in its queue. Beyond `batch` all of them
    become slower, in proportion to the power 1 + `thrashing`. `says_when` adds a Retry-After to refusals of the
    rate, `always_says` the same one to each refusal. Of all attempts, the share `chance` is refused whatever is
    sent. One that `resets` gives no answer to refuse, but breaks the connection.
    """

    def __init__(
        self,
        *,
        in_flight: float = math.inf,
        rate: RateLimit | None = None,
        slots: float = math.inf,
        batch: float = math.inf,
        thrashing: float = 0.0,
        says_when: bool = False,
        always_says: float | None = None,
        chance: float = 0.0,
        resets: bool = False,
    ) -> None:
        self.in_flight, self.rate, self.slots, self.says_when = in_flight, rate, slots, says_when
        self.batch, self._power = batch, 1.0 + thrashing
        self.chance, self.always_says, self.resets = chance, always_says, resets
        self.is_down = False
        self.busy = self.serving = 0
        self.queue: deque[tuple[Attempt, float]] = deque()
        # A batch: the work done on each attempt since the beginning, when that was, and (work at the end, attempt).
        self.work = self.worked_at = 0.0
        self.batched: list[tuple[float, int, Attempt]] = []
        self.epoch = 0

    @property
    def slower(self) -> float:
        """How many times as long each attempt of the batch takes now."""
        return math.pow(max(1.0, len(self.batched) / self.batch), self._power)


class Attempt:
    """One attempt under way."""

    __slots__ = ("beside", "is_over", "law", "model", "started", "tries")

    def __init__(self, law: int, model: int, started: float, beside: int, tries: int) -> None:
        self.law, self.model, self.started, self.beside, self.tries = law, model, started, beside, tries
        self.is_over = False


class Cell(NamedTuple):
    """One case: its servers (one per model, or one for all), its traffic, and what a perfect client would get."""

    group: str
    name: str
    servers: Callable[[], list[Server]]
    latency: Latency
    seconds: float
    begin: float
    """From here on it counts."""
    best: list[tuple[float, float]]
    """(from when, answers per second that no setting exceeds)."""
    p95: float = math.nan
    """The 95th percentile of latency without a queue."""
    knee: float = math.nan
    changes: tuple[tuple[float, Callable[[Server], None]], ...] = ()
    models: int = 1
    laws: int = 1
    callers: int = CALLERS
    trip: float = TRIP
    pauses: bool = True
    """Whether refusals in a row pause the endpoint, as the client does."""
    recovers: float = math.nan
    """When the last change is."""


class Score(NamedTuple):
    """What a law made of a cell, from `begin` on."""

    goodput: float
    refused: float
    knee: float
    """The mean number in flight, in times of the knee."""
    p95: float
    """The 95th percentile of latency, in times of that without a queue."""
    timeouts: int
    recovery: float
    """Seconds until 85 % of what is possible was reached for eight seconds after the last change."""
    reached: float
    """Seconds from the start until 95 % of what is possible was reached for two seconds."""
    late: float
    """The share refused after five minutes; nan for a shorter case."""


class Run:
    """One cell with one seed: the times of answers, refusals and timeouts, and how many were in flight each second."""

    def __init__(self, cell: Cell, law: Callable[[], Any], seed: int) -> None:
        self.cell = cell
        self.answers: list[float] = []
        self.latencies: list[tuple[float, float]] = []
        self.refusals: list[float] = []
        self.timeouts: list[float] = []
        self.in_flight: list[tuple[float, int]] = []
        self.laws = [law() for _ in range(cell.laws)]
        self._draw = random.Random(seed)
        self._servers = cell.servers()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0
        self._now = 0.0
        self._waiting: list[deque[tuple[int, int]]] = [deque() for _ in self.laws]
        for caller in range(cell.callers):
            model = caller % cell.models
            self._waiting[model if cell.laws > 1 else 0].append((model, 0))
        self._flying = [0] * cell.laws
        self._timers = [math.inf] * cell.laws
        self._paused = [-math.inf] * cell.laws
        self._in_a_row = [0] * cell.laws
        self._stated = [StatedWaits() for _ in self.laws]
        for when, change in cell.changes:
            self._at(when, self._change, change)
        self._run()

    def _at(self, when: float, do: Callable[..., None], *about: Any) -> None:
        self._serial += 1
        heapq.heappush(self._events, (when, self._serial, do, about))

    def _trip(self) -> float:
        return self.cell.trip * (0.5 + self._draw.random())

    def _run(self) -> None:
        second = 0.0
        while True:
            for number in range(len(self.laws)):
                self._send(number)
            if not self._events or self._events[0][0] > self.cell.seconds:
                return
            self._now, _, do, about = heapq.heappop(self._events)
            while self._now >= second:
                self.in_flight.append((second, sum(self._flying)))
                second += 1.0
            do(*about)

    def _send(self, number: int) -> None:
        law, waiting, now = self.laws[number], self._waiting[number], self._now
        while waiting and self._flying[number] < int(law.limit):
            delay = max(law.delay(now), self._paused[number] - now)
            if delay > 1e-9:
                if self._timers[number] > now + delay + 1e-9 or self._timers[number] < now:
                    self._timers[number] = now + delay
                    self._at(now + delay, self._timer, number)
                return
            model, tries = waiting.popleft()
            law.sent(now)
            attempt = Attempt(number, model, now, self._flying[number], tries)
            self._at(now + self._trip(), self._arrive, attempt)
            self._flying[number] += 1

    def _timer(self, number: int) -> None:
        self._timers[number] = math.inf

    def _arrive(self, attempt: Attempt) -> None:
        server, now = self._server(attempt), self._now
        if server.is_down:
            self._at(now + self._trip(), self._refuse, attempt, "down", None)
            return
        if server.busy >= server.in_flight or (server.chance and self._draw.random() < server.chance):
            kind = "down" if server.resets else None
            self._at(now + self._trip(), self._refuse, attempt, kind, server.always_says)
            return
        if server.rate is not None:
            wait = server.rate.wait(now)
            if wait > 0:
                told = max(1.0, math.ceil(wait)) if server.says_when else server.always_says
                self._at(now + self._trip(), self._refuse, attempt, None, told)
                return
            server.rate.take(now)
        server.busy += 1
        seconds = self.cell.latency(self._draw, now)
        self._at(attempt.started + _TIMEOUT, self._time_out, attempt)
        if server.batch < math.inf:
            self._work(server)
            self._serial += 1
            heapq.heappush(server.batched, (server.work + seconds, self._serial, attempt))
            self._next_of_batch(server)
        elif server.serving < server.slots:
            server.serving += 1
            self._at(now + seconds, self._serve, attempt, server)
        else:
            server.queue.append((attempt, seconds))

    def _server(self, attempt: Attempt) -> Server:
        return self._servers[attempt.model if len(self._servers) > 1 else 0]

    def _serve(self, attempt: Attempt, server: Server) -> None:
        server.busy -= 1
        server.serving -= 1
        self._at(self._now + self._trip(), self._answer, attempt)
        self._from_queue(server)

    def _from_queue(self, server: Server) -> None:
        while server.queue and server.serving < server.slots:
            attempt, seconds = server.queue.popleft()
            if attempt.is_over:
                server.busy -= 1
            else:
                server.serving += 1
                self._at(self._now + seconds, self._serve, attempt, server)

    def _work(self, server: Server) -> None:
        if server.batched:
            server.work += (self._now - server.worked_at) / server.slower
        server.worked_at = self._now

    def _next_of_batch(self, server: Server) -> None:
        server.epoch += 1
        if server.batched:
            left = max(0.0, server.batched[0][0] - server.work) * server.slower
            self._at(self._now + left, self._end_of_batch, server, server.epoch)

    def _end_of_batch(self, server: Server, epoch: int) -> None:
        if epoch == server.epoch:
            self._work(server)
            server.busy -= 1
            self._at(self._now + self._trip(), self._answer, heapq.heappop(server.batched)[2])
            self._next_of_batch(server)

    def _answer(self, attempt: Attempt) -> None:
        if attempt.is_over:
            return
        number, now = attempt.law, self._now
        attempt.is_over = True
        self._in_a_row[number] = 0
        if self._stated[number].is_tested:
            self._stated[number].answered(attempt.started)
        self.laws[number].answered(now, self._flying[number], attempt.started, attempt.beside)
        self._flying[number] -= 1
        self.answers.append(now)
        self.latencies.append((now, now - attempt.started))
        self._waiting[number].append((attempt.model, 0))

    def _time_out(self, attempt: Attempt) -> None:
        if not attempt.is_over:
            attempt.is_over = True
            self._flying[attempt.law] -= 1
            self.timeouts.append(self._now)
            self.laws[attempt.law].timed_out(self._now, attempt.started, attempt.beside)
            self._waiting[attempt.law].append((attempt.model, 0))

    def _refuse(self, attempt: Attempt, kind: str | None, told: float | None) -> None:
        number, now, law = attempt.law, self._now, self.laws[attempt.law]
        attempt.is_over = True
        self._flying[number] -= 1
        self.refusals.append(now)
        rest = (1.5 if not self.cell.pauses else 1.5 * 2.0 ** min(attempt.tries, 3)) * self._draw.random()
        if told is not None:
            if seconds := self._stated[number].kept(now, attempt.started, attempt.beside, told):
                self._pause(number, seconds, is_stated=seconds == told)
            rest = told * (1 + 0.2 * self._draw.random())
        is_news = law.refused(now, attempt.started, attempt.beside, kind)
        if is_news and self.cell.pauses:
            self._in_a_row[number] += 1
            if self._in_a_row[number] > 1:
                self._pause(number, min(0.25 * 2.0 ** (self._in_a_row[number] - 2), 4.0), is_stated=False)
        self._at(now + rest, self._waiting[number].append, (attempt.model, attempt.tries + 1))

    def _pause(self, number: int, seconds: float, *, is_stated: bool = True) -> None:
        until = self._now + seconds * self._draw.uniform(1.10, 1.25)
        self._paused[number] = max(self._paused[number], until)
        self.laws[number].paused(self._now, seconds, is_stated=is_stated)

    def _change(self, change: Callable[[Server], None]) -> None:
        for server in self._servers:
            change(server)
            self._from_queue(server)

    def score(self) -> Score:
        """Return what was made of the cell."""
        cell = self.cell
        begin, end = cell.begin, cell.seconds
        good = [at for at in self.answers if at >= begin]
        refused = sum(at >= begin for at in self.refusals)
        latencies = sorted(latency for at, latency in self.latencies if at >= begin)
        flying = [count for at, count in self.in_flight if at >= begin]
        return Score(
            len(good) / self._possible(begin, end),
            refused / max(1, refused + len(good)),
            sum(flying) / max(1, len(flying)) / cell.knee,
            latencies[int(0.95 * len(latencies))] / cell.p95 if latencies else math.nan,
            len(self.timeouts),
            self._first(cell.recovers, 8.0, 0.85) - cell.recovers,
            self._first(0.0, 2.0, 0.95),
            self._late(),
        )

    def _late(self) -> float:
        refused, answered = (sum(at >= 300.0 for at in times) for times in (self.refusals, self.answers))
        return refused / (refused + answered) if refused + answered else math.nan

    def _possible(self, begin: float, end: float) -> float:
        best, total = self.cell.best, 0.0
        for (since, rate), until in zip(best, [since for since, _ in best[1:]] + [end]):  # noqa: B905
            total += rate * max(0.0, min(until, end) - max(since, begin))
        return total

    def _first(self, begin: float, seconds: float, share: float) -> float:
        """Return when this share of what is possible was first reached for so many seconds."""
        if math.isnan(begin):
            return math.nan
        at = begin
        while at + seconds <= self.cell.seconds:
            count = bisect_left(self.answers, at + seconds) - bisect_left(self.answers, at)
            if count >= share * self._possible(at, at + seconds) > 0:
                return at
            at += 1.0
        return self.cell.seconds
