"""The options of a job. Plain data; imports the caps, a shard, the usual number of workers and `config`."""

from __future__ import annotations

from dataclasses import dataclass, field

from aimlasync.bulk.input.shard import Shard
from aimlasync.bulk.jobs.caps import Caps
from aimlasync.bulk.jobs.worker_pool import WORKERS
from aimlasync.config import of_kind
from aimlasync.spelling import spelled_fields


@spelled_fields
@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a job runs; nothing here decides its answers."""

    concurrency: int | None = None
    """Rows at work; None leaves it to the client's limits."""
    limit: int | None = None
    """Only the first rows."""
    shard: Shard | None = None
    retry_invalid: int = 0
    """Calls again for an answer that is refused, truncated or invalid."""
    keep_failed: bool = False
    """Leave rows alone that failed in an earlier run."""
    dedupe: bool = False
    """Identical requests share one call."""
    timeout: float | None = None
    """Seconds from when a call is sent until its answer must be there; a row that takes longer fails."""
    caps: Caps = field(default_factory=Caps)
    gold: str | None = None
    """The column with the right labels."""
    canary: int | None = None
    """Ask about so many rows and no more: a dry run."""
    simulated: bool = False

    def __post_init__(self) -> None:
        of_kind("caps", self.caps, Caps, "Caps(max_usd=5.0)")
        of_kind("shard", self.shard, Shard, "Shard(1, 4)")
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {self.concurrency}")

    @property
    def workers(self) -> int:
        """Rows at work."""
        return self.concurrency or WORKERS
