"""What a job adds up to: labels, failures, tokens, money, agreement with a gold column.

Law: arithmetic only. What nobody stated is unknown, never 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aimlasync.bulk.classify import Result

if TYPE_CHECKING:
    from aimlasync.chat import ChatCompletion
    from aimlasync.responses import Response


@dataclass(slots=True)
class Failures:
    """The failures of one kind, and one of them."""

    count: int = 0
    example: str = ""
    message: str = ""


@dataclass(slots=True)
class Tally:
    """Totals of a job: the rows of this run, and what its journal held before."""

    labels: Counter[str] = field(default_factory=Counter)
    failures: dict[str, Failures] = field(default_factory=dict)
    answered_before: int = 0
    """Rows that were labelled by earlier runs."""
    answered: int = 0
    """Calls of this run that brought a reply."""
    tokens_in: int = 0
    tokens_out: int = 0
    replies: int = 0
    """Replies paid for, earlier runs included."""
    priced: int = 0
    """Replies whose cost is known."""
    cost_usd: float = 0.0
    gold: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(right label, label given) -> rows."""

    @property
    def labelled(self) -> int:
        """Rows with a label."""
        return self.labels.total()

    @property
    def failed(self) -> int:
        """Rows without one."""
        return sum(failures.count for failures in self.failures.values())

    @property
    def right(self) -> int:
        """Rows whose label is the gold one."""
        return sum(count for (gold, label), count in self.gold.items() if gold == label)

    def saw(self, result: Result) -> None:
        """Count a result of this run."""
        if result.label is not None:
            self.labels[result.label] += 1
        if result.error is not None:
            self.fail(type(result.error).__name__, result.row.custom_id, result.error.message)
        if result.reply is not None:
            self.answered += 1
            self.pay(result.reply, result.reply.info.cost_usd)

    def fail(self, kind: str, custom_id: str, message: str) -> None:
        """Count a failed row."""
        failures = self.failures.setdefault(kind, Failures(example=custom_id, message=message))
        failures.count += 1

    def pay(self, reply: ChatCompletion | Response, cost_usd: float | None) -> None:
        """Count what a reply took."""
        tokens_in, tokens_out = tokens_of(reply)
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.replies += 1
        if cost_usd is not None:
            self.priced += 1
            self.cost_usd += cost_usd

    def confusion(self, labels: Sequence[str]) -> list[tuple[str, list[int]]]:
        """Return (gold value, rows per label given), the labels first and then values that are no label."""
        values = [*labels, *sorted({gold for gold, _ in self.gold} - set(labels))]
        table = [(value, [self.gold[value, label] for label in labels]) for value in values]
        return [(value, counts) for value, counts in table if any(counts) or value in labels]


def tokens_of(reply: ChatCompletion | Response) -> tuple[int, int]:
    """Return the tokens in and out, by whichever endpoint's names."""
    usage = reply.usage
    if usage is None:
        return 0, 0
    counted = usage.to_dict()
    return (
        counted.get("prompt_tokens") or counted.get("input_tokens") or 0,
        counted.get("completion_tokens") or counted.get("output_tokens") or 0,
    )
