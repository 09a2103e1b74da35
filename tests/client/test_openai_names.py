"""What code written for AsyncOpenAI asks of the native client: environment, options, raw responses, names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

import aimlasync
from aimlasync import (
    AimlasyncError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    ClientClosedError,
    ConflictError,
    Endpoint,
    RateLimitError,
    Timeout,
)
from aimlasync.endpoints.endpoint import default_endpoints
from tests.support.servers import RawServer, Script, raw_server

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
REPLY = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
EVENTS = b"".join(
    b"data: %b\n\n" % json.dumps({"id": "c1", "model": "m", "choices": [choice]}).encode()
    for choice in (
        {"index": 0, "delta": {"role": "assistant", "content": "Hel"}},
        {"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"},
    )
)
EVENTS += b"data: [DONE]\n\n"


def whole(value: Any = REPLY, status: int = 200) -> Script:
    return Script([json.dumps(value).encode()], status, "application/json", [("x-request-id", "req_1")], end="keep")


def stream() -> Script:
    return Script([EVENTS[:30], EVENTS[30:]], headers=[("x-request-id", "req_1")], end="keep")


def sent(server: RawServer, name: str) -> list[str]:
    """Return the values of a header in all requests."""
    lines = [line for head in server.requests for line in head.decode().split("\r\n")]
    return [line.partition(": ")[2] for line in lines if line.lower().startswith(f"{name.lower()}:")]


def key_of(endpoint: Endpoint) -> str | None:
    return None if endpoint.api_key is None else endpoint.api_key.reveal()


# The environment


def set_openai(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Set OPENAI_API_KEY and other variables."""
    for name, value in {"OPENAI_API_KEY": "sk-of-openai", **variables}.items():
        monkeypatch.setenv(name, value)


def test_openais_key_goes_to_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    set_openai(monkeypatch)
    (endpoint,) = default_endpoints(None, None, allow_http=False)
    assert (endpoint.base_url, key_of(endpoint)) == ("https://api.openai.com/v1", "sk-of-openai")


def test_openais_key_goes_to_the_url_that_is_set_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    set_openai(monkeypatch, OPENAI_BASE_URL="https://gateway.example/v1", OPENAI_ORG_ID="o", OPENAI_PROJECT_ID="p")
    (endpoint,) = default_endpoints(None, None, allow_http=False)
    assert (endpoint.base_url, key_of(endpoint)) == ("https://gateway.example/v1", "sk-of-openai")
    assert dict(endpoint.headers) == {"Openai-Organization": "o", "Openai-Project": "p"}


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/v1", "https://elsewhere.example/v1", "https://api.openai.com.x/v1"]
)
def test_openais_key_goes_nowhere_else(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_openai(monkeypatch, OPENAI_BASE_URL="https://gateway.example/v1", OPENAI_ORG_ID="o")
    (endpoint,) = default_endpoints(None, url, allow_http=False)
    assert (key_of(endpoint), dict(endpoint.headers)) == (None, {})
    assert "OPENAI_API_KEY goes to api.openai.com and the host of OPENAI_BASE_URL only" in endpoint.without_key


def test_openais_key_is_never_sent_to_another_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    set_openai(monkeypatch)
    with pytest.raises(AimlasyncError, match="set AIML_API_KEY"):
        default_endpoints(None, "https://api.aimlapi.com/v1", allow_http=False)
    # The same key, passed by hand.
    assert default_endpoints("sk-of-openai", None, allow_http=False)[0].base_url == "https://api.openai.com/v1"
    assert default_endpoints("sk-proj-1", None, allow_http=False)[0].base_url == "https://api.openai.com/v1"


def test_openais_variables_are_read_last(monkeypatch: pytest.MonkeyPatch) -> None:
    set_openai(monkeypatch, OPENAI_BASE_URL="https://gateway.example/v1", OPENAI_ORG_ID="o")
    monkeypatch.setenv("BYTESPIKE_API_KEY", "sk-byts-1")
    (endpoint,) = default_endpoints(None, None, allow_http=False)
    assert (endpoint.name, key_of(endpoint), dict(endpoint.headers)) == ("bytespike", "sk-byts-1", {})
    assert default_endpoints("a-key", None, allow_http=False)[0].name == "aimlapi"


def test_a_key_that_is_passed_goes_to_the_only_server_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, no_vendor: None
) -> None:
    async def fetched() -> str:
        return "a-key"

    assert default_endpoints("a-key", None, allow_http=False)[0].name == "aimlapi"
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example/v1")
    for key in ("a-key", fetched):
        assert default_endpoints(key, None, allow_http=False)[0].base_url == "https://gateway.example/v1"
    assert default_endpoints("sk-byts-1", None, allow_http=False)[0].name == "bytespike"
    for variable, value in {"BYTESPIKE_API_KEY": "sk-byts-2", "AIML_API_URL": "http://127.0.0.1:9/v1"}.items():
        with monkeypatch.context() as more:
            more.setenv(variable, value)
            assert default_endpoints("a-key", None, allow_http=False)[0].name == "aimlapi"


def test_a_vendor_that_openais_url_names_is_that_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    set_openai(monkeypatch, OPENAI_BASE_URL="https://api.aimlapi.com/v1")
    for url in (None, "https://api.aimlapi.com/v1"):
        (endpoint,) = default_endpoints(None, url, allow_http=False)
        assert (endpoint.name, key_of(endpoint)) == ("aimlapi", "sk-of-openai")


def test_the_error_without_a_key_names_all_variables(no_vendor: None) -> None:
    with pytest.raises(AimlasyncError, match=r"AIML_API_KEY .* BYTESPIKE_API_KEY .* OPENAI_API_KEY .* OPENAI_BASE_URL"):
        AsyncClient()
    with pytest.raises(AimlasyncError, match="set OPENAI_API_KEY"):
        AsyncClient(base_url="https://api.openai.com/v1")


# Options


async def test_a_function_is_asked_for_the_key_before_each_attempt() -> None:
    keys = iter(["sk-first-key-0001", "sk-second-key-0002", "sk-second-key-0002"])

    async def current() -> str:
        return next(keys)

    async with raw_server(whole({"error": {"message": "no sk-first-key-0001"}}, 500), whole()) as server:
        async with AsyncClient(current, server.base_url, max_retries=1) as client:
            await client.chat.completions.create(**CHAT)
            await client.chat.completions.create(**CHAT)
    assert sent(server, "authorization") == [
        "Bearer sk-first-key-0001",
        "Bearer sk-second-key-0002",
        "Bearer sk-second-key-0002",
    ]


async def test_a_key_of_a_function_is_in_no_error() -> None:
    def broken() -> str:
        raise LookupError("no token")

    body = {"error": {"message": "wrong key sk-first-key-0001"}}
    async with raw_server(whole(body, 401)) as server:
        async with AsyncClient(lambda: "sk-first-key-0001", server.base_url) as client:
            with pytest.raises(AuthenticationError) as caught:
                await client.chat.completions.create(**CHAT)
        assert "sk-first" not in f"{caught.value!r} {caught.value.body} {caught.value.raw!r}"
        for given, error, said in ((broken, LookupError, "no token"), (lambda: "", ValueError, "an empty text")):
            async with AsyncClient(given, server.base_url) as client:
                with pytest.raises(error, match=said):
                    await client.chat.completions.create(**CHAT)


async def test_another_key_or_url_shares_connections_and_no_key() -> None:
    async with raw_server(whole()) as one, raw_server(whole()) as two:
        async with AsyncClient("sk-mine", one.base_url, default_headers={"X-App": "a"}) as client:
            await client.with_options(api_key="sk-theirs").chat.completions.create(**CHAT)
            await client.chat.completions.create(**CHAT)
            copied = client.copy(base_url=two.base_url)
            await copied.chat.completions.create(**CHAT)
        assert (sent(one, "authorization"), one.connections) == (["Bearer sk-theirs", "Bearer sk-mine"], 1)
        assert (sent(two, "authorization"), sent(two, "x-app")) == ([], ["a"])
        with pytest.raises(ClientClosedError):
            await copied.chat.completions.create(**CHAT)


async def test_options_of_asyncopenai_are_taken() -> None:
    class URL:
        """Like that of httpx."""

        def __str__(self) -> str:
            return server.base_url

    async with raw_server(whole()) as server:
        async with AsyncClient("k", URL(), organization="o", project="p", max_retries=4) as client:
            await client.beta.chat.completions.create(**CHAT)
            assert (client.base_url, client.max_retries, client.is_closed()) == (server.base_url, 4, False)
            assert not client.is_closed
        assert client.is_closed
        assert client.is_closed()
        assert (sent(server, "openai-organization"), sent(server, "openai-project")) == (["o"], ["p"])


def test_what_is_not_taken_says_what_is() -> None:
    with pytest.raises(TypeError, match=r"proxy= .* transport=HttpxTransport"):
        AsyncClient("k", http_client=object())  # type: ignore[arg-type]
    client: Any = AsyncClient("k")
    with pytest.raises(AttributeError, match=r"no embeddings: aimlasync\.openai\.AsyncOpenAI"):
        client.embeddings.create()
    with pytest.raises(AttributeError, match="no attribute 'chats'"):
        client.chats  # noqa: B018
    assert "embeddings" not in dir(client)
    assert {"chat", "with_raw_response"} <= set(dir(client))

    class Mine(AsyncClient):
        pass

    for resource, name in (
        (Mine("k"), "files"),
        (client.chat.completions, "list"),
        (client.models, "delete"),
        (client.responses, "input_tokens"),
    ):
        with pytest.raises(AttributeError, match=rf"has no {name}: aimlasync\.openai\.AsyncOpenAI has it"):
            getattr(resource, name)
    for retries in (-1, -2):
        with pytest.raises(ValueError, match=f"max_retries must be 0 or more, not {retries}"):
            client.with_options(max_retries=retries)
    with pytest.raises(ValueError, match="attempts must be 1 or more, not 0"):
        aimlasync.Retry(attempts=0)


class NotGiven:
    def __bool__(self) -> bool:
        return False


class Omit(NotGiven):
    pass


async def test_a_header_without_a_value_is_not_sent_and_a_key_is_not_sent_by_mistake() -> None:
    nothing: Any = Omit()
    async with raw_server(whole()) as server:
        headers = {"X-Left": nothing, "X-Kept": "a"}
        async with AsyncClient("k", server.base_url, default_headers=headers) as client:
            await client.chat.completions.create(**CHAT, extra_headers={"X-Also": nothing})
            with pytest.raises(ValueError, match="extra_headers cannot leave out Authorization"):
                await client.chat.completions.create(**CHAT, extra_headers={"authorization": nothing})
        with pytest.raises(ValueError, match="default_headers cannot leave out Authorization"):
            AsyncClient("k", server.base_url, default_headers={"Authorization": nothing})
        assert (sent(server, "x-left"), sent(server, "x-also"), sent(server, "x-kept")) == ([], [], ["a"])


async def test_a_stored_prompt_brings_model_and_input() -> None:
    done = {"id": "r", "status": "completed", "output": []}
    async with raw_server(whole(done)) as server, AsyncClient("k", server.base_url) as client:
        await client.responses.create(prompt={"id": "p", "variables": {"a": "b"}})
        with pytest.raises(TypeError, match="model= is missing"):
            await client.responses.create(input="Hi")
    assert [json.loads(body) for body in server.bodies] == [{"prompt": {"id": "p", "variables": {"a": "b"}}}]


async def test_the_events_of_a_response_in_the_background_go_on() -> None:
    done = {"type": "response.completed", "sequence_number": 4, "response": {"id": "r", "status": "completed"}}
    events = Script([b"data: %b\n\n" % json.dumps(done).encode()])
    async with raw_server(events) as server, AsyncClient("k", server.base_url) as client:
        async with client.responses.stream(response_id="r", starting_after=3) as stream:
            assert (await stream.get_final_response()).id == "r"
    assert server.requests[0].startswith(b"GET /v1/responses/r?stream=true&starting_after=3 ")


@pytest.mark.parametrize("nothing", [aimlasync.NOT_GIVEN, aimlasync.omit, NotGiven(), Omit()])
async def test_what_is_not_given_is_not_sent(nothing: Any) -> None:
    async with raw_server(whole()) as server, AsyncClient("k", server.base_url) as client:
        await client.chat.completions.create(
            **CHAT, temperature=nothing, tools=nothing, stream=nothing, timeout=nothing, extra_headers=nothing, top_p=0
        )
        if nothing is not None:
            await client.chat.completions.create(**CHAT, extra_headers={"X-A": nothing, "X-B": "b"})
            assert (sent(server, "x-a"), sent(server, "x-b")) == ([], ["b"])
        assert json.loads(server.bodies[0]) == {**CHAT, "top_p": 0}


class OfHttpx:
    """Like an httpx.Timeout."""

    def __init__(self, read: float | None, connect: float | None = 2.0) -> None:
        self.read, self.connect, self.write, self.pool = read, connect, None, None


def test_the_read_timeout_of_httpx_bounds_an_answer_and_the_gaps_of_a_stream() -> None:
    assert Timeout().but(OfHttpx(5)) == Timeout(answer=5, connect=2, first_token=5, idle=5)
    assert Timeout().but(OfHttpx(None, None)) == Timeout(total=None, connect=None, idle=None)
    assert Timeout().but(OfHttpx(5)).but(7).answer is None


async def test_a_read_timeout_of_httpx_holds() -> None:
    async with raw_server(Script(head=b"", end="stall")) as server:
        async with AsyncClient("k", server.base_url, timeout=OfHttpx(0.05), max_retries=0) as client:
            with pytest.raises(APITimeoutError, match=r"longer than 0\.05"):
                await client.chat.completions.create(**CHAT)
            with pytest.raises(APITimeoutError):
                await client.chat.completions.create(**CHAT, stream=True)


# Errors


async def test_an_error_has_the_shape_that_asyncopenai_has() -> None:
    body = {"error": {"message": "slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}
    async with raw_server(whole(body, 429)) as server, AsyncClient("k", server.base_url, max_retries=0) as client:
        with pytest.raises(aimlasync.APIError) as caught:
            await client.chat.completions.create(**CHAT)
    error = caught.value
    assert isinstance(error, RateLimitError)
    assert isinstance(error, aimlasync.OpenAIError)
    assert (error.status_code, error.code, error.type, error.param) == (429, "rate_limit_exceeded", "requests", None)
    assert (error.request_id, error.response.headers["X-Request-ID"]) == ("req_1", "req_1")
    assert (error.response.status_code, error.response.json(), error.response.is_error) == (429, body, True)
    # The body is whole, and its error is found in it by AsyncOpenAI's way too.
    assert error.body == body
    assert (error.body["message"], error.body.get("type"), error.body.get("no")) == ("slow down", "requests", None)
    assert [name in error.body for name in ("error", "message", "no")] == [True, True, False]
    with pytest.raises(KeyError):
        error.body["no"]


async def test_a_conflict_has_its_class() -> None:
    async with raw_server(whole({"error": {"message": "busy"}}, 409)) as server:
        async with AsyncClient("k", server.base_url, max_retries=0) as client:
            with pytest.raises(ConflictError):
                await client.chat.completions.create(**CHAT)


def test_an_error_without_a_response_has_no_body() -> None:
    error = aimlasync.APIConnectionError("gone")
    assert (error.body, error.code, error.type, error.param) == (None, None, None, None)
    assert aimlasync.LengthFinishReasonError is aimlasync.AnswerTruncatedError
    assert aimlasync.ContentFilterFinishReasonError("x", reply=1).completion == 1


# Raw responses


async def test_a_raw_response_has_headers_text_and_the_answer() -> None:
    async with raw_server(whole()) as server, AsyncClient("k", server.base_url) as client:
        for resource in (client.chat.completions.with_raw_response, client.with_raw_response.chat.completions):
            raw = await resource.create(**CHAT)
            assert (raw.status_code, raw.headers["X-Request-Id"], raw.request_id) == (200, "req_1", "req_1")
            assert (json.loads(raw.text), raw.json(), raw.http_response.json()) == (REPLY, REPLY, REPLY)
            assert (raw.parse().text, raw.parse()._request_id, raw.retries_taken) == ("Hello", "req_1", 0)


async def test_a_raw_response_to_a_stream_is_parsed_into_the_stream() -> None:
    async with raw_server(stream()) as server, AsyncClient("k", server.base_url) as client:
        raw = await client.chat.completions.with_raw_response.create(**CHAT, stream=True)
        assert raw.headers["x-request-id"] == "req_1"
        with pytest.raises(TypeError, match="with_streaming_response"):
            raw.text  # noqa: B018
        answer = raw.parse()
        assert answer.response.status_code == 200
        assert [piece async for piece in answer.text] == ["Hel", "lo"]


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda r: r.iter_bytes(), EVENTS.decode()),
        (lambda r: r.iter_bytes(7), EVENTS.decode()),
        (lambda r: r.iter_text(), EVENTS.decode()),
        (lambda r: r.iter_lines(), EVENTS.decode().replace("\n", "")),
    ],
)
async def test_a_streaming_response_hands_out_what_the_server_sends(read: Callable[[Any], Any], expected: str) -> None:
    async with raw_server(stream()) as server, AsyncClient("k", server.base_url) as client:
        completions = client.chat.completions.with_streaming_response
        async with completions.create(**CHAT, stream=True) as response:
            assert (response.status_code, response.request_id) == (200, "req_1")
            pieces = [piece async for piece in read(response)]
        assert "".join(p if isinstance(p, str) else p.decode() for p in pieces) == expected
        assert client.statistics()[0].in_flight == 0


async def test_a_streaming_response_may_be_read_whole_parsed_or_left() -> None:
    async with raw_server(whole(), whole(), stream(), stream()) as server:
        async with AsyncClient("k", server.base_url) as client:
            completions = client.chat.completions.with_streaming_response
            async with completions.create(**CHAT) as response:
                assert (await response.json(), json.loads(await response.text())) == (REPLY, REPLY)
            async with completions.create(**CHAT) as response:
                assert (await response.parse()).text == "Hello"
            async with completions.create(**CHAT, stream=True) as response:
                assert [piece async for piece in (await response.parse()).text] == ["Hel", "lo"]
            async with completions.create(**CHAT, stream=True):
                pass
            await asyncio.sleep(0)
            assert client.statistics()[0].in_flight == 0
            with pytest.raises(AttributeError, match="create alone"):
                client.models.with_streaming_response.list()


async def test_a_catalogue_is_iterated_either_way() -> None:
    models = {"object": "list", "data": [{"id": "a"}, {"id": "b"}]}
    async with raw_server(whole(models)) as server, AsyncClient("k", server.base_url) as client:
        listed = await client.models.list()
        assert [model.id async for model in listed] == [model.id for model in listed] == ["a", "b"]
        assert not listed.has_next_page()


async def test_headers_in_a_dict_are_found_in_lower_case() -> None:
    script = Script([b"{}"], 400, "application/json", [("X-RateLimit-Remaining-Requests", "7")], end="keep")
    async with raw_server(script) as server, AsyncClient(api_key="k", base_url=server.base_url) as client:
        with pytest.raises(aimlasync.BadRequestError) as refused:
            await client.chat.completions.create(**CHAT)
        assert dict(refused.value.response.headers)["x-ratelimit-remaining-requests"] == "7"
        assert refused.value.response.headers["X-RateLimit-Remaining-Requests"] == "7"


async def test_a_stream_is_left_by_closing_its_response() -> None:
    script = Script([EVENTS.partition(b"\n\n")[0] + b"\n\n"], end="stall")
    async with raw_server(script) as server, AsyncClient(api_key="k", base_url=server.base_url) as client:
        left = await client.chat.completions.create(**CHAT, stream=True)
        assert client.statistics()[0].in_flight == 1
        await left.response.aclose()
        assert client.statistics()[0].in_flight == 0
