"""One account's limits, shared by several processes: what they ask of the shared place, and what it answers.

Law: plain data and a protocol. The arithmetic of the shared place is `account`, a worker's side of it `leases`, and
what a worker does while the place is away `fallback`; places are `aimlasync.redis` and `aimlasync.quota.server`.

A worker leases a small slice of the account's requests and tokens, spends it within a second in its own line, and says
with its next question what it spent. So the shared place is asked a few times a second, whatever the rate, and a
worker that dies takes one lease with it.
What comes from another process is checked when it is decoded: a number that is none, negative or out of bounds is a
`msgspec.ValidationError`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Amount = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_Limit = Annotated[float, msgspec.Meta(ge=1e-3, le=1e12)]
_Signed = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
_Part = Annotated[float, msgspec.Meta(ge=0, le=1)]
# Billionths of a dollar, up to the largest budget.
_Units = Annotated[int, msgspec.Meta(ge=0, le=10**18)]
_Name = Annotated[str, msgspec.Meta(max_length=100)]
# Sums are told by steps of a minute; more than a few hundred are no minute.
_MAX_SUMS = 1000


class Memory(msgspec.Struct, array_like=True, kw_only=True):
    """What the account's last minute came to: workers keep it for a shared place that forgets.

    Sums are flat lists: credit, the seconds for which the pace is paid, then pairs of a stretch of time and an amount.
    """

    step: Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
    """When it was told, in quarters of a second of the place's clock."""
    requests: Annotated[list[_Signed], msgspec.Meta(max_length=_MAX_SUMS)] = []
    tokens: Annotated[list[_Signed], msgspec.Meta(max_length=_MAX_SUMS)] = []


class Ask(msgspec.Struct, array_like=True, kw_only=True):
    """What a worker tells the shared place, and what it wants."""

    worker: _Name
    requests_per_minute: _Limit | None
    """Of the whole account."""
    tokens_per_minute: _Limit | None
    calls: _Count = 0
    """How many attempts it would like to send now; 0 asks for nothing."""
    tokens: _Amount = 0.0
    """Of the first of them."""
    epoch: _Name = ""
    """The life of the shared place in which `lease` and `corrections` belong."""
    lease: _Count = 0
    """The lease that ends with this, 0 for none."""
    spent_requests: _Amount = 0.0
    spent_tokens: _Amount = 0.0
    """Of that lease."""
    corrections: Annotated[dict[int, _Signed], msgspec.Meta(max_length=_MAX_SUMS)] = {}
    """Step -> tokens that the attempts counted there took beyond what they were counted at; negative for fewer. Step 0
    is now."""
    pause: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds for which the server told the account to wait."""
    part: _Part = 0.0
    """The part of the limits that the worker holds to be its own while it cannot reach the place."""
    alone: Literal["waits", "part", "share"] = "waits"
    """What it does then: sends nothing, keeps to the part that it was told, or to one that is fixed."""
    away: _Amount = 0.0
    """Seconds for which it could not reach the place until now, and kept to its part alone."""
    heard: _Count = 0
    """The last lease that it was granted in this epoch: a place that knows fewer lost what came after."""
    memory: Memory | None = None
    """What the place told last in another epoch; sent when the place says that it does not know."""
    age: _Amount = 0.0
    """Seconds since that was told."""
    leaves: bool = False
    """Whether this is the last that is heard of the worker."""


class Lease(msgspec.Struct, array_like=True, kw_only=True):
    """What a worker may send, and when."""

    epoch: _Name
    number: _Count
    requests: _Amount = 0.0
    tokens: _Amount = 0.0
    starts: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    """Seconds from now."""
    seconds: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.0
    """How long it may be spent from then on."""
    step: int = 0
    """Where it is counted."""
    ended: int = 0
    """Where the lease is counted that ended with the question."""
    workers: Annotated[int, msgspec.Meta(ge=1, le=2**31)] = 1
    held_by: Literal["requests", "tokens", "pause"] = "requests"
    """Why it does not start at once."""
    part: _Part = 0.0
    """The part of the limits that the worker may use while it cannot reach the place; all parts are at most 1."""
    requests_per_minute: _Limit | None = None
    tokens_per_minute: _Limit | None = None
    """The limits in force: the lowest that any worker gave lately."""
    memory: Memory | None = None
    is_lost: bool = False
    """Whether the place knows nothing of the worker's epoch: it must be told `Ask.memory` before it grants anything."""


class Draw(msgspec.Struct, array_like=True, kw_only=True):
    """What a worker holds of something that is spent once and for all, and how much more it needs; whole units.

    It states what it holds and not what it gives, so that a question that was asked twice does no harm.
    """

    worker: _Name
    purse: _Name
    """Which of them: "usd"."""
    total: _Units
    """All there is of it."""
    keeps: _Units
    """What the worker has drawn so far and does not give back."""
    needs: _Units = 0
    epoch: _Name = ""
    """The life of the purse in which the worker drew last; "" for never."""
    version: _Count = 0
    """How often that purse had changed then."""
    taken: _Units = 0
    """What all workers together had drawn then."""


class Drawn(msgspec.Struct, array_like=True, kw_only=True):
    """What a worker may spend beyond what it keeps, and what the purse looks like with it."""

    granted: _Units
    epoch: _Name
    version: _Count
    taken: _Units
    wait: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    """Seconds until an empty purse gives anything: by then whoever drew from it before it was emptied has said so."""


class QuotaDownError(Exception):
    """The shared place does not answer, and nothing may be given out without it."""


class Quota(Protocol):
    """A place that leases out one account's requests, tokens and money."""

    async def lease(self, ask: Ask) -> Lease:
        """Take in what was spent, and grant what may be sent next; never above the limits, whoever else asks."""

    async def draw(self, draw: Draw) -> int:
        """Return how much more the worker may spend, 0 when less is left than it needs. Raises QuotaDownError."""

    async def close(self) -> None:
        """Let go of connections."""
