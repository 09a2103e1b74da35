"""One client for each event loop and set of options, and a background thread with an event loop of its own.

All `BatchChat`s of one process that ask in the same way share a client, so that its limits hold for them together.
Imports the client by its public names; keys are read from the environment of the process that asks.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import pickle
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from aimlasync.client.client import AsyncClient
from aimlasync.config import Limits, Timeout
from aimlasync.endpoints.endpoint import default_endpoints
from aimlasync.resilience.retry import Retry
from aimlasync.store import Cache, Store

T = TypeVar("T")


class LoopClient(msgspec.Struct, frozen=True):
    """A client, the base URL that it asks or the family of that, and the quota that it shares."""

    client: AsyncClient
    server: str
    quota: Any

    async def close(self) -> None:
        """Close the client and the quota."""
        await self.client.close()
        if self.quota is not None:
            await self.quota.close()


class ClientOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What makes two clients of one event loop differ; can be pickled, and holds no key."""

    base_url: str | None
    key_env: str | None
    allow_http: bool
    limits: Limits | None
    timeout: Timeout | float | None
    retry: Retry | None
    quota: Callable[[], Any] | None
    store: Store | None = None
    """Where the client keeps answers."""
    family: str | None = None
    """Servers that answer alike."""

    def key(self) -> tuple[object, ...]:
        """The same for all copies of one."""
        quota = None if self.quota is None else pickle.dumps(self.quota)
        others = msgspec.structs.replace(self, quota=None, store=None)
        return (*msgspec.structs.astuple(others), quota, repr(self.store))

    async def close(self) -> None:
        """Close the client of this event loop that was opened with these options; a later call opens another."""
        found = _clients.get(asyncio.get_running_loop(), {}).pop(self.key(), None)
        if found is not None:
            await found.close()

    def client(self) -> LoopClient:
        """Return the client of this event loop. Raises AimlasyncError without a key."""
        for loop in [loop for loop in _clients if loop.is_closed()]:
            del _clients[loop]
        mine, key = _clients.setdefault(asyncio.get_running_loop(), {}), self.key()
        if key not in mine or mine[key].client.is_closed:
            endpoints: list[Any] = [
                *default_endpoints(None, self.base_url, allow_http=self.allow_http, key_variable=self.key_env)
            ]
            quota = None
            if self.quota is not None:
                endpoints[0].quota = quota = self.quota()
            client = AsyncClient(
                endpoints=endpoints,
                limits=self.limits,
                timeout=self.timeout,
                retry=self.retry,
                cache=None if self.store is None else Cache(self.store, sampled=True, family=self.family),
            )
            mine[key] = LoopClient(client, self.family or endpoints[0].base_url, quota)
        return mine[key]


# By event loop, the clients that live in it by their options. A forked child has loops of its own.
_clients: dict[asyncio.AbstractEventLoop, dict[tuple[object, ...], LoopClient]] = {}


class _Background:
    """A thread with an event loop, for callers that have none; one per process, until it ends."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="aimlasync-batch", daemon=True)
        self.thread.start()

    def close(self) -> None:
        if self.pid != os.getpid() or not self.thread.is_alive():
            return
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_close_all(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


_background: _Background | None = None
_one_at_a_time = threading.Lock()


def in_background(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine comes to in the background thread's event loop."""
    global _background
    with _one_at_a_time:
        # A thread does not survive a fork.
        if _background is None or _background.pid != os.getpid():
            _background = _Background()
            atexit.register(_background.close)
        loop = _background.loop
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def _close_all() -> None:
    for found in _clients.pop(asyncio.get_running_loop(), {}).values():
        await found.close()
