"""What a finish reason means, in the words of all vendors, and whether a choice says anything at all.

Gateways hand on the words of the server behind them. No I/O, no imports of this library.
Sources: OpenAI (length, content_filter, tool_calls, function_call), Anthropic's stop_reason (max_tokens,
model_context_window_exceeded, refusal, tool_use), Gemini's FinishReason, Mistral (model_length, error), Cohere
(ERROR_TOXIC, ERROR_LIMIT), DeepSeek (insufficient_system_resource), vLLM and SGLang (abort), Z.ai (network_error,
sensitive), TensorRT-LLM (cancelled, timeout).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

Ending = Literal["stop", "cap", "filter", "calls", "failure", "unknown"]
"""stop: the answer is whole · cap: an output or context limit cut it · filter: a filter or a refusal cut it · calls:
tools are called · failure: the server gave up, or the model made nothing of use · unknown: no reason, or a word of the
server's own."""

# The server gave up in the middle, whatever the model would have said: like a connection that broke.
_GIVEN_UP = frozenset(
    (
        "error",
        "failed",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "timeout",
        "network_error",
        "engine_error",
        "server_error",
        "internal_error",
        "insufficient_system_resource",
    )
)

UNSAID = frozenset(("", "null", "NULL", "none", "None", "FINISH_REASON_UNSPECIFIED", "finish_reason_unspecified"))
"""Words of servers that have no reason to tell, as long as an answer goes on: JSON's null as a text, Python's, Gemini's
(seen: Ollama, SGLang, KoboldCpp, gateways to Gemini)."""

_ENDINGS: dict[Ending, tuple[str, ...]] = {
    "stop": ("stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed"),
    "cap": (
        "length",
        "max_tokens",
        "max_output_tokens",
        "max_completion_tokens",
        "max_length",
        "model_length",
        "model_context_window_exceeded",
        "context_length_exceeded",
        "token_limit",
        "error_limit",
    ),
    "filter": (
        "content_filter",
        "content_filtered",
        "refusal",
        "safety",
        "image_safety",
        "recitation",
        "image_recitation",
        "blocklist",
        "prohibited_content",
        "image_prohibited_content",
        "spii",
        "language",
        "error_toxic",
        "sensitive",
        "guardrail_intervened",
    ),
    "calls": ("tool_calls", "tool_call", "tool_use", "function_call"),
    "failure": (
        *_GIVEN_UP,
        "malformed_function_call",
        "malformed_tool_call",
        "malformed_response",
        "unexpected_tool_call",
        "too_many_tool_calls",
        "missing_thought_signature",
        "other",
        "no_image",
        "image_other",
    ),
}
_BETWEEN = re.compile(r"[-\s]+")
_MEANING: dict[str, Ending] = {word: ending for ending, words in _ENDINGS.items() for word in words}


def ending_of(finish_reason: str | None) -> Ending:
    """Return what a finish reason means."""
    return "unknown" if finish_reason is None else _MEANING.get(_word(finish_reason), "unknown")


def given_up(finish_reason: str | None, native: object) -> str | None:
    """Return the word by which a choice says that the server gave up, None where it does not.

    `native` is its `native_finish_reason`: behind a router, the word of the server that answers. The router's own may
    be "stop" all the same (OpenRouter).
    """
    for word in (finish_reason, native):
        if isinstance(word, str) and _word(word) in _GIVEN_UP:
            return word
    return None


def _word(finish_reason: str) -> str:
    if finish_reason in _MEANING:
        return finish_reason
    # Other spellings of the words: "FinishReason.MAX_TOKENS", "content-filter".
    return _BETWEEN.sub("_", finish_reason.rpartition(".")[2].strip().lower())


def says_something(choice: Mapping[str, Any]) -> bool:
    """Whether a choice, as the server sent it, has anything in it: text, a call, a reason to finish.

    A role, an index and what is null or empty are nothing, and so is the `text` of the older completions API.
    """
    said = choice.get("delta") or choice.get("message")
    if isinstance(said, Mapping) and any(
        value not in (None, "", [], {}) for name, value in said.items() if name != "role"
    ):
        return True
    return tells_reason(choice) and (said is not None or choice.get("text") is None)


def tells_reason(choice: Mapping[str, Any]) -> bool:
    """Whether a choice, as the server sent it, says that it has ended."""
    reason = choice.get("finish_reason")
    return bool(reason) and not (isinstance(reason, str) and reason in UNSAID)
