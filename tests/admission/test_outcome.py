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


# xAI, OpenRouter, DashScope, SiliconFlow, Ark, LiteLLM, Zhipu, New API, OpenAI: no money, or an account that was shut.
SPENT_WORDS = [
    "Your team has either used all available credits or reached its monthly spending limit.",
    "Key limit exceeded (total limit)",
    '{"error": {"message": "The free quota is used up", "code": "AllocationQuota.FreeTierOnly"}}',
    "Sorry, your account balance is insufficient",
    '{"error": {"message": "no", "code": "AccountOverdueError"}}',
    "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0",
    "您的账户已欠费 请充值后重试",
    '{"error": {"message": "no", "code": "insufficient_user_quota"}}',
    "Your access was terminated due to violation of our policies",
]

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
        dropped("tokens", "model"),
    ),
    # Anthropic
    (
        429,
        "This request would exceed your organization's rate limit of 40,000 input tokens per minute.",
        dropped("tokens", "account"),
    ),
    (529, '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', dropped()),
    # Azure
    (
        429,
        "Requests to the ChatCompletions_Create Operation have exceeded token rate limit of your current pricing tier.",
        dropped("tokens"),
    ),
    # Mistral, Groq, LiteLLM
    (429, "Requests rate limit exceeded", dropped("rate")),
    (429, "Limit 30 RPM reached", dropped("rate")),
    (429, "Max parallel requests reached: 10", dropped("concurrency")),
    # nginx, vLLM, Triton, gateways
    (503, "<html><head><title>503 Service Temporarily Unavailable</title></head></html>", dropped()),
    (503, "rate limit exceeded: 20 requests per second", dropped("rate")),
    (503, "too many connections", dropped("concurrency")),
    (500, "The model is overloaded. Please try again later.", dropped()),
    # Ollama (ollama/ollama#4159, #4545), SGLang, Triton
    (500, '{"error": "unexpected server status: llm busy - no slots available"}', dropped()),
    (500, "no slots available after 10 retries", dropped()),
    (500, "The request queue is full.", dropped()),
    (500, "in ensemble 'llm', Exceeds maximum queue size", dropped()),
    (500, "slots[0] is out of range in the queue of kernels", NOTHING),
    (502, "upstream said: 429 Too Many Requests", dropped()),
    # llama.cpp, Hugging Face, Triton: there is no model yet.
    (503, '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}', dropped("down", "model")),
    (503, '{"error":"Model openai/gpt-5-nano is currently loading","estimated_time":20.0}', dropped("down", "model")),
    (503, "model 'x' is not ready", dropped("down", "model")),
    # A load is not a model that loads.
    (503, "The model cannot take the current load", dropped()),
    # Cohere, Bedrock, Zhipu, New API
    (429, "You are using a Trial key, which is limited to 40 API calls / minute.", dropped("rate")),
    (429, "Too many tokens, please wait before trying again.", dropped("tokens")),
    (429, '{"error": {"code": "1302", "message": "您当前使用该API的并发数过高 请降低并发"}}', dropped("concurrency")),
    (429, '{"error": {"code": "1303", "message": "您当前使用该API的频率过高 请降低频率"}}', dropped("rate")),
    (500, "当前分组上游负载已饱和 请稍后再试", dropped()),
    # Mistral, Together and Ark limit each model.
    (429, "Service tier capacity exceeded for this model.", dropped(None, "model")),
    (429, "You have reached the rate limit specific to this model: 0.6 queries per minute.", dropped("rate", "model")),
    (
        429,
        "Requests Per Minute(RPM) limit of the associated model for your account exceeded.",
        dropped("rate", "model"),
    ),
    # Gateways with no server behind them.
    (503, "no healthy upstream", dropped("down", "model")),
    (503, "upstream connect error or disconnect/reset before headers", dropped("down", "model")),
    (503, "upstream connect error, reset reason: overflow", dropped()),
    (503, '{"error": {"message": "当前分组 default 下对于模型 gpt-5 无可用渠道"}}', dropped("down", "model")),
    # One request that is larger than a whole minute's limit.
    (429, "Request too large for gpt-5-nano on tokens per min (TPM): Limit 30000, Requested 41000.", NOTHING),
    (413, '{"error": {"message": "Request too large for model", "code": "rate_limit_exceeded"}}', NOTHING),
    # A quota that is used up is no capacity. One of a minute is, whatever it is called (Cerebras).
    (429, '{"message": "Tokens per minute limit exceeded", "code": "token_quota_exceeded"}', dropped("tokens")),
    *((429, text, SPENT) for text in SPENT_WORDS),
    *((403, text, SPENT) for text in SPENT_WORDS),
    (400, '{"error": {"message": "Access denied", "code": "Arrearage"}}', SPENT),
    (400, '{"error": {"message": "what is an overdue balance?", "code": "invalid_value"}}', NOTHING),
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


@pytest.mark.parametrize(("status", "body", "signal"), ROWS)
def test_what_has_no_money_or_never_fits_is_not_sent_again(status: int, body: str, signal: Signal) -> None:
    """Each was sent four times, and again by the next call."""
    retryable = status_error(status, body.encode()).retryable
    if signal.outcome is Outcome.DROPPED:
        assert retryable
    elif signal is SPENT or status == 413 or "too large" in body:
        assert not retryable


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
