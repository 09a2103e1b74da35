"""What processes and machines share through Redis or Valkey: an account's limits and budget, and stored answers.

`RedisQuota` is a shared place for `Endpoint(quota=...)`, and `RedisStore` a store for the `store=` of a bulk job. Redis
runs the arithmetic of `aimlasync.quota.account` as a Lua script, atomically and by its own clock. This package may
import `quota`, `cost` and `bulk`. It needs `pip install 'aimlasync[redis]'`.

    async with RedisQuota("redis://cache:6379/0", name="aimlapi") as quota:
        endpoint = Endpoint.aimlapi(limits=Limits(requests_per_minute=600), quota=quota)
        async with AsyncClient(endpoints=[endpoint], budget=quota.budget(20.0)) as client: ...
"""

from aimlasync.redis.quota import RedisQuota
from aimlasync.redis.store import RedisStore

__all__ = ["RedisQuota", "RedisStore"]
