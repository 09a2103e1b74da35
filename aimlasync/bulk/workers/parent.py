"""A job in several processes: the parent's side.

`WorkerProcesses` starts the workers, leases them the limits and the caps, adds up their reports, and has their journals
taken into the one of the job. Each worker has a part of the rows, by their custom_id, and a journal of its own,
PATH.part-I-of-N; a part that a killed run left behind is taken in when the job is opened again, whatever number of
workers follows. So the job's own journal, its lock and its manifest are those of any other job. It may import what
`child` may.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from aimlasync.bulk.jobs.job import Job, Seen
from aimlasync.bulk.jobs.journaled import JournaledRows
from aimlasync.bulk.jobs.stop_rules import STOP_GRACE
from aimlasync.bulk.journal.convert import error_of
from aimlasync.bulk.progress.progress import Activity
from aimlasync.bulk.progress.totals import BY_THE_DAY
from aimlasync.bulk.workers.messages import Orders, Report
from aimlasync.errors import AimlasyncError
from aimlasync.quota.server import LeaseServer, Link


class WorkerProcesses:
    """Runs a job with `count` workers, for one run.

    `start` starts one; it is given its index from 1, how many there are, and the address where the parent listens.
    """

    def __init__(self, count: int, start: Callable[[int, int, str], Awaitable[asyncio.subprocess.Process]]) -> None:
        self.count = count
        self._start = start
        self._links: dict[Link, int] = {}
        self._reports: dict[int, Report] = {}

    async def run(self, job: Job, seen: Seen) -> None:
        """Let the workers ask about the pending rows; `seen` is not called, since results are in their journals."""
        rows, totals, ending = job.rows, job.totals, job.ending
        assert isinstance(rows, JournaledRows)
        processes: list[asyncio.subprocess.Process] = []
        async with LeaseServer(
            hear=lambda link, kind, body: self._on_message(job, rows, link, kind, body),
            gone=lambda link: self._links.pop(link, None),
        ) as server:
            try:
                for index in range(1, self.count + 1):
                    process = await self._start(index, self.count, server.address)
                    processes.append(process)
                await asyncio.gather(*(self._wait(job, index, each) for index, each in enumerate(processes, 1)))
            finally:
                for process in processes:
                    if process.returncode is None:
                        process.terminate()
                await asyncio.gather(*(process.wait() for process in processes))
        rows.take_in_parts(is_new=True)
        for report in self._reports.values():
            totals.attempts += report.attempts
            totals.answered += report.answered
            totals.truncated += report.truncated
            totals.refused += report.refused
            totals.seconds_answering += report.seconds_answering
        self._reports.clear()
        if totals.pending == 0:
            ending.stopped_by = None
        if ending.capped_by in BY_THE_DAY:
            ending.resume_at = totals.day.ends

    def activity(self) -> Activity:
        """Return what all workers are doing, and what they have done in this run."""
        reports = self._reports.values()
        costs = [report.cost_usd for report in reports if report.cost_usd is not None]
        return Activity(
            in_flight=sum(report.in_flight for report in reports),
            limits=[report.limited_by for report in reports if report.limited_by is not None and not report.ended],
            ok=sum(report.ok for report in reports),
            failed=sum(report.failed for report in reports),
            tokens=sum(report.tokens for report in reports),
            cost_usd=sum(costs) if costs else None,
        )

    def stop(self) -> None:
        """Let all workers finish their calls in flight."""
        self._send_all("stop")

    def cancel(self) -> None:
        """Let all workers drop their calls in flight."""
        self._send_all("cancel")

    async def _wait(self, job: Job, index: int, process: asyncio.subprocess.Process) -> None:
        """Wait for the end of a worker; one that ended without its last report stops the job."""
        code = await process.wait()
        # Its last report may still be on its way.
        for _ in range(20):
            if index not in self._links.values():
                break
            await asyncio.sleep(0.01)
        report = self._reports.get(index)
        if report is not None and report.ended:
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if job.ending.stopped_by is None and not job.ending.is_interrupted:
            job.ending.stopped_by = AimlasyncError(f"worker {index} of {self.count} {how}")

    def _on_message(self, job: Job, rows: JournaledRows, link: Link, kind: str, body: bytes) -> Any:
        ending = job.ending
        if kind == "hello":
            self._links[link] = msgspec.msgpack.decode(body, type=int)
            if ending.is_interrupted:
                link.send("stop")
            return _orders(job, rows)
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

    def _send_all(self, kind: str) -> None:
        for link in self._links:
            link.send(kind)


def _orders(job: Job, rows: JournaledRows) -> Orders:
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
        requests=None if caps.requests_per_day is None else max(0, caps.requests_per_day - requests),
        deadline=None if caps.deadline is None else max(0.01, caps.deadline - passed),
    )
