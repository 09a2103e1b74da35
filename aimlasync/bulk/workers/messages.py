"""The messages between a parent and its worker processes, over the link that leases the limits.

Plain data. Imports the names of the caps and of flaws, and what is learned of limits.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aimlasync.bulk.progress.totals import CapName
from aimlasync.bulk.tasks.result import Flaw
from aimlasync.endpoints.learned_limits import LearnedLimits, Starts


class Orders(msgspec.Struct, kw_only=True):
    """What a worker must know beside the command line that both were given."""

    job: dict[str, Any]
    """The identity of the job."""
    journal: str
    """Where its own journal lies."""
    usd: float | None = None
    """Of all workers together, as are the tokens."""
    tokens: int | None = None
    tokens_cap: CapName = "tokens"
    """Which cap leaves so few."""
    tokens_a_row: float | None = None
    """What a row took in the runs before, None where there were none: a worker's own rows say it after the first."""
    requests: int | None = None
    """Of this day."""
    deadline: float | None = None
    """Seconds from now."""
    learned: Starts = {}
    """What is known of the server's limits for all workers together."""


class Report(msgspec.Struct, kw_only=True):
    """What a worker has done in this run."""

    ok: int = 0
    failed: int = 0
    tokens: int = 0
    cost_usd: float | None = None
    in_flight: int = 0
    limited_by: str | None = None
    attempts: int = 0
    answered: int = 0
    flaws: dict[Flaw, int] = {}
    seconds_answering: float = 0.0
    ended: bool = False
    """Whether its journal is complete and closed."""
    was_told: bool = False
    """Whether a signal ended it, and not its parent or its last row."""
    stopped_by: tuple[str, str, int | None] | None = None
    """Class, message and status of the error that stopped it."""
    resume_at: float | None = None
    capped_by: CapName | None = None
    learned: LearnedLimits | None = None
    """What it learned of its share of the server's limits; in the last report alone."""
