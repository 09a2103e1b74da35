"""Shards: every row is in exactly one of them, and in the same one everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimlasync.bulk.input.shard import Shard


def test_a_shard_is_written_as_it_is_read() -> None:
    assert Shard.parse("1/4") == Shard(1, 4)
    assert str(Shard.parse(" 4/4 ")) == "4/4"


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "1.0/4", "01/4", "\u0661/4"])
def test_what_is_no_shard_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no shard; write ") as caught:
        Shard.parse(text)
    assert "\n" not in str(caught.value)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 50))
def test_every_row_is_in_exactly_one_shard(custom_id: str, count: int) -> None:
    assert sum(Shard(index, count).owns(custom_id) for index in range(1, count + 1)) == 1


def test_shards_are_of_one_size() -> None:
    names = [f"row-{number}" for number in range(1, 10_001)]
    sizes = [sum(map(Shard(index, 4).owns, names)) for index in range(1, 5)]
    assert sum(sizes) == 10_000
    assert all(2300 < size < 2700 for size in sizes)


def test_the_shard_of_a_name_never_changes() -> None:
    # Other machines have begun with these.
    owners = [
        next(index for index in range(1, 5) if Shard(index, 4).owns(name)) for name in ("row-1", "row-2", "ä", "")
    ]
    assert owners == [4, 4, 2, 1]
