"""Claims about lanes: what is learned belongs to one model at one endpoint, what was stated to the endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aimlasync.admission.adaptive import AdaptiveLimit, Learned
from aimlasync.admission.endpoint_limiter import EndpointLimiter
from aimlasync.admission.limiter import Limiter
from aimlasync.admission.outcome import Outcome, Refused
from aimlasync.config import Limits, Priority
from aimlasync.endpoints.lane import Lane
from tests.support.permits import permit_now, permit_of
from tests.support.refusing_server import RefusingServer, upstream
from tests.support.virtual import run


def test_a_server_that_refuses_for_hours_is_asked_every_few_seconds() -> None:
    async def main() -> None:
        loop, lane = asyncio.get_running_loop(), upstream().lane("m")
        for _ in range(1100):
            permit = permit_now(lane) or await permit_of(lane)
            await asyncio.sleep(0.01)
            permit.release(Outcome.DROPPED)
        assert (lane.limiter.in_flight, lane.counters.refused) == (0, 1100)
        assert 4.0 < lane.paused_until - loop.time() < 5.0

    run(main())


def test_two_models_with_limits_of_their_own_are_both_used_to_the_full() -> None:
    async def main() -> None:
        server = RefusingServer(upstream(), {"small": 4, "large": 30})
        start = asyncio.get_running_loop().time()
        await server.load({"small": 50, "large": 50}, 120.0)
        for model, most in server.limits.items():
            answers = sum(when - start > 30 for when in server.answers[model])
            assert answers / 90 > 0.93 * most / 1.01, model

    run(main())


def test_a_model_that_refuses_everything_holds_back_no_other() -> None:
    async def main() -> None:
        server = RefusingServer(upstream(), {"shut": 0})
        start = asyncio.get_running_loop().time()
        await server.load({"shut": 50, "open": 8}, 30.0)
        alone = RefusingServer(upstream(), {})
        await alone.load({"open": 8}, 30.0)
        assert len(server.answers["open"]) == len(alone.answers["open"])
        assert not server.answers["shut"]
        assert start

    run(main())


def test_a_minute_that_all_models_share_becomes_the_account_s_and_a_word_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "aimlasync.limits")

    async def main() -> None:
        made = upstream()
        server = RefusingServer(made, {}, minute=300)
        await server.load({"a": 40, "b": 40}, 600.0)
        assert made.account.signs.is_account
        assert made.lane("a").law is made.lane("b").law is made.lane("new").law
        assert made.limiter.learned_rate is made.lane("a").law

    run(main())
    assert [record for record in caplog.records if "they are the account's" in record.getMessage()]


def test_attempts_at_once_that_all_models_share_become_the_account_s_where_refusals_name_them_but_not_whose() -> None:
    """AI/ML API: "Too many concurrent requests: 12 of 12 in flight"."""

    async def main() -> None:
        made = upstream()
        server = RefusingServer(made, {"": 12}, kind="concurrency")
        await server.load({"a": 40, "b": 40}, 300.0)
        assert made.account.signs.is_account
        answers = {model: len(when) for model, when in server.answers.items()}
        assert min(answers.values()) > 0.4 * sum(answers.values())
        assert sum(server.refused.values()) < 0.06 * sum(answers.values())

    run(main())


@pytest.mark.parametrize("kind", [None, "concurrency"])
@pytest.mark.parametrize("limits", [{"a": 4, "b": 30}, {"a": 12, "b": 12}, {"a": 1, "b": 2, "c": 3}])
def test_limits_of_single_models_are_never_taken_for_the_account_s(
    limits: dict[str, int], kind: Refused | None
) -> None:
    async def main() -> None:
        made = upstream()
        await RefusingServer(made, limits, kind=kind).load(dict.fromkeys(limits, 40), 240.0)
        assert not made.account.signs.is_account

    run(main())


@pytest.mark.parametrize("chance", [0.0, 0.1])
@pytest.mark.parametrize("models", [2, 4, 8])
def test_models_that_are_refused_at_the_same_time_by_chance_keep_limits_of_their_own(
    models: int, chance: float
) -> None:
    async def main() -> None:
        made = upstream()
        limits = dict.fromkeys("abcdefgh"[:models], 10)
        await RefusingServer(made, limits, spread=0.3, chance=chance).load(dict.fromkeys(limits, 40), 150.0)
        assert not made.account.signs.is_account

    run(main())


def test_refusals_in_a_row_are_a_limit_s_and_not_of_chance() -> None:
    async def main() -> float | None:
        server = RefusingServer(upstream(), {}, minute=600)
        await server.load({"m": 60}, 210.0)
        return server.upstream.lane("m").law.rate

    rate = run(main())
    assert rate is not None
    # It fell to 61 where the refusals of one minute and of the next were taken for an even share.
    assert 400 < 60 * rate < 700


def test_a_wait_that_every_refusal_states_is_no_window() -> None:
    async def main() -> int:
        server = RefusingServer(upstream(), {}, rate=20.0, waits=5.0)
        await server.load({"m": 100}, 300.0)
        return len(server.answers["m"])

    # It was a fifth, where each wait made the window longer and the rate lower.
    assert run(main()) > 0.4 * 20 * 300


def test_what_the_account_shares_is_given_back_to_the_models_when_they_are_refused_alone() -> None:
    async def main() -> None:
        made = upstream()
        made.lane("a"), made.lane("b")
        now = asyncio.get_running_loop().time()
        made.account.refused(made.lane("a"), now, now, None, names_account=True)
        assert made.lane("a").law is made.lane("b").law
        await RefusingServer(made, {"a": 0}).load({"a": 20, "b": 20}, 300.0)
        assert made.lane("a").law is not made.lane("b").law
        assert made.limiter.in_flight == made.limiter.waiting == 0

    run(main())


def test_calls_that_wait_while_the_account_s_limit_is_given_back_are_served_once_and_within_the_new_limits() -> None:
    async def main() -> None:
        made, loop = upstream(), asyncio.get_running_loop()
        lanes = [made.lane("a"), made.lane("b")]
        served: list[tuple[str, int]] = []
        passed: list[str] = []

        async def call(lane: Lane, number: int) -> None:
            permit = permit_now(lane) or await permit_of(lane)
            if lane.limiter.in_flight > lane.limiter.limit:
                passed.append(lane.model)
            served.append((lane.model, number))
            await asyncio.sleep(1.0)
            permit.release(Outcome.OK)

        made.account.refused(lanes[0], loop.time(), loop.time(), None, names_account=True)
        calls = [asyncio.create_task(call(lane, number)) for number in range(50) for lane in lanes]
        for changes in range(6):
            await asyncio.sleep(1.5)
            made.account.signs.is_account = bool(changes % 2)
            now = loop.time()
            made.account.answered(lanes[0], now, now)
        await asyncio.gather(*calls)
        assert sorted(served) == sorted((lane.model, number) for number in range(50) for lane in lanes)
        assert not passed
        assert made.limiter.in_flight == made.limiter.waiting == 0

    run(main())


def test_the_refusal_that_shows_the_account_gives_it_no_model_s_limit_and_the_models_none_of_the_account_s() -> None:
    async def main() -> None:
        made = upstream()
        lane = made.lane("a")
        lane.law = AdaptiveLimit(start=Learned(in_flight=500.0))
        lane.limiter.resize(500)
        permits = [permit for _ in range(3) if (permit := permit_now(lane))]
        await asyncio.sleep(0.1)
        permits[0].release(Outcome.DROPPED, names_account=True)
        assert made.limiter.limit == int(lane.law.limit)
        # What was sent before is no refusal of the new limit.
        rate = lane.law.rate
        permits[1].release(Outcome.DROPPED, names_account=True)
        assert (lane.law.refusals, lane.law.rate) == (0, rate)
        made.account.signs.is_account = False
        permits[2].release(Outcome.DROPPED)
        assert lane.limiter.limit == int(lane.law.limit) < 10

    run(main())


@pytest.mark.parametrize("seconds", [5.0, 30.0])
def test_two_models_that_are_always_refused_say_nothing_of_a_third_that_answers_slowly(seconds: float) -> None:
    async def main() -> None:
        made = upstream()
        server = RefusingServer(made, {"a": 0, "c": 0}, seconds=seconds)
        await server.load({"a": 10, "c": 10, "b": 1}, 300.0)
        assert not made.account.signs.is_account
        assert len(server.answers["b"]) >= 0.95 * 300.0 / seconds - 1

    run(main())


@pytest.mark.parametrize("kind", [None, "rate", "concurrency"])
def test_models_with_limits_of_their_own_get_them_where_refusals_name_the_organization(kind: Refused | None) -> None:
    """OpenAI and Anthropic name it, and limit each model."""

    async def main() -> None:
        made = upstream()
        start = asyncio.get_running_loop().time()
        server = RefusingServer(made, {"small": 2, "large": 40}, kind=kind, names_account=True)
        await server.load({"small": 60, "large": 60}, 240.0)
        assert not made.account.signs.is_account
        assert sum(when - start > 180 for when in server.answers["large"]) / 60 > 0.9 * 40 / 1.01

    run(main())


@pytest.mark.parametrize("limits", [{"": 12}, {}])
def test_an_account_that_is_named_stays_one(limits: dict[str, int]) -> None:
    async def main() -> None:
        made = upstream()
        server = RefusingServer(made, limits, minute=None if limits else 240, names_account=True)
        await server.load(dict.fromkeys("abcde", 20), 300.0)
        assert made.account.signs.is_account
        answers = [len(when) for when in server.answers.values()]
        assert min(answers) > 0.8 * max(answers)

    run(main())


def test_the_account_s_limit_begins_with_what_the_models_take_and_not_with_one_a_second() -> None:
    async def main() -> None:
        server = RefusingServer(upstream(), {"": 10}, seconds=0.3, names_account=True)
        await server.load({f"model {number}": 1 for number in range(60)}, 20.0)
        assert sum(map(len, server.answers.values())) > 0.8 * 20 * 10 / 0.31

    run(main())


class Told:
    """A learned rate that notes when it was told of an attempt."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def delay(self, now: float) -> float:
        return 0.0

    def expected_wait(self, now: float, ahead: int) -> float:
        return 0.0

    def sent(self, now: float) -> None:
        self.at.append(now)


def test_attempts_that_waited_count_from_the_instant_of_which_the_learned_limit_was_told() -> None:
    """The loop may be busy before the callers wake up, and several are admitted in one instant."""

    async def main() -> None:
        loop, lane, told = asyncio.get_running_loop(), upstream().lane("m"), Told()
        lane.limiter.learned_rate = told
        lane.limiter.resize(1)
        first = permit_now(lane)
        assert first is not None
        assert first.sent_at == told.at[0]
        waiting = [asyncio.create_task(permit_of(lane)) for _ in range(3)]
        await asyncio.sleep(1.0)
        lane.limiter.resize(4)
        admitted = loop.time()
        loop.now += 0.5  # type: ignore[attr-defined]
        permits = await asyncio.gather(*waiting)
        assert [permit.sent_at for permit in permits] == told.at[1:] == [admitted] * 3
        assert [permit.beside for permit in permits] == [1, 2, 3]

    run(main())


# --- the endpoint's own limits ----------------------------------------------------------------------------------------


class Shared:
    """Some models behind one endpoint's stated limits."""

    def __init__(self, limits: Limits, models: int = 3, each: int = 4096) -> None:
        self.endpoint = EndpointLimiter(limits)
        self.limiters = [Limiter(self.endpoint, limit=each) for _ in range(models)]
        self.served: list[Any] = []

    def wait(self, of: int, what: Any, priority: Priority = "interactive", tenant: str | None = None) -> Any:
        async def enter() -> Any:
            admission = await self.limiters[of].enter(0.0, priority, tenant)
            self.served.append(what)
            return admission

        return asyncio.ensure_future(enter())


def test_no_stated_limit_is_passed_by_the_sum_of_the_models() -> None:
    async def main() -> None:
        shared = Shared(Limits(concurrency=5, requests_per_minute=600))
        loop = asyncio.get_running_loop()
        sent: list[float] = []

        async def one(limiter: Limiter) -> None:
            for _ in range(20):
                admission = limiter.enter_nowait(0.0, loop.time()) or await limiter.enter(0.0)
                sent.append(loop.time())
                assert shared.endpoint.in_flight <= 5
                assert shared.endpoint.in_flight == sum(each.in_flight for each in shared.limiters)
                await asyncio.sleep(0.3)
                limiter.leave(admission)

        await asyncio.gather(*(one(limiter) for limiter in shared.limiters for _ in range(20)))
        assert len(sent) == 1200
        assert all(later - sooner >= 60 for sooner, later in zip(sent, sent[600:], strict=False))
        assert shared.endpoint.in_flight == shared.endpoint.waiting == 0
        assert not shared.endpoint.ready

    run(main())


def test_models_take_turns_and_interactive_calls_of_any_model_go_first() -> None:
    async def main() -> None:
        shared = Shared(Limits(concurrency=1))
        first = shared.limiters[0].enter_nowait(0.0, asyncio.get_running_loop().time())
        assert first is not None
        tasks = [shared.wait(0, "a bulk", "bulk") for _ in range(3)]
        tasks += [shared.wait(1, "b bulk", "bulk") for _ in range(3)]
        tasks += [shared.wait(2, "c") for _ in range(2)]
        await asyncio.sleep(0)
        shared.limiters[0].leave(first)
        done: set[Any] = set()
        while len(done) < len(tasks):
            await asyncio.sleep(0.01)
            for number, task in enumerate(tasks):
                if task.done() and task not in done:
                    done.add(task)
                    shared.limiters[0 if number < 3 else 1 if number < 6 else 2].leave(task.result())
        assert shared.served == ["c", "c", "a bulk", "b bulk", "a bulk", "b bulk", "a bulk", "b bulk"]

    run(main())


def test_bulk_of_one_model_has_one_of_eight_turns_beside_interactive_calls_of_another() -> None:
    async def main() -> None:
        shared = Shared(Limits(requests_per_minute=600))
        tasks = [shared.wait(0, "bulk", "bulk") for _ in range(5)]
        tasks += [shared.wait(1, "now") for _ in range(40)]
        await asyncio.gather(*tasks)
        assert 4 <= shared.served[:45].index("bulk", 4) <= 12
        assert shared.served[:40].count("bulk") >= 4

    run(main())


def test_a_full_or_paused_model_takes_no_turn_and_the_others_do() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        shared = Shared(Limits(concurrency=3), each=2)
        shared.limiters[0].pause(loop.time() + 50.0)
        paused = [shared.wait(0, "paused") for _ in range(3)]
        full = [shared.wait(1, "full") for _ in range(3)]
        other = shared.wait(2, "other")
        await asyncio.sleep(1.0)
        assert sorted(shared.served) == ["full", "full", "other"]
        assert shared.limiters[0].held_by(loop.time()) == "pause"
        assert shared.limiters[1].held_by(loop.time()) == "concurrency"
        assert shared.endpoint.waiting == 4
        shared.limiters[2].leave(await other)
        for task in full[:2]:
            shared.limiters[1].leave(await task)
        await asyncio.gather(full[2], *paused[:2])
        assert loop.time() >= 1050.0
        paused[2].cancel()
        await asyncio.gather(paused[2], return_exceptions=True)
        assert shared.endpoint.waiting == 0

    run(main())


def test_tenants_take_turns_within_a_model_whatever_other_models_do() -> None:
    async def main() -> None:
        shared = Shared(Limits(requests_per_minute=6000))
        shared.endpoint.pause(asyncio.get_running_loop().time() + 1.0)
        tasks = [shared.wait(0, f"a {tenant}", "interactive", tenant) for tenant in ("x", "x", "x", "y")]
        tasks += [shared.wait(1, "b") for _ in range(4)]
        await asyncio.gather(*tasks)
        assert [each for each in shared.served if each != "b"] == ["a x", "a y", "a x", "a x"]

    run(main())


# --- many models ------------------------------------------------------------------------------------------------------


def use(lane: Lane) -> None:
    permit = permit_now(lane)
    assert permit is not None
    permit.release(Outcome.OK)


def test_a_thousand_names_leave_a_bounded_number_of_lanes_and_lose_no_count() -> None:
    async def main() -> None:
        made = upstream()
        for number in range(1000):
            use(made.lane(f"model {number}"))
            assert len(made.lanes) <= 256
        assert made.lane("model 999") is made.lanes["model 999"]
        figures = made.statistics(0.0)
        assert (figures.attempts, figures.answered) == (1000, 1000)
        assert len(figures.models) == len(made.lanes)

    run(main())


def test_idle_models_are_forgotten_and_busy_ones_are_not() -> None:
    async def main() -> None:
        made = upstream()
        busy = made.lane("busy")
        permit = permit_now(busy)
        assert permit is not None
        for number in range(15):
            use(made.lane(f"old {number}"))
        await asyncio.sleep(3600.0)
        use(made.lane("new"))
        assert set(made.lanes) == {"busy", "new"}
        permit.release(Outcome.OK)
        assert made.limiter.in_flight == 0

    run(main())


def test_a_model_that_pauses_is_not_forgotten_before_its_pause_is_over() -> None:
    async def main() -> None:
        made, loop = upstream(), asyncio.get_running_loop()
        use(made.lane("paused"))
        made.lane("paused").pause(50.0, loop.time(), "it said so")
        for number in range(1000):
            use(made.lane(f"model {number}"))
        assert made.lanes["paused"].paused_until > loop.time() + 49.0
        await asyncio.sleep(700.0)
        for number in range(300):
            use(made.lane(f"later {number}"))
        assert "paused" not in made.lanes

    run(main())


def test_models_beyond_the_bound_share_one_lane_while_all_others_are_busy() -> None:
    async def main() -> None:
        made = upstream()
        permits = [permit_now(made.lane(f"model {number}")) for number in range(256)]
        assert all(permits)
        assert made.lane("one more") is made.lane("another") is made.lanes[""]
        assert made.lane("x" * 10_000) is made.lanes[""]
        for permit in permits:
            assert permit is not None
            permit.release(Outcome.OK)
        await asyncio.sleep(2.0)
        assert made.lane("one more") is made.lanes["one more"]

    run(main())


def spent(act: Callable[[int], object], times: int) -> int:
    """Count the lines that are run: a measure of work that no busy machine changes."""
    import sys

    lines = 0

    def trace(frame: object, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for number in range(times):
            act(number)
    finally:
        sys.settrace(before)
    return lines


def test_the_work_of_a_new_name_does_not_grow_with_the_names_before() -> None:
    async def main() -> None:
        made = upstream()
        few = spent(lambda number: use(made.lane(f"few {number}")), 200)
        spent(lambda number: use(made.lane(f"more {number}")), 600)
        many = spent(lambda number: use(made.lane(f"many {number}")), 200)
        assert many < 3 * few

    run(main())


def test_attempts_given_up_at_a_full_limit_lower_it_and_one_given_up_alone_does_not() -> None:
    async def main() -> None:
        lane = upstream().lane("m")
        # Alone, and given up: the limit was not in use.
        permit = permit_now(lane)
        before = lane.limiter.limit
        await asyncio.sleep(60)
        assert permit is not None
        permit.release(Outcome.LATE)
        assert lane.limiter.limit == before > 1
        # All places in use, and none answers.
        full = [permit for _ in range(before) if (permit := permit_now(lane)) is not None]
        await asyncio.sleep(60)
        for each in full:
            each.release(Outcome.LATE)
        assert 1 <= lane.limiter.limit < before
        assert lane.counters.failed == before + 1

    run(main())
