"""Claims about `aimlasync.sse`, written from WHATWG HTML sections 9.2.5 and 9.2.6."""

from __future__ import annotations

import itertools
import re
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aimlasync.sse import Event, EventTooLargeError, Parser, Series

BOM = b"\xef\xbb\xbf"


def message(data: str, event: str = "message", id: str = "", retry: int | None = None) -> Event:
    return Event(event, data.encode(), id, retry)


class Reference:
    """The standard's text in the order it is written: decode everything, split it into lines, interpret each line."""

    def __init__(self, stream: bytes, *, strict: bool = True) -> None:
        self.events: list[Event] = []
        self.last_event_id = ""
        self.retry: int | None = None
        self.clear()
        self.id_buffer = ""
        text = stream.decode("utf-8", "replace")
        if text.startswith("\ufeff"):
            text = text[1:]
        lines = re.split("\r\n|\r|\n", text)
        unterminated = lines.pop()
        for line in lines if strict else [*lines, unterminated, ""]:
            if line == "":
                self.dispatch()
            elif not line.startswith(":"):
                name, colon, value = line.partition(":")
                self.field(name, value[1:] if colon and value.startswith(" ") else value)

    def clear(self) -> None:
        self.data_buffer = self.type_buffer = ""
        self.block_retry: int | None = None

    def field(self, name: str, value: str) -> None:
        if name == "event":
            self.type_buffer = value
        elif name == "data":
            self.data_buffer += value + "\n"
        elif name == "id" and "\0" not in value:
            self.id_buffer = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            self.retry = self.block_retry = int(value)

    def dispatch(self) -> None:
        self.last_event_id = self.id_buffer
        if self.data_buffer:
            data = self.data_buffer.removesuffix("\n")
            self.events.append(message(data, self.type_buffer or "message", self.last_event_id, self.block_retry))
        self.clear()


def cut(stream: bytes, positions: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(positions), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def chunkings(stream: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, with empty chunks between, and cut in two at every position."""
    yield [stream]
    yield cut(stream, range(1, len(stream)))
    yield [piece for byte in cut(stream, range(1, len(stream))) for piece in (b"", byte)]
    for position in range(1, len(stream)):
        yield cut(stream, [position])


def parse(chunks: Iterable[bytes], *, strict: bool = True) -> tuple[list[Event], str, int | None]:
    parser = Parser(strict=strict)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    events += parser.close()
    return events, parser.last_event_id, parser.retry


def parse_until_error(chunks: Iterable[bytes], limit: int) -> tuple[list[Event], bool, str, int | None]:
    parser = Parser(max_event_bytes=limit)
    events: list[Event] = []
    try:
        for chunk in chunks:
            events += parser.feed(chunk)
        events += parser.close()
    except EventTooLargeError:
        return events, True, parser.last_event_id, parser.retry
    return events, False, parser.last_event_id, parser.retry


# --- the rules, one by one --------------------------------------------------------------------------------------------

X = message("x")

RULES: dict[str, tuple[bytes, list[Event]]] = {
    "nothing gives nothing": (b"", []),
    "blank lines give nothing": (b"\n\n\n", []),
    "a blank line dispatches": (b"data: x\n\n", [X]),
    "the end of the stream does not dispatch": (b"data: x\n", []),
    "the end of the stream discards an unfinished line": (b"data: x\n\ndata: y", [X]),
    "events follow each other": (b"data: x\n\ndata: y\n\ndata: z\n\n", [X, message("y"), message("z")]),
    "more blank lines change nothing": (b"\n\ndata: x\n\n\n\ndata: x\n\n\n", [X, X]),
    "data lines are joined with LF": (b"data: a\ndata: b\ndata: c\n\n", [message("a\nb\nc")]),
    "data lines are joined with LF, in the second event too": (
        b"data: x\n\ndata: a\ndata: b\n\n",
        [X, message("a\nb")],
    ),
    "a second field after a plain event": (b"data: x\n\ndata: y\nid: 1\n\n", [X, message("y", id="1")]),
    "CR ends a line": (b"data: a\rdata: b\r\r", [message("a\nb")]),
    "CRLF ends one line": (b"data: a\r\ndata: b\r\n\r\ndata: x\r\n\r\n", [message("a\nb"), X]),
    "line ends may be mixed": (b"data: a\r\ndata: b\rdata: c\n\r\ndata: x\n\r", [message("a\nb\nc"), X]),
    "CR CRLF are two line ends": (b"data: x\r\r\n", [X]),
    "CRLF CR are two line ends": (b"data: x\r\n\rdata: x\r\n\r", [X, X]),
    "LF CR are two line ends": (b"data: x\n\rdata: x\n\r", [X, X]),
    "no other character ends a line": (
        "data: a\vb\fc\x1cd\x1de\x1ef\x85g\u2028h\u2029i\n\n".encode(),
        [message("a\vb\fc\x1cd\x1de\x1ef\x85g\u2028h\u2029i")],
    ),
    "one space after the colon is dropped": (b"data:x\n\ndata: x\n\ndata:  x\n\n", [X, X, message(" x")]),
    "only a space is dropped": (b"data:\tx\n\n", [message("\tx")]),
    "trailing spaces stay": (b"data: x \n\n", [message("x ")]),
    "only the first colon separates": (b"data: a: b\n\ndata::\n\n", [message("a: b"), message(":")]),
    "a space before the colon is part of the name": (b"data : a\ndata: x\n\n", [X]),
    "a space before the name is part of it": (b" data: a\ndata: x\n\n", [X]),
    "names are case-sensitive": (b"Data: a\nDATA: a\ndata: x\n\n", [X]),
    "a longer or shorter name is another name": (b"datas: a\ndat: a\nevents: a\nids: 1\ndata: x\n\n", [X]),
    "unknown fields are ignored": (b"colour: red\ndata: x\nnonsense\n\n", [X]),
    "comments are ignored": (b":a\n: data: b\ndata: x\n:\n::\n\n", [X]),
    "a comment does not end a block": (b"data: a\n: c\ndata: b\n\n", [message("a\nb")]),
    "a block of comments gives nothing": (b": a\n\n: b\n\ndata: x\n\n", [X]),
    "a comment may hold anything": (b":\0\xff\xc3 data: a\ndata: x\n\n", [X]),
    "data without a value is an empty line": (b"data:\n\ndata: \n\n", [message(""), message("")]),
    "data without a colon is an empty line": (b"data\n\ndata\ndata\n\n", [message(""), message("\n")]),
    "empty lines of data are kept": (b"data: a\ndata:\ndata\ndata: b\ndata\n\n", [message("a\n\n\nb\n")]),
    "event sets the type": (b"event: t\ndata: x\n\n", [message("x", "t")]),
    "event may follow data": (b"data: x\nevent: t\n\n", [message("x", "t")]),
    "the last event line wins": (b"event: s\nevent: t\ndata: x\n\n", [message("x", "t")]),
    "an empty type is message": (b"event: t\nevent\ndata: x\n\nevent:\ndata: x\n\n", [X, X]),
    "the type holds for one event": (b"event: t\ndata: x\n\ndata: x\n\n", [message("x", "t"), X]),
    "the type is dropped with a block without data": (b"event: t\n\ndata: x\n\n", [X]),
    "the type may hold NUL and spaces": (b"event:  a\0b \ndata: x\n\n", [message("x", " a\0b ")]),
    "the type is decoded": ("event: é\ndata: x\n\n".encode(), [message("x", "é")]),
    "id holds until the next": (
        b"id: 1\ndata: x\n\ndata: x\n\nid: 2\ndata: x\n\n",
        [message("x", id="1"), message("x", id="1"), message("x", id="2")],
    ),
    "id may follow data": (b"data: x\nid: 1\n\n", [message("x", id="1")]),
    "an empty id resets": (b"id: 1\ndata: x\n\nid\ndata: x\n\nid:\ndata: x\n\n", [message("x", id="1"), X, X]),
    "id counts without data": (b"id: 1\n\ndata: x\n\n", [message("x", id="1")]),
    "id with NUL is ignored": (b"id: 1\nid: \0\nid: 2\0\ndata: x\n\n", [message("x", id="1")]),
    "id is decoded": (b"id: \xc3\xa9\xff\ndata: x\n\n", [message("x", id="é\ufffd")]),
    "id may hold a colon and spaces": (b"id:  a:b \ndata: x\n\n", [message("x", id=" a:b ")]),
    "retry belongs to its block": (b"retry: 50\ndata: x\n\ndata: x\n\n", [message("x", retry=50), X]),
    "retry of a block without data is in no event": (b"retry: 50\n\ndata: x\n\n", [X]),
    "the last valid retry wins": (b"retry: 1\nretry: 2\nretry: no\ndata: x\n\n", [message("x", retry=2)]),
    "retry may have leading zeros": (b"retry:007\ndata: x\n\n", [message("x", retry=7)]),
    "retry takes ASCII digits only": (
        "retry\nretry:\nretry:  5\nretry: 5 \nretry: +5\nretry: -5\nretry: 5.0\nretry: 5_0\nretry: \u0665\n".encode()
        + b"data: x\n\n",
        [X],
    ),
    "one BOM is dropped": (BOM + b"data: x\n\n", [X]),
    "one BOM is dropped before a comment": (BOM + b": c\ndata: x\n\n", [X]),
    "a second BOM is part of the name": (BOM + BOM + b"data: a\n\ndata: x\n\n", [X]),
    "a later BOM is part of the name": (b"\n" + BOM + b"data: a\n\ndata: x\n\n", [X]),
    "a BOM in a value stays": (b"data: " + BOM + b"\n\n", [message("\ufeff")]),
    "a part of a BOM is part of the name": (b"\xef\xbbdata: a\n\ndata: x\n\n", [X]),
    "a part of a BOM is a line of its own": (b"\xef\ndata: x\n\n", [X]),
    "a UTF-16 BOM is part of the name": (b"\xff\xfedata: a\n\ndata: x\n\n", [X]),
    "data is UTF-8": ("data: é✓😀\n\n".encode(), [message("é✓😀")]),
    "invalid bytes become U+FFFD": (b"data: \xff\n\ndata: a\x80b\n\n", [message("\ufffd"), message("a\ufffdb")]),
    "a character cut by the line end becomes U+FFFD": (
        b"data: \xe2\x9c\ndata: \x93\n\n",
        [message("\ufffd\n\ufffd")],
    ),
    "each maximal part of a character becomes one U+FFFD": (
        b"data: \xf0\x9f\x98x\xc0\xafx\xed\xa0\x80x\xf4\x90\n\n",
        [message("\ufffdx\ufffd\ufffdx\ufffd\ufffd\ufffdx\ufffd\ufffd")],
    ),
    "invalid bytes leave their neighbours alone": (
        "data: é\n\n".encode() + b"data: \xff\n\n" + "data: ✓\n\n".encode(),
        [message("é"), message("\ufffd"), message("✓")],
    ),
    "NUL in data stays": (b"data: \0\n\n", [message("\0")]),
    "a document that is no event stream gives nothing": (b"<html>\n<p>data: x</p>\n\n</html>\n", []),
}


@pytest.mark.parametrize("rule", RULES)
def test_rule_holds_however_the_stream_is_cut(rule: str) -> None:
    stream, expected = RULES[rule]
    for chunks in chunkings(stream):
        assert parse(chunks)[0] == expected, chunks


@pytest.mark.parametrize("line_end", [b"\r", b"\r\n"], ids=["CR", "CRLF"])
@pytest.mark.parametrize("rule", [rule for rule, (stream, _) in RULES.items() if b"\r" not in stream])
def test_rule_holds_with_other_line_ends(rule: str, line_end: bytes) -> None:
    stream, expected = RULES[rule]
    for chunks in chunkings(stream.replace(b"\n", line_end)):
        assert parse(chunks)[0] == expected, chunks


@pytest.mark.parametrize("rule", RULES)
def test_reference_follows_the_rule(rule: str) -> None:
    stream, expected = RULES[rule]
    assert Reference(stream).events == expected


@pytest.mark.parametrize(
    ("stream", "last_event_id", "retry"),
    [
        (b"", "", None),
        (b"id: 1\n", "", None),
        (b"id: 1\n\n", "1", None),
        (b"id: 1\n\nid: 2\ndata: x\n", "1", None),
        (b"id: 1\n\nid: 2\0\n\n", "1", None),
        (b"id: 1\n\nid\n\n", "", None),
        (b"retry: 10", "", None),
        (b"retry: 10\n", "", 10),
        (b"retry: 10\n\nretry: x\n\n", "", 10),
        (b"retry: 10\nretry: 0\n", "", 0),
        (b"retry: 10\nretry: " + b"9" * 5000 + b"\n", "", 10),
    ],
)
def test_id_is_committed_by_a_blank_line_and_retry_by_its_own_line(
    stream: bytes, last_event_id: str, retry: int | None
) -> None:
    assert parse([stream])[1:] == (last_event_id, retry)
    assert parse(cut(stream, range(1, len(stream))))[1:] == (last_event_id, retry)


# --- chunks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [b"\n\n", b"\r\r", b"\r\n\r", b"\n\r", b"\r\n\n"])
def test_event_is_returned_by_the_feed_that_brings_its_last_byte(blank: bytes) -> None:
    parser = Parser()
    assert parser.feed(b"data: x" + blank[:-1]) == []
    assert parser.feed(blank[-1:]) == [X]


def test_lf_after_a_chunk_that_ends_with_cr_is_no_blank_line() -> None:
    parser = Parser()
    assert parser.feed(b"data: a\r") == []
    assert parser.feed(b"") == []
    assert parser.feed(b"\n") == []
    assert parser.feed(b"data: b\r\n\r") == [message("a\nb")]
    assert parser.feed(b"\ndata: x\n\n") == [X]


def test_character_cut_by_chunks_is_whole_again() -> None:
    assert parse(cut("data: 😀\n\n".encode(), [7, 8, 9]))[0] == [message("😀")]


TOKENS = st.sampled_from(
    [
        b"\n",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b":",
        b" ",
        b"data",
        b"data:",
        b"data: ",
        b"event",
        b"event: ",
        b"id",
        b"id: ",
    ]
    + [b"retry", b"retry: ", b"1", b"x", b"x", b"\0", BOM, b"\xef", b"\xbb", b"\xbf", b"\xff", b"\xe2\x9c", b"\x93"]
    + [
        text.encode()
        for text in (
            "é",
            "✓",
            "😀",
            "\u2028",
            "\x85",
            "\x1c",
            "\u0665",
            ": c\n",
            'data: {"a":1}\n\n',
            "data: é\n\n",
            "event: é\ndata: é\n\n",
        )
    ]
)
STREAMS = st.builds(
    lambda head, tokens: head + b"".join(tokens), st.sampled_from([b"", b"", BOM]), st.lists(TOKENS, max_size=30)
)
CUTS = st.lists(st.integers(0, 80), max_size=12)


@settings(max_examples=400, deadline=None)
@given(STREAMS, CUTS)
@example(b"data: x\n\n\ndata: x\n\n", [])
@example(b"data: x\n\ndata: x\n\ndata: x\n: c\n\n", [])
@example(b"event: a\ndata: x\n\nevent: \ndata: y\n\nevent:  a\ndata: \n\n", [])
@example(b"event: a\ndata: x\n\nevent: a\nid: 1\ndata: y\n\nevent: a\ndata: z\n\n", [])
@example(b"event: a\ndata: x\n\nevent: a\n\nevent: b\ndata: y\ndata: z\n\n", [])
@example(b"event: \xff\ndata: x\n\nevent: b\ndata: y\n\n", [])
def test_after_every_chunk_the_parser_has_what_the_standard_reads_in_the_bytes_so_far(
    stream: bytes, cuts: list[int]
) -> None:
    parser = Parser()
    fed, events = b"", list[Event]()
    for chunk in cut(stream, [position for position in cuts if position < len(stream)]):
        fed += chunk
        events += parser.feed(chunk)
        reference = Reference(fed)
        assert events == reference.events
        assert parser.last_event_id == reference.last_event_id
        assert parser.retry == reference.retry
    assert parser.close() == []
    for event in events:
        event.data.decode()


@settings(max_examples=200, deadline=None)
@given(STREAMS)
def test_bytes_one_by_one_give_the_same_as_the_whole(stream: bytes) -> None:
    assert parse(cut(stream, range(1, len(stream)))) == parse([stream])


@settings(max_examples=200, deadline=None)
@given(STREAMS, CUTS)
def test_lenient_end_is_the_end_of_the_line_and_a_blank_line(stream: bytes, cuts: list[int]) -> None:
    reference = Reference(stream, strict=False)
    chunks = cut(stream, [position for position in cuts if position < len(stream)])
    assert parse(chunks, strict=False) == (reference.events, reference.last_event_id, reference.retry)


@settings(max_examples=200, deadline=None)
@given(STREAMS, CUTS, st.integers(1, 30))
def test_limit_is_met_at_the_same_event_however_the_stream_is_cut(stream: bytes, cuts: list[int], limit: int) -> None:
    chunks = cut(stream, [position for position in cuts if position < len(stream)])
    assert parse_until_error(chunks, limit) == parse_until_error([stream], limit)
    assert parse_until_error(cut(stream, range(1, len(stream))), limit) == parse_until_error([stream], limit)


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", []),
        (b"data: x\n\n", []),
        (b"data: [DONE]", [message("[DONE]")]),
        (b"data: [DONE]\n", [message("[DONE]")]),
        (b"data: [DONE]\r", [message("[DONE]")]),
        (b"data: [DONE]\r\n", [message("[DONE]")]),
        (b"data: [DONE]\r\n\r", []),
        (b"data: x\n: keep-alive", [X]),
        (b"data: x\n: a very long keep-alive", [X]),
        (b"data: x\ndata", [message("x\n")]),
        (b"data", [message("")]),
        (b"dat", []),
        (b"event: t\nid: 1\nretry: 5\ndata: x", [message("x", "t", "1", 5)]),
        (b"event: t", []),
        (BOM + b"data: x", [X]),
        (BOM[:2], []),
        (b"data: \xe2\x9c", [message("\ufffd")]),
    ],
)
def test_lenient_close_dispatches_the_unfinished_event(stream: bytes, expected: list[Event]) -> None:
    for chunks in chunkings(stream):
        parser = Parser(strict=False)
        for chunk in chunks:
            parser.feed(chunk)
        assert parser.close() == expected
        assert parser.close() == []


def test_lenient_close_commits_the_id() -> None:
    assert parse([b"id: 1\n"], strict=False) == ([], "1", None)


def test_strict_close_discards_the_unfinished_event_and_its_id() -> None:
    assert parse([b"id: 1\ndata: x\n"]) == ([], "", None)


@pytest.mark.parametrize("strict", [True, False])
def test_close_is_idempotent_and_feed_after_it_is_an_error(strict: bool) -> None:
    parser = Parser(strict=strict)
    assert parser.feed(b"data: x\n\n") == [X]
    assert parser.close() == []
    assert parser.close() == []
    for chunk in (b"data: x\n\n", b""):
        with pytest.raises(RuntimeError):
            parser.feed(chunk)


# --- series -----------------------------------------------------------------------------------------------------------

BLOCKS = st.lists(
    st.sampled_from(
        [
            *[b"data: x\n\n", b"event: a\ndata: x\n\n"] * 3,
            *[b"event: b\ndata: y\n\n", b"event: \xc3\xa9\ndata: \xc3\xa9\n\n", b"event: \ndata: x\n\n"],
            *[b"data:x\n\n", b"data: \n\n", b"data\n\n", b"data: x\ndata: y\n\n", b"event: a\n\n"],
            *[b"event: a\ndata:x\n\n", b": c\n\n", b": c\ndata: x\n\n", b"data: x\n: c\n\n", b"id: 2\n\n"],
            *[b"id: 1\ndata: x\n\n", b"id\ndata: x\n\n", b"retry: 5\ndata: x\n\n", b"\n", b"\r\n"],
            *[b"data: \xff\n\n", b"event: \xff\ndata: x\n\n", b"other: x\n\n"],
        ]
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(BLOCKS, CUTS)
def test_blocks_that_begin_alike_are_the_events_of_the_standard(blocks: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(blocks)
    wanted = Reference(stream)
    assert parse(cut(stream, cuts)) == (wanted.events, wanted.last_event_id, wanted.retry)


@pytest.mark.parametrize("begin", [b"data: ", b"event: a\ndata: "])
def test_events_that_begin_alike_are_one_series(begin: bytes) -> None:
    stream = b"".join(b"%b%d\n\n" % (begin, number) for number in range(9))
    (series,) = Parser().read(stream)
    assert series == Series("a" if b"event" in begin else "message", [b"%d" % number for number in range(9)])


def test_a_series_has_the_id_of_its_events_and_ends_where_an_event_begins_otherwise() -> None:
    parser = Parser(strict=False)
    found = parser.read(b"data: 1\n\ndata: 2\n\nid: 7\ndata: 3\n\ndata: 4\n\ndata: 5\n\n")
    found += parser.read(b"event: a\ndata: 6\n\nevent: a\ndata: 7\n\nretry: 5\nevent: a\ndata: 8\n\ndata: 9")
    assert found == [
        Series("message", [b"1"]),
        *[message("2"), message("3", id="7")],
        Series("message", [b"4", b"5"], "7"),
        Series("a", [b"6"], "7"),
        *[message("7", "a", "7"), message("8", "a", "7", 5)],
    ]
    assert parser.end() == [Series("message", [b"9"], "7")]


# --- bounds -----------------------------------------------------------------------------------------------------------

AT_THE_LIMIT = {
    "one line": b"data: " + b"x" * 94,
    "many lines": b"data: " + b"x" * 44 + b"\n" + b"data: " + b"x" * 44,
    "every kind of known field": b"event: tttt\nid: 1234567\nretry: 12\ndata: " + b"x" * 63,
    "comments and unknown fields are free": b"data: " + b"x" * 94 + b"\n: " + b"c" * 500 + b"\nother: " + b"o" * 500,
    "a name that only begins like a known one is free": b"data: "
    + b"x" * 94
    + b"\neventual: no\nretryable: no\nidea: no",
}


@pytest.mark.parametrize("shape", AT_THE_LIMIT)
@pytest.mark.parametrize("before", [b"", b"data: x\n\n", b": c\ndata: x\n\n", BOM])
def test_event_of_the_limit_passes_and_one_more_byte_does_not(shape: str, before: bytes) -> None:
    first = [X] if b"x" in before else []
    for end in (b"\n\n", b"\r\n\r\n"):
        fits = before + AT_THE_LIMIT[shape] + end
        too_large = before + AT_THE_LIMIT[shape] + b"\nid" + end
        for chunks in ([fits], cut(fits, range(1, len(fits)))):
            events, failed, *_ = parse_until_error(chunks, 100)
            assert (len(events), failed) == (len(first) + 1, False)
        for chunks in ([too_large], cut(too_large, range(1, len(too_large)))):
            events, failed, *_ = parse_until_error(chunks, 100)
            assert (events, failed) == (first, True)


def test_limit_is_per_event() -> None:
    stream = b"data: 0123456789\n\n" * 100
    for chunks in ([stream], cut(stream, range(1, len(stream)))):
        events, failed, *_ = parse_until_error(chunks, 16)
        assert (len(events), failed) == (100, False)


def test_line_without_end_meets_the_limit() -> None:
    parser = Parser(max_event_bytes=1000)
    assert parser.feed(b"data: " + b"x" * 994) == []
    with pytest.raises(EventTooLargeError, match="larger than 1000 bytes") as caught:
        parser.feed(b"x")
    assert caught.value.max_event_bytes == 1000
    assert isinstance(caught.value, ValueError)


def test_line_without_end_counts_with_the_lines_before_it() -> None:
    parser = Parser(max_event_bytes=100)
    assert parser.feed(b"data: " + b"x" * 44 + b"\n" + b"data: " + b"x" * 44) == []
    with pytest.raises(EventTooLargeError):
        parser.feed(b"x")


def test_events_before_the_oversized_one_are_returned_first() -> None:
    wire = b"data: x\n\nid: 1\ndata: x\n\ndata: 0123456789\n\ndata: x\n\n"
    for ending in ("feed", "close"):
        parser = Parser(max_event_bytes=15)
        assert parser.feed(wire) == [X, message("x", id="1")]
        with pytest.raises(EventTooLargeError):
            parser.feed(b"data: x\n\n") if ending == "feed" else parser.close()
        assert parser.close() == []
        with pytest.raises(RuntimeError):
            parser.feed(b"data: x\n\n")


def test_lenient_close_returns_nothing_of_an_oversized_event() -> None:
    parser = Parser(max_event_bytes=10, strict=False)
    with pytest.raises(EventTooLargeError):
        parser.feed(b"data: 0123456789")
    assert parser.close() == []


def test_line_of_four_megabytes_in_tiny_chunks() -> None:
    payload = b"x" * 2**22
    stream = b"data: " + payload + b"\n\n"
    events, _, _ = parse(stream[i : i + 64] for i in range(0, len(stream), 64))
    assert [event.data for event in events] == [payload]


def test_line_of_four_megabytes_in_one_chunk() -> None:
    payload = b"x" * 2**22
    assert parse([b"data: " + payload + b"\n\n"])[0] == [Event(data=payload)]


def test_event_of_very_many_lines() -> None:
    stream = b"data\n" * 200_000 + b"\n"
    assert parse(stream[i : i + 64] for i in range(0, len(stream), 64))[0] == [Event(data=b"\n" * 199_999)]


@pytest.mark.parametrize("start", [b": ", b"unknown: ", b"data-like ", b"x"])
def test_ignored_line_of_any_length_takes_no_memory(start: bytes) -> None:
    parser = Parser(max_event_bytes=100)
    parser.feed(start)
    tracemalloc.start()
    try:
        for _ in range(2**14):
            assert parser.feed(b"0123456789abcdef" * 4) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Of a megabyte; other threads of this process take some for themselves.
    assert peak < 2**17
    assert parser.feed(b"\ndata: x\n\n") == [X]


def test_unfinished_line_takes_a_small_multiple_of_its_length_whatever_the_chunks() -> None:
    parser = Parser()
    parser.feed(b"data: ")
    tracemalloc.start()
    try:
        for index in range(2**17):
            parser.feed(bytes((97 + index % 26, 120)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**18
    assert len(parser.feed(b"\n\n")[0].data) == 2**18


def test_event_is_immutable_and_compares_by_value() -> None:
    event = parse([b"data: x\n\n"])[0][0]
    assert event == Event(data=b"x")
    assert hash(event) == hash(Event(data=b"x"))
    with pytest.raises(AttributeError):
        event.data = b"y"  # type: ignore[misc]
