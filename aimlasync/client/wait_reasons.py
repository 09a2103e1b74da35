"""What a call waits for at an endpoint, in words, and where that time is booked.

It may import what lies below `client`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Literal

from aimlasync.admission.endpoint_limiter import WaitsFor
from aimlasync.endpoints.lane import Lane
from aimlasync.info import Timing

_Reason = WaitsFor | Literal["turn"]


def why_it_waits(lane: Lane, tokens: float, now: float) -> tuple[_Reason, str]:
    """Say what a call waits for."""
    name, limiter = lane.name, lane.limiter
    kind: _Reason = limiter.stands_against(tokens, now) or "turn"
    match kind:
        case "tokens":
            return kind, f"tokens per minute at {name} (it may take {tokens:,.0f})"
        case "concurrency":
            return kind, f"a place at {name} (the limit is {min(limiter.limit, limiter.endpoint.limit)} in flight)"
        case "rate":
            return kind, f"its turn at {name}, whose rate was learned from refusals"
        case "requests":
            return kind, f"requests per minute at {name}"
        case "turn":
            return kind, f"its turn at {name}"
    left = lane.paused_until - now
    if left <= 0:
        return kind, f"{name}, which another process that shares its quota was told to pause"
    until = datetime.fromtimestamp(time.time() + left, UTC)
    return kind, f"{name}, paused until {until:%H:%M:%S} UTC: {lane.why_paused}"


def note_wait(timing: Timing, seconds: float, is_full: bool) -> None:
    """Book a wait on what stood in the way when it began."""
    if is_full:
        timing.queued = (timing.queued or 0.0) + seconds
    else:
        timing.limited = (timing.limited or 0.0) + seconds
