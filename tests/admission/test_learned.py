"""Claims about `admission.learned`: what is told of a server's limits, when, and how often."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import pytest

from aimlasync.admission.learned import Finding, Watch, roundest
from aimlasync.admission.outcome import Outcome
from aimlasync.config import Limits
from tests.support.permits import permit_now, permit_of
from tests.support.refusing_server import RefusingServer, upstream
from tests.support.virtual import run


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "takes" in record.getMessage()]


def load(server: RefusingServer, callers: dict[str, int], seconds: float) -> Any:
    async def main() -> Any:
        await server.load(callers, seconds)
        return server.upstream.statistics(asyncio.get_running_loop().time())

    return run(main())


def test_a_limit_of_attempts_at_once_is_told_once_and_stands_in_the_statistics(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "aimlasync.limits")
    figures = load(RefusingServer(upstream(), {"m": 6}), {"m": 20}, 400.0)
    words = "one.example takes no more than 6 at once: give --concurrency 6 (Limits(concurrency=6))"
    assert told(caplog) == [words]
    assert figures.models[0].learned == words


@pytest.mark.parametrize("limit", [1, 2])
def test_a_limit_of_one_or_two_is_told_as_such_and_not_before_it_has_held(
    limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aimlasync.limits")
    load(RefusingServer(upstream(), {"m": limit}, kind="concurrency"), {"m": 5}, 40.0)
    assert not told(caplog)
    load(RefusingServer(upstream(), {"m": limit}, kind="concurrency"), {"m": 5}, 200.0)
    assert told(caplog) == [
        f"one.example takes no more than {limit} at once: give --concurrency {limit} (Limits(concurrency={limit}))"
    ]


class ByTokens(RefusingServer):
    """Its refusals name tokens a minute, and each answer takes 500."""

    async def _call(self, model: str) -> None:
        before = len(self.answers[model])
        await super()._call(model)
        self.upstream.lane(model).counters.prompt_tokens += 500 * (len(self.answers[model]) > before)


def test_where_refusals_name_tokens_the_advice_is_of_tokens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "aimlasync.limits")
    figures = load(ByTokens(upstream(), {}, minute=120, kind="tokens"), {"m": 30}, 1200.0)
    assert figures.models[0].learned is not None
    for said in [*told(caplog), figures.models[0].learned]:
        assert "tokens a minute: give --tpm" in said
        found = re.search(r"--tpm (\d+) \(Limits\(tokens_per_minute=(\d+)\)\)", said)
        assert found is not None
        assert found[1] == found[2]
        assert 55_000 <= int(found[1]) <= 66_000


def test_a_rate_is_told_by_the_minute_and_rounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "aimlasync.limits")
    figures = load(RefusingServer(upstream(), {}, minute=120), {"m": 30}, 1200.0)
    assert figures.models[0].learned is not None
    for said in [*told(caplog), figures.models[0].learned]:
        assert "requests a minute: give --rpm" in said
        assert 96 <= float(said.split("about ")[1].split(" ")[0]) <= 144


def test_a_queue_that_refuses_nothing_is_told_by_the_level_above_which_it_queues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "aimlasync.limits")

    async def main() -> None:
        loop, lane, slots = asyncio.get_running_loop(), upstream().lane("m"), asyncio.Semaphore(4)
        lengths = random.Random(1)
        until = loop.time() + 240.0

        async def one() -> None:
            while loop.time() < until:
                permit = permit_now(lane) or await permit_of(lane)
                async with slots:
                    await asyncio.sleep(lengths.lognormvariate(-0.7, 0.3))
                permit.release(Outcome.OK)

        await asyncio.gather(*(one() for _ in range(30)))

    run(main())
    (said,) = [record.getMessage() for record in caplog.records if "faster" in record.getMessage()]
    found = re.fullmatch(r"one\.example answers no faster above (\d) at once: give --concurrency \1 .*", said)
    assert found is not None
    assert 4 <= int(found[1]) <= 6


def test_the_level_of_a_queue_is_told_again_only_when_most_measurements_have_moved() -> None:
    watch = Watch()

    def tell(*measured: float) -> list[int | None]:
        found = [watch.queues(60.0 * at, knee) for at, knee in enumerate(measured)]
        return [None if each is None else each.concurrency for each in found]

    # What is measured once tells nothing, and one measurement that is off changes nothing.
    assert tell(16.0, 17.0) == [None, 21]
    assert tell(11.0, 16.0, 17.0, 16.0, 17.0) == [None] * 5
    assert tell(5.0, 4.5, 4.0) == [None, None, 6]
    assert watch.learned == Finding(concurrency=6)


@pytest.mark.parametrize(
    ("answers", "refusals", "told_after"), [(60, 2, 180.0), (60, 20, None), (3, 0, 480.0), (1, 0, 1200.0)]
)
def test_a_rate_is_told_of_enough_answers_and_where_refusals_follow_it(
    answers: int, refusals: int, told_after: float | None
) -> None:
    """Of a server that refuses a share of whatever comes, the answers in a minute are the client's own doing."""
    watch, told_at = Watch(), None
    for minute in range(30):
        found = watch.refused(1000.0 + 60 * minute, answers * minute, refusals * minute, answers / 60)
        if found is not None:
            assert found.requests_per_minute == answers
            told_at = told_at or 60.0 * (minute + 1)
    assert told_at is None if told_after is None else told_at is not None and told_at <= told_after


def test_a_rate_is_told_where_what_was_answered_and_what_is_sent_agree() -> None:
    def told(sent: float | None) -> Finding | None:
        watch, rate = Watch(), None if sent is None else sent / 60
        return [watch.refused(1000.0 + 60 * minute, 100 * minute, minute, rate) for minute in range(3)][-1]

    assert told(104.0) == Finding(requests_per_minute=104.0)
    assert told(96.0) == Finding(requests_per_minute=100.0)
    # It would have taken more but for the pauses that it asked for.
    assert told(106.0) is None
    assert told(None) is None


@pytest.mark.parametrize("waits", [1.0, 5.0])
@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_a_server_that_asks_for_long_pauses_is_told_right_or_not_at_all(
    rate: float, waits: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aimlasync.limits")
    load(RefusingServer(upstream(), {}, rate=rate, waits=waits, spread=0.5), {"m": 30}, 400.0)
    for said in told(caplog):
        found = re.search(r"about ([\d,]+) requests a minute", said)
        assert found is not None, said
        assert float(found[1]) == pytest.approx(60 * rate, rel=0.06), said


def test_a_rate_that_is_kept_is_told_once_more_was_refused_and_it_is_kept_again() -> None:
    watch = Watch()
    assert [watch.holds(10.0, 5), watch.holds(10.4, 5)] == [None, None]
    # It was too little.
    assert [watch.holds(12.0, 6), watch.holds(12.0, 6)] == [None, None]
    assert watch.holds(12.4, 9) == Finding(requests_per_minute=732.0)
    assert watch.holds(12.0, 12) is None


def test_what_nothing_tested_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "aimlasync.limits")
    assert load(RefusingServer(upstream(), {}), {"m": 1}, 300.0).models[0].learned is None
    assert load(RefusingServer(upstream(Limits(concurrency=4)), {"m": 2}), {"m": 9}, 300.0).models[0].learned is None
    assert not told(caplog)


def test_what_grows_slowly_because_answers_are_long_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "aimlasync.limits")

    async def main() -> None:
        server = RefusingServer(upstream(), {}, seconds=100.0, spread=0.5)
        load = asyncio.ensure_future(server.load({"m": 50}, 900.0))
        while not load.done():
            await asyncio.sleep(10.0)
            server.upstream.statistics(asyncio.get_running_loop().time())

    run(main())
    assert not [record for record in caplog.records if "at once" in record.getMessage()]


def test_no_number_is_advised_where_it_would_limit_other_models_as_well() -> None:
    figures = load(RefusingServer(upstream(), {"a": 4, "b": 6}), {"a": 12, "b": 12}, 300.0)
    said = {each.model: each.learned for each in figures.models}
    # Answers that take a second each: 4 at once are 240 a minute.
    either = r"a at one\.example takes (no more than 4 at once|about 2[234]\d requests a minute)"
    assert re.fullmatch(either, said["a"] or "")
    assert said["b"] == "b at one.example takes no more than 6 at once"


def test_a_limit_that_changes_is_told_again_after_it_has_held() -> None:
    watch = Watch()

    def see(now: float, limit: int) -> Finding | None:
        return watch.see(now, limit, refusals=0, is_full=True)

    assert [see(now, 8) for now in (0.0, 59.0)] == [None, None]
    assert see(60.0, 9) == Finding(concurrency=8)
    assert see(61.0, 8) is None
    assert see(100.0, 30) is None
    assert watch.learned == Finding(concurrency=8)
    assert see(159.0, 30) is None
    assert see(160.0, 31) == Finding(concurrency=30)
    assert "answers no faster above 30 at once" in Finding(concurrency=30).words("x", advise=False)


@pytest.mark.parametrize(
    ("number", "rounded"), [(593.0, 600), (8.0, 8), (61.2, 60), (0.4, 1), (1234.0, 1200), (97.5, 100), (447.0, 450)]
)
def test_a_number_is_rounded_to_the_roundest_near_it(number: float, rounded: int) -> None:
    assert roundest(number) == rounded
