"""Adapters between a run and the two endpoints: the history becomes a request, a reply becomes a turn.

The agent loop is the same for both endpoints; every difference between them is in this file. Pure functions of runs and
replies; no I/O. It may import the run state, the tools, and the package's structs of both endpoints.
Source: OpenAPI specs of the AI/ML API (2026-08), and OpenAI's "Function calling", "Reasoning" and "Conversation state".

chat/completions: an assistant message goes back as it came, without nulls, such as `content: null`, which are outside
the schema; every call gets its tool message. responses: items go back as they came. A reasoning item is sent back only
where the server can read it: encrypted, and to a model that takes it; otherwise the ids of its message and calls are
left out too. With `store=True` only new items are sent, with `previous_response_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from aimlasync.agents.history import as_input_message, call_ids, is_mendable, mended_arguments, mended_name
from aimlasync.agents.run_state import Run, ToolCall
from aimlasync.agents.tools import Tool
from aimlasync.chat.endings import ending_of
from aimlasync.chat.types import ChatCompletion
from aimlasync.endpoints.providers import VENDORS
from aimlasync.responses.items import FunctionCall, OutputItem, OutputMessage, ReasoningItem
from aimlasync.responses.restated import ids_of
from aimlasync.responses.types import Response, has_failed, runs_on, why_not
from aimlasync.structured.answer_text import is_answer
from aimlasync.structured.schema import Format
from aimlasync.wire.as_sent import sendable
from aimlasync.wire.base import Unknown
from aimlasync.wire.json_text import Dumpable, plain_value

_ENCRYPTED = "reasoning.encrypted_content"
# Calls that the client executes, and approvals that it gives; the server does so itself for some, and says the output.
_FOR_THE_CLIENT = frozenset(
    (
        "apply_patch_call",
        "computer_call",
        "custom_tool_call",
        "local_shell_call",
        "mcp_approval_request",
        "shell_call",
        "tool_search_call",
    )
)
_CHOICES = ("none", "auto", "required")
_OWN_ITEMS = ("message", "function_call")


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

    def tool_results(self, calls: Iterable[ToolCall]) -> list[dict[str, Any]]:
        """Return the results of the tool calls of a turn as items of the history."""


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
        # As it came: some vendors check signatures and reasoning. Nulls are outside of the schema, and say nothing.
        item = {name: value for name, value in message.to_dict().items() if value is not None}
        item["role"] = "assistant"
        unique = call_ids(run.items, f"call_{run.turns}")
        calls = []
        for number, call in enumerate(message.tool_calls or ()):
            if is_answer(call):
                # It goes into the history as the text that it stands for: nobody answers this call.
                turn.text = item["content"] = call.function.arguments or turn.text
                continue
            called = call.function if call.custom is None else call.custom
            arguments = call.function.arguments if call.custom is None else call.custom.input
            # A result names its call by id, and some servers give calls none, or the same.
            said = call.to_dict() | {"id": unique(call.id, number), "type": call.type}
            if call.custom is None:
                mended = mended_arguments(arguments)
                name = mended_name(called.name)
                said["function"] = {**said.get("function", {}), "name": name, "arguments": mended}
                arguments = mended if is_mendable(arguments, mended) else arguments
            calls.append(said)
            turn.calls.append(ToolCall(id=said["id"], name=called.name, arguments=arguments))
        item.pop("tool_calls", None)
        if calls:
            item["tool_calls"] = calls
        if not item.get("content"):
            item.pop("content", None)
            if not calls:
                item["content"] = ""
        if turn.refusal:
            item["refusal"] = turn.refusal
        turn.items.append(item)
        return turn

    def tool_results(self, calls: Iterable[ToolCall]) -> list[dict[str, Any]]:
        """Return the results of the tool calls of a turn as items of the history."""
        items: list[dict[str, Any]] = []
        seen: list[dict[str, Any]] = []
        for call in calls:
            items.append({"role": "tool", "tool_call_id": call.id, "content": call.output})
            if call.images:
                seen.append({"type": "text", "text": f"The images in the result of {call.name} ({call.id}):"})
                seen += [{"type": "image_url", "image_url": {"url": url}} for url in call.images]
        # The result of a tool has no images in chat/completions.
        return [*items, {"role": "user", "content": seen}] if seen else items


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
        if has_failed(reply.status) or runs_on(reply.status):
            turn.failure = why_not(reply) or f"its status is {reply.status}"
        elif reply.truncated:
            turn.truncation = "by an output cap"
        elif reply.status == "incomplete":
            reason = reply.incomplete_details.reason if reply.incomplete_details is not None else None
            if ending_of(reason) == "filter":
                turn.refusal = turn.refusal or "a content filter cut the answer"
            else:
                turn.truncation = reason or "no reason given"
        unique = call_ids(run.items, f"call_{run.turns}")
        drops_reasoning = False
        for number, item in enumerate(reply.output):
            said = item.to_dict()
            if isinstance(item, FunctionCall) and is_answer(item):
                # It goes into the history as the text that it stands for: nobody answers this call.
                turn.text = item.arguments or turn.text
                turn.items.append({"type": "message", "role": "assistant", "content": turn.text})
            elif isinstance(item, FunctionCall):
                # A server that stores the response knows the call by its own id.
                id = item.call_id if self._stores and item.call_id else unique(item.call_id, number)
                mended = mended_arguments(item.arguments)
                arguments = mended if is_mendable(item.arguments, mended) else item.arguments
                turn.calls.append(ToolCall(id=id, name=item.name, arguments=arguments))
                turn.items.append({**said, "call_id": id, "name": mended_name(item.name), "arguments": mended})
            elif isinstance(item, OutputMessage):
                if (message := as_input_message(said)) is not None:
                    turn.items.append(message)
            elif isinstance(item, ReasoningItem) and (not item.encrypted_content or self._takes_reasoning is False):
                drops_reasoning = True
            else:
                turn.items.append(said)
        if not turn.calls and turn.failure is None and (kind := _unanswered(reply.output)) is not None:
            turn.failure = f"it waits for an answer to its {kind}, which is no function call"
        if drops_reasoning:
            # Servers look for the reasoning that belongs to an item with an id.
            for said in turn.items:
                if said.get("type") in _OWN_ITEMS:
                    said.pop("id", None)
        if not reply.output and turn.text:
            turn.items.append({"type": "message", "role": "assistant", "content": turn.text})
        if self._stores and reply.id:
            run.response_id, run.sent = reply.id, len(run.items) + len(turn.items)
        return turn

    def tool_results(self, calls: Iterable[ToolCall]) -> list[dict[str, Any]]:
        """Return the results of the tool calls of a turn as items of the history."""
        return [{"type": "function_call_output", "call_id": call.id, "output": _output_of(call)} for call in calls]


def _unanswered(output: Iterable[OutputItem]) -> str | None:
    """Return the type of an item that the client is to answer, other than a function call; None without one.

    One before a message is no such item: a server that goes on has executed it (xAI's searches are custom calls).
    """
    answered = {id for item in output if item.type.endswith("_output") for id in ids_of(item)}
    asked = None
    for item in output:
        if isinstance(item, OutputMessage):
            asked = None
        elif item.type in _FOR_THE_CLIENT and getattr(item, "execution", "client") == "client":
            asked = asked if answered.intersection(ids_of(item)) else item.type
    return asked


def _output_of(call: ToolCall) -> str | list[dict[str, Any]] | None:
    if not call.images:
        return call.output
    images = [{"type": "input_image", "image_url": url, "detail": "auto"} for url in call.images]
    return [{"type": "input_text", "text": call.output}, *images]


def items_of(given: str | Iterable[Mapping[str, Any] | msgspec.Struct | Unknown | Dumpable]) -> list[Any]:
    """Return a user's input as items of a history; both endpoints take a message in this form.

    Raises TypeError for what is neither a text nor messages.
    """
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if isinstance(given, (Mapping, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"input= takes a text or a list of messages, not {type(given).__name__}")
    items = [
        item.to_dict() if hasattr(item, "to_dict") else plain_value(item) if hasattr(item, "model_dump") else item
        for item in sendable(list(given))
    ]
    for item in items:
        if not isinstance(item, (Mapping, msgspec.Struct)):
            raise TypeError(f"input= takes a text or a list of messages, not a list of {type(item).__name__}")
    return items


def adapter_for(endpoint: str) -> Adapter:
    """Return a new adapter of `endpoint`. Raises ValueError for an unknown endpoint."""
    if endpoint == "chat":
        return ChatAdapter()
    if endpoint == "responses":
        return ResponsesAdapter()
    raise ValueError(f'endpoint must be "chat" or "responses", not {endpoint!r}')


def _takes_reasoning(model: str) -> bool | None:
    """Return whether a model takes reasoning items as input, None when no vendor lists the model."""
    for vendor in VENDORS:
        known = vendor.models.get(model)
        if known is not None:
            return known.takes_reasoning
    return None
