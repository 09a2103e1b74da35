"""How a job ended: what `bulk.run` returns. Plain data; imports the totals, the changes of a table
and `errors`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aimlasync.bulk.journal.table_changes import Changes
from aimlasync.bulk.progress.totals import Totals
from aimlasync.errors import AimlasyncError


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """How a job ended."""

    totals: Totals
    total: int
    """Rows in all."""
    left: int
    """Rows not done: another run asks about them."""
    journal: str
    output: str | None
    """What was written, None when that is the journal alone."""
    seconds: float = 0.0
    """That this run took."""
    stopped_by: AimlasyncError | None = None
    """The error that stopped the job: no credit, a bad key, a server that is gone, the spending cap."""
    capped_by: Literal["tokens", "deadline"] | None = None
    is_interrupted: bool = False
    changes: Changes | None = None
    """How the table differs from that of the run before, None where it does not."""

    @property
    def tally(self) -> Totals:
        """The same as `.totals`."""
        return self.totals

    @property
    def is_complete(self) -> bool:
        """Whether every row was asked about."""
        return self.left == 0
