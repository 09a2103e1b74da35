"""What makes two requests equal: all but the order of members, and of a schema that order too."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimlasync.wire.canonical_json import canonical

TEXT = {"type": "string"}


def asked(*names: str, **more: Any) -> dict[str, Any]:
    """A request whose schema has properties in this order, within a list within an object within a definition."""
    inner = {"type": "object", "properties": dict.fromkeys(names, TEXT)}
    schema = {"$defs": {"A": {"anyOf": [{"type": "null"}, inner]}}, "properties": {"a": {"$ref": "#/$defs/A"}}}
    return {"model": "m", "response_format": {"json_schema": {"schema": schema}}, **more}


def turned(value: Any) -> Any:
    """The same with all members the other way round, but for those of `properties`."""
    if isinstance(value, list):
        return [turned(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {name: kept(part) if name == "properties" else turned(part) for name, part in reversed(value.items())}


def kept(value: Any) -> Any:
    """The same with these members as they are, and those within them the other way round."""
    return {name: turned(part) for name, part in value.items()} if isinstance(value, dict) else turned(value)


@pytest.mark.parametrize("names", [("reason", "answer"), ("answer", "reason"), ("c", "a", "b")])
def test_the_order_of_a_schemas_properties_counts_and_no_other(names: tuple[str, ...]) -> None:
    assert canonical(asked(*names)) == canonical(turned(asked(*names)))
    assert canonical(asked(*names)) != canonical(asked(*reversed(names)))


def test_two_schemas_that_change_their_orders_are_not_equal() -> None:
    first, second = asked("b", "a"), asked("a", "b")
    assert canonical([first, second]) != canonical([second, first])
    assert canonical({"tools": [first, second]}) != canonical({"tools": [second, first]})


class Tool(msgspec.Struct):
    parameters: dict[str, Any]


def test_a_struct_or_a_tuple_is_what_it_is_sent_as() -> None:
    for names in (("a", "b"), ("b", "a")):
        schema = asked(*names)
        assert canonical((Tool(schema), 1)) == canonical([{"parameters": schema}, 1])
    assert canonical(Tool(asked("a", "b"))) != canonical(Tool(asked("b", "a")))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text('ab"\\{}:properties', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "properties", '"properties":{']), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(JSON, JSON)
def test_what_is_equal_is_equal_and_what_is_not_is_not(one: Any, other: Any) -> None:
    assert canonical(one) == canonical(turned(one))
    if json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True):
        assert canonical(one) != canonical(other)
