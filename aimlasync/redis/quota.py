"""`RedisQuota`: the shared place in Redis, and what is done while it is not there.

Law: knows Redis, no line and no endpoint. A question has `timeout` seconds: a Redis that hangs is a Redis that is down.
While it is down, nobody is let through without a limit: each worker keeps to its part of it, by the number of workers
that Redis last knew, or (`strict`) waits. One task of a process looks whether it is back, at longer and longer and
random intervals. Neither a URL nor the text of an error of Redis is ever shown: they may hold the password.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

try:
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
except ImportError:
    raise ImportError("aimlasync.redis needs its extra: pip install 'aimlasync[redis]'") from None

from aimlasync.account import Account
from aimlasync.prices import Price
from aimlasync.quota import Ask, Draw, Lease, QuotaDownError
from aimlasync.redis.scripts import CLOCK, DRAW, LEASE
from aimlasync.shared_budget import SharedBudget

# Seconds between two looks whether Redis is back: the first, and the longest.
_LOOK = 0.5
_MAX_LOOK = 2.0

_log = logging.getLogger("aimlasync.quota")
_encode = msgspec.msgpack.Encoder().encode
_lease_of = msgspec.msgpack.Decoder(Lease).decode


class RedisQuota:
    """The limits and budget of one account, shared by all processes that give the same `name`; one per event loop.

    `url` is that of the redis package: redis://, rediss:// (TLS) or unix://; the endpoints' limits must be the same
    everywhere. Close it, or use `async with`, after the clients. A Redis that does not answer within
    `timeout` seconds is down: calls then go on at the limit divided by the number of workers last known, with one
    warning; with `strict` they wait until it is back. Raises ValueError for a URL that is none.
    """

    def __init__(self, url: str, *, name: str, strict: bool = False, timeout: float = 0.5) -> None:
        if not name:
            raise ValueError("name= must say whose limits are shared: processes with the same name share them")
        if not 0 < timeout < float("inf"):
            raise ValueError(f"timeout must be above zero and finite, not {timeout}")
        try:
            self._redis: Any = redis.asyncio.Redis.from_url(
                url,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
            )
        except (ValueError, TypeError):
            self._redis = None
        if self._redis is None:
            raise ValueError("not a URL of Redis: write redis://host:6379/0, rediss://... or unix://...")
        self.name = name
        self.strict = strict
        self._timeout = timeout
        # The braces keep what is of one account on one node of a cluster.
        self._key = f"aimlasync:{{{name}}}"
        self._lease: Any = self._redis.register_script(CLOCK + LEASE)
        self._draw: Any = self._redis.register_script(DRAW)
        self._workers = 1
        # While Redis is down: what is kept to instead, what was asked last, and what looks whether it is back.
        self._alone: Account | None = None
        self._asked: Ask | None = None
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False
        # Whether the next question is the first one after that.
        self._returns = False

    @property
    def is_down(self) -> bool:
        """Whether Redis did not answer when it was last asked."""
        return self._looking is not None

    def budget(
        self, usd: float, *, prices: Mapping[str, Price] | None = None, purse: str = "usd", **options: Any
    ) -> SharedBudget:
        """Return a budget of `usd` dollars for all workers together: give it to `AsyncClient(budget=...)`.

        What was spent stays spent, whoever comes later; another `purse` is another budget. No new dollars are given out
        while Redis is down. `prices` and `options` are those of `Budget`.
        """
        return SharedBudget(usd, quota=self, prices=prices, purse=purse, **options)

    async def lease(self, ask: Ask) -> Lease:
        """Ask Redis, or do what is done without it."""
        while True:
            if self._looking is not None:
                if not self.strict:
                    return self._lease_alone(ask)
                await asyncio.wait([self._looking])
            if self._is_closed:
                raise QuotaDownError("this quota is closed")
            self._asked = ask
            if self._returns:
                ask = msgspec.structs.replace(ask, returns=True, workers=self._workers)
            answer = await self._ask(self._lease, f"{self._key}:minute", ask)
            if answer is not None:
                lease = _lease_of(answer)
                self._workers = lease.workers
                self._returns = False
                return lease

    async def draw(self, draw: Draw) -> int:
        """Ask Redis for dollars; without it there are no more. Raises QuotaDownError."""
        answer = None
        if self._looking is None:
            answer = await self._ask(self._draw, f"{self._key}:{draw.purse}", draw)
        if answer is None:
            raise QuotaDownError(f"the Redis of the shared quota {self.name!r} does not answer")
        return int(answer)

    async def close(self) -> None:
        """Close the connections; harmless more than once."""
        self._is_closed = True
        if self._looking is not None:
            self._looking.cancel()
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<RedisQuota {self.name!r}{', down' if self.is_down else ''}>"

    async def _ask(self, script: Any, key: str, question: Ask | Draw) -> Any:
        """Run a script and return its answer, None when there is none in time."""
        try:
            async with asyncio.timeout(self._timeout):
                return await script(keys=[key], args=[_encode(question)])
        except (RedisError, OSError, TimeoutError) as error:
            why = type(error).__name__
        if self._looking is None and not self._is_closed:
            if self.strict:
                what = "calls wait until it is back (strict=True)"
            else:
                what = f"each worker keeps to its part of the limits, 1/{self._workers}, until it is back"
            _log.warning("the Redis of the shared quota %r does not answer (%s): %s", self.name, why, what)
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="aimlasync redis")
        return None

    async def _look(self) -> None:
        """Wait until Redis is back."""
        wait = _LOOK
        try:
            while True:
                await asyncio.sleep(wait * random.uniform(0.75, 1.25))
                wait = min(2 * wait, _MAX_LOOK)
                if await self._is_back():
                    _log.info("the Redis of the shared quota %r is back", self.name)
                    return
        finally:
            self._looking = self._alone = None
            self._returns = not self.strict

    async def _is_back(self) -> bool:
        """Whether Redis does what is asked of it; one that only answers a ping may be full, or allow no scripts."""
        try:
            async with asyncio.timeout(self._timeout):
                if self._asked is None:
                    await self._redis.ping()
                else:
                    nothing = msgspec.structs.replace(
                        self._asked, calls=0, lease=0, corrections={}, pause=0.0, returns=not self.strict
                    )
                    await self._lease(keys=[f"{self._key}:minute"], args=[_encode(nothing)])
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    def _lease_alone(self, ask: Ask) -> Lease:
        """Keep to this worker's part of the limits."""
        now, workers = asyncio.get_running_loop().time(), self._workers
        if self._alone is None:
            self._alone = Account(f"alone {now}", now)
        rpm, tpm = ask.requests_per_minute, ask.tokens_per_minute
        part = msgspec.structs.replace(
            ask,
            requests_per_minute=None if rpm is None else rpm / workers,
            tokens_per_minute=None if tpm is None else tpm / workers,
            workers=1,
        )
        return msgspec.structs.replace(self._alone.lease(part, now), workers=workers)
