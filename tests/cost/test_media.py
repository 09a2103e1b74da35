"""Claims about `cost.media`: an image or a file is a bounded number of tokens, however many bytes it has."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.chat import types as chat
from aimlasync.cost.media import input_bound, media_in
from aimlasync.wire.base import encode

MEGABYTES = "A" * 2_000_000
PNG = f"data:image/png;base64,{MEGABYTES}"


def pdf(*objects: bytes) -> str:
    return base64.b64encode(b"%PDF-1.7\n" + b"\n".join(objects)).decode()


PAGE = b"<< /Type /Page /Parent 2 0 R >>"
PAGES = b"<< /Type /Pages /Kids [3 0 R] /Count 12 >>"
PACKED = b"5 0 obj << /Type /ObjStm /N 3 /Filter /FlateDecode >> stream\r\n" + zlib.compress(PAGE * 7) + b"endstream"

# Parts as the vendors' pages have them, and a bound of their tokens.
PARTS: dict[str, tuple[dict[str, Any], int]] = {
    "chat image by value": ({"type": "image_url", "image_url": {"url": PNG}}, 4_096),
    "chat image by URL": ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, 4_096),
    "image_url that is a text": ({"type": "image_url", "image_url": PNG}, 4_096),
    "responses image": ({"type": "input_image", "image_url": PNG, "detail": "auto"}, 4_096),
    "responses image by id": ({"type": "input_image", "file_id": "file-1"}, 4_096),
    "image as it is": ({"type": "input_image", "image_url": PNG, "detail": "original"}, 16_384),
    "Anthropic image": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": MEGABYTES}},
        4_096,
    ),
    "chat file": (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64," + pdf(PAGE, PAGE)}},
        2 * 5_000,
    ),
    "responses file": ({"type": "input_file", "filename": "a.pdf", "file_data": pdf(PAGES)}, 12 * 5_000),
    "file with packed pages": ({"type": "input_file", "file_data": pdf(PACKED)}, 7 * 5_000),
    "file that claims too many": ({"type": "input_file", "file_data": pdf(b"/Count 99999")}, 1_000 * 5_000),
    "file by URL": ({"type": "input_file", "file_url": "https://example.com/a.pdf"}, 100 * 5_000),
    "file by id": ({"type": "file", "file": {"file_id": "file-1"}}, 100 * 5_000),
    "file that is no PDF": ({"type": "input_file", "file_data": base64.b64encode(bytes(9_000)).decode()}, 3 * 5_000),
    "PDF in an image_url": (
        {"type": "image_url", "image_url": {"url": "data:application/pdf;base64," + pdf(PAGE)}},
        5_000,
    ),
    "text file": (
        {"type": "input_file", "file_data": "data:text/plain;base64," + base64.b64encode(b"x" * 300).decode()},
        317,
    ),
    "sound": ({"type": "input_audio", "input_audio": {"data": MEGABYTES, "format": "wav"}}, 50_001),
    "video by URL": ({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}, 270_000),
    "image that was made": ({"type": "image_generation_call", "id": "i", "result": MEGABYTES}, 4_096),
    "screenshot": (
        {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": PNG}},
        4_096,
    ),
    "image in the result of a tool": (
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "https://a/b"}}]},
        4_096,
    ),
    "search of files": ({"type": "file_search_call", "queries": ["x"], "results": None}, 0),
    "text": ({"type": "text", "text": PNG}, 0),
    "input text": ({"type": "input_text", "text": PNG}, 0),
    "output text": ({"type": "output_text", "text": "hi", "annotations": []}, 0),
    "refusal": ({"type": "refusal", "refusal": "no"}, 0),
    "tool reference": ({"type": "tool_reference", "name": "x"}, 0),
}


@pytest.mark.parametrize("name", PARTS)
def test_part_is_a_bounded_number_of_tokens(name: str) -> None:
    part, most = PARTS[name]
    for body in (
        {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}]},
        {"model": "m", "input": [{"type": "function_call_output", "call_id": "c", "output": [part]}]},
        {"model": "m", "input": [part]},
    ):
        found = media_in(body)
        assert found.most == most
        assert 0 <= found.likely <= most
        assert found.size <= len(json.dumps(part))
        size = len(encode(body))
        assert input_bound(body, size) == size - found.size + most
        if most:
            assert input_bound(body, size) < max(200, len(json.dumps(part))) + most


def test_structs_are_read_as_dicts_are() -> None:
    message = chat.UserMessage(
        content=[
            chat.TextPart(text="see"),
            chat.ImagePart(image_url=chat.ImageURL(url=PNG)),
            chat.FilePart(file=chat.FileData(file_data="data:application/pdf;base64," + pdf(PAGE))),
        ]
    )
    assert media_in({"model": "m", "messages": [message]}).most == 4_096 + 5_000


def test_dearest_image_of_a_model_is_taken() -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b"}}]}]}
    assert media_in({"model": "openai/gpt-4o-mini-2024-07-18", **body}).most == 48_169
    assert media_in({"model": "openai/gpt-4o", **body}).most == 4_096


def test_request_of_text_has_none() -> None:
    bodies: list[dict[str, Any]] = [{"model": "m", "messages": [{"role": "user", "content": "x"}]}, {"input": "x"}, {}]
    for body in bodies:
        assert not media_in(body)
        assert input_bound(body, 40) == 40


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(max_size=9) | st.sampled_from(["image_url", "file", "data:,", "input_audio"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "content", "output", "url", "image_url", "file", "data"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["messages", "input"]), JSON)
def test_no_request_breaks_it(name: str, items: Any) -> None:
    assert input_bound({"model": items, name: items}, 100) >= 0
