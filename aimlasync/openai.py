"""The OpenAI SDK's own asyncio clients, with their HTTP sent through an aimlasync client.

    from aimlasync.openai import AsyncOpenAI

`AsyncOpenAI` and `AsyncAzureOpenAI` are subclasses of the SDK's classes: same arguments, environment variables,
resources, types and errors. Rate limits, adaptive concurrency, retries, deadlines, failover and budgets are those of
`aimlasync.AsyncClient`. The other public names of `openai` are found here too, but its synchronous clients are not. It
needs openai >= 2.40 (extra `openai`), and may import `httpx` and the client.
"""

from __future__ import annotations

import asyncio
import copyreg
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self, TypedDict, Unpack

from aimlasync import AsyncClient as LibraryClient
from aimlasync import Endpoint as LibraryEndpoint
from aimlasync import Timeout as Bounds
from aimlasync.config import of_kind
from aimlasync.endpoints.endpoint import default_endpoints
from aimlasync.endpoints.environment import proxy_for
from aimlasync.errors import AimlasyncError, restored
from aimlasync.event_loop import no_loop
from aimlasync.httpx import CREDENTIALS, Route, package_of_sdk
from aimlasync.httpx import Transport as PipelineTransport

try:
    import openai as sdk
except ModuleNotFoundError as missing:
    raise ImportError("aimlasync.openai needs the SDK: pip install 'aimlasync[openai]'") from missing
from openai import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    NOT_GIVEN,
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AsyncStream,
    AuthenticationError,
    BadRequestError,
    BaseModel,
    ConflictError,
    ContentFilterFinishReasonError,
    DefaultAioHttpClient,
    DefaultAsyncHttpxClient,
    InternalServerError,
    LengthFinishReasonError,
    NotFoundError,
    NotGiven,
    Omit,
    OpenAIError,
    PermissionDeniedError,
    RateLimitError,
    Timeout,
    UnprocessableEntityError,
    __version__,
    omit,
    pydantic_function_tool,
    types,
)

__all__ = [
    "DEFAULT_MAX_RETRIES",
    "DEFAULT_TIMEOUT",
    "NOT_GIVEN",
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncAzureOpenAI",
    "AsyncClient",
    "AsyncOpenAI",
    "AsyncStream",
    "AuthenticationError",
    "BadRequestError",
    "BaseModel",
    "ConflictError",
    "ContentFilterFinishReasonError",
    "DefaultAioHttpClient",
    "DefaultAsyncHttpxClient",
    "InternalServerError",
    "LengthFinishReasonError",
    "NotFoundError",
    "NotGiven",
    "Omit",
    "OpenAIError",
    "PermissionDeniedError",
    "RateLimitError",
    "Timeout",
    "UnprocessableEntityError",
    "__version__",
    "omit",
    "pydantic_function_tool",
    "types",
]

# Synchronous clients, and one that signs its requests itself.
_ABSENT = ("OpenAI", "AzureOpenAI", "Client", "BedrockOpenAI", "AsyncBedrockOpenAI")


def __getattr__(name: str) -> Any:
    """Return a public name of the SDK."""
    if name in _ABSENT:
        raise ImportError(f"aimlasync is for asyncio: use AsyncOpenAI or AsyncAzureOpenAI, or {name} of openai itself")
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(sdk, name)


class Options(TypedDict, total=False):
    """Options of `openai.AsyncOpenAI`, and `aimlasync`."""

    aimlasync: LibraryClient | None
    """The client that sends the requests to its endpoints, with their keys. The caller closes it."""
    api_key: str | Callable[[], Awaitable[str]] | None
    organization: str | None
    project: str | None
    webhook_secret: str | None
    base_url: Any
    websocket_base_url: Any
    timeout: Any
    max_retries: int
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, object] | None
    http_client: Any
    """An httpx AsyncClient that sends each attempt: its proxies, hooks and certificates hold. It is closed with this
    one.
    """
    _strict_response_validation: bool


class AzureOptions(Options, total=False):
    """Options of `openai.AsyncAzureOpenAI`, and `aimlasync`."""

    azure_endpoint: str | None
    azure_deployment: str | None
    api_version: str | None
    azure_ad_token: str | None
    azure_ad_token_provider: Callable[[], str | Awaitable[str]] | None


class _Clients:
    """The aimlasync clients of an SDK client and its copies: one for each event loop and base URL."""

    def __init__(self, given: LibraryClient | None, http_client: Any) -> None:
        self._given = given
        self._http_client = http_client
        self._made: dict[tuple[asyncio.AbstractEventLoop, str], LibraryClient] = {}

    def route(self, base_url: str, max_retries: int) -> Route:
        """Return where a request goes; `max_retries` counts where it is not the SDK's default."""
        client = self._given or self._in_this_loop(base_url)
        if max_retries != sdk.DEFAULT_MAX_RETRIES:
            client = client.with_options(max_retries=max_retries)
        return Route(client=client, base_url=None if self._given is not None else base_url)

    def _in_this_loop(self, base_url: str) -> LibraryClient:
        try:
            key = asyncio.get_running_loop(), base_url
        except RuntimeError as error:
            raise no_loop(error) from None
        if key not in self._made:
            # Other threads, with loops of their own, do the same.
            for old in [*self._made]:
                if old[0].is_closed():
                    self._made.pop(old, None)
            self._made[key] = _library_client(base_url, self._http_client)
        return self._made[key]

    async def close(self) -> None:
        """Close what was made in this loop, and the httpx client that was given."""
        here = asyncio.get_running_loop()
        for key in [key for key in self._made if key[0] is here]:
            await self._made.pop(key).close()
        if self._http_client is not None:
            await self._http_client.aclose()


def _library_client(base_url: str, http_client: Any) -> LibraryClient:
    """Return a client for one server; the SDK writes the key into each request."""
    # Who gives the SDK a http:// URL has asked for it.
    endpoint = LibraryEndpoint(base_url=base_url, exact=True, allow_http=True)
    # A read timeout of the SDK bounds a whole answer, and each gap of a stream; nothing bounds a whole stream.
    bounds = Bounds(total=None, idle=None)
    if http_client is None:
        return LibraryClient(endpoints=[endpoint], timeout=bounds, proxy=proxy_for(base_url))
    from aimlasync.transport.over_httpx import HttpxTransport

    return LibraryClient(endpoints=[endpoint], timeout=bounds, transport=HttpxTransport(http_client))


_HttpxClient: Any = package_of_sdk().AsyncClient


class _Http(_HttpxClient):  # type: ignore[misc]
    """The httpx client between the SDK and aimlasync, shared by copies of an SDK client."""

    def __init__(self, clients: _Clients, timeout: Any) -> None:
        # A proxy of the environment would replace the transport.
        super().__init__(transport=PipelineTransport(), timeout=timeout, trust_env=False)
        self.clients = clients

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Frameworks copy what holds an SDK client.
        return self

    async def aclose(self) -> None:
        await super().aclose()
        await self.clients.close()


class _Routed:
    """What stands before the SDK's class: it makes the httpx client, and tells each request its way."""

    _client: Any
    base_url: Any
    max_retries: int

    def __init__(self, *, aimlasync: LibraryClient | None = None, http_client: Any = None, **options: Any) -> None:
        if of_kind("aimlasync", aimlasync, LibraryClient, "AsyncClient()") is not None:
            if http_client is not None:
                raise ValueError("give aimlasync= or http_client=; AsyncClient(transport=, proxy=) says how it sends")
            # The SDK wants what the endpoints have.
            options = {"api_key": "unused", **{name: value for name, value in options.items() if value is not None}}
            if "azure_endpoint" not in options:
                options.setdefault("base_url", "https://aimlasync.invalid/v1")
        if http_client is not None and not hasattr(http_client, "aclose"):
            raise TypeError(f"http_client= takes an AsyncClient of httpx, not {type(http_client).__name__}")
        if not isinstance(http_client, _Http):
            http_client = _Http(_Clients(aimlasync, http_client), _default_timeout(aimlasync, http_client))
        super().__init__(http_client=http_client, **options)  # type: ignore[call-arg]  # the SDK's class is next

    @property
    def aimlasync(self) -> LibraryClient:
        """The client that sends the requests of this event loop: its `statistics()`, `budget`, `observe()`."""
        client: LibraryClient = self._client.clients.route(str(self.base_url), self.max_retries).client
        return client

    async def _prepare_request(self, request: Any) -> None:
        await super()._prepare_request(request)  # type: ignore[misc]
        request.extensions["aimlasync"] = self._client.clients.route(str(self.base_url), self.max_retries)

    def _process_response_data(self, *, data: Any, cast_to: Any, response: Any) -> Any:
        if cast_to is types.chat.ChatCompletionChunk and isinstance(data, dict) and data.get("choices") is None:
            # The AI/ML API's last chunk has the cost and nothing else; the SDK's type promises a list.
            data = {**data, "choices": []}
        return super()._process_response_data(  # type: ignore[misc]
            data=data, cast_to=cast_to, response=response
        )

    async def _process_response(self, **given: Any) -> Any:
        # What `with_raw_response` says of retries: ours, and the SDK's own.
        if (info := given["response"].extensions.get("aimlasync")) is not None:
            given["retries_taken"] = given.get("retries_taken", 0) + max(0, info.attempts - 1)
        return await super()._process_response(**given)  # type: ignore[misc]


def _default_timeout(given: LibraryClient | None, http_client: Any) -> Any:
    """Return the timeout of requests that name none: the given client's own, or what the SDK would take."""
    if given is not None:
        return None
    if http_client is not None and (own := http_client.timeout) != type(own)(5.0):
        # The user's httpx may not be the one that the SDK is built on.
        return sdk.Timeout(connect=own.connect, read=own.read, write=own.write, pool=own.pool)
    return sdk.DEFAULT_TIMEOUT


# What tells the SDK a key.
_KEYS = ("aimlasync", "api_key", "admin_api_key", "workload_identity")
_KEY_VARIABLES = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY")


def _of_a_vendor(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the URL and key of the vendor whose key is in the environment, where the SDK would find no key."""
    if any(options.get(name) is not None for name in _KEYS) or any(map(os.environ.get, _KEY_VARIABLES)):
        return {}
    url = options.get("base_url") or os.environ.get("OPENAI_BASE_URL") or None
    try:
        (endpoint,) = default_endpoints(None, None if url is None else str(url), allow_http=True)
    except AimlasyncError:
        # There is none: the SDK has words for it.
        return {}
    if endpoint.api_key is None:
        return {}
    return {"base_url": endpoint.base_url, "api_key": endpoint.api_key.reveal()}


class AsyncOpenAI(_Routed, sdk.AsyncOpenAI):
    """`openai.AsyncOpenAI` over an aimlasync client: that of `aimlasync=`, or one made from the same arguments.

    Where no key is passed and none of OpenAI is in the environment, AIML_API_KEY or BYTESPIKE_API_KEY is read, for its
    vendor. A client that is made here is closed with this one. A read timeout bounds a whole answer, with queueing and
    retries, and each gap of a stream. `max_retries` are aimlasync's. Raises the SDK's errors.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(**{**options, **_of_a_vendor(options)})


class AsyncAzureOpenAI(_Routed, sdk.AsyncAzureOpenAI):
    """`openai.AsyncAzureOpenAI` over an aimlasync client; see `AsyncOpenAI`."""

    def __init__(self, **options: Unpack[AzureOptions]) -> None:
        super().__init__(**options)


AsyncClient = AsyncOpenAI


# The SDK's errors cannot be unpickled: one that a worker of `multiprocessing` raises ends or hangs the pool.


def _reduced(error: Exception) -> tuple[Any, ...]:
    """Return how an error is pickled: without the credentials that its request had."""
    state = dict(vars(error))
    if (request := state.get("request")) is not None:
        headers = {name: value for name, value in request.headers.items() if name not in CREDENTIALS}
        state["request"] = request = type(request)(request.method, request.url, headers=headers)
    if (response := state.get("response")) is not None:
        headers = {name: value for name, value in response.headers.items() if name != "content-encoding"}
        content = response.content if response.is_closed else b""
        state["response"] = type(response)(response.status_code, headers=headers, content=content, request=request)
    return restored, (type(error), error.args), state


def _pickled(kind: type[Exception]) -> None:
    copyreg.pickle(kind, _reduced)
    for each in kind.__subclasses__():
        _pickled(each)


_pickled(sdk.OpenAIError)
