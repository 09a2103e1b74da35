"""Claims about `structured.parse`: a value of the type asked for, or the error that says why not, with the reply."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, Literal

import msgspec
import pytest

from aimlasync.chat.types import decode_completion
from aimlasync.errors import AnswerError, AnswerInvalidError, AnswerRefusedError, AnswerTruncatedError
from aimlasync.info import Info
from aimlasync.responses.types import Response, decode_response
from aimlasync.structured.parse import parse_completion, parse_response
from aimlasync.structured.schema import Format, format_of

JSON = dict[str, Any]


class Ticket(msgspec.Struct):
    queue: Literal["support", "billing", "sales"]
    urgent: bool = False


class Note(msgspec.Struct):
    text: str


class Queue(Enum):
    SUPPORT = "support"
    BILLING = "billing"


TICKET = format_of(Ticket)
GOOD = '{"queue":"billing","urgent":true}'
CALL: JSON = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


def chat_error(kind: type[AnswerError], form: Format[Any] = TICKET, **choice: Any) -> AnswerError:
    body = {"id": "c", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": GOOD}, **choice}]}
    reply = decode_completion(json.dumps(body).encode())
    reply.__dict__["info"] = info = Info(request_id="r-1")
    with pytest.raises(AnswerError) as caught:
        parse_completion(reply, form)
    failed = caught.value
    assert type(failed) is kind
    assert failed.reply is reply
    assert (failed.raw, failed.info, failed.billed, failed.retryable) == (reply.raw, info, True, False)
    assert failed.__cause__ is None
    assert failed.__context__ is None
    return failed


def choice(content: str | None = GOOD, **fields: Any) -> JSON:
    return {"index": 0, "message": {"content": content, **fields}, "finish_reason": "stop"}


def completion(*choices: JSON, form: Format[Any] = TICKET) -> Any:
    return parse_completion(decode_completion(json.dumps({"choices": list(choices)}).encode()), form)


# --- chat --------------------------------------------------------------------------------------------------------


def test_answer_is_parsed_on_the_reply_and_its_message() -> None:
    reply = completion(choice())
    assert reply.parsed == Ticket(queue="billing", urgent=True)
    assert reply.choices[0].message.parsed is reply.parsed


def test_wrapped_type_is_unwrapped() -> None:
    assert completion(choice('{"value":"billing"}'), form=format_of(Queue)).parsed is Queue.BILLING


def test_every_choice_is_parsed() -> None:
    reply = completion(choice(), choice('{"queue":"sales","urgent":false}'))
    assert [one.message.parsed.queue for one in reply.choices] == ["billing", "sales"]


def test_finish_reason_that_is_missing_or_new_is_no_obstacle() -> None:
    assert completion({**choice(), "finish_reason": None}).parsed is not None
    assert completion({**choice(), "finish_reason": "eos"}).parsed is not None


def test_tool_call_before_the_answer_is_no_error() -> None:
    reply = completion({**choice(None, tool_calls=[CALL]), "finish_reason": "tool_calls"})
    assert reply.parsed is None
    assert reply.choices[0].message.tool_calls[0].function.name == "look_up"


def by_tool(arguments: str) -> JSON:
    return {**CALL, "function": {"name": "give_final_answer", "arguments": arguments}}


def test_answer_tool_without_arguments_leaves_the_answer_to_the_text() -> None:
    assert completion(choice(GOOD, tool_calls=[by_tool("")])).parsed == Ticket(queue="billing", urgent=True)


def test_answer_tool_without_arguments_and_text_is_an_error() -> None:
    message = {"content": None, "tool_calls": [by_tool("")]}
    chat_error(AnswerInvalidError, message=message, finish_reason="tool_calls")
    response_error(AnswerInvalidError, answer({**FUNCTION_CALL, "name": "give_final_answer", "arguments": ""}))


@pytest.mark.parametrize("text", ['{"text":"two\nlines\there"}', '{\n "text": "two\nlines\there"\n}'])
def test_line_ends_within_strings_are_read(text: str) -> None:
    form = format_of(Note)
    for one in (choice(text), choice(f"```json\n{text}\n```"), choice(None, tool_calls=[by_tool(text)])):
        assert completion(one, form=form).parsed == Note(text="two\nlines\there")


def test_json_in_a_json_string_is_read() -> None:
    assert completion(choice(json.dumps(GOOD))).parsed == Ticket(queue="billing", urgent=True)


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_an_empty_answer_is_told_as_one(content: str | None) -> None:
    failed = chat_error(AnswerInvalidError, message={"content": content})
    assert str(failed).endswith("is not a Ticket: it is empty")


def test_half_of_a_surrogate_pair_is_read_as_in_any_json() -> None:
    text = r'{"text":"a\ud83d, \ud83d\ude00 and \udc00\n"}'
    for one in (choice(text), choice(f"```json\n{text}\n```"), choice(None, tool_calls=[by_tool(text)])):
        assert completion(one, form=format_of(Note)).parsed == Note(text="a\ufffd, \U0001f600 and \ufffd\n")


@pytest.mark.parametrize("end", ["", "]" * 5000 + "}"])
def test_answer_that_is_nested_without_end_is_an_error(end: str) -> None:
    text = '{"queue":"billing","urgent":true,"why":' + "[" * 5000 + end
    assert "nested too deep" in chat_error(AnswerInvalidError, message={"content": text}).message


def test_answer_beside_a_tool_call_is_parsed() -> None:
    assert completion(choice(GOOD, tool_calls=[CALL])).parsed == Ticket(queue="billing", urgent=True)


def test_refusal_is_an_error_with_its_words() -> None:
    failed = chat_error(AnswerRefusedError, message={"content": None, "refusal": "I can't help"})
    assert "I can't help" in failed.message


def test_empty_refusal_is_none() -> None:
    assert completion(choice(GOOD, refusal="")).parsed is not None


def test_content_filter_is_a_refusal() -> None:
    assert "content filter" in chat_error(AnswerRefusedError, finish_reason="content_filter").message


def test_cut_answer_is_an_error_that_says_what_to_do() -> None:
    failed = chat_error(AnswerTruncatedError, finish_reason="length", message={"content": '{"queue":"bil'})
    assert "raise the cap" in failed.message
    assert "Ticket" in failed.message


def test_answer_that_looks_whole_but_was_cut_is_an_error() -> None:
    chat_error(AnswerTruncatedError, finish_reason="length")


@pytest.mark.parametrize("content", ["", "billing", '{"queue":', "```json\n{}\n```", "[1,"])
def test_answer_that_is_no_json_is_an_error(content: str) -> None:
    assert "is not a Ticket" in chat_error(AnswerInvalidError, message={"content": content}).message


def test_answer_without_content_is_an_error() -> None:
    chat_error(AnswerInvalidError, message={"content": None})
    chat_error(AnswerInvalidError, message=None)


@pytest.mark.parametrize(
    ("content", "where"),
    [('{"queue":"legal"}', "queue"), ('{"queue":"sales","urgent":"yes"}', "urgent"), ("{}", "queue"), ("[]", "array")],
)
def test_answer_of_another_type_is_an_error_that_says_where(content: str, where: str) -> None:
    assert where in chat_error(AnswerInvalidError, message={"content": content}).message


def test_one_bad_choice_is_an_error_for_all() -> None:
    with pytest.raises(AnswerInvalidError):
        completion(choice(), choice("no"))


# --- responses ---------------------------------------------------------------------------------------------------


def message(*content: JSON) -> JSON:
    return {"type": "message", "id": "m", "role": "assistant", "content": list(content)}


def answer(*output: JSON, **fields: Any) -> Response:
    return decode_response(json.dumps({"id": "r", "output": list(output), **fields}).encode())


TEXT: JSON = {"type": "output_text", "text": GOOD}
FUNCTION_CALL: JSON = {"type": "function_call", "call_id": "c", "name": "look_up", "arguments": "{}"}


def response_error(kind: type[AnswerError], reply: Response) -> AnswerError:
    reply.__dict__["info"] = info = Info(request_id="r-1")
    with pytest.raises(AnswerError) as caught:
        parse_response(reply, TICKET)
    failed = caught.value
    assert type(failed) is kind
    assert failed.reply is reply
    assert (failed.raw, failed.info, failed.billed) == (reply.raw, info, True)
    assert failed.__cause__ is None
    assert failed.__context__ is None
    return failed


def test_response_is_parsed_under_both_names() -> None:
    reply = parse_response(answer({"type": "reasoning", "id": "r", "summary": []}, message(TEXT)), TICKET)
    assert reply.parsed == reply.output_parsed == Ticket(queue="billing", urgent=True)


def test_function_call_before_the_response_is_no_error() -> None:
    assert parse_response(answer(FUNCTION_CALL), TICKET).parsed is None


def test_text_beside_a_function_call_is_parsed() -> None:
    assert parse_response(answer(FUNCTION_CALL, message(TEXT)), TICKET).parsed is not None


def test_status_of_an_item_is_no_obstacle() -> None:
    assert parse_response(answer({**message(TEXT), "status": "in_progress"}), TICKET).parsed is not None


def test_refusal_in_a_response_is_an_error_with_its_words() -> None:
    failed = response_error(AnswerRefusedError, answer(message({"type": "refusal", "refusal": "I can't"})))
    assert "I can't" in failed.message


def test_response_cut_by_a_cap_is_an_error_though_its_text_looks_whole() -> None:
    cut = {"reason": "max_output_tokens"}
    failed = response_error(AnswerTruncatedError, answer(message(TEXT), incomplete_details=cut))
    assert "raise the cap" in failed.message
    response_error(AnswerTruncatedError, answer(message(TEXT), incomplete_details=cut, status="completed"))


@pytest.mark.parametrize(
    ("details", "kind"),
    [
        ({"reason": "content_filter"}, AnswerRefusedError),
        ({"reason": "new"}, AnswerTruncatedError),
        (None, AnswerTruncatedError),
    ],
)
def test_incomplete_response_is_an_error_with_its_reason(details: JSON | None, kind: type[AnswerError]) -> None:
    failed = response_error(kind, answer(message(TEXT), status="incomplete", incomplete_details=details))
    assert (details or {"reason": "no reason"})["reason"] in failed.message


def test_failed_response_is_an_error_with_its_reason() -> None:
    assert "boom" in response_error(AnswerInvalidError, answer(error={"code": "x", "message": "boom"})).message
    assert "no reason" in response_error(AnswerInvalidError, answer(status="failed")).message


@pytest.mark.parametrize("text", ["", "billing", '{"queue":"legal"}', "{}"])
def test_response_that_is_no_value_of_the_type_is_an_error(text: str) -> None:
    failed = response_error(AnswerInvalidError, answer(message({"type": "output_text", "text": text})))
    assert "is not a Ticket" in failed.message
