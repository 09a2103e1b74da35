"""Rows on a Ray cluster of several nodes on this machine: one of them dies, and nothing is lost or paid twice.

The simulator is in this process and the calls come from the cluster's: its ledger is the judge.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.commands import finish, last_line, run, start, table, until
from tests.support.servers import KEY

ray = pytest.importorskip("ray", reason="pip install 'aimlasync[ray]' runs these tests")

import pyarrow.parquet  # noqa: E402
from ray.cluster_utils import Cluster as Machines  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from aimlasync import AsyncClient, Limits, bulk  # noqa: E402
from aimlasync.admission.adaptive import Learned  # noqa: E402
from aimlasync.admission.learned import Finding  # noqa: E402
from aimlasync.bulk import BatchChat, DirectoryStore, InputError, OverwriteError  # noqa: E402
from aimlasync.bulk.input.rows import Row  # noqa: E402
from aimlasync.bulk.jobs.worker_pool import WORKERS  # noqa: E402
from aimlasync.bulk.journal.record import decode_record  # noqa: E402
from aimlasync.bulk.report import collect  # noqa: E402
from aimlasync.endpoints import learned_file  # noqa: E402
from aimlasync.endpoints.learned_file import address  # noqa: E402
from aimlasync.quota.protocol import Ask  # noqa: E402
from aimlasync.ray import (  # noqa: E402
    Cluster,
    RayQuota,
    classify_dataset,
    connect,
    map_dataset,
    read_dataset,
    shared_quota,
    unwritten,
    write_dataset,
)
from aimlasync.simulator import Fault, Latency, SimRequest, Simulator, serve_in_thread  # noqa: E402
from aimlasync.store.protocol import unsealed  # noqa: E402

# Ray leaves sockets and files of its own to the collector, and some of its own calls are deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MODEL = "openai/gpt-5-nano-2025-08-07"
LABELS = ["billing", "support"]
ROWS = 600
BLOCKS = 12
BATCH = 16
# Nobody reads what the processes print.
NODE = {"num_cpus": 2, "object_store_memory": 100_000_000, "include_log_monitor": False}
AT_ONCE = 16
"""Batches that Ray lets one process have at work."""


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with serve_in_thread(latency=Latency(first_token=0.3), keep_bodies=True) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def machines(sim: Simulator) -> Iterator[Any]:
    """A cluster of one node; its processes find the simulator through the environment."""
    # A dead node is missed within two seconds, not in half a minute.
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    # Ray's processes are nicer than all others, and beside a busy test they would not get on at all.
    soon["worker_niceness"] = 0
    with settings(sim):
        cluster = Machines(
            initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "_system_config": soon}
        )
        connect(cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest) -> None:
    """Begin with an empty ledger; a test that needs no cluster starts none."""
    if "sim" in request.fixturenames:
        request.getfixturevalue("sim").ledger.clear()


@contextmanager
def settings(sim: Simulator, key: str = KEY) -> Iterator[None]:
    """Nodes keep the environment that they are started with, and `no_vendor` has taken the keys out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIML_API_KEY", key)
        patch.setenv("AIML_API_URL", sim.base_url)
        yield


def line(number: int) -> str:
    return json.dumps({"id": f"r{number}", "text": f"{number}: my card was charged"}) + "\n"


def held_by(store: Path) -> set[str]:
    """The rows whose answers are in the store."""
    names = set()
    for path in store.glob("*/*"):
        value = None if path.name.startswith(".") else unsealed(path.parent.name + path.name, path.read_bytes())
        # Beside the record of a row is its answer as it came.
        if value is not None and value.startswith(b"{"):
            names.add(decode_record(value).custom_id)
    return names


class Victim:
    """Another node, taken away without a word while its processes certainly have batches at work.

    Nobody answers a fifth of the calls of its processes, so that none of their batches ends before the node does. It is
    taken away when one such call waits and the store has answers; `held` is what it had, `asked` what the node had
    asked for.
    """

    KEY = "key-of-the-victim"

    def __init__(self, machines: Any, sim: Simulator, store: Path) -> None:
        self.machines, self.sim, self.store = machines, sim, store
        self.held: set[str] = set()
        self.asked: set[str] = set()
        # Any batch has a multiple of 5: its rows are 16 in a row, or every twelfth.
        self.stall = Fault("stall", match=lambda request: self.is_caller(request) and number_of(request.body) % 5 == 0)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def is_caller(self, request: SimRequest) -> bool:
        if request.headers["Authorization"] != f"Bearer {self.KEY}":
            return False
        self.asked.add(f"r{number_of(request.body)}")
        return True

    def run(self) -> None:
        deadline = time.monotonic() + 600
        while not (self.stall.hits and self.held) and time.monotonic() < deadline:
            if self.over.wait(0.02):
                return
            self.held = held_by(self.store)
        self.machines.remove_node(self.node, allow_graceful=False)

    def __enter__(self) -> Victim:
        with settings(self.sim, self.KEY):
            self.node = self.machines.add_node(**NODE)
        self.sim.faults.append(self.stall)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.sim.faults.remove(self.stall)
        # The next test must not find a node that is dead and not missed yet.
        self.machines.wait_for_nodes(timeout=600)


def number_of(body: dict[str, Any]) -> int:
    """The number of the row that a request asks about: the text begins with it."""
    return int(body["messages"][-1]["content"].partition(":")[0])


def calls(sim: Simulator) -> Counter[str]:
    """Calls by row."""
    return Counter(f"r{number_of(attempt.body)}" for attempt in sim.ledger if attempt.body is not None)


def test_a_dataset_loses_no_row_to_a_dead_node_and_pays_for_none_that_the_store_held(
    machines: Any, sim: Simulator, tmp_path: Path
) -> None:
    parts, store = tmp_path / "rows", tmp_path / "store"
    parts.mkdir()
    for part in range(BLOCKS):
        (parts / f"{part}.jsonl").write_text("".join(map(line, range(part, ROWS, BLOCKS))))
    with Victim(machines, sim, store) as victim:
        labelled = classify_dataset(
            read_dataset(str(parts), "jsonl"),
            LABELS,
            model=MODEL,
            id_column="id",
            batch_size=BATCH,
            workers=1,
            store=DirectoryStore(store),
            # On the node that will die, and after that anywhere.
            remote={"scheduling_strategy": NodeAffinitySchedulingStrategy(victim.node.node_id, soft=True)},
        )
        write_dataset(labelled, str(tmp_path / "out"))
    with pytest.raises(OverwriteError, match="more beside them would make rows twice"):
        write_dataset(labelled, str(tmp_path / "out"))
    rows = pyarrow.parquet.read_table(tmp_path / "out").to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(f"r{n}" for n in range(ROWS))
    assert {(row["label"], row["error"]) for row in rows} == {("billing", None)}
    made = calls(sim)
    assert made.total() - ROWS <= BATCH * AT_ONCE
    assert victim.held
    assert {made[row] for row in victim.held} == {1}
    assert {row for row, times in made.items() if times > 1} <= victim.asked
    assert held_by(store) == {f"r{n}" for n in range(ROWS)}


def test_a_dataset_job_is_run_again_with_each_id_once(
    machines: Any, sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": n, "lang": "de" if n % 2 else "fr"} for n in range(40)]
    chat: dict[str, Any] = {"model": MODEL, "prompt": "{id}: hello", "id_column": "id", "workers": 1}
    # The processes of the cluster are in another directory.
    monkeypatch.chdir(tmp_path)
    out = "out"

    def job(rows: list[dict[str, Any]]) -> None:
        todo = unwritten(ray.data.from_items(rows, override_num_blocks=1), out, id_column="id")
        write_dataset(map_dataset(todo, **chat), out, mode="resume", partition_by=["lang"])

    def written() -> list[Any]:
        table = pyarrow.parquet.read_table(out)
        return sorted(zip(table["id"].to_pylist(), map(str, table["lang"].to_pylist()), strict=True))

    job(rows[:25])
    assert len(sim.ledger) == 25
    # A file that was cut off when a run died.
    torn = tmp_path / "out" / "lang=de" / "torn.parquet"
    torn.write_bytes(b"PAR1 and no end")
    job(rows)
    assert not torn.exists()
    assert len(sim.ledger) == 40
    assert written() == [(n, "de" if n % 2 else "fr") for n in range(40)]
    assert len(unwritten(read_dataset("out/lang=de", "parquet"), out, id_column="id").take_all()) == 0
    # Nothing of these is executed.
    whole = ray.data.from_items(rows)
    with pytest.raises(OverwriteError, match="more beside them would make rows twice"):
        write_dataset(whole, out, partition_by=["lang"])
    (tmp_path / "out" / "mine").mkdir()
    with pytest.raises(InputError, match="'mine' in it, which is no file of rows"):
        write_dataset(whole, out, mode="overwrite")
    with pytest.raises(ValueError, match="goes with format='parquet'"):
        write_dataset(whole, out, "csv", mode="resume")


def test_a_job_goes_on_when_a_node_dies_and_its_journal_is_whole(
    machines: Any, sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine those that live may say nothing for a minute. Ray tells of those that died.
    monkeypatch.setattr("aimlasync.ray.cluster._SILENCE", 600.0)
    path, out, store = tmp_path / "rows.jsonl", tmp_path / "out.jsonl", tmp_path / "store"
    path.write_text("".join(map(line, range(ROWS))))
    chat = BatchChat(model=MODEL, labels=LABELS, id_column="id", store=DirectoryStore(store))

    async def job() -> bulk.Summary:
        async with AsyncClient(api_key=KEY, base_url=sim.base_url) as client, Cluster(chat, processes=4) as cluster:
            # Two processes on each node: each has a processor to itself.
            await cluster.ready()
            summary = await bulk.run(client, path, out, task=chat.task, answerer=cluster)
            assert cluster.lost
            return summary

    with Victim(machines, sim, store) as victim:
        summary = asyncio.run(job())
    assert (summary.totals.ok, summary.left) == (ROWS, 0)
    records = [decode_record(text) for text in out.read_bytes().splitlines()]
    assert Counter(record.custom_id for record in records) == Counter(f"r{n}" for n in range(ROWS))
    made = calls(sim)
    # Two processes died.
    assert made.total() - ROWS <= 2 * WORKERS
    assert victim.held
    assert {made[row] for row in victim.held} == {1}
    assert {row for row, times in made.items() if times > 1} <= victim.asked
    assert collect(str(out)).ok == ROWS


def test_a_command_that_is_killed_loses_the_calls_in_flight_and_no_more(
    machines: Any, sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(map(line, range(40))))
    stall = Fault("stall", match=lambda request: number_of(request.body) % 5 == 0)
    sim.faults.append(stall)
    # Of 64 calls at once each process has room for all that hang.
    words = ["bulk", "rows.jsonl", "--prompt", "{text}", "--id", "id", "-o", "out.jsonl", "--concurrency", "64"]
    words += ["--ray", machines.address]

    def kept() -> Counter[str]:
        # The last line may be on its way.
        lines = Path("out.jsonl").read_bytes().split(b"\n")[:-1] if os.path.exists("out.jsonl") else []
        return Counter(decode_record(text).custom_id for text in lines)

    with settings(sim):
        process = start(*words)
        try:
            # Eight calls hang, and the answers of all others are in the journal while they do.
            while not (len(kept()) == 32 and stall.hits == 8):
                assert process.poll() is None
                time.sleep(0.05)
        finally:
            process.kill()
            process.communicate()
            sim.faults.remove(stall)
        assert run(*words).exit_code == 0
    assert kept() == Counter(f"r{n}" for n in range(40))
    assert calls(sim) == Counter({f"r{n}": 1 if n % 5 else 2 for n in range(40)})


def test_a_command_that_gets_a_signal_sends_nothing_more_and_keeps_all_that_it_sent(
    machines: Any, sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(map(line, range(40))))
    words = ["bulk", "rows.jsonl", "--prompt", "{text}", "--id", "id", "-o", "out.jsonl", "--ray", machines.address]
    with settings(sim):
        # All rows are in the cluster's processes, where most wait for the limit: for minutes, if they were to be sent.
        process = start(*words, "--rpm", "6")
        try:
            until(lambda: len(sim.ledger) > 0 or process.poll() is not None)
            process.send_signal(signal.SIGTERM)
            code, _, said = finish(process)
        finally:
            process.kill()
        assert (code, "interrupted, " in said) == (143, True), said
        sent = calls(sim)
        records = [decode_record(text) for text in Path("out.jsonl").read_bytes().splitlines()]
        assert Counter(record.custom_id for record in records if record.error is None) == sent
        assert len(sent) < 40
        assert run(*words, "--rpm", "6000").exit_code == 0
    assert calls(sim) == Counter(f"r{n}" for n in range(40))


async def becomes(what: Callable[[], bool]) -> None:
    """Wait for what a process of the cluster is about to tell."""
    async with asyncio.timeout(600):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_a_slow_row_delays_only_itself_and_a_cluster_tells_what_it_is_doing(machines: Any, sim: Simulator) -> None:
    chat = BatchChat(prompt="{id}: hello", model=MODEL, id_column="id")
    requests = [chat.task.request(Row(n, n, {"id": str(n)})) for n in range(40)]
    stall = Fault("stall", match=lambda request: number_of(request.body) % 20 == 0)
    sim.faults.append(stall)

    async def main() -> None:
        async with Cluster(chat, processes=1) as cluster:
            asked = [asyncio.create_task(cluster.ask(request)) for request in requests]
            # One batch holds a row that is not answered, and the others of it are.
            results = await asyncio.gather(*(task for n, task in enumerate(asked) if n % 20))
            assert [result.request.custom_id for result in results] == [str(n) for n in range(40) if n % 20]
            assert not any(asked[n].done() for n in (0, 20))
            # They may be asked again by a process that was thought lost.
            await becomes(lambda: cluster.activity().limits == ["input"] and cluster.activity().in_flight in (2, 4))
            for task in asked:
                task.cancel()

    try:
        asyncio.run(main())
    finally:
        sim.faults.remove(stall)


def test_a_process_that_is_frozen_is_lost_like_one_that_died(
    machines: Any, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aimlasync.ray.cluster._SILENCE", 3.0)
    chat = BatchChat(prompt="{id}: hello", model=MODEL, id_column="id")
    request = chat.task.request(Row(1, 1, {"id": "1"}))

    async def main() -> None:
        async with Cluster(chat, processes=1) as cluster:
            await cluster.ready()
            pid = await cluster._actors[0].__ray_call__.remote(lambda _: os.getpid())
            os.kill(pid, signal.SIGSTOP)
            result = await cluster.ask(request)
            assert result.error is None
            assert cluster.lost >= 1

    asyncio.run(main())


def test_processes_start_with_their_share_of_what_is_known_and_it_is_kept_what_they_learn(
    machines: Any, sim: Simulator, tmp_path: Path
) -> None:
    chat = BatchChat(prompt="{id}: hello", model=MODEL, id_column="id")
    path, out, limits = tmp_path / "rows.jsonl", tmp_path / "out.jsonl", tmp_path / "out.jsonl.limits"
    path.write_text("".join(map(line, range(40))))
    place = address(sim.base_url), MODEL
    learned_file.write(str(limits), {place: Learned(in_flight=41.0)})

    def upstream() -> Any:
        from aimlasync.bulk.loop_clients import _clients

        [[held]] = [mine.values() for mine in _clients.values()]
        return held.client._pipeline.balancer.upstreams[0]

    def starts(process: Any) -> Any:
        return upstream().starts

    def learn(process: Any) -> None:
        upstream().lane(MODEL).watch.learned = Finding(concurrency=7)

    async def ask_all(cluster: Any, what: Any) -> list[Any]:
        return await asyncio.gather(*[actor.__ray_call__.remote(what) for actor in cluster._actors])

    async def main() -> bulk.Summary:
        async with AsyncClient(api_key=KEY, base_url=sim.base_url) as client, Cluster(chat, processes=2) as cluster:
            await cluster.ready()
            await bulk.run(client, path, out, task=chat.task, options=bulk.Options(limit=20), answerer=cluster)
            assert await ask_all(cluster, starts) == [{MODEL: Learned(20.5)}] * 2
            await ask_all(cluster, learn)
            await becomes(lambda: len(cluster.learned().starts) > 0)
            return await bulk.run(client, path, out, task=chat.task, answerer=cluster)

    summary = asyncio.run(main())
    # Of each what it learned, and of all together as much as they have processes.
    assert learned_file.read(str(limits))[place].in_flight == 14.0
    assert [said.rpartition(": ")[2] for said in summary.learned] == ["give --concurrency 14 (Limits(concurrency=14))"]


def test_what_holds_the_processes_of_a_cluster_back_is_what_its_calls_wait_for(machines: Any, sim: Simulator) -> None:
    chat = BatchChat(
        prompt="{id}: hello",
        model=MODEL,
        id_column="id",
        limits=Limits(requests_per_minute=6),
        quota=shared_quota("slow"),
    )
    requests = [chat.task.request(Row(n, n, {"id": str(n)})) for n in range(5)]

    async def main() -> None:
        async with Cluster(chat, processes=1) as cluster:
            asked = [asyncio.create_task(cluster.ask(request)) for request in requests]
            await becomes(lambda: cluster.activity().limits == ["requests"])
            for task in asked:
                task.cancel()

    asyncio.run(main())


def test_the_commands_ask_through_a_cluster_and_leave_what_they_always_leave(
    machines: Any, sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(map(line, range(40))))
    with settings(sim):
        words = ["classify", "rows.jsonl", "--labels", "billing,support", "-o", "out.csv", "--rpm", "6000", "--ray"]
        done = run(*words)
        assert done.exit_code == 0, done.stderr
        assert "2 processes on 1 machine" in done.stderr
        assert "40 labelled" in done.stderr
        assert len(table("out.csv")) == 40
        assert len(sim.ledger) == 40
        # The processes leased the limit from one place.
        assert leased_from_the_cluster(Ask(worker="reader", requests_per_minute=None, tokens_per_minute=None)) == 6000
        # On one machine the answers on their way lie beside the output, until they are in the journal.
        beside = ["out.csv.journal", "out.csv.journal.manifest", "out.csv.journal.outputs"]
        assert sorted(os.listdir()) == ["out.csv", *beside, "rows.jsonl"]
        assert run("report", "out.csv.journal").exit_code == 0
        # Another machine or none: the same job.
        assert run(*words[:-1]).exit_code == 0
        assert len(sim.ledger) == 40


def leased_from_the_cluster(ask: Ask) -> float | None:
    """The limit of requests that holds in the place that the commands lease from."""

    async def main() -> float | None:
        quota = RayQuota("")
        lease = await quota.lease(ask)
        await quota.close()
        return lease.requests_per_minute

    return asyncio.run(main())


def test_the_place_of_a_cluster_that_was_lost_is_begun_again_and_told_what_holds(machines: Any) -> None:
    make = shared_quota("account")
    ask = Ask(worker="a", requests_per_minute=6_000, tokens_per_minute=None, calls=5)

    async def main() -> None:
        quota = make()
        first = await quota.lease(ask)
        assert (first.requests, first.requests_per_minute) == (5, 6_000)
        # A newer process raises the limit for all.
        assert (await quota.lease(msgspec.structs.replace(ask, worker="b", requests_per_minute=12_000))).version == 2
        assert (await quota.lease(msgspec.structs.replace(ask, epoch=first.epoch))).requests_per_minute == 12_000
        ray.kill(ray.get_actor("aimlasync leases"), no_restart=False)
        while (lease := await quota.lease(ask)).epoch == first.epoch or lease.epoch.startswith("alone"):
            assert lease.requests_per_minute == 12_000
            await asyncio.sleep(0.05)
        # The new place knows the limit and the last minute from the workers that return.
        assert (lease.requests_per_minute, lease.version) == (12_000, 2)
        assert lease.memory is not None
        assert sum(lease.memory.requests[3::2]) >= first.requests
        await quota.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rows.jsonl", "-o", "o.jsonl", "--quota", "redis://h"], "--quota shares what --rpm and --tpm allow"),
        (["rows.jsonl", "--rpm", "9", "--quota", "redis://:pw@h"], "set REDIS_URL everywhere and say --quota redis"),
        (["rows.jsonl", "--rpm", "9", "--quota", "h"], "--quota: url must be one of Redis: redis://host:6379/0"),
        (["rows.jsonl", "--rpm", "9", "--quota", "redis"], "--quota: no URL of a Redis: set REDIS_URL"),
        (["-o", "o.jsonl", "--ray", "rows.jsonl"], "that is a file, and no address; write FILE before --ray"),
        (["rows.jsonl", "-o", "o.jsonl", "--ray", "--max-usd", "1"], "--max-usd is kept by one process"),
        (["rows.jsonl", "-o", "o.jsonl", "--store", "s3:/bucket"], "--store: s3:/bucket: neither a path nor a URL"),
        (["rows.jsonl", "--ray"], "--ray goes with a journal"),
    ],
)
def test_what_a_cluster_cannot_do_is_said_in_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIML_API_KEY", KEY)
    Path("rows.jsonl").write_text(line(1))
    done = run("bulk", *words, "--prompt", "{text}")
    assert (done.exit_code, said in last_line(done)) == (2, True), done.stderr


def test_an_address_where_nobody_listens_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConnectionError, match="refused"):
        connect("127.0.0.1:1")


def test_what_answers_requests_loads_nothing_that_is_for_datasets() -> None:
    code = "import sys, aimlasync.ray; print(*{'ray', 'ray.data', 'pandas', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ray"]


def test_telemetry_is_off_unless_it_is_asked_for() -> None:
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
