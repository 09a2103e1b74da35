from __future__ import annotations

import gc
import weakref
from typing import Any

import msgspec
import pytest

from aimlasync.chat.chunks import ChatCompletionChunk, ChunkChoice, Delta
from aimlasync.chat.types import ChatCompletion, Choice, Message, Usage
from aimlasync.client.call import Attempt, Call
from aimlasync.info import Info, Timing
from aimlasync.plain_stores import plainly_stored
from aimlasync.responses.events import ResponseTextDeltaEvent
from aimlasync.transport.reply import Reply


@plainly_stored
class Node(msgspec.Struct, weakref=True):
    beside: list[Node]
    name: str = "a"


OF_A_CALL = [Attempt, Call, Info, Reply, Timing]
OF_A_REPLY = [ChatCompletion, Choice, Message, Usage, ChatCompletionChunk, ChunkChoice, Delta, ResponseTextDeltaEvent]


@pytest.mark.parametrize("struct", [Node, *OF_A_CALL, *OF_A_REPLY])
def test_fields_are_assigned_as_those_of_any_class(struct: Any) -> None:
    assert struct.__setattr__ is object.__setattr__
    assert struct.__delattr__ is object.__delattr__


def test_a_field_is_assigned_and_deleted_and_what_is_no_field_is_refused() -> None:
    node = Node([])
    node.name = "b"
    assert node == Node([], "b")
    del node.name
    with pytest.raises(AttributeError):
        _ = node.name
    with pytest.raises(AttributeError):
        node.other = 1  # type: ignore[attr-defined]


def test_one_that_was_made_with_a_container_is_collected_in_a_circle() -> None:
    node = Node([])
    node.beside.append(node)
    left = weakref.ref(node)
    del node
    gc.collect()
    assert left() is None


def test_a_decoder_makes_it_as_any_struct() -> None:
    assert msgspec.json.decode(b'{"beside": [{"beside": []}], "name": "c"}', type=Node) == Node([Node([])], "c")
