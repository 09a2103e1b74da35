"""Each row of the table in `admission.outcome`: what the end of an attempt says, of which limit, and for whom."""

from __future__ import annotations

from typing import Any

import pytest

from aimlasync.admission.outcome import GONE, LATE, NOTHING, SPENT, Outcome, Signal
from aimlasync.admission.refusal_words import read_status
from aimlasync.client.failure_signs import signal_of
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    APIResponseValidationError,
    APITimeoutError,
    StreamError,
    TruncatedStreamError,
)
from aimlasync.wire.error_bodies import status_error

MODEL = "openai/gpt-5-nano"


def dropped(kind: Any = None, scope: Any = "unknown") -> Signal:
    return Signal(Outcome.DROPPED, kind, scope)


# Texts of servers, as they were seen.
ROWS: list[tuple[int, str, Signal]] = [
    (429, "Too Many Requests", dropped()),
    (429, "", dropped()),
    # AI/ML API, the simulator
    (429, "Too many concurrent requests: 5 of 5 in flight", dropped("concurrency")),
    (429, '{"error": {"message": "slow down", "code": "concurrency_limit"}}', dropped("concurrency")),
    # OpenAI
    (
        429,
        "Rate limit reached for gpt-5-nano in organization org-x on tokens per min (TPM): Limit 200000, Used 199000. "
        "Please try again in 6ms. Visit https://platform.openai.com/account/rate-limits to learn more.",
        dropped("rate", "model"),
    ),
    # Anthropic
    (
        429,
        "This request would exceed your organization's rate limit of 40,000 input tokens per minute.",
        dropped("rate", "account"),
    ),
    (529, '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', dropped()),
    # Azure
    (
        429,
        "Requests to the ChatCompletions_Create Operation have exceeded token rate limit of your current pricing tier.",
        dropped(),
    ),
    # Mistral, Groq, LiteLLM
    (429, "Requests rate limit exceeded", dropped()),
    (429, "Limit 30 RPM reached", dropped("rate")),
    (429, "Max parallel requests reached: 10", dropped("concurrency")),
    # nginx, vLLM, Triton, gateways
    (503, "<html><head><title>503 Service Temporarily Unavailable</title></head></html>", dropped()),
    (503, "rate limit exceeded: 20 requests per second", dropped("rate")),
    (503, "too many connections", dropped("concurrency")),
    (500, "The model is overloaded. Please try again later.", dropped()),
    (502, "upstream said: 429 Too Many Requests", dropped()),
    # llama.cpp, Hugging Face, Triton: there is no model yet.
    (503, '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}', dropped("down", "model")),
    (503, '{"error":"Model openai/gpt-5-nano is currently loading","estimated_time":20.0}', dropped("down", "model")),
    (503, "model 'x' is not ready", dropped("down", "model")),
    # A load is not a model that loads.
    (503, "The model cannot take the current load", dropped()),
    # A quota that is used up is no capacity.
    (429, '{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}', SPENT),
    (401, "Incorrect API key provided", SPENT),
    (402, "Out of credit", SPENT),
    (403, '{"error": {"message": "no", "code": "insufficient_balance"}}', SPENT),
    # A code says it with whatever status (Google, AWS, Groq's flex tier, gateways); a message may quote the request.
    (400, '{"error": {"message": "Too many requests", "code": "rate_limit_exceeded"}}', dropped()),
    (400, '{"__type": "ThrottlingException", "message": "Rate exceeded"}', dropped()),
    (403, '{"error": {"message": "no", "code": "rateLimitExceeded"}}', dropped()),
    (498, '{"error": {"message": "Flex tier is full", "code": "capacity_exceeded"}}', dropped()),
    (400, '{"error": {"message": "Unknown word: rate_limit_exceeded", "code": "invalid_value"}}', NOTHING),
    (401, '{"error": {"message": "no", "code": "rate_limit_exceeded"}}', SPENT),
    # What says nothing of capacity.
    (403, "You may not use this model", NOTHING),
    (400, "Too many requests in one batch", NOTHING),
    (404, "no such model", NOTHING),
    (500, "Internal Server Error", NOTHING),
    (502, "Bad Gateway", NOTHING),
    (504, "Gateway Time-out", NOTHING),
]


@pytest.mark.parametrize(("status", "body", "signal"), ROWS)
def test_an_error_response_is_read_by_its_status_and_its_words(status: int, body: str, signal: Signal) -> None:
    assert signal_of(status_error(status, body.encode()), MODEL) == signal


@pytest.mark.parametrize(
    ("error", "signal"),
    [
        (APIConnectionError("could not connect", billed=False), GONE),
        (APIConnectionError("the connection broke"), GONE),
        (TruncatedStreamError("cut"), GONE),
        (APITimeoutError("too long", phase="idle"), NOTHING),
        (APITimeoutError("no first event", phase="first_token"), LATE),
        (APITimeoutError("no connection", phase="connect"), NOTHING),
        (APIResponseValidationError("no JSON", raw=b"x"), NOTHING),
        # OpenAI, OpenRouter and Anthropic, after a 200.
        (
            StreamError("3000 requests per min for organization org-x", code="rate_limit_exceeded"),
            dropped("rate", "account"),
        ),
        (StreamError("Provider returned error", code="429"), dropped()),
        (StreamError("Overloaded", type="overloaded_error"), dropped()),
        (StreamError("You exceeded your quota", code="insufficient_quota"), NOTHING),
        (StreamError("bad", code="invalid_prompt"), NOTHING),
    ],
)
def test_other_failures_are_told_by_their_kind(error: AimlasyncError, signal: Signal) -> None:
    assert signal_of(error, MODEL) == signal


def test_a_model_is_named_by_its_own_name_and_no_name_is_named_by_nothing() -> None:
    assert read_status(429, "no more for gpt-5-nano", "gpt-5-nano").scope == "model"
    assert read_status(429, "no more", "").scope == "unknown"
    # A dated name has the limits of the alias; a short one is no part of a word.
    words = "Rate limit reached for gpt-4o in organization org-x"
    assert read_status(429, words, "openai/gpt-4o-2024-08-06").scope == "model"
    assert read_status(429, words, "gpt-4o-latest").scope == "model"
    assert read_status(429, words, "o").scope == "account"
    assert read_status(429, "Account limit, see https://x.example/account", "").scope == "account"
    assert read_status(429, "see https://x.example/account/limits", "").scope == "unknown"
