"""What all requests to one simulator share.

The server creates one `State` and hands it to every request, so that the code that answers requests does not import the
server. It may import the simulator's faults, latency, ledger and limits, and what a vendor is; no I/O.
"""

from __future__ import annotations

import asyncio
import weakref
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

from aimlasync.simulator.faults import Fault
from aimlasync.simulator.latency import Latency
from aimlasync.simulator.ledger import Ledger
from aimlasync.simulator.limits import Admission
from aimlasync.simulator.vendor.stored import StoredResponses
from aimlasync.simulator.vendor.vendors import Vendor


class State:
    """The options that hold for each request, and what changes from request to request."""

    def __init__(
        self,
        vendor: Vendor,
        admission: Admission,
        *,
        seed: int,
        latency: Latency,
        retry_after: Literal["auto"] | float | None,
        faults: Sequence[Fault],
        clock: Callable[[], float],
    ) -> None:
        self.vendor = vendor
        self.admission = admission
        self.seed = seed
        self.latency = latency
        self.retry_after = retry_after
        self.faults = list(faults)
        self.clock = clock
        self.random = Random(seed)
        """The source of ids, faults and latency."""
        self.ledger = Ledger()
        self.stored = StoredResponses()
        self.is_closing = False
        # Connections that close at their next request, see the fault close_idle.
        self.closing_connections: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    def new_id(self) -> str:
        """Return a new id of 22 characters."""
        return urlsafe_b64encode(self.random.randbytes(16))[:22].decode()
