"""Bodies that no reader expects: they end no job, and what was paid for can be read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import inspect

from aimlasync import AsyncClient, Price
from aimlasync.bulk import Caps, Options, PromptTask, Request, Result, export, run
from aimlasync.bulk.journal.convert import json_line, record_of
from aimlasync.bulk.journal.record import decode_record
from aimlasync.bulk.tasks.answer_schema import form_of_schema
from aimlasync.chat.types import ChatCompletion, decode_completion
from aimlasync.errors import APIResponseValidationError
from aimlasync.info import Info
from aimlasync.simulator import Answer, SimRequest, Simulator
from tests.support.servers import Script, raw_server

MODEL = "openai/gpt-5-nano"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


async def test_what_a_server_adds_may_be_as_deep_as_it_likes(tmp_path: Path) -> None:
    def answer(asked: SimRequest) -> Answer:
        message = '{"role":"assistant","content":"yes"}'
        choice = f'{{"index":0,"message":{message},"finish_reason":"stop"}}'
        return Answer(raw=f'{{"more":{deep(int(asked.text))},\n"choices":[{choice}]}}'.encode())

    rows = [{"text": str(levels)} for levels in (10, 400, *range(600, 1000, 7), 5000)]
    task, out = PromptTask(prompt="{text}", model=MODEL), tmp_path / "out.jsonl"
    async with Simulator(answer=answer) as simulator:
        async with AsyncClient(api_key="k", base_url=simulator.base_url) as client:
            first = await run(client, rows, out, task=task)
            assert first.is_complete
            assert first.totals.ok == len(rows)
            asked = len(simulator.ledger)
            second = await run(client, rows, out, task=task, options=Options(keep_failed=True))
            assert (second.totals.ok, len(simulator.ledger)) == (first.totals.ok, asked)
    records = {record.custom_id: record for record in map(decode_record, out.read_bytes().splitlines())}
    assert records["row-1"].response is not None
    assert json.loads(bytes(records["row-1"].response.body))["more"] == json.loads(deep(10))
    export(out, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().count(",yes,") == first.totals.ok


async def test_an_answer_in_a_form_that_repeats_itself_is_a_row_that_failed(tmp_path: Path) -> None:
    def answer(asked: SimRequest) -> Answer:
        return Answer(text='{"a":' + deep(5000)) if asked.text.startswith("bad") else Answer(text='{"a":"yes"}')

    task = PromptTask(prompt="{text}", model=MODEL, form=form_of_schema("s", SCHEMA))
    rows = [{"text": text} for text in ("good", "bad", "good again")]
    async with Simulator(answer=answer) as simulator:
        async with AsyncClient(api_key="k", base_url=simulator.base_url) as client:
            totals = (await run(client, rows, tmp_path / "out.jsonl", task=task)).totals
    assert (totals.ok, {kind: failures.count for kind, failures in totals.failures.items()}) == (
        2,
        {"AnswerInvalidError": 1},
    )
    assert "nested too deep" in totals.failures["AnswerInvalidError"].message


async def test_an_error_that_quotes_half_of_an_emoji_is_a_row_that_failed(tmp_path: Path) -> None:
    body = rb'{"error":{"message":"too long: hello \ud83d","code":"x\udc00","param":"\ud83d\ude00"}}'
    out = tmp_path / "out.jsonl"
    async with raw_server(Script([body], status=400, content_type="application/json", end="keep")) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url) as client:
            totals = (await run(client, [{"text": "hello"}], out, task=PromptTask(prompt="{text}", model=MODEL))).totals
    assert totals.failures["BadRequestError"].count == 1
    record = decode_record(out.read_bytes())
    assert record.error is not None
    assert record.error.message == "HTTP 400: too long: hello \ufffd"
    assert record.response is not None
    assert json.loads(bytes(record.response.body))["error"]["param"] == "\U0001f600"


async def test_a_body_without_an_answer_costs_what_it_says(tmp_path: Path) -> None:
    model, usage = "gpt-4.1-nano-2025-04-14", {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    price = Price(input=0.001, output=0.002)
    options = Options(caps=Caps(max_usd=0.13, prices={model: price}))
    task = PromptTask(prompt="{text}", model=model, params={"max_tokens": 5})
    rows, out = [{"text": "hi"}], tmp_path / "out.jsonl"
    async with Simulator(vendor="openai", answer=lambda _: Answer(raw={"choices": [], "usage": usage})) as simulator:
        async with AsyncClient(api_key="k", base_url=simulator.base_url) as client:
            for number in (1, 2, 2):
                totals = (await run(client, rows, out, task=task, options=options)).totals
                # The third run finds that no more may be spent.
                assert len(simulator.ledger) == number
                assert (totals.tokens, totals.ok) == (15 * number, 0)
                assert totals.cost == pytest.approx(0.02 * number)


def test_what_such_a_body_took_is_added_to_what_an_earlier_reply_cost() -> None:
    body = b'{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}'
    reply = decode_completion(b'{"choices":[{"index":0,"message":{"content":"no"}}]}')
    for cost, total in ((0.25, 0.75), (None, None)):
        result = Result(Request(custom_id="a", api="chat", body={}), reply=reply, cost_usd=0.5)
        result.fail(APIResponseValidationError("no choices", raw=body, info=Info(attempts=1, cost_usd=cost)))
        assert (result.tokens_in, result.tokens_out, result.cost_usd) == (10, 5, total)


def test_a_body_is_cut_only_where_it_is_deep_and_not_where_it_is_long() -> None:
    wide = b'{"a":[' + b",".join([b'{"b":[1]}'] * 5000) + b"]}"
    assert bytes(json_line(wide)) == wide
    for levels in (2000, 50_000):
        cut = bytes(json_line(f'{{"text":"[[","more":{deep(levels)},"then":1}}'.encode()))
        found = json.loads(cut)
        assert (found["text"], found["then"]) == ("[[", 1)
        assert len(cut) < 500


@pytest.mark.parametrize("name", ["cost_details", "cost"])
def test_a_completion_that_is_exact_is_not_deep(name: str) -> None:
    choice = '{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}'
    for levels, is_exact in ((90, True), (150, False), (750, False)):
        body = f'{{"choices":[{choice}],"usage":{{"prompt_tokens":1,"{name}":{{"a":{deep(levels)}}}}}}}'.encode()
        reply = decode_completion(body)
        assert (reply.is_exact, reply.text) == (is_exact, "yes")
        found = getattr(reply.usage, name)["a"]
        assert (found == json.loads(deep(levels))) is (levels <= 150)
        record = record_of(Result(Request(custom_id="a", api="chat", body={}), reply=reply))
        assert record.response is not None
        written = json.loads(bytes(record.response.body))["usage"][name]
        assert written == {"a": found}


def test_a_completion_has_no_field_of_any_json_but_those_that_its_decoder_looks_into() -> None:
    seen: set[type] = set()

    def look(kind: Any, above: frozenset[type]) -> None:
        assert not isinstance(kind, (inspect.AnyType, inspect.RawType, inspect.DictType))
        if isinstance(kind, inspect.UnionType):
            for each in kind.types:
                look(each, above)
        elif isinstance(kind, inspect.ListType):
            look(kind.item_type, above)
        elif isinstance(kind, inspect.StructType):
            assert kind.cls not in above
            seen.add(kind.cls)
            for field in kind.fields:
                look(field.type, above | {kind.cls})

    look(inspect.type_info(ChatCompletion), frozenset())
    assert len(seen) > 10
