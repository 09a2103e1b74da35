"""What the words of errors mean, as public bug reports quote them: no money, no quota, a wrong request, a limit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aimlasync import RateLimitError
from aimlasync.wire.error_bodies import status_error, stream_error

# Moonshot.
SUSPENDED = "Your account org-1a2b<ak-3c4d> is suspended, please check your plan and billing details"
INACTIVE = "Your account org-1a2b<ak-3c4d> is not active, organization <org-1a2b> exceeded current quota"
# Gemini, which states a wait with each of its limits.
NONE_AT_ALL = "Quota exceeded for metric: free_tier_requests, limit: 0, model: gemini-3-pro\nPlease retry in 36.4s."
SOME = "Quota exceeded for metric: free_tier_requests, limit: 20, model: gemini-3-flash\nPlease retry in 36.4s."


@pytest.mark.parametrize(
    ("message", "type", "retryable"),
    [
        (SUSPENDED, "exceeded_current_quota_error", False),
        (SUSPENDED, None, False),
        (INACTIVE, "exceeded_current_quota_error", False),
        ("The account of this example was a long and suspended one", None, True),
        ("The engine is currently overloaded, please try again later", "engine_overloaded_error", True),
        ("You have used up your daily free allocation of 10,000 neurons", None, False),
        ("Capacity temporarily exceeded, please try again.", None, True),
        (NONE_AT_ALL, None, False),
        (SOME, None, True),
        ("limit: 0.5 requests", None, True),
    ],
)
def test_a_limit_is_waited_for_where_waiting_may_help(message: str, type: str | None, retryable: bool) -> None:
    error = status_error(429, json.dumps({"error": {"message": message, "type": type}}).encode())
    assert isinstance(error, RateLimitError)
    assert error.retryable is retryable


@pytest.mark.parametrize(
    ("body", "retryable"),
    [
        # text-generation-inference, Bedrock behind gateways, vLLM without a code.
        ({"error": "Input validation error: too long", "error_type": "validation"}, False),
        ({"error": "Request failed during generation", "error_type": "generation"}, True),
        ({"error": {"message": "m", "type": "ValidationException"}}, False),
        ({"error": {"message": "m", "type": "AccessDeniedException"}}, False),
        ({"error": {"message": "m", "type": "ThrottlingException"}}, True),
        ({"error": {"message": "m", "type": "BadRequestError"}}, False),
        ({"error": {"message": "m", "type": "InternalServerError"}}, True),
    ],
)
def test_an_error_in_a_stream_that_speaks_of_the_request_is_not_tried_again(body: Any, retryable: bool) -> None:
    assert stream_error(body, partial=None, info=None, billed=None).retryable is retryable
