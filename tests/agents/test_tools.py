"""Claims about tools: a function's hints are its schema, its arguments come back as Python values, or say what is
wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import inspect
import json
import re
import subprocess
import sys
import threading
from typing import Annotated, Any, Literal, TypedDict

import anyio
import msgspec
import pydantic
import pytest

from aimlasync import agents
from aimlasync.agents.tools import ToolTimeoutError, tool_of

JSON = dict[str, Any]


class Unit(enum.Enum):
    C = "c"
    F = "f"


class Place(msgspec.Struct):
    """A place on a map."""

    city: str
    floor: int = 0


@dataclasses.dataclass
class Span:
    days: int


class Extra(TypedDict):
    note: str


async def forecast(
    place: Place,
    span: Span,
    extra: Extra,
    unit: Unit,
    source: Literal["radar", "model"],
    hours: Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=23)]], "which hours"],
    language: str | None = None,
    detail: Annotated[int, msgspec.Meta(ge=1)] = 2,
) -> JSON:
    """What the weather will be.

    Asks two models.
    """
    return {"city": place.city, "days": span.days, "note": extra["note"], "unit": unit, "detail": detail}


def parameters(made: agents.Tool) -> JSON:
    schema: JSON = made.chat["function"]["parameters"]
    return schema


async def use(made: agents.Tool, arguments: str, context: Any = None) -> str:
    call = agents.ToolCall(id="c", name=made.name, arguments=arguments)
    loop: Any = None
    result = await made(agents.RunContext(context, call, loop), made.read(arguments))
    assert isinstance(result, str)
    return result


def objects(schema: Any) -> list[JSON]:
    found = [schema] if isinstance(schema, dict) and schema.get("type") == "object" else []
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return found + [one for part in inner for one in objects(part)]


# --- the schema ---------------------------------------------------------------------------------------------------


def test_a_function_is_told_by_its_name_and_docstring_and_a_strict_schema() -> None:
    made = agents.tool(forecast)
    assert made.name == "forecast"
    assert made.chat["type"] == made.responses["type"] == "function"
    assert made.chat["function"]["description"] == "What the weather will be.\n\nAsks two models."
    assert made.chat["function"]["strict"] is made.responses["strict"] is True
    assert {"type": "function", **made.chat["function"]} == made.responses
    schema = parameters(made)
    assert list(schema["properties"]) == [
        "place",
        "span",
        "extra",
        "unit",
        "source",
        "hours",
        "language",
        "detail",
    ]
    assert len(objects(schema)) == 4
    for one in objects(schema):
        assert one["additionalProperties"] is False
        assert one["required"] == list(one["properties"])


def test_hints_describe_and_constrain_their_parameters() -> None:
    properties = parameters(agents.tool(forecast))["properties"]
    assert properties["unit"]["enum"] == ["c", "f"]
    assert set(properties["source"]["enum"]) == {"radar", "model"}
    assert "which hours" in properties["hours"]["description"]
    assert "minimum 0" in properties["hours"]["items"]["description"]


def test_a_parameter_with_a_default_may_be_null_which_means_the_default() -> None:
    made = agents.tool(forecast)
    properties = parameters(made)["properties"]
    assert {"type": "null"} in properties["detail"]["anyOf"]
    assert properties["detail"]["description"] == "null for the default, 2"
    # None is a value of its own here.
    assert "description" not in properties["language"]
    rest = '"place":{"city":"Rome"},"span":{"days":1},"extra":{"note":"n"},"unit":"c","source":"radar","hours":[3]'
    told = made.read(f'{{{rest},"language":null,"detail":null}}')
    assert told["language"] is None
    assert "detail" not in told
    assert set(made.read(f"{{{rest}}}")) == {"place", "span", "extra", "unit", "source", "hours"}


async def test_arguments_come_as_values_of_their_types() -> None:
    text = await use(
        agents.tool(forecast),
        '{"place":{"city":"Rome"},"span":{"days":3},"extra":{"note":"n"},"unit":"f","source":"radar","hours":[]}',
    )
    assert msgspec.json.decode(text) == {"city": "Rome", "days": 3, "note": "n", "unit": "f", "detail": 2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('{"n": ', "truncated"),
        ("nonsense", "malformed"),
        ("[]", "array"),
        ("{}", "`n`"),
        ('{"n": "3"}', "$.n"),
        ('{"n": 0}', ">= 1"),
        ('{"n": 1, "m": 2}', "unknown field `m`"),
    ],
)
def test_bad_arguments_say_what_is_wrong(arguments: str, words: str) -> None:
    def count(n: Annotated[int, msgspec.Meta(ge=1)]) -> int:
        return n

    with pytest.raises(ValueError, match=re.escape(words)):
        agents.tool(count).read(arguments)


def test_a_tool_without_parameters_has_a_schema_too_and_takes_no_text_for_no_arguments() -> None:
    def now() -> str:
        return "noon"

    made = agents.tool(now)
    assert parameters(made) == {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    assert "description" not in made.chat["function"]
    assert made.read("") == made.read("{}") == {}


def test_a_signature_that_cannot_be_a_tools_names_the_parameter() -> None:
    def bare(city):  # type: ignore[no-untyped-def]
        return city

    def many(*cities: str) -> None: ...

    def named(**cities: str) -> None: ...

    def mixed(where: dict[str, int]) -> None: ...

    for function, words in ((bare, "city"), (many, "cities"), (named, "cities"), (mixed, "mixed.where")):
        with pytest.raises(TypeError, match=words):
            agents.tool(function)


def test_a_name_that_endpoints_do_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="name="):
        agents.tool(lambda: None)
    assert agents.tool(lambda: None, name="nothing").name == "nothing"


def test_a_type_that_strict_schema_cannot_express_is_taken_without_strict() -> None:
    def mixed(where: dict[str, int], place: Place) -> None: ...

    made = agents.tool(mixed, strict=False)
    assert made.chat["function"]["strict"] is False
    schema = parameters(made)
    assert schema["type"] == "object"
    assert schema["properties"]["where"]["type"] == "object"
    assert "Place" in schema["$defs"]
    assert made.read('{"where":{"a":1},"place":{"city":"Rome"}}')["where"] == {"a": 1}


def test_a_decorator_makes_a_tool_with_its_options() -> None:
    @agents.tool(name="look-up", description="Finds it.", timeout=3, concurrency=2, approve=True)
    def find(text: str) -> str:
        return text

    assert isinstance(find, agents.Tool)
    assert (find.name, find.timeout, find.concurrency, find.approve) == ("look-up", 3, 2, True)
    assert find.responses["description"] == "Finds it."


def test_methods_partials_and_objects_are_functions_too() -> None:
    class Shop:
        def stock(self, item: str) -> int:
            return len(item)

        async def __call__(self, item: str) -> int:
            return len(item)

    def add(a: int, b: int) -> int:
        return a + b

    assert list(parameters(agents.tool(Shop().stock))["properties"]) == ["item"]
    assert agents.tool(Shop()).name == "Shop"
    assert agents.tool(functools.partial(add, b=1)).name == "add"


def test_a_function_is_compiled_once() -> None:
    def stock(item: str) -> int:
        return len(item)

    assert tool_of(stock) is tool_of(stock)


# --- doing it -----------------------------------------------------------------------------------------------------


async def test_a_plain_function_runs_in_a_worker_thread_and_an_async_one_does_not() -> None:
    def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    async def here() -> bool:
        return where()

    assert await use(agents.tool(where), "{}") == "false"
    assert await use(agents.tool(here), "{}") == "true"
    assert await use(agents.tool(where, in_thread=False), "{}") == "true"


async def test_a_context_is_given_to_those_who_ask_and_never_told() -> None:
    async def mine(context: agents.RunContext[int], n: int) -> int:
        return context.context + n

    def plain(context: agents.RunContext, n: int) -> int:  # type: ignore[type-arg]
        return int(context.context) + n

    for function in (mine, plain):
        made = agents.tool(function)
        assert list(parameters(made)["properties"]) == ["n"]
        assert await use(made, '{"n":1}', context=41) == "42"


async def test_results_are_text_or_become_json() -> None:
    for result, text in (("as it is", "as it is"), (Place("Rome"), '{"city":"Rome","floor":0}'), (None, "null")):

        async def give(result: Any = result) -> Any:
            return result

        assert await use(agents.tool(give, strict=False), "{}") == text


async def test_a_tool_has_a_timeout_of_its_own() -> None:
    async def sleep() -> None:
        await anyio.sleep_forever()

    release = threading.Event()

    def block() -> None:
        release.wait(10)

    try:
        for function in (sleep, block):
            with pytest.raises(ToolTimeoutError) as caught:
                await use(agents.tool(function, timeout=0.01), "{}")
            assert "longer than 0.01 s" in str(caught.value)
    finally:
        release.set()


async def test_a_timeout_inside_a_tool_is_the_tools_own() -> None:
    async def slow() -> None:
        raise TimeoutError("the database")

    with pytest.raises(TimeoutError, match="the database"):
        await use(agents.tool(slow, timeout=10), "{}")


async def test_no_more_calls_of_a_tool_are_at_work_than_its_concurrency() -> None:
    at_work = most = 0

    async def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1

    made = agents.tool(work, concurrency=3)
    await asyncio.gather(*(use(made, "{}") for _ in range(20)))
    assert most == 3
    with pytest.raises(ValueError, match="concurrency"):
        agents.tool(work, concurrency=0)


async def test_threads_of_tools_are_not_those_of_handlers_that_wait_for_an_agent() -> None:
    made = agents.tool(lambda: "done", name="work")

    async def ask() -> str:
        return await use(made, "{}")

    def handler() -> str:
        everybody.wait()
        return anyio.from_thread.run(ask)

    # All threads that a web framework has for its handlers.
    most = int(anyio.to_thread.current_default_thread_limiter().total_tokens)
    everybody = threading.Barrier(most)
    results = await asyncio.gather(*(anyio.to_thread.run_sync(handler) for _ in range(most)))
    assert results == ["done"] * most


async def test_a_parameter_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(_a: int, __b: int, self: int, p0: int, id: int = 4, *, json: int = 5) -> list[int]:
        return [_a, __b, self, p0, id, json]

    def with_model(
        _a: int, __b: int, self: int, copy: pydantic.PositiveInt, model_config: int = 4, *, model_dump: int = 5
    ) -> list[int]:
        return [_a, __b, self, copy, model_config, model_dump]

    for function in (odd, with_model):
        made = agents.tool(function)
        names = list(inspect.signature(function).parameters)
        assert list(made.chat["function"]["parameters"]["properties"]) == names
        assert list(agents.tool(function, strict=False).chat["function"]["parameters"]["properties"]) == names
        given = dict(zip(names, range(1, 7), strict=True))
        assert await use(made, json.dumps(given)) == "[1,2,3,4,5,6]"
        assert await use(made, json.dumps({name: given[name] for name in names[:4]})) == "[1,2,3,4,4,5]"
        with pytest.raises(ValueError, match=names[3]):
            made.read(json.dumps({**given, names[3]: "x"}))
        with pytest.raises(ValueError, match="p1"):
            made.read(json.dumps({**given, "p1": 2}))


async def test_the_function_of_a_tool_can_be_called() -> None:
    @agents.tool(timeout=5)
    async def double(n: int) -> int:
        return 2 * n

    assert await double.function(4) == 8
    assert double.but(name="twice").function is double.function


def test_a_context_that_is_not_the_first_parameter_is_refused_by_name() -> None:
    def late(city: str, context: agents.RunContext[int]) -> str:
        return city

    def perhaps(context: agents.RunContext[int] | None, city: str) -> str:
        return city

    for function in (late, perhaps):
        with pytest.raises(TypeError, match="context is a RunContext, which a tool takes as its first parameter"):
            agents.tool(function)


def test_a_tool_is_good_on_one_event_loop_after_another() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    made = agents.tool(work, concurrency=1)

    async def several() -> None:
        await asyncio.gather(*(use(made, "{}") for _ in range(3)))

    asyncio.run(several())
    asyncio.run(several())


# --- what it imports ----------------------------------------------------------------------------------------------


def test_agents_import_no_mcp_and_its_absence_is_one_clear_line() -> None:
    code = (
        "import sys; import aimlasync.agents; print('mcp' in sys.modules); sys.modules['mcp'] = None\n"
        "try:\n    import aimlasync.agents.mcp\nexcept ImportError as error:\n    print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0] == "False"
    assert len(out) == 2
    assert "pip install 'aimlasync[mcp]'" in out[1]
