"""The ledger of the requests that a simulator received, one entry per attempt, for the assertions of a test.

Plain data in order of arrival; it never holds a key. An entry is complete before the last byte of its response is
written, so a client that has its reply finds it here. Any thread may read while the server writes, because readers work
on a copy of the list. No imports from the package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import msgspec


# Not tracked by the garbage collector: a load run keeps hundreds of thousands of these, and none can be in a cycle.
class Attempt(msgspec.Struct, kw_only=True, gc=False):
    """One HTTP request as the server received it."""

    number: int
    """The position, 1 for the first attempt after the start or after `clear`."""
    time: float
    """The simulator's clock when the request had arrived in full."""
    path: str
    api: str
    """"chat", "responses", "models", "model", "balance", "health", or "" for an unknown path."""
    model: str = ""
    stream: bool = False
    client_request_id: str | None = None
    custom_id: str | None = None
    """The `custom_id` of the request's `metadata`, or its `x-custom-id` header."""
    text_digest: str = ""
    """A digest of the last user message."""
    key_digest: str = ""
    """A digest of the key; empty when no key was sent."""
    status: int = 0
    """The status sent; 0 when the connection ended without one."""
    fault: str | None = None
    """The kind of the fault that happened to it."""
    admitted: bool = False
    """Whether the limits admitted it, so that it counted against them."""
    in_flight: int = 0
    """Admitted attempts in flight on arrival, including this one."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    script: str = ""
    """The name of the script that it followed, where scripts have names."""
    turn: int = 0
    """The number of the model's turns before this one."""
    results: int = 0
    """The number of tool results since the last user message."""
    called: tuple[str, ...] = ()
    """The names of the tools that the answer calls."""
    cost_usd: float = 0.0
    """What was charged, in US dollars."""
    finished: bool = False
    """Whether the whole response was written."""
    disconnected: bool = False
    """Whether the client left before the end."""
    body: dict[str, Any] | None = None
    """The request, when the simulator was started with `keep_bodies=True`."""


class Ledger:
    """The attempts in order of arrival."""

    def __init__(self) -> None:
        self._attempts: list[Attempt] = []
        self._numbered = 0

    def add(self, attempt: Attempt) -> None:
        """Append an attempt and number it."""
        self._numbered += 1
        attempt.number = self._numbered
        self._attempts.append(attempt)

    def clear(self) -> None:
        """Remove all attempts, those in flight included."""
        self._attempts = []
        self._numbered = 0

    def __len__(self) -> int:
        return len(self._attempts)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._attempts.copy())

    def __getitem__(self, index: int) -> Attempt:
        return self._attempts[index]

    def worst_window(self, seconds: float = 60.0, of: Literal["requests", "tokens"] = "requests") -> int:
        """Return the largest amount admitted in any window of `seconds`: requests, or tokens of prompts and answers."""
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
        """The largest number of admitted attempts in flight at a time."""
        return max((attempt.in_flight for attempt in self), default=0)

    @property
    def cost_usd(self) -> float:
        """The cost of all attempts in US dollars."""
        return sum(attempt.cost_usd for attempt in self)

    def by_status(self) -> dict[int, int]:
        """Return the number of attempts for each status; 0 stands for no status."""
        return dict(Counter(attempt.status for attempt in self))

    def __repr__(self) -> str:
        return f"<Ledger of {len(self)} attempts, by status {self.by_status()}>"
