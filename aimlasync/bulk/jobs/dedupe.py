"""Identical requests share one call.

Two requests are identical when they are equal but for their names. One pass over the input finds which come more
than once (`Repeats`); only the answers of those are held, so memory grows with them and not with the input. A failure
that asking again would not mend is shared in one run, since it may be paid for; after any other the next identical row
asks again. Imports tasks and the journal; the calls are made by whoever is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable
from contextlib import suppress
from hashlib import blake2b

import msgspec

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.journal.id_set import IdSet
from aimlasync.bulk.journal.journal import Journal
from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.result import Result, reply_of
from aimlasync.bulk.tasks.tasks import EmptyTextError, Task
from aimlasync.errors import AnswerError
from aimlasync.wire.canonical_json import canonical


def digest_of(request: Request) -> str:
    """Return what two requests have in common when they ask the same."""
    return blake2b(canonical((request.api, request.body)), digest_size=16).hexdigest()


class Repeats:
    """Finds the requests that come more than once."""

    def __init__(self) -> None:
        self._seen = IdSet()
        self.digests: set[str] = set()

    def add(self, request: Request) -> None:
        """Take in one request."""
        digest = digest_of(request)
        if not self._seen.add(digest):
            self.digests.add(digest)


class SharedCalls:
    """The calls of one run whose answers serve more than one row.

    `earlier` gives the answer that an earlier run got for a digest, None when there is none.
    """

    def __init__(self, repeated: set[str], earlier: Callable[[str], Result | None] | None = None) -> None:
        self._repeated = repeated
        self._earlier = earlier
        # By digest: the call under way, or its result.
        self._calls: dict[str, asyncio.Future[Result | None] | Result] = {}

    async def ask(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        """Return the result of an identical request, waiting for it if it is under way, else that of `call`."""
        digest = digest_of(request)
        if digest not in self._repeated:
            return await call(request)
        while (known := self._calls.get(digest)) is not None:
            # Several rows may wait for one future, and one that is cancelled must not cancel it for the others.
            result = known if isinstance(known, Result) else await asyncio.shield(known)
            if result is not None and _is_settled(result):
                return _shared(result, request)
        result = None if self._earlier is None else self._earlier(digest)
        if result is not None:
            self._calls[digest] = result
            return _shared(result, request)
        future: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
        self._calls[digest] = future
        try:
            result = await call(request)
        finally:
            if result is not None and _is_settled(result):
                self._calls[digest] = msgspec.structs.replace(result, row=None)
            else:
                del self._calls[digest]
            future.set_result(result)
        return result


def _is_settled(result: Result) -> bool:
    """Whether another call for the same would come to no more."""
    return result.error is None or not result.error.retryable


def _shared(result: Result, request: Request) -> Result:
    return Result(
        request,
        reply=result.reply,
        error=result.error,
        answer=result.answer,
        calls=0,
        attempts=0,
        shared_with=result.custom_id,
    )


def earlier_answers(
    repeated: Container[str], rows: Iterable[Row], task: Task, done: IdSet, journal: Journal
) -> Callable[[str], Result | None]:
    """Return a lookup, by digest, of answers in `journal` that can serve rows with the same request.

    `rows` are those of the input; of the ones that are `done`, the requests that are `repeated` are looked for.
    """
    digests: dict[str, str] = {}
    for row in rows:
        if task.custom_id(row) in done:
            with suppress(EmptyTextError):
                request = task.request(row)
                if (digest := digest_of(request)) in repeated:
                    digests[request.custom_id] = digest
    offsets: dict[str, int] = {}
    if digests:
        for offset, glance in journal.scan():
            if glance.error is None and (found := digests.get(glance.custom_id)) is not None:
                offsets.setdefault(found, offset)

    def find(digest: str) -> Result | None:
        offset = offsets.pop(digest, None)
        if offset is None:
            return None
        record = journal.read(offset)
        return None if record.response is None else _answered(task, record.custom_id, bytes(record.response.body))

    return find


def _answered(task: Task, name: str, body: bytes) -> Result | None:
    reply = reply_of(body)
    if reply is None:
        return None
    try:
        answer = None if task.read is None else task.read(reply)
    except AnswerError:
        return None
    return Result(Request(custom_id=name, api="chat", body={}), reply, answer=answer)
