"""Models of pydantic are types of answers, forms and tools, and pydantic is loaded for nobody else."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import subprocess
import sys
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType, TypedDict

from aimlasync import AnswerInvalidError, AsyncClient, agents
from aimlasync.agents import Agent, tool
from aimlasync.bulk import classify
from aimlasync.chat import URLCitation
from aimlasync.simulator import Answer, Call, Simulator
from aimlasync.simulator.vendor.schema_check import check_strict
from aimlasync.structured.schema import format_of

MODEL = "openai/gpt-4.1-nano-2025-04-14"


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Customer(BaseModel):
    """Who writes."""

    name: str
    age: int | None = None


class Guest(BaseModel):
    name: str
    born: datetime.date | None = None


class Ticket(BaseModel):
    """What a customer wants."""

    team: Literal["support", "billing", "sales"] = Field(description="who answers")
    urgent: bool = False
    words: Annotated[list[str], Field(max_length=3)] = []
    mood: Mood | None = None
    customer: Customer = Field(description="the customer")
    others: list[Customer] = []


class Node(BaseModel):
    label: str
    children: list[Node] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    price: Decimal


@dataclasses.dataclass
class Holder:
    pet: Cat


class Typed(TypedDict):
    pet: Cat


class Renamed(BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str = Field(alias="fullName")


GOOD = [
    (Ticket, '{"team":"sales","urgent":true,"words":[],"mood":"bad","customer":{"name":"a","age":null},"others":[]}'),
    (Guest, '{"name":"a","born":"2000-01-02"}'),
    (Node, '{"label":"a","children":[{"label":"b","children":[]}]}'),
    (Owner, '{"pet":{"kind":"cat","lives":3},"price":"1.50"}'),
    (Holder, '{"pet":{"kind":"cat","lives":3}}'),
    (Typed, '{"pet":{"kind":"cat","lives":3}}'),
    (Renamed, '{"fullName":"x"}'),
    (list[Cat], '{"value":[{"kind":"cat","lives":3}]}'),
    (Cat | Dog, '{"value":{"kind":"dog"}}'),
    (Annotated[int, Field(ge=3)], '{"value":4}'),
]


@pytest.mark.parametrize(("type_", "text"), GOOD)
def test_a_type_has_a_strict_schema_and_its_values_are_pydantics(type_: Any, text: str) -> None:
    form = format_of(type_)
    check_strict(form.schema, where="schema")
    whole = msgspec.json.encode(form.schema).decode()
    for keyword in ('"default"', '"title"', '"minimum"', '"oneOf"', '"const"', '"pattern"', '"discriminator"'):
        assert keyword not in whole
    inner = msgspec.json.decode(text)
    expected = pydantic.TypeAdapter(type_).validate_python(inner.get("value", inner))
    assert form.decode(text) == expected
    assert type(form.decode(text)) is type(expected)


def test_what_the_schema_cannot_say_is_said_in_words_and_checked_afterwards() -> None:
    form = format_of(Cat)
    assert form.schema["properties"]["lives"] == {"type": "integer", "description": "minimum 1; maximum 9"}
    with pytest.raises(msgspec.ValidationError, match="less than or equal to 9 - at `lives`"):
        form.decode('{"kind":"cat","lives":10}')
    with pytest.raises(msgspec.DecodeError, match="Invalid JSON"):
        form.decode('{"kind":')


class Free(BaseModel):
    rest: dict[str, int]


class AnyOne(BaseModel):
    rest: Any


class Pair(BaseModel):
    rest: tuple[int, str]


@pytest.mark.parametrize("type_", [Free, AnyOne, Pair])
def test_a_type_without_a_strict_schema_is_refused_with_the_name_of_the_field(type_: Any) -> None:
    with pytest.raises(TypeError, match=rf"{type_.__name__}\.rest: .* has no strict JSON schema; use "):
        format_of(type_)


@pytest.mark.parametrize("structured", ["auto", "tool", "text"])
async def test_models_are_parsed_over_both_endpoints(structured: Any) -> None:
    messages = [{"role": "user", "content": "an invoice for billing"}]
    async with Simulator() as simulator, AsyncClient("k", simulator.base_url) as client:
        reply = await client.chat.completions.parse(
            model=MODEL, messages=messages, response_format=Ticket, structured=structured
        )
        assert isinstance(reply.parsed, Ticket)
        assert reply.parsed.team == "billing"
        response = await client.responses.parse(
            model=MODEL, input="an invoice for billing", text_format=Ticket, structured=structured
        )
        assert isinstance(response.parsed, Ticket)


async def test_create_takes_a_type_too() -> None:
    messages = [{"role": "user", "content": "an invoice for billing"}]
    async with Simulator(keep_bodies=True) as simulator, AsyncClient("k", simulator.base_url) as client:
        reply = await client.chat.completions.create(model=MODEL, messages=messages, response_format=Ticket)
        assert isinstance(reply.choices[0].message.parsed, Ticket)
        stream = await client.chat.completions.create(
            model=MODEL, messages=messages, response_format=Ticket, stream=True
        )
        assert '"team":"billing"' in ((await stream.collect()).text or "")
    bodies: Any = [attempt.body for attempt in simulator.ledger]
    assert bodies[0]["response_format"] == bodies[1]["response_format"]


async def test_an_answer_that_pydantic_refuses_is_an_answer_error() -> None:
    async with Simulator(answer=lambda _: '{"kind":"cat","lives":12}') as simulator:
        async with AsyncClient("k", simulator.base_url) as client:
            with pytest.raises(AnswerInvalidError, match="the answer is not a Cat: Input should be less than"):
                await client.responses.parse(model=MODEL, input="x", text_format=Cat)


async def test_agents_have_models_as_output_and_in_tools_and_run_goes_on() -> None:
    seen: list[Any] = []

    async def book(customer: Guest, nights: Annotated[int, Field(ge=1, description="how many")] = 2) -> Guest:
        """Books a room."""
        seen.append((customer, nights))
        return customer

    script: list[Answer | str] = [
        Answer(calls=[Call("book", '{"customer":{"name":"Ann","born":null},"nights":0}')]),
        Answer(calls=[Call("book", '{"customer":{"name":"Ann","born":"2000-01-02"},"nights":null}')]),
        '{"kind":"cat","lives":12}',
        '{"kind":"cat","lives":9}',
    ]
    agent = Agent(model=MODEL, tools=[book], output=Cat)
    async with Simulator(script=script, keep_bodies=True) as simulator:
        async with AsyncClient("k", simulator.base_url) as client:
            run = await agents.run(client, agent, input="a room")
    assert run.output == Cat(kind="cat", lives=9)
    assert seen == [(Guest(name="Ann", born=datetime.date(2000, 1, 2)), 2)]
    told = [item["content"] for item in run.items if item.get("role") == "tool"]
    assert told[0].startswith("error: the arguments of book are wrong: Input should be greater than or equal to 1")
    assert told[1] == '{"name":"Ann","born":"2000-01-02"}'


def test_a_tool_of_models_has_a_strict_schema_or_a_loose_one() -> None:
    def find(where: Customer, options: dict[str, int] | None = None) -> str:
        """Finds."""
        return ""

    with pytest.raises(TypeError, match=r"find\.options: a dict has no strict JSON schema.*strict=False"):
        tool(find)
    made = tool(find, strict=False)
    assert made.chat["function"]["parameters"]["properties"].keys() == {"where", "options"}
    assert made.read('{"where":{"name":"a"}}') == {"where": Customer(name="a")}
    with pytest.raises(ValueError, match="Extra inputs are not permitted - at `more`"):
        made.read('{"where":{"name":"a"},"more":1}')


Kind = TypeAliasType("Kind", Annotated[Ticket | Customer, Field(description="one of them")])


def test_a_struct_of_a_reply_stays_a_struct_where_pydantic_is_loaded() -> None:
    form: Any = format_of(list[URLCitation])
    schema = form.chat()["json_schema"]["schema"]
    check_strict(schema, where="answer")
    assert set(schema["$defs"]["URLCitation"]["properties"]) == {"url", "title", "start_index", "end_index"}


def test_an_alias_is_what_it_stands_for() -> None:
    form = format_of(Kind)
    check_strict(form.schema, where="Kind")
    assert form.decode('{"value":{"name":"Ann","age":null}}') == Customer(name="Ann")

    def take(who: Kind) -> str:
        return ""

    assert tool(take).read('{"who":{"name":"Ann","age":3}}') == {"who": Customer(name="Ann", age=3)}


async def test_rows_are_filled_into_models() -> None:
    async with Simulator() as simulator, AsyncClient("k", simulator.base_url) as client:
        results = [result async for result in classify(client, ["an invoice for billing"], labels=Ticket, model=MODEL)]
    assert [result.label for result in results] == ["billing"]


def test_pydantic_is_not_loaded_for_others() -> None:
    code = (
        "import sys, msgspec, aimlasync, aimlasync.agents, aimlasync.bulk\n"
        "from aimlasync.structured.schema import format_of\n"
        "format_of(msgspec.defstruct('T', [('a', int)]))\n"
        "def f(a: int) -> str: return ''\n"
        "aimlasync.agents.tool(f)\n"
        "assert 'pydantic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
