"""From the body of an error response, or an error inside a stream, to an error of `errors`.

Five shapes of bodies are known, and plain text; every body gives an error with a message. It has no I/O. It may import
`errors`, `info` and `wire.begun_json`.
Sources: AI/ML API "Errors and messages"; ByteSpike "Errors reference"; OpenAI's error object; FastAPI's and vLLM's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from aimlasync.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InsufficientCreditError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    StreamError,
    UnprocessableEntityError,
)
from aimlasync.info import Info
from aimlasync.wire.begun_json import MAX_DEPTH, read_begun

# The length of a body's excerpt in a message: enough to recognise a proxy's page, too little to flood a log.
_EXCERPT = 200
# A vendor's own message is shown up to this length; `body` has all of it.
_LONGEST_MESSAGE = 4_000

_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}

# The server asks to try again with these. The caller must change its request after any other 4xx but 429.
_TRANSIENT_4XX = frozenset({408, 409, 425})

# Statuses that are not retried, whatever `x-should-retry` says.
_FINAL = frozenset({400, 401, 402, 403, 404, 413, 422})

# Texts and codes of a 429 or 5xx that do not go away with time. Sources: AI/ML API, "Errors 4xx" and "5xx"; OpenAI's
# `insufficient_quota`; ByteSpike's `quota_exceeded`.
_PERMANENT = re.compile(
    r"maintenance|coupon code|insufficient_quota|insufficient_balance|quota_exceeded|exceeded your current quota"
    r"|free.tier limit|reached your free limit",
    re.IGNORECASE,
)

# Codes inside a stream with status 200 that say that the request itself is wrong.
_PERMANENT_CODES = re.compile(
    r"invalid|not_found|unsupported|permission|authentication|insufficient|quota_exceeded|content_filter|policy"
    r"|context_length|billing|maintenance",
    re.IGNORECASE,
)

# An error that the vendor passes on arrives as text: a status, a space, then the JSON of the server behind the vendor
# (AI/ML API, batch cancel page).
_UPSTREAM = re.compile(r"\s*\d{3}\s+(\{.*)", re.DOTALL)

_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


class ErrorDetail(msgspec.Struct, kw_only=True):
    """The fields of an error body, whichever of the known shapes it has."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    request_id: str | None = None
    status: int | None = None
    """A status from 400 to 599 that the body states."""


def read_error(body: Any) -> ErrorDetail:
    """Read a decoded error body: OpenAI's, AI/ML API's flat one, a nested upstream's, FastAPI's, vLLM's, or a text.

    Sources: AI/ML API "Errors and messages"; ByteSpike "Errors reference"; OpenAI's error object.
    """
    if isinstance(body, str):
        body = {"message": body}
    if not isinstance(body, Mapping):
        return ErrorDetail()
    inner = body.get("error")
    source: Mapping[str, Any] = inner if isinstance(inner, Mapping) else body
    message = _text(source.get("message"))
    if not message and isinstance(inner, str):
        message = inner
    if not message:
        places = source.get("detail"), body.get("errors"), body.get("message"), body.get("msg")
        message = next(filter(None, map(_text, places)), "")
    detail = ErrorDetail(
        message=message,
        code=_word(source.get("code")) or _word(body.get("code")),
        type=_word(source.get("type")),
        param=_word(source.get("param")),
        request_id=_word(body.get("requestId")) or _word(body.get("request_id")),
        status=_status(source.get("code")) or _status(body.get("statusCode")) or _status(source.get("status")),
    )
    upstream = _UPSTREAM.match(message)
    read = None if upstream is None else _read(upstream[1])
    if read is not None:
        nested = read[1]
        detail.message = nested.message or message
        detail.code = nested.code or detail.code
        detail.type = nested.type or detail.type
        detail.param = nested.param or detail.param
        detail.request_id = detail.request_id or nested.request_id
    return detail


def status_error(
    status: int,
    body: bytes,
    *,
    retry_after: float | None = None,
    out_of_credit: Sequence[tuple[int, str]] = (),
    should_retry: bool | None = None,
    failures_are_free: bool = False,
    info: Info | None = None,
) -> APIStatusError:
    """Build the error for a response with a non-2xx status.

    `out_of_credit` lists (status, text) pairs that mean no credit; `should_retry` is `x-should-retry` where the server
    sent it.
    """
    text = body.decode("utf-8-sig", "replace")
    decoded, detail = _read(text) or (text, ErrorDetail(message=excerpt(text)))
    if info is not None and detail.request_id is not None:
        info.server_request_id = detail.request_id
    cls = _class_of(status)
    lowered = detail.message.lower()
    if status in (402, 403) and any(status == s and t.lower() in lowered for s, t in out_of_credit):
        cls = InsufficientCreditError
    said = detail.message or excerpt(text) or f"the response had no {'readable ' if text.strip() else ''}body"
    retryable = cls.retryable or status in _TRANSIENT_4XX
    if should_retry is not None:
        retryable = should_retry and (retryable or status not in _FINAL)
    if _PERMANENT.search(f"{said} {detail.code} {detail.type}"):
        retryable = False
    return cls(
        f"HTTP {status}: {_bounded(said)}",
        status=status,
        body=decoded,
        raw=body,
        code=detail.code,
        type=detail.type,
        param=detail.param,
        retry_after=retry_after,
        retryable=retryable,
        info=info,
        billed=False if failures_are_free else None,
    )


def _read(text: str) -> tuple[Any, ErrorDetail] | None:
    """Return (the decoded body, its fields), None for a body that is no JSON or states nothing."""
    try:
        decoded = shallow(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        # The body was cut, or is nested too deep for msgspec.
        decoded = read_begun(text)
        detail = read_error(decoded)
        return (decoded, detail) if detail.message or detail.code else None
    return decoded, read_error(decoded)


def shallow(value: Any) -> Any:
    """Return `value` with everything below MAX_DEPTH replaced by None; itself where nothing is that deep.

    Code that works on error bodies may be recursive.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [part for item in level for part in _parts(item)]
        if not level:
            return value
    return _pruned(value, MAX_DEPTH)


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _pruned(value: Any, levels: int) -> Any:
    if not isinstance(value, (dict, list)):
        return value
    if not levels:
        return None
    if isinstance(value, list):
        return [_pruned(item, levels - 1) for item in value]
    return {name: _pruned(item, levels - 1) for name, item in value.items()}


def _class_of(status: int) -> type[APIStatusError]:
    return _BY_STATUS.get(status) or (InternalServerError if status >= 500 else APIStatusError)


def error_in_body(body: Any, *, raw: bytes, info: Info | None, billed: bool | None) -> APIStatusError:
    """Build the error for a 200 whose JSON body is an error; its code sets the class where that is a status."""
    body = shallow(body)
    detail = read_error(body)
    status = detail.status or 200
    cls = _class_of(status)
    return cls(
        f"HTTP 200 with an error in the body: "
        f"{_bounded(detail.message) or excerpt(raw.decode('utf-8-sig', 'replace'))}",
        status=status,
        body=body,
        code=detail.code,
        type=detail.type,
        param=detail.param,
        retryable=cls.retryable and not _PERMANENT.search(f"{detail.message} {detail.code} {detail.type}"),
        info=info,
        billed=billed,
    )


def stream_error(body: Any, *, partial: Any, info: Info | None, billed: bool | None) -> StreamError:
    """Build the error for an error object found inside a stream."""
    body = shallow(body)
    detail = read_error(body)
    said = detail.message or detail.code or "no message"
    words = f"{detail.code} {detail.type}"
    permanent = bool(_PERMANENT.search(f"{said} {words}") or _PERMANENT_CODES.search(words))
    if detail.status is not None and detail.status < 500 and detail.status not in (*_TRANSIENT_4XX, 429):
        permanent = True
    return StreamError(
        f"the stream reported an error: {_bounded(said)}",
        partial=partial,
        code=detail.code,
        body=body,
        retryable=not permanent,
        info=info,
        billed=billed,
    )


def _bounded(said: str) -> str:
    """Return a message, cut at _LONGEST_MESSAGE."""
    return said if len(said) <= _LONGEST_MESSAGE else said[:_LONGEST_MESSAGE] + "..."


def excerpt(text: str) -> str:
    """Return the first words of a body that is no JSON, without its tags, for a message."""
    # The expression takes quadratic time in the worst case, and a body may have megabytes.
    text = text[: 40 * _EXCERPT]
    if "<" in text:
        text = _TAGS.sub(" ", text)
    text = " ".join(text.split())
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "..."


def _text(value: Any) -> str:
    """Return a message as text: servers send text, lists of texts (class-validator) and objects (FastAPI's detail)."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return "; ".join(filter(None, map(_text, value)))
    if isinstance(value, Mapping):
        return _text(value.get("message")) or _text(value.get("msg")) or _text(value.get("error"))
    return ""


def _word(value: Any) -> str | None:
    """Return a code or type as text; servers send strings and numbers."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) == 3:
        value = int(value)
    if isinstance(value, int) and 400 <= value <= 599:
        return value
    return None
