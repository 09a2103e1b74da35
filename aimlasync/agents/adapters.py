"""Adapters between a run and the two endpoints: the history becomes a request, a reply becomes a turn.

The agent loop is the same for both endpoints; every difference between them is in this file. Pure functions of runs and
replies; no I/O. It may import the run state, the tools, and the package's structs of both endpoints.
Source: OpenAPI specs of the AI/ML API (2026-08), and OpenAI's "Function calling", "Reasoning" and "Conversation state".

chat/completions: an assistant message with tool calls has no `content: null`, which is outside the schema, and every
call gets its tool message. responses: a reasoning item is sent back only where the server can read it: encrypted, and
to a model that takes it. Ids of items are not sent back, because they name nothing where nothing is stored. With
`store=True` only new items are sent, with `previous_response_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from aimlasync.agents.run_state import Run, ToolCall
from aimlasync.agents.tools import Tool
from aimlasync.chat.endings import ending_of
from aimlasync.chat.types import ChatCompletion
from aimlasync.endpoints.providers import VENDORS
from aimlasync.responses.types import (
    RUNNING,
    FunctionCall,
    OutputMessage,
    OutputRefusal,
    OutputText,
    ReasoningItem,
    Response,
)
from aimlasync.structured.answer_text import is_answer_tool
from aimlasync.structured.schema import Format

_ENCRYPTED = "reasoning.encrypted_content"
_CHOICES = ("none", "auto", "required")


class Turn:
    """One reply of the model, read the same way from both endpoints."""

    __slots__ = ("calls", "failure", "items", "refusal", "reply", "text", "truncation")

    def __init__(self, reply: Any) -> None:
        self.reply = reply
        self.text = ""
        self.calls: list[ToolCall] = []
        self.items: list[dict[str, Any]] = []
        """The reply as items of the history."""
        self.refusal: str | None = None
        self.truncation: str | None = None
        """Why the text is incomplete."""
        self.failure: str | None = None
        """Why there is no text."""


class Adapter(Protocol):
    """What the agent loop needs to know of one endpoint."""

    def fixed_params(self, params: dict[str, Any], tools: Iterable[Tool], form: Format[Any] | None) -> dict[str, Any]:
        """Return the request parameters that are the same in every turn; `params` itself is changed."""

    def history_params(self, run: Run, instructions: str | None) -> dict[str, Any]:
        """Return the request parameters that carry the instructions and the history."""

    def read_turn(self, reply: Any, run: Run) -> Turn:
        """Return the turn that a reply is."""

    def tool_result(self, call: ToolCall) -> dict[str, Any]:
        """Return the result of a tool call as an item of the history."""


class ChatAdapter:
    """The adapter of chat/completions."""

    def fixed_params(self, params: dict[str, Any], tools: Iterable[Tool], form: Format[Any] | None) -> dict[str, Any]:
        """Return the request parameters that are the same in every turn; `params` itself is changed."""
        specs = [tool.chat for tool in tools]
        if specs:
            params["tools"] = specs
        if form is not None:
            params["response_format"] = form.chat()
            params.setdefault("structured", "auto")
        choice = params.get("tool_choice")
        if isinstance(choice, str) and choice not in _CHOICES:
            params["tool_choice"] = {"type": "function", "function": {"name": choice}}
        return params

    def history_params(self, run: Run, instructions: str | None) -> dict[str, Any]:
        """Return the request parameters that carry the instructions and the history."""
        if instructions is None:
            return {"messages": run.items}
        return {"messages": [{"role": "system", "content": instructions}, *run.items]}

    def read_turn(self, reply: ChatCompletion, run: Run) -> Turn:
        """Return the turn that a reply is."""
        turn = Turn(reply)
        choice = reply.choices[0]
        message = choice.message
        turn.text = message.content or ""
        turn.refusal = message.refusal or None
        ending, reason = ending_of(choice.finish_reason), choice.finish_reason
        if ending == "cap":
            turn.truncation = "by an output cap"
        elif ending == "filter":
            turn.refusal = turn.refusal or f"a content filter cut the answer ({reason})"
        elif ending == "failure":
            turn.failure = f"finish_reason {reason}"
        elif message.function_call is not None and not message.tool_calls:
            turn.failure = f"it called {message.function_call.name or 'a function'} by the older functions API"
        elif ending != "stop" and not (message.content or message.tool_calls or message.refusal):
            # An empty answer that ends well is one.
            turn.failure = f"finish_reason {reason}, with neither text nor a call"
        item: dict[str, Any] = {"role": "assistant"}
        for number, call in enumerate(message.tool_calls or ()):
            if call.custom is None and is_answer_tool(call.function.name):
                # It goes into the history as the text that it stands for: nobody answers this call.
                turn.text = call.function.arguments
                continue
            called = call.function if call.custom is None else call.custom
            arguments = call.function.arguments if call.custom is None else call.custom.input
            # A result names its call by id, and some servers give calls none.
            id = call.id or f"call_{run.turns}_{number}"
            turn.calls.append(ToolCall(id=id, name=called.name, arguments=arguments))
        if turn.text or not turn.calls:
            item["content"] = turn.text
        if turn.refusal:
            item["refusal"] = turn.refusal
        if turn.calls:
            item["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in turn.calls
            ]
        turn.items.append(item)
        return turn

    def tool_result(self, call: ToolCall) -> dict[str, Any]:
        """Return the result of a tool call as an item of the history."""
        return {"role": "tool", "tool_call_id": call.id, "content": call.output}


class ResponsesAdapter:
    """The adapter of responses. Mutable: what `fixed_params` has found out about the model and the storage."""

    def __init__(self) -> None:
        self._stores = False
        self._takes_reasoning: bool | None = None

    def fixed_params(self, params: dict[str, Any], tools: Iterable[Tool], form: Format[Any] | None) -> dict[str, Any]:
        """Return the request parameters that are the same in every turn; `params` itself is changed."""
        specs = [tool.responses for tool in tools]
        if specs:
            params["tools"] = specs
        if form is not None:
            params["text"] = {**(params.get("text") or {}), "format": form.responses()}
            params.setdefault("structured", "auto")
        choice = params.get("tool_choice")
        if isinstance(choice, str) and choice not in _CHOICES:
            params["tool_choice"] = {"type": "function", "name": choice}
        self._stores = params.get("store") is True
        self._takes_reasoning = _takes_reasoning(params["model"])
        if self._takes_reasoning and not self._stores:
            params.setdefault("include", [_ENCRYPTED])
        return params

    def history_params(self, run: Run, instructions: str | None) -> dict[str, Any]:
        """Return the request parameters that carry the instructions and the history."""
        params: dict[str, Any] = {"input": run.items}
        if instructions is not None:
            # The server does not store them with a response, so every request carries them.
            params["instructions"] = instructions
        if self._stores and run.response_id is not None:
            params["input"] = run.items[run.sent :]
            params["previous_response_id"] = run.response_id
        return params

    def read_turn(self, reply: Response, run: Run) -> Turn:
        """Return the turn that a reply is."""
        turn = Turn(reply)
        turn.text, turn.refusal = reply.output_text, reply.refusal
        if reply.status in ("failed", "cancelled", *RUNNING):
            turn.failure = reply.error.message if reply.error is not None else f"its status is {reply.status}"
        elif reply.truncated:
            turn.truncation = "by an output cap"
        elif reply.status == "incomplete":
            reason = reply.incomplete_details.reason if reply.incomplete_details is not None else None
            if ending_of(reason) == "filter":
                turn.refusal = turn.refusal or "a content filter cut the answer"
            else:
                turn.truncation = reason or "no reason given"
        for number, item in enumerate(reply.output):
            if isinstance(item, FunctionCall) and is_answer_tool(item.name):
                turn.text = item.arguments
                turn.items.append({"type": "message", "role": "assistant", "content": turn.text})
            elif isinstance(item, FunctionCall):
                call = ToolCall(
                    id=item.call_id or f"call_{run.turns}_{number}", name=item.name, arguments=item.arguments
                )
                turn.calls.append(call)
                turn.items.append(
                    {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
                )
            elif isinstance(item, OutputMessage):
                turn.items += _as_input_message(item)
            elif isinstance(item, ReasoningItem):
                if item.encrypted_content and self._takes_reasoning is not False:
                    turn.items.append(
                        {
                            "type": "reasoning",
                            "id": item.id,
                            "summary": msgspec.to_builtins(item.summary),
                            "encrypted_content": item.encrypted_content,
                        }
                    )
            else:
                # Items of the server's own tools are sent back as they came.
                turn.items.append(item.to_dict())
        if not reply.output and turn.text:
            turn.items.append({"type": "message", "role": "assistant", "content": turn.text})
        if self._stores and reply.id:
            run.response_id, run.sent = reply.id, len(run.items) + len(turn.items)
        return turn

    def tool_result(self, call: ToolCall) -> dict[str, Any]:
        """Return the result of a tool call as an item of the history."""
        return {"type": "function_call_output", "call_id": call.id, "output": call.output}


def items_of(given: str | Iterable[Mapping[str, Any] | msgspec.Struct]) -> list[Any]:
    """Return a user's input as items of a history; both endpoints take a message in this form."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return [item.to_dict() if hasattr(item, "to_dict") else item for item in given]


def adapter_for(endpoint: str) -> Adapter:
    """Return a new adapter of `endpoint`. Raises ValueError for an unknown endpoint."""
    if endpoint == "chat":
        return ChatAdapter()
    if endpoint == "responses":
        return ResponsesAdapter()
    raise ValueError(f'endpoint must be "chat" or "responses", not {endpoint!r}')


def _as_input_message(item: OutputMessage) -> list[dict[str, Any]]:
    """Return a message of the model in the form of an input message, which needs no id and no status.

    The list is empty when the message has no text.
    """
    text = "".join(
        part.text if isinstance(part, OutputText) else part.refusal
        for part in item.content
        if isinstance(part, (OutputText, OutputRefusal))
    )
    if not text:
        return []
    message = {"type": "message", "role": "assistant", "content": text}
    if item.phase is not None:
        message["phase"] = item.phase
    return [message]


def _takes_reasoning(model: str) -> bool | None:
    """Return whether a model takes reasoning items as input, None when no vendor lists the model."""
    for vendor in VENDORS:
        known = vendor.models.get(model)
        if known is not None:
            return known.takes_reasoning
    return None
