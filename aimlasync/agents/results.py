"""What a tool returned, as the text that the model gets.

A text stays as it is, and everything else becomes JSON. Values that JSON does not have become the nearest thing that
it has; a value without any such form is an error of the tool. Pure functions, but for generators, which are read here.
This module imports nothing of this library.
"""

from __future__ import annotations

import dataclasses
import itertools
import numbers
from collections.abc import AsyncIterator, ItemsView, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from io import IOBase
from typing import Any

import msgspec

# Items of a generator, and levels of nesting; what lies beyond is left out, and the text says so.
MAX_ITEMS = 100_000
_MAX_DEPTH = 64
_CUT = "[cut: too many items, or too deep]"


def text_of(result: Any, max_result: int | None) -> str:
    """Return a result as text, of at most `max_result` characters and a note for the model behind them.

    Raises TypeError, naming the type, for a value without a form as text.
    """
    if isinstance(result, str):
        text = result
    elif isinstance(result, (bytes, bytearray, memoryview)):
        text = _text_of_bytes(bytes(result))
    else:
        try:
            data = _encode(result)
        except (TypeError, ValueError, RecursionError, OverflowError):
            # Iterators, keys that are no texts, cycles, half surrogate pairs: what msgspec refuses is walked here.
            data = _encode(_walk(result, 0, frozenset()))
        # A member of an enum, a date, a table: a text needs no quotes.
        text = msgspec.json.decode(data, type=str) if data[:1] == b'"' else data.decode()
    return cut(text, max_result)


def cut(text: str, max_result: int | None) -> str:
    """Return at most `max_result` characters of a text, and a note for the model when there were more."""
    if max_result is None or len(text) <= max_result:
        return text
    return f"{text[:max_result]}\n[cut: these are the first {max_result} of {len(text)} characters; ask for less]"


def said(error: BaseException) -> str:
    """Return the text of an error, whose `__str__` may itself fail; its type where it has no text."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001  # a tool's own class, which may do anything
        return type(error).__name__


def read_iterator(result: Any) -> Any:
    """Return a generator as a list of its first items, where the tool's code may run; anything else as it is."""
    if not isinstance(result, Iterator) or isinstance(result, IOBase):
        return result
    items = list(itertools.islice(result, MAX_ITEMS + 1))
    return items if len(items) <= MAX_ITEMS else [*items[:-1], _CUT]


async def read_async_iterator(result: AsyncIterator[Any]) -> list[Any]:
    """Return the first items of an async generator, and close it."""
    items: list[Any] = []
    try:
        async for item in result:
            if len(items) == MAX_ITEMS:
                items.append(_CUT)
                break
            items.append(item)
    finally:
        close = getattr(result, "aclose", None)
        if close is not None:
            await close()
    return items


def _plain(value: Any) -> Any:
    """Return a value that msgspec does not know as one that it knows. Raises TypeError where there is none."""
    if isinstance(value, Mapping):
        return dict(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        # A model of pydantic, or what has its methods.
        return dump(mode="json")
    if isinstance(value, numbers.Real):
        # Numbers of numpy, and fractions.
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    if isinstance(value, Iterator) and not isinstance(value, IOBase):
        # Read by `_walk` alone: what is read here would be lost when a later value is refused.
        raise TypeError("an iterator")
    if isinstance(value, (Sequence, Set, KeysView, ValuesView, ItemsView)):
        return list(value)
    kind: Any = type(value)
    if not callable(value) and (kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__):
        return str(value)
    raise TypeError(f"a tool cannot return a {kind.__module__}.{kind.__qualname__}: it has no form as JSON or text")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def _walk(value: Any, depth: int, above: frozenset[int]) -> Any:
    """Return a value as dicts with texts as keys, lists and scalars; a cycle and what is too deep become a note."""
    if depth > _MAX_DEPTH:
        return _CUT
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        # JSON has no bound, but msgspec has one, and so have most who read it.
        return str(value) if abs(value) < 10**4000 else _CUT
    if isinstance(value, str):
        return _sendable(value)
    if value is None or isinstance(value, (bool, int, float, bytes)):
        return value
    if id(value) in above:
        return "[cycle]"
    above |= {id(value)}
    if isinstance(value, msgspec.Struct):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): _walk(item, depth + 1, above) for key, item in value.items()}
    if isinstance(value, (list, tuple, Set)):
        return [_walk(item, depth + 1, above) for item in value]
    if isinstance(value, Iterator) and not isinstance(value, IOBase):
        return _walk(read_iterator(value), depth + 1, above)
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        return _walk(_plain(value), depth + 1, above)


def _key(key: Any) -> str:
    if isinstance(key, tuple):
        return ", ".join(map(_key, key))
    try:
        return _sendable(str(msgspec.to_builtins(key)))
    except TypeError:
        return _sendable(str(key))


def _sendable(text: str) -> str:
    """Return a text that has a form in UTF-8: half a surrogate pair has none."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _text_of_bytes(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"[{len(data)} bytes that are not text]"
