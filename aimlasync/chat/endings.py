"""What a finish reason means, in the words of all vendors, and whether a choice says anything at all.

Gateways hand on the words of the server behind them. No I/O, no imports of this library.
Sources: OpenAI (length, content_filter, tool_calls, function_call), Anthropic's stop_reason (max_tokens,
model_context_window_exceeded, refusal, tool_use), Gemini's FinishReason, Mistral (model_length, error), Cohere
(ERROR_TOXIC, ERROR_LIMIT), DeepSeek (insufficient_system_resource), vLLM (abort).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

Ending = Literal["stop", "cap", "filter", "calls", "failure", "unknown"]
"""stop: the answer is whole · cap: an output or context limit cut it · filter: a filter or a refusal cut it · calls:
tools are called · failure: the server gave up · unknown: no reason, or a word of the server's own."""

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
        "error",
        "failed",
        "malformed_function_call",
        "malformed_tool_call",
        "malformed_response",
        "unexpected_tool_call",
        "too_many_tool_calls",
        "missing_thought_signature",
        "insufficient_system_resource",
        "network_error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "timeout",
        "other",
        "no_image",
        "image_other",
    ),
}
_BETWEEN = re.compile(r"[-\s]+")
_MEANING: dict[str, Ending] = {word: ending for ending, words in _ENDINGS.items() for word in words}


def ending_of(finish_reason: str | None) -> Ending:
    """Return what a finish reason means."""
    if finish_reason is None:
        return "unknown"
    known = _MEANING.get(finish_reason)
    if known is None:
        # Other spellings of the words: "FinishReason.MAX_TOKENS", "content-filter".
        word = finish_reason.rpartition(".")[2].strip().lower()
        known = _MEANING.get(_BETWEEN.sub("_", word), "unknown")
    return known


def says_something(choice: Mapping[str, Any]) -> bool:
    """Whether a choice, as the server sent it, has anything in it: text, a call, a reason to finish.

    A role, an index and what is null or empty are nothing, and so is the `text` of the older completions API.
    """
    said = choice.get("delta") or choice.get("message")
    if isinstance(said, Mapping) and any(
        value not in (None, "", [], {}) for name, value in said.items() if name != "role"
    ):
        return True
    return bool(choice.get("finish_reason")) and (said is not None or not choice.get("text"))
