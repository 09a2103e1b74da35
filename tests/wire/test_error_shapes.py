"""Error bodies of many servers: each says a message, a code, a type and a wait in its own way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aimlasync import InsufficientCreditError, RateLimitError
from aimlasync.errors import APIStatusError
from aimlasync.wire.error_bodies import error_in_body, status_error, stream_error
from aimlasync.wire.error_shapes import read_error

RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}
GEMINI = {
    "error": {
        "code": 429,
        "message": "Resource exhausted.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}, RETRY_INFO],
    }
}
ANTHROPIC = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}


def router(raw: Any, **more: Any) -> dict[str, Any]:
    metadata = {"raw": raw, "provider_name": "Chutes", **more}
    return {"error": {"message": "Provider returned error", "code": 429, "metadata": metadata}, "user_id": "u"}


@pytest.mark.parametrize(
    ("body", "message", "code", "type", "wait"),
    [
        ([GEMINI], "Resource exhausted.", "429", "RESOURCE_EXHAUSTED", 3),
        (GEMINI, "Resource exhausted.", "429", "RESOURCE_EXHAUSTED", 3),
        (
            {"error": {"message": "Please try again in 1.2s.", "type": "tokens", "code": "rate_limit_exceeded"}},
            "Please try again in 1.2s.",
            "rate_limit_exceeded",
            "tokens",
            1.2,
        ),
        ({"error": {"code": "429", "message": "Retry after 26 seconds."}}, "Retry after 26 seconds.", "429", None, 26),
        (
            {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 12 seconds."},
            "Rate limit is exceeded. Try again in 12 seconds.",
            None,
            None,
            12,
        ),
        (
            {"error": {"message": "filtered", "code": "content_filter", "innererror": {"code": "ResponsibleAI"}}},
            "filtered",
            "content_filter",
            None,
            None,
        ),
        (
            router('{"error":{"message":"busy","code":"overloaded","type":"x"}}', headers={"Retry-After": "4"}),
            "Provider returned error (Chutes): busy",
            "overloaded",
            "x",
            4,
        ),
        (router("wait 9 s"), "Provider returned error (Chutes): wait 9 s", "429", None, 9),
        (router(None, retry_after_seconds=7), "Provider returned error", "429", None, 7),
        (
            {"object": "error", "message": "Capacity exceeded", "type": "capacity", "param": None, "code": "3505"},
            "Capacity exceeded",
            "3505",
            "capacity",
            None,
        ),
        (ANTHROPIC, "Overloaded", None, "overloaded_error", None),
        (
            {"error": {"message": f"AnthropicException - b'{json.dumps(ANTHROPIC)}'", "type": "None", "code": "529"}},
            f"AnthropicException - b'{json.dumps(ANTHROPIC)}'",
            "529",
            "overloaded_error",
            None,
        ),
        ({"error": {"message": json.dumps(ANTHROPIC), "code": 529}}, "Overloaded", "529", "overloaded_error", None),
        ({"message": "Too many tokens", "__type": "Throttling"}, "Too many tokens", None, "Throttling", None),
        ({"detail": "slow down"}, "slow down", None, None, None),
        ({"detail": {"error": {"message": "deep", "code": "c", "type": "t"}}}, "deep", "c", "t", None),
        ({"detail": {"message": "deep", "code": "c", "retry_after": 2}}, "deep", "c", None, 2),
        (
            {"title": "Error 1015", "status": 429, "detail": "limited", "retry_after": 30, "error_code": 1015},
            "limited",
            "1015",
            None,
            30,
        ),
        ({"error": "Model is loading", "estimated_time": 20.0}, "Model is loading", None, None, 20),
        ({"error": "invalid_token", "error_description": "It expired"}, "It expired", "invalid_token", None, None),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "rate limit", "1002", None, None),
        ({"error_code": 336501, "error_msg": "limit"}, "limit", "336501", None, None),
        ({"code": "Throttling.RateQuota", "message": "limit"}, "limit", "Throttling.RateQuota", None, None),
        ({"success": False, "errors": [{"message": "no route", "code": 7003}]}, "no route", "7003", None, None),
        ({"Message": "Forbidden"}, "Forbidden", None, None, None),
        ({"error": [{"message": "a"}, {"message": "b", "code": "c"}]}, "a; b", None, None, None),
    ],
)
def test_what_a_server_says_is_found(
    body: Any, message: str, code: str | None, type: str | None, wait: float | None
) -> None:
    said = read_error(body)
    assert (said.message, said.code, said.type, said.retry_after) == (message, code, type, wait)
    error = status_error(429, json.dumps(body).encode())
    assert error.message == f"HTTP 429: {message}"
    assert (error.code, error.type, error.retry_after, error.body) == (code, type, wait, body)


def test_a_field_that_is_wrong_is_named() -> None:
    body = {"detail": [{"type": "missing", "loc": ["body", "messages", 0, "role"], "msg": "Field required"}]}
    said = read_error(body)
    assert (said.message, said.type, said.param) == ("Field required", "missing", "messages.0.role")
    mistral = {"object": "error", "message": body, "type": "invalid_request_error", "code": None}
    said = read_error(mistral)
    assert (said.message, said.type, said.param) == ("Field required", "invalid_request_error", "messages.0.role")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"Too Many Requests, retry after 3 seconds", "Too Many Requests, retry after 3 seconds"),
        (b"<html><h1>Slow down</h1>Try again in 3s.</html>", "Slow down Try again in 3s."),
        (b'{"error": {"message": "Please try again in 3s', "Please try again in 3s"),
    ],
    ids=["text", "page", "cut"],
)
def test_a_wait_in_a_text_that_is_no_json_is_heard(body: bytes, text: str) -> None:
    error = status_error(429, body)
    assert (error.message, error.retry_after) == (f"HTTP 429: {text}", 3)


def test_headers_count_before_the_body_and_the_body_before_a_reset() -> None:
    body = json.dumps(GEMINI).encode()
    assert status_error(429, body, retry_after=1, reset=9).retry_after == 1
    assert status_error(429, body, reset=9).retry_after == 3
    assert status_error(429, b"{}", reset=9).retry_after == 9


def test_a_wait_is_only_heard_where_waiting_may_help() -> None:
    assert status_error(400, b'{"message": "try again in 3s"}').retry_after is None
    assert status_error(503, b'{"message": "try again in 3s"}').retry_after == 3


def test_a_quota_that_comes_back_is_waited_for_and_another_is_not() -> None:
    said = {"message": "You exceeded your current quota, please check your plan and billing details."}
    assert not status_error(429, json.dumps({"error": said}).encode()).retryable
    minute = status_error(429, json.dumps({"error": {**said, "details": [RETRY_INFO]}}).encode())
    assert (minute.retryable, minute.retry_after) == (True, 3)
    gone = {"error": {**said, "code": "insufficient_quota", "details": [RETRY_INFO]}}
    assert not status_error(429, json.dumps(gone).encode()).retryable


def test_an_error_under_a_200_states_its_wait() -> None:
    error = error_in_body([GEMINI], raw=b"", info=None, billed=None)
    assert isinstance(error, RateLimitError)
    assert (error.retryable, error.retry_after, error.type) == (True, 3, "RESOURCE_EXHAUSTED")
    streamed = stream_error([GEMINI], partial=None, info=None, billed=None)
    assert (streamed.retryable, streamed.retry_after, streamed.type) == (True, 3, "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize(
    "body",
    [[], [[]], [None], {"error": []}, {"error": {"details": [None, 3, "x"]}}, {"metadata": 3}, {"code": 10**5000}, 3],
)
def test_a_strange_body_says_nothing_and_fails_nowhere(body: Any) -> None:
    said = read_error(body)
    assert (said.message, said.code, said.retry_after) == ("", None, None)


def test_an_error_wrapped_again_and_again_ends_somewhere() -> None:
    text = "deep"
    for _ in range(12):
        text = json.dumps({"error": {"message": text}})
    error = status_error(500, text.encode())
    assert isinstance(error, APIStatusError)
    assert error.message


def test_no_credit_is_no_credit_whatever_the_shape() -> None:
    assert isinstance(status_error(402, b'[{"error": {"message": "Insufficient Balance"}}]'), InsufficientCreditError)
