"""`RayQuota`: the shared place of a quota in a Ray cluster, for limits that no Redis leases.

The place is one actor for each program, on the program's machine, and ends with it; it holds an account for each name.
Ray starts it again when it is lost, and the workers tell it the last minute (`quota.account`). What workers do while it
is away is `quota.fallback`. It may import `config` and `quota`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from aimlasync.config import Limits
from aimlasync.quota.account import Account
from aimlasync.quota.fallback import Fallback
from aimlasync.quota.protocol import Ask, Draw, Lease, QuotaDownError

# The actor's name, in the namespace that Ray gives each program.
_PLACE = "aimlasync leases"

_encode = msgspec.msgpack.Encoder().encode
_ask_of = msgspec.msgpack.Decoder(Ask).decode
_lease_of = msgspec.msgpack.Decoder(Lease).decode


class _Place:
    """The class of the actor. Its mutable state: the accounts, by their names."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}

    async def lease(self, name: str, ask: bytes) -> bytes:
        """Return the next lease of an account; messages are encoded."""
        now = time.monotonic()
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account(secrets.token_hex(6), now)
        return _encode(account.lease(_ask_of(ask), now))


def shared_quota(name: str) -> Callable[[], RayQuota]:
    """Start this program's place where there is none; return what makes the quota of account `name` in each process."""
    global _place
    try:
        ray.get_actor(_PLACE)
    except ValueError:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor: Any = ray.remote(_Place)
        _place = actor.options(name=_PLACE, num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
    return partial(RayQuota, name)


# The handle that keeps the place alive: Ray ends an actor without one, and those of `get_actor` do not count.
_place: Any = None


def own_share(limits: Limits, processes: int) -> Limits:
    """Return the limits of one of several processes that share a quota: it has its own part of the concurrency."""
    return msgspec.structs.replace(limits, concurrency=limits.share(processes, processes).concurrency)


class RayQuota:
    """The limits of account `name`, shared by all processes of one program on a Ray cluster; one per event loop.

    Use it in processes of the cluster, after `shared_quota` in the program. A place that does not answer within
    `timeout` seconds is down: calls go on at the part of the limits that it told last, and wait where it told none.
    """

    def __init__(self, name: str, *, timeout: float = 5.0) -> None:
        self._name = name
        self._timeout = timeout
        self._actor: Any = None
        self._fallback = Fallback(self._send, "the process of the Ray cluster that leases the limits")

    async def lease(self, ask: Ask) -> Lease:
        """Ask the place for a lease, or grant one without it."""
        return await self._fallback.lease(ask)

    async def draw(self, draw: Draw) -> int:
        """Raise QuotaDownError: no budget is shared here."""
        raise QuotaDownError("a Ray cluster shares limits and no budget; use RedisQuota")

    async def close(self) -> None:
        """End all waits."""
        self._fallback.close()

    async def _send(self, ask: Ask) -> Lease:
        try:
            if self._actor is None:
                self._actor = ray.get_actor(_PLACE)
            async with asyncio.timeout(self._timeout):
                return _lease_of(await self._actor.lease.remote(self._name, _encode(ask)))
        except (RayError, TimeoutError, ValueError) as error:
            # The place may be another actor next time.
            self._actor = None
            why = type(error).__name__
        raise QuotaDownError(f"the process of the Ray cluster that leases the limits does not answer ({why})")
