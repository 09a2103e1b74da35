"""Limits, a budget and answers that processes and machines share through Redis or Valkey.

`RedisQuota` is for `Endpoint(quota=...)`, and `RedisStore` for a job's `store=`. The limits are computed as in
`aimlasync.quota.account`, by Lua scripts that the server runs atomically with its own clock. An extra
(`pip install 'aimlasync[redis]'`), and the only package that imports redis.

    async with RedisQuota("redis://cache:6379/0", name="aimlapi") as quota:
        endpoint = Endpoint.aimlapi(limits=Limits(requests_per_minute=600), quota=quota)
        async with AsyncClient(endpoints=[endpoint], budget=quota.budget(20.0)) as client: ...

    quota    `RedisQuota`: the shared place of a quota, in Redis
    scripts  the Lua script for a lease
    draw     the Lua script for a draw from a shared budget
    store    `RedisStore`: answers by a hash of their request
"""

from aimlasync.redis.quota import RedisQuota
from aimlasync.redis.store import RedisStore

__all__ = ["RedisQuota", "RedisStore"]
