"""A bulk job that ends in the middle: killed, interrupted, without room; every row is kept, and asked about once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aimlasync.cli import cli
from aimlasync.simulator import Fault, Latency, Simulator, serve_in_thread
from tests.support.forked import run_failing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 and no signals to a process there")

ROOT = Path(__file__).parents[2]
MODEL = "openai/gpt-5-nano-2025-08-07"


class Place:
    """An input, a journal, and runs of the one command that leads from one to the other."""

    def __init__(self, folder: Path, sim: Simulator, rows: int) -> None:
        self.sim = sim
        self.input = folder / "requests.jsonl"
        self.output = folder / "out.jsonl"
        self.names = [f"r{number}" for number in range(rows)]
        self.write(self.names)

    def write(self, names: list[str]) -> None:
        def line(name: str) -> str:
            body = {"messages": [{"role": "user", "content": f"About {name}"}], "metadata": {"custom_id": name}}
            return json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body})

        self.input.write_text("".join(f"{line(name)}\n" for name in names))

    def command(self, *more: str) -> list[str]:
        command = ["bulk", str(self.input), "-o", str(self.output), "--base-url", self.sim.base_url, "--model", MODEL]
        return [*command, *more]

    def start(self, *more: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "aimlasync", *self.command(*more)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "AIML_API_KEY": "test"},
            **options,
        )

    def run(self, *more: str, failing: tuple[str, int] | None = None, **options: Any) -> tuple[int, str]:
        """Run it to its end, in this process if it can be; `failing` are the first arguments of `run_failing`."""
        if options:
            return finish(self.start(*more, **options))
        if failing is not None:
            environment = {**os.environ, "AIML_API_KEY": "test"}
            code, out, err = run_failing(*failing, self.command(*more), environment)
            assert not out
            return code, err
        done = CliRunner(env={"AIML_API_KEY": "test"}).invoke(cli, self.command(*more), catch_exceptions=False)
        assert not done.stdout
        return done.exit_code, done.stderr

    def asked(self) -> Counter[str]:
        """How often each row was asked about, calls answered with an error left out."""
        return Counter(attempt.custom_id or "" for attempt in self.sim.ledger if attempt.status in (0, 200))

    def kept(self) -> list[str]:
        """The rows in the journal, each of whose lines is whole and the row's own."""
        names = []
        data = self.output.read_bytes()
        assert not data or data.endswith(b"\n")
        for line in data.splitlines():
            record = json.loads(line)
            assert record["error"] is None
            content = record["response"]["body"]["choices"][0]["message"]["content"]
            assert record["custom_id"] in re.findall(r"r\d+", content)
            names.append(record["custom_id"])
        return names

    def is_whole(self) -> bool:
        return sorted(self.kept()) == sorted(self.names)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert not out
    return process.returncode, err


def until(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)


@contextmanager
def serving(folder: Path, rows: int, **options: Any) -> Iterator[Place]:
    with serve_in_thread(answer=lambda asked: f"Noted: {asked.text}. " * 20, **options) as sim:
        yield Place(folder, sim, rows)


# Killed


def test_killed_over_and_over_it_loses_no_row_and_asks_again_about_few() -> None:
    options = ["--rows", "600", "--kills", "5", "--concurrency", "32"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "crash.py"), *options],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = dict(re.split(r"\s{2,}", line) for line in done.stdout.splitlines()[1:])
    assert found["kills"].startswith("5:")
    assert {found[name] for name in ("rows", "lines", "unique")} == {"600"}
    assert {found[name] for name in ("missing", "duplicates", "broken lines", "wrong answers")} == {"0"}


def test_killed_before_its_journal_is_begun_it_begins_again(tmp_path: Path) -> None:
    with serving(tmp_path, 20) as job:
        # A sync, another one, half a manifest, a third sync; then, with a manifest that is whole, half the answers.
        for call in (0, 1, 2, 3, 0):
            assert not len(job.sim.ledger)
            code, err = job.run(failing=("die", call))
            assert (code, err) == (-9, "")
        # As many as were answered before the first lines went out.
        assert 0 < len(job.sim.ledger) <= 20
        code, err = job.run()
        assert code == 0, err
        assert job.is_whole()
        assert max(job.asked().values()) <= 2


def test_killed_with_an_answer_half_written_it_asks_about_that_row_again(tmp_path: Path) -> None:
    with serving(tmp_path, 20) as job:
        assert job.run()[0] == 0
        size = job.output.stat().st_size
        kept = job.kept()
        for cut in (1, 2, 300, len(job.output.read_bytes().splitlines()[-1]) + 1):
            os.truncate(job.output, size - cut)
            code, err = job.run()
            assert code == 0, err
            assert job.is_whole()
        # Where only the line end was gone, the answer still counted.
        assert [job.asked()[name] for name in kept[:-1]] == [1] * 19
        assert job.asked().total() == 20 + 3


def test_lines_of_rows_that_are_not_in_the_input_hide_none_that_is_left(tmp_path: Path) -> None:
    with serving(tmp_path, 20) as job:
        assert job.run("--limit", "15")[0] == 0
        code, err = job.run()
        assert code == 0, err
        assert "20 answered (15 by earlier runs)" in err
        lines = job.output.read_text().splitlines(keepends=True)
        foreign = [line.replace('"custom_id":"r', '"custom_id":"other-r') for line in lines[5:]]
        for kept in (lines[:5] + foreign, lines[:12] + foreign):
            job.output.write_text("".join(kept))
            code, err = job.run()
            assert code == 0, err
            names = [json.loads(line)["custom_id"] for line in job.output.read_text().splitlines()]
            assert sorted(name for name in names if not name.startswith("other")) == sorted(job.names)


# Interrupted


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_calls_in_flight_finish_and_loses_none(
    tmp_path: Path, number: signal.Signals, expected: int
) -> None:
    with serving(tmp_path, 600, latency=Latency.of(ttft=0.05)) as job:
        process = job.start("--concurrency", "8")
        until(lambda: len(job.sim.ledger) > 30, process)
        process.send_signal(number)
        code, err = finish(process)
        assert code == expected
        assert "finishing the calls in flight; Ctrl-C again stops at once" in err
        assert "run the same command to go on" in err
        assert 30 < len(job.kept()) < 600
        assert all(attempt.finished for attempt in job.sim.ledger)
        assert sorted(job.kept()) == sorted(job.asked())
        code, err = job.run()
        assert code == 0, err
        assert job.is_whole()
        assert set(job.asked().values()) == {1}


def test_a_second_ctrl_c_stops_at_once_and_keeps_what_was_answered(tmp_path: Path) -> None:
    stuck = Fault("stall", after=40, times=8)
    with serving(tmp_path, 100, faults=[stuck]) as job:
        process = job.start("--concurrency", "8")
        until(lambda: stuck.hits == 8, process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "Ctrl-C again" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        code, err = finish(process)
        assert code == 130
        assert "stopping at once" in err
        assert "40 rows done; run the same command to go on" in err
        assert len(job.kept()) == 40
        code, err = job.run()
        assert code == 0, err
        assert job.is_whole()
        assert job.asked().total() == 100 + 8


# In each other's way


def test_a_second_run_is_refused_in_one_line_and_the_first_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, 60, latency=Latency.of(ttft=0.2)) as job:
        first = job.start("--concurrency", "8")
        until(lambda: len(job.sim.ledger) > 0, first)
        # It stands still while the others start and are refused, which takes long on a busy machine.
        first.send_signal(signal.SIGSTOP)
        try:
            code, err = job.run()
            restarted = job.run("--restart")
        finally:
            first.send_signal(signal.SIGCONT)
        said = f"aimlasync: {job.output} is in use by another run; wait for it, or choose another -o\n"
        assert (code, err) == restarted == (2, said)
        code, err = finish(first)
        assert code == 0, err
        assert job.is_whole()
        assert set(job.asked().values()) == {1}


def test_killed_anywhere_on_its_way_to_a_table_of_today_it_loses_no_answer(tmp_path: Path) -> None:
    with serving(tmp_path, 20) as job:
        assert job.run()[0] == 0
        whole = job.names
        # Five rows go and come back, and the others move.
        for today in ([*whole[:4:-1], "r20"], [*whole, "r20"]):
            job.names = today
            job.write(today)
            before = len(job.sim.ledger)
            for call in range(100):
                code, err = job.run("--limit", "15", failing=("die", call))
                if code == 0:
                    break
                assert (code, err) == (-9, "")
                assert len(job.sim.ledger) == before
            assert 3 < call < 30
            code, err = job.run()
            assert code == 0, err
            assert job.is_whole()
        assert set(job.asked().values()) == {1}


def test_an_input_that_changes_meanwhile_is_said_and_what_was_answered_stays(tmp_path: Path) -> None:
    with serving(tmp_path, 40, latency=Latency.of(ttft=0.05)) as job:
        process = job.start("--concurrency", "4")
        until(lambda: len(job.sim.ledger) > 0, process)
        with job.input.open("a") as file:
            file.write("\n")
        code, err = finish(process)
        assert code == 2
        assert "changed during the run" in err
        assert job.is_whole()
        code, err = job.run()
        assert code == 0, err
        assert "has changed: 40 kept" in err
        assert set(job.asked().values()) == {1}


def test_an_id_that_is_there_twice_is_refused_before_any_call(tmp_path: Path) -> None:
    with serving(tmp_path, 30) as job:
        job.write([*job.names, "r7"])
        code, err = job.run()
        what = "'r7' is the id of an earlier row too; every row needs its own"
        assert (code, err) == (2, f"aimlasync: {job.input}: line 31: {what}\n")
        assert not len(job.sim.ledger)
        job.write(job.names)
        code, err = job.run()
        assert code == 0, err
        assert job.is_whole()


def test_a_restart_with_an_input_that_is_wrong_leaves_the_answers_alone(tmp_path: Path) -> None:
    with serving(tmp_path, 30) as job:
        assert job.run()[0] == 0
        before = job.output.read_bytes()
        job.write([*job.names, "r7"])
        code, err = job.run("--restart")
        assert code == 2
        assert "line 31" in err
        assert job.output.read_bytes() == before
        job.write(job.names)
        code, err = job.run()
        assert code == 0, err
        assert len(job.sim.ledger) == 30


# Disks


def no_room(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_journal_that_may_not_grow_stops_the_job_and_keeps_whole_lines(tmp_path: Path) -> None:
    with serving(tmp_path, 600) as job:
        code, err = job.run("--concurrency", "16", preexec_fn=lambda: no_room(200_000))
        assert (code, err) == (1, f"aimlasync: {job.output}: File too large\n")
        first = len(job.kept())
        assert 0 < first < 600
        assert job.output.stat().st_size <= 200_000
        assert job.asked().total() <= first + 16 + 256
        code, err = job.run()
        assert code == 0, err
        assert job.is_whole()
        assert job.asked().total() <= 600 + 16 + 256


def test_a_full_disk_stops_the_job_and_keeps_whole_lines(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        with serving(tmp_path, 600) as job:
            job.output = small / "out.jsonl"
            code, err = job.run("--concurrency", "16")
            assert (code, err) == (1, f"aimlasync: {job.output}: No space left on device\n")
            first = len(job.kept())
            assert 0 < first < 600
            subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
            code, err = job.run()
            assert code == 0, err
            assert job.is_whole()
            assert job.asked().total() <= 600 + 16 + 256
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_disk_that_cannot_sync_stops_the_job_and_what_was_written_stays(tmp_path: Path) -> None:
    with serving(tmp_path, 3000) as job:
        # The first three are of the manifest; the answers are synced every 1000 rows.
        code, err = job.run("--durability", "power", "--concurrency", "16", failing=("sync", 6))
        assert (code, err) == (1, f"aimlasync: {job.output}: Input/output error\n")
        first = len(job.kept())
        assert 0 < first < 3000
        code, err = job.run()
        assert code == 0, err
        assert job.is_whole()
        assert job.asked().total() <= 3000 + 16 + 256
