"""The chunks of a /chat/completions stream: structs and their decoder.

It has no I/O. It may import `chat.bare_calls`, `chat.endings`, `chat.types` and `wire.base`; `chat.assembler` joins
chunks into a reply. Source: the `text/event-stream` schema of the AI/ML API's chat specs (2026-08). Servers send more
than it allows: keys are missing or null, choices are empty, and usage and cost come in chunks of their own at the end.
"""

from __future__ import annotations

from typing import cast

import msgspec

from aimlasync.chat.bare_calls import said_bare
from aimlasync.chat.endings import UNSAID
from aimlasync.chat.types import (
    Annotation,
    ChatCompletion,
    Logprobs,
    Usage,
)
from aimlasync.plain_stores import plainly_stored
from aimlasync.wire.base import Json, Meta, Open, Received
from aimlasync.wire.objects import json_hook
from aimlasync.wire.reading import build, read


class FunctionDelta(Open):
    """A piece of a function call."""

    name: str | None = None
    arguments: str | None = None


class CustomDelta(Open):
    """A piece of a custom tool call."""

    name: str | None = None
    input: str | None = None


class ToolCallDelta(Open):
    """A piece of the tool call number `index`; id, type and name come once, arguments in fragments."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None
    custom: CustomDelta | None = None

    def settle(self) -> None:
        if self.function is None is self.custom and (said := said_bare(self)) is not None:
            self.function = FunctionDelta(name=said[0], arguments=said[1])


@plainly_stored
class Delta(Open):
    """What a chunk adds to a message."""

    content: str | None = None
    role: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    reasoning_content: str | None = None
    function_call: FunctionDelta | None = None
    annotations: list[Annotation] | None = None


@plainly_stored
class ChunkChoice(Open):
    """What a chunk adds to one choice; `delta` is never None, also where the server leaves it out."""

    index: int = 0
    delta: Delta = msgspec.field(default_factory=Delta)
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    usage: Usage | None = None
    """Where Moonshot states it, in the last chunk."""

    def settle(self) -> None:
        if self.finish_reason in UNSAID:
            self.finish_reason = None
        for piece in self.delta.tool_calls or ():
            piece.settle()


class GroqTail(Open):
    """Groq's own block in the first and the last chunk."""

    usage: Usage | None = None
    error: Json = None
    """Why the stream was stopped early."""


@plainly_stored
class ChatCompletionChunk(Received):
    """One chunk of a stream; the last ones may have usage or cost and no choices."""

    id: str = ""
    object: str = msgspec.field(default_factory=lambda: "chat.completion.chunk")
    created: int | None = None
    model: str = ""
    choices: list[ChunkChoice] = []
    usage: Usage | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    meta: Meta | None = None
    obfuscation: str | None = None
    """Padding, which hides the length of the text from who reads the traffic (OpenAI)."""
    x_groq: GroqTail | None = None
    error: Json = None

    def settle(self) -> None:
        for choice in self.choices:
            choice.settle()


_chunk = msgspec.json.Decoder(ChatCompletionChunk, dec_hook=json_hook)


def decode_chunk(raw: bytes) -> ChatCompletionChunk:
    """Decode one event's data. Raises like `decode_completion`."""
    try:
        chunk = _chunk.decode(raw)
    except (ValueError, RecursionError):
        # The errors of msgspec are ValueErrors, as are those of invalid UTF-8.
        chunk = cast(ChatCompletionChunk, read(raw, ChatCompletionChunk))
        chunk.settle()
        return chunk
    chunk.json_place = raw
    for number, choice in enumerate(chunk.choices):
        if choice.finish_reason is not None and choice.finish_reason in UNSAID:
            choice.finish_reason = None
        choice.json_place = (raw, "choices", number)
        delta = choice.delta
        delta.json_place = (raw, "choices", number, "delta")
        if delta.tool_calls is not None:
            for at, piece in enumerate(delta.tool_calls):
                piece.json_place = (raw, "choices", number, "delta", "tool_calls", at)
        if delta.annotations is not None:
            for at, note in enumerate(delta.annotations):
                note.json_place = (raw, "choices", number, "delta", "annotations", at)
    if chunk.usage is not None:
        chunk.usage.json_place = (raw, "usage")
    return chunk


def chunk_of(reply: ChatCompletion) -> ChatCompletionChunk:
    """Return a whole reply as the only chunk of a stream, for servers that ignore `stream`."""
    said = reply.to_dict()
    said["object"] = "chat.completion.chunk"
    said["choices"] = choices = []
    for whole in reply.choices:
        # The message as it was read, which may be no dict on the wire.
        choice = whole.to_dict()
        choice.pop("message", None)
        delta = choice["delta"] = whole.message.to_dict()
        if whole.message.tool_calls is not None:
            calls = enumerate(whole.message.tool_calls)
            delta["tool_calls"] = [{**call.to_dict(), "index": index} for index, call in calls]
        choices.append(choice)
    chunk = build(said, ChatCompletionChunk)
    chunk.settle()
    return chunk
