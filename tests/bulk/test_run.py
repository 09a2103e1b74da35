"""`bulk.run`: whatever ends it, every row is in the journal once, and the same call goes on from there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aimlasync import AsyncClient, InsufficientCreditError, Limits, Price
from aimlasync.bulk import (
    BatchTask,
    Caps,
    ClassifyTask,
    InputError,
    Job,
    JournalError,
    Options,
    PromptTask,
    Record,
    Request,
    Result,
    Row,
    Shard,
    Summary,
    Task,
    export,
    run,
)
from aimlasync.bulk.api import open_rows
from aimlasync.bulk.input.source import open_source
from aimlasync.bulk.jobs.runner import LocalRunner
from aimlasync.bulk.jobs.streamed import StreamedRows
from aimlasync.bulk.journal.record import decode_record
from aimlasync.bulk.progress.progress import Activity
from aimlasync.errors import AuthenticationError, BudgetExceededError, ClientClosedError, NotFoundError
from aimlasync.simulator import Answer, Fault, SimRequest, Simulator
from tests.support.servers import LEARNS_NOTHING, until

MODEL = "openai/gpt-5-nano"
LABELS = {"support": "", "billing": ""}


def lines(count: int) -> list[dict[str, Any]]:
    return [
        {
            "custom_id": f"r{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": MODEL, "messages": [{"role": "user", "content": f"text {number}"}]},
        }
        for number in range(count)
    ]


def client_of(simulator: Simulator, **options: Any) -> AsyncClient:
    return AsyncClient(**{"api_key": "k", "base_url": simulator.base_url, "max_retries": 0, **options})


def records(path: Path | str) -> list[Record]:
    return [decode_record(line) for line in Path(path).read_bytes().splitlines()]


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def fill(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def names(path: Path | str) -> list[str]:
    return sorted(record.custom_id for record in records(path))


def ids(count: int) -> list[str]:
    return sorted(f"r{number}" for number in range(count))


def is_idle(client: AsyncClient) -> bool:
    gate = client._pipeline.balancer.upstreams[0].limiter
    return gate.in_flight == gate.waiting == 0


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


# From rows to a journal


async def later(rows: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for row in rows:
        await asyncio.sleep(0)
        yield row


@pytest.mark.parametrize("kind", ["list", "iterator", "async", "requests", "file"])
async def test_every_row_has_one_line_in_the_journal(
    client: AsyncClient, simulator: Simulator, out: Path, tmp_path: Path, kind: str
) -> None:
    rows: Any = lines(30)
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    requests = [Request(custom_id=row["custom_id"], api="chat", body=row["body"]) for row in rows]
    given = {"list": rows, "iterator": iter(rows), "async": later(rows), "requests": requests, "file": file}[kind]
    kept: list[str] = []
    summary = await run(
        client, given, out, options=Options(concurrency=4), seen=lambda _, one: kept.append(one.custom_id)
    )
    assert names(out) == ids(30) == sorted(kept)
    assert (summary.total, summary.left, summary.totals.ok, summary.is_complete) == (30, 0, 30, True)
    assert (summary.totals.attempts, summary.totals.answered, summary.totals.replies) == (30, 30, 30)
    assert summary.totals.cost == pytest.approx(simulator.ledger.cost_usd)
    assert summary.totals.tokens_in == sum(attempt.prompt_tokens for attempt in simulator.ledger)
    assert (summary.journal, summary.output, summary.stopped_by) == (str(out), None, None)


async def test_the_same_call_again_asks_nobody_and_changes_nothing(
    client: AsyncClient, simulator: Simulator, out: Path
) -> None:
    first = await run(client, lines(12), out)
    before = bytes_of(out)
    again = await run(client, lines(12), out)
    assert bytes_of(out) == before
    assert len(simulator.ledger) == 12
    assert (again.totals.ok, again.totals.ok_before, again.totals.attempts, again.left) == (12, 12, 0, 0)
    assert again.totals.cost == pytest.approx(first.totals.cost)
    restarted = await run(client, lines(13), out, restart=True)
    assert (restarted.totals.ok, restarted.totals.ok_before) == (13, 0)


async def test_a_table_is_made_at_the_end_with_the_journal_beside_it(client: AsyncClient, tmp_path: Path) -> None:
    table, source = tmp_path / "out.csv", tmp_path / "in.csv"
    source.write_text("n,q\n1,one\n2,two\n")
    summary = await run(client, source, table, task=PromptTask(prompt="{q}", model=MODEL), columns=["n", "ok"])
    assert table.read_text() == "n,ok\n1,true\n2,true\n"
    assert (summary.output, summary.journal) == (str(table), f"{table}.journal")
    assert repr(summary) == f"<Summary 2 of 2 rows ok, 0 failed, 0 not done, journal {summary.journal!r}>"
    assert names(summary.journal) == ["row-1", "row-2"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"task": "Translate: {q}"}, "task= takes a task, such as PromptTask.*, not a str"),
        ({"options": {"dedupe": True}}, "options= takes Options, such as .*, not dict"),
        ({"columns": "answer"}, r"columns= takes a list of names, such as \['answer'\], not one text"),
    ],
)
async def test_what_is_of_another_kind_is_told_by_its_name(
    wrong: dict[str, Any], words: str, client: AsyncClient, simulator: Simulator, out: Path
) -> None:
    rows = out.with_name("in.csv")
    rows.write_text("q\n1\n")
    given = {"task": PromptTask(prompt="{q}", model=MODEL), **wrong}
    with pytest.raises(TypeError, match=words):
        await run(client, rows, out.with_name("out.csv"), **given)
    assert not simulator.ledger


async def test_a_task_of_one_s_own_may_have_no_columns(client: AsyncClient, out: Path) -> None:
    class Own(BatchTask):
        def __init__(self) -> None:
            super().__init__()
            del self.columns

    summary = await run(client, lines(2), out, task=Own())
    assert (summary.totals.ok, summary.left) == (2, 0)


def test_options_of_a_job_are_held_to_what_they_mean() -> None:
    with pytest.raises(ValueError, match="concurrency must be at least 1, not -1"):
        Options(concurrency=-1)
    with pytest.raises(TypeError, match="caps= takes Caps, such as"):
        Options(caps=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="shard= takes Shard, such as"):
        Options(shard="1/4")  # type: ignore[arg-type]


async def test_bad_input_is_refused_before_any_call(client: AsyncClient, simulator: Simulator, out: Path) -> None:
    csv = out.with_name("in.csv")
    csv.write_text("q\n1\n")
    twice = [*lines(3), lines(2)[1]]
    cases: list[tuple[Any, Task | None, str]] = [
        (twice, None, "line 4: 'r1' is the id of an earlier row too"),
        ([*lines(3), {"custom_id": "x"}], None, 'line 4: no "body"'),
        (csv, PromptTask(prompt="{gone}", model=MODEL), "no 'gone' in this row"),
        ([{"id": "a", "q": 1}, {"id": "", "q": 1}], PromptTask(prompt="{q}", model=MODEL, id_column="id"), "is empty"),
        (csv, None, 'in.csv: line 2: no "body" .*; rows of a table need a PromptTask'),
        (out.with_name("none.jsonl"), None, "no such file"),
    ]
    # What is read at once, and lines of another kind between, have each id once too.
    many = out.with_name("many.jsonl")
    many.write_bytes(b"".join(b"%s\n" % msgspec.json.encode(line) for line in lines(5000)))
    body = {"model": MODEL, "messages": []}
    for number, more in (4990, {}), (7, {}), (4990, {"more": 1}), (7, {"more": 1}):
        with many.open("ab") as file:
            place = file.tell()
            file.write(b"\n%s\n" % msgspec.json.encode({"custom_id": f"r{number}", "body": body} | more))
        with pytest.raises(InputError, match=f"line 5002: 'r{number}' is the id of an earlier row too"):
            await run(client, many, out)
        os.truncate(many, place)
    for number, (given, task, said) in enumerate(cases):
        with pytest.raises(InputError, match=said):
            await run(client, given, out.with_name(f"{number}.jsonl"), task=task)
    assert len(simulator.ledger) == 0


async def test_rows_that_cannot_be_written_down_leave_no_file_open(client: AsyncClient, out: Path) -> None:
    with pytest.raises(InputError, match=r"rows: line 1: a: cannot send a builtins\.object as JSON"):
        await run(client, [{"a": object()}], out)

    async def broken() -> AsyncIterator[dict[str, Any]]:
        yield {"a": 1}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(client, broken(), out)


# What fails


async def test_failed_rows_say_why_and_are_asked_again_with_one_line_left_of_each(out: Path) -> None:
    faults = [
        Fault("status", status=503, match=lambda request: request.text == "text 3", times=2),
        Fault("reset", match=lambda request: request.text == "text 5"),
    ]
    async with (
        Simulator(faults=faults) as simulator,
        client_of(simulator, max_retries=1, limits=LEARNS_NOTHING) as client,
    ):
        first = await run(client, lines(8), out)
        assert (first.totals.ok, first.totals.failed, first.left, first.is_complete) == (6, 2, 0, True)
        assert set(first.totals.failures) == {"InternalServerError", "APIConnectionError"}
        failures = {one.custom_id: one.error for one in records(out) if one.error is not None}
        # A kept connection that is reset at once is replaced once more.
        for name, status, attempts in (("r3", 503, (2,)), ("r5", None, (2, 3))):
            error = failures[name]
            assert error is not None
            assert error.status == status
            assert error.attempts in attempts
        kept = await run(client, lines(8), out, options=Options(keep_failed=True))
        assert (kept.totals.ok, kept.totals.failed, kept.left, kept.totals.attempts) == (6, 2, 0, 0)
        simulator.faults.clear()
        second = await run(client, lines(8), out)
        assert (second.totals.ok, second.totals.failed, second.totals.ok_before) == (8, 0, 6)
        assert names(out) == ids(8)
        assert all(one.error is None for one in records(out))
        assert {one.custom_id: one.info and one.info.attempts for one in records(out)}["r3"] == 3


async def test_what_failed_rows_cost_is_neither_forgotten_nor_counted_twice(out: Path) -> None:
    async with Simulator(answer=lambda request: "[]" if len(simulator.ledger) % 3 else None) as simulator:
        async with client_of(simulator) as client:
            task = ClassifyTask(labels=LABELS, model=MODEL)
            rows = [{"text": f"refund {number}"} for number in range(7)]
            for _ in range(12):
                summary = await run(client, rows, out, task=task, options=Options(retry_invalid=1))
                assert summary.totals.cost == pytest.approx(simulator.ledger.cost_usd)
                assert summary.totals.tokens_in == sum(one.prompt_tokens for one in simulator.ledger)
                kept = [one.info for one in records(out) if one.info is not None]
                assert sum(one.cost_usd or 0.0 for one in kept) == pytest.approx(simulator.ledger.cost_usd)
                assert sum(one.attempts or 0 for one in kept) == len(simulator.ledger)
                assert len(kept) == 7
                if not summary.totals.failed:
                    break
            assert summary.totals.ok == 7


async def test_a_good_answer_is_not_lost_to_an_older_failure_that_is_kept(out: Path) -> None:
    faults = [Fault("status", status=503, times=1)]
    async with Simulator(faults=faults) as simulator, client_of(simulator, limits=LEARNS_NOTHING) as client:
        assert (await run(client, lines(1), out)).totals.failed == 1

        def die(result: Result, record: Record) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await run(client, lines(1), out, seen=die)
        assert [one.error is None for one in records(out)] == [False, True]
        summary = await run(client, lines(1), out, options=Options(keep_failed=True))
        assert (summary.totals.ok, summary.totals.failed, summary.left) == (1, 0, 0)
        assert [one.error for one in records(out)] == [None]
        assert summary.totals.cost == pytest.approx(simulator.ledger.cost_usd)


async def test_journals_put_together_become_one_line_a_row(client: AsyncClient, out: Path) -> None:
    await run(client, lines(4), out)
    good = bytes_of(out)
    bad = good.replace(b'"error":null', b'"error":{"code":"X","message":"m"}')
    fill(out, bad + good + bad + good)
    summary = await run(client, lines(4), out)
    assert bytes_of(out) == good
    assert (summary.totals.ok, summary.totals.failed, summary.totals.replies, summary.totals.attempts) == (4, 0, 4, 0)


async def test_a_row_without_text_is_failed_once_and_never_sent(
    client: AsyncClient, simulator: Simulator, out: Path
) -> None:
    rows = [{"text": ""}, {"text": "refund"}]
    task = ClassifyTask(labels=LABELS, model=MODEL)
    for _ in range(2):
        summary = await run(client, rows, out, task=task)
        assert (summary.totals.ok, summary.left, set(summary.totals.failures)) == (1, 0, {"EmptyTextError"})
        assert len(simulator.ledger) == 1
    empty = next(one for one in records(out) if one.error is not None)
    assert empty.info is not None
    assert (empty.custom_id, empty.response, empty.info.attempts, empty.info.calls) == ("row-1", None, 0, 0)
    assert (empty.error and empty.error.attempts, empty.info.cost_usd) == (0, None)


class Breaking(BatchTask):
    """Fails in a way that nobody foresaw."""

    def request(self, row: Row) -> Request:
        if row.fields["custom_id"] == "r7" and not self.whole:
            raise ZeroDivisionError
        return super().request(row)

    def check(self, row: Row) -> None:
        pass

    whole = False


async def test_a_task_that_breaks_loses_nothing_that_is_answered(out: Path) -> None:
    async with Simulator() as simulator, client_of(simulator) as client:
        task = Breaking()
        with pytest.raises(ZeroDivisionError):
            await run(client, lines(20), out, task=task, options=Options(concurrency=4))
        answered = [one for one in simulator.ledger if one.finished]
        assert len(records(out)) == len(answered) == len(simulator.ledger) >= 7
        assert is_idle(client)
        task.whole = True
        await run(client, lines(20), out, task=task)
        assert names(out) == ids(20)
        assert len(simulator.ledger) == 20


# What stops a job


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (402, InsufficientCreditError)])
async def test_an_error_of_all_rows_stops_the_job_and_is_no_row(out: Path, status: int, kind: type[Exception]) -> None:
    faults = [Fault("status", status=status, after=5)]
    async with Simulator(faults=faults) as simulator, client_of(simulator) as client:
        stopped = await run(client, lines(40), out, options=Options(concurrency=2))
        assert isinstance(stopped.stopped_by, kind)
        assert (stopped.totals.ok, stopped.totals.failed, stopped.left, stopped.is_complete) == (5, 0, 35, False)
        assert len(simulator.ledger) <= 5 + 4
        faults.clear()
        simulator.faults.clear()
        whole = await run(client, lines(40), out)
        assert (whole.totals.ok, whole.stopped_by, whole.left) == (40, None, 0)
        assert names(out) == ids(40)


async def test_a_model_that_is_not_there_stops_rows_that_are_alike_and_fails_requests_one_by_one(out: Path) -> None:
    async with Simulator() as simulator, client_of(simulator) as client:
        rows = lines(3)
        rows[1]["body"]["model"] = "no/such-model"
        mixed = await run(client, rows, out)
        assert (mixed.totals.ok, mixed.totals.failed, mixed.stopped_by) == (2, 1, None)
        alike = await run(
            client,
            [{"q": number} for number in range(50)],
            out.with_name("alike.jsonl"),
            task=PromptTask(prompt="{q}", model="no/such-model"),
            options=Options(concurrency=1),
        )
        assert isinstance(alike.stopped_by, NotFoundError)
        assert (alike.left, alike.totals.failed) == (50, 0)
        assert len(simulator.ledger) <= 3 + 2


async def test_a_server_that_is_gone_stops_the_job_and_the_table_has_what_there_is(tmp_path: Path) -> None:
    async with Simulator(faults=[Fault("reset", after=3)]) as simulator, client_of(simulator) as client:
        source, table = tmp_path / "in.csv", tmp_path / "out.csv"
        source.write_text("q\n" + "".join(f"{number}\n" for number in range(40)))
        task = PromptTask(prompt="{q}", model=MODEL)
        summary = await run(client, source, table, task=task, options=Options(concurrency=1), columns=["q", "error"])
        assert type(summary.stopped_by).__name__ == "APIConnectionError"
        assert (summary.totals.ok, summary.totals.failed, summary.left) == (3, 9, 28)
        assert table.read_text().count("\n") == 1 + 3 + 9


# Caps


async def test_no_more_is_spent_than_allowed_over_all_runs(out: Path) -> None:
    prices = {MODEL: Price.per_million(input=1000, output=1000)}

    def body(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "body": {**row["body"], "max_completion_tokens": 100}}

    rows = [body(row) for row in lines(60)]
    async with Simulator() as simulator, client_of(simulator) as client:
        one = await run(client, rows[:1], out.with_name("one.jsonl"))
        assert one.totals.cost is not None
        cap = 20 * one.totals.cost
        spent = 0.0
        for _ in range(3):
            options = Options(concurrency=3, caps=Caps(max_usd=cap, prices={}))
            summary = await run(client, rows, out, options=options)
            assert summary.totals.cost is not None
            # Calls that were begun before the first answer showed a price were not reserved for.
            assert spent <= summary.totals.cost <= cap + 3 * one.totals.cost
            spent = summary.totals.cost
            assert isinstance(summary.stopped_by, BudgetExceededError)
            assert summary.left
        assert simulator.ledger.cost_usd == pytest.approx(spent + one.totals.cost)
        dear = Options(caps=Caps(max_usd=cap, prices=prices))
        asked = len(simulator.ledger)
        assert isinstance((await run(client, rows, out, options=dear)).stopped_by, BudgetExceededError)
        assert len(simulator.ledger) == asked


async def test_what_a_vendor_without_prices_took_is_counted_by_the_prices_given(out: Path) -> None:
    prices = {MODEL: Price.per_million(input=100, output=100)}
    rows = [{**row, "body": {**row["body"], "max_tokens": 50}} for row in lines(30)]
    async with Simulator(vendor="openai") as simulator, client_of(simulator) as client:
        spent = 0.0
        for _ in range(4):
            options = Options(concurrency=1, caps=Caps(max_usd=0.05, prices=prices))
            summary = await run(client, rows, out, options=options)
            assert isinstance(summary.stopped_by, BudgetExceededError)
            spent = 1e-4 * summary.totals.tokens_in + 1e-4 * summary.totals.tokens_out
            assert summary.totals.cost == pytest.approx(spent)
            assert summary.totals.at_price == summary.totals.ok
            assert spent <= 0.05
        assert spent > 0.03


async def test_an_answer_that_was_paid_for_is_kept_when_the_cap_forbids_to_ask_again(out: Path) -> None:
    async with Simulator(answer=lambda request: "nonsense") as simulator, client_of(simulator) as client:
        task = ClassifyTask(labels=LABELS, model=MODEL, params={"max_completion_tokens": 2000})
        one = await run(client, [{"text": "a"}], out.with_name("one.jsonl"), task=task)
        assert one.totals.cost is not None
        simulator.ledger.clear()
        caps = Caps(max_usd=1.5 * one.totals.cost)
        summary = await run(
            client, [{"text": "a"}], out, task=task, options=Options(concurrency=1, retry_invalid=3, caps=caps)
        )
        assert isinstance(summary.stopped_by, BudgetExceededError)
        assert summary.totals.cost == pytest.approx(simulator.ledger.cost_usd)
        assert summary.totals.answered == 1
        assert len(simulator.ledger) == len(records(out)) == 1


async def test_a_cap_on_tokens_ends_the_run_and_holds_over_the_next(out: Path) -> None:
    async with Simulator() as simulator, client_of(simulator) as client:
        one = await run(client, lines(1), out.with_name("one.jsonl"))
        each = one.totals.tokens_in + one.totals.tokens_out
        caps = Caps(max_tokens=10 * each)
        for _ in range(2):
            summary = await run(client, lines(40), out, options=Options(concurrency=1, caps=caps))
            assert summary.capped_by == "tokens"
            assert summary.left
            assert summary.totals.tokens_in + summary.totals.tokens_out <= 10 * each
        assert 5 <= summary.totals.ok == len(records(out)) == len(simulator.ledger) - 1


async def test_a_cap_that_is_met_with_the_last_row_has_capped_nothing(client: AsyncClient, out: Path) -> None:
    one = await run(client, lines(1), out.with_name("one.jsonl"))
    tight = Caps(max_tokens=one.totals.tokens_in + one.totals.tokens_out)
    summary = await run(client, lines(1), out, options=Options(caps=tight))
    assert (summary.left, summary.capped_by, summary.is_complete) == (0, None, True)


async def test_a_deadline_ends_the_run_and_calls_in_flight_may_finish(out: Path) -> None:
    async with Simulator(faults=[Fault("slow_first_byte", delay=0.15)]) as simulator, client_of(simulator) as client:
        options = Options(concurrency=3, caps=Caps(deadline=0.2))
        summary = await run(client, lines(30), out, options=options)
        assert summary.capped_by == "deadline"
        assert summary.totals.ok + summary.left == 30
        assert len(records(out)) == summary.totals.ok == len(simulator.ledger) < 30


# Interrupts


async def test_a_job_interrupted_before_its_start_asks_nobody(
    client: AsyncClient, simulator: Simulator, out: Path
) -> None:
    summary = await run(client, lines(5), out, begin=Job.interrupt)
    assert (summary.is_interrupted, summary.left, summary.totals.ok, summary.output) == (True, 5, 0, None)
    assert len(simulator.ledger) == 0
    source = await open_rows(lines(5))
    rows = StreamedRows(source, BatchTask(), Options(), write=lambda *_: None, flush=lambda: None)
    job = Job(rows, Options(), LocalRunner(client))
    job.interrupt()
    await job.run()
    source.close()
    assert (job.pending, len(simulator.ledger)) == (5, 0)


def test_a_stream_in_any_order_tells_rows_apart_by_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    line = {"custom_id": "a", "url": "/v1/responses", "body": {"model": MODEL, "input": "x"}}
    path.write_text("".join(json.dumps({**line, "custom_id": name}) + "\n" for name in ("a", "b", "a")))
    options: dict[str, Any] = {"write": lambda *_: None, "flush": lambda: None}
    with closing(open_source(str(path))) as source:
        with pytest.raises(InputError, match="line 3: 'a' is the id of an earlier row too"):
            StreamedRows(source, BatchTask(), Options(), **options, in_order=False)
        assert StreamedRows(source, BatchTask(), Options(), **options).totals.total == 3


async def test_an_interrupt_lets_calls_finish_and_a_second_one_drops_them(out: Path) -> None:
    faults = [Fault("stall", match=lambda request: request.text == "text 3")]
    async with Simulator(faults=faults) as simulator, client_of(simulator) as client:
        jobs: list[Job] = []
        running = asyncio.ensure_future(run(client, lines(50), out, options=Options(concurrency=4), begin=jobs.append))
        await until(lambda: jobs and len(simulator.ledger) >= 8)
        assert jobs[0].interrupt() is False
        await until(lambda: client._pipeline.balancer.upstreams[0].limiter.in_flight == 1)
        asked = len(simulator.ledger)
        assert not running.done()
        assert jobs[0].interrupt() is True
        summary = await running
        assert summary.is_interrupted
        assert len(simulator.ledger) == asked
        assert summary.totals.ok == len(records(out)) == asked - 1
        assert summary.left == 50 - summary.totals.ok
        assert is_idle(client)


@pytest.mark.parametrize("first", range(6))
async def test_it_may_be_cancelled_at_any_turn_of_the_loop(out: Path, first: int) -> None:
    def answer(request: SimRequest) -> Answer:
        return Answer(text=request.text)

    async with Simulator(answer=answer) as simulator, client_of(simulator) as client:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "warm"}])
        for turns in range(first, 240, 24):
            path = out.with_name(f"{turns}.jsonl")
            simulator.ledger.clear()
            kept: list[str] = []
            job = run(
                client,
                lines(9),
                path,
                options=Options(concurrency=3),
                seen=lambda _, one, kept=kept: kept.append(one.custom_id),  # type: ignore[misc]
            )
            task = asyncio.ensure_future(job)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            done = (await asyncio.gather(task, return_exceptions=True))[0]
            assert isinstance(done, (Summary, asyncio.CancelledError))
            assert is_idle(client)
            there = names(path) if path.exists() else []
            assert there == sorted(kept)
            whole = await run(client, lines(9), path)
            assert names(path) == ids(9)
            assert (whole.totals.ok, whole.totals.ok_before, whole.left) == (9, len(there), 0)
            asked = Counter(one.text_digest for one in simulator.ledger)
            # Only what was in flight when it was cancelled is asked again.
            assert sum(asked.values()) <= 9 + 3
            assert is_idle(client)


async def test_what_was_answered_when_the_caller_is_cancelled_is_kept(out: Path) -> None:
    async with Simulator() as simulator, client_of(simulator) as client:
        tasks: list[asyncio.Future[Any]] = []

        class Leaving(BatchTask):
            answered = 0

            def __init__(self) -> None:
                super().__init__(judge=True)
                judge = self.read
                assert judge is not None

                def read(reply: Any) -> Any:
                    self.answered += 1
                    if self.answered == 4:
                        # The reader is awake by then or about to be; this result is ready before it runs.
                        tasks[0].cancel()
                    return judge(reply)

                self.read = read

        task = Leaving()
        tasks.append(asyncio.ensure_future(run(client, lines(30), out, task=task, options=Options(concurrency=5))))
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        assert len(records(out)) == task.answered >= 4


# Parts of an input


async def test_gold_counts_rows_of_earlier_runs_too(client: AsyncClient, out: Path) -> None:
    rows = [{"text": text, "gold": "billing"} for text in ("refund", "crash", "invoice", "", "payment")]
    task = ClassifyTask(labels=LABELS, model=MODEL)
    whole = await run(client, rows, out.with_name("whole.jsonl"), task=task, options=Options(gold="gold"))
    first = await run(client, rows, out, task=task, options=Options(gold="gold", canary=2))
    assert first.totals.judged == 2
    second = await run(client, rows, out, task=task, options=Options(gold="gold"))
    assert second.totals.quality.pairs == whole.totals.quality.pairs
    assert (second.totals.judged, second.totals.right) == (4, whole.totals.right)
    third = await run(client, rows, out, task=task, options=Options(gold="gold"))
    assert third.totals.quality.pairs == whole.totals.quality.pairs


async def test_a_limit_counts_only_its_rows_and_may_grow(client: AsyncClient, simulator: Simulator, out: Path) -> None:
    for limit, asked in ((3, 3), (5, 5), (5, 5), (None, 8)):
        summary = await run(client, lines(8), out, options=Options(limit=limit))
        assert (summary.total, summary.left, summary.totals.ok) == (limit or 8, 0, limit or 8)
        assert len(simulator.ledger) == asked
    fewer = await run(client, lines(8), out, options=Options(limit=2))
    assert (fewer.total, fewer.left, len(simulator.ledger)) == (2, 0, 8)


async def test_shards_have_all_rows_between_them_and_none_twice(
    client: AsyncClient, simulator: Simulator, out: Path
) -> None:
    parts = []
    for number in range(1, 4):
        path = out.with_name(f"{number}.jsonl")
        shard = Shard.parse(f"{number}/3")
        first = await run(client, lines(40), path, options=Options(shard=shard, canary=4))
        assert (first.total or 0) - 4 == first.left
        summary = await run(client, lines(40), path, options=Options(shard=shard))
        assert (summary.total, summary.left) == (len(records(path)), 0)
        parts += names(path)
    assert sorted(parts) == ids(40)
    assert len(simulator.ledger) == 40
    with pytest.raises(JournalError):
        await run(client, lines(40), path)


async def test_a_dry_run_asks_about_a_few_rows_and_writes_no_table(client: AsyncClient, out: Path) -> None:
    table = out.with_suffix(".csv")
    summary = await run(client, lines(9), table, options=Options(canary=2))
    assert (summary.output, summary.left, summary.totals.ok, table.exists()) == (None, 7, 2, False)
    whole = await run(client, lines(9), table)
    assert (whole.output, whole.left, table.exists()) == (str(table), 0, True)


async def test_a_table_that_cannot_hold_an_answer_says_where_the_answers_are(tmp_path: Path) -> None:
    out = tmp_path / "out.xlsx"
    async with Simulator(answer=lambda _: Answer(text="long" * 10_000)) as simulator, client_of(simulator) as client:
        with pytest.raises(InputError, match="a cell holds 32,767; write") as raised:
            await run(client, lines(3), out)
    assert f"the answers are in {out}.journal, from which `aimlasync export` makes any table" in str(raised.value)
    assert export(f"{out}.journal", str(tmp_path / "out.csv")).ok == 3


async def test_an_input_that_changes_meanwhile_is_told(client: AsyncClient, tmp_path: Path, out: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in lines(3)))

    def change(result: Result, record: Record) -> None:
        with source.open("a") as file:
            file.write("\n")

    with pytest.raises(InputError, match="changed during the run"):
        await run(client, source, out, seen=change)
    assert names(out) == ids(3)


# A disk that is full

_FILLS = """
import asyncio, errno, resource, signal, sys
from aimlasync import AsyncClient
from aimlasync.bulk import run

async def main(base, rows, out, limit):
    async with AsyncClient(api_key="k", base_url=base) as client:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            await run(client, rows, out)
        except OSError as error:
            assert error.errno == errno.EFBIG, error
            assert error.filename == out, error
            print("stopped")

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE")
async def test_a_full_disk_stops_the_job_and_leaves_whole_lines_to_go_on_from(out: Path, tmp_path: Path) -> None:
    rows = tmp_path / "in.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in lines(60)))
    async with Simulator() as simulator, client_of(simulator) as client:
        command = [sys.executable, "-B", "-c", _FILLS, simulator.base_url, str(rows), str(out), "20000"]
        child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env={**os.environ})
        said, _ = await child.communicate()
        assert (said, child.returncode) == (b"stopped\n", 0)
        assert len(bytes_of(out)) <= 20_000
        written = names(out)
        assert 0 < len(written) < 60
        summary = await run(client, rows, out)
        assert names(out) == ids(60)
        assert (summary.totals.ok, summary.totals.ok_before, summary.left) == (60, len(written), 0)


async def test_rows_are_begun_only_as_they_can_be_sent(tmp_path: Path) -> None:
    jobs: list[Job] = []
    done = 0

    def seen(result: Result, record: Record) -> None:
        nonlocal done
        done += 1
        if done == 30:
            jobs[0].interrupt()

    async with Simulator() as simulator:
        async with client_of(simulator, limits=Limits(requests_per_minute=6000)) as client:
            output = tmp_path / "out.jsonl"
            summary = await run(client, lines(2000), output, begin=jobs.append, seen=seen)
        assert summary.is_interrupted
        assert len(simulator.ledger) <= 30 + 40
    assert len(names(output)) == len(simulator.ledger)


async def test_a_cap_of_money_is_used_although_calls_in_flight_might_cost_more(tmp_path: Path) -> None:
    price = Price.per_million(input=0.05, output=0.4)
    async with Simulator() as simulator:
        caps = Caps(max_usd=0.006, prices={MODEL: price})
        async with client_of(simulator, limits=Limits(concurrency=64)) as client:
            summary = await run(client, lines(2000), tmp_path / "out.jsonl", options=Options(caps=caps))
    assert isinstance(summary.stopped_by, BudgetExceededError)
    # What one more call might cost at worst is left.
    assert 0.006 - 4096 * 0.4e-6 - 0.0002 <= summary.totals.cost_usd <= 0.006


class Elsewhere:
    """Answers in the place of the client: not before it is drained."""

    workers = 9

    def __init__(self, expected: int) -> None:
        self.drained = asyncio.Event()
        self.asked = 0
        self.expected = expected
        self.all_asked = asyncio.Event()

    async def ask(self, request: Request, /) -> Result:
        self.asked += 1
        if self.asked == self.expected:
            self.all_asked.set()
        await self.drained.wait()
        raise ClientClosedError("drained")

    def drain(self) -> None:
        self.drained.set()

    def activity(self) -> Activity:
        return Activity(in_flight=self.asked, limits=["input"])


@pytest.mark.parametrize(("concurrency", "held_by"), [(2, "concurrency"), (9, "input")])
async def test_processes_elsewhere_that_want_more_rows_are_held_back_by_the_jobs_concurrency(
    concurrency: int, held_by: str, client: AsyncClient, tmp_path: Path
) -> None:
    elsewhere, jobs = Elsewhere(min(concurrency, 5)), list[Job]()
    rows = [{"city": f"City {n}"} for n in range(5)]
    task = PromptTask(prompt="Where is {city}?", model=MODEL)
    options = Options(concurrency=concurrency)

    async def look() -> None:
        await elsewhere.all_asked.wait()
        # The workers that found no row are about to say so.
        await until(lambda: jobs[0].snapshot().limited_by == held_by)
        jobs[0].interrupt()

    looking = asyncio.create_task(look())
    out = tmp_path / "out.jsonl"
    summary = await run(client, rows, out, task=task, options=options, answerer=elsewhere, begin=jobs.append)
    await looking
    assert summary.left == 5
