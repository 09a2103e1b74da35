"""How well labels agree with gold ones: accuracy with its interval, precision, recall and F1 a label, confusion.

Pure arithmetic, on counts alone. A row without a gold label is counted and not judged. Gold labels may be spelled in
another case or with other blanks. Imports the spelling of labels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from aimlasync.bulk.input.written_json import read_json
from aimlasync.bulk.tasks.labels import SEPARATOR, spelling
from aimlasync.bulk.tasks.prompt import as_text

Label = str | list[str]

# Of the normal distribution: 95 % of it lie within so many standard deviations.
_Z = 1.959963984540054
_SPELLINGS = 100


class LabelQuality(msgspec.Struct, frozen=True, kw_only=True):
    """How well one label was given; a share is None where there is nothing that it is one of."""

    label: str
    gold: int
    """Rows that have it in the gold column."""
    given: int
    """Judged rows that were given it."""
    both: int
    """Rows of both kinds."""

    @property
    def precision(self) -> float | None:
        """Of the rows that were given it, the share for which it is right."""
        return self.both / self.given if self.given else None

    @property
    def recall(self) -> float | None:
        """Of the rows for which it is right, the share that was given it."""
        return self.both / self.gold if self.gold else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both."""
        return 2 * self.both / (self.given + self.gold) if self.given + self.gold else None


@dataclass(slots=True)
class Quality:
    """Labels beside gold ones; `labels` are those that may be given, in their order."""

    labels: Sequence[str] = ()
    ordinal: bool = False
    """The labels are in order, lowest first."""
    judged: int = 0
    """Rows with a label and a gold one."""
    right: int = 0
    """Of them, rows whose label is the gold one; with several labels a row, those where all are."""
    blank: int = 0
    """Rows with a label whose gold column is blank; they are not judged."""
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """With one label a row: (gold label, label given) -> rows."""
    counts: dict[str, list[int]] = field(default_factory=dict)
    """Label -> [given and right, given, right]."""
    respelled: dict[str, str] = field(default_factory=dict)
    """Gold values, a hundred of them at most, that are a label in another spelling -> the label."""
    _known: dict[str, str] | None = None

    @property
    def accuracy(self) -> float | None:
        """The share of judged rows that are right, None without any."""
        return self.right / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the accuracy of many more such rows is, with 95 % confidence (Wilson's score interval)."""
        return wilson(self.right, self.judged)

    @property
    def strange(self) -> Counter[str]:
        """Gold values that are none of the labels, and their rows; no answer can be right there."""
        known = set(self.labels)
        if not known:
            return Counter()
        return Counter({label: counts[2] for label, counts in self.counts.items() if label not in known and counts[2]})

    @property
    def macro_f1(self) -> float | None:
        """The mean of F1 over those of the labels that were given or right anywhere."""
        found = [each.f1 for each in self.per_label()[: len(self.labels) or None] if each.f1 is not None]
        return sum(found) / len(found) if found else None

    @property
    def mean_distance(self) -> float | None:
        """Of ordinal labels: by how many steps a label is off on average."""
        found = self._distances()
        return sum(step * rows for step, rows in found.items()) / found.total() if found else None

    @property
    def within_one(self) -> float | None:
        """Of ordinal labels: the share that is off by one step at most."""
        found = self._distances()
        return (found[0] + found[1]) / found.total() if found else None

    def add(self, gold: Any, label: Label) -> bool | None:
        """Judge the label of a row by its gold value, or its labels. Return whether it is right, None when blank."""
        right = self._read(gold, several=not isinstance(label, str))
        if right is None:
            self.blank += 1
            return None
        given = [label] if isinstance(label, str) else label
        if not self.labels:
            given = [self._label(each) for each in given]
        self.judged += 1
        is_right = set(right) == set(given)
        self.right += is_right
        if isinstance(label, str):
            self.pairs[right[0] if right else "", given[0]] += 1
        for each in {*right, *given}:
            counts = self.counts.setdefault(each, [0, 0, 0])
            counts[0] += each in right and each in given
            counts[1] += each in given
            counts[2] += each in right
        return is_right

    def is_label(self, gold: Any) -> bool | None:
        """Whether a gold value has a label, None for a blank one."""
        right = self._read(gold, several=True)
        return None if right is None else not right or any(label in self.labels for label in right)

    def per_label(self) -> list[LabelQuality]:
        """Return the quality of each label, in their order; then of gold values that are none."""
        names = [*self.labels, *sorted(self.counts.keys() - set(self.labels))]
        counts = [(name, self.counts.get(name, (0, 0, 0))) for name in names]
        return [LabelQuality(label=name, gold=of[2], given=of[1], both=of[0]) for name, of in counts]

    def confusion(self) -> list[tuple[str, list[int]]]:
        """Return (gold value, rows for each label given), the labels first and then gold values that are none."""
        values = [*self.labels, *sorted({gold for gold, _ in self.pairs} - set(self.labels))]
        table = [(value, [self.pairs[value, label] for label in self.columns]) for value in values]
        return [(value, counts) for value, counts in table if any(counts) or value in self.labels]

    @property
    def columns(self) -> list[str]:
        """The labels that `confusion` counts, in its order."""
        return [*self.labels, *sorted({label for _, label in self.pairs} - set(self.labels))]

    def mistakes(self) -> list[tuple[str, str, int]]:
        """Return (gold label, label given, rows) of all that is wrong, the most frequent first."""
        wrong = [(gold, label, count) for (gold, label), count in self.pairs.items() if gold != label]
        return sorted(wrong, key=lambda each: (-each[2], each))

    def _read(self, gold: Any, *, several: bool) -> list[str] | None:
        """Return the labels in a gold value, None for a blank one."""
        if isinstance(gold, (list, tuple)):
            return self._spelled([as_text(each) for each in gold])
        text = as_text(gold).strip()
        if not text:
            return None
        if text.startswith("[") and text.endswith("]"):
            with suppress(ValueError):
                return self._spelled([as_text(each) for each in read_json(text)])
        if not several or self._label(text) in self.labels:
            return self._spelled([text])
        return self._spelled(text.split(SEPARATOR if SEPARATOR in text else ","))

    def _spelled(self, values: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(self._label(value.strip()) for value in values if value.strip()))

    def _label(self, value: str) -> str:
        if self._known is None:
            self._known = {spelling(label): label for label in self.labels}
        if not self.labels:
            # Any label may be one, and the first spelling of it stays.
            return self._known.setdefault(spelling(value), value)
        label = self._known.get(spelling(value))
        if label is None:
            return value
        if label != value and len(self.respelled) < _SPELLINGS:
            self.respelled[value] = label
        return label

    def _distances(self) -> Counter[int]:
        place = {label: at for at, label in enumerate(self.labels)} if self.ordinal else {}
        found: Counter[int] = Counter()
        for (gold, label), rows in self.pairs.items():
            if gold in place and label in place:
                found[abs(place[gold] - place[label])] += rows
        return found


def wilson(right: int, of: int) -> tuple[float, float] | None:
    """Return the 95 % score interval of a share, None of nothing."""
    if not of:
        return None
    share, square = right / of, _Z * _Z / of
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / of + square / (4 * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def quality_of_job(job: Mapping[str, Any]) -> Quality:
    """Return a quality without any rows yet, for the labels of a job as its manifest has it."""
    from aimlasync.bulk.tasks.answer_schema import label_values

    labels = job.get("labels")
    names = list(labels) if isinstance(labels, (dict, list)) else label_values(job.get("form"))
    return Quality(labels=[str(name) for name in names], ordinal=job.get("ordinal") is True)
