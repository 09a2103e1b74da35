"""The simulated model fills a strict schema with what its descriptions say, as a real one does."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from aimlasync import AsyncClient
from aimlasync.simulator import Simulator
from aimlasync.simulator.model.fill_schema import fill
from aimlasync.simulator.model.said_bounds import bounds

pytestmark = pytest.mark.anyio


class Dated(msgspec.Struct):
    issued: date
    due: date | None
    at: datetime
    daily: time
    lasts: timedelta
    id: UUID
    sum: Decimal
    picture: bytes


class Bounded(msgspec.Struct):
    count: Annotated[int, Meta(ge=5, le=9, description="how many")]
    share: Annotated[float, Meta(gt=0, lt=1)]
    seven: Annotated[int, Meta(multiple_of=7)]
    tags: Annotated[list[Annotated[str, Meta(max_length=4)]], Meta(min_length=2, max_length=3)]
    name: Annotated[str, Meta(min_length=60, description="the long name")]
    large: Annotated[int, Meta(ge=100)] | None


@pytest.mark.parametrize("text", ["Invoice 17 of 2026-11-01, 2 lamps", 'He said "hello" on Friday', "nothing"])
@pytest.mark.parametrize("structured", ["json_schema", "tool", "text"])
@pytest.mark.parametrize("kind", [Dated, Bounded])
async def test_a_bound_that_a_description_says_is_kept(kind: Any, structured: Any, text: str) -> None:
    async with Simulator() as simulator, AsyncClient(api_key="test", base_url=simulator.base_url) as client:
        reply = await client.chat.completions.parse(
            model="openai/gpt-5-nano-2025-08-07",
            messages=[{"role": "user", "content": text}],
            response_format=kind,
            structured=structured,
        )
    assert isinstance(reply.parsed, kind)
    if isinstance(reply.parsed, Dated) and "2026" in text:
        assert reply.parsed.issued == date(2026, 11, 1)


def test_a_description_says_bounds_in_the_words_of_strict_schemas() -> None:
    assert bounds("an age (minimum 18; less than 99.5)") == {"minimum": 18, "exclusiveMaximum": 99.5}
    assert bounds("at least 2 items; at most 3 items; unique items") == {"minItems": 2, "maxItems": 3}
    assert bounds("format date-time; with UTC offset") == {"format": "date-time"}
    assert bounds("a minimum of words, more than 3rd parties need") == bounds(None) == {}


def test_a_description_makes_no_number_of_a_text() -> None:
    assert isinstance(fill({"description": "a name, minimum 3"}, "my name is Ann"), str)
