"""How long a call may take, phase by phase."""

from __future__ import annotations

import msgspec


class Timeout(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one call, in seconds; None means unbounded.

    Each that passes raises APITimeoutError with its name in `.phase`.
    """

    total: float | None = 600.0
    """From the call until its answer or the end of its stream: queueing, every attempt and every backoff included."""
    connect: float | None = 10.0
    """Making one connection."""
    first_token: float | None = None
    """Streams: from an attempt's start to its first event. Comments that only keep the connection open do not count."""
    idle: float | None = 120.0
    """Streams: between two events, while the reader waits for the next one."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"timeout {name} must be above zero, not {value}")

    def but(self, total: float | Timeout | None) -> Timeout:
        """Return the bounds of one call: another `Timeout`, or these with another `total`."""
        if isinstance(total, Timeout):
            return total
        return Timeout(total=total, connect=self.connect, first_token=self.first_token, idle=self.idle)
