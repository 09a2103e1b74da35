"""A table that has changed since the journal was written: which answers stay, and where the others go.

`follow` makes the journal one of today's table. The answers of rows that are gone or ask something else now are moved
to JOURNAL.gone, from where they come back with their rows. A crash loses no answer: they are written there before they
leave the journal. Imports the journal and `known_rows`.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat

import msgspec

from aimlasync.bulk.journal import disk
from aimlasync.bulk.journal.journal import Journal, JournalError
from aimlasync.bulk.journal.known_rows import GONE, SAME, KnownRows, give
from aimlasync.bulk.journal.manifest import gone_path
from aimlasync.bulk.journal.record import decode_glance, decode_record, encode_record


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """How a table differs from the one that the journal knew, in rows."""

    kept: int
    """With an answer that is still theirs."""
    failed: int
    """That failed, and still ask the same."""
    new: int
    """That the journal does not know; also those of the old table that were not asked about yet."""
    changed: int
    """That ask something else now."""
    gone: int
    """Of the old table alone."""

    def __str__(self) -> str:
        counts = {"failed before": self.failed, "new": self.new, "changed": self.changed, "gone": self.gone}
        return ", ".join([f"{self.kept:,} kept", *(f"{count:,} {what}" for what, count in counts.items() if count)])


def follow(journal: Journal, rows: KnownRows) -> Changes:
    """Give the answers of `journal`, one line a row, to the `rows` of today's table, and rewrite it where that differs.

    The manifest says meanwhile that the input is unknown. Raises JournalError for a journal whose lines do not say what
    was asked; OSError.
    """
    good = bytearray()

    def answers() -> Iterator[tuple[str, str, bool]]:
        for _, line in journal.scan():
            if line.info is None or line.info.content is None:
                what = "the input has changed, and this journal does not say what was asked about its rows"
                raise JournalError(f"{journal.path}: {what}; choose another -o, or begin anew with --restart")
            good.append(line.error is None)
            yield line.custom_id, line.info.content, line.error is None

    fates = give(rows, answers())
    kept = sum(ok for ok, fate in zip(good, fates, strict=True) if fate != GONE)
    failed = len(fates) - fates.count(GONE) - kept
    path = gone_path(journal.path)
    back = array("q", (_fate_of(line, rows) for line in _lines_of(path)))
    returned = len(back) - back.count(GONE)
    counts: Counter[str | None] = Counter()
    if returned or fates.count(SAME) < len(fates):
        journal.forget_input()

        def leaving() -> Iterator[bytes]:
            for line, fate in zip(journal.lines(), fates, strict=True):
                if fate == GONE and (glance := decode_glance(line)) is not None:
                    counts[rows.without(glance.custom_id)] += 1
                    if glance.error is None:
                        yield line

        if fates.count(GONE):
            _keep(path, leaving())
        journal.rewrite(_followed(journal.lines(), fates, _lines_of(path), back))
        if returned:
            _drop(path, back)
    return Changes(
        kept=kept + returned,
        failed=failed,
        new=rows.rows - rows.taken - counts["changed"],
        changed=counts["changed"],
        gone=counts["gone"],
    )


def _fate_of(line: bytes, rows: KnownRows) -> int:
    try:
        glance = decode_glance(line)
    except msgspec.DecodeError:
        # A crash left half a line.
        return GONE
    content = None if glance is None or glance.error is not None or glance.info is None else glance.info.content
    return GONE if glance is None or content is None else rows.take(glance.custom_id, content)


def _followed(
    lines: Iterable[bytes], fates: Iterable[int], gone: Iterable[bytes], back: Iterable[int]
) -> Iterator[bytes]:
    """Give the lines of today's table, under the names of today."""
    # Lines that were added to those that are gone meanwhile have no fate there.
    for line, fate in chain(zip(lines, fates, strict=True), zip(gone, back, strict=False)):
        if fate == SAME:
            yield line
        elif fate != GONE:
            record = decode_record(line)
            record.custom_id = f"row-{fate}"
            yield encode_record(record)


def _lines_of(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            for line in file:
                yield line.rstrip(b"\n")
    except FileNotFoundError:
        return


def _keep(path: str, lines: Iterable[bytes]) -> None:
    """Append lines, whole and synced."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | disk.BINARY, 0o600)
    with disk.errors_name(path), open(fd, "ab") as file:
        size = os.fstat(fd).st_size
        if size and disk.read_at(fd, 1, size - 1) != b"\n":
            file.write(b"\n")
        for line in lines:
            file.write(line + b"\n")
        file.flush()
        disk.sync(fd)
        disk.sync_directory(path, disk.sync)


def _drop(path: str, back: Iterable[int]) -> None:
    """Leave out the lines that are back in the journal."""
    # No longer than the name of a manifest, which there is room for.
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | disk.BINARY, 0o600)
    with disk.errors_name(path), open(fd, "wb") as file:
        # Lines that were added meanwhile have no fate.
        for line, fate in zip(_lines_of(path), chain(back, repeat(GONE)), strict=False):
            if fate == GONE:
                file.write(line + b"\n")
        file.flush()
        disk.sync(fd)
    os.replace(temporary, path)
