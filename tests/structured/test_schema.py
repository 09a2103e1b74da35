"""Claims about `structured.schema`: what a type becomes, what stays true of every schema, what is refused."""

import gc
import keyword
import re
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from types import GenericAlias
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar, assert_type
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Struct, UnsetType

from aimlasync.structured.schema import Format, format_of

JSON = dict[str, Any]
X = TypeVar("X")

# --- an independent reading of the strict subset -----------------------------------------------------------------

KEYWORDS = {
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "$ref",
    "$defs",
}
PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (float, int),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def is_of(value: Any, kind: str) -> bool:
    return isinstance(value, PYTHON[kind]) and (kind == "boolean" or not isinstance(value, bool))


def assert_strict(schema: JSON) -> None:
    """Every rule of OpenAI's strict mode that a schema of ours could break."""
    assert schema["type"] == "object"
    defs = schema.get("$defs", {})
    referred: set[str] = set()

    def nodes(node: JSON) -> Iterator[JSON]:
        yield node
        below = [*node.get("properties", {}).values(), *node.get("anyOf", [])]
        for child in below + ([node["items"]] if "items" in node else []):
            yield from nodes(child)

    for top in (schema, *defs.values()):
        for node in nodes(top):
            assert set(node) <= KEYWORDS | {"description"}
            assert "$defs" not in node or node is schema
            assert node.get("description", "words")
            if "$ref" in node:
                assert set(node) == {"$ref"}
                assert node["$ref"].removeprefix("#/$defs/") in defs
                referred.add(node["$ref"].removeprefix("#/$defs/"))
                continue
            if "anyOf" in node:
                assert set(node) <= {"anyOf", "description"}
                assert len(node["anyOf"]) > 1
                continue
            assert node["type"] in PYTHON
            assert ("properties" in node) == ("additionalProperties" in node) == (node["type"] == "object")
            assert ("items" in node) == (node["type"] == "array")
            assert all(is_of(value, node["type"]) for value in node.get("enum", []))
            assert node.get("enum", ["some"])
            if node["type"] == "object":
                assert node["additionalProperties"] is False
                assert node["required"] == list(node["properties"])
    assert referred == set(defs)


def accepts(schema: JSON, node: JSON, value: Any) -> bool:
    """Whether a model that is held to the schema could have written this value."""
    if "$ref" in node:
        return accepts(schema, schema["$defs"][node["$ref"].removeprefix("#/$defs/")], value)
    if "anyOf" in node:
        return any(accepts(schema, option, value) for option in node["anyOf"])
    if not is_of(value, node["type"]) or value not in node.get("enum", [value]):
        return False
    if node["type"] == "array":
        return all(accepts(schema, node["items"], item) for item in value)
    if node["type"] == "object":
        properties = node["properties"]
        return set(value) == set(properties) and all(accepts(schema, properties[k], v) for k, v in value.items())
    return True


def obj(properties: JSON, **more: Any) -> JSON:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def value_of(node: JSON) -> JSON:
    return obj({"value": node})


def ref(name: str) -> JSON:
    return {"$ref": f"#/$defs/{name}"}


def either(*options: JSON) -> JSON:
    return {"anyOf": list(options)}


STRING, INTEGER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}

# --- types -------------------------------------------------------------------------------------------------------


class Urgency(Enum):
    low = "low"
    high = "high"
    asap = "as soon as possible"


class Stars(IntEnum):
    one = 1
    two = 2


class Documented(Enum):
    """How it ends."""

    won = "won"


class Person(Struct):
    name: str
    age: Annotated[int, Meta(ge=0, le=150, description="Age in years")]


class Ticket(Struct):
    """A support ticket."""

    title: Annotated[str, Meta(max_length=80, min_length=1, pattern="^[A-Z]", title="T", examples=["Help"])]
    urgency: Urgency
    tags: Annotated[list[str], Meta(max_length=10)] = []
    owner: Person | None = None
    score: float = 0.5


class Camel(Struct, rename="camel", forbid_unknown_fields=True):
    first_name: str
    other: int = msgspec.field(name="OTHER", default=3)


class Cat(Struct, tag=True):
    lives: int


class Dog(Struct, tag=True):
    breed: str


class One(Struct, tag=1, tag_field="kind"):
    pass


class Pets(Struct):
    pet: Cat | Dog | None


class Node(Struct):
    """A tree."""

    label: str
    children: "list[Node]" = []
    twin: "Annotated[Node, Meta(description='said in vain: a $ref has no siblings')] | None" = None


class Ping(Struct):
    pong: "Pong | None" = None


class Pong(Struct):
    ping: Ping | None = None


class Described(Struct):
    who: Annotated[Person, Meta(description="Who asked")]
    again: Person
    maybe: Annotated[Person | None, Meta(description="Who answered")]
    last: Annotated[Person, Meta(description="Who closed it")]


class Reasoned(TypedDict):
    why: str
    answer: NotRequired[int]


@dataclass
class Plain:
    hint: str = ""
    answer: int = field(kw_only=True)


@dataclass
class Told:
    """Told by the user."""

    answer: int


class Box(Struct, Generic[X]):
    item: X


class Moments(Struct):
    a: datetime
    b: Annotated[datetime, Meta(tz=True)]
    c: Annotated[time, Meta(tz=False)]
    d: date
    e: timedelta
    f: UUID
    g: Decimal
    h: Annotated[bytes, Meta(max_length=4)]


class Numbers(Struct):
    a: Annotated[int, Meta(gt=0, lt=10, multiple_of=2)]
    b: Annotated[list[Annotated[int, Meta(ge=1)]], Meta(min_length=1, max_length=3)]
    c: Annotated[int, Meta(ge=1)] | None
    d: set[int]


class ByHand(Struct):
    mail: Annotated[str, Meta(description="Mail", extra_json_schema={"format": "email", "x-a": 1, "deprecated": True})]


class Point(NamedTuple):
    x: int
    y: str


class Row(Struct, array_like=True):
    x: int


class Empty(Struct):
    pass


PERSON = obj({"name": STRING, "age": {"type": "integer", "description": "Age in years (minimum 0; maximum 150)"}})
URGENCY = {"type": "string", "enum": ["low", "high", "as soon as possible"]}
CAT = obj({"type": {"type": "string", "enum": ["Cat"]}, "lives": INTEGER})
DOG = obj({"type": {"type": "string", "enum": ["Dog"]}, "breed": STRING})
NODE = obj(
    {
        "label": STRING,
        "children": {"type": "array", "items": ref("Node")},
        "twin": either(ref("Node"), NULL),
    },
    description="A tree.",
)

TABLE: list[tuple[Any, str, JSON]] = [
    (Person, "Person", PERSON),
    (
        Ticket,
        "Ticket",
        obj(
            {
                "title": {
                    "type": "string",
                    "description": "pattern ^[A-Z]; at least 1 characters; at most 80 characters",
                },
                "urgency": URGENCY,
                "tags": {"type": "array", "items": STRING, "description": "at most 10 items"},
                "owner": either(ref("Person"), NULL),
                "score": {"type": "number"},
            },
            description="A support ticket.",
            **{"$defs": {"Person": PERSON}},
        ),
    ),
    (Camel, "Camel", obj({"firstName": STRING, "OTHER": INTEGER})),
    (Pets, "Pets", obj({"pet": either(ref("Cat"), ref("Dog"), NULL)}, **{"$defs": {"Cat": CAT, "Dog": DOG}})),
    (Cat | Dog, "Cat_Dog", {**value_of(either(ref("Cat"), ref("Dog"))), "$defs": {"Cat": CAT, "Dog": DOG}}),
    (One, "One", obj({"kind": {"type": "integer", "enum": [1]}})),
    (Empty, "Empty", obj({})),
    (Node, "Node", {**NODE, "$defs": {"Node": NODE}}),
    (list[Node], "list_Node", {**value_of({"type": "array", "items": ref("Node")}), "$defs": {"Node": NODE}}),
    (
        Ping,
        "Ping",
        obj(
            {"pong": either(ref("Pong"), NULL)},
            **{
                "$defs": {
                    "Pong": obj({"ping": either(ref("Ping"), NULL)}),
                    "Ping": obj({"pong": either(ref("Pong"), NULL)}),
                }
            },
        ),
    ),
    (
        Described,
        "Described",
        obj(
            {
                "who": {**PERSON, "description": "Who asked"},
                "again": ref("Person"),
                "maybe": {**either(ref("Person"), NULL), "description": "Who answered"},
                "last": {**PERSON, "description": "Who closed it"},
            },
            **{"$defs": {"Person": PERSON}},
        ),
    ),
    (Annotated[Person, Meta(description="The author")], "Person", {**PERSON, "description": "The author"}),
    (Reasoned, "Reasoned", obj({"why": STRING, "answer": INTEGER})),
    (Plain, "Plain", obj({"hint": STRING, "answer": INTEGER})),
    (Told, "Told", obj({"answer": INTEGER}, description="Told by the user.")),
    (Box[int], "Box_int", obj({"item": INTEGER})),
    (
        Box[Box[int]],
        "Box_Box",
        obj({"item": ref("Box_int")}, **{"$defs": {"Box_int": obj({"item": INTEGER})}}),
    ),
    (
        Moments,
        "Moments",
        obj(
            {
                "a": {"type": "string", "description": "format date-time"},
                "b": {"type": "string", "description": "format date-time; with UTC offset"},
                "c": {"type": "string", "description": "format time; without UTC offset"},
                "d": {"type": "string", "description": "format date"},
                "e": {"type": "string", "description": "format duration"},
                "f": {"type": "string", "description": "format uuid"},
                "g": {"type": "string", "description": "format decimal"},
                "h": {"type": "string", "description": "encoding base64; at most 4 bytes"},
            }
        ),
    ),
    (
        Numbers,
        "Numbers",
        obj(
            {
                "a": {"type": "integer", "description": "more than 0; less than 10; multiple of 2"},
                "b": {
                    "type": "array",
                    "items": {"type": "integer", "description": "minimum 1"},
                    "description": "at least 1 items; at most 3 items",
                },
                "c": either({"type": "integer", "description": "minimum 1"}, NULL),
                "d": {"type": "array", "items": INTEGER, "description": "unique items"},
            }
        ),
    ),
    (ByHand, "ByHand", obj({"mail": {"type": "string", "description": "Mail (format email)"}})),
    (Urgency, "Urgency", value_of(URGENCY)),
    (Stars, "Stars", value_of({"type": "integer", "enum": [1, 2]})),
    (Documented, "Documented", value_of({"type": "string", "enum": ["won"], "description": "How it ends."})),
    (Literal["spam", "ham"], "literal", value_of({"type": "string", "enum": ["ham", "spam"]})),
    (Literal[1, 2], "literal", value_of({"type": "integer", "enum": [1, 2]})),
    (Literal["a", None], "literal", value_of(either(NULL, {"type": "string", "enum": ["a"]}))),
    (str, "str", value_of(STRING)),
    (bool, "bool", value_of({"type": "boolean"})),
    (int | str, "int_str", value_of(either(INTEGER, STRING))),
    (Person | None, "Person_None", {**value_of(either(ref("Person"), NULL)), "$defs": {"Person": PERSON}}),
    (tuple[int, ...], "tuple_int", value_of({"type": "array", "items": INTEGER})),
    (frozenset[str], "frozenset_str", value_of({"type": "array", "items": STRING, "description": "unique items"})),
    (
        Annotated[list[str], Meta(description="Tags")],
        "list_str",
        value_of({"type": "array", "items": STRING, "description": "Tags"}),
    ),
]


@pytest.mark.parametrize(("type_", "name", "schema"), TABLE, ids=[name for _, name, _ in TABLE])
def test_a_type_becomes_exactly_this_schema(type_: Any, name: str, schema: JSON) -> None:
    made = format_of(type_)
    assert made.schema == schema
    assert made.name == name
    assert_strict(made.schema)


def test_both_endpoints_get_their_own_spelling() -> None:
    made = format_of(Person)
    assert made.chat() == {
        "type": "json_schema",
        "json_schema": {"name": "Person", "schema": PERSON, "strict": True},
    }
    assert made.responses() == {"type": "json_schema", "name": "Person", "schema": PERSON, "strict": True}
    assert made.chat() is not made.chat()


def test_properties_keep_the_declared_order_because_the_model_writes_in_it() -> None:
    assert list(format_of(Reasoned).schema["properties"]) == ["why", "answer"]
    assert list(format_of(Plain).schema["properties"]) == ["hint", "answer"]
    assert list(format_of(Cat | Dog).schema["$defs"]["Cat"]["properties"]) == ["type", "lives"]


def test_two_types_of_one_name_get_two_definitions() -> None:
    a = msgspec.defstruct("Same", [("a", int)])
    b = msgspec.defstruct("Same", [("inside", a)])
    schema = format_of(msgspec.defstruct("Both", [("b", b), ("a", a)])).schema
    assert schema["$defs"] == {"Same": obj({"inside": ref("Same_2")}), "Same_2": obj({"a": INTEGER})}
    assert schema["properties"] == {"b": ref("Same"), "a": ref("Same_2")}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Q" * 99, "Q" * 64), ("_Private", "Private"), ("Заявка", "answer"), ("Ünit_7", "nit_7")],
)
def test_a_name_is_always_one_that_the_api_takes(name: str, expected: str) -> None:
    assert format_of(msgspec.defstruct(name, [])).name == expected


def test_types_survive_the_type_checker() -> None:
    assert_type(format_of(Person), Format[Person])
    assert_type(format_of(Person).decode(b'{"name":"A","age":1}'), Person)
    assert_type(format_of(int | None), Format[Any])


# --- decode ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (Person, ' \n{"name":"A","age":3}\r\n', Person("A", 3)),
        (Person, b'{"name":"A","age":3}', Person("A", 3)),
        (Pets, '{"pet":null}', Pets(None)),
        (Pets, '{"pet":{"type":"Dog","breed":"pug"}}', Pets(Dog("pug"))),
        (Cat | Dog, '{"value":{"type":"Cat","lives":9}}', Cat(9)),
        (Camel, '{"firstName":"A","OTHER":7}', Camel("A", 7)),
        (Node, '{"label":"a","children":[{"label":"b"}],"twin":null}', Node("a", [Node("b")])),
        (Reasoned, '{"why":"so","answer":1}', {"why": "so", "answer": 1}),
        (Plain, '{"hint":"h","answer":1}', Plain("h", answer=1)),
        (Box[int], '{"item":1}', Box(1)),
        (Urgency, '{"value":"as soon as possible"}', Urgency.asap),
        (Stars, '{"value":2}', Stars.two),
        (Literal["a", None], '{"value":null}', None),
        (set[int], '{"value":[1,1]}', {1}),
        (tuple[int, ...], '{"value":[1,2]}', (1, 2)),
        (float, '{"value":1}', 1.0),
        (Decimal, '{"value":"1.50"}', Decimal("1.50")),
        (int | None, '{"value":null}', None),
    ],
    ids=str,
)
def test_an_answer_decodes_to_the_type(type_: Any, text: str | bytes, value: Any) -> None:
    assert format_of(type_).decode(text) == value


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (Person, '{"name":"A","age":151}'),
        (Person, '{"name":"A","age":"3"}'),
        (Ticket, '{"title":"help","urgency":"low"}'),
        (Numbers, '{"a":2,"b":[],"c":null,"d":[]}'),
        (Moments, '{"a":"yesterday"}'),
        (Camel, '{"firstName":"A","OTHER":7,"extra":0}'),
        (Urgency, '{"value":"medium"}'),
        (Urgency, '"low"'),
        (Urgency, "{}"),
        (Cat | Dog, '{"value":{"type":"Cow"}}'),
    ],
    ids=str,
)
def test_an_answer_outside_the_type_is_a_validation_error(type_: Any, text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        format_of(type_).decode(text)


@pytest.mark.parametrize("text", ["", "{", '```json\n{"name":"A","age":1}\n```', '{"name":"A","age":1} Done.'])
def test_an_answer_that_is_not_json_alone_is_a_decode_error(text: str) -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        format_of(Person).decode(text)
    assert not isinstance(caught.value, msgspec.ValidationError)


def test_a_field_that_may_be_unset_is_still_asked_for() -> None:
    maybe = msgspec.defstruct("Maybe", [("a", int | UnsetType, UNSET)])
    assert format_of(maybe).schema == obj({"a": INTEGER})
    assert format_of(maybe).decode("{}") == maybe()


# --- refusals ----------------------------------------------------------------------------------------------------


def holding(type_: Any) -> Any:
    return msgspec.defstruct("Ticket", [("extra", type_)])


LONG = "list[dict[str, tuple[int, ...]]] | None[]: dict[str, tuple[int, ...]]"


@pytest.mark.parametrize(
    ("type_", "what", "instead"),
    [
        (holding(dict[str, int]), "Ticket.extra: dict[str, int]", "a list of key/value structs"),
        (holding(Mapping[str, Any]), "Ticket.extra: dict[str, Any]", "a list of key/value structs"),
        (holding(Any), "Ticket.extra: Any", "the exact type"),
        (holding(list), "Ticket.extra[]: Any", "the exact type"),
        (holding(msgspec.Raw), "Ticket.extra: Raw", "the exact type"),
        (holding(object), "Ticket.extra: object", "a struct, an enum, a list or a scalar"),
        (holding(complex | None), "Ticket.extra: complex", "a struct, an enum, a list or a scalar"),
        (holding(tuple[int, str]), "Ticket.extra: tuple[int, str]", "a struct, or tuple[X, ...]"),
        (holding(tuple[()]), "Ticket.extra: tuple[()]", "a struct, or tuple[X, ...]"),
        (holding(list[Point]), "Ticket.extra[]: Point", "a struct (a NamedTuple is a JSON array of mixed types)"),
        (holding(Row), "Ticket.extra: Row", "a struct without array_like"),
        (holding(Annotated[Row, Meta(description="r")]), "Ticket.extra: Row", "a struct without array_like"),
        (
            holding(Box[dict[str, date | None]]),
            "Ticket.extra.item: dict[str, date | None]",
            "a list of key/value structs",
        ),
        (holding(Box), "Ticket.extra.item: Any", "the exact type"),
        (dict[str, Annotated[int, Meta(description="n")]], "dict[str, int]", "a list of key/value structs"),
        (list[set[Any]], "list[set[Any]][][]: Any", "the exact type"),
        (list[dict[str, tuple[int, ...]]] | None, LONG, "a list of key/value structs"),
        (Row, "Row", "a struct without array_like"),
        (Point, "Point", "a struct (a NamedTuple is a JSON array of mixed types)"),
    ],
)
def test_what_strict_mode_cannot_express_is_refused_by_path_with_the_way_out(
    type_: Any, what: str, instead: str
) -> None:
    with pytest.raises(TypeError) as caught:
        format_of(type_)
    assert str(caught.value) == f"{what} has no strict JSON schema; use {instead}"


@pytest.mark.parametrize("type_", ["Ticket", 5, Person | Ticket], ids=str)
def test_what_msgspec_itself_does_not_take_is_a_type_error(type_: Any) -> None:
    with pytest.raises(TypeError):
        format_of(type_)


@pytest.mark.parametrize("written", ["Ticket", {"type": "json_object"}, [Ticket]], ids=["name", "dict", "list"])
def test_what_is_no_type_at_all_is_named_with_the_way_out(written: Any) -> None:
    with pytest.raises(
        TypeError, match=r"is no type; give one, .*\(a format that is written as a dict goes to create\)"
    ):
        format_of(written)


# --- cache -------------------------------------------------------------------------------------------------------


def test_a_hint_that_cannot_be_resolved_is_a_type_error_with_the_way_out() -> None:
    class Lost(Struct):
        inner: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TypeError, match="Lost: a type hint cannot be resolved: name 'Nowhere' is not defined; define"):
        format_of(Lost)


def test_a_type_is_built_once() -> None:
    assert format_of(Person) is format_of(Person)
    assert format_of(list[Person]) is format_of(list[Person])
    assert format_of(Annotated[int, Meta(description="a")]) is not format_of(Annotated[int, Meta(description="b")])


def test_an_unhashable_type_still_works() -> None:
    unhashable: Any = list[Annotated[int, ["note"]]]
    with pytest.raises(TypeError):
        hash(unhashable)
    assert format_of(unhashable).schema == value_of({"type": "array", "items": INTEGER})
    assert format_of(unhashable).decode('{"value":[1]}') == [1]


def test_the_cache_lets_old_types_go() -> None:
    def passing(n: int) -> weakref.ref[type[Struct]]:
        cls = msgspec.defstruct(f"Passing{n}", [])
        format_of(cls)
        return weakref.ref(cls)

    made = [passing(n) for n in range(300)]
    gc.collect()
    assert 0 < sum(cls() is not None for cls in made) < 300


# --- any type ----------------------------------------------------------------------------------------------------

Typed = tuple[Any, st.SearchStrategy[Any]]

texts = st.text(max_size=5)
LEAVES: list[Typed] = [
    (str, texts),
    (int, st.integers(-(2**63), 2**63 - 1)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (None, st.none()),
    (bytes, st.binary(max_size=5)),
    (date, st.dates()),
    (datetime, st.datetimes(timezones=st.just(UTC))),
    (UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (Urgency, st.sampled_from(Urgency)),
    (Stars, st.sampled_from(Stars)),
    (Literal["x", 7, None], st.sampled_from(["x", 7, None])),
    (int | str, st.integers(0, 9) | texts),
    (Annotated[int, Meta(ge=3, le=5, description="few")], st.integers(3, 5)),
    (Annotated[str, Meta(max_length=2)], st.text(max_size=2)),
    (set[int], st.sets(st.integers(0, 9))),
    (Pets, st.just(Pets(Dog("pug"))) | st.just(Pets(None))),
    (Node, st.just(Node("a", [Node("b")], Node("c")))),
]
names = st.from_regex(r"[a-z]{1,3}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))


@st.composite
def structs(draw: st.DrawFn, inner: st.SearchStrategy[Typed]) -> Typed:
    fields = draw(st.dictionaries(names, inner, max_size=4))
    values = {name: of for name, (_, of) in fields.items()}
    spec: Iterable[Any] = [
        (name, type_, draw(of)) if draw(st.booleans()) and type_ in (str, int, bool, None) else (name, type_)
        for name, (type_, of) in fields.items()
    ]
    cls = msgspec.defstruct(
        draw(names).title(),
        spec,
        kw_only=True,
        rename=draw(st.sampled_from([None, "camel", "upper"])),
        tag=draw(st.sampled_from([None, "t", 4])),
        tag_field="_tag" if draw(st.booleans()) else None,
        forbid_unknown_fields=draw(st.booleans()),
    )
    return cls, st.fixed_dictionaries(values).map(lambda made: cls(**made))


def wider(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return st.one_of(
        structs(inner),
        structs(inner),
        inner.map(lambda of: (GenericAlias(list, of[0]), st.lists(of[1], max_size=2))),
        inner.map(lambda of: (GenericAlias(tuple, (of[0], ...)), st.lists(of[1], max_size=2).map(tuple))),
        inner.map(lambda of: (of[0] | None if of[0] else None, st.none() | of[1])),
        inner.map(lambda of: (Annotated[of[0], Meta(description="told")], of[1])),
    )


@settings(max_examples=150, deadline=None)
@given(st.data(), st.recursive(st.sampled_from(LEAVES), wider, max_leaves=8))
def test_any_type_has_a_strict_schema_that_its_values_fit_and_come_back_from(data: st.DataObject, typed: Typed) -> None:
    type_, values = typed
    made = format_of(type_)
    assert_strict(made.schema)
    assert re.fullmatch("[A-Za-z0-9_-]{1,64}", made.name)
    value = data.draw(values)
    text = msgspec.json.encode(value)
    bare = getattr(type_, "__origin__", type_) if not isinstance(type_, type) else type_
    if not (isinstance(bare, type) and issubclass(bare, Struct)):
        text = b'{"value":' + text + b"}"
    assert accepts(made.schema, made.schema, msgspec.json.decode(text))
    back = made.decode(text)
    assert back == value
    assert type(back) is type(value)
