"""What callers say is sent as they say it: documented parameters of vendors, and never a misspelt one in silence."""

from __future__ import annotations

import inspect
import json
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import pydantic
import pytest

from aimlasync import APIConnectionError, AsyncClient, BadRequestError, Endpoint, Retry, UnencodableRequestError
from aimlasync.agents import Agent
from aimlasync.agents import run as run_agent
from aimlasync.bulk.tasks.tasks import PromptTask
from aimlasync.chat.types import ChatParams
from aimlasync.chat.vendor_parameters import VendorParameters
from aimlasync.responses.types import ResponseParams
from aimlasync.simulator import Simulator
from tests.support.servers import Script, raw_server

MODEL = "openai/gpt-5-nano-2025-08-07"
APIS: tuple[Literal["chat", "responses"], ...] = ("chat", "responses")
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]

# As the vendors' pages have them.
DOCUMENTED: dict[str, Any] = {
    "enable_thinking": False,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "thinking_budget": 1024,
    "reasoning": {"effort": "low", "exclude": True},
    "top_k": 40,
    "top_a": 0.2,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "echo": False,
    "search_mode": "web",
    "search_domain_filter": ["example.com"],
    "search_recency_filter": "week",
    "search_after_date_filter": "3/1/2026",
    "return_images": True,
    "web_search_options": {"search_context_size": "low"},
    "web_search": {},
    "stop_sequences": ["END"],
    "system": "Be brief.",
    "normalize_tool_schemas": True,
    "chat_template_kwargs": {"enable_thinking": False},
}


def answer(text: str = "hi") -> Script:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return Script([json.dumps({"id": "c", "choices": [choice]}).encode()], content_type="application/json", end="keep")


async def test_documented_parameters_go_out_as_they_are() -> None:
    async with raw_server(answer(), answer('{"value": "yes"}'), answer()) as server:
        async with AsyncClient(api_key="k", base_url=server.base_url) as client:
            create = client.chat.completions
            await create.create(model="m", messages=HELLO, **DOCUMENTED)
            await create.parse(model="m", messages=HELLO, response_format=Literal["yes", "no"], **DOCUMENTED)
            await run_agent(client, model="m", input="Hello", **DOCUMENTED)
    for sent in server.bodies:
        assert json.loads(sent).items() >= DOCUMENTED.items()


def test_documented_parameters_are_taken_by_a_job() -> None:
    task = PromptTask(prompt="{text}", model="m", params={**DOCUMENTED, "a_servers_own": 1})
    assert task.identity()["parameters"] == {**DOCUMENTED, "a_servers_own": 1}


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("temprature", "temperature"),
        ("max_completion_token", "max_completion_tokens"),
        ("topk", "top_k"),
        ("enable_thinkin", "enable_thinking"),
        ("repetition_penality", "repetition_penalty"),
        ("time_out", "timeout"),
    ],
)
async def test_misspelt_parameter_names_the_one_that_was_meant(misspelt: str, meant: str) -> None:
    wrong: Any = {misspelt: 1}
    said = f"{misspelt}', did you mean '{meant}'\\?"
    async with AsyncClient(api_key="k", base_url="http://127.0.0.1:9/v1") as client:
        with pytest.raises(TypeError, match=said):
            await client.chat.completions.create(model="m", messages=HELLO, **wrong)
    with pytest.raises(TypeError, match=said):
        Agent(model="m", **wrong)
    if meant != "timeout":
        with pytest.raises(ValueError, match=said):
            PromptTask(prompt="{text}", model="m", params=wrong)


async def test_a_misspelt_priority_is_refused_and_none_is_the_default() -> None:
    wrong: Any = {"priority": "bulky"}
    async with AsyncClient(api_key="k", base_url="http://127.0.0.1:9/v1", max_retries=0) as client:
        with pytest.raises(ValueError, match="priority must be 'interactive' or 'bulk', not 'bulky'"):
            await client.chat.completions.create(model="m", messages=HELLO, **wrong)
        with pytest.raises(ValueError, match="not 'bulky'"):
            await client.forward("GET", "files", **wrong)
        unsaid: Any = {"priority": None}
        with pytest.raises(APIConnectionError):
            await client.chat.completions.create(model="m", messages=HELLO, **unsaid)


async def test_misspelt_parameter_of_a_response_names_the_one_that_was_meant() -> None:
    async with AsyncClient(api_key="k", base_url="http://127.0.0.1:9/v1") as client:
        with pytest.raises(TypeError, match="did you mean 'max_output_tokens'"):
            await client.responses.create(model="m", input="x", max_ouput_tokens=1)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="unknown parameter 'zzz'; to send it anyway, use extra_body"):
            await client.responses.create(model="m", input="x", zzz=1)  # type: ignore[call-overload]
        for name, meant in (("max_tokens", "max_output_tokens"), ("reasoning_effort", "reasoning")):
            elsewhere: Any = {name: 1}
            with pytest.raises(TypeError, match=f"unknown parameter '{name}', did you mean '{meant}'"):
                await client.responses.create(model="m", input="x", **elsewhere)
    with pytest.raises(TypeError, match="did you mean 'max_turns'"):
        Agent(model="m", max_turn=3)  # type: ignore[call-overload]


def test_every_vendor_parameter_may_be_left_out_and_null() -> None:
    assert VendorParameters.__required_keys__ == frozenset()


async def test_model_that_a_vendor_does_not_serve_any_more_is_told_with_its_successor() -> None:
    for code in ("model_not_allowed", "unsupported_model"):
        error = {"error": {"message": "not allowed", "type": "invalid_request_error", "code": code}}
        script = Script([json.dumps(error).encode()], status=400, content_type="application/json", end="keep")
        async with raw_server(script) as server, raw_server(answer()) as other:
            spike = Endpoint.bytespike(api_key="k", base_url=server.base_url)
            async with AsyncClient(endpoints=[spike], retry=Retry(attempts=1)) as client:
                with pytest.raises(BadRequestError, match="gpt-5-4-nano in its place"):
                    await client.chat.completions.create(model="openai/gpt-5-nano", messages=HELLO)
            endpoints = [spike, Endpoint.aimlapi(api_key="k", base_url=other.base_url)]
            async with AsyncClient(endpoints=endpoints) as client:
                reply = await client.chat.completions.create(model="gpt-5-nano", messages=HELLO)
            assert (reply.text, len(other.bodies)) == ("hi", 1)


@pytest.mark.parametrize("wrong", [{"role": "user", "content": "Hello"}, b"Hello", None, 5], ids=repr)
async def test_one_message_in_place_of_a_list_is_refused_before_anything_is_sent(wrong: Any) -> None:
    async with AsyncClient(base_url="http://127.0.0.1:9/v1", api_key="k") as client:
        with pytest.raises(TypeError, match=rf"^messages must be a list, such as .*, not {type(wrong).__name__}$"):
            await client.chat.completions.create(model="m", messages=wrong)
        if wrong is not None:
            with pytest.raises(TypeError, match=r"^input must be a text or a list of items, such as "):
                await client.responses.create(model="m", input=wrong)


async def test_a_text_is_the_input_of_a_response_and_no_messages() -> None:
    async with AsyncClient(base_url="http://127.0.0.1:9/v1", api_key="k", retry=Retry(attempts=1)) as client:
        with pytest.raises(TypeError, match=r"^messages must be a list, .*, not str$"):
            await client.chat.completions.create(model="m", messages="Hello")  # type: ignore[arg-type]
        with pytest.raises(APIConnectionError):
            await client.responses.create(model="m", input="Hello")


async def test_messages_that_contain_themselves_are_told_as_such() -> None:
    message: dict[str, Any] = {"role": "user"}
    message["content"] = [message]
    async with AsyncClient(base_url="http://127.0.0.1:9/v1", api_key="k") as client:
        with pytest.raises(UnencodableRequestError, match="contains itself"):
            await client.chat.completions.create(model="m", messages=[message])


class Model(str, Enum):  # noqa: UP042  # a StrEnum is written as its value anyway
    """A model by a name of the user's own."""

    SMALL = "small-1"


async def test_a_member_of_an_enum_is_its_value_wherever_it_is_given() -> None:
    async with raw_server(answer()) as server, AsyncClient(api_key="k", base_url=server.base_url) as client:
        query: Any = {"of": Model.SMALL, "all": [Model.SMALL]}
        reply = await client.chat.completions.create(
            model=Model.SMALL, messages=HELLO, extra_headers={"X-Model": Model.SMALL}, extra_query=query
        )
    assert reply.info.model == "small-1"
    assert json.loads(server.bodies[0])["model"] == "small-1"
    assert b"\r\nX-Model: small-1\r\n" in server.requests[0]
    assert b"?of=small-1&all[]=small-1 " in server.requests[0]


async def test_parameters_may_be_numbers_and_arrays_of_other_libraries() -> None:
    numpy: Any = pytest.importorskip("numpy")
    given: Any = {"temperature": Decimal("0.7"), "stop": numpy.array(["a", "b"])}
    async with raw_server(answer()) as server, AsyncClient(api_key="k", base_url=server.base_url) as client:
        await client.chat.completions.create(model="m", messages=HELLO, **given)
    assert json.loads(server.bodies[0]).items() >= {"temperature": 0.7, "stop": ["a", "b"]}.items()


@pytest.mark.parametrize("content", [b"Hello", bytearray(b"Hello"), memoryview(b"Hello")], ids=type)
async def test_bytes_are_no_content(content: Any) -> None:
    message: Any = {"role": "user", "content": content}
    async with AsyncClient(api_key="k", base_url="http://127.0.0.1:9/v1") as client:
        with pytest.raises(TypeError, match=f"content in messages is text, not {type(content).__name__}: decode it"):
            await client.chat.completions.create(model="m", messages=[message])
        with pytest.raises(TypeError, match="content in input is text"):
            await client.responses.create(model="m", input=[message])


# The release of the openai package whose parameters are known here.
_LOOKED_AT = (3, 57)


def test_every_parameter_of_asyncopenai_is_one_here() -> None:
    openai = pytest.importorskip("openai")
    if tuple(map(int, openai.__version__.split(".")[:2])) > _LOOKED_AT:
        pytest.skip(f"openai {openai.__version__} is newer than the one that was looked at")
    chat = pytest.importorskip("openai.resources.chat.completions")
    responses = pytest.importorskip("openai.resources.responses")
    for create, known in (
        (chat.AsyncCompletions.create, ChatParams.__optional_keys__),
        (responses.AsyncResponses.create, ResponseParams.__optional_keys__),
    ):
        theirs = set(inspect.signature(create).parameters) - {"self", "model", "messages", "input", "stream"}
        assert theirs - known == set()


class Turn(pydantic.BaseModel):
    """A message as a web app reads it."""

    role: str
    content: str
    name: str | None = None


async def test_messages_may_be_models_of_pydantic_wherever_messages_are_taken() -> None:
    turns = [Turn(role="user", content="Hello")]
    async with (
        Simulator(keep_bodies=True) as simulator,
        AsyncClient(api_key="k", base_url=simulator.base_url) as client,
    ):
        await client.chat.completions.create(model=MODEL, messages=turns)
        await client.responses.create(model=MODEL, input=turns)
        for endpoint in APIS:
            run = await run_agent(client, model=MODEL, input=turns, endpoint=endpoint)
            assert run.items[0] == HELLO[0]
    sent = [attempt.body or {} for attempt in simulator.ledger]
    assert [body.get("messages", body.get("input")) for body in sent] == [HELLO] * 4
