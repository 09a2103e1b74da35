"""`AsyncClient`: the client that users make and call.

The order of a call's steps is in `pipeline`. It may import everything below `client` and the parts of this package.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

import msgspec

from aimlasync.client.balancer import Balancer
from aimlasync.client.call import Settings
from aimlasync.client.drain import Waits
from aimlasync.client.observer import Observer
from aimlasync.client.openai_names import Answer, OpenAINames, ids_headers, no_http_client
from aimlasync.client.pipeline import Pipeline
from aimlasync.client.receive import completion
from aimlasync.client.resources import Chat, Models, balance
from aimlasync.config import (
    AskOptions,
    CallOptions,
    Limits,
    Priority,
    Timeout,
    TimeoutOfHttpx,
    check_at_least,
    check_headers,
    headers_given,
    of_kind,
    priority_of,
)
from aimlasync.cost.budget import Budget
from aimlasync.endpoints.endpoint import Endpoint, default_endpoints
from aimlasync.endpoints.keys import KeySource
from aimlasync.endpoints.learned_limits import LearnedLimits, Starts
from aimlasync.endpoints.statistics import EndpointStatistics
from aimlasync.endpoints.urls import proxy_secrets
from aimlasync.headers import Headers, keyless
from aimlasync.resilience.hedging import Hedge, Hedging
from aimlasync.resilience.retry import Retry
from aimlasync.spelling import spelled
from aimlasync.transport.base import Transport
from aimlasync.wire.models import Balance
from aimlasync.wire.redaction import Secrets

if TYPE_CHECKING:
    from aimlasync.chat.types import ChatCompletion
    from aimlasync.client.passthrough import Forwarded
    from aimlasync.client.responses_resource import Responses
    from aimlasync.endpoints.providers import Api
    from aimlasync.responses.types import Response
    from aimlasync.store import Cache, Store


class AsyncClient(OpenAINames):
    """A client for chat/completions and responses; one per running event loop, shared by all its tasks.

    Keys come from AIML_API_KEY, BYTESPIKE_API_KEY or OPENAI_API_KEY, the first that is set, unless `api_key` or
    `endpoints` says otherwise. An `api_key` goes to the AI/ML API unless it is another vendor's by its look, or the
    environment has OPENAI_BASE_URL and nothing of a vendor. `api_key` may be a function, also an async one, that is
    called before each attempt.
    `max_queue` calls may wait for an endpoint at most (an interactive call counts those of its kind alone),
    `max_queue_per_tenant` of them for one `tenant=`, and each for `max_wait` seconds; beyond that OverloadedError comes
    at once. Values of headers that look like a key (Authorization, Cookie, X-Api-Key, ...-Token) are cut out of errors;
    `secret_headers` names others. `learned` is a small file of what was learned of limits: read now, written when the
    client is closed. `cache` is a `Cache`, or the path or URL of a store of answers: equal requests are answered from
    it (see `answer_cache`). Close it with `async with` or `await close()`. Raises AimlasyncError when no key is found,
    ValueError for a base URL, key or header that cannot be sent safely, TypeError for an option of another kind.
    """

    # Slots are names of the class too: `AsyncMock(spec=AsyncClient)` has what the class has.
    __slots__ = ("chat", "models")
    chat: Chat
    models: Models

    @keyless
    @spelled
    def __init__(
        self,
        api_key: str | KeySource | None = None,
        base_url: str | Any = None,
        *,
        endpoints: Sequence[Endpoint] | None = None,
        limits: Limits | None = None,
        retry: Retry | None = None,
        timeout: Timeout | TimeoutOfHttpx | float | None = None,
        validate: bool = True,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, Any] | None = None,
        secret_headers: Collection[str] = (),
        allow_http: bool = False,
        proxy: str | None = None,
        transport: Transport | None = None,
        max_retries: int | None = None,
        max_queue: int | None = None,
        max_queue_per_tenant: int | None = None,
        max_wait: float | None = None,
        budget: Budget | None = None,
        hedge: Hedge | None = None,
        learned: str | os.PathLike[str] | None = None,
        cache: Cache | Store | str | os.PathLike[str] | None = None,
        organization: str | None = None,
        project: str | None = None,
        http_client: None = None,
    ) -> None:
        no_http_client(http_client)
        if endpoints is not None and (api_key is not None or base_url is not None):
            raise ValueError("give endpoints=, or api_key= and base_url=, not both")
        if endpoints is None:
            url = None if base_url is None else str(base_url)
            endpoints = default_endpoints(api_key, url, allow_http=allow_http)
        elif isinstance(endpoints, Endpoint) or not all(isinstance(each, Endpoint) for each in endpoints):
            raise TypeError("endpoints= takes a list of Endpoint, such as [Endpoint.aimlapi()]")
        self.limits = of_kind("limits", limits, Limits, "Limits(concurrency=8)") or Limits()
        of_kind("budget", budget, Budget, "Budget(5.0)")
        secrets = self._secrets = Secrets(proxy_secrets(proxy), named=frozenset(map(str.lower, secret_headers)))
        balancer = Balancer(
            endpoints,
            self.limits,
            max_queue=max_queue,
            max_queue_per_tenant=max_queue_per_tenant,
            max_wait=max_wait,
            secrets=secrets,
        )
        self._learned = None if learned is None else os.fspath(learned)
        if self._learned is not None:
            from aimlasync.endpoints.learned_file import read

            balancer.start_from(read(self._learned), 1.0)
        hedge = of_kind("hedge", hedge, Hedge, "Hedge()")
        hedging = None if hedge is None else Hedging(hedge)
        answers = None
        if cache is not None:
            from aimlasync.client.answer_cache import answers_of

            answers = answers_of(cache)
        self._pipeline = Pipeline(
            balancer,
            transport=transport,
            proxy=proxy,
            budget=budget,
            hedging=hedging,
            validate=validate,
            answers=answers,
            owns_cache=isinstance(cache, (str, os.PathLike)),
        )
        headers = ids_headers(organization, project, default_headers)
        self._set(_changed(_USUAL, timeout, retry, max_retries, headers, default_query))

    def _set(self, settings: Settings) -> None:
        self._settings = settings
        self.chat = Chat(self._pipeline, settings)
        self._responses: Responses | None = None
        self.models = Models(self._pipeline, settings)

    @keyless
    @spelled
    def with_options(
        self,
        *,
        timeout: Timeout | TimeoutOfHttpx | float | None = None,
        retry: Retry | None = None,
        max_retries: int | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, Any] | None = None,
        api_key: str | KeySource | None = None,
        base_url: str | Any = None,
        organization: str | None = None,
        project: str | None = None,
        http_client: None = None,
    ) -> Self:
        """Return this client with other options.

        Both share connections, limits and life: closing one closes the other. With `api_key` or `base_url` it shares
        connections alone, learns limits of its own, and does not close the other. A key is not sent to the host of
        another `base_url`.
        """
        no_http_client(http_client)
        other = copy.copy(self)
        if api_key is not None or base_url is not None:
            from aimlasync.client.another_key import with_another_key

            other._pipeline = with_another_key(self._pipeline, self.limits, self._secrets, api_key, base_url)
            # What it learns is no other key's, and the file has no name for it.
            other._learned = None
        headers = ids_headers(organization, project, default_headers)
        other._set(_changed(self._settings, timeout, retry, max_retries, headers, default_query))
        return other

    copy = with_options

    @property
    def responses(self) -> Responses:
        """New responses, and those that exist already."""
        if self._responses is None:
            from aimlasync.client.responses_resource import Responses

            self._responses = Responses(self._pipeline, self._settings)
        return self._responses

    @property
    def retry(self) -> Retry:
        """The retry policy."""
        return self._settings.retry

    @property
    def timeout(self) -> Timeout:
        """The bounds of calls that name no others."""
        return self._settings.timeout

    @property
    def budget(self) -> Budget | None:
        """The spending cap, None where there is none; calls that begin later are held to another one that is set."""
        return self._pipeline.budget

    @budget.setter
    def budget(self, budget: Budget | None) -> None:
        self._pipeline.budget = of_kind("budget", budget, Budget, "Budget(5.0)")

    @property
    def cache(self) -> Cache | None:
        """The answers that are kept, None where none are; `cache.counts` says what it did."""
        answers = self._pipeline.answers
        return None if answers is None else answers.cache

    # From the first call to the end

    async def __aenter__(self) -> Self:
        self._pipeline.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def drain(self) -> None:
        """Send nothing more through this client object; its copies (`with_options`) go on.

        Calls that wait, for a limit or before a retry, are cancelled; those that are sent get their answer, or their
        error without a retry. Calls that begin later raise ClientClosedError.
        """
        self._settings.waits.drain()

    @property
    def is_drained(self) -> bool:
        """Whether `drain` was called."""
        return self._settings.waits.is_drained

    async def close(self) -> None:
        """Close all connections; streams still open fail, and so do calls that wait. Harmless more than once."""
        if self._learned is not None and not self._pipeline.is_closed:
            from aimlasync.endpoints.learned_file import write

            write(self._learned, self.learned().starts)
        await self._pipeline.close()

    @property
    def is_closed(self) -> Answer:
        """Whether `close` was called; `is_closed()` asks the same."""
        return Answer(self._pipeline.is_closed)

    def __repr__(self) -> str:
        upstreams = ", ".join(repr(upstream)[len("<Upstream ") : -1] for upstream in self._pipeline.balancer.upstreams)
        return f"<AsyncClient {'closed' if self.is_closed else upstreams}>"

    @overload
    def ask(
        self, api: Literal["chat"], body: Mapping[str, Any], *, priority: Priority = ..., **options: Unpack[AskOptions]
    ) -> Coroutine[Any, Any, ChatCompletion]: ...
    @overload
    def ask(
        self,
        api: Literal["responses"],
        body: Mapping[str, Any],
        *,
        priority: Priority = ...,
        **options: Unpack[AskOptions],
    ) -> Coroutine[Any, Any, Response]: ...
    @overload
    def ask(
        self, api: Api, body: Mapping[str, Any], *, priority: Priority = ..., **options: Unpack[AskOptions]
    ) -> Coroutine[Any, Any, ChatCompletion | Response]: ...

    def ask(
        self, api: Api, body: Mapping[str, Any], *, priority: Priority = "interactive", **options: Unpack[AskOptions]
    ) -> Coroutine[Any, Any, ChatCompletion | Response]:
        """Send a body that is plain JSON values, as in a line of a batch file, and return the whole reply.

        To be awaited at once. Nothing in the body is looked at and all of it is sent, a null too; `create` is for
        messages that hold structs, and for streams. Raises like `create`; ValueError for an api that there is not, and
        for a body that asks for a stream.
        """
        if api not in ("chat", "responses"):
            raise ValueError(f"api must be 'chat' or 'responses', not {api!r}")
        if body.get("stream"):
            raise ValueError("a stream is asked for with create(..., stream=True)")
        if "extra_headers" in options:
            check_headers(options)
        receive: Any = completion if api == "chat" else self.responses.receive
        priority = priority_of(priority)
        # By itself: every row of a job has one, and mostly no option beside it.
        return self._pipeline.call(api, body, receive, options, self._settings, priority)  # type: ignore[arg-type]  # without its priority

    async def forward(
        self, method: str, path: str, body: bytes | None = None, *, query: str = "", **options: Unpack[CallOptions]
    ) -> Forwarded:
        """Send a request that another client wrote, and return the answer's own bytes.

        POST to "chat/completions" and "responses" goes through limits, retries and failover as any call does, and
        raises what they raise. Another path below the base URL goes to the first endpoint with its key, through the
        same limits; its answer is handed back whatever its status. It is tried again after 429, 503 and a connection
        that could not be made, and with an idempotent method (GET, PUT, DELETE) as any call is.
        `query` is a quoted text. Raises UnsupportedRequestError for what cannot be sent.
        """
        check_headers(options)
        from aimlasync.client.passthrough import forward

        return await forward(self._pipeline, self._settings, method, path, body, query, options)

    def observe(self, observer: Observer | None) -> None:
        """Let `observer` watch all chat and responses calls from now on, or (None) nobody; what it raises is logged.

        Raises RuntimeError when another one does already.
        """
        if observer is not None and self._pipeline.observer is not None:
            raise RuntimeError("this client is observed already")
        self._pipeline.observer = observer

    # Whole-account questions

    async def balance(self) -> Balance:
        """Return what is left on the account of the first endpoint that can tell, in US dollars.

        Raises NotImplementedError where no endpoint has such a question.
        """
        return await balance(self._pipeline, self._settings)

    @property
    def queued(self) -> int:
        """Calls that wait for an endpoint."""
        return self._pipeline.balancer.queued()

    def start_from(self, known: Starts, *, share: float = 1.0) -> None:
        """Let models that were not asked yet start with what an earlier run `learned` as its `starts`.

        `share` is this process's part of it.
        """
        self._pipeline.balancer.start_from(known, share)

    def learned(self) -> LearnedLimits:
        """Return what was learned of limits and has held, by endpoint and model."""
        return self._pipeline.balancer.learned(self._pipeline.now())

    def takes_more(self, waiting: int) -> bool:
        """Whether fewer than `waiting` calls wait at some model in use, so that more calls may keep it busier."""
        balancer = self._pipeline.balancer
        return balancer.queued() < waiting or balancer.shortest_queues(self._pipeline.now()) < waiting

    def explain(self, of: object) -> str:
        """Say in one sentence where the time of a call went: queues, limits, pauses, failed attempts, backoff.

        `of` is its info or error, its reply or its stream. Raises TypeError for anything else.
        """
        from aimlasync.client.explanation import explain

        return explain(of)

    def statistics(self) -> list[EndpointStatistics]:
        """Return what each endpoint is doing and has done, in the order they were given."""
        now = self._pipeline.now()
        return [upstream.statistics(now) for upstream in self._pipeline.balancer.upstreams]


_USUAL = Settings(Retry(), Timeout(), Headers(), Waits())


def _changed(
    settings: Settings,
    timeout: Timeout | TimeoutOfHttpx | float | None,
    retry: Retry | None,
    max_retries: int | None,
    default_headers: Mapping[str, str] | None,
    default_query: Mapping[str, Any] | None,
) -> Settings:
    """Return `settings` with what is given. Raises ValueError for a header that cannot be sent."""
    retry = of_kind("retry", retry, Retry, "Retry(attempts=3)") or settings.retry
    if max_retries is not None:
        of_kind("max_retries", max_retries, int, "2")
        check_at_least(0, max_retries=max_retries)
        retry = msgspec.structs.replace(retry, attempts=max_retries + 1)
    headers = headers_given(Headers.hiding(default_headers or {}), "default_headers")
    timeout = settings.timeout if timeout is None else settings.timeout.but(timeout)
    query = {**settings.query, **(default_query or {})}
    return Settings(retry, timeout, Headers({**settings.headers, **headers}), Waits(), query)
