"""A job in several processes: the parent's side.

`WorkerProcesses` lets the workers begin, leases them the limits and the caps, adds up their reports, and has their
journals taken into the one of the job. Each worker has a part of the rows, by their numbers, and a journal of its own,
PATH.part-I-of-N. A worker that died is started again and goes on with its part; a part that a killed run left behind is
taken in when the job is opened again, whatever number of workers follows. So the job's own journal, its lock and its
manifest are those of any other job. It may import what `child` may.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from aimlasync.bulk.jobs.job import Job, Seen
from aimlasync.bulk.jobs.journaled import JournaledRows
from aimlasync.bulk.jobs.stop_rules import STOP_GRACE
from aimlasync.bulk.journal.convert import error_of
from aimlasync.bulk.journal.manifest import is_in_use
from aimlasync.bulk.journal.part_files import parts_of
from aimlasync.bulk.progress.progress import Activity
from aimlasync.bulk.progress.totals import BY_THE_DAY
from aimlasync.bulk.workers.messages import Orders, Report
from aimlasync.bulk.workers.money import SHORT, Claims
from aimlasync.endpoints.learned_limits import LearnedLimits, Starts, together
from aimlasync.errors import AimlasyncError
from aimlasync.quota.server import LeaseServer, Link

GRACE = 5.0
"""Seconds that calls in flight of a worker have when its parent is gone."""

# Seconds that it then has to close its journal, and between two looks whether it has.
_CLOSING = 5.0
_LOOK = 0.05
# So many times in a row a worker may die before it has finished a row; another start would end the same way.
_FRUITLESS = 3


class Process(Protocol):
    """A worker's process."""

    def begin(self, address: str) -> None:
        """Let it work for the parent that listens at `address`."""

    def terminate(self) -> None:
        """Send it SIGTERM, unless it has ended."""

    async def wait(self) -> int:
        """Wait for its end, and return its exit code; a negative one is the signal that killed it."""


class WorkerProcesses:
    """Runs a job with the processes `first`, one for each part, for one run.

    `start` starts one in the place of one that died; it is given its index from 1, and how many there are. `note` is
    called with a line to say about it.
    """

    def __init__(self, first: Sequence[Process], start: Callable[[int, int], Process]) -> None:
        self.note: Callable[[str], object] | None = None
        self._processes = list(first)
        self._start = start
        self._links: dict[Link, int] = {}
        self._claims = Claims(len(first))
        self._reports: dict[int, Report] = {}
        # The last reports of processes that have ended.
        self._past: list[Report] = []
        self._known: Starts = {}
        self._learned = LearnedLimits()

    @property
    def count(self) -> int:
        """How many parts the rows have."""
        return len(self._processes)

    async def run(self, job: Job, seen: Seen | None) -> None:
        """Let the workers ask about the pending rows; `seen` is not called, since results are in their journals."""
        rows, totals, ending = job.rows, job.totals, job.ending
        assert isinstance(rows, JournaledRows)
        async with LeaseServer(
            hear=lambda link, kind, body: self._on_message(job, rows, link, kind, body),
            gone=self._on_gone,
        ) as server:
            try:
                await asyncio.gather(*(self._keep(job, index, server) for index in range(1, self.count + 1)))
            finally:
                for process in self._processes:
                    process.terminate()
                await asyncio.gather(*(process.wait() for process in self._processes))
        rows.take_in_parts(is_new=True)
        for report in self._past:
            totals.attempts += report.attempts
            totals.answered += report.answered
            totals.flaws.update(report.flaws)
            totals.seconds_answering += report.seconds_answering
        learned = [report.learned for report in self._past if report.learned is not None]
        self._learned = together(learned, self.count)
        self._past.clear()
        if totals.pending == 0:
            ending.stopped_by = None
        if ending.capped_by in BY_THE_DAY:
            ending.resume_at = totals.day.ends

    def activity(self) -> Activity:
        """Return what all workers are doing, and what they have done in this run."""
        reports = [*self._past, *self._reports.values()]
        costs = [report.cost_usd for report in reports if report.cost_usd is not None]
        return Activity(
            in_flight=sum(report.in_flight for report in reports),
            limits=[report.limited_by for report in reports if report.limited_by is not None and not report.ended],
            ok=sum(report.ok for report in reports),
            failed=sum(report.failed for report in reports),
            tokens=sum(report.tokens for report in reports),
            cost_usd=sum(costs) if costs else None,
            learned=tuple(each.words() for each in self._learned.told),
        )

    def start_from(self, known: Starts) -> None:
        """Let each worker start with its share of what is known of the server's limits."""
        self._known = known

    def learned(self) -> LearnedLimits:
        """Return what all together learned of limits, once they have ended."""
        return self._learned

    def stop(self) -> None:
        """Let all workers finish their calls in flight."""
        self._send_all("stop")

    def cancel(self) -> None:
        """Let all workers drop their calls in flight."""
        self._send_all("cancel")

    async def _keep(self, job: Job, index: int, server: LeaseServer) -> None:
        try:
            await self._keep_on(job, index, server)
        finally:
            self._claims.part_ended()

    async def _keep_on(self, job: Job, index: int, server: LeaseServer) -> None:
        """Let a part be asked about to its end: a worker that died is started again, as long as it gets on."""
        fruitless = 0
        while True:
            process = self._processes[index - 1]
            process.begin(server.address)
            code = await process.wait()
            # Its last report may still be on its way.
            for _ in range(20):
                if index not in self._links.values():
                    break
                await asyncio.sleep(0.01)
            report = self._reports.pop(index, None)
            if report is not None:
                self._past.append(msgspec.structs.replace(report, in_flight=0, limited_by=None))
            if job.ending.stopped_by is not None or job.ending.is_interrupted:
                return
            if report is not None and report.ended and not report.was_told:
                return
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            if report is not None and report.was_told:
                how = "was ended by a signal"
            how = f"worker {index} of {self.count} {how}"
            fruitless = 0 if report is not None and report.ok + report.failed else fruitless + 1
            if fruitless == _FRUITLESS:
                how = f"{how}, {_FRUITLESS} times before it had an answer"
            if fruitless == _FRUITLESS or code > 0:
                # An error of its own, which it has said, would be met again.
                job.ending.stopped_by = AimlasyncError(how)
                return
            if self.note is not None:
                self.note(f"{how}; another goes on in its place")
            self._processes[index - 1] = self._start(index, self.count)

    def _on_message(self, job: Job, rows: JournaledRows, link: Link, kind: str, body: bytes) -> Any:
        ending = job.ending
        if kind == "hello":
            self._links[link] = msgspec.msgpack.decode(body, type=int)
            if ending.is_interrupted:
                link.send("stop")
            return _orders(job, rows, self._known)
        if kind == SHORT:
            self._claims.add(link, has_returned=msgspec.msgpack.decode(body, type=bool))
        if kind == "report" and (index := self._links.get(link)) is not None:
            report = self._reports[index] = msgspec.msgpack.decode(body, type=Report)
            if report.capped_by is not None:
                ending.capped_by = report.capped_by
            if report.resume_at is not None:
                ending.resume_at = report.resume_at
            if report.stopped_by is not None and ending.stopped_by is None:
                code, message, status = report.stopped_by
                ending.stopped_by = error_of(code, message, status=status)
                self.stop()
                asyncio.get_running_loop().call_later(STOP_GRACE, self.cancel)
        return None

    def _on_gone(self, link: Link) -> None:
        self._links.pop(link, None)
        self._claims.drop(link)

    def _send_all(self, kind: str) -> None:
        for link in self._links:
            link.send(kind)


async def orphans_ended(journal: str) -> None:
    """Wait for the workers of a killed run, which finish their calls in flight; not longer than they may take."""
    real = os.path.realpath(journal)  # noqa: ASYNC240  # once, before anything runs
    for _ in range(int((GRACE + _CLOSING) / _LOOK)):
        if not any(is_in_use(part) for part in parts_of(real)):
            return
        await asyncio.sleep(_LOOK)


def _orders(job: Job, rows: JournaledRows, known: Starts) -> Orders:
    caps, totals = job.options.caps, job.totals
    spent = totals.capped
    budget = caps.budget(spent)
    requests, tokens = totals.day.used(time.time())
    left = None if caps.max_tokens is None else max(0, caps.max_tokens - spent.tokens)
    today = None if caps.tokens_per_day is None else max(0, caps.tokens_per_day - tokens)
    by_day = today is not None and (left is None or today < left)
    passed = job.progress.seconds(time.monotonic())
    return Orders(
        job=rows.identity(),
        journal=rows.real_path,
        usd=None if budget is None else budget.usd,
        tokens=today if by_day else left,
        tokens_cap="tokens per day" if by_day else "tokens",
        tokens_a_row=totals.a_row_takes,
        requests=None if caps.requests_per_day is None else max(0, caps.requests_per_day - requests),
        deadline=None if caps.deadline is None else max(0.01, caps.deadline - passed),
        learned=known,
    )
