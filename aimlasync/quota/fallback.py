"""What a worker does while it cannot reach the shared place of its quota, and what it says when it is back.

It knows neither sockets nor Redis: `send` asks the place, and raises QuotaDownError when it does not answer.

A worker that heard the place goes on with the part of the limits that it was told last (see `account`), within what the
account's last minute leaves of it. One that never heard it, or not for a minute, does not know how many share the
limits: it waits, or goes on with the part that it was given for that (`share`). One task looks whether the place is
back, at longer and longer and random intervals. Warnings say what is assumed, at most one in WARN_AGAIN seconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from aimlasync.quota.account import KNOWN, Account
from aimlasync.quota.protocol import Ask, Lease, Memory, QuotaDownError

# Seconds between two looks whether the place is back: the first, and the longest. All workers must be back within
# `account.RETURN`.
_LOOK = 0.5
_MAX_LOOK = 1.0
# Seconds between two warnings of one quota.
WARN_AGAIN = 60.0
# A lease of a place that asks for its memory again and again is none.
_MAX_TELLS = 3

_log = logging.getLogger("aimlasync.quota")


def check_share(share: float | None) -> None:
    """Raise ValueError for a number of processes that is none."""
    if share is not None and not 1 <= share < float("inf"):
        raise ValueError(f"share must be how many processes share the limits, 1 or more, not {share}")


class _Worker:
    """One worker: what it was told last, and what it keeps to alone."""

    __slots__ = ("account", "alone_since", "epoch", "heard", "limits", "memory", "number", "part", "workers")

    def __init__(self) -> None:
        self.epoch = ""
        self.number = 0
        self.part = 0.0
        self.workers = 1
        self.memory: Memory | None = None
        self.limits: tuple[float | None, float | None] = (None, None)
        self.heard = float("-inf")
        self.account: Account | None = None
        self.alone_since = 0.0


class Fallback:
    """The leases of one quota, from its place or without it; for one event loop.

    `what` names the place in warnings, as does the text of a QuotaDownError. With `waits` nothing is sent without it,
    whatever was heard; with `raises` who would have to wait gets the error instead.
    """

    def __init__(
        self,
        send: Callable[[Ask], Awaitable[Lease]],
        what: str,
        *,
        share: float | None = None,
        waits: bool = False,
        raises: bool = False,
    ) -> None:
        check_share(share)
        if share is not None and waits:
            raise ValueError("strict=True waits for the shared place, and share= goes on without it: give one of them")
        self._send = send
        self._what = what
        self._share = share
        self._raises = raises
        self._alone: Literal["waits", "part", "share"] = "part"
        if share is not None:
            self._alone = "share"
        elif waits or raises:
            self._alone = "waits"
        self._workers: dict[str, _Worker] = {}
        self._looking: asyncio.Task[None] | None = None
        self._closed = False
        self._asked: Ask | None = None
        self._warned: dict[str, float] = {}

    @property
    def is_down(self) -> bool:
        """Whether the place did not answer when it was last asked."""
        return self._looking is not None

    async def lease(self, ask: Ask) -> Lease:
        """Ask the place, or do what is done without it. Raises QuotaDownError when it is closed."""
        loop = asyncio.get_running_loop()
        worker = self._workers.setdefault(ask.worker, _Worker())
        while True:
            if self._looking is not None:
                if ask.leaves:
                    del self._workers[ask.worker]
                    raise QuotaDownError(f"{self._what}: it is away, and takes nothing back")
                part = self._part(worker, loop.time())
                if part > 0 and self._fits(ask, worker, part):
                    return self._lease_alone(ask, worker, part, loop.time())
                await asyncio.wait([self._looking])
            if self._closed:
                raise QuotaDownError(f"{self._what}: it is closed")
            try:
                return await self._asked_of(ask, worker, loop)
            except QuotaDownError as error:
                self._is_down(str(error), ask, worker, loop)
                if self._looking is None:
                    raise

    def close(self) -> None:
        """Let those go who wait; harmless more than once."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()

    def warn(self, about: str, text: str, *words: object) -> None:
        """Say something of one kind, unless it was said a moment ago."""
        now = asyncio.get_running_loop().time()
        again = now - self._warned.get(about, float("-inf")) < WARN_AGAIN
        if not again:
            self._warned[about] = now
        _log.log(logging.DEBUG if again else logging.WARNING, text, *words)

    async def _asked_of(self, ask: Ask, worker: _Worker, loop: asyncio.AbstractEventLoop) -> Lease:
        self._asked = ask
        now = loop.time()
        question = msgspec.structs.replace(
            ask,
            part=self._holds(worker, now),
            alone=self._alone,
            heard=worker.number,
        )
        if ask.epoch != worker.epoch:
            # Of the time alone, or the first question.
            question.epoch, question.lease, question.corrections = worker.epoch, 0, {}
            question.spent_requests = question.spent_tokens = 0.0
        if worker.account is not None:
            question.away = now - worker.alone_since
        lease = await self._send(question)
        for _ in range(_MAX_TELLS):
            if not lease.is_lost or ask.leaves:
                break
            self.warn(
                "lost",
                "%s lost what it knew: until all workers are back, it grants what is left of the last minute as they "
                "remember it",
                self._what,
            )
            question.memory, question.age = worker.memory or Memory(step=0), max(0.0, loop.time() - worker.heard)
            lease = await self._send(question)
        if ask.leaves:
            self._workers.pop(ask.worker, None)
            return lease
        if lease.is_lost:
            raise QuotaDownError("it forgets faster than it is told")
        self._hear(ask, lease, worker, loop.time())
        return lease

    def _hear(self, ask: Ask, lease: Lease, worker: _Worker, now: float) -> None:
        if lease.epoch != worker.epoch:
            worker.epoch, worker.number = lease.epoch, 0
        worker.number = max(worker.number, lease.number)
        worker.part, worker.workers, worker.memory = lease.part, lease.workers, lease.memory
        worker.heard, worker.account = now, None
        worker.limits = lease.requests_per_minute, lease.tokens_per_minute
        for name, own, agreed in (
            ("requests_per_minute", ask.requests_per_minute, lease.requests_per_minute),
            ("tokens_per_minute", ask.tokens_per_minute, lease.tokens_per_minute),
        ):
            if own != agreed:
                text = "%s has %s=%s from another process and %s here: the lower one holds for all"
                self.warn(name, text, self._what, name, _n(agreed), _n(own))

    def _holds(self, worker: _Worker, now: float) -> float:
        """The part of the limits that is a worker's own, 0 when it was told none lately."""
        if self._share is not None:
            return 1 / self._share
        since = worker.alone_since if worker.account is not None else now
        # The place gives it to others a little later.
        return worker.part if since - worker.heard < KNOWN - 1 else 0.0

    def _part(self, worker: _Worker, now: float) -> float:
        """The part of the limits that a worker may use alone, 0 when it waits."""
        return 0.0 if self._alone == "waits" else self._holds(worker, now)

    def _fits(self, ask: Ask, worker: _Worker, part: float) -> bool:
        """Whether an attempt fits into the minute of a part: if it does not, all workers' together pass the limits."""
        if not ask.calls:
            return True
        rpm, tpm = _limits_of(ask, worker, part)
        if (rpm is None or rpm >= 1) and (tpm is None or tpm >= ask.tokens):
            return True
        of = f"{rpm:g} requests" if rpm is not None and rpm < 1 else f"{tpm:g} tokens"
        self.warn(
            "small", "%s is away, and 1/%.4g of its limits is %s a minute: a call waits", self._what, 1 / part, of
        )
        return False

    def _lease_alone(self, ask: Ask, worker: _Worker, part: float, now: float) -> Lease:
        """Keep to a part of the limits, and of what the last minute leaves of them."""
        rpm, tpm = _limits_of(ask, worker, part)
        if worker.account is None:
            worker.alone_since = now
            worker.account = Account(f"alone {now}", now, opens=now)
            worker.account.begin_alone(rpm, tpm, worker.memory, now - worker.heard, now, part)
        own = msgspec.structs.replace(ask, requests_per_minute=rpm, tokens_per_minute=tpm, leaves=False)
        if ask.epoch != worker.account.epoch:
            own.epoch, own.lease, own.corrections = "", 0, {}
        lease = worker.account.lease(own, now)
        lease.workers, lease.memory, lease.part = worker.workers, None, part
        lease.requests_per_minute, lease.tokens_per_minute = worker.limits
        return lease

    def _is_down(self, why: str, ask: Ask, worker: _Worker, loop: asyncio.AbstractEventLoop) -> None:
        if self._looking is not None or self._closed:
            return
        part = self._part(worker, loop.time())
        if part > 0:
            about = "part"
            given = "share= says" if self._share is not None else "it said last"
            what = f"each worker keeps to its part of the limits, 1/{1 / part:.4g} as {given}, until it is back"
        elif self._raises:
            return
        elif self._alone == "waits":
            about, what = "waits", "calls wait until it is back (strict=True)"
        else:
            about = "unknown"
            what = (
                "calls wait until it is back, since nobody said lately how many share the limits (with share=N they "
                "would go on at 1/N of them)"
            )
        self.warn(about, "%s: %s", why, what)
        self._looking = loop.create_task(self._look(), name="aimlasync quota")

    async def _look(self) -> None:
        """Wait until the place is back."""
        wait = _LOOK
        try:
            while True:
                await asyncio.sleep(wait * random.uniform(0.75, 1.25))
                wait = min(2 * wait, _MAX_LOOK)
                if await self._is_back():
                    _log.info("%s is back", self._what)
                    return
        finally:
            self._looking = None

    async def _is_back(self) -> bool:
        """Whether the place does what is asked of it, and not only answers: of nobody, so that it changes nothing."""
        assert self._asked is not None
        nobody = Ask(
            worker="",
            requests_per_minute=self._asked.requests_per_minute,
            tokens_per_minute=self._asked.tokens_per_minute,
        )
        try:
            await self._send(nobody)
        except QuotaDownError:
            return False
        return True


def _limits_of(ask: Ask, worker: _Worker, part: float) -> tuple[float | None, float | None]:
    """A part of the limits in force."""
    rpm = _lower(ask.requests_per_minute, worker.limits[0])
    tpm = _lower(ask.tokens_per_minute, worker.limits[1])
    return None if rpm is None else part * rpm, None if tpm is None else part * tpm


def _lower(one: float | None, other: float | None) -> float | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)


def _n(limit: float | None) -> str:
    return "None" if limit is None else f"{limit:g}"
