"""A job that writes a file by way of a journal, and can be gone on with.

Law: whatever is wrong with input or journal is raised before any call. Memory is two bytes a row. The journal is the
truth; the output is made from it and the input, whole, at the end of every run, however it ended.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from aimlasync.bulk.classify import EmptyTextError, Result
from aimlasync.bulk.job import Job, Plan
from aimlasync.bulk.journal import Journal, Record
from aimlasync.bulk.labels import answer_type, as_text
from aimlasync.bulk.output import Writer, replacing
from aimlasync.bulk.record import label_reader, record_of, reply_of, row_number
from aimlasync.bulk.rows import InputError, Row
from aimlasync.bulk.source import Source, Survey
from aimlasync.errors import AimlasyncError

if TYPE_CHECKING:
    from aimlasync.client import AsyncClient

# States of a row that are no index of a label.
_TODO, _FAILED, _EMPTY = -1, -2, -3


class FileJob(Job):
    """A job with a journal beside its output. Raises InputError, JournalError or OSError from the start."""

    def __init__(self, source: Source, plan: Plan, *, path: str, restart: bool = False) -> None:
        super().__init__(source, plan)
        self.path = path
        self._survey: Survey = source.survey(lambda row: plan.check(source, row), limit=plan.limit)
        self.total = self._survey.rows
        # A label's index or a state, per row: two bytes, whatever the size of the rows.
        self._states = array("h", [_TODO]) * self.total
        self._index = {label: index for index, label in enumerate(plan.labels)}
        self._journal = Journal.open(f"{path}.journal", self._manifest(), restart=restart)
        try:
            self._replay()
        except BaseException:
            self._journal.close()
            raise
        self.tally.answered_before = self.tally.labelled

    @property
    def pending(self) -> int:
        """Rows still to be asked about."""
        return self._states.count(_TODO)

    async def run(self, client: AsyncClient, seen: Callable[[Result], None]) -> None:
        """Ask about the pending rows; `seen` is called with each result once it is in the journal."""

        def take(result: Result) -> None:
            self._journal.append(record_of(result))
            self._states[result.row.number - 1] = self._state(result.label, result.error)
            seen(result)

        try:
            await self._drive(client, self._pending_rows(), take)
        finally:
            self._journal.flush()

    def finish(self) -> bool:
        """Write the output and close the journal. Returns False when there was nothing to write."""
        # Of a job that was stopped only the labelled rows are written; of a whole one, those that failed too.
        whole = self.stopped_by is None and not self.is_interrupted
        try:
            if not whole and not self.tally.labelled:
                return False
            if self.source.stamp() != self._survey.stamp:
                what = "changed during the run, so that its rows and the answers no longer fit; nothing was written"
                raise InputError(self.source.name, f"{what}; run again with --restart")
            self._write(whole)
            return True
        finally:
            self._journal.close()

    def close(self) -> None:
        """Let go of the journal; harmless after `finish`."""
        self._journal.close()

    def _manifest(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "input": self._survey.digest,
            "text column": plan.text,
            "labels": plan.labels,
            "prompt": [plan.prompt.system, plan.prompt.template],
            "model": plan.model,
            "endpoint": plan.endpoint,
            "answerer": "simulator" if plan.simulated else "model",
        }

    def _replay(self) -> None:
        read = label_reader(answer_type(self.plan.labels))
        for line, record in self._journal.records():
            number = row_number(record)
            if number is None or number < 1:
                raise self._journal.error(line, f"no row is called {record.custom_id!r}")
            try:
                reply = reply_of(record, self.plan.endpoint)
                label = None if record.error is not None or reply is None else read(reply)
            except msgspec.DecodeError as error:
                raise self._journal.error(line, f"its answer cannot be read ({error})") from None
            if number > len(self._states):
                # Of a run with a larger --limit.
                continue
            if reply is not None and record.response is not None:
                self.tally.pay(reply, record.response.cost_usd)
            self._remember(number - 1, label, record)

    def _remember(self, index: int, label: str | None, record: Record) -> None:
        if self._states[index] != _TODO:
            return
        if label is not None:
            self.tally.labels[label] += 1
            self._states[index] = self._index[label]
        elif record.error is not None and record.error.code == EmptyTextError.__name__:
            # Asking again would not fill it. Any other failure is tried again.
            self.tally.fail(record.error.code, record.custom_id, record.error.message)
            self._states[index] = _EMPTY

    def _state(self, label: str | None, error: AimlasyncError | None) -> int:
        if label is not None:
            return self._index[label]
        return _EMPTY if isinstance(error, EmptyTextError) else _FAILED

    def _pending_rows(self) -> Iterator[Row]:
        for row in islice(self.source, self.plan.limit):
            if self._states[row.number - 1] == _TODO:
                yield row

    def _write(self, whole: bool) -> None:
        plan, labels = self.plan, self.plan.labels
        with replacing(self.path) as file:
            writer = Writer(file, plan.format, self.source.columns, plan.label_column)
            for row, state in zip(islice(self.source, plan.limit), self._states, strict=False):
                label = labels[state] if state >= 0 else None
                if label is not None or whole:
                    writer.write(row, label)
                if label is not None and plan.gold is not None:
                    self.tally.gold[as_text(row.fields.get(plan.gold)).strip(), label] += 1
