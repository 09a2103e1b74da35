"""The set of what is done: as a set of strings, in eight bytes each."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.bulk.journal import id_set as done
from aimlasync.bulk.journal.id_set import IdSet

IDS = st.text(max_size=3) | st.integers(0, 50).map("row-{}".format)


@settings(max_examples=50, deadline=None)
@given(st.lists(IDS), st.lists(IDS))
def test_it_is_a_set(added: list[str], probed: list[str]) -> None:
    ours, theirs = IdSet(), set[str]()
    for custom_id in added:
        assert ours.add(custom_id) == (custom_id not in theirs)
        theirs.add(custom_id)
        assert len(ours) == len(theirs)
    for custom_id in (*added, *probed):
        assert (custom_id in ours) == (custom_id in theirs)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(IDS)), st.integers(0, 20))
def test_many_are_added_at_once_until_one_is_there(groups: list[list[str]], few: int) -> None:
    ours, theirs = IdSet(), set[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(done, "_FEW", few)
        for group in groups:
            found = ours.add_all(group)
            expected = next((at for at, name in enumerate(group) if name in theirs or name in group[:at]), None)
            assert found == expected
            if found is not None:
                return
            theirs.update(group)
            assert len(ours) == len(theirs)
    assert all(name in ours for name in theirs)


def test_many_ids_share_a_bucket_and_stay_apart() -> None:
    ids = IdSet()
    assert all(ids.add(f"row-{number}") for number in range(105_000))
    assert not any(ids.add(f"row-{number}") for number in range(0, 100_000, 7))
    assert all(f"row-{number}" in ids for number in range(0, 100_000, 11))
    assert not any(f"row-{number}" in ids for number in range(105_000, 110_000))
    assert len(ids) == 105_000


def test_an_id_costs_little_more_than_its_eight_bytes() -> None:
    ids = IdSet()
    tracemalloc.start()
    try:
        for number in range(300_000):
            ids.add(f"row-{number}")
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Small buckets have some room to grow; at ten million ids it is 10.5 bytes, allocator included.
    assert size < 300_000 * 16


def test_a_python_of_32_bits_has_64_bit_hashes_too() -> None:
    hashes = [done._wide_hash(f"row-{number}") for number in range(10_000)]
    assert all(-(2**127) <= hashed < 2**127 for hashed in hashes)
    # Either half alone would do for so few: both are used.
    assert len({hashed & 0xFFFF_FFFF for hashed in hashes}) > 9_990
    assert len({hashed >> 32 for hashed in hashes}) > 9_990
