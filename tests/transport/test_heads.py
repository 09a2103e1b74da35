"""Heads of responses: what is remembered of earlier ones changes no verdict and no value."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.transport import heads
from aimlasync.transport.heads import Head, Heads

FIRST = [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OKAY", b"HTTP/1.1 2000 OK", b"HTTP/1.1 429"]
NAMES = [b"Date", b"date", b"Content-Length", b"content-length", b"Connection", b"Transfer-Encoding", b"X-A", b"X-A:"]
NAMES += [b"Content-Encoding", b"X (A)", b"", b"X-A "]
VALUES = [b"", b" 5", b" 6 ", b" 5, 5", b"\t7", b" -1", b" chunked", b" close", b" keep-alive", b" gzip", b" a\x00"]
VALUES += [b" a\rb", b" a\nb", b" a\x7f", b" \xe9", b" 1234567890123456", b" \xb2", b":", b" identity"]

heads_of_servers = st.builds(
    lambda first, fields: b"\r\n".join([first, *(b"%b:%b" % field for field in fields)]),
    st.sampled_from(FIRST),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4),
)


def said(head: Head | None) -> tuple[object, ...] | None:
    if head is None:
        return None
    return head.status, list(head.headers.lines), head.length, head.is_chunked, head.closes, head.is_encoded


@settings(max_examples=200)
@given(st.lists(heads_of_servers, min_size=2, max_size=6), st.data())
def test_a_head_means_the_same_whatever_was_read_before(sent: list[bytes], data: st.DataObject) -> None:
    # Changed in one value, heads are alike enough for a memory of one to read the other.
    for raw in list(sent):
        lines = raw.split(b"\r\n")
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = lines[at].partition(b":")[0] + b":" + data.draw(st.sampled_from(VALUES))
        sent += [b"\r\n".join(lines), raw]
    known = Heads()
    assert [said(known.read(raw)) for raw in sent] == [said(Heads().read(raw)) for raw in sent]


def test_what_is_kept_of_a_response_is_not_changed_by_the_next() -> None:
    known = Heads()
    first = known.read(b"HTTP/1.1 200 OK\r\nDate: one\r\nContent-Length: 5")
    assert first is not None
    headers, length = first.headers, first.length
    second = known.read(b"HTTP/1.1 200 OK\r\nDate: two\r\nContent-Length: 6")
    assert second is not None
    assert (headers["date"], length) == ("one", 5)
    assert (second.headers["date"], second.length) == ("two", 6)


@pytest.mark.parametrize("number", [heads._MAX_KNOWN * 4])
def test_servers_that_never_repeat_a_head_fill_no_memory(number: int) -> None:
    known = Heads()
    for at in range(number):
        assert known.read(b"HTTP/1.1 200 OK\r\nX-%d: a\r\nContent-Length: 5" % at) is not None
    assert known.read(b"HTTP/1.1 200 OK\r\nX: %b\r\nContent-Length: 5" % (b"a" * heads._MAX_KNOWN_BYTES)) is not None
    assert len(known._known) <= heads._MAX_KNOWN
    assert all(len(head.raw) <= heads._MAX_KNOWN_BYTES for head in known._known)
