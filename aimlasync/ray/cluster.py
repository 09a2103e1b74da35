"""Processes of a Ray cluster that answer requests, as one client would.

Requests go to the process with the most room, those of one moment together. Each answer comes back as soon as it is
there: a process has one question of ours open, which it answers with all that it has finished since the last one. So a
slow row delays only itself, and a program that is killed loses the calls in flight. When a process dies, its requests
go to another one. Only requests in progress are kept here; the caller keeps the answers. It may import bulk's
`BatchChat` and what a request and its record are.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Self

import msgspec
import ray
from ray.exceptions import RayActorError

from aimlasync.bulk.batch_chat import BatchChat
from aimlasync.bulk.journal.convert import result_of
from aimlasync.bulk.journal.record import Record, encode_record
from aimlasync.bulk.progress.progress import Activity
from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.result import Result
from aimlasync.endpoints.learned_limits import LearnedLimits, Starts, together
from aimlasync.errors import AimlasyncError, ClientClosedError
from aimlasync.logs import log_of
from aimlasync.ray.patience import Patience

_log = log_of("aimlasync.ray")

# Requests that a process has at a time, and how many are sent together.
ROOM = 256
BATCH = 16

# Seconds for a connection to the cluster's address.
_CONNECT_TIMEOUT = 5.0
# Seconds between two attempts to reach a process that is gone.
_RETRY_INTERVAL = 0.5
# Seconds after which a process without news says what it is doing, and after which one that says nothing is lost, at
# first: Ray's processes have a low priority, and beside others they may get no processor for minutes.
_REPORT_INTERVAL = 1.0
_SILENCE = 60.0

_pack = msgspec.msgpack.Encoder().encode
_batch_of = msgspec.msgpack.Decoder(list[tuple[int, Request]]).decode
_answers_of = msgspec.msgpack.Decoder(list[tuple[int, bytes]]).decode
_record_of = msgspec.json.Decoder(Record).decode


def connect(address: str | None = None) -> None:
    """Connect to the cluster at `address`, else at RAY_ADDRESS, else one on this machine, else start one here.

    Does nothing when this process is connected to a cluster. Raises ConnectionError when none is at `address`.
    """
    if ray.is_initialized():
        return
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal():
        # Ray itself would try for minutes.
        try:
            socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=_CONNECT_TIMEOUT).close()
        except OSError as error:
            raise ConnectionError(error.strerror or type(error).__name__) from None
    ray.init(
        address=address,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
        configure_logging=False,
    )


def machines() -> int:
    """Return the number of machines that the cluster has now."""
    return sum(bool(node["Alive"]) for node in ray.nodes())


def processors() -> int:
    """Return the number of processors that the cluster has now, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


class _News(NamedTuple):
    """What a process tells: answers as numbered records, what it cannot ask, and what it is doing."""

    answers: bytes
    refused: list[tuple[list[int], Exception]]
    in_flight: int
    held_by: str
    learned: LearnedLimits | None
    """What it has learned of its share of the server's limits, now and then."""


class _Process:
    """The class of the actors in the cluster. Its mutable state: what it has not told yet."""

    def __init__(self, chat: BatchChat) -> None:
        self._chat = chat
        self._answers: list[tuple[int, bytes]] = []
        self._refused: list[tuple[list[int], Exception]] = []
        self._is_new = asyncio.Event()
        self._tells_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def ready(self) -> str:
        """Return the id of the machine, as soon as the process runs."""
        return str(ray.get_runtime_context().get_node_id())

    async def start_from(self, known: Starts, share: float) -> None:
        """Start with a share of what is known of the server's limits."""
        # Without a key there is nothing to start, and `news` says so.
        with suppress(AimlasyncError):
            self._chat.client.start_from(known, share=share)

    async def take(self, batch: bytes) -> None:
        """Begin to ask about numbered requests; they are encoded."""
        task = asyncio.get_running_loop().create_task(self._answer(_batch_of(batch)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Send nothing more; calls in flight finish, and `news` tells what was not sent."""
        self._chat.drain()

    async def news(self) -> _News:
        """Return what is finished, as soon as anything is, or after a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_REPORT_INTERVAL):
                await self._is_new.wait()
        self._is_new.clear()
        answers, self._answers = self._answers, []
        refused, self._refused = self._refused, []
        learned, now = None, asyncio.get_running_loop().time()
        try:
            activity = self._chat.activity()
            if now >= self._tells_at:
                self._tells_at = now + _REPORT_INTERVAL
                learned = self._chat.client.learned()
        except AimlasyncError:
            # There is no key, and `refused` says so.
            activity = (0, "input")
        return _News(_pack(answers), refused, *activity, learned)

    async def _answer(self, batch: list[tuple[int, Request]]) -> None:
        numbers = [number for number, _ in batch]

        def seen(at: int, record: Record) -> None:
            self._answers.append((numbers[at], encode_record(record)))
            self._is_new.set()

        try:
            await self._chat.records([request for _, request in batch], seen=seen)
        except Exception as error:  # noqa: BLE001  # raised again, where the requests come from
            self._refused.append((numbers, error))
            self._is_new.set()


class _Waiting:
    """A request, and the future of its result."""

    __slots__ = ("future", "request")

    def __init__(self, request: Request, future: asyncio.Future[Result]) -> None:
        self.request = request
        self.future = future

    def refuse(self, error: Exception) -> None:
        """Let the future raise `error`."""
        if not self.future.done():
            self.future.set_exception(error)


class _Running:
    """A process that runs: the requests that it has by their numbers, and what it told of itself last."""

    __slots__ = ("actor", "at_work", "held_by", "in_flight")

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.at_work: dict[int, _Waiting] = {}
        self.in_flight = 0
        self.held_by = "input"


class Cluster:
    """Processes of a Ray cluster that answer requests with `chat`; `async with` starts and stops them.

    By default there is one process for each processor. The program must be connected to the cluster (`connect`). Ray
    starts lost processes again where there is room, and their requests go to others; with a `store` in `chat`, answers
    that a lost process had are not paid for again. `environment` is added to that of the processes. Everybody who uses
    the cluster can read it, so it must not hold keys.
    """

    def __init__(
        self, chat: BatchChat, *, processes: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._chat = chat
        self._environment = dict(environment or {})
        self._processes = processes or processors()
        self.workers = self._processes * ROOM
        """Requests that keep all processes busy."""
        self.lost = 0
        """How often a process died, whose requests were sent again."""
        self._actors: list[Any] = []
        self._running: dict[int, _Running] = {}
        self._numbers = itertools.count()
        self._queue: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._send_is_scheduled = False
        # What all may start with, and what each has learned since, by its number.
        self._known: Starts = {}
        self._learned: dict[int, LearnedLimits] = {}
        # Why nothing is sent: no process can be started, or `drain` was called.
        self._broken: AimlasyncError | ClientClosedError | None = None
        # Actors that have been running at least once, and whether all have.
        self._seen: set[int] = set()
        self._complete = asyncio.Event()

    async def __aenter__(self) -> Self:
        own = {"runtime_env": {"env_vars": self._environment}} if self._environment else {}
        actor = ray.remote(_Process).options(num_cpus=1, max_restarts=-1, max_task_retries=0, **own)
        self._actors = [actor.remote(self._chat) for _ in range(self._processes)]
        for number in range(self._processes):
            self._start(self._serve(number))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for actor in self._actors:
            ray.kill(actor)

    async def ask(self, request: Request) -> Result:
        """Return the result of one request.

        Raises AimlasyncError when no process can answer it, ClientClosedError when it was not sent before `drain`.
        """
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._schedule_send()
        return await waiting.future

    def drain(self) -> None:
        """Send nothing more; calls in flight finish, and all other requests raise ClientClosedError."""
        self._broken = self._broken or ClientClosedError("the cluster was drained and sends nothing more")
        self._schedule_send()
        for running in self._running.values():
            running.actor.drain.remote()

    async def ready(self) -> None:
        """Wait until every process has been running once. Requests need not wait for that; a measurement may."""
        await self._complete.wait()

    def activity(self) -> Activity:
        """Return how many calls are at a server, and what holds each process back."""
        running = self._running.values()
        return Activity(
            in_flight=sum(each.in_flight for each in running),
            limits=[each.held_by for each in running] or ["processes"],
            learned=tuple(each.words() for each in self.learned().told),
        )

    def start_from(self, known: Starts) -> None:
        """Let each process start with its share of what is known of the server's limits."""
        self._known = known
        for running in self._running.values():
            self._tell(running)

    def learned(self) -> LearnedLimits:
        """Return what all processes together learned of limits; it is news of a second ago."""
        return together(list(self._learned.values()), self._processes)

    def _tell(self, running: _Running) -> None:
        if self._known:
            running.actor.start_from.remote(self._known, 1 / self._processes)

    def _schedule_send(self) -> None:
        if not self._send_is_scheduled:
            # In the next iteration of the event loop, so that the requests of this one are sent together.
            self._send_is_scheduled = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._send_is_scheduled = False
        while self._queue and self._broken is not None:
            self._queue.popleft().refuse(self._broken)
        while self._queue and self._running:
            running = min(self._running.values(), key=lambda each: len(each.at_work))
            room = min(BATCH, ROOM - len(running.at_work))
            if room <= 0:
                return
            batch: dict[int, _Waiting] = {}
            while self._queue and len(batch) < room:
                waiting = self._queue.popleft()
                if not waiting.future.done():
                    batch[next(self._numbers)] = waiting
            if batch:
                running.at_work.update(batch)
                self._start(self._hand(running, batch))

    async def _hand(self, running: _Running, batch: dict[int, _Waiting]) -> None:
        """Send requests to a process; they are others' when it has not taken them."""
        try:
            await running.actor.take.remote(_pack([(number, each.request) for number, each in batch.items()]))
        except RayActorError:
            self._take_back(running, batch)

    def _take_back(self, running: _Running, numbers: Iterable[int]) -> None:
        """Put requests that a process did not answer back to the front of the queue."""
        lost = [running.at_work.pop(number) for number in list(numbers) if number in running.at_work]
        self._queue.extendleft(reversed(lost))
        self._schedule_send()

    async def _serve(self, number: int) -> None:
        """Let an actor have requests whenever it runs, and take its answers in."""
        actor, patience = self._actors[number], Patience(_SILENCE)
        now = asyncio.get_running_loop().time
        while await self._await_process(actor):
            running = self._running[number] = _Running(actor)
            self._tell(running)
            self._seen.add(number)
            if len(self._seen) == self._processes:
                self._complete.set()
            self._schedule_send()
            try:
                while True:
                    asked = now()
                    async with asyncio.timeout(patience.seconds):
                        news = await actor.news.remote()
                    patience.heard(now() - asked)
                    self._hear(running, news)
                    if news.learned is not None:
                        self._learned[number] = news.learned
            except (RayActorError, TimeoutError) as error:
                what = "is gone"
                if isinstance(error, TimeoutError):
                    # It is frozen, and Ray watches machines alone.
                    ray.kill(actor, no_restart=False)
                    what = f"said nothing for {patience.seconds:.0f} s and is replaced"
                    patience.lost()
                del self._running[number]
                self.lost += 1
                goes = "its requests go to others" if self._running else "none is left, and its requests wait for one"
                _log.warning("a process of the cluster %s; %s", what, goes)
                self._take_back(running, running.at_work)

    def _hear(self, running: _Running, news: _News) -> None:
        running.in_flight, running.held_by = news.in_flight, news.held_by
        for number, line in _answers_of(news.answers):
            # One that was taken back is another process's.
            waiting = running.at_work.pop(number, None)
            if waiting is not None and not waiting.future.done():
                waiting.future.set_result(result_of(_record_of(line), waiting.request))
        for numbers, error in news.refused:
            for number in numbers:
                if (waiting := running.at_work.pop(number, None)) is not None:
                    waiting.refuse(error)
        self._schedule_send()

    async def _await_process(self, actor: Any) -> bool:
        """Wait until an actor runs, for the first time or after a restart; False when it never will."""
        while True:
            try:
                await actor.ready.options(max_task_retries=-1).remote()
                return True
            except RayActorError as error:
                if error.actor_init_failed:
                    # The constructor failed, and would fail again on any machine.
                    self._broken = AimlasyncError(f"no process can be started in the cluster: {error}")
                    self._schedule_send()
                    return False
                await asyncio.sleep(_RETRY_INTERVAL)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
