"""A request that is left at any step of its wait for the head, by whoever awaits it or with its connection."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from aimlasync import APIConnectionError
from aimlasync.transport.base import RawReply, StaleConnectionError
from tests.support.exchanges import ANSWERED, BODY, SIZED, exchanges
from tests.support.servers import STEPS, Script, turns

HEAD = b"HTTP/1.1 200 OK\r\n"
PACKED = gzip.compress(BODY)
SCRIPTS = {
    "at once": ANSWERED,
    "in two pieces": Script([SIZED[30:]], head=SIZED[:30], end="keep"),
    "encoded": Script(
        head=HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED, end="keep"
    ),
    "until the end": Script(head=HEAD + b"\r\n" + BODY, end="eof"),
}


@pytest.mark.parametrize("body", [b"{}", bytes(2**20)], ids=["small", "large"])
@pytest.mark.parametrize("is_warm", [False, True], ids=["dialled", "kept"])
@pytest.mark.parametrize("answer", list(SCRIPTS))
async def test_a_wait_for_the_head_may_be_cancelled_at_any_step(answer: str, is_warm: bool, body: bytes) -> None:
    async with exchanges() as made:
        for step in range(STEPS):
            if is_warm:
                await made.warmed(1)
            made.server.scripts = [SCRIPTS[answer]]
            task = asyncio.ensure_future(made.send(body))
            await turns(step)
            task.cancel()
            (reply,) = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(reply, BaseException):
                assert await reply.read() == BODY
            else:
                assert isinstance(reply, asyncio.CancelledError)
            await made.are_whole()
            if not task.cancelled():
                break
            for connection in list(made.transport.connections):
                connection.drop()
        assert not task.cancelled()


async def test_a_wait_whose_coroutine_is_closed_leaves_its_connection() -> None:
    async with exchanges() as made:
        await made.warmed(1)

        async def waits() -> RawReply:
            return await made.send()

        waiting = waits()
        waiting.send(None)
        assert len(made.origin._idle) == 0
        waiting.close()
        await made.are_whole()


async def test_a_request_is_sent_once() -> None:
    async with exchanges() as made:
        sent = made.send()
        reply = await sent
        with pytest.raises(RuntimeError, match="sent once"):
            await sent
        assert await reply.read() == BODY
        assert len(made.server.requests) == 1
        await made.are_whole()


async def test_a_request_that_nobody_awaits_is_not_sent() -> None:
    async with exchanges() as made:
        await made.warmed(1)
        made.send()
        await turns(10)
        assert len(made.server.requests) == 1
        await made.are_whole()


@pytest.mark.parametrize("by", ["its server", "the client"])
async def test_a_request_whose_connection_ends_before_it_is_written_fails_alone(by: str) -> None:
    async with exchanges() as made:
        await made.warmed(6)
        asked = len(made.server.requests)
        tasks = [asyncio.ensure_future(made.send(b"%d" % n)) for n in range(6)]
        await asyncio.sleep(0)
        # The first few were written at once, and these are yet to be, with all that this turn brings.
        connection = made.transport.outbox.replies[-1].connection
        assert connection is not None
        if by == "its server":
            connection.connection_lost(None)
        else:
            connection.drop()
        *replies, failure = await asyncio.gather(*tasks, return_exceptions=True)
        for reply in replies:
            assert not isinstance(reply, BaseException)
            assert await reply.read() == BODY
        assert type(failure) is (StaleConnectionError if by == "its server" else APIConnectionError)
        await made.are_whole()
        assert sorted(made.server.bodies[asked:]) == [b"0", b"1", b"2", b"3", b"4", b"{}"]
