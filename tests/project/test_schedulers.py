"""What the guide gives to Kubernetes, Slurm and systemd runs as they run it, and goes on after SIGTERM."""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aimlasync.bulk.input.shard import Shard
from aimlasync.simulator import Fault, SimRequest, Simulator
from tests.support.commands import lines, run, write
from tests.support.pages import GUIDE, blocks

Vendor = Callable[..., Simulator]
Start = Callable[..., "subprocess.Popen[str]"]

ROWS = [f"r{number}" for number in range(40)]
FILES = {block.file: block.code for block in blocks(GUIDE / "schedulers.md") if block.file is not None}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with the rows, and the commands that a scheduler's machine has."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    for name, does in (
        ("aimlasync", f'exec {shlex.quote(sys.executable)} -m aimlasync "$@"'),
        ("scontrol", 'echo "$@" >> scontrol.log'),
    ):
        path = Path(write(f"bin/{name}", f"#!/bin/sh\n{does}\n"))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    write("rows.csv", "id,text\n" + "".join(f"{name},word {name}\n" for name in ROWS))


@pytest.fixture
def begin() -> Iterator[Start]:
    """Start a process that is gone after the test, with what it has started."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*words: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            words, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


class Held:
    """Lets a simulator answer nothing from the fifth request until it is released."""

    def __init__(self) -> None:
        self.fault = Fault("stall", match=self._hold)
        self.reached, self.released = threading.Event(), threading.Event()
        self._seen = 0

    def _hold(self, request: SimRequest) -> bool:
        self._seen += 1
        if self._seen == 5:
            self.reached.set()
            self.released.wait(600)
        return False


def drains(process: subprocess.Popen[str], held: Held) -> bool:
    """Whether a process that has SIGTERM while calls are in flight finishes them, and exits with 143."""
    assert held.reached.wait(600)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    for line in process.stderr:
        if "finishing the calls in flight" in line:
            break
    held.released.set()
    return process.wait() == 143


def is_whole(path: str, part: str) -> bool:
    """Whether a journal has each row of the part once."""
    names = sorted(line["custom_id"] for line in lines(path))
    return len(names) > 4 and names == sorted(name for name in ROWS if Shard.parse(part).owns(name))


def test_a_pod_of_an_indexed_job_drains_and_another_goes_on(vendor: Vendor, begin: Start) -> None:
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml runs this test")
    job: dict[str, Any] = yaml.safe_load(FILES["ask.yaml"])
    assert (job["kind"], job["spec"]["completionMode"], job["spec"]["completions"]) == ("Job", "Indexed", 4)
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    held = Held()
    sim = vendor(faults=[held.fault])
    words = (*container["command"], *container["args"])
    assert drains(begin(*words, JOB_COMPLETION_INDEX="1"), held)
    assert begin(*words, JOB_COMPLETION_INDEX="1").wait() == 0
    assert is_whole("part2.jsonl", "2/4")
    assert len(sim.ledger) == len(lines("part2.jsonl"))


def test_a_task_of_an_array_job_drains_and_queues_itself_again(vendor: Vendor, begin: Start) -> None:
    held = Held()
    sim = vendor(faults=[held.fault])
    write("ask.slurm", FILES["ask.slurm"])
    assert "#SBATCH --array=1-4\n" in FILES["ask.slurm"]
    slurm = {"SLURM_ARRAY_JOB_ID": "71", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_ID": "3"}
    assert drains(begin("bash", "ask.slurm", **slurm), held)
    assert Path("scontrol.log").read_text() == "requeue 71_3\n"
    assert begin("bash", "ask.slurm", **slurm).wait() == 0
    assert is_whole("part3.jsonl", "3/4")
    assert len(sim.ledger) == len(lines("part3.jsonl"))
    assert Path("scontrol.log").read_text() == "requeue 71_3\n"


def test_the_unit_of_a_spot_machine_is_read_and_its_command_too(vendor: Vendor) -> None:
    vendor()
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(FILES["ask.service"])
    service = unit["Service"]
    assert (service["SuccessExitStatus"], service["RestartPreventExitStatus"]) == ("143", "2")
    words = shlex.split(service["ExecStart"])
    assert words[0].endswith("/aimlasync")
    pytest.importorskip("fsspec", reason="pip install 'aimlasync[fsspec]' runs this test")
    # The bucket is a directory here.
    bucket = f"file://{Path.cwd()}/"
    (Path.cwd() / "machine").mkdir()
    os.chdir("machine")
    words = [word.replace("s3://bucket/", bucket) for word in words[1:] if word not in ("--workers", "2")]
    assert run(*words).exit_code == 0
    assert len(lines("../all.jsonl")) == 40
