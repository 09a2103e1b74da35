"""A chunk that repeats the one before but for its text is read as a decoder reads it, or is left to the decoder."""

from __future__ import annotations

import itertools
import json
from copy import deepcopy
from typing import Any

import pytest

from aimlasync.chat.assembler import Assembler
from aimlasync.chat.chunks import ChatCompletionChunk, decode_chunk

HEAD = {"id": "c-7", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": None}


def of(delta: dict[str, Any], *, choice: dict[str, Any] | None = None, **fields: Any) -> bytes:
    one = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, **(choice or {})}
    return json.dumps({**HEAD, "choices": [one], **fields}).encode()


FIRST = of({"content": "TEXT"})


def begun(first: bytes = FIRST) -> Assembler:
    assembler = Assembler()
    assembler.add(decode_chunk(first))
    return assembler


def again(assembler: Assembler, raw: bytes) -> ChatCompletionChunk | None:
    read = [] if assembler.repeats is None else assembler.repeats.read([raw])
    return read[0] if read else None


def put(text: bytes) -> bytes:
    return FIRST.replace(b'"TEXT"', text)


def check(piece: ChatCompletionChunk, raw: bytes) -> None:
    """Check that a piece is what the decoder reads, at every depth."""
    wanted = decode_chunk(raw)
    assert piece == wanted
    assert piece.raw == raw
    assert piece.to_dict() == wanted.to_dict()
    assert piece.choices[0].to_dict() == wanted.choices[0].to_dict()
    assert piece.choices[0].delta.to_dict() == wanted.choices[0].delta.to_dict()


@pytest.mark.parametrize(
    "text",
    [
        '"x"',
        '""',
        '"é 漢 😀"',
        r'"\u00e9\n\"\\ \ud83d\ude00"',
        r'"\\"',
        '"' + "long " * 1000 + '"',
        '"\\"content\\": 1"',
    ],
)
def test_a_chunk_with_another_text_is_a_repeat(text: str) -> None:
    assembler = begun()
    piece = again(assembler, put(text.encode()))
    assert piece is not None
    check(piece, put(text.encode()))
    assert assembler.whole().text == "TEXT" + json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"null",
            b"1",
            b"[]",
            b"{}",
            b"",
            b'"',
            b'"""',
            b"'x'",
            b'"a" "b"',
            b'"a',
            b'a"',
            b'"\n"',
            b'"\\"',
            b'"\xff"',
        ),
        *(b'"\\ud83d"', b'"a","role":"user"', b'"a","tool_calls":null', b'"a"}},{"delta":{"content":"b"', b'"a"//'),
    ],
)
def test_what_is_no_text_is_left_to_the_decoder(text: bytes) -> None:
    assert again(begun(), put(text)) is None


@pytest.mark.parametrize("odd", [b"null", b'"a" "b"', b'"a",\n"b"', b'"a', b'a"', b'"\n"', b"", b'"a"],["b"', b"]"])
@pytest.mark.parametrize("at", [0, 1, 4])
def test_of_several_events_those_before_the_first_that_is_no_repeat_are_read(at: int, odd: bytes) -> None:
    texts = [b'"a"', b'"b\\n"', b' "c"', b'"d"\n', b'""']
    texts[at] = odd
    assembler = begun()
    assert assembler.repeats is not None
    events = [put(text) for text in texts]
    pieces: list[ChatCompletionChunk] = []
    while more := assembler.repeats.read(events[len(pieces) :]):
        pieces += more
    assert len(pieces) == at
    for piece, text in zip(pieces, texts, strict=False):
        check(piece, put(text))
    assert assembler.whole().text == "TEXT" + "".join(json.loads(text) for text in texts[:at])


def test_texts_that_are_whole_only_together_are_no_repeats() -> None:
    assembler = begun()
    assert assembler.repeats is not None
    # Joined in any way they would be as many texts as there are events.
    assert assembler.repeats.read([put(b'"a'), put(b'b"'), put(b'"c","d"')]) == []
    assert assembler.repeats.read([put(b'"a","b"'), put(b"")]) == []
    # A shorter event beside a longer one.
    assert assembler.repeats.read([FIRST[:-1], FIRST + FIRST[-1:]]) == []


@pytest.mark.parametrize(
    "raw",
    [
        of({"content": "TEXT"}, id="other"),
        of({"content": "TEXT"}, usage={"prompt_tokens": 1}),
        of({"content": "TEXT"}, choice={"finish_reason": "stop"}),
        of({"content": "TEXT"}, choice={"index": 1}),
        of({}),
        FIRST + b" ",
        FIRST[:-1],
        b"[DONE]",
        b"{}",
        b"",
    ],
)
def test_another_chunk_is_left_to_the_decoder(raw: bytes) -> None:
    assert again(begun(), raw) is None


@pytest.mark.parametrize(
    "first",
    [
        of({"content": ""}),
        of({"role": "assistant"}),
        of({"content": "a", "tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}),
        of({"content": "a", "reasoning_content": "b"}),
        of({"content": "a", "undeclared": "text"}),
        of({"content": "a", "undeclared": []}),
        of({"content": "a"}, undeclared={}),
        of({"content": "a"}, undeclared=[1]),
        of({"content": "a", "reasoning_content": ""}),
        of({"reasoning_content": ""}),
        of({"content": None, "reasoning": "undeclared"}),
        of({"content": "a"}, choice={"logprobs": {"content": [{"token": "a", "logprob": -1}]}}),
        of({"content": "a"}, choice={"logprobs": {}}),
        of({"content": "a"}, choice={"finish_reason": "error"}),
        of({"content": "a"}, choice={"token_ids": [1]}),
        # Not in the first place.
        of({}, choices=["no choice", {"delta": {"content": "a"}}]),
        # A key that is spelled in another way, and another one of its name.
        of({"role": "a"}, content="b").replace(b'"role"', b'"c\\u006fntent"'),
        of({"content": "a"}, usage={"prompt_tokens": 1}),
        of({"content": "a"}, meta={"usage": {"usd_spent": 1}}),
        of({"content": "a"}, x_groq={"usage": None}),
        of({"content": "a"}, choices=[]),
        json.dumps({**HEAD, "choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}).encode(),
        # Two keys of the name; the last one counts.
        FIRST.replace(b'"content"', b'"content": "a", "content"'),
    ],
)
def test_a_chunk_with_more_than_text_is_not_taken_for_a_pattern(first: bytes) -> None:
    assert begun(first).repeats is None


def test_what_is_read_as_a_repeat_is_what_a_decoder_reads() -> None:
    assembler = begun()
    found = 0
    for size in range(5):
        for letters in itertools.product(b'"\\,:}n', repeat=size):
            for raw in (put(bytes(letters)), put(b'"%b"' % bytes(letters))):
                piece = again(assembler, raw)
                if piece is not None:
                    found += 1
                    check(piece, raw)
    assert found > 100


@pytest.mark.parametrize(
    "first",
    [
        # vLLM, OpenRouter, and a gateway that adds to all three.
        of({"content": "TEXT"}, choice={"token_ids": None, "stop_reason": None}),
        of({"role": "assistant", "content": "TEXT"}, choice={"native_finish_reason": None}, provider="P"),
        of({"content": "TEXT", "reasoning": None, "n": 1}, choice={"x": "y", "z": 1.5}, cached=False),
        # A field with a type that nobody promised.
        of({"content": "TEXT"}, created="1"),
        of({"content": None, "reasoning_content": "TEXT"}),
        of({"reasoning_content": "TEXT"}, choice={"token_ids": None}),
    ],
)
def test_a_chunk_with_undeclared_fields_is_repeated_with_them(first: bytes) -> None:
    raws = [first, *(first.replace(b"TEXT", text) for text in (b"a", b"", b"\\n"))]
    assembler, wanted = begun(first), Assembler()
    pieces = [again(assembler, raw) for raw in raws[1:]]
    for raw in raws:
        wanted.add(decode_chunk(raw))
    for piece, raw in zip(pieces, raws[1:], strict=True):
        assert piece is not None
        check(piece, raw)
        assert vars(piece.choices[0]) == vars(decode_chunk(raw).choices[0])
    assert assembler.whole() == wanted.whole()
    assert assembler.whole().to_dict() == wanted.whole().to_dict()


def test_a_role_in_every_delta_is_read_again_with_it() -> None:
    first = of({"role": "assistant", "content": "TEXT"})
    assembler = begun(first)
    raw = first.replace(b"TEXT", b"more")
    piece = again(assembler, raw)
    assert piece is not None
    check(piece, raw)
    assert assembler.whole().choices[0].message.role == "assistant"


def test_a_chunk_shares_nothing_with_the_next() -> None:
    assembler = begun()
    first = again(assembler, put(b'"a"'))
    assert first is not None
    before = deepcopy(first)
    first.choices[0].delta.content = first.id = "changed"
    first.choices.append(first.choices[0])
    second = again(assembler, put(b'"a"'))
    assert second == before
    assert assembler.whole().text == "TEXTaa"


def test_a_change_of_the_first_chunk_by_its_reader_is_not_repeated() -> None:
    assembler = Assembler()
    first = decode_chunk(FIRST)
    assembler.add(first)
    first.id = first.choices[0].delta.role = "changed"
    piece = again(assembler, put(b'"a"'))
    assert piece is not None
    check(piece, put(b'"a"'))


@pytest.mark.parametrize(
    "between",
    [of({"content": "b"}, choice={"finish_reason": "stop"}), json.dumps({**HEAD, "choices": [], "usage": {}}).encode()],
)
def test_only_the_last_chunk_is_repeated(between: bytes) -> None:
    assembler = begun()
    assembler.add(decode_chunk(between))
    assert again(assembler, FIRST) is None
    assembler.add(decode_chunk(FIRST))
    assert again(assembler, FIRST) is not None


def test_a_stream_without_repeats_is_not_searched_for_them_for_ever() -> None:
    assembler = Assembler()
    for number in range(20):
        assembler.add(decode_chunk(of({"content": "a"}, id=f"c-{number}")))
    assert assembler.repeats is None


def test_a_stream_with_repeats_is_searched_for_more_of_them() -> None:
    assembler = Assembler()
    for number in range(40):
        raw = of({"content": "a"}, id=f"c-{number // 2}")
        if again(assembler, raw) is None:
            assert number % 2 == 0
            assembler.add(decode_chunk(raw))
    assert assembler.whole().text == "a" * 40
