"""The reader of responses: what it accepts, and that it never accepts what aiohttp's parser would not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.client_proto import ResponseHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.transport.http11 import MAX_HEAD, MalformedResponseError, OddResponseError, ResponseReader

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\nX-A: \t b \r\n\r\n5\r\nhello\r\n00A\r\n, everyone\r\n0\r\n\r\n"
)
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN
EMPTY = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
UNCHANGED = b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 500\r\n\r\n'
GOOD = [PLAIN, CHUNKED, CONTINUED, EMPTY, UNCHANGED]

HEAD = b"HTTP/1.1 200 OK\r\n"
ODD = {
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "until-close": HEAD + b"A: b\r\n\r\nhi",
    "gzip": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n",
    "extension": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\n\r\n",
    "two-lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "the-same-length-twice": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "length-and-chunked": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "chunked-and-length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "two-codings": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "chunked-twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown-coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "folded": HEAD + b"Content-Length: 2\r\nA: b\r\n c\r\n\r\nhi",
    "folded-length": HEAD + b"Content-Length:\r\n 2\r\n\r\nhi",
    "bare-LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "bare-LF-in-the-head": HEAD + b"A: b\nContent-Length: 2\r\n\r\nhi",
    "bare-CR": HEAD + b"A: b\rContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
    "CR-and-LF-apart": HEAD + b"A: b\rc\nd\r\nContent-Length: 2\r\n\r\nhi",
    "NUL": HEAD + b"A: b\0\r\nContent-Length: 2\r\n\r\nhi",
    "space-before-colon": HEAD + b"Content-Length : 2\r\n\r\nhi",
    "no-name": HEAD + b": 2\r\nContent-Length: 2\r\n\r\nhi",
    "no-colon": HEAD + b"Nonsense\r\nContent-Length: 2\r\n\r\nhi",
    "name-not-a-token": HEAD + b"A(b): c\r\nContent-Length: 2\r\n\r\nhi",
    "negative": HEAD + b"Content-Length: -2\r\n\r\nhi",
    "plus": HEAD + b"Content-Length: +2\r\n\r\nhi",
    "underscore": HEAD + b"Content-Length: 0_2\r\n\r\nhi",
    "hexadecimal": HEAD + b"Content-Length: 0x2\r\n\r\nhi",
    "a-list": HEAD + b"Content-Length: 2, 2\r\n\r\nhi",
    "not-ascii": HEAD + b"Content-Length: \xb2\r\n\r\nhi",
    "no-length": HEAD + b"Content-Length: \r\n\r\nhi",
    "overflow": HEAD + b"Content-Length: 18446744073709551618\r\n\r\nhi",
    "chunk-negative": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-2\r\nhi\r\n0\r\n\r\n",
    "chunk-0x": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n",
    "chunk-underscore": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0_2\r\nhi\r\n0\r\n\r\n",
    "chunk-space": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2 \r\nhi\r\n0\r\n\r\n",
    "chunk-no-size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n\r\nhi\r\n0\r\n\r\n",
    "chunk-overflow": HEAD + b"Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\nhi\r\n0\r\n\r\n",
    "chunk-bare-LF": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n",
    "huge-head": HEAD + b"A: b\r\n" * (MAX_HEAD // 6) + b"Content-Length: 2\r\n\r\nhi",
    "huge-line": HEAD + b"A: " + b"b" * MAX_HEAD + b"\r\nContent-Length: 2\r\n\r\nhi",
    "endless-1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD // 20) + PLAIN,
    "no-status": b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nhi",
    "long-status": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nhi",
    "no-HTTP": b"220 smtp.example.com ESMTP\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
}
MALFORMED = [
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhi\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\n0\r\n\r\n",
]

Outcome = tuple[int, dict[str, str], bytes, bool, bool]


def outcome(reader: ResponseReader) -> Outcome:
    return (
        reader.status,
        dict(reader.headers),
        reader.take(),
        reader.is_ended,
        reader.is_ended and reader.is_reusable,
    )


def read(*pieces: bytes) -> Outcome | str:
    """Feed the pieces; "odd" and "malformed" are outcomes too."""
    reader = ResponseReader()
    try:
        for piece in pieces:
            reader.feed(piece)
    except OddResponseError:
        return "odd"
    except MalformedResponseError:
        return "malformed"
    return outcome(reader)


def cuts(data: bytes, at: list[int]) -> Iterator[bytes]:
    places = sorted({place % (len(data) + 1) for place in at})
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        yield data[start:end]


def theirs(data: bytes) -> tuple[int, bytes] | None:
    """What aiohttp's parser makes of a whole response: status and body, None if it refuses it or waits for more."""

    async def parse() -> tuple[int, bytes] | None:
        handler = ResponseHandler(asyncio.get_running_loop())
        transport: Any = Mock()
        handler.connection_made(transport)
        handler.set_response_params(read_until_eof=True)
        handler.data_received(data)
        if handler.exception() is not None or not handler._buffer:
            return None
        while True:
            message, content = await handler.read()
            if message.code >= 200 or message.code == 101:
                break
            if not handler._buffer:
                return None
        if content.exception() is not None or not content.is_eof():
            return None
        return message.code, content.read_nowait()

    return asyncio.run(parse())


def never_more_lenient(data: bytes) -> None:
    ours = read(data)
    if not isinstance(ours, str) and ours[3]:
        # Up to where we saw its end: what follows is no part of the verdict.
        reader = ResponseReader()
        length = 0
        while not reader.is_ended:
            reader.feed(data[length : length + 1])
            length += 1
        assert theirs(data[:length]) == (ours[0], ours[2])


@pytest.mark.parametrize("data", GOOD)
def test_what_servers_send_is_read_as_aiohttp_reads_it(data: bytes) -> None:
    ours = read(data)
    assert not isinstance(ours, str)
    status, _, body, ended, reusable = ours
    assert ended
    assert reusable is (data is not EMPTY)
    assert theirs(data) == (status, body)


def test_fields_are_found_in_any_spelling_and_the_first_of_several_counts() -> None:
    reader = ResponseReader()
    reader.feed(HEAD + b"X-Some: \t one \r\nx-some: two\r\nSet-Cookie:a\r\nContent-Length: 0\r\n\r\n")
    fields = reader.headers
    assert fields["X-SOME"] == fields["x-some"] == fields.get("X-Some") == "one"
    assert "x-SOME" in fields
    assert "other" not in fields
    assert fields.get("other", "none") == "none"
    assert len(fields) == len(list(fields)) == 3
    with pytest.raises(KeyError):
        fields["other"]


@pytest.mark.parametrize("data", GOOD)
def test_every_truncation_is_waited_for_and_never_an_end(data: bytes) -> None:
    for length in range(len(data)):
        ours = read(data[:length])
        assert not isinstance(ours, str), length
        assert not ours[3], length


@pytest.mark.parametrize("data", GOOD)
def test_bytes_one_by_one_are_read_like_all_at_once(data: bytes) -> None:
    assert read(*(data[at : at + 1] for at in range(len(data)))) == read(data)


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_what_is_not_fully_understood_is_left_to_aiohttp_however_it_is_cut(data: bytes) -> None:
    assert read(data) == "odd"
    if len(data) < 1000:
        assert read(*(data[at : at + 1] for at in range(len(data)))) == "odd"


@pytest.mark.parametrize("name", ["trailers", "extension"])
def test_a_replay_goes_on_where_reading_stopped(name: str) -> None:
    reader = ResponseReader()
    with pytest.raises(OddResponseError) as caught:
        reader.feed(ODD[name])
    rest = theirs(caught.value.replay)
    assert rest is not None
    assert reader.take() + rest[1] == b"hi"


@pytest.mark.parametrize("data", MALFORMED)
def test_a_chunk_that_is_not_as_long_as_it_says_is_an_error(data: bytes) -> None:
    assert read(data) == "malformed"
    assert read(*(data[at : at + 1] for at in range(len(data)))) == "malformed"


def test_what_comes_after_the_end_makes_the_connection_unfit_and_changes_nothing() -> None:
    for data in (PLAIN, CHUNKED, UNCHANGED):
        whole, more = read(data), read(data, b"x")
        assert read(data + b"x") == more
        assert more[:4] == whole[:4]
        assert more[4] is False


def test_a_response_to_head_has_no_body() -> None:
    reader = ResponseReader(bodiless=True)
    reader.feed(HEAD + b"Content-Length: 5\r\n\r\n")
    assert reader.is_ended
    assert reader.take() == b""


@settings(deadline=None)
@given(
    st.sampled_from([*GOOD, *(data for data in ODD.values() if len(data) < 1000), *MALFORMED]),
    st.lists(st.integers(0, 999)),
)
def test_the_result_does_not_depend_on_how_the_bytes_were_cut(data: bytes, at: list[int]) -> None:
    assert read(*cuts(data, at)) == read(data)


PARTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 100 ",
        b"HTTP/1.0 200 OK",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"Content-Length: 2",
        b"Content-Length: 3",
        b"content-length:2",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: identity",
        b"Connection: close",
        b"A: b",
        b"2",
        b"0",
        b"hi",
        b"\0",
        b";x",
    ]
)


@settings(deadline=None)
@given(st.lists(PARTS, max_size=14).map(b"".join))
def test_it_is_never_more_lenient_than_aiohttp(data: bytes) -> None:
    never_more_lenient(data)
    never_more_lenient(HEAD + data)
    never_more_lenient(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + data)


@settings(deadline=None)
@given(st.sampled_from(GOOD), st.integers(0, 999), st.binary(max_size=3), st.integers(0, 3))
def test_damage_is_never_read_more_leniently_than_aiohttp_reads_it(data: bytes, at: int, put: bytes, gone: int) -> None:
    at %= len(data)
    never_more_lenient(data[:at] + put + data[at + gone :])
