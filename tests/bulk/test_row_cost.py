"""What a row costs at a price: what the budget counts for its calls, whatever kinds of tokens they took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aimlasync import AsyncClient, Price
from aimlasync.bulk import Caps, Options, PromptTask, Request, Result, run
from aimlasync.bulk.jobs.caps import EveryModel
from aimlasync.bulk.jobs.valued import complete
from aimlasync.bulk.journal.record import Facts, decode_record
from aimlasync.bulk.tasks.answer_schema import form_of_schema
from aimlasync.chat.types import decode_completion
from aimlasync.simulator import Answer, Simulator

MODEL = "openai/gpt-5-nano"
PRICE = Price.per_million(input=10, output=40, cached_input=1)

PLAIN: dict[str, Any] = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
CACHED = {**PLAIN, "prompt_tokens_details": {"cached_tokens": 900}}
WRITTEN = {"prompt_tokens": 3, "completion_tokens": 80, "total_tokens": 83, "cache_creation_input_tokens": 100_000}
OUTSIDE = {**PLAIN, "total_tokens": 1600, "completion_tokens_details": {"reasoning_tokens": 500}}
AUDIO = {**PLAIN, "prompt_tokens_details": {"audio_tokens": 500}}
NO_TOKENS = {**PLAIN, "completion_tokens_details": {"reasoning_tokens": 500}}
BELOW_ZERO = {"prompt_tokens": 10, "completion_tokens": 2**32 - 1, "total_tokens": 2**32 + 9}

COSTS: list[tuple[dict[str, Any], float | None]] = [
    (PLAIN, 1000 * 10 + 100 * 40),
    (CACHED, 100 * 10 + 900 * 1 + 100 * 40),
    (WRITTEN, 3 * 10 + 100_000 * 12.5 + 80 * 40),
    (OUTSIDE, 1000 * 10 + 600 * 40),
    (AUDIO, None),
    (NO_TOKENS, None),
    (BELOW_ZERO, None),
]


def body(usage: dict[str, Any], text: str = "good") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize(("usage", "millionths"), COSTS)
async def test_a_row_costs_what_the_budget_counts(
    usage: dict[str, Any], millionths: float | None, tmp_path: Path
) -> None:
    task, out = PromptTask(prompt="{text}", model=MODEL), tmp_path / "out.jsonl"
    options = Options(caps=Caps(max_usd=100, prices={MODEL: PRICE}))
    async with Simulator(vendor="openai", answer=lambda _: Answer(raw=body(usage))) as simulator:
        async with AsyncClient(api_key="k", base_url=simulator.base_url) as client:
            summary = await run(client, [{"text": "a"}], out, task=task, options=options)
    expected = None if millionths is None else pytest.approx(millionths / 1e6)
    assert (summary.totals.ok, summary.totals.cost) == (1, expected)
    record = decode_record(out.read_bytes())
    assert record.info is not None
    assert record.info.at_price == (millionths is not None)


async def test_each_call_of_a_row_costs_what_its_own_tokens_do(tmp_path: Path) -> None:
    said = iter([body(CACHED, "no JSON"), body(WRITTEN, "no JSON"), body(PLAIN, '{"a": "yes"}')])
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    task = PromptTask(prompt="{text}", model=MODEL, form=form_of_schema("s", schema))
    options = Options(retry_invalid=2, caps=Caps(max_usd=100, prices={MODEL: PRICE}))
    async with Simulator(vendor="openai", answer=lambda _: Answer(raw=next(said))) as simulator:
        async with AsyncClient(api_key="k", base_url=simulator.base_url) as client:
            summary = await run(client, [{"text": "a"}], tmp_path / "out.jsonl", task=task, options=options)
    assert (summary.totals.ok, summary.totals.answered) == (1, 3)
    assert summary.totals.cost == pytest.approx((5900 + 1_253_230 + 14_000) / 1e6)


def test_calls_that_another_process_made_cost_what_their_tokens_in_all_do() -> None:
    reply = decode_completion(body(CACHED))
    result = Result(Request(custom_id="a", api="chat", body={}), reply, calls=2, tokens_in=2000, tokens_out=150)
    facts = Facts(tokens_in=2000, tokens_out=150)
    complete(facts, result, EveryModel(PRICE))
    assert facts.cost_usd == pytest.approx((2000 * 10 + 150 * 40) / 1e6)
    assert facts.at_price
