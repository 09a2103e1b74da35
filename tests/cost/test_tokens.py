"""Claims about `cost.tokens`: what a reply took is read from the sums, whatever a server calls the parts."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from aimlasync.chat.types import Usage
from aimlasync.cost.prices import Price, cost
from aimlasync.cost.tokens import plainly_taken, stated_usd, taken_by, tokens_of
from aimlasync.responses.types import ResponseUsage
from aimlasync.wire.base import repair

DOLLAR = Price.per_million(input=1, output=8)


def chat(**fields: Any) -> Usage:
    usage: Usage = repair(fields, Usage)
    return usage


def response(**fields: Any) -> ResponseUsage:
    usage: ResponseUsage = repair(fields, ResponseUsage)
    return usage


# Usages as vendors' pages and recorded replies have them, and what was taken: input, output, and what stands outside.
DOCUMENTED: dict[str, tuple[Usage | ResponseUsage, tuple[int, int, int]]] = {
    "ByteSpike gpt-5-5": (
        chat(prompt_tokens=64, completion_tokens=1842, reasoning_tokens=2048, total_tokens=3954),
        (64, 3890, 2048),
    ),
    "ByteSpike gpt-5-4-pro": (
        chat(prompt_tokens=32, completion_tokens=1248, reasoning_tokens=4032, total_tokens=5312),
        (32, 5280, 4032),
    ),
    "Gemini 3 at the AI/ML API": (
        chat(
            prompt_tokens=9,
            completion_tokens=566,
            total_tokens=1521,
            completion_tokens_details={"reasoning_tokens": 946},
        ),
        (9, 1512, 946),
    ),
    "Grok at the AI/ML API": (
        chat(
            prompt_tokens=133,
            completion_tokens=262,
            total_tokens=886,
            prompt_tokens_details={"text_tokens": 133, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 64},
            completion_tokens_details={"reasoning_tokens": 491, "audio_tokens": 0},
        ),
        (133, 753, 491),
    ),
    "Gemini without details": (chat(prompt_tokens=66, completion_tokens=6, total_tokens=100), (66, 34, 28)),
    "a total that is missing": (
        chat(prompt_tokens=10, completion_tokens=5, completion_tokens_details={"reasoning_tokens": 40}),
        (10, 45, 40),
    ),
    "reasoning inside": (
        chat(
            prompt_tokens=10, completion_tokens=50, total_tokens=60, completion_tokens_details={"reasoning_tokens": 40}
        ),
        (10, 50, 0),
    ),
    "Anthropic, mostly from the cache": (
        chat(prompt_tokens=21, completion_tokens=100, total_tokens=121, cache_read_input_tokens=188_086),
        (188_107, 100, 0),
    ),
    "Anthropic, with a total": (
        chat(
            prompt_tokens=500,
            completion_tokens=100,
            total_tokens=800,
            cache_read_input_tokens=120,
            cache_creation_input_tokens=80,
        ),
        (700, 100, 0),
    ),
    "LiteLLM, which adds the cache to the prompt": (
        chat(prompt_tokens=700, completion_tokens=100, total_tokens=800, cache_read_input_tokens=120),
        (700, 100, 0),
    ),
    "a gateway that keeps Anthropic's names": (
        chat(input_tokens=21, output_tokens=100, cache_read_input_tokens=188_086),
        (188_107, 100, 0),
    ),
    "responses, reasoning outside": (
        response(
            input_tokens=100,
            output_tokens=20,
            total_tokens=420,
            output_tokens_details={"reasoning_tokens": 300},
        ),
        (100, 320, 300),
    ),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_all_that_a_vendor_bills_is_counted_once(name: str) -> None:
    usage, (taken, given, outside) = DOCUMENTED[name]
    found = taken_by(usage)
    assert found is not None
    assert (found.input, found.output, found.outside) == (taken, given, outside)
    assert tokens_of(usage) == (taken, given)
    assert found.is_consistent


def test_tokens_that_stand_in_the_total_alone_cost_the_dearer_rate() -> None:
    usage = DOCUMENTED["ByteSpike gpt-5-5"][0]
    assert cost(DOLLAR, usage) == pytest.approx((64 * 1 + (1842 + 2048) * 8) / 1e6)
    assert cost(Price.per_million(input=10, output=8), usage) == pytest.approx((64 * 10 + 1842 * 8 + 2048 * 10) / 1e6)


def test_cache_is_read_and_written_at_its_own_rates() -> None:
    usage = chat(
        prompt_tokens=1000,
        completion_tokens=0,
        total_tokens=1000,
        prompt_tokens_details={"cached_tokens": 600, "cache_write_tokens": 300},
    )
    price = Price.per_million(input=1, output=8, cached_input=0.1)
    assert cost(price, usage) == pytest.approx((100 + 600 * 0.1 + 300 * 1.25) / 1e6)
    price = Price.per_million(input=1, output=8, cached_input=0.1, cache_write=2)
    assert cost(price, usage) == pytest.approx((100 + 600 * 0.1 + 300 * 2) / 1e6)
    hour = chat(
        prompt_tokens=100,
        completion_tokens=0,
        cache_creation_input_tokens=1000,
        cache_creation={"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600},
    )
    assert cost(DOLLAR, hour) == pytest.approx((100 + 400 * 1.25 + 600 * 2) / 1e6)


def test_cost_of_audio_is_not_known_from_the_rates_of_text() -> None:
    usage = chat(prompt_tokens=64, completion_tokens=9, total_tokens=73, prompt_tokens_details={"audio_tokens": 44})
    assert cost(DOLLAR, usage) is None


# What a `usage` says about money, and the US dollars that it means.
STATED: list[tuple[dict[str, Any], float | None]] = [
    ({}, None),
    ({"cost": 0.001721, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}, 0.001721),
    ({"cost": 0.025265, "cost_details": {"upstream_inference_cost": 0.025265}}, 0.025265),
    ({"cost": 0, "is_byok": False}, 0.0),
    ({"cost": "0.0012"}, 0.0012),
    # With a key of one's own the gateway takes its fee, and the price of the model is paid elsewhere.
    ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}, 0.021),
    ({"cost": 0, "is_byok": True}, None),
    ({"cost": {"input_tokens_cost": 0.001, "output_tokens_cost": 0.002, "total_cost": 0.008}}, 0.008),
    ({"cost": {"currency": "USD", "total_cost": 0.008}}, 0.008),
    ({"cost": {"currency": "EUR", "total_cost": 0.008}}, None),
    ({"cost": {"input_tokens_cost": 0.001}}, None),
    ({"estimated_cost": 3.6e-06}, 3.6e-06),
    ({"cost_in_usd_ticks": 15_878_000}, 0.0015878),
    ({"cost": "much"}, None),
    ({"cost": -1}, None),
    ({"cost": True}, None),
    ({"cost": [1]}, None),
    ({"cost": 10**400}, None),
]


@pytest.mark.parametrize("of", [chat, response])
@pytest.mark.parametrize(("fields", "usd"), STATED, ids=repr)
def test_dollars_of_a_usage_are_read_and_never_made_up(of: Any, fields: dict[str, Any], usd: float | None) -> None:
    found = stated_usd(of(**fields))
    assert found == usd if usd is None else found == pytest.approx(usd)


@pytest.mark.parametrize("of", [chat, response])
def test_what_is_stated_beside_the_usage_counts_where_that_states_nothing(of: Any) -> None:
    assert stated_usd(None, "0.25") == 0.25
    assert stated_usd(of(), 0.25) == 0.25
    assert stated_usd(of(cost=0.5), 0.25) == 0.5
    assert [stated_usd(of(**{name: 0.5}), 0.25) for name in ("cost_usd", "cost_usd_total")] == [0.5, 0.5]
    assert [stated_usd(of(more=1), said) for said in (None, -1, "free", {"usd": 1}, True)] == [None] * 5


def test_names_of_chat_are_read_in_the_usage_of_a_response() -> None:
    assert tokens_of(response(prompt_tokens=5, completion_tokens=3, total_tokens=8)) == (5, 3)
    assert tokens_of(response(input_tokens=7, output_tokens=1, prompt_tokens=5, completion_tokens=3)) == (7, 1)


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(Usage.__struct_fields__), JSON | st.dictionaries(st.text(max_size=3), JSON)))
def test_no_usage_breaks_the_count(fields: dict[str, Any]) -> None:
    usage = chat(**fields)
    found, tokens = taken_by(usage), tokens_of(usage)
    assert tokens == (None if found is None else (found.input, found.output))
    assert tokens is None or (tokens[0] > 0 and tokens[1] >= 0)
    usd = stated_usd(usage)
    assert usd is None or 0 <= usd < float("inf")
    priced = cost(DOLLAR, usage)
    assert priced is None or 0 <= priced < float("inf")
    assert msgspec.json.encode(usage)


_COUNT = st.none() | st.integers(-2, 40)
_PARTS = st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens"])


@settings(max_examples=300)
@given(
    counts=st.fixed_dictionaries(
        {"prompt_tokens": st.integers(0, 40), "completion_tokens": st.integers(0, 40)},
        optional=dict.fromkeys(("cached_tokens", "reasoning_tokens", "cache_read_input_tokens"), _COUNT),
    ),
    beyond=st.integers(-1, 1),
    prompt=st.none()
    | st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens"]), _COUNT),
    answer=st.none() | st.dictionaries(st.sampled_from(["reasoning_tokens", "audio_tokens"]), _COUNT),
)
def test_what_is_plain_is_read_as_the_sums_are(counts: Any, beyond: int, prompt: Any, answer: Any) -> None:
    total = max(0, counts["prompt_tokens"] + counts["completion_tokens"] + beyond)
    usage = chat(**counts, total_tokens=total, prompt_tokens_details=prompt, completion_tokens_details=answer)
    plain, taken = plainly_taken(usage), taken_by(usage)
    if plain is not None:
        assert taken is not None
        assert plain == ((taken.input, taken.output), taken.cached or 0)
        assert (taken.is_consistent, taken.has_audio, taken.outside, taken.cache_writes or 0) == (True, False, 0, 0)
