"""From a result to its record in the journal, and back.

Pure but for the time of the record. The body of a response is the server's own bytes. Imports results, records and
`errors`; an error that another process had is made again by the name of its class.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec import Raw

from aimlasync import errors
from aimlasync.bulk.journal.record import (
    Facts,
    Failure,
    Record,
    Response,
    decode_record,
    encode_record,
    on_one_line,
    settled,
)
from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.result import Answer, Read, Result, reply_of
from aimlasync.chat.types import ChatCompletion
from aimlasync.errors import AimlasyncError, AnswerError, APIStatusError, APITimeoutError
from aimlasync.info import Info, Timing
from aimlasync.wire.base import plain
from aimlasync.wire.json_text import cut_deep

_encode = msgspec.json.Encoder().encode
_skim = msgspec.json.Decoder(Raw).decode

_NO_INFO = Info()


def record_of(result: Result) -> Record:
    """Return the record of a result, finished now."""
    request, reply, error = result.request, result.reply, result.error
    # The reply may be of an earlier call than the error.
    paid = None if reply is None else reply.info
    info = paid if error is None or error.info is None else error.info
    shared_with = result.shared_with
    known = _NO_INFO if info is None or shared_with is not None else info
    timing = known.timing
    # By position, which is faster than by name.
    facts = Facts(
        time.time(),
        timing.total,
        timing.first_byte,
        timing.queued,
        timing.limited,
        result.attempts,
        None if result.calls == 1 else result.calls,
        known.endpoint or None,
        known.model or request.model,
        result.tokens_in,
        result.tokens_out,
        result.cost_usd,
    )
    # These are mostly None, and to set a field takes as long as three arguments.
    if shared_with is not None:
        facts.shared_with = shared_with
    if (structured := known.structured) is not None:
        facts.structured = structured
    if (answer := result.answer) is not None:
        facts.label, facts.confidence = answer.label, answer.confidence
    response = failure = None
    is_plain = False
    if reply is not None and paid is not None:
        status = paid.status or 200
        try:
            raw: object = reply.json_place
        except AttributeError:
            # It was assembled from a stream.
            raw = None
        if type(raw) is bytes:
            # A decoder has taken all of it. The rest is for an error in the place of an answer.
            is_plain = status == 200 and reply.error is None and reply.object != "error"
            # The only fields of a completion that could be deep are held to a hundred levels by its decoder.
            body = Raw(on_one_line(raw if type(reply) is ChatCompletion else cut_deep(raw)))
        else:
            raw = reply.raw
            body = json_line(raw) if raw else Raw(_encode(reply.to_dict()))
        response = Response(status, paid.inference_id or paid.server_request_id, body)
    elif isinstance(error, APIStatusError) and result.attempts:
        request_id = None if info is None else info.inference_id or info.server_request_id
        response = Response(error.status, request_id, Raw(_encode(error.body)))
    if error is not None:
        failure = Failure(
            code=type(error).__name__,
            message=error.message,
            status=None if info is None else info.status,
            attempts=result.attempts,
        )
    custom_id = request.custom_id
    record = Record(custom_id if info is None else info.request_id or custom_id, custom_id, response, failure, facts)
    return record if is_plain else settled(record)


def judged(line: bytes, read: Read) -> bytes:
    """Return the line of a journal, as that of a failure where `read` refuses its answer."""
    record = decode_record(line)
    if record.error is not None or record.response is None or (reply := reply_of(bytes(record.response.body))) is None:
        return line
    try:
        read(reply)
    except AnswerError as error:
        attempts = None if record.info is None else record.info.attempts
        record.error = Failure(
            code=type(error).__name__, message=error.message, status=record.response.status_code, attempts=attempts
        )
        return encode_record(record)
    return line


def result_of(record: Record, request: Request) -> Result:
    """Return the result of a call that another process made, from its record; `record_of` gives the same record."""
    facts, said = record.info or Facts(), record.response
    status = None if said is None else said.status_code
    info = Info(
        endpoint=facts.endpoint or "",
        model=facts.model or "",
        attempts=facts.attempts or 0,
        status=status if record.error is None else record.error.status,
        request_id=record.id,
        server_request_id=None if said is None else said.request_id,
        cost_usd=facts.cost_usd,
        structured=facts.structured,
        timing=Timing(queued=facts.queued, limited=facts.limited, first_byte=facts.first_byte, total=facts.seconds),
    )
    reply = None
    if said is not None and 200 <= said.status_code < 300:
        body = bytes(said.body)
        reply = reply_of(body)
        if reply is not None:
            paid = Info(status=said.status_code, server_request_id=said.request_id)
            reply.__dict__["info"] = info if record.error is None else paid
    has_answer = record.error is None and (facts.label is not None or facts.confidence is not None)
    return Result(
        request,
        reply=reply,
        error=None
        if record.error is None
        else error_of(
            record.error.code,
            record.error.message,
            status=record.error.status,
            body=None if said is None else bytes(said.body),
            reply=reply,
            info=info,
        ),
        answer=Answer(label=facts.label, confidence=facts.confidence) if has_answer else None,
        calls=1 if facts.calls is None else facts.calls,
        attempts=facts.attempts or 0,
        tokens_in=facts.tokens_in,
        tokens_out=facts.tokens_out,
        cost_usd=facts.cost_usd,
        shared_with=facts.shared_with,
    )


def error_of(
    code: str,
    message: str,
    *,
    status: int | None = None,
    body: bytes | None = None,
    reply: Any = None,
    info: Info | None = None,
) -> AimlasyncError:
    """Return the error that another process had, by the name of its class and what it said."""
    kind: type[AimlasyncError] = getattr(errors, code, AimlasyncError)
    if not issubclass(kind, AimlasyncError) or kind.__name__ != code:
        # The class is none of the client's errors, so only its name is known.
        kind = type(code, (AimlasyncError,), {})
    if issubclass(kind, APIStatusError):
        return kind(message, status=status or 0, body=None if body is None else plain(body), info=info)
    if issubclass(kind, AnswerError):
        return kind(message, reply=reply, raw=b"" if reply is None else reply.raw, info=info)
    if issubclass(kind, APITimeoutError):
        return kind(message, phase="total", info=info)
    return kind(message, info=info)


def json_line(raw: bytes) -> Raw:
    """Return a body as JSON on one line: as it came, where it is that, but for null where it is nested too deep."""
    raw = cut_deep(raw)
    try:
        _skim(raw)
    except msgspec.DecodeError:
        # The client reads NaN and the like, which JSON does not have: they would make the journal unreadable.
        return Raw(_encode(plain(raw)))
    return Raw(on_one_line(raw))
