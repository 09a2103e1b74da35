"""What answers in a form say: how often each value of an enum or a bool, and where the numbers lie.

Only fields with a fixed set of values and numbers are counted, so that no text of an answer is kept. Memory is bounded
by the schema. Imports the way from the body of a response to its answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aimlasync.bulk.journal.record import Response
from aimlasync.bulk.tasks.result import reply_of
from aimlasync.structured.answer_text import answer_object, answer_text

MISSING: Final = "(none)"
"""A field that is null or left out."""

_MOST = 100
_DEPTH = 4
_VALUES = 512


@dataclass(slots=True)
class Field:
    """One field of a form, and the values it had; numbers are rounded where there are many different ones."""

    name: str
    values: list[str] = field(default_factory=list)
    """That it may have; none of a number."""
    is_number: bool = False
    is_list: bool = False
    rows: int = 0
    missing: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Value -> rows."""
    numbers: Counter[float] = field(default_factory=Counter)
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    _digits: int = 17

    def add(self, value: Any) -> None:
        """Count the value of one row."""
        self.rows += 1
        if value is None:
            self.missing += 1
        elif self.is_number:
            if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15:
                self._add_number(float(value))
        else:
            for each in value if isinstance(value, list) else [value]:
                # A value that the form does not allow is of an answer that was taken unread.
                if (said := _said(each)) in self.values:
                    self.counts[said] += 1

    def _add_number(self, value: float) -> None:
        self.total += value
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.numbers[float(f"{value:.{self._digits}g}")] += 1
        while len(self.numbers) > _VALUES and self._digits > 1:
            self._digits = min(self._digits - 1, 4)
            rounded: Counter[float] = Counter()
            for number, rows in self.numbers.items():
                rounded[float(f"{number:.{self._digits}g}")] += rows
            self.numbers = rounded

    @property
    def mean(self) -> float | None:
        """Of the numbers."""
        return self.total / self.numbers.total() if self.numbers else None

    def bins(self, most: int = 12) -> list[tuple[str, int]]:
        """Return values and their rows: each where they are few, else equal stretches between lowest and highest."""
        if not self.is_number:
            return [(value, self.counts[value]) for value in self.values]
        if len(self.numbers) <= most:
            return [(f"{number:,.10g}", rows) for number, rows in sorted(self.numbers.items())]
        step = _round_step((self.high - self.low) / 8)
        first = math.floor(self.low / step)
        counts = [0] * (math.floor(self.high / step) - first + 1)
        for number, rows in self.numbers.items():
            # A rounded number may lie a little outside.
            counts[max(0, min(math.floor(number / step) - first, len(counts) - 1))] += rows
        return [
            (f"{(first + at) * step:,.6g} to {(first + at + 1) * step:,.6g}", rows) for at, rows in enumerate(counts)
        ]


class FormAnswers:
    """The fields of a form, and what the answers of a journal put in them."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._paths = dict(_fields(schema, schema, (), 0))
        self.fields = list(self._paths.values())
        self.unread = 0
        """Good rows whose answer could not be read."""

    def add(self, response: Response) -> None:
        """Count the answer in a good response."""
        if not self._paths:
            return
        reply = reply_of(bytes(response.body))
        text = None if reply is None else answer_text(reply)
        answer = answer_object(text) if text else None
        if not isinstance(answer, dict):
            self.unread += 1
            return
        for path, counted in self._paths.items():
            value: Any = answer
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            counted.add(value)


def _fields(
    part: Any, schema: Mapping[str, Any], path: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], Field]]:
    """Give those fields under `part` that can be counted."""
    properties = part.get("properties") if isinstance(part, dict) else None
    if not isinstance(properties, dict) or depth > _DEPTH:
        return
    for name, inner in list(properties.items())[:_MOST]:
        found, is_list = _plain(inner, schema)
        here = (*path, str(name))
        if isinstance(found.get("properties"), dict) and not is_list:
            yield from _fields(found, schema, here, depth + 1)
            continue
        values, kind = found.get("enum"), found.get("type")
        kinds = kind if isinstance(kind, list) else [kind]
        if "const" in found:
            values = [found["const"]]
        if isinstance(values, list):
            said = [_said(value) for value in values if value is not None]
            yield here, Field(".".join(here), values=said, is_list=is_list)
        elif "boolean" in kinds:
            yield here, Field(".".join(here), values=["true", "false"], is_list=is_list)
        elif ("integer" in kinds or "number" in kinds) and not is_list:
            yield here, Field(".".join(here), is_number=True)


def _plain(part: Any, schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Follow references, alternatives to null and lists. Return what is there, and whether it is in a list."""
    is_list = False
    for _ in range(8):
        if not isinstance(part, dict):
            return {}, is_list
        reference, either = part.get("$ref"), part.get("anyOf") or part.get("oneOf")
        if isinstance(reference, str):
            part = (schema.get("$defs") or schema.get("definitions") or {}).get(reference.rpartition("/")[2])
        elif isinstance(either, list):
            rest = [each for each in either if not (isinstance(each, dict) and each.get("type") == "null")]
            if len(rest) != 1:
                return {}, is_list
            part = rest[0]
        elif part.get("type") == "array" and not is_list:
            part, is_list = part.get("items"), True
        else:
            return part, is_list
    return {}, is_list


def _said(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(each for each in (1, 2, 2.5, 5, 10) if step / power <= each + 1e-9) * power
