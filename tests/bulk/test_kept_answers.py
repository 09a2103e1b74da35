"""Jobs, batches and clients answer equal requests from one store, and count what was paid once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aimlasync import AsyncClient, bulk
from aimlasync.bulk.journal.record import Record, decode_record
from aimlasync.simulator import Simulator
from aimlasync.store import Cache, open_store
from tests.support.commands import run

MODEL = "openai/gpt-4.1-nano-2025-04-14"
ROWS = "id,text\na,my card was charged twice\nb,the app crashes\n"


@pytest.fixture
def sim(vendor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text(ROWS)
    return vendor(latency=None)  # type: ignore[no-any-return]


def command(*words: str) -> Any:
    return run(*words, "--progress", "none", "--model", MODEL)


def records_in(path: str) -> list[Record]:
    return [decode_record(line) for line in Path(path).read_bytes().splitlines()]


@pytest.mark.parametrize("store", ["answers.sqlite", "answers"])
def test_a_second_job_pays_for_nothing_that_a_first_one_asked(store: str, sim: Simulator) -> None:
    asked = ["bulk", "rows.csv", "--id", "id", "--prompt", "Say {text}", "--store", store]
    for output in ("one.jsonl", "two.jsonl"):
        done = command(*asked, "-o", output)
        assert done.exit_code == 0, done.stderr
    assert len(sim.ledger) == 2
    first, second = (
        [decode_record(line) for line in Path(name).read_bytes().splitlines()] for name in ("one.jsonl", "two.jsonl")
    )
    bodies = [
        {record.custom_id: bytes(record.response.body) for record in of if record.response} for of in (first, second)
    ]
    assert bodies[0] == bodies[1]
    facts = [record.info for record in second if record.info is not None]
    assert [(each.shared_with, each.attempts, each.tokens_in, each.cost_usd) for each in facts] == [
        ("(store)", 0, None, None)
    ] * 2
    assert "2 rows had the answer of an equal request, and cost nothing" in done.stderr or done.stderr == ""


def test_runs_on_simulators_of_their_own_share_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text(ROWS)
    for output in ("one.jsonl", "two.jsonl"):
        done = run(
            "bulk", "rows.csv", "--id", "id", "--prompt", "Say {text}", "--simulate", "--store", "a", "-o", output
        )
        assert done.exit_code == 0, done.stderr
        assert ("nothing was sent" in done.stderr) == (output == "two.jsonl"), done.stderr


def test_rows_that_go_to_standard_output_use_it_too(sim: Simulator) -> None:
    asked = ["classify", "rows.csv", "--labels", "billing,bug", "--store", "answers.sqlite"]
    streamed = command(*asked, "-o", "-")
    assert streamed.exit_code == 0, streamed.stderr
    assert command(*asked, "-o", "out.csv").exit_code == 0
    assert len(sim.ledger) == 2


def test_what_is_no_store_is_said_in_one_line(sim: Simulator) -> None:
    for store, said in (
        ("s3:/bucket", "--store: s3:/bucket: neither a path nor a URL"),
        ("nowhere://bucket", "--store: nowhere://bucket: "),
        ("redis://me:secret@host", "a password is never an argument"),
        ("rows.csv", "a file, and a store is a directory"),
        ("/dev/null", "--store: /dev/null: neither a file nor a directory, and a store is one; name another"),
        ("rows.csv/answers/all", "--store: 'rows.csv/answers/all': cannot be opened (Not a directory); name another"),
    ):
        done = command("bulk", "rows.csv", "--prompt", "Say {text}", "-o", "o.jsonl", "--store", store)
        assert (done.exit_code, said in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr
        assert "secret" not in done.stderr
    assert len(sim.ledger) == 0


async def test_a_client_a_batch_and_a_job_have_the_same_answers(sim: Simulator, tmp_path: Path) -> None:
    store = open_store(tmp_path / "answers.sqlite")
    asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Say one"}]}
    async with AsyncClient(cache=Cache(store, sampled=True)) as client:
        reply = await client.chat.completions.create(**asked)
        async with bulk.BatchChat(model=MODEL, prompt="Say {text}", store=store, add={"line": "record"}) as chat:
            out = await chat({"text": ["one", "two"]})
        records = [decode_record(line) for line in out["line"]]
        assert records[0].response is not None
        assert bytes(records[0].response.body) == reply.raw
        assert [record.info.shared_with for record in records if record.info] == ["(store)", None]
        two = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Say two"}])
        assert two.info.cached
    await store.close()
    assert len(sim.ledger) == 2


@pytest.mark.parametrize("retry_invalid", [0, 1])
async def test_an_answer_that_is_no_good_is_not_found_again(retry_invalid: int, vendor: Any, tmp_path: Path) -> None:
    said = iter(["nonsense", "more nonsense", '{"label":"billing"}'])
    sim = vendor(latency=None, answer=lambda _: next(said))
    cache = Cache(tmp_path / "answers", sampled=True)
    task = bulk.ClassifyTask(model=MODEL, labels={"billing": "", "bug": ""})
    request = task.request(bulk.Row(1, 1, {"text": "charged twice"}))
    async with AsyncClient(cache=cache) as client:
        results: list[bulk.Result] = []
        for _ in range(3 - retry_invalid):
            asked = bulk.map(client, [request], read=task.read, retry_invalid=retry_invalid)
            results.extend([result async for result in asked])
        assert (results[-1].label, len(sim.ledger)) == ("billing", 3)
        assert sum(result.attempts for result in results) == 3
        assert sum(result.cost_usd or 0 for result in results) == pytest.approx(sim.ledger.cost_usd)
        async for result in bulk.map(client, [request], read=task.read):
            assert (result.label, result.shared_with, result.attempts) == ("billing", "(store)", 0)
    await cache.close()
