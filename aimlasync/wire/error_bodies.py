"""From the body of an error response, or an error inside a stream, to an error of `errors`.

Every body gives an error with a message; what a body says is read by `wire.error_shapes`. It has no I/O. It may import
`errors`, `info`, `sse` and `wire.error_shapes`.
Sources: AI/ML API "Errors and messages"; ByteSpike "Errors reference"; OpenAI's error object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aimlasync import sse
from aimlasync.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InsufficientCreditError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    StreamError,
    UnprocessableEntityError,
)
from aimlasync.info import Info
from aimlasync.wire.error_shapes import ErrorDetail, read_error, read_text, shallow

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
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}

# The server asks to try again with these. The caller must change its request after any other 4xx but 429.
_TRANSIENT_4XX = frozenset({408, 409, 425})

# Statuses that are not retried, whatever `x-should-retry` says.
_FINAL = frozenset({400, 401, 402, 403, 404, 413, 422})

# Texts and codes of an account that has no money left. Sources: AI/ML API, "Errors 4xx"; OpenAI, ByteSpike, xAI,
# OpenRouter, DeepSeek, DashScope, Zhipu, MiniMax, Moonshot, LiteLLM and New API, as they answer with 200, 400, 403 and
# 429.
_UNPAID = re.compile(
    r"insufficient_(user_)?quota|billing_hard_limit|insufficient[_ ](account[_ ])?(balance|credits?|funds)"
    r"|exceeded_current_quota|balance is (insufficient|not enough|too low)|overdue.?(balance|payment|error)|arrearage"
    r"|(used all available|purchase more|requires more|have any|out of) credits?|欠费|余额不足|额度不足|充值",
    re.IGNORECASE,
)
# Those of one that has used up its quota, has none (Gemini: "limit: 0"), or was shut: waiting for a minute does not
# cure it. Sources: the same, and Volcengine Ark, SiliconFlow and Cloudflare.
_USED_UP = re.compile(
    r"coupon code|free.tier limit|reached your free limit|free.usage|free allocation|quota_exceeded|budget_exceeded"
    r"|budget has been exceeded|spending limit|key limit exceeded|FreeTierOnly"
    r"|\blimit: 0(?![.\d])|access was terminated"
    r"|account (\S+ ){0,2}(has been|is|was) (suspended|deactivated|disabled|terminated|banned|not active)",
    re.IGNORECASE,
)
# A request that is larger than what a whole minute allows (OpenAI with 429, Groq with 413) never fits.
_TOO_LARGE = re.compile(r"\brequest too large\b", re.IGNORECASE)
# The limit of a short window does, whatever it is called: Cerebras answers "Tokens per minute limit exceeded" with
# `token_quota_exceeded`.
_SHORT_WINDOW = re.compile(r"\bper[ _-]?(second|minute)\b|\b[tr]p[ms]\b", re.IGNORECASE)
# Texts that do not either, but where a wait is stated with them: Gemini says the one of each minute's quota, and a
# server that is back soon says when.
_WITHOUT_WAIT = re.compile(r"exceeded your current quota|maintenance", re.IGNORECASE)

# A 5xx that speaks of the request, and comes again with it: llama.cpp answers an image with 500 and "image input is not
# supported", its forks and LM Studio a prompt that is too long. (What exceeds the context while it answers is a matter
# of what runs beside it.)
_UNSUPPORTED = re.compile(
    r"\bnot (supported|implemented)\b|\bunsupported\b|\bdoes not support\b|\bexceeds the available context\b"
    r"|\bgreater than the context length\b|\bcontext length of only\b|\bmaximum context length\b",
    re.IGNORECASE,
)

# Codes inside a stream with status 200 that say that the request itself is wrong.
_PERMANENT_CODES = re.compile(
    r"invalid|validation|bad_?request|not_found|unsupported|permission|access_?denied|authentication|insufficient"
    r"|quota_exceeded|content_filter|policy|context_length|exceed_context|billing|maintenance|inspection|moderation"
    r"|sensitive|prohibited",
    re.IGNORECASE,
)

# Codes and types that mean 429 or 503, in a 200, in a stream, and beside a status that speaks of the request. A message
# is not searched: that of a 400 may quote the request.
_LIMITED = re.compile(r"rate_?limit|too_?many_?requests|throttl|concurrency_?limit|capacity_?exceeded", re.IGNORECASE)
_OVERLOADED = re.compile(r"overloaded|server_?(is_?)?busy", re.IGNORECASE)
# The same in words, where there is no status that could say otherwise.
_LIMIT_WORDS = re.compile(r"\brate.?limit|\btoo many requests\b|\bthrottl", re.IGNORECASE)
# Codes and types of a server that failed, which is 500 where an answer of 200 says so.
_FAULT = re.compile(r"\b(server|api|internal)_?(server_?)?error\b|service_?unavailable|bad_?gateway", re.IGNORECASE)

_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def status_error(
    status: int,
    body: bytes,
    *,
    retry_after: float | None = None,
    reset: float | None = None,
    out_of_credit: Sequence[tuple[int, str]] = (),
    should_retry: bool | None = None,
    failures_are_free: bool = False,
    info: Info | None = None,
) -> APIStatusError:
    """Build the error for a response with a non-2xx status.

    `retry_after` is the wait that headers state, `reset` the one that counts where the body states none either.
    `out_of_credit` lists (status, text) pairs that mean no credit; `should_retry` is `x-should-retry` where the server
    sent it.
    """
    text = body.decode(json.detect_encoding(body), "replace")
    decoded, detail = read_text(text) or _in_event(body) or (text, read_error(excerpt(text)))
    if info is not None and detail.request_id is not None:
        info.server_request_id = detail.request_id
    cls = _class_of(status)
    lowered = detail.message.lower()
    if status in (402, 403) and any(status == s and t.lower() in lowered for s, t in out_of_credit):
        cls = InsufficientCreditError
    said = detail.message or excerpt(text) or f"the response had no {'readable ' if text.strip() else ''}body"
    is_limit = (status in (400, 403) or cls is APIStatusError) and limit_status(detail.code, detail.type) is not None
    is_transient = cls.retryable or status in _TRANSIENT_4XX or is_limit
    retryable = is_transient
    if should_retry is not None:
        retryable = should_retry and (is_transient or status not in _FINAL)
    # With other statuses no wait is promised.
    promised = retry_after if status in (429, 503) else None
    if _is_permanent(detail, said, promised) or is_unsupported(status, said):
        retryable = False
    if retry_after is None and is_transient:
        retry_after = reset if detail.retry_after is None else detail.retry_after
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


def _in_event(body: bytes) -> tuple[Any, ErrorDetail] | None:
    """Read an error that is the data of an event, as some servers answer who asks for a stream (DashScope)."""
    parser = sse.Parser(strict=False)
    found = (read_text(event.data.decode()) for event in parser.feed(body) + parser.close())
    return next((said for said in found if said is not None), None)


def _is_permanent(detail: ErrorDetail, said: str, wait: float | None = None) -> bool:
    """Whether waiting does not cure what a body says; `wait` is what headers promise."""
    words = f"{said} {detail.code} {detail.type}"
    if is_too_large(said):
        return True
    if wait is None and detail.retry_after is None and _WITHOUT_WAIT.search(words) and not _SHORT_WINDOW.search(said):
        return True
    return is_spent(words)


def is_unpaid(words: str) -> bool:
    """Whether a message, code and type say that the account has no money left, and not that a minute is used up."""
    found = _UNPAID.search(words)
    return found is not None and ("insufficient" in found[0].lower() or not _SHORT_WINDOW.search(words))


def is_spent(words: str) -> bool:
    """Whether they say that, or that a quota of the account is used up, or the account shut."""
    return is_unpaid(words) or (_USED_UP.search(words) is not None and not _SHORT_WINDOW.search(words))


def is_too_large(words: str) -> bool:
    """Whether a refusal speaks of one request that is larger than the limit itself."""
    return _TOO_LARGE.search(words) is not None


def is_unsupported(status: int, said: str) -> bool:
    """Whether a 5xx says that the server does not do what was asked: it works, and another one may do it."""
    return status == 501 or (status >= 500 and bool(_UNSUPPORTED.search(said)))


def limit_status(code: str | None, type: str | None) -> int | None:
    """Return 429 or 503 where a code or type means it, None for any other."""
    words = f"{code} {type}"
    return 429 if _LIMITED.search(words) else 503 if _OVERLOADED.search(words) else None


def status_in(detail: ErrorDetail) -> int | None:
    """Return the status that an error under a 200 states or means, None for one that says nothing of the kind."""
    if (status := detail.status or limit_status(detail.code, detail.type)) is not None:
        return status
    # No status says otherwise, and MiniMax answers all with 200.
    said = excerpt(detail.message)
    if is_unpaid(f"{said} {detail.code} {detail.type}"):
        return 402
    return 429 if _LIMIT_WORDS.search(said) else None


def _class_of(status: int) -> type[APIStatusError]:
    return _BY_STATUS.get(status) or (InternalServerError if status >= 500 else APIStatusError)


def is_error(body: Any) -> bool:
    """Whether a decoded body is an error object, or a list of them."""
    if isinstance(body, list):
        return bool(body) and all(map(is_error, body))
    if not isinstance(body, Mapping):
        return False
    return bool(body.get("error")) or body.get("object") == "error" or body.get("type") == "error"


def error_in_body(body: Any, *, raw: bytes, info: Info | None, billed: bool | None) -> APIStatusError:
    """Build the error for a 200 whose JSON body is an error; its code may be or mean a status."""
    body = shallow(body)
    detail = read_error(body)
    status = status_in(detail) or (500 if _FAULT.search(f"{detail.code} {detail.type}") else 200)
    cls = _class_of(status)
    retryable = (cls.retryable or status in _TRANSIENT_4XX) and not _is_permanent(detail, detail.message)
    return cls(
        f"HTTP 200 with an error in the body: "
        f"{_bounded(detail.message) or excerpt(raw.decode(json.detect_encoding(raw), 'replace'))}",
        status=status,
        body=body,
        code=detail.code,
        type=detail.type,
        param=detail.param,
        retry_after=detail.retry_after if retryable else None,
        retryable=retryable,
        info=info,
        billed=billed,
    )


def stream_error(body: Any, *, partial: Any, info: Info | None, billed: bool | None) -> StreamError:
    """Build the error for an error object found inside a stream."""
    body = shallow(body)
    detail = read_error(body)
    said = detail.message or detail.code or "no message"
    words = f"{detail.code} {detail.type}"
    is_limit = limit_status(detail.code, detail.type) is not None
    permanent = _is_permanent(detail, said) or bool(_UNSUPPORTED.search(said))
    permanent = permanent or (not is_limit and bool(_PERMANENT_CODES.search(words)))
    if detail.status is not None and detail.status < 500 and detail.status not in (*_TRANSIENT_4XX, 429):
        permanent = True
    return StreamError(
        f"the stream reported an error: {_bounded(said)}",
        partial=partial,
        code=detail.code,
        type=detail.type,
        retry_after=None if permanent else detail.retry_after,
        body=body,
        retryable=not permanent,
        info=info,
        billed=billed,
    )


def unfinished(reason: str | None, body: Any, *, partial: Any, info: Info | None, billed: bool | None) -> StreamError:
    """Build the error for an answer that the server gave up on, which it says by a finish reason."""
    return StreamError(
        f"the server gave up in the middle of the answer: it ended with finish_reason {reason!r}",
        partial=partial,
        code=reason,
        body=shallow(body),
        retryable=True,
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
