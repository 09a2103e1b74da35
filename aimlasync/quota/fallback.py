"""What a worker does while it cannot reach the shared place of its quota, and what it reports afterwards.

A worker that heard the place uses the part of the limits that it was told last (see `quota.account`), within what the
account's last minute leaves of it. A worker that did not hear the place in the last minute does not know how many
workers share the limits. It waits, or uses the part that the user set for this (`share`). One task tests whether the
place works again. A warning states what is assumed, at most one of a kind in WARN_AGAIN seconds. It uses neither
sockets nor Redis: `send` asks the place and raises QuotaDownError when it does not answer. It may import
`quota.account` and `quota.protocol`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from aimlasync.logs import log_of
from aimlasync.quota.account import KNOWN, Account
from aimlasync.quota.protocol import Ask, Lease, Memory, QuotaDownError

# Seconds between two tests of a place that is down: the first, and the longest. Within `account.RETURN` all workers
# must have returned.
_FIRST_TEST = 0.5
_MAX_TEST = 1.0
# Seconds between two warnings of one quota.
WARN_AGAIN = 60.0
# How often one lease may be asked for with the memory of an earlier epoch.
_MAX_MEMORIES = 3

_log = log_of("aimlasync.quota")


def check_share(share: float | None) -> None:
    """Raise ValueError for a `share` that is not a number of processes."""
    if share is not None and not 1 <= share < float("inf"):
        raise ValueError(f"share must be how many processes share the limits, 1 or more, not {share}")


class _Worker:
    """One worker: what the place told it last, and its own account while the place is down."""

    __slots__ = ("account", "alone_since", "epoch", "heard", "limits", "memory", "number", "part", "version", "workers")

    def __init__(self) -> None:
        self.epoch = ""
        self.number = 0
        self.part = 0.0
        self.workers = 1
        self.memory: Memory | None = None
        # The limits in force, as the place told them, and their version; 0 before it told any.
        self.limits: tuple[float | None, float | None] = (None, None)
        self.version = 0
        self.heard = float("-inf")
        self.account: Account | None = None
        self.alone_since = 0.0


class Fallback:
    """The leases of one quota, from the shared place or without it; for one event loop.

    `what` names the place in warnings. With `waits`, nothing is leased while the place is down, whatever it told. With
    `raises`, a worker that would have to wait gets a QuotaDownError instead.
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
        # The task that tests the place while it is down.
        self._testing: asyncio.Task[None] | None = None
        self._closed = False
        # The last ask that was sent, whose limits the test states.
        self._last_ask: Ask | None = None
        self._warned: dict[str, float] = {}
        # The limits in force of which a difference was said.
        self._agreed: dict[str, float | None] = {}

    @property
    def is_down(self) -> bool:
        """Whether the place did not answer when it was last asked."""
        return self._testing is not None

    async def lease(self, ask: Ask) -> Lease:
        """Ask the place for a lease, or grant one without it. Raises QuotaDownError when this is closed."""
        loop = asyncio.get_running_loop()
        worker = self._workers.setdefault(ask.worker, _Worker())
        while True:
            if self._testing is not None:
                if ask.leaves:
                    del self._workers[ask.worker]
                    raise QuotaDownError(f"{self._what} is down, and takes nothing back")
                part = self._part(worker, loop.time())
                if part > 0 and self._fits(ask, worker, part):
                    return self._lease_alone(ask, worker, part, loop.time())
                await asyncio.wait([self._testing])
            if self._closed:
                raise QuotaDownError(f"{self._what}: this quota is closed")
            try:
                return await self._lease_from_place(ask, worker, loop)
            except QuotaDownError as error:
                self._note_down(str(error), worker, loop)
                if self._testing is None:
                    raise

    def close(self) -> None:
        """End all waits with a QuotaDownError; harmless more than once."""
        self._closed = True
        if self._testing is not None:
            self._testing.cancel()

    def warn(self, about: str, text: str, *words: object) -> None:
        """Log a warning of the kind `about`; as debug if one of that kind was logged within WARN_AGAIN seconds."""
        now = asyncio.get_running_loop().time()
        again = now - self._warned.get(about, float("-inf")) < WARN_AGAIN
        if not again:
            self._warned[about] = now
        _log.log(logging.DEBUG if again else logging.WARNING, text, *words)

    async def _lease_from_place(self, ask: Ask, worker: _Worker, loop: asyncio.AbstractEventLoop) -> Lease:
        now = loop.time()
        question = msgspec.structs.replace(
            ask,
            part=self._holds(worker, now),
            alone=self._alone,
            heard=worker.number,
            version=worker.version,
        )
        if worker.version:
            question.requests_per_minute, question.tokens_per_minute = worker.limits
        self._last_ask = question
        if ask.epoch != worker.epoch:
            # What the ask reports belongs to the worker's own account, or it is the first ask.
            question.epoch, question.lease, question.corrections = worker.epoch, 0, {}
            question.spent_requests = question.spent_tokens = 0.0
        if worker.account is not None:
            question.away = now - worker.alone_since
        lease = await self._send(question)
        for _ in range(_MAX_MEMORIES):
            if not lease.is_lost or ask.leaves:
                break
            self.warn(
                "lost",
                "%s lost its state: until all workers are back, it grants what is left of the last minute by what they "
                "know of it",
                self._what,
            )
            question.memory, question.age = worker.memory or Memory(step=0), max(0.0, loop.time() - worker.heard)
            lease = await self._send(question)
        if ask.leaves:
            self._workers.pop(ask.worker, None)
            return lease
        if lease.is_lost:
            raise QuotaDownError(f"{self._what} loses its state again and again")
        self._hear(ask, lease, worker, loop.time())
        return lease

    def _hear(self, ask: Ask, lease: Lease, worker: _Worker, now: float) -> None:
        if lease.epoch != worker.epoch:
            worker.epoch, worker.number = lease.epoch, 0
        worker.number = max(worker.number, lease.number)
        worker.part, worker.workers, worker.memory = lease.part, lease.workers, lease.memory
        worker.heard, worker.account = now, None
        worker.limits = lease.requests_per_minute, lease.tokens_per_minute
        worker.version = lease.version
        for name, own, agreed in (
            ("requests_per_minute", ask.requests_per_minute, lease.requests_per_minute),
            ("tokens_per_minute", ask.tokens_per_minute, lease.tokens_per_minute),
        ):
            if self._agreed.get(name, own) != agreed:
                text = "%s: %s=%s holds for all processes, as the newest was given it; this one was given %s"
                _log.warning(text, self._what, name, _n(agreed), _n(own))
            self._agreed[name] = agreed

    def _holds(self, worker: _Worker, now: float) -> float:
        """Return the part of the limits that belongs to a worker, 0.0 when it was told none in the last minute."""
        if self._share is not None:
            return 1 / self._share
        since = worker.alone_since if worker.account is not None else now
        # The place gives the part to others after KNOWN seconds; the worker stops using it a second earlier.
        return worker.part if since - worker.heard < KNOWN - 1 else 0.0

    def _part(self, worker: _Worker, now: float) -> float:
        """Return the part of the limits that a worker may use alone, 0.0 when it waits."""
        return 0.0 if self._alone == "waits" else self._holds(worker, now)

    def _fits(self, ask: Ask, worker: _Worker, part: float) -> bool:
        """Whether one attempt fits into a part of the minute; if not, the workers together could pass the limits."""
        if not ask.calls:
            return True
        rpm, tpm = _limits_of(ask, worker, part)
        if (rpm is None or rpm >= 1) and (tpm is None or tpm >= ask.tokens):
            return True
        of = f"{rpm:g} requests" if rpm is not None and rpm < 1 else f"{tpm:g} tokens"
        self.warn(
            "small", "%s is down, and 1/%.4g of its limits is %s a minute: a call waits", self._what, 1 / part, of
        )
        return False

    def _lease_alone(self, ask: Ask, worker: _Worker, part: float, now: float) -> Lease:
        """Grant a lease of a part of the limits, within what the account's last minute leaves of them."""
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

    def _note_down(self, why: str, worker: _Worker, loop: asyncio.AbstractEventLoop) -> None:
        """Warn, and begin to test the place; with `raises`, only where the worker can go on without it."""
        if self._testing is not None or self._closed:
            return
        part = self._part(worker, loop.time())
        if part > 0:
            about = "part"
            given = "by share=" if self._share is not None else "by its last answer"
            what = f"each worker keeps to its part of the limits, 1/{1 / part:.4g} ({given}), until it is back"
        elif self._raises:
            return
        elif self._alone == "waits":
            about, what = "waits", "calls wait until it is back (strict=True)"
        else:
            about = "unknown"
            what = (
                "calls wait until it is back, since it did not state within the last minute how many workers share the "
                "limits (with share=N calls would go on at 1/N of them)"
            )
        self.warn(about, "%s: %s", why, what)
        self._testing = loop.create_task(self._test(), name="aimlasync quota")

    async def _test(self) -> None:
        """Test the place, at random and growing intervals, until it works."""
        wait = _FIRST_TEST
        try:
            while True:
                await asyncio.sleep(wait * random.uniform(0.75, 1.25))
                wait = min(2 * wait, _MAX_TEST)
                if await self._is_back():
                    _log.info("%s is back", self._what)
                    return
        finally:
            self._testing = None

    async def _is_back(self) -> bool:
        """Whether the place answers a real ask; it names no worker, so that the place grants nothing."""
        assert self._last_ask is not None
        nobody = Ask(
            worker="",
            requests_per_minute=self._last_ask.requests_per_minute,
            tokens_per_minute=self._last_ask.tokens_per_minute,
            version=self._last_ask.version,
        )
        try:
            await self._send(nobody)
        except QuotaDownError:
            return False
        return True


def _limits_of(ask: Ask, worker: _Worker, part: float) -> tuple[float | None, float | None]:
    """Return a part of the limits in force, as (requests, tokens) per minute."""
    rpm, tpm = worker.limits if worker.version else (ask.requests_per_minute, ask.tokens_per_minute)
    return None if rpm is None else part * rpm, None if tpm is None else part * tpm


def _n(limit: float | None) -> str:
    return "None" if limit is None else f"{limit:g}"
