"""What servers say of an item in one place, and leave out in another that should say it again."""

from __future__ import annotations

from typing import Any

import pytest

from aimlasync.responses.restated import restated
from tests.responses.test_gateways import COMPLETED, ITEM, assembled, at

CALL = {
    "type": "function_call",
    "id": "f",
    "call_id": "c",
    "name": "look",
    "arguments": '{"a":1}',
    "status": "completed",
}
TEXT = {**ITEM, "content": [{"type": "output_text", "text": "let me see", "annotations": []}]}
THOUGHT = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}


def ended(*output: Any, status: str = "completed") -> dict[str, Any]:
    return {"type": f"response.{status}", "response": {"id": "r", "status": status, "output": list(output)}}


def sent(items: list[Any]) -> list[Any]:
    return [item.to_dict() for item in items]


def test_a_name_that_the_end_of_an_item_leaves_empty_is_that_of_its_beginning() -> None:
    # CLIProxyAPI#1004
    begun = at("output_item.added", item={**CALL, "arguments": "", "status": "in_progress", "extra": {"k": "v"}})
    done = at("output_item.done", item={**CALL, "name": "", "call_id": None})
    for end in (COMPLETED, ended({**CALL, "name": ""})):
        assert sent(assembled(begun, done, end).output) == [{**CALL, "extra": {"k": "v"}}]


def test_a_message_that_begins_with_text_and_ends_without_has_its_pieces() -> None:
    begun = {**ITEM, "content": [{"type": "output_text", "text": "let me", "annotations": []}]}
    deltas = [at("output_text.delta", delta=text) for text in ("let me", " see")]
    empty = at("output_item.done", item=ITEM)
    assert assembled(at("output_item.added", item=begun), *deltas, empty, COMPLETED).output_text == "let me see"
    assert assembled(at("output_item.added", item=TEXT), empty, COMPLETED).output_text == "let me see"


@pytest.mark.parametrize("is_ended", [True, False])
def test_a_call_that_the_end_of_the_response_leaves_out_is_in_the_answer(is_ended: bool) -> None:
    # bifrost#2120, sglang#12652
    message = [at("output_item.added", 0, item=ITEM), at("output_text.delta", 0, delta="let me see")]
    call = [at("output_item.added", 1, item={**CALL, "arguments": ""})]
    call.append(at("function_call_arguments.done", 1, arguments=CALL["arguments"]))
    call += [at("output_item.done", 1, item=CALL)] if is_ended else []
    whole = assembled(*message, *call, ended(TEXT))
    assert sent(whole.output) == [TEXT, CALL]
    assert whole.output_text == "let me see"
    # Of a response that was cut, half a call is no call.
    cut = assembled(*message, *call, ended(TEXT, status="incomplete"))
    assert sent(cut.output) == ([TEXT, CALL] if is_ended else [TEXT])


def test_items_that_the_end_leaves_out_come_where_they_were() -> None:
    image = {"type": "image_generation_call", "id": "ig", "status": "completed", "result": "QUJD"}
    patch = {"type": "apply_patch_call", "id": "ap", "call_id": "p", "operation": {"diff": "+x"}}
    items = [THOUGHT, image, TEXT, patch, CALL]
    events = [at("output_item.done", number, item=item) for number, item in enumerate(items)]
    assert sent(assembled(*events, ended(TEXT, CALL)).output) == items
    # What the end says of an item counts; what it leaves empty was said before.
    last = ended({"type": "reasoning", "id": "rs", "summary": []}, {**image, "result": None}, TEXT, patch, CALL)
    assert sent(assembled(*events, last).output) == items
    other = {**CALL, "id": "g", "call_id": "d", "arguments": "{}"}
    assert sent(assembled(*events, ended(*items[:4], other)).output) == [*items[:4], other]


def test_what_is_said_alike_each_time_is_the_servers_own() -> None:
    events = [at("output_item.done", number, item=item) for number, item in enumerate((THOUGHT, TEXT, CALL))]
    end = ended(THOUGHT, TEXT, CALL)
    whole = assembled(*events, end)
    assert whole.to_dict() == end["response"]
    assert all(one is other for one, other in zip(restated(whole.output, whole.output), whole.output, strict=True))


def test_a_call_of_which_no_item_was_told_is_known_by_the_end_of_its_arguments() -> None:
    done = at("function_call_arguments.done", item_id="f", name="look", call_id="c", arguments="{}")
    call: Any = assembled(at("function_call_arguments.delta", item_id="f", delta="{}"), done, COMPLETED).output[0]
    assert (call.name, call.call_id, call.id, call.arguments) == ("look", "c", "f", "{}")


@pytest.mark.parametrize("is_at_end", [True, False])
def test_log_probabilities_of_pieces_are_those_of_their_text(is_at_end: bool) -> None:
    tokens = [{"token": t, "logprob": -0.5, "bytes": [ord(t)], "top_logprobs": []} for t in "ab"]
    said: list[Any] = [at("output_text.delta", delta=token["token"], logprobs=[token]) for token in tokens]
    if is_at_end:
        said = [at("output_text.delta", delta="ab", logprobs=[]), at("output_text.done", text="ab", logprobs=tokens)]
    for begun in ([], [at("content_part.added", part={"type": "output_text", "text": "", "logprobs": []})]):
        events = [*begun, *said]
        whole = assembled(*events, COMPLETED)
        (part,) = whole.to_dict()["output"][0]["content"]
        assert (part["text"], part["logprobs"]) == ("ab", tokens)
        # Nothing is added where there are none.
        plain = [{name: value for name, value in one.items() if name != "logprobs"} for one in said]
        (part,) = assembled(*begun, *plain, COMPLETED).to_dict()["output"][0]["content"]
        assert part.get("logprobs", []) == []


def test_what_the_end_of_a_part_alone_says_is_the_answer() -> None:
    part = {"type": "output_text", "text": "42", "annotations": []}
    said = at("content_part.done", 1, part=part)
    for item in ([], [at("output_item.done", 1, item=ITEM)]):
        assert assembled(said, *item, COMPLETED).output_text == "42"
    # sglang#12652: a text by chat's name of it, and empty.
    empty = {**ITEM, "content": [{"type": "text", "text": ""}]}
    assert assembled(at("output_text.delta", 0, delta="42"), at("output_item.done", item=empty)).output_text == "42"
    assert assembled(at("content_part.done", part={"type": "refusal", "refusal": "no"}), COMPLETED).refusal == "no"
    thoughts: Any = assembled(
        at("reasoning_summary_part.done", part={"type": "summary_text", "text": "think"}),
        at("content_part.done", part={"type": "reasoning_text", "text": "thought"}),
        COMPLETED,
    ).output
    assert (len(thoughts), thoughts[0].summary[0].text, thoughts[0].content[0].text) == (1, "think", "thought")


@pytest.mark.parametrize("is_said_again", [True, False])
@pytest.mark.parametrize(
    ("indices", "index"),
    # vllm#45742, servers that count the pieces, and ones that count the messages otherwise than their texts.
    [([{"content_index": 1}] * 3, 0), ([{"content_index": n} for n in range(3)], 0), ([{}] * 3, 1)],
    ids=["shifted", "counted", "elsewhere"],
)
def test_pieces_under_another_index_are_not_said_twice(indices: list[Any], index: int, is_said_again: bool) -> None:
    item = {**ITEM, "content": [{"type": "output_text", "text": "abc", "annotations": []}]}
    pieces = [at("output_text.delta", index, delta=text, **more) for text, more in zip("abc", indices, strict=True)]
    begun, done = at("output_item.added", item=ITEM), at("output_item.done", item=item)
    end = ended(item) if is_said_again else COMPLETED
    assert sent(assembled(begun, *pieces, done, end).output) == [item]
    part = at("content_part.done", part=item["content"][0])
    assert sent(assembled(begun, *pieces, part, done, end).output) == [item]
    # Another text is another one.
    other = {**item, "content": [{"type": "output_text", "text": "other", "annotations": []}]}
    if index:
        assert assembled(begun, *pieces, at("output_item.done", item=other), COMPLETED).output_text == "otherabc"
