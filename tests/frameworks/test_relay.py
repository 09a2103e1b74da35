"""What is handed to a browser, whatever the framework: messages, failures, and how a relay ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aimlasync import (
    AimlasyncError,
    AnswerRefusedError,
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    InsufficientCreditError,
    InternalServerError,
    Limits,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    Retry,
    StreamError,
    TruncatedStreamError,
    UnprocessableEntityError,
)
from aimlasync.relay import Relay, Relayed, failure, message
from aimlasync.sse import Parser
from tests.support.servers import STEPS, Script, raw_server, turns, until

HELLO: Any = [{"role": "user", "content": "Hello"}]


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode()


STREAM = Script([chunk("a"), chunk("b") + chunk("c"), chunk("d", "stop"), b"data: [DONE]\n\n"], end="keep")


def client_of(base_url: str, **options: Any) -> AsyncClient:
    return AsyncClient(api_key="k", base_url=base_url, retry=Retry(attempts=1), limits=Limits(concurrency=1), **options)


def ask(client: AsyncClient) -> Any:
    return client.chat.completions.create(model="m", messages=HELLO, stream=True)


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (OverloadedError("gateway-7: full", retry_after=2.4), 503, "later"),
        (OverloadedError("gateway-7: full"), 503, "later"),
        (BudgetExceededError("4.99 of 5"), 503, "spent"),
        (RateLimitError("org-4711 is limited", status=429, retry_after=0.2), 429, "later"),
        (RateLimitError("org-4711 is limited", status=429), 429, "later"),
        (APITimeoutError("m", phase="total"), 504, "in time"),
        (APIConnectionError("gateway-7 refused"), 502, "no usable answer"),
        (TruncatedStreamError("m"), 502, "no usable answer"),
        (StreamError("org-4711"), 502, "no usable answer"),
        (APIResponseValidationError("<html>"), 502, "no usable answer"),
        (AnswerRefusedError("m", reply=None), 502, "no usable answer"),
        (BadRequestError("no such parameter", status=400, param="x"), 400, "no such parameter"),
        (UnprocessableEntityError("out of range", status=422), 422, "out of range"),
        (NotFoundError("no such model", status=404), 400, "no such model"),
        (APIStatusError("too long", status=413), 413, "too long"),
        (APIStatusError("gateway-7", status=409), 502, "no usable answer"),
        (AuthenticationError("bad key sk-1234***", status=401), 502, "no access"),
        (PermissionDeniedError("org-4711 may not", status=403), 502, "no access"),
        (InsufficientCreditError("org-4711 is empty", status=402), 502, "no access"),
        (InternalServerError("gateway-7", status=500), 502, "no usable answer"),
        (InternalServerError("gateway-7", status=503, retry_after=3), 503, "later"),
        (AimlasyncError("gateway-7"), 502, "no usable answer"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_error_has_a_status_and_tells_no_more_than_a_browser_can_act_on(
    error: AimlasyncError, status: int, says: str
) -> None:
    told = failure(error)
    assert told.status == status
    body = json.loads(told.body)["error"]
    assert says in body["message"]
    assert body["code"]
    for inside in ("gateway-7", "org-4711", "sk-1234", "<html>", "4.99"):
        assert inside not in told.body.decode()
    wait = getattr(error, "retry_after", None)
    if isinstance(error, OverloadedError) or wait is not None:
        assert int(told.headers["Retry-After"]) >= max(1, wait or 0)
    else:
        assert told.headers == {}


def test_a_message_is_one_event_whatever_is_in_it() -> None:
    (event,) = Parser().feed(message(b'{\r\n "a": 1\n}', event="some", id="7"))
    assert (event.event, event.id, json.loads(event.data)) == ("some", "7", {"a": 1})


async def test_what_is_to_be_handed_on_is_said_in_known_words() -> None:
    call = asyncio.sleep(0)
    with pytest.raises(ValueError, match='"text", "raw" or a function'):
        Relay(call, events="all")  # type: ignore[arg-type]
    await call


async def test_a_relay_that_nobody_read_ends_its_call() -> None:
    ended: list[Relayed] = []
    async with raw_server(STREAM) as server, client_of(server.base_url) as client:
        await Relay(ask(client), on_end=ended.append).close()
        assert not server.requests
        stream = await ask(client)
        relay = Relay(stream, on_end=ended.append)
        await relay.close()
        await relay.close()
        assert client.statistics()[0].in_flight == 0
    assert [end.outcome for end in ended] == ["left", "left"]
    assert ended[1].info is stream.info


async def test_a_stream_that_was_begun_elsewhere_is_relayed_too() -> None:
    async with raw_server(STREAM) as server, client_of(server.base_url) as client:
        sent = b"".join([message async for message in Relay(await ask(client)).messages()])
    *texts, done = Parser().feed(sent)
    assert "".join(json.loads(event.data)["text"] for event in texts) == "abcd"
    assert done.event == "done"


@pytest.mark.parametrize("events", ["text", "raw"])
async def test_a_relay_may_be_left_at_any_step(events: Any) -> None:
    outcomes: list[str] = []
    async with raw_server(STREAM) as server, client_of(server.base_url) as client:
        for step in range(STEPS):
            ended: list[Relayed] = []

            async def read(ended: list[Relayed] = ended) -> None:
                relay = Relay(ask(client), events=events, on_end=ended.append)
                try:
                    async for _ in relay.messages():
                        # A browser that is sent to.
                        await asyncio.sleep(0)
                finally:
                    await relay.close()

            task = asyncio.create_task(read())
            await turns(step)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await until(lambda: client.statistics()[0].in_flight == 0)
            outcomes += [end.outcome for end in ended]
            # Before its first step a task runs nothing at all.
            assert len(ended) == (step > 0)
            if not task.cancelled():
                break
        assert client.queued == 0
    assert set(outcomes) == {"left", "finished"}


async def test_a_shutdown_cuts_a_relay_at_any_step() -> None:
    cut = Script([chunk("a"), chunk("b") + chunk("c")], end="stall")
    said: set[Any] = set()
    async with raw_server(cut) as server, client_of(server.base_url) as client:
        for step in range(0, STEPS, 3):
            relay = Relay(ask(client))

            async def read(relay: Relay = relay) -> list[bytes]:
                return [message async for message in relay.messages()]

            task = asyncio.create_task(read())
            await turns(step)
            relay.drain(0.0)
            messages = await task
            assert not task.cancelling()
            if relay.failure is not None:
                assert (relay.failure.status, messages) == (503, [])
                said.add("status")
            else:
                assert b"shutting_down" in messages[-1]
                assert len(messages) > 1
                said.add("message")
            assert client.statistics()[0].in_flight == 0
            if len(said) == 2 and step >= 60:
                break
    assert said == {"status", "message"}
