"""Dollars that the workers of a job share: who waits for what another may return.

A call reserves the most that it may cost, which is often many times what it costs, so that one worker may hold all that
is left. A worker whose call was refused, and that has none in flight, returns what it holds and waits. The others
return theirs when their part is done, or when they wait too. When all wait, no more is to come. `Claim` is a worker's
side, `Claims` the parent's. Imports the link between both, and the shared budget.
"""

from __future__ import annotations

import asyncio

from aimlasync.quota.server import Link
from aimlasync.quota.shared_budget import SharedBudget

SHORT = "short"
"""A worker waits; the body says whether it has returned something."""
MORE = "more"
"""There may be more now."""
NONE = "none"
"""There is no more to come."""


class Claim:
    """A worker's wait for dollars that others hold; `link` leads to the parent."""

    def __init__(self, budget: SharedBudget) -> None:
        self.link: Link | None = None
        self._budget = budget
        self._answer: asyncio.Future[bool] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether any call waits."""
        return self._answer is not None

    async def more(self) -> bool:
        """Return what is not used, and wait; False when the others will not return any."""
        if self._answer is None:
            answer = self._answer = asyncio.get_running_loop().create_future()
            returns = self._budget.remaining > 0
            await self._budget.give_back()
            if self.link is not None and self._answer is answer:
                self.link.send(SHORT, returns)
        else:
            answer = self._answer
        # All calls that are short wait for the one answer, and one that is dropped takes it from no other.
        return await asyncio.shield(answer)

    def settle(self, is_more: bool) -> None:
        """End the wait: calls try again, or fail."""
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(is_more)


class Claims:
    """The workers of `parts` parts that wait; none is refused before it has tried after the last return."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._waiting: set[Link] = set()
        # How often something was returned, and how often it was when a worker was last told to try.
        self._returns = 0
        self._tried: dict[Link, int] = {}

    def add(self, link: Link, *, has_returned: bool) -> None:
        """The worker behind `link` waits."""
        if has_returned:
            self._returned()
        self._waiting.add(link)
        if len(self._waiting) < self._parts:
            return
        # What it tried for may have been returned while it said that it waits.
        late = {each for each in self._waiting if self._tried.get(each, 0) < self._returns}
        self._tell(MORE if late else NONE, late or self._waiting)

    def drop(self, link: Link) -> None:
        """The worker behind `link` is gone; another takes its part."""
        self._waiting.discard(link)
        self._tried.pop(link, None)

    def part_ended(self) -> None:
        """A part is done, and what its worker held was returned."""
        self._parts -= 1
        self._returned()

    def _returned(self) -> None:
        self._returns += 1
        self._tell(MORE, self._waiting)

    def _tell(self, kind: str, links: set[Link]) -> None:
        self._waiting = self._waiting - links
        for link in links:
            self._tried[link] = self._returns
            link.send(kind)
