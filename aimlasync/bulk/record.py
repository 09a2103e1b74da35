"""One line of a journal: what became of one row, in the shape of a result line of OpenAI's Batch API.

Law: plain data and its JSON. {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"} is theirs
(source: OpenAI's Batch API reference, "The request output object"); `info` is ours, and holds what a report, a resumed
run or an export wants to know without decoding the body.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable
from typing import TypeVar

import msgspec

R = TypeVar("R")


class Response(msgspec.Struct, kw_only=True, gc=False):
    """What the server answered."""

    status_code: int
    request_id: str | None = None
    body: msgspec.Raw = msgspec.Raw(b"null")


class Failure(msgspec.Struct, kw_only=True, gc=False):
    """Why there is no good answer."""

    code: str
    """The class of the error: RateLimitError, AnswerInvalidError, ..."""
    message: str
    status: int | None = None
    attempts: int | None = None


class Facts(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """What is known beside the answer; None is not known, never 0. Times are seconds, money US dollars."""

    at: float | None = None
    """Unix time at which the row was finished."""
    seconds: float | None = None
    """From the start of the call to its end, waits and retries included."""
    first_byte: float | None = None
    """From the start of the last attempt until its response began."""
    queued: float | None = None
    """Of `seconds`: waiting because as many attempts were in flight as may be."""
    limited: float | None = None
    """Of `seconds`: waiting because of a rate or a pause."""
    attempts: int | None = None
    """HTTP tries, of all calls for this row; 0 means that nothing was sent."""
    calls: int | None = None
    """Calls for this row, when invalid answers were asked for again; None is one."""
    endpoint: str | None = None
    model: str | None = None
    """The model asked for."""
    tokens_in: int | None = None
    """Summed over all answered calls for this row."""
    tokens_out: int | None = None
    cost_usd: float | None = None
    """Stated by the vendor, summed over all answered calls; None when one of them has no price."""
    label: str | list[str] | None = None
    """classify: the label, or with --multi all of them."""
    confidence: float | None = None
    """classify: probability of the label by the model's own token probabilities."""
    shared_with: str | None = None
    """--dedupe: the custom_id of the identical row whose call answered this one too."""


class Record(msgspec.Struct, kw_only=True, gc=False):
    """One finished row; ok when `error` is None."""

    id: str
    """X-Client-Request-Id of the call."""
    custom_id: str
    response: Response | None = None
    error: Failure | None = None
    info: Facts | None = None


class Glance(msgspec.Struct, kw_only=True, gc=False):
    """The part of a line that a scan reads: all but ids and bodies."""

    custom_id: str
    response: GlanceResponse | None = None
    error: Failure | None = None
    info: Facts | None = None


class GlanceResponse(msgspec.Struct, kw_only=True, gc=False):
    """The part of a response that a scan reads."""

    status_code: int | None = None
    request_id: str | None = None


encode_record = msgspec.json.Encoder().encode


def _marked(decode: Callable[[bytes | str], R]) -> Callable[[bytes | str], R]:
    """Let a line begin with a byte order mark, as editors leave one."""

    def decoded(line: bytes | str) -> R:
        try:
            return decode(line)
        except msgspec.DecodeError:
            if not isinstance(line, bytes) or not line.startswith(BOM_UTF8):
                raise
        return decode(line[len(BOM_UTF8) :])

    return decoded


decode_record = _marked(msgspec.json.Decoder(Record).decode)
decode_glance = _marked(msgspec.json.Decoder(Glance).decode)
