"""Equal streams in flight are one request: every reader has all of it, at its own pace, whatever the others do."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from aimlasync import (
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    Limits,
    StreamError,
    Timeout,
    TruncatedStreamError,
    agents,
)
from aimlasync.relay import Relay
from aimlasync.simulator import Call, Simulator
from aimlasync.sse import Parser
from aimlasync.store import Cache
from aimlasync.transport import AiohttpTransport
from aimlasync.transport.over_httpx import HttpxTransport
from tests.support.memory_store import Memory
from tests.support.scripted import calls
from tests.support.servers import STEPS, listening, soon_over, turns, until

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}
WORDS = [f"word{number} " for number in range(12)]


class Ticket(msgspec.Struct):
    team: str


def event(text: str, finish: str | None = None) -> bytes:
    return (
        b"data: %b\n\n"
        % json.dumps(
            {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
        ).encode()
    )


EVENTS = [*map(event, WORDS), event("", "stop"), b"data: [DONE]\n\n"]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Paced:
    """A server of one stream, whose pieces are sent when they are let go."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = EVENTS
        self.head = HEAD
        self.ends_by = "eof"
        self.requests = self.port = self.open = 0
        self.pause: Callable[[], float] = float
        """Tells how long it sleeps behind a piece."""
        self._allowed = 0
        self._changed = asyncio.Condition()

    async def let(self, count: int) -> None:
        """Let so many pieces of each request go."""
        async with self._changed:
            self._allowed = count
            self._changed.notify_all()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                self.requests += 1
                # A client that goes is noticed at once; it sends no other request before the answer's end.
                gone = asyncio.ensure_future(reader.read(1))
                sending = asyncio.ensure_future(self._send(writer))
                await asyncio.wait([gone, sending], return_when=asyncio.FIRST_COMPLETED)
                is_sent = sending.done()
                for task in (gone, sending):
                    task.cancel()
                await asyncio.gather(gone, sending, return_exceptions=True)
                if not is_sent or self.ends_by == "cut":
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self.head)
        for number, piece in enumerate(self.pieces):
            async with self._changed:
                await self._changed.wait_for(lambda number=number: self._allowed > number)  # type: ignore[misc]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(self.pause())
        if self.ends_by == "eof":
            writer.write(b"0\r\n\r\n")


@pytest.fixture
async def server() -> AsyncIterator[Paced]:
    paced = Paced()
    async with listening(paced.answer) as paced.port:
        yield paced
        await paced.let(1000)
        await until(lambda: not paced.open)


@asynccontextmanager
async def client_of(server: Any, **options: Any) -> AsyncIterator[AsyncClient]:
    """A client with a cache; afterwards nothing may be held, and nothing in flight."""
    base_url = getattr(server, "base_url", None) or f"http://127.0.0.1:{server.port}/v1"
    options = {"cache": Memory(), "max_retries": 0, **options}
    async with AsyncClient(api_key="sk-a-long-sentinel", base_url=base_url, **options) as client:
        yield client
        assert client.cache is not None
        cache, answers = client.cache, client._pipeline.answers
        assert answers is not None
        await until(lambda: not cache.writing and not answers._flights)
        await until(lambda: all(each.in_flight == 0 for each in client.statistics()))


async def opened(client: AsyncClient, **more: Any) -> Any:
    return await client.chat.completions.create(**ASKED, stream=True, **more)


async def text_of(stream: Any) -> str:
    return "".join([piece async for piece in stream.text])


def in_flight(client: AsyncClient) -> int:
    return client.statistics()[0].in_flight


# One request


async def test_equal_streams_in_flight_are_one_request_and_come_as_they_come(server: Paced) -> None:
    async with client_of(server, limits=Limits(concurrency=1)) as client:
        waiting = [asyncio.ensure_future(opened(client)) for _ in range(3)]
        await server.let(1)
        streams = await asyncio.gather(*waiting)
        # Whoever comes later has it from its beginning, and the rest as it comes.
        streams.append(await opened(client))
        for number, word in enumerate(WORDS, 1):
            await server.let(number)
            for stream in streams:
                assert (await anext(stream)).choices[0].delta.content == word
        await server.let(1000)
        wholes = [await stream.collect() for stream in streams]
        assert client.cache is not None
        assert (client.cache.counts.misses, client.cache.counts.shared) == (1, 3)
        assert client.statistics()[0].attempts == 1
    assert {whole.text for whole in wholes} == {"".join(WORDS)}
    infos = [stream.info for stream in streams]
    assert [info.cached for info in infos] == [False, True, True, True]
    assert [info.attempts for info in infos] == [1, 0, 0, 0]
    assert [info.cost_usd for info in infos] == [None, 0.0, 0.0, 0.0]
    assert len({info.request_id for info in infos}) == 4
    assert server.requests == 1


async def test_what_was_shared_is_kept_once_and_answers_later_calls(server: Paced) -> None:
    await server.let(1000)
    async with client_of(server) as client:
        first, second = await opened(client), await opened(client)
        # The second comes to the end, and the first was not read.
        whole = await second.collect()
        assert client.cache is not None
        cache = client.cache
        await until(lambda: cache.counts.kept)
        again = await opened(client)
        assert (again.info.cached, await text_of(again)) == (True, whole.text)
        assert (cache.counts.kept, cache.counts.hits) == (1, 1)
        assert await text_of(first) == whole.text
    assert server.requests == 1


@pytest.mark.parametrize("way", ["raw", "relay", "events"])
async def test_each_way_of_reading_shares_with_the_others(way: str, server: Paced) -> None:
    await server.let(1)
    async with client_of(server) as client:
        first = await opened(client)
        body = json.dumps({**ASKED, "stream": True}).encode()
        if way == "raw":
            other: Any = await client.forward("POST", "chat/completions", body)
        elif way == "events":
            other = await client.chat.completions.stream(**ASKED).__aenter__()
        else:
            other = Relay(await opened(client), events="raw").messages()
        await server.let(1000)
        if way == "raw":
            assert b"".join([piece async for piece in other]) == b"".join(EVENTS)
            assert other.info.cached
        elif way == "events":
            assert (await other.get_final_completion()).text == "".join(WORDS)
        else:
            sent = [event.data async for message in other for event in Parser().feed(message)]
            texts = [json.loads(data)["choices"][0]["delta"]["content"] for data in sent if data != b"[DONE]"]
            assert "".join(texts) == "".join(WORDS)
        assert await text_of(first) == "".join(WORDS)
    assert server.requests == 1


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
SAID: dict[str, Any] = {**ASKED, "model": "openai/gpt-4.1-nano-2025-04-14"}


async def called(client: AsyncClient) -> Any:
    reply = await (await client.chat.completions.create(**SAID, tools=[TOOL], stream=True)).collect()
    return reply, reply.choices[0].message.tool_calls[0].function.name


async def typed(client: AsyncClient) -> Any:
    async with client.chat.completions.stream(**SAID, response_format=Ticket) as events:
        reply = await events.get_final_completion()
    return reply, reply.choices[0].message.parsed


async def responded(client: AsyncClient) -> Any:
    asked = {"model": SAID["model"], "temperature": 0, "input": "Hello"}
    reply = await (await client.responses.create(**asked, stream=True)).collect()
    return reply, reply.output_text


@pytest.mark.parametrize(
    ("turn", "ask", "expected"),
    [
        (calls(Call("look", "{}")), called, "look"),
        ('{"team":"billing"}', typed, Ticket("billing")),
        ("Said", responded, "Said"),
    ],
)
async def test_typed_streams_tool_calls_and_responses_are_shared(turn: Any, ask: Any, expected: Any) -> None:
    async with Simulator(vendor="openai", script=[turn]) as sim, client_of(sim) as client:
        answers = await asyncio.gather(*[ask(client) for _ in range(3)])
    assert [reply.info.cached for reply, _ in answers] == [False, True, True]
    assert all(reply.to_dict() == answers[0][0].to_dict() for reply, _ in answers)
    assert [found for _, found in answers] == [expected] * 3
    assert len(sim.ledger) == 1


async def look(at: str) -> str:
    """Look at something."""
    return f"seen {at}"


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
async def test_agents_that_do_the_same_share_each_of_their_streams(endpoint: Any) -> None:
    async def run(client: AsyncClient) -> list[str]:
        asked: dict[str, Any] = {"model": SAID["model"], "temperature": 0, "endpoint": endpoint}
        async with agents.stream(client, input="go", tools=[look], **asked) as running:
            kinds = [type(event).__name__ async for event in running]
        assert running.run is not None
        return [*kinds, str(running.run.output)]

    async with (
        Simulator(vendor="openai", script=[Call.of("look", at="it"), "I saw it."]) as sim,
        client_of(sim) as client,
    ):
        runs = await asyncio.gather(*[run(client) for _ in range(3)])
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][-1] == "I saw it."
    assert len(sim.ledger) == 2


async def test_a_cost_that_a_follower_reads_is_that_of_the_call_that_pays(server: Paced) -> None:
    paid = b'data: {"meta":{"usage":{"usd_spent":0.25,"credits_used":500000}}}\n\n'
    server.pieces = [*EVENTS[:-1], paid, EVENTS[-1]]
    await server.let(1000)
    async with client_of(server) as client:
        first, second = await opened(client), await opened(client)
        await second.collect()
        assert (first.info.cost_usd, second.info.cost_usd) == (0.25, 0.0)
        assert client.statistics()[0].cost_usd == 0.25
        await first.close()


async def test_streams_of_other_headers_are_not_shared(server: Paced) -> None:
    await server.let(1)
    async with client_of(server) as client:
        streams = [
            await opened(client, extra_headers=headers) for headers in ({}, {"X-Tenant": "a"}, {"X-Tenant": "b"})
        ]
        await server.let(1000)
        assert [await text_of(stream) for stream in streams] == ["".join(WORDS)] * 3
        assert not any(stream.info.cached for stream in streams)
    assert server.requests == 3


# Each at its own pace


async def test_no_reader_waits_for_one_that_does_not_read(server: Paced) -> None:
    await server.let(1000)
    async with client_of(server, limits=Limits(concurrency=1)) as client:
        idle, active = await opened(client), await opened(client)
        assert await text_of(active) == "".join(WORDS)
        # The stream has ended, and with it the permit's use.
        assert in_flight(client) == 0
        # And what it has not read is still there.
        assert await text_of(idle) == "".join(WORDS)
        assert (idle.info.cached, active.info.cached) == (False, True)


@pytest.mark.parametrize("how", ["close", "close while read", "cancel", "drop"])
@pytest.mark.parametrize("leaver", [0, 1])
async def test_whoever_leaves_takes_nothing_from_the_others(how: str, leaver: int, server: Paced) -> None:
    await server.let(1)
    async with client_of(server) as client:
        streams = [await opened(client), await opened(client), await opened(client)]
        others = [asyncio.ensure_future(text_of(each)) for number, each in enumerate(streams) if number != leaver]
        leaving = streams[leaver]
        reading = asyncio.ensure_future(text_of(leaving)) if how in ("close while read", "cancel") else None
        streams.clear()
        await turns(5)
        if how == "cancel":
            assert reading is not None
            reading.cancel()
        elif how != "drop":
            await leaving.close()
        if reading is not None:
            await asyncio.gather(reading, return_exceptions=True)
        del leaving, reading
        await server.let(1000)
        assert await asyncio.gather(*others) == ["".join(WORDS)] * 2
        assert client.cache is not None
        await client.cache.close()
        assert client.cache.counts.kept == 1
    assert server.requests == 1


@asynccontextmanager
async def over_httpx() -> AsyncIterator[HttpxTransport]:
    async with pytest.importorskip("httpx").AsyncClient(trust_env=False) as inner:
        yield HttpxTransport(inner)


@asynccontextmanager
async def over_aiohttp() -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport()
    yield transport
    await transport.close()


@pytest.mark.parametrize("over", [over_httpx, over_aiohttp])
async def test_what_a_cancelled_reader_would_have_read_is_read_by_the_next(over: Any, server: Paced) -> None:
    await server.let(1)
    async with over() as transport, client_of(server, transport=transport) as client:
        first, second = await opened(client), await opened(client)
        for number in range(2, 6):
            leaving = asyncio.ensure_future(text_of(await opened(client)))
            await turns(5)
            leaving.cancel()
            await server.let(number)
            await asyncio.gather(leaving, return_exceptions=True)
        await server.let(1000)
        assert [await text_of(first), await text_of(second)] == ["".join(WORDS)] * 2
    assert server.requests == 1


@pytest.mark.parametrize("how", ["close", "drop", "drop what a task has opened"])
async def test_with_its_last_reader_the_stream_goes_and_nothing_is_kept(how: str, server: Paced) -> None:
    await server.let(1)
    async with client_of(server) as client:
        opening: list[Any] = [opened(client) for _ in range(3)]
        if "task" in how:
            opening = [asyncio.create_task(each) for each in opening]
        streams = [await each for each in opening]
        opening.clear()
        for stream in streams[1:]:
            await stream.close()
        del stream
        assert in_flight(client) == 1
        if how == "close":
            await streams[0].close()
        streams.clear()
        await until(lambda: in_flight(client) == 0 and not server.open)
        assert client.cache is not None
        assert client.cache.counts.kept == 0
        await server.let(1000)
        # The next one asks anew.
        assert await text_of(await opened(client)) == "".join(WORDS)
    assert server.requests == 2


async def opened_hastily(client: AsyncClient) -> Any:
    """A stream whose call has soon lasted too long."""
    return await soon_over(lambda seconds: opened(client, timeout=Timeout(total=seconds)))


@pytest.mark.parametrize("is_first", [True, False])
async def test_each_reader_has_its_own_time(is_first: bool, server: Paced) -> None:
    await server.let(1)
    async with client_of(server) as client:
        hasty = [await opened_hastily(client)] if is_first else []
        listless = await opened(client, timeout=Timeout(total=60, idle=0.05))
        hasty = hasty or [await opened_hastily(client)]
        before = server.requests
        patient = asyncio.ensure_future(text_of(await opened(client, timeout=60)))
        for stream, phase in ((hasty[0], "total"), (listless, "idle")):
            with pytest.raises(APITimeoutError) as late:
                await stream.collect()
            assert late.value.phase == phase
            assert late.value.info is stream.info
            assert late.value.partial.text == WORDS[0]
        await server.let(1000)
        assert await patient == "".join(WORDS)
        assert server.requests == before
        assert client.statistics()[0].answered == 1


async def test_the_time_of_the_last_reader_ends_the_attempt(server: Paced) -> None:
    await server.let(1)
    async with client_of(server) as client:
        streams = [await opened(client, timeout=Timeout(total=60, idle=0.02)) for _ in range(2)]
        for stream in streams:
            with pytest.raises(APITimeoutError, match="no further event"):
                await stream.collect()
        await until(lambda: in_flight(client) == 0 and not server.open)
        (statistics,) = client.statistics()
        assert (statistics.answered, statistics.cancelled) == (0, 0)
        await server.let(1000)
        assert await text_of(await opened(client)) == "".join(WORDS)
    assert server.requests == 2


# What fails


@pytest.mark.parametrize(
    ("last", "error"),
    [(None, TruncatedStreamError), (b'data: {"error":{"message":"sk-a-long-sentinel","code":500}}\n\n', StreamError)],
)
async def test_a_stream_that_fails_fails_for_each_with_what_it_had(
    last: bytes | None, error: Any, server: Paced
) -> None:
    server.pieces = [*EVENTS[:3], *([] if last is None else [last])]
    server.ends_by = "cut"
    await server.let(1)
    async with client_of(server) as client:
        streams = [await opened(client) for _ in range(3)]
        await server.let(1000)
        failures: list[Any] = await asyncio.gather(*[stream.collect() for stream in streams], return_exceptions=True)
        assert all(type(each) is error for each in failures)
        assert [each.info for each in failures] == [stream.info for stream in streams]
        assert [each.billed for each in failures] == [None, False, False]
        assert {each.partial.text for each in failures} == {"".join(WORDS[:3])}
        assert not any("sentinel" in str(each) for each in failures)
        (statistics,) = client.statistics()
        assert (statistics.attempts, statistics.in_flight) == (1, 0)
        assert client.cache is not None
        assert client.cache.counts.kept == 0
        server.pieces, server.ends_by = EVENTS, "eof"
        assert await text_of(await opened(client)) == "".join(WORDS)
    assert server.requests == 2


async def test_a_refusal_is_everybodys(server: Paced) -> None:
    server.head = HEAD.replace(b"200 OK", b"400 Bad")
    server.pieces = [b'{"error":{"message":"no"}}']
    async with client_of(server) as client:
        waiting = [asyncio.ensure_future(opened(client)) for _ in range(3)]
        await until(lambda: server.requests)
        await server.let(1)
        errors: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, APIStatusError) and each.status == 400 for each in errors)
    assert [each.info.attempts for each in errors] == [1, 0, 0]
    assert server.requests == 1


@pytest.mark.parametrize("how", ["cancelled", "late"])
async def test_who_has_seen_nothing_asks_anew_when_the_first_one_goes(how: str, server: Paced) -> None:
    async with client_of(server) as client:
        seconds = 0.05 if how == "late" else 60.0
        while True:
            first = asyncio.ensure_future(opened(client, timeout=seconds))
            await until(lambda first=first: server.requests or first.done())  # type: ignore[misc]
            if server.requests:
                break
            # On a slow machine it was too late before it was sent.
            await asyncio.gather(first, return_exceptions=True)
            seconds *= 2
        second = asyncio.ensure_future(opened(client))
        await turns(3)
        if how == "cancelled":
            first.cancel()
        with pytest.raises(asyncio.CancelledError if how == "cancelled" else APITimeoutError):
            await first
        await until(lambda: server.requests == 2)
        await server.let(1000)
        stream = await second
        assert (stream.info.cached, await text_of(stream)) == (False, "".join(WORDS))


async def test_a_stream_that_is_closed_at_once_leaves_the_call_to_who_waits(server: Paced) -> None:
    async with client_of(server) as client:

        async def opened_and_closed() -> None:
            await (await opened(client)).close()

        first = asyncio.ensure_future(opened_and_closed())
        await until(lambda: server.requests == 1)
        waiting = asyncio.ensure_future(opened(client))
        await turns(3)
        await server.let(1)
        await first
        await server.let(1000)
        second = await waiting
        assert (second.info.cached, await text_of(second)) == (False, "".join(WORDS))
    assert server.requests == 2


# At every step


@pytest.mark.parametrize("who", [0, 1])
async def test_a_reader_may_be_cancelled_at_any_step(who: int, server: Paced) -> None:
    server.pieces = [*EVENTS[-4:-2], b"".join(EVENTS[-2:])]
    server.pause = lambda: 0.002
    await server.let(1000)

    async def read(client: AsyncClient) -> str:
        return await text_of(await opened(client))

    async with client_of(server) as client:
        assert client.cache is not None
        cache: Cache = client.cache
        for step in range(STEPS):
            cache.store.values.clear()  # type: ignore[attr-defined]
            before = server.requests
            readers = [asyncio.ensure_future(read(client)) for _ in range(3)]
            await turns(step)
            readers[who].cancel()
            done = await asyncio.gather(*readers, return_exceptions=True)
            assert done[:who] + done[who + 1 :] == ["".join(WORDS[-2:])] * 2
            # Anew only where the first one went before anything was said.
            assert server.requests - before in ((1, 2) if who == 0 else (1,))
            await cache.close()
            assert in_flight(client) == 0
            if done[who] == done[who - 1]:
                break
        else:
            raise AssertionError("it never came to its end")


def pieces(chance: random.Random) -> list[bytes]:
    """The events, cut anywhere."""
    body = b"".join(EVENTS)
    ends = sorted(chance.sample(range(1, len(body)), chance.randint(0, 40)))
    return [body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True)]


async def wander(client: AsyncClient, chance: random.Random) -> str | None:
    """Read at some pace, and perhaps leave in some way; return what was read to the end."""
    await turns(chance.choice((0, 0, 1, 5, 30)))
    stream = await opened(client)
    leaves_at = chance.choice((None, None, chance.randint(0, 14)))
    pace, text = chance.choice((0, 0, 1, 3)), ""
    async for piece in stream:
        text += piece.choices[0].delta.content
        await turns(pace)
        if leaves_at == 0:
            if chance.random() < 0.5:
                await stream.close()
            return None
        leaves_at = None if leaves_at is None else leaves_at - 1
    return text


@pytest.mark.parametrize("seed", range(8))
async def test_many_readers_at_any_pace_read_the_same(seed: int, server: Paced) -> None:
    chance = random.Random(seed)
    for count in (2, chance.randint(3, 12), 50 if seed == 0 else chance.randint(13, 25)):
        server.pieces, server.requests = pieces(chance), 0
        server.pause = lambda: chance.choice((0, 0, 0.001))
        await server.let(1000)
        async with client_of(server, limits=Limits(concurrency=1)) as client:
            # One that stays to the end, so that none of the others need ask again.
            staying = await opened(client)
            readers = [asyncio.ensure_future(wander(client, random.Random(chance.random()))) for _ in range(count)]
            cancelled = chance.sample(readers, count // 5)
            for reader in cancelled:
                await turns(chance.randint(0, 12))
                reader.cancel()
            texts: list[Any] = await asyncio.gather(text_of(staying), *readers, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError | None) or each == "".join(WORDS) for each in texts)
            assert texts[0] == "".join(WORDS)
            # Connections of those that left with the last reader aside, there was one request.
            assert server.requests == 1
