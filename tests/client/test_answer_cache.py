"""A client with a cache: equal requests are sent once, answers come back as they were, and nothing else is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aimlasync import (
    AimlasyncError,
    AnswerInvalidError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    BadRequestError,
    Budget,
    Endpoint,
    Limits,
    Retry,
    StreamError,
    TruncatedStreamError,
)
from aimlasync.simulator import Fault, Simulator
from aimlasync.store import Cache, DirectoryStore
from aimlasync.transport import LeanTransport
from tests.support.memory_store import Memory
from tests.support.servers import Script, raw_server, until

MODEL = "openai/gpt-4.1-nano-2025-04-14"
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}
SAID: dict[str, Any] = {"model": MODEL, "input": "Hello", "temperature": 0}


class Ticket(msgspec.Struct):
    team: str


def schema_of(*names: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    return {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}


class Held:
    """A transport that sends when it is told to, and counts."""

    def __init__(self) -> None:
        self.inner = LeanTransport()
        self.go = asyncio.Event()
        self.sent = 0

    async def send(self, *args: Any, **options: Any) -> Any:
        self.sent += 1
        await self.go.wait()
        return await self.inner.send(*args, **options)

    async def close(self) -> None:
        await self.inner.close()


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(vendor="openai") as sim:
        yield sim


def client_of(sim: Any, cache: Any = None, **options: Any) -> AsyncClient:
    return AsyncClient(api_key="sk-a-long-sentinel", base_url=sim.base_url, cache=cache, **options)


async def pieces_of(stream: Any) -> list[dict[str, Any]]:
    return [piece.to_dict() async for piece in stream]


def in_flight(client: AsyncClient) -> int:
    assert client._pipeline.answers is not None
    return len(client._pipeline.answers._flights)


# The same answer again


@pytest.mark.parametrize("name", ["answers.sqlite", "answers"])
async def test_an_equal_request_is_answered_by_another_client_and_nothing_is_sent(
    name: str, sim: Simulator, tmp_path: Path
) -> None:
    async with client_of(sim, tmp_path / name) as client:
        first = await client.chat.completions.create(**ASKED)
        said = await client.responses.create(**SAID)
        assert (first.info.cached, said.info.cached) == (False, False)
    async with client_of(sim, str(tmp_path / name), budget=Budget(usd=1e-12)) as client:
        again = await client.chat.completions.create(**ASKED, timeout=9)
        told = await client.responses.create(**SAID, user="another")
        (statistics,) = client.statistics()
        assert client.cache is not None
        assert (client.cache.counts.hits, client.cache.counts.misses) == (2, 0)
    assert again.raw == first.raw
    assert again.to_dict() == first.to_dict()
    assert (told.raw, told.output_text) == (said.raw, said.output_text)
    for reply in (again, told):
        assert reply.info.cached
        assert (reply.info.attempts, reply.info.cost_usd, reply.info.status) == (0, 0.0, 200)
        assert reply.info.timing.total is not None
    assert again.info.request_id != first.info.request_id
    assert again.info.inference_id == first.info.inference_id
    assert (statistics.attempts, statistics.cost_usd) == (0, None)
    assert len(sim.ledger) == 2


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_stream_comes_again_as_the_same_events(api: str, sim: Simulator, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)

    async def asked(client: AsyncClient) -> Any:
        if api == "chat":
            return await client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
        return await client.responses.create(**SAID, stream=True)

    async with client_of(sim, store) as client:
        live = await asked(client)
        events = await pieces_of(live)
        assert client.cache is not None
        await client.cache.close()
        again = await asked(client)
        first = await anext(again)
        # What comes is read as it comes.
        assert first.to_dict() == events[0]
        assert await pieces_of(again) == events[1:]
        assert (await again.collect()).to_dict() == (await live.collect()).to_dict()
        assert (again.info.cached, again.info.cost_usd, live.info.cached) == (True, 0.0, False)
        text = [piece async for piece in (await asked(client)).text]
        assert "".join(text)
        # A whole answer is another request.
        if api == "chat":
            assert not (await client.chat.completions.create(**ASKED)).info.cached
    assert len(sim.ledger) == (2 if api == "chat" else 1)


async def test_a_typed_answer_is_read_from_what_was_kept(sim: Simulator) -> None:
    async with client_of(sim, Memory()) as client:
        asked = {**ASKED, "response_format": Ticket}
        first = await client.chat.completions.parse(**asked)
        again = await client.chat.completions.parse(**asked)
    assert again.info.cached
    assert (again.parsed, again.info.structured) == (first.parsed, first.info.structured)


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_kept_answer_that_is_no_good_is_asked_for_again(api: str) -> None:
    said = iter(['{"team":1}', '{"team":"billing"}'])
    async with (
        Simulator(vendor="openai", answer=lambda _: next(said)) as sim,
        client_of(sim, Memory()) as client,
    ):

        async def parse() -> Any:
            if api == "chat":
                return await client.chat.completions.parse(**ASKED, response_format=Ticket)
            return await client.responses.parse(**SAID, text_format=Ticket)

        with pytest.raises(AnswerInvalidError):
            await parse()
        assert ((first := await parse()).parsed, first.info.cached) == (Ticket("billing"), False)
        assert ((again := await parse()).parsed, again.info.cached) == (Ticket("billing"), True)
    assert len(sim.ledger) == 2


async def test_a_kept_answer_needs_no_permit(sim: Simulator) -> None:
    transport = Held()
    async with client_of(sim, Memory(), limits=Limits(concurrency=1), transport=transport) as client:
        transport.go.set()
        await client.chat.completions.create(**ASKED)
        transport.go.clear()
        other = asyncio.ensure_future(client.chat.completions.create(**{**ASKED, "max_tokens": 1}))
        await until(lambda: transport.sent == 2)
        assert (await client.chat.completions.create(**ASKED)).info.cached
        transport.go.set()
        await other
    await transport.close()


# What is equal


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.0},
        {"user": "u", "metadata": {"a": "b"}, "service_tier": "flex"},
        {"stream": False},
        {"extra_body": {"prompt_cache_key": "k"}},
        {"extra_headers": {"X-Trace": "1"}},
    ],
)
async def test_what_does_not_decide_the_answer_makes_no_other_request(more: dict[str, Any], sim: Simulator) -> None:
    async with client_of(sim, Memory()) as client:
        await client.chat.completions.create(**ASKED)
        turned = {name: ASKED[name] for name in reversed(ASKED)}
        assert (await client.chat.completions.create(**{**turned, **more})).info.cached


@pytest.mark.parametrize(
    "more",
    [
        {"model": "openai/gpt-4.1-mini-2025-04-14"},
        {"messages": [{"role": "user", "content": "Hello "}]},
        {"seed": 1},
        {"max_tokens": 9},
        {"extra_query": {"api-version": "2"}},
        {"extra_headers": {"OpenAI-Beta": "x=v2"}},
        {"temperature": 1},
        {"cache": False},
        {"store": True},
        {"response_format": schema_of("answer", "reason")},
    ],
)
async def test_what_may_decide_the_answer_makes_another_request(more: dict[str, Any], sim: Simulator) -> None:
    async with client_of(sim, Memory()) as client:
        # A model reasons first, or answers first, as the order of the properties says.
        asked = {**ASKED, "response_format": schema_of("reason", "answer")}
        await client.chat.completions.create(**asked)
        assert not (await client.chat.completions.create(**{**asked, **more})).info.cached
    assert len(sim.ledger) == 2


async def test_a_version_in_an_endpoints_headers_makes_another_request(sim: Simulator) -> None:
    store = Memory()
    for version, cached in (("1", False), ("2", False), ("1", True)):
        endpoint = Endpoint(base_url=sim.base_url, api_key="sk-a-long-sentinel", headers={"Api-Version": version})
        async with AsyncClient(endpoints=[endpoint], cache=store) as client:
            assert (await client.chat.completions.create(**ASKED)).info.cached is cached


async def test_a_wish_that_there_is_not_is_refused(sim: Simulator) -> None:
    async with client_of(sim, Memory()) as client:
        with pytest.raises(ValueError, match="cache must be True, False or 'refresh', not 'refesh'"):
            await client.chat.completions.create(**ASKED, cache="refesh")  # type: ignore[call-overload]
    assert len(sim.ledger) == 0


async def test_servers_answer_for_each_other_only_in_a_family(sim: Simulator) -> None:
    store = Memory()
    async with Simulator(vendor="openai") as other:
        for family, cached in ((None, False), ("ours", True)):
            async with client_of(sim, Cache(store, family=family)) as client:
                await client.chat.completions.create(**ASKED)
            async with client_of(other, Cache(store, family=family)) as client:
                assert (await client.chat.completions.create(**ASKED)).info.cached is cached


async def test_a_sampled_answer_counts_where_the_user_says_so(sim: Simulator) -> None:
    asked = {name: value for name, value in ASKED.items() if name != "temperature"}
    hosted = {**SAID, "tools": [{"type": "web_search"}]}
    for sampled in (False, True):
        async with client_of(sim, Cache(Memory(), sampled=sampled)) as client:
            for _ in range(2):
                reply = await client.chat.completions.create(**asked)
                said = await client.responses.create(**hosted)
            assert (reply.info.cached, said.info.cached) == (sampled, sampled)
    async with client_of(sim, Memory()) as client:
        await client.chat.completions.create(**asked, cache=True)
        assert (await client.chat.completions.create(**asked, cache=True)).info.cached


@pytest.mark.parametrize(
    "more", [{"store": True}, {"background": True}, {"input": [{"type": "item_reference", "id": "msg_1"}]}]
)
async def test_a_response_with_state_at_the_server_is_always_sent(more: dict[str, Any]) -> None:
    answer = b'{"id":"resp_1","object":"response","status":"completed","output":[],"output_text":"Hi"}'
    async with (
        raw_server(Script([answer], content_type="application/json", end="keep")) as server,
        client_of(server, Cache(Memory(), sampled=True)) as client,
    ):
        for _ in range(2):
            assert not (await client.responses.create(**{**SAID, **more})).info.cached
        assert len(server.requests) == 2


async def test_a_new_answer_takes_the_place_of_the_old_one(sim: Simulator) -> None:
    said = iter(["one", "two", "three"])
    async with (
        Simulator(vendor="openai", answer=lambda _: next(said)) as sim,
        client_of(sim, Memory()) as client,
    ):
        texts = [
            (await client.chat.completions.create(**ASKED, **more)).text
            for more in ({}, {}, {"cache": "refresh"}, {}, {"cache": False}, {})
        ]
    assert texts == ["one", "one", "two", "two", "three", "two"]


# What is not kept


async def test_what_a_closed_client_has_streamed_is_kept_for_the_next_one(sim: Simulator) -> None:
    class Slow(Memory):
        async def put(self, key: str, value: bytes, /) -> None:
            for _ in range(50):
                await asyncio.sleep(0)
            await super().put(key, value)

    cache = Cache(Slow())
    infos = []
    for _ in range(2):
        async with client_of(sim, cache) as client:
            stream = await client.chat.completions.create(**ASKED, stream=True)
            await stream.collect()
            infos.append(stream.info.cached)
    assert infos == [False, True]


async def test_errors_and_cut_streams_are_not_kept(sim: Simulator) -> None:
    store = Memory()
    async with client_of(sim, store, max_retries=0) as client:
        sim.faults.append(Fault("status", status=400, times=1))
        with pytest.raises(BadRequestError):
            await client.chat.completions.create(**ASKED)
        for kind, error in (("cut_stream", TruncatedStreamError), ("error_in_stream", StreamError)):
            sim.faults.append(Fault(kind, times=1, at=2))
            with pytest.raises(error):
                await pieces_of(await client.chat.completions.create(**ASKED, stream=True))
        sim.faults.append(Fault("stall_stream", times=1, at=2))
        async with await client.chat.completions.create(**ASKED, stream=True) as stream:
            await anext(stream)
        assert store.values == {}
        assert not (await client.chat.completions.create(**ASKED)).info.cached
        assert (await client.chat.completions.create(**ASKED)).info.cached


@pytest.mark.parametrize(
    "answer",
    [
        b'{"id":"r","object":"response","status":"failed","error":{"code":"server_error","message":"no"},"output":[]}',
        b'{"id":"r","object":"response","status":"completed","output":[],"output_text":"Bearer sk-a-long-sentinel"}',
        b'{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"So"},"finish_reason":"error"}]}',
        b'{"id":"c","choices":[{"message":{"role":"assistant","content":"So"},"finish_reason":"stop","error":{"code":1}}]}',
    ],
)
async def test_a_failed_answer_and_an_echoed_key_are_not_kept(answer: bytes) -> None:
    store = Memory()
    async with (
        raw_server(Script([answer], content_type="application/json", end="keep")) as server,
        client_of(server, store, retry=Retry(base=0.001)) as client,
    ):
        if b"choices" in answer:
            with pytest.raises(AimlasyncError):
                await client.chat.completions.create(**ASKED)
        else:
            await client.responses.create(**SAID)
        assert store.values == {}


async def test_what_is_kept_holds_no_key_and_no_cookie(sim: Simulator) -> None:
    answer = b'{"id":"c","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop",' + (
        b'"message":{"role":"assistant","content":"Hi"}}]}'
    )
    headers = [("Set-Cookie", "a=secret-cookie"), ("x-request-id", "for sk-a-long-sentinel"), ("X-Other", "other")]
    store = Memory()
    async with (
        raw_server(Script([answer], content_type="application/json", headers=headers, end="keep")) as server,
        client_of(server, store) as client,
    ):
        await client.chat.completions.create(**ASKED)
        (kept,) = store.values.values()
        assert b"sentinel" not in kept
        assert b"secret-cookie" not in kept
        again = await client.chat.completions.create(**ASKED)
    assert again.info.server_request_id == "for [key]"
    assert again.raw == answer


async def test_what_was_kept_by_a_newer_version_or_by_others_is_asked_again(sim: Simulator) -> None:
    store = Memory()
    async with client_of(sim, store) as client:
        await client.chat.completions.create(**ASKED)
        (key,) = store.values
        for data in (b"\x95\x02\xcc\xc8\x80\xc0\xc4\x01x", b"", b"{}", store.values[key][:-1]):
            store.values[key] = data
            assert not (await client.chat.completions.create(**ASKED)).info.cached
            assert (await client.chat.completions.create(**ASKED)).info.cached


async def test_a_store_that_is_gone_costs_no_answer(sim: Simulator, tmp_path: Path) -> None:
    async with client_of(sim, tmp_path / "file" / "answers") as client:
        (tmp_path / "file").write_bytes(b"")
        for _ in range(2):
            assert (await client.chat.completions.create(**ASKED)).text


# In flight


async def test_equal_calls_in_flight_are_one_call(sim: Simulator) -> None:
    transport = Held()
    async with client_of(sim, Memory(), transport=transport) as client:
        calls = [asyncio.ensure_future(client.chat.completions.create(**ASKED)) for _ in range(5)]
        await until(lambda: transport.sent)
        transport.go.set()
        replies = await asyncio.gather(*calls)
        assert client.cache is not None
        assert (client.cache.counts.misses, client.cache.counts.shared) == (1, 4)
    assert [reply.info.cached for reply in replies] == [False, True, True, True, True]
    assert {reply.raw for reply in replies} == {replies[0].raw}
    assert len({reply.info.request_id for reply in replies}) == 5
    assert transport.sent == 1
    await transport.close()


async def test_whoever_leaves_leaves_the_call_to_the_next(sim: Simulator) -> None:
    transport = Held()
    async with client_of(sim, Memory(), transport=transport) as client:
        calls = [asyncio.ensure_future(client.chat.completions.create(**ASKED)) for _ in range(4)]
        await until(lambda: transport.sent == 1)
        calls[2].cancel()
        calls[0].cancel()
        await until(lambda: transport.sent == 2)
        transport.go.set()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert client.cache is not None
        assert in_flight(client) == 0
    assert [type(each).__name__ for each in done] == [
        "CancelledError",
        "ChatCompletion",
        "CancelledError",
        "ChatCompletion",
    ]
    assert transport.sent == 2
    await transport.close()


async def test_the_servers_error_is_everybodys_and_each_has_its_own(sim: Simulator) -> None:
    transport = Held()
    sim.faults.append(Fault("status", status=400, times=1))
    async with client_of(sim, Memory(), transport=transport) as client:
        calls = [asyncio.ensure_future(client.chat.completions.create(**ASKED)) for _ in range(3)]
        await until(lambda: transport.sent)
        transport.go.set()
        errors: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        assert not (await client.chat.completions.create(**ASKED)).info.cached
    assert all(isinstance(error, APIStatusError) and error.status == 400 for error in errors)
    assert len({id(error) for error in errors}) == 3
    assert len({error.info.request_id for error in errors}) == 3
    assert [error.info.attempts for error in errors] == [1, 0, 0]
    assert transport.sent == 2
    await transport.close()


@pytest.mark.parametrize("name", ["Authorization", "OpenAI-Organization", "X-Tenant"])
async def test_an_error_is_nobody_elses_who_asks_as_another(name: str, sim: Simulator) -> None:
    transport = Held()
    sim.faults.append(Fault("status", status=403, times=1))
    async with client_of(sim, Memory(), transport=transport) as client:
        askers: list[dict[str, str]] = [{name: "Bearer one"}, {name: "Bearer one"}, {name: "Bearer two"}, {}]
        calls = [asyncio.ensure_future(client.chat.completions.create(**ASKED, extra_headers=each)) for each in askers]
        await until(lambda: transport.sent)
        transport.go.set()
        answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each).__name__ for each in answers] == ["PermissionDeniedError"] * 2 + ["ChatCompletion"] * 2
    assert transport.sent == 2
    await transport.close()


async def test_one_callers_patience_is_not_anothers(sim: Simulator) -> None:
    transport = Held()
    async with client_of(sim, Memory(), transport=transport) as client:
        hasty = asyncio.ensure_future(client.chat.completions.create(**ASKED, timeout=0.05))
        await until(lambda: transport.sent)
        patient = asyncio.ensure_future(client.chat.completions.create(**ASKED, timeout=60))
        with pytest.raises(APITimeoutError):
            await hasty
        await until(lambda: transport.sent == 2)
        # And a waiter's own bound holds while it waits.
        with pytest.raises(APITimeoutError, match="for an equal call in flight") as late:
            await client.chat.completions.create(**ASKED, timeout=0.05)
        assert (late.value.phase, late.value.billed) == ("total", False)
        transport.go.set()
        assert (await patient).text
    await transport.close()


async def test_a_drained_client_lets_its_waiters_go(sim: Simulator) -> None:
    transport = Held()
    async with client_of(sim, Memory(), transport=transport) as client:
        calls = [asyncio.ensure_future(client.chat.completions.create(**ASKED)) for _ in range(2)]
        await until(lambda: transport.sent)
        await until(lambda: client._settings.waits._tasks)
        client.drain()
        transport.go.set()
        done = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each).__name__ for each in done] == ["ChatCompletion", "CancelledError"]
    await transport.close()


async def test_two_clients_on_one_cache_do_not_share_an_error(sim: Simulator) -> None:
    async with Simulator(vendor="openai", keys=["sk-good-key-of-one"]) as strict:
        cache = Cache(Memory())
        async with (
            AsyncClient(api_key="sk-bad-key-of-another", base_url=strict.base_url, cache=cache) as bad,
            AsyncClient(api_key="sk-good-key-of-one", base_url=strict.base_url, cache=cache) as good,
        ):
            refused, answered = await asyncio.gather(
                bad.chat.completions.create(**ASKED), good.chat.completions.create(**ASKED), return_exceptions=True
            )
    assert isinstance(refused, APIStatusError)
    assert not isinstance(answered, BaseException)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_is_cancelled_anywhere_leaves_nothing_behind(stream: bool, sim: Simulator) -> None:
    class Slow(Memory):
        async def get(self, keys: Any, /) -> list[bytes | None]:
            await asyncio.sleep(0)
            return await super().get(keys)

    async def ask(client: AsyncClient) -> Any:
        reply: Any = await client.chat.completions.create(**ASKED, stream=stream)
        return await reply.collect() if stream else reply

    async with client_of(sim, Slow()) as client:
        cache = client.cache
        assert cache is not None
        for steps in range(1, 12):
            cache.store.values.clear()  # type: ignore[attr-defined]
            tasks = [asyncio.ensure_future(ask(client)) for _ in range(2)]
            for _ in range(steps):
                await asyncio.sleep(0)
            tasks[0].cancel()
            await asyncio.gather(tasks[0], return_exceptions=True)
            assert (await tasks[1]).text
            await until(lambda: not cache.writing)
            assert in_flight(client) == 0
            assert client.statistics()[0].in_flight == 0


# Beside other parts


async def test_of_several_endpoints_any_ones_answer_counts(sim: Simulator) -> None:
    store = Memory()
    async with Simulator(vendor="openai") as other:
        ours = [
            Endpoint(base_url=each.base_url, api_key="k" * 20, name=name) for name, each in (("a", sim), ("b", other))
        ]
        async with AsyncClient(endpoints=[ours[1]], cache=store) as client:
            await client.chat.completions.create(**ASKED)
        async with AsyncClient(endpoints=ours, cache=store) as client:
            reply = await client.chat.completions.create(**ASKED)
    assert (reply.info.cached, reply.info.endpoint) == (True, "b")
    assert len(sim.ledger) == 0


async def test_bytes_of_another_client_have_the_same_answers(sim: Simulator) -> None:
    async with client_of(sim, Memory()) as client:
        first = await client.chat.completions.create(**ASKED)
        body = json.dumps(ASKED).encode()
        passed = await client.forward("POST", "chat/completions", body)
        assert (passed.info.cached, b"".join([piece async for piece in passed])) == (True, first.raw)
        streamed = json.dumps({**ASKED, "stream": True}).encode()
        pieces = []
        for _ in range(2):
            passed = await client.forward("POST", "chat/completions", streamed)
            pieces.append(b"".join([piece async for piece in passed]))
            assert client.cache is not None
            await client.cache.close()
        assert pieces[0] == pieces[1]
        assert passed.info.cached
        assert passed.headers["content-type"].startswith("text/event-stream")


async def test_copies_of_a_client_share_its_answers(sim: Simulator) -> None:
    async with client_of(sim, Memory()) as client:
        await client.with_options(timeout=5).chat.completions.create(**ASKED)
        other = client.with_options(api_key="sk-quite-another-key")
        assert (await other.chat.completions.create(**ASKED)).info.cached


async def test_what_is_no_store_is_refused_when_the_client_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a path nor a URL"):
        AsyncClient(api_key="k", base_url="https://one.example/v1", cache="s3:/bucket")


async def test_the_sdk_over_a_client_has_its_answers(sim: Simulator) -> None:
    pytest.importorskip("openai")
    from aimlasync.openai import AsyncOpenAI

    async with client_of(sim, Memory()) as client:
        first = await client.chat.completions.create(**ASKED)
        sdk = AsyncOpenAI(aimlasync=client)
        whole = await sdk.chat.completions.create(**ASKED)
        texts = []
        for _ in range(2):
            stream = await sdk.chat.completions.create(**ASKED, stream=True)
            texts.append("".join([piece.choices[0].delta.content or "" async for piece in stream if piece.choices]))
            assert client.cache is not None
            await client.cache.close()
        await sdk.close()
        assert client.cache is not None
        assert client.cache.counts.hits == 2
    assert whole.choices[0].message.content == first.text
    assert texts[0] == texts[1]
    assert len(sim.ledger) == 2


async def test_an_answer_that_could_not_be_kept_is_not_counted_as_kept(sim: Simulator) -> None:
    class Full(Memory):
        async def put(self, key: str, value: bytes, /) -> None:
            raise OSError("the disk is full")

    for store, kept in ((Full(), 0), (Memory(), 1)):
        async with client_of(sim, store) as client:
            await client.chat.completions.create(**ASKED)
            assert client.cache is not None
            assert (client.cache.counts.misses, client.cache.counts.kept) == (1, kept)


async def test_calls_that_wait_for_the_store_are_counted_until_they_leave(sim: Simulator) -> None:
    class Slow(Memory):
        def __init__(self) -> None:
            super().__init__()
            self.go = asyncio.Event()

        async def get(self, keys: Sequence[str], /) -> list[bytes | None]:
            await self.go.wait()
            return await super().get(keys)

    async with client_of(sim, cache := Cache(store := Slow())) as client:
        asked = [{**ASKED, "seed": seed} for seed in range(3)]
        calls = [asyncio.create_task(client.chat.completions.create(**each)) for each in asked]
        await until(lambda: cache.waiting == 3)
        calls[0].cancel()
        await until(lambda: cache.waiting == 2)
        store.go.set()
        await asyncio.gather(*calls[1:])
    assert (cache.waiting, cache.counts.kept) == (0, 2)
