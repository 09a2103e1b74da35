"""Which answers of a client are kept, where, and how many were: what `AsyncClient(cache=...)` takes.

How requests are compared and answers kept is in `aimlasync.client.answer_cache`. It may import `opening` and
`protocol`.
"""

from __future__ import annotations

import asyncio
import os

import msgspec

from aimlasync.spelling import spelled
from aimlasync.store.opening import open_store
from aimlasync.store.protocol import Store


class CacheCounts(msgspec.Struct):
    """What a cache did since it was made."""

    hits: int = 0
    """Calls that were answered from the store."""
    shared: int = 0
    """Calls that were answered by an equal one in flight."""
    misses: int = 0
    """Calls that were sent, because no answer was kept."""
    kept: int = 0
    """Answers that were put into the store."""


class Cache:
    """Answers of a client that are kept in a store, and given again to equal requests.

    `store` is one of `aimlasync.store`, or a path or URL for `open_store`, with `max_bytes` and `ttl`. Without
    `sampled` only requests with `temperature=0` or a `seed`, and without tools that the server runs, are answered from
    it; models that take neither parameter (reasoning models) need `sampled=True`. `family` names servers that answer
    alike; without it answers of one base URL are no answers of another.

    Equal are requests with the same body, but for user, metadata, safety_identifier, service_tier and prompt_cache_*,
    and with the same headers that name a version or a beta; a stream and a whole answer are two requests. Requests with
    server state (responses or completions with `store=True`, `previous_response_id`, `conversation`, `background`,
    `prompt`, item references) are always sent. Errors, cut streams, failed responses and answers that echo a key are
    not kept. Raises ValueError for what cannot be a store.

    Equal requests in flight are one call. A stream in flight is shared by equal ones that sent the same headers: each
    reader has it from its beginning, at its own pace and within its own timeouts, and may leave. The call that opened
    it pays. Its connection and permit are given back at its end, or when the last reader has left; it is kept when one
    of them has read it to its end. A client that is closed waits until that is written.
    """

    @spelled
    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        *,
        sampled: bool = False,
        family: str | None = None,
        max_bytes: int | None = None,
        ttl: float | None = None,
    ) -> None:
        self.store = open_store(store, max_bytes=max_bytes, ttl=ttl)
        self.sampled = sampled
        self.family = family
        self.counts = CacheCounts()
        self.waiting = 0
        """Calls that wait for the store now. Mutable, as is the next."""
        self.writing: set[asyncio.Task[None]] = set()
        """Answers of streams that are being written."""

    def __repr__(self) -> str:
        return f"<Cache {self.store!r}{', sampled' if self.sampled else ''}>"

    async def written(self) -> None:
        """Wait until what was answered in this event loop is written."""
        loop = asyncio.get_running_loop()
        if mine := [task for task in self.writing if task.get_loop() is loop]:
            await asyncio.gather(*mine)

    async def close(self) -> None:
        """Wait until what was answered is written, and close the store's connections of this event loop."""
        await self.written()
        await self.store.close()
