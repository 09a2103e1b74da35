"""A shared budget at the shared place: one purse of money, and how much of it each worker has drawn.

It is arithmetic without I/O, and the caller passes the time. `aimlasync.redis.draw` does the same in Lua, step by step:
a change here is a change there. It may import `quota.protocol` and `quota.account`.

A worker states how much it holds, never how much it gives back, and the sum that was drawn when it drew last. A purse
whose state was lost grants nothing for RETURN seconds. Within them the workers state again what they know (they do so
once a second), and the largest sum that any of them knew stays drawn. So the total is not passed after such a loss, as
long as the worker that drew last still runs, or one that drew or stated after it.
"""

from __future__ import annotations

import math

from aimlasync.quota.account import RETURN
from aimlasync.quota.protocol import Draw, Drawn

# A worker draws this part of an equal share of what is left: what one worker holds, the others cannot draw.
PARTS = 8


class Purse:
    """One purse. Its mutable state: how much each worker holds, what was drawn before a loss of state, and its epoch.

    A purse that is created `at` a time may have lost its state, and waits for the workers; None when it is new.
    """

    def __init__(self, epoch: str = "new", at: float | None = None) -> None:
        self._begin(epoch, at)

    def _begin(self, epoch: str, at: float | None) -> None:
        self.epoch = epoch
        self._opens = -math.inf if at is None else at + RETURN
        self._version = 0
        self._held: dict[str, int] = {}
        self._sum = 0
        # The largest sum that a worker knew to be drawn before the loss, and what workers have stated of it since.
        self._taken_before = 0
        self._returned = 0

    def draw(self, draw: Draw, now: float) -> Drawn:
        """Grant at least what the worker needs, or nothing when less is left."""
        if draw.epoch == self.epoch and draw.version > self._version:
            # The purse was restored from an older copy, which lacks what was drawn since.
            self._begin(f"{now * 1e6:.0f}", now)
        if draw.epoch not in ("", self.epoch):
            self._taken_before = max(self._taken_before, draw.taken)
            if draw.worker not in self._held:
                self._returned += draw.keeps
        self._sum += draw.keeps - self._held.get(draw.worker, 0)
        self._held[draw.worker] = draw.keeps
        self._version += 1
        wait = max(0.0, self._opens - now)
        left = draw.total - self.taken
        granted = 0
        if not wait and 0 < draw.needs <= left:
            granted = max(draw.needs, left // (PARTS * len(self._held)))
            self._held[draw.worker] += granted
            self._sum += granted
        return Drawn(granted=granted, epoch=self.epoch, version=self._version, taken=self.taken, wait=wait)

    @property
    def taken(self) -> int:
        """How much is drawn, and cannot be drawn again."""
        return self._sum + max(0, self._taken_before - self._returned)
