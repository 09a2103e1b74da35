"""An httpx transport over the client: the OpenAI SDK with this library's connections, limits, retries and failover.

    from openai import AsyncOpenAI
    client = AsyncOpenAI(http_client=aimlasync.httpx.client(AsyncClient()), api_key="unused")

openai-agents, pydantic-ai, langchain-openai and instructor take such an AsyncOpenAI or its `http_client`.
`aimlasync.openai` has an AsyncOpenAI that is made over a client at once.

This module translates requests, answers and errors between httpx and `AsyncClient.forward`, and decides nothing. It
works with httpx2 (openai >= 3) and httpx >= 0.27: it uses the names that both have, and answers a request with the
classes of the package that the request came from. Neither package is imported before it is needed.

Requests: chat/completions and responses go through the pipeline, their body unchanged unless it is translated for an
endpoint. Every other path goes to the first endpoint as it is: through the same limits, and tried again after 429, 503
and a connection that could not be made. Queries are sent. Host and key are those of an endpoint; of the SDK's base_url
only the path matters.

Timeouts: a timeout of the request (`timeout=` of the SDK or httpx) replaces the client's. `connect` is
`Timeout.connect`. `read` is `total` of an answer that is not streamed, queueing and retries included, and `first_token`
and `idle` of a streamed one. `write` and `pool` have no counterpart. None keeps the client's.

Retries: what the pipeline has retried as often as `Retry` allows is not for the SDK to retry again. So such an error
response carries `x-should-retry: false`, and the SDK gets its own APIConnectionError for a failed connection, which it
does not retry. An SDK before 2.40 does; there, `openai(...)` or `max_retries=0` prevents it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from functools import cache
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from aimlasync import AsyncClient, Timeout
from aimlasync.client.passthrough import IDEMPOTENT, Forwarded, asks_model, end_to_end
from aimlasync.config import of_kind
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
from aimlasync.info import Info
from aimlasync.responses.types import Response
from aimlasync.wire.base import encode
from aimlasync.wire.error_shapes import read_error

__all__ = ["Route", "Transport", "client", "openai"]

# The path of a base URL: a prefix such as that of a gateway, and the version.
_BASE = re.compile(r"\A.*?/v\d+[a-z]*\d*/(?=.)")
_EXACTLY = re.compile(r"(chat/completions|responses)/?\Z")
_PIPELINE = re.compile(r"(?:\A|.*/)(chat/completions|responses)/?\Z")
# Since this version the SDK does not retry its own exceptions.
_SDK_KEEPS_ITS_ERRORS = (2, 40)
_NUMBERS = re.compile(r"\d+")
# Headers of a request that the transport sets itself, or that belong to the connection.
_NOT_SENT = frozenset((*FRAMING, "accept", "accept-encoding", "host", "proxy-authorization"))
# What httpx and the SDK call themselves, where the user says nothing.
_THEIR_NAMES = re.compile(r"python-httpx|\w+/Python \d")
# The SDK does not retry a response with this header.
_FINAL = {"x-should-retry": "false"}
# Headers that the endpoint sets itself.
CREDENTIALS = frozenset(("api-key", "authorization", "cookie", "x-api-key"))


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes: `request.extensions["aimlasync"]`, where it is not to the transport's client.

    With `base_url`, paths below it and the request's own credentials are sent as they are.
    """

    client: AsyncClient
    base_url: str | None = None


class Transport:
    """A transport for `httpx.AsyncClient(transport=...)` and `httpx2.AsyncClient(transport=...)`.

    The caller closes `client`; without one, each request brings a `Route`. httpx's default timeout of 5 seconds counts
    as a timeout of the request; `timeout=None` keeps the client's, which `client(...)` sets. A response's
    `extensions["aimlasync"]` is the call's `Info`.
    """

    def __init__(self, client: AsyncClient | None = None) -> None:
        self._route = None if client is None else Route(client=client)

    async def handle_async_request(self, request: Any) -> Any:
        """Return the response to an httpx request. Raises exceptions of httpx, such as ConnectError and ReadTimeout.

        A call of the OpenAI SDK that goes through the pipeline raises the SDK's exceptions, where the SDK keeps them.
        """
        # httpx or httpx2, the package that the request came from.
        package = sys.modules[type(request).__module__.partition(".")[0]]
        route: Route = request.extensions.get("aimlasync", self._route)
        content = await request.aread()
        path, is_pipeline = _path(request.method, request.url.raw_path.decode("ascii").partition("?")[0], route)
        is_retried = is_pipeline or request.method in IDEMPOTENT
        error: AimlasyncError | ValueError
        try:
            answer = await route.client.forward(
                request.method,
                path,
                content or None,
                query=request.url.query.decode("ascii"),
                extra_headers=_request_headers(request.headers, is_json=is_pipeline, own=route.base_url is not None),
                timeout=_timeout(route.client.timeout, request.extensions.get("timeout") or {}),
            )
        except (AimlasyncError, ValueError) as failed:
            error = failed
        except RuntimeError as misused:
            # The client is closed, or belongs to another loop: the SDK would try again, and say "Connection error.".
            if "x-stainless-lang" in request.headers and (told := _as_openai(misused, request)) is not None:
                raise told from misused
            raise
        else:
            headers = list(answer.end_to_end_headers.items())
            if answer.status in (429, 503) or (answer.status >= 400 and is_retried):
                headers = _replaced(headers, _FINAL)
            return package.Response(
                answer.status,
                headers=_encoded(headers),
                stream=_body_class(package)(answer, request),
                extensions={"aimlasync": answer.info},
                request=request,
            )
        response = _as_response(error)
        if response is not None:
            status, headers, body = response
            info: Info | None = getattr(error, "info", None)
            made = package.Response(
                status, headers=_encoded(headers), content=body, extensions={"aimlasync": info}, request=request
            )
            # httpx measures it where a body is read, and this one is here.
            made.elapsed = timedelta(seconds=0.0 if info is None else info.timing.total or 0.0)
            return made
        is_final = is_retried or getattr(error, "billed", None) is False
        if is_final and "x-stainless-lang" in request.headers:
            raise _as_openai(error, request) or _as_httpx(error, package, request) from error
        raise _as_httpx(error, package, request) from error

    async def aclose(self) -> None:
        """Do nothing: the caller closes the client."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def client(client: AsyncClient, **options: Any) -> Any:
    """Return an httpx AsyncClient over `client`: of httpx2, or of httpx where an openai before version 3 is installed.

    `options` are those of httpx; without a `timeout` among them, that of `client` holds. Raises ImportError when
    neither package is installed.
    """
    of_kind("client", client, AsyncClient, "AsyncClient()")
    return _http_client(client, options)


def openai(client: AsyncClient, **options: Any) -> Any:
    """Return `aimlasync.openai.AsyncOpenAI(aimlasync=client)`; `options` are those of AsyncOpenAI.

    Raises ImportError when openai is not installed.
    """
    return importlib.import_module("aimlasync.openai").AsyncOpenAI(aimlasync=client, **options)


def _http_client(client: AsyncClient, options: dict[str, Any]) -> Any:
    # A proxy of the environment would replace the transport.
    return package_of_sdk().AsyncClient(transport=Transport(client), **{"timeout": None, "trust_env": False, **options})


def package_of_sdk() -> Any:
    """Import httpx2, or httpx when httpx2 is missing or the installed SDK is older than it."""
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
def _body_class(package: Any) -> Any:
    """Return the class of response bodies for httpx or httpx2."""

    class Body(package.AsyncByteStream):  # type: ignore[misc]
        """The bytes of an answer, as they arrive."""

        def __init__(self, answer: Forwarded, request: Any) -> None:
            self._answer = answer
            self._request = request

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for piece in self._answer:
                    yield piece
                    # The traceback of an error that follows shows no part of the answer.
                    del piece
                return
            except AimlasyncError as failed:
                error = failed
            if isinstance(error, StreamError) and isinstance(error.partial, Response):
                # The last event of responses says that it failed, and the reader has it. chat/completions has no such
                # event.
                return
            of_sdk = None
            if self._answer.answer is not None and "x-stainless-lang" in self._request.headers:
                # Before version 3.5 the SDK lets exceptions of httpx through from a stream.
                of_sdk = _as_openai(error, self._request)
            raise of_sdk or _as_httpx(error, package, self._request) from error

        async def aclose(self) -> None:
            """Release the connection and the permit."""
            await self._answer.close()

    return Body


# The request


def _path(method: str, path: str, route: Route) -> tuple[str, bool]:
    """Return the path below the base URL, and whether the request goes through the pipeline."""
    if route.base_url is not None:
        base = urlsplit(route.base_url).path.rstrip("/") + "/"
        if path.startswith(base):
            below = path[len(base) :]
            return below, asks_model(method, below) is not None
    version = _BASE.match(path)
    below = path.lstrip("/") if version is None else path[version.end() :]
    if method != "POST":
        return below, False
    # A base URL without a version cannot be told from the rest of the path.
    found = (_PIPELINE.match if version is None else _EXACTLY.match)(below)
    return (below, False) if found is None else (found[1], True)


def _request_headers(headers: Any, *, is_json: bool, own: bool) -> Headers:
    """Return the headers of a request that are sent to the endpoint; `own` credentials are among them."""
    skipped = _NOT_SENT if own else _NOT_SENT | CREDENTIALS
    # Of two values the last is the call's own.
    sent = Headers({name: value for name, value in headers.multi_items() if name.lower() not in skipped})
    if _THEIR_NAMES.match(sent.get("user-agent", "")):
        del sent["user-agent"]
    if is_json:
        # The pipeline sets it.
        sent.pop("content-type", None)
    return sent


def _timeout(default: Timeout, requested: Mapping[str, float | None]) -> Timeout:
    """Return the client's timeout with the values that a request sets."""
    read, connect = requested.get("read"), requested.get("connect") or default.connect
    if not read:
        return msgspec.structs.replace(default, connect=connect)
    return msgspec.structs.replace(default, answer=read, connect=connect, first_token=read, idle=read)


# The response


def _as_response(error: AimlasyncError | ValueError) -> tuple[int, list[tuple[str, str]], bytes] | None:
    """Return status, headers and body of the response for `error`, None for an error that has no response."""
    headers: list[tuple[str, str]] = []
    body: Any
    if isinstance(error, APIStatusError):
        headers = [] if error.info is None else list(end_to_end(error.info.headers).items())
        # An error in the body of a 200 may name no status; its response must not look like a success.
        status = error.status if error.status >= 300 else 502
        if error.raw:
            return status, _replaced(headers, _FINAL), error.raw
        body = error.body
        if not body:
            body = _error_body(error, error.type or "invalid_request_error", error.code, error.param)
    elif isinstance(error, OverloadedError):
        wait = error.retry_after
        headers = [] if wait is None else [("retry-after", f"{max(wait, 0.001):.3f}")]
        body, status = _error_body(error, "overloaded", "overloaded"), 503
    elif isinstance(error, BudgetExceededError):
        body, status = _error_body(error, "budget_exceeded", "budget_exceeded"), 402
    elif isinstance(error, StreamError):
        body = error.body or _error_body(error, "stream_error", error.code)
        status = read_error(body).status or 502
    else:
        return None
    own = dict(_FINAL)
    if isinstance(body, str):
        raw = body.encode()
    else:
        raw = encode(body)
        own["content-type"] = "application/json"
    return status, _replaced(headers, own), raw


def _replaced(headers: list[tuple[str, str]], own: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return headers with others, given in lower case, in place of those of the same names."""
    return [*((name, value) for name, value in headers if name.lower() not in own), *own.items()]


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as bytes, since both packages take text for ASCII."""
    return [(name.encode(), value.encode()) for name, value in headers]


def _error_body(error: AimlasyncError, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": error.message, "type": kind, "param": param, "code": code}}


def _as_openai(error: Exception, request: Any) -> Exception | None:
    """Return the SDK's exception for `error`, None for an SDK that would retry it."""
    sdk: Any = sys.modules.get("openai")
    if sdk is None or isinstance(error, ValueError):
        return None
    if tuple(map(int, _NUMBERS.findall(sdk.__version__)[:2])) < _SDK_KEEPS_ITS_ERRORS:
        return None
    if isinstance(error, APITimeoutError):
        timeout: Exception = sdk.APITimeoutError(request=request)
        return timeout
    failed: Exception = sdk.APIConnectionError(message=str(error), request=request)
    return failed


def _as_httpx(error: AimlasyncError | ValueError, package: Any, request: Any) -> Exception:
    """Return the exception of httpx for `error`."""
    info = getattr(error, "info", None)
    has_response = info is not None and info.status is not None
    if isinstance(error, APITimeoutError):
        kind = package.ReadTimeout
        if error.phase == "connect":
            kind = package.ConnectTimeout
        elif info is not None and info.attempts == 0:
            kind = package.PoolTimeout
    elif isinstance(error, (TruncatedStreamError, APIResponseValidationError, StreamError)):
        kind = package.RemoteProtocolError
    elif isinstance(error, APIConnectionError):
        kind = package.ReadError if has_response else package.ConnectError
    elif isinstance(error, ValueError):
        kind = package.LocalProtocolError
    else:
        kind = package.TransportError
    raised: Exception = kind(str(error), request=request)
    return raised
