"""A job whose rows other processes ask about: the parent's side.

Law: starts workers, leases them the limits and the caps, adds up what they report, and takes their journals into the
one of the job. Each worker has a part of the rows, by their custom_id, and a journal of its own, PATH.part-I-of-N; a
part that a killed run left behind is taken in when the job is opened again, whatever number of workers follows. So the
job's own journal, its lock and its manifest are those of any other job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aimlasync.bulk.jobs.job import Seen
from aimlasync.bulk.jobs.journaled import FileJob
from aimlasync.bulk.journal.convert import error_of
from aimlasync.bulk.journal.part_files import parts_of
from aimlasync.bulk.progress.progress import Pace, Snapshot
from aimlasync.errors import AimlasyncError
from aimlasync.quota.server import LeaseServer, Link

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

# Seconds that workers have for the calls in flight when one of them was stopped by an error, as in any job.
_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class Crew:
    """How many workers, and what starts one.

    `start` is given its index from 1, how many there are, and the address where the parent listens.
    """

    count: int
    start: Callable[[int, int, str], Awaitable[asyncio.subprocess.Process]]


class Orders(msgspec.Struct, kw_only=True):
    """What a worker must know beside the command line that both were given."""

    job: dict[str, Any]
    """The identity of the job."""
    journal: str
    """Where its own journal lies."""
    usd: float | None = None
    """Of all workers together, as are the tokens."""
    tokens: int | None = None
    deadline: float | None = None
    """Seconds from now."""


class Report(msgspec.Struct, kw_only=True):
    """What a worker has done in this run."""

    ok: int = 0
    failed: int = 0
    tokens: int = 0
    cost_usd: float | None = None
    in_flight: int = 0
    limited_by: str | None = None
    attempts: int = 0
    answered: int = 0
    truncated: int = 0
    refused: int = 0
    seconds_answering: float = 0.0
    ended: bool = False
    """Whether its journal is complete and closed."""
    stopped_by: tuple[str, str, int | None] | None = None
    """Class, message and status of the error that stopped it."""
    capped_by: Literal["tokens", "deadline"] | None = None


class CrewJob(FileJob):
    """A job with a journal, done by the workers of `crew`."""

    def __init__(self, crew: Crew, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._crew = crew
        self._links: dict[Link, int] = {}
        self._reports: dict[int, Report] = {}

    async def run(self, client: AsyncClient, seen: Seen) -> None:
        """Let the workers ask about the pending rows; `seen` is not called, since results are in their journals."""
        self.pace = Pace(time.monotonic())
        count = self._crew.count
        processes: list[asyncio.subprocess.Process] = []
        async with LeaseServer(hear=self._hear, gone=lambda link: self._links.pop(link, None)) as server:
            try:
                for index in range(1, count + 1):
                    process = await self._crew.start(index, count, server.address)
                    processes.append(process)
                await asyncio.gather(*(self._watch(index, each) for index, each in enumerate(processes, 1)))
            finally:
                for process in processes:
                    if process.returncode is None:
                        process.terminate()
                await asyncio.gather(*(process.wait() for process in processes))
        for part in parts_of(self._journal.path):
            self._take_in(part, is_new=True)
        for report in self._reports.values():
            self.tally.attempts += report.attempts
            self.tally.answered += report.answered
            self.tally.truncated += report.truncated
            self.tally.refused += report.refused
            self.seconds_answering += report.seconds_answering
        self._reports.clear()
        if self.pending == 0:
            self.capped_by = self.stopped_by = None

    def interrupt(self) -> bool:
        """Let all workers finish their calls in flight; asked again, drop them."""
        again, self.is_interrupted = self.is_interrupted, True
        self._tell("cancel" if again else "stop")
        return again

    def snapshot(self) -> Snapshot:
        """Return where all workers are together."""
        now, reports = time.monotonic(), self._reports.values()
        finished = self.finished + sum(report.ok + report.failed for report in reports)
        tokens = self.tokens - self._tokens_before + sum(report.tokens for report in reports)
        self.pace.sample(now, finished, tokens)
        rows_per_second, tokens_per_second = self.pace.speed(now, finished, tokens)
        held = [report.limited_by for report in reports if report.limited_by is not None and not report.ended]
        self.pace.limits.update(held)
        costs = [self.tally.cost, *(report.cost_usd for report in reports)]
        known = [cost for cost in costs if cost is not None]
        pending = self._left - finished
        return Snapshot(
            at=time.time(),
            seconds=self.pace.seconds(now),
            total=self.total,
            done=self.tally.ok + sum(report.ok for report in reports),
            failed=self.tally.failed + sum(report.failed for report in reports),
            in_flight=sum(report.in_flight for report in reports),
            calls_per_second=rows_per_second,
            tokens_per_second=tokens_per_second,
            cost_usd=sum(known) if known else None,
            eta_seconds=pending / rows_per_second if rows_per_second > 0 else None,
            limited_by=max(held, key=held.count) if held else None,
        )

    async def _watch(self, index: int, process: asyncio.subprocess.Process) -> None:
        """Wait for the end of a worker, and note what kind of end it was."""
        code = await process.wait()
        # What it said last may still be on its way.
        for _ in range(20):
            if index not in self._links.values():
                break
            await asyncio.sleep(0.01)
        report = self._reports.get(index)
        if report is not None and report.ended:
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if self.stopped_by is None and not self.is_interrupted:
            self.stopped_by = AimlasyncError(f"worker {index} of {self._crew.count} {how}")

    def _hear(self, link: Link, kind: str, body: bytes) -> Any:
        if kind == "hello":
            self._links[link] = msgspec.msgpack.decode(body, type=int)
            if self.is_interrupted:
                link.send("stop")
            return self._orders()
        if kind == "report" and (index := self._links.get(link)) is not None:
            report = self._reports[index] = msgspec.msgpack.decode(body, type=Report)
            if report.capped_by is not None:
                self.capped_by = report.capped_by
            if report.stopped_by is not None and self.stopped_by is None:
                code, message, status = report.stopped_by
                self.stopped_by = error_of(code, message, status=status)
                self._tell("stop")
                asyncio.get_running_loop().call_later(_GRACE, self._tell, "cancel")
        return None

    def _orders(self) -> Orders:
        caps = self.options.caps
        budget = caps.budget(self.tally.cost_usd, self.tally.unpriced)
        return Orders(
            job=self._identity(),
            journal=self._journal.path,
            usd=None if budget is None else budget.usd,
            tokens=None if caps.max_tokens is None else max(0, caps.max_tokens - self.tokens),
            deadline=None if caps.deadline is None else max(0.01, caps.deadline - self.pace.seconds(time.monotonic())),
        )

    def _tell(self, kind: str) -> None:
        for link in self._links:
            link.send(kind)
