"""Batches of rows, whatever holds them: answers as columns, no row raises, one client, nothing paid twice."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimlasync import (
    AimlasyncError,
    APIConnectionError,
    AsyncClient,
    AuthenticationError,
    ClientClosedError,
    Limits,
    Retry,
    Timeout,
    bulk,
)
from aimlasync.bulk import BatchChat, DirectoryStore, InputError, PromptError, loop_clients
from aimlasync.bulk.journal.convert import record_of, result_of
from aimlasync.bulk.journal.record import decode_record
from aimlasync.simulator import Fault, SimRequest, Simulator
from aimlasync.store import protocol
from tests.support.servers import KEY, until

MODEL = "openai/gpt-5-nano-2025-08-07"
LABELS = ["billing", "support"]
TEXTS = ["my card was charged twice", "", "it does not start", None]


@pytest.fixture(autouse=True)
def sim(vendor: Any) -> Simulator:
    started: Simulator = vendor()
    return started


def chat(**options: Any) -> BatchChat:
    return BatchChat(**{"model": MODEL, "labels": LABELS, **options})


# What goes in comes out, with more columns


async def test_a_dict_of_lists_comes_back_with_a_column_for_each_answer() -> None:
    async with chat() as ask:
        out: Any = await ask({"text": TEXTS, "n": [1, 2, 3, 4]})
    assert list(out) == ["text", "n", "label", "error", "error_message", "tokens_in", "tokens_out", "cost_usd"]
    assert out["label"] == ["billing", None, "support", None]
    assert out["error"] == [None, "EmptyTextError", None, "EmptyTextError"]
    # What nobody stated is not 0.
    assert out["tokens_in"][1] is None
    assert out["cost_usd"][3] is None
    assert out["tokens_in"][0] > 0


async def test_numpy_arrays_are_read_and_left_alone() -> None:
    np = pytest.importorskip("numpy", reason="pip install numpy runs this test")
    given = {"text": np.array(TEXTS, dtype=object), "n": np.arange(4)}
    async with chat() as ask:
        out = await ask(given)
    assert out["n"] is given["n"]
    assert out["label"] == ["billing", None, "support", None]


async def test_an_arrow_table_keeps_its_types_and_gets_typed_columns_even_where_all_are_missing() -> None:
    pa = pytest.importorskip("pyarrow", reason="pip install 'aimlasync[parquet]' runs this test")
    table = pa.table({"text": TEXTS[:1], "day": pa.array([1], pa.date32())})
    async with chat(add={"team": "label", "why": "error", "line": "record"}) as ask:
        out, empty = await ask(table), await ask(table.slice(0, 0))
    assert [str(field.type) for field in out.schema] == ["string", "date32[day]", "string", "string", "string"]
    assert out.schema == empty.schema
    assert out.column("team").to_pylist() == ["billing"]
    assert decode_record(out.column("line")[0].as_py()).error is None


def test_a_pandas_frame_keeps_its_index_and_an_empty_one_has_the_same_types() -> None:
    pd = pytest.importorskip("pandas", reason="pip install pandas runs this test")
    frame = pd.DataFrame({"text": TEXTS}, index=[7, 8, 9, 10])
    ask = chat()
    (out, empty) = ask.frames(iter([frame, frame.head(0)]))
    assert list(out.index) == [7, 8, 9, 10]
    assert list(out["label"]) == ["billing", pd.NA, "support", pd.NA]
    assert list(out.dtypes) == list(empty.dtypes)
    assert str(out["tokens_in"].dtype) == "Int64"


async def test_conversations_are_a_column_too_and_members_that_arrow_fills_in_are_not_sent(sim: Simulator) -> None:
    said = [[{"role": "user", "content": "hello", "name": None}], "hi", '[{"role": "user", "content": "hey"}]', 3, []]
    async with BatchChat(model=MODEL, messages="said", add={"reply": "answer", "why": "error"}) as ask:
        out = await ask({"said": said})
    assert list(out["why"]) == [None, None, None, "InputError", "InputError"]
    assert all(out["reply"][:3])
    assert len(sim.ledger) == 3


async def test_batch_lines_are_rows_and_keep_their_names() -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    given: Any = {"custom_id": ["a", "b", "c"], "body": [body, msgspec.json.encode(body).decode(), "no JSON"]}
    async with BatchChat(add={"id": "custom_id", "why": "error"}) as ask:
        out = await ask(given)
    assert out["id"][:2] == ["a", "b"]
    assert out["why"] == [None, None, "DecodeError"]


async def test_a_task_ready_made_asks_the_same(sim: Simulator) -> None:
    task = bulk.PromptTask(prompt="{text}", model=MODEL, id_column="id")
    options: dict[str, Any] = {"timeout": Timeout(total=5), "retry": Retry(attempts=2), "limits": Limits(concurrency=4)}
    async with BatchChat(task=task, add={"name": "custom_id", "reply": "answer"}, **options) as ask:
        out: Any = await ask({"text": ["hello"], "id": ["a"]})
    assert out["name"] == ["a"]
    assert out["reply"][0]


async def test_several_labels_are_a_list() -> None:
    pa = pytest.importorskip("pyarrow", reason="pip install 'aimlasync[parquet]' runs this test")
    async with chat(multi=True, add={"labels": "label"}) as ask:
        out = await ask(pa.table({"text": TEXTS[:2]}))
    assert str(out.schema.field("labels").type) == "list<item: string>"
    assert "billing" in out.column("labels").to_pylist()[0]


# What goes wrong


async def test_no_row_raises_whatever_the_server_says(sim: Simulator) -> None:
    sim.faults.append(Fault("status", status=400, message="not this one", times=1))
    async with chat() as ask:
        out = await ask({"text": ["my card was charged"] * 3})
    assert sorted(map(str, out["error"])) == ["BadRequestError", "None", "None"]
    assert out["label"].count("billing") == 2


async def test_a_column_that_is_not_there_is_everybodys_error(sim: Simulator) -> None:
    with pytest.raises(InputError, match="no column 'text'"):
        await chat()({"body": ["x"]})
    with pytest.raises(TypeError, match="a batch is a dict of lists, a frame or an Arrow table, not list"):
        await chat()([{"text": "x"}])
    with pytest.raises(PromptError, match="team"):
        await chat(prompt="{text} {team}")({"text": ["x"]})
    with pytest.raises(InputError, match="'label' already"):
        await chat()({"text": ["x"], "label": ["y"]})
    with pytest.raises(ValueError, match="known are"):
        chat(add={"a": "anwser"})
    with pytest.raises(ValueError, match="which model"):
        BatchChat(prompt="{text}")
    assert len(sim.ledger) == 0


@pytest.mark.parametrize("column", ["abc", b"abc", 7, None, {"a": 1}, iter(["abc"])])
async def test_one_row_is_no_batch_and_its_letters_are_no_rows(sim: Simulator, column: Any) -> None:
    with pytest.raises(InputError, match=r"'text': a column of a batch is a list of values, .* batched=True"):
        await chat()({"text": column})
    with pytest.raises(InputError, match="different lengths: 1 in 'text', 2 in 'team'"):
        await chat(prompt="{text} {team}")({"text": ["x"], "team": ["y", "z"]})
    assert len(sim.ledger) == 0


async def test_columns_named_by_numbers_and_parameters_of_numpy_are_read(vendor: Any) -> None:
    asked: list[Any] = []

    def answer(request: SimRequest) -> str:
        asked.append((request.text, request.body["max_tokens"], request.body["seed"]))
        return "yes"

    vendor(answer=answer)
    params = {"max_tokens": np.int64(50), "seed": np.int32(7)}
    for batch in (pd.DataFrame([["a", "b"]]), {0: ["a"], 1: ["b"]}):
        given: Any = batch
        async with BatchChat(model=MODEL, prompt="{0} {1}", params=params) as ask:
            assert (await ask(given))["answer"][0] == "yes"
    async with BatchChat(model=MODEL, messages="m", params=params) as ask:
        out: Any = await ask({"m": ["a b"]})
        assert out["answer"] == ["yes"]
    assert asked == [("a b", 50, 7)] * 3


async def test_a_frame_that_is_not_computed_is_no_batch() -> None:
    class Lazy:
        columns = ("text",)

    with pytest.raises(TypeError, match="a frame or an Arrow table, not Lazy"):
        await chat()(Lazy())


async def test_what_all_rows_would_meet_is_raised_where_that_is_wanted(vendor: Any) -> None:
    vendor(keys=["another"])
    async with chat() as ask:
        assert set((await ask({"text": ["a b"] * 3}))["error"]) == {"AuthenticationError"}
    async with chat(stop=True) as ask:
        with pytest.raises(AuthenticationError):
            await ask({"text": ["a b"] * 3})


async def test_a_server_that_is_gone_is_seen_over_all_batches_however_short(vendor: Any) -> None:
    vendor(faults=[Fault("reset")])
    async with chat(stop=True, retry=Retry(attempts=1)) as ask:
        for _ in range(3):
            assert set((await ask({"text": ["a", "b", "c"]}))["error"]) == {"APIConnectionError"}
        with pytest.raises(APIConnectionError):
            await ask({"text": ["a", "b", "c"]})


async def test_without_a_key_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIML_API_KEY")
    with pytest.raises(AimlasyncError, match="no API key"):
        await chat()({"text": ["x"]})


# Other processes


def test_what_is_pickled_has_no_key_in_it_and_asks_the_same(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"team": {"enum": LABELS}}}
    for ask in (
        chat(store=DirectoryStore(tmp_path), multi=True, confidence=True, shots=[("x", "billing")]),
        BatchChat(model=MODEL, schema=schema),
        BatchChat(model=MODEL, prompt="{text}", schema=schema, retry_invalid=1),
        BatchChat(model=MODEL, messages="m"),
    ):
        ask.sync({"text": ["hello"], "m": ["hello"]})
        data = pickle.dumps(ask)
        assert KEY.encode() not in data
        again = pickle.loads(data)
        assert again.task.identity() == ask.task.identity()
        assert again.add == ask.add
        assert KEY not in repr(ask)
        loop_clients.in_background(ask.close())


async def test_copies_in_one_process_and_loop_share_a_client_and_its_limits(vendor: Any) -> None:
    sim = vendor(latency=None)
    first = chat(limits=Limits(concurrency=2))
    second = pickle.loads(pickle.dumps(first))
    await asyncio.gather(*(each({"text": ["my card was charged"] * 8}) for each in (first, second, first)))
    assert sim.ledger.peak_in_flight <= 2
    assert len(sim.ledger) == 24
    assert len(loop_clients._clients[asyncio.get_running_loop()]) == 1
    await first.close()
    # Closing is no end: the next batch opens another.
    await second({"text": ["my card was charged"]})
    await second.close()


# Nothing is paid twice


async def test_rows_in_the_store_are_not_asked_again_and_failed_ones_are(sim: Simulator, tmp_path: Path) -> None:
    sim.faults.append(Fault("status", status=400, times=1))
    given = {"text": [f"{n}: my card was charged" for n in range(6)], "id": [*"abcdef"]}
    ask = chat(store=DirectoryStore(tmp_path), id_column="id")
    async with ask:
        first = await ask(given)
        assert first["error"].count("BadRequestError") == 1
        again = await pickle.loads(pickle.dumps(ask))(given)
    assert again["label"] == ["billing"] * 6
    assert len(sim.ledger) == 7
    # What it cost is told as it was.
    kept = [n for n, error in enumerate(first["error"]) if error is None]
    assert [again["cost_usd"][n] for n in kept] == [first["cost_usd"][n] for n in kept]


async def test_another_row_that_asks_the_same_has_the_answer_and_not_the_cost(sim: Simulator, tmp_path: Path) -> None:
    async with chat(store=DirectoryStore(tmp_path), id_column="id", add={"label": "label", "line": "record"}) as ask:
        await ask({"text": ["my card was charged"], "id": ["a"]})
        out = await ask({"text": ["my card was charged"], "id": ["b"]})
    record = decode_record(out["line"][0])
    assert (record.custom_id, out["label"]) == ("b", ["billing"])
    assert record.info is not None
    assert (record.info.shared_with, record.info.cost_usd) == ("a", None)
    assert len(sim.ledger) == 1


class Counted(DirectoryStore):
    """Says when so many answers are kept."""

    def __init__(self, path: Path, wanted: int) -> None:
        super().__init__(path)
        self.wanted = wanted
        self.kept = asyncio.Event()

    async def put(self, key: str, value: bytes, /) -> None:
        await super().put(key, value)
        self.wanted -= 1
        if not self.wanted:
            self.kept.set()


async def test_what_was_answered_before_a_cancel_is_kept(vendor: Any, tmp_path: Path) -> None:
    sim = vendor(faults=[Fault("stall", probability=1.0, match=lambda asked: "stay" in str(asked.body))])
    given = {"text": [*(f"{n}: my card was charged" for n in range(5)), "stay away"]}
    # Each answer as it came, and the row that it is of.
    store = Counted(tmp_path, 10)
    async with chat(store=store) as ask:
        task = asyncio.create_task(ask(given))
        await store.kept.wait()
        # The row that hangs was sent too.
        await until(lambda: len(sim.ledger) == 6)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sim.faults.clear()
        out = await ask(given)
    assert out["label"][:5] == ["billing"] * 5
    assert len(sim.ledger) == 7


async def test_a_drained_batch_keeps_what_it_sent_in_the_store_and_sends_nothing_more(
    sim: Simulator, tmp_path: Path
) -> None:
    given = {"text": [f"{n}: my card was charged" for n in range(20)]}
    # One call at once, and from the fifth on each takes its time: two answers are kept before all are sent.
    sim.faults = [Fault("slow_first_byte", delay=0.5, after=4)]
    store = Counted(tmp_path, 2)
    ask = chat(store=store, limits=Limits(concurrency=1))
    other = chat(store=store, limits=Limits(concurrency=1))
    task = asyncio.create_task(ask(given))
    await store.kept.wait()
    ask.drain()
    with pytest.raises(ClientClosedError, match="rows of the batch were not sent"):
        await task
    sent, sim.faults = len(sim.ledger), []
    assert sent < 20
    with pytest.raises(ClientClosedError):
        await ask({"text": ["20: another"]})
    assert len(sim.ledger) == sent
    # Another one that shares its client goes on, and asks for none of what was answered.
    assert (await other(given))["label"] == ["billing"] * 20
    assert len(sim.ledger) == 20
    await other.close()
    await ask.close()


class Gone:
    """A store that nobody can reach."""

    def __repr__(self) -> str:
        return "Gone()"

    async def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        raise OSError("no route")

    async def put(self, key: str, value: bytes, /) -> None:
        raise OSError("no route")

    async def close(self) -> None:
        pass


async def test_a_store_that_is_gone_costs_a_warning_and_no_answer(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_unreached", set())
    with caplog.at_level(logging.WARNING):
        async with chat(store=Gone()) as ask:
            out = await ask({"text": ["my card was charged"] * 3})
    assert out["label"] == ["billing"] * 3
    assert [record.message for record in caplog.records if "Gone" in record.message] == [
        "Gone() failed (no route): what is asked again is paid again"
    ]


# From a record back to its result


@given(st.sampled_from(["chat", "responses"]), st.sampled_from([None, 400, 503]), st.booleans())
def test_a_record_gives_its_result_back(api: Any, status: int | None, is_cut: bool) -> None:
    async def one() -> None:
        faults = [] if status is None else [Fault("status", status=status)]
        async with (
            Simulator(faults=faults) as sim,
            AsyncClient(api_key="k", base_url=sim.base_url, max_retries=0) as client,
        ):
            params = {"max_completion_tokens" if api == "chat" else "max_output_tokens": 16} if is_cut else None
            task = bulk.ClassifyTask(model=MODEL, labels=dict.fromkeys(LABELS, ""), endpoint=api, params=params)
            row = bulk.Row(1, 1, {"text": "my card was charged"})
            request = task.request(row)
            async for result in bulk.map(client, [request], read=task.read):
                before = record_of(result)
                after = record_of(result_of(before, request))
                assert before.info is not None
                assert after.info is not None
                after.info.at = before.info.at
                assert after == before

    asyncio.run(one())


async def test_servers_of_a_family_answer_for_each_other_from_the_store(vendor: Any, tmp_path: Path) -> None:
    given = {"text": ["my card was charged"], "id": ["a"]}
    asked = []
    for family in ("mine", "mine", None):
        sim: Simulator = vendor()
        async with chat(store=DirectoryStore(tmp_path), id_column="id", family=family) as ask:
            assert (await pickle.loads(pickle.dumps(ask))(given))["label"] == ["billing"]
        asked.append(len(sim.ledger))
    assert asked == [1, 0, 1]
