"""--quota: limits that commands on any number of machines keep together through Redis.

Redis is imported only when it is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from aimlasync.cli.errors import CommandError, WrongUseError
from aimlasync.cli.job_options import JobOptions
from aimlasync.cli.server import Server
from aimlasync.quota.protocol import QuotaDownError

# Seconds between two looks for a Redis that may be starting, too: half a minute, with those that connecting takes.
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0)


def redis_quota(flags: JobOptions, server: Server) -> Callable[[], Any] | None:
    """Return what makes the quota in each process, None without --quota. Raises WrongUseError."""
    if flags.quota is None:
        return None
    if not flags.limits.is_rated:
        raise WrongUseError("--quota shares what --rpm and --tpm allow; say the account's, the same in every process")
    url, _, name = flags.quota.partition("#")
    if "@" in url:
        raise WrongUseError("--quota: a password is never an argument; set REDIS_URL everywhere and say --quota redis")
    try:
        from aimlasync.redis import RedisQuota
    except ImportError as error:
        raise WrongUseError(f"--quota: {error}") from None
    host = "simulator" if server.endpoint is None else urlsplit(server.endpoint.base_url).hostname
    make = partial(RedisQuota, None if url == "redis" else url, name=name or str(host))
    try:
        # Only a quota that was made shows whether the URL is one.
        make()
    except ValueError as error:
        raise WrongUseError(f"--quota: {error}") from None
    return make


async def reach(make: Callable[[], Any] | None) -> None:
    """Return when the Redis of a quota answers, at once without a quota. Raises CommandError where it does not.

    A job waits for a Redis that goes away in the middle; one that was never there may be a wrong address.
    """
    if make is None:
        return
    async with make() as quota:
        for wait in (*_WAITS, None):
            try:
                await quota.ping()
            except QuotaDownError as error:
                said = str(error)
            else:
                return
            if wait is not None:
                await asyncio.sleep(wait)
    raise CommandError(f"--quota: {said}; nothing was asked: start that Redis, or name another one in --quota")
