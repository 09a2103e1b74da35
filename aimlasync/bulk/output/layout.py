"""Which columns a table of answers has, and what is in them: those of the input, and the results of a row.

Pure. Imports input, journal, the results of requests, and of this room `gold`, `tables` and the kinds of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET

from aimlasync.bulk.input.columns import column_of, value_of
from aimlasync.bulk.input.parquet import ArrowRow
from aimlasync.bulk.input.rows import Format, InputError, Row
from aimlasync.bulk.journal.record import Facts, Record
from aimlasync.bulk.output.gold import CORRECT, Gold
from aimlasync.bulk.output.parquet_table import Kind
from aimlasync.bulk.output.tables import as_written
from aimlasync.bulk.tasks.result import Reply, reply_of
from aimlasync.chat.types import ChatCompletion
from aimlasync.structured.answer_text import answer_object, answer_text
from aimlasync.wire.base import plain

_NO_FACTS = Facts()


class Outcome:
    """What became of one row; `record` is None when the journal has none of it."""

    def __init__(self, custom_id: str, record: Record | None, row: Row | None = None) -> None:
        self.custom_id = custom_id
        self.row = row
        self.record = record
        self._reply: Reply | msgspec.UnsetType | None = UNSET
        self._body: Any = UNSET

    @property
    def ok(self) -> bool | None:
        """None for a row without a record."""
        return None if self.record is None else self.record.error is None

    @property
    def place(self) -> str | None:
        """File and line of the row, the line alone where the input is one file; None without the row."""
        row = self.row
        return None if row is None else str(row.line) if row.file is None else f"{row.file}:{row.line}"

    @property
    def facts(self) -> Facts:
        """What is known beside the answer."""
        return (self.record and self.record.info) or _NO_FACTS

    @property
    def body(self) -> Any:
        """The body of the response, None without one."""
        if self._body is UNSET:
            self._body = None
            if self.record is not None and self.record.response is not None:
                with suppress(msgspec.DecodeError):
                    self._body = plain(bytes(self.record.response.body))
        return self._body

    @property
    def reply(self) -> Reply | None:
        """The answer, None without one; also one that was paid for and is not valid."""
        if self._reply is UNSET:
            response = None if self.record is None else self.record.response
            self._reply = None
            if response is not None and 200 <= response.status_code < 300:
                self._reply = reply_of(bytes(response.body))
        return self._reply

    @property
    def answer_object(self) -> Any:
        """The answer as JSON, None where it is none or not a good one."""
        text = _answer(self) if self.ok else None
        return answer_object(text) if text else None

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ends where it does, in the words of its API."""
        reply = self.reply
        if isinstance(reply, ChatCompletion):
            return reply.choices[0].finish_reason if reply.choices else None
        if reply is None:
            return None
        return (reply.incomplete_details and reply.incomplete_details.reason) or reply.status

    @property
    def status(self) -> int | None:
        """The HTTP status."""
        if self.record is None:
            return None
        if self.record.response is not None:
            return self.record.response.status_code
        return None if self.record.error is None else self.record.error.status


def _answer(outcome: Outcome) -> str | None:
    reply = outcome.reply
    return None if reply is None else answer_text(reply)


def _attempts(outcome: Outcome) -> int | None:
    error = None if outcome.record is None else outcome.record.error
    return outcome.facts.attempts if error is None or outcome.facts.attempts is not None else error.attempts


RESULTS: Mapping[str, tuple[Kind, Callable[[Outcome], Any]]] = {
    "custom_id": ("text", lambda outcome: outcome.custom_id),
    "place": ("text", lambda outcome: outcome.place),
    "ok": ("bool", lambda outcome: outcome.ok),
    "answer": ("text", _answer),
    "label": ("text", lambda outcome: outcome.facts.label),
    "confidence": ("float", lambda outcome: outcome.facts.confidence),
    "finish_reason": ("text", lambda outcome: outcome.finish_reason),
    "error": ("text", lambda outcome: outcome.record and outcome.record.error and outcome.record.error.code),
    "error_message": ("text", lambda outcome: outcome.record and outcome.record.error and outcome.record.error.message),
    "status": ("int", lambda outcome: outcome.status),
    "attempts": ("int", _attempts),
    "tokens_in": ("int", lambda outcome: outcome.facts.tokens_in),
    "tokens_out": ("int", lambda outcome: outcome.facts.tokens_out),
    "cost_usd": ("float", lambda outcome: outcome.facts.cost_usd),
    "seconds": ("float", lambda outcome: outcome.facts.seconds),
    "model": ("text", lambda outcome: outcome.facts.model),
    "request_id": (
        "text",
        lambda outcome: outcome.record and outcome.record.response and outcome.record.response.request_id,
    ),
}
"""The columns that a journal gives, the kinds of their values, and where they come from."""


class Layout:
    """Which columns are written, and what is in them. `inputs` are the columns of the input, in its order.

    A column of the input goes by its name; a result that one of them is named like goes by result_NAME; one of `added`
    by the name that it has there. Raises InputError about `name` for a column that there is not.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        columns: Sequence[str],
        *,
        name: str,
        format: Format = "jsonl",
        added: Mapping[str, str] | None = None,
        gold: Gold | None = None,
    ) -> None:
        self._gold = gold
        # Where the column `correct` is.
        self._correct: int | None = None
        self._inputs = list(inputs)
        self._format = format
        self._added = added or {}
        self._results = {result_name(result, inputs): result for result in RESULTS}
        self.columns = list(columns)
        self.kinds: dict[str, Kind] = {}
        """Of those columns that need not be guessed."""
        self._gets: list[tuple[int | None, Callable[[Outcome], Any]]] = []
        # Columns within columns of the input, by their place.
        self._within: list[tuple[int, str]] = []
        for at, column in enumerate(self.columns):
            # CSV may have several columns without a name; each is found by its place.
            if column and self.columns.index(column) < at:
                raise InputError(name, f"column {column!r} is asked for twice; once is enough")
            self._gets.append(self._get(column, at, name))

    def values(self, fields: Mapping[str, Any] | Sequence[Any] | None, outcome: Outcome) -> list[Any]:
        """Return the values of one row. `fields` are the input's, by name, or as CSV has them; None when unknown."""
        if fields is None:
            return [UNSET if at is not None else get(outcome) for at, get in self._gets]
        if isinstance(fields, Mapping):
            names = self._inputs
            return [fields.get(names[at], UNSET) if at is not None else get(outcome) for at, get in self._gets]
        return [fields[at] if at is not None else get(outcome) for at, get in self._gets]

    def of_row(self, row: Row, outcome: Outcome) -> list[Any]:
        """Return the values of one row of the input."""
        fields: Mapping[str, Any] | Sequence[Any] = row.fields
        if self._format in ("csv", "tsv") and row.cells is not None:
            fields = row.cells
        elif self._format in ("json", "jsonl"):
            fields = as_written(row)
        elif self._format == "parquet" and isinstance(row.raw, ArrowRow):
            fields = row.raw.cells()
        values = self.values(fields, outcome)
        for at, column in self._within:
            values[at] = value_of(row.fields, column)
        if self._correct is not None and self._gold is not None:
            values[self._correct] = self._gold.is_right(row.fields, outcome.facts.label if outcome.ok else None)
        return values

    def object_of_row(self, row: Row, outcome: Outcome) -> dict[str, Any]:
        """Return the row as an object with what is added: all its members, also those that no other row has."""
        added = {column: get(outcome) for column, (at, get) in zip(self.columns, self._gets, strict=True) if at is None}
        return {**as_written(row), **added}

    def _get(self, column: str, at: int, name: str) -> tuple[int | None, Callable[[Outcome], Any]]:
        if self._inputs[at : at + 1] == [column]:
            return at, _nothing
        if column in self._inputs:
            return self._inputs.index(column), _nothing
        if column == CORRECT and column not in self._added:
            if self._gold is None:
                what = "the column 'correct' compares labels with a gold column of the rows that were asked about"
                raise InputError(name, f"{what}; name it with --gold, and in an export their file with --input")
            self._correct = at
            self.kinds[column] = "bool"
            return None, _nothing
        known = self._added.get(column) or self._results.get(column)
        found = known or column.removeprefix("result_")
        if known in RESULTS:
            kind, get = RESULTS[found]
            self.kinds[column] = kind
            return None, _joined_label if found == "label" and self._format not in ("json", "jsonl") else get
        for start, root in (("body.", "body"), ("answer.", "answer_object")):
            if found.startswith(start) and len(found) > len(start):
                return None, _at_path(root, found.removeprefix(start))
        if column and column_of(self._inputs, column) is not None:
            self._within.append((at, column))
            return None, _nothing
        there = [
            repr(name) if "," in name or " " in name or not name.isprintable() else name
            for name in (*self._inputs, *self._results)
            if name
        ]
        more = "answer.KEY, body.PATH.IN.IT"
        raise InputError(name, f"no column {column!r}; there are: {', '.join([*there, more])}")


def result_name(result: str, inputs: Sequence[str]) -> str:
    """Return the name of a result's column beside the columns of an input."""
    while result in inputs:
        result = f"result_{result}"
    return result


def _nothing(outcome: Outcome) -> None:
    return None


def _joined_label(outcome: Outcome) -> Any:
    label = outcome.facts.label
    return "|".join(label) if isinstance(label, list) else label


def _at_path(root: str, path: str) -> Callable[[Outcome], Any]:
    def get(outcome: Outcome) -> Any:
        found = value_of(getattr(outcome, root), path)
        return None if found is UNSET else found

    return get
