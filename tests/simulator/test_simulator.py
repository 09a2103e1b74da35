"""The simulator over real sockets: bodies, streams, errors, limits, faults, and what its ledger says of them."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aimlasync import sse
from aimlasync.simulator import Answer, Call, Fault, Latency, Ledger, Problem, SimRequest, Simulator, SlidingWindow
from aimlasync.simulator.model import fill_schema as schema
from aimlasync.simulator.model import labels
from aimlasync.simulator.vendor import tokens

MODELS = {"aimlapi": "openai/gpt-5-nano-2025-08-07", "bytespike": "gpt-5-nano", "openai": "anything"}
TICKET = "Route to: support / billing / sales. Input: My card was charged twice."


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Reply:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        parser = sse.Parser()
        found = [*parser.feed(self.body), *parser.close()]
        return [json.loads(event.data) for event in found if bytes(event.data) != b"[DONE]"]

    @property
    def said(self) -> str:
        return "".join(c["delta"].get("content") or "" for e in self.events for c in e.get("choices", ()))


class Caller:
    """A client that does nothing by itself."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session
        self.model = MODELS[sim.vendor.name]

    async def send(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> Reply:
        async with self.session.request(method, self.sim.url + path, headers=headers, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def chat(self, text: str = "Hello", /, *, headers: dict[str, str] | None = None, **body: Any) -> Reply:
        whole = {"model": self.model, "messages": [{"role": "user", "content": text}], **body}
        return await self.send("POST", "/v1/chat/completions", json=whole, headers=headers)

    async def respond(self, text: str = "Hello", /, **body: Any) -> Reply:
        return await self.send("POST", "/v1/responses", json={"model": self.model, "input": text, **body})


@asynccontextmanager
async def calling(vendor: str = "aimlapi", **options: Any) -> AsyncIterator[Caller]:
    async with Simulator(vendor=vendor, **options) as sim:  # type: ignore[arg-type]
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer secret-key"}) as session:
            yield Caller(sim, session)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what only the server's loop can bring about."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never happened")


# Chat


async def test_aimlapi_answers_in_its_shape() -> None:
    async with calling() as caller:
        reply = await caller.chat(TICKET, headers={"X-Client-Request-Id": "job:1"})
        body = reply.json
        assert body["model"] == "gpt-5-nano-2025-08-07"
        assert body["choices"][0]["message"]["content"] == "billing"
        assert body["choices"][0]["finish_reason"] == "stop"
        usage = body["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["completion_tokens_details"]["reasoning_tokens"] > 0
        assert reply.headers["x-client-request-id"] == "job:1"
        assert len(reply.headers["x-inference-id"]) == 21
        assert int(reply.headers["x-aimlapi-credits-used"]) == body["meta"]["usage"]["credits_used"]
        assert len(reply.headers["x-aimlapi-usd-spent"].partition(".")[2]) == 9
        assert float(reply.headers["x-aimlapi-usd-spent"]) == pytest.approx(body["meta"]["usage"]["usd_spent"])


async def test_bytespike_answers_in_its_shape() -> None:
    async with calling("bytespike") as caller:
        reply = await caller.chat(TICKET)
        assert reply.json.keys() == {"id", "object", "model", "choices", "usage"}
        assert reply.json["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}
        assert reply.json["choices"][0]["message"] == {"role": "assistant", "content": "billing"}
        for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Quota-Remaining-Credits"):
            assert float(reply.headers[name]) > 0


async def test_an_invalid_client_request_id_is_dropped() -> None:
    async with calling() as caller:
        reply = await caller.chat(headers={"X-Client-Request-Id": "not valid"})
        assert reply.status == 200
        assert "x-client-request-id" not in reply.headers
        assert caller.sim.ledger[0].client_request_id is None


@pytest.mark.parametrize("vendor", MODELS)
async def test_a_stream_says_what_the_whole_reply_says(vendor: str) -> None:
    async with calling(vendor) as caller:
        whole = await caller.chat("How are you, simulator?")
        stream = await caller.chat("How are you, simulator?", stream=True)
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert stream.said == whole.json["choices"][0]["message"]["content"]
        assert stream.body.endswith(b"data: [DONE]\n\n")
        assert stream.events[0]["choices"][0]["delta"]["role"] == "assistant"


async def test_aimlapi_streams_end_with_usage_and_cost() -> None:
    async with calling() as caller:
        reply = await caller.chat(stream=True)
        usage, meta = reply.events[-2:]
        assert usage["choices"] == []
        assert usage["usage"]["total_tokens"] > 0
        assert meta.keys() == {"meta"}
        assert "x-aimlapi-usd-spent" not in reply.headers
        assert caller.sim.ledger[0].cost_usd == pytest.approx(meta["meta"]["usage"]["usd_spent"])


async def test_other_vendors_stream_usage_only_when_asked() -> None:
    async with calling("openai") as caller:
        silent = await caller.chat(stream=True)
        asked = await caller.chat(stream=True, stream_options={"include_usage": True})
        assert not any(event.get("usage") for event in silent.events)
        assert asked.events[-1]["choices"] == []
        assert asked.events[-1]["usage"]["total_tokens"] > 0


async def test_a_cap_cuts_the_answer() -> None:
    async with calling("openai") as caller:
        whole = (await caller.chat("[tokens:40] lorem ipsum")).json
        assert whole["usage"]["completion_tokens"] == 40
        short = (await caller.chat("[tokens:40] lorem ipsum", max_tokens=5)).json
        assert short["choices"][0]["finish_reason"] == "length"
        assert short["usage"]["completion_tokens"] == 5
        said = whole["choices"][0]["message"]["content"]
        assert said.startswith(short["choices"][0]["message"]["content"])


async def test_n_choices_come_side_by_side() -> None:
    async with calling("openai") as caller:
        whole = await caller.chat(n=3)
        assert [choice["index"] for choice in whole.json["choices"]] == [0, 1, 2]
        stream = await caller.chat(n=2, stream=True)
        assert {c["index"] for event in stream.events for c in event["choices"]} == {0, 1}


async def test_logprobs_come_when_asked() -> None:
    async with calling() as caller:
        reply = await caller.chat(model="openai/gpt-4.1-nano-2025-04-14", logprobs=True, top_logprobs=2)
        content = reply.json["choices"][0]["logprobs"]["content"]
        assert "".join(one["token"] for one in content) == reply.json["choices"][0]["message"]["content"]
        assert len(content[0]["top_logprobs"]) == 2
        options: dict[str, Any] = {
            "model": "openai/gpt-4.1-nano-2025-04-14",
            "include": ["message.output_text.logprobs"],
        }
        part = (await caller.respond(**options)).json["output"][0]["content"][0]
        assert "".join(one["token"] for one in part["logprobs"]) == part["text"]
        stream = await caller.respond(stream=True, **options)
        deltas = [event for event in stream.events if event["type"] == "response.output_text.delta"]
        assert [one for event in deltas for one in event["logprobs"]] == part["logprobs"]
        assert (await caller.respond(model=options["model"])).json["output"][0]["content"][0]["logprobs"] == []


async def test_a_refusal_is_no_content() -> None:
    async with calling() as caller:
        message = (await caller.chat("[refuse] please")).json["choices"][0]["message"]
        assert message["content"] is None
        assert message["refusal"]
        response = (await caller.respond("[refuse] please")).json
        assert response["output"][-1]["content"][0]["type"] == "refusal"


WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}


async def test_a_tool_that_the_text_names_is_called_and_its_output_ends_the_turn() -> None:
    async with calling() as caller:
        tools = [{"type": "function", "function": WEATHER}]
        ask = "What is the weather in Rio Grande for 3 days?"
        choice = (await caller.chat(ask, tools=tools)).json["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        call = choice["message"]["tool_calls"][0]
        assert json.loads(call["function"]["arguments"]) == {"city": "Rio Grande", "days": 3}
        messages = [
            {"role": "user", "content": ask},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": "sunny"},
        ]
        answer = (await caller.chat(messages=messages, tools=tools)).json["choices"][0]
        assert answer["finish_reason"] == "stop"
        assert "sunny" in answer["message"]["content"]
        unasked = (await caller.chat("Tell me a joke", tools=tools)).json["choices"][0]
        assert unasked["finish_reason"] == "stop"


async def test_tool_calls_stream_in_fragments() -> None:
    async with calling() as caller:
        tools = [{"type": "function", "function": WEATHER}]
        stream = await caller.chat("hi", tools=tools, tool_choice="required", stream=True)
        parts = [part for e in stream.events for c in e.get("choices", ()) for part in c["delta"].get("tool_calls", ())]
        assert parts[0]["function"]["name"] == "get_weather"
        assert all("id" not in part for part in parts[1:])
        arguments = json.loads("".join(part["function"]["arguments"] for part in parts))
        assert arguments.keys() == {"city", "days"}
        flat = [{"type": "function", "strict": True, **WEATHER}]
        response = await caller.respond(
            "hi", tools=flat, tool_choice={"type": "function", "name": "get_weather"}, stream=True
        )
        deltas = [e["delta"] for e in response.events if e["type"] == "response.function_call_arguments.delta"]
        item = response.events[-1]["response"]["output"][-1]
        assert item["type"] == "function_call"
        assert "".join(deltas) == item["arguments"]


# Responses


async def test_a_response_stream_is_a_full_sequence_of_events() -> None:
    async with calling() as caller:
        stream = await caller.respond(stream=True, instructions="Be brief.")
        kinds = [event["type"] for event in stream.events]
        deltas = [event["delta"] for event in stream.events if event["type"] == "response.output_text.delta"]
        assert [kind for kind in kinds if not kind.endswith(".delta")] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert [event["sequence_number"] for event in stream.events] == list(range(len(kinds)))
        last = stream.events[-1]["response"]
        assert "".join(deltas) == last["output_text"]
        assert last["usage"]["total_tokens"] > 0
        assert last["meta"]["usage"]["usd_spent"] > 0
        assert last["instructions"] == "Be brief."
        assert b"event: response.completed\n" in stream.body


async def test_a_response_that_is_cut_is_incomplete() -> None:
    async with calling() as caller:
        cut = (await caller.respond("[tokens:200] lorem", max_output_tokens=32)).json
        assert cut["status"] == "incomplete"
        assert cut["incomplete_details"] == {"reason": "max_output_tokens"}
        assert cut["output_text"]
        assert cut["usage"]["output_tokens"] == 32
        stream = await caller.respond("[tokens:200] lorem", max_output_tokens=32, stream=True)
        assert stream.events[-1]["type"] == "response.incomplete"


async def test_input_items_are_read_like_messages() -> None:
    async with calling() as caller:
        items = [
            {"role": "developer", "content": "Route to: support / billing / sales."},
            {"role": "user", "content": [{"type": "input_text", "text": "I cannot log in"}]},
        ]
        assert (await caller.respond(input=items)).json["output_text"] == "support"


# Answers


async def test_the_same_request_gets_the_same_answer_and_the_hook_comes_first() -> None:
    def answer(request: SimRequest) -> Answer | str | None:
        if "script" in request.text:
            return "scripted"
        if "tool" in request.text:
            return Answer(calls=[Call("f", '{"a":1}')])
        if "limit" in request.text:
            raise Problem(429, "scripted limit")
        return None

    async with calling(answer=answer) as caller:
        one, two = await caller.chat("Anything"), await caller.chat("Anything")
        assert one.json["choices"] == two.json["choices"]
        assert (await caller.chat("script")).json["choices"][0]["message"]["content"] == "scripted"
        assert (await caller.chat("tool")).json["choices"][0]["finish_reason"] == "tool_calls"
        limited = await caller.chat("limit")
        assert (limited.status, limited.json["message"]) == (429, "scripted limit")


async def test_the_hook_answers_with_whatever_a_turn_of_a_script_may_be_and_is_told_of_anything_else() -> None:
    turns: dict[str, Any] = {"call": Call.of("f", a=1), "problem": Problem(429, "given"), "wrong": {"text": "a dict"}}
    async with calling(answer=lambda request: turns[request.text]) as caller:
        called = (await caller.chat("call")).json["choices"][0]["message"]["tool_calls"]
        assert [call["function"]["arguments"] for call in called] == ['{"a":1}']
        for text, said in (("problem", (429, "given")), ("wrong", (500, "answer= returned a dict"))):
            got = await caller.chat(text)
            assert (got.status, said[1] in got.json["message"]) == (said[0], True)


def test_arguments_of_a_call_that_are_no_text_are_refused_where_they_are_written() -> None:
    assert Call.of("f").arguments == Call("f").arguments == "{}"
    for arguments in ({}, {"a": 1}, None, b"{}"):
        with pytest.raises(TypeError, match=r"Call\.of\('f', \*\*arguments\) writes them as JSON"):
            Call("f", arguments)  # type: ignore[arg-type]  # as a test may


async def test_a_strict_schema_is_filled_and_an_enum_is_answered_by_the_text() -> None:
    ticket = {
        "$ref": "#/$defs/Ticket",
        "$defs": {
            "Ticket": {
                "type": "object",
                "properties": {
                    "team": {"enum": ["support", "billing", "sales"]},
                    "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
                "required": ["team", "confidence", "note"],
            }
        },
    }
    async with calling() as caller:
        form = {"type": "json_schema", "json_schema": {"name": "t", "strict": True, "schema": ticket}}
        chat = (await caller.chat("Mi factura es incorrecta", response_format=form)).json
        filled = json.loads(chat["choices"][0]["message"]["content"])
        assert filled["team"] == "billing"
        assert 0 <= filled["confidence"] <= 1
        flat = {"format": {"type": "json_schema", "name": "t", "strict": True, "schema": ticket}}
        response = (await caller.respond("Ich brauche ein Angebot", text=flat)).json
        assert json.loads(response["output_text"])["team"] == "sales"
        loose = (await caller.chat("hi", response_format={"type": "json_object"})).json
        assert isinstance(json.loads(loose["choices"][0]["message"]["content"]), dict)


class Leaf(msgspec.Struct, tag="leaf"):
    value: int


class Tree(msgspec.Struct, tag="tree"):
    label: str
    kind: str | None
    children: list[Tree | Leaf]
    weights: dict[str, float]
    pair: tuple[int, str]
    flag: bool = False
    parent: Tree | None = None


@given(st.text(max_size=60), st.integers(0, 5))
def test_what_fills_a_recursive_schema_decodes_as_its_type(text: str, seed: int) -> None:
    root = msgspec.json.schema(Tree)
    filled = schema.fill(root, text.encode("utf-8", "ignore").decode(), seed=seed)
    assert isinstance(msgspec.convert(filled, Tree), Tree)


@given(st.integers(-50, 50), st.integers(0, 40), st.sampled_from(["integer", "number"]), st.text(max_size=30))
def test_numbers_stay_in_their_bounds(low: int, span: int, kind: str, text: str) -> None:
    value = schema.fill({"type": kind, "minimum": low, "exclusiveMaximum": low + span + 1}, text)
    assert low <= value < low + span + 1


@pytest.mark.parametrize(
    ("text", "team"),
    [
        ("My card was charged twice", "billing"),
        ("Could we get a demo and a quote for 40 seats?", "sales"),
        ("The app crashes when I log in", "support"),
        ("La factura de mayo tiene un cobro doble", "billing"),
        ("Das Passwort funktioniert nicht", "support"),
        ("Nous voudrions un devis pour 20 utilisateurs", "sales"),
        ("Não consigo entrar, a senha dá erro", "support"),
        ("Vorrei un rimborso", "billing"),
        ("Nie mogę się zalogować", "support"),
        ("Graag een offerte met korting", "sales"),
        ("Faturamda hata var, iade istiyorum", "billing"),
        ("請求書の金額が間違っています", "billing"),
        ("मुझे रिफंड चाहिए", "billing"),
    ],
)
def test_labels_are_found_in_many_languages(text: str, team: str) -> None:
    assert labels.choose(["support", "billing", "sales"], text) == team
    assert labels.choose(["sales", "support", "billing"], text) == team


@pytest.mark.parametrize(
    ("names", "text", "label"),
    [
        (["positive", "negative", "neutral"], "I love it, excellent work", "positive"),
        (["positive", "negative", "neutral"], "Terrible, a waste of time", "negative"),
        (["positive", "negative", "neutral"], "It is a table", "neutral"),
        (["spam", "ham"], "Congratulations, you won a prize, click here", "spam"),
        (["spam", "ham"], "See you at the meeting tomorrow", "ham"),
        (["urgent", "normal"], "Production is down, emergency", "urgent"),
        (["urgent", "normal"], "Just wondering, no rush", "normal"),
        (["yes", "no"], "Yes, definitely", "yes"),
        (["TECH_SUPPORT", "BILLING_DEPT"], "the invoice was overcharged", "BILLING_DEPT"),
        (["apples", "pears"], "I would like an apple", "apples"),
    ],
)
def test_common_families_of_labels_are_known(names: list[str], text: str, label: str) -> None:
    assert labels.choose(names, text) == label
    assert labels.choose(names[::-1], text) == label


def test_a_text_that_says_nothing_gets_the_same_label_every_time() -> None:
    chosen = {labels.choose(["red", "green", "blue"], f"text {number}") for number in range(50)}
    assert chosen == {"red", "green", "blue"}
    assert labels.choose(["red", "green", "blue"], "text 1") == labels.choose(["red", "green", "blue"], "text 1")


def test_the_prompts_own_list_of_labels_says_nothing() -> None:
    names = ["support", "billing", "sales"]
    prompt = "Answer with support, billing or sales: the invoice is wrong"
    assert labels.choose(names, prompt) == "billing"
    assert labels.routed_label("", "Please transfer me to sales or support") is None


def test_a_description_in_the_prompt_adds_words() -> None:
    hints = "garden: lawns, hedges, flowers\nkitchen: ovens, fridges"
    assert labels.choose(["garden", "kitchen"], "Something with hedges", hints=hints) == "garden"
    assert labels.choose(["kitchen", "garden"], "fridges and ovens", hints=hints) == "kitchen"


def test_the_tickets_of_the_examples_are_mostly_understood() -> None:
    path = Path(__file__).parents[2] / "examples" / "tickets.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(labels.choose(["billing", "sales", "support"], row["text"]) == row["team"] for row in rows)
    assert right / len(rows) >= 0.85


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_pieces_are_the_text(text: str) -> None:
    assert "".join(tokens.pieces(text)) == text
    assert tokens.count(tokens.cut(text, 3)) <= 3


# Errors


@pytest.mark.parametrize(
    ("vendor", "body", "status"),
    [
        ("aimlapi", b"{", 400),
        ("aimlapi", b"[]", 400),
        ("aimlapi", b'{"messages":[]}', 400),
        ("aimlapi", b'{"model":"openai/gpt-5-nano-2025-08-07"}', 400),
        ("aimlapi", b'{"model":"gpt-5-nano","messages":[{"role":"user","content":"x"}],"stream":"yes"}', 400),
        ("aimlapi", b'{"model":"gpt-5-nano","messages":[{"role":"user","content":"x"}],"temperature":1}', 400),
        ("aimlapi", b'{"model":"openai/gpt-5-pro","messages":[{"role":"user","content":"x"}]}', 400),
        ("aimlapi", b'{"model":"nobody/nothing","messages":[{"role":"user","content":"x"}]}', 404),
        ("bytespike", b'{"model":"nothing","messages":[{"role":"user","content":"x"}]}', 400),
        (
            "bytespike",
            b'{"model":"gpt-5-nano","messages":[{"role":"user","content":"x"}],"reasoning_effort":"low"}',
            422,
        ),
        ("bytespike", b'{"model":"gpt-5-nano","messages":[{"role":"user","content":"x"}],"max_tokens":9000}', 400),
        ("openai", b'{"model":"anything","messages":[{"role":"user","content":"x"}],"temperature":3}', 400),
        ("openai", b"\xff", 400),
    ],
)
async def test_a_bad_request_gets_the_vendors_error(vendor: str, body: bytes, status: int) -> None:
    async with calling(vendor) as caller:
        reply = await caller.send("POST", "/v1/chat/completions", data=body)
        assert reply.status == status
        if vendor == "aimlapi":
            assert reply.json.keys() == {"requestId", "statusCode", "timestamp", "path", "message"}
            assert reply.json["statusCode"] == status
        else:
            assert reply.json["error"].keys() == {"message", "type", "param", "code"}
        assert not caller.sim.ledger[0].admitted


@pytest.mark.parametrize(
    "broken",
    [{"type": "thing"}, {"properties": []}, {"enum": []}, {"minItems": 1e9}, {"anyOf": [1]}, {"required": [1]}],
)
async def test_a_broken_schema_is_a_bad_request(broken: dict[str, Any]) -> None:
    async with calling() as caller:
        form = {"type": "json_schema", "json_schema": {"name": "t", "schema": broken}}
        assert (await caller.chat(response_format=form)).status == 400
        tool = {"type": "function", "function": {"name": "f", "parameters": broken}}
        assert (await caller.chat(tools=[tool])).status == 400


async def test_validation_can_be_turned_off() -> None:
    async with calling(validate=False) as caller:
        assert (await caller.chat(model="nobody/nothing", temperature=1)).status == 200


async def test_a_key_is_needed_and_never_kept() -> None:
    async with calling(keys={"secret-key"}) as caller:
        assert (await caller.chat()).status == 200
        wrong = await caller.chat(headers={"Authorization": "Bearer other"})
        assert wrong.status == 401
        assert "https://aimlapi.com/app/keys" in wrong.json["message"]
        assert (await caller.chat(headers={"Authorization": ""})).status == 401
        assert (await caller.send("GET", "/v1/models", headers={"Authorization": ""})).status == 200
        attempts = list(caller.sim.ledger)
        assert attempts[0].key_digest
        assert not any(attempt.key_digest for attempt in attempts[1:])
        assert "secret-key" not in repr(attempts)


@pytest.mark.parametrize(("vendor", "status"), [("aimlapi", 403), ("bytespike", 402)])
async def test_calls_spend_the_balance_until_it_is_gone(vendor: str, status: int) -> None:
    async with calling(vendor, balance_usd=0.000_01) as caller:
        while (reply := await caller.chat()).status == 200:
            pass
        assert reply.status == status
        assert caller.sim.ledger.cost_usd >= 0.000_01
        assert caller.sim.ledger[-1].cost_usd == 0


async def test_paths_and_methods_that_are_not_there() -> None:
    async with calling() as caller:
        assert (await caller.send("POST", "/v1/nothing", json={})).status == 404
        assert (await caller.send("GET", "/v1/chat/completions")).status == 405
        assert (await caller.send("POST", "/v2/chat/completions", json={})).status == 400
        assert (await caller.send("GET", "/health")).json["status"] == "ok"


async def test_a_body_that_is_too_large_is_refused_before_it_came() -> None:
    async with calling() as caller:
        host, port = caller.sim.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert b" 413 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_a_body_is_asked_for_when_the_client_waits() -> None:
    async with calling() as caller:
        reply = await caller.send(
            "POST",
            "/v1/chat/completions",
            json={"model": caller.model, "messages": [{"role": "user", "content": "x"}]},
            expect100=True,
        )
        assert reply.status == 200


# Catalogue


async def test_the_catalogue_has_prices_and_a_weak_etag() -> None:
    async with calling() as caller:
        first = await caller.send("GET", "/v1/models?include=pricing")
        model = first.json["data"][0]
        assert model["pricing"]["units"][0]["per"] == 1_000_000
        assert first.headers["ETag"].startswith('W/"')
        again = await caller.send("GET", "/v1/models?include=pricing", headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        assert "pricing" not in (await caller.send("GET", "/v1/models")).json["data"][0]
        found = (await caller.send("GET", "/v1/models?id=gpt-5-mini")).json["data"]
        assert [row["id"] for row in found] == ["openai/gpt-5-mini-2025-08-07"]
        one = (await caller.send("GET", "/model/openai/gpt-5-pro")).json
        assert one["data"]["id"] == "openai/gpt-5-pro"
        assert (await caller.send("GET", "/model/nobody")).status == 404


async def test_every_vendor_lists_its_models_and_balance() -> None:
    async with calling("bytespike") as caller:
        assert (await caller.send("GET", "/v1/models")).json["data"][0]["owned_by"] == "openai"
        assert (await caller.send("GET", "/v1/models", headers={"Authorization": ""})).status == 401
        assert (await caller.send("GET", "/api/v1/me/account")).json["balance"]["available_usd"] == 100
    async with calling("openai") as caller:
        assert (await caller.send("GET", "/v1/models/gpt-5-nano")).json["object"] == "model"
    async with calling(balance_usd=5) as caller:
        assert (await caller.send("GET", "/v2/billing")).json == {"current_balance": 5, "currency": "USD"}


# Limits


async def test_requests_per_minute_hold_in_every_window() -> None:
    clock = Clock()
    async with calling("openai", requests_per_minute=3, clock=clock) as caller:
        assert [(await caller.chat()).status for _ in range(3)] == [200, 200, 200]
        clock.now += 20
        refused = await caller.chat()
        assert (refused.status, refused.headers["Retry-After"]) == (429, "40")
        clock.now += 39.9
        assert (await caller.chat()).status == 429
        clock.now += 0.1
        assert (await caller.chat()).status == 200
        assert caller.sim.ledger.worst_window() == 3
        assert caller.sim.ledger.worst_window(120.0) == 4


async def test_tokens_per_minute_count_prompt_and_answer() -> None:
    clock = Clock()
    async with calling("openai", tokens_per_minute=100, clock=clock, answer=lambda _: "x" * 120) as caller:
        assert (await caller.chat("y" * 40)).status == 200
        attempt = caller.sim.ledger[0]
        assert (attempt.prompt_tokens, attempt.completion_tokens) == (16, 30)
        assert (await caller.chat("y" * 40)).status == 200
        assert (await caller.chat("y" * 40)).status == 429
        assert caller.sim.ledger.worst_window(of="tokens") == 92


async def test_each_vendor_tells_of_a_limit_in_its_own_way() -> None:
    async with calling(requests_per_minute=0) as caller:
        reply = await caller.chat()
        assert reply.json["message"] == "Too Many Requests"
        assert "Retry-After" not in reply.headers
    async with calling("bytespike", requests_per_minute=0) as caller:
        assert (await caller.chat()).json["error"]["type"] == "rate_limit_error"
    async with calling(requests_per_minute=0, retry_after=7) as caller:
        assert (await caller.chat()).headers["Retry-After"] == "7"


async def test_concurrency_is_refused_above_its_limit_and_freed_by_those_who_leave() -> None:
    fault = Fault("stall", times=2)
    async with calling("bytespike", concurrency=2, faults=[fault]) as caller:
        stalled = [asyncio.create_task(caller.chat()) for _ in range(2)]
        await until(lambda: fault.hits == 2)
        refused = await caller.chat()
        assert (refused.status, refused.json["error"]["code"]) == (429, "concurrency_limit")
        for task in stalled:
            task.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)
        await until(lambda: caller.sim.admission.in_flight == 0)
        assert (await caller.chat()).status == 200
        assert caller.sim.ledger.peak_in_flight == 2
        assert [attempt.disconnected for attempt in caller.sim.ledger] == [True, True, False, False]


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 20)), max_size=60))
@example([(1.5e-102, 1), (30.0, 20), (30.0, 20)])
def test_no_window_ever_holds_more_than_its_limit(steps: list[tuple[float, int]]) -> None:
    window = SlidingWindow(40)
    now, admitted = 0.0, []
    for pause, amount in steps:
        now += pause
        wait = window.wait(amount, now)
        if window.remaining(now) >= amount:
            assert wait == 0
            window.admit(amount, now)
            admitted.append((now, amount))
        else:
            assert 0 < wait <= 60.001  # the subtraction may round up
    for end, _ in admitted:
        assert sum(amount for at, amount in admitted if end - 60 < at <= end) <= 40


# Faults


async def test_a_status_fault_comes_in_the_vendors_shape_and_is_counted() -> None:
    fault = Fault("status", status=503, times=2, after=1, headers={"Retry-After": "3"})
    async with calling(faults=[fault]) as caller:
        replies = [await caller.chat() for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 503, 503, 200]
        assert replies[1].json["message"] == "Service unavailable"
        assert replies[1].headers["Retry-After"] == "3"
        assert fault.hits == 2
        assert caller.sim.ledger.by_status() == {200: 2, 503: 2}
        assert [attempt.fault for attempt in caller.sim.ledger] == [None, "status", "status", None]
        assert [attempt.cost_usd > 0 for attempt in caller.sim.ledger] == [True, False, False, True]


async def test_faults_are_chosen_by_request_and_by_seed() -> None:
    async def hits(seed: int) -> list[int]:
        faults = [Fault("status", status=500, probability=0.5, match=lambda request: "b" in request.text)]
        async with calling(faults=faults, seed=seed) as caller:
            return [(await caller.chat(text)).status for text in "ab" * 10]

    one = await hits(1)
    assert one == await hits(1)
    assert one[::2] == [200] * 10
    assert set(one[1::2]) == {200, 500}


async def test_a_reset_comes_without_a_response() -> None:
    async with calling(faults=[Fault("reset", times=1)]) as caller:
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await caller.chat()
        assert (await caller.chat()).status == 200
        assert caller.sim.ledger[0].status == 0
        assert caller.sim.admission.in_flight == 0


@pytest.mark.parametrize("api", ["chat", "respond"])
async def test_a_stream_is_cut_cleanly_after_so_many_events(api: str) -> None:
    async with calling(faults=[Fault("cut_stream", at=3)]) as caller:
        reply = await getattr(caller, api)("one two three four five six", stream=True)
        assert len(reply.events) == 3
        assert b"[DONE]" not in reply.body
        assert not caller.sim.ledger[0].finished
        assert (await getattr(caller, api)("not streamed")).status == 200


async def test_a_stream_is_reset_after_so_many_events() -> None:
    async with calling(faults=[Fault("reset_stream", at=4)]) as caller:
        body = {"model": caller.model, "stream": True, "messages": [{"role": "user", "content": "one two three"}]}
        async with caller.session.post(f"{caller.sim.base_url}/chat/completions", json=body) as response:
            first = await response.content.readany()
            assert first.count(b"\n\n") == 4
            with pytest.raises(aiohttp.ClientError):
                await response.read()


async def test_a_stalled_stream_ends_when_the_client_leaves() -> None:
    async with calling(faults=[Fault("stall_stream", at=2)]) as caller:
        body = {"model": caller.model, "stream": True, "messages": [{"role": "user", "content": "one two three"}]}
        response = await caller.session.post(f"{caller.sim.base_url}/chat/completions", json=body)
        await response.content.readany()
        assert caller.sim.admission.in_flight == 1
        response.close()
        await until(lambda: caller.sim.ledger[0].disconnected)
        assert caller.sim.admission.in_flight == 0


@pytest.mark.parametrize("api", ["chat", "respond"])
async def test_an_error_can_come_inside_a_stream(api: str) -> None:
    async with calling(faults=[Fault("error_in_stream", at=3, message="gone")]) as caller:
        last = (await getattr(caller, api)("one two three", stream=True)).events[-1]
        assert (last if api == "respond" else last["error"])["message"] == "gone"


async def test_bodies_can_be_broken() -> None:
    kinds = [Fault("malformed_json", times=1), Fault("html", times=1), Fault("truncated_body", times=1)]
    async with calling(faults=kinds) as caller:
        with pytest.raises(json.JSONDecodeError):
            _ = (await caller.chat()).json
        page = await caller.chat(stream=True)
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.chat()
        assert caller.sim.ledger.cost_usd == 0


async def test_a_kept_connection_can_die_under_the_next_request() -> None:
    async with calling(faults=[Fault("close_idle", times=1)]) as caller:
        assert (await caller.chat()).status == 200
        # aiohttp repeats no POST by itself.
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await caller.chat()
        assert (await caller.chat()).status == 200
        assert len(caller.sim.ledger) == 2


async def test_a_fault_can_delay_the_first_byte() -> None:
    fault = Fault("slow_first_byte", delay=0.01, times=1)
    async with calling(faults=[fault]) as caller:
        assert (await caller.chat()).status == 200
        assert fault.hits == 1


def test_faults_have_a_text_form() -> None:
    fault = Fault.parse("status:503,probability=0.1,times=5")
    assert (fault.kind, fault.status, fault.probability, fault.times) == ("status", 503, 0.1, 5)
    assert Fault.parse("cut_stream:3").at == 3
    assert Fault.parse("slow_first_byte:0.5").delay == 0.5
    for wrong in ("nothing", "status:x", "status,often=1", "reset:3", "status:503,times", "status:99"):
        with pytest.raises(ValueError, match=r"fault|status|expected"):
            Fault.parse(wrong)
    with pytest.raises(ValueError, match="unknown fault 'stat'; known: status, reset"):
        Fault.parse("stat:503")


async def test_a_stalled_catalogue_is_noted_when_the_client_leaves() -> None:
    fault = Fault("stall", match=lambda request: request.api == "models")
    async with calling(faults=[fault]) as caller:
        task = asyncio.create_task(caller.send("GET", "/v1/models"))
        await until(lambda: fault.hits == 1)
        task.cancel()
        await until(lambda: caller.sim.ledger[0].disconnected)


# Life


async def test_latency_is_drawn_once_and_paid() -> None:
    latency = Latency.of(ttft=0.001, tokens_per_second=100_000, spread=0.3)
    async with calling(latency=latency) as caller:
        assert (await caller.chat()).status == 200
        assert (await caller.chat(stream=True)).said
        state = caller.sim.state
        assert state.latency.draw(state.random) != state.latency.draw(state.random)
    assert Latency.of(tokens_per_second=50).per_token == 0.02


async def test_a_client_that_leaves_a_stream_pays_for_what_was_delivered() -> None:
    async with calling(latency=Latency(per_token=0.02)) as caller:
        body = {"model": caller.model, "stream": True, "messages": [{"role": "user", "content": "[tokens:2000] a b"}]}
        response = await caller.session.post(f"{caller.sim.base_url}/chat/completions", json=body)
        await response.content.readany()
        await response.content.readany()
        response.close()
        await until(lambda: caller.sim.ledger[0].disconnected)
        attempt = caller.sim.ledger[0]
        assert not attempt.finished
        assert 0 < attempt.cost_usd < 0.0002


async def test_closing_cuts_what_is_open_at_once_and_twice_is_fine() -> None:
    sim = Simulator(faults=[Fault("stall")])
    await sim.start()
    await sim.start()
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer k"}) as session:
        body = {"model": MODELS["aimlapi"], "messages": [{"role": "user", "content": "x"}]}
        task = asyncio.create_task(session.post(f"{sim.base_url}/chat/completions", json=body))
        await until(lambda: sim.admission.in_flight == 1)
        async with asyncio.timeout(30):
            await sim.close()
        await sim.close()
        with pytest.raises(aiohttp.ClientError):
            await task
    assert sim.admission.in_flight == 0
    assert not sim.ledger[0].disconnected


async def test_the_ledger_keeps_bodies_only_when_asked() -> None:
    async with calling(keep_bodies=True) as caller:
        await caller.chat(metadata={"custom_id": "row-7"})
        attempt = caller.sim.ledger[0]
        assert attempt.body is not None
        assert attempt.custom_id == "row-7"
        caller.sim.ledger.clear()
        assert len(caller.sim.ledger) == 0
    async with calling() as caller:
        await caller.chat()
        assert caller.sim.ledger[0].body is None
        assert "1 attempts" in repr(caller.sim.ledger)


def test_an_empty_ledger_has_no_worst_window() -> None:
    assert (Ledger().worst_window(), Ledger().peak_in_flight, Ledger().by_status()) == (0, 0, {})


async def test_requests_may_be_pipelined_on_one_connection() -> None:
    async with calling() as caller:
        host, port = caller.sim.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"GET /health HTTP/1.0\r\nHost: x\r\n\r\n")
        assert (await reader.read()).count(b"200 OK") == 4
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("latency", [0.05, 0, {"first_token": 0.05}])
def test_a_latency_that_is_none_is_refused_before_a_request(latency: Any) -> None:
    with pytest.raises(TypeError, match="latency= is a Latency"):
        Simulator(latency=latency)


def test_faults_and_answers_of_another_kind_are_refused_before_a_request() -> None:
    faults: Any
    for faults in (Fault("reset"), ["status:503"]):
        with pytest.raises(TypeError, match="faults= is a list of Fault, as in"):
            Simulator(faults=faults)
    answer: Any = "hello"
    with pytest.raises(TypeError, match=r"answer= is a function .* script=, not 'hello'"):
        Simulator(answer=answer)
