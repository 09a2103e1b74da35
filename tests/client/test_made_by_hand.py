"""What tests of users' code make by hand, as they make it for AsyncOpenAI: mocks of a client, replies and errors."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest

import aimlasync
import aimlasync.chat
from aimlasync import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    RateLimitError,
)
from aimlasync.chat import ChatCompletion
from aimlasync.http_response import HttpResponse
from tests.client.test_openai_names import CHAT, REPLY

REQUEST = SimpleNamespace(method="POST", url="http://x/v1")


# Mocks


@pytest.mark.parametrize("spec", [AsyncClient, AsyncClient(api_key="k")], ids=["class", "client"])
async def test_a_mock_of_the_client_has_what_the_client_has(spec: Any) -> None:
    mock = AsyncMock(spec=spec)
    mock.chat.completions.create = AsyncMock(return_value=1)
    mock.responses.create = AsyncMock(return_value=2)
    mock.models.list = AsyncMock(return_value=3)
    assert isinstance(mock, AsyncClient)
    assert await mock.chat.completions.create(**CHAT) == 1
    assert await mock.responses.create() == 2
    assert await mock.models.list() == 3
    with pytest.raises(AttributeError):
        _ = mock.no_such_name
    assert hasattr(MagicMock(spec=spec), "chat")
    assert create_autospec(AsyncClient, instance=True).chat.completions is not None


async def test_a_copy_has_resources_of_its_own() -> None:
    async with AsyncClient(api_key="k") as client:
        copy = client.with_options(timeout=1)
        assert copy.chat is not client.chat
        assert copy.chat is copy.chat
        assert copy.models is not client.models


async def test_a_key_that_would_change_nothing_is_refused() -> None:
    async with AsyncClient(api_key="k-of-a") as client:
        with pytest.raises(AttributeError, match=r"not changed: with_options\(api_key=") as refused:
            client.api_key = "k-of-b"
        with pytest.raises(AttributeError, match=r"not shown: with_options\(api_key="):
            _ = client.api_key
        assert "k-of" not in str(refused.value)
        assert "api_key" not in dir(client)


# Replies


def test_a_reply_is_made_of_its_fields() -> None:
    for made in (
        ChatCompletion.construct(None, **REPLY),
        ChatCompletion.model_construct(None, **REPLY),
        ChatCompletion.parse_obj(REPLY),
    ):
        assert made.choices[0].message.content == "Hello"
        assert made == ChatCompletion.model_validate(REPLY)
    assert ChatCompletion.construct(model="m").model == "m"


def test_a_chunk_is_made_of_its_fields_and_its_class_is_beside_the_others() -> None:
    chunk = aimlasync.chat.ChatCompletionChunk.construct(id="c", choices=[{"index": 0, "delta": {"content": "Hel"}}])
    assert isinstance(chunk.choices[0], aimlasync.chat.ChunkChoice)
    assert isinstance(chunk.choices[0].delta, aimlasync.chat.Delta)
    assert chunk.choices[0].delta.content == "Hel"
    with pytest.raises(AttributeError, match="ChatCompletionChunks"):
        _ = aimlasync.chat.ChatCompletionChunks  # type: ignore[attr-defined]


def test_a_chunk_without_choices_is_dumped_as_it_is_read() -> None:
    chunk = aimlasync.chat.ChatCompletionChunk.construct(meta={"usage": {"usd_spent": 0.1}})
    assert list(chunk.choices) == chunk.model_dump()["choices"] == []


# Errors


def response(status: int = 429, **headers: str) -> Any:
    return HttpResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"{}")


@pytest.mark.parametrize("kind", [RateLimitError, APIStatusError, aimlasync.BadRequestError])
def test_an_error_is_made_of_a_response_and_a_body(kind: type[APIStatusError]) -> None:
    body = {"message": "slowly", "code": "c", "type": "t", "param": "p"}
    error = kind(message="busy", response=response(Retry_After="3"), body=body)
    assert (error.status_code, error.message, str(error)) == (429, "busy", "busy")
    assert error.response.headers["retry-after"] == "3"
    assert (error.body, error.code, error.type, error.param) == (body, "c", "t", "p")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.status_code, copy.response.headers["retry-after"], copy.code) == (429, "3", "c")
    for no_object in (None, "text"):
        error = kind("busy", response=response(), body=no_object)
        assert (error.body, error.code) == (no_object, None)


def test_an_error_is_made_of_a_mock_of_a_response() -> None:
    assert RateLimitError("busy", response=MagicMock(status_code=429), body=None).status_code == 429
    assert RateLimitError("busy", response=Mock(), body="text").retryable


def test_an_error_without_a_response_is_made_of_a_request() -> None:
    assert str(APIConnectionError(request=REQUEST)) == "Connection error."
    assert str(APIConnectionError(message="gone", request=REQUEST)) == "gone"
    for timeout in (APITimeoutError(REQUEST), APITimeoutError(request=REQUEST)):
        assert str(timeout) == "Request timed out."
        assert isinstance(timeout, APIConnectionError)
        assert pickle.loads(pickle.dumps(timeout)).phase == "total"
    error = APIError("no", REQUEST, body={"message": "m"})
    assert (error.message, error.body) == ("no", {"message": "m"})


def test_an_error_of_an_answer_is_made_of_a_completion() -> None:
    reply = ChatCompletion.model_validate(REPLY)
    assert LengthFinishReasonError(completion=reply).completion is reply
    assert ContentFilterFinishReasonError().completion is None


def test_an_error_of_a_status_needs_one() -> None:
    with pytest.raises(TypeError, match="RateLimitError is made with status=, or with response="):
        RateLimitError("busy")
