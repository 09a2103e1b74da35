"""Results as journal records, and back.

Law: pure. The body is the server's own bytes; what is in them is read by the decoders that read it from the wire, so a
label found in a journal is the label that was found in the reply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from aimlasync.bulk.classify import Api, Result
from aimlasync.bulk.journal import Failure, Record, Response, raw_body
from aimlasync.chat import ChatCompletion, decode_completion
from aimlasync.errors import APIStatusError
from aimlasync.responses import Response as Reply
from aimlasync.responses import decode_response

_encode = msgspec.json.Encoder().encode


def record_of(result: Result) -> Record:
    """Return the record of a result."""
    reply, error = result.reply, result.error
    info = reply.info if reply is not None else error.info if error is not None else None
    attempts = None if info is None else info.attempts
    request_id = None if info is None else info.inference_id or info.server_request_id
    response = failure = None
    if reply is not None:
        response = Response(
            status_code=reply.info.status or 200,
            request_id=request_id,
            body=raw_body(reply.raw or _encode(reply.to_dict())),
            attempts=attempts,
            cost_usd=reply.info.cost_usd,
        )
    elif isinstance(error, APIStatusError) and attempts:
        response = Response(
            status_code=error.status,
            request_id=request_id,
            body=msgspec.Raw(_encode(error.body)),
            attempts=attempts,
        )
    if error is not None:
        failure = Failure(
            code=type(error).__name__,
            message=error.message,
            status=None if info is None else info.status,
            attempts=attempts,
        )
    sent = "" if info is None else info.request_id
    return Record(id=sent or result.row.custom_id, custom_id=result.row.custom_id, response=response, error=failure)


def row_number(record: Record) -> int | None:
    """Return the number of the row that a record is about, None for a name that is not ours."""
    prefix, _, number = record.custom_id.partition("-")
    return int(number) if prefix == "row" and number.isascii() and number.isdecimal() else None


def reply_of(record: Record, endpoint: Api) -> ChatCompletion | Reply | None:
    """Return the reply that was paid for, None for a failure without one. Raises msgspec.DecodeError."""
    if record.response is None or not 200 <= record.response.status_code < 300:
        return None
    raw = bytes(record.response.body)
    return decode_response(raw) if endpoint == "responses" else decode_completion(raw)


def label_reader(answer: type[Any]) -> Callable[[ChatCompletion | Reply], str]:
    """Return the function that reads the label out of a reply; it raises msgspec.DecodeError."""
    decoder = msgspec.json.Decoder(answer)

    def read(reply: ChatCompletion | Reply) -> str:
        text = reply.text if isinstance(reply, ChatCompletion) else reply.output_text
        label: str = decoder.decode(text).label.value
        return label

    return read
