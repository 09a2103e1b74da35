"""The OpenAI SDK, and all that is built on it, on this library's connections, limits, retries and failover.

    from openai import AsyncOpenAI
    client = AsyncOpenAI(http_client=aimlasync.httpx.client(AsyncClient()), api_key="unused")

and the same for openai-agents, pydantic-ai, langchain-openai and instructor, which take an AsyncOpenAI or its
`http_client`. `openai(...)` makes that AsyncOpenAI whole, with the SDK's own retries off.

Law: translates requests, answers and errors between httpx and `AsyncClient.forward`; nothing is decided here.
It serves httpx2 (openai >= 3) and httpx >= 0.27 alike: of both it uses the names that they share, and each request is
answered with the classes of the package that it came from. Neither is imported before it is needed.

What is sent: chat/completions and responses through the pipeline, the body byte for byte unless an endpoint needs it
translated; every other path to the first endpoint as it is, with no limits and no retries of ours. Only the path of the
SDK's base_url counts: host and key are always an endpoint's.
Bounds: what a request states (`timeout=` of the SDK or httpx) replaces ours: `connect` is `Timeout.connect`; `read` is
`total` of a whole answer, queueing and retries included, and `first_token` and `idle` of a streamed one. `write` and
`pool` have nothing that they could bound. None leaves ours.
Retries: what failed here has been retried as often as `Retry` allows, so every error response carries
`x-should-retry: false`, and where the SDK asked, a failed connection is the SDK's own APIConnectionError, which it does
not retry. An SDK before 2.40 would: there, `openai(...)` or `max_retries=0` is what keeps it from that.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
from collections.abc import AsyncIterator, Mapping
from functools import cache
from typing import Any, Self

import msgspec

from aimlasync import AsyncClient, Timeout
from aimlasync.client.passthrough import Forwarded
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    BudgetExceededError,
    OverloadedError,
    StreamError,
    TruncatedStreamError,
)
from aimlasync.headers import FRAMING, Headers
from aimlasync.responses.types import Response
from aimlasync.wire.base import encode

__all__ = ["Transport", "client", "openai"]

# What an API's base URL ends with, whatever stands before it: another vendor's host, a gateway's prefix.
_BASE = re.compile(r"\A.*?/v\d+[a-z]*\d*/(?=.)")
_EXACTLY = re.compile(r"(chat/completions|responses)/?\Z")
_PIPELINE = re.compile(r"(?:\A|.*/)(chat/completions|responses)/?\Z")
# Since this version the SDK's retry loop ends with an exception of the SDK.
_LEAVES_ITS_OWN_ALONE = (2, 40)
_NUMBERS = re.compile(r"\d+")
# Of a request: what the endpoint says itself, and what belongs to the connection.
_NOT_SENT = frozenset(
    (
        *FRAMING,
        "accept",
        "accept-encoding",
        "api-key",
        "authorization",
        "cookie",
        "host",
        "proxy-authorization",
        "user-agent",
        "x-api-key",
    )
)
# Of a response: what was true of its bytes on the wire.
_NOT_RETURNED = frozenset(("connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"))


class Transport:
    """A transport for `httpx.AsyncClient(transport=...)` and `httpx2.AsyncClient(transport=...)`.

    The client stays the caller's to close. What httpx bounds by default, 5 seconds for a read, is a bound as any:
    `timeout=None` leaves the client's, as `client(...)` does.
    A response's `extensions["aimlasync"]` is the call's `Info`.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def handle_async_request(self, request: Any) -> Any:
        """Answer an httpx request. Raises httpx's ConnectError, ReadTimeout and their like."""
        # The package that the request came from.
        flavour = sys.modules[type(request).__module__.partition(".")[0]]
        content = await request.aread()
        path, is_pipeline = _route(request.method, request.url.raw_path.decode("ascii").partition("?")[0])
        error: AimlasyncError | ValueError
        try:
            answer = await self._client.forward(
                request.method,
                path,
                content or None,
                query=request.url.query.decode("ascii"),
                extra_headers=_sent(request.headers, is_json=is_pipeline),
                timeout=_bounds(self._client.timeout, request.extensions.get("timeout") or {}, content),
            )
        except (AimlasyncError, ValueError) as failed:
            error = failed
        else:
            return flavour.Response(
                answer.status,
                headers=_returned(answer.headers),
                stream=_body_class(flavour)(answer, request),
                extensions={"aimlasync": answer.info},
                request=request,
            )
        refusal = _as_response(error)
        if refusal is not None:
            status, headers, body = refusal
            extensions = {"aimlasync": getattr(error, "info", None)}
            return flavour.Response(status, headers=headers, content=body, extensions=extensions, request=request)
        if is_pipeline and "x-stainless-lang" in request.headers:
            raise _as_openai(error, request) or _as_httpx(error, flavour, request) from error
        raise _as_httpx(error, flavour, request) from error

    async def aclose(self) -> None:
        """Nothing: the client is shared."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def client(client: AsyncClient, **options: Any) -> Any:
    """Return an httpx AsyncClient over `client`: httpx2's, or httpx's where an openai before version 3 is installed.

    `options` are httpx's own. Nothing is bounded here unless they say so: `client` has its bounds.
    Raises ImportError when neither package is installed.
    """
    return _http_client(client, options)


def openai(client: AsyncClient, **options: Any) -> Any:
    """Return an `openai.AsyncOpenAI` over `client`, with the SDK's own retries off; `options` are AsyncOpenAI's.

    Raises ImportError when openai is not installed.
    """
    try:
        sdk = importlib.import_module("openai")
    except ModuleNotFoundError:
        sdk = None
    if sdk is None:
        raise ImportError("aimlasync.httpx.openai needs the SDK: pip install openai")
    # The SDK wants a key and a host; neither is ever used.
    defaults = {"api_key": "unused", "base_url": "https://aimlasync.invalid/v1", "max_retries": 0}
    return sdk.AsyncOpenAI(http_client=_http_client(client, {}), **{**defaults, **options})


def _http_client(client: AsyncClient, options: dict[str, Any]) -> Any:
    return _flavour().AsyncClient(transport=Transport(client), **{"timeout": None, **options})


def _flavour() -> Any:
    """httpx2, unless it is missing or the installed SDK is of the time before it."""
    names = ["httpx2", "httpx"]
    try:
        if int(importlib.metadata.version("openai").partition(".")[0]) < 3:
            names.reverse()
    except (importlib.metadata.PackageNotFoundError, ValueError):
        pass
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ImportError("aimlasync.httpx needs httpx2 or httpx: pip install 'aimlasync[httpx]'")


@cache
def _body_class(flavour: Any) -> Any:
    """The body of a response, as that package knows bodies."""

    class Body(flavour.AsyncByteStream):  # type: ignore[misc]
        """An answer's bytes, as they arrive."""

        def __init__(self, answer: Forwarded, request: Any) -> None:
            self._answer = answer
            self._request = request

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for piece in self._answer:
                    yield piece
                return
            except AimlasyncError as failed:
                error = failed
            if isinstance(error, StreamError) and isinstance(error.partial, Response):
                # The reader got it as an event, whose type says that it failed; chunks of a chat have no such type.
                return
            raise _as_httpx(error, flavour, self._request) from error

        async def aclose(self) -> None:
            """Give back connection and permit."""
            await self._answer.close()

    return Body


# The request


def _route(method: str, path: str) -> tuple[str, bool]:
    """Return a request's path below a base URL, and whether the pipeline serves it."""
    base = _BASE.match(path)
    below = path.lstrip("/") if base is None else path[base.end() :]
    if method != "POST":
        return below, False
    # Without a version in it there is no telling where the base URL ended.
    found = (_PIPELINE.match if base is None else _EXACTLY.match)(below)
    return (below, False) if found is None else (found[1], True)


def _sent(headers: Any, *, is_json: bool) -> Headers:
    """What of a request's headers goes to the endpoint."""
    sent = Headers({name: value for name, value in headers.items() if name.lower() not in _NOT_SENT})
    if is_json:
        # The endpoint's headers say it already.
        sent.pop("content-type", None)
    return sent


class _Asked(msgspec.Struct):
    stream: bool | None = None


def _bounds(ours: Timeout, stated: Mapping[str, float | None], content: bytes) -> Timeout:
    """Our bounds, with what a request states in their place."""
    read, connect = stated.get("read"), stated.get("connect") or ours.connect
    if not read:
        return Timeout(total=ours.total, connect=connect, first_token=ours.first_token, idle=ours.idle)
    try:
        streams = msgspec.json.decode(content, type=_Asked).stream
    except ValueError:
        streams = False
    if streams:
        return Timeout(total=ours.total, connect=connect, first_token=read, idle=read)
    return Timeout(total=read, connect=connect, idle=read)


# The answer, and what stands for it


def _returned(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _NOT_RETURNED]


def _as_response(error: AimlasyncError | ValueError) -> tuple[int, list[tuple[str, str]], bytes] | None:
    """The response that says what `error` does, None where there is none to say it."""
    headers: list[tuple[str, str]] = []
    body: Any
    if isinstance(error, APIStatusError):
        headers = [] if error.info is None else _returned(error.info.headers)
        body, status = error.body, error.status
        if body is None:
            body = _said(error, error.type or "invalid_request_error", error.code, error.param)
        # An error under a 200 that names no status of its own is still no answer.
        status = status if status >= 300 else 502
    elif isinstance(error, OverloadedError):
        wait = error.retry_after
        headers = [] if wait is None else [("retry-after", f"{max(wait, 0.001):.3f}")]
        body, status = _said(error, "overloaded", "overloaded"), 503
    elif isinstance(error, BudgetExceededError):
        body, status = _said(error, "budget_exceeded", "budget_exceeded"), 402
    elif isinstance(error, StreamError):
        body, status = error.body or _said(error, "stream_error", error.code), 502
    else:
        return None
    changed = {"x-should-retry": "false"}
    if isinstance(body, str):
        raw = body.encode()
    else:
        raw = encode(body)
        changed["content-type"] = "application/json"
    return status, [*((n, v) for n, v in headers if n.lower() not in changed), *changed.items()], raw


def _said(error: AimlasyncError, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": error.message, "type": kind, "param": param, "code": code}}


def _as_openai(error: AimlasyncError | ValueError, request: Any) -> Exception | None:
    """The SDK's own exception, None for an SDK that would take it for somebody else's, and retry."""
    sdk: Any = sys.modules.get("openai")
    if sdk is None or not isinstance(error, AimlasyncError):
        return None
    if tuple(map(int, _NUMBERS.findall(sdk.__version__)[:2])) < _LEAVES_ITS_OWN_ALONE:
        return None
    if isinstance(error, APITimeoutError):
        timeout: Exception = sdk.APITimeoutError(request=request)
        return timeout
    failed: Exception = sdk.APIConnectionError(message=error.message, request=request)
    return failed


def _as_httpx(error: AimlasyncError | ValueError, flavour: Any, request: Any) -> Exception:
    """The exception of httpx that says what `error` does."""
    info = getattr(error, "info", None)
    has_begun = info is not None and info.status is not None
    if isinstance(error, APITimeoutError):
        kind = flavour.ReadTimeout
        if error.phase == "connect":
            kind = flavour.ConnectTimeout
        elif info is not None and info.attempts == 0:
            kind = flavour.PoolTimeout
    elif isinstance(error, (TruncatedStreamError, APIResponseValidationError, StreamError)):
        kind = flavour.RemoteProtocolError
    elif isinstance(error, APIConnectionError):
        kind = flavour.ReadError if has_begun else flavour.ConnectError
    elif isinstance(error, ValueError):
        kind = flavour.LocalProtocolError
    else:
        kind = flavour.TransportError
    raised: Exception = kind(str(error), request=request)
    return raised
