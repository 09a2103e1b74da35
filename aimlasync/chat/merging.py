"""Merges the fields of deltas that no struct declares, by the rules that servers' own clients follow.

Text is joined, and what names or identifies something (an id, a type, a signature) keeps its last value. Items of lists
are told apart by their `index`; without one, an item goes on with the last item of its kind. What is at a URL, such as
an image or a source, is there as a whole: another URL is another item, whatever the index says. It works on plain
values, without I/O. It may import `wire.pieces`.
"""

from __future__ import annotations

from typing import Any

from aimlasync.wire.pieces import joined

# Of these, the last value counts; every other text grows.
_NAMES = {"created", "format", "finish_reason", "id", "index", "kind", "language", "mime_type", "model", "name"}
_NAMES |= {"object", "provider", "role", "signature", "status", "stop_reason", "title", "type", "url"}
_SUFFIXES = ("_at", "_format", "_id", "_name", "_reason", "_role", "_signature", "_type", "_url")


class _Pieces(list[str]):
    """A text that is being joined."""


def merge(known: dict[str, Any], more: dict[str, Any]) -> None:
    """Add the fields of a delta to `known`. `merged` returns what they are together."""
    for key, value in more.items():
        before = known.get(key)
        if before is None:
            known[key] = _copied(key, value)
        elif isinstance(before, _Pieces) and isinstance(value, str):
            before.append(value)
        elif isinstance(before, dict) and isinstance(value, dict):
            merge(before, value)
        elif type(before) is list and isinstance(value, list):
            _merge_lists(before, value)
        elif value is not None and value != "":
            known[key] = _copied(key, value)


def merged(value: Any) -> Any:
    """Return a copy of what `merge` made."""
    if isinstance(value, _Pieces):
        return joined(value)
    if isinstance(value, dict):
        return {key: merged(one) for key, one in value.items()}
    if isinstance(value, list):
        return [merged(one) for one in value]
    return value


def update(known: dict[str, Any], more: dict[str, Any]) -> None:
    """Add the fields of a chunk or choice, which tell about the whole: the last value counts, token ids are added."""
    for key, value in more.items():
        before = known.get(key)
        if isinstance(before, list) and isinstance(value, list) and _numbers(before) and _numbers(value):
            before += value
        elif value is not None or before is None:
            known[key] = list(value) if isinstance(value, list) else value


def _is_text(key: str) -> bool:
    return key not in _NAMES and not key.endswith(_SUFFIXES)


def _copied(key: str, value: Any) -> Any:
    if isinstance(value, str) and _is_text(key):
        return _Pieces((value,))
    if isinstance(value, dict):
        return {name: _copied(name, one) for name, one in value.items()}
    if isinstance(value, list):
        return [_copied("", one) if isinstance(one, (dict, list)) else one for one in value]
    return value


def _merge_lists(known: list[Any], more: list[Any]) -> None:
    if more and all(isinstance(item, str) for item in (*known, *more)):
        # Some servers repeat the whole list in each delta, such as citations.
        known[:] = more if more[: len(known)] == known else [*known, *more]
        return
    for item in more:
        begun = _begun(known, item) if isinstance(item, dict) else None
        if begun is None:
            known.append(_copied("", item))
        elif not (_link(item) and _says(begun, item)):
            merge(begun, item)


def _begun(known: list[Any], item: dict[str, Any]) -> dict[str, Any] | None:
    """Return the item of a list that `item` goes on with."""
    index, link = item.get("index"), _link(item)
    for begun in reversed(known):
        if not isinstance(begun, dict):
            continue
        if link and index is None:
            if _says(begun, item):
                return begun
            continue
        if link and (_link(begun) or link) != link:
            continue
        differs = any(begun.get(name) and item.get(name) and begun[name] != item[name] for name in ("type", "id"))
        if index is not None:
            if begun.get("index") != index:
                continue
            if not differs:
                return None if _is_signed(begun, item) else begun
            if not item.get("id"):
                # Some servers give all items one index: another type in between has ended what came before.
                return None
        elif differs or begun.get("signature"):
            # A signature ends what it signs.
            return None
        else:
            return begun if any(_grows(begun.get(key), value) for key, value in item.items()) else None
    return None


def _link(item: dict[str, Any]) -> str | None:
    """Return the URL of what an item is: {"url": ...}, {"type": "image_url", "image_url": {"url": ...}}."""
    for inside in (item, *item.values()):
        if isinstance(inside, dict) and isinstance(url := inside.get("url"), str) and url:
            return url
    return None


def _says(begun: dict[str, Any], item: dict[str, Any]) -> bool:
    """Whether an item says what is said already."""
    return all(merged(begun.get(key)) == value for key, value in item.items())


def _grows(before: Any, more: Any) -> bool:
    """Whether a field goes on: a text, or a list of parts, as in Mistral's {"type": "thinking", "thinking": [...]} and
    Databricks' {"type": "reasoning", "summary": [...]}.
    """
    if isinstance(before, _Pieces):
        return isinstance(more, str)
    if not type(before) is list is type(more):
        return False
    return all(isinstance(part, dict) and "type" in part for part in (*before[-1:], *more))


def _is_signed(begun: dict[str, Any], item: dict[str, Any]) -> bool:
    """Whether an item has ended by its signature, and another says more: some servers give all of them one index."""
    signature = begun.get("signature")
    if not signature or item.get("signature") == signature:
        return False
    return any(isinstance(begun.get(key), _Pieces) and value for key, value in item.items())


def _numbers(values: list[Any]) -> bool:
    return all(isinstance(value, (int, float)) for value in values)
