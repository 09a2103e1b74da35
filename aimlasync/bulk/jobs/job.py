"""A job: every row of a source through a task, until it is done, stopped or interrupted.

Law: ties together what the other files do one by one; prints nothing. Where results go and what is remembered of them
differs: `file_job` and `stream_job`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from aimlasync.budget import Budget
from aimlasync.bulk.api import MAX_WAITING, WORKERS
from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.bulk.input.shard import Shard
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.jobs.ask_one import ask
from aimlasync.bulk.jobs.async_iter import later
from aimlasync.bulk.jobs.caps import Caps
from aimlasync.bulk.jobs.dedupe import Shared
from aimlasync.bulk.jobs.stop_rules import Patience
from aimlasync.bulk.jobs.worker_pool import Work
from aimlasync.bulk.journal.convert import record_of
from aimlasync.bulk.journal.record import Record
from aimlasync.bulk.progress.progress import Pace, Snapshot, limited_by
from aimlasync.bulk.progress.totals import Tally
from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.result import Result, is_refused
from aimlasync.bulk.tasks.tasks import BatchTask, EmptyTextError, Task, empty_result
from aimlasync.errors import AimlasyncError, AnswerError, BudgetExceededError

if TYPE_CHECKING:
    from aimlasync.client import AsyncClient

# How long calls in flight may go on after an error that stops the job, or its deadline: they may be paid for already.
_GRACE = 5.0
_DEADLINE_GRACE = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a job runs; nothing here decides its answers."""

    concurrency: int | None = None
    """Rows at work; None leaves it to the client's limits."""
    limit: int | None = None
    """Only the first rows."""
    shard: Shard | None = None
    retry_invalid: int = 0
    """Calls again for an answer that is refused, truncated or invalid."""
    keep_failed: bool = False
    """Leave rows alone that failed in an earlier run."""
    dedupe: bool = False
    """Identical requests share one call."""
    caps: Caps = field(default_factory=Caps)
    gold: str | None = None
    """The column with the right labels."""
    canary: int | None = None
    """Ask about so many rows and no more: a dry run."""
    simulated: bool = False


Seen = Callable[[Result, Record], None]


def ignore(result: Result, record: Record) -> None:
    """Look at nothing."""


class Answerer(Protocol):
    """Who makes the calls of a job in other processes or on other machines, in the place of its client."""

    workers: int
    """Rows that are worth having at work."""

    async def ask(self, request: Request, /) -> Result:
        """Return what became of a request, its answer read as the task says."""


class Job:
    """What both ways share: the totals, and how a run ends."""

    resumable = False
    is_throwaway = False
    """Whether nobody will see its answers again: a dry run without an output."""

    def __init__(self, source: Source, task: Task, options: Options, *, added: Collection[str] = ()) -> None:
        self.source = source
        self.task = task
        task.name = source.name
        self.options = options
        # Columns that the output gets; no row may have one of its own.
        self._added = frozenset(added)
        self.tally = Tally()
        self.total: int | None = None
        """Rows in all, None while nobody can know."""
        self.stopped_by: AimlasyncError | None = None
        """The error that stopped the job."""
        self.capped_by: Literal["tokens", "deadline"] | None = None
        """What else did."""
        self.is_interrupted = False
        self.pace = Pace(time.monotonic())
        self.workers = options.concurrency or WORKERS
        # Rows finished in this run, and the tokens they took.
        self.finished = 0
        self.seconds_answering = 0.0
        """Of this run: the seconds that its calls took, waits of our own left out."""
        self._tokens_before = 0
        # With a cap of tokens: rows given whose results are not counted yet.
        self._busy = 0
        # With a cap of money: calls that wait for others to cost less than they might.
        self._short: deque[asyncio.Future[None]] = deque()
        self._shared: Shared | None = None
        self._client: AsyncClient | None = None
        self.answerer: Answerer | None = None
        """Who is asked instead of the client."""
        self._work: Work[Row, Result] | None = None

    @property
    def pending(self) -> int | None:
        """Rows still to be asked about, None while nobody can know."""
        return None if self.total is None else self.total - self.finished

    @property
    def tokens(self) -> int:
        """Tokens of all rows, earlier runs included."""
        return self.tally.tokens_in + self.tally.tokens_out

    def check(self, row: Row) -> None:
        """Raises InputError for a row that cannot be asked about, judged or written."""
        self.task.check(row)
        if row.cells is not None:
            # A CSV row has the columns of its header, which were looked at once.
            return
        gold = self.options.gold
        if gold is not None and gold not in row.fields:
            raise InputError(self.source.name, f"no {gold!r} in this row; every row needs it", line=row.line)
        for name in self._added & row.fields.keys():
            what = f"there is a {name!r} already; the output gets a column of that name, so choose another"
            raise InputError(self.source.name, what, line=row.line)

    def finish(self) -> bool:
        """End the output. Returns False when there was nothing to write."""
        return True

    def close(self) -> None:
        """Let go of everything; harmless after `finish`."""

    def interrupt(self) -> bool:
        """Take no further rows and let calls in flight finish; asked again, drop them. Returns whether it was again."""
        again, self.is_interrupted = self.is_interrupted, True
        if self._work is not None:
            if again:
                self._work.cancel()
            else:
                self._work.stop()
        return again

    def snapshot(self) -> Snapshot:
        """Return where the job is, and what holds it back."""
        now = time.monotonic()
        tokens = self.tokens - self._tokens_before
        self.pace.sample(now, self.finished, tokens)
        rows_per_second, tokens_per_second = self.pace.speed(now, self.finished, tokens)
        endpoints = self._client.statistics() if self._client is not None and not self._client.is_closed else []
        held = None
        if self._work is not None:
            held = "budget" if self._short else limited_by(endpoints, self._work.in_flight, self.workers)
            if held is not None:
                self.pace.limits[held] += 1
        pending = self.pending
        in_flight = sum(endpoint.in_flight for endpoint in endpoints)
        if self.answerer is not None:
            in_flight = 0 if self._work is None else self._work.in_flight
        return Snapshot(
            at=time.time(),
            seconds=self.pace.seconds(now),
            total=self.total,
            done=self.tally.ok,
            failed=self.tally.failed,
            in_flight=in_flight,
            calls_per_second=rows_per_second,
            tokens_per_second=tokens_per_second,
            cost_usd=self.tally.cost,
            eta_seconds=pending / rows_per_second if pending is not None and rows_per_second > 0 else None,
            limited_by=held,
        )

    async def _drive(
        self, client: AsyncClient, rows: Iterator[Row] | AsyncIterator[Row], take: Callable[[Result], None]
    ) -> None:
        """Put `rows` through the task; `take` is called with each result that counts."""
        loop, caps = asyncio.get_running_loop(), self.options.caps
        budget = self._budget()
        if budget is not None:
            client = client.with_options()
            client.budget = budget
        self._client = client
        self._tokens_before = self.tokens
        self.pace = Pace(time.monotonic())
        patience = Patience(succeeded=self.tally.ok > 0, alike=not isinstance(self.task, BatchTask))
        timers: list[asyncio.TimerHandle] = []
        moved = asyncio.Event()
        if caps.max_tokens is not None:
            rows = self._within(rows, moved)

        def keep(result: Result) -> None:
            fatal = patience.saw(result.error)
            # A reply of an earlier call for the row was paid for.
            if fatal is None or result.reply is not None:
                self.finished += 1
                take(result)
            if fatal is not None and self.stopped_by is None:
                self.stopped_by = fatal
                work.stop()
                timers.append(loop.call_later(_GRACE, work.cancel))
            if caps.max_tokens is not None:
                self._busy -= 1
                moved.set()

        work = Work(
            rows,
            lambda row: self._do(client, row),
            workers=self.workers,
            may_take=lambda: client.queued < MAX_WAITING,
            # Not an iteration: a result is in the journal in the same instant in which it is there.
            keep=keep,
        )
        self._work = work

        def over() -> None:
            self.capped_by = "deadline"
            work.stop()
            timers.append(loop.call_later(_DEADLINE_GRACE, work.cancel))

        if caps.deadline is not None:
            timers.append(loop.call_later(caps.deadline, over))
        if self.is_interrupted or (
            caps.tokens_used_up(self.tokens, self.tally.replies, 0) and not await self._more_tokens()
        ):
            # Before there was anything to stop.
            self.capped_by = None if self.is_interrupted else "tokens"
            work.stop()

        try:
            async with work:
                await work.finished()
        finally:
            for timer in timers:
                timer.cancel()
        if self.pending == 0:
            # The cap was met, and nothing left out for it.
            self.capped_by = None

    async def _within(self, rows: Iterator[Row] | AsyncIterator[Row], moved: asyncio.Event) -> AsyncGenerator[Row]:
        """Give rows while there are tokens for them; the first one alone, since nobody knows what it takes."""
        async with AsyncExitStack() as closing:
            if isinstance(rows, AsyncGenerator):
                await closing.enter_async_context(aclosing(rows))
            async for row in later(rows):
                while self.options.caps.tokens_used_up(self.tokens, self.tally.replies, self._busy):
                    if await self._more_tokens():
                        continue
                    if not self._busy:
                        self.capped_by = "tokens"
                        return
                    moved.clear()
                    await moved.wait()
                self._busy += 1
                yield row

    def _budget(self) -> Budget | None:
        """What may be spent in this run, None without a bound."""
        return self.options.caps.budget(self.tally.cost_usd, self.tally.unpriced)

    async def _more_tokens(self) -> bool:
        """Get more tokens for the next row, where there may be more: never, where the cap is this job's alone."""
        return False

    async def _do(self, client: AsyncClient, row: Row) -> Result:
        try:
            request = self.task.request(row)
        except EmptyTextError as error:
            return empty_result(self.task, row, error)
        if self._shared is not None:
            result = await self._shared.ask(request, lambda: self._ask(client, request))
        else:
            result = await self._ask(client, request)
        result.row = row
        return result

    def _ask(self, client: AsyncClient, request: Request) -> Coroutine[Any, Any, Result]:
        if self.answerer is not None:
            return self.answerer.ask(request)
        if client.budget is not None:
            return self._ask_within(client, client.budget, request)
        return ask(client, request, read=self.task.read, retry_invalid=self.options.retry_invalid)

    async def _ask_within(self, client: AsyncClient, budget: Budget, request: Request) -> Result:
        """Ask, and wait while what calls in flight may cost leaves nothing: mostly they cost less."""
        try:
            while True:
                result = await ask(client, request, read=self.task.read, retry_invalid=self.options.retry_invalid)
                short = isinstance(result.error, BudgetExceededError) and result.reply is None
                if not short or not budget.reserved:
                    return result
                turn = asyncio.get_running_loop().create_future()
                self._short.append(turn)
                await turn
        finally:
            self._let_in()

    def _let_in(self) -> None:
        """A call has ended, and with it its reservation: the next that had no money may look again."""
        while self._short:
            turn = self._short.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _count(self, result: Result) -> Record:
        """Add a result to the totals, and return its record."""
        record, tally, reply = record_of(result), self.tally, result.reply
        tally.saw(record)
        if result.shared_with is None:
            tally.attempts += result.attempts
            facts = record.info
            if facts is not None and facts.seconds is not None:
                self.seconds_answering += facts.seconds - (facts.queued or 0.0) - (facts.limited or 0.0)
            if reply is not None:
                # The last call of several may have brought an error instead.
                failed = result.error is not None and not isinstance(result.error, AnswerError)
                tally.answered += result.calls - failed
                if result.error is None and self.task.read is None:
                    tally.truncated += reply.truncated
                    tally.refused += is_refused(reply)
        return record
