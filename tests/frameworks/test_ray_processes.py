"""Processes of a Ray cluster that get no processor, and the simulator that the commands ask through them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import run

ray = pytest.importorskip("ray", reason="pip install 'aimlasync[ray]' runs these tests")

from aimlasync.bulk import BatchChat  # noqa: E402
from aimlasync.bulk.input.rows import Row  # noqa: E402
from aimlasync.bulk.journal.record import decode_record  # noqa: E402
from aimlasync.ray import Cluster  # noqa: E402
from aimlasync.ray.patience import Patience  # noqa: E402
from aimlasync.simulator import serve_in_thread  # noqa: E402

# Ray leaves sockets and files of its own to the collector, and some of its own calls are deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MODEL = "openai/gpt-5-nano-2025-08-07"


@pytest.fixture(scope="module")
def here() -> Iterator[None]:
    """A cluster of this machine."""
    if ray.is_initialized():
        ray.shutdown()
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
        # Ray's processes are nicer than all others, and beside a busy test they would not get on at all.
        _system_config={"worker_niceness": 0},
    )
    yield
    ray.shutdown()


def test_each_loss_doubles_the_patience_and_regular_news_takes_that_away() -> None:
    patience = Patience(60.0)
    for seconds in (60.0, 120.0, 240.0):
        assert patience.seconds == seconds
        patience.lost()
    for _ in range(600):
        patience.heard(1.0)
    assert patience.seconds == pytest.approx(60.0 + 420.0 / 2)
    for _ in range(36_000):
        patience.heard(0.1)
    assert 60.0 <= patience.seconds < 64.0


def test_a_silence_that_ended_may_come_again_and_be_longer() -> None:
    patience = Patience(60.0)
    patience.heard(50.0)
    assert patience.seconds == 100.0


def test_a_process_that_is_slow_to_say_anything_gets_on(
    here: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("aimlasync.ray.cluster._SILENCE", 0.5)

    class Starved(BatchChat):
        """One that gets no processor before it can say anything, whenever it is started."""

        rested = False

        def activity(self) -> tuple[int, str]:
            if not self.rested:
                self.rested = True
                time.sleep(1.2)
            return super().activity()

    with serve_in_thread() as simulator:
        chat = Starved(prompt="{id}: hello", model=MODEL, id_column="id", base_url=simulator.base_url, allow_http=True)
        environment = {"AIML_API_KEY": simulator.key}
        request = chat.task.request(Row(1, 1, {"id": "1"}))

        async def main() -> int:
            async with Cluster(chat, processes=1, environment=environment) as cluster:
                asked = asyncio.ensure_future(cluster.ask(request))
                # Beyond this a silence of hours would be waited for.
                while not asked.done() and cluster.lost < 16:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                assert asked.done()
                assert (await asked).error is None
                return cluster.lost

        assert asyncio.run(main()) >= 2
    assert "said nothing for 0 s and is replaced; none is left, and its requests wait for one" in caplog.text


def test_runs_on_simulators_of_their_own_share_a_store(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps({"id": f"r{n}"}) + "\n" for n in range(4)))
    words = ["bulk", "rows.jsonl", "--id", "id", "--prompt", "{id}", "--simulate", "--store", "answers"]
    found: dict[str, Any] = {}
    for out, more in (("here", ()), ("one", ("--ray", "")), ("two", ("--ray", ""))):
        done = run(*words, "-o", f"{out}.jsonl", *more)
        assert done.exit_code == 0, done.stderr
        records = [decode_record(line) for line in Path(f"{out}.jsonl").read_bytes().splitlines()]
        found[out] = {each.custom_id: each.response and bytes(each.response.body) for each in records}
    # Each answer has an id of its own, and says when it was made.
    assert found["here"] == found["one"] == found["two"]
    assert len(set(found["here"].values())) == 4
