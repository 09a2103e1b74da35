"""Limits, a budget and answers that processes and machines share through Redis or Valkey.

`RedisQuota` is for `Endpoint(quota=...)`. `RedisStore`, of `aimlasync.store`, is for `store=` and `cache=`. The limits
are computed as in `aimlasync.quota.account`, by Lua scripts that the server runs atomically with its own clock. An
extra (`pip install 'aimlasync[redis]'`).

    async with RedisQuota("redis://cache:6379/0", name="aimlapi") as quota:
        endpoint = Endpoint.aimlapi(limits=Limits(requests_per_minute=600), quota=quota)
        async with AsyncClient(endpoints=[endpoint], budget=quota.budget(20.0)) as client: ...

    quota    `RedisQuota`: the shared place of a quota, in Redis
    scripts  the Lua script for a lease
    draw     the Lua script for a draw from a shared budget
"""

from aimlasync.redis.quota import RedisQuota
from aimlasync.store.redis_server import RedisStore

__all__ = ["RedisQuota", "RedisStore"]
