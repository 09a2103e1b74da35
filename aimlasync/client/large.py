"""Answers that are larger than most: bounded before they are decoded, and decoded in parts.

A decoder holds the interpreter until it is done, in whichever thread it runs, so that a large answer would keep every
other call waiting. Time and memory follow from the number of objects and not from the bytes: a choice may be two bytes
long. It may import the structs of `chat`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import msgspec

from aimlasync.chat.types import ChatCompletion, Choice, TokenLogprob, decode_completion
from aimlasync.errors import APIResponseValidationError

LARGE = 128 * 2**10
"""Bytes of a body up to which it is decoded at once, whatever is in it."""
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


_objects = msgspec.json.Decoder(list[_Object]).decode


async def decode_large(body: bytes) -> ChatCompletion:
    """Return a whole reply, like `decode_completion`; the event loop gets a turn between any two parts of it."""
    if await count_objects(body) <= _FEW:
        return decode_completion(body)
    try:
        fields = _fields(body)
        choices = fields.pop("choices")
        _objects(choices)
        items = _items(choices)
    except (KeyError, ValueError, RecursionError):
        # To be read tolerantly, which takes a hundred times as long and is mostly Python, where threads take turns.
        return await asyncio.to_thread(decode_completion, body)
    reply = decode_completion(msgspec.json.encode(fields))
    found = reply.choices = []
    for part in _parts(items):
        await asyncio.sleep(0)
        found += _choices(part) if len(part) > 1 else [await _choice(part[0])]
    reply.__dict__["raw"] = body
    return reply


async def _choice(choice: msgspec.Raw) -> Choice:
    """Return a choice that may be large; what can be many in it are the log probabilities."""
    try:
        fields = _fields(choice)
        logprobs = _fields(fields["logprobs"])
        tokens = _items(logprobs.pop("content"))
    except (KeyError, ValueError, RecursionError):
        return _choices([choice])[0]
    fields["logprobs"] = msgspec.Raw(msgspec.json.encode({**logprobs, "content": []}))
    [whole] = _choices([msgspec.json.encode(fields)])
    content: list[TokenLogprob] = []
    for part in _parts(tokens):
        await asyncio.sleep(0)
        [other] = _choices([b'{"logprobs":{"content":[%b]}}' % b",".join(part)])
        if other.logprobs is not None and other.logprobs.content is not None:
            content += other.logprobs.content
    if whole.logprobs is not None:
        whole.logprobs.content = content
    return whole


def _choices(choices: Iterable[msgspec.Raw | bytes]) -> list[Choice]:
    return decode_completion(b'{"choices":[%b]}' % b",".join(choices)).choices


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
