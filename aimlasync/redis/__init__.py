"""What processes and machines share through Redis or Valkey: an account's limits and budget, and answers paid for.

Law: places for `Endpoint(quota=...)` and for a job's `store=`. The arithmetic of the limits is that of
`aimlasync.quota.account`, in Lua, run atomically where the data is and by the server's own clock. Needs
`pip install 'aimlasync[redis]'`.

    async with RedisQuota("redis://cache:6379/0", name="aimlapi") as quota:
        endpoint = Endpoint.aimlapi(limits=Limits(requests_per_minute=600), quota=quota)
        async with AsyncClient(endpoints=[endpoint], budget=quota.budget(20.0)) as client: ...
"""

from aimlasync.redis.quota import RedisQuota
from aimlasync.redis.store import RedisStore

__all__ = ["RedisQuota", "RedisStore"]
