"""The OpenAI SDK over our pipeline: what it sends, gets and raises; and the bare transport under httpx2 and httpx."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

import aimlasync.httpx
from aimlasync import AsyncClient, Budget, ClientClosedError, Endpoint, Limits, Price, Retry, Timeout
from aimlasync.simulator import Fault, Simulator
from tests.support.servers import LEARNS_NOTHING, STEPS, Script, raw_server, turns, until

openai: Any = pytest.importorskip("openai", minversion="2.40", reason="pip install 'aimlasync[test]' runs these tests")
FLAVOURS = [name for name in ("httpx2", "httpx") if importlib.util.find_spec(name) is not None]

KEY = "sk-sentinel-5f1c2e77aa"
NANO = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]
CHUNK = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\n'
MESSAGE = b'{"role": "assistant", "content": "hi"}'
ANSWER = b'{"id": "c", "choices": [{"index": 0, "message": %b, "finish_reason": "stop"}]}' % MESSAGE


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(keys={KEY}) as simulator:
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncClient]:
    endpoint = Endpoint.aimlapi(api_key=KEY, base_url=simulator.base_url, limits=LEARNS_NOTHING)
    async with AsyncClient(endpoints=[endpoint], retry=Retry(attempts=2, base=0.001, throttle_base=0.001)) as client:
        yield client


@pytest.fixture
async def sdk(client: AsyncClient) -> Any:
    """As its users make it: with its own two retries, and a key that nobody accepts."""
    return openai.AsyncOpenAI(http_client=aimlasync.httpx.client(client), api_key="unused")


def over(server: Any, **options: Any) -> AsyncClient:
    return AsyncClient(
        api_key=KEY,
        base_url=server.base_url,
        **{"retry": Retry(attempts=2, base=0.001, throttle_base=0.001), "limits": LEARNS_NOTHING, **options},
    )


def sdk_over(client: AsyncClient) -> Any:
    return openai.AsyncOpenAI(http_client=aimlasync.httpx.client(client), api_key="unused")


def in_flight(client: AsyncClient) -> int:
    return client.statistics()[0].in_flight


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_one_line_puts_the_sdk_on_our_pipeline_and_our_key(sdk: Any, client: AsyncClient) -> None:
    reply = await sdk.chat.completions.create(model=NANO, messages=HELLO)
    assert "Hello" in reply.choices[0].message.content
    (upstream,) = client.statistics()
    assert (upstream.answered, upstream.completion_tokens) == (1, reply.usage.completion_tokens)
    assert upstream.cost_usd is not None


async def test_a_stream_arrives_chunk_by_chunk(sdk: Any, client: AsyncClient) -> None:
    stream = await sdk.chat.completions.create(model=NANO, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "Hello" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(chunks) > 3
    assert in_flight(client) == 0
    assert client.statistics()[0].answered == 1


async def test_parse_gives_the_type_asked_for(client: AsyncClient) -> None:
    pydantic: Any = pytest.importorskip("pydantic")
    ticket = pydantic.create_model("Ticket", team=(str, ...), urgent=(bool, ...))
    reply = await aimlasync.httpx.openai(client).chat.completions.parse(
        model=NANO, messages=HELLO, response_format=ticket
    )
    assert isinstance(reply.choices[0].message.parsed, ticket)
    response = await aimlasync.httpx.openai(client).responses.parse(model=NANO, input="Hello", text_format=ticket)
    assert isinstance(response.output_parsed, ticket)


async def test_responses_come_whole_and_as_events(sdk: Any) -> None:
    response = await sdk.responses.create(model=NANO, input="Hello")
    assert "Hello" in response.output_text
    async with sdk.responses.stream(model=NANO, input="Hello") as stream:
        kinds = [event.type async for event in stream]
        assert (await stream.get_final_response()).output_text == response.output_text
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"


async def test_what_is_known_of_a_call_is_on_its_response(sdk: Any) -> None:
    raw = await sdk.chat.completions.with_raw_response.create(model=NANO, messages=HELLO)
    info = raw.http_response.extensions["aimlasync"]
    assert (info.attempts, info.status, info.model) == (1, 200, NANO)
    assert raw.headers["x-inference-id"] == info.inference_id


async def test_the_body_goes_as_the_sdk_wrote_it_and_its_host_and_key_do_not_count() -> None:
    async with raw_server(Script([ANSWER], content_type="application/json", end="keep")) as server:
        async with over(server) as client:
            async with openai.AsyncOpenAI(
                http_client=aimlasync.httpx.client(client),
                api_key="sk-of-another",
                base_url="https://openai.invalid/v9/",
            ) as sdk:
                await sdk.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "é"}], extra_body={"odd": [1.50, None]}
                )
            assert not client.is_closed
    (head,) = server.requests
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1")
    assert head.count(b"Authorization") == 1
    assert f"Bearer {KEY}".encode() in head
    assert b"sk-of-another" not in head
    assert json.loads(server.bodies[0])["odd"] == [1.5, None]


async def test_a_call_fails_over_and_is_translated_for_the_other_vendor() -> None:
    async with Simulator(faults=[Fault("status", status=500)]) as first, Simulator(vendor="bytespike") as second:
        endpoints = [
            Endpoint.aimlapi(api_key="a", base_url=first.base_url),
            Endpoint.bytespike(api_key="b", base_url=second.base_url),
        ]
        async with AsyncClient(endpoints=endpoints) as client:
            reply = await sdk_over(client).chat.completions.create(model=NANO, messages=HELLO)
    assert reply.model == "gpt-5-nano"
    assert len(first.ledger) == len(second.ledger) == 1


async def test_many_at_once_wait_their_turn_where_the_sdk_alone_would_be_refused() -> None:
    async with Simulator(concurrency=4) as simulator:
        async with AsyncClient(api_key=KEY, base_url=simulator.base_url, limits=Limits(concurrency=4)) as client:
            sdk = sdk_over(client)
            asked = [sdk.chat.completions.create(model=NANO, messages=HELLO) for _ in range(40)]
            replies = await asyncio.gather(*asked)
    assert len(replies) == 40
    assert simulator.ledger.by_status() == {200: 40}


# --- other paths -----------------------------------------------------------------------------------------------------


async def test_other_paths_go_straight_with_our_key(sdk: Any) -> None:
    assert NANO in [model.id async for model in sdk.models.list()]


async def test_files_are_uploaded_as_they_are_and_the_sdk_retries_them_itself() -> None:
    body = b'{"id": "file-1", "object": "file"}'
    fails = Script([b"{}"], status=500, content_type="application/json", headers=[("retry-after-ms", "1")], end="keep")
    async with raw_server(fails, Script([body], content_type="application/json", end="keep")) as server:
        async with over(server) as client:
            made = await sdk_over(client).files.create(file=("a.txt", b"text"), purpose="batch")
    assert made.id == "file-1"
    assert len(server.requests) == 2
    assert b"multipart/form-data; boundary=" in server.requests[1]
    assert b"text" in server.bodies[1]


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected", "attempts"),
    [
        (400, "BadRequestError", 1),
        (401, "AuthenticationError", 1),
        (403, "PermissionDeniedError", 1),
        (404, "NotFoundError", 1),
        (422, "UnprocessableEntityError", 1),
        (429, "RateLimitError", 2),
        (500, "InternalServerError", 2),
        (503, "InternalServerError", 2),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_the_sdks_error_with_the_vendors_body_and_only_our_retries(
    simulator: Simulator, sdk: Any, status: int, expected: str, attempts: int, stream: bool
) -> None:
    simulator.faults = [Fault("status", status=status, message="No luck", headers={"Retry-After": "0"})]
    with pytest.raises(getattr(openai, expected)) as caught:
        await sdk.chat.completions.create(model=NANO, messages=HELLO, stream=stream)
    assert "No luck" in json.dumps(caught.value.body)
    assert caught.value.status_code == status
    assert caught.value.response.headers["x-inference-id"]
    assert len(simulator.ledger) == attempts


async def test_a_key_that_a_server_echoes_is_in_no_error() -> None:
    echo = Script(
        [f'{{"error": {{"message": "bad key {KEY}"}}}}'.encode()], status=401, content_type="application/json"
    )
    async with raw_server(echo) as server, over(server) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await sdk_over(client).chat.completions.create(model="m", messages=HELLO)
    assert KEY not in caught.value.response.text
    assert "[key]" in str(caught.value)


async def test_an_error_under_200_is_an_error() -> None:
    body = b'{"error": {"message": "No luck", "code": 429}}'
    async with (
        raw_server(Script([body], content_type="application/json", end="keep")) as server,
        over(server) as client,
    ):
        with pytest.raises(openai.RateLimitError, match="No luck"):
            await sdk_over(client).chat.completions.create(model="m", messages=HELLO)
    assert len(server.requests) == 2


async def test_a_page_instead_of_an_answer_is_a_connection_error() -> None:
    async with raw_server(Script([b"<html>"], content_type="text/html", end="keep")) as server, over(server) as client:
        with pytest.raises(openai.APIConnectionError):
            await sdk_over(client).chat.completions.create(model="m", messages=HELLO)


async def test_what_cannot_work_is_refused_with_the_fix(sdk: Any, simulator: Simulator) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature") as caught:
        await sdk.chat.completions.create(model=NANO, messages=HELLO, temperature=0.2)
    assert caught.value.param == "temperature"
    assert len(simulator.ledger) == 0


async def test_a_server_that_is_gone_is_tried_as_often_as_we_say_and_no_more() -> None:
    async with raw_server(Script(end="reset", head=b"")) as server, over(server) as client:
        with pytest.raises(openai.APIConnectionError) as caught:
            await sdk_over(client).chat.completions.create(model="m", messages=HELLO)
        assert not isinstance(caught.value, openai.APITimeoutError)
        assert isinstance(caught.value.__cause__, aimlasync.APIConnectionError)
    assert len(server.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_the_sdks_timeout_is_ours_and_is_not_tried_again(stream: bool) -> None:
    async with raw_server(Script(end="stall", head=b"")) as server, over(server, retry=Retry(attempts=1)) as client:
        with pytest.raises(openai.APITimeoutError) as caught:
            await (
                sdk_over(client)
                .with_options(timeout=0.05)
                .chat.completions.create(model="m", messages=HELLO, stream=stream)
            )
        cause = caught.value.__cause__
        assert isinstance(cause, aimlasync.APITimeoutError)
        assert cause.phase == ("first_token" if stream else "total")
        assert client.statistics()[0].attempts == 1


async def test_silence_in_a_stream_is_a_timeout() -> None:
    async with raw_server(Script([CHUNK], end="stall")) as server, over(server) as client:
        create = sdk_over(client).chat.completions.create
        seconds = 0.05
        while True:
            try:
                stream = await create(model="m", messages=HELLO, stream=True, timeout=seconds)
            except openai.APITimeoutError:
                # A busy machine takes longer to begin it at all.
                seconds *= 2
            else:
                break
        with pytest.raises((openai.APITimeoutError, *timeouts())):
            async for _ in stream:
                pass
        assert in_flight(client) == 0


async def test_bounds_that_the_sdk_does_not_state_are_the_clients() -> None:
    async with raw_server(Script(end="stall", head=b"")) as server:
        async with over(server, timeout=Timeout(total=0.05)) as client:
            with pytest.raises(openai.APITimeoutError):
                await sdk_over(client).chat.completions.create(model="m", messages=HELLO)


def timeouts() -> list[Any]:
    """What SDKs before 3.5 let through from a stream."""
    return [importlib.import_module(name).ReadTimeout for name in FLAVOURS]


@pytest.mark.parametrize("end", ["eof", "reset"])
async def test_a_cut_stream_is_no_success(end: Any) -> None:
    async with raw_server(Script([CHUNK], end=end)) as server, over(server) as client:
        stream = await sdk_over(client).chat.completions.create(model="m", messages=HELLO, stream=True)
        assert (await anext(stream)).choices[0].delta.content == "hi"
        protocol_errors = [importlib.import_module(name).RemoteProtocolError for name in FLAVOURS]
        with pytest.raises((openai.APIConnectionError, *protocol_errors)):
            await anext(stream)
        assert in_flight(client) == 0


async def test_an_error_in_a_stream_is_the_vendors(sdk: Any, simulator: Simulator) -> None:
    simulator.faults = [Fault("error_in_stream", at=2, message="No luck")]
    stream = await sdk.chat.completions.create(model=NANO, messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="No luck"):
        async for _ in stream:
            pass


async def test_a_response_that_fails_ends_with_the_event_that_says_so() -> None:
    events = [
        b'event: response.created\ndata: {"type": "response.created", "response": {"id": "r"}}\n\n',
        b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "delta": "Hi"}\n\n',
        b'event: response.failed\ndata: {"type": "response.failed", "response": {"id": "r", "status": "failed",'
        b' "error": {"code": "server_error", "message": "No luck"}}}\n\n',
    ]
    async with raw_server(Script(events, end="keep")) as server, over(server) as client:
        stream = await sdk_over(client).responses.create(model="m", input="Hello", stream=True)
        assert [event.type async for event in stream] == [
            "response.created",
            "response.output_text.delta",
            "response.failed",
        ]
        assert client.statistics()[0].answered == 0


async def test_our_own_no_is_a_503_that_says_when(sdk: Any) -> None:
    async with raw_server(Script(end="stall", head=b"")) as server:
        async with over(server, limits=Limits(concurrency=1), max_queue=0) as client:
            sdk = sdk_over(client)
            first = asyncio.ensure_future(client.chat.completions.create(model="m", messages=HELLO))
            await until(lambda: in_flight(client) == 1)
            with pytest.raises(openai.InternalServerError) as caught:
                await sdk.chat.completions.create(model="m", messages=HELLO)
            assert caught.value.status_code == 503
            assert caught.value.body["code"] == "overloaded"
            assert float(caught.value.response.headers["retry-after"]) >= 0
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert in_flight(client) == 0


async def test_a_budget_that_would_be_passed_is_a_402(simulator: Simulator) -> None:
    budget = Budget(1e-9, prices={NANO: Price.per_million(input=1, output=1)})
    async with AsyncClient(api_key=KEY, base_url=simulator.base_url, budget=budget) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await sdk_over(client).chat.completions.create(model=NANO, messages=HELLO, max_completion_tokens=100)
    assert caught.value.status_code == 402
    assert len(simulator.ledger) == 0


async def test_a_closed_client_is_misuse_and_said_as_such(simulator: Simulator) -> None:
    client = AsyncClient(api_key=KEY, base_url=simulator.base_url)
    await client.close()
    async with aimlasync.httpx.client(client) as http:
        with pytest.raises(ClientClosedError):
            await http.post("https://x/v1/chat/completions", json={"model": "m"})


# --- who leaves early ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "break", "cancel"])
async def test_who_leaves_a_stream_gives_the_permit_back_at_once(how: str) -> None:
    async with raw_server(Script([CHUNK], end="stall")) as server, over(server) as client:
        stream = await sdk_over(client).chat.completions.create(model="m", messages=HELLO, stream=True)
        assert in_flight(client) == 1
        if how == "cancel":
            read = asyncio.Event()

            async def reader() -> None:
                async for _ in stream:
                    read.set()

            task = asyncio.ensure_future(reader())
            await read.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif how == "break":
            async with stream:
                async for _ in stream:
                    break
        else:
            await stream.close()
        assert in_flight(client) == 0
        await until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_of_the_sdk_may_be_cancelled_at_any_step(stream: bool) -> None:
    scripts = [
        Script([CHUNK, b"data: [DONE]\n\n"], end="keep")
        if stream
        else Script([ANSWER], content_type="application/json", end="keep")
    ]
    async with raw_server(*scripts) as server, over(server, limits=Limits(concurrency=1)) as client:
        sdk = sdk_over(client)

        async def call() -> None:
            answer = await sdk.chat.completions.create(model="m", messages=HELLO, stream=stream)
            if stream:
                async for _ in answer:
                    pass

        for step in range(STEPS):
            task = asyncio.ensure_future(call())
            await turns(step)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert in_flight(client) == 0
            if not task.cancelled():
                break
        assert task.exception() is None
        await call()


# --- the bare transport ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLAVOURS)
async def test_one_transport_serves_both_packages(name: str, simulator: Simulator, client: AsyncClient) -> None:
    httpx = importlib.import_module(name)
    async with httpx.AsyncClient(transport=aimlasync.httpx.Transport(client), base_url="http://x/v1") as http:
        reply = await http.post("/chat/completions", json={"model": NANO, "messages": HELLO})
        assert type(reply) is httpx.Response
        assert "Hello" in reply.json()["choices"][0]["message"]["content"]
        assert reply.extensions["aimlasync"].attempts == 1
        body = {"model": NANO, "messages": HELLO, "stream": True}
        async with http.stream("POST", "/chat/completions", json=body) as streamed:
            lines = [line async for line in streamed.aiter_lines()]
        assert "data: [DONE]" in lines
        refused = await http.post("/chat/completions", json={"model": "gpt-0", "messages": HELLO})
        assert refused.status_code == 404
        assert refused.headers["x-should-retry"] == "false"
        assert (await http.get("/models")).json()["data"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", ("chat/completions", True)),
        ("/api/v1/responses/", ("responses", True)),
        ("/chat/completions", ("chat/completions", True)),
        ("/openai/deployments/mine/chat/completions", ("chat/completions", True)),
        ("/v1/responses/r1/cancel", ("responses/r1/cancel", False)),
        ("/v1/things/responses", ("things/responses", False)),
        ("/v1/files", ("files", False)),
        ("/files", ("files", False)),
    ],
)
async def test_only_the_path_below_the_base_counts(path: str, expected: tuple[str, bool], client: AsyncClient) -> None:
    route = aimlasync.httpx.Route(client=client)
    assert aimlasync.httpx._path("POST", path, route) == expected
    assert aimlasync.httpx._path("GET", path, route)[1] is False


@pytest.mark.parametrize("name", FLAVOURS)
@pytest.mark.parametrize("status", [200, 400])
async def test_words_of_a_header_that_are_not_ascii_are_handed_on(status: int, name: str) -> None:
    lines = "HTTP/1.1 %d Fine", "Content-Type: application/json", "Content-Length: %d", "X-Words: café 余额", "", ""
    head = "\r\n".join(lines).encode() % (status, len(ANSWER)) + ANSWER
    async with raw_server(Script(head=head)) as server, over(server) as client:
        transport = aimlasync.httpx.Transport(client)
        async with importlib.import_module(name).AsyncClient(transport=transport, base_url="http://x/v1") as http:
            for path in ("chat/completions", "embeddings"):
                response = await http.post(path, json={"model": "m", "messages": HELLO})
                assert (response.status_code, response.headers["x-words"]) == (status, "café 余额")


@pytest.mark.parametrize("name", FLAVOURS)
async def test_failures_are_raised_in_the_packages_own_words(name: str) -> None:
    httpx = importlib.import_module(name)
    body = {"model": "m", "messages": HELLO}
    cases: list[tuple[Script, dict[str, Any], Any]] = [
        (Script(end="reset", head=b""), {}, httpx.ConnectError),
        (Script(end="stall", head=b""), {"timeout": 0.05}, httpx.ReadTimeout),
        (Script([b"<html>"], content_type="text/html"), {}, httpx.RemoteProtocolError),
        (Script([CHUNK], end="reset"), {"json": {**body, "stream": True}}, httpx.RemoteProtocolError),
        (Script([CHUNK], end="stall"), {"json": {**body, "stream": True}, "timeout": 0.05}, httpx.ReadTimeout),
        (Script(), {"headers": {"X-Client-Request-Id": "not allowed"}}, httpx.LocalProtocolError),
    ]
    for script, options, expected in cases:
        async with raw_server(script) as server, over(server) as client:
            transport = aimlasync.httpx.Transport(client)
            async with httpx.AsyncClient(transport=transport, base_url="http://x/v1", timeout=60) as http:
                with pytest.raises(expected) as caught:
                    await http.post("/chat/completions", **{"json": body, **options})
                assert caught.value.request.url.path == "/v1/chat/completions"
            assert in_flight(client) == 0


# --- what is imported ------------------------------------------------------------------------------------------------


def test_importing_the_module_imports_neither_the_sdk_nor_an_httpx() -> None:
    code = "import sys, aimlasync.httpx; print(*{'openai', 'httpx', 'httpx2', 'pydantic'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == []


async def test_a_package_that_is_missing_is_named_with_its_remedy(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "aimlasync.openai", raising=False)
    for name in ("openai", "httpx", "httpx2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'aimlasync\[httpx\]'"):
        aimlasync.httpx.client(client)
    with pytest.raises(ImportError, match=r"pip install 'aimlasync\[openai\]'"):
        aimlasync.httpx.openai(client)


async def test_an_sdk_that_would_retry_its_own_exceptions_gets_those_of_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "__version__", "2.30.0")
    async with raw_server(Script(end="reset", head=b"")) as server, over(server) as client:
        with pytest.raises(openai.APIConnectionError) as caught:
            await sdk_over(client).with_options(max_retries=0).chat.completions.create(model="m", messages=HELLO)
    assert type(caught.value.__cause__).__module__.startswith("httpx")
    assert len(server.requests) == 2


async def test_the_sdk_that_is_made_whole_is_the_one_of_aimlasync_openai(client: AsyncClient) -> None:
    sdk = aimlasync.httpx.openai(client, timeout=7)
    assert type(sdk) is importlib.import_module("aimlasync.openai").AsyncOpenAI
    assert (sdk.aimlasync, sdk.timeout) == (client, 7)
