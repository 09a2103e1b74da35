"""Streams to browsers, errors as statuses, and who leaves: over real sockets, with the simulator's ledger as judge."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest

from tests.support.servers import LEARNS_NOTHING, RawServer, Script, raw_server, until

pytest.importorskip("sse_starlette", reason="pip install 'aimlasync[test]' has what these tests need")
pytest.importorskip("fastapi", reason="pip install 'aimlasync[test]' has what these tests need")

import fastapi
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aimlasync import AsyncClient, Endpoint, Limits, Retry, relay
from aimlasync.cost.budget import Budget
from aimlasync.cost.prices import Price
from aimlasync.simulator import Fault, Latency, Simulator
from aimlasync.starlette import client, client_of, event_stream, exception_handlers, lifespan
from tests.support.web import Serving, browser, events_of, serving

KEY = "sentinel-key-0815"
NANO = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]
SLOW = Latency.of(ttft=0.0, tokens_per_second=50)
LONG = "one two three four five six seven eight nine ten " * 20


def chat(request: Request, **options: Any) -> Any:
    return client_of(request).chat.completions.create(
        model=request.query_params.get("model", NANO), messages=HELLO, stream=True, **options
    )


def app_of(base_url: str, stream: Callable[[Request], Response] | None = None, **options: Any) -> Starlette:
    """An app that streams at /stream and answers whole at /whole."""

    async def streamed(request: Request) -> Response:
        return stream(request) if stream is not None else event_stream(chat(request))

    async def whole(request: Request) -> Response:
        model = request.query_params.get("model", NANO)
        reply = await client_of(request).chat.completions.create(model=model, messages=HELLO)
        return JSONResponse({"text": reply.text})

    options = {"retry": Retry(attempts=1), "limits": LEARNS_NOTHING, **options}
    return Starlette(
        routes=[Route("/stream", streamed, methods=["GET", "POST"]), Route("/whole", whole)],
        lifespan=lifespan(endpoints=[Endpoint.aimlapi(api_key=KEY, base_url=base_url)], **options),
        exception_handlers=exception_handlers,
    )


@asynccontextmanager
async def running(
    simulator: Simulator | RawServer, stream: Callable[[Request], Response] | None = None, **options: Any
) -> AsyncIterator[tuple[Serving, AsyncClient]]:
    made: list[AsyncClient] = []

    def make(**options: Any) -> AsyncClient:
        made.append(AsyncClient(**options))
        return made[0]

    app = app_of(simulator.base_url, stream, make=make, **options)
    async with serving(app) as server:
        yield server, made[0]
    assert made[0].is_closed


def idle(client: AsyncClient) -> bool:
    (state,) = client.statistics()
    return (state.in_flight, state.queued) == (0, 0)


# --- streams -----------------------------------------------------------------------------------------------------


async def test_text_arrives_in_pieces_and_ends_with_a_summary() -> None:
    ended: list[relay.Relayed] = []
    async with (
        Simulator(answer=lambda _: "Two\nlines, and ünïcode.") as simulator,
        running(simulator, lambda request: event_stream(chat(request), on_end=ended.append)) as (server, client),
        browser() as session,
    ):
        async with session.get(f"{server.url}/stream") as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert response.headers["Cache-Control"] == "no-store, no-transform"
            events = [event async for event in events_of(response)]
        assert idle(client)
    *texts, done = events
    assert all(event.event == "message" for event in texts)
    assert "".join(json.loads(event.data)["text"] for event in texts) == "Two\nlines, and ünïcode."
    assert done.event == "done"
    summary = json.loads(done.data)
    assert (summary["truncated"], summary["refusal"]) == (False, None)
    assert summary["usage"]["completion_tokens"] > 0
    (end,) = ended
    assert end.outcome == "finished"
    assert end.info is not None
    assert end.usage is not None
    assert end.info.cost_usd
    assert events[0].id == end.info.request_id


async def test_the_first_piece_is_there_before_the_last_is_made() -> None:
    async with (
        Simulator(latency=SLOW, answer=lambda _: LONG) as simulator,
        running(simulator) as (server, _),
        browser() as session,
        session.post(f"{server.url}/stream") as response,
    ):
        event = await anext(events_of(response))
        assert json.loads(event.data)["text"]
        assert not simulator.ledger[0].finished


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_raw_events_are_what_a_client_of_the_vendor_reads(api: str) -> None:
    async def relayed(request: Request) -> Response:
        body = await request.json()
        client = client_of(request)
        if api == "chat":
            return event_stream(client.chat.completions.create(**body), events="raw")
        return event_stream(client.responses.create(**body), events="raw")

    async with Simulator() as simulator:
        app = app_of(simulator.base_url)
        app.router.routes += [
            Route("/v1/chat/completions", relayed, methods=["POST"]),
            Route("/v1/responses", relayed, methods=["POST"]),
        ]
        async with serving(app) as server, AsyncClient(api_key="any", base_url=f"{server.url}/v1") as behind:
            stream: Any
            if api == "chat":
                stream = await behind.chat.completions.create(model=NANO, messages=HELLO, stream=True)
            else:
                stream = await behind.responses.create(model="openai/gpt-5-pro", input="Hello", stream=True)
            whole = await stream.collect()
        (attempt,) = simulator.ledger
    assert whole.text if api == "chat" else whole.output_text
    assert whole.usage.total_tokens == attempt.prompt_tokens + attempt.completion_tokens


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_openais_client_reads_raw_events_between_comments(api: str) -> None:
    openai = pytest.importorskip("openai", reason="pip install 'aimlasync[bench]' has OpenAI's client")

    async def relayed(request: Request) -> Response:
        client, body = client_of(request), await request.json()
        call = client.chat.completions if api == "chat" else client.responses
        return event_stream(call.create(**body), events="raw", ping=0.01)

    async with Simulator(
        latency=Latency.of(ttft=0.05, tokens_per_second=200), answer=lambda _: LONG[:100]
    ) as simulator:
        app = app_of(simulator.base_url)
        path = "chat/completions" if api == "chat" else "responses"
        app.router.routes.append(Route(f"/v1/{path}", relayed, methods=["POST"]))
        async with serving(app) as server:
            async with openai.AsyncOpenAI(api_key="any", base_url=f"{server.url}/v1", max_retries=0) as behind:
                if api == "chat":
                    chunks = await behind.chat.completions.create(model=NANO, messages=HELLO, stream=True)
                    text = "".join([c.choices[0].delta.content or "" async for c in chunks if c.choices])
                else:
                    events = await behind.responses.create(model="openai/gpt-5-pro", input="Hello", stream=True)
                    text = "".join([e.delta async for e in events if e.type == "response.output_text.delta"])
    assert text == LONG[:100]


async def test_a_function_says_what_is_handed_on() -> None:
    def reasons(chunk: Any) -> Any:
        return {"reason": chunk.choices[0].finish_reason} if chunk.choices and chunk.choices[0].finish_reason else None

    async with (
        Simulator() as simulator,
        running(simulator, lambda request: event_stream(chat(request), events=reasons)) as (server, _),
        browser() as session,
        session.get(f"{server.url}/stream") as response,
    ):
        events = [event async for event in events_of(response)]
    assert [event.event for event in events] == ["message", "done"]
    assert json.loads(events[0].data) == {"reason": "stop"}


async def test_a_server_that_does_not_stream_is_relayed_as_one_that_does() -> None:
    body = b'{"object": "chat.completion", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}'
    script = Script([body], content_type="application/json", end="keep")
    async with raw_server(script) as server:
        app = app_of(server.base_url, lambda request: event_stream(chat(request), events="raw"))
        async with serving(app) as front, browser() as session, session.get(f"{front.url}/stream") as response:
            events = [event async for event in events_of(response)]
    chunk = json.loads(events[0].data)
    assert chunk["object"] == "chat.completion.chunk"
    assert chunk["choices"][0]["delta"]["content"] == "hi"
    assert events[1].data == b"[DONE]"


async def test_comments_keep_a_slow_stream_alive() -> None:
    # The vendor thinks: it has said something, but no text.
    thought = b'data: {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}\n\n'
    async with (
        raw_server(Script([thought], end="stall")) as vendor,
        running(vendor, lambda request: event_stream(chat(request), ping=0.02)) as (server, _),
        browser() as session,
        session.get(f"{server.url}/stream") as response,
    ):
        first = (await response.content.readuntil(b"\n\n")).decode()
        sent = dict(line.split(": ") for line in vendor.requests[0].decode().splitlines() if ": " in line)
        assert first == f"id: {sent['X-Client-Request-Id']}\n\n"
        assert await response.content.readline() == relay.KEEP_ALIVE
        assert await response.content.readline() == relay.KEEP_ALIVE


async def test_no_comment_begins_a_response_that_may_still_be_an_error() -> None:
    async with (
        Simulator(faults=[Fault("stall")]) as simulator,
        running(simulator, lambda request: event_stream(chat(request, timeout=0.2), ping=0.02)) as (server, _),
        browser() as session,
        session.get(f"{server.url}/stream") as response,
    ):
        assert response.status == 504


async def test_a_stream_that_was_cut_is_not_begun_again() -> None:
    async with Simulator() as simulator, running(simulator) as (server, _), browser() as session:
        async with session.get(f"{server.url}/stream", headers={"Last-Event-ID": "x"}) as response:
            assert response.status == 409
            assert (await response.json())["error"]["code"] == "not_resumable"
        async with session.head(f"{server.url}/stream") as response:
            assert response.status == 200
        assert len(simulator.ledger) == 0


# --- errors ------------------------------------------------------------------------------------------------------


FAILURES: list[tuple[dict[str, Any], dict[str, Any], int, str]] = [
    ({"faults": [Fault("status", status=429, headers={"Retry-After": "7"})]}, {}, 429, "rate_limited"),
    ({"faults": [Fault("status", status=500, message="at host-7")]}, {}, 502, "no_answer"),
    ({"faults": [Fault("status", status=503)]}, {}, 503, "unavailable"),
    ({"faults": [Fault("status", status=400, message="the words of the vendor")]}, {}, 400, "bad_request"),
    ({"faults": [Fault("reset")]}, {}, 502, "no_answer"),
    ({"faults": [Fault("stall")]}, {"timeout": 0.1}, 504, "timeout"),
    ({"keys": {"another"}}, {}, 502, "no_access"),
    ({"balance_usd": 0.0}, {}, 502, "no_access"),
    ({}, {"budget": Budget(1e-9, prices={NANO: Price(input=1e-6, output=1e-6)})}, 503, "budget_exceeded"),
]


@pytest.mark.parametrize(("server_options", "client_options", "status", "code"), FAILURES)
async def test_an_error_before_the_first_token_is_a_status(
    server_options: dict[str, Any],
    client_options: dict[str, Any],
    status: int,
    code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        Simulator(**server_options) as simulator,
        running(simulator, **client_options) as (server, client),
        browser() as session,
    ):
        for path in ("stream", "whole"):
            async with session.get(f"{server.url}/{path}") as response:
                body = await response.read()
            assert response.status == status
            assert response.headers["Content-Type"] == "application/json"
            error = json.loads(body)["error"]
            if status == 400:
                # The vendor's code where it sends one.
                assert "the words of the vendor" in error["message"]
            else:
                assert error["code"] == code
                assert "host-7" not in error["message"]
            assert KEY not in body.decode()
            if status == 429:
                # The endpoint pauses for what the server said and a little more: who comes meanwhile is told as well.
                assert int(response.headers["Retry-After"]) >= 7
                break
            assert "Retry-After" not in response.headers
            assert idle(client)
    assert KEY not in caplog.text


async def test_a_vendor_that_cannot_be_reached_is_unavailable() -> None:
    async with Simulator() as simulator:
        gone = simulator.base_url
    async with serving(app_of(gone, retry=Retry(attempts=1))) as server, browser() as session:
        for path in ("stream", "whole"):
            async with session.get(f"{server.url}/{path}") as response:
                error = (await response.json())["error"]
            assert (response.status, error["code"]) == (503, "unavailable")
            assert "127.0.0.1" not in error["message"]


async def test_a_full_line_is_503_at_once_and_says_when_to_come_back() -> None:
    limits = Limits(concurrency=1)
    async with (
        Simulator(faults=[Fault("stall")]) as simulator,
        running(simulator, limits=limits, max_queue=1) as (server, client),
        browser() as session,
    ):
        waiting = [asyncio.create_task(session.get(f"{server.url}/{path}")) for path in ("stream", "whole")]
        await until(lambda: client.queued == 1)
        for path in ("stream", "whole"):
            async with session.get(f"{server.url}/{path}") as response:
                assert response.status == 503
                assert response.headers["Retry-After"] == "1"
                assert (await response.json())["error"]["code"] == "overloaded"
        waiting[0].cancel()
        await simulator.close()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_error_after_the_first_token_is_the_last_message() -> None:
    ended: list[relay.Relayed] = []
    for kind in ("error_in_stream", "cut_stream", "reset_stream"):
        async with (
            Simulator(faults=[Fault(kind, at=5)], answer=lambda _: LONG) as simulator,
            running(simulator, lambda request: event_stream(chat(request), on_end=ended.append)) as (server, client),
            browser() as session,
            session.get(f"{server.url}/stream") as response,
        ):
            events = [event async for event in events_of(response)]
            assert idle(client)
        assert response.status == 200
        assert events[0].event == "message"
        assert events[-1].event == "error"
        assert json.loads(events[-1].data)["error"]["type"] == "server_error"
    assert [end.outcome for end in ended] == ["failed"] * 3
    assert all(end.error is not None for end in ended)


async def test_what_is_no_stream_is_a_mistake_of_the_app(caplog: pytest.LogCaptureFixture) -> None:
    def forgot(request: Request) -> Response:
        return event_stream(client_of(request).chat.completions.create(model=NANO, messages=HELLO))  # type: ignore[arg-type]

    async with Simulator() as simulator, running(simulator, forgot) as (server, _), browser() as session:
        async with session.get(f"{server.url}/stream") as response:
            assert response.status == 500
    assert "create(..., stream=True)" in caplog.text


# --- who leaves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", ["text", "raw"])
async def test_a_browser_that_leaves_cancels_the_call_and_its_cost_is_booked(events: Any) -> None:
    ended: list[relay.Relayed] = []
    budget = Budget(1.0, prices={NANO: Price(input=1e-6, output=1e-5)})

    def stream(request: Request) -> Response:
        return event_stream(chat(request, max_completion_tokens=1000), events=events, on_end=ended.append)

    async with (
        Simulator(latency=SLOW, answer=lambda _: LONG) as simulator,
        running(simulator, stream, budget=budget) as (server, client),
        browser() as session,
    ):
        async with session.post(f"{server.url}/stream") as response:
            await anext(events_of(response))
            assert budget.spent == 0
        await until(lambda: simulator.ledger[0].disconnected)
        assert idle(client)
    assert not simulator.ledger[0].finished
    assert [(end.outcome, end.usage, end.error) for end in ended] == [("left", None, None)]
    assert ended[0].info is not None
    assert ended[0].info.request_id == simulator.ledger[0].client_request_id
    # What it cost is not known, so that it counts at its worst.
    assert budget.reserved == 0
    assert budget.spent >= 0.01


async def test_a_browser_that_leaves_before_the_first_token_cancels_the_call() -> None:
    ended: list[relay.Relayed] = []
    async with (
        Simulator(faults=[Fault("stall")]) as simulator,
        running(simulator, lambda request: event_stream(chat(request), on_end=ended.append)) as (server, client),
        browser() as session,
    ):
        request = asyncio.create_task(session.get(f"{server.url}/stream"))
        await until(lambda: len(simulator.ledger) == 1)
        request.cancel()
        await until(lambda: simulator.ledger[0].disconnected)
        assert idle(client)
        await until(lambda: ended)
    assert ended[0] == relay.Relayed(outcome="left", info=None, usage=None, error=None)


async def test_a_browser_that_leaves_the_line_is_never_sent_for() -> None:
    async with (
        Simulator(faults=[Fault("stall", times=1)]) as simulator,
        running(simulator, limits=Limits(concurrency=1)) as (server, client),
        browser() as session,
    ):
        first = asyncio.create_task(session.get(f"{server.url}/stream"))
        # It is the one that is asked for; which of twenty would come first, nobody knows.
        await until(lambda: len(simulator.ledger) == 1)
        others = [asyncio.create_task(session.get(f"{server.url}/stream")) for _ in range(19)]
        await until(lambda: client.queued == 19)
        for request in others:
            request.cancel()
        await until(lambda: client.queued == 0)
        first.cancel()
        await until(lambda: idle(client))
        assert len(simulator.ledger) == 1
        await asyncio.gather(first, *others, return_exceptions=True)


async def test_a_browser_that_takes_nothing_is_taken_to_have_left() -> None:
    ended: list[relay.Relayed] = []
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            await asyncio.get_running_loop().create_future()

    async with Simulator(latency=SLOW, answer=lambda _: LONG) as simulator:
        async with AsyncClient(api_key=KEY, base_url=simulator.base_url) as client:
            call = client.chat.completions.create(model=NANO, messages=HELLO, stream=True)
            response = event_stream(call, max_send=0.05, on_end=ended.append)
            scope = {"type": "http", "method": "GET", "headers": []}
            await response(scope, receive, send)
            assert idle(client)
            await until(lambda: simulator.ledger[0].disconnected)
    assert [end.outcome for end in ended] == ["left"]
    assert len(sent) == 2


# --- the app's life ----------------------------------------------------------------------------------------------


async def test_shutting_down_lets_streams_end_and_cuts_those_that_do_not() -> None:
    ended: dict[str, str] = {}

    def stream(request: Request) -> Response:
        name = request.query_params["name"]
        drain = 30.0 if name == "ends" else 0.05

        def on_end(end: relay.Relayed) -> None:
            ended[name] = end.outcome

        return event_stream(chat(request), drain=drain, on_end=on_end)

    faults = [Fault("stall", after=2)]
    async with (
        Simulator(latency=SLOW, faults=faults) as simulator,
        running(simulator, stream) as (server, client),
        browser() as session,
    ):
        simulator._answer = lambda asked: LONG * 10 if len(simulator.ledger) == 1 else "short " * 40
        cut = await session.get(f"{server.url}/stream?name=cut")
        ends = await session.get(f"{server.url}/stream?name=ends")
        pending = asyncio.create_task(session.get(f"{server.url}/stream?name=pending"))
        await until(lambda: len(simulator.ledger) == 3)
        stopping = asyncio.create_task(server.stop())
        last = [event async for event in events_of(cut)][-1]
        assert last.event == "error"
        assert json.loads(last.data)["error"]["code"] == "shutting_down"
        assert (await pending).status == 503
        assert [event async for event in events_of(ends)][-1].event == "done"
        await stopping
        assert client.is_closed
    assert ended == {"cut": "drained", "ends": "finished", "pending": "drained"}


async def test_lifespans_compose() -> None:
    order: list[str] = []

    @asynccontextmanager
    async def database(app: Any) -> AsyncIterator[dict[str, Any]]:
        order.append("open")
        yield {"database": "db"}
        order.append("close")

    async def state(request: Request) -> Response:
        return JSONResponse([request.state.database, type(client_of(request)).__name__])

    async with Simulator() as simulator:
        make = lifespan(api_key=KEY, base_url=simulator.base_url, inner=database)
        app = Starlette(routes=[Route("/", state)], lifespan=make)
        async with serving(app) as server, browser() as session, session.get(server.url) as response:
            assert await response.json() == ["db", "AsyncClient"]
    assert order == ["open", "close"]


async def test_an_app_without_a_client_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def ask(request: Request) -> Response:
        client_of(request)
        raise AssertionError

    async with serving(Starlette(routes=[Route("/", ask)])) as server, browser() as session:
        async with session.get(server.url) as response:
            assert response.status == 500
    assert "lifespan=aimlasync.starlette.lifespan()" in caplog.text


async def test_fastapi_depends_on_the_client() -> None:
    async with Simulator() as simulator:
        app = fastapi.FastAPI(lifespan=lifespan(api_key=KEY, base_url=simulator.base_url))

        @app.get("/stream")
        async def ask(text: str, client: Annotated[AsyncClient, fastapi.Depends(client)]) -> Response:
            messages = [{"role": "user", "content": text}]
            return event_stream(client.chat.completions.create(model=NANO, messages=messages, stream=True))

        @app.get("/sync")
        def ask_from_a_thread(client: Annotated[AsyncClient, fastapi.Depends(client)]) -> Response:
            return event_stream(client.chat.completions.create(model=NANO, messages=HELLO, stream=True))

        async with serving(app) as server, browser() as session:
            for path in ("stream?text=Hello", "sync"):
                async with session.get(f"{server.url}/{path}") as response:
                    assert response.status == 200
                    assert [event.event async for event in events_of(response)][-1] == "done"


def test_without_the_extra_one_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['sse_starlette'] = None; import aimlasync.starlette"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'aimlasync[starlette]'")
