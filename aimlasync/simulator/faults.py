"""Faults that a test lets happen to requests.

This module decides which fault happens to which request; `exchange` makes it happen. The faults are tried in order, and
the first one that applies happens. Only admitted requests get a fault, and only streamed ones get a `*_stream` fault.
`after` spares the first requests, and `times` bounds how often a fault happens. No imports from the package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from random import Random
from typing import TYPE_CHECKING

from aimlasync.spelling import spelled_fields

if TYPE_CHECKING:
    from aimlasync.simulator.vendor.request import SimRequest

KINDS: Mapping[str, str] = {
    "status": "an error of any status in the vendor's shape",
    "reset": "TCP reset before a response",
    "stall": "accepted, never answered",
    "slow_first_byte": "`delay` seconds before the response begins",
    "cut_stream": "HTTP ends cleanly after `at` events, no terminal event",
    "reset_stream": "TCP reset after `at` events",
    "stall_stream": "silence after `at` events",
    "error_in_stream": "an error event after `at` events, then the end",
    "malformed_json": "status 200 with JSON that breaks off",
    "html": "status 200 with an HTML page",
    "truncated_body": "the connection closes before Content-Length bytes came",
    "close_idle": "answered, then the kept connection closes without a word: after `delay` seconds, "
    "or when the next request is already on its way",
}
# The option that the argument after the colon sets in the form of the command line.
_ARGUMENT = {"status": "status", "slow_first_byte": "delay", "close_idle": "delay"}
_OF_STREAMS = frozenset(("cut_stream", "reset_stream", "stall_stream", "error_in_stream"))


@spelled_fields
@dataclass
class Fault:
    """One kind of fault, and when it happens. It counts for itself, so each simulator needs objects of its own.

    Raises ValueError for an unknown kind, and for a probability or a status out of range.
    """

    kind: str
    _: KW_ONLY
    probability: float = 1.0
    times: int | None = None
    """How often it happens at most; None is without a bound."""
    after: int = 0
    """How many matching requests are spared first."""
    match: Callable[[SimRequest], bool] | None = None
    """Only requests for which this is true may get the fault."""
    status: int = 500
    message: str | None = None
    """Error message of the kinds "status" and "error_in_stream"; None is the vendor's."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Extra response headers of the kind "status"."""
    delay: float = 0.0
    """Seconds, for "slow_first_byte" and "close_idle"."""
    at: int | None = None
    """Events sent before a stream's fault; None is half of them."""
    hits: int = field(default=0, init=False)
    """How often it has happened."""
    seen: int = field(default=0, init=False)
    """How many matching requests there were."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; known: {', '.join(KINDS)}")
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability must be from 0 to 1, not {self.probability}")
        if not 200 <= self.status <= 599:
            raise ValueError(f"status must be from 200 to 599, not {self.status}")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Parse the form of the command line: ``kind[:argument][,name=value...]``.

        The argument is the status of "status", the delay in seconds of "slow_first_byte" and "close_idle", or the
        number of events before a stream's fault: ``status:503,probability=0.1,times=5``, ``cut_stream:3``.
        Raises ValueError for an unknown kind or name and for a value out of range.
        """
        head, *pairs = text.split(",")
        kind, colon, argument = head.strip().partition(":")
        if kind not in KINDS:
            raise ValueError(f"unknown fault {kind!r}; known: {', '.join(KINDS)}")
        options: dict[str, str] = {}
        if colon:
            options["at" if kind in _OF_STREAMS else _ARGUMENT.get(kind, "")] = argument
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals:
                raise ValueError(f"expected name=value, not {pair!r}, in fault {text!r}")
            options[name.strip()] = value.strip()
        readers: dict[str, Callable[[str], object]] = {
            "probability": float,
            "delay": float,
            "times": int,
            "after": int,
            "status": int,
            "at": int,
            "message": str,
        }
        read: dict[str, object] = {}
        for name, value in options.items():
            if name not in readers:
                raise ValueError(f"fault {text!r} has no option {name!r}; known: {', '.join(readers)}")
            try:
                read[name] = readers[name](value)
            except ValueError:
                raise ValueError(f"fault {text!r}: {name} cannot be {value!r}") from None
        return cls(kind, **read)  # type: ignore[arg-type]

    def _happens(self, request: SimRequest, random: Random) -> bool:
        if self.kind in _OF_STREAMS and not request.stream:
            return False
        if self.match is not None and not self.match(request):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.hits >= self.times):
            return False
        if self.probability < 1.0 and random.random() >= self.probability:
            return False
        self.hits += 1
        return True


def choose(faults: Sequence[Fault], request: SimRequest, random: Random) -> Fault | None:
    """Return the fault that happens to `request`, or None, and count it."""
    for fault in faults:
        if fault._happens(request, random):
            return fault
    return None
