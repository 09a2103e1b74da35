"""The output items of a response and their parts: structs of messages, calls, reasoning and the server's own tools.

An item or part of a type that is not listed here is kept as `Unknown`. It has no I/O. It may import `chat.types` and
`wire.base`. Source: the OpenAPI specs "RESPONSES" of the AI/ML API for its OpenAI models (2026-08): one schema for all
of them, with a `oneOf` on `type` for output items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Union

import msgspec

from aimlasync.chat.types import TokenLogprob
from aimlasync.wire.base import Json, Open, Unknown


# Factories instead of plain defaults: the encoder omits plain defaults and empty lists, and an item that is sent back
# as input must carry these fields.
def _assistant() -> str:
    return "assistant"


def _no_items() -> list[Any]:
    return []


def _no_text() -> str:
    return ""


class Tagged(Open, tag_field="type"):
    """Base of the structs that are told apart by `type`."""

    if not TYPE_CHECKING:
        # Type checkers see the literal of each struct, by which they tell them apart.
        @property
        def type(self) -> str:
            """The wire's `type`."""
            return str(self.__struct_config__.tag)


class Annotation(Open):
    """A citation in a text: url_citation, file_citation, container_file_citation or file_path, by `type`."""

    type: str = ""
    url: str | None = None
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None
    file_id: str | None = None
    filename: str | None = None
    container_id: str | None = None
    index: int | None = None


class OutputText(Tagged, tag="output_text"):
    """Text of an output message."""

    type: ClassVar[Literal["output_text"]]
    text: str = msgspec.field(default_factory=_no_text)
    annotations: list[Annotation] = msgspec.field(default_factory=_no_items)
    logprobs: list[TokenLogprob] | None = None

    @property
    def parsed(self) -> Any:
        """What `parse` made of the text; None after `create`."""
        return self.__dict__.get("parsed")


class OutputRefusal(Tagged, tag="refusal"):
    """The model's refusal."""

    type: ClassVar[Literal["refusal"]]
    refusal: str = msgspec.field(default_factory=_no_text)


class ReasoningText(Tagged, tag="reasoning_text"):
    """Reasoning as plain text, where a model gives it."""

    type: ClassVar[Literal["reasoning_text"]]
    text: str = msgspec.field(default_factory=_no_text)


class SummaryText(Tagged, tag="summary_text"):
    """A piece of a reasoning summary."""

    type: ClassVar[Literal["summary_text"]]
    text: str = msgspec.field(default_factory=_no_text)


# `wire.reading` makes an `Unknown` where no member fits. Type checkers must see it in the union, and msgspec must
# not.
if TYPE_CHECKING:

    class UnknownPart(Unknown):
        """What type checkers take an item or part of an unknown type for, so that a known `type` excludes it."""

        type: Literal["unknown"]

    Part = Union[OutputText, OutputRefusal, ReasoningText, SummaryText, UnknownPart]
else:
    Part = Union[OutputText, OutputRefusal, ReasoningText, SummaryText]


class OutputMessage(Tagged, tag="message"):
    """A message of the model; its `status` is not that of the response: a complete one may hold "in_progress" here."""

    type: ClassVar[Literal["message"]]
    id: str = ""
    role: str = msgspec.field(default_factory=_assistant)
    status: str | None = None
    content: list[Part] = msgspec.field(default_factory=_no_items)
    phase: str | None = None


class FunctionCall(Tagged, tag="function_call"):
    """A call of a function; `arguments` is text that the model wrote, and may be invalid JSON."""

    type: ClassVar[Literal["function_call"]]
    call_id: str = ""
    name: str = ""
    arguments: str = msgspec.field(default_factory=_no_text)
    id: str | None = None
    status: str | None = None

    @property
    def parsed_arguments(self) -> Any:
        """What `parse` made of the arguments for a strict tool; None after `create`."""
        return self.__dict__.get("parsed_arguments")


class ReasoningItem(Tagged, tag="reasoning"):
    """A reasoning step; some models do not take it back as input."""

    type: ClassVar[Literal["reasoning"]]
    id: str = ""
    summary: list[Part] = msgspec.field(default_factory=_no_items)
    content: list[Part] | None = None
    encrypted_content: str | None = None
    status: str | None = None


class WebSearchCall(Tagged, tag="web_search_call"):
    """A web search the server ran."""

    type: ClassVar[Literal["web_search_call"]]
    id: str = ""
    status: str | None = None
    action: Json = None


class FileSearchCall(Tagged, tag="file_search_call"):
    """A file search the server ran."""

    type: ClassVar[Literal["file_search_call"]]
    id: str = ""
    queries: list[str] = msgspec.field(default_factory=_no_items)
    status: str | None = None
    results: Json = None


class ComputerCall(Tagged, tag="computer_call"):
    """An action on a computer that the model asks for."""

    type: ClassVar[Literal["computer_call"]]
    id: str = ""
    call_id: str = ""
    action: Json = None
    pending_safety_checks: list[Json] = msgspec.field(default_factory=_no_items)
    status: str | None = None


class ComputerCallOutput(Tagged, tag="computer_call_output"):
    """The result of an action on a computer."""

    type: ClassVar[Literal["computer_call_output"]]
    call_id: str = ""
    output: Json = None
    id: str | None = None
    status: str | None = None


class ImageGenerationCall(Tagged, tag="image_generation_call"):
    """An image the server made, base64 in `result`."""

    type: ClassVar[Literal["image_generation_call"]]
    id: str = ""
    result: str | None = None
    status: str | None = None


class CodeInterpreterCall(Tagged, tag="code_interpreter_call"):
    """Code the server ran."""

    type: ClassVar[Literal["code_interpreter_call"]]
    id: str = ""
    code: str | None = None
    container_id: str | None = None
    outputs: Json = msgspec.field(default_factory=lambda: None)
    status: str | None = None


class LocalShellCall(Tagged, tag="local_shell_call"):
    """A shell command that the model asks for."""

    type: ClassVar[Literal["local_shell_call"]]
    id: str = ""
    call_id: str = ""
    action: Json = None
    status: str | None = None


class McpListTools(Tagged, tag="mcp_list_tools"):
    """The tools an MCP server offers."""

    type: ClassVar[Literal["mcp_list_tools"]]
    id: str = ""
    server_label: str = ""
    tools: list[Json] = msgspec.field(default_factory=_no_items)
    error: Json = None


class McpApprovalRequest(Tagged, tag="mcp_approval_request"):
    """An MCP call that waits for approval."""

    type: ClassVar[Literal["mcp_approval_request"]]
    id: str = ""
    server_label: str = ""
    name: str = ""
    arguments: str = msgspec.field(default_factory=_no_text)


class McpCall(Tagged, tag="mcp_call"):
    """An MCP call the server made."""

    type: ClassVar[Literal["mcp_call"]]
    id: str = ""
    server_label: str = ""
    name: str = ""
    arguments: str = msgspec.field(default_factory=_no_text)
    output: str | None = None
    error: Json = None


_KnownItem = Union[
    OutputMessage,
    FunctionCall,
    ReasoningItem,
    WebSearchCall,
    FileSearchCall,
    ComputerCall,
    ComputerCallOutput,
    ImageGenerationCall,
    CodeInterpreterCall,
    LocalShellCall,
    McpListTools,
    McpApprovalRequest,
    McpCall,
]
if TYPE_CHECKING:
    OutputItem = Union[_KnownItem, UnknownPart]
else:
    OutputItem = _KnownItem
