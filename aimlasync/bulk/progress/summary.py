"""How a job ended: what `bulk.run` returns. Plain data; imports the totals, the changes of a table and `errors`."""

from __future__ import annotations

from dataclasses import dataclass

from aimlasync.bulk.journal.table_changes import Changes
from aimlasync.bulk.progress.totals import CapName, Totals
from aimlasync.errors import AimlasyncError


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
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
    capped_by: CapName | None = None
    resume_at: float | None = None
    """Unix time at which a limit by the day is over, where one stopped the job and the time is known."""
    is_interrupted: bool = False
    learned: tuple[str, ...] = ()
    """What was learned of the limits of each model and has held: "one takes about 593 requests a minute: give ..."."""
    changes: Changes | None = None
    """How the table differs from that of the run before, None where it does not."""

    def __repr__(self) -> str:
        counts = f"{self.totals.ok:,} of {self.total:,} rows ok, {self.totals.failed:,} failed, {self.left:,} not done"
        return f"<Summary {counts}, journal {self.journal!r}>"

    @property
    def tally(self) -> Totals:
        """The same as `.totals`."""
        return self.totals

    @property
    def is_complete(self) -> bool:
        """Whether every row was asked about."""
        return self.left == 0
