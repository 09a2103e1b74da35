"""Every error this library raises, and how a vendor's error body becomes one.

    AimlasyncError                      .message .info .billed .retryable
    ├─ APIConnectionError               no usable reply
    │  ├─ APITimeoutError               .phase: total, connect, first_token, idle
    │  └─ TruncatedStreamError          .partial: what had arrived
    ├─ APIStatusError                   .status .body .code .retry_after: the server said no
    │  ├─ BadRequestError               400
    │  │  └─ UnsupportedRequestError    refused here, before anything was sent; also a ValueError
    │  ├─ AuthenticationError           401
    │  ├─ InsufficientCreditError       402, or 403 out of credit
    │  ├─ PermissionDeniedError         403
    │  ├─ NotFoundError                 404
    │  ├─ UnprocessableEntityError      422
    │  ├─ RateLimitError                429
    │  └─ InternalServerError           5xx
    ├─ APIResponseValidationError       .raw: bytes that are not what the API promises
    │  └─ AnswerError                   .reply: an answer that `parse` cannot give as the type asked for
    │     ├─ AnswerRefusedError         the model declined
    │     ├─ AnswerTruncatedError       cut by an output cap
    │     └─ AnswerInvalidError         not a value of the type
    ├─ StreamError                      .partial: an error inside a 200 stream
    ├─ OverloadedError                  .retry_after: our own admission control said no
    └─ BudgetExceededError              the spending cap would be passed
    ClientClosedError(RuntimeError)     misuse: the client is closed

Law: no I/O, no third-party exception is ever chained (aiohttp's carry the Authorization header), no secret is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from aimlasync.info import Info

Phase = Literal["total", "connect", "first_token", "idle"]

# A response excerpt shown in a message: enough to recognise a proxy's page, too little to flood a log.
_EXCERPT = 200


class AimlasyncError(Exception):
    """Root of the tree."""

    retryable: bool = False
    """True when the same request may well succeed if it is sent again."""

    def __init__(self, message: str, *, info: Info | None = None, billed: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.info = info
        self.billed = billed
        """False when the vendor says that such a failure is free, None when nobody says."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process boundaries (Ray, multiprocessing); the default calls __init__ with the message alone.
        state = dict(vars(self))
        if self.info is not None:
            headers = {name.lower(): value for name, value in self.info.headers.items()}
            state["info"] = msgspec.structs.replace(self.info, headers=headers)
        return _restored, (type(self), self.args), state

    @property
    def request_id(self) -> str | None:
        """The server's id for this request, else the one we sent."""
        if self.info is None:
            return None
        return self.info.inference_id or self.info.server_request_id or self.info.request_id or None


def _restored(cls: type[AimlasyncError], args: tuple[Any, ...]) -> AimlasyncError:
    return cls.__new__(cls, *args)


class APIConnectionError(AimlasyncError):
    """The server could not be reached, or the connection broke before a usable reply."""

    retryable = True


class APITimeoutError(APIConnectionError):
    """A bound of `Timeout` passed; `.phase` says which, `.partial` holds what a stream had delivered."""

    def __init__(
        self, message: str, *, phase: Phase, partial: Any = None, info: Info | None = None, billed: bool | None = None
    ) -> None:
        super().__init__(message, info=info, billed=billed)
        self.phase: Phase = phase
        self.partial = partial
        self.retryable = phase != "total"


class TruncatedStreamError(APIConnectionError):
    """A stream ended without its terminal mark; `.partial` is what had arrived, assembled."""

    def __init__(
        self, message: str, *, partial: Any = None, info: Info | None = None, billed: bool | None = None
    ) -> None:
        super().__init__(message, info=info, billed=billed)
        self.partial = partial


class APIStatusError(AimlasyncError):
    """The server answered with an error."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        body: Any = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
        info: Info | None = None,
        billed: bool | None = None,
    ) -> None:
        super().__init__(message, info=info, billed=billed)
        self.status = status
        self.body = body
        self.code = code
        self.type = type
        self.param = param
        self.retry_after = retry_after
        """Seconds the server asked to wait, None when it did not."""
        if retryable is not None:
            self.retryable = retryable

    @property
    def status_code(self) -> int:
        """The same as `.status`, by the name that AsyncOpenAI uses."""
        return self.status


class BadRequestError(APIStatusError):
    """400: the request is wrong and stays wrong."""


class UnsupportedRequestError(BadRequestError, ValueError):
    """The provider table says that this cannot work; nothing was sent and nothing was billed."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, mistyped or revoked."""


class InsufficientCreditError(APIStatusError):
    """402, or AI/ML API's 403: the account or key is out of credit."""


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this."""


class NotFoundError(APIStatusError):
    """404: no such path or model."""


class UnprocessableEntityError(APIStatusError):
    """422: ByteSpike's answer to a parameter that the model does not take."""


class RateLimitError(APIStatusError):
    """429: too many requests, tokens or calls at once."""

    retryable = True


class InternalServerError(APIStatusError):
    """5xx: the vendor or its upstream failed."""

    retryable = True


class APIResponseValidationError(AimlasyncError):
    """A successful status with bytes that are not what the API promises; `.raw` holds them."""

    def __init__(
        self,
        message: str,
        *,
        raw: bytes = b"",
        partial: Any = None,
        info: Info | None = None,
        billed: bool | None = None,
    ) -> None:
        super().__init__(message, info=info, billed=billed)
        self.raw = raw
        self.partial = partial
        """What a stream had delivered before, None outside streams."""


class AnswerError(APIResponseValidationError):
    """`parse` got an answer that is no value of the type asked for; `.reply` carries it, paid for and complete."""

    def __init__(self, message: str, *, reply: Any, raw: bytes = b"", info: Info | None = None) -> None:
        super().__init__(message, raw=raw, info=info, billed=True)
        self.reply = reply


class AnswerRefusedError(AnswerError):
    """The model declined, or a content filter cut the answer."""


class AnswerTruncatedError(AnswerError):
    """The answer was cut by an output cap: raise the cap, or ask for less."""


class AnswerInvalidError(AnswerError):
    """The answer is not a value of the type asked for."""


class StreamError(AimlasyncError):
    """The server reported an error inside a stream that began with 200."""

    def __init__(
        self,
        message: str,
        *,
        partial: Any = None,
        code: str | None = None,
        body: Any = None,
        retryable: bool = True,
        info: Info | None = None,
        billed: bool | None = None,
    ) -> None:
        super().__init__(message, info=info, billed=billed)
        self.partial = partial
        self.code = code
        self.body = body
        self.retryable = retryable


class OverloadedError(AimlasyncError):
    """Our own admission control refused the call at once; nothing was sent."""

    def __init__(self, message: str, *, retry_after: float | None = None, info: Info | None = None) -> None:
        super().__init__(message, info=info, billed=False)
        self.retry_after = retry_after


class BudgetExceededError(AimlasyncError):
    """The call might pass the spending cap; nothing was sent."""


class ClientClosedError(RuntimeError):
    """The client was used after `close`."""


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}

# 408 and 409 are the server's own "try again". Everything else below 500 is the caller's to mend, apart from 429.
_TRANSIENT_4XX = frozenset({408, 409, 425})

# What no header makes worth a retry.
_FINAL = frozenset({400, 401, 402, 403, 404, 413, 422})

# Texts and codes of a 429 or 5xx that waiting does not cure. Sources: AI/ML API, "Errors 4xx" and "5xx"; OpenAI's
# `insufficient_quota`; ByteSpike's `quota_exceeded`.
_PERMANENT = re.compile(
    r"maintenance|coupon code|insufficient_quota|insufficient_balance|quota_exceeded|exceeded your current quota"
    r"|free.tier limit|reached your free limit",
    re.IGNORECASE,
)

# Codes inside a 200 stream or body that say the request itself is at fault.
_PERMANENT_CODES = re.compile(
    r"invalid|not_found|unsupported|permission|authentication|insufficient|quota_exceeded|content_filter|policy"
    r"|context_length|billing|maintenance",
    re.IGNORECASE,
)

# A proxied upstream error arrives as text: a status, a space, then the upstream's JSON (AI/ML API, batch cancel page).
_UPSTREAM = re.compile(r"^\s*(\d{3})\s+(\{.*\})\s*$", re.DOTALL)

_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


class ErrorDetail(msgspec.Struct, kw_only=True):
    """What an error body says, whichever of the known shapes it has."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    request_id: str | None = None
    status: int | None = None
    """A status that the body itself names, when it is one (400-599)."""


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
    if upstream is not None:
        try:
            nested = read_error(msgspec.json.decode(upstream[2]))
        except (msgspec.DecodeError, RecursionError):
            return detail
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
    text = body.decode("utf-8", "replace")
    decoded: Any
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        decoded = text
        detail = ErrorDetail(message=excerpt(text))
    else:
        detail = read_error(decoded)
    if info is not None and detail.request_id is not None:
        info.server_request_id = detail.request_id
    cls = _BY_STATUS.get(status) or (InternalServerError if status >= 500 else APIStatusError)
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
        f"HTTP {status}: {said}",
        status=status,
        body=decoded,
        code=detail.code,
        type=detail.type,
        param=detail.param,
        retry_after=retry_after,
        retryable=retryable,
        info=info,
        billed=False if failures_are_free else None,
    )


def error_in_body(body: Any, *, raw: bytes, info: Info | None, billed: bool | None) -> APIStatusError:
    """Build the error for a 200 whose JSON body is an error: its own code decides the class where it is a status."""
    detail = read_error(body)
    status = detail.status or 200
    cls = _BY_STATUS.get(status) or (InternalServerError if status >= 500 else APIStatusError)
    return cls(
        f"HTTP 200 with an error in the body: {detail.message or excerpt(raw.decode('utf-8', 'replace'))}",
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
    detail = read_error(body)
    said = detail.message or detail.code or "no message"
    words = f"{detail.code} {detail.type}"
    permanent = bool(_PERMANENT.search(f"{said} {words}") or _PERMANENT_CODES.search(words))
    if detail.status is not None and detail.status < 500 and detail.status not in (*_TRANSIENT_4XX, 429):
        permanent = True
    return StreamError(
        f"the stream reported an error: {said}",
        partial=partial,
        code=detail.code,
        body=body,
        retryable=not permanent,
        info=info,
        billed=billed,
    )


# Shorter "keys" are placeholders ("test", "EMPTY"), and words of the message.
_SHORTEST_KEY = 8


def redact(error: AimlasyncError, secret: str) -> None:
    """Cut `secret` out of everything that `error` keeps: servers are known to echo the key they were given."""
    if len(secret) < _SHORTEST_KEY:
        return
    error.message = error.message.replace(secret, "[key]")
    for length in range(len(secret) - 1, _SHORTEST_KEY - 1, -1):
        # An excerpt may end in the middle of it.
        error.message = error.message.replace(f"{secret[:length]}...", "[key]...")
    error.args = (error.message,)
    for name in ("body", "code", "type", "param", "raw"):
        value = getattr(error, name, None)
        if isinstance(value, bytes):
            setattr(error, name, value.replace(secret.encode(), b"[key]"))
        elif value is not None:
            setattr(error, name, _without(value, secret))


def _without(value: Any, secret: str) -> Any:
    if isinstance(value, str):
        return value.replace(secret, "[key]")
    if isinstance(value, dict):
        return {_without(key, secret): _without(item, secret) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, secret) for item in value]
    return value


def excerpt(text: str) -> str:
    """Return the first words of a body that is no JSON, tags taken out, for a message."""
    # The expression is quadratic in the worst case, and a body may be megabytes.
    text = text[: 40 * _EXCERPT]
    if "<" in text:
        text = _TAGS.sub(" ", text)
    text = " ".join(text.split())
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "..."


def _text(value: Any) -> str:
    """A message as text: servers send strings, lists of strings (class-validator) and objects (FastAPI's detail)."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return "; ".join(filter(None, map(_text, value)))
    if isinstance(value, Mapping):
        return _text(value.get("message")) or _text(value.get("msg")) or _text(value.get("error"))
    return ""


def _word(value: Any) -> str | None:
    """A code or type: codes arrive as strings and as numbers."""
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
