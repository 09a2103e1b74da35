"""Claims about responses and their events: what is computed, what is decoded, what a stream adds up to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aimlasync.responses import events as response_events
from aimlasync.responses.assembler import Assembler
from aimlasync.responses.events import TERMINAL, ResponseStreamEvent, decode_event, events_of
from aimlasync.responses.items import FunctionCall, OutputMessage, OutputRefusal, OutputText, ReasoningItem
from aimlasync.responses.types import Response, decode_response
from aimlasync.wire.base import Unknown, encode

JSON = dict[str, Any]


def response(*output: JSON, **fields: Any) -> Response:
    return decode_response(json.dumps({"id": "resp_1", "model": "m", "output": list(output), **fields}).encode())


def message(*content: JSON, **fields: Any) -> JSON:
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": list(content), **fields}


def text(value: str) -> JSON:
    return {"type": "output_text", "text": value, "annotations": []}


CALL: JSON = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "route", "arguments": "{}"}
REASONING: JSON = {"type": "reasoning", "id": "rs_1", "summary": []}

# --- a whole answer ----------------------------------------------------------------------------------------------


def test_output_text_is_computed_from_all_messages_and_nothing_else() -> None:
    reply = response(
        REASONING, message(text("a"), {"type": "refusal", "refusal": "x"}, text("b")), CALL, message(text("c"))
    )
    assert reply.output_text == "abc"


def test_output_text_that_the_server_sent_is_kept() -> None:
    assert response(message(text("computed")), output_text="sent").output_text == "sent"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "completed"),
        ({"status": None}, "completed"),
        ({"error": None, "incomplete_details": None}, "completed"),
        ({"error": {"code": "server_error", "message": "boom"}}, "failed"),
        ({"incomplete_details": {"reason": "max_output_tokens"}}, "incomplete"),
        ({"error": {"message": "boom"}, "incomplete_details": {"reason": "x"}}, "failed"),
        ({"status": "cancelled", "error": {"message": "boom"}}, "cancelled"),
        ({"status": "queued"}, "queued"),
        ({"status": "a_new_status"}, "a_new_status"),
    ],
)
def test_status_is_the_servers_or_derived_from_error_and_details(fields: JSON, status: str) -> None:
    assert response(message(text("a")), **fields).status == status


@pytest.mark.parametrize("item_status", ["in_progress", "incomplete", "failed"])
def test_status_of_an_item_says_nothing_about_the_run(item_status: str) -> None:
    reply = response(message(text("a"), status=item_status))
    assert (reply.status, reply.truncated) == ("completed", False)
    item = reply.output[0]
    assert isinstance(item, OutputMessage)
    assert item.status == item_status


@pytest.mark.parametrize(
    ("details", "cut"), [({"reason": "max_output_tokens"}, True), ({"reason": "content_filter"}, False), (None, False)]
)
def test_answer_is_truncated_only_by_an_output_cap(details: JSON | None, cut: bool) -> None:
    assert response(message(text("a")), incomplete_details=details).truncated is cut


def test_refusal_is_the_first_ones_text() -> None:
    refused = message(text("a"), {"type": "refusal", "refusal": "I can't"})
    assert response(REASONING, refused).refusal == "I can't"
    assert response(message(text("a"))).refusal is None


def test_reasoning_in_the_open_is_decoded_and_is_no_output_text() -> None:
    item: JSON = {
        **REASONING,
        "summary": [{"type": "summary_text", "text": "s"}],
        "content": [{"type": "reasoning_text", "text": "r"}],
        "encrypted_content": "xyz",
    }
    reply = response(item)
    first = reply.output[0]
    assert isinstance(first, ReasoningItem)
    assert first.content is not None
    assert [part.type for part in (*first.summary, *first.content)] == ["summary_text", "reasoning_text"]
    assert (first.encrypted_content, reply.output_text) == ("xyz", "")


def test_parsed_has_both_names_and_is_none_after_create() -> None:
    reply = response()
    assert (reply.parsed, reply.output_parsed) == (None, None)
    reply.__dict__["parsed"] = 3
    assert (reply.parsed, reply.output_parsed) == (3, 3)


ITEMS: list[JSON] = [
    message(text("a")),
    {"type": "file_search_call", "id": "i", "queries": ["q"], "status": "completed", "results": [{"score": 1}]},
    {
        "type": "computer_call",
        "id": "i",
        "call_id": "c",
        "action": {"type": "click"},
        "pending_safety_checks": [],
        "status": "completed",
    },
    {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}},
    {"type": "web_search_call", "id": "i", "status": "completed", "action": {"type": "search", "query": "q"}},
    CALL,
    REASONING,
    {"type": "image_generation_call", "id": "i", "result": "AA==", "status": "completed"},
    {
        "type": "code_interpreter_call",
        "id": "i",
        "status": "completed",
        "container_id": "c",
        "code": "1",
        "outputs": [],
    },
    {"type": "local_shell_call", "id": "i", "call_id": "c", "action": {"type": "exec"}, "status": "completed"},
    {"type": "mcp_list_tools", "id": "i", "server_label": "s", "tools": [{"name": "t"}]},
    {"type": "mcp_approval_request", "id": "i", "server_label": "s", "name": "t", "arguments": "{}"},
    {"type": "mcp_call", "id": "i", "server_label": "s", "name": "t", "arguments": "{}", "output": "o"},
]


@pytest.mark.parametrize("item", ITEMS, ids=[item["type"] for item in ITEMS])
def test_every_documented_item_is_decoded_and_encodes_to_itself(item: JSON) -> None:
    decoded = response(item).output[0]
    assert not isinstance(decoded, Unknown)
    assert decoded.type == item["type"]
    assert json.loads(encode(decoded)) == item
    assert decoded.to_dict() == item


@pytest.mark.parametrize(
    "annotation",
    [
        {"type": "url_citation", "url": "https://x.invalid", "title": "t", "start_index": 1, "end_index": 2},
        {"type": "file_citation", "file_id": "f", "index": 1, "filename": "a.txt"},
        {"type": "container_file_citation", "container_id": "c", "file_id": "f", "start_index": 1, "end_index": 2},
        {"type": "file_path", "file_id": "f", "index": 3},
    ],
)
def test_every_documented_annotation_is_decoded(annotation: JSON) -> None:
    item = response(message({**text("a"), "annotations": [annotation]})).output[0]
    assert isinstance(item, OutputMessage)
    part = item.content[0]
    assert isinstance(part, OutputText)
    assert part.annotations[0].to_dict() == annotation


# --- events ------------------------------------------------------------------------------------------------------

RUN: JSON = {
    "response": {
        "id": "resp_1",
        "object": "response",
        "created_at": 1764672331,
        "model": "m",
        "parallel_tool_calls": True,
    }
}
ITEM: JSON = {"output_index": 1, "item": CALL}
AT_ITEM: JSON = {"item_id": "i", "output_index": 1}
AT_CONTENT: JSON = {**AT_ITEM, "content_index": 2}
AT_SUMMARY: JSON = {**AT_ITEM, "summary_index": 2}
PART: JSON = {**AT_CONTENT, "part": {"type": "output_text", "text": "a", "annotations": [], "logprobs": []}}
SUMMARY_PART: JSON = {**AT_SUMMARY, "part": {"type": "summary_text", "text": "a"}}
DELTA: JSON = {"delta": "d"}

EVENTS: dict[str, tuple[str, JSON]] = {
    "response.created": ("ResponseCreatedEvent", RUN),
    "response.in_progress": ("ResponseInProgressEvent", RUN),
    "response.queued": ("ResponseQueuedEvent", RUN),
    "response.completed": ("ResponseCompletedEvent", RUN),
    "response.failed": ("ResponseFailedEvent", RUN),
    "response.incomplete": ("ResponseIncompleteEvent", RUN),
    "response.output_item.added": ("ResponseOutputItemAddedEvent", ITEM),
    "response.output_item.done": ("ResponseOutputItemDoneEvent", ITEM),
    "response.content_part.added": ("ResponseContentPartAddedEvent", PART),
    "response.content_part.done": ("ResponseContentPartDoneEvent", PART),
    "response.output_text.delta": ("ResponseTextDeltaEvent", {**AT_CONTENT, **DELTA, "logprobs": []}),
    "response.output_text.done": ("ResponseTextDoneEvent", {**AT_CONTENT, "text": "t", "logprobs": []}),
    "response.output_text.annotation.added": (
        "ResponseTextAnnotationAddedEvent",
        {**AT_CONTENT, "annotation_index": 0, "annotation": {"type": "file_path"}},
    ),
    "response.refusal.delta": ("ResponseRefusalDeltaEvent", {**AT_CONTENT, **DELTA}),
    "response.refusal.done": ("ResponseRefusalDoneEvent", {**AT_CONTENT, "refusal": "r"}),
    "response.function_call_arguments.delta": ("ResponseFunctionCallArgumentsDeltaEvent", {**AT_ITEM, **DELTA}),
    "response.function_call_arguments.done": ("ResponseFunctionCallArgumentsDoneEvent", {**AT_ITEM, "arguments": "{}"}),
    "response.reasoning_summary_part.added": ("ResponseReasoningSummaryPartAddedEvent", SUMMARY_PART),
    "response.reasoning_summary_part.done": ("ResponseReasoningSummaryPartDoneEvent", SUMMARY_PART),
    "response.reasoning_summary_text.delta": ("ResponseReasoningSummaryTextDeltaEvent", {**AT_SUMMARY, **DELTA}),
    "response.reasoning_summary_text.done": ("ResponseReasoningSummaryTextDoneEvent", {**AT_SUMMARY, "text": "t"}),
    "response.reasoning_text.delta": ("ResponseReasoningTextDeltaEvent", {**AT_CONTENT, **DELTA}),
    "response.reasoning_text.done": ("ResponseReasoningTextDoneEvent", {**AT_CONTENT, "text": "t"}),
    "response.web_search_call.in_progress": ("ResponseWebSearchCallInProgressEvent", AT_ITEM),
    "response.web_search_call.searching": ("ResponseWebSearchCallSearchingEvent", AT_ITEM),
    "response.web_search_call.completed": ("ResponseWebSearchCallCompletedEvent", AT_ITEM),
    "response.file_search_call.in_progress": ("ResponseFileSearchCallInProgressEvent", AT_ITEM),
    "response.file_search_call.searching": ("ResponseFileSearchCallSearchingEvent", AT_ITEM),
    "response.file_search_call.completed": ("ResponseFileSearchCallCompletedEvent", AT_ITEM),
    "response.code_interpreter_call.in_progress": ("ResponseCodeInterpreterCallInProgressEvent", AT_ITEM),
    "response.code_interpreter_call.interpreting": ("ResponseCodeInterpreterCallInterpretingEvent", AT_ITEM),
    "response.code_interpreter_call.completed": ("ResponseCodeInterpreterCallCompletedEvent", AT_ITEM),
    "response.code_interpreter_call_code.delta": ("ResponseCodeInterpreterCallCodeDeltaEvent", {**AT_ITEM, **DELTA}),
    "response.code_interpreter_call_code.done": ("ResponseCodeInterpreterCallCodeDoneEvent", {**AT_ITEM, "code": "1"}),
    "response.image_generation_call.in_progress": ("ResponseImageGenCallInProgressEvent", AT_ITEM),
    "response.image_generation_call.generating": ("ResponseImageGenCallGeneratingEvent", AT_ITEM),
    "response.image_generation_call.completed": ("ResponseImageGenCallCompletedEvent", AT_ITEM),
    "response.image_generation_call.partial_image": (
        "ResponseImageGenCallPartialImageEvent",
        {**AT_ITEM, "partial_image_b64": "AA==", "partial_image_index": 1},
    ),
    "response.mcp_call_arguments.delta": ("ResponseMcpCallArgumentsDeltaEvent", {**AT_ITEM, **DELTA}),
    "response.mcp_call_arguments.done": ("ResponseMcpCallArgumentsDoneEvent", {**AT_ITEM, "arguments": "{}"}),
    "response.mcp_call.in_progress": ("ResponseMcpCallInProgressEvent", AT_ITEM),
    "response.mcp_call.completed": ("ResponseMcpCallCompletedEvent", AT_ITEM),
    "response.mcp_call.failed": ("ResponseMcpCallFailedEvent", AT_ITEM),
    "response.mcp_list_tools.in_progress": ("ResponseMcpListToolsInProgressEvent", AT_ITEM),
    "response.mcp_list_tools.completed": ("ResponseMcpListToolsCompletedEvent", AT_ITEM),
    "response.mcp_list_tools.failed": ("ResponseMcpListToolsFailedEvent", AT_ITEM),
    "response.custom_tool_call_input.delta": ("ResponseCustomToolCallInputDeltaEvent", {**AT_ITEM, **DELTA}),
    "response.custom_tool_call_input.done": ("ResponseCustomToolCallInputDoneEvent", {**AT_ITEM, "input": "x"}),
    "response.audio.delta": ("ResponseAudioDeltaEvent", DELTA),
    "response.audio.done": ("ResponseAudioDoneEvent", {}),
    "response.audio.transcript.delta": ("ResponseAudioTranscriptDeltaEvent", DELTA),
    "response.audio.transcript.done": ("ResponseAudioTranscriptDoneEvent", {}),
    "error": ("ResponseErrorEvent", {"code": "server_error", "message": "boom", "param": "p"}),
}


def event(kind: str, /, **fields: Any) -> ResponseStreamEvent:
    return decode_event(json.dumps({"type": kind, "sequence_number": 4, **fields}).encode())


def test_vendors_list_has_53_event_types() -> None:
    assert len(EVENTS) == len({name for name, _ in EVENTS.values()}) == 53


@pytest.mark.parametrize("kind", EVENTS)
def test_every_documented_event_is_decoded_to_its_class_with_its_fields(kind: str) -> None:
    name, fields = EVENTS[kind]
    decoded = event(kind, **fields)
    assert type(decoded) is getattr(response_events, name)
    assert decoded.type == kind
    assert getattr(decoded, "sequence_number", None) == 4
    for field, wanted in fields.items():
        got = getattr(decoded, field)
        if isinstance(wanted, dict) and not isinstance(got, dict):
            assert got.to_dict().items() >= {k: v for k, v in wanted.items() if k != "object"}.items()
        else:
            assert got == wanted


@pytest.mark.parametrize("kind", EVENTS)
def test_every_documented_event_goes_back_to_what_the_server_sent(kind: str) -> None:
    raw = json.dumps({"type": kind, "sequence_number": 4, **EVENTS[kind][1], "obfuscation": "x9"}).encode()
    decoded = decode_event(raw)
    assert decoded.to_dict() == json.loads(raw)
    assert decoded.raw == raw


@pytest.mark.parametrize("kind", EVENTS)
def test_every_documented_event_is_decoded_with_its_type_alone(kind: str) -> None:
    decoded = decode_event(json.dumps({"type": kind}).encode())
    assert type(decoded) is getattr(response_events, EVENTS[kind][0])


@pytest.mark.parametrize("kind", EVENTS)
def test_every_documented_event_is_decoded_with_all_its_fields_null(kind: str) -> None:
    name, fields = EVENTS[kind]
    decoded = decode_event(json.dumps({"type": kind, "sequence_number": None, **dict.fromkeys(fields)}).encode())
    assert type(decoded) is getattr(response_events, name)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"sequence_number": 4,  "type": "response.hologram.delta", "x":1.50}',
        b'{"type":"response.output_text","delta":"no such type"}',
        b'{ "meta":{"usage":{"credits_used":2480,"usd_spent":0.00124}} }',
        b"{}",
        b'{"type":null}',
        b'{"type":7,"delta":"x"}',
    ],
)
def test_unknown_event_is_kept_with_its_exact_bytes(raw: bytes) -> None:
    decoded = decode_event(raw)
    assert isinstance(decoded, Unknown)
    assert decoded.raw == raw
    assert decoded.to_dict() == json.loads(raw)
    kind = json.loads(raw).get("type")
    assert decoded.type == (kind if isinstance(kind, str) else "")


def test_unknown_item_inside_a_known_event_is_kept() -> None:
    item = {"type": "custom_tool_call", "name": "sql", "input": ""}
    decoded = event("response.output_item.added", output_index=0, item=item)
    assert isinstance(decoded, response_events.ResponseOutputItemAddedEvent)
    assert isinstance(decoded.item, Unknown)
    assert decoded.item.to_dict() == item


def test_unknown_part_inside_a_known_event_is_kept() -> None:
    decoded = event("response.content_part.added", **{**AT_CONTENT, "part": {"type": "hologram", "z": 1}})
    assert isinstance(decoded, response_events.ResponseContentPartAddedEvent)
    assert isinstance(decoded.part, Unknown)
    assert decoded.part.to_dict() == {"type": "hologram", "z": 1}


def test_error_event_is_read_flat_and_nested_with_null_code_and_param() -> None:
    flat = event("error", code=None, message="boom", param=None)
    assert isinstance(flat, response_events.ResponseErrorEvent)
    assert (flat.code, flat.message, flat.param) == (None, "boom", None)
    nested = event("error", error={"code": 500, "message": "boom"})
    assert isinstance(nested, response_events.ResponseErrorEvent)
    assert nested.error == {"code": 500, "message": "boom"}


def test_numeric_code_of_an_error_event_is_text() -> None:
    decoded = event("error", code=500, message="boom")
    assert isinstance(decoded, response_events.ResponseErrorEvent)
    assert (decoded.code, decoded.message) == ("500", "boom")


def test_run_that_goes_on_has_no_derived_status_and_a_run_that_ended_has() -> None:
    for kind, status in (
        ("response.created", None),
        ("response.in_progress", None),
        ("response.completed", "completed"),
    ):
        assert getattr(event(kind, **RUN), "response").status == status  # noqa: B009


def test_terminal_events_are_the_three_that_end_a_run() -> None:
    ends = [kind for kind, (_, fields) in EVENTS.items() if isinstance(event(kind, **fields), TERMINAL)]
    assert ends == ["response.completed", "response.failed", "response.incomplete"]


# --- events to one answer ----------------------------------------------------------------------------------------


def assembled(*events: ResponseStreamEvent) -> Response:
    assembler = Assembler()
    for one in events:
        assembler.add(one)
    return assembler.whole()


def created(**fields: Any) -> ResponseStreamEvent:
    return event("response.created", response={"id": "resp_1", "model": "m", "status": "in_progress", **fields})


def completed(*output: JSON, **fields: Any) -> ResponseStreamEvent:
    return event("response.completed", response={"id": "resp_1", "model": "m", "output": list(output), **fields})


def added(index: int, item: JSON) -> ResponseStreamEvent:
    return event("response.output_item.added", output_index=index, item=item)


def done(index: int, item: JSON) -> ResponseStreamEvent:
    return event("response.output_item.done", output_index=index, item=item)


def delta(value: str, index: int = 0, content: int = 0) -> ResponseStreamEvent:
    return event("response.output_text.delta", item_id="i", output_index=index, content_index=content, delta=value)


def arguments(value: str, index: int) -> ResponseStreamEvent:
    return event("response.function_call_arguments.delta", item_id="i", output_index=index, delta=value)


def test_answer_is_the_terminal_events_response() -> None:
    whole = assembled(
        created(),
        added(0, message()),
        delta("dra"),
        completed(message(text("final")), usage={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
    )
    assert (whole.id, whole.output_text, whole.status) == ("resp_1", "final", "completed")
    assert whole.usage is not None
    assert whole.usage.total_tokens == 3


def test_cut_stream_of_deltas_alone_is_assembled() -> None:
    whole = assembled(created(), delta("bil"), delta("ling"))
    assert (whole.id, whole.output_text, whole.status) == ("resp_1", "billing", "in_progress")


def test_deltas_without_any_run_event_are_assembled() -> None:
    whole = assembled(delta("a"), delta("b"))
    assert (whole.output_text, whole.status) == ("ab", None)


def test_nothing_becomes_an_empty_response() -> None:
    assert assembled() == Response()


def test_answer_is_assembled_from_items_that_are_done() -> None:
    whole = assembled(created(), done(1, message(text("b"))), done(0, REASONING))
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert whole.output_text == "b"


def test_empty_output_at_the_end_is_filled_from_the_stream() -> None:
    whole = assembled(
        created(), added(0, message()), delta("bil"), delta("ling"), done(0, message(text("billing"))), completed()
    )
    assert (whole.output_text, whole.status, len(whole.output)) == ("billing", "completed", 1)


def test_finished_text_replaces_its_pieces() -> None:
    final = event("response.output_text.done", output_index=0, content_index=0, text="billing")
    assert assembled(delta("bil"), delta("?"), final).output_text == "billing"


def test_finished_item_is_not_filled_again_from_its_deltas() -> None:
    whole = assembled(added(0, message()), delta("draft"), done(0, message(text("final"))))
    assert whole.output_text == "final"


def test_several_parts_and_messages_come_out_in_order() -> None:
    whole = assembled(
        added(1, message()), delta("c", 1), delta("b", 0, 1), delta("a", 0, 0), delta("B", 0, 1), delta("C", 1)
    )
    assert whole.output_text == "abBcC"
    first = whole.output[0]
    assert isinstance(first, OutputMessage)
    assert [part.text for part in first.content if isinstance(part, OutputText)] == ["a", "bB"]


def test_function_call_is_assembled_with_the_name_from_its_beginning() -> None:
    whole = assembled(
        created(), added(0, {**CALL, "arguments": ""}), arguments('{"to":', 0), arguments('"x"}', 0), completed()
    )
    call = whole.output[0]
    assert isinstance(call, FunctionCall)
    assert (call.name, call.call_id, call.arguments) == ("route", "call_1", '{"to":"x"}')


def test_finished_arguments_replace_their_pieces() -> None:
    final = event("response.function_call_arguments.done", output_index=0, arguments='{"to":"y"}')
    call = assembled(added(0, {**CALL, "arguments": ""}), arguments('{"to', 0), final).output[0]
    assert isinstance(call, FunctionCall)
    assert call.arguments == '{"to":"y"}'


def test_arguments_of_interleaved_calls_are_kept_apart() -> None:
    whole = assembled(
        added(0, {**CALL, "arguments": ""}),
        added(1, {**CALL, "call_id": "call_2", "arguments": ""}),
        arguments("[2", 1),
        arguments("[1", 0),
        arguments("]", 1),
        arguments("]", 0),
    )
    found = [(item.call_id, item.arguments) for item in whole.output if isinstance(item, FunctionCall)]
    assert found == [("call_1", "[1]"), ("call_2", "[2]")]


def test_arguments_without_their_call_are_still_a_call() -> None:
    call = assembled(arguments("{}", 0)).output[0]
    assert isinstance(call, FunctionCall)
    assert call.arguments == "{}"


def test_reasoning_that_was_streamed_is_assembled() -> None:
    def thought(kind: str, value: str, **place: int) -> ResponseStreamEvent:
        return event(f"response.{kind}.delta", output_index=0, delta=value, **place)

    pieces = [
        thought("reasoning_summary_text", "a", summary_index=0),
        thought("reasoning_summary_text", "b", summary_index=0),
        thought("reasoning_summary_text", "c", summary_index=1),
        thought("reasoning_text", "d", content_index=0),
    ]
    for begun in ([added(0, {"type": "reasoning", "id": "r", "summary": [], "format": "f"})], []):
        made = assembled(created(), *begun, *pieces, delta("hello", 1))
        item: Any = made.output[0]
        assert [part.text for part in item.summary] == ["ab", "c"]
        assert [part.text for part in item.content] == ["d"]
        assert getattr(item, "format", None) == ("f" if begun else None)
        assert made.output_text == "hello"


def test_finished_reasoning_is_not_filled_again_from_its_deltas() -> None:
    whole = {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "all"}]}
    piece = event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="a")
    assert assembled(created(), piece, done(0, whole)).output[0].to_dict() == whole


def test_input_of_a_custom_tool_is_assembled_and_the_event_stays_as_it_was() -> None:
    begun: Any = added(0, {"type": "custom_tool_call", "call_id": "c", "name": "sh", "input": ""})
    assert begun.item.input == ""
    pieces = [event("response.custom_tool_call_input.delta", output_index=0, delta=piece) for piece in ("l", "s")]
    item: Any = assembled(created(), begun, *pieces).output[0]
    assert (item.input, item.to_dict()["input"]) == ("ls", "ls")
    assert (begun.item.input, begun.item.to_dict()["input"]) == ("", "")


def test_unknown_items_and_events_do_not_disturb_the_answer() -> None:
    other = {"type": "custom_tool_call", "id": "ct", "input": "x"}
    whole = assembled(event("response.hologram.delta", delta="z"), done(0, other), delta("a", 1), completed())
    assert [item.type for item in whole.output] == ["custom_tool_call", "message"]
    assert whole.output_text == "a"


def test_no_stream_of_a_response_ends_well_without_a_terminal_event() -> None:
    assembler = Assembler()
    for one in (created(), delta("a"), done(0, message(text("a")))):
        assembler.add(one)
        assert not assembler.finished


def test_failed_run_keeps_what_was_streamed_and_its_error() -> None:
    failed = event("response.failed", response={"id": "r", "error": {"code": "server_error", "message": "boom"}})
    whole = assembled(created(), delta("half"), failed)
    assert (whole.status, whole.output_text) == ("failed", "half")
    assert whole.error is not None
    assert whole.error.message == "boom"


# --- a whole answer as events ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "last"),
    [
        ({}, "response.completed"),
        ({"status": "failed"}, "response.failed"),
        ({"incomplete_details": {"reason": "max_output_tokens"}}, "response.incomplete"),
    ],
)
def test_whole_answer_as_events_ends_as_it_ended(fields: JSON, last: str) -> None:
    reply = response(message(text("sales")), **fields)
    events = events_of(reply)
    assert [one.type for one in events] == ["response.output_text.delta", last]
    assert assembled(*events) is reply


def test_answer_without_text_gives_no_delta() -> None:
    assert [one.type for one in events_of(response(CALL))] == ["response.completed"]


def test_refusal_part_is_not_text() -> None:
    item = response(message({"type": "refusal", "refusal": "no"})).output[0]
    assert isinstance(item, OutputMessage)
    assert isinstance(item.content[0], OutputRefusal)
