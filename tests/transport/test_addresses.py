"""A name with several addresses: they take turns, and while one of them answers, no call fails for the others."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from aimlasync import APIConnectionError, AsyncClient, Endpoint, InternalServerError, Limits, Retry, Timeout
from aimlasync.transport.resolver import Addresses
from tests.support.servers import RawServer, Script, raw_server
from tests.support.virtual import run

HELLO: Any = [{"role": "user", "content": "Hello"}]
BODY = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
GOOD = Script(end="keep", head=HEAD + BODY)
NO_SERVER = Script(end="keep", head=b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
CLOSES = Script(end="cut", head=b"")
FIRST, SECOND = "127.0.0.1", "127.0.0.2"


def _has(address: str) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind((address, 0))
        except OSError:
            return False
    return True


two_addresses = pytest.mark.skipif(not _has(SECOND), reason="this system has one loopback address")


class Names:
    """What a look-up finds, in place of DNS."""

    def __init__(self) -> None:
        self.found = [FIRST, SECOND]
        self.look_ups = 0
        self.looks, self.may_end = asyncio.Event(), asyncio.Event()
        self.may_end.set()

    async def resolve(self, host: str, port: int, family: Any) -> list[Any]:
        self.look_ups += 1
        self.looks.set()
        await self.may_end.wait()
        if not self.found:
            raise OSError(None, "no such name")
        entry = {"hostname": host, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
        return [{**entry, "host": each} for each in self.found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", lambda _, *of: names.resolve(*of))
    return names


@asynccontextmanager
async def two_servers(first: Script, second: Script) -> AsyncIterator[tuple[RawServer, RawServer]]:
    async with raw_server(first) as one, raw_server(second, host=SECOND, port=one.port) as other:
        yield one, other


def client(server: RawServer, **options: Any) -> AsyncClient:
    endpoint = Endpoint(base_url=f"{server.scheme}://two.test:{server.port}/v1", allow_http=True)
    # Limits of which nothing is learned.
    return AsyncClient(endpoints=[endpoint], limits=Limits(concurrency=64), **{"retry": Retry(base=0.001), **options})


async def ask(client: AsyncClient, calls: int = 1) -> list[int]:
    """Make so many calls at once; return the attempts that each took."""
    create = client.chat.completions.create
    replies = await asyncio.gather(*(create(model="m", messages=HELLO) for _ in range(calls)))
    return [reply.info.attempts for reply in replies]


@two_addresses
async def test_addresses_take_turns(names: Names) -> None:
    async with two_servers(GOOD, GOOD) as (one, other), client(one) as made:
        await ask(made, 6)
        assert (one.connections, other.connections, names.look_ups) == (3, 3, 1)


async def test_an_address_without_a_server_costs_no_attempt(names: Names) -> None:
    async with raw_server(GOOD) as server, client(server) as made:
        assert await ask(made, 6) == [1] * 6


@two_addresses
@pytest.mark.parametrize("bad", [CLOSES, NO_SERVER], ids=["closes", "503"])
async def test_after_a_failure_new_connections_go_to_the_other_address(bad: Script, names: Names) -> None:
    names.found = [SECOND, FIRST]
    async with two_servers(GOOD, bad) as (one, other), client(one) as made:
        assert await ask(made) == [2]
        assert await ask(made, 6) == [1] * 6
        assert (len(one.requests), len(other.requests)) == (7, 1)


@two_addresses
async def test_where_all_addresses_refuse_their_connections_are_kept(names: Names) -> None:
    async with two_servers(NO_SERVER, NO_SERVER) as (one, other), client(one, max_retries=0) as made:
        for _ in range(4):
            with pytest.raises(InternalServerError):
                await ask(made)
        assert (one.connections + other.connections, len(one.requests) + len(other.requests)) == (2, 4)


async def test_the_only_address_keeps_its_connection_when_it_refuses(names: Names) -> None:
    names.found = [FIRST]
    async with raw_server(NO_SERVER) as server, client(server, max_retries=0) as made:
        for _ in range(2):
            with pytest.raises(InternalServerError):
                await ask(made)
        assert server.connections == 1


@two_addresses
def test_an_address_that_says_nothing_leaves_time_for_the_next_one(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    trustme = pytest.importorskip("trustme", reason="pip install 'aimlasync[test]' brings trustme")
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(ours)
    authority.issue_cert("two.test").configure_cert(theirs)
    # aiohttp makes its context when it is imported.
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", ours)

    async def main() -> None:
        names.found = [SECOND, FIRST]
        async with raw_server(GOOD, tls=theirs) as server:
            with socket.create_server((SECOND, server.port)):
                async with client(server, timeout=Timeout(connect=4, total=60)) as made:
                    assert await ask(made) == [1]

    # On one loop, since it takes two seconds.
    asyncio.run(main())


async def test_a_server_that_moved_is_found(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aimlasync.transport.resolver._KNOWN_IN_VAIN", 0.0)
    names.found = [SECOND]
    async with raw_server(GOOD) as server, client(server, max_retries=0) as made:
        with pytest.raises(APIConnectionError, match=r"could not connect to two\.test"):
            await ask(made)
        names.found = [FIRST]
        await ask(made)
        assert names.look_ups == 2


async def test_a_name_that_is_not_found_is_looked_up_again(names: Names) -> None:
    names.found = []
    async with raw_server(GOOD) as server, client(server, max_retries=0) as made:
        with pytest.raises(APIConnectionError, match=r"could not connect to two\.test:\d+: no such name"):
            await ask(made)
        names.found = [FIRST]
        await ask(made)


async def test_a_caller_that_leaves_ends_no_look_up_for_others(names: Names) -> None:
    names.may_end.clear()
    async with raw_server(GOOD) as server, client(server) as made:
        calls = [asyncio.create_task(ask(made)) for _ in range(3)]
        await names.looks.wait()
        calls[0].cancel()
        await asyncio.wait([calls[0]])
        names.may_end.set()
        names.found = [FIRST]
        assert [await each for each in calls[1:]] == [[1], [1]]
        assert names.look_ups == 1


def test_an_address_that_fails_is_the_last_for_ten_seconds(names: Names) -> None:
    async def main() -> None:
        found = Addresses("two.test", 443)

        async def first() -> set[str]:
            return {(await found.in_order())[0]["host"] for _ in range(4)}

        assert await first() == {FIRST, SECOND}
        assert found.failed(FIRST)
        assert await first() == {SECOND}
        assert not found.failed(SECOND)
        assert await first() == {FIRST, SECOND}
        await asyncio.sleep(9)
        assert found.failed(SECOND) is False
        await asyncio.sleep(2)
        assert await first() == {FIRST}
        await asyncio.sleep(10)
        assert await first() == {FIRST, SECOND}
        await found.close()

    run(main())


def test_addresses_are_known_for_five_minutes_and_for_a_second_where_none_answers(names: Names) -> None:
    async def main() -> None:
        found, seen = Addresses("two.test", 443), []
        for seconds in (0, 299, 2, 0.5, 0.6, 0.1):
            await asyncio.sleep(seconds)
            await found.in_order()
            seen.append(names.look_ups)
            if len(seen) == 3:
                found.none_answers()
        assert seen == [1, 1, 2, 2, 3, 3]
        await found.close()

    run(main())
