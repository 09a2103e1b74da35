"""Processes of a Ray cluster that answer requests, as one client would.

Law: a request goes to a process that has room, in small batches; when that process dies its requests go to another.
Who asks keeps the answers: here is nothing but what is under way.
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
from aimlasync.bulk.journal.convert import result_of
from aimlasync.bulk.journal.record import Record, encode_record
from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.result import Result
from aimlasync.errors import AimlasyncError

_log = logging.getLogger("aimlasync.ray")

# Rows that travel together, and how many such batches a process has: a slow row holds back no more than its batch.
BATCH = 16
SLOTS = 16

# How long an address is knocked at.
_LOOK = 5.0
# Before a process that is gone is looked for again.
_PAUSE = 0.5

_pack = msgspec.msgpack.Encoder().encode
_requests = msgspec.msgpack.Decoder(list[Request]).decode
_records = msgspec.json.Decoder(Record).decode


def connect(address: str | None = None) -> None:
    """Join the cluster at `address`, else that of RAY_ADDRESS or one that runs here already, else start one here.

    Does nothing when this process is in a cluster. Raises ConnectionError when there is none at `address`.
    """
    if ray.is_initialized():
        return
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal():
        # Ray itself would look for it for minutes.
        try:
            socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=_LOOK).close()
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
    """Return how many machines the cluster has now."""
    return sum(bool(node["Alive"]) for node in ray.nodes())


def processors() -> int:
    """Return how many processors the cluster has now, one at least."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


class _Process:
    """What runs in the cluster: an actor, made of this class."""

    def __init__(self, chat: BatchChat) -> None:
        self._chat = chat

    async def ready(self) -> str:
        """Say that it is there, and on which machine."""
        return str(ray.get_runtime_context().get_node_id())

    async def answer(self, requests: bytes) -> list[bytes]:
        """Return the records of some requests."""
        return [encode_record(record) for record in await self._chat.records(_requests(requests))]


class _Waiting:
    """A request, and who waits for its result."""

    __slots__ = ("future", "request")

    def __init__(self, request: Request, future: asyncio.Future[Result]) -> None:
        self.request = request
        self.future = future

    def refuse(self, error: Exception) -> None:
        """End the wait with an error."""
        if not self.future.done():
            self.future.set_exception(error)


class Cluster:
    """Processes of a Ray cluster that ask what `chat` says; `async with` begins and ends them.

    By default there is one for each processor. The program must be in the cluster (`connect`). Lost processes are
    started again where there is room, and their requests asked by others; with a `store` in `chat` what they had is not
    asked again. `environment` is added to that of the processes, and can be read by all who use the cluster: no place
    for keys.
    """

    def __init__(
        self, chat: BatchChat, *, processes: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._chat = chat
        self._environment = dict(environment or {})
        self._processes = processes or processors()
        self.workers = self._processes * BATCH * SLOTS
        """Requests that are worth having under way at once."""
        self.lost = 0
        """Batches whose process died, and that were asked again."""
        self._actors: list[Any] = []
        # Of actors that are there: how many batches more each may have.
        self._room: dict[int, int] = {}
        self._queue: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_due = False
        # Why there will never be a process.
        self._broken: AimlasyncError | None = None
        self._greeted: set[int] = set()
        self._complete = asyncio.Event()

    async def __aenter__(self) -> Self:
        own = {"runtime_env": {"env_vars": self._environment}} if self._environment else {}
        actor = ray.remote(_Process).options(
            num_cpus=1, max_restarts=-1, max_task_retries=0, max_concurrency=SLOTS + 1, **own
        )
        self._actors = [actor.remote(self._chat) for _ in range(self._processes)]
        for number in range(self._processes):
            self._start(self._welcome(number))
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
        """Return the result of one request, by whichever process. Raises AimlasyncError for what no process can do."""
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._look()
        return await waiting.future

    async def ready(self) -> None:
        """Wait until every process was there once; requests need not wait for that, measurements may."""
        await self._complete.wait()

    def _look(self) -> None:
        if not self._is_due:
            # In the next turn of the loop: what is asked in this one travels together.
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
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
                self._start(self._carry(number, batch))

    async def _carry(self, number: int, batch: list[_Waiting]) -> None:
        try:
            lines = await self._actors[number].answer.remote(_pack([waiting.request for waiting in batch]))
        except RayActorError:
            self.lost += 1
            self._queue.extendleft(reversed(batch))
            if self._room.pop(number, None) is not None:
                _log.warning("a process of the cluster is gone; its requests go to others")
                self._start(self._welcome(number))
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
        self._look()

    async def _welcome(self, number: int) -> None:
        """Wait until an actor is there, for the first time or again, and give it work."""
        while True:
            try:
                await self._actors[number].ready.options(max_task_retries=-1).remote()
                break
            except RayActorError as error:
                if error.actor_init_failed:
                    # It will not go better the next time, or elsewhere.
                    self._broken = AimlasyncError(f"no process can be started in the cluster: {error}")
                    self._look()
                    return
                await asyncio.sleep(_PAUSE)
        self._room[number] = SLOTS
        self._greeted.add(number)
        if len(self._greeted) == self._processes:
            self._complete.set()
        self._look()

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
