"""Joins the chunks of a stream into one chat completion.

Text and arguments are concatenated; of a number or word, the last value counts; tool calls are told apart by their
index. It has no I/O. It may import `chat.chunks` and what lies below it.
"""

from __future__ import annotations

from aimlasync.chat.chunks import ChatCompletionChunk, ChunkChoice, ToolCallDelta
from aimlasync.chat.types import (
    Annotation,
    ChatCompletion,
    Choice,
    CustomCall,
    FunctionCall,
    Logprobs,
    Message,
    TokenLogprob,
    ToolCall,
    Usage,
)
from aimlasync.wire.base import Meta


class _Call:
    """One tool call being assembled."""

    __slots__ = ("arguments", "id", "input", "name", "type")

    def __init__(self) -> None:
        self.id = ""
        self.type = ""
        self.name = ""
        self.arguments: list[str] = []
        self.input: list[str] | None = None

    def differs(self, piece: ToolCallDelta, *, indexed: bool) -> bool:
        """Whether `piece` begins another call than this one."""
        name = piece.function.name if piece.function is not None else None
        if piece.id and self.id:
            # Servers have been seen that change the id within one call of the same index. Only a new id with a name
            # begins another call there.
            return piece.id != self.id and (not indexed or bool(name))
        return not indexed and not piece.id and bool(name) and bool(self.name)

    def add(self, piece: ToolCallDelta) -> None:
        self.id = piece.id or self.id
        self.type = piece.type or self.type
        if piece.function is not None:
            # The name comes whole; servers that repeat it send the same name.
            self.name = piece.function.name or self.name
            if piece.function.arguments:
                self.arguments.append(piece.function.arguments)
        if piece.custom is not None:
            self.name = piece.custom.name or self.name
            self.input = self.input or []
            if piece.custom.input:
                self.input.append(piece.custom.input)

    def whole(self) -> ToolCall:
        if self.input is not None:
            custom = CustomCall(name=self.name, input="".join(self.input))
            return ToolCall(id=self.id, type=self.type or "custom", custom=custom)
        function = FunctionCall(name=self.name, arguments="".join(self.arguments))
        return ToolCall(id=self.id, type=self.type or "function", function=function)


class _Growing:
    """One choice being assembled."""

    __slots__ = (
        "annotations",
        "calls",
        "content",
        "finish_reason",
        "function",
        "latest",
        "logprobs",
        "moved",
        "reasoning",
        "refusal",
        "role",
    )

    def __init__(self) -> None:
        self.role = ""
        # None until the first piece, which tells an empty text from no text.
        self.content: list[str] | None = None
        self.refusal: list[str] | None = None
        self.reasoning: list[str] | None = None
        self.calls: dict[int, _Call] = {}
        self.latest = -1
        # The server's index whose call was last assigned to another index.
        self.moved = -1
        self.annotations: list[Annotation] | None = None
        self.function: _Call | None = None
        self.finish_reason: str | None = None
        self.logprobs: Logprobs | None = None

    def add(self, choice: ChunkChoice) -> None:
        delta = choice.delta
        if delta.content is not None:
            if self.content is None:
                self.content = []
            self.content.append(delta.content)
        if choice.finish_reason is not None:
            self.finish_reason = choice.finish_reason
        if delta.role is not None:
            self.role = delta.role
        if delta.tool_calls is not None:
            for piece in delta.tool_calls:
                self._call(piece).add(piece)
        if delta.reasoning_content is not None:
            if self.reasoning is None:
                self.reasoning = []
            self.reasoning.append(delta.reasoning_content)
        if delta.refusal is not None:
            if self.refusal is None:
                self.refusal = []
            self.refusal.append(delta.refusal)
        if delta.function_call is not None:
            self.function = self.function or _Call()
            self.function.add(ToolCallDelta(function=delta.function_call))
        if delta.annotations is not None:
            self.annotations = [*(self.annotations or ()), *delta.annotations]
        if choice.logprobs is not None:
            self._add_logprobs(choice.logprobs)

    def _call(self, piece: ToolCallDelta) -> _Call:
        """Return the call that a piece belongs to: by its index, unless the piece begins another call.

        Some servers leave the index out, or give every call the index 0. There a new id or a second name begins a call.
        """
        index = piece.index if piece.index is not None else self.latest
        known = self.calls.get(index)
        if known is None:
            index = max(index, 0)
        elif known.differs(piece, indexed=piece.index is not None):
            index = max(self.calls) + 1
        elif piece.index is not None and index != self.latest and self.moved == index and not piece.id:
            # A fragment of the call that was assigned to another index.
            index = self.latest
        if piece.index is not None and index != piece.index:
            self.moved = piece.index
        self.latest = index
        return self.calls.setdefault(index, _Call())

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

    def whole(self, index: int) -> Choice:
        function = self.function.whole().function if self.function is not None else None
        message = Message(
            role=self.role or "assistant",
            content=_joined(self.content),
            refusal=_joined(self.refusal),
            reasoning_content=_joined(self.reasoning),
            tool_calls=[self.calls[i].whole() for i in sorted(self.calls)] or None,
            function_call=function,
            annotations=self.annotations,
        )
        logprobs = self.logprobs
        if logprobs is not None:
            # It is copied, since later chunks extend it.
            logprobs = Logprobs(content=_copied(logprobs.content), refusal=_copied(logprobs.refusal))
        return Choice(index=index, message=message, finish_reason=self.finish_reason, logprobs=logprobs)


def _copied(tokens: list[TokenLogprob] | None) -> list[TokenLogprob] | None:
    return None if tokens is None else list(tokens)


def _joined(pieces: list[str] | None) -> str | None:
    return None if pieces is None else "".join(pieces)


class Assembler:
    """Takes the chunks of one stream, and returns them as one ChatCompletion, complete or cut."""

    __slots__ = ("_choices", "_head", "_meta", "_tail", "_usage")

    def __init__(self) -> None:
        self._choices: dict[int, _Growing] = {}
        # The first chunk with an id: some servers leave id and model empty in the first chunk, or in all but the first.
        self._head: ChatCompletionChunk | None = None
        self._usage: Usage | None = None
        self._meta: Meta | None = None
        # Whether the last chunk held usage or cost and no choices, which ends a stream as a finish_reason does.
        self._tail = False

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Take in one chunk."""
        if self._head is None or (not self._head.id and chunk.id):
            self._head = chunk
        if chunk.usage is not None:
            # Usage on several chunks is cumulative: the last one counts, and they are not summed.
            self._usage = chunk.usage
        elif chunk.x_groq is not None:
            self._usage = chunk.x_groq.usage or self._usage
        if chunk.meta is not None:
            self._meta = chunk.meta
        self._tail = not chunk.choices and (chunk.usage is not None or chunk.meta is not None)
        for choice in chunk.choices:
            growing = self._choices.get(choice.index)
            if growing is None:
                growing = self._choices[choice.index] = _Growing()
            growing.add(choice)
            if choice.usage is not None:
                self._usage = choice.usage

    @property
    def usage(self) -> Usage | None:
        """The last usage that the server sent, None before it sent one."""
        return self._usage

    @property
    def finished(self) -> bool:
        """Whether a clean end of the connection at this point completes the answer."""
        if self._tail:
            return True
        return bool(self._choices) and all(c.finish_reason is not None for c in self._choices.values())

    def whole(self) -> ChatCompletion:
        """Return the chunks so far as one reply."""
        head = self._head or ChatCompletionChunk()
        return ChatCompletion(
            id=head.id,
            created=head.created,
            model=head.model,
            choices=[self._choices[index].whole(index) for index in sorted(self._choices)],
            usage=self._usage,
            service_tier=head.service_tier,
            system_fingerprint=head.system_fingerprint,
            meta=self._meta,
        )
