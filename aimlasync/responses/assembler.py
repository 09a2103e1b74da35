"""Joins the events of a stream into one response.

The terminal event carries the whole response. Before it arrives, or where its `output` is empty, the response is put
together from the other events. Servers leave out, share or change the index and the id by which an event says which
item it is about; so there is a place for each group of items under an index. It has no I/O. It may import
`responses.events` and what lies below it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from operator import is_not
from typing import Any, Literal, TypeAlias

from aimlasync.responses import events
from aimlasync.responses.events import ResponseStreamEvent
from aimlasync.responses.items import (
    Annotation,
    CodeInterpreterCall,
    FunctionCall,
    McpCall,
    OutputItem,
    OutputMessage,
    Part,
    ReasoningItem,
    ReasoningText,
    SummaryText,
)
from aimlasync.responses.message_pieces import MessagePieces
from aimlasync.responses.restated import changed, differ, filled, ids_of, is_blank, restated
from aimlasync.responses.types import Response, ResponseUsage, complete, text_of
from aimlasync.wire.base import Unknown
from aimlasync.wire.pieces import joined
from aimlasync.wire.reading import build

_Thought = ReasoningText | SummaryText
_Group: TypeAlias = Literal["message", "reasoning", "call"]
_Place: TypeAlias = int
"""Where an item is: the places are numbered as they are opened."""

# Messages among whose pieces a text is searched for.
_MOST_SEARCHED = 100
# The item of which nothing but pieces has come.
_MISSING: dict[_Group, Callable[[], OutputItem]] = {
    "message": OutputMessage,
    "reasoning": ReasoningItem,
    "call": FunctionCall,
}


def _end(pieces: list[str], whole: str) -> None:
    """Replace the pieces of a text by the whole of it, which some gateways leave empty."""
    if whole:
        pieces[:] = (whole,)


def _group_of(item: OutputItem) -> _Group:
    return "message" if isinstance(item, OutputMessage) else "reasoning" if isinstance(item, ReasoningItem) else "call"


class Assembler:
    """Takes the events of one stream, and returns them as one Response, complete or cut."""

    __slots__ = (
        "_args",
        "_by_id",
        "_ended",
        "_items",
        "_latest",
        "_messages",
        "_places",
        "_response",
        "_said",
        "_stated",
        "_thoughts",
    )

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        # The last full Response that the server sent; that of the terminal event is the answer.
        self._response: Response | None = None
        self._items: dict[_Place, OutputItem] = {}
        # The places whose item has ended.
        self._ended: set[_Place] = set()
        # The output_index and group of each place, the last place of each, and where the items are that ids name: None
        # for an id that several share.
        self._places: list[tuple[int, _Group]] = []
        self._latest: dict[tuple[int, _Group], _Place] = {}
        self._by_id: dict[tuple[str, _Group], _Place | None] = {}
        # What the last piece of a text was about, and the pieces of that text.
        self._said: tuple[tuple[str, int, int] | None, list[str]] = None, []
        # The indices of the texts that came whole, by place: see `unsaid`.
        self._stated: dict[_Place, set[int | None]] = defaultdict(set)
        # The pieces of messages, those of calls, and those of reasoning by the kind of part that they are of, and its
        # index.
        self._messages: dict[_Place, MessagePieces] = defaultdict(MessagePieces)
        self._args: dict[_Place, list[str]] = defaultdict(list)
        self._thoughts: dict[tuple[_Place, type[_Thought], int], list[str]] = defaultdict(list)

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
            response = changed(response, **about, created_at=response.created_at or known.created_at)
        elif known is not None and type(event) is events.ResponseCreatedEvent and known.id not in ("", response.id):
            # A gateway that asked another server when the first one failed: its answer begins anew.
            self._begin()
        self._response = response

    def _take_item(self, event: Any) -> None:
        index, item = event.output_index, event.item
        group = _group_of(item)
        begins = type(event) is events.ResponseOutputItemAddedEvent
        ids = ids_of(item)
        place = None if begins else self._named(ids, group)
        if place is None or self._items[place].type != item.type:
            place = self._latest.get((index, group))
            known = None if place is None else self._items.get(place)
            has_ended = place in self._ended
            differs = known is not None and (begins or has_ended) and differ(known, item)
            if place is None or differs or (begins and has_ended):
                # Gateways that translate from chat count each kind of items by itself, or not at all.
                place = self._open(index, group)
        if not begins:
            self._ended.add(place)
            before = self._items.get(place)
            if before is not None and place not in self._messages:
                # The pieces of a text fill it better than its beginning does.
                item = filled(item, before)
        self._items[place] = item
        self._said = None, []
        for id in ids:
            other = self._by_id.get((id, group), place)
            # What came of a call is an item that names it, too.
            if other is None or other == place or self._items[other].type == item.type:
                self._by_id[id, group] = place if other == place else None

    def _named(self, ids: list[str], group: _Group) -> _Place | None:
        found = (self._by_id.get((id, group)) for id in ids)
        return next((place for place in found if place is not None), None)

    def _open(self, index: int, group: _Group) -> _Place:
        place = self._latest[index, group] = len(self._places)
        self._places.append((index, group))
        return place

    def _at(self, event: Any, group: _Group) -> _Place:
        """Return the place that an event is about."""
        index = event.output_index
        if not index:
            # It may have been left out. Some gateways give each event an id of its own.
            id = event.item_id or vars(event).get("call_id")
            place = self._by_id.get((id, group)) if id and isinstance(id, str) else None
            if place is not None:
                return place
        place = self._latest.get((index, group))
        return self._open(index, group) if place is None else place

    def _message(self, event: Any) -> MessagePieces:
        return self._messages[self._at(event, "message")]

    def _take_part(self, event: Any) -> None:
        part = event.part
        if isinstance(part, _Thought):
            self._take_thought(event, part, event.content_index)
        else:
            self._message(event).parts[event.content_index] = part

    def _take_summary_part(self, event: Any) -> None:
        self._take_thought(event, event.part, event.summary_index)

    def _take_thought(self, event: Any, part: Part, index: int) -> None:
        if isinstance(part, _Thought) and part.text:
            self._thoughts[self._at(event, "reasoning"), type(part), index][:] = (part.text,)

    def _take_note(self, event: Any) -> None:
        if isinstance(event.annotation, dict):
            self._message(event).notes[event.content_index].append(build(event.annotation, Annotation))

    def _take_text(self, event: Any) -> None:
        # Most events are about what the one before was about.
        about = (event.item_id, event.output_index, event.content_index)
        if about != self._said[0]:
            self._said = about, self._message(event).texts[event.content_index]
        self._said[1].append(event.delta)
        if event.logprobs:
            self._message(event).logprobs[event.content_index] += event.logprobs

    def _take_text_done(self, event: Any) -> None:
        message = self._message(event)
        _end(message.texts[event.content_index], event.text)
        if event.logprobs:
            message.logprobs[event.content_index] = event.logprobs[:]

    def _take_refusal(self, event: Any) -> None:
        self._message(event).refusals[event.content_index].append(event.delta)

    def _take_refusal_done(self, event: Any) -> None:
        _end(self._message(event).refusals[event.content_index], event.refusal)

    def _take_summary(self, event: Any) -> None:
        self._thoughts[self._at(event, "reasoning"), SummaryText, event.summary_index].append(event.delta)

    def _take_summary_done(self, event: Any) -> None:
        _end(self._thoughts[self._at(event, "reasoning"), SummaryText, event.summary_index], event.text)

    def _take_reasoning(self, event: Any) -> None:
        self._thoughts[self._at(event, "reasoning"), ReasoningText, event.content_index].append(event.delta)

    def _take_reasoning_done(self, event: Any) -> None:
        _end(self._thoughts[self._at(event, "reasoning"), ReasoningText, event.content_index], event.text)

    def _take_args(self, event: Any) -> None:
        self._args[self._at(event, "call")].append(event.delta)

    def _take_args_done(self, event: Any) -> None:
        place = self._at(event, "call")
        _end(self._args[place], event.arguments)
        name, call_id = (vars(event).get(key) for key in ("name", "call_id"))
        if place not in self._items and name and isinstance(name, str):
            # Some servers tell of no item, and here what is called.
            call_id = call_id if isinstance(call_id, str) else ""
            self._items[place] = FunctionCall(name=name, call_id=call_id, id=event.item_id)

    def _take_input_done(self, event: Any) -> None:
        _end(self._args[self._at(event, "call")], event.input)

    def _take_code_done(self, event: Any) -> None:
        _end(self._args[self._at(event, "call")], event.code)

    def unsaid(self, event: Any) -> str:
        """Return the text that an event of STATING says as a whole, "" where it was said; before the event is added."""
        kind, index = type(event), None
        if kind in events.TERMINAL:
            text: str = event.response.output_text
            return "" if self._stated or any(pieces.has_pieces() for pieces in self._messages.values()) else text
        if kind is events.ResponseOutputItemDoneEvent:
            text, place = text_of([event.item]), self._latest.get((event.output_index, "message"), -1)
            if place in self._ended and differ(self._items[place], event.item):
                # Another message under the same index.
                place = -1
        else:
            part = getattr(event, "part", None)
            text = event.text if part is None else text_of([OutputMessage(content=[part])])
            place, index = self._at(event, "message"), event.content_index
        if not text or self._is_said(place, index) or self._is_heard(text):
            return ""
        self._stated[place].add(index)
        return text

    def _is_said(self, place: _Place, index: int | None) -> bool:
        if place < 0:
            return False
        stated, pieces = self._stated.get(place, set()), self._messages.get(place)
        is_stated = bool(stated) if index is None else index in stated
        return place in self._ended or is_stated or (pieces is not None and pieces.has_pieces(index))

    def _is_heard(self, text: str) -> bool:
        """Whether a text was said in pieces anywhere, since some servers err in the index."""
        return len(self._messages) < _MOST_SEARCHED and any(pieces.says(text) for pieces in self._messages.values())

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
        output, streamed = response.output, self._output()
        if output and (response.output_text or not self._has_text()):
            output = restated(output, [item for place, item in streamed if self._is_sure(place, item)])
        elif len(streamed) >= len(output):
            # The server ended with an empty `output`, or one without the text, or the stream was cut: what was streamed
            # is the answer. Items are copied, since callers may hold the events.
            output = [item for _, item in streamed]
        if len(output) != len(response.output) or any(map(is_not, output, response.output)):
            response = changed(response, output=output)
            complete(response, finished=False)
        return response

    def _is_sure(self, place: _Place, item: OutputItem) -> bool:
        """Whether an item was told of and is whole; some servers end no item."""
        if isinstance(item, OutputMessage) or place in self._ended:
            return True
        has_ended = self._response is not None and self._response.status == "completed"
        return has_ended and place in self._items and place in self._args

    def _has_text(self) -> bool:
        return any(pieces.has_text() for pieces in self._messages.values())

    def _output(self) -> list[tuple[_Place, OutputItem]]:
        """Return what was streamed, by place and in order."""
        # Empty pieces alone make no item.
        places = {*self._items, *(place for place, pieces in self._args.items() if any(pieces))}
        places.update(at[0] for at, pieces in self._thoughts.items() if any(pieces))
        places.update(place for place, message in self._messages.items() if message.says_something())
        found = [(place, self._item(place)) for place in sorted(places, key=lambda at: (self._places[at][0], at))]
        if strays := {place for place, item in found if isinstance(item, OutputMessage) and place not in self._items}:
            # The pieces of a text under another index than its message, which says it as a whole.
            heard = {place for place, message in self._messages.items() if message.has_pieces()}
            whole = {text_of([item]) for place, item in found if place in self._items and place not in heard}
            found = [(place, item) for place, item in found if place not in strays or text_of([item]) not in whole]
        return found

    def _item(self, place: _Place) -> OutputItem:
        """Return the item at a place, with what was streamed of it."""
        item = self._items.get(place)
        if item is None:
            item = _MISSING[self._places[place][1]]()
        if isinstance(item, OutputMessage):
            is_whole = place in self._ended and not all(map(is_blank, item.content))
            pieces = self._messages.get(place)
            item = changed(
                item, content=pieces.added_to(item.content, is_whole=is_whole) if pieces else item.content[:]
            )
        elif isinstance(item, (FunctionCall, McpCall)) and not item.arguments:
            item = changed(item, arguments=joined(self._args.get(place, [])))
        elif isinstance(item, ReasoningItem):
            summary, content = self._thought(place, SummaryText), self._thought(place, ReasoningText)
            item = changed(item, summary=item.summary or summary, content=item.content or content or item.content)
        elif isinstance(item, CodeInterpreterCall) and place in self._args and not item.code:
            item = changed(item, code=joined(self._args[place]))
        elif isinstance(item, Unknown) and place in self._args and not getattr(item, "input", "unknown"):
            # A call of a custom tool, which no struct describes.
            item = changed(item, input=joined(self._args[place]))
        return item

    def _thought(self, place: _Place, kind: type[_Thought]) -> list[Part]:
        """Return the parts of one kind that were streamed of a reasoning item, in order."""
        found = sorted(at[2] for at in self._thoughts if at[:2] == (place, kind))
        return [kind(text=joined(self._thoughts[place, kind, at])) for at in found]


_ITEMS = frozenset((events.ResponseOutputItemAddedEvent, events.ResponseOutputItemDoneEvent))
_PARTS = frozenset((events.ResponseContentPartAddedEvent, events.ResponseContentPartDoneEvent))
_DONE = (events.ResponseTextDoneEvent, events.ResponseContentPartDoneEvent, events.ResponseOutputItemDoneEvent)
STATING = frozenset((*_DONE, *events.TERMINAL))
"""The ends that may say a text as a whole: some servers send no pieces, or not of every text."""

_TAKE: dict[type, Callable[[Assembler, Any], None]] = {
    **dict.fromkeys(
        (events.ResponseCreatedEvent, events.ResponseQueuedEvent, events.ResponseInProgressEvent, *events.TERMINAL),
        Assembler._take_run,
    ),
    **dict.fromkeys(_ITEMS, Assembler._take_item),
    **dict.fromkeys(_PARTS, Assembler._take_part),
    events.ResponseTextAnnotationAddedEvent: Assembler._take_note,
    events.ResponseTextDeltaEvent: Assembler._take_text,
    events.ResponseTextDoneEvent: Assembler._take_text_done,
    events.ResponseRefusalDeltaEvent: Assembler._take_refusal,
    events.ResponseRefusalDoneEvent: Assembler._take_refusal_done,
    events.ResponseReasoningSummaryTextDeltaEvent: Assembler._take_summary,
    events.ResponseReasoningSummaryTextDoneEvent: Assembler._take_summary_done,
    events.ResponseReasoningSummaryPartDoneEvent: Assembler._take_summary_part,
    events.ResponseReasoningTextDeltaEvent: Assembler._take_reasoning,
    events.ResponseReasoningTextDoneEvent: Assembler._take_reasoning_done,
    events.ResponseCustomToolCallInputDeltaEvent: Assembler._take_args,
    events.ResponseCustomToolCallInputDoneEvent: Assembler._take_input_done,
    events.ResponseFunctionCallArgumentsDeltaEvent: Assembler._take_args,
    events.ResponseFunctionCallArgumentsDoneEvent: Assembler._take_args_done,
    events.ResponseMcpCallArgumentsDeltaEvent: Assembler._take_args,
    events.ResponseMcpCallArgumentsDoneEvent: Assembler._take_args_done,
    events.ResponseCodeInterpreterCallCodeDeltaEvent: Assembler._take_args,
    events.ResponseCodeInterpreterCallCodeDoneEvent: Assembler._take_code_done,
}
