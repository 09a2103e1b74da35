"""What a journal says, read in one pass.

Memory is bounded by what is shown, not by the rows; only a failed row costs some bytes until it succeeds, since its
retry must be known as such. Unknown is None or counted as unknown, never 0; a number that no clock or meter gives
(negative, or after the year 3000) is unknown too. Imports `journal`, and output's `copies`.
"""

from __future__ import annotations

import heapq
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from aimlasync.bulk.journal.record import WHERE_IT_IS, Facts, Failure, Glance, decode_glance, two_records
from aimlasync.bulk.output.copies import Copies
from aimlasync.bulk.progress.quality import Quality
from aimlasync.bulk.report.asked import Asked, asked_of
from aimlasync.bulk.report.fields import FormAnswers
from aimlasync.bulk.report.times import MOST_COLUMNS, Histogram, Spans, Timeline

N = TypeVar("N", int, float)

MOST_ATTEMPTS: Final = 10
"""`Report.attempts` counts rows of more attempts as of one more."""
BINS: Final = 10
"""Of confidence."""

_NOTHING = Facts()
_LAST_TIME = 32_503_680_000.0
_LONGEST = 1e9
_MOST = 1_000_000_000_000
# Bounds of what is told apart; the rest is counted together, so that hostile or free text cannot fill the memory.
_SLOWEST = 20
_KINDS = 40
_LABELS = 5_000
_TEXT = 400


class ReportError(Exception):
    """A file that is no journal, or a damaged one; the message says where."""


@dataclass(slots=True)
class Kind:
    """The failures of one kind; `message` and `custom_id` are the first one's."""

    code: str
    status: int | None
    message: str
    custom_id: str
    lines: int = 0
    superseded: int = 0
    """Of `lines`: rows that were asked again."""


@dataclass(slots=True)
class Total:
    """A sum, and how many rows did not say what they add to it."""

    amount: float = 0
    known: int = 0
    unknown: int = 0

    def add(self, amount: float | None) -> None:
        """Count one row."""
        if amount is None:
            self.unknown += 1
        else:
            self.known += 1
            self.amount += amount


@dataclass(slots=True)
class Report:
    """All that the page says. Rows are counted by their last line; calls, tokens, money and time by all lines."""

    name: str
    job: dict[str, str] = field(default_factory=dict)
    """Of the manifest's job, the few fields that are no text of rows or prompts."""
    asked: Asked = field(default_factory=Asked)
    form: FormAnswers | None = None
    """What answers in a form say, None where there is no form."""
    quality: Quality | None = None
    """How labels agree with gold ones, None where there are none."""
    lines: int = 0
    is_torn: bool = False
    """The last line is half a line, which is not counted."""
    blank: int = 0
    """Lines with neither response nor error, which are no records and are not counted."""
    ok: int = 0
    rescued: int = 0
    """Of `ok`: rows that an earlier line says failed."""
    shared: int = 0
    """Rows answered by the call of an identical row; they add nothing to calls, tokens, money and latency."""
    calls: int = 0
    retries: Total = field(default_factory=Total)
    attempts: Counter[int] = field(default_factory=Counter)
    tokens_in: Total = field(default_factory=Total)
    tokens_out: Total = field(default_factory=Total)
    cost: Total = field(default_factory=Total)
    labels: Counter[str | None] = field(default_factory=Counter)
    """None is all labels beyond those told apart."""
    labelled: int = 0
    """Rows with labels."""
    is_multi: bool = False
    """A row may have several labels."""
    confidence: Counter[int] = field(default_factory=Counter)
    confidences: Total = field(default_factory=Total)
    kinds: dict[tuple[str, int | None], Kind] = field(default_factory=dict)
    seconds: Histogram = field(default_factory=Histogram)
    first_byte: Histogram = field(default_factory=Histogram)
    waits_known: bool = False
    timeline: Timeline = field(default_factory=Timeline)
    spans: Spans = field(default_factory=Spans)
    slowest: list[tuple[float, int, str, int | None, str]] = field(default_factory=list)
    """A heap of seconds, minus the line, custom_id, attempts and status."""
    # Hash of the custom_id of a row that failed -> its kind.
    _failed: dict[int, Kind] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Rows whose last line is a failure."""
        return len(self._failed)

    @property
    def rows(self) -> int:
        """Rows in all."""
        return self.ok + self.failed

    @property
    def sessions(self) -> list[tuple[float, float]]:
        """The stretches of time between the gaps."""
        return self.spans.sessions(self.timeline.width)

    def add(self, line: Glance) -> None:
        """Count one line."""
        self.lines += 1
        info, failure = line.info or _NOTHING, line.error
        status = line.response.status_code if line.response else None
        if failure is not None:
            self._add_failure(failure, line.custom_id)
        else:
            self._add_success(info, line.custom_id)
            if self.form is not None and line.response is not None:
                self.form.add(line.response)
        at, seconds = _within(info.at, _LAST_TIME), _within(info.seconds, _LONGEST)
        if at is not None:
            self._add_time(info, at, seconds or 0.0, failure is None)
        if info.shared_with is not None:
            self.shared += 1
            return
        attempts = _within(info.attempts if info.attempts is not None or not failure else failure.attempts, _MOST)
        if seconds is not None:
            self.seconds.add(seconds)
            if len(self.slowest) < _SLOWEST or seconds > self.slowest[0][0]:
                words = f"{failure.status or ''} {failure.code}" if failure else f"{status or ''}"
                slow = (seconds, -self.lines, _short(line.custom_id), attempts, _short(words.strip()))
                (heapq.heappush if len(self.slowest) < _SLOWEST else heapq.heapreplace)(self.slowest, slow)
        if (first_byte := _within(info.first_byte, _LONGEST)) is not None:
            self.first_byte.add(first_byte)
        self._add_use(info, attempts, failure is None)

    def _add_success(self, info: Facts, custom_id: str) -> None:
        # A row that is ok is never asked again, so each ok line is a row. Its id is hashed only if any row has failed.
        self.ok += 1
        before = self._failed.pop(hash(custom_id), None) if self._failed else None
        if before is not None:
            before.superseded += 1
            self.rescued += 1
        if info.label is not None:
            self.labelled += 1
            self.is_multi |= not isinstance(info.label, str)
            for label in [info.label] if isinstance(info.label, str) else info.label:
                label = _short(label)
                self.labels[label if label in self.labels or len(self.labels) < _LABELS else None] += 1
        if info.confidence is not None and 0 <= info.confidence <= 1:
            self.confidence[min(int(info.confidence * BINS), BINS - 1)] += 1
            self.confidences.add(info.confidence)

    def _add_failure(self, failure: Failure, custom_id: str) -> None:
        key = (_short(failure.code), failure.status)
        if key not in self.kinds and len(self.kinds) >= _KINDS:
            key = ("other kinds", None)
        kind = self.kinds.setdefault(key, Kind(*key, _short(failure.message), _short(custom_id)))
        kind.lines += 1
        before = self._failed.get(row := hash(custom_id))
        if before is not None:
            before.superseded += 1
        self._failed[row] = kind

    def _add_time(self, info: Facts, at: float, seconds: float, is_ok: bool) -> None:
        column = self.timeline.column(at)
        column.ok += is_ok
        column.failed += not is_ok
        self.spans.add(max(0.0, at - seconds), at)
        if info.shared_with is None and (info.queued is not None or info.limited is not None):
            self.waits_known = True
            column.seconds += seconds
            column.queued += _within(info.queued, _LONGEST) or 0.0
            column.limited += _within(info.limited, _LONGEST) or 0.0

    def _add_use(self, info: Facts, attempts: int | None, is_ok: bool) -> None:
        calls = 0 if attempts == 0 else _within(info.calls, _MOST) or 1
        self.calls += calls
        self.retries.add(None if attempts is None else max(0, attempts - calls))
        if attempts is not None:
            self.attempts[min(attempts, MOST_ATTEMPTS + 1)] += 1
        tokens_in, tokens_out = _within(info.tokens_in, _MOST), _within(info.tokens_out, _MOST)
        cost = _within(info.cost_usd, _MOST)
        if is_ok or tokens_in is not None or tokens_out is not None or cost is not None:
            # A failure without a usage had no answer to be billed for.
            self.tokens_in.add(tokens_in)
            self.tokens_out.add(tokens_out)
            self.cost.add(cost)


def collect(path: str | os.PathLike[str], *, quality: Quality | None = None) -> Report:
    """Read the journal at a path or an address, and its manifest. Raises ReportError, InputError and OSError.

    `quality` is what `bulk.evaluate` says of its labels.
    """
    with Copies() as copies:
        return _collected(copies.journal(path), quality)


def _collected(path: str, quality: Quality | None) -> Report:
    asked = asked_of(path)
    report = Report(name=os.path.basename(path).removesuffix(".journal"), asked=asked, quality=quality)
    if asked.schema:
        report.form = FormAnswers(asked.schema)
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                glance = decode_glance(line)
            except msgspec.DecodeError as error:
                if said := two_records(line):
                    raise ReportError(f"{path}: line {number}: {said}") from None
                if line.startswith(b"{") and not line.endswith(b"\n"):
                    report.is_torn = True
                    break
                what, to_do = f"line {number}", "delete that line"
                if number == 1:
                    what, to_do = "not a journal: line 1", WHERE_IT_IS
                raise ReportError(f"{path}: {what} is not a result line ({error}); {to_do}") from None
            if glance is None:
                report.blank += 1
            else:
                report.add(glance)
    if report.blank and not report.lines:
        raise ReportError(f"{path}: not a journal: none of its lines has a response or an error")
    # A long job with few rows has few columns, and they must be wide enough to be seen.
    while sum(end - start for start, end in report.sessions) > report.timeline.width * MOST_COLUMNS:
        report.timeline.coarsen()
    named = {"model": asked.job.get("model"), "endpoint": asked.job.get("endpoint"), "input": asked.input or None}
    report.job = {key: _short(said) for key, said in named.items() if isinstance(said, str)}
    return report


def _within(value: N | None, most: float) -> N | None:
    return value if value is not None and 0 <= value < most else None


def _short(text: str) -> str:
    return text if len(text) <= _TEXT else text[:_TEXT] + "…"
