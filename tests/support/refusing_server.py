"""A server in virtual time that refuses what is above its limits, and callers who send to it through an `Upstream`."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict

from aimlasync.admission.outcome import Outcome, Refused
from aimlasync.config import Limits
from aimlasync.endpoints.endpoint import Endpoint
from aimlasync.endpoints.upstream import Upstream
from tests.support.permits import permit_now, permit_of


def upstream(limits: Limits | None = None) -> Upstream:
    return Upstream(Endpoint(base_url="https://one.example", api_key="test"), limits or Limits())


class RefusingServer:
    """A server in virtual time: `limits` are attempts at once by model, "" for all together.

    With `minute` it takes so many requests in each fixed minute, of all models together. `kind` is what its refusals
    name, and `names_account` whether they name the account. An answer takes a second, or those of `seconds`, times a
    lognormal factor of this `spread`. It refuses one attempt of so many by `chance`, whatever is in flight. A bucket of
    two attempts gets so many of them a second (`rate`). A refusal asks to wait for so many seconds (`waits`).
    """

    def __init__(
        self,
        made: Upstream,
        limits: dict[str, int],
        *,
        minute: int | None = None,
        kind: Refused | None = None,
        names_account: bool = False,
        seconds: float = 1.0,
        spread: float = 0.0,
        chance: float = 0.0,
        rate: float | None = None,
        waits: float | None = None,
    ) -> None:
        # Pauses are stretched at random.
        random.seed(1)
        self.rate, self.waits = rate, waits
        self.bucket, self.filled_at = 2.0, 0.0
        self.names_account = names_account
        self.draw, self.spread, self.chance = random.Random(1), spread, chance
        self.seconds = seconds
        self.upstream = made
        self.limits = limits
        self.minute = minute
        self.kind = kind
        self.in_flight = Counter[str]()
        self.in_minute = Counter[int]()
        self.answers: dict[str, list[float]] = defaultdict(list)
        self.refused = Counter[str]()

    def _takes(self, model: str, now: float) -> bool:
        if self.draw.random() < self.chance:
            return False
        if self.minute is not None and self.in_minute[int(now // 60)] >= self.minute:
            return False
        if self.rate is not None:
            self.bucket, self.filled_at = min(2.0, self.bucket + self.rate * (now - self.filled_at)), now
            if self.bucket < 1:
                return False
            self.bucket -= 1
        self.in_minute[int(now // 60)] += 1
        return all(self.in_flight[name] < most for name, most in self.limits.items() if name in (model, ""))

    async def _call(self, model: str) -> None:
        loop = asyncio.get_running_loop()
        lane = self.upstream.lane(model)
        permit = permit_now(lane) or await permit_of(lane)
        await asyncio.sleep(0.01)
        if self._takes(model, loop.time()):
            self.in_flight.update((model, ""))
            await asyncio.sleep(self.seconds * self.draw.lognormvariate(0.0, self.spread))
            self.in_flight.subtract((model, ""))
            self.answers[model].append(loop.time())
            permit.release(Outcome.OK)
        else:
            self.refused[model] += 1
            permit.release(Outcome.DROPPED, kind=self.kind, names_account=self.names_account)
            if self.waits is not None:
                lane.pause(self.waits, loop.time(), "it asked for it")

    async def load(self, callers: dict[str, int], seconds: float) -> None:
        async def one(model: str) -> None:
            while asyncio.get_running_loop().time() < until:
                await self._call(model)

        until = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(one(model) for model, count in callers.items() for _ in range(count)))
