"""Identical requests share one call.

Law: what is identical is decided by the encoded request alone, its name aside. One pass over the input finds which
requests come more than once; only the answers of those are held, so memory grows with them and not with the input.
A failure is not shared: the next one asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b

import msgspec

from aimlasync.bulk.journal.id_set import DoneSet
from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.result import Result

_encode = msgspec.json.Encoder(order="deterministic").encode


def digest_of(request: Request) -> str:
    """Return what two requests have in common when they ask the same."""
    return blake2b(_encode((request.api, request.body)), digest_size=16).hexdigest()


class Repeats:
    """Finds the requests that come more than once."""

    def __init__(self) -> None:
        self._seen = DoneSet()
        self.digests: set[str] = set()

    def see(self, request: Request) -> None:
        """Take in one request."""
        digest = digest_of(request)
        if not self._seen.add(digest):
            self.digests.add(digest)


class Shared:
    """The calls of one run whose answers serve more than one row.

    `earlier` gives the answer that a former run got for a digest, None when there is none.
    """

    def __init__(self, repeated: set[str], earlier: Callable[[str], Result | None] = lambda digest: None) -> None:
        self._repeated = repeated
        self._earlier = earlier
        # By digest: the call under way, or its result.
        self._calls: dict[str, asyncio.Future[Result | None] | Result] = {}

    async def ask(self, request: Request, call: Callable[[], Awaitable[Result]]) -> Result:
        """Return the result of an identical request, waiting for it if it is under way, else that of `call`."""
        digest = digest_of(request)
        if digest not in self._repeated:
            return await call()
        while (known := self._calls.get(digest)) is not None:
            # A future of its own for nobody: one who leaves does not end it.
            result = known if isinstance(known, Result) else await asyncio.shield(known)
            if result is not None and result.ok:
                return _shared(result, request)
        if (result := self._earlier(digest)) is not None:
            self._calls[digest] = result
            return _shared(result, request)
        future: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
        self._calls[digest] = future
        try:
            result = await call()
        finally:
            if result is not None and result.ok:
                self._calls[digest] = msgspec.structs.replace(result, row=None)
            else:
                del self._calls[digest]
            future.set_result(result)
        return result


def _shared(result: Result, request: Request) -> Result:
    return Result(request, reply=result.reply, answer=result.answer, calls=0, attempts=0, shared_with=result.custom_id)
