"""Fields of deltas that no struct declares are merged as their servers' own clients merge them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from aimlasync.chat.assembler import Assembler
from aimlasync.chat.chunks import decode_chunk
from aimlasync.wire.base import encode

TEXT = "reasoning.text"


def collected(*deltas: dict[str, Any]) -> dict[str, Any]:
    assembler = Assembler()
    for delta in deltas:
        assembler.add(decode_chunk(encode({"choices": [{"index": 0, "delta": delta}]})))
    found = assembler.whole().choices[0].message.to_dict()
    found.pop("role")
    return found


@pytest.mark.parametrize(
    ("deltas", "whole"),
    [
        # Text is joined, with what is declared and without.
        (
            [
                {"reasoning": "a", "reasoning_content": "x"},
                {"reasoning": "b"},
                {"reasoning_content": "y", "content": "c"},
            ],
            {"reasoning": "ab", "reasoning_content": "xy", "content": "c"},
        ),
        # What names something has its last value, and an empty text or null replaces nothing.
        (
            [{"reasoning_id": "r", "provider": "P"}, {"reasoning_id": "r", "provider": ""}, {"provider": None}],
            {"reasoning_id": "r", "provider": "P"},
        ),
        # Lists by index: text, then the signature of the same item.
        (
            [
                {"reasoning_details": [{"type": TEXT, "text": "a", "format": "v1", "index": 0}]},
                {"reasoning_details": [{"type": TEXT, "text": "b", "format": "v1", "index": 0}]},
                {"reasoning_details": [{"type": TEXT, "signature": "s", "format": "v1", "index": 0}]},
                {"reasoning_details": [{"type": "reasoning.encrypted", "data": "e", "index": 0, "id": "i"}]},
            ],
            {
                "reasoning_details": [
                    {"type": TEXT, "text": "ab", "format": "v1", "index": 0, "signature": "s"},
                    {"type": "reasoning.encrypted", "data": "e", "index": 0, "id": "i"},
                ]
            },
        ),
        # One index for all: a signature ends an item, and so does one of another type.
        (
            [
                {"reasoning_details": [{"type": TEXT, "text": "a", "signature": None, "index": 0}]},
                {"reasoning_details": [{"type": TEXT, "text": "b", "index": 0}]},
                {"reasoning_details": [{"type": TEXT, "text": "", "signature": "s", "index": 0}]},
                {"reasoning_details": [{"type": TEXT, "signature": "s", "index": 0}]},
                {"reasoning_details": [{"type": TEXT, "text": "c", "index": 0}]},
                {"reasoning_details": [{"type": "reasoning.encrypted", "data": "e", "index": 0}]},
                {"reasoning_details": [{"type": TEXT, "text": "d", "index": 0}]},
                {
                    "reasoning_details": [
                        {"type": TEXT, "text": "e", "index": 1},
                        {"type": TEXT, "text": "f", "index": 0},
                    ]
                },
            ],
            {
                "reasoning_details": [
                    {"type": TEXT, "text": "ab", "signature": "s", "index": 0},
                    {"type": TEXT, "text": "c", "index": 0},
                    {"type": "reasoning.encrypted", "data": "e", "index": 0},
                    {"type": TEXT, "text": "df", "index": 0},
                    {"type": TEXT, "text": "e", "index": 1},
                ]
            },
        ),
        # Lists without an index: an item goes on until it is signed.
        (
            [
                {"thinking_blocks": [{"type": "thinking", "thinking": "a", "signature": None}]},
                {"thinking_blocks": [{"type": "thinking", "thinking": "b", "signature": None}]},
                {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]},
                {"thinking_blocks": [{"type": "thinking", "thinking": "c"}]},
                {"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]},
            ],
            {
                "thinking_blocks": [
                    {"type": "thinking", "thinking": "ab", "signature": "s"},
                    {"type": "thinking", "thinking": "c"},
                    {"type": "redacted_thinking", "data": "d"},
                ]
            },
        ),
        # Images are items of their own.
        (
            [
                {"images": [{"type": "image_url", "image_url": {"url": "a"}}]},
                {"images": [{"type": "image_url", "image_url": {"url": "b"}}]},
            ],
            {
                "images": [
                    {"type": "image_url", "image_url": {"url": "a"}},
                    {"type": "image_url", "image_url": {"url": "b"}},
                ]
            },
        ),
        # A list that is repeated whole, and one that is continued.
        ([{"citations": ["u"]}, {"citations": ["u", "v"]}, {"citations": ["u", "v"]}], {"citations": ["u", "v"]}),
        ([{"sources": ["u"]}, {"sources": ["v"]}], {"sources": ["u", "v"]}),
        ([{"ids": [1]}, {"ids": [1, 2]}], {"ids": [1, 1, 2]}),
        # Objects by their fields, such as an answer that is spoken.
        (
            [
                {"audio": {"id": "a", "transcript": "he"}},
                {"audio": {"transcript": "y", "data": "AA"}},
                {"audio": {"expires_at": 5}},
            ],
            {"audio": {"id": "a", "transcript": "hey", "data": "AA", "expires_at": 5}},
        ),
        # A field whose kind changes has its last value.
        ([{"more": "s"}, {"more": [1]}], {"more": [1]}),
        ([{"more": "s"}, {"more": 1}, {"more": {"a": "b"}}], {"more": {"a": "b"}}),
        (
            [{"extra_content": {"google": {"thought_signature": "s"}}}, {"content": "x"}],
            {"content": "x", "extra_content": {"google": {"thought_signature": "s"}}},
        ),
        # A content by its parts, which may begin and end as a text.
        (
            [
                {"content": "", "role": "assistant"},
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]},
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "b"}], "closed": True}]},
                {"content": [{"type": "text", "text": "c"}]},
                {"content": "d"},
                {"content": "e"},
                {"content": None},
            ],
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "ab"}], "closed": True},
                    {"type": "text", "text": "cde"},
                ]
            },
        ),
        # Databricks: the parts are in a field of another name.
        (
            [
                {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]}]},
                {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "b"}]}]},
                {
                    "content": [
                        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "", "signature": "s"}]}
                    ]
                },
                {"content": "c"},
            ],
            {
                "content": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "ab", "signature": "s"}]},
                    {"type": "text", "text": "c"},
                ]
            },
        ),
        # Items with lists in them that are no parts of a text.
        (
            [{"results": [{"title": "a", "tags": ["x"]}]}, {"results": [{"title": "b", "tags": ["y"]}]}],
            {"results": [{"title": "a", "tags": ["x"]}, {"title": "b", "tags": ["y"]}]},
        ),
        (
            [{"results": [{"of": [{"id": 1}]}]}, {"results": [{"of": [{"id": 2}]}]}],
            {"results": [{"of": [{"id": 1}]}, {"of": [{"id": 2}]}]},
        ),
        # What is zero or empty was sent, too.
        (
            [
                {"annotations": [{"type": "url_citation", "url_citation": {"url": "", "start_index": 0}}]},
                {"content": "c", "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]},
            ],
            {
                "content": "c",
                "annotations": [
                    {"type": "url_citation", "url_citation": {"url": "", "start_index": 0}},
                    {"type": "url_citation", "url_citation": {"url": "u"}},
                ],
            },
        ),
        (
            [
                {"content": "a"},
                {"content": [{"type": "image_url", "image_url": {"url": "u"}}, {"type": "text", "text": "b"}]},
                {"reasoning_content": "r", "content": "c"},
            ],
            {
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "u"}},
                    {"type": "text", "text": "bc"},
                ],
                "reasoning_content": "r",
            },
        ),
        ([{"tool_calls": []}, {"content": "a", "tool_calls": []}], {"content": "a", "tool_calls": []}),
        # One index for all images, each of which comes whole, and some twice.
        (
            [
                {"images": [{"index": 0, "type": "image_url", "image_url": {"url": "a"}}]},
                {"images": [{"index": 0, "type": "image_url", "image_url": {"url": "b"}}]},
                {"images": [{"index": 0, "type": "image_url", "image_url": {"url": "a"}}]},
                {"images": [{"index": 1, "url": "c", "alt": "see"}]},
                {"images": [{"index": 1, "url": "c", "alt": "see"}]},
            ],
            {
                "images": [
                    {"index": 0, "type": "image_url", "image_url": {"url": "a"}},
                    {"index": 0, "type": "image_url", "image_url": {"url": "b"}},
                    {"index": 1, "url": "c", "alt": "see"},
                ]
            },
        ),
        # Sources without an index: what is said again is no other one, and one may be cited twice.
        (
            [
                {"sources": [{"url": "a", "text": "x", "start": 1}]},
                {"sources": [{"url": "a", "text": "x", "start": 1}, {"url": "b", "text": "y"}]},
                {"sources": [{"url": "a", "text": "z", "start": 5}]},
            ],
            {
                "sources": [
                    {"url": "a", "text": "x", "start": 1},
                    {"url": "b", "text": "y"},
                    {"url": "a", "text": "z", "start": 5},
                ]
            },
        ),
        # Annotations of which each delta repeats those before.
        (
            [
                {"annotations": [{"type": "url_citation", "url_citation": {"url": "a"}}]},
                {"annotations": [{"type": "url_citation", "url_citation": {"url": u}} for u in ("a", "b")]},
                {"annotations": [{"type": "file", "file": {"hash": "h"}}]},
            ],
            {
                "annotations": [
                    {"type": "url_citation", "url_citation": {"url": "a"}},
                    {"type": "url_citation", "url_citation": {"url": "b"}},
                    {"type": "file", "file": {"hash": "h"}},
                ]
            },
        ),
    ],
)
def test_deltas_are_merged(deltas: list[dict[str, Any]], whole: dict[str, Any]) -> None:
    assert collected(*deltas) == whole


def test_text_of_a_content_by_parts_is_the_text_in_them() -> None:
    assembler = Assembler()
    for content in ("a", [{"type": "thinking", "thinking": [{"type": "text", "text": "b"}]}], "c", "d", "e"):
        assembler.add(decode_chunk(encode({"choices": [{"index": 0, "delta": {"content": content}}]})))
    message = assembler.whole().choices[0].message
    assert message.content == "acde"
    message.content = "changed"
    assert message.to_dict() == {"role": "assistant", "content": "changed"}


def test_values_of_every_kind_may_follow_each_other() -> None:
    kinds: list[Any] = ["s", "", 1, 0.5, True, None, [], ["u"], [1], [{"a": "b"}], [["x"]], {}, {"a": "b"}, {"a": [1]}]
    for values in itertools.product(kinds, repeat=3):
        whole = collected(*({"more": value} for value in values))
        if all(isinstance(value, str) for value in values):
            assert whole.get("more") == "".join(values)
        encode(whole)


def test_fields_of_chunks_and_choices_have_their_last_value_and_token_ids_are_added() -> None:
    assembler = Assembler()
    for number in range(2):
        choice = {"index": 0, "delta": {"content": "a"}, "token_ids": [number], "native_finish_reason": f"n{number}"}
        assembler.add(decode_chunk(encode({"id": "x", "citations": ["u"] * (number + 1), "choices": [choice]})))
    assembler.add(
        decode_chunk(b'{"id":"x","choices":[],"usage":{"prompt_tokens":1,"hits":2},"citations":null,"provider":"P"}')
    )
    whole: Any = assembler.whole()
    assert (whole.citations, whole.provider, whole.usage.hits) == (["u", "u"], "P", 2)
    assert (whole.choices[0].token_ids, whole.choices[0].native_finish_reason) == ([0, 1], "n1")


def test_logprobs_in_lists_of_tokens_and_numbers_are_added() -> None:
    assembler = Assembler()
    for number, token in enumerate(("a", "b", "c")):
        logprobs = {"tokens": [token], "token_logprobs": [-number], "content": None, "model": "m"}
        assembler.add(decode_chunk(encode({"choices": [{"delta": {"content": token}, "logprobs": logprobs}]})))
    whole = assembler.whole().choices[0].to_dict()["logprobs"]
    assert whole == {"tokens": ["a", "b", "c"], "token_logprobs": [0, -1, -2], "model": "m"}


def test_what_is_merged_does_not_change_the_pieces() -> None:
    assembler = Assembler()
    first = decode_chunk(b'{"choices":[{"delta":{"details":[{"index":0,"text":"a"}],"ids":[1]},"token_ids":[1]}]}')
    second = decode_chunk(b'{"choices":[{"delta":{"details":[{"index":0,"text":"b"}],"ids":[2]},"token_ids":[2]}]}')
    before = first.to_dict()
    assembler.add(first)
    partial: Any = assembler.whole()
    assembler.add(second)
    assert first.to_dict() == before
    assert partial.choices[0].message.to_dict()["details"] == [{"index": 0, "text": "a"}]


def test_a_message_beside_the_deltas_adds_what_they_do_not_say() -> None:
    assembler = Assembler()
    cited = [{"type": "url_citation", "url_citation": {"url": "u"}}]
    for text in ("a", "b"):
        assembler.add(decode_chunk(encode({"choices": [{"index": 0, "delta": {"content": text}}]})))
    beside = {"role": "assistant", "content": "ab", "annotations": cited, "images": [{"url": "i"}]}
    assembler.add(decode_chunk(encode({"choices": [{"index": 0, "delta": {}, "message": beside}]})))
    assert assembler.whole().choices[0].to_dict() == {"index": 0, "message": beside}
