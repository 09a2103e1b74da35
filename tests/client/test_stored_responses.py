"""Responses that a server keeps: fetched, cancelled, deleted, waited for, and their streams taken up again."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aimlasync import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    Endpoint,
    Limits,
    NotFoundError,
    ResponseFailedError,
    Retry,
    TruncatedStreamError,
    UnsupportedRequestError,
)
from aimlasync.headers import Fields
from aimlasync.responses.events import ResponseTextDeltaEvent
from aimlasync.responses.types import decode_response
from aimlasync.simulator import Fault, Latency, Simulator
from aimlasync.wire.base import encode
from tests.support import virtual
from tests.support.servers import Script, raw_server

MODEL = "openai/gpt-5-nano-2025-08-07"
QUICK = Retry(attempts=3, base=0.001)


@pytest.fixture
async def slow() -> AsyncIterator[tuple[Simulator, AsyncClient]]:
    """A vendor that answers in a while, and a client of it."""
    async with Simulator(vendor="openai", latency=Latency(first_token=30.0)) as simulator:
        async with AsyncClient("k", simulator.base_url, retry=QUICK) as client:
            yield simulator, client


@pytest.fixture
async def fast() -> AsyncIterator[tuple[Simulator, AsyncClient]]:
    async with Simulator(vendor="openai") as simulator:
        # A limit that is stated: a rate that is learned would keep the call after a failure waiting for a second.
        endpoint = Endpoint(api_key="k", base_url=simulator.base_url, limits=Limits(concurrency=8))
        async with AsyncClient(endpoints=[endpoint], retry=QUICK) as client:
            yield simulator, client


# --- the life of a background response ---------------------------------------------------------------------------


async def test_a_background_response_is_returned_as_what_it_is(slow: Any) -> None:
    _, client = slow
    made = await client.responses.create(model="m", input="Hello", background=True)
    assert (made.status, made.is_done, made.output_text) == ("queued", False, "")
    again = await client.responses.retrieve(made.id)
    assert (again.id, again.status, again.is_done) == (made.id, "queued", False)


async def test_a_background_response_of_a_type_is_returned_as_what_it_is_too(slow: Any) -> None:
    _, client = slow
    made = await client.responses.parse(model="m", input="Hello", text_format=list[str], background=True)
    assert (made.status, made.is_done, made.parsed) == ("queued", False, None)


async def test_a_done_response_is_fetched_whole_by_its_id_or_by_itself(fast: Any) -> None:
    _, client = fast
    made = await client.responses.create(model="m", input="Hello", background=True)
    by_id = await client.responses.retrieve(made.id)
    assert (by_id.status, by_id.is_done) == ("completed", True)
    assert "Hello" in by_id.output_text
    assert (await client.responses.retrieve(made)).output_text == by_id.output_text


async def test_a_response_that_was_stored_without_the_background_is_fetched_too(fast: Any) -> None:
    _, client = fast
    made = await client.responses.create(model="m", input="Hello", store=True)
    assert (await client.responses.retrieve(made)).output_text == made.output_text


async def test_tokens_of_a_response_are_not_counted_again_each_time_it_is_fetched(fast: Any) -> None:
    _, client = fast
    made = await client.responses.create(model="m", input="Hello", store=True)
    before = client.statistics()[0]
    fetched = await client.responses.retrieve(made)
    after = client.statistics()[0]
    assert fetched.usage.total_tokens > 0
    assert (after.prompt_tokens, after.completion_tokens) == (before.prompt_tokens, before.completion_tokens)
    assert after.attempts == before.attempts + 1


async def test_a_cancelled_response_is_cancelled_for_good_and_cancelling_twice_is_harmless(slow: Any) -> None:
    _, client = slow
    made = await client.responses.create(model="m", input="Hello", background=True)
    for _ in range(2):
        cancelled = await client.responses.cancel(made)
        assert (cancelled.status, cancelled.is_done) == ("cancelled", True)
    with pytest.raises(ResponseFailedError, match=f"{made.id} ended as cancelled") as caught:
        await client.responses.wait(made.id)
    assert caught.value.reply.status == "cancelled"


async def test_a_deleted_response_is_gone(fast: Any) -> None:
    _, client = fast
    made = await client.responses.create(model="m", input="Hello", background=True)
    await client.responses.delete(made.id)
    with pytest.raises(NotFoundError):
        await client.responses.retrieve(made.id)
    with pytest.raises(NotFoundError):
        await client.responses.delete(made.id)


async def test_a_delete_whose_answer_was_lost_is_no_error_the_second_time() -> None:
    gone = Script([b'{"error":{"message":"no such response"}}'], status=404, content_type="application/json")
    async with raw_server(Script(head=b"", end="cut"), gone) as server:
        async with AsyncClient("k", server.base_url, retry=QUICK) as client:
            await client.responses.delete("resp_1")
    assert [head.split(b" ")[0] for head in server.requests] == [b"DELETE", b"DELETE"]


async def test_look_ups_are_retried_like_calls(fast: Any) -> None:
    simulator, client = fast
    made = await client.responses.create(model="m", input="Hello", background=True)
    simulator.faults = [Fault("status", status=503, times=1)]
    assert (await client.responses.retrieve(made)).info.attempts == 2
    simulator.faults = [Fault("reset", times=1)]
    assert (await client.responses.cancel(made)).info.attempts == 2


async def test_a_post_without_a_body_states_its_length() -> None:
    done = Script([b'{"id":"resp_1","status":"cancelled"}'], content_type="application/json")
    async with raw_server(done) as server:
        async with AsyncClient("k", server.base_url) as client:
            await client.responses.cancel("resp_1")
    assert server.requests[0].startswith(b"POST /v1/responses/resp_1/cancel HTTP/1.1\r\n")
    assert b"content-length: 0" in server.requests[0].lower()


async def test_a_conversation_is_compacted_by_a_call_like_any_other() -> None:
    body = {
        "id": "resp_c",
        "object": "response.compaction",
        "output": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}],
        "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
    }
    answer = Script([json.dumps(body).encode()], content_type="application/json", end="keep")
    async with raw_server(answer) as server:
        async with AsyncClient("k", server.base_url) as client:
            short = await client.responses.compact(model="m", input=[{"role": "user", "content": "Hello"}])
            await client.responses.create(model="m", input=short.output)
            assert client.statistics()[0].prompt_tokens == 10
    assert server.requests[0].startswith(b"POST /v1/responses/compact HTTP/1.1\r\n")
    assert json.loads(server.bodies[0]) == {"model": "m", "input": [{"role": "user", "content": "Hello"}]}
    assert json.loads(server.bodies[1])["input"] == body["output"]


# --- input items -------------------------------------------------------------------------------------------------


async def test_input_items_are_paged_through(fast: Any) -> None:
    simulator, client = fast
    items = [{"role": "user", "content": f"number {n}"} for n in range(5)]
    made = await client.responses.create(model="m", input=items, store=True)
    page = await client.responses.input_items(made, limit=2)
    assert (len(page.data), page.has_more, page.info.status) == (2, True, 200)
    found = [item.content[0].text async for item in client.responses.input_items.list(made.id, limit=2, order="asc")]
    assert found == [f"number {n}" for n in range(5)]
    assert page.data[0].to_dict() == {
        "id": "msg_input_4",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "number 4"}],
    }
    assert [one.path for one in simulator.ledger][-3:] == [f"/v1/responses/{made.id}/input_items"] * 3


async def test_a_server_that_says_there_is_more_for_ever_is_not_asked_for_ever() -> None:
    page = Script([b'{"data":[{"id":"a"}],"last_id":"a","has_more":true}'], content_type="application/json", end="keep")
    async with raw_server(page) as server:
        async with AsyncClient("k", server.base_url) as client:
            assert [item async for item in client.responses.input_items("resp_1")] == [{"id": "a"}, {"id": "a"}]


# --- streams -----------------------------------------------------------------------------------------------------


async def test_a_stream_that_broke_goes_on_where_it_stopped(fast: Any) -> None:
    simulator, client = fast
    simulator.faults = [Fault("cut_stream", at=7, times=1), Fault("cut_stream", at=2, times=1)]
    text = ""
    breaks = 0
    stream = await client.responses.create(model="m", input="Hello", background=True, stream=True)
    while True:
        try:
            async for event in stream:
                if isinstance(event, ResponseTextDeltaEvent):
                    text += event.delta
            break
        except TruncatedStreamError as error:
            breaks += 1
            made = error.partial
            stream = await client.responses.retrieve(made, stream=True, starting_after=stream.sequence_number)
    assert breaks == 2
    assert text == (await client.responses.retrieve(made)).output_text
    assert (await stream.collect()).output_text == text


async def test_starting_after_without_a_stream_is_refused(fast: Any) -> None:
    _, client = fast
    with pytest.raises(ValueError, match="stream=True"):
        await client.responses.retrieve("resp_1", starting_after=3)


async def test_a_stream_of_a_cancelled_response_is_no_success(fast: Any) -> None:
    simulator, client = fast
    simulator.state.latency = Latency(per_token=5.0)
    made = await client.responses.create(model="m", input="Hello", background=True)
    await client.responses.cancel(made)
    with pytest.raises(TruncatedStreamError):
        await client.responses.retrieve(made, stream=True)


# --- where it is -------------------------------------------------------------------------------------------------


async def test_a_response_is_looked_for_where_it_was_made_and_an_id_everywhere_in_order() -> None:
    async with Simulator(vendor="openai") as first, Simulator(vendor="openai", seed=1) as second:
        endpoints = [
            Endpoint(base_url=each.base_url, api_key="k", name=name)
            for name, each in (("first", first), ("second", second))
        ]
        async with AsyncClient("k", second.base_url) as other:
            made = await other.responses.create(model="m", input="Hello", store=True)
        async with AsyncClient(endpoints=endpoints) as client:
            assert (await client.responses.retrieve(made.id)).info.endpoint == "second"
            assert [len(first.ledger), len(second.ledger)] == [1, 2]
            made.info.endpoint = "second"
            await client.responses.retrieve(made)
            assert [len(first.ledger), len(second.ledger)] == [1, 3]
            with pytest.raises(NotFoundError) as caught:
                await client.responses.retrieve("resp_unknown")
            assert caught.value.info is not None
            assert caught.value.info.endpoint == "first"


@pytest.mark.parametrize(
    "id", ["", "a/b", "..", "a/../b", "%2e%2e", "a%2fb", "a%252Fb", "a\\b", "a\r\nb", "http://x/y", None, 7]
)
async def test_an_id_that_is_no_segment_of_a_path_is_refused_before_anything_is_sent(id: Any, fast: Any) -> None:
    simulator, client = fast
    for ask in (client.responses.retrieve, client.responses.cancel, client.responses.delete, client.responses.wait):
        with pytest.raises(UnsupportedRequestError):
            await ask(id)
    with pytest.raises(UnsupportedRequestError):
        await client.responses.input_items(id)
    assert len(simulator.ledger) == 0


async def test_an_odd_id_is_quoted() -> None:
    done = Script([b'{"id":"x"}'], content_type="application/json")
    async with raw_server(done) as server:
        async with AsyncClient("k", server.base_url) as client:
            await client.responses.retrieve("resp ?#é", include=["message.output_text.logprobs"])
    line = server.requests[0].split(b"\r\n")[0]
    assert line == (b"GET /v1/responses/resp%20%3F%23%C3%A9?include[]=message.output_text.logprobs HTTP/1.1")


# --- waiting, in virtual time ------------------------------------------------------------------------------------


class Answers:
    """A transport that answers the nth request with the nth body, the last one for all that follow."""

    def __init__(self, *bodies: Any) -> None:
        self.bodies = bodies
        self.asked: list[tuple[str, str, float]] = []
        self.open = 0

    async def send(self, method: str, url: str, *_: Any, **__: Any) -> Any:
        self.asked.append((method, url, asyncio.get_running_loop().time()))
        body = self.bodies[min(len(self.asked), len(self.bodies)) - 1]
        if isinstance(body, Exception):
            raise body
        await asyncio.sleep(0.05)
        return _Whole(body)

    async def close(self) -> None:
        pass


class _Whole:
    def __init__(self, body: Any) -> None:
        self.status = body.pop("HTTP", 200) if isinstance(body, dict) else 200
        self.headers = Fields({"content-type": "content-type: application/json"})
        self._body = json.dumps(body).encode()

    async def read(self, max_bytes: int = 0) -> bytes:
        return self._body

    async def read_some(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def abort(self) -> None:
        pass

    def finish(self) -> None:
        pass


def state(status: str, **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": status, "output": [], **fields}


def wait_for(*bodies: Any, timeout: float | None = None, given: Any = "resp_1") -> tuple[Any, Answers]:
    """Return what `wait` returned or raised, in virtual time, and what was asked."""
    answers = Answers(*bodies)

    async def main() -> Any:
        client = AsyncClient(base_url="http://127.0.0.1:1/v1", transport=answers, retry=Retry(attempts=1))
        async with client:
            try:
                return await client.responses.wait(given, timeout=timeout)
            except Exception as error:  # noqa: BLE001
                return error
            finally:
                assert client.statistics()[0].in_flight == 0
                assert len(asyncio.all_tasks()) == 1

    return virtual.run(main()), answers


def test_the_looks_become_rarer_and_the_answer_is_returned() -> None:
    found, answers = wait_for(*[state("queued")] * 3, *[state("in_progress")] * 20, state("completed", output_text="x"))
    assert (found.status, found.output_text) == ("completed", "x")
    times = [at for _, _, at in answers.asked]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(times) == 24
    assert gaps[0] < 1
    assert all(gap > 7 for gap in gaps[10:])
    assert all(gap < 13 for gap in gaps)
    assert len(set(gaps[12:])) > 3


def test_an_answer_that_was_cut_is_returned_as_create_returns_it() -> None:
    found, _ = wait_for(state("incomplete", incomplete_details={"reason": "max_output_tokens"}))
    assert found.truncated


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired", "a_new_word"])
def test_a_response_that_ended_without_an_answer_is_an_error_that_says_how(status: str) -> None:
    error, answers = wait_for(state(status, error={"code": "server_error", "message": "boom"}))
    assert isinstance(error, ResponseFailedError)
    assert str(error) == f"resp_1 ended as {status}: boom"
    assert (error.reply.status, error.code, error.retryable) == (status, "server_error", False)
    assert error.info is not None
    assert len(answers.asked) == 1


@pytest.mark.parametrize("status", ["pending", "processing", "running", "cancelling", "In-Progress", None])
def test_a_response_that_runs_on_by_another_word_is_waited_for(status: Any) -> None:
    found, answers = wait_for(state(status), state("queued"), state("succeeded", output_text="x"))
    assert (found.status, found.output_text, len(answers.asked)) == ("succeeded", "x", 3)
    assert (decode_response(encode(state(status))).is_done, found.is_done) == (False, True)


@pytest.mark.parametrize("status", ["COMPLETED", "Incomplete"])
def test_a_status_is_the_same_in_capitals(status: str) -> None:
    found, _ = wait_for(state(status, output_text="x"))
    assert (found.status, found.output_text) == (status, "x")


def test_why_a_response_failed_is_told_by_its_details_too() -> None:
    error, _ = wait_for(state("failed", incomplete_details={"reason": "content_filter"}))
    assert str(error) == "resp_1 ended as failed: content_filter"


def test_a_response_that_was_just_made_may_not_be_found_at_once() -> None:
    missing = {"HTTP": 404, "error": {"message": "no such response"}}
    made = decode_response(encode(state("queued")))
    found, answers = wait_for(dict(missing), dict(missing), state("completed"), given=made)
    assert (found.status, len(answers.asked)) == ("completed", 3)
    error, answers = wait_for(*(dict(missing) for _ in range(9)), given=made)
    assert isinstance(error, NotFoundError)
    assert ("has expired" in str(error), len(answers.asked)) == (True, 5)


def test_a_response_that_the_server_has_not_is_an_error_with_the_likely_reasons() -> None:
    error, _ = wait_for({"HTTP": 404, "error": {"message": "no such response"}})
    assert isinstance(error, NotFoundError)
    assert "has expired" in str(error)


def test_the_deadline_ends_the_wait_and_nothing_is_left() -> None:
    error, answers = wait_for(state("in_progress"), timeout=60)
    assert isinstance(error, APITimeoutError)
    assert (str(error), error.phase) == ("resp_1 has not ended within 60 s", "total")
    assert answers.asked[-1][2] - answers.asked[0][2] < 60


def test_a_look_that_fails_is_not_the_end_but_one_after_another_is() -> None:
    broken = APIConnectionError("the connection was reset")
    found, _ = wait_for(state("queued"), broken, broken, state("in_progress"), broken, state("completed"))
    assert found.status == "completed"
    error, answers = wait_for(state("queued"), broken)
    assert isinstance(error, APIConnectionError)
    assert len(answers.asked) == 6


def test_a_wait_that_is_cancelled_leaves_nothing_behind() -> None:
    answers = Answers(state("in_progress"))

    async def main() -> None:
        async with AsyncClient(base_url="http://127.0.0.1:1/v1", transport=answers) as client:
            waiting = asyncio.create_task(client.responses.wait("resp_1"))
            await asyncio.sleep(30)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            assert client.statistics()[0].in_flight == 0
            assert len(asyncio.all_tasks()) == 1

    virtual.run(main())
    assert {method for method, _, _ in answers.asked} == {"GET"}


async def test_a_response_that_is_done_is_returned_without_asking(fast: Any) -> None:
    simulator, client = fast
    made = await client.responses.create(model="m", input="Hello")
    assert await client.responses.wait(made) is made
    assert len(simulator.ledger) == 1


async def test_a_wait_over_a_socket_ends_with_the_answer() -> None:
    async with Simulator(vendor="openai", latency=Latency(first_token=0.2)) as simulator:
        async with AsyncClient("k", simulator.base_url) as client:
            made = await client.responses.create(model="m", input="Hello", background=True)
            done = await client.responses.wait(made, timeout=30)
    assert "Hello" in done.output_text
