"""From a result to the line that keeps it.

Law: pure. The body is the server's own bytes.
"""

from __future__ import annotations

import time

import msgspec

from aimlasync.bulk.ask import Result
from aimlasync.bulk.record import Facts, Failure, Record, Response
from aimlasync.errors import APIStatusError
from aimlasync.info import Timing
from aimlasync.wire import plain

_encode = msgspec.json.Encoder().encode
_skim = msgspec.json.Decoder(msgspec.Raw).decode

_UNTIMED = Timing()


def record_of(result: Result) -> Record:
    """Return the record of a result, finished now."""
    reply, error, info, answer = result.reply, result.error, result.info, result.answer
    shared_with = result.shared_with
    timing = _UNTIMED if info is None or shared_with is not None else info.timing
    facts = Facts(
        at=time.time(),
        seconds=timing.total,
        first_byte=timing.first_byte,
        queued=timing.queued,
        limited=timing.limited,
        attempts=result.attempts,
        calls=None if result.calls == 1 else result.calls,
        endpoint=None if info is None or shared_with is not None else info.endpoint or None,
        model=result.request.model,
        tokens_in=result.tokens_in,
        tokens_out=result.tokens_out,
        cost_usd=result.cost_usd,
        label=None if answer is None else answer.label,
        confidence=None if answer is None else answer.confidence,
        shared_with=shared_with,
    )
    response = failure = None
    if reply is not None:
        # Of an earlier call, where the last one brought none.
        paid, raw = reply.info, reply.raw
        response = Response(
            status_code=paid.status or 200,
            request_id=paid.inference_id or paid.server_request_id,
            body=json_line(raw) if raw else msgspec.Raw(_encode(reply.to_dict())),
        )
    elif isinstance(error, APIStatusError) and result.attempts:
        request_id = None if info is None else info.inference_id or info.server_request_id
        response = Response(status_code=error.status, request_id=request_id, body=msgspec.Raw(_encode(error.body)))
    if error is not None:
        failure = Failure(
            code=type(error).__name__,
            message=error.message,
            status=None if info is None else info.status,
            attempts=result.attempts,
        )
    custom_id = result.request.custom_id
    return Record(
        id=(info.request_id if info is not None else "") or custom_id,
        custom_id=custom_id,
        response=response,
        error=failure,
        info=facts,
    )


def json_line(raw: bytes) -> msgspec.Raw:
    """Return a body as JSON on one line: as it came, where it is that."""
    try:
        _skim(raw)
    except msgspec.DecodeError:
        # What the client reads and JSON does not know, such as NaN, would make the whole journal unreadable.
        return msgspec.Raw(_encode(plain(raw)))
    if b"\n" in raw or b"\r" in raw:
        # Only between tokens: within strings they are escaped.
        return msgspec.Raw(msgspec.json.format(raw, indent=-1))
    return msgspec.Raw(raw)
