"""A part of a job's rows, so that several machines can share one input.

Which shard a row is in depends on its custom_id alone, and is the same on every machine and Python. Pure functions; it
imports the standard library alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

_WRITTEN = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """The `index`th of `count` parts, 1 for the first."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(
                f"{self.index}/{self.count} is no shard; write 1/{self.count} to {self.count}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "1/4" .. "4/4". Raises ValueError."""
        found = _WRITTEN.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} is no shard; write the number of this one and of all: 1/4 .. 4/4")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def owns(self, custom_id: str) -> bool:
        """Whether the row of this name is in this shard."""
        # Python's own hash differs from process to process.
        digest = blake2b(custom_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % self.count == self.index - 1
