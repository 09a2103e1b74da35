"""What finish reasons mean, in the words of every vendor: for `truncated`, `parse`, agents and bulk alike."""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import Any

import pytest

from aimlasync import (
    AnswerError,
    AnswerInvalidError,
    AnswerRefusedError,
    AnswerTruncatedError,
    AsyncClient,
    Retry,
    StreamError,
    agents,
)
from aimlasync.bulk.tasks.tasks import read_any
from aimlasync.chat.endings import ending_of
from aimlasync.chat.types import ChatCompletion, decode_completion
from aimlasync.responses.types import decode_response
from tests.client.test_stream import connect
from tests.support.servers import RawServer, Script, raw_server

CAPS = ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length", "model_context_window_exceeded"]
CAPS += ["FinishReason.MAX_TOKENS", "max-tokens", "max tokens"]
FILTERS = ["content_filter", "SAFETY", "refusal", "RECITATION", "PROHIBITED_CONTENT"]
FILTERS += ["content-filter", "FinishReason.SAFETY"]
FAILURES = ["MALFORMED_FUNCTION_CALL", "malformed_response", "OTHER"]
GIVEN_UP = ["error", "insufficient_system_resource", "abort", "network_error", "Aborted", "engine-error", "timeout"]


def answer(reason: str | None, content: str | None = "half an", **message: Any) -> bytes:
    message = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return json.dumps({"id": "c", "choices": [choice]}).encode()


def given_up(reason: str, content: str = "half an", native: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}
    return {"id": "c", "choices": [choice if native is None else {**choice, "native_finish_reason": native}]}


def streamed(body: dict[str, Any]) -> bytes:
    choice = dict(body["choices"][0])
    said = {"index": 0, "delta": choice.pop("message")}
    frames = [{"id": "c", "choices": [one]} for one in (said, {**choice, "delta": {}})]
    return b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames) + b"data: [DONE]\n\n"


async def ask(client: AsyncClient, *, is_streamed: bool) -> ChatCompletion:
    if is_streamed:
        return await (await client.chat.completions.create(model="m", messages=[], stream=True)).collect()
    return await client.chat.completions.create(model="m", messages=[])


def serving(body: bytes) -> Any:
    return raw_server(Script([body], content_type="application/json", end="keep"))


class Team(Enum):
    SALES = "sales"
    SUPPORT = "support"


async def parse(server: RawServer) -> None:
    async with connect(server) as client:
        await client.chat.completions.parse(model="m", messages=[], response_format=Team)


async def run_agent(server: RawServer, *, stream: bool = False) -> str:
    async with connect(server) as client:
        if not stream:
            return str((await agents.run(client, model="m", input="hi")).output)
        async with agents.stream(client, model="m", input="hi") as running:
            async for _ in running:
                pass
            return str(running.run.output)


@pytest.mark.parametrize("reason", CAPS)
async def test_every_word_for_a_cap_is_a_cut_answer(reason: str) -> None:
    assert ending_of(reason) == "cap"
    assert decode_completion(answer(reason)).truncated
    async with serving(answer(reason)) as server:
        with pytest.raises(AnswerTruncatedError):
            await parse(server)
        with pytest.raises(AnswerTruncatedError):
            await run_agent(server)
        with pytest.raises(AnswerTruncatedError):
            await run_agent(server, stream=True)


@pytest.mark.parametrize("reason", FILTERS)
async def test_every_word_for_a_filter_is_a_refusal(reason: str) -> None:
    assert not decode_completion(answer(reason)).truncated
    async with serving(answer(reason)) as server:
        with pytest.raises(AnswerRefusedError, match=reason):
            await parse(server)
        with pytest.raises(AnswerRefusedError, match=reason):
            await run_agent(server)


@pytest.mark.parametrize("reason", FAILURES)
@pytest.mark.parametrize("content", ["", "half an"])
async def test_an_answer_that_failed_is_no_answer_and_the_reason_is_named(reason: str, content: str) -> None:
    async with serving(answer(reason, content)) as server:
        with pytest.raises(AnswerInvalidError, match=reason):
            await parse(server)
        with pytest.raises(AnswerInvalidError, match=reason):
            await run_agent(server)
    with pytest.raises(AnswerInvalidError):
        read_any(decode_completion(answer(reason, content)))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        *((given_up(reason), reason) for reason in GIVEN_UP),
        (given_up("stop", native="network_error"), "network_error"),
        (given_up("length", native="ERROR"), "ERROR"),
    ],
)
@pytest.mark.parametrize("form", ["whole", "streamed", "whole, to be streamed"])
async def test_an_answer_that_the_server_gave_up_on_is_no_success(body: dict[str, Any], word: str, form: str) -> None:
    script = Script([streamed(body) if form == "streamed" else json.dumps(body).encode()], end="keep")
    async with raw_server(script) as server, connect(server) as client:
        with pytest.raises(StreamError, match=re.escape(repr(word))) as caught:
            await ask(client, is_streamed=form != "whole")
    assert caught.value.code == word
    assert caught.value.retryable
    assert caught.value.partial.text == "half an"


@pytest.mark.parametrize("reason", ["abort", "stop"])
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_answer_that_was_given_up_before_it_began_is_asked_for_again(reason: str, is_streamed: bool) -> None:
    first = streamed(given_up(reason, "", native="error"))
    good = streamed(given_up("stop", "whole"))
    async with (
        raw_server(Script([first], end="keep"), Script([good], end="keep")) as server,
        connect(server, retry=Retry(attempts=2, base=0.001)) as client,
    ):
        reply = await ask(client, is_streamed=is_streamed)
    assert (reply.text, reply.info.attempts) == ("whole", 2)


@pytest.mark.parametrize("native", ["stop", "STOP", "completed", "MALFORMED_FUNCTION_CALL", "end_turn", ""])
async def test_another_word_of_the_server_behind_a_router_changes_nothing(native: str) -> None:
    body = given_up("stop", "all of it", native=native)
    async with serving(json.dumps(body).encode()) as server, connect(server) as client:
        reply = await client.chat.completions.create(model="m", messages=[])
    assert (reply.text, reply.to_dict()) == ("all of it", body)


async def test_one_choice_of_many_that_was_given_up_is_no_success() -> None:
    body = given_up("stop", "all of it")
    body["choices"].append({**given_up("abort")["choices"][0], "index": 1})
    async with serving(json.dumps(body).encode()) as server, connect(server) as client:
        with pytest.raises(StreamError) as caught:
            await client.chat.completions.create(model="m", messages=[], n=2)
    assert [choice.message.content for choice in caught.value.partial.choices] == ["all of it", "half an"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (answer("tool_calls", None), "tool_calls"),
        (answer("tool_use", ""), "tool_use"),
        (answer("weird", ""), "weird"),
        (answer("function_call", None, function_call={"name": "look_up", "arguments": "{}"}), "look_up"),
        (answer("stop", None, function_call={"name": "look_up", "arguments": "{}"}), "look_up"),
    ],
    ids=["no-calls", "no-use", "own-word", "legacy", "legacy-stop"],
)
async def test_an_agent_takes_nothing_for_no_answer(body: bytes, words: str) -> None:
    async with serving(body) as server:
        for stream in (False, True):
            with pytest.raises(AnswerError, match=words) as failed:
                await run_agent(server, stream=stream)
            assert failed.value.run is not None


@pytest.mark.parametrize("reason", ["stop", "STOP", "end_turn", "eos"])
async def test_an_empty_answer_that_ends_well_is_one(reason: str) -> None:
    async with serving(answer(reason, "")) as server:
        assert await run_agent(server) == ""


async def test_a_word_of_the_servers_own_behind_text_is_an_answer() -> None:
    async with serving(answer("weird", "whole")) as server:
        assert await run_agent(server) == "whole"


@pytest.mark.parametrize(("reason", "truncated"), [("max_output_tokens", True), ("max_tokens", True), ("x", False)])
def test_a_response_is_cut_by_every_word_for_a_cap(reason: str, truncated: bool) -> None:
    body = {"id": "r", "status": "incomplete", "incomplete_details": {"reason": reason}, "output_text": "half"}
    assert decode_response(json.dumps(body).encode()).truncated is truncated
