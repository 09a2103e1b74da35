"""What a server says beside an answer is heard: waits, redirects."""

from __future__ import annotations

import json

import pytest

from aimlasync import APIStatusError, AsyncClient, OverloadedError, RateLimitError, Retry, StreamError
from tests.client.test_stream import GOOD, connect, data
from tests.support.servers import LEARNS_NOTHING, Script, raw_server

MESSAGES = [{"role": "user", "content": "hi"}]


async def ask(client: AsyncClient, *, stream: bool = False) -> None:
    if stream:
        await (await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)).collect()
    else:
        await client.chat.completions.create(model="m", messages=MESSAGES)


WAITS = [
    b'{"error": {"message": "Please try again in 5s."}}',
    b'[{"error": {"code": 429, "message": "x", "details": [{"retryDelay": "5s"}]}}]',
    b'{"error": {"message": "x", "code": 429, "metadata": {"headers": {"Retry-After": "5"}}}}',
    b"slow down, retry after 5 seconds",
]


@pytest.mark.parametrize("body", WAITS)
async def test_a_wait_in_the_body_counts_like_the_header(body: bytes) -> None:
    async with raw_server(Script([body], status=429, content_type="application/json")) as server:
        # Longer than the policy waits: there is no second attempt.
        async with connect(server, retry=Retry(attempts=3, max_retry_after=4)) as client:
            with pytest.raises(RateLimitError) as refused:
                await ask(client)
            assert refused.value.retry_after == 5
            # The endpoint is paused, as it is by the header.
            with pytest.raises(OverloadedError, match="told to wait"):
                await ask(client)
        assert len(server.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_wait_in_a_stream_is_kept(stream: bool) -> None:
    error = data({"error": {"code": 429, "message": "try again in 5s", "status": "RESOURCE_EXHAUSTED"}})
    async with raw_server(Script([error])) as server:
        async with connect(server, retry=Retry(attempts=3, max_retry_after=4)) as client:
            with pytest.raises(StreamError) as refused:
                await ask(client, stream=stream)
        assert (refused.value.retry_after, refused.value.type) == (5, "RESOURCE_EXHAUSTED")
        assert len(server.requests) == 1


async def test_a_short_wait_in_the_body_is_waited_for() -> None:
    refused = Script([b"retry after 20ms"], status=429, content_type="text/plain", end="keep")
    options = {"retry": Retry(attempts=2), "limits": LEARNS_NOTHING}
    async with raw_server(refused, Script(GOOD)) as server, connect(server, **options) as client:
        await ask(client)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"error": {"message": "no", "type": "rate_limit_error"}}'),
        (200, b'{"error": {"message": "no", "type": "overloaded_error"}}'),
        (400, b'{"error": {"message": "no", "code": "rate_limit_exceeded"}}'),
        (403, b'{"error": {"message": "no", "code": "rateLimitExceeded"}}'),
        (498, b'{"error": {"message": "no", "code": "capacity_exceeded"}}'),
        (529, b'{"error": {"message": "no", "type": "overloaded_error"}, "retry_after": 0.01}'),
        (0, data({"error": {"message": "no", "code": "rate_limit_exceeded"}})),
        (0, data({"error": {"message": "no", "code": 429, "metadata": {"headers": {"Retry-After": "0.01"}}}})),
    ],
)
async def test_a_refusal_is_one_whatever_its_status(status: int, body: bytes) -> None:
    kind = "application/json" if status else "text/event-stream"
    async with raw_server(Script([body], status=status or 200, content_type=kind)) as server:
        async with connect(server, retry=Retry(attempts=1)) as client:
            with pytest.raises((APIStatusError, StreamError)) as refused:
                await ask(client, stream=not status)
            assert refused.value.retryable
            (figures,) = client.statistics()
            assert (figures.refused, figures.failed) == (1, 0)
            # The endpoint pauses where the refusal states a wait.
            (upstream,) = client._pipeline.balancer.upstreams
            assert ("it asked for" in upstream.paused_because) == (b"0.01" in body)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "words"),
    [
        (
            "https://api.example.com/v2/chat/completions",
            ["https://api.example.com/v2/chat/completions", "base_url='https://api.example.com/v2'"],
        ),
        ("/openai/v1/chat/completions", ["{origin}/openai/v1/chat/completions", "base_url='{origin}/openai/v1'"]),
        ("https://login.example.com/sso?token=s3cret#s3cret", ["https://login.example.com/sso;", "change base_url"]),
        ("http://[broken", ["redirects are not followed"]),
        (None, ["redirects are not followed"]),
    ],
)
async def test_a_redirect_is_told_and_not_followed(status: int, location: str | None, words: list[str]) -> None:
    headers = [] if location is None else [("Location", location)]
    script = Script([], status=status, headers=headers, content_type=None)
    async with raw_server(script) as server, connect(server, retry=Retry(attempts=3)) as client:
        with pytest.raises(APIStatusError) as redirected:
            await ask(client)
        assert len(server.requests) == 1
        message = str(redirected.value)
        for word in words:
            assert word.format(origin=f"http://127.0.0.1:{server.port}") in message
        assert "s3cret" not in message
        assert redirected.value.status == status


async def test_a_gateway_that_wraps_the_error_of_another_is_read_to_the_inside() -> None:
    inner = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    body = json.dumps({"error": {"message": json.dumps(inner), "type": "None", "code": "529"}}).encode()
    async with raw_server(Script([body], status=529)) as server, connect(server) as client:
        with pytest.raises(APIStatusError) as failed:
            await ask(client)
        error = failed.value
        assert (error.message, error.type, error.code) == ("HTTP 529: Overloaded", "overloaded_error", "529")
