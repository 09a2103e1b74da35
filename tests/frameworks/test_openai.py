"""The SDK's own classes over an aimlasync client: made from their arguments and environment; what they send."""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import pickle
from typing import Any

import pytest

from aimlasync import AsyncClient, Budget, Endpoint, Limits, Price, Retry, Timeout
from aimlasync.simulator import Simulator
from tests.support.servers import Script, raw_server, until

openai: Any = pytest.importorskip("openai", minversion="2.40", reason="pip install 'aimlasync[test]' runs these tests")
ours: Any = importlib.import_module("aimlasync.openai")

KEY = "sk-sentinel-5f1c2e77aa"
NANO = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]
MESSAGE = b'{"role": "assistant", "content": "hi"}'
ANSWER = b'{"id": "c", "choices": [{"index": 0, "message": %b, "finish_reason": "stop"}]}' % MESSAGE
EMBEDDED = b'{"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "e"}'


def says(body: bytes = ANSWER, **options: Any) -> Script:
    return Script([body], **{"content_type": "application/json", "end": "keep", **options})


def target(request: bytes) -> str:
    return request.split(b" ")[1].decode()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def refused_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no refusal teach a rate that keeps the next call for two seconds; the SDK has no argument for limits."""
    monkeypatch.setattr("aimlasync.admission.pace.MIN_RATE", 1000.0)


# --- made from its own arguments and environment ---------------------------------------------------------------------


async def test_it_is_the_sdks_class_and_asks_the_server_that_the_sdk_would_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(says()) as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.base_url}/gateway/")
        async with ours.AsyncOpenAI(organization="o", default_headers={"X-Mine": "a"}) as client:
            assert isinstance(client, openai.AsyncOpenAI)
            reply = await client.chat.completions.create(model="m", messages=HELLO, extra_query={"a": "b c"})
            assert isinstance(reply, openai.types.chat.ChatCompletion)
            assert client.aimlasync.statistics()[0].answered == 1
        assert client.is_closed()
    (request,) = server.requests
    assert target(request) == "/v1/gateway/chat/completions?a=b+c"
    for header in (f"Authorization: Bearer {KEY}", "OpenAI-Organization: o", "X-Mine: a"):
        assert header.lower() in request.decode().lower()


async def test_without_a_key_of_openai_that_of_a_vendor_goes_to_its_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(openai.OpenAIError, match="OPENAI_API_KEY"):
        ours.AsyncOpenAI()
    async with Simulator(keys={KEY}) as simulator:
        monkeypatch.setenv("AIML_API_KEY", KEY)
        monkeypatch.setenv("AIML_API_URL", simulator.base_url)
        for options in ({}, {"base_url": simulator.base_url}):
            async with ours.AsyncOpenAI(**options) as client:
                reply = await client.chat.completions.create(model=NANO, messages=HELLO)
                assert reply.choices[0].message.content
    # To no other host, and nowhere else where OpenAI's own is set or passed.
    with pytest.raises(openai.OpenAIError, match="OPENAI_API_KEY"):
        ours.AsyncOpenAI(base_url="https://elsewhere.example/v1")
    passed = ours.AsyncOpenAI(api_key="k")
    monkeypatch.setenv("OPENAI_API_KEY", "of-openai")
    for client, key in ((passed, "k"), (ours.AsyncOpenAI(), "of-openai")):
        assert (str(client.base_url), client.api_key) == ("https://api.openai.com/v1/", key)


async def test_a_bare_host_stays_bare() -> None:
    async with raw_server(says()) as server:
        async with ours.AsyncOpenAI(api_key="k", base_url=server.base_url.removesuffix("/v1")) as client:
            await client.chat.completions.create(model="m", messages=HELLO)
    assert target(server.requests[0]) == "/chat/completions"


async def test_azures_path_version_and_key_arrive() -> None:
    async with raw_server(says(), says(b'{"id": "r", "status": "completed", "output": []}')) as server:
        host = server.base_url.removesuffix("/v1")
        async with ours.AsyncAzureOpenAI(azure_endpoint=host, api_key=KEY, api_version="2024-10-21") as client:
            assert isinstance(client, openai.AsyncAzureOpenAI)
            await client.chat.completions.create(model="mine", messages=HELLO)
            assert client.aimlasync.statistics()[0].answered == 1
            await client.responses.create(model="mine", input="Hello")
    assert [target(request) for request in server.requests] == [
        "/openai/deployments/mine/chat/completions?api-version=2024-10-21",
        "/openai/responses?api-version=2024-10-21",
    ]
    assert f"api-key: {KEY}" in server.requests[0].decode().replace("Api-Key", "api-key")


async def test_a_key_that_expires_is_asked_for_with_each_call() -> None:
    keys = iter(("first-key", "second-key"))

    async def key() -> str:
        return next(keys)

    async with raw_server(says()) as server, ours.AsyncOpenAI(api_key=key, base_url=server.base_url) as client:
        for _ in range(2):
            await client.chat.completions.create(model="m", messages=HELLO)
    assert b"Bearer first-key" in server.requests[0]
    assert b"Bearer second-key" in server.requests[1]


@pytest.mark.usefixtures("refused_for_nothing")
async def test_its_retries_are_ours_and_as_many_as_it_is_told() -> None:
    busy = says(b'{"error": {"message": "busy"}}', status=503, headers=[("retry-after-ms", "1")])
    async with raw_server(busy) as server, ours.AsyncOpenAI(api_key="k", base_url=server.base_url) as client:
        for retries in (0, 1):
            before = len(server.requests)
            with pytest.raises(openai.InternalServerError) as caught:
                await client.with_options(max_retries=retries).chat.completions.create(model="m", messages=HELLO)
            assert caught.value.response.extensions["aimlasync"].attempts == retries + 1
            assert len(server.requests) - before == retries + 1


async def test_copies_share_one_client_and_its_limits() -> None:
    async with raw_server(says()) as server, ours.AsyncOpenAI(api_key="k", base_url=server.base_url) as client:
        for options in ({"timeout": 3}, {"max_retries": 0}, {"default_headers": {"X-A": "b"}}, {"api_key": "other"}):
            await client.with_options(**options).chat.completions.create(model="m", messages=HELLO)
        assert client.aimlasync.statistics()[0].answered == 4
    assert b"Bearer other" in server.requests[3]


async def test_a_deep_copy_of_what_holds_a_client_shares_it(simulator: Simulator) -> None:
    async with ours.AsyncOpenAI(api_key=KEY, base_url=simulator.base_url) as client:
        await client.chat.completions.create(model=NANO, messages=HELLO)
        copied = copy.deepcopy({"lm": client})["lm"]
        await copied.chat.completions.create(model=NANO, messages=HELLO)
        assert copied.aimlasync.statistics()[0].answered == client.aimlasync.statistics()[0].answered == 2


async def test_a_copy_with_another_base_url_asks_there() -> None:
    async with raw_server(says()) as first, raw_server(says()) as second:
        async with ours.AsyncOpenAI(api_key="k", base_url=first.base_url) as client:
            await client.copy(base_url=second.base_url).chat.completions.create(model="m", messages=HELLO)
            assert (len(first.requests), len(second.requests)) == (0, 1)
            client.base_url = second.base_url
            await client.chat.completions.create(model="m", messages=HELLO)
            assert (len(first.requests), len(second.requests)) == (0, 2)


def test_one_client_serves_one_event_loop_after_the_other() -> None:
    client: list[Any] = []

    async def ask() -> None:
        async with raw_server(says()) as server:
            if not client:
                client.append(ours.AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:1"))
            there = client[0].with_options(base_url=server.base_url)
            await there.chat.completions.create(model="m", messages=HELLO)
            await there.aimlasync.close()

    asyncio.run(ask())
    asyncio.run(ask())


async def test_the_environments_proxy_is_used_as_by_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(says()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        async with ours.AsyncOpenAI(api_key="k", base_url="http://model.invalid/v1") as client:
            await client.chat.completions.create(model="m", messages=HELLO)
        assert target(proxy.requests[0]) == "http://model.invalid/v1/chat/completions"
        monkeypatch.setenv("no_proxy", "model.invalid")
        async with ours.AsyncOpenAI(api_key="k", base_url="http://model.invalid/v1", max_retries=0) as client:
            with pytest.raises(openai.APIConnectionError):
                await client.chat.completions.create(model="m", messages=HELLO)
        assert len(proxy.requests) == 1


async def test_the_class_may_stand_for_the_sdks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "AsyncOpenAI", ours.AsyncOpenAI)
    async with raw_server(says()) as server, openai.AsyncOpenAI(api_key="k", base_url=server.base_url) as client:
        patient = client.with_options(timeout=60)
        await patient.chat.completions.create(model="m", messages=HELLO)
        assert isinstance(patient, ours.AsyncOpenAI)
        assert isinstance(patient, openai.AsyncOpenAI)


# --- over an httpx client of the user's ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["httpx2", "httpx"])
async def test_the_timeout_of_the_users_httpx_client_is_that_of_each_request(name: str) -> None:
    httpx = pytest.importorskip(name, reason=f"pip install {name} runs this test with it too")
    own = httpx.AsyncClient(timeout=httpx.Timeout(60, connect=7))
    async with (
        raw_server(says()) as server,
        ours.AsyncOpenAI(api_key="k", base_url=server.base_url, http_client=own) as client,
    ):
        await client.chat.completions.create(model="m", messages=HELLO)
        assert client.timeout == openai.Timeout(60, connect=7)


@pytest.mark.usefixtures("refused_for_nothing")
@pytest.mark.parametrize("name", ["httpx2", "httpx"])
async def test_each_attempt_goes_through_the_users_httpx_client(name: str) -> None:
    httpx = pytest.importorskip(name, reason=f"pip install {name} runs this test with it too")
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        if len(seen) == 1:
            return httpx.Response(503, headers={"retry-after-ms": "1"}, json={"error": {"message": "busy"}})
        if len(seen) == 2:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json=json.loads(ANSWER))

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with ours.AsyncOpenAI(api_key="k", base_url="https://host.invalid/v1", http_client=http) as client:
        reply = await client.chat.completions.create(model="m", messages=HELLO)
        assert reply.choices[0].message.content == "hi"
    assert [str(request.url) for request in seen] == ["https://host.invalid/v1/chat/completions"] * 3
    assert seen[0].headers["authorization"] == "Bearer k"
    assert http.is_closed


@pytest.mark.parametrize("name", ["httpx2", "httpx"])
@pytest.mark.parametrize("kind", ["ReadTimeout", "WriteTimeout", "TimeoutException", "ConnectTimeout", "PoolTimeout"])
async def test_a_timeout_of_the_users_client_is_the_sdks_timeout_error(name: str, kind: str) -> None:
    httpx = pytest.importorskip(name, reason=f"pip install {name} runs this test with it too")

    def answer(request: Any) -> Any:
        raise getattr(httpx, kind)("too slow", request=request)

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    url = "https://host.invalid/v1"
    async with ours.AsyncOpenAI(api_key="k", base_url=url, http_client=http, max_retries=0) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="m", messages=HELLO)


@pytest.mark.parametrize("name", ["httpx2", "httpx"])
async def test_a_stream_over_the_users_client_arrives_and_may_be_left(name: str) -> None:
    httpx = pytest.importorskip(name, reason=f"pip install {name} runs this test with it too")
    chunk = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\n'
    async with raw_server(Script([chunk], end="stall")) as server:
        http = httpx.AsyncClient()
        async with ours.AsyncOpenAI(api_key="k", base_url=server.base_url, http_client=http) as client:
            stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            async for piece in stream:
                assert piece.choices[0].delta.content == "hi"
                break
            await stream.close()
            assert client.aimlasync.statistics()[0].in_flight == 0
            await until(lambda: server.open_connections == 0)


# --- over a client that is given -------------------------------------------------------------------------------------


async def test_a_client_that_is_given_brings_hosts_keys_limits_and_stays_open(simulator: Simulator) -> None:
    budget = Budget(1.0, prices={NANO: Price(input=1e-6, output=1e-6)})
    endpoint = Endpoint.aimlapi(api_key=KEY, base_url=simulator.base_url)
    async with AsyncClient(endpoints=[endpoint], budget=budget) as inner:
        async with ours.AsyncOpenAI(aimlasync=inner) as client:
            assert client.aimlasync is inner
            await client.chat.completions.create(model=NANO, messages=HELLO)
        assert budget.spent > 0
        assert not inner.is_closed


async def test_a_client_that_is_given_excludes_an_httpx_client() -> None:
    async with AsyncClient(api_key="k", base_url="http://127.0.0.1:1") as inner:
        with pytest.raises(ValueError, match="aimlasync= or http_client="):
            ours.AsyncOpenAI(aimlasync=inner, http_client=object())
    wrong: Any = "http://127.0.0.1:1"
    with pytest.raises(TypeError, match=r"aimlasync= takes AsyncClient, such as AsyncClient\(\), not str"):
        ours.AsyncOpenAI(aimlasync=wrong)
    with pytest.raises(TypeError, match="client= takes AsyncClient"):
        importlib.import_module("aimlasync.httpx").client(wrong)


# --- other paths -----------------------------------------------------------------------------------------------------


async def test_embeddings_wait_for_their_turn_and_are_tried_again_where_they_were_refused() -> None:
    refused = says(b"{}", status=429, headers=[("retry-after-ms", "1")])
    limits = Limits(concurrency=1)
    async with raw_server(refused, says(EMBEDDED)) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url, limits=limits, retry=Retry(base=0.001)) as inner:
            client = ours.AsyncOpenAI(aimlasync=inner)
            made = await asyncio.gather(*(client.embeddings.create(model="e", input="x") for _ in range(3)))
            assert [each.data[0].embedding for each in made] == [[0.5]] * 3
            (upstream,) = inner.statistics()
            assert (upstream.attempts, upstream.answered) == (4, 3)
            await client.close()
    assert len(server.requests) == 4


async def test_a_post_that_may_have_been_read_is_left_to_the_sdks_own_retries() -> None:
    broken = says(b"{}", status=500, headers=[("retry-after-ms", "1")])
    async with raw_server(broken) as server:
        async with ours.AsyncOpenAI(api_key="k", base_url=server.base_url, max_retries=1) as client:
            with pytest.raises(openai.InternalServerError):
                await client.embeddings.create(model="e", input="x")
    assert len(server.requests) == 2


# --- what can be imported --------------------------------------------------------------------------------------------


def test_the_sdks_public_names_are_there_and_its_synchronous_clients_are_refused() -> None:
    for name in (
        "RateLimitError",
        "Timeout",
        "NOT_GIVEN",
        "omit",
        "types",
        "DefaultAsyncHttpxClient",
        "AsyncStream",
        "__version__",
    ):
        assert getattr(ours, name) is getattr(openai, name)
    assert ours.AsyncClient is ours.AsyncOpenAI
    for name in ("OpenAI", "AzureOpenAI", "Client"):
        with pytest.raises(ImportError, match="use AsyncOpenAI"):
            getattr(ours, name)
    with pytest.raises(AttributeError):
        _ = ours.no_such_name


@pytest.fixture
async def simulator() -> Any:
    async with Simulator(keys={KEY}) as simulator:
        yield simulator


async def test_a_path_that_only_ends_like_a_call_is_left_to_the_sdks_own_retries() -> None:
    broken = says(b"{}", status=500, headers=[("retry-after-ms", "1")])
    async with raw_server(broken) as server:
        async with ours.AsyncOpenAI(api_key="k", base_url=server.base_url, max_retries=1) as client:
            with pytest.raises(openai.InternalServerError):
                await client.post("/things/responses", body={"b": 2}, cast_to=object)
    assert [target(request) for request in server.requests] == ["/v1/things/responses"] * 2


async def test_errors_are_pickled_without_the_key_and_hold_what_was_sent() -> None:
    body = b'{"error": {"message": "no", "code": "c", "type": "t", "param": null}}'
    async with raw_server(says(body, status=400)) as server:
        async with ours.AsyncOpenAI(api_key=KEY, base_url=server.base_url) as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(model="m", messages=HELLO)
        async with ours.AsyncOpenAI(api_key=KEY, base_url="http://127.0.0.1:9/v1", max_retries=0) as client:
            with pytest.raises(openai.APIConnectionError) as failed:
                await client.chat.completions.create(model="m", messages=HELLO)
    assert refused.value.response.content == body
    for error in (refused.value, failed.value):
        pickled = pickle.dumps(error)
        assert KEY.encode() not in pickled
        again = pickle.loads(pickled)
        assert (type(again), str(again), again.body) == (type(error), str(error), error.body)
        assert again.request.url == error.request.url
    copied = pickle.loads(pickle.dumps(refused.value))
    assert (copied.status_code, copied.code, copied.response.json()) == (400, "c", refused.value.response.json())


async def test_the_response_of_an_error_says_how_long_it_took() -> None:
    async with raw_server(says(b"{}", status=400)) as server:
        async with ours.AsyncOpenAI(api_key=KEY, base_url=server.base_url) as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(model="m", messages=HELLO)
    assert refused.value.response.elapsed.total_seconds() > 0


@pytest.mark.usefixtures("refused_for_nothing")
async def test_a_raw_response_says_how_often_it_was_tried() -> None:
    busy = says(b'{"error": {"message": "busy"}}', status=503, headers=[("retry-after-ms", "1")])
    async with raw_server(busy, busy, says()) as server:
        async with ours.AsyncOpenAI(api_key="k", base_url=server.base_url) as client:
            raw = await client.chat.completions.with_raw_response.create(model="m", messages=HELLO)
    assert raw.retries_taken == 2


async def test_headers_of_the_user_are_sent_as_they_are() -> None:
    async with raw_server(says()) as server:
        async with ours.AsyncOpenAI(api_key="k", base_url=server.base_url) as client:
            await client.chat.completions.create(model="m", messages=HELLO)
            own = {"User-Agent": "mine/1", "authorization": "Basic abc"}
            await client.chat.completions.create(model="m", messages=HELLO, extra_headers=own)
    first, second = (request.decode().lower() for request in server.requests)
    assert "user-agent: aimlasync/" in first
    assert "user-agent: mine/1\r\n" in second
    assert "authorization: basic abc\r\n" in second
    assert "bearer" not in second


async def test_a_redirect_says_where_it_leads() -> None:
    moved = says(b"", status=307, headers=[("location", "/v1/other")])
    async with raw_server(moved) as server, ours.AsyncOpenAI(api_key="k", base_url=server.base_url) as client:
        with pytest.raises(openai.APIStatusError, match=r"it redirects to .*/v1/other; redirects are n"):
            await client.chat.completions.create(model="m", messages=HELLO)


def test_a_synchronous_httpx_client_is_refused_where_it_is_given() -> None:
    class Client:
        pass

    with pytest.raises(TypeError, match="http_client= takes an AsyncClient of httpx, not Client"):
        ours.AsyncOpenAI(api_key="k", http_client=Client())


CHUNK = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\n'


@pytest.mark.parametrize("end", ["eof", "reset", "stall"])
async def test_a_stream_that_breaks_raises_the_sdks_error(end: Any) -> None:
    async with raw_server(Script([CHUNK], end=end)) as server:
        bounds = Timeout(idle=0.05 if end == "stall" else 60)
        async with AsyncClient("k", server.base_url, timeout=bounds) as client:
            sdk = ours.AsyncOpenAI(aimlasync=client)
            stream = await sdk.chat.completions.create(model="m", messages=HELLO, stream=True)
            assert (await anext(stream)).choices[0].delta.content == "hi"
            with pytest.raises(openai.APIConnectionError) as caught:
                await anext(stream)
    assert isinstance(caught.value, openai.APITimeoutError) == (end == "stall")


async def test_an_error_at_the_begin_of_a_stream_is_that_of_its_status() -> None:
    error = {"message": "no tool f", "type": "invalid_request_error", "code": "tool_use_failed", "status_code": 400}
    said = b"data: %b\n\n" % json.dumps({"error": error}).encode()
    async with raw_server(Script([said])) as server, ours.AsyncOpenAI(api_key="k", base_url=server.base_url) as client:
        with pytest.raises(openai.BadRequestError, match="no tool f"):
            await client.chat.completions.create(model="m", messages=HELLO, stream=True)


def test_where_asyncio_does_not_run_it_says_what_is_needed() -> None:
    with pytest.raises(RuntimeError, match="aimlasync runs on asyncio alone"):
        _ = ours.AsyncOpenAI(api_key="k").aimlasync


async def test_a_client_that_is_closed_is_said_to_be() -> None:
    client = AsyncClient("k", "http://127.0.0.1:9/v1")
    await client.close()
    sdk = ours.AsyncOpenAI(aimlasync=client)
    with pytest.raises(openai.APIConnectionError, match="this client is closed; make a new one"):
        await sdk.chat.completions.create(model="m", messages=HELLO)


@pytest.mark.parametrize("raw", [False, True])
async def test_a_chunk_without_choices_has_an_empty_list_of_them(simulator: Simulator, raw: bool) -> None:
    async with ours.AsyncOpenAI(api_key=KEY, base_url=simulator.base_url) as client:
        completions = client.chat.completions
        create = completions.with_raw_response.create if raw else completions.create
        stream = await create(model=NANO, messages=HELLO, stream=True)
        chunks = [chunk async for chunk in (stream.parse() if raw else stream)]
    # The simulator is the AI/ML API here: its last chunk has the cost and nothing else.
    assert all(isinstance(chunk.choices, list) for chunk in chunks)
    assert chunks[-1].choices == []
    assert chunks[-1].model_extra["meta"]["usage"]["usd_spent"] > 0
