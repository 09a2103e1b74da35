"""`RedisQuota`: the shared place in Redis.

This file talks to Redis; what workers do while it is down is `quota.fallback`. A Redis counts as down when it leaves a
command without an answer for `timeout` seconds, refuses (read-only, full, without a password, or without scripts), or
sends an invalid answer. What workers have drawn of a budget is stated again once a second, so that a Redis that lost
its state learns it. No URL and no text of a Redis error is ever shown, as they may hold the password. It may import
`quota`, `cost.prices` and the scripts of this package.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self, TypeVar

import msgspec

from aimlasync.cost.prices import Price
from aimlasync.quota.fallback import Fallback
from aimlasync.quota.protocol import Ask, Draw, Drawn, Lease, QuotaDownError
from aimlasync.quota.shared_budget import SharedBudget
from aimlasync.redis.draw import DRAW
from aimlasync.redis.scripts import CLOCK, LEASE
from aimlasync.spelling import spelled
from aimlasync.store.redis_client import FAILURES, RedisClient, refuses, what_is_said

# Seconds between two statements of what was drawn. Within `account.RETURN` all workers have stated theirs.
_RESTATE_AFTER = 1.0

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode
_lease_of = msgspec.msgpack.Decoder(Lease).decode
_drawn_of = msgspec.msgpack.Decoder(Drawn).decode


class RedisQuota:
    """The limits and budget of one account, shared by all processes that give the same `name`; one per event loop.

    `url` is one of the redis package: redis://, rediss:// (TLS) or unix://; None is REDIS_URL of the environment. Where
    processes are given different limits, those of the newest hold for all, with a warning. Close it, or use
    `async with`, after the clients.

    A Redis that leaves a command without an answer for `timeout` seconds is down, and so is one that takes three times
    as long to connect: where Redis is far away, `timeout` must be above the time of a round trip. Calls then go on at
    the part of the limits that Redis stated last, which is equal for all workers; all parts together are never more
    than the whole. A worker that Redis told no part within the last minute waits until it does, or goes on at the
    limits divided by `share`: the number of workers (clients, in all processes) that share them. With `strict`, all
    workers wait while Redis is down. A Redis that lost its state is told the last minute by the workers. A Redis
    without any state grants the first lease after two seconds, since workers of an earlier state may return. Warnings
    state what is assumed.
    Raises ValueError for an invalid URL, timeout or share.
    """

    @spelled
    def __init__(
        self,
        url: str | None = None,
        *,
        name: str,
        strict: bool = False,
        share: float | None = None,
        timeout: float = 0.5,
    ) -> None:
        if not name:
            raise ValueError("name= must not be empty: processes with the same name share their limits")
        if not 0 < timeout < float("inf"):
            raise ValueError(f"timeout must be above zero and finite, not {timeout}")
        if url is None and not (url := os.environ.get("REDIS_URL")):
            raise ValueError("no URL of a Redis: set REDIS_URL")
        client = None
        # TCP and TLS shake hands in two or three round trips, and a far Redis needs five before the first script has
        # run: the timeout is of each answer.
        with suppress(ValueError, TypeError):
            client = RedisClient(url, timeout=timeout, connect=3 * timeout, retry=False)
        if client is None:
            raise ValueError("url must be one of Redis: redis://host:6379/0, rediss://... or unix://...")
        self._redis = client
        self.name = name
        self.strict = strict
        # The braces keep the keys of one account on one node of a cluster.
        self._key = f"aimlasync:{{{name}}}"
        self._fallback = Fallback(self._send, f"the Redis of the shared quota {name!r}", share=share, waits=strict)
        # (worker, purse) -> what the worker holds, and the last answer from that purse.
        self._held: dict[tuple[str, str], tuple[Draw, Drawn]] = {}
        self._drawing = asyncio.Lock()
        self._restating: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def is_down(self) -> bool:
        """Whether Redis did not answer when it was last asked."""
        return self._fallback.is_down

    def budget(
        self, usd: float, *, prices: Mapping[str, Price] | None = None, purse: str = "usd", **options: Any
    ) -> SharedBudget:
        """Return a budget of `usd` dollars for all workers together, for `AsyncClient(budget=...)`.

        What was spent stays spent for workers that start later; another `purse` is another budget. No dollars are
        granted while Redis is down. If Redis lost its state, the running workers tell it what was drawn; without
        running workers, the budget begins anew. `prices` and `options` are those of `Budget`.
        """
        return SharedBudget(usd, quota=self, prices=prices, purse=purse, **options)

    async def ping(self) -> None:
        """Do nothing but reach Redis. Raises QuotaDownError when it does not answer, or asks for a password."""
        try:
            await self._redis.request(lambda redis: redis.ping())
        except FAILURES as error:
            if refuses(error):
                # It answers, whatever it allows.
                return
            said = what_is_said(error)
        else:
            return
        raise QuotaDownError(f"the Redis of the shared quota {self.name!r} does not answer ({said})")

    async def lease(self, ask: Ask) -> Lease:
        """Ask Redis for a lease, or grant one without it; see the class."""
        return await self._fallback.lease(ask)

    async def draw(self, draw: Draw) -> int:
        """Ask Redis for units of a budget. Raises QuotaDownError while Redis is down."""
        while True:
            if self.is_down:
                raise QuotaDownError(f"the Redis of the shared quota {self.name!r} does not answer")
            async with self._drawing:
                drawn = await self._draw_once(draw)
            if not drawn.wait or not draw.needs:
                break
            await asyncio.sleep(drawn.wait)
        if self._restating is None and not self._is_closed:
            self._restating = asyncio.get_running_loop().create_task(self._restate(), name="aimlasync budget")
        return drawn.granted

    async def close(self) -> None:
        """Close the connections; harmless more than once."""
        self._is_closed = True
        self._fallback.close()
        if self._restating is not None:
            self._restating.cancel()
        await self._redis.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<RedisQuota {self.name!r}{', down' if self.is_down else ''}>"

    async def _send(self, ask: Ask) -> Lease:
        return await self._run(CLOCK + LEASE, f"{self._key}:minute", ask, _lease_of)

    async def _draw_once(self, draw: Draw) -> Drawn:
        _, before = self._held.get((draw.worker, draw.purse), (None, None))
        if before is not None:
            draw = msgspec.structs.replace(draw, epoch=before.epoch, version=before.version, taken=before.taken)
        drawn = await self._run(CLOCK + DRAW, f"{self._key}:{draw.purse}", draw, _drawn_of)
        if before is not None and drawn.epoch != before.epoch:
            self._fallback.warn(
                "drawn",
                "the Redis of the shared quota %r lost what was drawn of the budget %r: what its workers state counts",
                self.name,
                draw.purse,
            )
        held = msgspec.structs.replace(draw, keeps=draw.keeps + drawn.granted, needs=0)
        self._held[draw.worker, draw.purse] = (held, drawn)
        return drawn

    async def _restate(self) -> None:
        """State once a second what the workers of this process hold."""
        while True:
            await asyncio.sleep(_RESTATE_AFTER)
            for key in list(self._held):
                with suppress(QuotaDownError):
                    async with self._drawing:
                        await self._draw_once(self._held[key][0])

    async def _run(self, script: str, key: str, message: Ask | Draw, answer_of: Callable[[bytes], T]) -> T:
        """Run a script and return its answer. Raises QuotaDownError when there is none."""
        if self._is_closed:
            raise QuotaDownError(f"the shared quota {self.name!r} is closed")
        asked = _encode(message)
        try:
            return answer_of(await self._redis.request(lambda redis: redis.register_script(script)([key], [asked])))
        except (*FAILURES, msgspec.MsgspecError) as error:
            said = what_is_said(error)
        raise QuotaDownError(f"the Redis of the shared quota {self.name!r} does not answer ({said})")
