"""A set of custom_ids in eight bytes each, small enough for ten million of them: which rows are done.

In memory alone. It can say whether an id is in it, and not which are. Imports the standard library alone.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence

# Measured with 10,000,000 ids: 2**13 to 2**16 take the same time and memory; 2**17 took 70 MB more.
_BUCKETS = 2**14
# Up to so many ids a plain set is used: 6 MB, and ten times as fast.
_FEW = 100_000


class IdSet:
    """A set of custom_ids as 64-bit hashes, eight bytes each.

    Two ids may have one hash, and then the second counts as done though it never was: the odds that this happens
    anywhere in a job are about n²/2⁶⁵, 1 in 370,000 for 10,000,000 rows and 1 in 37 million for 1,000,000. Hashes are
    keyed anew in every process, so nobody can choose ids that collide, and the next run would find the row.
    """

    def __init__(self) -> None:
        self._few: set[int] | None = set()
        # Each is sorted; the lowest bits of a hash choose the bucket.
        self._buckets: list[array[int]] = []
        # Ids in the buckets.
        self._len = 0

    def add(self, custom_id: str) -> bool:
        """Add an id; False if it was there."""
        few, hashed = self._few, _hash(custom_id)
        if few is None:
            return self._insert(hashed)
        size = len(few)
        few.add(hashed)
        if len(few) == size:
            return False
        if size >= _FEW:
            self._few = None
            self._buckets = [array("q") for _ in range(_BUCKETS)]
            for each in few:
                self._insert(each)
        return True

    def add_all(self, custom_ids: Sequence[str]) -> int | None:
        """Add ids; return the index of the first that was there, also earlier among them, and None where none was."""
        few = self._few
        if few is not None and len(few) + len(custom_ids) <= _FEW:
            hashes = list(map(_hash, custom_ids))
            new = set(hashes)
            if len(new) == len(hashes) and few.isdisjoint(new):
                few |= new
                return None
        return next((at for at, custom_id in enumerate(custom_ids) if not self.add(custom_id)), None)

    def _insert(self, hashed: int) -> bool:
        bucket = self._buckets[hashed & (_BUCKETS - 1)]
        at = bisect_left(bucket, hashed)
        if at < len(bucket) and bucket[at] == hashed:
            return False
        bucket.insert(at, hashed)
        self._len += 1
        return True

    def __contains__(self, custom_id: str) -> bool:
        few, hashed = self._few, _hash(custom_id)
        if few is not None:
            return hashed in few
        bucket = self._buckets[hashed & (_BUCKETS - 1)]
        at = bisect_left(bucket, hashed)
        return at < len(bucket) and bucket[at] == hashed

    def __len__(self) -> int:
        return self._len if self._few is None else len(self._few)


def _wide_hash(custom_id: str) -> int:
    """64 bits where Python's own hash has 32, in which one of 100,000 rows would collide."""
    return hash(custom_id) << 32 | hash("\0" + custom_id) & 0xFFFF_FFFF


_hash = hash if sys.hash_info.width >= 64 else _wide_hash
