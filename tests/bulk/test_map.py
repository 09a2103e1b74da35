"""`bulk.map`: every request once, in bounded memory, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any, Literal

import pytest

from aimlasync import AsyncClient, Budget, BudgetExceededError, NotFoundError, RateLimitError, agents
from aimlasync.bulk import Answer, Request, RequestError, Result, classify, map
from aimlasync.errors import AnswerInvalidError
from aimlasync.simulator import Answer as Said
from aimlasync.simulator import Fault, SimRequest, Simulator
from tests.support.servers import Script, raw_server, until

MODEL = "openai/gpt-5-nano"
ORDERS: list[Literal["completion", "input"]] = ["completion", "input"]


def call(text: object) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": str(text)}]}


def echo(request: SimRequest) -> str:
    return f"<{request.text}>"


def client_of(simulator: Simulator) -> AsyncClient:
    return AsyncClient(api_key="k", base_url=simulator.base_url, max_retries=0)


def is_idle(client: AsyncClient) -> bool:
    gate = client._pipeline.balancer.upstreams[0].limiter
    return gate.in_flight == gate.waiting == 0


async def later(items: Any) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


def plainly(items: Any) -> Any:
    return items


def once(items: Any) -> Any:
    return iter(items)


@pytest.mark.parametrize("given", [plainly, once, later])
@pytest.mark.parametrize("order", ["completion", "input"])
async def test_every_request_is_answered_once(given: Callable[[Any], Any], order: Any) -> None:
    async with Simulator(answer=echo) as simulator, client_of(simulator) as client:
        calls = [call(number) for number in range(60)]
        results = [result async for result in map(client, given(calls), concurrency=7, order=order)]
        numbers = [int(result.custom_id.removeprefix("row-")) for result in results]
        assert sorted(numbers) == list(range(1, 61))
        assert order == "completion" or numbers == sorted(numbers)
        assert all(result.text == f"<{number - 1}>" for number, result in zip(numbers, results, strict=True))
        assert all((result.calls, result.attempts) == (1, 1) for result in results)
        assert len(simulator.ledger) == 60
        assert simulator.ledger.peak_in_flight <= 7
        assert is_idle(client)


async def test_requests_come_in_three_ways_and_for_both_endpoints(client: AsyncClient, simulator: Simulator) -> None:
    given: list[Any] = [
        Request(custom_id="mine", api="responses", body={"model": MODEL, "input": "a"}),
        {"custom_id": "line", "method": "POST", "url": "/v1/chat/completions", "body": call("b")},
        {"model": MODEL, "input": "c", "max_output_tokens": 500},
        call("d"),
    ]
    results = [result async for result in map(client, given, order="input")]
    assert [result.custom_id for result in results] == ["mine", "line", "row-3", "row-4"]
    assert [result.request.api for result in results] == ["responses", "chat", "responses", "chat"]
    assert all(result.ok and result.text for result in results)
    assert [result.cost_usd for result in results] == [result.info and result.info.cost_usd for result in results]


@pytest.mark.parametrize("more", [{}, {"temperature": 0.5}])
async def test_messages_of_earlier_replies_are_sent_as_the_server_sent_them(more: dict[str, Any]) -> None:
    sent = {"role": "assistant", "content": "one", "odd": {"a": [None]}}
    body = json.dumps({"id": "c", "choices": [{"index": 0, "message": sent, "finish_reason": "stop"}]}).encode()
    script = Script([body], content_type="application/json", end="keep")
    async with raw_server(script) as server, AsyncClient(api_key="k", base_url=server.base_url) as client:
        reply = await client.chat.completions.create(**call("one"))
        message = reply.choices[0].message
        talk = {"model": MODEL, "messages": [message, {"role": "user", "content": "two"}], **more}
        given: list[Any] = [talk, Request(custom_id="r", api="chat", body=talk), {"custom_id": "l", "body": talk}]
        assert [result.ok async for result in map(client, given)] == [True] * 3
        assert [json.loads(one)["messages"][0] for one in server.bodies[1:]] == [sent] * 3
        assert talk["messages"][0] is message


async def test_nothing_is_asked_where_there_is_nothing_to_ask(client: AsyncClient, simulator: Simulator) -> None:
    assert [result async for result in map(client, [])] == []
    assert [result async for result in map(client, later([]), order="input")] == []
    assert len(simulator.ledger) == 0


@pytest.mark.parametrize("order", ["completion", "input"])
@pytest.mark.parametrize("given", [once, later])
async def test_no_more_is_taken_than_is_at_work_or_unread(given: Callable[[Any], Any], order: Any) -> None:
    workers, taken, read = 4, 0, 0

    def calls() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for number in range(150):
            taken += 1
            yield call(number)

    async with Simulator(answer=echo) as simulator, client_of(simulator) as client:
        bound = 3 * workers if order == "completion" else 8 * workers + 3 * workers
        async for _ in map(client, given(calls()), concurrency=workers, order=order):
            read += 1
            assert taken - read <= bound
        assert (taken, read) == (150, 150)


async def test_a_reader_that_does_not_read_holds_the_calls_up() -> None:
    async with Simulator(answer=echo) as simulator, client_of(simulator) as client:
        async with aclosing(map(client, (call(number) for number in range(10_000)), concurrency=3)) as results:
            await anext(results)
            await until(lambda: is_idle(client))
            asked = len(simulator.ledger)
            assert asked <= 1 + 2 * 3
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(simulator.ledger) == asked
            for _ in range(asked):
                await anext(results)
            await until(lambda: len(simulator.ledger) > asked)


async def test_in_input_order_a_slow_first_row_holds_the_others_back_within_a_bound() -> None:
    workers = 2

    async def calls() -> AsyncIterator[dict[str, Any]]:
        for number in range(1000):
            yield call("slow" if number == 0 else number)

    faults = [Fault("stall", match=lambda request: request.text == "slow", times=1)]
    async with Simulator(answer=echo, faults=faults) as simulator, client_of(simulator) as client:
        results = map(client, calls(), concurrency=workers, order="input")
        reading = asyncio.ensure_future(anext(results))
        await until(lambda: len(simulator.ledger) >= 8 * workers)
        await until(lambda: client._pipeline.balancer.upstreams[0].limiter.in_flight == 1)
        assert not reading.done()
        assert len(simulator.ledger) <= 8 * workers
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await until(lambda: is_idle(client))


async def test_failures_are_results_unless_the_first_is_to_be_raised() -> None:
    faults = [Fault("status", status=429, match=lambda request: request.text in "27")]
    async with Simulator(answer=echo, faults=faults) as simulator, client_of(simulator) as client:
        calls = [call(number) for number in range(10)]
        results = [result async for result in map(client, calls, order="input")]
        assert [result.custom_id for result in results if not result.ok] == ["row-3", "row-8"]
        assert all(isinstance(result.error, RateLimitError) for result in results if not result.ok)
        read = []
        with pytest.raises(RateLimitError):  # noqa: PT012
            async for result in map(client, calls, concurrency=1, return_exceptions=False):
                read.append(result.text)  # noqa: PERF401  # what came before the error counts
        assert read == ["<0>", "<1>"]
        assert is_idle(client)


async def test_the_first_failure_cancels_the_calls_in_flight() -> None:
    faults = [
        Fault("status", status=404, match=lambda request: request.text == "bad"),
        Fault("stall", match=lambda request: request.text == "slow"),
    ]
    before = asyncio.all_tasks()
    async with Simulator(faults=faults) as simulator, client_of(simulator) as client:
        texts = ["slow", "slow", "slow"]

        async def calls() -> AsyncIterator[dict[str, Any]]:
            for text in texts:
                yield call(text)
            await until(lambda: len(simulator.ledger) == 3)
            yield call("bad")

        with pytest.raises(NotFoundError):
            async for _ in map(client, calls(), concurrency=4, return_exceptions=False):
                pass
        assert is_idle(client)
        await until(lambda: sum(attempt.disconnected for attempt in simulator.ledger) == 3)
    await until(lambda: asyncio.all_tasks() == before)


@pytest.mark.parametrize("order", ["completion", "input"])
async def test_left_early_it_leaves_no_task_and_no_permit(order: Any) -> None:
    faults = [Fault("stall", match=lambda request: request.text != "0")]
    async with Simulator(faults=faults) as simulator, client_of(simulator) as client:
        await client.chat.completions.create(**call("0"))
        before = asyncio.all_tasks()
        for given in (once, later):
            async with aclosing(
                map(client, given([call(number) for number in range(9)]), concurrency=5, order=order)
            ) as results:
                async for result in results:
                    assert result.custom_id == "row-1"
                    break
            assert is_idle(client)
            await until(lambda: asyncio.all_tasks() - before <= {asyncio.current_task()} | server_tasks(before))


def server_tasks(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """The simulator's own, one for each connection, which live in the same loop."""
    return {task for task in asyncio.all_tasks() - before if "RequestHandler" in repr(task.get_coro())}


async def test_a_classification_left_early_is_over_at_once() -> None:
    faults = [Fault("stall", match=lambda request: "crash" in request.text)]
    async with Simulator(faults=faults) as simulator, client_of(simulator) as client:
        texts = ["refund", *["crash"] * 9]
        async with aclosing(classify(client, texts, labels=["a", "b"], model=MODEL, concurrency=5)) as results:
            await anext(results)
        assert is_idle(client)


@pytest.mark.parametrize("turns", range(24))
async def test_it_may_be_cancelled_at_any_turn_of_the_loop(turns: int) -> None:
    async with Simulator(answer=echo) as simulator, client_of(simulator) as client:

        async def go() -> int:
            return len([result async for result in map(client, [call(n) for n in range(12)], concurrency=3)])

        task = asyncio.ensure_future(go())
        for _ in range(turns * 4):
            await asyncio.sleep(0)
        task.cancel()
        done = (await asyncio.gather(task, return_exceptions=True))[0]
        assert done == 12 or isinstance(done, asyncio.CancelledError)
        assert is_idle(client)
        assert (await client.chat.completions.create(**call("x"))).text == "<x>"


async def test_what_is_no_request_ends_it_after_what_was_answered() -> None:
    async with Simulator(answer=echo) as simulator, client_of(simulator) as client:
        bads: list[dict[str, Any]] = [{}, {"model": MODEL}, {**call("x"), "stream": True}, {"messages": []}]
        for bad in bads:
            for order in ORDERS:
                read = []
                with pytest.raises(RequestError):  # noqa: PT012
                    async for result in map(client, [call(0), call(1), bad], order=order):
                        read.append(result.text)  # noqa: PERF401  # what came before the error counts
                assert sorted(map_text(read)) == ["<0>", "<1>"]
        assert is_idle(client)


def map_text(texts: list[str | None]) -> list[str]:
    return [text or "" for text in texts]


@pytest.mark.parametrize("given", ["Hello", b"Hello", {"model": "m", "input": "Hello"}])
async def test_one_text_is_not_asked_about_letter_by_letter(
    given: Any, client: AsyncClient, simulator: Simulator
) -> None:
    agent = agents.Agent(model=MODEL)
    for results in (
        map(client, given),
        classify(client, given, labels=["good", "bad"], model=MODEL),
        agents.map(client, given, agent),
    ):
        with pytest.raises(TypeError, match=f"a list or an iterator, not as one {type(given).__name__}"):
            async for _ in results:
                pass
    assert not simulator.ledger


async def test_what_is_no_row_and_no_request_is_named_with_its_number(client: AsyncClient) -> None:
    wrong: Any = ["Hello"]
    with pytest.raises(ValueError, match=r"request 1: a str, and no dict of the parameters of a call: \{'model'"):
        async for _ in map(client, wrong):
            pass
    wrong = ["Hello", 3.5]
    with pytest.raises(TypeError, match="text 2 is a float; give a string, or a row as a dict"):
        async for _ in classify(client, wrong, labels=["good", "bad"], model=MODEL):
            pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"order": "inpt"}, 'order must be "input" or "completion", not \'inpt\''),
        ({"concurrency": -1}, "concurrency must be at least 1, not -1"),
    ],
)
async def test_an_option_that_means_nothing_is_refused_and_nothing_waited_for(
    options: dict[str, Any], words: str, client: AsyncClient, simulator: Simulator
) -> None:
    asked = [{"model": MODEL, "input": "Hello"}]
    for results in (
        map(client, asked, **options),
        classify(client, ["Hello"], labels=["good", "bad"], model=MODEL, **options),
        agents.map(client, ["Hello"], agents.Agent(model=MODEL), **options),
    ):
        with pytest.raises(ValueError, match=words):
            await anext(results)
    assert not simulator.ledger


async def test_a_result_is_shown_in_a_line(client: AsyncClient) -> None:
    rows = ["I was charged twice " + "again and " * 200, ""]
    shown = [repr(result) async for result in classify(client, rows, labels=["billing", "support"], model=MODEL)]
    assert shown[0] == "<Result row-1 ok 'billing'>"
    assert shown[1].startswith("<Result row-2 EmptyTextError: the text is empty")
    requests = [{"model": MODEL, "input": "Hello\n" * 100}, {"model": "none", "input": "x"}]
    long, wrong = [repr(result) async for result in map(client, requests, order="input")]
    assert long.startswith("<Result row-1 ok '")
    assert wrong.startswith("<Result row-2 NotFoundError: HTTP 404: ")
    assert max(len(text) for text in (*shown, long, wrong)) < 140


async def test_an_error_of_the_input_is_raised_after_what_was_answered() -> None:
    async def calls() -> AsyncIterator[dict[str, Any]]:
        yield call(0)
        raise ZeroDivisionError

    async with Simulator(answer=echo) as simulator, client_of(simulator) as client:
        results = map(client, calls())
        assert (await anext(results)).text == "<0>"
        with pytest.raises(ZeroDivisionError):
            await anext(results)


async def test_an_answer_that_is_no_good_is_asked_for_again() -> None:
    async with Simulator(answer=lambda request: f"{len(simulator.ledger)}") as simulator:
        async with client_of(simulator) as client:

            def third(reply: Any) -> Answer:
                if reply.text != "3":
                    raise AnswerInvalidError("not yet", reply=reply, raw=reply.raw, info=reply.info)
                return Answer(label="three")

            (result,) = [one async for one in map(client, [call("x")], read=third, retry_invalid=1)]
            assert isinstance(result.error, AnswerInvalidError)
            assert (result.calls, result.attempts, result.text, result.answer) == (2, 2, "2", None)
            (result,) = [one async for one in map(client, [call("x")], read=third, retry_invalid=1)]
            assert (result.ok, result.calls, result.answer) == (True, 1, Answer(label="three"))


async def test_a_reader_that_breaks_ends_it_with_its_own_error(client: AsyncClient) -> None:
    def broken(reply: Any) -> Answer:
        raise KeyError("label")

    with pytest.raises(KeyError):
        async for _ in map(client, [call("x"), call("y")], read=broken):
            pass
    assert is_idle(client)


async def test_a_reply_stays_when_the_call_after_it_fails() -> None:
    faults = [Fault("status", status=429, after=1)]
    async with Simulator(answer=lambda request: Said(text="x"), faults=faults) as simulator:
        async with client_of(simulator) as client:

            def never(reply: Any) -> Answer:
                raise AnswerInvalidError("no", reply=reply, raw=reply.raw, info=reply.info)

            (result,) = [one async for one in map(client, [call("x")], read=never, retry_invalid=3)]
            assert isinstance(result.error, RateLimitError)
            assert result.reply is not None
            assert (result.text, result.calls, result.attempts) == ("x", 2, 2)
            assert result.info is result.error.info is not result.reply.info


def facts(result: Result) -> tuple[Any, ...]:
    return result.attempts, result.tokens_in, result.tokens_out, result.cost_usd, result.text, result.info


async def test_a_call_that_was_never_sent_has_no_attempts_and_no_cost(client: AsyncClient) -> None:
    poor = client.with_options()
    poor.budget = Budget(0.0)
    (result,) = [one async for one in map(poor, [call("x")])]
    assert isinstance(result.error, BudgetExceededError)
    assert facts(result) == (0, None, None, None, None, result.error.info)


async def test_a_request_that_is_none_is_named_by_its_number(client: AsyncClient) -> None:
    good = {"model": MODEL, "input": "Hello"}
    bads: list[dict[str, Any]] = [{"model": MODEL}, {"input": "Hello"}, {**good, "stream": True}]
    for bad in bads:
        with pytest.raises(RequestError, match=r"^request 2: "):
            async for _ in map(client, [good, bad]):
                pass
