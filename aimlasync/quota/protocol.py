"""The messages between the workers of a shared quota and the shared place: structs, and the protocol `Quota`.

A worker leases a small slice of the account's requests and tokens, spends it within a second through its own limiter,
and reports with its next ask what it spent. So the place is asked a few times a second, whatever the rate, and a worker
that dies takes one lease with it. The values of a message are checked when it is decoded: one that is negative, out of
bounds or no number is a `msgspec.ValidationError`. It imports nothing of this library.
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
# A minute has a few hundred steps; a longer list of sums is refused.
_MAX_SUMS = 1000


class Memory(msgspec.Struct, array_like=True, kw_only=True):
    """The account's last minute in coarse sums, which workers keep for the case that the place loses its state.

    Each list is flat: credit, the seconds for which the rate is paid ahead, then pairs of a stretch and an amount.
    """

    step: Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
    """When it was told, in quarters of a second of the place's clock."""
    requests: Annotated[list[_Signed], msgspec.Meta(max_length=_MAX_SUMS)] = []
    tokens: Annotated[list[_Signed], msgspec.Meta(max_length=_MAX_SUMS)] = []


class Ask(msgspec.Struct, array_like=True, kw_only=True):
    """What a worker reports to the shared place, and what it asks for."""

    worker: _Name
    requests_per_minute: _Limit | None
    """The limit of the whole account, as this worker heard it last, or was given it; None for no limit."""
    tokens_per_minute: _Limit | None
    calls: _Count = 0
    """How many attempts it wants to send; 0 asks for no lease."""
    tokens: _Amount = 0.0
    """The estimated tokens of the first of them."""
    epoch: _Name = ""
    """The epoch of the shared place to which `lease` and `corrections` belong; a loss of state begins a new one."""
    lease: _Count = 0
    """The number of the lease that this ask ends, 0 for none."""
    spent_requests: _Amount = 0.0
    spent_tokens: _Amount = 0.0
    """What was spent of that lease: requests, and tokens."""
    corrections: Annotated[dict[int, _Signed], msgspec.Meta(max_length=_MAX_SUMS)] = {}
    """Step -> tokens that the attempts of that step took beyond those counted; negative for fewer. Step 0 is now."""
    pause: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds for which the vendor's server told the account to send nothing."""
    part: _Part = 0.0
    """The part of the limits that the worker believes to be its own while it cannot reach the place."""
    alone: Literal["waits", "part", "share"] = "waits"
    """What it does then: it sends nothing, uses the part that it was told, or uses a fixed part (`share=`)."""
    away: _Amount = 0.0
    """Seconds for which it used its part alone until now, because it could not reach the place."""
    heard: _Count = 0
    """The number of its last lease in this epoch; a place that granted fewer was restored from an older copy."""
    memory: Memory | None = None
    """What the place told last in another epoch; sent when an answer has `is_lost`."""
    age: _Amount = 0.0
    """Seconds since `memory` was told."""
    leaves: bool = False
    """Whether this is the worker's last ask."""
    version: _Count = 0
    """The version of the limits that it heard; 0 states limits that it was given, which replace those in force."""


class Lease(msgspec.Struct, array_like=True, kw_only=True):
    """What a worker may send, and when."""

    epoch: _Name
    number: _Count
    requests: _Amount = 0.0
    tokens: _Amount = 0.0
    starts: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    """Seconds from the answer until the lease begins."""
    seconds: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.0
    """Seconds for which it may be spent from then on."""
    step: int = 0
    """The step in which the lease is counted."""
    ended: int = 0
    """The step in which the lease that the ask ended is counted now, 0 for none."""
    workers: Annotated[int, msgspec.Meta(ge=1, le=2**31)] = 1
    held_by: Literal["requests", "tokens", "pause"] = "requests"
    """What delays the begin of the lease."""
    part: _Part = 0.0
    """The part of the limits that the worker may use while it cannot reach the place; all parts are at most 1."""
    requests_per_minute: _Limit | None = None
    tokens_per_minute: _Limit | None = None
    """The limits in force: those of the worker that began last."""
    memory: Memory | None = None
    is_lost: bool = False
    """Whether the place does not know the worker's epoch: it grants nothing until an ask with `memory`."""
    version: _Count = 0
    """How often the limits in force have changed."""


class Draw(msgspec.Struct, array_like=True, kw_only=True):
    """What a worker holds of a shared budget, and how much more it needs, in whole units.

    It states how much it keeps and not how much it returns, so that a message that arrives twice does no harm.
    """

    worker: _Name
    purse: _Name
    """The name of the budget, such as "usd"."""
    total: _Units
    """The whole budget."""
    keeps: _Units
    """What the worker has drawn so far and keeps."""
    needs: _Units = 0
    epoch: _Name = ""
    """The epoch of the purse in which the worker drew last; "" for never."""
    version: _Count = 0
    """The version of the purse at that time: how often it had changed."""
    taken: _Units = 0
    """What all workers together had drawn at that time."""


class Drawn(msgspec.Struct, array_like=True, kw_only=True):
    """What a worker may spend beyond what it keeps, and the state of the purse after that."""

    granted: _Units
    epoch: _Name
    version: _Count
    taken: _Units
    wait: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    """Seconds until a purse that may have lost its state grants anything; by then its workers have stated what they
    hold."""


class QuotaDownError(Exception):
    """The shared place does not answer, and nothing may be spent without it."""


class Quota(Protocol):
    """A shared place that leases one account's requests and tokens, and grants its budget."""

    async def lease(self, ask: Ask) -> Lease:
        """Take in what a worker reports, and grant its next lease; all leases together stay within the limits."""

    async def draw(self, draw: Draw) -> int:
        """Return how many more units the worker may spend, 0 when it needs more than is left. Raises QuotaDownError."""

    async def close(self) -> None:
        """Close the connections."""
