"""The chunks of a /chat/completions stream: structs and their decoder.

It has no I/O. It may import `chat.types` and `wire.base`; `chat.assembler` joins chunks into a reply. Source: the
`text/event-stream` schema of the AI/ML API's chat specs (2026-08). Servers send more than it allows: keys are missing
or null, choices are empty, and usage and cost come in chunks of their own at the end.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aimlasync.chat.types import (
    Annotation,
    ChatCompletion,
    Logprobs,
    Usage,
)
from aimlasync.wire.base import Meta, Received, Wire, decode


class FunctionDelta(Wire):
    """A piece of a function call."""

    name: str | None = None
    arguments: str | None = None


class CustomDelta(Wire):
    """A piece of a custom tool call."""

    name: str | None = None
    input: str | None = None


class ToolCallDelta(Wire):
    """A piece of the tool call number `index`; id, type and name come once, arguments in fragments."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None
    custom: CustomDelta | None = None


class Delta(Wire):
    """What a chunk adds to a message."""

    content: str | None = None
    role: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    reasoning_content: str | None = None
    function_call: FunctionDelta | None = None
    annotations: list[Annotation] | None = None


class ChunkChoice(Wire):
    """What a chunk adds to one choice; `delta` is never None, also where the server leaves it out."""

    index: int = 0
    delta: Delta = msgspec.field(default_factory=Delta)
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    usage: Usage | None = None
    """Where Moonshot states it, in the last chunk."""


class GroqTail(Wire):
    """Groq's own block in the last chunk."""

    usage: Usage | None = None


class ChatCompletionChunk(Received):
    """One chunk of a stream; the last ones may have usage or cost and no choices."""

    id: str = ""
    object: str = "chat.completion.chunk"
    created: int | None = None
    model: str = ""
    choices: list[ChunkChoice] = []
    usage: Usage | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    meta: Meta | None = None
    x_groq: GroqTail | None = None
    error: Any = None


_chunk = msgspec.json.Decoder(ChatCompletionChunk)


def decode_chunk(raw: bytes) -> ChatCompletionChunk:
    """Decode one event's data. Raises like `decode_completion`."""
    chunk = decode(raw, _chunk, ChatCompletionChunk)
    for choice in chunk.choices:
        # Some servers send "" instead of null (seen: ollama, sglang).
        if choice.finish_reason == "":
            choice.finish_reason = None
    chunk.__dict__["raw"] = raw
    return chunk


def chunk_of(reply: ChatCompletion) -> ChatCompletionChunk:
    """Return a whole reply as the only chunk of a stream, for servers that ignore `stream`."""
    chunk = decode_chunk(reply.raw)
    for choice, whole in zip(chunk.choices, reply.choices, strict=False):
        message = whole.message
        choice.delta = Delta(
            content=message.content,
            role=message.role,
            refusal=message.refusal,
            reasoning_content=message.reasoning_content,
            function_call=None
            if message.function_call is None
            else FunctionDelta(name=message.function_call.name, arguments=message.function_call.arguments),
            tool_calls=[
                ToolCallDelta(
                    index=index,
                    id=call.id,
                    type=call.type,
                    function=FunctionDelta(name=call.function.name, arguments=call.function.arguments),
                    custom=None if call.custom is None else CustomDelta(name=call.custom.name, input=call.custom.input),
                )
                for index, call in enumerate(message.tool_calls or ())
            ]
            or None,
        )
    return chunk
