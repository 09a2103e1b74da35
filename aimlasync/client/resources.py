"""The methods that users call: `client.chat.completions` and `client.models`; `responses_resource` has the others.

It may import `pipeline`, `receive`, `arguments` and what lies below. `arguments` makes a body; the pipeline does the
rest. The names are those that users of AsyncOpenAI know.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import msgspec

from aimlasync.chat import types as chat
from aimlasync.chat.types import ChatCompletion, ChatOptions, ChatParams
from aimlasync.client import receive
from aimlasync.client.arguments import asked_until_read, body_of
from aimlasync.client.call import Attempt, Settings
from aimlasync.client.openai_names import RawAnswers
from aimlasync.client.pipeline import Pipeline
from aimlasync.client.plain_calls import ask
from aimlasync.config import check_headers
from aimlasync.endpoints.paths import query_from
from aimlasync.errors import NotFoundError
from aimlasync.headers import Headers, fault
from aimlasync.wire.as_sent import sendable
from aimlasync.wire.base import Reply, encode
from aimlasync.wire.json_text import Dumpable
from aimlasync.wire.models import Balance, Model, ModelList, decode_models

if TYPE_CHECKING:
    from aimlasync.chat.parsed import ParsedChatCompletion
    from aimlasync.client.chat_stream import ChatStream
    from aimlasync.client.event_streams import CompletionEvents
    from aimlasync.client.stream import Opened
    from aimlasync.endpoints.upstream import Upstream

T = TypeVar("T")
R = TypeVar("R", bound=Reply)

Messages = Iterable[Mapping[str, Any] | msgspec.Struct | Dumpable]


class Completions(RawAnswers):
    """`client.chat.completions`."""

    ELSEWHERE = ("delete", "list", "messages", "retrieve", "update")

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self._pipeline = pipeline
        self._settings = settings

    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Messages,
        response_format: type[T],
        stream: Literal[False] | None = False,
        **params: Unpack[ChatOptions],
    ) -> ParsedChatCompletion[T]: ...
    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Messages,
        stream: Literal[False] | None = False,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion: ...
    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Messages,
        stream: Literal[True],
        **params: Unpack[ChatParams],
    ) -> ChatStream: ...
    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Messages,
        stream: bool,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion | ChatStream: ...

    async def create(
        self,
        *,
        model: str,
        messages: Messages,
        stream: bool | None = False,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion | ChatStream:
        """Ask for one chat completion, whole or (`stream=True`) in pieces.

        `messages` and everything in them may be dicts or the structs of `aimlasync.chat`; `CallOptions` names what is
        not sent. A type as `response_format` is that of `parse`, whose errors are raised too. Raises the errors of
        `aimlasync.errors`; UnsupportedRequestError before anything is sent.
        """
        if "response_format" in params and isinstance(form := params["response_format"], type):
            if not stream:
                given: Any = params
                return await self.parse(model=model, messages=messages, **given)
            _ask_for(form, params)
        body, options = body_of(
            {"model": model, "messages": sendable(messages, "messages")}, params, chat.PARAMETERS, stream
        )
        receive_as = receive.chat_stream if body.get("stream") else receive.completion
        call: Coroutine[Any, Any, ChatCompletion | ChatStream]
        call = self._pipeline.call("chat", body, receive_as, options, self._settings)
        # This frame would keep them until there is an answer.
        del messages, params, body, options
        return await call

    @overload
    async def parse(
        self,
        *,
        model: str,
        messages: Messages,
        response_format: type[T],
        **params: Unpack[ChatOptions],
    ) -> ParsedChatCompletion[T]: ...
    @overload
    async def parse(
        self,
        *,
        model: str,
        messages: Messages,
        response_format: Any = None,
        **params: Unpack[ChatOptions],
    ) -> ParsedChatCompletion[Any]: ...

    async def parse(
        self,
        *,
        model: str,
        messages: Messages,
        response_format: Any = None,
        **params: Unpack[ChatOptions],
    ) -> ChatCompletion:
        """Ask for an answer of the type `response_format` (a msgspec Struct, dataclass, Enum, Literal, ...): see
        `.parsed`.

        It is asked for in the surest way that the model has, or in that which `structured=` names; `.info.structured`
        says which. Calls of strict tools, and of those that `openai.pydantic_function_tool` makes, have
        `.function.parsed_arguments`; with such tools the type may be left out. Raises AnswerRefusedError,
        AnswerTruncatedError or AnswerInvalidError, each with the reply; TypeError, naming the field, for a type that
        strict JSON schema cannot express.
        """
        check_headers(params)
        from aimlasync.structured.parse import parse_completion
        from aimlasync.structured.schema import format_of
        from aimlasync.structured.tool_arguments import readers_of

        form = format_of(response_format) if response_format else None
        if form is not None:
            params.setdefault("structured", "auto")
        params["tools"] = tools = list(params.get("tools") or ()) or None
        readers = readers_of(tools or ())

        def ask() -> Awaitable[ChatCompletion]:
            shape = None if form is None else form.chat()
            return self.create(model=model, messages=messages, response_format=shape, **params)

        return await asked_until_read(ask, lambda reply: parse_completion(reply, form, readers), params)

    def stream(
        self, *, model: str, messages: Messages, response_format: Any = None, **params: Unpack[ChatOptions]
    ) -> Opened[CompletionEvents]:
        """Ask for a streamed completion as AsyncOpenAI's events, inside of `async with`: see `CompletionEvents`.

        `response_format` may be a type, as for `parse`.
        """
        from aimlasync.client.event_streams import completion_events

        asked = {"model": model, "messages": messages, "response_format": response_format, **params}
        return completion_events(self.create, asked)


class Chat(RawAnswers):
    """`client.chat`: chat completions, by `completions.create`, `.parse` and `.stream`."""

    __slots__ = ("completions",)

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self.completions = Completions(pipeline, settings)


class Models(RawAnswers):
    """`client.models`: the catalogue of the client's first endpoint."""

    ELSEWHERE = ("delete",)

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        # URL -> the validator the server gave with its catalogue, and that catalogue.
        self._known: dict[str, tuple[str, ModelList]] = {}

    def list(self, *, include: str | Iterable[str] | None = None, **filters: str) -> Listing:
        """Await it for the catalogue, or `async for` over its models.

        `include` asks AI/ML API for more ("pricing", "modalities", "capabilities", "all"); other keywords (id, type,
        tags, modalities, ...) filter there. A catalogue that has not changed since is not sent again (ETag).
        """
        if include is not None:
            filters["include"] = include if isinstance(include, str) else ",".join(include)
        return Listing(self, filters)

    async def retrieve(self, model: str) -> Model:
        """Return one model, by id or alias. Raises NotFoundError when the endpoint does not have it."""
        upstream = self._lane()
        path = upstream.endpoint.provider.model_path
        if path is not None:
            return await ask(
                self._pipeline, "GET", upstream, upstream.path_url(path, id=model), receive.model, self._settings
            )
        listed = await self._fetch({})
        for candidate in listed:
            if candidate.named(model):
                candidate.__dict__["info"] = listed.info
                return candidate
        raise NotFoundError(f"{upstream.endpoint.name} has no model {model!r}", status=404, info=listed.info)

    def _lane(self) -> Upstream:
        return self._pipeline.balancer.upstreams[0]

    async def _fetch(self, filters: Mapping[str, str]) -> ModelList:
        upstream = self._lane()
        url = upstream.path_url(upstream.endpoint.provider.models_path)
        if filters:
            url = f"{url}?{query_from(filters)}"
        known = self._known.get(url)
        headers = Headers({"If-None-Match": known[0]}) if known is not None else None

        async def received(attempt: Attempt) -> ModelList:
            if attempt.response.status == 304 and known is not None:
                attempt.response.finish()
                attempt.succeed(None)
                known[1].__dict__["info"] = attempt.info
                return known[1]
            models = receive.decoded(attempt, await attempt.response.read(), decode_models)
            if not models.data:
                from aimlasync.client.failures import no_answer
                from aimlasync.wire.error_shapes import read_error

                if read_error(body := models.to_dict()).message:
                    raise no_answer(attempt, models.raw or encode(body), "a body that lists no models")
            attempt.succeed(None)
            tag = attempt.response.headers.get("etag")
            if tag is not None and fault("If-None-Match", tag) is None:
                self._known[url] = (tag, models)
            return models

        return await ask(self._pipeline, "GET", upstream, url, received, self._settings, extra_headers=headers)


async def balance(pipeline: Pipeline, settings: Settings) -> Balance:
    """Return the balance of the first endpoint that can tell. Raises NotImplementedError where none can."""
    for upstream in pipeline.balancer.upstreams:
        path = upstream.endpoint.provider.balance_path
        if path is not None:
            usd = await ask(pipeline, "GET", upstream, upstream.path_url(path), receive.balance, settings)
            return Balance(usd=usd, endpoint=upstream.endpoint.name)
    raise NotImplementedError("no endpoint of this client has a documented way to ask for its balance")


class Listing:
    """A catalogue that is asked for when it is awaited or iterated."""

    def __init__(self, models: Models, filters: Mapping[str, str]) -> None:
        self._models = models
        self._filters = filters

    def __await__(self) -> Generator[Any, None, ModelList]:
        return self._models._fetch(self._filters).__await__()

    async def __aiter__(self) -> AsyncIterator[Model]:
        for model in await self:
            yield model


def _ask_for(form: type, params: ChatParams) -> None:
    """Put the schema of a type in the place of the type."""
    from aimlasync.structured.schema import format_of

    params["response_format"] = format_of(form).chat()
    params.setdefault("structured", "auto")
