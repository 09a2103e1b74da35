"""The pipeline: what is sent, what comes back, what is retried, and how a client lives and ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import pytest

from aimlasync import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    Endpoint,
    InsufficientCreditError,
    InternalServerError,
    Limits,
    NotFoundError,
    RateLimitError,
    Retry,
    Timeout,
    UnsupportedRequestError,
)
from aimlasync.chat.types import FunctionTool, ImagePart, ImageURL, TextPart, UserMessage
from aimlasync.simulator import Fault, Latency, Simulator
from tests.support.servers import LEARNS_NOTHING, RawServer, Script, raw_server, until

HELLO = [{"role": "user", "content": "Hello"}]
NANO = "openai/gpt-5-nano-2025-08-07"


def answer(text: str = "hi", **fields: Any) -> Script:
    message = {"role": "assistant", "content": text}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **fields}
    return Script([json.dumps(body).encode()], content_type="application/json", end="keep")


def refusal(status: int, body: Any = None, **script: Any) -> Script:
    raw = b"" if body is None else json.dumps(body).encode()
    return Script([raw] if raw else [], status=status, content_type="application/json", end="keep", **script)


def connect(server: RawServer, **options: Any) -> AsyncClient:
    options.setdefault("retry", Retry(attempts=1))
    options.setdefault("timeout", Timeout(total=60, connect=60))
    return AsyncClient(api_key="k", base_url=server.base_url, **options)


# What is sent


async def test_only_what_was_given_is_sent_and_dicts_go_as_they_are() -> None:
    messages = [{"role": "user", "content": None, "strange": {"a": [1, None]}}]
    async with raw_server(answer()) as server, connect(server) as client:
        await client.chat.completions.create(
            model="m", messages=messages, temperature=None, max_tokens=5, extra_body={"new_thing": None}
        )
        sent = json.loads(server.bodies[0])
    assert sent == {"model": "m", "messages": messages, "max_tokens": 5, "new_thing": None}


async def test_a_body_of_plain_values_goes_as_it_is() -> None:
    body = {"temperature": None, "model": "m", "messages": HELLO, "new_thing": {"a": [None]}, "stream": False}
    said = {"id": "r", "object": "response", "status": "completed", "output_text": "yes", "output": []}
    of_responses = Script([json.dumps(said).encode()], content_type="application/json", end="keep")
    async with raw_server(answer(), of_responses, answer()) as server, connect(server) as client:
        assert (await client.ask("chat", body)).text == "hi"
        asked = {"input": "Hello", "model": "m"}
        assert (await client.ask("responses", asked, extra_headers={"X-Of": "me"})).output_text == "yes"
        assert list(map(json.loads, server.bodies)) == [body, asked]
        assert list(json.loads(server.bodies[0])) == list(body)
        assert server.requests[1].startswith(b"POST /v1/responses ")
        assert b"X-Of: me" in server.requests[1]
        with pytest.raises(ValueError, match=r"create\(..., stream=True\)"):
            await client.ask("chat", {**body, "stream": True})
        with pytest.raises(ValueError, match="extra_headers"):
            await client.ask("chat", body, extra_headers={"X-Of": "me\n"})
    with pytest.raises(ClientClosedError):
        await client.ask("chat", body)


async def test_structs_and_dicts_mix() -> None:
    tool = {"name": "look", "parameters": {"type": "object", "properties": {}}}
    async with raw_server(answer()) as server, connect(server) as client:
        await client.chat.completions.create(
            model="m",
            messages=[
                {"role": "system", "content": "be brief"},
                UserMessage(content=[TextPart(text="see"), ImagePart(image_url=ImageURL(url="https://x/y.png"))]),
            ],
            tools=[{"type": "function", "function": tool}],
        )
        sent = json.loads(server.bodies[0])
    assert sent["messages"][1] == {
        "role": "user",
        "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
    }
    assert sent["tools"][0]["function"] == tool


async def test_an_unknown_parameter_names_extra_body() -> None:
    async with raw_server(answer()) as server, connect(server) as client:
        unknown: Any = {"made_up": 1}
        with pytest.raises(TypeError, match=r"made_up.*extra_body"):
            await client.chat.completions.create(model="m", messages=HELLO, **unknown)
        assert server.requests == []


async def test_headers_are_exact() -> None:
    async with raw_server(answer()) as server, connect(server, default_headers={"X-Team": "blue"}) as client:
        await client.chat.completions.create(
            model="m", messages=HELLO, extra_headers={"X-Client-Request-Id": "mine.1", "X-Extra": "2"}
        )
        lines = server.requests[0].decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert headers["authorization"] == "Bearer k"
    assert headers["content-type"] == "application/json"
    assert headers["x-client-request-id"] == "mine.1"
    assert (headers["x-extra"], headers["x-team"]) == ("2", "blue")
    assert "x-api-key" not in headers
    assert "cookie" not in headers


async def test_a_header_of_the_caller_replaces_ours_whatever_its_spelling() -> None:
    async with raw_server(answer()) as server, connect(server, default_headers={"user-AGENT": "mine/1"}) as client:
        await client.chat.completions.create(model="m", messages=HELLO, extra_headers={"authorization": "Bearer other"})
        head = server.requests[0].lower()
    assert head.count(b"authorization:") == head.count(b"user-agent:") == 1
    assert b"bearer other" in head
    assert b"mine/1" in head


async def test_the_time_in_the_line_is_told_apart() -> None:
    async with Simulator(latency=Latency.of(ttft=0.02, tokens_per_second=1e6, spread=0.0)) as simulator:
        for limits, field in ((Limits(concurrency=1), "queued"), (Limits(requests_per_minute=1_200), "limited")):
            endpoint = Endpoint.aimlapi(api_key="k", base_url=simulator.base_url, limits=limits)
            async with AsyncClient(endpoints=[endpoint]) as client:
                calls = (client.chat.completions.create(model=NANO, messages=HELLO) for _ in range(3))
                replies = await asyncio.gather(*calls)
            assert getattr(replies[0].info.timing, field) is None
            assert getattr(replies[2].info.timing, field) > 0


async def test_a_request_id_the_vendor_would_drop_is_refused() -> None:
    async with raw_server(answer()) as server, connect(server) as client:
        with pytest.raises(ValueError, match="X-Client-Request-Id"):
            await client.chat.completions.create(
                model="m", messages=HELLO, extra_headers={"x-client-request-id": "no spaces"}
            )
        assert server.requests == []


async def test_a_body_of_many_megabytes_is_sent_whole() -> None:
    text = "\u00e9x" * 1_500_000
    async with raw_server(answer()) as server, connect(server) as client:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
        assert json.loads(server.bodies[0])["messages"][0]["content"] == text


async def test_no_key_sends_no_authorization() -> None:
    async with raw_server(answer()) as server:
        async with AsyncClient(base_url=server.base_url) as client:
            await client.chat.completions.create(model="m", messages=HELLO)
        assert b"authorization" not in server.requests[0].lower()


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/", "/v2", "/v2/"])
async def test_every_spelling_of_the_base_url_reaches_both_endpoints(simulator: Simulator, tail: str) -> None:
    endpoint = Endpoint.aimlapi(api_key="k", base_url=simulator.url + tail)
    async with AsyncClient(endpoints=[endpoint]) as client:
        chat = await client.chat.completions.create(model=NANO, messages=HELLO)
        response = await client.responses.create(model=NANO, input="Hello")
        models = await client.models.list()
        model = await client.models.retrieve(NANO)
        balance = await client.balance()
    assert chat.text
    assert response.output_text
    assert NANO in [known.id for known in models]
    assert model.id == NANO
    assert balance.usd is not None


# What comes back


async def test_a_reply_has_its_info_its_bytes_and_its_fields(client: AsyncClient, simulator: Simulator) -> None:
    reply = await client.chat.completions.create(model=NANO, messages=HELLO)
    info = reply.info
    assert reply.choices[0].message.content == reply.text
    assert (info.endpoint, info.model, info.attempts, info.status) == ("aimlapi", NANO, 1, 200)
    assert info.cost_usd is not None
    assert info.credits is not None
    assert info.inference_id
    assert info.headers["X-Client-Request-Id"] == info.request_id == simulator.ledger[0].client_request_id
    assert info.timing.total is not None
    assert info.timing.first_byte is not None
    assert json.loads(reply.raw) == reply.to_dict() == json.loads(reply.to_json())


async def test_bytespike_says_no_cost_so_there_is_none() -> None:
    async with Simulator(vendor="bytespike") as simulator:
        async with AsyncClient(endpoints=[Endpoint.bytespike(api_key="k", base_url=simulator.base_url)]) as client:
            reply = await client.chat.completions.create(model="gpt-5-nano", messages=HELLO)
            assert reply.info.cost_usd is None
            assert (await client.models.retrieve("gpt-5-nano")).context == 128_000
            assert (await client.balance()).usd is not None


async def test_credits_alone_are_a_cost_at_the_vendors_rate() -> None:
    script = answer(meta={"usage": {"credits_used": 2000}})
    async with raw_server(script) as server:
        endpoint = Endpoint.aimlapi(api_key="k", base_url=server.base_url)
        async with AsyncClient(endpoints=[endpoint]) as client:
            reply = await client.chat.completions.create(model="m", messages=HELLO)
    assert reply.info.cost_usd == pytest.approx(0.001)


async def test_the_catalogue_is_not_sent_twice(client: AsyncClient, simulator: Simulator) -> None:
    first = await client.models.list(include=["pricing", "capabilities"])
    second = await client.models.list(include="pricing,capabilities")
    assert second is first
    assert [attempt.status for attempt in simulator.ledger] == [200, 304]
    assert [model async for model in client.models.list()] == list(await client.models.list())


async def test_a_model_that_is_not_there_is_not_found(client: AsyncClient) -> None:
    with pytest.raises(NotFoundError):
        await client.models.retrieve("openai/gpt-0")


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"text"', b"{}", b'{"choices": []}', b'{"choices": null}'])
async def test_a_success_that_is_no_answer_is_an_error_with_its_bytes(body: bytes) -> None:
    script = Script([body] if body else [], content_type="application/json")
    async with raw_server(script) as server, connect(server) as client:
        with pytest.raises(APIResponseValidationError) as caught:
            await client.chat.completions.create(model="m", messages=HELLO)
    assert caught.value.raw == body


async def test_an_error_object_under_a_200_has_the_class_of_its_code() -> None:
    script = refusal(200, {"error": {"message": "upstream is slow", "code": 429}})
    async with raw_server(script) as server, connect(server, limits=LEARNS_NOTHING) as client:
        with pytest.raises(RateLimitError, match="upstream is slow"):
            await client.chat.completions.create(model="m", messages=HELLO)
        with pytest.raises(RateLimitError, match="upstream is slow"):
            await client.responses.create(model="m", input="Hello")


async def test_a_body_beyond_the_cap_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from aimlasync.transport import aiohttp_session as session
    from aimlasync.transport import reply

    monkeypatch.setattr(reply.Reply.read, "__defaults__", (1000,))
    monkeypatch.setattr(session.PayloadReply.read, "__defaults__", (1000,))
    async with raw_server(answer("x" * 5000)) as server, connect(server) as client:
        with pytest.raises(APIResponseValidationError, match="larger than"):
            await client.chat.completions.create(model="m", messages=HELLO)


# Errors and retries


async def test_out_of_credit_is_its_own_error_at_both_vendors() -> None:
    vendors: list[tuple[Literal["aimlapi", "bytespike"], Any]]
    vendors = [("aimlapi", Endpoint.aimlapi), ("bytespike", Endpoint.bytespike)]
    for vendor, make in vendors:
        async with Simulator(vendor=vendor, balance_usd=0.0) as simulator:
            endpoint = make(api_key="k", base_url=simulator.base_url)
            async with AsyncClient(endpoints=[endpoint]) as client:
                with pytest.raises(InsufficientCreditError) as caught:
                    await client.chat.completions.create(model=endpoint.provider.default_model, messages=HELLO)
            assert caught.value.billed is False
            assert len(simulator.ledger) == 1


async def test_a_bad_key_is_not_retried() -> None:
    async with Simulator(keys={"right"}) as simulator:
        async with AsyncClient(endpoints=[Endpoint.aimlapi(api_key="wrong", base_url=simulator.base_url)]) as client:
            with pytest.raises(AuthenticationError) as caught:
                await client.chat.completions.create(model=NANO, messages=HELLO)
        assert len(simulator.ledger) == 1
    assert caught.value.info is not None
    assert caught.value.info.attempts == 1
    assert caught.value.request_id


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
async def test_a_transient_status_is_tried_again_with_the_same_body_and_id(status: int) -> None:
    scripts = refusal(status, {"message": "later"}), answer()
    retry = Retry(base=0.001, throttle_base=0.001)
    async with raw_server(*scripts) as server, connect(server, retry=retry, limits=LEARNS_NOTHING) as client:
        reply = await client.chat.completions.create(model="m", messages=HELLO)
        assert server.bodies[0] == server.bodies[1]
        assert server.requests[0] == server.requests[1]
    assert reply.info.attempts == 2


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 301, 307])
async def test_a_permanent_status_is_not(status: int) -> None:
    script = refusal(status, {"message": "never"}, headers=[("Location", "http://127.0.0.1:1/")])
    async with raw_server(script) as server, connect(server, retry=Retry(base=0.001)) as client:
        with pytest.raises(APIStatusError, match="never") as caught:
            await client.chat.completions.create(model="m", messages=HELLO)
        assert len(server.requests) == 1
    assert caught.value.status == status


async def test_a_wait_that_the_server_asks_for_is_kept_or_refused() -> None:
    short = refusal(429, {"message": "slow down"}, headers=[("retry-after-ms", "20")])
    async with raw_server(short, answer()) as server, connect(server, retry=Retry(), limits=LEARNS_NOTHING) as client:
        assert (await client.chat.completions.create(model="m", messages=HELLO)).info.attempts == 2
    long = refusal(429, {"message": "slow down"}, headers=[("Retry-After", "3600")])
    async with raw_server(long) as server, connect(server, retry=Retry()) as client:
        with pytest.raises(RateLimitError) as caught:
            await client.chat.completions.create(model="m", messages=HELLO)
        assert caught.value.retry_after == 3600
        assert len(server.requests) == 1


async def test_nobody_holds_a_permit_while_waiting_to_retry() -> None:
    failing = refusal(500, {"message": "later"}, headers=[("Retry-After", "0.2")])
    limits = Limits(concurrency=1)
    async with raw_server(failing, answer()) as server, connect(server, retry=Retry(), limits=limits) as client:
        first = asyncio.create_task(client.chat.completions.create(model="m", messages=HELLO))
        await until(lambda: server.requests and not client._pipeline.balancer.upstreams[0].limiter.in_flight)
        second = await client.chat.completions.create(model="m", messages=HELLO)
        assert second.info.attempts == 1
        assert not first.done()
        assert (await first).info.attempts == 2


async def test_concurrency_is_never_passed() -> None:
    async with Simulator() as simulator:
        endpoint = Endpoint.aimlapi(api_key="k", base_url=simulator.base_url, limits=Limits(concurrency=5))
        async with AsyncClient(endpoints=[endpoint]) as client:
            calls = (client.chat.completions.create(model=NANO, messages=HELLO) for _ in range(60))
            replies = await asyncio.gather(*calls)
        assert simulator.ledger.peak_in_flight <= 5
    assert len({reply.info.request_id for reply in replies}) == 60


async def test_a_refused_connection_says_where() -> None:
    async with raw_server(answer()) as server:
        gone = server.base_url
    async with AsyncClient(api_key="k", base_url=gone, retry=Retry(attempts=2, base=0.001)) as client:
        with pytest.raises(APIConnectionError, match=r"could not connect to 127\.0\.0\.1:\d+") as caught:
            await client.chat.completions.create(model="m", messages=HELLO)
    assert caught.value.info is not None
    assert caught.value.info.attempts == 2


async def test_a_server_that_speaks_no_http_is_a_connection_error() -> None:
    async with raw_server(Script(head=b"220 mail.example ESMTP\r\n\r\n")) as server, connect(server) as client:
        with pytest.raises(APIConnectionError, match="not HTTP"):
            await client.chat.completions.create(model="m", messages=HELLO)


async def test_an_answer_that_breaks_http_is_told_by_its_fault_and_not_paid_for_again() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with raw_server(Script(head=head)) as server, connect(server, retry=Retry(attempts=3)) as client:
        with pytest.raises(APIConnectionError, match=r"not HTTP \(Transfer-Encoding can't be present with") as caught:
            await client.chat.completions.create(model="m", messages=HELLO)
        assert not caught.value.retryable
        assert len(server.requests) == 1


async def test_a_body_cut_in_the_middle_is_a_connection_error() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    async with raw_server(Script([b'{"choices": ['], head=head)) as server, connect(server) as client:
        with pytest.raises(APIConnectionError, match="in the middle"):
            await client.chat.completions.create(model="m", messages=HELLO)


async def test_a_kept_connection_that_died_is_replaced_once_whatever_the_policy() -> None:
    async with Simulator(faults=[Fault("close_idle")]) as simulator:
        endpoint = Endpoint.aimlapi(api_key="k", base_url=simulator.base_url)
        async with AsyncClient(endpoints=[endpoint], retry=Retry(attempts=1)) as client:
            for _ in range(5):
                reply = await client.chat.completions.create(model=NANO, messages=HELLO)
                assert reply.info.attempts in (1, 2)


@pytest.mark.parametrize("timeout", [0.05, Timeout(total=0.05)])
async def test_the_total_bounds_a_silent_server(timeout: Any) -> None:
    async with raw_server(Script(head=b"", end="stall")) as server, connect(server) as client:
        with pytest.raises(APITimeoutError) as caught:
            await client.chat.completions.create(model="m", messages=HELLO, timeout=timeout)
        assert client._pipeline.balancer.upstreams[0].limiter.in_flight == 0
    assert caught.value.phase == "total"


async def test_the_total_covers_the_queue() -> None:
    stalled = Script(head=b"", end="stall")
    async with raw_server(stalled) as server, connect(server, limits=Limits(concurrency=1)) as client:
        first = asyncio.create_task(client.chat.completions.create(model="m", messages=HELLO, timeout=60))
        await until(lambda: server.requests)
        with pytest.raises(APITimeoutError) as caught:
            await client.chat.completions.create(model="m", messages=HELLO, timeout=0.05)
        first.cancel()
        assert client._pipeline.balancer.upstreams[0].limiter.waiting == 0
    assert caught.value.info is not None
    assert caught.value.info.attempts == 0


@pytest.mark.parametrize("kind", ["status", "reset", "truncated_body", "html"])
async def test_transient_faults_are_overcome(kind: Any) -> None:
    async with Simulator(faults=[Fault(kind, times=2)]) as simulator:
        endpoint = Endpoint.aimlapi(api_key="k", base_url=simulator.base_url)
        async with AsyncClient(endpoints=[endpoint], retry=Retry(base=0.001)) as client:
            reply = await client.chat.completions.create(model=NANO, messages=HELLO)
    assert reply.text
    assert reply.info.attempts == 3


# Early refusals


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"model": "openai/gpt-5-pro"}, "client.responses.create"),
        ({"model": NANO, "temperature": 0.2}, "reasoning_effort"),
    ],
)
async def test_what_cannot_work_is_refused_before_anything_is_sent(call: dict[str, Any], words: str) -> None:
    async with Simulator() as simulator:
        endpoint = Endpoint.aimlapi(api_key="k", base_url=simulator.base_url)
        async with AsyncClient(endpoints=[endpoint]) as client:
            with pytest.raises(UnsupportedRequestError, match=words) as caught:
                await client.chat.completions.create(messages=HELLO, **call)
            assert len(simulator.ledger) == 0
        async with AsyncClient(endpoints=[endpoint], validate=False) as client:
            with pytest.raises(BadRequestError):
                await client.chat.completions.create(messages=HELLO, **call)
            assert len(simulator.ledger) == 1
    assert isinstance(caught.value, ValueError)
    assert caught.value.info is not None
    assert caught.value.info.attempts == 0


async def test_bytespikes_output_cap_is_refused_early() -> None:
    async with AsyncClient(endpoints=[Endpoint.bytespike(api_key="k")]) as client:
        with pytest.raises(UnsupportedRequestError, match="8192"):
            await client.chat.completions.create(model="gpt-5-nano", messages=HELLO, max_tokens=9000)


# Life


async def test_a_closed_client_says_so_and_close_is_idempotent(simulator: Simulator) -> None:
    client = AsyncClient(api_key="k", base_url=simulator.base_url)
    await client.chat.completions.create(model=NANO, messages=HELLO)
    await client.close()
    await client.close()
    assert client.is_closed
    with pytest.raises(ClientClosedError):
        await client.chat.completions.create(model=NANO, messages=HELLO)
    with pytest.raises(ClientClosedError):
        await client.models.list()


async def test_a_call_that_is_under_way_when_its_client_is_closed_says_so() -> None:
    async with Simulator(faults=[Fault("stall")]) as simulator:
        client = AsyncClient(api_key="k", base_url=simulator.base_url)
        call = asyncio.ensure_future(client.chat.completions.create(model=NANO, messages=HELLO))
        await until(lambda: client.statistics()[0].in_flight)
        await until(lambda: len(simulator.ledger))
        await client.close()
        with pytest.raises(ClientClosedError, match=r"^this client is closed"):
            await call


def test_a_client_of_another_loop_says_so() -> None:
    client = AsyncClient(api_key="k", base_url="http://127.0.0.1:9/v1", retry=Retry(attempts=1))

    async def use() -> None:
        try:
            await client.chat.completions.create(model="m", messages=HELLO)
        except APIConnectionError:
            await client._pipeline.enter()[1].close()

    with asyncio.Runner() as still_open:
        still_open.run(use())
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(use())


async def test_other_options_share_one_client() -> None:
    async with raw_server(refusal(500, {"message": "down"})) as server, connect(server) as client:
        other = client.with_options(max_retries=1, timeout=3, default_headers={"X-A": "1"})
        assert (other.retry.attempts, other.timeout.total) == (2, 3)
        assert (client.retry.attempts, client.timeout.total) == (1, 60)
        with pytest.raises(InternalServerError) as caught:
            await other.with_options(retry=Retry(attempts=2, base=0.001)).chat.completions.create(
                model="m", messages=HELLO
            )
        assert len(server.requests) == 2
        assert b"X-A: 1" in server.requests[0]
        await other.close()
        assert client.is_closed
    assert caught.value.info is not None
    assert caught.value.info.attempts == 2


async def test_repr_shows_what_is_going_on(simulator: Simulator) -> None:
    async with AsyncClient(api_key="k", base_url=simulator.base_url) as client:
        assert "0 in flight, 0 queued" in repr(client)
    assert repr(client) == "<AsyncClient closed>"


def test_endpoints_and_a_base_url_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        AsyncClient(base_url="https://x/v1", endpoints=[Endpoint.aimlapi(api_key="k")])


async def test_two_endpoints_share_the_load() -> None:
    async with Simulator() as one, Simulator() as two:
        endpoints = [
            Endpoint.aimlapi(api_key="k", base_url=one.base_url, name="one", limits=Limits(concurrency=4)),
            Endpoint.aimlapi(api_key="k", base_url=two.base_url, name="two", limits=Limits(concurrency=4)),
        ]
        async with AsyncClient(endpoints=endpoints) as client:
            calls = (client.chat.completions.create(model=NANO, messages=HELLO) for _ in range(40))
            names = {reply.info.endpoint for reply in await asyncio.gather(*calls)}
    assert names == {"one", "two"}


async def test_tools_go_out_and_calls_come_back_on_both_endpoints(client: AsyncClient) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    chat = await client.chat.completions.create(
        model=NANO,
        messages=[{"role": "user", "content": "weather in Oslo"}],
        tools=[FunctionTool(function={"name": "weather", "parameters": schema})],  # type: ignore[arg-type]
        tool_choice="required",
    )
    calls = chat.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "weather"
    assert "city" in json.loads(calls[0].function.arguments)
    response = await client.responses.create(
        model=NANO,
        input="weather in Oslo",
        tools=[{"type": "function", "name": "weather", "parameters": schema, "strict": True}],
        tool_choice="required",
    )
    assert [item.type for item in response.output if item.type != "reasoning"] == ["function_call"]


@pytest.mark.parametrize("kind", ["malformed_json", "html"])
async def test_a_proxys_page_is_never_an_answer(kind: Any) -> None:
    async with Simulator(faults=[Fault(kind)]) as simulator:
        endpoint = Endpoint.aimlapi(api_key="k", base_url=simulator.base_url)
        async with AsyncClient(endpoints=[endpoint]) as client:
            with pytest.raises(APIResponseValidationError):
                await client.with_options(max_retries=0).chat.completions.create(model=NANO, messages=HELLO)
