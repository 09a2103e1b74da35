"""How sure a model was of a label, by the probabilities of its tokens."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimlasync.bulk.tasks.confidence import confidence_of
from aimlasync.chat.types import decode_completion
from aimlasync.responses.types import decode_response


def said(*tokens: tuple[str, float], endpoint: str = "chat") -> Any:
    """A reply made of these tokens, with the probability of each."""
    logprobs: list[dict[str, Any]] = [
        {"token": token, "logprob": math.log(p), "top_logprobs": [], "bytes": None} for token, p in tokens
    ]
    text = "".join(token for token, _ in tokens)
    if endpoint == "responses":
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
        message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
        return decode_response(msgspec.json.encode({"id": "r", "object": "response", "output": [message]}))
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": logprobs}}
    return decode_completion(msgspec.json.encode({"choices": [choice]}))


def sure(reply: Any, label: str) -> float:
    found = confidence_of(reply, label)
    assert found is not None
    return round(found, 9)


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_the_tokens_of_a_label_are_multiplied_and_no_others(endpoint: str) -> None:
    reply = said(('{"label":"', 0.1), ("bill", 0.5), ("ing", 0.8), ('"}', 0.2), endpoint=endpoint)
    assert sure(reply, "billing") == 0.4


def test_tokens_that_hold_a_quote_beside_letters_count() -> None:
    assert sure(said(('{"label":', 0.1), ('"b', 0.5), ('ug"}', 0.5)), "bug") == 0.25
    assert sure(said(('{"label":"bug"}', 0.5)), "bug") == 0.5


def test_the_last_place_where_a_label_stands_counts_and_its_quotes_belong_to_it() -> None:
    assert sure(said(('{"', 0.9), ("label", 0.9), ('":"', 0.9), ("label", 0.5), ('"}', 0.9)), "label") == 0.5
    several = said(('{"labels":["', 0.9), ("bug", 0.5), ('","', 0.9), ("bug", 0.25), (" report", 0.5), ('"]}', 0.9))
    assert sure(several, "bug") == 0.5
    assert sure(several, "bug report") == 0.125


def test_labels_are_found_as_json_writes_them() -> None:
    reply = said(('{"label":"', 0.9), ("a ", 0.5), ('\\"b\\"', 0.5), ('"}', 0.9))
    assert sure(reply, 'a "b"') == 0.25
    assert sure(said(('{"label":"', 0.9), ("caf", 0.5), ("é", 0.5), ('"}', 0.9)), "café") == 0.25


def test_without_probabilities_or_without_the_label_among_them_nothing_is_known() -> None:
    assert confidence_of(decode_completion(b'{"choices": []}'), "a") is None
    assert confidence_of(decode_completion(b'{"choices": [{"index": 0, "message": {"content": "x"}}]}'), "a") is None
    assert confidence_of(decode_response(b'{"id": "r", "output": []}'), "a") is None
    assert confidence_of(said(('{"label":"b"}', 0.5)), "a") is None
    # Half a character is a token of bytes, spelled in a way of the vendor's own.
    assert (
        confidence_of(said(('{"label":"caf', 0.9), ("bytes:\\xc3", 0.5), ("bytes:\\xa9", 0.5), ('"}', 0.9)), "café")
        is None
    )


def test_a_probability_is_never_more_than_one() -> None:
    reply = said(('{"label":"', 0.9), ("a", 1.0000001), ('"}', 0.9))
    assert confidence_of(reply, "a") == 1.0
    reply = said(('{"label":"', 0.9), ("a", 1e300), ("b", 1e300), ('"}', 0.9))
    assert confidence_of(reply, "ab") == 1.0


@given(st.text(min_size=1), st.data())
def test_wherever_the_tokens_are_cut_every_token_of_the_label_counts_once(label: str, data: st.DataObject) -> None:
    text = msgspec.json.encode({"label": label}).decode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1))))
    begins = [0, *cuts]
    tokens = [text[begin:end] for begin, end in zip(begins, [*cuts, len(text)], strict=True)]
    first, last = len('{"label":"'), len(text) - len('"}')
    inside = sum(begin < last and begin + len(token) > first for begin, token in zip(begins, tokens, strict=True))
    found = confidence_of(said(*((token, 0.5) for token in tokens)), label)
    assert found is not None
    assert math.isclose(found, 0.5**inside)
