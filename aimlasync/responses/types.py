"""/v1/responses on the wire: structs of requests, the reply, and its decoder.

The items of a reply are in `responses.items`, and the events of a stream in `responses.events`. It has no I/O. It may
import `responses.items`, `chat`, `config` and `wire.base`. Source: the OpenAPI specs "RESPONSES" of the AI/ML API for
its OpenAI models (2026-08).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import msgspec

from aimlasync.chat.endings import ending_of
from aimlasync.config import CALL_OPTIONS, CallOptions
from aimlasync.responses.items import OutputItem, OutputMessage, OutputRefusal, OutputText, Part
from aimlasync.wire.base import Json, Meta, Object, Open, Reply, UsageExtras, Wire, decode
from aimlasync.wire.objects import json_hook, open_up

# --- What is sent -----------------------------------------------------------------------------------------------------


class InputText(Wire, tag_field="type", tag="input_text"):
    """Text in an input message."""

    text: str


class InputImage(Wire, tag_field="type", tag="input_image"):
    """An image in an input message; unlike chat's, `image_url` is a plain string (https or data: URL)."""

    image_url: str
    detail: Literal["low", "high", "auto"] | None = None


class InputFile(Wire, tag_field="type", tag="input_file"):
    """A file in an input message, by value."""

    file_data: str | None = None
    filename: str | None = None


class InputMessage(Wire, tag_field="type", tag="message"):
    """A message of the input list."""

    role: Literal["user", "system", "developer", "assistant"]
    content: str | list[InputText | InputImage | InputFile]


class FunctionCallOutput(Wire, tag_field="type", tag="function_call_output"):
    """The result of one function call, as text."""

    call_id: str
    output: str


class FunctionTool(Wire, tag_field="type", tag="function"):
    """A function the model may call: flat, not nested as in chat; `parameters` and `strict` must both be sent."""

    name: str
    parameters: dict[str, Any]
    strict: bool
    description: str | None = None


class ResponseParams(CallOptions, total=False):
    """Parameters of `client.responses.create` besides `model`, `input` and `stream`."""

    background: bool | None
    include: list[str] | None
    instructions: str | None
    max_output_tokens: int | None
    parallel_tool_calls: bool | None
    previous_response_id: str | None
    prompt: Mapping[str, Any] | None
    reasoning: Mapping[str, Any] | None
    store: bool | None
    temperature: float | None
    text: Mapping[str, Any] | None
    tool_choice: str | Mapping[str, Any] | None
    tools: Iterable[FunctionTool | Mapping[str, Any]] | None
    top_p: float | None
    truncation: str | None
    # Not in the AI/ML API's specs; other servers and code written for AsyncOpenAI use them.
    access_programs: Mapping[str, Any] | None
    background_options: Mapping[str, Any] | None
    context_management: Iterable[Mapping[str, Any]] | None
    conversation: str | Mapping[str, Any] | None
    image: Mapping[str, Any] | None
    max_tool_calls: int | None
    metadata: Mapping[str, str] | None
    moderation: Mapping[str, Any] | None
    prompt_cache_key: str | None
    prompt_cache_options: Mapping[str, Any] | None
    prompt_cache_retention: str | None
    response_format: Mapping[str, Any] | None
    safety_identifier: str | None
    service_tier: str | None
    stream_options: Mapping[str, Any] | None
    top_logprobs: int | None
    user: str | None


PARAMETERS = ResponseParams.__optional_keys__ - CALL_OPTIONS

# --- What comes back --------------------------------------------------------------------------------------------------


class InputTokensDetails(Open):
    """Parts of the input's tokens."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputTokensDetails(Open):
    """Parts of the output's tokens; reasoning tokens have been seen larger than the total they are part of."""

    reasoning_tokens: int | None = None


class ResponseUsage(UsageExtras):
    """Tokens as the vendor reports them."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: InputTokensDetails | None = None
    output_tokens_details: OutputTokensDetails | None = None


class ResponseError(Open):
    """Why a run failed."""

    code: str | None = None
    message: str = ""


class IncompleteDetails(Open):
    """Why a run stopped early: max_output_tokens or content_filter."""

    reason: str | None = None


class Response(Reply):
    """The whole reply of a responses call.

    `model` is the model that served it, whose spelling may differ from the request's. `output_text` and `status` are
    computed where the server leaves them out.
    """

    DERIVED: ClassVar[frozenset[str]] = frozenset(("output_text", "status"))

    id: str = ""
    object: str = msgspec.field(default_factory=lambda: "response")
    created_at: float | None = None
    model: str = ""
    status: str | None = None
    output: list[OutputItem] = []
    output_text: str = ""
    usage: ResponseUsage | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: Json = None
    max_output_tokens: int | None = None
    metadata: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    reasoning: dict[str, Any] | None = None
    service_tier: str | None = None
    temperature: float | None = None
    text: dict[str, Any] | None = None
    tool_choice: Any = None
    tools: list[Any] | None = None
    top_p: float | None = None
    truncation: str | None = None
    background: bool | None = None
    billing: Object | None = None
    completed_at: float | None = None
    conversation: Object | None = None
    frequency_penalty: float | None = None
    max_tool_calls: int | None = None
    presence_penalty: float | None = None
    prompt: Object | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    store: bool | None = None
    top_logprobs: int | None = None
    user: str | None = None
    meta: Meta | None = None

    @property
    def is_done(self) -> bool:
        """Whether the response has ended, well or not; False while one in the background is queued or in progress."""
        return not runs_on(self.status)

    @property
    def truncated(self) -> bool:
        """Whether an output cap cut the answer; `output_text` is then incomplete."""
        return self.incomplete_details is not None and ending_of(self.incomplete_details.reason) == "cap"

    @property
    def refusal(self) -> str | None:
        """The model's refusal, None when it did not refuse."""
        for item in self.output:
            if isinstance(item, OutputMessage):
                for part in item.content:
                    if isinstance(part, OutputRefusal):
                        return part.refusal
        return None

    @property
    def parsed(self) -> Any:
        """The decoded answer of `parse`; None after `create`."""
        return self.__dict__.get("parsed")

    @property
    def output_parsed(self) -> Any:
        """The same as `.parsed`, by the name that AsyncOpenAI uses."""
        return self.parsed

    def settle(self) -> None:
        # Without a status and without output it may be anything: nothing says that it is completed.
        complete(self, finished=bool(self.output or self.output_text))


def is_answer(reply: Response) -> bool:
    """Whether a response is one: it has an id or an output, and one that is completed an output, if an empty list."""
    return bool(reply.output or reply.output_text or (reply.id and (reply.status != "completed" or has_output(reply))))


def has_output(reply: Response) -> bool:
    """Whether the server sent an output that could be read, or an empty list, in which nothing was lost."""
    return bool(reply.output or reply.output_text) or reply.to_dict().get("output") == []


def text_of(output: Iterable[OutputItem]) -> str:
    """Return the texts of all messages as one."""
    return "".join(_text(part) for item in output if isinstance(item, OutputMessage) for part in item.content)


def _text(part: Part) -> str:
    if isinstance(part, OutputText):
        return part.text
    # Gateways that translate from chat may keep its name of a text.
    kind: str = part.type
    said = getattr(part, "text", None) if kind == "text" else None
    return said if isinstance(said, str) else ""


# OpenAI's are the first two; the others are those of servers with job queues of their own.
_RUNNING = frozenset(
    ("queued", "in_progress", "pending", "processing", "running", "created", "cancelling", "canceling")
)
_FAILED = frozenset(("failed", "cancelled", "canceled", "expired"))
_DONE_WELL = frozenset(("completed", "incomplete", "succeeded"))
_BETWEEN = str.maketrans("- ", "__")


def runs_on(status: str | None) -> bool:
    """Whether a response is not done: by its status, or since it has none, which one with an output or error does."""
    return status is None or _word(status) in _RUNNING


def has_failed(status: str | None) -> bool:
    """Whether a response ended without its answer: it failed, was cancelled or expired."""
    return status is not None and _word(status) in _FAILED


def ended_well(status: str | None) -> bool:
    """Whether a response ended with its answer, if with one that a cap or a filter cut."""
    return status is not None and _word(status) in _DONE_WELL


def why_not(response: Response) -> str | None:
    """Return why a response has no answer, or not all of it, in the words of the server; None where it says nothing."""
    if response.error is not None and (said := response.error.message or response.error.code):
        return said
    return response.incomplete_details.reason if response.incomplete_details is not None else None


def _word(status: str) -> str:
    return status.lower().translate(_BETWEEN)


def complete(response: Response, *, finished: bool, ended: str | None = None) -> None:
    """Compute `output_text` and `status` where the server left them out, and make objects of dicts.

    `finished` tells that the reply is complete, and `ended` the status by which a stream ended: some servers leave that
    of its beginning.

    The status of an item says nothing about that of the response.
    """
    if response.text is not None:
        response.text = Object(response.text)
    if response.reasoning is not None:
        response.reasoning = Object(response.reasoning)
    if response.metadata:
        response.metadata = Object(response.metadata)
    if response.tools:
        response.tools = open_up(response.tools)
    if type(response.tool_choice) is dict:
        response.tool_choice = Object(response.tool_choice)
    if not response.output_text:
        response.output_text = text_of(response.output)
    if response.status is None or (ended is not None and runs_on(response.status)):
        if response.error is not None:
            response.status = "failed"
        elif response.incomplete_details is not None and ended != "failed":
            response.status = "incomplete"
        elif finished or ended is not None:
            response.status = ended or "completed"


class InputItemList(Reply):
    """One page of the input items of a stored response; items are dicts whose keys are attributes too."""

    object: str = "list"
    data: list[Object] = []
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


_response = msgspec.json.Decoder(Response, dec_hook=json_hook)
_input_items = msgspec.json.Decoder(InputItemList, dec_hook=json_hook)


def decode_response(raw: bytes) -> Response:
    """Decode a whole reply. Raises msgspec.DecodeError (or its ValidationError) for what is no JSON object."""
    try:
        response = _response.decode(raw)
    except (ValueError, RecursionError):
        # The errors of msgspec are ValueErrors, as are those of invalid UTF-8.
        return Response.from_json(raw)
    response.settle()
    response.json_place = raw
    for number, item in enumerate(response.output):
        item.json_place = (raw, "output", number)
    if response.usage is not None:
        response.usage.json_place = (raw, "usage")
    return response


def decode_input_items(raw: bytes) -> InputItemList:
    """Decode a page of input items. Raises msgspec.DecodeError (or its ValidationError) for no JSON object."""
    page = decode(raw, _input_items, InputItemList)
    page.__dict__["raw"] = raw
    return page
