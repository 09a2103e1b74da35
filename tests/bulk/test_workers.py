"""`bulk --workers N`: several processes do one job, and it is as safe as with one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from aimlasync import AsyncClient, bulk
from aimlasync.admission.adaptive import Learned
from aimlasync.admission.learned import Finding
from aimlasync.bulk import Shard
from aimlasync.bulk.input.source import open_source
from aimlasync.bulk.tasks.tasks import PromptTask
from aimlasync.bulk.workers.child import Worker, orders_of
from aimlasync.bulk.workers.messages import Orders, Report
from aimlasync.bulk.workers.parent import WorkerProcesses
from aimlasync.endpoints.learned_file import address, read
from aimlasync.endpoints.learned_limits import LearnedLimits, Told
from aimlasync.quota.server import LeaseServer, ServedQuota
from aimlasync.simulator import Fault, Latency, Simulator
from tests.support.commands import cities, finish, lines, run, start, table, until, write

Vendor = Callable[..., Simulator]

ASK = ("--prompt", "Where is {city}?")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def every_row_once(count: int, path: str = "out.jsonl") -> bool:
    return Counter(line["custom_id"] for line in lines(path)) == {f"row-{n}": 1 for n in range(1, count + 1)}


def beside() -> list[str]:
    """What lies in the directory."""
    return sorted(path.name for path in Path().iterdir())


def workers_of(pid: int) -> list[int]:
    """The processes that a process has begun, and still has."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        pytest.skip("this system does not say which processes a process has begun")
    return [int(child) for child in children.read_text().split()]


def is_of_first(text: str) -> bool:
    """Whether a request is about a row of the first of two workers."""
    return int(re.findall(r"City ([0-9]+)", text)[0]) // 8 % 2 == 0


def asked(sim: Simulator) -> int:
    return sim.ledger.by_status().get(200, 0)


def test_workers_answer_every_row_once_into_one_output(vendor: Vendor) -> None:
    sim = vendor()
    cities(60)
    code, out, err = finish(start("bulk", "in.csv", *ASK, "-o", "out.csv", "--workers", "2", "--rpm", "60000"))
    assert (code, out) == (0, ""), err
    assert len(sim.ledger) == 60
    assert [row["city"] for row in table("out.csv")] == [f"City {number}" for number in range(1, 61)]
    assert every_row_once(60, "out.csv.journal")
    assert beside() == ["in.csv", "out.csv", "out.csv.journal", "out.csv.journal.manifest", "out.csv.journal.outputs"]
    # One summary, of all.
    assert err.count("60 answered") == 1
    assert run("bulk", "in.csv", *ASK, "-o", "out.csv", "--rpm", "60000").exit_code == 0
    assert len(sim.ledger) == 60


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_another_worker_goes_on_where_one_was_killed(vendor: Vendor, number: signal.Signals) -> None:
    # The rows of the first worker are held up, once it has answers.
    held = Fault("slow_first_byte", delay=1.0, after=8, match=lambda request: is_of_first(request.text))
    sim = vendor(faults=[held])
    cities(80)
    process = start("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "8", "--workers", "2")
    until(lambda: held.hits >= 4)
    os.kill(workers_of(process.pid)[0], number)
    sim.faults = []
    code, _, err = finish(process)
    assert code == 0, err
    how = "was killed by signal 9" if number == signal.SIGKILL else "was ended by a signal"
    assert f"aimlasync: worker 1 of 2 {how}; another goes on in its place" in err.splitlines()
    assert every_row_once(80)
    # Of a killed one: its calls in flight, and a twentieth of a second of answers. One that was told drains.
    assert len(sim.ledger) - 80 <= (4 + 8 if number == signal.SIGKILL else 0)
    assert not [name for name in beside() if ".part-" in name]


class Dying:
    """A worker that is killed before it has begun."""

    def begin(self, address: str) -> None:
        """Do nothing."""

    def terminate(self) -> None:
        """Do nothing."""

    async def wait(self) -> int:
        """Be dead."""
        return -9


async def test_a_worker_that_is_killed_before_any_answer_is_not_started_for_ever(
    client: AsyncClient,
) -> None:
    cities(3)
    notes: list[str] = []
    workers = WorkerProcesses([Dying(), Dying()], lambda index, count: Dying())
    workers.note = notes.append
    task = PromptTask(prompt="Where is {city}?", model="openai/gpt-5-nano-2025-08-07")
    summary = await bulk.run(client, "in.csv", "out.jsonl", task=task, workers=workers)
    assert summary.left == 3
    assert "was killed by signal 9, 3 times before it had an answer" in str(summary.stopped_by)
    assert 2 <= len(notes) <= 4


def test_another_number_of_workers_goes_on(vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=0.1, tokens_per_second=4000))
    cities(160)
    words = ("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "16")
    process = start(*words, "--workers", "2")
    until(lambda: asked(sim) >= 30)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 143, err
    assert len(lines("out.jsonl")) == len(sim.ledger)
    code, _, err = finish(start(*words, "--workers", "3"))
    assert code == 0, err
    assert every_row_once(160)
    assert len(sim.ledger) == 160


def test_ctrl_c_drains_all_workers_and_nothing_is_asked_twice(vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=0.1, tokens_per_second=4000))
    cities(160)
    words = ("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "16", "--workers", "2")
    process = start(*words)
    until(lambda: asked(sim) >= 30)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    done = len(lines("out.jsonl"))
    assert f"aimlasync: interrupted, {done} rows done; run the same command to go on" in err
    assert done == len(sim.ledger) < 160
    code, _, err = finish(start(*words))
    assert code == 0, err
    assert every_row_once(160)
    assert len(sim.ledger) == 160


def test_a_second_ctrl_c_drops_what_is_in_flight(vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=60.0))
    cities(20)
    process = start("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "4", "--workers", "2")
    until(lambda: len(sim.ledger) == 4)
    process.send_signal(signal.SIGINT)
    # Two that come at once are one.
    assert process.stderr is not None
    assert "finishing the calls in flight" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert "stopping at once" in err


def test_what_workers_of_a_killed_command_had_is_taken_in_by_any_other_run(vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=0.1, tokens_per_second=4000))
    cities(120)
    words = ("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "16")
    process = start(*words, "--workers", "2")
    until(lambda: asked(sim) >= 30)
    workers = workers_of(process.pid)
    process.kill()
    process.wait()
    assert [name for name in beside() if ".part-" in name]
    assert lines("out.jsonl") == []
    # Its workers finish their calls in flight, and end; another run waits for that.
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    until(lambda: not any(is_alive(worker) for worker in workers))
    assert every_row_once(120)
    assert len(sim.ledger) == 120
    finish(process)
    assert not [name for name in beside() if ".part-" in name]


@pytest.mark.parametrize("is_told", [False, True])
def test_workers_of_a_killed_command_end_though_nobody_leases_to_them(vendor: Vendor, is_told: bool) -> None:
    sim = vendor(latency=Latency.of(ttft=0.1, tokens_per_second=4000))
    cities(2000)
    words = ("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "16", "--rpm", "600")
    process = start(*words, "--workers", "2")
    until(lambda: asked(sim) >= 10)
    workers = workers_of(process.pid)
    process.kill()
    if is_told:
        for worker in workers:
            os.kill(worker, signal.SIGTERM)
    _, _, err = finish(process)
    until(lambda: not any(is_alive(worker) for worker in workers))
    # Once for each of them.
    assert err.count("no lease of the shared quota") <= 2
    before = len(sim.ledger)
    code, _, err = finish(start(*words, "--limit", "1"))
    assert code == 0, err
    answers = [line["custom_id"] for line in lines("out.jsonl")]
    assert len(answers) == len(set(answers)) >= before - 1


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_restart_throws_the_parts_away_too(vendor: Vendor) -> None:
    sim = vendor()
    cities(10)
    words = ("bulk", "in.csv", *ASK, "-o", "out.jsonl")
    run(*words)
    Path("out.jsonl").rename("out.jsonl.part-1-of-2")
    manifest = Path("out.jsonl.manifest").read_text()
    Path("out.jsonl.part-1-of-2.manifest").write_text(manifest.replace('"job":{', '"job":{"part":"1/2",'))
    Path("out.jsonl.manifest").unlink()
    assert run(*words, "--restart").exit_code == 0
    assert len(sim.ledger) == 20
    assert beside() == ["in.csv", "out.jsonl", "out.jsonl.manifest"]


def test_a_manifest_whose_part_was_taken_in_is_no_hindrance(vendor: Vendor) -> None:
    vendor()
    cities(3)
    write("out.jsonl.part-1-of-2.manifest", '{"aimlasync":"journal","version":2,"job":{},"facts":{}}')
    assert run("bulk", "in.csv", *ASK, "-o", "out.jsonl").exit_code == 0
    assert beside() == ["in.csv", "out.jsonl", "out.jsonl.manifest"]


def test_parts_of_another_job_are_refused(vendor: Vendor) -> None:
    vendor()
    cities(10)
    write("out.jsonl.part-1-of-2", "")
    write("out.jsonl.part-1-of-2.manifest", '{"aimlasync":"journal","version":2,"job":{"task":"other"},"facts":{}}')
    write("out.jsonl.part-1-of-2", '{"id":"1"}\n')
    result = run("bulk", "in.csv", *ASK, "-o", "out.jsonl")
    assert result.exit_code == 2
    assert "belongs to another job" in result.stderr


def test_rows_that_failed_are_asked_again_and_their_cost_is_kept(vendor: Vendor) -> None:
    sim = vendor(faults=[Fault("status", status=422, times=5, after=5)])
    cities(20)
    words = ("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--workers", "2")
    code, _, err = finish(start(*words))
    assert code == 3, err
    assert "5 rows failed; the same command tries them again" in err
    assert sum(line["error"] is not None for line in lines("out.jsonl")) == 5
    code, _, err = finish(start(*words))
    assert code == 0, err
    assert every_row_once(20)
    assert len(sim.ledger) == 25


def test_caps_hold_for_all_workers_together(vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=0.01))
    cities(400)
    words = ("bulk", "in.csv", *ASK, "--params", '{"max_tokens": 60}', "--workers", "2")
    code, _, err = finish(start(*words, "-o", "usd.jsonl", "--max-usd", "0.002", "--price", "1,1"))
    assert code == 1
    assert "raise --max-usd" in err
    # A worker ends when none of them can reserve what a row may cost.
    assert 0.0015 < sim.ledger.cost_usd <= 0.002
    sim.ledger.clear()
    code, _, err = finish(start(*words, "-o", "tokens.jsonl", "--max-tokens", "3000"))
    assert code == 1
    assert "--max-tokens is used up" in err
    used = sum(attempt.prompt_tokens + attempt.completion_tokens for attempt in sim.ledger)
    # Rows in flight are taken to be like those before; what they differ by may pass the cap.
    assert 1500 < used <= 3000 * 1.05


def test_an_error_that_stops_the_job_stops_all_workers(vendor: Vendor) -> None:
    vendor(keys=["another"])
    cities(50)
    code, _, err = finish(start("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--workers", "2"))
    assert code == 1
    assert err.splitlines()[-1].startswith("aimlasync: stopped: HTTP 401")
    assert "check the key" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-", "-o", "out.jsonl", "--workers", "2"), "write it to a file first"),
        (("in.csv", "-o", "out.jsonl", "--workers", "2", "--dedupe"), "--dedupe"),
        (("in.csv", "-o", "out.jsonl", "--workers", "2", "--ray"), "--ray"),
        (("in.csv", "--workers", "2"), "--workers goes with a journal"),
    ],
)
def test_what_workers_cannot_do_is_said_in_one_line(vendor: Vendor, words: tuple[str, ...], said: str) -> None:
    vendor()
    cities(3)
    result = run("bulk", *words, *ASK, "--format", "csv", stdin="city\nRome\n")
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


class Reporting:
    """A worker that asks nothing, and reports what it was given as learned."""

    def __init__(self, index: int, learned: LearnedLimits) -> None:
        self._index = index
        self._learned = learned

    def begin(self, address: str) -> None:
        """Report, as a worker does."""
        self._task = asyncio.create_task(self._report(address))

    def terminate(self) -> None:
        """Do nothing."""

    async def wait(self) -> int:
        """Wait for the report."""
        await self._task
        return 0

    async def _report(self, address: str) -> None:
        quota = ServedQuota(address)
        link = await quota.connect()
        await orders_of(link, Shard(self._index, 2))
        await link.ask("report", Report(ended=True, learned=self._learned))
        await quota.close()


async def test_what_workers_learned_is_told_once_and_kept_for_all_of_them(
    client: AsyncClient, simulator: Simulator
) -> None:
    cities(3)
    model, place = "openai/gpt-5-nano-2025-08-07", address(simulator.base_url)
    found = [Told("one.example", True, Finding(requests_per_minute=rate)) for rate in (290.0, 310.0)]
    shares = [LearnedLimits({(place, model): Learned(8.0, rate=5.0)}, [each]) for each in found]
    first = [Reporting(index, share) for index, share in enumerate(shares, 1)]
    task = PromptTask(prompt="Where is {city}?", model=model)
    workers = WorkerProcesses(first, lambda index, count: Dying())
    summary = await bulk.run(client, "in.csv", "out.jsonl", task=task, workers=workers)
    assert summary.learned == (
        "one.example takes about 600 requests a minute: give --rpm 600 (Limits(requests_per_minute=600))",
    )
    assert read("out.jsonl.limits") == {(place, model): Learned(16.0, rate=10.0)}


def test_each_worker_starts_with_its_share_of_what_an_earlier_run_learned(vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=1.0))
    cities(40)
    model = "openai/gpt-5-nano-2025-08-07"
    entry = {"endpoint": address(sim.base_url), "model": model, "in_flight": 24.0, "rate": None, "at": 1}
    write("out.jsonl.limits", json.dumps({"version": 1, "learned": [entry]}))
    code, _, err = finish(start("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--model", model, "--workers", "2"))
    assert code == 0, err
    # Where nothing is known, each of the two begins with four.
    assert max(attempt.in_flight for attempt in [*sim.ledger][:12]) > 8
    # What was learned before stays as it was: nothing new has held.
    assert json.loads(Path("out.jsonl.limits").read_text())["learned"] == [entry]


async def test_the_share_of_one_of_two_workers_is_half(client: AsyncClient, simulator: Simulator) -> None:
    cities(40)
    model = "openai/gpt-5-nano-2025-08-07"
    known = {(address(simulator.base_url), model): Learned(41.0, rate=9.0)}
    write("out.jsonl", "")
    task = PromptTask(prompt="Where is {city}?", model=model)
    async with LeaseServer() as server:
        quota = ServedQuota(server.address)
        orders = Orders(job={}, journal="out.jsonl", learned=known)
        with closing(open_source("in.csv")) as source:
            worker = Worker(client, source, task, bulk.Options(), part=Shard(1, 2), orders=orders, quota=quota)
            worker.close()
        await quota.close()
    assert client._pipeline.balancer.upstreams[0].starts == {model: Learned(20.5, rate=4.5)}


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forks on Linux alone")
def test_workers_are_no_more_than_have_rows_and_forks_import_nothing_of_their_own(vendor: Vendor) -> None:
    vendor()
    cities(20)
    program = """
import sys
from aimlasync.cli import cli, worker_process
work = worker_process._work
def noted(*given):
    before = set(sys.modules)
    try:
        work(*given)
    finally:
        open("had" + given[0].partition("/")[0], "w").write(" ".join(set(sys.modules) - before))
worker_process._work = noted
cli(sys.argv[1:], prog_name="aimlasync")
"""
    words = ["bulk", "in.csv", *ASK, "-o", "out.jsonl", "--workers", "200"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_text() for path in Path().glob("had*")} == dict.fromkeys(("had1", "had2", "had3"), "")


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forks on Linux alone")
def test_a_signal_that_comes_while_a_worker_forks_is_not_lost() -> None:
    program = """
import asyncio, os, signal
from aimlasync.cli.ctrl_c import signals_interrupt
from aimlasync.cli.worker_process import WorkerProcess
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
with signals_interrupt():
    print(asyncio.run(WorkerProcess(1, 1, []).wait()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=600)
    assert (done.stdout, done.stderr) == ("143\n", "")
