"""Whose journal it is: one job, one run at a time, and every crash while it is made is survived."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aimlasync.bulk.journal.disk import read_at
from aimlasync.bulk.journal.file_lock import HeldError, lock, unlock
from aimlasync.bulk.journal.manifest import JournalError, add_facts, claim, facts_of, release

JOB: dict[str, Any] = {
    "input": "sha256:abc",
    "model": "gpt-a",
    "prompt": {"system": "Sort.", "temperature": 0.5},
    "labels": ["a", "b"],
}
JOB["form"] = {"properties": {"reason": {}, "label": {}}}
MADE = {"aimlasync": "journal", "version": 2, "job": JOB, "facts": {"rows": 3}}
LINE = b'{"id":"i","custom_id":"row-1"}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.csv.journal"


def beside(path: Path) -> Path:
    return path.with_name(path.name + ".manifest")


def take(path: Path, job: dict[str, Any] = JOB, *, restart: bool = False, **seams: Any) -> int:
    seams = {"write": os.write, "sync": lambda fd: None, **seams}
    return claim(str(path), job=job, facts={"rows": 3}, restart=restart, **seams)


def make(path: Path, content: bytes = LINE) -> None:
    release(take(path))
    path.write_bytes(content)


def test_it_is_one_line_of_json_for_the_owner_alone_beside_an_empty_journal(path: Path) -> None:
    release(take(path, sync=os.fsync))
    assert json.loads(beside(path).read_bytes()) == MADE
    assert beside(path).read_bytes().count(b"\n") == 1
    assert path.read_bytes() == b""
    assert {stat.S_IMODE(os.stat(file).st_mode) for file in (path, beside(path))} == {0o600}


def test_the_same_job_finds_all_as_it_was_and_facts_may_differ(path: Path) -> None:
    make(path)
    again = {"labels": ("a", "b"), **{key: JOB[key] for key in ("form", "prompt", "model", "input")}}
    release(claim(str(path), job=again, facts={"rows": 9}, restart=False, write=os.write, sync=os.fsync))
    assert json.loads(beside(path).read_bytes()) == MADE
    assert path.read_bytes() == LINE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "gpt-b"}, 'model: was "gpt-a", is "gpt-b"; choose'),
        ({"prompt": {"system": "Sort.", "temperature": 1}}, "prompt.temperature: was 0.5, is 1; choose"),
        ({"prompt": {"system": "Sort."}}, "prompt.temperature: was 0.5, is not there; choose"),
        ({"dedupe": True}, "dedupe: was not there, is true; choose"),
        ({"labels": ["b", "a"]}, 'labels: was ["a","b"], is ["b","a"]; choose'),
        (
            {"input": "x", "model": "m\n", "labels": []},
            'input: was "sha256:abc", is "x"; model: was "gpt-a", is "m\\n"',
        ),
        (
            {"input": 1, "model": 2, "prompt": {}, "labels": 3},
            'model: was "gpt-a", is 2; labels: was ["a","b"], is 3; and 2 more; choose',
        ),
        (
            {"form": {"properties": {"label": {}, "reason": {}}}},
            'form.properties: was ["reason","label"], is ["label","reason"]; choose',
        ),
        ({"form": {"properties": {"reason": {}}}}, "form.properties.label: was {}, is not there; choose"),
        ({"prompt": {}}, 'prompt.system: was "Sort.", is not there; prompt.temperature: was 0.5, is not there; choose'),
    ],
)
def test_another_job_is_refused_and_shown_where_it_differs(path: Path, change: dict[str, Any], said: str) -> None:
    make(path)
    with pytest.raises(JournalError) as refused:
        take(path, {**JOB, **change})
    message = str(refused.value)
    assert message.startswith(f"{path} belongs to another job: ")
    assert said in message
    assert message.endswith("; choose another -o, or begin anew with --restart (its answers are lost)")
    assert "\n" not in message
    assert path.read_bytes() == LINE
    release(take(path, {**JOB, **change}, restart=True))
    assert path.read_bytes() == b""
    release(take(path, {**JOB, **change}))


def test_long_values_are_cut_to_where_they_part(path: Path) -> None:
    release(take(path, {"prompt": "a" * 500 + "b" * 500}))
    path.write_bytes(b"{}\n")
    with pytest.raises(JournalError) as refused:
        take(path, {"prompt": "a" * 500 + "c" * 5})
    assert f'prompt: was ...{"a" * 20}{"b" * 40}..., is ...{"a" * 20}ccccc";' in str(refused.value)


def test_a_name_that_leaves_room_for_a_manifest_leaves_room_for_all_that_follows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * (255 - len(".journal.manifest")) + ".journal")
    release(take(path))
    add_facts(str(path), {"structured": {"tool": 3}})
    assert facts_of(str(path)) == {"rows": 3, "structured": {"tool": 3}}
    assert {file.suffix for file in tmp_path.iterdir()} == {".journal", ".manifest"}


class Crash:
    """Keeps what is on the disk before and after every byte written and every sync: what a kill could leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.states: list[dict[str, bytes]] = []

    def look(self) -> None:
        state = {file.name: file.read_bytes() for file in self.folder.iterdir()}
        if state not in self.states:
            self.states.append(state)

    def write(self, fd: int, data: memoryview) -> int:
        self.look()
        return os.write(fd, data[:1])

    def sync(self, fd: int) -> None:
        self.look()

    def replay(self, path: Path) -> Iterator[dict[str, bytes]]:
        self.look()
        for state in self.states:
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            for name, data in state.items():
                (self.folder / name).write_bytes(data)
            yield state


def test_a_crash_at_any_step_of_making_it_is_made_good_by_the_next_run(path: Path) -> None:
    crash = Crash(path.parent)
    release(take(path, write=crash.write, sync=crash.sync))
    count = 0
    for _ in crash.replay(path):
        release(take(path))
        assert json.loads(beside(path).read_bytes()) == MADE
        assert path.read_bytes() == b""
        count += 1
    assert count > len(json.dumps(MADE, separators=(",", ":")))


def test_a_crash_at_any_step_of_a_restart_leaves_no_answers_under_another_job(path: Path) -> None:
    make(path)
    other = {"model": "gpt-b"}
    crash = Crash(path.parent)
    crash.look()
    release(take(path, other, restart=True, write=crash.write, sync=crash.sync))
    for state in crash.replay(path):
        if state[path.name]:
            assert b"gpt-a" in state[beside(path).name]
            with pytest.raises(JournalError, match="belongs to another job"):
                take(path, other)
            release(take(path))
        else:
            # Nothing is left to lose, whichever job's it still is.
            release(take(path, other))
        release(take(path, other, restart=True))


@pytest.mark.parametrize("restart", [False, True])
def test_before_the_manifest_is_written_the_disk_has_an_empty_journal_and_both_names(path: Path, restart: bool) -> None:
    if restart:
        make(path)
    done: list[str] = []
    files = {"journal": path, "manifest": beside(path), "names": path.parent}

    def name(fd: int) -> str:
        return next(name for name, file in files.items() if os.path.samestat(os.fstat(fd), os.stat(file)))

    def write(fd: int, data: memoryview) -> int:
        done.append(f"write {name(fd)}")
        return os.write(fd, data)

    def sync(fd: int) -> None:
        assert path.read_bytes() == b""
        done.append(f"sync {name(fd)}")

    release(take(path, restart=restart, write=write, sync=sync))
    assert done == ["sync journal", "sync names", "write manifest", "sync manifest"]


@pytest.mark.parametrize("seam", ["write", "sync"])
def test_an_error_while_it_is_made_names_the_file_and_lets_go_of_it(path: Path, seam: str) -> None:
    def fail(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: .*out\.csv\.journal"):
        take(path, **dict[str, Any]({seam: fail}))
    release(take(path))
    assert json.loads(beside(path).read_bytes()) == MADE


@pytest.mark.parametrize(
    "torn",
    [
        b"",
        b'{"aimlasync":"jou',
        b'{"aimlasync":"journal","version":2,"job"',
        b"\0" * 50,
        b'{"aimlasync":"journal","version":2,"job":{"model":"\xff"},"facts":{}}\n',
        b'{"aimlasync":"journal","version":2,"job":' + b"[" * 5000,
    ],
)
def test_a_torn_manifest_is_made_anew_only_where_nothing_can_be_lost(path: Path, torn: bytes) -> None:
    beside(path).write_bytes(torn)
    path.write_bytes(LINE)
    for restart in (False, True):
        with pytest.raises(JournalError, match=r"out\.csv\.journal\.manifest, .* is torn; put that back, move"):
            take(path, restart=restart)
    assert (path.read_bytes(), beside(path).read_bytes()) == (LINE, torn)
    path.unlink()
    release(take(path))
    assert json.loads(beside(path).read_bytes()) == MADE


def test_a_journal_without_its_manifest_is_left_alone(path: Path) -> None:
    path.write_bytes(LINE)
    for restart in (False, True):
        with pytest.raises(JournalError, match="is missing; put that back, move the file away, or choose another -o"):
            take(path, restart=restart)
    assert path.read_bytes() == LINE
    assert not beside(path).exists()


def test_a_manifest_without_its_journal_is_no_new_job(path: Path) -> None:
    make(path)
    path.unlink()
    with pytest.raises(JournalError, match="is gone, but its manifest is there; put it back, or choose another -o"):
        take(path)
    release(take(path, restart=True))
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "content", [b"my notes", b"my notes\n", b'{"a":1}\n', b"[]\n", b'{"aimlasync":"other"}', b"\0\1"]
)
def test_a_file_that_is_no_manifest_is_left_alone(path: Path, content: bytes) -> None:
    beside(path).write_bytes(content)
    for restart in (False, True):
        with pytest.raises(JournalError, match=r"journal\.manifest is there and is not a manifest of ours; move it"):
            take(path, restart=restart)
    assert beside(path).read_bytes() == content
    assert not path.exists()


def test_another_version_is_refused(path: Path) -> None:
    make(path)
    beside(path).write_bytes(b'{"aimlasync":"journal","version":9}\n')
    with pytest.raises(JournalError, match="made by another version of aimlasync; finish it there, or choose"):
        take(path)
    release(take(path, restart=True))


def test_two_runs_at_once_fail_clearly(path: Path) -> None:
    pytest.importorskip("fcntl")
    first = take(path)
    code = (
        "import os, sys; from aimlasync.bulk.journal.manifest import claim\n"
        "claim(sys.argv[1], job={}, facts={}, restart=True, write=os.write, sync=os.fsync)"
    )
    for restart in (False, True):
        with pytest.raises(JournalError, match="in use by another run; wait for it, or choose another -o"):
            take(path, restart=restart)
    other = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "JournalError" in other.stderr
    assert "in use by another run" in other.stderr
    assert json.loads(beside(path).read_bytes()) == MADE
    release(first)
    release(take(path))


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_let_be(path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(fd: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    release(take(path))


class Windows(types.ModuleType):
    """As much of msvcrt as locks: bytes of a file, held by one descriptor, where that stands."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, fd: int, mode: int, size: int) -> None:
        assert size == 1
        key = (os.fstat(fd).st_ino, os.lseek(fd, 0, os.SEEK_CUR))
        if mode == self.LK_UNLCK:
            assert self.held.pop(key) == fd
        elif self.held.setdefault(key, fd) != fd:
            raise OSError(errno.EACCES, "Permission denied")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Windows:
    """The parts of Windows that differ: its locks, and that nothing is renamed to or from a file that is open."""
    open_files, replace = Path("/proc/self/fd"), os.replace

    def replace_closed(old: str, new: str) -> None:
        if open_files.exists() and {old, new} & {os.path.realpath(file) for file in open_files.iterdir()}:
            raise PermissionError(errno.EACCES, "Access is denied", old, None, new)
        replace(old, new)

    msvcrt = Windows()
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "replace", replace_closed)
    return msvcrt


def test_on_windows_a_byte_beyond_the_content_is_locked(path: Path, windows: Windows) -> None:
    path.write_bytes(b"content")
    first, second = (os.open(path, os.O_RDWR) for _ in range(2))
    try:
        lock(first)
        ((_, at),) = windows.held
        assert 2**20 < at < 2**31
        with pytest.raises(HeldError):
            lock(second)
        assert read_at(second, 100, 0) == b"content"
        assert read_at(second, 3, 2) == b"nte"
        unlock(first)
        lock(second)
        unlock(second)
        assert path.read_bytes() == b"content"
    finally:
        os.close(first)
        os.close(second)


def test_on_windows_a_journal_is_claimed_the_same_way(path: Path, windows: Windows) -> None:
    first = take(path)
    with pytest.raises(JournalError, match="in use by another run"):
        take(path)
    release(first)
    make(path)
    release(take(path))
    assert not windows.held
