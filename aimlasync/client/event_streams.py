"""`chat.completions.stream(...)` and `responses.stream(...)`: the events of AsyncOpenAI's helpers, over our streams.

What arrives is read, judged and ended by the `Stream`; here its pieces become the events that they mean. It may import
`stream`, `structured`, and the structs of `chat` and `responses`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any, Generic, Self, TypeVar

from aimlasync.chat.call_pieces import Call, Calls
from aimlasync.chat.chunks import ChunkChoice
from aimlasync.chat.types import ChatCompletion
from aimlasync.client.stream import Opened, Stream
from aimlasync.http_response import HttpResponse
from aimlasync.responses.types import Response
from aimlasync.structured.parse import parse_completion, parse_response, value_or_none
from aimlasync.structured.schema import Format, format_of
from aimlasync.structured.text_format import asked_for
from aimlasync.structured.tool_arguments import Read, readers_of
from aimlasync.wire.as_sent import dump
from aimlasync.wire.base import Object, Reply
from aimlasync.wire.begun_json import read_begun
from aimlasync.wire.pydantic_names import PydanticNames

W = TypeVar("W", bound=Reply)


class Events(Generic[W]):
    """A streamed answer as events; iterate it inside of `async with`."""

    def __init__(self, stream: Stream[Any, W], form: Format[Any] | None) -> None:
        self._stream = stream
        self._form = form
        self._final: W | None = None
        self._events = self._iterate()

    @property
    def response(self) -> HttpResponse:
        """Status and headers of the response."""
        return self._stream.response

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self._events.__anext__()

    async def until_done(self) -> Self:
        """Read to the end. Raises like the iteration."""
        async for _ in self:
            pass
        return self

    async def _whole(self) -> W:
        await self.until_done()
        if self._final is None:
            self._final = await self._stream.collect()
        return self._final

    async def close(self) -> None:
        """Stop reading; harmless after the end."""
        await self._stream.close()
        await self._events.aclose()

    def _iterate(self) -> AsyncGenerator[Any]:
        raise NotImplementedError


class CompletionEvents(Events[ChatCompletion]):
    """A streamed chat completion as events; each has a `type`, and these attributes.

    chunk: chunk, snapshot. content.delta: delta, snapshot, parsed (what can be read of JSON so far). content.done:
    content, parsed. refusal.delta: delta, snapshot. refusal.done: refusal. tool_calls.function.arguments.delta: name,
    index, arguments, arguments_delta, parsed_arguments; the first one of a call may have no arguments yet. The index
    counts the calls as they begin, also where the server's own is missing or that of another call.
    tool_calls.function.arguments.done: the same but the delta.
    logprobs.content.delta and logprobs.refusal.delta: content or refusal, snapshot; .done without snapshot.
    The iteration raises what a stream's does and, where a type was asked for or a tool is strict, what `parse` raises.
    """

    def __init__(self, stream: Stream[Any, ChatCompletion], form: Format[Any] | None, tools: Iterable[Any]) -> None:
        super().__init__(stream, form)
        self._tools = readers_of(tools)
        self._choices: dict[int, _Choice] = {}

    @property
    def current_completion_snapshot(self) -> ChatCompletion:
        """What has arrived so far, as a completion."""
        return self._stream.so_far()

    async def get_final_completion(self) -> ChatCompletion:
        """Read to the end and return the completion, with `.parsed` where a type was asked for."""
        return await self._whole()

    async def _iterate(self) -> AsyncGenerator[Any]:
        async for chunk in self._stream:
            yield _Chunk(chunk, self._stream)
            for choice in chunk.choices:
                if choice.index not in self._choices:
                    self._choices[choice.index] = _Choice(self._form is not None, self._tools)
                for event in self._choices[choice.index].take(choice):
                    yield event
        reply = await self._stream.collect()
        if self._form is not None or self._tools:
            parse_completion(reply, self._form, self._tools)
        self._final = reply
        for choice in reply.choices:
            if choice.message.content:
                yield _event("content.done", content=choice.message.content, parsed=choice.message.parsed)
            if choice.index in self._choices:
                for event in self._choices[choice.index].end():
                    yield event


class _Event(Object):
    """An event of what has arrived; structs of a reply in it come out of a dump as they were sent."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        return {name: dump(value) for name, value in self.items()}


class _Chunk(PydanticNames):
    """The event of a chunk; the snapshot is made when it is read."""

    type = "chunk"

    def __init__(self, chunk: Any, stream: Stream[Any, Any]) -> None:
        self.chunk = chunk
        self._stream = stream

    @property
    def snapshot(self) -> Any:
        return self._stream.so_far()

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy has no stream: its snapshot is that of now.
        return _Event, ({"type": self.type, "chunk": self.chunk, "snapshot": self.snapshot},)

    def to_dict(self) -> dict[str, Any]:
        return {"type": self.type, "chunk": self.chunk.to_dict(), "snapshot": self.snapshot.to_dict()}


class _Choice:
    """What has arrived of one choice."""

    def __init__(self, is_typed: bool, tools: Mapping[str, Read]) -> None:
        self._is_typed = is_typed
        self._tools = tools
        self._texts = {"content": "", "refusal": ""}
        self._logprobs: dict[str, list[Any]] = {"content": [], "refusal": []}
        self._calls = Calls()
        # The last of each function that is called.
        self._called: dict[int, Call] = {}

    def take(self, choice: ChunkChoice) -> list[Any]:
        """Return the events of a chunk."""
        events = []
        for part in ("content", "refusal"):
            if piece := getattr(choice.delta, part):
                self._texts[part] += piece
                event = _event(f"{part}.delta", delta=piece, snapshot=self._texts[part])
                if part == "content":
                    event["parsed"] = read_begun(self._texts[part]) if self._is_typed else None
                events.append(event)
            if choice.logprobs is not None and (tokens := getattr(choice.logprobs, part)):
                self._logprobs[part] += tokens
                more = {part: tokens, "snapshot": list(self._logprobs[part])}
                events.append(_event(f"logprobs.{part}.delta", **more))
        pieces = choice.delta.tool_calls or []
        for piece, (index, call) in zip(pieces, self._calls.placed(pieces), strict=True):
            if piece.function is not None:
                self._called[index] = call
                said = _said_of(index, call, read_begun if call.name in self._tools else None)
                delta = piece.function.arguments or ""
                events.append(_event("tool_calls.function.arguments.delta", **said, arguments_delta=delta))
        return events

    def end(self) -> list[Any]:
        """Return the events of parts that are whole now, but for the content."""
        events = []
        if self._texts["refusal"]:
            events.append(_event("refusal.done", refusal=self._texts["refusal"]))
        for index, call in self._called.items():
            said = _said_of(index, call, self._tools.get(call.name))
            events.append(_event("tool_calls.function.arguments.done", **said))
        for part, tokens in self._logprobs.items():
            if tokens:
                events.append(_event(f"logprobs.{part}.done", **{part: tokens}))
        return events


class ResponseEvents(Events[Response]):
    """A streamed response as the server's events.

    `response.output_text.delta` and `response.function_call_arguments.delta` also have a `snapshot`: the text so far.
    Where a type was asked for, `response.output_text.done` has `parsed`, None for a text that is no value of the type.
    The iteration raises what a stream's does; `get_final_response` also what `parse` raises.
    """

    def __init__(self, stream: Stream[Any, Response], form: Format[Any] | None, tools: Mapping[str, Read]) -> None:
        super().__init__(stream, form)
        self._tools = tools

    async def get_final_response(self) -> Response:
        """Read to the end and return the response, with `.parsed` where a type was asked for."""
        reply = await self._whole()
        return parse_response(reply, self._form, self._tools) if self._form is not None or self._tools else reply

    async def _iterate(self) -> AsyncGenerator[Any]:
        texts: dict[tuple[Any, ...], str] = {}
        async for event in self._stream:
            if event.type in ("response.output_text.delta", "response.function_call_arguments.delta"):
                place = (event.type, event.output_index, getattr(event, "content_index", None))
                event.snapshot = texts[place] = texts.get(place, "") + event.delta
            elif event.type == "response.output_item.added":
                # Some servers give all items one index.
                texts = {place: text for place, text in texts.items() if place[1] != event.output_index}
            elif event.type == "response.output_text.done" and self._form is not None:
                event.parsed = value_or_none(event.text, self._form)
            yield event


def _said_of(index: int, call: Call, read: Read | None) -> dict[str, Any]:
    arguments = call.all_arguments()
    parsed = None if read is None else read(arguments)
    return {"name": call.name, "index": index, "arguments": arguments, "parsed_arguments": parsed}


def _event(kind: str, **fields: Any) -> Object:
    return _Event(type=kind, **fields)


def completion_events(create: Callable[..., Any], params: dict[str, Any]) -> Opened[CompletionEvents]:
    """Return the events of `create(stream=True, **params)`."""
    params = {**params, "tools": tools} if (tools := list(params.get("tools") or ())) else params
    wanted = params.get("response_format")
    form = format_of(wanted) if wanted and not isinstance(wanted, Mapping) else None
    return Opened(lambda: create(stream=True, **params), lambda stream: CompletionEvents(stream, form, tools))


def response_events(create: Callable[..., Any], wanted: Any, params: dict[str, Any]) -> Opened[ResponseEvents]:
    """Return the events of `create(stream=True, **params)` with a `text_format`, if that is one."""
    form, readers = asked_for(wanted, params)
    return Opened(lambda: create(stream=True, **params), lambda stream: ResponseEvents(stream, form, readers))
