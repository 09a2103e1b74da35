"""The methods that users call: `client.chat.completions`, `client.responses`, `client.models`.

It may import `pipeline`, `receive` and what lies below. It turns keyword arguments into a body; the pipeline does the
rest. The names are those that users of AsyncOpenAI know. A parameter given as None, or as its NOT_GIVEN or `omit`, is
not sent; one that is not known goes through `extra_body`, which also sends an explicit null.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import msgspec

from aimlasync.chat import types as chat
from aimlasync.chat.types import ChatCompletion, ChatOptions, ChatParams
from aimlasync.client import receive
from aimlasync.client.call import Attempt, Settings
from aimlasync.client.openai_names import RawAnswers
from aimlasync.client.pipeline import Pipeline
from aimlasync.client.plain_calls import ask
from aimlasync.client.stored_responses import StoredResponses
from aimlasync.config import CALL_OPTIONS, CallOptions, check_headers, close_to, is_given
from aimlasync.endpoints.paths import query_from
from aimlasync.errors import NotFoundError
from aimlasync.headers import Headers, fault
from aimlasync.responses import types as responses
from aimlasync.responses.types import Response, ResponseParams
from aimlasync.wire.as_sent import sendable
from aimlasync.wire.base import Reply, Unknown
from aimlasync.wire.models import Balance, Model, ModelList, decode_models

if TYPE_CHECKING:
    from aimlasync.chat.parsed import ParsedChatCompletion
    from aimlasync.client.chat_stream import ChatStream
    from aimlasync.client.event_streams import CompletionEvents, Opened, ResponseEvents
    from aimlasync.client.response_stream import ResponseStream
    from aimlasync.endpoints.upstream import Upstream
    from aimlasync.responses.parsed import ParsedResponse

T = TypeVar("T")
R = TypeVar("R", bound=Reply)

Messages = Iterable[Mapping[str, Any] | msgspec.Struct]
Input = str | Iterable[Mapping[str, Any] | msgspec.Struct | Unknown]


class Completions(RawAnswers):
    """`client.chat.completions`."""

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
        if isinstance(form := params.get("response_format"), type):
            if not stream:
                given: Any = params
                return await self.parse(model=model, messages=messages, **given)
            _ask_for(form, params)
        body, options = _body({"model": model, "messages": _listed(messages)}, params, chat.PARAMETERS, stream)
        receive_as = receive.chat_stream if body.get("stream") else receive.completion
        return await self._pipeline.call("chat", body, receive_as, options, self._settings)

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
        response_format: Any,
        **params: Unpack[ChatOptions],
    ) -> ParsedChatCompletion[Any]: ...

    async def parse(
        self,
        *,
        model: str,
        messages: Messages,
        response_format: Any,
        **params: Unpack[ChatOptions],
    ) -> ChatCompletion:
        """Ask for an answer of the type `response_format` (a msgspec Struct, dataclass, Enum, Literal, ...): see
        `.parsed`.

        It is asked for in the surest way that the model has, or in that which `structured=` names; `.info.structured`
        says which. Raises AnswerRefusedError, AnswerTruncatedError or AnswerInvalidError, each with the reply;
        TypeError, naming the field, for a type that strict JSON schema cannot express.
        """
        check_headers(params)
        from aimlasync.structured.parse import parse_completion
        from aimlasync.structured.schema import format_of

        form = format_of(response_format)
        params.setdefault("structured", "auto")
        reply = await self.create(
            model=model,
            messages=messages,
            response_format=form.chat(),
            **params,
        )
        return parse_completion(reply, form)

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
    """`client.chat`."""

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self.completions = Completions(pipeline, settings)


class Responses(StoredResponses, RawAnswers):
    """`client.responses`: new responses; those that exist already are the business of `StoredResponses`."""

    @overload
    async def create(
        self,
        *,
        model: str,
        input: Input,
        stream: Literal[False] | None = False,
        **params: Unpack[ResponseParams],
    ) -> Response: ...
    @overload
    async def create(
        self,
        *,
        model: str,
        input: Input,
        stream: Literal[True],
        **params: Unpack[ResponseParams],
    ) -> ResponseStream: ...
    @overload
    async def create(
        self,
        *,
        model: str,
        input: Input,
        stream: bool,
        **params: Unpack[ResponseParams],
    ) -> Response | ResponseStream: ...

    async def create(
        self,
        *,
        model: str,
        input: Input,
        stream: bool | None = False,
        **params: Unpack[ResponseParams],
    ) -> Response | ResponseStream:
        """Ask for one response, whole or (`stream=True`) as events.

        `input` is a text, or a list of items: dicts, the structs of `aimlasync.responses`, items of an earlier
        `output`. Raises the errors of `aimlasync.errors`; UnsupportedRequestError before anything is sent.
        """
        body, options = _body({"model": model, "input": _listed(input)}, params, responses.PARAMETERS, stream)
        receive_as = receive.response_stream if body.get("stream") else receive.response
        return await self._pipeline.call("responses", body, receive_as, options, self._settings)

    @overload
    async def parse(
        self,
        *,
        model: str,
        input: Input,
        text_format: type[T],
        **params: Unpack[ResponseParams],
    ) -> ParsedResponse[T]: ...
    @overload
    async def parse(
        self,
        *,
        model: str,
        input: Input,
        text_format: Any,
        **params: Unpack[ResponseParams],
    ) -> ParsedResponse[Any]: ...

    async def parse(
        self,
        *,
        model: str,
        input: Input,
        text_format: Any,
        **params: Unpack[ResponseParams],
    ) -> Response:
        """Ask for an answer of the type `text_format` (a msgspec Struct, dataclass, Enum, Literal, ...): see `.parsed`.

        With `background=True` it may be None: the response is returned as it is. Raises like `chat.completions.parse`.
        """
        check_headers(params)
        from aimlasync.structured.parse import parse_response
        from aimlasync.structured.schema import format_of

        form = format_of(text_format)
        params.setdefault("structured", "auto")
        params["text"] = {**(params.get("text") or {}), "format": form.responses()}
        reply = await self.create(
            model=model,
            input=input,
            **params,
        )
        return parse_response(reply, form)

    def stream(
        self, *, model: str, input: Input, text_format: Any = None, **params: Unpack[ResponseParams]
    ) -> Opened[ResponseEvents]:
        """Ask for a streamed response, inside of `async with`: its events, with what AsyncOpenAI's helper adds.

        `text_format` may be a type, as for `parse`; see `ResponseEvents`.
        """
        from aimlasync.client.event_streams import response_events

        return response_events(self.create, text_format, {"model": model, "input": input, **params})

    async def compact(self, *, model: str, input: Input | None = None, **params: Unpack[ResponseParams]) -> Response:
        """Let the server shorten a conversation: `.output` is the `input` of the next call in its place.

        `input` or `previous_response_id` says which conversation. OpenAI documents it; other servers answer with
        NotFoundError. Raises like `create`.
        """
        required = {"model": model} if input is None else {"model": model, "input": _listed(input)}
        body, options = _body(required, params, responses.PARAMETERS, False)
        path = "responses/compact"
        return await self._pipeline.call("responses", body, receive.response, options, self._settings, path=path)


class Models(RawAnswers):
    """`client.models`: the catalogue of the client's first endpoint."""

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


# From keyword arguments to a body


def _listed(items: Any) -> Any:
    """Return items that can be encoded for any endpoint: a generator is read once, and replies are as they came."""
    if isinstance(items, str):
        return items
    return sendable(items if isinstance(items, (list, tuple)) else list(items))


def _ask_for(form: type, params: ChatParams) -> None:
    """Put the schema of a type in the place of the type."""
    from aimlasync.structured.schema import format_of

    params["response_format"] = format_of(form).chat()
    params.setdefault("structured", "auto")


def _body(
    required: dict[str, Any], params: Mapping[str, Any], known: frozenset[str], stream: bool | None
) -> tuple[dict[str, Any], CallOptions]:
    """Split keyword arguments into what is sent and how. Raises ValueError for a header that cannot be sent."""
    check_headers(params)
    options: dict[str, Any] = {}
    for name, value in params.items():
        # What is true is given.
        if not value and value is not None and not is_given(value):
            continue
        if name in known:
            if value is not None:
                required[name] = value
        elif name in CALL_OPTIONS:
            options[name] = value
        else:
            hint = close_to(name, (*known, *CALL_OPTIONS, *required, "stream"))
            raise TypeError(
                f"unknown parameter {name!r}{hint or ';'} to send it anyway, use extra_body={{{name!r}: ...}}"
            )
    if stream:
        required["stream"] = True
    extra = options.get("extra_body")
    if extra:
        required.update(extra)
    return required, options  # type: ignore[return-value]  # its names are CALL_OPTIONS, and cast() is a call
