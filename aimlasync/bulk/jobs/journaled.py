"""A job with a journal, which can be gone on with.

Law: whatever is wrong with input or journal is raised before any call. The journal is the truth and the result; memory
is eight bytes for each row that is done, and a line's place for each that failed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.bulk.input.source import Source, Survey
from aimlasync.bulk.jobs.dedupe import Repeats, Shared, digest_of
from aimlasync.bulk.jobs.job import Job, Options, Seen
from aimlasync.bulk.journal.id_set import DoneSet
from aimlasync.bulk.journal.journal import Durability, Journal
from aimlasync.bulk.journal.manifest import facts_of
from aimlasync.bulk.journal.part_files import identity_of_part, parts_of, remove_part
from aimlasync.bulk.journal.record import Facts, Glance, Record
from aimlasync.bulk.tasks.prompt import as_text
from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.result import Answer, Result, reply_of
from aimlasync.bulk.tasks.tasks import EmptyTextError, Task
from aimlasync.errors import AnswerError

if TYPE_CHECKING:
    from aimlasync.client import AsyncClient

# Rows that are skipped between two turns of the loop: Ctrl-C is heard, and nobody waits long.
_SKIP = 5_000
# Rows that are read at once: one by one, between calls, each would be read with cold caches.
_AHEAD = 64


class FileJob(Job):
    """A job whose results go to the journal at `journal`. Raises InputError, JournalError or OSError from the start."""

    resumable = True

    def __init__(
        self,
        source: Source,
        task: Task,
        options: Options,
        *,
        journal: str,
        restart: bool = False,
        overwrite: bool = False,
        durability: Durability = "process",
        added: Collection[str] = (),
    ) -> None:
        super().__init__(source, task, options, added=added)
        self._stamp = source.stamp()
        self._done = DoneSet()
        # Lines of rows that failed, which a new line of the same row takes the place of; and those it has taken.
        self._failed: dict[str, int] = {}
        self._superseded: list[int] = []
        # With a gold column: what earlier runs answered.
        self._labels: dict[str, str | list[str]] = {}
        self.path = journal
        self._left = 0
        # A journal is neither made nor emptied for an input that is wrong; one that is there knows what was checked.
        facts = None if restart else facts_of(journal)
        survey = self._survey() if facts is None else None
        self._digest = source.digest() if survey is None else survey.digest
        if survey is not None:
            facts = {"input": source.name, **({"rows": survey.rows} if options.limit is None else {})}
        self._journal = Journal.open(
            journal,
            job=self._identity(),
            facts=facts,
            restart=restart,
            overwrite=overwrite,
            durability=durability,
        )
        try:
            for offset, glance in self._journal.scan():
                self._replay(offset, glance)
            # Their rows are asked about again, and the lines go.
            self._superseded += self._journal.blanks
            for part in parts_of(self._journal.path):
                # Of workers that a killed run had.
                self._take_in(part, restart=restart)
            self._replay_failed()
            self.tally.ok_before = self.tally.ok
            self._tokens_before = self.tokens
            if (survey is None or len(self._done)) and not self._is_known(facts or {}):
                self._survey()
        except BaseException:
            self._journal.close()
            raise

    @property
    def pending(self) -> int:
        """Rows still to be asked about."""
        return self._left - self.finished

    async def run(self, client: AsyncClient, seen: Seen) -> None:
        """Ask about the pending rows; `seen` is called with each result once it is in the journal."""

        def take(result: Result) -> None:
            record = self._count(result)
            if (old := self._failed.pop(record.custom_id, None)) is not None:
                self._superseded.append(old)
                _carry(self._journal.read(old).info, record)
            self._journal.append(record, is_line=True)
            if result.row is not None and self.options.gold is not None and record.info is not None:
                self._judge(result.row, record.info.label)
            seen(result, record)

        rows = self._pending_rows()
        first = None
        while first is None:
            try:
                first = next(rows)
            except StopIteration:
                return
            # A None says that there was a long stretch of rows that are done.
            await asyncio.sleep(0)
        try:
            await self._drive(client, islice(_from(first, rows), self.options.canary), take)
        finally:
            self._journal.flush()

    def finish(self) -> bool:
        """Close the journal, one line per row. Returns False when it is empty."""
        try:
            if self.source.stamp() != self._stamp:
                what = "changed during the run, so that its rows and the answers no longer fit"
                raise InputError(self.source.name, f"{what}; run again with --restart")
            if self._superseded:
                self._journal.compact(self._superseded)
                self._superseded.clear()
            if self._labels:
                for row in islice(self.source, self.options.limit):
                    self._judge(row, self._labels.get(self.task.custom_id(row)))
                self._labels.clear()
            return bool(self.tally.ok or self.tally.failed or self._failed)
        finally:
            self._journal.close()

    def close(self) -> None:
        """Let go of the journal; harmless after `finish`."""
        self._journal.close()

    def _take_in(self, part: str, *, restart: bool = False, is_new: bool = False) -> None:
        """Put what is in the journal of a worker into this one, or with `restart` throw it away.

        Harmless when it was done before. `is_new` tells results of this run from those of an earlier one.
        """
        if not os.path.exists(part):
            # Taken in before, by a run that died before the manifest was gone as well.
            remove_part(part)
            return
        identity = identity_of_part(part, self._identity())
        journal = Journal.open(part, job=identity, restart=restart)
        try:
            for offset, glance in journal.scan():
                name = glance.custom_id
                if name in self._done:
                    continue
                record = journal.read(offset)
                if (old := self._failed.pop(name, None)) is not None:
                    self._superseded.append(old)
                    _carry(self._journal.read(old).info, record)
                offset = self._journal.append(record, is_line=True)
                self.finished += is_new
                if is_new and glance.error is not None:
                    self.tally.saw(record)
                else:
                    self._replay(offset, glance)
            self._journal.sync()
        finally:
            journal.close()
        remove_part(part)

    def _identity(self) -> dict[str, Any]:
        shard = self.options.shard
        return {
            **self.task.identity(),
            "input": self._digest,
            **({} if shard is None else {"shard": str(shard)}),
            "answerer": "simulator" if self.options.simulated else "model",
        }

    def _replay(self, offset: int, glance: Glance) -> None:
        name = glance.custom_id
        if name in self._done if glance.error is not None else not self._done.add(name):
            # Somebody put two journals together.
            self._superseded.append(offset)
            return
        if self._failed and (old := self._failed.pop(name, None)) is not None:
            self._superseded.append(old)
        if glance.error is not None:
            self._failed[name] = offset
            return
        self.tally.saw(glance)
        if self.options.gold is not None and glance.info is not None and glance.info.label is not None:
            self._labels[name] = glance.info.label

    def _replay_failed(self) -> None:
        """Count the failures that no later line has taken the place of, and settle which rows are asked again."""
        for name, offset in list(self._failed.items()):
            record = self._journal.read(offset)
            # An empty text is no fuller for being asked again.
            if self.options.keep_failed or (record.error and record.error.code == EmptyTextError.__name__):
                del self._failed[name]
                self._done.add(name)
                self.tally.saw(record)
            else:
                facts = record.info or Facts()
                self.tally.pay(facts, replied=facts.tokens_in is not None or facts.cost_usd is not None)

    def _is_known(self, facts: Mapping[str, Any]) -> bool:
        """Whether an earlier run has checked this very input, so that what is left can be told without reading it."""
        rows, done = facts.get("rows"), len(self._done)
        options = self.options
        if options.limit is not None or options.shard is not None or options.dedupe or not isinstance(rows, int):
            return False
        self.total, self._left = rows, rows - done
        # That nothing is left is said after a look alone: somebody may have put two journals together.
        return self._left > 0

    def _survey(self) -> Survey:
        """Read the input once, look for what is wrong with it, and count its rows and those that are left."""
        task, shard = self.task, self.options.shard
        done = self._done if len(self._done) else ()
        names = DoneSet() if task.own_ids else None
        repeats = Repeats() if self.options.dedupe else None
        self.total = left = 0

        def check(row: Row) -> None:
            nonlocal left
            self.check(row)
            name = task.custom_id(row)
            if names is not None and not names.add(name):
                what = f"{name!r} is the id of an earlier row too; every row needs its own"
                raise InputError(self.source.name, what, line=row.line)
            if shard is not None and not shard.owns(name):
                return
            assert self.total is not None
            self.total += 1
            left += name not in done
            if repeats is not None:
                self._repeat(repeats, row)

        survey = self.source.survey(check, limit=self.options.limit)
        if repeats is not None:
            self._shared = Shared(repeats.digests, self._earlier(repeats.digests))
        self._left = left
        return survey

    def _repeat(self, repeats: Repeats, row: Row) -> None:
        try:
            repeats.see(self.task.request(row))
        except EmptyTextError:
            return

    def _earlier(self, repeated: set[str]) -> Callable[[str], Result | None]:
        """Find which rows of earlier runs can answer for others, and return how they are looked up."""
        digests: dict[str, str] = {}
        if repeated and len(self._done):
            for row in islice(self.source, self.options.limit):
                if self.task.custom_id(row) in self._done:
                    try:
                        request = self.task.request(row)
                    except EmptyTextError:
                        continue
                    if (digest := digest_of(request)) in repeated:
                        digests[request.custom_id] = digest
        answers: dict[str, int] = {}
        if digests:
            for offset, glance in self._journal.scan():
                if glance.error is None and (found := digests.get(glance.custom_id)) is not None:
                    answers.setdefault(found, offset)

        def find(digest: str) -> Result | None:
            offset = answers.pop(digest, None)
            if offset is None:
                return None
            record = self._journal.read(offset)
            return None if record.response is None else self._result(record.custom_id, bytes(record.response.body))

        return find

    def _result(self, name: str, body: bytes) -> Result | None:
        reply = reply_of(body)
        if reply is None:
            return None
        answer: Answer | None = None
        if self.task.read is not None:
            try:
                answer = self.task.read(reply)
            except AnswerError:
                return None
        return Result(Request(custom_id=name, api="chat", body={}), reply, answer=answer)

    def _judge(self, row: Row, label: str | list[str] | None) -> None:
        if label is not None and self.options.gold is not None:
            self.tally.judge(as_text(row.fields.get(self.options.gold)), label)

    def _pending_rows(self) -> Iterator[Row | None]:
        shard, skipped = self.options.shard, 0
        done = self._done
        rows = islice(self.source, self.options.limit)
        while ahead := list(islice(rows, _AHEAD)):
            for row in ahead:
                name = self.task.custom_id(row)
                if name in done or (shard is not None and not shard.owns(name)):
                    skipped += 1
                    if skipped % _SKIP == 0:
                        yield None
                    continue
                yield row


def _carry(earlier: Facts | None, record: Record) -> None:
    """Add what an earlier run took for the row, since the line that says so will go."""
    facts = record.info
    if earlier is None or facts is None:
        return
    facts.attempts = (earlier.attempts or 0) + (facts.attempts or 0)
    calls = sum(1 if each.calls is None else each.calls for each in (earlier, facts))
    facts.calls = None if calls == 1 else calls
    paid = [each for each in (earlier, facts) if each.tokens_in is not None or each.cost_usd is not None]
    if paid:
        costs = [each.cost_usd for each in paid if each.cost_usd is not None]
        facts.cost_usd = sum(costs) if len(costs) == len(paid) else None
    if any(each.tokens_in is not None for each in paid):
        facts.tokens_in, facts.tokens_out = (
            sum(each.tokens_in or 0 for each in paid),
            sum(each.tokens_out or 0 for each in paid),
        )


def _from(first: Row, rest: Iterator[Row | None]) -> Iterator[Row]:
    yield first
    for row in rest:
        if row is not None:
            yield row
