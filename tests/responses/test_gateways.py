"""Streams of gateways that leave out, or leave empty, what the end of a text or an item should say again."""

from __future__ import annotations

from typing import Any

import pytest

from aimlasync.responses.assembler import Assembler
from aimlasync.responses.events import decode_event
from aimlasync.responses.types import Response, decode_response
from aimlasync.wire.base import encode


def assembled(*events: dict[str, Any]) -> Response:
    assembler = Assembler()
    for one in events:
        assembler.add(decode_event(encode(one)))
    return assembler.whole()


def at(kind: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": index, **fields}


COMPLETED = {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}}


@pytest.mark.parametrize("end", [{}, {"text": "", "refusal": "", "arguments": "", "input": ""}])
def test_an_end_that_says_nothing_leaves_what_was_streamed(end: dict[str, str]) -> None:
    tool = {"type": "custom_tool_call", "id": "t", "input": ""}
    whole: Any = assembled(
        at("reasoning_summary_text.delta", 0, delta="think"),
        at("reasoning_summary_text.done", 0, **end),
        at("reasoning_text.delta", 0, delta="thought"),
        at("reasoning_text.done", 0, **end),
        at("output_text.delta", 1, delta="4"),
        at("output_text.delta", 1, delta="2"),
        at("output_text.done", 1, **end),
        at("refusal.delta", 1, content_index=1, delta="no"),
        at("refusal.done", 1, content_index=1, **end),
        at("function_call_arguments.delta", 2, delta="{}"),
        at("function_call_arguments.done", 2, **end),
        at("output_item.added", 3, item=tool),
        at("custom_tool_call_input.delta", 3, delta="sql"),
        at("custom_tool_call_input.done", 3, **end),
        COMPLETED,
    )
    reasoning, message, call, custom = whole.output
    assert (reasoning.summary[0].text, reasoning.content[0].text) == ("think", "thought")
    assert (message.content[0].text, message.content[1].refusal) == ("42", "no")
    assert (whole.output_text, whole.refusal, call.arguments, custom.input) == ("42", "no", "{}", "sql")


CITED = {"type": "output_text", "text": "", "annotations": [{"type": "url_citation", "url": "u"}], "logprobs": []}
ITEM = {"type": "message", "id": "m", "role": "assistant", "status": "in_progress", "content": []}


@pytest.mark.parametrize(
    "ends",
    [
        [at("content_part.done", part={**CITED, "text": "hi"})],
        [at("content_part.done", part=CITED)],
        [at("output_item.done", item={**ITEM, "content": [CITED]})],
        [at("content_part.done", part=CITED), at("output_item.done", item=ITEM)],
    ],
    ids=["part", "part-without-text", "item-without-text", "both-empty"],
)
def test_a_part_keeps_what_was_said_of_it_and_has_the_text_that_was_streamed(ends: list[dict[str, Any]]) -> None:
    begun = [at("output_item.added", item=ITEM), at("content_part.added", part={**CITED, "annotations": []})]
    whole = assembled(*begun, at("output_text.delta", delta="h"), at("output_text.delta", delta="i"), *ends, COMPLETED)
    assert whole.output[0].to_dict() == {**ITEM, "content": [{**CITED, "text": "hi"}]}


def test_a_text_that_the_end_states_by_itself_is_the_answer() -> None:
    response = {"id": "r", "status": "completed", "output": [], "output_text": "whole"}
    begun = at("output_item.added", item=ITEM)
    assert assembled(begun, {"type": "response.completed", "response": response}).output_text == "whole"


def test_a_whole_text_in_an_item_is_not_replaced_by_its_pieces() -> None:
    done = {**ITEM, "content": [{**CITED, "text": "whole"}]}
    whole = assembled(at("output_text.delta", delta="who"), at("output_item.done", item=done), COMPLETED)
    assert whole.output[0].to_dict() == done


@pytest.mark.parametrize("content", ["hello", [{"type": "text", "text": "hel"}, {"type": "output_text", "text": "lo"}]])
def test_a_text_in_another_form_is_the_answer_and_stays_as_it_was_sent(content: Any) -> None:
    item = {"type": "message", "id": "m", "role": "assistant", "content": content}
    body = {"id": "r", "status": "completed", "output": [item]}
    whole = decode_response(encode(body))
    assert (whole.output_text, whole.to_dict()) == ("hello", body)
    streamed = assembled(at("output_item.done", item=item), COMPLETED)
    assert (streamed.output_text, streamed.to_dict()) == ("hello", body)


def streamed(kind: str, id: str, index: int, *, ends: bool = True) -> list[dict[str, Any]]:
    item: dict[str, Any] = {"type": kind, "id": id, "status": "in_progress"}
    more: dict[str, Any]
    if kind == "reasoning":
        more, piece = {"summary": []}, at("reasoning_summary_text.delta", index, delta=f"think {id}")
    elif kind == "message":
        more, piece = {"role": "assistant", "content": []}, at("output_text.delta", index, delta=f"text {id}")
    else:
        more = {"call_id": f"c{id}", "name": "f", "arguments": ""}
        piece = at("function_call_arguments.delta", index, delta=f'{{"of":"{id}"}}')
    begun = [at("output_item.added", index, item={**item, **more}), piece]
    return [*begun, at("output_item.done", index, item={**item, **more, "status": "completed"})] if ends else begun


@pytest.mark.parametrize("ends", [True, False], ids=["ended", "not-ended"])
def test_items_that_share_an_index_are_all_kept(ends: bool) -> None:
    kinds = ["reasoning", "message", "function_call", "function_call"]
    parts = [streamed(kind, str(number), 0, ends=ends) for number, kind in enumerate(kinds)]
    whole: Any = assembled(*(one for part in parts for one in part), *streamed("message", "4", 1), COMPLETED)
    reasoning, message, first, second, last = whole.output
    assert [one.type for one in whole.output] == [*kinds, "message"]
    assert (reasoning.summary[0].text, message.content[0].text, last.content[0].text) == ("think 0", "text 1", "text 4")
    assert [(one.call_id, one.arguments) for one in (first, second)] == [("c2", '{"of":"2"}'), ("c3", '{"of":"3"}')]
    # The end of the first may come behind the beginning of the second.
    late = at("output_item.done", 0, item={"type": "reasoning", "id": "0", "summary": []})
    again: Any = assembled(*parts[0][:2], *parts[1], late, COMPLETED)
    assert [(one.type, one.id) for one in again.output] == [("reasoning", "0"), ("message", "1")]


def test_an_item_whose_end_has_another_id_is_one_item() -> None:
    done = {**ITEM, "id": "other", "content": [{**CITED, "text": "hi"}]}
    begun = [at("output_item.added", item=ITEM), at("output_text.delta", delta="hi")]
    whole = assembled(*begun, at("output_item.done", item=done), COMPLETED)
    assert [one.to_dict() for one in whole.output] == [done]


def unplaced(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


def begun(id: str, name: str = "f", index: int | None = None) -> dict[str, Any]:
    item = {"type": "function_call", "id": id, "call_id": f"c{id}", "name": name, "arguments": ""}
    return unplaced("output_item.added", item=item, **({} if index is None else {"output_index": index}))


def calls(*events: dict[str, Any]) -> list[tuple[str, str]]:
    whole: Any = assembled(*events, COMPLETED)
    return [(one.name, one.arguments) for one in whole.output if one.type == "function_call"]


@pytest.mark.parametrize("name", ["item_id", "call_id"])
def test_an_id_says_what_a_piece_is_about_where_there_is_no_index(name: str) -> None:
    ids = ("1", "2") if name == "item_id" else ("c1", "c2")
    args = "function_call_arguments.delta"
    pieces = [unplaced(args, **{name: id}, delta=text) for text in ("{", "}") for id in ids]
    assert calls(begun("1"), begun("2", "g"), *pieces) == [("f", "{}"), ("g", "{}")]
    done = unplaced("function_call_arguments.done", **{name: ids[0]}, arguments='{"a":1}')
    assert calls(begun("1", index=3), done) == [("f", '{"a":1}')]


def test_what_begins_behind_an_end_is_another_item() -> None:
    def call(kind: str, arguments: str, **more: str) -> dict[str, Any]:
        item = {"type": "function_call", "name": "f", "arguments": arguments, **more}
        return unplaced(f"output_item.{kind}", item=item)

    args = "function_call_arguments.delta"
    pieces = [[call("added", ""), unplaced(args, delta=text), call("done", text)] for text in ("{}", '{"a":1}')]
    assert calls(*pieces[0], *pieces[1]) == [("f", "{}"), ("f", '{"a":1}')]
    # Or by the id of the call, where the items have none.
    named = [[call("added", "", call_id=id), unplaced(args, delta=text)] for id, text in (("a", "{}"), ("b", "[]"))]
    assert calls(*named[0], *named[1]) == [("f", "{}"), ("f", "[]")]


def test_an_index_that_is_said_counts_more_than_an_id() -> None:
    args = "function_call_arguments.delta"
    assert calls(begun("1", index=1), begun("1", "g", index=2), at(args, 2, item_id="1", delta="{}")) == [
        ("f", ""),
        ("g", "{}"),
    ]


def test_an_id_that_several_items_share_names_none_of_them() -> None:
    args = "function_call_arguments.delta"
    assert calls(begun("1"), begun("1", "g", index=1), unplaced(args, item_id="1", delta="{}")) == [
        ("f", "{}"),
        ("g", ""),
    ]


def test_a_text_of_which_no_item_was_told_stays_beside_the_item_that_takes_its_index() -> None:
    whole = assembled(
        at("output_text.delta", item_id="x", delta="hello"),
        *streamed("function_call", "1", 0),
        at("reasoning_text.delta", delta="thought"),
        COMPLETED,
    )
    assert [one.type for one in whole.output] == ["message", "function_call", "reasoning"]
    assert whole.output_text == "hello"


def test_a_piece_whose_id_is_no_items_goes_by_its_index() -> None:
    deltas = [at("reasoning_text.delta", 0, item_id=f"rs_{n}", delta=text) for n, text in enumerate(("a", "b"))]
    texts = [at("output_text.delta", 1, item_id=f"m_{n}", delta=text) for n, text in enumerate(("c", "d"))]
    whole: Any = assembled(*deltas, at("output_item.added", 1, item=ITEM), *texts, COMPLETED)
    assert [part.text for part in whole.output[0].content] == ["ab"]
    assert whole.output_text == "cd"


def test_a_text_goes_to_the_message_that_began_last_under_its_index() -> None:
    second = at("output_item.added", item={**ITEM, "id": "n"})
    text = at("output_text.delta", delta="a")
    whole: Any = assembled(at("output_item.added", item=ITEM), text, second, text, text, COMPLETED)
    assert [one.content[0].text for one in whole.output] == ["a", "aa"]


def test_the_result_of_a_call_does_not_take_its_place() -> None:
    call = {"type": "computer_call", "id": "cu", "call_id": "c1", "action": {"type": "click"}}
    result = {"type": "computer_call_output", "id": "out", "call_id": "c1", "output": {"type": "computer_screenshot"}}
    events = [
        at(f"output_item.{kind}", n, item=one) for n, one in enumerate((call, result)) for kind in ("added", "done")
    ]
    assert [one.to_dict() for one in assembled(*events, COMPLETED).output] == [call, result]


@pytest.mark.parametrize("is_done", [False, True])
def test_what_calls_of_the_servers_own_tools_were_given_is_kept(is_done: bool) -> None:
    mcp = {"type": "mcp_call", "id": "1", "name": "f", "server_label": "s", "arguments": ""}
    code = {"type": "code_interpreter_call", "id": "2", "container_id": "c", "code": None}
    pieces: list[tuple[str, int, str]] = [
        ("mcp_call_arguments", 0, "arguments"),
        ("code_interpreter_call_code", 1, "code"),
    ]
    deltas = [at(f"{kind}.delta", index, item_id="other", delta="{}") for kind, index, _ in pieces]
    dones = [at(f"{kind}.done", index, item_id="other", **{name: "{1}"}) for kind, index, name in pieces]
    items = [at("output_item.added", index, item=item) for index, item in enumerate((mcp, code))]
    whole: Any = assembled(*items, *deltas, *(dones if is_done else []), COMPLETED)
    assert (whole.output[0].arguments, whole.output[1].code) == (("{1}", "{1}") if is_done else ("{}", "{}"))


@pytest.mark.parametrize("content", [[], [CITED], None])
def test_an_end_without_the_text_that_was_streamed_does_not_lose_it(content: Any) -> None:
    call = {"type": "function_call", "id": "f", "call_id": "c", "name": "f", "arguments": "{}"}
    end = {"id": "r", "status": "completed", "output": [{**ITEM, "content": content}, call]}
    said = [at("output_text.delta", delta="hello"), at("output_item.done", 1, item=call)]
    whole = assembled(at("output_item.added", item=ITEM), *said, {"type": "response.completed", "response": end})
    assert whole.output_text == "hello"
    assert [one.type for one in whole.output] == ["message", "function_call"]


def test_an_annotation_that_is_told_in_an_event_alone_is_kept() -> None:
    first = {"type": "url_citation", "url": "u", "title": "", "start_index": 0, "end_index": 2, "unheard_of": 1}
    second = {"type": "file_citation", "file_id": "f", "index": 0}
    added = [
        at("output_text.delta", 0, delta="hi"),
        at("output_text.annotation.added", 0, annotation=first),
        at("output_text.annotation.added", 0, annotation=second, annotation_index=1),
        at("output_text.annotation.added", 0, annotation=None),
    ]
    for end in ([], [COMPLETED]):
        whole: Any = assembled(at("output_item.added", 0, item=ITEM), *added, *end)
        (part,) = whole.output[0].content
        assert (part.text, part.annotations[0].url, part.annotations[1].file_id) == ("hi", "u", "f")
        assert part.to_dict()["annotations"] == [first, second]
    # What the end of the part says is all of them.
    whole = assembled(*added, at("content_part.done", 0, part={**CITED, "text": "hi"}), COMPLETED)
    assert whole.output[0].content[0].to_dict()["annotations"] == CITED["annotations"]


def test_a_response_that_begins_anew_has_nothing_of_the_one_before() -> None:
    def begun(id: str) -> dict[str, Any]:
        return {"type": "response.created", "response": {"id": id, "status": "in_progress", "output": []}}

    one = [at("output_item.added", 0, item=ITEM), at("output_text.delta", 0, delta="Bon")]
    other = [at("output_item.added", 0, item={**ITEM, "id": "n"}), at("output_text.delta", 0, delta="Bonjour")]
    whole = assembled(begun("q"), *one, begun("r"), *other, COMPLETED)
    assert (whole.id, whole.output_text, len(whole.output)) == ("r", "Bonjour", 1)
    # Said twice of the same one, it is no other.
    assert assembled(begun("r"), *one, begun("r"), COMPLETED).output_text == "Bon"
