"""Processes of a Ray cluster that answer requests, as one client would.

Requests go in small batches to the process with the most room. When a process dies, its requests go to another one.
Only requests in progress are kept here; the caller keeps the answers. It may import bulk's `BatchChat` and what a
request and its record are.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
import ray
from ray.exceptions import RayActorError, RayTaskError

from aimlasync.bulk.batch_chat import BatchChat
from aimlasync.bulk.jobs.ask_one import Result
from aimlasync.bulk.journal.convert import result_of
from aimlasync.bulk.journal.record import Record, encode_record
from aimlasync.bulk.tasks.request import Request
from aimlasync.errors import AimlasyncError

_log = logging.getLogger("aimlasync.ray")

# Rows of a batch, and batches that a process has at a time. A slow row delays only the rows of its batch.
BATCH = 16
SLOTS = 16

# Seconds for a connection to the cluster's address.
_CONNECT_TIMEOUT = 5.0
# Seconds between two attempts to reach a process that is gone.
_RETRY_INTERVAL = 0.5

_pack = msgspec.msgpack.Encoder().encode
_requests = msgspec.msgpack.Decoder(list[Request]).decode
_records = msgspec.json.Decoder(Record).decode


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


class _Process:
    """The class of the actors in the cluster."""

    def __init__(self, chat: BatchChat) -> None:
        self._chat = chat

    async def ready(self) -> str:
        """Return the id of the machine, as soon as the process runs."""
        return str(ray.get_runtime_context().get_node_id())

    async def answer(self, requests: bytes) -> list[bytes]:
        """Return the records of requests; both are encoded."""
        return [encode_record(record) for record in await self._chat.records(_requests(requests))]


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
        self.workers = self._processes * BATCH * SLOTS
        """Requests that keep all processes busy."""
        self.lost = 0
        """Batches whose process died, and that were sent again."""
        self._actors: list[Any] = []
        # Running actor -> how many more batches it may have.
        self._room: dict[int, int] = {}
        self._queue: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._send_is_scheduled = False
        # Why no process can be started.
        self._broken: AimlasyncError | None = None
        # Actors that have been running at least once, and whether all have.
        self._seen: set[int] = set()
        self._complete = asyncio.Event()

    async def __aenter__(self) -> Self:
        own = {"runtime_env": {"env_vars": self._environment}} if self._environment else {}
        actor = ray.remote(_Process).options(
            num_cpus=1, max_restarts=-1, max_task_retries=0, max_concurrency=SLOTS + 1, **own
        )
        self._actors = [actor.remote(self._chat) for _ in range(self._processes)]
        for number in range(self._processes):
            self._start(self._await_process(number))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for actor in self._actors:
            ray.kill(actor)

    async def ask(self, request: Request) -> Result:
        """Return the result of one request. Raises AimlasyncError when no process can answer it."""
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._schedule_send()
        return await waiting.future

    async def ready(self) -> None:
        """Wait until every process has been running once. Requests need not wait for that; a measurement may."""
        await self._complete.wait()

    def _schedule_send(self) -> None:
        if not self._send_is_scheduled:
            # In the next iteration of the event loop, so that the requests of this one share batches.
            self._send_is_scheduled = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._send_is_scheduled = False
        while self._queue and self._broken is not None:
            self._queue.popleft().refuse(self._broken)
        while self._queue and self._room:
            number = max(self._room, key=self._room.__getitem__)
            if self._room[number] == 0:
                return
            batch: list[_Waiting] = []
            while self._queue and len(batch) < BATCH:
                waiting = self._queue.popleft()
                if not waiting.future.done():
                    batch.append(waiting)
            if batch:
                self._room[number] -= 1
                self._start(self._answer(number, batch))

    async def _answer(self, number: int, batch: list[_Waiting]) -> None:
        try:
            lines = await self._actors[number].answer.remote(_pack([waiting.request for waiting in batch]))
        except RayActorError:
            self.lost += 1
            self._queue.extendleft(reversed(batch))
            if self._room.pop(number, None) is not None:
                _log.warning("a process of the cluster is gone; its requests go to others")
                self._start(self._await_process(number))
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, AimlasyncError) else error
            for waiting in batch:
                waiting.refuse(cause)
        else:
            for waiting, line in zip(batch, lines, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(result_of(_records(line), waiting.request))
            if number in self._room:
                self._room[number] += 1
        self._schedule_send()

    async def _await_process(self, number: int) -> None:
        """Wait until an actor runs, for the first time or after a restart, and let it have batches."""
        while True:
            try:
                await self._actors[number].ready.options(max_task_retries=-1).remote()
                break
            except RayActorError as error:
                if error.actor_init_failed:
                    # The constructor failed, and would fail again on any machine.
                    self._broken = AimlasyncError(f"no process can be started in the cluster: {error}")
                    self._schedule_send()
                    return
                await asyncio.sleep(_RETRY_INTERVAL)
        self._room[number] = SLOTS
        self._seen.add(number)
        if len(self._seen) == self._processes:
            self._complete.set()
        self._schedule_send()

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
