"""The client's statistics as observable gauges and counters.

A metric reader calls from a thread of its own, and `AsyncClient.statistics()` is safe only on the client's event loop.
So the numbers are read there and handed over. It imports OpenTelemetry only when a meter is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from aimlasync import AsyncClient
from aimlasync.endpoints.statistics import EndpointStatistics

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

# Reads one number of an endpoint, None where it is unknown.
_Read = Callable[[EndpointStatistics], float | None]

_GAUGES: Sequence[tuple[str, str, str, _Read]] = (
    ("aimlasync.client.in_flight", "{attempt}", "Attempts in flight.", lambda of: of.in_flight),
    ("aimlasync.client.queued", "{call}", "Calls that wait for their turn.", lambda of: of.queued),
    ("aimlasync.client.limit", "{attempt}", "Attempts that may be in flight.", lambda of: of.limit),
    ("aimlasync.client.pause", "s", "Time until the endpoint may be asked again.", lambda of: of.paused_for),
)
_COUNTERS: Sequence[tuple[str, str, str, _Read]] = (
    ("aimlasync.client.attempts", "{attempt}", "Attempts made.", lambda of: of.attempts),
    ("aimlasync.client.retries", "{attempt}", "Attempts made because one had failed.", lambda of: of.retries),
    ("aimlasync.client.hedges", "{attempt}", "Attempts made because one was slow.", lambda of: of.hedges),
    ("aimlasync.client.refused", "{attempt}", "Attempts refused: 429, 503, no connection.", lambda of: of.refused),
    ("aimlasync.client.failed", "{attempt}", "Attempts that failed otherwise.", lambda of: of.failed),
    ("aimlasync.client.cancelled", "{attempt}", "Attempts that nobody waited for any more.", lambda of: of.cancelled),
    ("aimlasync.client.cost", "{USD}", "Cost that the vendor stated.", lambda of: of.cost_usd),
)
# Seconds that a reader on another thread waits for the event loop before it takes the last numbers.
_MAX_WAIT = 1.0
# Seconds for which numbers are reused, because one collection calls once for each instrument.
_MAX_AGE = 0.1


class StatisticsReader:
    """Reads the statistics of a client from any thread. Mutable: the last numbers, and the client's event loop."""

    def __init__(self, client: weakref.ref[AsyncClient]) -> None:
        self.is_stopped = False
        """Whether the instruments report nothing any more."""
        self._client = client
        self._latest: list[EndpointStatistics] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        # The time of the last request from another thread.
        self._requested_at = float("-inf")
        # Outside an event loop the client's loop is not known before its first call.
        with contextlib.suppress(RuntimeError):
            self.note_loop()

    def note_loop(self) -> None:
        """Note the running event loop as the client's, if none is noted. Raises RuntimeError when none is running."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.get_ident()

    def register(self, meter: Meter) -> None:
        """Create the gauges and counters."""
        for name, unit, description, read in _GAUGES:
            meter.create_observable_gauge(name, [self._callback(read)], unit, description)
        for name, unit, description, read in _COUNTERS:
            meter.create_observable_counter(name, [self._callback(read)], unit, description)

    def _callback(self, read: _Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Return the callback of an instrument: one number of each endpoint."""
        from opentelemetry.metrics import Observation

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            if self.is_stopped:
                return []
            values = [(read(endpoint), endpoint.name) for endpoint in self._current()]
            return [Observation(value, {"aimlasync.endpoint": name}) for value, name in values if value is not None]

        return observe

    def _current(self) -> list[EndpointStatistics]:
        loop = self._loop
        if loop is None or threading.get_ident() == self._thread:
            self._update(None)
        elif loop.is_running() and time.monotonic() - self._requested_at > _MAX_AGE:
            self._requested_at = time.monotonic()
            updated = threading.Event()
            # RuntimeError: the loop was closed meanwhile, and the last numbers stay.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._update, updated)
                updated.wait(_MAX_WAIT)
        return self._latest

    def _update(self, updated: threading.Event | None) -> None:
        client = self._client()
        self._latest = [] if client is None else client.statistics()
        if updated is not None:
            updated.set()
