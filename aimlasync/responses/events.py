"""The streams of /v1/responses: all 53 event types, and how they become a whole Response.

Law: structs, decode and assembly; no I/O. The length of this file is the length of the vendor's list.
Source: OpenAPI specs "RESPONSES" of the AI/ML API (2026-08), `text/event-stream`: a `oneOf` on `type`. An event of
another type is kept as `Unknown`; the JSON's `type` decides, `event:` lines are not needed.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Union, cast

import msgspec

from aimlasync.chat.types import TokenLogprob
from aimlasync.responses.types import (
    FunctionCall,
    OutputItem,
    OutputMessage,
    OutputRefusal,
    OutputText,
    Part,
    Response,
    ResponseUsage,
    SummaryText,
    complete,
)
from aimlasync.wire.base import Received, Unknown, plain, repair


class Event(Received):
    """Base of the stream's events."""

    sequence_number: int | None = None

    @property
    def type(self) -> str:
        """The wire's `type`."""
        return str(self.__struct_config__.tag)


class _RunEvent(Event):
    response: Response = msgspec.field(default_factory=Response)


class ResponseCreatedEvent(_RunEvent, tag_field="type", tag="response.created"):
    """The run exists."""


class ResponseInProgressEvent(_RunEvent, tag_field="type", tag="response.in_progress"):
    """The run goes on."""


class ResponseQueuedEvent(_RunEvent, tag_field="type", tag="response.queued"):
    """The run waits."""


class ResponseCompletedEvent(_RunEvent, tag_field="type", tag="response.completed"):
    """The run ended well: terminal."""


class ResponseFailedEvent(_RunEvent, tag_field="type", tag="response.failed"):
    """The run failed: terminal."""


class ResponseIncompleteEvent(_RunEvent, tag_field="type", tag="response.incomplete"):
    """The run was cut by a cap or a filter: terminal."""


class _ItemEvent(Event):
    output_index: int = 0
    item: OutputItem = msgspec.field(default_factory=OutputMessage)


class ResponseOutputItemAddedEvent(_ItemEvent, tag_field="type", tag="response.output_item.added"):
    """An output item began."""


class ResponseOutputItemDoneEvent(_ItemEvent, tag_field="type", tag="response.output_item.done"):
    """An output item is whole."""


class _AtItem(Event):
    item_id: str = ""
    output_index: int = 0


class _AtContent(_AtItem):
    content_index: int = 0


class _PartEvent(_AtContent):
    part: Part = msgspec.field(default_factory=OutputText)


class ResponseContentPartAddedEvent(_PartEvent, tag_field="type", tag="response.content_part.added"):
    """A part of an item began."""


class ResponseContentPartDoneEvent(_PartEvent, tag_field="type", tag="response.content_part.done"):
    """A part of an item is whole."""


class ResponseTextDeltaEvent(_AtContent, tag_field="type", tag="response.output_text.delta"):
    """A piece of the answer's text."""

    delta: str = ""
    logprobs: list[TokenLogprob] | None = None


class ResponseTextDoneEvent(_AtContent, tag_field="type", tag="response.output_text.done"):
    """A text is whole."""

    text: str = ""
    logprobs: list[TokenLogprob] | None = None


class ResponseTextAnnotationAddedEvent(_AtContent, tag_field="type", tag="response.output_text.annotation.added"):
    """A citation was added to a text."""

    annotation_index: int = 0
    annotation: Any = None


class ResponseRefusalDeltaEvent(_AtContent, tag_field="type", tag="response.refusal.delta"):
    """A piece of a refusal."""

    delta: str = ""


class ResponseRefusalDoneEvent(_AtContent, tag_field="type", tag="response.refusal.done"):
    """A refusal is whole."""

    refusal: str = ""


class ResponseFunctionCallArgumentsDeltaEvent(_AtItem, tag_field="type", tag="response.function_call_arguments.delta"):
    """A piece of a function call's arguments; name and call_id came with the item's beginning."""

    delta: str = ""


class ResponseFunctionCallArgumentsDoneEvent(_AtItem, tag_field="type", tag="response.function_call_arguments.done"):
    """A function call's arguments are whole."""

    arguments: str = ""


class _AtSummary(_AtItem):
    summary_index: int = 0


class _SummaryPartEvent(_AtSummary):
    part: Part = msgspec.field(default_factory=SummaryText)


class ResponseReasoningSummaryPartAddedEvent(
    _SummaryPartEvent, tag_field="type", tag="response.reasoning_summary_part.added"
):
    """A part of a reasoning summary began."""


class ResponseReasoningSummaryPartDoneEvent(
    _SummaryPartEvent, tag_field="type", tag="response.reasoning_summary_part.done"
):
    """A part of a reasoning summary is whole."""


class ResponseReasoningSummaryTextDeltaEvent(_AtSummary, tag_field="type", tag="response.reasoning_summary_text.delta"):
    """A piece of a reasoning summary."""

    delta: str = ""


class ResponseReasoningSummaryTextDoneEvent(_AtSummary, tag_field="type", tag="response.reasoning_summary_text.done"):
    """The text of a reasoning summary is whole."""

    text: str = ""


class ResponseReasoningTextDeltaEvent(_AtContent, tag_field="type", tag="response.reasoning_text.delta"):
    """A piece of reasoning."""

    delta: str = ""


class ResponseReasoningTextDoneEvent(_AtContent, tag_field="type", tag="response.reasoning_text.done"):
    """A reasoning text is whole."""

    text: str = ""


class ResponseWebSearchCallInProgressEvent(_AtItem, tag_field="type", tag="response.web_search_call.in_progress"):
    """A web search began."""


class ResponseWebSearchCallSearchingEvent(_AtItem, tag_field="type", tag="response.web_search_call.searching"):
    """A web search is running."""


class ResponseWebSearchCallCompletedEvent(_AtItem, tag_field="type", tag="response.web_search_call.completed"):
    """A web search ended."""


class ResponseFileSearchCallInProgressEvent(_AtItem, tag_field="type", tag="response.file_search_call.in_progress"):
    """A file search began."""


class ResponseFileSearchCallSearchingEvent(_AtItem, tag_field="type", tag="response.file_search_call.searching"):
    """A file search is running."""


class ResponseFileSearchCallCompletedEvent(_AtItem, tag_field="type", tag="response.file_search_call.completed"):
    """A file search ended."""


class ResponseCodeInterpreterCallInProgressEvent(
    _AtItem, tag_field="type", tag="response.code_interpreter_call.in_progress"
):
    """A code run was asked for."""


class ResponseCodeInterpreterCallInterpretingEvent(
    _AtItem, tag_field="type", tag="response.code_interpreter_call.interpreting"
):
    """Code is running."""


class ResponseCodeInterpreterCallCompletedEvent(
    _AtItem, tag_field="type", tag="response.code_interpreter_call.completed"
):
    """A code run ended."""


class ResponseCodeInterpreterCallCodeDeltaEvent(
    _AtItem, tag_field="type", tag="response.code_interpreter_call_code.delta"
):
    """A piece of the code to run."""

    delta: str = ""


class ResponseCodeInterpreterCallCodeDoneEvent(
    _AtItem, tag_field="type", tag="response.code_interpreter_call_code.done"
):
    """The code to run is whole."""

    code: str = ""


class ResponseImageGenCallInProgressEvent(_AtItem, tag_field="type", tag="response.image_generation_call.in_progress"):
    """An image was asked for."""


class ResponseImageGenCallGeneratingEvent(_AtItem, tag_field="type", tag="response.image_generation_call.generating"):
    """An image is being made."""


class ResponseImageGenCallCompletedEvent(_AtItem, tag_field="type", tag="response.image_generation_call.completed"):
    """An image is ready."""


class ResponseImageGenCallPartialImageEvent(
    _AtItem, tag_field="type", tag="response.image_generation_call.partial_image"
):
    """A first look at an image, base64."""

    partial_image_b64: str = ""
    partial_image_index: int = 0


class ResponseMcpCallArgumentsDeltaEvent(_AtItem, tag_field="type", tag="response.mcp_call_arguments.delta"):
    """A piece of an MCP call's arguments."""

    delta: Any = ""


class ResponseMcpCallArgumentsDoneEvent(_AtItem, tag_field="type", tag="response.mcp_call_arguments.done"):
    """An MCP call's arguments are whole."""

    arguments: Any = ""


class ResponseMcpCallInProgressEvent(_AtItem, tag_field="type", tag="response.mcp_call.in_progress"):
    """An MCP call began."""


class ResponseMcpCallCompletedEvent(_AtItem, tag_field="type", tag="response.mcp_call.completed"):
    """An MCP call ended."""


class ResponseMcpCallFailedEvent(_AtItem, tag_field="type", tag="response.mcp_call.failed"):
    """An MCP call failed."""


class ResponseMcpListToolsInProgressEvent(_AtItem, tag_field="type", tag="response.mcp_list_tools.in_progress"):
    """An MCP server is asked for its tools."""


class ResponseMcpListToolsCompletedEvent(_AtItem, tag_field="type", tag="response.mcp_list_tools.completed"):
    """An MCP server named its tools."""


class ResponseMcpListToolsFailedEvent(_AtItem, tag_field="type", tag="response.mcp_list_tools.failed"):
    """An MCP server did not name its tools."""


class ResponseCustomToolCallInputDeltaEvent(_AtItem, tag_field="type", tag="response.custom_tool_call_input.delta"):
    """A piece of a custom tool's input."""

    delta: str = ""


class ResponseCustomToolCallInputDoneEvent(_AtItem, tag_field="type", tag="response.custom_tool_call_input.done"):
    """A custom tool's input is whole."""

    input: str = ""


class ResponseAudioDeltaEvent(Event, tag_field="type", tag="response.audio.delta"):
    """A piece of audio, base64."""

    delta: str = ""


class ResponseAudioDoneEvent(Event, tag_field="type", tag="response.audio.done"):
    """The audio is whole."""


class ResponseAudioTranscriptDeltaEvent(Event, tag_field="type", tag="response.audio.transcript.delta"):
    """A piece of the audio's transcript."""

    delta: str = ""


class ResponseAudioTranscriptDoneEvent(Event, tag_field="type", tag="response.audio.transcript.done"):
    """The transcript is whole."""


class ResponseErrorEvent(Event, tag_field="type", tag="error"):
    """An error inside the stream; flat by the spec, but real streams nest it under `error` too."""

    code: str | None = None
    message: str | None = None
    param: str | None = None
    error: Any = None


_KnownEvent = Union[
    ResponseCreatedEvent,
    ResponseInProgressEvent,
    ResponseQueuedEvent,
    ResponseCompletedEvent,
    ResponseFailedEvent,
    ResponseIncompleteEvent,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseContentPartAddedEvent,
    ResponseContentPartDoneEvent,
    ResponseTextDeltaEvent,
    ResponseTextDoneEvent,
    ResponseTextAnnotationAddedEvent,
    ResponseRefusalDeltaEvent,
    ResponseRefusalDoneEvent,
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseFunctionCallArgumentsDoneEvent,
    ResponseReasoningSummaryPartAddedEvent,
    ResponseReasoningSummaryPartDoneEvent,
    ResponseReasoningSummaryTextDeltaEvent,
    ResponseReasoningSummaryTextDoneEvent,
    ResponseReasoningTextDeltaEvent,
    ResponseReasoningTextDoneEvent,
    ResponseWebSearchCallInProgressEvent,
    ResponseWebSearchCallSearchingEvent,
    ResponseWebSearchCallCompletedEvent,
    ResponseFileSearchCallInProgressEvent,
    ResponseFileSearchCallSearchingEvent,
    ResponseFileSearchCallCompletedEvent,
    ResponseCodeInterpreterCallInProgressEvent,
    ResponseCodeInterpreterCallInterpretingEvent,
    ResponseCodeInterpreterCallCompletedEvent,
    ResponseCodeInterpreterCallCodeDeltaEvent,
    ResponseCodeInterpreterCallCodeDoneEvent,
    ResponseImageGenCallInProgressEvent,
    ResponseImageGenCallGeneratingEvent,
    ResponseImageGenCallCompletedEvent,
    ResponseImageGenCallPartialImageEvent,
    ResponseMcpCallArgumentsDeltaEvent,
    ResponseMcpCallArgumentsDoneEvent,
    ResponseMcpCallInProgressEvent,
    ResponseMcpCallCompletedEvent,
    ResponseMcpCallFailedEvent,
    ResponseMcpListToolsInProgressEvent,
    ResponseMcpListToolsCompletedEvent,
    ResponseMcpListToolsFailedEvent,
    ResponseCustomToolCallInputDeltaEvent,
    ResponseCustomToolCallInputDoneEvent,
    ResponseAudioDeltaEvent,
    ResponseAudioDoneEvent,
    ResponseAudioTranscriptDeltaEvent,
    ResponseAudioTranscriptDoneEvent,
    ResponseErrorEvent,
]
if TYPE_CHECKING:
    ResponseStreamEvent = Union[_KnownEvent, Unknown]
else:
    ResponseStreamEvent = _KnownEvent

TERMINAL = (ResponseCompletedEvent, ResponseFailedEvent, ResponseIncompleteEvent)
"""The events that end a run; `ResponseErrorEvent` ends it too."""

_event: msgspec.json.Decoder[_KnownEvent] = msgspec.json.Decoder(_KnownEvent)


def decode_event(raw: bytes) -> ResponseStreamEvent:
    """Decode one event's data; what has no known `type` becomes `Unknown`.

    Raises msgspec.DecodeError for bytes that are no JSON, msgspec.ValidationError for JSON that is no object.
    """
    event: ResponseStreamEvent
    try:
        event = _event.decode(raw)
    except (ValueError, RecursionError):
        if raw.startswith(BOM_UTF8):
            return decode_event(raw[len(BOM_UTF8) :])
        value = plain(raw)
        if not isinstance(value, dict):
            raise msgspec.ValidationError(f"expected an object, got {type(value).__name__}") from None
        event = cast(ResponseStreamEvent, repair(value, _KnownEvent))
        if isinstance(event, Unknown):
            # Not the re-encoded value: the bytes as they came.
            event.raw = raw
            return event
    if isinstance(event, _RunEvent):
        complete(event.response, finished=isinstance(event, TERMINAL))
    event.__dict__["raw"] = raw
    return event


class Assembler:
    """Events in, one Response out; the same for a stream that ended well and for one that was cut."""

    __slots__ = ("_args", "_items", "_refusals", "_response", "_texts")

    def __init__(self) -> None:
        # The latest full Response the server sent; the terminal event's is the answer.
        self._response: Response | None = None
        self._items: dict[int, OutputItem] = {}
        # Pieces by (output_index, content_index), and of function calls by output_index.
        self._texts: dict[tuple[int, int], list[str]] = {}
        self._refusals: dict[tuple[int, int], list[str]] = {}
        self._args: dict[int, list[str]] = {}

    def add(self, event: ResponseStreamEvent) -> None:
        """Take one event in."""
        handler = _TAKE.get(type(event))
        if handler is not None:
            handler(self, event)

    def _take_run(self, event: Any) -> None:
        self._response = event.response

    def _take_item(self, event: Any) -> None:
        self._items[event.output_index] = event.item

    def _take_text(self, event: Any) -> None:
        key = (event.output_index, event.content_index)
        pieces = self._texts.get(key)
        if pieces is None:
            pieces = self._texts[key] = []
        pieces.append(event.delta)

    def _take_text_done(self, event: Any) -> None:
        self._texts[event.output_index, event.content_index] = [event.text]

    def _take_refusal(self, event: Any) -> None:
        self._refusals.setdefault((event.output_index, event.content_index), []).append(event.delta)

    def _take_refusal_done(self, event: Any) -> None:
        self._refusals[event.output_index, event.content_index] = [event.refusal]

    def _take_args(self, event: Any) -> None:
        self._args.setdefault(event.output_index, []).append(event.delta)

    def _take_args_done(self, event: Any) -> None:
        self._args[event.output_index] = [event.arguments]

    @property
    def usage(self) -> ResponseUsage | None:
        """The tokens, as far as the server has told."""
        return None if self._response is None else self._response.usage

    @property
    def finished(self) -> bool:
        """Whether a clean end of the connection now would be the end of the answer: never without a terminal event."""
        return False

    def whole(self) -> Response:
        """Return what has been taken in so far as one answer."""
        response = self._response
        if response is None:
            response = Response()
        if not response.output and (self._items or self._texts or self._refusals or self._args):
            # A server that ends with an empty `output`, or a stream that was cut: what was streamed is the answer.
            # Copies: the events are their readers'.
            response = msgspec.structs.replace(response, output=self._output(), output_text="")
            complete(response, finished=False)
        return response

    def _output(self) -> list[OutputItem]:
        output: list[OutputItem] = []
        for index in sorted(self._items.keys() | {i for i, _ in self._texts | self._refusals} | self._args.keys()):
            item = self._items.get(index)
            if item is None:
                item = FunctionCall() if index in self._args else OutputMessage()
            if isinstance(item, OutputMessage):
                content = list(item.content)
                for at in sorted(key for key in self._texts | self._refusals if key[0] == index):
                    part: Part
                    if at in self._texts:
                        part = OutputText(text="".join(self._texts[at]))
                    else:
                        part = OutputRefusal(refusal="".join(self._refusals[at]))
                    if at[1] >= len(content):
                        content.append(part)
                    elif content[at[1]] in (OutputText(), OutputRefusal()):
                        content[at[1]] = part
                item = msgspec.structs.replace(item, content=content)
            elif isinstance(item, FunctionCall) and not item.arguments:
                item = msgspec.structs.replace(item, arguments="".join(self._args.get(index, ())))
            output.append(item)
        return output


_TAKE: dict[type, Callable[[Assembler, Any], None]] = {
    ResponseCreatedEvent: Assembler._take_run,
    ResponseQueuedEvent: Assembler._take_run,
    ResponseInProgressEvent: Assembler._take_run,
    ResponseCompletedEvent: Assembler._take_run,
    ResponseFailedEvent: Assembler._take_run,
    ResponseIncompleteEvent: Assembler._take_run,
    ResponseOutputItemAddedEvent: Assembler._take_item,
    ResponseOutputItemDoneEvent: Assembler._take_item,
    ResponseTextDeltaEvent: Assembler._take_text,
    ResponseTextDoneEvent: Assembler._take_text_done,
    ResponseRefusalDeltaEvent: Assembler._take_refusal,
    ResponseRefusalDoneEvent: Assembler._take_refusal_done,
    ResponseFunctionCallArgumentsDeltaEvent: Assembler._take_args,
    ResponseFunctionCallArgumentsDoneEvent: Assembler._take_args_done,
}


def events_of(response: Response) -> list[ResponseStreamEvent]:
    """Return a whole answer as the events of a stream, for servers that ignore `stream`."""
    events: list[ResponseStreamEvent] = []
    if response.output_text:
        events.append(ResponseTextDeltaEvent(delta=response.output_text))
    ended: ResponseStreamEvent
    if response.status == "failed":
        ended = ResponseFailedEvent(response=response)
    elif response.status == "incomplete":
        ended = ResponseIncompleteEvent(response=response)
    else:
        ended = ResponseCompletedEvent(response=response)
    return [*events, ended]
