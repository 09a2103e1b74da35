"""One line of a journal: what became of one row, in the shape of a result line of OpenAI's Batch API.

Plain data and its JSON. {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"} is theirs
(source: OpenAI's Batch API reference, "The request output object"); `info` is ours, and holds what a report, a resumed
run or an export needs without decoding the body. `settled` alone tells an answer from a failure, and both from a line
that is neither; every reader of a line goes through it. Imports the bodies of errors.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from aimlasync.wire.error_shapes import read_error

# As numbers: one that is looked for in bytes takes a sixth of the time of a text of one byte.
_LF, _CR = b"\n\r"


# A row is written by position, which is faster than by name.
class Response(msgspec.Struct, gc=False):
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


class Facts(msgspec.Struct, omit_defaults=True, gc=False):
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
    """Summed over all answered calls: stated by the vendor, else at the price that was given or is listed."""
    at_price: bool = False
    """Whether it is not the vendor's statement."""
    guess_in: int | None = None
    """Where the server counted no tokens: as many as the length makes likely, for caps alone."""
    guess_out: int | None = None
    label: str | list[str] | None = None
    """classify: the label, or with --multi all of them."""
    confidence: float | None = None
    """classify: probability of the label by the model's own token probabilities."""
    structured: str | None = None
    """How an answer in a form was asked for: json_schema, tool, json_object or text."""
    shared_with: str | None = None
    """--dedupe: the custom_id of the identical row whose call answered this one too; --store: "(store)"."""
    content: str | None = None
    """Digest of what was asked about the row: by it the row is known again when its table has changed."""


class Record(msgspec.Struct, gc=False):
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
    response: Response | None = None
    error: Failure | None = None
    info: Facts | None = None


class _Body(msgspec.Struct, gc=False):
    error: Any = None
    object: Any = None


R = TypeVar("R", Record, Glance)

WHERE_IT_IS = "the journal is a file beside the job's output"
"""What is said to who names another file."""

_body = msgspec.json.Decoder(_Body).decode
_plain = msgspec.json.Decoder().decode
_first_value = json.JSONDecoder().raw_decode
_record = msgspec.json.Decoder(Record).decode
_glance = msgspec.json.Decoder(Glance).decode

_encoder = msgspec.json.Encoder()
encode_record, encode_record_into = _encoder.encode, _encoder.encode_into


def settled(line: R) -> R:
    """Return the line with its failure in `error`: a status outside 2xx and a body that is an error are failures.

    OpenAI's Batch API leaves `error` null for a request that the server refused.
    """
    response = line.response
    if line.error is not None or response is None:
        return line
    status, raw = response.status_code, bytes(response.body)
    if not 200 <= status < 300:
        line.error = Failure(code=f"HTTP {status}", message=read_error(_decoded(raw)).message, status=status)
    elif b'"error"' in raw and _is_error(raw):
        said = read_error(_decoded(raw))
        code = f"HTTP {said.status}" if said.status is not None else said.code or said.type or "error"
        line.error = Failure(code=code, message=said.message, status=status)
    return line


def decode_record(line: bytes | str) -> Record:
    """Return a record. Raises msgspec.DecodeError for a line that is none, or has neither response nor error."""
    record = read_record(line)
    if is_blank(record):
        raise msgspec.DecodeError("it has neither a response nor an error")
    return record


def read_record(line: bytes | str) -> Record:
    """Return a record, be there a response or an error or neither. Raises msgspec.DecodeError."""
    return _read(_record, line)


def decode_glance(line: bytes | str) -> Glance | None:
    """Return what a scan reads of a line; None for one that names a row and has neither response nor error.

    Such a line says nothing of its row, which counts as not done. Raises msgspec.DecodeError for what is no record.
    """
    glance = _read(_glance, line)
    return None if is_blank(glance) else glance


def on_one_line(raw: bytes) -> bytes:
    """Return JSON without its line breaks, which are between tokens: within strings they are escaped."""
    return msgspec.json.format(raw, indent=-1) if _LF in raw or _CR in raw else raw


def _read(decode: Callable[[bytes | str], R], line: bytes | str) -> R:
    try:
        try:
            return settled(decode(_unmarked(line)))
        except msgspec.ValidationError:
            if (ours := _as_ours(_unmarked(line))) is None:
                raise
        return settled(decode(ours))
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def _as_ours(line: bytes | str) -> bytes | None:
    """Return a result line of another server with the types of ours, None where it names no row.

    vLLM's errors have numbers for codes, and some servers leave the id of the call out, name rows by numbers, or write
    the status as a text.
    """
    read = _plain(line)
    if not isinstance(read, dict) or not isinstance(read.get("custom_id"), (str, int)):
        return None
    error = read.get("error")
    if isinstance(error, str):
        error = {"message": error}
    if isinstance(error, dict):
        code = error.get("code") or error.get("type") or "error"
        error = {**error, "code": str(code), "message": str(error.get("message") or code)}
    response = read.get("response")
    if isinstance(response, dict) and isinstance(status := response.get("status_code"), str) and status.isdecimal():
        response = {**response, "status_code": int(status)}
    custom_id = str(read["custom_id"])
    return encode_record({"id": "", **read, "custom_id": custom_id, "response": response, "error": error})


def two_records(line: bytes) -> str:
    """Say what to do about a line that has more than one record: files were put together, and one had no line end.

    It says nothing of any other line. A crash leaves no such line, which holds answers and is not to be cut off.
    """
    text = line.decode("utf-8-sig", "replace")
    try:
        _, end = _first_value(text)
    except (ValueError, RecursionError):
        return ""
    is_one = not text[end:].lstrip().startswith("{")
    return "" if is_one else "two records on one line; put a line end between them"


def is_blank(line: Record | Glance) -> bool:
    """Whether a line says nothing of its row."""
    return line.response is None and line.error is None


def add_earlier(record: Record, earlier: Facts | None) -> None:
    """Add what an earlier run took for the row, whose line this record takes the place of."""
    facts = record.info
    if earlier is None or facts is None:
        return
    facts.attempts = (earlier.attempts or 0) + (facts.attempts or 0)
    calls = sum(1 if each.calls is None else each.calls for each in (earlier, facts))
    facts.calls = None if calls == 1 else calls
    paid = [each for each in (earlier, facts) if each.tokens_in is not None or each.cost_usd is not None]
    if paid:
        costs = [each.cost_usd for each in paid if each.cost_usd is not None]
        facts.cost_usd = sum(costs) if len(costs) == len(paid) else None
    if any(each.tokens_in is not None for each in paid):
        facts.tokens_in, facts.tokens_out = (
            sum(each.tokens_in or 0 for each in paid),
            sum(each.tokens_out or 0 for each in paid),
        )


def _is_error(raw: bytes) -> bool:
    try:
        body = _body(raw)
    except (ValueError, RecursionError):
        return False
    return body.object == "error" or (isinstance(body.error, (dict, str)) and bool(body.error))


def _decoded(raw: bytes) -> Any:
    try:
        return _plain(raw)
    except (ValueError, RecursionError):
        return None


def _unmarked(line: bytes | str) -> bytes | str:
    """Let a line begin with a byte order mark, as editors leave one."""
    return line.removeprefix(BOM_UTF8) if isinstance(line, bytes) else line
