"""How a run is spoken on each endpoint: its history as a request, a reply as a turn.

Law: pure; no I/O. The loop is the same for both, and what differs between them is here alone.
Source: OpenAPI specs of the AI/ML API (2026-08), and OpenAI's "Function calling", "Reasoning" and "Conversation state".

Chat: an assistant message that calls tools has no `content: null` (outside the schema), and every call gets its tool
message. Responses: reasoning goes back only where the server can read it: encrypted, and to a model that takes it. Ids
of items are not sent back: where nothing is stored they name nothing. With `store=True` only what is new is sent, with
`previous_response_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from aimlasync.agents.run_state import Run, ToolCall, Usage
from aimlasync.agents.tools import Tool
from aimlasync.chat.types import ChatCompletion
from aimlasync.endpoints.providers import VENDORS
from aimlasync.responses.types import FunctionCall, OutputMessage, OutputRefusal, OutputText, ReasoningItem, Response
from aimlasync.structured.schema import Format

_ENCRYPTED = "reasoning.encrypted_content"
_CHOICES = ("none", "auto", "required")


class Turn:
    """What the model said in one reply."""

    __slots__ = ("calls", "cut", "failure", "items", "refusal", "reply", "text")

    def __init__(self, reply: Any) -> None:
        self.reply = reply
        self.text = ""
        self.calls: list[ToolCall] = []
        # What joins the history.
        self.items: list[dict[str, Any]] = []
        self.refusal: str | None = None
        # Why the text is not whole, and why there is none.
        self.cut: str | None = None
        self.failure: str | None = None


class Dialect(Protocol):
    """One endpoint's way to say it."""

    def fixed(self, params: dict[str, Any], tools: Iterable[Tool], form: Format[Any] | None) -> dict[str, Any]:
        """Return the parameters that are the same in every turn."""

    def request(self, run: Run, instructions: str | None) -> dict[str, Any]:
        """Return the parameters that hold the conversation."""

    def turn(self, reply: Any, run: Run) -> Turn:
        """Read a reply."""

    def count(self, usage: Any, into: Usage) -> None:
        """Add the tokens that a reply states."""

    def result(self, call: ToolCall) -> dict[str, Any]:
        """Return a call's result as an item of the history."""


class Chat:
    """chat/completions."""

    def fixed(self, params: dict[str, Any], tools: Iterable[Tool], form: Format[Any] | None) -> dict[str, Any]:
        """Return the parameters that are the same in every turn."""
        specs = [tool.chat for tool in tools]
        if specs:
            params["tools"] = specs
        if form is not None:
            params["response_format"] = form.chat()
        choice = params.get("tool_choice")
        if isinstance(choice, str) and choice not in _CHOICES:
            params["tool_choice"] = {"type": "function", "function": {"name": choice}}
        return params

    def request(self, run: Run, instructions: str | None) -> dict[str, Any]:
        """Return the parameters that hold the conversation."""
        if instructions is None:
            return {"messages": run.items}
        return {"messages": [{"role": "system", "content": instructions}, *run.items]}

    def turn(self, reply: ChatCompletion, run: Run) -> Turn:
        """Read a reply."""
        turn = Turn(reply)
        choice = reply.choices[0]
        message = choice.message
        turn.text = message.content or ""
        turn.refusal = message.refusal or None
        if choice.finish_reason == "length":
            turn.cut = "by an output cap"
        elif choice.finish_reason == "content_filter":
            turn.refusal = turn.refusal or "a content filter cut the answer"
        item: dict[str, Any] = {"role": "assistant"}
        for number, call in enumerate(message.tool_calls or ()):
            told = call.function if call.custom is None else call.custom
            arguments = call.function.arguments if call.custom is None else call.custom.input
            # A result is matched by its call's id; some servers give none.
            id = call.id or f"call_{run.turns}_{number}"
            turn.calls.append(ToolCall(id=id, name=told.name, arguments=arguments))
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

    def count(self, usage: Any, into: Usage) -> None:
        """Add the tokens that a reply states."""
        into.input_tokens += usage.prompt_tokens
        into.output_tokens += usage.completion_tokens
        prompt, answer = usage.prompt_tokens_details, usage.completion_tokens_details
        into.cached_tokens += (prompt and prompt.cached_tokens) or 0
        into.reasoning_tokens += (answer and answer.reasoning_tokens) or 0

    def result(self, call: ToolCall) -> dict[str, Any]:
        """Return a call's result as an item of the history."""
        return {"role": "tool", "tool_call_id": call.id, "content": call.output}


class Responses:
    """responses."""

    def __init__(self) -> None:
        self._stores = False
        self._takes_reasoning: bool | None = None

    def fixed(self, params: dict[str, Any], tools: Iterable[Tool], form: Format[Any] | None) -> dict[str, Any]:
        """Return the parameters that are the same in every turn."""
        specs = [tool.responses for tool in tools]
        if specs:
            params["tools"] = specs
        if form is not None:
            params["text"] = {**(params.get("text") or {}), "format": form.responses()}
        choice = params.get("tool_choice")
        if isinstance(choice, str) and choice not in _CHOICES:
            params["tool_choice"] = {"type": "function", "name": choice}
        self._stores = params.get("store") is True
        self._takes_reasoning = _takes_reasoning(params["model"])
        if self._takes_reasoning and not self._stores:
            params.setdefault("include", [_ENCRYPTED])
        return params

    def request(self, run: Run, instructions: str | None) -> dict[str, Any]:
        """Return the parameters that hold the conversation."""
        said: dict[str, Any] = {"input": run.items}
        if instructions is not None:
            # Not stored with a response: they are said every time.
            said["instructions"] = instructions
        if self._stores and run.response_id is not None:
            said["input"] = run.items[run.sent :]
            said["previous_response_id"] = run.response_id
        return said

    def turn(self, reply: Response, run: Run) -> Turn:
        """Read a reply."""
        turn = Turn(reply)
        turn.text, turn.refusal = reply.output_text, reply.refusal
        if reply.status == "failed":
            turn.failure = reply.error.message if reply.error is not None else "no reason given"
        elif reply.truncated:
            turn.cut = "by an output cap"
        elif reply.status == "incomplete":
            reason = reply.incomplete_details.reason if reply.incomplete_details is not None else None
            if reason == "content_filter":
                turn.refusal = turn.refusal or "a content filter cut the answer"
            else:
                turn.cut = reason or "no reason given"
        for number, item in enumerate(reply.output):
            if isinstance(item, FunctionCall):
                call = ToolCall(
                    id=item.call_id or f"call_{run.turns}_{number}", name=item.name, arguments=item.arguments
                )
                turn.calls.append(call)
                turn.items.append(
                    {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
                )
            elif isinstance(item, OutputMessage):
                turn.items += _said(item)
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
                # What a server's own tools did goes back as it came.
                turn.items.append(item.to_dict())
        if not reply.output and turn.text:
            turn.items.append({"type": "message", "role": "assistant", "content": turn.text})
        if self._stores and reply.id:
            run.response_id, run.sent = reply.id, len(run.items) + len(turn.items)
        return turn

    def count(self, usage: Any, into: Usage) -> None:
        """Add the tokens that a reply states."""
        into.input_tokens += usage.input_tokens
        into.output_tokens += usage.output_tokens
        taken, given = usage.input_tokens_details, usage.output_tokens_details
        into.cached_tokens += (taken and taken.cached_tokens) or 0
        into.reasoning_tokens += (given and given.reasoning_tokens) or 0

    def result(self, call: ToolCall) -> dict[str, Any]:
        """Return a call's result as an item of the history."""
        return {"type": "function_call_output", "call_id": call.id, "output": call.output}


def items_of(given: str | Iterable[Mapping[str, Any] | msgspec.Struct]) -> list[Any]:
    """Return what a user says as items of a history; both endpoints take a message in this form."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return [item.to_dict() if hasattr(item, "to_dict") else item for item in given]


def dialect_of(endpoint: str) -> Dialect:
    """Return a new dialect for `endpoint`. Raises ValueError for one that there is not."""
    if endpoint == "chat":
        return Chat()
    if endpoint == "responses":
        return Responses()
    raise ValueError(f'endpoint must be "chat" or "responses", not {endpoint!r}')


def _said(item: OutputMessage) -> list[dict[str, Any]]:
    """A message of the model in the short form of an input message, which needs no id and no status."""
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
    for vendor in VENDORS:
        known = vendor.models.get(model)
        if known is not None:
            return known.takes_reasoning
    return None
