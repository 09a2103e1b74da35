"""What a reply took: its tokens by kind, and the cost that its `usage` states.

Every part of the library that counts asks here: limiter, budget, caps, agents, bulk jobs and traces. It has no I/O. An
unknown count or cost is None, never 0. Servers disagree on what `usage` means; `taken_by` has the rules. It may import
`chat.types`, `responses.types` and `headers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from aimlasync.chat.types import CompletionTokensDetails, PromptTokensDetails, Usage
from aimlasync.headers import amount

if TYPE_CHECKING:
    from aimlasync.responses.types import ResponseUsage

MAX_TOKENS = 10**9
"""A larger number is no count of tokens, such as one below zero in 32 bits. No reply has a hundredth of it, and one
that was believed would use up a cap, or spoil estimates for long."""

# Source: xAI, "Cost tracking".
_TICKS_PER_USD = 10**10


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of one reply; a part that the server does not state is None."""

    input: int
    """All that the model read, cached tokens included."""
    output: int
    """All that the model wrote, reasoning included."""
    cached: int | None
    """The part of the input that was read from a cache."""
    cache_writes: int | None
    """The part of the input that was written to a cache."""
    cache_writes_1h: int | None
    """The part of `cache_writes` that is kept for an hour."""
    reasoning: int | None
    """The part of the output that is reasoning."""
    outside: int
    """The part of the output that stands in the total alone."""
    has_audio: bool
    """Whether a part of the input or of the output is audio."""
    is_consistent: bool
    """Whether no part is larger than its whole; otherwise the counts are no tokens."""


def tokens_of(usage: Usage | ResponseUsage | None) -> tuple[int, int] | None:
    """Return the (input, output) tokens of a reply, None where the server does not count them.

    No prompt is empty, so an input of 0 means that the server did not count. The units are the server's: some servers
    report credits instead of tokens.
    """
    if usage is None:
        return None
    if isinstance(usage, Usage):
        taken, given = usage.prompt_tokens, usage.completion_tokens
    else:
        taken, given = usage.input_tokens, usage.output_tokens
    if (
        taken > 0 <= given
        and taken + given == usage.total_tokens <= MAX_TOKENS
        and usage.cache_read_input_tokens is None is usage.cache_creation_input_tokens
    ):
        # A server that counts as OpenAI does, and leaves nothing to look for.
        return taken, given
    whole = taken_by(usage)
    return None if whole is None else (whole.input, whole.output)


def plainly_taken(usage: Usage | ResponseUsage | None) -> tuple[tuple[int, int], int] | None:
    """Return the (input, output) tokens of a chat reply whose server counts as OpenAI does, and the cached ones.

    None where anything else is stated, or could be: `taken_by` reads that, and says the same of what is plain.
    """
    if type(usage) is not Usage:
        return None
    taken, given, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    if taken <= 0 or given < 0 or taken + given != total or total > MAX_TOKENS:
        return None
    # Each for itself, for a chain of comparisons takes twice as long.
    if (
        usage.cache_read_input_tokens is not None
        or usage.cache_creation_input_tokens is not None
        or usage.cached_tokens is not None
        or usage.prompt_cache_hit_tokens is not None
        or usage.reasoning_tokens is not None
    ):
        return None
    if (answer := usage.completion_tokens_details) is not None:
        if type(answer) is not CompletionTokensDetails or answer.audio_tokens:
            return None
        if (reasoning := answer.reasoning_tokens) and reasoning > given:
            return None
    cached = 0
    if (prompt := usage.prompt_tokens_details) is not None:
        if type(prompt) is not PromptTokensDetails or prompt.audio_tokens:
            return None
        if prompt.cache_write_tokens is not None or prompt.cache_creation_tokens is not None:
            return None
        if (cached := prompt.cached_tokens or 0) and not 0 <= cached <= taken:
            return None
    return (taken, given), cached


def taken_by(usage: Usage | ResponseUsage | None) -> Taken | None:
    """Return all that is known of a reply's tokens, None where the server does not count them.

    Servers disagree on what `usage` means, and the sums tell which meaning it has:

     - The total exceeds input and output: something stands outside of both. It is reasoning (ByteSpike's gpt-5-5,
       Gemini and Grok at the AI/ML API), or the prompts of the server's own tools. All of it counts as output. So does
       reasoning that exceeds the output where no total is stated.
     - `cache_read_input_tokens` and `cache_creation_input_tokens` exceed the input, or are what the total has more:
       they stand outside of the input (Anthropic).
     - A part exceeds the whole in another way: the totals are no tokens. Bodies of the AI/ML API of 2025 have credits
       there.
    """
    if usage is None:
        return None
    prompt: Any
    answer: Any
    if isinstance(usage, Usage):
        taken, given = usage.prompt_tokens, usage.completion_tokens
        if not taken and usage.input_tokens:
            taken, given = usage.input_tokens, usage.output_tokens or given
        prompt, answer = usage.prompt_tokens_details, usage.completion_tokens_details
    else:
        taken, given = usage.input_tokens, usage.output_tokens
        if not taken and (said := _stated(usage, "prompt_tokens")):
            # A gateway that translates from chat, and left its names.
            taken, given = said, _stated(usage, "completion_tokens") or given
        prompt, answer = usage.input_tokens_details, usage.output_tokens_details
    if not (0 < taken <= MAX_TOKENS and 0 <= given <= MAX_TOKENS):
        return None
    cached = _stated(usage, "prompt_cache_hit_tokens", "cached_tokens")
    if cached is None:
        cached = _stated(prompt, "cached_tokens")
    writes = _stated(prompt, "cache_write_tokens", "cache_creation_tokens")
    reasoning = _stated(answer, "reasoning_tokens")
    if reasoning is None:
        reasoning = _stated(usage, "reasoning_tokens")
    total = usage.total_tokens
    outside = total - taken - given if total <= MAX_TOKENS else 0
    if not total and reasoning is not None and reasoning > given:
        outside = reasoning
    read, written = _stated(usage, "cache_read_input_tokens"), _stated(usage, "cache_creation_input_tokens")
    beside = (read or 0) + (written or 0)
    if taken < beside <= MAX_TOKENS or 0 < beside <= outside:
        taken, outside = taken + beside, outside - beside
    cached, writes, outside = read or cached, written or writes, max(0, outside)
    return Taken(
        input=taken,
        output=given + outside,
        cached=cached,
        cache_writes=writes,
        cache_writes_1h=_stated(usage.cache_creation, "ephemeral_1h_input_tokens"),
        reasoning=reasoning,
        outside=outside,
        has_audio=bool(_stated(prompt, "audio_tokens") or _stated(answer, "audio_tokens")),
        is_consistent=(cached or 0) >= 0 <= (writes or 0)
        and (cached or 0) + (writes or 0) <= taken
        and (reasoning or 0) <= given + outside,
    )


def stated_usd(usage: Usage | ResponseUsage | None, beside: Any = None) -> float | None:
    """Return the US dollars that a `usage` says the reply cost, None where it says nothing that can be believed.

    `cost` is a number or a text (OpenRouter, Vercel, LiteLLM), or an object with a `total_cost` (Perplexity). With a
    key of one's own (`is_byok`) it is the gateway's fee alone, and the price of the model comes on top. `beside` is
    what the reply states outside of its usage (OpenCode, Eden AI).
    """
    if usage is None:
        return _usd(beside)
    said, estimated, ticks = usage.cost, usage.estimated_cost, usage.cost_in_usd_ticks
    if said is None:
        if estimated is None is ticks:
            found = usage.cost_usd
            if found is None and (found := usage.cost_usd_total) is None and (found := beside) is None:
                return None
            return _usd(found)
        usd = _usd(ticks)
        return _usd(estimated) if usd is None else usd / _TICKS_PER_USD
    if isinstance(said, Mapping):
        # Another currency is no US dollars, and its rate is unknown.
        return _usd(said.get("total_cost")) if said.get("currency") in (None, "USD", "usd") else None
    usd = _usd(said)
    if usd is not None and usage.is_byok is True:
        details = usage.cost_details
        upstream = _usd(details.get("upstream_inference_cost")) if isinstance(details, Mapping) else None
        # Without it only a small part of the cost is known.
        return None if upstream is None else usd + upstream
    return usd


def _usd(value: Any) -> float | None:
    if isinstance(value, str):
        return amount(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e300:
        return float(value)
    return None


def _stated(of: Any, *names: str) -> int | None:
    """Return the first count that a struct or a mapping states by one of `names`, None where it states none."""
    if of is None:
        return None
    # The test for a mapping is slow, and most are structs.
    is_mapping = not isinstance(of, msgspec.Struct) and isinstance(of, Mapping)
    for name in names:
        value = of.get(name) if is_mapping else getattr(of, name, None)
        if value is None:
            continue
        if isinstance(value, (int, float)) and not isinstance(value, bool) and -MAX_TOKENS <= value <= MAX_TOKENS:
            return int(value)
    return None
