"""Streams that end as public bug reports tell: which of them are whole, and what is told of those that are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aimlasync import TruncatedStreamError
from aimlasync.chat.chunks import decode_chunk
from aimlasync.chat.types import decode_completion
from tests.client.test_stream import DONE, chunk, read_chat

# Words that serialisers write where there is no reason.
UNSAID = ["", "null", "None", "FINISH_REASON_UNSPECIFIED"]


@pytest.mark.parametrize("word", UNSAID)
async def test_a_reason_that_is_none_ends_no_answer(word: str) -> None:
    cut = (chunk("one ", finish=word), chunk("two", finish=word))
    text, error = await read_chat(*cut)
    assert (text, type(error)) == ("one two", TruncatedStreamError)
    assert await read_chat(*cut, chunk(finish="stop")) == ("one two", None)


@pytest.mark.parametrize("word", UNSAID)
async def test_a_reason_that_is_none_says_nothing(word: str) -> None:
    text, error = await read_chat(chunk(finish=word), DONE)
    assert (text, "says nothing" in str(error)) == ("", True)


@pytest.mark.parametrize("word", UNSAID)
@pytest.mark.parametrize("more", [{}, {"unheard_of": 1}])
def test_a_reason_that_is_none_is_sent_on_as_it_came(word: str, more: dict[str, Any]) -> None:
    for part, decode in (("delta", decode_chunk), ("message", decode_completion)):
        choice = {"index": 0, part: {"content": "hi"}, "finish_reason": word, **more}
        said = decode(json.dumps({"choices": [choice]}).encode())
        assert said.choices[0].finish_reason is None
        assert said.to_dict()["choices"] == [choice]
