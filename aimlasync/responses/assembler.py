"""Joins the events of a stream into one response.

The terminal event carries the whole response. Before it arrives, or where its `output` is empty, the response is put
together from the other events. It has no I/O. It may import `responses.events` and what lies below it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from copy import copy
from typing import Any, TypeAlias, TypeVar

from aimlasync.responses import events
from aimlasync.responses.events import ResponseStreamEvent
from aimlasync.responses.items import (
    FunctionCall,
    OutputItem,
    OutputMessage,
    OutputRefusal,
    OutputText,
    Part,
    ReasoningItem,
    ReasoningText,
    SummaryText,
)
from aimlasync.responses.types import Response, ResponseUsage, complete
from aimlasync.wire.base import Open, Unknown
from aimlasync.wire.pieces import joined

_S = TypeVar("_S", bound=Open)
_Thought: TypeAlias = ReasoningText | SummaryText


def _changed(struct: _S, **fields: Any) -> _S:
    """Return a copy with other fields; what the server said beside the declared ones stays."""
    made = copy(struct)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _end(pieces: list[str], whole: str) -> None:
    """Replace the pieces of a text by the whole of it, which some gateways leave empty."""
    if whole:
        pieces[:] = (whole,)


def _differ(one: OutputItem, other: OutputItem) -> bool:
    """Whether two items are of different types, or say different ids."""
    ids = getattr(one, "id", None), getattr(other, "id", None)
    return type(one) is not type(other) or one.type != other.type or (all(ids) and ids[0] != ids[1])


def _is_blank(part: Part) -> bool:
    return not (part.text if isinstance(part, OutputText) else getattr(part, "refusal", part))


class Assembler:
    """Takes the events of one stream, and returns them as one Response, complete or cut."""

    __slots__ = ("_args", "_before", "_ended", "_items", "_parts", "_refusals", "_response", "_texts", "_thoughts")

    def __init__(self) -> None:
        # The last full Response that the server sent; that of the terminal event is the answer.
        self._response: Response | None = None
        self._items: dict[int, OutputItem] = {}
        # The places whose item has ended, and items whose place was then given to another one.
        self._ended: set[int] = set()
        self._before: dict[int, list[OutputItem]] = {}
        # The parts of messages by (output_index, content_index): what they say beside their text.
        self._parts: dict[tuple[int, int], Part] = {}
        # The pieces of texts and refusals by (output_index, content_index), those of function calls by output_index.
        self._texts: dict[tuple[int, int], list[str]] = defaultdict(list)
        self._refusals: dict[tuple[int, int], list[str]] = defaultdict(list)
        self._args: dict[int, list[str]] = defaultdict(list)
        # The pieces of reasoning by output_index, the kind of part that they are of, and its index.
        self._thoughts: dict[tuple[int, type[_Thought], int], list[str]] = defaultdict(list)

    def continues(self, id: str) -> None:
        """Note the id of the response, of which an earlier stream brought the beginning."""
        if self._response is None:
            self._response = Response(id=id)

    def add(self, *events: ResponseStreamEvent) -> None:
        """Take in events."""
        for event in events:
            take = _TAKE.get(type(event))
            if take is not None:
                take(self, event)

    def _take_run(self, event: Any) -> None:
        response, known = event.response, self._response
        if known is not None and not response.id:
            # Some gateways say who answers at the beginning alone, and nothing of it to show that they are there.
            if type(event) not in events.TERMINAL:
                return
            about = {"id": known.id, "model": response.model or known.model}
            response = _changed(response, **about, created_at=response.created_at or known.created_at)
        self._response = response

    def _take_item(self, event: Any) -> None:
        index, item = event.output_index, event.item
        begins = type(event) is events.ResponseOutputItemAddedEvent
        known, before = self._items.get(index), self._before.get(index, ())
        if before and not begins and not all(_differ(one, item) for one in before):
            # The end of an item whose place has been given away.
            return
        if known is not None and (begins or index in self._ended) and _differ(known, item):
            # Gateways that translate from chat count each kind of items by itself.
            self._before[index] = [*before, self._item(index)]
            self._clear(index)
        if not begins:
            self._ended.add(index)
        self._items[index] = item

    def _clear(self, index: int) -> None:
        """Drop the pieces at a place, which were those of an item before."""
        self._ended.discard(index)
        self._args.pop(index, None)
        known: tuple[dict[Any, Any], ...] = (self._texts, self._refusals, self._parts, self._thoughts)
        for pieces in known:
            for at in [at for at in pieces if at[0] == index]:
                del pieces[at]

    def _take_part(self, event: Any) -> None:
        self._parts[event.output_index, event.content_index] = event.part

    def _take_text(self, event: Any) -> None:
        self._texts[event.output_index, event.content_index].append(event.delta)

    def _take_text_done(self, event: Any) -> None:
        _end(self._texts[event.output_index, event.content_index], event.text)

    def _take_refusal(self, event: Any) -> None:
        self._refusals[event.output_index, event.content_index].append(event.delta)

    def _take_refusal_done(self, event: Any) -> None:
        _end(self._refusals[event.output_index, event.content_index], event.refusal)

    def _take_summary(self, event: Any) -> None:
        self._thoughts[event.output_index, SummaryText, event.summary_index].append(event.delta)

    def _take_summary_done(self, event: Any) -> None:
        _end(self._thoughts[event.output_index, SummaryText, event.summary_index], event.text)

    def _take_reasoning(self, event: Any) -> None:
        self._thoughts[event.output_index, ReasoningText, event.content_index].append(event.delta)

    def _take_reasoning_done(self, event: Any) -> None:
        _end(self._thoughts[event.output_index, ReasoningText, event.content_index], event.text)

    def _take_input_done(self, event: Any) -> None:
        _end(self._args[event.output_index], event.input)

    def _take_args(self, event: Any) -> None:
        self._args[event.output_index].append(event.delta)

    def _take_args_done(self, event: Any) -> None:
        _end(self._args[event.output_index], event.arguments)

    @property
    def usage(self) -> ResponseUsage | None:
        """The last usage that the server sent, None before it sent one."""
        return None if self._response is None else self._response.usage

    @property
    def cost(self) -> Any:
        """The cost that the server stated beside the usage."""
        return None if self._response is None else vars(self._response).get("cost")

    @property
    def finished(self) -> bool:
        """Whether a clean end of the connection at this point completes the answer: never without a terminal event."""
        return False

    def whole(self) -> Response:
        """Return the events so far as one reply."""
        response = self._response
        if response is None:
            response = Response()
        if not response.output and (self._items or self._texts or self._refusals or self._args or self._thoughts):
            # The server ended with an empty `output`, or the stream was cut: what was streamed is the answer. Items are
            # copied, since callers may hold the events.
            response = _changed(response, output=self._output())
            complete(response, finished=False)
        return response

    def _output(self) -> list[OutputItem]:
        output: list[OutputItem] = []
        pieces = (self._texts, self._refusals, self._thoughts)
        for index in sorted({*self._items, *self._args, *(at[0] for known in pieces for at in known)}):
            output += self._before.get(index, ())
            output.append(self._item(index))
        return output

    def _item(self, index: int) -> OutputItem:
        """Return the item at a place, with what was streamed of it."""
        item = self._items.get(index)
        if item is None:
            item = self._missing(index)
        if isinstance(item, OutputMessage):
            content = list(item.content)
            for at in sorted(key for key in self._texts | self._refusals if key[0] == index):
                if at[1] >= len(content):
                    content.append(self._part(at, self._parts.get(at)))
                elif _is_blank(content[at[1]]):
                    content[at[1]] = self._part(at, content[at[1]])
            item = _changed(item, content=content)
        elif isinstance(item, FunctionCall) and not item.arguments:
            item = _changed(item, arguments=joined(self._args.get(index, [])))
        elif isinstance(item, ReasoningItem):
            summary, content = self._thought(index, SummaryText), self._thought(index, ReasoningText)
            item = _changed(item, summary=item.summary or summary, content=item.content or content or item.content)
        elif isinstance(item, Unknown) and index in self._args and not getattr(item, "input", "unknown"):
            # A call of a custom tool, which no struct describes.
            item = copy(item)
            item.input = joined(self._args[index])
        return item

    def _part(self, at: tuple[int, int], known: Part | None) -> Part:
        """Return a part of a message with the text that was streamed; `known` is what else was said of it."""
        if at in self._texts:
            text = joined(self._texts[at])
            return _changed(known, text=text) if isinstance(known, OutputText) else OutputText(text=text)
        refusal = joined(self._refusals[at])
        return _changed(known, refusal=refusal) if isinstance(known, OutputRefusal) else OutputRefusal(refusal=refusal)

    def _missing(self, index: int) -> OutputItem:
        """Return an item of which nothing but pieces has come."""
        if index in self._args:
            return FunctionCall()
        return ReasoningItem() if any(at[0] == index for at in self._thoughts) else OutputMessage()

    def _thought(self, index: int, kind: type[_Thought]) -> list[Part]:
        """Return the parts of one kind that were streamed of a reasoning item, in order."""
        places = sorted(at[2] for at in self._thoughts if at[:2] == (index, kind))
        return [kind(text=joined(self._thoughts[index, kind, at])) for at in places]


_TAKE: dict[type, Callable[[Assembler, Any], None]] = {
    events.ResponseCreatedEvent: Assembler._take_run,
    events.ResponseQueuedEvent: Assembler._take_run,
    events.ResponseInProgressEvent: Assembler._take_run,
    events.ResponseCompletedEvent: Assembler._take_run,
    events.ResponseFailedEvent: Assembler._take_run,
    events.ResponseIncompleteEvent: Assembler._take_run,
    events.ResponseOutputItemAddedEvent: Assembler._take_item,
    events.ResponseOutputItemDoneEvent: Assembler._take_item,
    events.ResponseContentPartAddedEvent: Assembler._take_part,
    events.ResponseContentPartDoneEvent: Assembler._take_part,
    events.ResponseTextDeltaEvent: Assembler._take_text,
    events.ResponseTextDoneEvent: Assembler._take_text_done,
    events.ResponseRefusalDeltaEvent: Assembler._take_refusal,
    events.ResponseRefusalDoneEvent: Assembler._take_refusal_done,
    events.ResponseReasoningSummaryTextDeltaEvent: Assembler._take_summary,
    events.ResponseReasoningSummaryTextDoneEvent: Assembler._take_summary_done,
    events.ResponseReasoningTextDeltaEvent: Assembler._take_reasoning,
    events.ResponseReasoningTextDoneEvent: Assembler._take_reasoning_done,
    events.ResponseCustomToolCallInputDeltaEvent: Assembler._take_args,
    events.ResponseCustomToolCallInputDoneEvent: Assembler._take_input_done,
    events.ResponseFunctionCallArgumentsDeltaEvent: Assembler._take_args,
    events.ResponseFunctionCallArgumentsDoneEvent: Assembler._take_args_done,
}
