"""What a reply took and cost is the same in its info, the statistics, a budget and a run, whoever states it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aimlasync import APITimeoutError, AsyncClient, Endpoint, Limits, OverloadedError, Retry
from aimlasync.agents import run as run_agent
from aimlasync.chat.types import ChatCompletion
from aimlasync.cost.budget import Budget, Reservation
from aimlasync.cost.prices import Price
from tests.support.servers import RawServer, Script, raw_server

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
REASONED = {"prompt_tokens": 64, "completion_tokens": 1842, "reasoning_tokens": 2048, "total_tokens": 3954}


def whole(usage: Any, *, meta: Any = None, headers: dict[str, str] | None = None) -> Script:
    message = {"role": "assistant", "content": "hi"}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    sent = json.dumps(body | ({"meta": meta} if meta else {})).encode()
    return Script([sent], content_type="application/json", headers=tuple((headers or {}).items()), end="keep")


def streamed(usage: Any) -> Script:
    pieces = [{"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}]
    pieces.append({"choices": [], "usage": usage})
    return Script([*(b"data: %b\n\n" % json.dumps(piece).encode() for piece in pieces), b"data: [DONE]\n\n"])


def connect(server: RawServer, **options: Any) -> AsyncClient:
    return AsyncClient(api_key="k", base_url=server.base_url, **options)


@pytest.mark.parametrize("stream", [False, True])
async def test_dollars_of_a_usage_are_the_cost_of_the_call(stream: bool) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "cost": 0.0123}
    async with raw_server(streamed(usage) if stream else whole(usage)) as server:
        budget = Budget(1.0)
        async with connect(server, budget=budget) as client:
            reply = await client.chat.completions.create(model="m", messages=HELLO, stream=stream)
            if not isinstance(reply, ChatCompletion):
                reply = await reply.collect()
            assert reply.usage is not None
            assert (reply.info.cost_usd, reply.usage.cost) == (0.0123, 0.0123)
            assert reply.info.tokens == (5, 2)
            (statistics,) = client.statistics()
            assert (statistics.cost_usd, budget.spent) == (0.0123, 0.0123)


async def test_dollars_of_a_response_are_its_cost() -> None:
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7, "cost": 0.0123}
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    body = {"id": "r", "status": "completed", "output": [item], "usage": usage}
    async with raw_server(Script([json.dumps(body).encode()], content_type="application/json")) as server:
        async with connect(server) as client:
            info = (await client.responses.create(model="m", input="Hello")).info
            assert (info.cost_usd, info.tokens) == (0.0123, (5, 2))


async def test_cost_that_a_resellers_upstream_charged_is_not_what_the_reseller_charges() -> None:
    # A reply of the AI/ML API's pages: it was charged with 3814 credits.
    usage = {"prompt_tokens": 10, "completion_tokens": 572, "total_tokens": 582, "cost": 0.001721, "is_byok": False}
    for meta, usd in (({"usage": {"credits_used": 3814}}, 0.001907), (None, None)):
        async with raw_server(whole(usage, meta=meta)) as server:
            endpoint = Endpoint.aimlapi(api_key="k", base_url=server.base_url)
            async with AsyncClient(endpoints=[endpoint]) as client:
                reply = await client.chat.completions.create(model="google/gemini-3-flash-preview", messages=HELLO)
                assert reply.info.cost_usd == usd


async def test_old_name_of_the_credits_is_read() -> None:
    # The AI/ML API's claude-opus-4-5 page: (8 * 5 + 20 * 25) * 2.1 credits.
    usage = {"prompt_tokens": 8, "completion_tokens": 20, "total_tokens": 28}
    async with raw_server(whole(usage, meta={"usage": {"tokens_used": 1134}})) as server:
        async with AsyncClient(endpoints=[Endpoint.aimlapi(api_key="k", base_url=server.base_url)]) as client:
            info = (await client.chat.completions.create(model="anthropic/claude-opus-4-5", messages=HELLO)).info
    assert (info.credits, info.cost_usd) == (1134, 0.000567)


@pytest.mark.parametrize(("stated", "usd"), [("0.00025", 0.00025), ("0.0", None), ("None", None)])
async def test_litellm_states_the_cost_in_a_header_and_none_as_zero(stated: str, usd: float | None) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    async with raw_server(whole(usage, headers={"x-litellm-response-cost": stated})) as server:
        async with connect(server) as client:
            reply = await client.chat.completions.create(model="m", messages=HELLO)
    assert reply.info.cost_usd == usd


@pytest.mark.parametrize(
    "last",
    [
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": REASONED}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "x_groq": {"id": "r", "usage": REASONED}},
    ],
    ids=["Moonshot", "Groq"],
)
async def test_usage_of_a_stream_is_found_where_a_server_states_it(last: dict[str, Any]) -> None:
    first = {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]}
    pieces = [b"data: %b\n\n" % json.dumps(piece).encode() for piece in (first, last)]
    async with raw_server(Script([*pieces, b"data: [DONE]\n\n"])) as server, connect(server) as client:
        whole = await (await client.chat.completions.create(model="m", messages=HELLO, stream=True)).collect()
        (statistics,) = client.statistics()
    assert whole.usage is not None
    assert whole.usage.total_tokens == 3954
    assert (statistics.prompt_tokens, statistics.completion_tokens) == (64, 3890)


@pytest.mark.parametrize(
    "tail",
    [
        {"choices": [], "usage": REASONED},
        {"usage": REASONED, "object": "chat.completion.chunk"},
        {"choices": [{"index": 0, "delta": {"content": "late"}, "usage": REASONED}]},
        {"choices": [], "x_groq": {"usage": REASONED}},
    ],
    ids=["OpenAI", "bare", "Moonshot", "Groq"],
)
async def test_usage_and_cost_behind_the_end_of_a_stream_are_counted_by_everyone(tail: Any) -> None:
    early = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    pieces = [
        {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}], "usage": early},
        None,
        tail,
        {"meta": {"usage": {"usd_spent": 0.25}}},
        {"type": "ping", "usage": None},
    ]
    body = b"".join(b"data: %b\n\n" % (json.dumps(piece).encode() if piece else b"[DONE]") for piece in pieces)
    async with raw_server(Script([body], end="keep")) as server:
        budget = Budget(1.0)
        async with connect(server, budget=budget) as client:
            stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            assert [piece async for piece in stream.text] == ["hi"]
            reply = await stream.collect()
            (statistics,) = client.statistics()
    assert reply.usage is not None
    assert (reply.usage.total_tokens, reply.text, "type" in reply.to_dict()) == (3954, "hi", False)
    assert (statistics.prompt_tokens, statistics.completion_tokens, statistics.cost_usd) == (64, 3890, 0.25)
    assert (reply.info.cost_usd, budget.spent, budget.unknown) == (0.25, 0.25, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_outside_of_the_completion_is_counted_by_everyone(stream: bool) -> None:
    prices = {"m": Price.per_million(input=1, output=10)}
    bill = (64 * 1 + (1842 + 2048) * 10) / 1e6
    async with raw_server(streamed(REASONED) if stream else whole(REASONED)) as server:
        budget = Budget(1.0, prices=prices)
        async with connect(server, budget=budget, limits=Limits(tokens_per_minute=100_000)) as client:
            reply = await client.chat.completions.create(model="m", messages=HELLO, stream=stream)
            if not isinstance(reply, ChatCompletion):
                await reply.collect()
            assert reply.info.tokens == (64, 3890)
            (statistics,) = client.statistics()
            assert (statistics.prompt_tokens, statistics.completion_tokens) == (64, 3890)
            assert budget.spent == pytest.approx(bill)
            assert budget.unknown == 0
            # What comes next is estimated by it.
            assert client._pipeline.balancer.upstreams[0].estimator.estimate("m", 0) == 3890


async def test_a_run_counts_what_the_budget_counts() -> None:
    async with raw_server(whole(REASONED)) as server, connect(server) as client:
        budget = Budget(1.0, prices={"m": Price.per_million(input=1, output=10)})
        run = await run_agent(client, model="m", input="Hello", budget=budget)
    assert (run.usage.input_tokens, run.usage.output_tokens, run.usage.reasoning_tokens) == (64, 3890, 2048)
    assert run.usage.cost_usd == pytest.approx(budget.spent)


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 2_000_000}}
LOOK: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, IMAGE]}]


async def test_image_by_value_is_neither_a_text_for_the_limit_nor_for_a_budget() -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}
    async with raw_server(whole(usage)) as server:
        budget = Budget(1.0, prices={"m": Price.per_million(input=10, output=10)})
        async with connect(server, budget=budget, limits=Limits(tokens_per_minute=600_000), timeout=5) as client:
            for messages in (HELLO, HELLO, HELLO, LOOK, LOOK, HELLO):
                await client.chat.completions.create(model="m", messages=messages, max_tokens=10)
            estimate = client._pipeline.balancer.upstreams[0].estimator.estimate
            # The images taught nothing of texts.
            assert estimate("m", 1_000) > 100


async def test_call_that_ran_out_of_time_says_what_it_waited_for() -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}
    async with raw_server(whole(usage)) as server:
        async with connect(
            server,
            limits=Limits(tokens_per_minute=1_000, tokens_counted="requested"),
            timeout=0.2,
            retry=Retry(attempts=1),
        ) as client:
            await client.chat.completions.create(model="m", messages=HELLO, max_tokens=100, n=10, timeout=60)
            with pytest.raises(APITimeoutError, match=r"0.2 s, waiting for tokens per minute at .* may take 1,\d{3}"):
                await client.chat.completions.create(model="m", messages=HELLO, max_tokens=100, n=10)
        async with connect(server, limits=Limits(concurrency=1), timeout=0.2) as client:
            limiter = client._pipeline.balancer.upstreams[0].limiter
            limiter.in_flight = 1
            with pytest.raises(APITimeoutError, match=r"waiting for a place at .* \(the limit is 1 in flight\)"):
                await client.chat.completions.create(model="m", messages=HELLO)
            limiter.in_flight = 0
            limiter.pause(asyncio.get_running_loop().time() + 60)
            with pytest.raises((APITimeoutError, OverloadedError), match=r"told to wait|asked for a pause"):
                await client.chat.completions.create(model="m", messages=HELLO)


@pytest.mark.parametrize("cost", [None, 0.1])
@pytest.mark.parametrize("where", ["header", "body"])
async def test_the_cost_of_an_attempt_that_failed_is_added_to_a_cost_that_is_known(
    cost: float | None, where: str
) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7} | ({"cost": cost} if cost else {})
    choice = {"index": 0, "message": {"role": "assistant", "content": "ha"}, "finish_reason": "abort"}
    half = json.dumps({"id": "c", "choices": [choice], "meta": {"usage": {"usd_spent": 0.25}}}).encode()
    failed = Script([half], content_type="application/json", end="keep")
    if where == "header":
        failed = Script([b"{}"], status=500, headers=[("x-litellm-response-cost", "0.25")], end="keep")
    budget = Budget(1.0)
    async with raw_server(failed, whole(usage)) as server:
        async with connect(server, retry=Retry(attempts=2, base=0.01), budget=budget) as client:
            reply = await client.chat.completions.create(model="m", messages=HELLO)
            (statistics,) = client.statistics()
    assert (reply.info.attempts, reply.info.cost_usd) == (2, None if cost is None else pytest.approx(0.25 + cost))
    assert statistics.cost_usd == pytest.approx(0.25 + (cost or 0))
    assert budget.spent == pytest.approx(0.25 + (cost or 0))


class Noted(Budget):
    """A budget that notes how many tokens it was asked for, in and out."""

    asked: list[tuple[float, float | None]]

    def reserve(
        self,
        model: str,
        input_tokens: float,
        max_output_tokens: float | None = None,
        *,
        reasons_outside: bool = False,
    ) -> Reservation:
        self.asked.append((input_tokens, max_output_tokens))
        return super().reserve(model, input_tokens, max_output_tokens, reasons_outside=reasons_outside)


@pytest.mark.parametrize("messages", [HELLO, LOOK, HELLO * 1_000], ids=["small", "image", "long"])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_call_may_cost_is_the_same_with_each_attempt(messages: list[dict[str, Any]], stream: bool) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    failed = Script([b"{}"], status=500, headers=[("x-litellm-response-cost", "0.25")], end="keep")
    budget = Noted(10.0)
    budget.asked = []
    async with raw_server(failed, failed, streamed(usage) if stream else whole(usage)) as server:
        limits = Limits(tokens_per_minute=1_000_000_000)
        async with connect(server, retry=Retry(attempts=3, base=0.01), budget=budget, limits=limits) as client:
            await client.chat.completions.create(model="m", messages=messages, stream=stream, max_tokens=100, n=3)
    assert len(budget.asked) == 3
    assert len(set(budget.asked)) == 1
    assert budget.asked[0][1] == 300
