"""An answer as it is kept: the bytes of its body, recorded while they are read, and replayed as a response.

A replayed answer is decoded by the same code as a live one. It may import `call` and what lies below `client`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aimlasync.chat.types import ChatCompletion
from aimlasync.client.call import Attempt, Call, Target
from aimlasync.headers import Fields
from aimlasync.responses.types import Response
from aimlasync.transport.base import MAX_BODY, RawReply, gathered
from aimlasync.wire.base import Meta

# Raised with a change that older versions would read wrongly: they take what is newer for no answer.
_FORMAT = 1

# The headers that an answer keeps: how its body is framed, and the ids in the server's logs.
_HEADERS = ("content-type", "x-inference-id", "x-request-id")
# Bytes of a body without events that a stream reads at once.
_PART = 64 * 2**10
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

    def __init__(self, attempt: Attempt, on_end: Callable[[Recording], None]) -> None:
        self.attempt = attempt
        self.answer: Any = None
        """The reply, or the stream, that is made of it."""
        self.is_ended = False
        """Whether its reader came to the end of the answer."""
        self._reply: RawReply = attempt.response
        self.status = self._reply.status
        self.headers = self._reply.headers
        self._pieces: list[bytes] = []
        self._on_end = on_end

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        """Return the whole body."""
        body = await self._reply.read(max_bytes)
        self._pieces.append(body)
        return body

    async def read_some(self) -> bytes:
        """Return what has arrived."""
        piece = await self._reply.read_some()
        self._pieces.append(piece)
        return piece

    def abort(self) -> None:
        """Drop the connection."""
        self._reply.abort()

    def finish(self) -> None:
        """Note the end of the answer, and give the connection back."""
        self._reply.finish()
        self.is_ended = True
        self._on_end(self)

    def kept(self) -> KeptAnswer | None:
        """Return the answer, None for one in which a key is echoed."""
        body = b"".join(self._pieces)
        secrets = self.attempt.secrets
        if secrets.cut_from(body) is not body:
            return None
        headers = {name: value for name in _HEADERS if (value := self.headers.get(name)) is not None}
        target = self.attempt.target
        return KeptAnswer(_FORMAT, self.status, secrets.without(headers), target.mode, body)


class _Replayed:
    """A response that was kept: to a stream, it comes event by event."""

    def __init__(self, answer: KeptAnswer, headers: Mapping[str, str]) -> None:
        self.status = answer.status
        self.headers = headers
        self._body = answer.body
        self._at = 0

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        return self._body if not self._at and len(self._body) <= max_bytes else await gathered(self, max_bytes)

    async def read_some(self) -> bytes:
        at = self._at
        if at:
            # Other calls have their turn, as they would while a server takes its time.
            await asyncio.sleep(0)
        end = _EVENT_END.search(self._body, at)
        self._at = end.end() if end is not None else at + _PART
        return self._body[at : self._at]

    def abort(self) -> None:
        pass

    def finish(self) -> None:
        pass


class _NoAttempt(Attempt):
    """What a kept answer is read through: nothing was sent, so nothing is charged and no endpoint learns of it."""

    def charge(self, meta: Meta | None) -> None:
        pass

    def began(self) -> None:
        pass


def replayed(answer: KeptAnswer, call: Call, target: Target, loop: asyncio.AbstractEventLoop) -> Attempt:
    """Return an attempt of `call` whose response is `answer`; its permit is none, and its end tells nobody."""
    info, endpoint, now = call.info, target.upstream.endpoint, loop.time()
    headers = Fields.of(answer.headers)
    info.endpoint, info.vendor = endpoint.name, endpoint.provider.name
    info.saw_headers(answer.status, headers)
    info.structured = answer.structured
    info.cached = True
    info.cost_usd = 0.0
    info.timing.first_byte = 0.0
    info.timing.total = now - call.started
    # Nobody admitted it, and it has no lane.
    reply = _Replayed(answer, headers)
    return _NoAttempt(None, loop, now, 0, None, False, call=call, target=target, info=info, reply=reply)  # type: ignore[arg-type]
