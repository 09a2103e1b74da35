"""What several like processes learned of one server's limits, each its share, put together.

Plain data that processes send each other, and arithmetic. It may import `admission`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from aimlasync.admission.adaptive import Learned
from aimlasync.admission.learned import Finding

Starts = dict[tuple[str, str], Learned]
"""What a run may start with, by the address of the endpoint and the model."""


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

    starts: Starts = {}
    """What the next run may start with."""
    told: list[Told] = []
    """What has held in this run."""


@runtime_checkable
class Learner(Protocol):
    """Who asks, and learns of limits: a client, or several processes in its place."""

    def start_from(self, known: Starts, /) -> None:
        """Let models that were not asked yet start with what is known of them."""

    def learned(self) -> LearnedLimits:
        """Return what was learned and has held."""


def together(shares: Sequence[LearnedLimits], processes: int) -> LearnedLimits:
    """Return what so many like processes may do together; those that learned nothing count like the others."""
    starts: defaultdict[tuple[str, str], list[Learned]] = defaultdict(list)
    told: defaultdict[str, list[Told]] = defaultdict(list)
    for share in shares:
        for place, learned in share.starts.items():
            starts[place].append(learned)
        for each in share.told:
            told[each.name].append(each)
    return LearnedLimits(
        {place: _start([each.times(processes) for each in some]) for place, some in starts.items()},
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
        tokens = [each.tokens_per_minute for each in shares if each.tokens_per_minute is not None]
        return Finding(
            requests_per_minute=processes * sum(rates) / len(rates),
            tokens_per_minute=processes * sum(tokens) / len(tokens) if tokens else None,
        )
    limits = [each.concurrency for each in shares if each.concurrency is not None]
    was_refused = any(each.was_refused for each in shares)
    return Finding(concurrency=round(processes * sum(limits) / len(limits)), was_refused=was_refused)
