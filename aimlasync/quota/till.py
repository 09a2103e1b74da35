"""What several workers spend once and for all: who drew how much of it.

Pure; time is handed in. The script of `aimlasync.redis` does the same in Lua, step by step.

Workers state what they hold, never what they give back, and what all held together when they drew last. A purse that
was emptied gives nothing for RETURN seconds, in which workers say it again (places ask for it once in a second): the
most that any of them knew to be drawn stays drawn, whoever drew it. So the total is not passed when a purse is
forgotten, as long as the worker that drew last lives, or another that drew or spoke after it.
"""

from __future__ import annotations

import math

from aimlasync.quota.account import RETURN
from aimlasync.quota.protocol import Draw, Drawn

# A worker draws this part of its share of what is left: what one worker holds is not there for the others.
PARTS = 8


class Till:
    """One purse. All mutable state: who holds how much, what is held by nobody any more, and its own age.

    It is born empty `at` a time, and knows nothing of what was before; None when there was nothing.
    """

    def __init__(self, epoch: str = "new", at: float | None = None) -> None:
        self._begin(epoch, at)

    def _begin(self, epoch: str, at: float | None) -> None:
        self.epoch = epoch
        self._opens = -math.inf if at is None else at + RETURN
        self._version = 0
        self._held: dict[str, int] = {}
        self._sum = 0
        # The most that was known to be drawn from the purse before, and what of it has been said to be held.
        self._taken_before = 0
        self._returned = 0

    def draw(self, draw: Draw, now: float) -> Drawn:
        """Grant what the worker needs, and nothing when there is less."""
        if draw.epoch == self.epoch and draw.version > self._version:
            # Restored from a copy.
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
        """All that cannot be drawn any more."""
        return self._sum + max(0, self._taken_before - self._returned)
