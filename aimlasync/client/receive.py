"""Makes a reply, or a stream, of an attempt whose response has begun.

It may import `call`, `failures`, `stream` and the structs of `chat`; streams are loaded with their first use, and
`receive_response` with that of `client.responses`. Each function ends its attempt: it succeeds here, or the error that
is raised makes it fail. A whole JSON body is decoded here; whatever else a body turns out to be is read by a `Stream`,
which knows every framing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from aimlasync.chat import types as chat
from aimlasync.chat.endings import given_up
from aimlasync.chat.types import ChatCompletion
from aimlasync.client.call import Attempt
from aimlasync.client.failures import content_type, not_json
from aimlasync.transport.base import LARGE_BODY, RawReply, ReadBody
from aimlasync.wire.base import Reply
from aimlasync.wire.models import Model, decode_balance, decode_model

if TYPE_CHECKING:
    from aimlasync.client.chat_stream import ChatStream


R = TypeVar("R", bound=Reply)


async def completion(attempt: Attempt) -> ChatCompletion:
    """Return a whole chat completion."""
    body, response = None, attempt.reply
    assert response is not None
    if content_type(response) == "application/json":
        raw = await response.read()
        try:
            reply = chat.decode_completion(raw) if len(raw) <= LARGE_BODY else await _large(raw)
        except msgspec.DecodeError:
            pass
        else:
            if _is_sure(reply):
                beside = reply.__dict__
                beside["info"] = attempt.info
                if reply.meta is not None:
                    attempt.charge(reply.meta)
                attempt.succeed(reply.usage, beside.get("cost"))
                return reply
        body = ReadBody(response.status, response.headers, raw)
    return await _chat_stream(attempt, body).gather()


async def _large(raw: bytes) -> ChatCompletion:
    from aimlasync.client.large import decode_large

    return await decode_large(raw)


def _is_sure(reply: ChatCompletion) -> bool:
    """Whether nothing is in doubt: an empty message may be a chunk's, or have an error beside it."""
    if reply.error or reply.object == "error" or not reply.choices:
        return False
    first = reply.choices[0]
    if first.finish_reason is None or not (first.message.content or first.message.tool_calls):
        return False
    for choice in reply.choices:
        native = choice.native_finish_reason
        # Most say "stop", and nothing else.
        if choice.error or (
            (native or choice.finish_reason != "stop") and given_up(choice.finish_reason, native) is not None
        ):
            return False
    return True


async def nothing(attempt: Attempt) -> None:
    """Read a success whose body says no more than that."""
    await attempt.response.read()
    attempt.succeed(None)


async def chat_stream(attempt: Attempt) -> ChatStream:
    """Return a streamed chat completion that has said something."""
    return await _chat_stream(attempt).start()


# Loaded with the first stream, and `parse` with its first call: together they are half of what there is to load.
def _chat_stream(attempt: Attempt, body: RawReply | None = None) -> ChatStream:
    from aimlasync.client.chat_stream import ChatStream

    return ChatStream(attempt, body)


async def model(attempt: Attempt) -> Model:
    """Return one model of a catalogue."""
    model = decoded(attempt, await attempt.response.read(), decode_model)
    attempt.succeed(None)
    return model


async def balance(attempt: Attempt) -> float | None:
    """Return the balance that a body states, in US dollars."""
    raw = await attempt.response.read()
    attempt.succeed(None)
    try:
        return decode_balance(raw)
    except msgspec.DecodeError:
        pass
    raise not_json(attempt, raw)


def decoded(attempt: Attempt, raw: bytes, decode: Callable[[bytes], R]) -> R:
    """Decode a whole body, and put what is known about its call beside it."""
    reply: R | None
    try:
        reply = decode(raw)
    except msgspec.DecodeError:
        reply = None
    if reply is None:
        raise not_json(attempt, raw)
    reply.__dict__["info"] = attempt.info
    return reply
