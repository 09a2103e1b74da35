"""What finish reasons mean, in the words of every vendor: for `truncated`, `parse`, agents and bulk alike."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

import pytest

from aimlasync import (
    AnswerError,
    AnswerInvalidError,
    AnswerRefusedError,
    AnswerTruncatedError,
    agents,
)
from aimlasync.bulk.tasks.tasks import read_any
from aimlasync.chat.endings import ending_of
from aimlasync.chat.types import decode_completion
from aimlasync.responses.types import decode_response
from tests.client.test_stream import connect
from tests.support.servers import RawServer, Script, raw_server

CAPS = ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length", "model_context_window_exceeded"]
CAPS += ["FinishReason.MAX_TOKENS", "max-tokens", "max tokens"]
FILTERS = ["content_filter", "SAFETY", "refusal", "RECITATION", "PROHIBITED_CONTENT"]
FILTERS += ["content-filter", "FinishReason.SAFETY"]
FAILURES = ["MALFORMED_FUNCTION_CALL", "error", "insufficient_system_resource", "abort", "OTHER"]


def answer(reason: str | None, content: str | None = "half an", **message: Any) -> bytes:
    message = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return json.dumps({"id": "c", "choices": [choice]}).encode()


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
