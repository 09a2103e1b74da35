"""The journal: whole lines or nothing, whatever the disk, the process or the power do."""

# ruff: noqa: ASYNC240  # the journal itself writes from the loop: a write to a file does not wait

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.bulk.journal.convert import record_of
from aimlasync.bulk.journal.journal import Journal, JournalError
from aimlasync.bulk.journal.record import Facts, Failure, Record, Response, decode_record, encode_record
from aimlasync.bulk.tasks.request import Request
from aimlasync.bulk.tasks.result import first_result
from aimlasync.chat.types import decode_completion
from aimlasync.info import Info
from tests.bulk.test_manifest import Crash, Windows, beside, windows
from tests.support.virtual import run

__all__ = ["windows"]

JOB = {"input": "abc", "model": "gpt-a"}


def record(number: int, *, size: int = 0) -> Record:
    body = msgspec.Raw(b'{"choices":["' + b"x" * size + b'"]}')
    response = Response(status_code=200, request_id="r", body=body)
    return Record(id=f"id-{number}", custom_id=f"row-{number}", response=response)


def lines(*numbers: int) -> bytes:
    return b"".join(encode_record(record(number)) + b"\n" for number in numbers)


def opened(path: Path, **options: Any) -> Journal:
    """Unless told otherwise without a sync: these are slow, and no test here turns the power off."""
    return Journal.open(str(path), job=JOB, **{"sync": lambda fd: None, **options})


def names(journal: Journal) -> list[str]:
    return [glance.custom_id for _, glance in journal.scan()]


def reopened(path: Path) -> list[str]:
    """What a run finds that comes after."""
    journal = opened(path)
    try:
        return names(journal)
    finally:
        journal.close()


def rows(*numbers: int) -> list[str]:
    return [f"row-{number}" for number in numbers]


async def fill(path: Path, *numbers: int) -> None:
    journal = Journal.open(str(path), job=JOB)
    names(journal)
    for number in numbers:
        journal.append(record(number))
    journal.close()


class Disk:
    """A disk with so much room for files, which takes so much at a time and breaks when it is told to."""

    def __init__(self, *, room: int = 2**40, most: int = 2**40) -> None:
        self.room = room
        self.most = most
        self.error = errno.ENOSPC
        self.sync_error = 0
        self.writes = self.syncs = 0

    def write(self, fd: int, data: memoryview) -> int:
        self.writes += 1
        if not self.room:
            raise OSError(self.error, os.strerror(self.error))
        count = os.write(fd, data[: min(self.room, self.most)])
        self.room -= count
        return count

    def sync(self, fd: int) -> None:
        """The next one fails with `sync_error`; those after it would succeed, as fsync does."""
        self.syncs += 1
        if self.sync_error:
            code, self.sync_error = self.sync_error, 0
            raise OSError(code, os.strerror(code))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.csv.journal"


# What is in the file


async def test_every_line_is_a_batch_result_and_ours_comes_after(path: Path) -> None:
    journal = opened(path)
    assert names(journal) == []
    failure = Failure(code="RateLimitError", message="HTTP 429: slow down", status=429, attempts=4)
    offsets = [
        journal.append(record(1)),
        journal.append(Record(id="x", custom_id="row-2", error=failure, info=Facts(attempts=4))),
    ]
    journal.close()
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert list(first)[:4] == list(second)[:4] == ["id", "custom_id", "response", "error"]
    assert first["response"] == {"status_code": 200, "request_id": "r", "body": {"choices": [""]}}
    assert second["response"] is None
    assert second["error"] == {"code": "RateLimitError", "message": "HTTP 429: slow down", "status": 429, "attempts": 4}
    assert second["info"] == {"attempts": 4}
    journal = opened(path)
    found = list(journal.scan())
    assert [offset for offset, _ in found] == offsets
    assert found[1][1].error == failure
    journal.close()
    assert {stat.S_IMODE(os.stat(file).st_mode) for file in path.parent.iterdir()} == {0o600}


async def test_a_body_over_several_lines_becomes_one_and_keeps_its_letters(path: Path) -> None:
    journal = opened(path)
    names(journal)
    for body in (b'{\n  "a": "b\\nc", \r\n "choices": [], "d": 1.00}', b'{\r"choices": []}'):
        reply = decode_completion(body)
        reply.__dict__["info"] = Info(status=200)
        journal.append(record_of(first_result(Request("row", "chat", {}), reply)))
    journal.close()
    assert b'{"a":"b\\nc","choices":[],"d":1.00}' in path.read_bytes()
    assert (path.read_bytes().count(b"\n"), path.read_bytes().count(b"\r")) == (2, 0)
    assert len(reopened(path)) == 2


async def test_a_row_that_cannot_be_written_leaves_no_trace(path: Path) -> None:
    journal = opened(path)
    names(journal)
    journal.append(record(1))
    with pytest.raises(UnicodeEncodeError):
        journal.append(Record(id="i", custom_id="row", info=Facts(model="m" * 2**20, label="\ud800")))
    assert journal.append(record(2)) == len(lines(1))
    journal.close()
    assert path.read_bytes() == lines(1, 2)


async def test_a_record_is_read_at_its_offset_whether_written_or_waiting(path: Path) -> None:
    journal = opened(path)
    names(journal)
    sizes = [0, 5, 2**14, 2**14 * 8, 2**20, 3 * 2**20, 1]
    offsets = [journal.append(record(number, size=size)) for number, size in enumerate(sizes)]
    for _ in range(2):
        for number, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
            assert encode_record(journal.read(offset)) == encode_record(record(number, size=size))
    assert [offset for offset, _ in journal.scan()] == offsets
    for wrong in (offsets[1] + 1, path.stat().st_size, 2**40):
        with pytest.raises(JournalError, match=rf"out\.csv\.journal: no record at byte {wrong}"):
            journal.read(wrong)
    journal.close()


# Damage


async def test_a_last_line_torn_at_any_byte_is_cut_off_and_the_rest_stays(path: Path) -> None:
    await fill(path, 1, 2, 3)
    whole, start = path.read_bytes(), len(lines(1, 2))
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        journal = opened(path)
        # Without its line end alone, the record is whole.
        kept = [1, 2, 3] if end == len(whole) - 1 else [1, 2]
        assert names(journal) == rows(*kept), end
        assert journal.append(record(4)) == len(lines(*kept))
        journal.close()
        assert path.read_bytes() == lines(*kept, 4)


@pytest.mark.parametrize("tail", [b"\0" * 100, b"\0" * (3 << 20), b"x" * (3 << 20)])
async def test_what_else_a_power_failure_leaves_at_the_end_is_cut_off(path: Path, tail: bytes) -> None:
    await fill(path, 1)
    path.write_bytes(lines(1) + tail)
    assert reopened(path) == rows(1)
    assert path.read_bytes() == lines(1)


@pytest.mark.parametrize(
    "bad", [b"", b"{", b'{"id":1}', b"\0" * 9, b'{"id":"i","custom_id":"c"}}', b'{"custom_id":"\xff"}', b"[" * 9999]
)
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_any_other_bad_line_is_an_error_with_its_number(path: Path, bad: bytes, number: int) -> None:
    await fill(path, 1, 2, 3)
    there = path.read_bytes().splitlines()
    there[number - 1] = bad
    data = b"\n".join(there) + b"\n"
    path.write_bytes(data)
    with pytest.raises(JournalError, match=rf"out\.csv\.journal: line {number}: not a record \(.*\); delete that line"):
        reopened(path)
    assert path.read_bytes() == data


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("end", [b"\n", b""])
async def test_records_that_lack_a_line_end_between_them_are_an_error_and_stay(
    path: Path, number: int, end: bytes
) -> None:
    await fill(path, 1, 2, 3)
    there = path.read_bytes().splitlines()
    data = b"\n".join([*there[: number - 1], there[number - 1] + there[number], *there[number + 1 :]]) + end
    path.write_bytes(data)
    with pytest.raises(JournalError, match=rf"out\.csv\.journal: line {number}: two records on one line; put"):
        reopened(path)
    assert path.read_bytes() == data


async def test_a_journal_behind_a_byte_order_mark_is_read_and_grows(path: Path) -> None:
    await fill(path, 1, 2)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    journal = opened(path)
    assert names(journal) == rows(1, 2)
    assert journal.read(0).custom_id == "row-1"
    journal.append(record(3))
    journal.close()
    assert reopened(path) == rows(1, 2, 3)


async def test_nothing_is_added_before_all_is_read_nor_after_the_end(path: Path) -> None:
    await fill(path, 1, 2)
    journal = opened(path)
    next(journal.scan())
    for act in (lambda: journal.append(record(3)), lambda: journal.compact([0])):
        with pytest.raises(RuntimeError, match="whose scan\\(\\) was read to the end"):
            act()
    names(journal)
    journal.append(record(3))
    # Once more, while lines are added.
    four = len(lines(4))
    added = [journal.append(record(4)) for _ in journal.scan()]
    assert added == [len(lines(1, 2, 3)) + number * four for number in range(3)]
    assert journal.append(record(4)) == added[-1] + four
    journal.close()
    journal.close()
    with pytest.raises(RuntimeError, match="an open journal"):
        journal.append(record(5))
    assert path.read_bytes() == lines(1, 2, 3, 4, 4, 4, 4)


# Writing


async def test_a_full_batch_is_one_write_and_a_part_of_one_waits(path: Path) -> None:
    disk = Disk()
    journal = opened(path, write=disk.write)
    names(journal)
    disk.writes = 0
    for number in range(255):
        journal.append(record(number))
    assert (disk.writes, path.stat().st_size) == (0, 0)
    journal.append(record(255))
    journal.append(record(256))
    assert (disk.writes, path.read_bytes()) == (1, lines(*range(256)))
    journal.flush()
    journal.flush()
    assert (disk.writes, path.read_bytes()) == (2, lines(*range(257)))
    journal.close()


def test_a_part_of_a_batch_is_written_after_50_ms(path: Path) -> None:
    async def main() -> None:
        journal = opened(path)
        names(journal)
        for number in (1, 2):
            journal.append(record(number))
            await asyncio.sleep(0.04)
        assert path.read_bytes() == lines(1, 2)
        journal.append(record(3))
        await asyncio.sleep(0.04)
        assert path.read_bytes() == lines(1, 2)
        await asyncio.sleep(0.02)
        assert path.read_bytes() == lines(1, 2, 3)
        journal.close()

    run(main())


async def test_what_a_short_write_left_is_written_too(path: Path) -> None:
    journal = opened(path, write=Disk(most=7).write)
    names(journal)
    for number in range(300):
        journal.append(record(number))
    journal.close()
    assert path.read_bytes() == lines(*range(300))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_a_disk_that_is_full_is_an_error_that_stays_and_whole_lines_do_too(path: Path, code: int) -> None:
    await fill(path, 1)
    for room in range(0, len(lines(2, 3, 4)), 3):
        path.write_bytes(lines(1))
        disk = Disk(room=room)
        disk.error = code
        journal = opened(path, write=disk.write, sync=disk.sync)
        names(journal)
        for number in (2, 3, 4):
            journal.append(record(number))
        with pytest.raises(OSError, match=r"out\.csv\.journal") as failed:
            journal.flush()
        # Room again: what failed once is not trusted.
        disk.room = 2**40
        for act in (partial(journal.append, record(5)), journal.flush, partial(journal.read, 2**20), journal.close):
            with pytest.raises(OSError, match=r"out\.csv\.journal") as again:
                act()
            assert again.value is failed.value
            assert again.value.errno == code
        journal.close()
        whole = lines(2, 3, 4)[:room].rpartition(b"\n")[0].count(b"row-")
        assert path.read_bytes() == lines(*range(1, 2 + whole)), room
        assert reopened(path) == rows(*range(1, 2 + whole))


def test_an_error_that_nobody_saw_is_raised_by_the_next_append(path: Path) -> None:
    async def main() -> None:
        disk = Disk()
        journal = opened(path, write=disk.write)
        names(journal)
        journal.append(record(1))
        disk.room = 0
        await asyncio.sleep(0.06)
        with pytest.raises(OSError, match="No space left"):
            journal.append(record(2))
        with pytest.raises(OSError, match="No space left"):
            journal.close()
        assert reopened(path) == []

    run(main())


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replaced(path: Path) -> None:
    """As an editor saves."""
    other = path.with_name("saved")
    other.write_bytes(path.read_bytes())
    os.replace(other, path)


def cut(path: Path) -> None:
    os.truncate(path, 0)


def written_to(path: Path) -> None:
    with path.open("ab") as file:
        file.write(lines(9))


@pytest.mark.skipif(sys.platform == "win32", reason="an open file stays where it is")
@pytest.mark.parametrize("meddle", [moved, Path.unlink, replaced, cut, written_to])
@pytest.mark.parametrize("has_more", [True, False], ids=["before a write", "before the end"])
async def test_a_file_that_somebody_else_takes_or_changes_is_an_error_that_stays(
    path: Path, meddle: Callable[[Path], None], has_more: bool
) -> None:
    journal = opened(path)
    names(journal)
    journal.append(record(1))
    journal.flush()
    meddle(path)
    if has_more:
        journal.append(record(2))
        with pytest.raises(OSError, match="run again") as failed:
            journal.flush()
        assert str(failed.value.filename) == str(path)
        with pytest.raises(OSError, match="run again"):
            journal.append(record(3))
    with pytest.raises(OSError, match="run again"):
        journal.close()
    if meddle is moved:
        path.with_name("elsewhere").rename(path)
        assert reopened(path) == (rows(1, 2) if has_more else rows(1))


async def test_a_sync_that_fails_at_the_end_is_an_error_and_lets_go(path: Path) -> None:
    disk = Disk()
    journal = opened(path, sync=disk.sync)
    names(journal)
    journal.append(record(1))
    disk.sync_error = errno.EIO
    with pytest.raises(OSError, match=r"Input/output error: .*out\.csv\.journal"):
        journal.close()
    assert reopened(path) == rows(1)


# Durability


async def test_for_the_process_nothing_is_synced_but_at_the_end(path: Path) -> None:
    disk = Disk()
    journal = opened(path, sync=disk.sync)
    names(journal)
    disk.syncs = 0
    for number in range(5000):
        journal.append(record(number))
    assert disk.syncs == 0
    journal.close()
    assert disk.syncs == 1


class SlowDisk(Disk):
    """Its syncs take as long as they are let."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.synced: list[int] = []

    def sync(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        self.begun.release()
        assert self.go.wait(300)
        super().sync(fd)
        self.synced.append(size)

    async def beginning(self) -> None:
        """Wait until a sync has begun."""
        assert await asyncio.get_running_loop().run_in_executor(None, self.begun.acquire, True, 300)


def against_power(path: Path, main: Callable[[Journal, SlowDisk], Awaitable[None]]) -> SlowDisk:
    """Run `main` in virtual time with a journal on such a disk, made already."""
    disk = SlowDisk()

    async def inner() -> None:
        opened(path).close()
        journal = opened(path, durability="power", sync=disk.sync)
        names(journal)
        try:
            await main(journal, disk)
        finally:
            disk.go.set()
            journal.close()

    run(inner())
    return disk


def test_against_power_failures_it_syncs_after_a_second(path: Path) -> None:
    async def main(journal: Journal, disk: SlowDisk) -> None:
        journal.append(record(1))
        await asyncio.sleep(0.9)
        assert not disk.begun.acquire(blocking=False)
        journal.append(record(2))
        await disk.beginning()
        await asyncio.sleep(10)
        # Nothing new, nothing to do.
        assert disk.synced == [len(lines(1, 2))]

    assert against_power(path, main).synced == [len(lines(1, 2))] * 2


def test_against_power_failures_it_syncs_after_1000_records_and_the_loop_goes_on(path: Path) -> None:
    async def main(journal: Journal, disk: SlowDisk) -> None:
        disk.go.clear()
        for number in range(999):
            journal.append(record(number))
        assert not disk.begun.acquire(blocking=False)
        journal.append(record(999))
        await disk.beginning()
        # The disk is at it: rows go on, and no second sync begins.
        for number in range(1000, 4000):
            journal.append(record(number))
            await asyncio.sleep(0.001)
        assert not disk.begun.acquire(blocking=False)
        assert disk.synced == []
        disk.go.set()
        await disk.beginning()

    whole = [len(lines(*range(count))) for count in (1000, 4000, 4000)]
    assert against_power(path, main).synced == whole


def test_a_sync_that_fails_in_the_background_is_raised_by_the_next_append(path: Path) -> None:
    async def main(journal: Journal, disk: SlowDisk) -> None:
        disk.sync_error = errno.EIO
        journal.append(record(1))
        await disk.beginning()
        # The thread is about to say so.
        for number in range(2, 10_000):
            journal.append(record(number))
            await asyncio.sleep(0.001)

    with pytest.raises(OSError, match=r"Input/output error: .*out\.csv\.journal") as failed:
        against_power(path, main)
    # By an append, and by the close after it.
    assert {"append", "close"} <= {frame.name for frame in failed.traceback}
    assert reopened(path)[0] == "row-1"


@pytest.mark.parametrize("act", [Journal.close, lambda journal: journal.compact([0])], ids=["close", "compact"])
def test_a_sync_that_goes_on_is_waited_for_and_its_error_raised(path: Path, act: Callable[[Journal], None]) -> None:
    async def main() -> None:
        disk = SlowDisk()
        opened(path).close()
        journal = opened(path, durability="power", sync=disk.sync)
        names(journal)
        disk.go.clear()
        disk.sync_error = errno.EIO
        journal.append(record(1))
        await disk.beginning()
        timer = threading.Timer(0.1, disk.go.set)
        timer.start()
        with pytest.raises(OSError, match="Input/output error"):
            act(journal)
        timer.join()
        # It stays, whichever way the journal ended.
        with suppress(OSError):
            journal.close()

    run(main())
    assert reopened(path) == rows(1)


# One job, one run, one file


async def test_a_second_run_and_another_job_are_refused(path: Path) -> None:
    pytest.importorskip("fcntl")
    first = opened(path)
    names(first)
    link = path.with_name("link.journal")
    link.symlink_to(path)
    for other in (path, link):
        with pytest.raises(JournalError, match="in use by another run"):
            opened(other, restart=True)
    first.append(record(1))
    first.close()
    with pytest.raises(JournalError, match='model: was "gpt-a", is "gpt-b"'):
        Journal.open(str(path), job={**JOB, "model": "gpt-b"})
    assert reopened(link) == rows(1)
    journal = Journal.open(str(path), job={"model": "gpt-b"}, facts={"rows": 7}, restart=True)
    assert names(journal) == []
    journal.close()
    assert json.loads(beside(path).read_bytes())["facts"] == {"rows": 7}


KILLED = """
import asyncio, os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from tests.bulk.test_journal import names, opened, record

async def main():
    journal = opened(Path({path!r}))
    names(journal)
    for number in range(300):
        journal.append(record(number))
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9")
def test_a_kill_loses_what_waits_alone(path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parents[2]), path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == -9, done.stderr
    assert reopened(path) == rows(*range(256))


def test_it_does_the_same_on_windows(path: Path, windows: Windows) -> None:
    async def main() -> None:
        await fill(path, 1, 2, 3)
        journal = opened(path, durability="power")
        assert names(journal) == rows(1, 2, 3)
        journal.append(record(4))
        journal.compact([0])
        assert names(journal) == rows(2, 3, 4)
        assert journal.read(len(lines(2))).custom_id == "row-3"
        journal.close()

    run(main())
    assert path.read_bytes() == lines(2, 3, 4)
    assert not windows.held


# Compacting


async def test_compacting_leaves_out_what_it_is_told_and_goes_on(path: Path) -> None:
    journal = opened(path)
    names(journal)
    offsets = [journal.append(record(number)) for number in range(600)]
    journal.compact(iter([]))
    with pytest.raises(JournalError, match="in use"):
        opened(path)
    journal.compact([*offsets[::2], *offsets[::2]])
    kept = [*range(1, 600, 2)]
    assert names(journal) == rows(*kept)
    assert journal.append(record(600)) == len(lines(*kept))
    assert journal.read(len(lines(*kept))).custom_id == "row-600"
    with pytest.raises(JournalError, match="in use"):
        opened(path)
    journal.compact([offset for offset, _ in journal.scan()])
    assert names(journal) == []
    journal.append(record(7))
    journal.close()
    assert path.read_bytes() == lines(7)
    assert {file.name for file in path.parent.iterdir()} == {path.name, beside(path).name}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize("wrong", [1, 10**6])
async def test_an_offset_where_no_line_begins_changes_nothing(path: Path, wrong: int) -> None:
    await fill(path, 1, 2)
    journal = opened(path)
    names(journal)
    with pytest.raises(ValueError, match=f"no line begins at byte {wrong}"):
        journal.compact([0, wrong])
    journal.append(record(3))
    journal.close()
    assert path.read_bytes() == lines(1, 2, 3)
    assert len(list(path.parent.iterdir())) == 2


async def test_a_crash_at_any_step_of_compacting_leaves_the_old_or_the_new(path: Path) -> None:
    await fill(path, 1, 2, 3)
    crash = Crash(path.parent)
    journal = opened(path, write=crash.write, sync=crash.sync)
    names(journal)
    journal.compact([len(lines(1))])
    crash.look()
    journal.close()
    seen = []
    for state in crash.replay(path):
        seen.append(reopened(path))
        assert seen[-1] == (rows(1, 2, 3) if state[path.name] == lines(1, 2, 3) else rows(1, 3))
        assert {file.name for file in path.parent.iterdir()} == {path.name, beside(path).name}
    assert len(seen) > len(lines(1, 3))
    assert seen[-1] == rows(1, 3)


async def test_an_error_while_compacting_leaves_the_old_one_to_go_on_with(path: Path) -> None:
    await fill(path, 1, 2, 3)
    for room in range(0, len(lines(1, 3)), 10):
        disk = Disk(room=room)
        journal = opened(path, write=disk.write, sync=disk.sync)
        names(journal)
        with pytest.raises(OSError, match="No space left"):
            journal.compact([len(lines(1))])
        disk.room = 2**40
        disk.sync_error = errno.EIO
        with pytest.raises(OSError, match="Input/output error"):
            journal.compact([len(lines(1))])
        journal.append(record(4))
        journal.close()
        assert path.read_bytes() == lines(1, 2, 3, 4)
        assert len(list(path.parent.iterdir())) == 2
        path.write_bytes(lines(1, 2, 3))


async def test_after_a_rename_that_may_not_last_nothing_is_taken(path: Path) -> None:
    await fill(path, 1, 2)

    def sync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "Input/output error")

    journal = opened(path, sync=sync)
    names(journal)
    for act in (lambda: journal.compact([0]), lambda: journal.append(record(3)), journal.close):
        with pytest.raises(OSError, match="Input/output error"):
            act()
    assert reopened(path) == rows(2)


# Power failures: what was synced stays; of what came after, anything may be missing


class Power:
    """A disk of which it is known how much of the journal it has for sure."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.synced = 0

    def sync(self, fd: int) -> None:
        if self.path.exists() and os.path.samestat(os.fstat(fd), self.path.stat()):
            self.synced = os.fstat(fd).st_size


RUN = st.tuples(st.lists(st.sampled_from([0, 1, 40, 500]), max_size=6), st.sampled_from(["flush", "wait", "close"]))


@settings(max_examples=100, deadline=None)
@given(runs=st.lists(RUN, max_size=4), data=st.data())
def test_after_a_power_failure_a_prefix_of_whole_records_is_left(
    runs: list[tuple[list[int], str]], data: st.DataObject
) -> None:
    async def main(folder: Path) -> None:
        expected: list[bytes] = []
        path = folder / "0.journal"
        opened(path).close()
        for number, (sizes, end) in enumerate(runs):
            power = Power(path)
            journal = opened(path, sync=power.sync)
            power.synced = path.stat().st_size
            assert [encode_record(journal.read(offset)) for offset, _ in journal.scan()] == expected
            for size in sizes:
                expected.append(encode_record(record(len(expected), size=size)))
                journal.append(decode_record(expected[-1]))
            if end == "flush":
                journal.flush()
            elif end == "close":
                journal.close()
            there = path.read_bytes()
            assert b"".join(line + b"\n" for line in expected).startswith(there)
            kept = data.draw(st.integers(power.synced, len(there)), label="bytes left")
            # Another name, because the dead run's lock is one of this process.
            path = folder / f"{number + 1}.journal"
            path.write_bytes(there[:kept])
            beside(path).write_bytes(beside(folder / "0.journal").read_bytes())
            journal.close()
            # A line that lacks its end alone is whole.
            while len(b"\n".join(expected)) > kept:
                expected.pop()
        assert reopened(path) == [decode_record(line).custom_id for line in expected]

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))


@settings(max_examples=100, deadline=None)
@given(
    holes=st.sets(st.integers(0, 60)),
    end=st.integers(0, 900),
    synced=st.integers(0, 3),
    block=st.sampled_from([4, 16, 64]),
)
def test_holes_are_found_and_never_read_as_records(holes: set[int], end: int, synced: int, block: int) -> None:
    whole, safe = lines(*range(9)), len(lines(*range(synced)))
    left = bytearray(whole[: max(end, safe)])
    for hole in holes:
        at = safe + hole * block
        left[at : at + block] = bytes(len(left[at : at + block]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        opened(path).close()
        path.write_bytes(left)
        while True:
            try:
                found = reopened(path)
                break
            except JournalError as error:
                # Do as it says.
                bad = re.search(r"line (\d+): not a record .*; delete that line", str(error))
                assert bad
                there = path.read_bytes().split(b"\n")
                assert b"\0" in there.pop(int(bad[1]) - 1)
                path.write_bytes(b"\n".join(there))
        numbers = [int(name.removeprefix("row-")) for name in found]
        assert numbers[:synced] == list(range(synced))
        assert path.read_bytes() == lines(*numbers)
        assert numbers == sorted(set(numbers))
