"""One account's limits and budget, shared by many processes and machines through Redis or Valkey.

Law: a place for `Endpoint(quota=...)`; the arithmetic is `aimlasync.account`'s, in Lua, run atomically where the data
is and by the server's own clock. Needs `pip install 'aimlasync[redis]'`.

    async with RedisQuota("redis://cache:6379/0", name="aimlapi") as quota:
        endpoint = Endpoint.aimlapi(limits=Limits(requests_per_minute=600), quota=quota)
        async with AsyncClient(endpoints=[endpoint], budget=quota.budget(20.0)) as client: ...
"""

from aimlasync.redis.quota import RedisQuota

__all__ = ["RedisQuota"]
