"""What several like processes learned of one server's limits, each its share, put together.

Plain data that processes send each other, and arithmetic. It may import `admission`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from aimlasync.admission.adaptive import Learned
from aimlasync.admission.learned import Finding


class Told(msgspec.Struct, frozen=True):
    """A limit that has held, and what is said of it."""

    name: str
    advise: bool
    """Whether to say what to give so that it need not be learned."""
    found: Finding

    def words(self) -> str:
        """Say it."""
        return self.found.words(self.name, advise=self.advise)


class LearnedLimits(msgspec.Struct):
    """What one process learned, or all together."""

    starts: list[tuple[str, str, Learned]] = []
    """Address of the endpoint, model, and what the next run may start with."""
    told: list[Told] = []
    """What has held in this run."""


def together(shares: Sequence[LearnedLimits], processes: int) -> LearnedLimits:
    """Return what so many like processes may do together; those that learned nothing count like the others."""
    starts: defaultdict[tuple[str, str], list[Learned]] = defaultdict(list)
    told: defaultdict[str, list[Told]] = defaultdict(list)
    for share in shares:
        for endpoint, model, learned in share.starts:
            starts[endpoint, model].append(learned)
        for each in share.told:
            told[each.name].append(each)
    return LearnedLimits(
        [(*of, _start([each.times(processes) for each in some])) for of, some in starts.items()],
        [Told(name, some[0].advise, _finding([each.found for each in some], processes)) for name, some in told.items()],
    )


def _start(all_of: Sequence[Learned]) -> Learned:
    rates = [each.rate for each in all_of if each.rate is not None]
    return Learned(
        in_flight=sum(each.in_flight for each in all_of) / len(all_of),
        rate=sum(rates) / len(rates) if rates else None,
    )


def _finding(shares: Sequence[Finding], processes: int) -> Finding:
    # What one process takes for a limit of calls at once is another's rate, and where there is a rate it is the cause.
    rates = [each.requests_per_minute for each in shares if each.requests_per_minute is not None]
    if rates:
        return Finding(requests_per_minute=processes * sum(rates) / len(rates))
    limits = [each.concurrency for each in shares if each.concurrency is not None]
    was_refused = any(each.was_refused for each in shares)
    return Finding(concurrency=round(processes * sum(limits) / len(limits)), was_refused=was_refused)
