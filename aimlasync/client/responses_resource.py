"""`client.responses`: new responses, and (`stored_responses`) those that exist already.

It may import `pipeline`, `receive_response`, `arguments` and what lies below. It is loaded with the first use of
`client.responses`, since the structs of responses take as long to load as the rest of the pipeline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import msgspec

from aimlasync.client import receive_response
from aimlasync.client.arguments import asked_until_read, body_of
from aimlasync.client.openai_names import RawAnswers
from aimlasync.client.stored_responses import StoredResponses
from aimlasync.config import check_headers
from aimlasync.responses import types as responses
from aimlasync.responses.types import Response, ResponseParams
from aimlasync.wire.as_sent import sendable
from aimlasync.wire.base import Unknown
from aimlasync.wire.json_text import Dumpable

if TYPE_CHECKING:
    from aimlasync.client.event_streams import ResponseEvents
    from aimlasync.client.response_stream import ResponseStream
    from aimlasync.client.stream import Opened
    from aimlasync.responses.parsed import ParsedResponse

T = TypeVar("T")

Input = str | Iterable[Mapping[str, Any] | msgspec.Struct | Unknown | Dumpable]


class Responses(StoredResponses, RawAnswers):
    """`client.responses`: new responses; those that exist already are the business of `StoredResponses`."""

    ELSEWHERE = ("connect", "input_tokens")

    receive = staticmethod(receive_response.response)
    """What makes a whole response of an attempt."""

    @overload
    async def create(
        self,
        *,
        model: str | None = None,
        input: Input | None = None,
        stream: Literal[False] | None = False,
        **params: Unpack[ResponseParams],
    ) -> Response: ...
    @overload
    async def create(
        self,
        *,
        model: str | None = None,
        input: Input | None = None,
        stream: Literal[True],
        **params: Unpack[ResponseParams],
    ) -> ResponseStream: ...
    @overload
    async def create(
        self,
        *,
        model: str | None = None,
        input: Input | None = None,
        stream: bool,
        **params: Unpack[ResponseParams],
    ) -> Response | ResponseStream: ...

    async def create(
        self,
        *,
        model: str | None = None,
        input: Input | None = None,
        stream: bool | None = False,
        **params: Unpack[ResponseParams],
    ) -> Response | ResponseStream:
        """Ask for one response, whole or (`stream=True`) as events.

        `input` is a text, or a list of items: dicts, the structs of `aimlasync.responses`, items of an earlier
        `output`. `prompt=` names a stored prompt, which may bring both `model` and `input`. Raises the errors of
        `aimlasync.errors`; UnsupportedRequestError before anything is sent.
        """
        if model is None and not params.get("prompt"):
            raise TypeError("model= is missing")
        required = {"model": model, "input": None if input is None else sendable(input)}
        required = {name: value for name, value in required.items() if value is not None}
        body, options = body_of(required, params, responses.PARAMETERS, stream)
        receive_as = receive_response.response_stream if body.get("stream") else receive_response.response
        call: Coroutine[Any, Any, Response | ResponseStream]
        call = self._pipeline.call("responses", body, receive_as, options, self._settings)
        # This frame would keep them until there is an answer.
        del input, params, required, body, options
        return await call

    @overload
    async def parse(
        self,
        *,
        model: str | None = None,
        input: Input | None = None,
        text_format: type[T],
        **params: Unpack[ResponseParams],
    ) -> ParsedResponse[T]: ...
    @overload
    async def parse(
        self,
        *,
        model: str | None = None,
        input: Input | None = None,
        text_format: Any = None,
        **params: Unpack[ResponseParams],
    ) -> ParsedResponse[Any]: ...

    async def parse(
        self,
        *,
        model: str | None = None,
        input: Input | None = None,
        text_format: Any = None,
        **params: Unpack[ResponseParams],
    ) -> Response:
        """Ask for an answer of the type `text_format` (a msgspec Struct, dataclass, Enum, Literal, ...): see `.parsed`.

        The texts in `.output` have `.parsed` too, and calls of strict tools `.parsed_arguments`; with such tools the
        type may be left out. With `background=True` `.parsed` may be None: the response is returned as it is. Raises
        like `chat.completions.parse`.
        """
        check_headers(params)
        from aimlasync.structured.parse import parse_response
        from aimlasync.structured.text_format import asked_for

        given: Any = params
        form, readers = asked_for(text_format, given)

        def ask() -> Awaitable[Response]:
            return self.create(model=model, input=input, **params)

        return await asked_until_read(ask, lambda reply: parse_response(reply, form, readers), params)

    def stream(
        self,
        *,
        model: str | None = None,
        input: Input | None = None,
        text_format: Any = None,
        response_id: str | None = None,
        starting_after: int | None = None,
        **params: Unpack[ResponseParams],
    ) -> Opened[ResponseEvents]:
        """Ask for a streamed response, inside of `async with`: its events, with what AsyncOpenAI's helper adds.

        `text_format` may be a type, as for `parse`; see `ResponseEvents`. `response_id` is that of a response in the
        background, whose events begin behind the number `starting_after`.
        """
        from aimlasync.client.event_streams import response_events

        if response_id is None:
            return response_events(self.create, text_format, {"model": model, "input": input, **params})
        given = {name: params.get(name) for name in ("include", "extra_headers", "timeout")}
        again = partial(self.retrieve, response_id, stream=True, starting_after=starting_after, **given)
        return response_events(lambda **_: again(), text_format, {**params})

    async def compact(self, *, model: str, input: Input | None = None, **params: Unpack[ResponseParams]) -> Response:
        """Let the server shorten a conversation: `.output` is the `input` of the next call in its place.

        `input` or `previous_response_id` says which conversation. OpenAI documents it; other servers answer with
        NotFoundError. Raises like `create`.
        """
        required = {"model": model} if input is None else {"model": model, "input": sendable(input)}
        body, options = body_of(required, params, responses.PARAMETERS, False)
        path = "responses/compact"
        return await self._pipeline.call(
            "responses", body, receive_response.response, options, self._settings, path=path
        )
