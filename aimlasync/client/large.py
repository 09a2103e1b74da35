"""Answers that are larger than most: bounded before they are decoded, and decoded in parts.

A decoder holds the interpreter until it is done, in whichever thread it runs, so that a large answer would keep every
other call waiting. Time and memory follow from the number of objects and not from the bytes: a choice may be two bytes
long. It may import the structs of `chat` and `wire`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar
from weakref import WeakKeyDictionary

import msgspec

from aimlasync.chat.types import ChatCompletion, Choice, TokenLogprob, decode_completion
from aimlasync.errors import APIResponseValidationError
from aimlasync.wire.json_text import cut_deep, plain
from aimlasync.wire.reading import LOST, Place, build

S = TypeVar("S", bound=msgspec.Struct)

MAX_OBJECTS = 1_000_000
"""Most objects and arrays of an answer. 8,000 tokens with 20 alternatives each have a third of that."""

TOO_MANY = f"has more than {MAX_OBJECTS:,} JSON objects and was not decoded"

# Objects that are decoded at once, and bytes of choices: a few milliseconds.
_FEW = 25_000
_PART = 64 * 2**10
# Bytes that are searched at once.
_SLICE = 4 * 2**20

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Object(msgspec.Struct, gc=False):
    """Any object; anything else is no choice."""


_choices = msgspec.json.Decoder(list[Choice]).decode
_tokens = msgspec.json.Decoder(list[TokenLogprob]).decode
_objects = msgspec.json.Decoder(list[_Object]).decode


# Of each event loop: one answer is decoded at a time, else a turn of the loop would take as long as a part of each.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def decode_large(body: bytes) -> ChatCompletion:
    """Return a whole reply, like `decode_completion`; the event loop gets a turn between any two parts of it."""
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        reply = await _decode_in_parts(body)
    # To be read tolerantly takes a hundred times as long, and is mostly Python, where threads take turns.
    return await asyncio.to_thread(decode_completion, body) if reply is None else reply


async def _decode_in_parts(body: bytes) -> ChatCompletion | None:
    """Return a reply whose list of choices is one, else None."""
    if await count_objects(body) <= _FEW:
        # All of it may be one text, which is decoded at once.
        await asyncio.sleep(0)
        return decode_completion(body)
    try:
        fields = _fields(body)
        choices = fields.pop("choices")
        _objects(choices)
        items = _items(choices)
    except (KeyError, ValueError, RecursionError):
        return None
    reply = decode_completion(msgspec.json.encode(fields))
    reply.json_place = (body,)
    found = reply.choices = []
    place = (body, "choices")
    for part in _parts(items):
        await asyncio.sleep(0)
        first = len(found)
        if len(part) == 1:
            found.append(await _choice(part[0], (*place, first)))
        else:
            found += _read(part, _choices, Choice, place, first)
        for number in range(first, len(found)):
            choice = found[number]
            choice.settle()
            if not hasattr(choice, "json_place"):
                _set_places(choice, (*place, number))
    return reply


async def _choice(choice: msgspec.Raw, place: Place) -> Choice:
    """Return a choice that may be large; what can be many in it are the log probabilities."""
    try:
        fields = _fields(choice)
        logprobs = _fields(fields["logprobs"])
        items = _items(logprobs.pop("content"))
    except (KeyError, ValueError, RecursionError):
        return _read([choice], _choices, Choice, place[:-1], place[-1])[0]
    fields["logprobs"] = msgspec.Raw(msgspec.json.encode({**logprobs, "content": []}))
    [whole] = _read([msgspec.json.encode(fields)], _choices, Choice, place[:-1], place[-1])
    content: list[TokenLogprob] = []
    for part in _parts(items):
        await asyncio.sleep(0)
        content += _read(part, _tokens, TokenLogprob, (*place, "logprobs", "content"), len(content))
    if whole.logprobs is not None:
        whole.logprobs.content = content
    return whole


def _read(
    items: Iterable[msgspec.Raw | bytes],
    decode: Callable[[bytes], list[S]],
    kind: type[S],
    place: Place,
    first: int,
) -> list[S]:
    """Decode some items of the list at `place`, of which the first is number `first`, exactly or tolerantly."""
    raw = b"[%b]" % b",".join(items)
    try:
        return decode(raw)
    except (ValueError, RecursionError):
        found = [build(value, kind, (*place, number)) for number, value in enumerate(plain(cut_deep(raw)), first)]
        return [one for one in found if one is not LOST]


def _set_places(choice: Choice, place: Place) -> None:
    """Say where the JSON of a choice is that was decoded by the exact types."""
    choice.json_place = place
    choice.message.json_place = (*place, "message")
    for at, call in enumerate(choice.message.tool_calls or ()):
        call.json_place = (*place, "message", "tool_calls", at)


async def count_objects(body: bytes) -> int:
    """Return how many objects and arrays there are at most. Raises APIResponseValidationError beyond MAX_OBJECTS."""
    count = 0
    for at in range(0, len(body), _SLICE):
        if at:
            await asyncio.sleep(0)
        count += _count(body, at, at + _SLICE)
        if count > MAX_OBJECTS:
            raise APIResponseValidationError(f"the response {TOO_MANY}")
    return count


def has_too_many(event: bytes) -> bool:
    """Whether an event of a stream is above the bound."""
    return _count(event, 0, len(event)) > MAX_OBJECTS


def _count(body: bytes, start: int, end: int) -> int:
    return body.count(b"{", start, end) + body.count(b"[", start, end)


def _parts(items: Iterable[msgspec.Raw]) -> Iterator[list[msgspec.Raw]]:
    """Divide items into parts of about the same size; what is larger than a part is one by itself."""
    part: list[msgspec.Raw] = []
    size = 0
    for item in items:
        of_it = memoryview(item).nbytes
        if part and size + of_it > _PART:
            yield part
            part, size = [], 0
        part.append(item)
        size += of_it
    if part:
        yield part
