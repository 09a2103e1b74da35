"""Joins the chunks of a stream into one chat completion.

Text and arguments are concatenated; of a number or word, the last value counts; `chat.call_pieces` tells tool calls
apart, and `chat.merging` has the rules for fields that no struct declares. It has no I/O. It may import these two,
`chat.chunks`, `chat.endings`, `chat.repeats` and what lies below it.
"""

from __future__ import annotations

from typing import Any

from aimlasync.chat.call_pieces import Call, Calls
from aimlasync.chat.chunks import ChatCompletionChunk, ChunkChoice, Delta, ToolCallDelta
from aimlasync.chat.endings import given_up
from aimlasync.chat.merging import merge, merged, update
from aimlasync.chat.repeats import Repeats, repeats_of
from aimlasync.chat.types import (
    Annotation,
    ChatCompletion,
    Choice,
    Logprobs,
    Message,
    TokenLogprob,
    Usage,
)
from aimlasync.wire.base import Meta, encode
from aimlasync.wire.pieces import joined
from aimlasync.wire.reading import add_fields

# How many chunks in a row are taken apart, though none of the others repeats them.
_TRIES = 8
# How a content begins that is a list of parts.
_PARTS = b'"content":[', b'"content": ['
_NOWHERE = (b"",)


class _Growing:
    """One choice being assembled."""

    __slots__ = (
        "annotations",
        "calls",
        "content",
        "finish_reason",
        "function",
        "logprobs",
        "more",
        "parts",
        "reasoning",
        "refusal",
        "role",
    )

    def __init__(self) -> None:
        self.role = ""
        # None until the first piece, which tells an empty text from no text.
        self.content: list[str] | None = None
        # The whole content by its parts, where a delta had a list of them instead of a text (Mistral's reasoning).
        self.parts: dict[str, Any] = {}
        self.refusal: list[str] | None = None
        self.reasoning: list[str] | None = None
        self.calls: Calls | None = None
        self.annotations: list[Annotation] | None = None
        self.function: Call | None = None
        self.finish_reason: str | None = None
        self.logprobs: Logprobs | None = None
        # Undeclared fields: those of the deltas, and those of the choice.
        self.more: tuple[dict[str, Any], dict[str, Any]] | None = None

    def add_parts(self, said: Any) -> None:
        """Take in the content of a delta by its parts, before `add` takes in its text."""
        if isinstance(said, list):
            if not self.parts and (text := _joined(self.content)):
                said = [{"type": "text", "text": text}, *said]
            merge(self.parts, {"content": said})
        elif isinstance(said, str) and said and self.parts:
            merge(self.parts, {"content": [{"type": "text", "text": said}]})

    def add(self, choice: ChunkChoice, open: bool) -> str | None:
        """Take in a choice, which may have undeclared fields if it is `open`.

        Returns the word by which it says that the server gave up.
        """
        delta, reason = choice.delta, choice.finish_reason
        if open and "message" in vars(choice):
            self._leave_out(delta, vars(choice)["message"])
        if (content := delta.content) is not None:
            if self.content is None:
                self.content = []
            self.content.append(content)
        if reason is not None:
            self.finish_reason = reason
        if delta.role is not None:
            self.role = delta.role
        if delta.tool_calls is not None:
            if self.calls is None:
                self.calls = Calls()
            self.calls.add(delta.tool_calls, open=open)
        if delta.reasoning_content is not None:
            if self.reasoning is None:
                self.reasoning = []
            self.reasoning.append(delta.reasoning_content)
        if delta.refusal is not None:
            if self.refusal is None:
                self.refusal = []
            self.refusal.append(delta.refusal)
        if delta.function_call is not None:
            self.function = self.function or Call()
            self.function.add(ToolCallDelta(function=delta.function_call))
        if delta.annotations is not None:
            known, more = self.annotations or [], delta.annotations
            # Some servers repeat the whole list in each delta.
            self.annotations = list(more) if more[: len(known)] == known else [*known, *more]
        if choice.logprobs is not None:
            self._add_logprobs(choice.logprobs)
        if open and (vars(delta) or vars(choice)):
            self.more = self.more or ({}, {})
            merge(self.more[0], vars(delta))
            update(self.more[1], vars(choice))
            if vars(choice).get("error"):
                # With whatever reason to finish, or with none.
                return "error"
        return None if reason is None else given_up(reason, vars(choice).get("native_finish_reason") if open else None)

    def _leave_out(self, delta: Delta, message: Any) -> None:
        """Take the texts out of a delta that are there already, as the message beside it says, which is the whole."""
        for name, pieces in (
            ("content", self.content),
            ("reasoning_content", self.reasoning),
            ("refusal", self.refusal),
        ):
            text = getattr(delta, name)
            if text and isinstance(message, dict) and message.get(name) == text == _joined(pieces):
                setattr(delta, name, None)

    def _add_logprobs(self, more: Logprobs) -> None:
        if self.logprobs is None:
            self.logprobs = Logprobs()
        # They are copied to new lists, since a caller may hold the first chunk.
        if more.content is not None:
            if self.logprobs.content is None:
                self.logprobs.content = []
            self.logprobs.content.extend(more.content)
        if more.refusal is not None:
            if self.logprobs.refusal is None:
                self.logprobs.refusal = []
            self.logprobs.refusal.extend(more.refusal)
        # Together and others have lists of tokens and of numbers.
        beside = vars(self.logprobs)
        for key, value in vars(more).items():
            if isinstance(beside.get(key), list) and isinstance(value, list):
                beside[key] += value
            elif value is not None or key not in beside:
                beside[key] = list(value) if isinstance(value, list) else value

    def whole(self, index: int) -> Choice:
        function = self.function.whole().function if self.function is not None else None
        message = Message(
            role=self.role or "assistant",
            content=_joined(self.content),
            refusal=_joined(self.refusal),
            reasoning_content=_joined(self.reasoning),
            tool_calls=None if self.calls is None else self.calls.whole(),
            function_call=function,
            annotations=self.annotations,
        )
        logprobs = self.logprobs
        if logprobs is not None:
            # It is copied, since later chunks extend it.
            beside = {key: list(value) if isinstance(value, list) else value for key, value in vars(logprobs).items()}
            logprobs = Logprobs(content=_copied(logprobs.content), refusal=_copied(logprobs.refusal))
            vars(logprobs).update(beside)
        if self.parts:
            message.json_place = (encode({"role": message.role, **merged(self.parts)}),)
        choice = Choice(index=index, message=message, finish_reason=self.finish_reason, logprobs=logprobs)
        if self.more is not None:
            add_fields(message, merged(self.more[0]))
            more = merged(self.more[1])
            beside = more.pop("message", None)
            if isinstance(beside, dict):
                # A message beside the deltas, which is the whole, may have what they do not.
                add_fields(
                    message, {key: value for key, value in beside.items() if getattr(message, key, None) is None}
                )
            add_fields(choice, more)
        return choice


def _copied(tokens: list[TokenLogprob] | None) -> list[TokenLogprob] | None:
    return None if tokens is None else list(tokens)


def _joined(pieces: list[str] | None) -> str | None:
    return None if pieces is None else joined(pieces)


class Assembler:
    """Takes the chunks of one stream, and returns them as one ChatCompletion, complete or cut."""

    __slots__ = ("_choices", "_head", "_last", "_meta", "_more", "_tries", "_usage", "repeats")

    def __init__(self) -> None:
        self._choices: dict[int, _Growing] = {}
        # The first chunk with an id: some servers leave id and model empty in the first chunk, or in all but the first.
        self._head: ChatCompletionChunk | None = None
        self._usage: Usage | None = None
        self._meta: Meta | None = None
        # Undeclared fields of the chunks.
        self._more: dict[str, Any] = {}
        # The last chunk that did not repeat the one before.
        self._last: ChatCompletionChunk | None = None
        self.repeats: Repeats | None = None
        """What reads, and takes in, an event that repeats the last chunk but for its text."""
        self._tries = _TRIES

    def add(self, chunk: ChatCompletionChunk) -> str | None:
        """Take in one chunk; return the word by which a choice of it says that the server gave up."""
        if self.repeats is not None:
            if not self.repeats.is_idle:
                self._tries = _TRIES
            self.repeats = None
        if (head := self._head) is None or (not head.id and chunk.id):
            self._head = chunk
        choices, usage, meta = chunk.choices, chunk.usage, chunk.meta
        if usage is not None:
            # Usage on several chunks is cumulative: the last one counts, and they are not summed.
            self._usage = usage
        if (groq := chunk.x_groq) is not None:
            if usage is None:
                self._usage = groq.usage or self._usage
            self._more["x_groq"] = self._more.get("x_groq", {}) | groq.to_dict()
        if meta is not None:
            self._meta = meta
        self._last = chunk
        # Bytes alone mean that it has no undeclared field, at any depth.
        place = getattr(chunk, "json_place", _NOWHERE)
        open, has_parts = type(place) is not bytes, False
        if open:
            update(self._more, vars(chunk))
            has_parts = _PARTS[0] in place[0] or _PARTS[1] in place[0]
        failure = None
        for choice in choices:
            index = choice.index
            growing = self._choices.get(index)
            if growing is None:
                growing = self._choices[index] = _Growing()
            if has_parts or growing.parts:
                growing.add_parts(choice.delta.to_dict().get("content"))
            failure = growing.add(choice, open) or failure
            if choice.usage is not None:
                self._usage = choice.usage
        if self._tries and len(choices) == 1 and not (growing := self._choices[choices[0].index]).parts:
            if choices[0].delta.content and growing.content is not None:
                self.repeats = repeats_of(chunk, "content", growing.content)
                self._tries -= 1
            elif growing.reasoning is not None:
                self.repeats = repeats_of(chunk, "reasoning_content", growing.reasoning)
                self._tries -= 1
        return failure

    def add_tail(self, chunk: ChatCompletionChunk) -> None:
        """Take in what a chunk behind the end states of usage and cost; what else it says is not part of the answer."""
        stated = [chunk.usage, *(choice.usage for choice in chunk.choices)]
        if chunk.x_groq is not None:
            stated.append(chunk.x_groq.usage)
        self._usage = next((usage for usage in stated if usage is not None), self._usage)
        self._meta = chunk.meta or self._meta
        if (cost := vars(chunk).get("cost")) is not None:
            self._more["cost"] = cost

    @property
    def usage(self) -> Usage | None:
        """The last usage that the server sent, None before it sent one."""
        return self._usage

    @property
    def cost(self) -> Any:
        """The last cost that the server stated beside the usage."""
        return self._more.get("cost")

    @property
    def aside(self) -> ChatCompletionChunk | None:
        """The last chunk, where it has no choices. Usage or cost in it end a stream as a finish_reason does."""
        return None if self._last is None or self._last.choices else self._last

    @property
    def finished(self) -> bool:
        """Whether a clean end of the connection at this point completes the answer."""
        if (aside := self.aside) is not None and not (aside.usage is None is aside.meta):
            return not self.is_cut()
        return bool(self._choices) and all(c.finish_reason is not None for c in self._choices.values())

    def is_cut(self) -> bool:
        """Whether a choice without a finish reason ends in the middle of a tool call, whatever the server says."""
        return any(c.finish_reason is None and c.calls is not None and c.calls.is_cut() for c in self._choices.values())

    def whole(self) -> ChatCompletion:
        """Return the chunks so far as one reply."""
        head = self._head or ChatCompletionChunk()
        # Some servers say at the end alone who answered, and how.
        last = self._last or head
        whole = ChatCompletion(
            id=head.id,
            created=head.created or last.created,
            model=head.model or last.model,
            choices=[self._choices[index].whole(index) for index in sorted(self._choices)],
            usage=self._usage,
            service_tier=head.service_tier or last.service_tier,
            system_fingerprint=head.system_fingerprint or last.system_fingerprint,
            meta=self._meta,
        )
        add_fields(whole, self._more)
        return whole
