"""Makes a response, or a stream of its events, of an attempt whose response has begun; see `receive`.

It may import `receive`, `failures`, `stream` and the structs of `responses`, and is loaded with the first use of
`client.responses`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from aimlasync.client.call import Attempt
from aimlasync.client.failures import content_type, no_answer
from aimlasync.client.receive import decoded
from aimlasync.responses import types as responses
from aimlasync.responses.types import InputItemList, Response, runs_on
from aimlasync.transport.base import LARGE_BODY, RawReply, ReadBody

if TYPE_CHECKING:
    from aimlasync.client.response_stream import ResponseStream


async def response(attempt: Attempt) -> Response:
    """Return a whole response."""
    body, sent = None, attempt.response
    if content_type(sent) == "application/json":
        raw = await sent.read()
        if len(raw) > LARGE_BODY:
            from aimlasync.client.large import count_objects

            await count_objects(raw)
        try:
            reply = responses.decode_response(raw)
        except msgspec.DecodeError:
            pass
        else:
            if not runs_on(reply.status) and responses.is_answer(reply):
                reply.__dict__["info"] = attempt.info
                if reply.error is not None:
                    # A response that failed is an answer, and what it says of that comes from where keys are echoed.
                    attempt.secrets.without(reply)
                attempt.charge(reply.meta)
                attempt.succeed(reply.usage, reply.__dict__.get("cost"))
                return reply
        body = ReadBody(sent.status, sent.headers, raw)
    return await _response_stream(attempt, body).gather()


async def stored_response(attempt: Attempt) -> Response:
    """Return a response that another call made, done or not: its tokens and cost are told, and not counted again."""
    reply = decoded(attempt, await attempt.response.read(), responses.decode_response)
    if not responses.is_answer(reply):
        raise no_answer(attempt, reply.raw, "a body that has no output, a list of items")
    if reply.error is not None:
        attempt.secrets.without(reply)
    attempt.succeed(None)
    attempt.charge(reply.meta)
    return reply


async def input_items(attempt: Attempt) -> InputItemList:
    """Return a page of the input of a response."""
    page = decoded(attempt, await attempt.response.read(), responses.decode_input_items)
    attempt.succeed(None)
    return page


async def response_stream(attempt: Attempt) -> ResponseStream:
    """Return a streamed response that has said something."""
    return await _response_stream(attempt).start()


# Loaded with the first stream.
def _response_stream(attempt: Attempt, body: RawReply | None = None) -> ResponseStream:
    from aimlasync.client.response_stream import ResponseStream

    return ResponseStream(attempt, body)
