"""The rows of the present table, and which answers of an earlier table are theirs.

Rows with ids of their own are known by id and content, others by content alone: of equal rows each has one answer.
Memory is some 25 bytes a row. Imports `IdSet` and the standard library.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Literal, Protocol

from aimlasync.bulk.journal.id_set import IdSet

GONE = -1
"""No row of the table has this answer."""
SAME = 0
"""The answer stays with its name."""

# A hash is never 0, which stands for no row.
_HASH = (1 << 63) - 1


class KnownRows(Protocol):
    """The rows of a table: `add` all of them, then `take` the answers there are."""

    @property
    def rows(self) -> int:
        """Rows that were added."""

    @property
    def taken(self) -> int:
        """Of them, those that have taken an answer."""

    def add(self, number: int, name: str, content: str) -> None:
        """Add the row of this number; numbers rise."""

    def take(self, name: str, content: str) -> int:
        """Give an answer to a row: GONE where none wants it, SAME where it keeps its name, else the row's number."""

    def without(self, name: str) -> Literal["changed", "gone"] | None:
        """Return why an answer of this name was left over; None where its row has an answer from elsewhere."""


def give(rows: KnownRows, answers: Iterable[tuple[str, str, bool]]) -> array[int]:
    """Give each answer (name, content, whether it is good) to a row, good ones first, and return what `take` said."""
    fates, failed = array("q"), []
    for at, (name, content, ok) in enumerate(answers):
        if not ok:
            failed.append((at, name, content))
        fates.append(rows.take(name, content) if ok else GONE)
    for at, name, content in failed:
        fates[at] = rows.take(name, content)
    return fates


class NamedRows:
    """Rows with ids of their own."""

    def __init__(self) -> None:
        self.rows = 0
        self._names = IdSet()
        self._wanted = IdSet()
        self._taken = IdSet()

    @property
    def taken(self) -> int:
        """Rows that have taken an answer."""
        return len(self._taken)

    def add(self, number: int, name: str, content: str) -> None:
        """Add the row of this number."""
        self.rows += 1
        self._names.add(name)
        self._wanted.add(f"{content}\0{name}")

    def take(self, name: str, content: str) -> int:
        """Give an answer to the row of this name, if it still asks the same."""
        return SAME if f"{content}\0{name}" in self._wanted and self._taken.add(name) else GONE

    def without(self, name: str) -> Literal["changed", "gone"] | None:
        """Return why an answer of this name was left over; None where its row has an answer from elsewhere."""
        if name not in self._names:
            return "gone"
        return None if name in self._taken else "changed"


class NumberedRows:
    """Rows named row-N, which may have moved."""

    def __init__(self) -> None:
        self.rows = self.taken = 0
        # By number; 0 for a number that is not among the rows.
        self._contents = array("q", [0])
        # By number: the number in the name of the answer that was taken, plus one.
        self._answers = array("I")
        # A hash table of the first row of each content, and the next row of the same content by number.
        self._slots = array("I")
        self._next = array("I")

    def add(self, number: int, name: str, content: str) -> None:
        """Add the row of this number."""
        contents = self._contents
        if (missing := number - len(contents)) > 0:
            contents.extend(bytes(missing))
        contents.append(hash(content) & _HASH or 1)
        self.rows += 1

    def take(self, name: str, content: str) -> int:
        """Give an answer to the row of its number, else to the first other row with this content that has none."""
        if not self._slots:
            self._build()
        hashed, own = hash(content) & _HASH or 1, number_of(name)
        if 0 < own < len(self._contents) and self._contents[own] == hashed and not self._answers[own]:
            return self._give(own, own)
        slot = self._slot_of(hashed)
        number = self._slots[slot]
        while number and self._answers[number] and self._next[number]:
            number = self._next[number]
        self._slots[slot] = number
        return GONE if not number or self._answers[number] else self._give(number, own)

    def without(self, name: str) -> Literal["changed", "gone"] | None:
        """Return why an answer was left over: the row in its place is another one, or has the answer of another."""
        own = number_of(name)
        is_open = 0 < own < len(self._contents) and self._contents[own] and not self._answers[own]
        return "changed" if is_open else "gone"

    def answer_of(self, number: int) -> str | None:
        """Return the name of the answer that a row has taken."""
        old = self._answers[number] if self._slots and number < len(self._answers) else 0
        return f"row-{old - 1}" if old else None

    def _give(self, number: int, own: int) -> int:
        self._answers[number] = own + 1
        self.taken += 1
        return SAME if number == own else number

    def _build(self) -> None:
        count = len(self._contents)
        self._answers.frombytes(bytes(count * self._answers.itemsize))
        self._next.frombytes(bytes(count * self._next.itemsize))
        self._slots.frombytes(bytes((count + count // 2 + 1) * self._slots.itemsize))
        # From the last to the first, so that the first of equal rows is found first.
        for number in range(count - 1, 0, -1):
            if hashed := self._contents[number]:
                slot = self._slot_of(hashed)
                self._next[number] = self._slots[slot]
                self._slots[slot] = number

    def _slot_of(self, hashed: int) -> int:
        slots, contents = self._slots, self._contents
        slot = hashed % len(slots)
        while (number := slots[slot]) and contents[number] != hashed:
            slot = slot + 1 if slot + 1 < len(slots) else 0
        return slot


def number_of(name: str) -> int:
    """Return N of row-N, 0 for another name."""
    digits = name[4:]
    is_number = name.startswith("row-") and digits.isascii() and digits.isdecimal() and len(digits) < 10
    return int(digits) if is_number else 0
