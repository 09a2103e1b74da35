"""Jobs go on past rows that cannot be answered and calls that hang, and stop where going on makes no sense."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aimlasync import AsyncClient, Price
from aimlasync.bulk import Caps, Job, Options, PromptTask, Summary, run
from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.jobs.probes import PROBES, sampled
from aimlasync.bulk.jobs.stop_rules import is_to_come_back
from aimlasync.bulk.journal.record import decode_record, encode_record
from aimlasync.bulk.progress.totals import Day
from aimlasync.cli.run_job import come_back
from aimlasync.errors import AimlasyncError, InternalServerError, OverloadedError, RateLimitError
from aimlasync.simulator import Fault, SimRequest, Simulator
from tests.support.commands import cities, ended, finish, lines, start, until
from tests.support.commands import run as command

Vendor = Callable[..., Simulator]

MODEL = "openai/gpt-5-nano"
TOO_LONG = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens."
WRONG = "Unsupported value: 'temperature' does not support 0.2 with this model."
ASK = ("--prompt", "Where is {city}?")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def number_of(request: SimRequest) -> int:
    found = re.search(r"(\d+)", request.text)
    assert found is not None
    return int(found[1])


def refusing(message: str, match: Callable[[int], bool]) -> Fault:
    return Fault("status", status=400, message=message, match=lambda request: match(number_of(request)))


def kept() -> dict[str, str | None]:
    """The rows of the journal, and the code of the error of each."""
    found = [decode_record(line) for line in Path("out.jsonl").read_bytes().splitlines()]
    return {record.custom_id: None if record.error is None else record.error.code for record in found}


async def job(
    simulator: Simulator, count: int, *, output: str = "out.jsonl", restart: bool = True, **options: Any
) -> Summary:
    rows = [{"city": f"City {number}"} for number in range(1, count + 1)]
    task = PromptTask(prompt="{city}", model=MODEL)
    async with AsyncClient(api_key="k", base_url=simulator.base_url, max_retries=0) as client:
        return await run(client, rows, output, task=task, options=Options(**options), restart=restart)


# Rows that are refused


@pytest.mark.parametrize("message", [TOO_LONG, WRONG, "Invalid prompt: flagged by our safety system."])
@pytest.mark.parametrize("concurrency", [1, 8])
async def test_rows_that_are_refused_do_not_keep_the_others_from_being_asked(message: str, concurrency: int) -> None:
    async with Simulator(faults=[refusing(message, lambda number: number <= 100)]) as simulator:
        summary = await job(simulator, 300, concurrency=concurrency)
        assert (summary.totals.ok, summary.totals.failed, summary.left) == (200, 100, 0)
        assert summary.stopped_by is None
        assert len(simulator.ledger) == 300
    found = kept()
    assert len(found) == 300
    assert {found[f"row-{number}"] for number in range(1, 101)} == {"BadRequestError"}


async def test_where_all_but_the_shortest_rows_are_too_long_those_are_found() -> None:
    rows = [{"city": "City 1 " + "x" * (1000 - number)} for number in range(999)]
    fault = Fault("status", status=400, message=TOO_LONG, match=lambda request: len(request.text) > 20)
    async with (
        Simulator(faults=[fault]) as simulator,
        AsyncClient(api_key="k", base_url=simulator.base_url, max_retries=0) as client,
    ):
        summary = await run(client, rows, "out.jsonl", task=PromptTask(prompt="{city}", model=MODEL))
        assert summary.totals.ok == len([row for row in rows if len(row["city"]) <= 20])
        assert (summary.left, summary.stopped_by) == (0, None)


@pytest.mark.parametrize("message", [TOO_LONG, WRONG])
async def test_a_request_that_is_wrong_for_every_row_still_stops_early(message: str) -> None:
    async with Simulator(faults=[refusing(message, lambda _: True)]) as simulator:
        summary = await job(simulator, 1000, concurrency=4)
        assert type(summary.stopped_by).__name__ == "BadRequestError"
        assert len(simulator.ledger) <= (50 if message == TOO_LONG else 3) + 4 + PROBES + 1
        assert summary.left > 900


async def test_a_request_that_is_wrong_for_the_few_rows_there_are_stops_too() -> None:
    async with Simulator(faults=[refusing(WRONG, lambda _: True)]) as simulator:
        for count in (3, 5, 12):
            summary = await job(simulator, count, concurrency=2)
            assert type(summary.stopped_by).__name__ == "BadRequestError"


async def test_workers_get_past_refused_rows_too(vendor: Vendor) -> None:
    vendor(faults=[refusing(TOO_LONG, lambda number: number <= 100)])
    cities(300)
    code, _, err = finish(start("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--workers", "2"))
    assert code == 3, err
    assert "200 answered, 100 failed" in err


def test_a_sample_is_of_all_rows_alike() -> None:
    rows = [Row(number, number, {}) for number in range(1, 1001)]
    seen: list[Row] = []

    def sample(size: int) -> list[Row]:
        sampling = sampled(iter([None, *rows]), size, see=seen.append)
        while True:
            try:
                next(sampling)
            except StopIteration as end:
                found: list[Row] = end.value
                return found

    found = sample(200)
    assert len({row.number for row in found}) == 200
    assert [row.number for row in found] == sorted(row.number for row in found)
    # Within three standard errors of the mean.
    assert abs(sum(row.number for row in found) / 200 - 500) < 3 * 289 / 200**0.5
    assert sample(200) == found
    assert sample(2000) == rows
    assert len(seen) == 3000


# Limits by the day


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (RateLimitError("slow down", status=429), False),
        (RateLimitError("slow down", status=429, retry_after=60), False),
        (RateLimitError("slow down", status=429, retry_after=28_800), True),
        (InternalServerError("down", status=503, retry_after=7200), True),
        (OverloadedError("paused", retry_after=7200), True),
        (RateLimitError("Limit on requests per day (RPD): Limit 200, Used 200.", status=429), True),
        (RateLimitError("Rate limit exceeded: free-models-per-day.", status=429), True),
        (RateLimitError("Rate limit reached on tokens per min (TPM)", status=429), False),
        (RateLimitError("Limit on requests per day: try again in 8.6 s", status=429, retry_after=8.6), False),
        (RateLimitError("You exceeded your current quota", status=429, retryable=False), True),
        (InternalServerError("oops", status=500), False),
    ],
)
def test_a_limit_that_is_over_in_hours_is_told_from_one_of_a_minute(error: AimlasyncError, verdict: bool) -> None:
    assert is_to_come_back(error) is verdict


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["one", "workers"])
def test_a_limit_of_the_server_by_the_day_stops_at_once_and_says_when_to_come_back(
    workers: list[str], vendor: Vendor
) -> None:
    sim = vendor(faults=[Fault("status", status=429, headers={"Retry-After": "28800"}, after=30)])
    cities(100)
    code, _, err = ended("bulk", "in.csv", *ASK, "-o", "out.jsonl", *workers)
    assert code == 75, err
    last = err.splitlines()[-1]
    assert re.search(r"30 rows done; come back .*at \d\d:\d\d \(in (8:00|7:59):\d\d\), run the same command", last)
    # Nothing is marked as failed.
    assert set(kept().values()) == {None}
    assert len(kept()) == 30
    assert sim.ledger.by_status()[200] == 30


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["one", "workers"])
@pytest.mark.parametrize(("option", "rows"), [(["--rpd", "20"], 20), (["--tpd", "900"], 8)])
def test_a_limit_by_the_day_of_ones_own_holds_over_runs(
    option: list[str], rows: int, workers: list[str], vendor: Vendor
) -> None:
    sim = vendor(answer=lambda _: "word " * 40)
    cities(100)
    words = ["bulk", "in.csv", *ASK, "-o", "out.jsonl", *option, *workers]
    code, _, err = ended(*words)
    assert code == 75, err
    assert f"stopped: {option[0]} is used up; " in err
    assert re.search(r"come back .*at \d\d:\d\d \(in (24:00:00|23:\d\d:\d\d)\)", err)
    asked = len(sim.ledger)
    # A process that has had no answer yet begins with one row, to learn what a row takes.
    assert 0.7 * rows <= asked <= rows + bool(workers)
    code, _, err = ended(*words)
    assert code == 75, err
    # What workers held to the end and did not use is left for rows that fit.
    assert len(sim.ledger) <= (max(asked, rows) if workers else asked)
    asked = len(sim.ledger)
    # A day later.
    earlier = [decode_record(line) for line in Path("out.jsonl").read_bytes().splitlines()]
    for record in earlier:
        assert record.info is not None
        assert record.info.at is not None
        record.info.at -= 86_500
    Path("out.jsonl").write_bytes(b"".join(encode_record(record) + b"\n" for record in earlier))
    code, _, err = ended(*words)
    assert code == 75
    assert 0.7 * rows <= len(sim.ledger) - asked <= rows
    assert len(lines("out.jsonl")) == len(sim.ledger)


def test_workers_know_what_a_row_takes_from_the_runs_before(vendor: Vendor) -> None:
    sim = vendor(answer=lambda _: "word " * 40)
    cities(100)
    words = ["bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "1"]
    assert ended(*words, "--limit", "2")[0] == 0
    tokens = sum(line["response"]["body"]["usage"]["total_tokens"] for line in lines("out.jsonl"))
    # Half of a row is left.
    code, _, err = ended(*words, "--tpd", str(tokens + tokens // 4), "--workers", "2")
    assert (code, len(sim.ledger)) == (75, 2), err


def test_a_day_begins_with_its_first_request() -> None:
    day = Day(clock=lambda: 100_000.0)
    assert (day.used(0.0), day.ends) == ((0, 0), None)
    for at in (1000.0, 50_000.0, 87_399.0):
        day.add(at, 2, 30)
    assert (day.used(87_399.0), day.ends) == ((6, 90), 87_400.0)
    assert day.used(87_400.0) == (0, 0)
    day.add(100_000.0, 1, 5)
    assert (day.used(100_000.0), day.ends) == ((1, 5), 186_400.0)


def test_a_day_does_not_begin_at_a_time_that_a_wrong_clock_said() -> None:
    now = 1_000_000.0
    day = Day(clock=lambda: now)
    for at in (now + 900 * 86_400.0, now + 86_400.0):
        day.add(at, 2, 30)
    assert (day.used(now), day.ends) == ((0, 0), None)
    # One that is a little fast is believed.
    for at in (now + 60.0, now):
        day.add(at, 1, 5)
    assert (day.used(now), day.ends) == ((2, 10), now + 86_460.0)


def test_the_time_to_come_back_is_said_as_people_say_it() -> None:
    noon = time.mktime((2026, 3, 6, 12, 0, 0, 0, 0, -1))
    assert come_back(noon + 7200, noon) == "come back at 14:00 (in 2:00:00)"
    assert come_back(noon + 13 * 3600, noon) == "come back on Saturday 07 March at 01:00 (in 13:00:00)"
    assert come_back(noon + 3 * 86_400, noon) == "come back on Monday 09 March at 12:00 (in 3 days)"
    assert come_back(noon - 1, noon) == "come back now"
    assert come_back(None, noon) == "come back when the limit is over, mostly within a day"


# Calls that hang

# What is tested is when a job stops, after seconds of waiting: the loop has no part in that.
ON_ONE_LOOP = pytest.mark.parametrize("anyio_backend", ["asyncio"])


async def test_a_call_that_hangs_fails_alone() -> None:
    stuck = Fault("stall", match=lambda request: number_of(request) == 3)
    async with Simulator(faults=[stuck]) as simulator:
        summary = await job(simulator, 40, timeout=2.0)
        assert (summary.totals.ok, summary.left, stuck.hits) == (39, 0, 1)
    assert kept()["row-3"] == "APITimeoutError"


@ON_ONE_LOOP
async def test_many_calls_that_hang_stop_a_job_only_if_those_elsewhere_hang_too() -> None:
    # Two more than it takes to doubt the server.
    stuck = Fault("stall", match=lambda request: number_of(request) <= 12)
    async with Simulator(faults=[stuck]) as some, Simulator(faults=[Fault("stall")]) as all_of_them:
        summary, stopped = await asyncio.gather(
            job(some, 60, timeout=1.5, concurrency=10),
            job(all_of_them, 300, output="none.jsonl", timeout=0.2, concurrency=10),
        )
        assert (summary.totals.ok, summary.totals.failed, summary.left) == (48, 12, 0)
        assert type(stopped.stopped_by).__name__ == "APITimeoutError"
        assert stopped.left > 200


@ON_ONE_LOOP
async def test_calls_that_hang_are_the_last_to_end_and_stop_no_job_that_is_done() -> None:
    stuck = Fault("stall", match=lambda request: number_of(request) % 5 == 0)
    async with Simulator(faults=[stuck]) as simulator, Simulator(faults=[Fault("stall")]) as all_of_them:
        summary, none = await asyncio.gather(
            job(simulator, 60, timeout=1.5, concurrency=20),
            job(all_of_them, 12, output="none.jsonl", timeout=0.5, concurrency=20),
        )
        assert type(none.stopped_by).__name__ == "APITimeoutError"
        assert (summary.totals.ok, summary.totals.failed, summary.left) == (48, 12, 0)
        assert summary.stopped_by is None
        # All that is left hangs.
        again = await job(simulator, 60, restart=False, timeout=0.5, concurrency=20)
        assert (again.totals.failed, again.left, again.stopped_by) == (12, 0, None)


def test_a_deadline_waits_for_a_call_that_hangs_no_longer_than_its_own_time_allows(vendor: Vendor) -> None:
    vendor(faults=[Fault("stall", match=lambda request: number_of(request) == 3)])
    cities(20)
    # It would have to wait for longer than `finish` does.
    code, _, err = finish(start("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--deadline", "1s"))
    assert code == 1, err
    # All others are done within a second, unless the machine is very busy.
    done = kept()
    assert f"{len(done)} rows done, {20 - len(done)} left" in err
    assert "row-3" not in done


# Ctrl-C while everything waits


@pytest.mark.parametrize(
    ("words", "faults"),
    [
        (["--rpm", "2"], []),
        (["--rpm", "2", "--workers", "2"], []),
        (["--tpm", "100"], []),
        ([], [Fault("status", status=429, headers={"Retry-After": "50"}, after=2)]),
        (["--workers", "2"], [Fault("status", status=429, headers={"Retry-After": "50"}, after=2)]),
        (["--retry-invalid", "3", "--rpm", "2"], []),
        (["--dedupe", "--rpm", "2"], []),
        (["--max-tokens", "100000", "--rpm", "2"], []),
    ],
    ids=lambda what: " ".join(what) if what and isinstance(what[0], str) else "",
)
def test_ctrl_c_waits_for_nothing_that_is_not_sent(words: list[str], faults: list[Fault], vendor: Vendor) -> None:
    for fault in faults:
        fault.hits = fault.seen = 0
    sim = vendor(faults=faults, answer=lambda request: "" if "3" in request.text else "Yes.")
    cities(50)
    process = start("bulk", "in.csv", *ASK, "-o", "out.jsonl", *words)
    until(lambda: len(sim.ledger) >= 1 and all(attempt.finished for attempt in sim.ledger))
    if faults:
        until(lambda: faults[0].hits > 0)
    process.send_signal(signal.SIGINT)
    # It would have to wait for longer.
    code, _, err = finish(process, timeout=45)
    assert code == 130, err
    answered = [attempt for attempt in sim.ledger if attempt.status == 200]
    assert len(kept()) == len(answered)
    assert "run the same command to go on" in err
    assert set(kept().values()) <= {None, "AnswerInvalidError"}


async def test_an_answer_that_was_paid_for_is_kept_when_the_job_ends_before_it_is_asked_for_again() -> None:
    jobs: list[Job] = []

    def answer(request: SimRequest) -> str:
        if jobs:
            jobs[0].interrupt()
        return ""

    rows = [{"city": f"City {number}"} for number in range(30)]
    async with (
        Simulator(answer=answer) as simulator,
        AsyncClient(api_key="k", base_url=simulator.base_url) as client,
    ):
        summary = await run(
            client,
            rows,
            "out.jsonl",
            task=PromptTask(prompt="{city}", model=MODEL, judge=True),
            options=Options(retry_invalid=5, concurrency=1),
            begin=jobs.append,
        )
        assert (len(simulator.ledger), summary.totals.failed, summary.is_interrupted) == (1, 1, True)
        assert summary.totals.tokens > 0


def test_limits_by_the_day_go_with_a_journal(vendor: Vendor) -> None:
    vendor()
    cities(2)
    assert "--rpd goes with a journal" in command("bulk", "in.csv", *ASK, "--rpd", "5").stderr
    assert Caps(requests_per_day=5).tokens_per_day is None


# A server that counts no tokens


@pytest.fixture
async def uncounted() -> AsyncIterator[str]:
    """Answers without a usage."""

    async def answer(request: web.Request) -> web.Response:
        message = {"role": "assistant", "content": "word " * 80}
        return web.json_response({"object": "chat.completion", "choices": [{"index": 0, "message": message}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/v1"))


@pytest.mark.parametrize("cap", ["tokens", "usd"])
async def test_without_a_count_of_tokens_caps_hold_by_length_over_all_runs(cap: str, uncounted: str) -> None:
    rows = [{"city": f"City {number} " + "of words " * 40} for number in range(100)]
    task = PromptTask(prompt="{city}", model=MODEL, params={"max_tokens": 150})
    prices = {MODEL: Price.per_million(input=100, output=100)}
    # Each row takes some 120 tokens in and 100 out.
    caps = Caps(max_tokens=3000) if cap == "tokens" else Caps(max_usd=0.4, prices=prices)
    async with AsyncClient(api_key="k", base_url=uncounted) as client:
        for _ in range(3):
            summary = await run(client, rows, "out.jsonl", task=task, options=Options(concurrency=2, caps=caps))
            assert summary.left > 50
            assert summary.totals.uncounted == summary.totals.ok > 3
            assert (summary.totals.tokens, summary.totals.cost) == (0, None)
            assert 100 < summary.totals.guessed / summary.totals.ok < 300
            assert summary.totals.guessed <= 4000
