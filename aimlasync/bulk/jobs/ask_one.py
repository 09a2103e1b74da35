"""One row from its request to its result: the call, and the calls again when the answer is no good.

Law: a caller of the client, by its public names; keeps nothing. Every answered call is counted, also those whose
answer is thrown away.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.result import Read, Reply, Result
from aimlasync.errors import AimlasyncError, AnswerError

if TYPE_CHECKING:
    from aimlasync.client import AsyncClient


async def ask(client: AsyncClient, request: Request, *, read: Read | None = None, retry_invalid: int = 0) -> Result:
    """Ask for one request, and again up to `retry_invalid` times while `read` says that the answer is no good."""
    result = Result(request, calls=0)
    while True:
        result.calls += 1
        try:
            reply = await _create(client, request)
        except AimlasyncError as error:
            # A reply of an earlier call stays: it was paid for.
            result.error = error
            if error.info is not None:
                result.attempts += error.info.attempts
            return result
        result.count(reply)
        if read is None:
            return result
        try:
            result.answer = read(reply)
        except AnswerError as error:
            result.error = error
            if result.calls <= retry_invalid:
                continue
        return result


def _create(client: AsyncClient, request: Request) -> Coroutine[Any, Any, Reply]:
    body = request.body
    if request.api == "responses":
        return client.responses.create(
            model=body["model"], input=body.get("input", ""), extra_body=body, priority="bulk"
        )
    return client.chat.completions.create(
        model=body["model"], messages=body["messages"], extra_body=body, priority="bulk"
    )
