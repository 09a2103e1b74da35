"""An answer as it is kept: the bytes of its body, recorded while they are read, and replayed as a response.

A replayed answer is decoded by the same code as a live one. It may import `call` and what lies below `client`.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar

import msgspec

from aimlasync.chat.types import ChatCompletion
from aimlasync.client.call import Attempt, Call
from aimlasync.client.target import Target
from aimlasync.errors import AimlasyncError
from aimlasync.headers import Fields
from aimlasync.info import Info
from aimlasync.responses.types import Response
from aimlasync.transport.base import MAX_BODY, RawReply, ReadBody
from aimlasync.wire.base import Meta

# Raised with a change that older versions would read wrongly: they take what is newer for no answer.
_FORMAT = 1

# The headers that an answer keeps: how its body is framed, and the ids in the server's logs.
_HEADERS = ("content-type", "x-inference-id", "x-request-id")
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class KeptAnswer(msgspec.Struct, array_like=True, gc=False):
    """A whole answer, as the server sent it."""

    format: int
    status: int
    headers: dict[str, str]
    structured: str | None
    """How it was asked to fit a schema."""
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(KeptAnswer)


def written(answer: KeptAnswer) -> bytes:
    """Return the bytes that are kept."""
    return _encode(answer)


def read(data: bytes | None) -> KeptAnswer | None:
    """Return the answer that was kept, None for none, and for one of a newer format."""
    if data is None:
        return None
    try:
        answer = _decoder.decode(data)
    except (ValueError, RecursionError):
        return None
    return answer if answer.format == _FORMAT else None


def is_whole(reply: object) -> bool:
    """Whether a reply is an answer to be given again: neither an error in a reply, nor one that goes on elsewhere."""
    if isinstance(reply, Response):
        return reply.error is None and reply.status in (None, "completed", "incomplete")
    if not isinstance(reply, ChatCompletion) or reply.error:
        return False
    # Aggregators say so where the server behind them broke off.
    return not any(choice.finish_reason == "error" or getattr(choice, "error", None) for choice in reply.choices)


class Recording:
    """The response of an attempt, whose body is recorded as it is read."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.answer: Any = None
        """The reply that is made of it."""
        self.reply: RawReply = attempt.response
        self.status = self.reply.status
        self.headers = self.reply.headers
        self.pieces: list[bytes] = []
        """The body, as far as it was read. Mutable: it grows."""

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        """Return the whole body."""
        body = await self.reply.read(max_bytes)
        self.pieces.append(body)
        return body

    async def read_some(self) -> bytes:
        """Return what has arrived."""
        piece = await self.reply.read_some()
        self.pieces.append(piece)
        return piece

    def abort(self) -> None:
        """Drop the connection."""
        self.reply.abort()

    def finish(self) -> None:
        """Give the connection back."""
        self.reply.finish()

    def kept(self) -> KeptAnswer | None:
        """Return the answer, None for one in which a key is echoed."""
        body = b"".join(self.pieces)
        return None if self.attempt.secrets.cut_from(body) is not body else self.begun(body)

    def begun(self, body: bytes = b"") -> KeptAnswer:
        """Return the answer with its status and headers, and so much of its body."""
        headers = {name: value for name in _HEADERS if (value := self.headers.get(name)) is not None}
        attempt = self.attempt
        return KeptAnswer(_FORMAT, self.status, attempt.secrets.without(headers), attempt.target.mode, body)


class Replay(Attempt):
    """What an answer is read through that this call did not pay for: nothing is charged, and no endpoint learns."""

    def charge(self, meta: Meta | None) -> None:
        """The answer was paid for before."""

    def began(self) -> None:
        """The endpoint was told before."""

    def fail(self, error: AimlasyncError) -> None:
        """The answer is no good, or the reader's own time has passed."""
        super().fail(error)
        if self.info.cached:
            error.billed = False


R = TypeVar("R", bound=Replay)


def replayed(answer: KeptAnswer, call: Call, target: Target, kind: type[R]) -> R:
    """Return an attempt of `call` whose response is `answer`."""
    info, endpoint, loop = call.info, target.upstream.endpoint, asyncio.get_running_loop()
    headers, now = Fields.of(answer.headers), loop.time()
    info.endpoint, info.vendor = endpoint.name, endpoint.provider.name
    info.saw_headers(answer.status, headers)
    info.structured = answer.structured
    info.cached = True
    info.cost_usd = 0.0
    info.timing.first_byte = 0.0
    info.timing.total = now - call.started
    return without_permit(kind, call, target, info, ReadBody(answer.status, headers, answer.body, ends=_EVENT_END), now)


def without_permit(kind: type[R], call: Call, target: Target, info: Info, reply: RawReply, now: float) -> R:
    """Return an attempt that nobody admitted, as if sent at `now`: its end tells no lane."""
    loop = asyncio.get_running_loop()
    return kind(None, loop, now, 0, None, False, call=call, target=target, info=info, reply=reply)  # type: ignore[arg-type]
