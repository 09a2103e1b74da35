"""Nobody's file is written over: what each command does with each kind of file, and how a file is replaced."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aimlasync.bulk import JournalError, OverwriteError, export, merge
from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.journal import disk
from aimlasync.bulk.journal.file_lock import lock
from aimlasync.bulk.output.directory import replacing_directory
from aimlasync.bulk.output.streams import NamedFile, named
from aimlasync.bulk.output.target import Target
from aimlasync.simulator import Simulator
from tests.support.commands import finish, last_line, run, start, until, write
from tests.support.forked import Command

Vendor = Callable[..., Simulator]

MINE = b"id,mine\n1,by hand\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)


def record(name: str, answer: str = "yes", **other: Any) -> bytes:
    """A line of a journal."""
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}}]}
    line = {"id": "x", "custom_id": name, "response": {"status_code": 200, "request_id": "r", "body": body}}
    return json.dumps({**line, "error": None, **other}).encode() + b"\n"


def a_job(path: str, *records: bytes, **job: Any) -> str:
    """A journal of a job, with its manifest."""
    Path(path).write_bytes(b"".join(records or (record("row-1"),)))
    manifest = {"aimlasync": "journal", "version": 2, "job": {"model": "m", **job}, "facts": {}}
    Path(f"{path}.manifest").write_text(json.dumps(manifest) + "\n")
    return path


# Each command, and each kind of file that is there already

ROWS = "text\nhello\nbye\n"
CLASSIFY = ("classify", "in.csv", "--labels", "a,b", "--simulate", "-o", "{}")
BULK = ("bulk", "in.csv", "--prompt", "{{text}}", "--simulate", "-o", "{}")

COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "classify -o": (CLASSIFY, "out.csv"),
    "bulk -o table": (BULK, "out.csv"),
    "bulk -o journal": (BULK, "out.jsonl"),
    "bulk --errors": ((*BULK[:-1], "own.jsonl", "--errors", "{}"), "e"),
    "export -o": (("export", "j.jsonl", "-o", "{}"), "out.csv"),
    "merge -o": (("merge", "j.jsonl", "-o", "{}"), "out.jsonl"),
    "report -o": (("report", "j.jsonl", "-o", "{}"), "out.html"),
}

Kind = Callable[[str], bytes | None]
"""Puts something at a path, and returns what must be there afterwards; None where that is a new file."""


def nothing(path: str) -> None:
    return None


def an_empty_file(path: str) -> None:
    write(path, b"")


def somebodys_file(path: str) -> bytes:
    write(path, MINE)
    return MINE


def a_link_to_somebodys_file(path: str) -> bytes:
    write("theirs", MINE)
    os.symlink("theirs", path)
    return MINE


def a_journal_of_another_job(path: str) -> bytes:
    return Path(a_job(path, record("theirs"), model="other")).read_bytes()


def an_empty_journal_of_another_job(path: str) -> bytes:
    a_job(path, model="other")
    Path(path).write_bytes(b"")
    return b""


def the_output_of_another_job(path: str) -> bytes:
    a_job(f"{path}.journal", record("theirs"), model="other")
    return somebodys_file(path)


def a_directory(path: str) -> bytes | None:
    os.mkdir(path)
    return b"directory"


def null(path: str) -> bytes | None:
    os.symlink("/dev/null", path)
    return b"device"


def content(path: str) -> bytes | None:
    if os.path.isdir(path):
        return b"directory"
    if os.path.exists(path) and not os.path.isfile(path):
        return b"device"
    return Path(path).read_bytes() if os.path.exists(path) else None


KINDS: list[tuple[Kind, bool]] = [
    # What is there, and whether it may be replaced without a word.
    (nothing, True),
    (an_empty_file, True),
    (somebodys_file, False),
    (a_link_to_somebodys_file, False),
    (a_journal_of_another_job, False),
    (an_empty_journal_of_another_job, False),
    (the_output_of_another_job, False),
    (a_directory, False),
    (null, True),
]


@pytest.fixture
def job() -> None:
    write("in.csv", ROWS)
    a_job("j.jsonl", record("row-1"), record("row-2"))


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("kind", "may"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
def test_only_what_holds_nothing_is_written_over(command: str, kind: Kind, may: bool) -> None:
    words, path = COMMANDS[command]
    before = kind(path)
    if command == "bulk -o journal" and kind in (an_empty_journal_of_another_job, the_output_of_another_job):
        # An empty journal holds nothing; and a table is not asked for.
        may = kind is an_empty_journal_of_another_job
        before = None if may else before
    done = run(*(word.format(path) for word in words))
    if may:
        assert done.exit_code == 0, done.stderr
        assert content(path) not in ((None,) if before is None and kind is not nothing else ())
        if kind is null:
            assert content(path) == b"device"
    else:
        assert done.exit_code == 2, done.stderr
        assert content(path) == before
        assert ("theirs" if (command, kind) == ("bulk -o journal", a_link_to_somebodys_file) else path) in last_line(
            done
        )
        # The way out is named where there is one.
        is_restarted = command == "bulk -o journal" and kind is a_journal_of_another_job
        assert ("--restart" if is_restarted else "--overwrite" if kind is not a_directory else "name a") in done.stderr
    assert not list(Path().glob(".*.part"))


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_command_goes_over_its_own_output_and_not_over_one_that_was_changed(command: str) -> None:
    words, path = COMMANDS[command]
    again = [word.format(path) for word in words]
    for _ in range(3):
        assert run(*again).exit_code == 0
    with open(path, "ab") as file:
        file.write(record("row-9") if path.endswith(".jsonl") else b"edited\n")
    changed = content(path)
    done = run(*again)
    if command == "bulk -o journal":
        # A journal is what was answered, whoever adds to it.
        assert done.exit_code == 0
        return
    assert (done.exit_code, content(path)) == (2, changed)
    assert f"aimlasync: {path}: was changed since this job wrote it; choose another" in done.stderr
    assert run(*again, "--overwrite").exit_code == 0
    assert content(path) != changed
    assert run(*again).exit_code == 0


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", [somebodys_file, a_link_to_somebodys_file, the_output_of_another_job])
def test_overwrite_replaces_on_purpose_and_is_not_needed_again(command: str, kind: Kind) -> None:
    words, path = COMMANDS[command]
    before = kind(path)
    again = [word.format(path) for word in words]
    if kind is the_output_of_another_job and command in ("classify -o", "bulk -o table"):
        # That journal would be their own: it is another job's, and only --restart begins it anew.
        assert run(*again, "--overwrite").exit_code == 2
        return
    assert run(*again, "--overwrite").exit_code == 0
    assert content(path) != before
    assert os.path.islink(path) == (kind is a_link_to_somebodys_file)
    assert run(*again).exit_code == 0


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("command", ["export -o", "report -o", "merge -o", "classify -o", "bulk --errors"])
def test_a_journal_that_is_replaced_on_purpose_leaves_no_manifest_of_another_job(command: str) -> None:
    words, path = COMMANDS[command]
    a_job(path, record("theirs"), model="other")
    assert run(*(word.format(path) for word in words), "--overwrite").exit_code == 0
    manifest = Path(f"{path}.manifest")
    assert not manifest.exists() or json.loads(manifest.read_bytes())["job"] == {"model": "m"}


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("command", ["export -o", "report -o", "merge -o", "classify -o", "bulk --errors"])
def test_no_option_takes_a_journal_from_a_job_that_runs(command: str) -> None:
    words, path = COMMANDS[command]
    before = Path(a_job(path, record("theirs"), model="other")).read_bytes()
    fd = os.open(f"{path}.manifest", os.O_RDWR)
    lock(fd)
    done = run(*(word.format(path) for word in words), "--overwrite")
    os.close(fd)
    assert (done.exit_code, Path(path).read_bytes()) == (2, before)
    assert "running" in done.stderr or "in use by another run" in done.stderr


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "j.jsonl", "-o", "j.jsonl"), "part of the job's own journal"),
        (("export", "j.jsonl", "-o", "./../{here}/j.jsonl"), "part of the job's own journal"),
        (("export", "j.jsonl", "-o", "link.jsonl"), "part of the job's own journal"),
        (("export", "j.jsonl", "-o", "hard.jsonl"), "is there, and is not what this job wrote"),
        (("export", "j.jsonl", "-o", "j.jsonl.manifest", "--format", "csv"), "part of the job's own journal"),
        (("export", "j.jsonl", "-o", "j.jsonl.outputs", "--format", "csv"), "part of the job's own journal"),
        (("export", "j.jsonl", "-o", "j.jsonl.part-1-of-2", "--format", "csv"), "part of the job's own journal"),
        (("export", "j.jsonl", "--input", "in.csv", "-o", "in.csv"), "the input itself"),
        (("export", "j.jsonl", "-o", "b.jsonl.manifest", "--format", "csv"), "part of the journal of another job"),
        (("report", "j.jsonl", "-o", "b.jsonl.compact"), "part of the journal of another job"),
        (("merge", "j.jsonl", "-o", "b.jsonl.manifest"), "part of the journal of another job"),
        (("merge", "j.jsonl", "-o", "j.jsonl.manifest"), "part of the journal of another job"),
        (("report", "j.jsonl", "-o", "j.jsonl"), "part of the job's own journal"),
        (("report", "j.jsonl", "-o", "no/page.html"), "there is no directory no; make it first"),
        (("report", "j.jsonl", "-o", "in.csv/page.html"), "there is no directory in.csv; a file has its name"),
        (("report", "j.jsonl", "-o", ""), "-o: an empty name; name a file"),
        (("merge", "", "-o", "x.jsonl"), "JOURNAL...: an empty name; name a file"),
        (("merge", "j.jsonl", "./j.jsonl", "-o", "x.jsonl"), "named twice"),
        (("merge", "j.jsonl", "-o", "j.jsonl"), "one of the journals to merge"),
        (("classify", "in.csv", "--labels", "a,b", "-o", "x.csv", "--errors", "x.csv"), "belongs to the output itself"),
        (("classify", "in.csv", "--labels", "a,b", "-o", "x.csv", "--errors", "./x.csv"), "belongs to the output"),
        (("classify", "in.csv", "--labels", "a,b", "-o", "x.csv", "--errors", "x.csv.journal"), "own journal"),
        (("classify", "in.csv", "--labels", "a,b", "-o", "in.csv"), "the input itself"),
        (("classify", "in.csv", "--labels", "a,b", "-o", "x.csv", "--errors", "in.csv"), "the input itself"),
        (
            ("classify", "in.csv", "--labels", "a,b", "-o", "x.csv", "--few-shot", "s.csv", "--errors", "s.csv"),
            "s.csv: is there",
        ),
    ],
)
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)], ids=["plain", "overwrite"])
def test_what_a_job_reads_and_keeps_is_never_its_output(words: tuple[str, ...], said: str, overwrite: Any) -> None:
    a_job("b.jsonl", model="other")
    write("s.csv", "text,label\nhi,a\n")
    os.symlink("j.jsonl", "link.jsonl")
    os.link("j.jsonl", "hard.jsonl")
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    done = run(*(word.format(here=Path.cwd().name) for word in words), *overwrite)
    if (overwrite and "is there" in said + done.stderr) or ("s.csv" in said and overwrite):
        return
    assert done.exit_code == 2
    assert said in done.stderr
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            (*BULK[:-1], "x.jsonl", "--errors", "bad.csv"),
            "bad.csv: a name of a table, and this makes lines of",
        ),
        ((*BULK[:-1], "x.jsonl", "--errors", "b.parquet"), "b.parquet: a name of a table, and this makes lines"),
        ((*BULK[:-1], "x.jsonl", "--errors", "bad.jsonl.gz"), "bad.jsonl.gz: a name of a packed file, and this makes"),
        (
            ("report", "j.jsonl", "-o", "r.xlsx"),
            "r.xlsx: a name of a table, and this makes an HTML page; name it .html",
        ),
        (("report", "j.jsonl", "-o", "r.html.zst"), "r.html.zst: a name of a packed file, and this makes an HTML page"),
        (("merge", "j.jsonl", "-o", "m.jsonl.gz"), "m.jsonl.gz: a name of a packed file, and this makes a journal"),
    ],
)
@pytest.mark.usefixtures("job")
def test_a_name_that_says_another_kind_of_file_is_refused(words: tuple[str, ...], said: str, vendor: Vendor) -> None:
    sim = vendor()
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    done = run(*(word.format() for word in words))
    assert (done.exit_code, len(sim.ledger)) == (2, 0)
    assert said in done.stderr
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


def test_nothing_is_asked_before_the_output_is_known_to_be_free(vendor: Vendor) -> None:
    sim = vendor()
    write("in.csv", ROWS)
    write("out.csv", MINE)
    for words in ("-o", "out.csv"), ("-o", "x.csv", "--errors", "out.csv"):
        assert run("classify", "in.csv", "--labels", "a,b", *words).exit_code == 2
    assert not len(sim.ledger)
    assert not Path("x.csv.journal").exists()


@pytest.mark.usefixtures("job")
def test_commands_of_one_journal_share_what_they_wrote() -> None:
    assert run(*(word.format("out.csv") for word in CLASSIFY)).exit_code == 0
    assert run("export", "out.csv.journal", "--input", "in.csv", "-o", "out.csv").exit_code == 0
    assert run(*(word.format("out.csv") for word in CLASSIFY)).exit_code == 0
    assert run("export", "j.jsonl", "-o", "out.csv").exit_code == 2
    # By its place beside the journal: a folder may be moved as a whole.
    os.mkdir("moved")
    for path in [path for path in Path().iterdir() if path.is_file()]:
        path.rename(Path("moved") / path)
    os.chdir("moved")
    assert run("export", "out.csv.journal", "--input", "in.csv", "-o", "out.csv").exit_code == 0


@pytest.mark.usefixtures("job")
def test_a_file_that_somebody_writes_while_the_job_runs_is_left_alone(vendor: Vendor) -> None:
    sim = vendor(faults=[])
    process = start("classify", "in.csv", "--labels", "a,b", "-o", "out.csv", "--deadline", "60s", "--rpm", "60")
    until(lambda: len(sim.ledger) > 0)
    write("out.csv", MINE)
    code, _, err = finish(process)
    assert code == 2
    assert Path("out.csv").read_bytes() == MINE
    assert "out.csv: is there, and is not what this job wrote" in err
    assert "the answers are in out.csv.journal" in err.replace(f"{Path.cwd()}/", "")


@pytest.mark.usefixtures("job")
def test_two_exports_at_once_know_their_files_afterwards() -> None:
    names = [f"out-{number}.csv" for number in range(6)]
    for process in [start("export", "j.jsonl", "-o", name) for name in names]:
        assert finish(process)[0] == 0
    assert [run("export", "j.jsonl", "-o", name).exit_code for name in names] == [0] * 6


@pytest.mark.usefixtures("job")
def test_the_record_of_what_was_written_stays_small_and_survives_half_a_line() -> None:
    for number in range(3):
        write("j.jsonl", record("row-1", str(number)))
        assert run("export", "j.jsonl", "-o", "out.csv").exit_code == 0
    outputs = Path("j.jsonl.outputs")
    outputs.write_bytes(outputs.read_bytes() * 1000 + b'{"path":"out')
    write("j.jsonl", record("row-1", "more"))
    for _ in range(2):
        assert run("export", "j.jsonl", "-o", "out.csv").exit_code == 0
    assert outputs.read_bytes().count(b"\n") == 1
    outputs.write_text("mine\n")
    done = run("export", "j.jsonl", "-o", "other.csv")
    assert (done.exit_code, outputs.read_text()) == (2, "mine\n")
    assert "j.jsonl.outputs: is there, and is no record of what a job wrote" in done.stderr


# How a file is replaced


def old_table() -> bytes:
    a_job("j.jsonl", record("row-1", "old"))
    assert run("export", "j.jsonl", "-o", "out.csv").exit_code == 0
    write("j.jsonl", b"".join(record(f"row-{number}", "new") for number in range(5000)))
    return Path("out.csv").read_bytes()


def strays() -> list[str]:
    return [path.name for path in Path().iterdir() if path.name.endswith(".part")]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("step", ["open", "write", "sync", "close", "rename"])
def test_whatever_the_disk_does_the_old_file_stays(step: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    old = old_table()

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    real_open = os.open

    class Broken(NamedFile):
        def write(self, data: object, /) -> int:
            with named(self._name):
                return fail() if step == "write" else super().write(data)

        def close(self) -> None:
            is_open = not self.closed
            super().close()
            with named(self._name):
                if is_open and step == "close":
                    fail()

    with monkeypatch.context() as broken:
        if step == "open":
            broken.setattr(os, "open", lambda path, *a: fail() if str(path).endswith(".part") else real_open(path, *a))
        elif step == "sync":
            broken.setattr(disk, "sync", fail)
        elif step == "rename":
            broken.setattr(os, "replace", fail)
        else:
            broken.setattr("aimlasync.bulk.output.replace.NamedFile", Broken)
        done = run("export", "j.jsonl", "-o", "out.csv")
    assert (done.exit_code, done.stderr) == (1, f"aimlasync: out.csv: {os.strerror(code)}\n")
    assert Path("out.csv").read_bytes() == old
    assert not strays()
    assert run("export", "j.jsonl", "-o", "out.csv").exit_code == 0


@pytest.mark.parametrize("command", ["export", "report", "merge"])
def test_a_file_that_may_grow_no_further_leaves_the_old_one(command: str) -> None:
    out = {"export": "out.csv", "report": "out.html", "merge": "out.jsonl"}[command]
    a_job("j.jsonl", record("row-1", "old"))
    assert run(command, "j.jsonl", "-o", out).exit_code == 0
    old = Path(out).read_bytes()
    write("j.jsonl", b"".join(record(f"row-{number}", "new") for number in range(5000)))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
    code = f"{limit} from aimlasync.__main__ import main; main()"
    # Without -B it would leave half of each module that it is the first to compile.
    said = [sys.executable, "-B", "-c", code, command, "j.jsonl", "-o", out]
    done = subprocess.run(said, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"aimlasync: {out}: File too large\n")
    assert Path(out).read_bytes() == old
    assert not strays()


def half_an_export() -> tuple[bytes, Command]:
    """What out.csv has, and a command that is stopped while it writes another; too late at times, and then again."""
    while True:
        old = old_table()
        rows = record("row-1", "x" * 500)
        with open("j.jsonl", "wb") as file:
            for number in range(20_000):
                file.write(rows.replace(b"row-1", b"row-%d" % number, 1))
        process = start("export", "j.jsonl", "-o", "out.csv")
        if is_stopped_half(process):
            return old, process
        process.send_signal(signal.SIGCONT)
        assert finish(process)[0] == 0


def begun() -> Iterator[bytes]:
    """The first byte of each file that is written beside its place."""
    for name in strays():
        # Renamed, or taken away.
        with suppress(FileNotFoundError), open(name, "rb") as file:
            yield file.read(1)


def is_stopped_half(process: Command) -> bool:
    # A signal between the making of a file and its assignment leaves it to the collector, which warns.
    until(lambda: b"".join(begun()) != b"" or process.poll() is not None)
    process.send_signal(signal.SIGSTOP)
    until(lambda: process.poll() is not None or ") T " in Path(f"/proc/{process.pid}/stat").read_text())
    return bool(strays())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs to know that a process has stopped")
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_export_that_is_ended_half_way_leaves_the_old_file(by: signal.Signals) -> None:
    old, process = half_an_export()
    process.send_signal(by)
    process.send_signal(signal.SIGCONT)
    code, _, err = finish(process)
    assert Path("out.csv").read_bytes() == old
    assert code == (-9 if by is signal.SIGKILL else 128 + by)
    assert "Traceback" not in err
    assert bool(strays()) == (by is signal.SIGKILL)
    assert run("export", "j.jsonl", "-o", "out.csv").exit_code == 0


def test_a_crash_between_the_record_and_the_rename_loses_no_right(monkeypatch: pytest.MonkeyPatch) -> None:
    old = old_table()

    def crash(*_: Any) -> None:
        raise RuntimeError

    for _ in range(2):
        with monkeypatch.context() as broken:
            broken.setattr(os, "replace", crash)
            with pytest.raises(RuntimeError):
                export("j.jsonl", "out.csv")
        assert Path("out.csv").read_bytes() == old
        write("j.jsonl", record("row-1", "newer"))
    export("j.jsonl", "out.csv")
    assert b"newer" in Path("out.csv").read_bytes()


def test_the_mode_of_a_replaced_file_stays_and_a_link_stays_a_link() -> None:
    a_job("j.jsonl")
    os.mkdir("far")
    os.symlink("far/real.csv", "out.csv")
    export("j.jsonl", "out.csv")
    os.chmod("far/real.csv", 0o640)
    write("j.jsonl", record("row-1", "other"))
    export("j.jsonl", "out.csv")
    assert os.readlink("out.csv") == "far/real.csv"
    assert stat.S_IMODE(os.stat("far/real.csv").st_mode) == 0o640
    assert b"other" in Path("far/real.csv").read_bytes()


def test_standard_output_by_any_name_is_written_where_it_stands() -> None:
    a_job("j.jsonl")
    write("log", b"before\n")
    for path in "-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1":
        with open("log", "ab") as log:
            command = [sys.executable, "-m", "aimlasync", "export", "j.jsonl", "-o", path, "--format", "csv"]
            assert subprocess.run(command, stdout=log, check=False).returncode == 0
    assert Path("log").read_bytes() == b"before\n" + b"custom_id,answer,error\nrow-1,yes,\n" * 4
    assert not Path("-").exists()


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/mem").exists(), reason="needs root and a device")
def test_a_device_that_nobody_means_is_refused() -> None:
    a_job("j.jsonl")
    done = run("export", "j.jsonl", "-o", "/dev/mem", "--format", "csv")
    assert (done.exit_code, "/dev/mem: a device or socket" in done.stderr) == (2, True)


def test_python_has_the_same_rules() -> None:
    a_job("j.jsonl")
    write("out.csv", MINE)
    with pytest.raises(OverwriteError, match=r"out\.csv: is there, and is not what this job wrote"):
        export("j.jsonl", "out.csv")
    export("j.jsonl", "out.csv", overwrite=True)
    write("whole.jsonl", MINE)
    with pytest.raises(InputError):
        merge(["j.jsonl"], "whole.jsonl")
    merge(["j.jsonl"], "whole.jsonl", overwrite=True)
    merge(["j.jsonl"], "whole.jsonl")
    a_job("other.jsonl", model="n")
    with pytest.raises(OverwriteError, match="the journal of another job"):
        merge(["other.jsonl"], "whole.jsonl")
    # A run that went on with it has answers that the shards have not.
    with open("whole.jsonl", "ab") as file:
        file.write(record("row-2"))
    with pytest.raises(OverwriteError, match="was changed since"):
        merge(["j.jsonl"], "whole.jsonl")
    fd = os.open("whole.jsonl.manifest", os.O_RDWR)
    lock(fd)
    with pytest.raises(JournalError, match="in use by another run"):
        merge(["j.jsonl"], "whole.jsonl", overwrite=True)
    os.close(fd)


def test_a_journal_that_others_keep_can_be_exported_from() -> None:
    target = Target("out.csv", journal="/sys/j.jsonl")
    with target.open() as file:
        file.write(b"new")
    assert Path("out.csv").read_bytes() == b"new"
    with pytest.raises(OverwriteError):
        target.check()


def test_a_directory_of_rows_is_whole_or_not_there_and_never_gets_more() -> None:
    def fill(overwrite: bool = False, *, fails: bool = False, content: str = "rows") -> None:
        with replacing_directory("out", overwrite=overwrite) as folder:
            Path(folder, "1.parquet").write_text(content)
            if fails:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        fill(fails=True)
    assert list(Path().iterdir()) == []
    os.mkdir("out")
    fill()
    with pytest.raises(OverwriteError, match=r"more beside them would make rows twice; .* overwrite=True"):
        fill()
    with pytest.raises(RuntimeError):
        fill(True, fails=True)
    assert Path("out/1.parquet").read_text() == "rows"
    fill(True, content="new")
    assert Path("out/1.parquet").read_text() == "new"
    assert [path.name for path in Path().iterdir()] == ["out"]
    Path("out/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"'notes\.txt' in it, which is no file of rows"):
        fill(True)
    write("file", "mine")
    with pytest.raises(InputError, match="a file, and rows are written as files in a directory"):
        with replacing_directory("file", overwrite=True):
            pass


# A line of a journal is an answer, a failure, or no record: everywhere the same

STRANGE: list[tuple[bytes, bool | None]] = [
    (record("row-2"), True),
    (record("row-2", response={"status_code": 400, "body": {"error": {"message": "too long"}}}), False),
    (record("row-2", response={"status_code": 500, "body": "no"}), False),
    (record("row-2", response={"status_code": 302, "body": None}), False),
    # As OpenAI's error files have them.
    (record("row-2", response={"status_code": 0, "request_id": "", "body": {}}), False),
    (record("row-2", response={"status_code": 200, "body": {"error": {"message": "no credit", "code": 402}}}), False),
    (record("row-2", response={"status_code": 200, "body": {"object": "error", "error": None}}), False),
    (record("row-2", response={"status_code": 200, "body": {"output": [], "error": None}}), True),
    (record("row-2", response=None, error={"code": "batch_expired", "message": "late"}), False),
    (record("row-2", response=None), None),
    (b'{"custom_id":"row-2"}\n', None),
    (b'{"custom_id":"row-2","answer":"yes","error":null}\n', None),
]


@pytest.mark.parametrize(("line", "verdict"), STRANGE)
def test_export_report_merge_failed_rows_and_a_run_agree_on_a_line(line: bytes, verdict: bool | None) -> None:
    from aimlasync.bulk.output.failed import write_failed
    from aimlasync.bulk.report import collect

    a_job("j.jsonl", record("row-1"), line)
    done = export("j.jsonl", "out.csv")
    found = collect("j.jsonl")
    merged = merge(["j.jsonl"], "whole.jsonl")
    failed = write_failed("j.jsonl", Target("failed.jsonl", journal="j.jsonl"))
    ok, bad = 1 + (verdict is True), int(verdict is False)
    assert (done.ok, done.failed, done.rows) == (ok, bad, ok + bad)
    assert (found.ok, found.failed, found.rows) == (ok, bad, ok + bad)
    assert (merged.ok, merged.failed, merged.rows) == (ok, bad, ok + bad)
    assert (failed, len(Path("whole.jsonl").read_bytes().splitlines())) == (bad, ok + bad)


@pytest.mark.parametrize(("line", "verdict"), STRANGE)
def test_a_run_asks_again_about_what_is_no_answer(line: bytes, verdict: bool | None, vendor: Vendor) -> None:
    sim = vendor()
    write("in.csv", ROWS)
    words = [word.format("out.jsonl") for word in BULK if word != "--simulate"]
    assert run(*words, "--limit", "1").exit_code == 0
    with open("out.jsonl", "ab") as file:
        file.write(line)
    before = len(sim.ledger)
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    assert len(sim.ledger) - before == (verdict is not True)
    names = [json.loads(each)["custom_id"] for each in Path("out.jsonl").read_bytes().splitlines()]
    assert names == ["row-1", "row-2"]


def test_a_table_in_the_place_of_a_journal_is_no_journal(vendor: Vendor) -> None:
    sim = vendor()
    write("in.csv", ROWS)
    words = [word.format("out.jsonl") for word in BULK if word != "--simulate"]
    assert run(*words).exit_code == 0
    write("out.jsonl", b'{"custom_id":"row-1","answer":"yes","error":null}\n' * 2)
    before = len(sim.ledger)
    for command in (words, ["export", "out.jsonl"], ["report", "out.jsonl"], ["merge", "out.jsonl", "-o", "x.jsonl"]):
        done = run(*command)
        assert (done.exit_code, "none of its lines has a response or an error" in done.stderr) == (2, True)
    assert len(sim.ledger) == before
