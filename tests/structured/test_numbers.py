"""Numbers that a model writes: an integer is one however it is written, and a fraction is none."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest

from aimlasync import agents
from aimlasync.structured.schema import format_of
from aimlasync.structured.validate import misfit


class Grade(IntEnum):
    ONE = 1
    TWO = 2


class Ticket(msgspec.Struct):
    count: int
    weight: float = 0.0
    at: datetime | None = None
    level: Literal[1, 2] = 1
    grade: Grade = Grade.ONE
    lines: list[int] = []


def read(text: str) -> Any:
    return format_of(Ticket).decode(text)


@pytest.mark.parametrize(
    ("number", "count"),
    [("5", 5), ("5.0", 5), ("1e3", 1000), ("1.5E1", 15), ("-0.0", 0), ("9007199254740992.0", 2**53)],
)
def test_a_whole_number_is_an_int_however_it_is_written(number: str, count: int) -> None:
    ticket = read(f'{{"count": {number}}}')
    assert ticket == Ticket(count=count)
    assert type(ticket.count) is int


def test_what_a_schema_that_refers_to_itself_allows_may_not_be_nested_without_end() -> None:
    schema = {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}
    value: list[Any] = []
    for _ in range(900):
        value = [value]
    assert misfit([[]], schema) is None
    assert misfit(value, schema) == "the answer is nested too deep"


@pytest.mark.parametrize("number", ["3.5", "5.00000000000000000001", "1e400", "1e300", "true", '"5"', "null", "NaN"])
def test_a_number_with_a_fraction_and_what_is_no_number_stay_wrong(number: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(f'{{"count": {number}}}')


def test_the_other_fields_are_read_as_before() -> None:
    text = '{"count": 5.0, "weight": 2.0, "at": "2026-01-01T00:00:00Z", "level": 2.0, "grade": 2.0, "lines": [1.0, 2]}'
    when = datetime(2026, 1, 1, tzinfo=UTC)
    assert read(text) == Ticket(count=5, weight=2.0, at=when, level=2, grade=Grade.TWO, lines=[1, 2])
    assert type(read(text).weight) is float


def test_what_is_wrong_besides_is_named() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"lines\[0\]"):
        read('{"count": 5.0, "lines": ["a"]}')


async def test_a_bound_counts_for_a_number_written_as_a_float() -> None:
    form = format_of(Annotated[int, msgspec.Meta(ge=10)])
    assert form.decode('{"value": 10.0}') == 10
    with pytest.raises(msgspec.ValidationError, match=">= 10"):
        form.decode('{"value": 9.0}')


def test_the_arguments_of_a_tool_are_read_alike() -> None:
    @agents.tool
    def look_up(count: int, weight: float) -> str:
        """Look up."""
        return ""

    assert look_up.read('{"count": 1e3, "weight": 2}') == {"count": 1000, "weight": 2.0}
    with pytest.raises(msgspec.ValidationError):
        look_up.read('{"count": 1.5, "weight": 2}')


@pytest.mark.parametrize(
    ("value", "part", "fits"),
    [
        (5.0, {"type": "integer"}, True),
        (5.5, {"type": "integer"}, False),
        (True, {"type": "integer"}, False),
        (5.0, {"enum": [5]}, True),
        (1, {"enum": [True]}, False),
        (1.0, {"const": 1}, True),
    ],
)
def test_a_schema_takes_a_whole_number_for_an_integer(value: Any, part: dict[str, Any], fits: bool) -> None:
    assert (misfit(value, part) is None) is fits
