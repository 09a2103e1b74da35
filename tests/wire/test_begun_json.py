"""JSON that was cut is read as far as it goes, in linear time, and never too deep."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.wire.begun_json import read_begun


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("text", None),
        ('"text"', None),
        ("{", {}),
        ('{"a', {}),
        ('{"a"', {}),
        ('{"a":', {}),
        ('{"a": "b', {"a": "b"}),
        ('{"a": "b\\', {"a": "b"}),
        ('{"a": "b\\u00', {"a": "b"}),
        ('{"a": "b\\u00e9', {"a": "b\u00e9"}),
        ('{"a": "b\\ud83d', {"a": "b\ufffd"}),
        ('{"a": "b\\ud83d", "c\\udc00": 1}', {"a": "b\ufffd", "c\ufffd": 1}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ('{"a": 12', {}),
        ('{"a": tru', {}),
        ('{"a": 12, "b": tr', {"a": 12}),
        ('{"a": 12}', {"a": 12}),
        ('{"a": 12} <html>', {"a": 12}),
        ('[1, "b", {"c": [null, tru', [1, "b", {"c": [None]}]),
        ('{"a": nonsense, "b": 1}', {"b": 1}),
        ('{"a": {"b": {"c": "d"', {"a": {"b": {"c": "d"}}}),
        ('{"a": "x\ny"', {"a": "x\ny"}),
        ("}", None),
        (
            '{"error": {"message": "no", "code": "insufficient_quota"',
            {"error": {"message": "no", "code": "insufficient_quota"}},
        ),
    ],
)
def test_what_is_begun_is_read(text: str, value: Any) -> None:
    assert read_begun(text) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4), st.booleans(), st.data())
def test_whole_json_is_read_whole_and_any_cut_of_it_in_part(value: dict[str, Any], ascii: bool, data: Any) -> None:
    text = json.dumps(value, ensure_ascii=ascii)
    assert read_begun(text) == value
    begun = read_begun(text[: data.draw(st.integers(1, len(text)))])
    assert isinstance(begun, dict)
    assert list(begun) == list(value)[: len(begun)]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='{}[]",:\\u0 1tn\n'))
def test_anything_is_read(text: str) -> None:
    read_begun(text)


def test_what_is_too_deep_is_null_and_what_follows_is_read() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert read_begun('{"a": 1, "deep": ' + deep + ', "b": 2}')["b"] == 2
    assert read_begun('{"a":' * 100_000) is not None
