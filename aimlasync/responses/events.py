"""The events of a /v1/responses stream: structs of all 53 types, and their decoder.

The `type` in the JSON decides, and `event:` lines are not needed. An event of an unknown type is kept as `Unknown`. The
file is as long as the vendor's list of events. It has no I/O. It may import `responses.types` and `responses.items`,
`chat.types` and `wire.base`; `responses.assembler` joins events into a reply.
Source: the OpenAPI specs "RESPONSES" of the AI/ML API (2026-08), `text/event-stream`: a `oneOf` on `type`.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Union, cast, get_args

import msgspec

from aimlasync.chat.types import TokenLogprob
from aimlasync.plain_stores import plainly_stored
from aimlasync.responses.items import OutputItem, OutputMessage, OutputText, Part, SummaryText
from aimlasync.responses.types import Response, complete
from aimlasync.wire.base import Json, Received, Unknown, read
from aimlasync.wire.objects import json_hook
from aimlasync.wire.reading import tagged


class Event(Received, tag_field="type"):
    """Base of the stream's events."""

    sequence_number: int | None = None


class _RunEvent(Event):
    response: Response = msgspec.field(default_factory=Response)


class ResponseCreatedEvent(_RunEvent, tag="response.created"):
    """The run exists."""

    type: ClassVar[Literal["response.created"]]


class ResponseInProgressEvent(_RunEvent, tag="response.in_progress"):
    """The run goes on."""

    type: ClassVar[Literal["response.in_progress"]]


class ResponseQueuedEvent(_RunEvent, tag="response.queued"):
    """The run waits."""

    type: ClassVar[Literal["response.queued"]]


class ResponseCompletedEvent(_RunEvent, tag="response.completed"):
    """The run ended well: terminal."""

    type: ClassVar[Literal["response.completed"]]


class ResponseFailedEvent(_RunEvent, tag="response.failed"):
    """The run failed: terminal."""

    type: ClassVar[Literal["response.failed"]]


class ResponseIncompleteEvent(_RunEvent, tag="response.incomplete"):
    """The run was cut by a cap or a filter: terminal."""

    type: ClassVar[Literal["response.incomplete"]]


class _ItemEvent(Event):
    output_index: int = 0
    item: OutputItem = msgspec.field(default_factory=OutputMessage)


class ResponseOutputItemAddedEvent(_ItemEvent, tag="response.output_item.added"):
    """An output item began."""

    type: ClassVar[Literal["response.output_item.added"]]


class ResponseOutputItemDoneEvent(_ItemEvent, tag="response.output_item.done"):
    """An output item is whole."""

    type: ClassVar[Literal["response.output_item.done"]]


class _AtItem(Event):
    item_id: str = ""
    output_index: int = 0


class _AtContent(_AtItem):
    content_index: int = 0


class _PartEvent(_AtContent):
    part: Part = msgspec.field(default_factory=OutputText)


class ResponseContentPartAddedEvent(_PartEvent, tag="response.content_part.added"):
    """A part of an item began."""

    type: ClassVar[Literal["response.content_part.added"]]


class ResponseContentPartDoneEvent(_PartEvent, tag="response.content_part.done"):
    """A part of an item is whole."""

    type: ClassVar[Literal["response.content_part.done"]]


@plainly_stored
class ResponseTextDeltaEvent(_AtContent, tag="response.output_text.delta"):
    """A piece of the answer's text."""

    type: ClassVar[Literal["response.output_text.delta"]]
    delta: str = ""
    obfuscation: str | None = None
    logprobs: list[TokenLogprob] | None = None


class ResponseTextDoneEvent(_AtContent, tag="response.output_text.done"):
    """A text is whole."""

    type: ClassVar[Literal["response.output_text.done"]]
    text: str = ""
    logprobs: list[TokenLogprob] | None = None


class ResponseTextAnnotationAddedEvent(_AtContent, tag="response.output_text.annotation.added"):
    """A citation was added to a text."""

    type: ClassVar[Literal["response.output_text.annotation.added"]]
    annotation_index: int = 0
    annotation: Json = None


class ResponseRefusalDeltaEvent(_AtContent, tag="response.refusal.delta"):
    """A piece of a refusal."""

    type: ClassVar[Literal["response.refusal.delta"]]
    delta: str = ""
    obfuscation: str | None = None


class ResponseRefusalDoneEvent(_AtContent, tag="response.refusal.done"):
    """A refusal is whole."""

    type: ClassVar[Literal["response.refusal.done"]]
    refusal: str = ""


class ResponseFunctionCallArgumentsDeltaEvent(_AtItem, tag="response.function_call_arguments.delta"):
    """A piece of a function call's arguments; its name and call_id came with `response.output_item.added`."""

    type: ClassVar[Literal["response.function_call_arguments.delta"]]
    delta: str = ""
    obfuscation: str | None = None


class ResponseFunctionCallArgumentsDoneEvent(_AtItem, tag="response.function_call_arguments.done"):
    """A function call's arguments are whole."""

    type: ClassVar[Literal["response.function_call_arguments.done"]]
    arguments: str = ""


class _AtSummary(_AtItem):
    summary_index: int = 0


class _SummaryPartEvent(_AtSummary):
    part: Part = msgspec.field(default_factory=SummaryText)


class ResponseReasoningSummaryPartAddedEvent(_SummaryPartEvent, tag="response.reasoning_summary_part.added"):
    """A part of a reasoning summary began."""

    type: ClassVar[Literal["response.reasoning_summary_part.added"]]


class ResponseReasoningSummaryPartDoneEvent(_SummaryPartEvent, tag="response.reasoning_summary_part.done"):
    """A part of a reasoning summary is whole."""

    type: ClassVar[Literal["response.reasoning_summary_part.done"]]


class ResponseReasoningSummaryTextDeltaEvent(_AtSummary, tag="response.reasoning_summary_text.delta"):
    """A piece of a reasoning summary."""

    type: ClassVar[Literal["response.reasoning_summary_text.delta"]]
    delta: str = ""
    obfuscation: str | None = None


class ResponseReasoningSummaryTextDoneEvent(_AtSummary, tag="response.reasoning_summary_text.done"):
    """The text of a reasoning summary is whole."""

    type: ClassVar[Literal["response.reasoning_summary_text.done"]]
    text: str = ""


class ResponseReasoningTextDeltaEvent(_AtContent, tag="response.reasoning_text.delta"):
    """A piece of reasoning."""

    type: ClassVar[Literal["response.reasoning_text.delta"]]
    delta: str = ""
    obfuscation: str | None = None


class ResponseReasoningTextDoneEvent(_AtContent, tag="response.reasoning_text.done"):
    """A reasoning text is whole."""

    type: ClassVar[Literal["response.reasoning_text.done"]]
    text: str = ""


class ResponseWebSearchCallInProgressEvent(_AtItem, tag="response.web_search_call.in_progress"):
    """A web search began."""

    type: ClassVar[Literal["response.web_search_call.in_progress"]]


class ResponseWebSearchCallSearchingEvent(_AtItem, tag="response.web_search_call.searching"):
    """A web search is running."""

    type: ClassVar[Literal["response.web_search_call.searching"]]


class ResponseWebSearchCallCompletedEvent(_AtItem, tag="response.web_search_call.completed"):
    """A web search ended."""

    type: ClassVar[Literal["response.web_search_call.completed"]]


class ResponseFileSearchCallInProgressEvent(_AtItem, tag="response.file_search_call.in_progress"):
    """A file search began."""

    type: ClassVar[Literal["response.file_search_call.in_progress"]]


class ResponseFileSearchCallSearchingEvent(_AtItem, tag="response.file_search_call.searching"):
    """A file search is running."""

    type: ClassVar[Literal["response.file_search_call.searching"]]


class ResponseFileSearchCallCompletedEvent(_AtItem, tag="response.file_search_call.completed"):
    """A file search ended."""

    type: ClassVar[Literal["response.file_search_call.completed"]]


class ResponseCodeInterpreterCallInProgressEvent(_AtItem, tag="response.code_interpreter_call.in_progress"):
    """A code run was asked for."""

    type: ClassVar[Literal["response.code_interpreter_call.in_progress"]]


class ResponseCodeInterpreterCallInterpretingEvent(_AtItem, tag="response.code_interpreter_call.interpreting"):
    """Code is running."""

    type: ClassVar[Literal["response.code_interpreter_call.interpreting"]]


class ResponseCodeInterpreterCallCompletedEvent(_AtItem, tag="response.code_interpreter_call.completed"):
    """A code run ended."""

    type: ClassVar[Literal["response.code_interpreter_call.completed"]]


class ResponseCodeInterpreterCallCodeDeltaEvent(_AtItem, tag="response.code_interpreter_call_code.delta"):
    """A piece of the code to run."""

    type: ClassVar[Literal["response.code_interpreter_call_code.delta"]]
    delta: str = ""
    obfuscation: str | None = None


class ResponseCodeInterpreterCallCodeDoneEvent(_AtItem, tag="response.code_interpreter_call_code.done"):
    """The code to run is whole."""

    type: ClassVar[Literal["response.code_interpreter_call_code.done"]]
    code: str = ""


class ResponseImageGenCallInProgressEvent(_AtItem, tag="response.image_generation_call.in_progress"):
    """An image was asked for."""

    type: ClassVar[Literal["response.image_generation_call.in_progress"]]


class ResponseImageGenCallGeneratingEvent(_AtItem, tag="response.image_generation_call.generating"):
    """An image is being made."""

    type: ClassVar[Literal["response.image_generation_call.generating"]]


class ResponseImageGenCallCompletedEvent(_AtItem, tag="response.image_generation_call.completed"):
    """An image is ready."""

    type: ClassVar[Literal["response.image_generation_call.completed"]]


class ResponseImageGenCallPartialImageEvent(_AtItem, tag="response.image_generation_call.partial_image"):
    """A partial image, base64."""

    type: ClassVar[Literal["response.image_generation_call.partial_image"]]
    partial_image_b64: str = ""
    partial_image_index: int = 0


class ResponseMcpCallArgumentsDeltaEvent(_AtItem, tag="response.mcp_call_arguments.delta"):
    """A piece of an MCP call's arguments."""

    type: ClassVar[Literal["response.mcp_call_arguments.delta"]]
    delta: Json = ""
    obfuscation: str | None = None


class ResponseMcpCallArgumentsDoneEvent(_AtItem, tag="response.mcp_call_arguments.done"):
    """An MCP call's arguments are whole."""

    type: ClassVar[Literal["response.mcp_call_arguments.done"]]
    arguments: Json = ""


class ResponseMcpCallInProgressEvent(_AtItem, tag="response.mcp_call.in_progress"):
    """An MCP call began."""

    type: ClassVar[Literal["response.mcp_call.in_progress"]]


class ResponseMcpCallCompletedEvent(_AtItem, tag="response.mcp_call.completed"):
    """An MCP call ended."""

    type: ClassVar[Literal["response.mcp_call.completed"]]


class ResponseMcpCallFailedEvent(_AtItem, tag="response.mcp_call.failed"):
    """An MCP call failed."""

    type: ClassVar[Literal["response.mcp_call.failed"]]


class ResponseMcpListToolsInProgressEvent(_AtItem, tag="response.mcp_list_tools.in_progress"):
    """An MCP server is asked for its tools."""

    type: ClassVar[Literal["response.mcp_list_tools.in_progress"]]


class ResponseMcpListToolsCompletedEvent(_AtItem, tag="response.mcp_list_tools.completed"):
    """An MCP server named its tools."""

    type: ClassVar[Literal["response.mcp_list_tools.completed"]]


class ResponseMcpListToolsFailedEvent(_AtItem, tag="response.mcp_list_tools.failed"):
    """An MCP server did not name its tools."""

    type: ClassVar[Literal["response.mcp_list_tools.failed"]]


class ResponseCustomToolCallInputDeltaEvent(_AtItem, tag="response.custom_tool_call_input.delta"):
    """A piece of a custom tool's input."""

    type: ClassVar[Literal["response.custom_tool_call_input.delta"]]
    delta: str = ""
    obfuscation: str | None = None


class ResponseCustomToolCallInputDoneEvent(_AtItem, tag="response.custom_tool_call_input.done"):
    """A custom tool's input is whole."""

    type: ClassVar[Literal["response.custom_tool_call_input.done"]]
    input: str = ""


class ResponseAudioDeltaEvent(Event, tag="response.audio.delta"):
    """A piece of audio, base64."""

    type: ClassVar[Literal["response.audio.delta"]]
    delta: str = ""


class ResponseAudioDoneEvent(Event, tag="response.audio.done"):
    """The audio is whole."""

    type: ClassVar[Literal["response.audio.done"]]


class ResponseAudioTranscriptDeltaEvent(Event, tag="response.audio.transcript.delta"):
    """A piece of the audio's transcript."""

    type: ClassVar[Literal["response.audio.transcript.delta"]]
    delta: str = ""


class ResponseAudioTranscriptDoneEvent(Event, tag="response.audio.transcript.done"):
    """The transcript is whole."""

    type: ClassVar[Literal["response.audio.transcript.done"]]


class ResponseErrorEvent(Event, tag="error"):
    """An error inside the stream; flat by the spec, but real streams nest it under `error` too."""

    type: ClassVar[Literal["error"]]
    code: str | None = None
    message: str | None = None
    param: str | None = None
    error: Json = None


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

    class UnknownEvent(Unknown):
        """What type checkers take an event of an unknown type for, so that a known `type` excludes it."""

        type: Literal["unknown"]

    ResponseStreamEvent = Union[_KnownEvent, UnknownEvent]
else:
    ResponseStreamEvent = _KnownEvent

TerminalEvent = ResponseCompletedEvent | ResponseFailedEvent | ResponseIncompleteEvent
TERMINAL = (ResponseCompletedEvent, ResponseFailedEvent, ResponseIncompleteEvent)
"""The events that end a run; `ResponseErrorEvent` ends it too."""
_ENDED: dict[type, str] = dict(zip(TERMINAL, ("completed", "failed", "incomplete"), strict=True))

_event: msgspec.json.Decoder[_KnownEvent] = msgspec.json.Decoder(_KnownEvent, dec_hook=json_hook)
KINDS = tagged(get_args(_KnownEvent))
"""The events by type."""
for _tag, _kind in KINDS.items():
    # The wire's `type`, of which type checkers see the literal of each struct, by which they tell them apart.
    _kind.type = _tag
DELTAS = {tag: kind for tag, kind in KINDS.items() if "delta" in kind.__struct_fields__}
"""The events that are pieces of a text, by type."""
_delta: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Union[tuple(DELTAS.values())], dec_hook=json_hook)


def decode_event(raw: bytes) -> ResponseStreamEvent:
    """Decode one event's data; an event without a known `type` becomes `Unknown`.

    Raises msgspec.DecodeError for invalid JSON, msgspec.ValidationError for JSON that is no object.
    """
    event: ResponseStreamEvent
    try:
        event = _event.decode(raw)
    except (ValueError, RecursionError):
        event = cast(ResponseStreamEvent, read(raw, _KnownEvent, KINDS))
        if isinstance(event, Unknown):
            # The bytes as the server sent them, instead of the encoded value.
            event.raw = raw.removeprefix(BOM_UTF8)
            return event
    else:
        event.json_place = raw
        if (place := _PLACE.get(type(event))) is None:
            # Most events, which hold no struct.
            return event
        place(event, raw)
    if isinstance(event, _RunEvent):
        complete(event.response, finished=False, ended=_ENDED.get(type(event)))
    return event


def decode_deltas(events: list[bytes]) -> list[ResponseStreamEvent]:
    """Decode the first of some events, as long as they are pieces of a text, which most events are."""
    deltas: list[ResponseStreamEvent] = []
    try:
        for raw in events:
            delta = _delta.decode(raw)
            delta.json_place = raw
            deltas.append(delta)
    except (ValueError, RecursionError):
        pass
    return deltas


def _place_run(event: Any, raw: bytes) -> None:
    response = event.response
    response.json_place = (raw, "response")
    for number, item in enumerate(response.output):
        item.json_place = (raw, "response", "output", number)
    if response.usage is not None:
        response.usage.json_place = (raw, "response", "usage")


def _place_item(event: Any, raw: bytes) -> None:
    event.item.json_place = (raw, "item")


def _place_part(event: Any, raw: bytes) -> None:
    event.part.json_place = (raw, "part")


_PLACE: dict[type, Callable[[Any, bytes], None]] = {
    kind: place
    for base, place in (
        (_RunEvent, _place_run),
        (_ItemEvent, _place_item),
        (_PartEvent, _place_part),
        (_SummaryPartEvent, _place_part),
    )
    for kind in base.__subclasses__()
}


def events_of(response: Response) -> list[ResponseStreamEvent]:
    """Return a whole reply as the events of a stream, for servers that ignore `stream`."""
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
