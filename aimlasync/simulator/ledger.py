"""Everything the simulator was asked, one line per attempt: the judge of tests and load runs.

Law: plain data in order of arrival; no I/O, and never a key.
An attempt is complete in the ledger before its last byte leaves, so a client that has its reply finds it here.
Any thread may read while the server writes: readers work on a copy of the list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import msgspec


# Without GC tracking: a load run keeps hundreds of thousands of these, and nothing in them can form a cycle.
class Attempt(msgspec.Struct, kw_only=True, gc=False):
    """One HTTP request as the server saw it."""

    number: int
    """1 for the first attempt after the start or after `clear`."""
    time: float
    """The simulator's clock when the whole request had arrived."""
    path: str
    api: str
    """"chat", "responses", "models", "balance", "health" or "" for an unknown path."""
    model: str = ""
    stream: bool = False
    client_request_id: str | None = None
    custom_id: str | None = None
    """`custom_id` of the request's `metadata`, or its `x-custom-id` header."""
    text_digest: str = ""
    """The same for two attempts that ask about the same text."""
    key_digest: str = ""
    """Tells keys apart without holding them; empty when no key was sent."""
    status: int = 0
    """Status sent; 0 when the connection ended without one."""
    fault: str | None = None
    admitted: bool = False
    """True when limits let it in, so that it counted against them."""
    in_flight: int = 0
    """Admitted attempts in flight on arrival, this one included."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    script: str = ""
    """The script it followed, of several."""
    turn: int = 0
    """The model's turns before this one."""
    results: int = 0
    """What tools said since the last user message."""
    called: tuple[str, ...] = ()
    """Names of the tools that the answer calls."""
    cost_usd: float = 0.0
    finished: bool = False
    """The whole response was written."""
    disconnected: bool = False
    """The client went away before the end."""
    body: dict[str, Any] | None = None
    """The request, when the simulator was started with `keep_bodies=True`."""


class Ledger:
    """The attempts in order of arrival."""

    def __init__(self) -> None:
        self._attempts: list[Attempt] = []
        self._numbered = 0

    def add(self, attempt: Attempt) -> None:
        """Append one attempt and number it."""
        self._numbered += 1
        attempt.number = self._numbered
        self._attempts.append(attempt)

    def clear(self) -> None:
        """Forget all attempts; what still runs is not seen again."""
        self._attempts = []
        self._numbered = 0

    def __len__(self) -> int:
        return len(self._attempts)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._attempts.copy())

    def __getitem__(self, index: int) -> Attempt:
        return self._attempts[index]

    def worst_window(self, seconds: float = 60.0, of: Literal["requests", "tokens"] = "requests") -> int:
        """Return the most that was admitted in any window of `seconds`: requests, or their prompt and answer tokens."""
        worst = held = first = 0
        admitted = [attempt for attempt in self if attempt.admitted]
        amounts = [1 if of == "requests" else a.prompt_tokens + a.completion_tokens for a in admitted]
        for last, attempt in enumerate(admitted):
            held += amounts[last]
            while admitted[first].time <= attempt.time - seconds:
                held -= amounts[first]
                first += 1
            worst = max(worst, held)
        return worst

    @property
    def peak_in_flight(self) -> int:
        """The most admitted attempts that were in flight at once."""
        return max((attempt.in_flight for attempt in self), default=0)

    @property
    def cost_usd(self) -> float:
        """What all attempts cost together."""
        return sum(attempt.cost_usd for attempt in self)

    def by_status(self) -> dict[int, int]:
        """Return how many attempts got each status; 0 counts those that got none."""
        return dict(Counter(attempt.status for attempt in self))

    def __repr__(self) -> str:
        return f"<Ledger of {len(self)} attempts, by status {self.by_status()}>"
