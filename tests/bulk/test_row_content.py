"""What a row says: values within columns, conversations, images, requests without an envelope, and its record."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from aimlasync.bulk.input.columns import value_of
from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.bulk.journal.convert import record_of
from aimlasync.bulk.journal.record import decode_record, encode_record
from aimlasync.bulk.tasks.classification import ClassifyTask
from aimlasync.bulk.tasks.content import contents_of
from aimlasync.bulk.tasks.prompt import PromptError
from aimlasync.bulk.tasks.request import Request, is_body, line_id
from aimlasync.bulk.tasks.result import Result
from aimlasync.bulk.tasks.tasks import BatchTask, EmptyTextError, PromptTask
from aimlasync.chat.types import decode_completion
from aimlasync.info import Info
from aimlasync.responses.types import decode_response

HELLO = [{"role": "user", "content": "Hello"}]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def row(raw: bytes | None = b"", **fields: Any) -> Row:
    return Row(3, 4, fields, None, raw)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", {"b": [{"c": 1}], "d": None, "e.f": 2}),
        ("a.b.0.c", 1),
        ("a.d", None),
        ("a.d.anything", None),
        ("a.e.f", 2),
        ("x.y", "whole"),
        ("x.y.z", UNSET),
        ("a.z", UNSET),
        ("a.b.7", UNSET),
        ("a.b.c", UNSET),
        ("none", UNSET),
    ],
)
def test_a_value_within_a_column_is_found_by_its_path(name: str, value: Any) -> None:
    assert value_of({"a": {"b": [{"c": 1}], "d": None, "e.f": 2}, "x.y": "whole"}, name) == value


def test_a_prompt_takes_values_from_within_columns() -> None:
    task = PromptTask(prompt="{meta.title}: {meta.tags}", model="m", id_column="meta.id")
    task.check_columns(["meta"])
    given = row(meta={"title": "A", "tags": ["x"], "id": 7})
    task.check(given)
    request = task.request(given)
    assert (request.custom_id, request.body["messages"][0]["content"]) == ("7", 'A: ["x"]')
    with pytest.raises(PromptError, match=r"names \{meta\.title\}, which is no column"):
        task.check_columns(["other"])
    with pytest.raises(InputError, match=r"line 4: no 'meta\.title' in this row"):
        task.check(row(meta={"id": 7}))


def test_a_text_within_a_column_is_classified() -> None:
    task = ClassifyTask(model="m", labels=["a", "b"], text="meta.text")
    assert task.request(row(meta={"text": "Hello"})).body["messages"][-1]["content"] == "Hello"
    with pytest.raises(InputError, match=r"no 'meta\.text' in this row"):
        task.check(row(meta={}))


def test_a_prompt_of_empty_columns_is_not_asked() -> None:
    task = PromptTask(prompt="Translate: {text} {note}", model="m")
    for fields in ({"text": " ", "note": None}, {"text": "", "note": ""}):
        with pytest.raises(EmptyTextError):
            task.request(row(**fields))
    assert task.request(row(text="", note="x")).body


# Conversations


@pytest.mark.parametrize("value", [HELLO, '[{"role": "user", "content": "Hello"}]'])
def test_a_column_of_messages_is_what_is_said(value: Any) -> None:
    given = row(messages=value, topic="x")
    chat = PromptTask(messages="messages", model="m", system="Be kind", params={"n": 1})
    chat.check(given)
    assert chat.request(given).body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be kind"}, *HELLO],
        "n": 1,
    }
    responses = PromptTask(messages="messages", model="m", system="Be kind", endpoint="responses")
    assert responses.request(given).body == {"model": "m", "input": "Hello", "instructions": "Be kind"}
    assert responses.identity()["messages"] == "messages"


def test_a_conversation_of_several_turns_is_the_input_of_responses() -> None:
    turns = [*HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Bye"}]
    body = PromptTask(messages="messages", model="m", endpoint="responses").request(row(messages=turns)).body
    assert body == {"model": "m", "input": turns}


def test_nulls_that_a_column_adds_are_not_sent_and_those_of_a_line_are() -> None:
    turns = [{"role": "user", "content": "Hello", "tool_calls": None}]
    task = PromptTask(messages="messages", model="m")
    assert task.request(row(None, messages=turns)).body["messages"] == HELLO
    assert task.request(row(b"{}", messages=turns)).body["messages"] == turns


@pytest.mark.parametrize("value", ["Hello", [], "[]", None, [{"content": "a"}], {"role": "user"}, "[1]", "{"])
def test_what_is_no_conversation_has_its_line(value: Any) -> None:
    with pytest.raises(InputError, match=r"input: line 4: 'messages' is no list of messages, such as \["):
        PromptTask(messages="messages", model="m").check(row(messages=value))


# Requests


def test_a_body_alone_is_a_request() -> None:
    task = BatchTask(model="given")
    request = task.request(row(messages=HELLO, temperature=0))
    assert (request.custom_id, request.api) == ("row-3", "chat")
    assert request.body == {"model": "given", "messages": HELLO, "temperature": 0}
    request = task.request(row(model="m", input="Hello", top_k=5, id=7))
    assert (request.custom_id, request.api) == ("7", "responses")
    assert request.body == {"model": "m", "input": "Hello", "top_k": 5}
    assert task.request(row(body={"messages": HELLO})).custom_id == "row-3"


@pytest.mark.parametrize(
    ("fields", "is_one"),
    [
        ({"messages": HELLO}, True),
        ({"messages": HELLO, "custom_id": 1}, True),
        ({"messages": HELLO, "model": "m", "anything": 1}, True),
        ({"messages": HELLO, "topic": "x"}, False),
        ({"messages": HELLO, "id": 1}, False),
        ({"messages": '[{"role": "user"}]'}, False),
        ({"input": "x", "output": "y"}, False),
        ({"input": "x"}, True),
        ({"text": "x", "model": "m"}, False),
    ],
)
def test_a_row_is_a_body_where_all_of_it_is_one(fields: dict[str, Any], is_one: bool) -> None:
    assert is_body(fields) is is_one


def test_a_number_is_a_name() -> None:
    assert line_id({"custom_id": 7, "body": {}}) == "7"
    task = BatchTask()
    given = row(custom_id=7, url="/v1/responses", body={"model": "m", "input": "x"})
    task.check(given)
    assert task.custom_id(given) == task.request(given).custom_id == "7"


# Images


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def looking(folder: Path, **options: Any) -> PromptTask:
    task = PromptTask(prompt="What is it?", images=["image"], model="m", **options)
    task.name = str(folder / "in.csv")
    return task


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        ("a.png", [PNG_URL]),
        (" a.png ", [PNG_URL]),
        ("https://example.org/a.png", ["https://example.org/a.png"]),
        (PNG_URL, [PNG_URL]),
        (["a.png", "https://example.org/b.png"], [PNG_URL, "https://example.org/b.png"]),
        ('["a.png", "a.png"]', [PNG_URL, PNG_URL]),
        ({"bytes": base64.b64encode(PNG).decode(), "path": "x.png"}, [PNG_URL]),
        ({"bytes": None, "path": "a.png"}, [PNG_URL]),
    ],
)
def test_images_are_sent_with_the_prompt(value: Any, urls: list[str], pictures: Path) -> None:
    task, given = looking(pictures), row(image=value)
    task.check(given)
    assert task.request(given).body["messages"][0]["content"] == [
        {"type": "text", "text": "What is it?"},
        *({"type": "image_url", "image_url": {"url": url}} for url in urls),
    ]
    body = looking(pictures, endpoint="responses").request(given).body
    assert body["input"][0]["content"] == [
        {"type": "input_text", "text": "What is it?"},
        *({"type": "input_image", "image_url": url} for url in urls),
    ]


def test_an_absolute_path_and_a_file_address_are_paths(pictures: Path) -> None:
    task = looking(Path("/elsewhere"))
    for value in (str(pictures / "a.png"), f"file://{pictures / 'a.png'}"):
        content = task.request(row(image=value)).body["messages"][0]["content"]
        assert content[1]["image_url"]["url"] == PNG_URL


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("missing.png", "line 4: no image at "),
        ("notes.txt", "notes.txt is no PNG, JPEG, GIF or WebP image"),
        ("s3://bucket/a.png", "no way to get s3://bucket/a.png; give https:// or a path"),
        ("data:text/plain,hello", "no image: data:text/plain,hello"),
        (7, "'image' is no address and no path"),
        ({"bytes": "AAAA", "path": None}, "bytes that are no PNG"),
        ("[a.png", "begins like a list and is no JSON"),
        ("a\0b", "no image at "),
    ],
)
def test_an_image_that_cannot_be_sent_is_refused_before_any_call(value: Any, said: str, pictures: Path) -> None:
    with pytest.raises(InputError) as caught:
        looking(pictures).check(row(image=value))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_without_an_image_is_not_asked_about(pictures: Path) -> None:
    values: list[Any] = ["", None, [], "[]"]
    for value in values:
        looking(pictures).check(row(image=value))
        with pytest.raises(EmptyTextError):
            looking(pictures).request(row(image=value))


def test_images_are_classified_with_a_text_and_without(pictures: Path) -> None:
    task = ClassifyTask(model="m", labels=["a", "b"], text=None, images=["image"])
    task.name = str(pictures / "in.csv")
    task.check(row(image="a.png"))
    image = {"type": "image_url", "image_url": {"url": PNG_URL}}
    assert task.request(row(image="a.png")).body["messages"][-1]["content"] == [image]
    assert task.identity()["images"] == ["image"]
    with_text = ClassifyTask(model="m", labels=["a", "b"], images=["image"])
    with_text.name = task.name
    content = with_text.request(row(image="a.png", text="Hello")).body["messages"][-1]["content"]
    assert content == [{"type": "text", "text": "Hello"}, image]
    assert with_text.request(row(image="", text="Hello")).body["messages"][-1]["content"] == "Hello"
    with pytest.raises(EmptyTextError):
        task.request(row(image=""))


# Records


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (decode_completion, '{"choices": [{"message": {"content": "an \\"error\\" is {\\"error\\": {}}"}}]}'),
        (decode_completion, '{\n "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}\n'),
        (decode_completion, '{"choices": [{"message": {"content": "a"}}], "x": NaN, "usage": {"cost": 1e999}}'),
        (decode_completion, '{"choices": [{"message": {"content": "a"}}], "x": {"error": "no"}}'),
        (decode_completion, '{"object": "error", "message": "no", "choices": []}'),
        (decode_completion, '{"choices": [{"message": {"content": "a"}}], "error": {"message": "no"}}'),
        (decode_response, '{"status": "failed", "error": {"code": "x", "message": "no"}, "output": []}'),
        (decode_response, '{"status": "completed", "error": null, "output": []}'),
    ],
)
def test_a_record_is_what_its_line_is_read_as(decode: Any, body: str) -> None:
    reply = decode(body.encode())
    result = Result(Request(custom_id="a", api="chat", body={"model": "m"}))
    reply.__dict__["info"] = Info(endpoint="e", attempts=1, status=200, request_id="r")
    result.count(reply)
    record = record_of(result)
    line = encode_record(record)
    assert b"\n" not in line
    assert decode_record(line) == record


def test_a_request_that_asks_for_its_fields_in_another_order_is_another() -> None:
    def content(*names: str, **more: Any) -> str:
        schema = {"type": "object", "properties": {name: {} for name in names}}
        return contents_of(["body"])(row(body={"tools": [schema], **more}))

    assert content("reason", "answer") != content("answer", "reason")
    assert content("reason", "answer", a=1, b=2) == content("reason", "answer", b=2, a=1)
