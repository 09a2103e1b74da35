"""What an endpoint may be asked for, and what an attempt says about it.

Law: plain data. What enforces the limits is `gate`, what learns them is `concurrency`.
"""

from __future__ import annotations

import enum
from typing import Literal

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint may be asked for; None means that nothing is known."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None
    """Attempts in flight at most."""
    tokens_counted: Literal["used", "requested"] = "used"
    """What the server counts: what was used in the end, or the prompt and the whole `max_tokens` at once (OpenAI)."""

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "concurrency"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above zero and finite, not {value}")
        if self.concurrency is not None and self.concurrency != int(self.concurrency):
            raise ValueError(f"concurrency must be a whole number, not {self.concurrency}")
        if self.tokens_counted not in ("used", "requested"):
            raise ValueError(f"tokens_counted must be used or requested, not {self.tokens_counted}")

    @property
    def is_rated(self) -> bool:
        """Whether requests or tokens per minute are known."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None

    def share(self, index: int, count: int) -> Limits:
        """Return the `index`th of `count` equal parts, 1 for the first: for processes that share nothing else.

        Raises ValueError for a part that there is not. Every part may have one attempt in flight.
        """
        if not 1 <= index <= count:
            raise ValueError(f"{index} of {count} is no part; there are 1 to {count}")
        rpm, tpm, concurrency = self.requests_per_minute, self.tokens_per_minute, self.concurrency
        return msgspec.structs.replace(
            self,
            requests_per_minute=None if rpm is None else rpm / count,
            tokens_per_minute=None if tpm is None else tpm / count,
            concurrency=None if concurrency is None else max(1, (concurrency + count - index) // count),
        )


class Outcome(enum.Enum):
    """What an attempt says about the server's capacity."""

    OK = enum.auto()
    """A good answer."""
    DROPPED = enum.auto()
    """Too much was asked: 429, 503, or no connection."""
    IGNORED = enum.auto()
    """Says nothing: a bad request, a cancelled caller."""
