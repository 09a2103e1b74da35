"""Responses that a server keeps: fetch, cancel and delete them, list their input, wait for one in the background.

It may import `pipeline`, `receive`, `receive_response` and what lies below. An id is valid at the endpoint that made
the response. A `Response` says which one that is; an id alone is looked for at each endpoint, in the order in which
they were given. Each request may be sent twice without harm, so it is retried like a call. Source: OpenAI, "Background
mode" and the API reference of responses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from aimlasync.client import receive, receive_response
from aimlasync.client.attempts import Receive
from aimlasync.client.call import Attempt, Settings
from aimlasync.client.pipeline import Pipeline
from aimlasync.client.plain_calls import ask
from aimlasync.config import Timeout
from aimlasync.endpoints.paths import query_from, segment_of
from aimlasync.errors import AimlasyncError, APIStatusError, APITimeoutError, NotFoundError, ResponseFailedError
from aimlasync.headers import Headers
from aimlasync.responses.types import InputItemList, Response, ended_well, why_not
from aimlasync.wire.base import Object

if TYPE_CHECKING:
    from aimlasync.client.response_stream import ResponseStream
    from aimlasync.endpoints.upstream import Upstream

T = TypeVar("T")

# Seconds between two looks at a response that runs: the first, how they grow, and the longest. Each is stretched or
# shortened at random, so that many that wait do not ask at the same instant.
_FIRST_POLL = 0.5
_GROWTH = 1.5
_LONGEST_POLL = 10.0
_JITTER = (0.75, 1.25)
# Looks in a row that may fail, each with the retries of the client's policy, before the wait is given up.
_MAX_FAILED_POLLS = 5
# Statuses of an endpoint that has not this response, or has no such path.
_NOT_HERE = (404, 405)


class StoredResponses:
    """What `client.responses` can do with responses that exist already."""

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self.input_items = InputItems(self)
        """Call it, or its `list`, with an id: await the first page, or `async for` over the items of all pages."""

    @overload
    async def retrieve(
        self,
        response: str | Response,
        *,
        stream: Literal[False] = False,
        include: Sequence[str] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeout: Timeout | float | None = None,
    ) -> Response: ...
    @overload
    async def retrieve(
        self,
        response: str | Response,
        *,
        stream: Literal[True],
        starting_after: int | None = None,
        include: Sequence[str] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeout: Timeout | float | None = None,
    ) -> ResponseStream: ...

    async def retrieve(
        self,
        response: str | Response,
        *,
        stream: bool = False,
        starting_after: int | None = None,
        include: Sequence[str] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeout: Timeout | float | None = None,
    ) -> Response | ResponseStream:
        """Return a stored response as it is now, or (`stream=True`) its events, those after `starting_after`.

        `response` is an id, or a Response. Raises NotFoundError where no endpoint has it, UnsupportedRequestError for
        an id that is no part of a path, ValueError for `starting_after` without `stream`.
        """
        if starting_after is not None and not stream:
            raise ValueError("starting_after= is the place in a stream: give stream=True too")
        query: dict[str, Any] = {"include": list(include or ())}
        if stream:
            query |= {"stream": True, "starting_after": starting_after}

        async def events(attempt: Attempt) -> ResponseStream:
            began = await receive_response.response_stream(attempt)
            began.continues(_id_of(response), starting_after)
            return began

        received: Receive[Any] = events if stream else receive_response.stored_response
        found: Response | ResponseStream = await self._ask(
            "GET", response, "", received, query, extra_headers=extra_headers, timeout=timeout, streams=stream
        )
        return found

    async def cancel(
        self,
        response: str | Response,
        *,
        extra_headers: Mapping[str, str] | None = None,
        timeout: Timeout | float | None = None,
    ) -> Response:
        """Stop a background response, and return it; one that has ended is returned as it is.

        Raises like `retrieve`.
        """
        return await self._ask(
            "POST", response, "/cancel", receive_response.stored_response, extra_headers=extra_headers, timeout=timeout
        )

    async def delete(
        self,
        response: str | Response,
        *,
        extra_headers: Mapping[str, str] | None = None,
        timeout: Timeout | float | None = None,
    ) -> None:
        """Let the server forget a stored response. Raises like `retrieve`."""
        try:
            await self._ask("DELETE", response, "", receive.nothing, extra_headers=extra_headers, timeout=timeout)
        except NotFoundError as error:
            # An attempt before it, whose answer was lost, may have deleted it: it is gone, as was asked.
            if error.info is None or error.info.attempts < 2:
                raise

    async def wait(self, response: str | Response, *, timeout: float | None = None) -> Response:
        """Return a background response once it has ended, looking at it less and less often.

        `timeout` is in seconds; None waits as long as it takes. The status is then "completed", or "incomplete" for an
        answer that was cut. Raises ResponseFailedError for a response that failed, was cancelled or expired;
        APITimeoutError when it still runs after `timeout`; NotFoundError for one that the server does not have; the
        last error when one look after another fails. A wait that is cancelled leaves the response running.
        """
        try:
            async with asyncio.timeout(timeout) as bound:
                ended = await self._until_done(response)
        except TimeoutError:
            if not bound.expired():
                raise
            ended = None
        if ended is None:
            raise APITimeoutError(f"{_id_of(response)} has not ended within {timeout} s", phase="total")
        if ended_well(ended.status):
            return ended
        code, why = None if ended.error is None else ended.error.code, why_not(ended)
        raise ResponseFailedError(
            f"{ended.id} ended as {ended.status}{f': {why}' if why else ''}", reply=ended, code=code, info=ended.info
        )

    async def _until_done(self, response: str | Response) -> Response:
        latest = response if isinstance(response, Response) else None
        delay = 0.0 if latest is None else _FIRST_POLL
        failed = 0
        while latest is None or not latest.is_done:
            if delay:
                await asyncio.sleep(delay * random.uniform(*_JITTER))
            delay = min(_LONGEST_POLL, delay * _GROWTH) if delay else _FIRST_POLL
            try:
                # A response that was found says where it is.
                latest = await self.retrieve(response if latest is None else latest)
                failed = 0
            except AimlasyncError as error:
                failed += 1
                is_missing = isinstance(error, NotFoundError)
                if failed < _MAX_FAILED_POLLS and (error.retryable or (is_missing and latest is not None)):
                    # One that the server has told of may not be found at once wherever that looks for it.
                    continue
                if is_missing:
                    error.explain("it was not stored (store=True), was deleted, or has expired")
                raise
        return latest

    async def _page(self, response: str | Response, query: Mapping[str, Any], **options: Any) -> InputItemList:
        return await self._ask("GET", response, "/input_items", receive_response.input_items, query, **options)

    async def _ask(
        self,
        method: str,
        response: str | Response,
        below: str,
        received: Receive[T],
        query: Mapping[str, Any] | None = None,
        *,
        extra_headers: Mapping[str, str] | None = None,
        timeout: Timeout | float | None = None,
        streams: bool = False,
    ) -> T:
        """Send a request for a stored response to the endpoint that has it."""
        path = f"/{segment_of(_id_of(response), 'the id of a response')}{below}"
        if written := query_from({**self._settings.query, **(query or {})}):
            path += f"?{written}"
        headers = None if extra_headers is None else Headers.hiding(extra_headers).checked("extra_headers")
        missing: APIStatusError | None = None
        for upstream in self._places(response):
            try:
                return await ask(
                    self._pipeline,
                    method,
                    upstream,
                    upstream.urls["responses"] + path,
                    received,
                    self._settings,
                    extra_headers=headers,
                    timeout=timeout,
                    streams=streams,
                )
            except APIStatusError as error:
                if error.status not in _NOT_HERE:
                    raise
                missing = missing or error
        assert missing is not None
        raise missing

    def _places(self, response: str | Response) -> list[Upstream]:
        upstreams = self._pipeline.balancer.upstreams
        maker = response.info.endpoint if isinstance(response, Response) else ""
        return [upstream for upstream in upstreams if upstream.endpoint.name == maker] or upstreams


class InputItems:
    """`client.responses.input_items`."""

    def __init__(self, responses: StoredResponses) -> None:
        self._responses = responses

    def list(
        self,
        response: str | Response,
        *,
        after: str | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        include: Sequence[str] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeout: Timeout | float | None = None,
    ) -> InputItemPages:
        """Await it for the first page of a stored response's input items, or `async for` over those of all pages.

        `limit` is the size of a page, `after` the id of the item before the first, `order` "desc" (newest first, the
        server's default) or "asc". Raises like `retrieve`.
        """
        query = {"after": after, "limit": limit, "order": order, "include": list(include or ())}
        return InputItemPages(self._responses, response, query, {"extra_headers": extra_headers, "timeout": timeout})

    __call__ = list


class InputItemPages:
    """The input items of a stored response: asked for when it is awaited or iterated."""

    def __init__(
        self,
        responses: StoredResponses,
        response: str | Response,
        query: Mapping[str, Any],
        options: dict[str, Any],
    ) -> None:
        self._responses = responses
        self._response = response
        self._query = query
        self._options = options

    def __await__(self) -> Generator[Any, None, InputItemList]:
        return self._responses._page(self._response, self._query, **self._options).__await__()

    async def __aiter__(self) -> AsyncIterator[Object]:
        query = self._query
        while True:
            page = await self._responses._page(self._response, query, **self._options)
            for item in page.data:
                yield item
            last = page.last_id or (page.data[-1].get("id") if page.data else None)
            if not page.has_more or not last or query.get("after") == last:
                return
            query = {**self._query, "after": last}


def _id_of(response: str | Response) -> str:
    return response.id if isinstance(response, Response) else response
