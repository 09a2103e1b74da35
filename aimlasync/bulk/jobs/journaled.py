"""The rows of a file whose results go to a journal, so that another run goes on where one stopped.

Whatever is wrong with the input or the journal is raised when `JournaledRows` is made, before any call. The journal is
the only record of what is done; memory is eight bytes for each row that is done, and an offset for each that failed.
Imports input, tasks, journal and totals; knows no client.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from msgspec import Raw

from aimlasync.bulk.input.rows import AS_FOUND, InputError, Row, Wanted, numbered_id
from aimlasync.bulk.input.source import Source, Survey
from aimlasync.bulk.jobs.dedupe import Repeats, SharedCalls, earlier_answers
from aimlasync.bulk.jobs.dry_run import Sample
from aimlasync.bulk.jobs.job_rows import check_row, is_final, pending_rows, repeated_id
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.jobs.probes import Rows, sampled
from aimlasync.bulk.journal.convert import judged
from aimlasync.bulk.journal.id_set import IdSet
from aimlasync.bulk.journal.journal import Durability, Journal
from aimlasync.bulk.journal.known_rows import KnownRows, NamedRows, NumberedRows
from aimlasync.bulk.journal.manifest import add_facts, facts_of, of_same_job, spelled
from aimlasync.bulk.journal.part_files import identity_of_part, parts_of, remove_part
from aimlasync.bulk.journal.record import Glance, Record, add_earlier
from aimlasync.bulk.journal.table_changes import Changes, follow
from aimlasync.bulk.progress.quality import quality_of_job
from aimlasync.bulk.progress.totals import Totals, spending_in
from aimlasync.bulk.tasks.content import contents_of
from aimlasync.bulk.tasks.result import Result
from aimlasync.bulk.tasks.tasks import BatchTask, EmptyTextError, Task, is_named


class JournaledRows:
    """Rows whose results go to the journal at `path`. Raises InputError, JournalError or OSError from the start."""

    is_resumable = True

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
        self.source = source
        self.task = task
        task.name = source.name
        # A task that does not say which columns decide its answers is held to its input as it is.
        self._columns: Sequence[str] = getattr(task, "columns", ())
        self._content_of = contents_of(self._columns) if self._columns else None
        self.options = options
        self.shared: SharedCalls | None = None
        # Columns that are added to the output; no row may have a column of that name.
        self._added = added
        self.changes: Changes | None = None
        """How the table differs from that of the last run, None where it does not."""
        self.same_job: str | None = None
        """Another journal, beside this one, that has answers to the same requests, where this one is new."""
        self.sample = Sample()
        """Of a dry run."""
        self._forget()
        # The input is surveyed before a journal is made or emptied. An existing manifest says that it was surveyed.
        facts = None if restart else facts_of(journal)
        survey = self._survey() if facts is None else None
        # One survey asks for it before it reads, and of a file elsewhere it is a question.
        self._stamp = source.stamp() if survey is None else survey.stamp
        self._digest = source.digest() if survey is None else survey.digest
        if survey is not None:
            facts = self._facts(survey.rows if options.limit is None else None)
        self._journal = Journal.open(
            journal,
            job=self.identity(),
            facts=facts,
            restart=restart,
            overwrite=overwrite,
            may_differ=("judged", *(("input",) if self._columns else ())),
            durability=durability,
        )
        self.path = journal
        """As it was given, links not followed."""
        if survey is not None and not restart:
            self.same_job = of_same_job(self._journal.path)
        try:
            self._load(restart=restart)
            if self._journal.job.get("judged") != self.identity().get("judged"):
                self._judge(facts or {})
            if self._journal.job.get("input") != self._digest:
                facts = self._follow()
            self.totals.before = spending_in(facts)
            self.totals.start_run()
            if (survey is None or len(self._done)) and not self._is_known(facts or {}):
                self._survey()
        except BaseException:
            self._journal.close()
            raise

    @property
    def real_path(self) -> str:
        """Where the journal lies, links followed."""
        return self._journal.path

    def identity(self) -> dict[str, Any]:
        """Return what the manifest must agree on for this to be the same job."""
        shard = self.options.shard
        return {
            **self.task.identity(),
            "input": self._digest,
            **({} if shard is None else {"shard": str(shard)}),
            "answerer": "simulator" if self.options.simulated else "model",
        }

    def pending(self) -> Iterator[Row | None]:
        """Give the rows that are not done; None now and then while rows are skipped.

        A dry run has a sample of them, and `sample` then says how long all of them are.
        """
        rows = pending_rows(self.source, self.task, self.options, done=self._done)
        if self.options.canary is None:
            return rows
        self.sample = sample = Sample()
        return self._sampled(rows, self.options.canary, lambda row: sample.see(row, self._columns))

    def write(self, result: Result, record: Record) -> None:
        """Append the record of a result."""
        if self._failed:
            self._supersede(record)
        row, facts, options = result.row, record.info, self.options
        if (content_of := self._content_of) is not None and row is not None and facts is not None:
            facts.content = content_of(row)
        self._journal.append(record)
        if options.canary is not None:
            self.sample.add(result, record, self._columns)
        if options.gold is not None and row is not None and facts is not None:
            self.totals.judge_row(row, options.gold, facts.label)

    def end_run(self) -> None:
        """Hand over to the operating system what is waiting."""
        self._journal.flush()

    def finish(self) -> bool:
        """Close the journal, one line per row. Returns False when it is empty."""
        try:
            if self.source.stamp() != self._stamp:
                # Also a file that is changed back is compared with what was asked.
                self._journal.forget_input()
                what = "changed during the run, so that some of its rows may be others now"
                raise InputError(self.source.name, f"{what}; the same command again asks about those alone")
            if self._superseded:
                self._journal.compact(self._superseded)
                self._superseded.clear()
            if self._labels:
                for row in islice(self.source, self.options.limit):
                    self.totals.judge_row(row, self.options.gold, self._labels.get(self.task.custom_id(row)))
                self._labels.clear()
            return bool(self.totals.ok or self.totals.failed or self._failed)
        finally:
            self._journal.close()
            if self.totals.structured:
                add_facts(self._journal.path, {"structured": dict(self.totals.structured)})

    def close(self) -> None:
        """Close the journal; harmless after `finish`."""
        self._journal.close()

    def take_in_parts(self, *, restart: bool = False, is_new: bool = False) -> None:
        """Append the journals of worker processes that lie beside this one, or with `restart` throw them away.

        `is_new` tells results of this run from those of an earlier one.
        """
        parts = parts_of(self._journal.path)
        for part in parts:
            # Else an earlier run took the part in, and died before it removed the manifest.
            if os.path.exists(part):
                self._take_in(part, restart=restart, is_new=is_new)
        if parts:
            self._journal.sync()
        for part in parts:
            remove_part(part)

    def _take_in(self, part: str, *, restart: bool, is_new: bool) -> None:
        journal = Journal.open(part, job=identity_of_part(part, self._journal.job), restart=restart)
        try:
            for offset, glance, line in journal.scan_lines():
                # A row that was taken in before is done.
                if glance.custom_id in self._done:
                    continue
                if glance.custom_id in self._failed:
                    record = journal.read(offset)
                    self._supersede(record)
                    offset = self._journal.append(record)
                else:
                    offset = self._journal.append(Raw(line))
                self.totals.finished += is_new
                if is_new and glance.error is not None:
                    self.totals.add_record(glance)
                else:
                    self._replay(offset, glance)
        finally:
            journal.close(sync=False)

    @staticmethod
    def _sampled(rows: Rows, size: int, see: Callable[[Row], None]) -> Rows:
        chosen = yield from sampled(rows, size, see=see)
        yield from chosen

    def _forget(self) -> None:
        quality = quality_of_job(self.task.identity())
        self.totals = Totals(quality=quality, counts_days=self.options.caps.are_by_day)
        self._done = IdSet()
        # Offsets of lines of failed rows, which a new line of the same row takes the place of; and those it has taken.
        self._failed: dict[str, int] = {}
        self._superseded: list[int] = []
        # With a gold column: what earlier runs answered.
        self._labels: dict[str, str | list[str]] = {}

    def _load(self, *, restart: bool = False) -> None:
        """Read what earlier runs left."""
        for offset, glance in self._journal.scan():
            self._replay(offset, glance)
        # Lines that say nothing of their row are dropped, and the rows are asked about again.
        self._superseded += self._journal.blanks
        # Journals that worker processes of a killed run left behind.
        self.take_in_parts(restart=restart)
        self._replay_failed()

    def _judge(self, facts: Mapping[str, Any]) -> None:
        """Hold the answers that were taken unread to what this run asks of an answer, and let the manifest say so."""
        if (read := self.task.read) is not None:
            if self._superseded:
                self._journal.compact(self._superseded)
            self._journal.rewrite(judged(line, read) for line in self._journal.lines())
            self._forget()
            self._load()
        self._journal.renew(job={**self._journal.job, "judged": read is not None}, facts=facts)

    def _follow(self) -> dict[str, Any]:
        """Make the journal one of today's table, and return the facts of its manifest."""
        known: KnownRows = NamedRows() if self._is_named() else NumberedRows()
        was = bool(len(self._done) or self._failed)
        # Rows beyond --limit keep their answers too.
        survey = self._survey(known)
        if self._superseded:
            self._journal.compact(self._superseded)
        changes = follow(self._journal, known)
        self.changes = changes if was else None
        self._forget()
        self._load()
        facts = self._facts(survey.rows) | {"before": self.totals.spending}
        self._journal.renew(job=self.identity(), facts=facts)
        return facts

    def _is_named(self) -> bool:
        return is_named(self.task, self.source.sample(1)[0])

    def _facts(self, rows: int | None) -> dict[str, Any]:
        """Return what the manifest says for readers of the journal."""
        return {
            "input": spelled(self.source.name),
            **({} if self.source.reading == AS_FOUND else {"reading": self.source.reading}),
            **({} if rows is None else {"rows": rows}),
            "columns": list(self._columns),
            "named": self._is_named(),
        }

    def _supersede(self, record: Record) -> None:
        """Note that a record replaces the line of the same row's earlier failure, and add what that took."""
        if (old := self._failed.pop(record.custom_id, None)) is not None:
            self._superseded.append(old)
            add_earlier(record, self._journal.read(old).info)

    def _replay(self, offset: int, glance: Glance) -> None:
        name = glance.custom_id
        if name in self._done if glance.error is not None else not self._done.add(name):
            # The row has an ok line already, as in journals that were concatenated by hand.
            self._superseded.append(offset)
            return
        if self._failed and (old := self._failed.pop(name, None)) is not None:
            self._superseded.append(old)
        if glance.error is not None:
            self._failed[name] = offset
            return
        self.totals.add_record(glance)
        if self.options.gold is not None and glance.info is not None and glance.info.label is not None:
            self._labels[name] = glance.info.label

    def _replay_failed(self) -> None:
        """Count the failures that no later line has taken the place of, and settle which rows are asked again."""
        for name, offset in list(self._failed.items()):
            record = self._journal.read(offset)
            is_last = record.error is not None and is_final(record.error.code, self.options)
            self.totals.add_record(record, is_asked_again=not is_last)
            if is_last:
                del self._failed[name]
                self._done.add(name)

    def _is_known(self, facts: Mapping[str, Any]) -> bool:
        """Whether an earlier run has checked this very input, so that what is left can be told without reading it."""
        rows, options = facts.get("rows"), self.options
        if options.limit is not None or options.shard is not None or options.dedupe or not isinstance(rows, int):
            return False
        self.totals.total, self.totals.left = rows, rows - len(self._done)
        # A job is called complete only after a survey, because journals may have been concatenated by hand.
        return self.totals.left > 0

    def _survey(self, known: KnownRows | None = None) -> Survey:
        """Read the input once, look for what is wrong with it, and count its rows and those that are left.

        With `known` those behind `--limit` are read too, and all are added to it.
        """
        task, shard, content_of = self.task, self.options.shard, self._content_of
        done = self._done if len(self._done) else ()
        names = IdSet() if task.own_ids else None
        repeats = Repeats() if self.options.dedupe and known is None else None
        # Rows that are known by their numbers, and are all of them asked about, need no name here.
        needs_name = bool(names is not None or shard is not None or known is not None or repeats is not None or done)
        total = left = 0

        def check(row: Row) -> None:
            nonlocal total, left
            name = check_row(row, self, self._added)
            if not needs_name:
                return
            if name is None:
                name = task.custom_id(row)
            if names is not None and not names.add(name):
                raise repeated_id(name, self.source, row.line)
            if shard is not None and not shard.owns(name):
                return
            if known is not None:
                assert content_of is not None, "the input of such a task is held to its digest"
                known.add(row.number, name, content_of(row))
            total += 1
            left += name not in done
            if repeats is not None:
                with suppress(EmptyTextError):
                    repeats.add(task.request(row))

        # A class of its own may check and name rows in its own way.
        names_of = task.names_of if type(task) is BatchTask else None

        def skim(block: bytes, above: int) -> int | None:
            nonlocal total, left
            if names_of is None or (found := names_of(block)) is None:
                return None
            if names is not None and (repeated := names.add_all(found)) is not None:
                raise repeated_id(found[repeated], self.source, above + 1 + repeated)
            total += len(found)
            left += sum(name not in done for name in found) if done else len(found)
            return len(found)

        wanted: Wanted | None = None
        if shard is not None and not task.own_ids:
            # Which of them are in the shard is known without reading them, and their names cannot be the same.
            wanted = lambda number: shard.owns(numbered_id(number))  # noqa: E731
        limit = self.options.limit if known is None else None
        needs_rows = self._added or shard is not None or known is not None or repeats is not None
        survey = self.source.survey(
            check,
            limit=limit,
            wanted=wanted,
            skim=None if needs_rows else skim,
            alike=not needs_name and getattr(task, "checks_columns_alone", False),
        )
        if known is not None:
            return survey
        if not needs_name:
            total = left = survey.rows
        if repeats is not None:
            earlier = None
            if repeats.digests and len(self._done):
                rows = islice(self.source, self.options.limit)
                earlier = earlier_answers(repeats.digests, rows, task, self._done, self._journal)
            self.shared = SharedCalls(repeats.digests, earlier)
        self.totals.total, self.totals.left = total, left
        return survey
