"""Which line of one or several journals is the last record of a row.

Reads and never writes; memory is 12 bytes a line, whatever the length of lines and names. Of the lines of one custom_id
the last ok one counts, else the last. A torn last line is no line, one with neither response nor error is no record;
any other line that is no record is an `InputError` with its number. Imports `record` and `InputError`.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import BinaryIO, Self, TypeVar

import msgspec

from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.journal.record import WHERE_IT_IS, Glance, Record, decode_glance, decode_record, two_records

# An entry of the table: 21 bits of the name's hash, 1 bit for ok, 42 bits of where the line begins, plus one; 0 is
# free. Positions are those in the concatenation of all files.
_PLACE = (1 << 42) - 1
_OK = 1 << 42
_MARK = ((1 << 21) - 1) << 43

_BUFFER = 2**17

R = TypeVar("R", bound=Record | Glance | None)


class Index:
    """The lines of `paths` at the time of opening; a journal may go on growing."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.rows = 0
        """Different custom_ids."""
        self.ok = 0
        """Those of them that have an ok line."""
        self.duplicates = 0
        """Ok lines that another ok line takes the place of."""
        self.is_numbered = True
        """Whether every custom_id is row-N."""
        self._numbers = bytearray()
        self._paths = list(paths)
        self._closing = ExitStack()
        self._files: list[BinaryIO] = []
        # Where each file begins in the concatenation of all files, and its length.
        self._starts: list[int] = []
        self._sizes: list[int] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._closing.close()

    def find(self, custom_id: str) -> Record | None:
        """Return the record of this name."""
        return self._slot_of(custom_id, decode_record)[1]

    def records(self) -> Iterator[Record]:
        """Give one record per custom_id, in the order in which they were written."""
        for place, line in self._winners():
            yield self._decoded(place, line, decode_record)

    def lines(self) -> Iterator[bytes]:
        """Give the line of every record of `records`, with its line end."""
        for _, line in self._winners():
            yield line if line.endswith(b"\n") else line + b"\n"

    def numbered(self) -> Iterator[Record]:
        """Give one record per custom_id in the order of their numbers; for when all `is_numbered`."""
        for high, byte in enumerate(self._numbers):
            for low in range(8):
                if byte >> low & 1 and (record := self.find(f"row-{8 * high + low}")) is not None:
                    yield record

    def _open(self) -> None:
        lines = start = 0
        for path in self._paths:
            try:
                # This handle is for single lines; a pass over all lines opens the file once more.
                file = self._closing.enter_context(open(path, "rb"))  # noqa: SIM115
            except OSError as error:
                raise InputError(path, f"no journal can be read there ({error.strerror}); check the name") from None
            size = 0
            while block := file.read(_BUFFER):
                lines += block.count(b"\n")
                size += len(block)
            self._files.append(file)
            self._starts.append(start)
            self._sizes.append(size)
            start += size
            lines += 1
        if start >= _PLACE:
            raise InputError(self._paths[0], "more than 4 TB of journals; merge or export fewer of them at a time")
        self._table = array("Q", bytes(8)) * (lines + lines // 2 + 1)
        for number in range(len(self._paths)):
            self._scan(number)

    def _scan(self, number: int) -> None:
        table, blank, is_journal = self._table, 0, False
        for line, (place, text) in enumerate(self._lines_of(number), 1):
            try:
                glance = decode_glance(text)
            except msgspec.DecodeError as error:
                path = self._paths[number]
                if said := two_records(text):
                    raise InputError(path, said, line=line) from None
                if not text.endswith(b"\n"):
                    break
                if line == 1 and not os.path.exists(path + ".manifest"):
                    said = f"not a journal: line 1 is not a record of one ({error}); {WHERE_IT_IS}"
                    raise InputError(path, said) from None
                what = f"not a record of a journal ({error}); delete that line"
                raise InputError(path, what, line=line) from None
            if glance is None:
                blank += 1
                continue
            is_journal = True
            name = glance.custom_id
            slot, _ = self._slot_of(name, decode_glance)
            entry = table[slot]
            is_ok = glance.error is None
            was_ok = bool(entry & _OK)
            if not entry:
                self.rows += 1
                if self.is_numbered:
                    self._number(name)
            elif was_ok and not is_ok:
                continue
            self.ok += is_ok and not was_ok
            self.duplicates += is_ok and was_ok
            table[slot] = (hash(name) << 43) & _MARK | is_ok << 42 | place + 1
        if blank and not is_journal:
            what = "not a journal: none of its lines has a response or an error; name another file"
            raise InputError(self._paths[number], what)

    def _number(self, name: str) -> None:
        number = int(name[4:]) if name.startswith("row-") and name[4:].isdecimal() and len(name) < 14 else -1
        if name != f"row-{number}":
            self.is_numbered = False
            self._numbers = bytearray()
            return
        high, low = divmod(number, 8)
        if high >= len(self._numbers):
            self._numbers.extend(bytes(high + 1 - len(self._numbers)))
        self._numbers[high] |= 1 << low

    def _slot_of(self, name: str, decode: Callable[[bytes], R]) -> tuple[int, R | None]:
        """Return the slot of a name in the table, free where it is not there, and its line decoded."""
        table, size, hashed = self._table, len(self._table), hash(name)
        mark = (hashed << 43) & _MARK
        slot = (hashed >> 21) % size
        while entry := table[slot]:
            # Two hashes agree by chance once in two million times, so the name in the line decides.
            if entry & _MARK == mark:
                place = (entry & _PLACE) - 1
                found = self._decoded(place, self._line(place), decode)
                if found is not None and found.custom_id == name:
                    return slot, found
            slot = slot + 1 if slot + 1 < size else 0
        return slot, None

    def _winners(self) -> Iterator[tuple[int, bytes]]:
        table, size = self._table, len(self._table)
        for number in range(len(self._paths)):
            for place, line in self._lines_of(number):
                try:
                    glance = decode_glance(line)
                except msgspec.DecodeError:
                    # The torn last line; `_scan` has refused any other.
                    break
                if glance is None:
                    continue
                slot = (hash(glance.custom_id) >> 21) % size
                while (entry := table[slot]) and entry & _PLACE != place + 1:
                    slot = slot + 1 if slot + 1 < size else 0
                if entry:
                    yield place, line

    def _lines_of(self, number: int) -> Iterator[tuple[int, bytes]]:
        place = self._starts[number]
        left = self._sizes[number]
        with open(self._paths[number], "rb", _BUFFER) as file:
            for line in file:
                line = line[:left]
                left -= len(line)
                if not line:
                    return
                yield place, line
                place += len(line)

    def _line(self, place: int) -> bytes:
        number = bisect_right(self._starts, place) - 1
        file = self._files[number]
        file.seek(place - self._starts[number])
        return file.readline()

    def _decoded(self, place: int, line: bytes, decode: Callable[[bytes], R]) -> R:
        try:
            return decode(line)
        except msgspec.DecodeError as error:
            number = bisect_right(self._starts, place) - 1
            what = (
                f"not a record of a journal ({error}), {place - self._starts[number]} bytes from the start; delete it"
            )
            raise InputError(self._paths[number], what) from None
