"""From an attempt whose response has begun to a reply, or a stream.

It may import `call`, `stream` and the structs of `chat` and `responses`; streams are loaded with their first use. Each
function ends its attempt: it succeeds here, or the error that is raised makes it fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from aimlasync.chat import types as chat
from aimlasync.chat.types import ChatCompletion
from aimlasync.client.call import Attempt
from aimlasync.errors import APIResponseValidationError
from aimlasync.responses import types as responses
from aimlasync.responses.types import InputItemList, Response
from aimlasync.wire.base import Reply, plain
from aimlasync.wire.error_bodies import error_in_body, excerpt
from aimlasync.wire.models import Model, decode_balance, decode_model

if TYPE_CHECKING:
    from aimlasync.client.chat_stream import ChatStream
    from aimlasync.client.response_stream import ResponseStream


R = TypeVar("R", bound=Reply)


async def completion(attempt: Attempt) -> ChatCompletion:
    if _content_type(attempt) == "text/event-stream":
        # Streamed without being asked to: the answer is the same.
        return await (await _chat_stream(attempt).start()).collect()
    reply = decoded(attempt, await attempt.response.read(), chat.decode_completion)
    if reply.error is not None or not reply.choices:
        raise _no_answer(attempt, reply.raw, "has no choices")
    attempt.charge(reply.meta)
    attempt.succeed(reply.usage)
    return reply


async def response(attempt: Attempt) -> Response:
    if _content_type(attempt) == "text/event-stream":
        return await (await _response_stream(attempt).start()).collect()
    reply = await _read_response(attempt)
    attempt.charge(reply.meta)
    attempt.succeed(reply.usage)
    return reply


async def stored_response(attempt: Attempt) -> Response:
    """A response that was made by another call: its tokens and cost are told, and not counted again."""
    reply = await _read_response(attempt)
    attempt.succeed(None)
    attempt.charge(reply.meta)
    return reply


async def _read_response(attempt: Attempt) -> Response:
    reply = decoded(attempt, await attempt.response.read(), responses.decode_response)
    if reply.error is not None:
        # A response that failed is an answer, and what it says of that comes from where keys are echoed.
        attempt.secrets.without(reply)
    if not (reply.id or reply.output or reply.output_text):
        raise _no_answer(attempt, reply.raw, "has no output")
    return reply


async def input_items(attempt: Attempt) -> InputItemList:
    page = decoded(attempt, await attempt.response.read(), responses.decode_input_items)
    attempt.succeed(None)
    return page


async def nothing(attempt: Attempt) -> None:
    """A success whose body says no more than that."""
    await attempt.response.read()
    attempt.succeed(None)


async def chat_stream(attempt: Attempt) -> ChatStream:
    if _streams(attempt):
        return await _chat_stream(attempt).start()
    reply = await completion(attempt)
    stream = _chat_stream(attempt)
    stream.prefill_whole(reply)
    return stream


async def response_stream(attempt: Attempt) -> ResponseStream:
    if _streams(attempt):
        return await _response_stream(attempt).start()
    reply = await response(attempt)
    stream = _response_stream(attempt)
    stream.prefill_whole(reply)
    return stream


# Loaded with the first stream, and `parse` with its first call: together they are half of what there is to load.
def _chat_stream(attempt: Attempt) -> ChatStream:
    from aimlasync.client.chat_stream import ChatStream

    return ChatStream(attempt)


def _response_stream(attempt: Attempt) -> ResponseStream:
    from aimlasync.client.response_stream import ResponseStream

    return ResponseStream(attempt)


async def model(attempt: Attempt) -> Model:
    model = decoded(attempt, await attempt.response.read(), decode_model)
    attempt.succeed(None)
    return model


async def balance(attempt: Attempt) -> float | None:
    raw = await attempt.response.read()
    attempt.succeed(None)
    try:
        return decode_balance(raw)
    except msgspec.DecodeError:
        pass
    raise _not_json(attempt, raw)


def _content_type(attempt: Attempt) -> str:
    stated = attempt.response.headers.get("content-type", "")
    # Mostly it is spelled like this.
    return stated if stated == "application/json" else stated.partition(";")[0].strip().lower()


def _streams(attempt: Attempt) -> bool:
    """The content type decides: JSON under a 200 is a whole answer or an error, and decoding says which."""
    return _content_type(attempt) in ("text/event-stream", "")


def decoded(attempt: Attempt, raw: bytes, decode: Callable[[bytes], R]) -> R:
    """Decode a whole body, and put what is known about its call beside it."""
    reply: R | None
    try:
        reply = decode(raw)
    except msgspec.DecodeError:
        reply = None
    if reply is None:
        raise _not_json(attempt, raw)
    reply.__dict__["info"] = attempt.info
    return reply


def _not_json(attempt: Attempt, raw: bytes) -> APIResponseValidationError:
    kind = _content_type(attempt) or "no content type"
    text = excerpt(raw.decode("utf-8", "replace"))
    error = APIResponseValidationError(
        f"HTTP {attempt.response.status} with a body that is not the JSON expected ({kind}): {text or 'empty'}",
        raw=raw,
        info=attempt.info,
    )
    # A page is a proxy's, which had no answer to give; broken JSON may be a paid one, and asking again pays again.
    error.retryable = kind == "text/html"
    return error


def _no_answer(attempt: Attempt, raw: bytes, why: str) -> Exception:
    """A JSON object under a 200 that is no answer: an error object, or something else."""
    body = plain(raw)
    if body.get("error") is not None or body.get("object") == "error":
        return error_in_body(body, raw=raw, info=attempt.info, billed=attempt.billed)
    return APIResponseValidationError(
        f"HTTP {attempt.response.status} with a JSON body that {why}", raw=raw, info=attempt.info
    )
