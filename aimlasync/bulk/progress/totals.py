"""The totals of a job: rows, labels, failures, tokens, money, agreement with a gold column.

`Totals` is arithmetic on results and records; what was not stated is unknown, never 0. Imports the records of a journal
and the results of requests.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from aimlasync.bulk.input.columns import value_of
from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.journal.record import Facts, Glance, Record
from aimlasync.bulk.progress.quality import Quality
from aimlasync.bulk.tasks.result import Flaw, Result, ended_well, flaw_of
from aimlasync.errors import AnswerError

Labels = str | list[str]


CapName = Literal["tokens", "tokens per day", "requests per day", "deadline"]
"""What may end a job before its rows do."""

BY_THE_DAY: Sequence[CapName | None] = ("tokens per day", "requests per day")

_DAY = 86_400.0


@dataclass(slots=True)
class Failures:
    """The failures of one kind, and one of them."""

    count: int = 0
    example: str = ""
    message: str = ""


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """What answers took."""

    usd: float = 0.0
    tokens: int = 0
    unpriced: dict[str, tuple[int, int]] = {}
    """Model -> tokens in and out whose cost the vendor did not state."""


@dataclass(slots=True)
class Day:
    """What was used in the 24 hours that began with the first request of them; times are Unix time."""

    began: float | None = None
    requests: int = 0
    tokens: int = 0
    clock: Callable[[], float] = time.time

    @property
    def ends(self) -> float | None:
        """When all of it is free again, None while nothing is used."""
        return None if self.began is None else self.began + _DAY

    def add(self, at: float, requests: int, tokens: int) -> None:
        """Add what a row took that was finished then; not for one a day ahead, whose clock was wrong."""
        if at - self.clock() >= _DAY:
            return
        began = self.began
        if began is None or at >= began + _DAY:
            self.began, self.requests, self.tokens = at, 0, 0
        self.requests += requests
        self.tokens += tokens

    def used(self, now: float) -> tuple[int, int]:
        """Return the requests and tokens of this day."""
        if self.began is not None and now >= self.began + _DAY:
            self.began, self.requests, self.tokens = None, 0, 0
        return self.requests, self.tokens


@dataclass(slots=True)
class Totals:
    """Totals of a job: the rows of this run, and what its journal held before."""

    total: int | None = None
    """Rows in all, None while that is not known."""
    left: int | None = None
    """Rows that were still to be asked about when this run began, None while that is not known."""
    finished: int = 0
    """Rows finished in this run."""
    seconds_answering: float = 0.0
    """Of this run: the seconds that its calls took, waits of our own left out."""
    ok: int = 0
    """Rows with a good answer."""
    ok_before: int = 0
    """Of them, those of earlier runs."""
    labels: Counter[str] = field(default_factory=Counter)
    failures: dict[str, Failures] = field(default_factory=dict)
    flaws: Counter[Flaw] = field(default_factory=Counter)
    """Of this run: answers that were taken for good, by what is wrong with them."""
    shared: int = 0
    """Rows answered by the call of an identical one."""
    answered: int = 0
    """Calls of this run that brought a reply."""
    attempts: int = 0
    """HTTP tries of this run."""
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_before: int = 0
    """Of both, those of earlier runs."""
    uncounted: int = 0
    """Replies that did not say how many tokens they took."""
    guessed: int = 0
    """Tokens that those are taken for, by their length."""
    replies: int = 0
    """Rows with a reply that was paid for, earlier runs included."""
    priced: int = 0
    """Of them, those whose cost is known."""
    at_price: int = 0
    """Of them, those whose cost is at the price that was given or is listed, since the vendor stated none."""
    cost_usd: float = 0.0
    cost_before: float = 0.0
    """Of it, that of earlier runs."""
    unpriced: dict[str, list[int]] = field(default_factory=dict)
    """Model -> tokens in and out, those guessed included, of rows whose cost is not known."""
    before: Spending = field(default_factory=Spending)
    """Of all this, what was spent before the table became what it is: no cap but those of the day counts it."""
    day: Day = field(default_factory=Day)
    counts_days: bool = True
    """Whether `day` is kept; only caps by the day look at it."""
    structured: Counter[str] = field(default_factory=Counter)
    """How answers in a form were asked for -> rows."""
    quality: Quality = field(default_factory=Quality)
    """How labels agree with those in a gold column."""

    @property
    def pending(self) -> int | None:
        """Rows still to be asked about, None while that is not known."""
        return None if self.left is None else self.left - self.finished

    @property
    def failed(self) -> int:
        """Rows without a good answer."""
        return sum(failures.count for failures in self.failures.values())

    @property
    def labelled(self) -> int:
        """Rows with a label."""
        return self.labels.total()

    @property
    def right(self) -> int:
        """Rows whose label is the gold one."""
        return self.quality.right

    @property
    def judged(self) -> int:
        """Rows with a label and a gold one."""
        return self.quality.judged

    @property
    def tokens(self) -> int:
        """Tokens in and out, earlier runs included."""
        return self.tokens_in + self.tokens_out

    @property
    def taken(self) -> int:
        """Tokens as caps count them: where the server did not, by length."""
        return self.tokens + self.guessed

    @property
    def a_row_takes(self) -> float | None:
        """Tokens of a row with a reply on average, as caps count them; None while there is none."""
        return self.taken / self.replies if self.replies else None

    @property
    def cost(self) -> float | None:
        """US dollars of all replies whose cost is known, None when none is."""
        return self.cost_usd if self.priced else None

    @property
    def spending(self) -> Spending:
        """What all answers took."""
        unpriced = {model: (tokens[0], tokens[1]) for model, tokens in self.unpriced.items()}
        return Spending(usd=self.cost_usd, tokens=self.taken, unpriced=unpriced)

    @property
    def capped(self) -> Spending:
        """What caps count: without what was spent before the table became what it is."""
        spent, before = self.spending, self.before
        unpriced = {}
        for model, tokens in spent.unpriced.items():
            less = before.unpriced.get(model, (0, 0))
            unpriced[model] = (tokens[0] - less[0], tokens[1] - less[1])
        return Spending(usd=spent.usd - before.usd, tokens=spent.tokens - before.tokens, unpriced=unpriced)

    def start_run(self) -> None:
        """Take all that was added so far for the work of earlier runs."""
        self.ok_before, self.tokens_before, self.cost_before = self.ok, self.tokens, self.cost_usd

    def add_result(self, result: Result, record: Record, *, is_read: bool) -> None:
        """Add what became of a row in this run; `is_read` says that its answer was looked at."""
        self.finished += 1
        self.add_record(record)
        if result.shared_with is not None:
            return
        self.attempts += result.attempts
        facts, reply, error = record.info, result.reply, result.error
        if facts is not None and (seconds := facts.seconds) is not None:
            # Mostly there was no wait.
            if (waited := facts.queued) is not None:
                seconds -= waited
            if (waited := facts.limited) is not None:
                seconds -= waited
            self.seconds_answering += seconds
        if reply is None:
            return
        if error is None:
            self.answered += result.calls
            if not is_read and not ended_well(reply) and (flaw := flaw_of(reply)) is not None:
                self.flaws[flaw] += 1
        else:
            # The last of several calls may have ended in an error without a reply.
            self.answered += result.calls - (not isinstance(error, AnswerError))

    def add_record(self, record: Record | Glance, *, is_asked_again: bool = False) -> None:
        """Add what the journal says of a row; of a failure that `is_asked_again`, what it took alone."""
        facts, error = record.info or Facts(), record.error
        if error is None:
            self.ok += 1
            if (label := facts.label) is not None:
                if isinstance(label, str):
                    self.labels[label] += 1
                else:
                    self.labels.update(label)
        elif not is_asked_again:
            failures = self.failures.setdefault(error.code, Failures(example=record.custom_id, message=error.message))
            failures.count += 1
        if facts.structured is not None and not is_asked_again:
            self.structured[facts.structured] += 1
        counted, tokens_out, cost_usd = facts.tokens_in, facts.tokens_out or 0, facts.cost_usd
        tokens_in = counted
        if counted is None and (tokens_in := facts.guess_in) is not None:
            tokens_out = facts.guess_out or 0
        if self.counts_days and facts.attempts and facts.at is not None:
            self.day.add(facts.at, facts.attempts, (tokens_in or 0) + tokens_out)
        if facts.shared_with is not None:
            self.shared += 1
        if counted is not None:
            self.tokens_in += counted
            self.tokens_out += tokens_out
        elif cost_usd is None and (error is not None or facts.shared_with is not None):
            # The usage of a shared answer is that of an earlier failure of the row itself.
            return
        else:
            self.uncounted += 1
            self.guessed += (tokens_in or 0) + tokens_out
        self.replies += 1
        if cost_usd is not None:
            self.priced += 1
            self.at_price += facts.at_price
            self.cost_usd += cost_usd
        elif tokens_in is not None:
            model = facts.model or ""
            if (tokens := self.unpriced.get(model)) is None:
                tokens = self.unpriced[model] = [0, 0]
            tokens[0] += tokens_in
            tokens[1] += tokens_out

    def judge_row(self, row: Row, column: str | None, label: Labels | None) -> None:
        """Compare the label of a row with its gold `column`; does nothing without a column or a label."""
        if column is not None and label is not None:
            self.quality.add(value_of(row.fields, column), label)


def spending_in(facts: Mapping[str, Any] | None) -> Spending:
    """Return what the facts of a manifest say was spent before its table became what it is."""
    try:
        return msgspec.convert((facts or {}).get("before", {}), Spending)
    except msgspec.ValidationError:
        return Spending()
