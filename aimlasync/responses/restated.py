"""Joins what a server says several times of an item: when it begins, when it ends, and when the response ends.

Gateways that translate from another API leave some of it out each time: the name of a call from its end (CLIProxyAPI),
whole calls from the end of the response (Bifrost, SGLang's router), an image because it is long. What was said once
stays said. It has no I/O. It may import `responses.items` and what lies below it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any, TypeVar

from aimlasync.responses.items import OutputItem, OutputMessage, Part
from aimlasync.wire.as_sent import beside
from aimlasync.wire.base import Unknown

_S = TypeVar("_S")


def changed(struct: _S, **fields: Any) -> _S:
    """Return a copy with other fields; what the server said beside the declared ones stays."""
    made = copy(struct)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def ids_of(item: OutputItem) -> list[str]:
    """Return the texts by which an item is known."""
    ids = (getattr(item, name, None) for name in ("id", "call_id"))
    return [id for id in ids if id and isinstance(id, str)]


def filled(item: OutputItem, before: OutputItem) -> OutputItem:
    """Return an item with what was said of it before, where it leaves that out; itself where it leaves out nothing.

    A status is how it is now, and is not filled.
    """
    if item.type != before.type:
        return item
    more = {
        name: value
        for name, value in _said(before)
        if name not in ("type", "status") and not _is_empty(value) and _is_empty(getattr(item, name, None))
    }
    return changed(item, **more) if more else item


def differ(one: OutputItem, other: OutputItem) -> bool:
    """Whether two items are of different types, or say different ids."""
    if type(one) is not type(other) or one.type != other.type:
        return True
    for name in ("id", "call_id"):
        ids = getattr(one, name, None), getattr(other, name, None)
        if all(ids):
            return ids[0] != ids[1]
    return False


def is_blank(part: Part) -> bool:
    """Whether a part is of words, and has none."""
    return not getattr(part, "text", getattr(part, "refusal", part))


def restated(output: Sequence[OutputItem], streamed: Iterable[OutputItem]) -> list[OutputItem]:
    """Return the output of a response that ended, with what it leaves out of the items that were streamed before.

    An item that it lacks comes behind the one that it came behind; a message does not, since its text is searched for
    by those who call this.
    """
    streamed = list(streamed)
    places = _matched(output, streamed)
    found = list(output)
    # What comes behind each item, and at the beginning.
    behind: dict[int, list[OutputItem]] = defaultdict(list)
    last = -1
    for item, place in zip(streamed, places, strict=True):
        if place is not None:
            last = place
            if not isinstance(item, OutputMessage):
                found[place] = filled(found[place], item)
        elif not isinstance(item, OutputMessage):
            behind[last].append(item)
    if not behind:
        return found
    return behind[-1] + [one for place, item in enumerate(found) for one in (item, *behind.get(place, ()))]


def _matched(output: Sequence[OutputItem], streamed: Sequence[OutputItem]) -> list[int | None]:
    """Return for each item that was streamed where it is in the output: by an id, or else by its type and name."""
    by_id = {(item.type, id): place for place, item in reversed(list(enumerate(output))) for id in ids_of(item)}
    places: list[int | None] = []
    taken: set[int] = set()
    for item in streamed:
        known = (by_id.get((item.type, id)) for id in ids_of(item))
        place = next((place for place in known if place is not None and place not in taken), None)
        places.append(place)
        if place is not None:
            taken.add(place)
    # Some gateways give an item another id each time.
    rest: dict[tuple[str, Any], list[int]] = defaultdict(list)
    for place in reversed([place for place in range(len(output)) if place not in taken]):
        rest[_kind(output[place])].append(place)
    for number, item in enumerate(streamed):
        if places[number] is None and (left := rest.get(_kind(item))):
            places[number] = left.pop()
    return places


def _kind(item: OutputItem) -> tuple[str, Any]:
    name = getattr(item, "name", None)
    return item.type, name if isinstance(name, str) else None


def _said(item: OutputItem) -> Iterable[tuple[str, Any]]:
    if isinstance(item, Unknown):
        return item.to_dict().items()
    return [*((name, getattr(item, name)) for name in item.__struct_fields__), *beside(item).items()]


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})
