"""/chat/completions on the wire: structs of requests and replies; those of streams are in `chat.chunks`.

Every field may be missing or null but the few that the others depend on. It has no I/O. It may import
`chat.bare_calls`, `chat.endings`, `chat.vendor_parameters`, `config` and `wire.base`.
Sources: the OpenAPI specs of the AI/ML API for its OpenAI models (2026-08), ByteSpike's "OpenAI chat completions" page,
and what servers send beyond them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

import msgspec

from aimlasync.chat.bare_calls import said_bare
from aimlasync.chat.endings import UNSAID, ending_of
from aimlasync.chat.vendor_parameters import VendorParameters
from aimlasync.config import CALL_OPTIONS, CallOptions
from aimlasync.plain_stores import plainly_stored
from aimlasync.wire.base import Json, Meta, Object, Open, Reply, UsageExtras, Wire
from aimlasync.wire.objects import shallow_hook

# --- What is sent -----------------------------------------------------------------------------------------------------


class TextPart(Wire, tag_field="type", tag="text"):
    """Text inside a multimodal message."""

    text: str


class ImageURL(Wire):
    """An image by its https or data: URL (JPEG, PNG, GIF, WEBP), and the detail in which the model reads it."""

    url: str
    detail: Literal["low", "high", "auto"] | None = None


class ImagePart(Wire, tag_field="type", tag="image_url"):
    """An image inside a user message."""

    image_url: ImageURL


class FileData(Wire):
    """A file by value: `file_data` is a data: URL such as data:application/pdf;base64,... (no file ids here)."""

    file_data: str | None = None
    filename: str | None = None


class FilePart(Wire, tag_field="type", tag="file"):
    """A file inside a user message."""

    file: FileData


class RefusalPart(Wire, tag_field="type", tag="refusal"):
    """A refusal replayed in an assistant message."""

    refusal: str


UserPart = TextPart | ImagePart | FilePart


class SystemMessage(Wire, tag_field="role", tag="system"):
    """Instructions; the portable role, since ByteSpike has no developer role."""

    content: str | list[TextPart]
    name: str | None = None


class DeveloperMessage(Wire, tag_field="role", tag="developer"):
    """Instructions, by the newer role name."""

    content: str | list[TextPart]
    name: str | None = None


class UserMessage(Wire, tag_field="role", tag="user"):
    """What the user says, shows or attaches."""

    content: str | list[UserPart]
    name: str | None = None


class ToolMessage(Wire, tag_field="role", tag="tool"):
    """The result of one tool call, as text."""

    content: str
    tool_call_id: str


class Function(Wire):
    """A function the model may call; `parameters` is a JSON schema and must be sent even when it takes nothing."""

    name: str
    parameters: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class FunctionTool(Wire, tag_field="type", tag="function"):
    """A tool definition."""

    function: Function


class ChatOptions(CallOptions, VendorParameters, total=False):
    """Parameters of `create` and `parse` besides `model`, `messages`, `stream` and `response_format`.

    Models differ in which of them they take. A parameter that the vendor documents as refused raises
    UnsupportedRequestError before anything is sent. `VendorParameters` are those that OpenAI does not have.
    """

    max_completion_tokens: int | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    n: int | None
    stop: str | list[str] | None
    seed: int | None
    tools: Iterable[FunctionTool | Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    reasoning_effort: str | None
    stream_options: Mapping[str, Any] | None
    logprobs: bool | None
    top_logprobs: int | None
    logit_bias: Mapping[str, float] | None
    frequency_penalty: float | None
    presence_penalty: float | None
    prediction: Mapping[str, Any] | None
    provider: str | None
    # Not in the vendors' specs; other servers and code written for AsyncOpenAI use them.
    audio: Mapping[str, Any] | None
    function_call: str | Mapping[str, Any] | None
    functions: Iterable[Mapping[str, Any]] | None
    metadata: Mapping[str, str] | None
    modalities: list[str] | None
    moderation: Mapping[str, Any] | None
    prompt_cache_key: str | None
    prompt_cache_options: Mapping[str, Any] | None
    prompt_cache_retention: str | None
    safety_identifier: str | None
    service_tier: str | None
    store: bool | None
    user: str | None
    verbosity: str | None
    web_search_options: Mapping[str, Any] | None


class ChatParams(ChatOptions, total=False):
    """Parameters of `client.chat.completions.create` besides `model`, `messages` and `stream`."""

    response_format: Mapping[str, Any] | type | None


PARAMETERS = ChatParams.__optional_keys__ - CALL_OPTIONS

# --- What comes back --------------------------------------------------------------------------------------------------


def _assistant() -> str:
    # A factory instead of a plain default: the encoder omits plain defaults, and a message that is sent back needs its
    # role.
    return "assistant"


def _function() -> str:
    return "function"


class FunctionCall(Open):
    """A function's name, and its arguments as text that the model wrote and that may be invalid JSON."""

    name: str = ""
    arguments: str = msgspec.field(default_factory=str)

    @property
    def parsed_arguments(self) -> Any:
        """What `parse` made of the arguments for a strict tool; None after `create`."""
        return self.__dict__.get("parsed_arguments")


class _NoFunction(FunctionCall, frozen=True):  # type: ignore[misc]  # msgspec allows it
    """The `function` of a custom call: a plain default, which the encoder omits. There is one, in copies too."""

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> Any:
        return "_NO_FUNCTION"


_NO_FUNCTION = _NoFunction()


class CustomCall(Open):
    """A custom tool's name and its free-form input."""

    name: str = ""
    input: str = msgspec.field(default_factory=str)


class ToolCall(Open):
    """One tool call of an answer; `custom` is set instead of `function` when `type` is "custom"."""

    id: str = ""
    type: str = msgspec.field(default_factory=_function)
    function: FunctionCall = _NO_FUNCTION
    custom: CustomCall | None = None

    def settle(self) -> None:
        if self.function is _NO_FUNCTION and self.custom is None and (said := said_bare(self)) is not None:
            self.function = FunctionCall(name=said[0] or "", arguments=said[1] or "")


class URLCitation(Open):
    """Where in the answer a web page is cited."""

    url: str = ""
    title: str = ""
    start_index: int = 0
    end_index: int = 0


class Annotation(Open):
    """A note on a part of the answer."""

    type: str = ""
    url_citation: URLCitation | None = None


class TopLogprob(Open):
    """One candidate token and its natural-log probability, -inf where the server states none."""

    token: str = ""
    logprob: float = msgspec.field(default_factory=lambda: float("-inf"))
    # A factory: the encoder omits plain defaults, and servers send this null.
    bytes: list[int] | None = msgspec.field(default_factory=lambda: None)


class TokenLogprob(TopLogprob):
    """A token of the answer, and the candidates it was chosen from."""

    top_logprobs: list[TopLogprob] = msgspec.field(default_factory=lambda: [])


class Logprobs(Open):
    """Log probabilities of the answer's tokens."""

    content: list[TokenLogprob] | None = None
    refusal: list[TokenLogprob] | None = None


@plainly_stored
class Message(Open):
    """The assistant's message; may be sent back as it is, in `messages` of the next call."""

    role: str = msgspec.field(default_factory=_assistant)
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    annotations: list[Annotation] | None = None
    reasoning_content: str | None = None
    function_call: FunctionCall | None = None
    audio: Object | None = None

    @property
    def parsed(self) -> Any:
        """The decoded answer of `parse`; None after `create`."""
        return self.__dict__.get("parsed")


@plainly_stored
class Choice(Open):
    """One answer; `finish_reason` is stop, length, tool_calls, content_filter, or a word of the server's own."""

    index: int = msgspec.field(default_factory=int)
    message: Message = msgspec.field(default_factory=Message)
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    native_finish_reason: Json = None
    """The word of the server behind a router (OpenRouter)."""
    error: Json = None
    """Why there is no more of it, where a gateway says so beside the text."""

    def settle(self) -> None:
        if self.finish_reason in UNSAID:
            self.finish_reason = None
        for call in self.message.tool_calls or ():
            call.settle()


class PromptTokensDetails(Open):
    """Parts of the prompt's tokens."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None
    audio_tokens: int | None = None
    text_tokens: int | None = None
    image_tokens: int | None = None
    video_tokens: int | None = None


class CompletionTokensDetails(Open):
    """Parts of the answer's tokens; reasoning tokens have been seen larger than the total they are part of."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    text_tokens: int | None = None
    image_tokens: int | None = None
    video_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


@plainly_stored
class Usage(UsageExtras):
    """Tokens as the vendor reports them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None
    input_tokens: int | None = None
    """What servers that translate other protocols leave in place of `prompt_tokens`, or beside it."""
    output_tokens: int | None = None


@plainly_stored
class ChatCompletion(Reply):
    """The whole reply of a chat call.

    `model` is the model that served it, whose spelling may differ from the request's.
    """

    id: str = ""
    object: str = msgspec.field(default_factory=lambda: "chat.completion")
    created: int | None = None
    model: str = ""
    choices: list[Choice] = []
    usage: Usage | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    meta: Meta | None = None
    error: Json = None
    """Set only where a server reports a failure under a 200; `create` raises it."""

    @property
    def text(self) -> str:
        """The first choice's text, "" when it has none (a tool call, a refusal)."""
        return (self.choices[0].message.content or "") if self.choices else ""

    @property
    def truncated(self) -> bool:
        """Whether an output cap cut any choice.

        Check it: vendors have been seen to apply a cap that the request does not set.
        """
        return "cap" in [ending_of(choice.finish_reason) for choice in self.choices]

    @property
    def parsed(self) -> Any:
        """The first choice's decoded answer after `parse`; None after `create`."""
        return self.choices[0].message.parsed if self.choices else None

    def settle(self) -> None:
        for choice in self.choices:
            choice.settle()


_completion = msgspec.json.Decoder(ChatCompletion, dec_hook=shallow_hook)


def decode_completion(raw: bytes) -> ChatCompletion:
    """Decode a whole reply. Raises msgspec.DecodeError (or its ValidationError) for what is no JSON object."""
    try:
        reply = _completion.decode(raw)
    except (ValueError, RecursionError):
        # The errors of msgspec are ValueErrors, as are those of invalid UTF-8.
        return ChatCompletion.from_json(raw)
    reply.json_place = raw
    for number, choice in enumerate(reply.choices):
        choice.json_place = (raw, "choices", number)
        if choice.finish_reason is not None and choice.finish_reason in UNSAID:
            choice.finish_reason = None
        message = choice.message
        message.json_place = (raw, "choices", number, "message")
        if message.tool_calls is not None:
            for at, call in enumerate(message.tool_calls):
                call.json_place = (raw, "choices", number, "message", "tool_calls", at)
    if reply.usage is not None:
        reply.usage.json_place = (raw, "usage")
    return reply
