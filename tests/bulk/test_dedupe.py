"""Identical requests: one call, whoever asks first, and whatever becomes of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync import AsyncClient
from aimlasync.bulk import BatchTask, ClassifyTask, Job, Options, Record, Request, Result, run
from aimlasync.bulk.jobs.dedupe import Repeats, SharedCalls, digest_of
from aimlasync.bulk.journal.record import decode_record
from aimlasync.chat.types import decode_completion
from aimlasync.errors import APIConnectionError
from aimlasync.simulator import Answer, Fault, Simulator
from aimlasync.simulator.vendor.request import SimRequest
from tests.support.servers import until

MODEL = "openai/gpt-5-nano"


def request(name: str, text: str) -> Request:
    return Request(custom_id=name, api="chat", body={"model": "m", "messages": [{"role": "user", "content": text}]})


def lines(*texts: str) -> list[Request]:
    made = [request(f"r{number}", text) for number, text in enumerate(texts)]
    for each in made:
        each.body["model"] = MODEL
    return made


def digests(*texts: str) -> set[str]:
    return {digest_of(request("x", text)) for text in texts}


def answered(asked: Request) -> Result:
    return Result(asked, decode_completion(b'{"choices": []}'), attempts=1)


def test_what_is_identical_is_decided_by_the_body_and_not_by_its_order_or_name() -> None:
    body = {"model": "m", "messages": [], "temperature": 0}
    turned = dict(reversed(body.items()))
    same = [Request(custom_id=name, api="chat", body=each) for name, each in (("a", body), ("b", turned))]
    others = [
        Request(custom_id="a", api="responses", body=body),
        Request(custom_id="a", api="chat", body={**body, "temperature": 1}),
        Request(custom_id="a", api="chat", body={**body, "n": None}),
        Request(custom_id="a", api="chat", body={**body, "tools": [{"properties": {"b": {}, "a": {}}}]}),
        Request(custom_id="a", api="chat", body={**body, "tools": [{"properties": {"a": {}, "b": {}}}]}),
    ]
    assert digest_of(same[0]) == digest_of(same[1])
    assert len({digest_of(each) for each in [*same, *others]}) == 6


@given(st.lists(st.sampled_from("abcdef")))
def test_only_what_comes_more_than_once_is_remembered(texts: list[str]) -> None:
    repeats = Repeats()
    for number, text in enumerate(texts):
        repeats.add(request(str(number), text))
    assert repeats.digests == digests(*(text for text, count in Counter(texts).items() if count > 1))


async def test_a_request_that_comes_once_is_asked_and_not_held() -> None:
    shared = SharedCalls(digests("twice"))

    async def call(_: Request) -> Result:
        return answered(request("a", "once"))

    for _ in range(3):
        assert (await shared.ask(call, request("a", "once"))).shared_with is None
    assert shared._calls == {}


async def test_who_asks_the_same_meanwhile_or_later_shares_the_call() -> None:
    shared, go, calls = SharedCalls(digests("x")), asyncio.Event(), 0

    async def ask(name: str) -> Result:
        async def call(_: Request) -> Result:
            nonlocal calls
            calls += 1
            await go.wait()
            return answered(request(name, "x"))

        return await shared.ask(call, request(name, "x"))

    tasks = [asyncio.ensure_future(ask(name)) for name in "abc"]
    await until(lambda: calls)
    go.set()
    first, *rest = await asyncio.gather(*tasks)
    rest.append(await ask("d"))
    assert calls == 1
    assert (first.custom_id, first.shared_with, first.attempts, first.calls) == ("a", None, 1, 1)
    assert [(one.custom_id, one.shared_with, one.attempts, one.calls) for one in rest] == [
        (name, "a", 0, 0) for name in "bcd"
    ]
    assert all(one.reply is first.reply for one in rest)


async def test_a_failure_that_is_over_by_itself_is_nobody_elses() -> None:
    shared, calls = SharedCalls(digests("x")), 0

    async def ask(name: str) -> Result:
        async def call(_: Request) -> Result:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0)
            if calls < 3:
                return Result(request(name, "x"), error=APIConnectionError("no"))
            return answered(request(name, "x"))

        return await shared.ask(call, request(name, "x"))

    results = await asyncio.gather(*(ask(name) for name in "abcde"))
    assert [(one.ok, one.shared_with) for one in results] == [
        (False, None),
        (False, None),
        (True, None),
        (True, "c"),
        (True, "c"),
    ]
    assert calls == 3


async def test_when_the_one_who_asked_is_cancelled_or_breaks_another_asks() -> None:
    shared, calls = SharedCalls(digests("x")), list[str]()

    async def ask(name: str) -> Result:
        async def call(_: Request) -> Result:
            calls.append(name)
            if name == "a":
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            if name == "b":
                raise ZeroDivisionError
            return answered(request(name, "x"))

        return await shared.ask(call, request(name, "x"))

    tasks = {name: asyncio.ensure_future(ask(name)) for name in "abcde"}
    await until(lambda: calls)
    tasks["d"].cancel()
    tasks["a"].cancel()
    done = await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert [type(one).__name__ for one in done] == [
        "CancelledError",
        "ZeroDivisionError",
        "Result",
        "CancelledError",
        "Result",
    ]
    assert calls == ["a", "b", "c"]
    assert isinstance(done[4], Result)
    assert done[4].shared_with == "c"


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.sampled_from("abc"), min_size=1, max_size=25),
    failures=st.integers(0, 4),
    seed=st.integers(0, 1000),
)
def test_whatever_fails_or_leaves_every_row_is_answered_and_no_text_is_asked_twice_in_vain(
    texts: list[str], failures: int, seed: int
) -> None:
    async def main() -> None:
        repeats, chance, left = Repeats(), random.Random(seed), failures
        asked = [request(str(number), text) for number, text in enumerate(texts)]
        for one in asked:
            repeats.add(one)
        shared, good = SharedCalls(repeats.digests), Counter[str]()

        async def ask(one: Request) -> Result:
            async def call(one: Request) -> Result:
                nonlocal left
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
                if left:
                    left -= 1
                    return Result(one, error=APIConnectionError("no"))
                good[digest_of(one)] += 1
                return answered(one)

            return await shared.ask(call, one)

        tasks = [asyncio.ensure_future(ask(one)) for one in asked]
        await asyncio.sleep(0)
        leaving = chance.randrange(len(tasks))
        tasks[leaving].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number, result in enumerate(results):
            if isinstance(result, BaseException):
                assert number == leaving
                continue
            assert result.custom_id == str(number)
            if result.shared_with is not None:
                assert texts[int(result.shared_with)] == texts[number]
        assert all(count == 1 for count in good.values())
        assert sum(isinstance(one, Result) and one.error is not None for one in results) <= failures

    asyncio.run(main())


async def test_a_job_asks_once_for_rows_that_are_alike(
    client: AsyncClient, simulator: Simulator, tmp_path: Path
) -> None:
    rows = [{"text": text} for text in ("refund", "crash", "refund", "", "refund", "crash", "plan", "")]
    labels = {"support": "", "billing": ""}
    seen: list[tuple[str, str | None]] = []

    def see(result: Result, record: Record) -> None:
        assert record.info is not None
        seen.append((record.custom_id, record.info.shared_with))

    summary = await run(
        client,
        rows,
        tmp_path / "out.jsonl",
        task=ClassifyTask(labels=labels, model=MODEL),
        options=Options(dedupe=True, concurrency=3),
        seen=see,
    )
    assert len(simulator.ledger) == summary.totals.attempts == summary.totals.answered == 3
    assert (summary.totals.ok, summary.totals.shared, summary.totals.replies, summary.totals.failed) == (6, 3, 3, 2)
    assert summary.totals.cost is not None
    assert abs(summary.totals.cost - simulator.ledger.cost_usd) < 1e-12
    assert {name for name, other in seen if other is not None} == {"row-3", "row-5", "row-6"}


@pytest.mark.parametrize(("how", "calls"), [("refused", 1), ("cut", 2)])
async def test_a_failure_that_is_the_rows_own_is_paid_for_once_in_a_run(tmp_path: Path, how: str, calls: int) -> None:
    def answer(asked: SimRequest) -> Answer:
        return Answer(text="so", finish_reason="length" if asked.text == "bad" and how == "cut" else "stop")

    faults = [Fault("status", status=400, match=lambda asked: asked.text == "bad")] if how == "refused" else []
    rows, path = lines("good", "bad", "bad", "good", "bad"), tmp_path / "out.jsonl"
    async with Simulator(answer=answer, faults=faults) as simulator:
        async with AsyncClient(api_key="k", base_url=simulator.base_url) as client:
            for number in (1, 2):
                options = Options(dedupe=True, concurrency=3, retry_invalid=1)
                totals = (await run(client, rows, path, task=BatchTask(judge=True), options=options)).totals
                assert (totals.ok, totals.failed, len(simulator.ledger)) == (2, 3, 1 + number * calls)
                assert totals.cost is not None
                assert abs(totals.cost - simulator.ledger.cost_usd) < 1e-12
    records = [decode_record(line) for line in path.read_bytes().splitlines()]
    assert {record.error.code for record in records if record.error is not None} == {
        "BadRequestError" if how == "refused" else "AnswerTruncatedError"
    }
    assert sum(record.info.attempts or 0 for record in records if record.info is not None) == len(simulator.ledger)


async def test_a_later_run_answers_from_the_journal_and_asks_nobody(
    client: AsyncClient, simulator: Simulator, tmp_path: Path
) -> None:
    rows = lines("x", "y", "x", "y", "z", "x")
    path = tmp_path / "out.jsonl"
    options = Options(dedupe=True, concurrency=1)

    def stop_early(result: Result, record: Record) -> None:
        if record.custom_id == "r1":
            jobs[0].interrupt()

    jobs: list[Job] = []
    first = await run(client, rows, path, options=options, begin=jobs.append, seen=stop_early)
    assert first.is_interrupted
    assert first.left >= 3
    asked, done = len(simulator.ledger), first.totals.ok
    second = await run(client, rows, path, options=options)
    assert (second.left, second.totals.ok, second.totals.ok_before) == (0, 6, done)
    assert len(simulator.ledger) == asked + (1 if done < 5 else 0) == 3
    assert second.totals.shared == 3


async def test_an_answer_that_failed_is_not_taken_from_the_journal(tmp_path: Path) -> None:
    faults = [Fault("status", status=404, times=1)]
    async with Simulator(faults=faults) as simulator:
        async with AsyncClient(api_key="k", base_url=simulator.base_url, max_retries=0) as client:
            rows, path = lines("x", "x", "x"), tmp_path / "out.jsonl"
            options = Options(dedupe=True, concurrency=1, canary=1)
            assert (await run(client, rows, path, options=options)).totals.failed == 1
            summary = await run(client, rows, path, options=Options(dedupe=True))
            assert (summary.totals.ok, summary.totals.failed, summary.totals.shared) == (3, 0, 2)
            assert len(simulator.ledger) == 2


async def test_every_answer_of_an_earlier_run_serves_those_who_ask_the_same(
    client: AsyncClient, simulator: Simulator, tmp_path: Path
) -> None:
    texts = [str(number) for number in range(40)]
    rows, path = lines(*texts, *texts), tmp_path / "out.jsonl"
    await run(client, rows, path, options=Options(dedupe=True, limit=40))
    summary = await run(client, rows, path, options=Options(dedupe=True))
    assert (len(simulator.ledger), summary.totals.shared, summary.totals.ok, summary.totals.attempts) == (40, 40, 80, 0)
