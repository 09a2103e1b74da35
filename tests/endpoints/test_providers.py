"""Claims about `endpoints.providers`: what is refused is documented not to work, and nothing else is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from aimlasync.chat import types as chat
from aimlasync.endpoints.providers import AIMLAPI, BYTESPIKE, COMPATIBLE, VENDORS, Api, Provider, provider_of, refusal
from aimlasync.responses import types as responses

NANO, MINI = "openai/gpt-5-nano-2025-08-07", "openai/gpt-5-mini-2025-08-07"
PRO, OLD_NANO = "openai/gpt-5-pro", "openai/gpt-4.1-nano-2025-04-14"

# The parameters in the OpenAPI specs of the AI/ML API (2026-08): over chat/completions, and over responses.
_CHAT = (
    "max_completion_tokens max_tokens messages model n parallel_tool_calls provider response_format seed stream "
    "stream_options tool_choice tools"
)
_REASONING_CHAT = frozenset(f"{_CHAT} reasoning_effort".split())
_SAMPLING_CHAT = frozenset(
    f"{_CHAT} frequency_penalty logit_bias logprobs prediction presence_penalty stop temperature top_logprobs "
    "top_p".split()
)
_RESPONSES = (
    "background include input instructions max_output_tokens model parallel_tool_calls previous_response_id prompt "
    "store stream text tool_choice tools truncation"
)
SPECS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    NANO: (_REASONING_CHAT, frozenset(f"{_RESPONSES} reasoning".split())),
    MINI: (_REASONING_CHAT, frozenset(f"{_RESPONSES} reasoning".split())),
    PRO: (frozenset(), frozenset(_RESPONSES.split())),
    OLD_NANO: (_SAMPLING_CHAT, frozenset(f"{_RESPONSES} temperature top_p".split())),
}

REASONING_REFUSES = {
    "temperature": 1,
    "top_p": 0.5,
    "stop": ["."],
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"5": 1},
    "prediction": {"type": "content", "content": "x"},
}
TAKEN_BY_ALL = {
    "max_completion_tokens": 1,
    "max_tokens": 100_000,
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "n": 2,
    "seed": 1,
    "response_format": {"type": "text"},
    "provider": "openai",
}


def refused(vendor: Provider, api: Api, name: Any, /, **body: Any) -> str | None:
    """The parameter refused, with the reason checked to be of use."""
    found = refusal(vendor, api, {"model": name, **body})
    if found is None:
        return None
    parameter, reason = found
    assert len(reason.split()) > 5
    assert parameter in reason or parameter == "model"
    return parameter


@pytest.mark.parametrize("model", [NANO, MINI])
@pytest.mark.parametrize("parameter", REASONING_REFUSES)
def test_reasoning_model_at_aimlapi_takes_no_sampling_parameter_over_chat(model: str, parameter: str) -> None:
    assert refused(AIMLAPI, "chat", model, **{parameter: REASONING_REFUSES[parameter]}) == parameter


@pytest.mark.parametrize("parameter", REASONING_REFUSES)
def test_4_1_nano_at_aimlapi_takes_every_sampling_parameter(parameter: str) -> None:
    assert refused(AIMLAPI, "chat", OLD_NANO, **{parameter: REASONING_REFUSES[parameter]}) is None


@pytest.mark.parametrize("model", [NANO, MINI, OLD_NANO])
@pytest.mark.parametrize("parameter", TAKEN_BY_ALL)
def test_documented_parameters_of_chat_are_taken_by_all(model: str, parameter: str) -> None:
    assert refused(AIMLAPI, "chat", model, **{parameter: TAKEN_BY_ALL[parameter]}) is None


@pytest.mark.parametrize("model", [NANO, MINI])
def test_reasoning_model_at_aimlapi_is_steered_by_effort(model: str) -> None:
    assert refused(AIMLAPI, "chat", model, reasoning_effort="low") is None
    assert refused(AIMLAPI, "responses", model, reasoning={"effort": "low"}) is None
    found = refusal(AIMLAPI, "chat", {"model": model, "temperature": 1})
    assert found is not None
    assert "reasoning_effort" in found[1]
    found = refusal(AIMLAPI, "responses", {"model": model, "temperature": 1})
    assert found is not None
    assert "reasoning={'effort'" in found[1]


@pytest.mark.parametrize("model", [NANO, MINI, PRO])
@pytest.mark.parametrize("parameter", ["temperature", "top_p"])
def test_reasoning_model_at_aimlapi_takes_no_sampling_parameter_over_responses(model: str, parameter: str) -> None:
    assert refused(AIMLAPI, "responses", model, **{parameter: 1}) == parameter
    assert refused(AIMLAPI, "responses", OLD_NANO, **{parameter: 1}) is None


def test_gpt_5_pro_is_served_over_responses_only() -> None:
    assert refused(AIMLAPI, "chat", PRO) == "model"
    assert refused(AIMLAPI, "responses", PRO) is None
    found = refusal(AIMLAPI, "chat", {"model": PRO})
    assert found is not None
    assert "client.responses.create" in found[1]


RESPONSES_ONLY = [
    "openai/gpt-5-pro",
    "openai/gpt-5-1-codex",
    "openai/gpt-5-1-codex-mini",
    "openai/gpt-5-2-codex",
    "openai/gpt-5-2-pro",
    "openai/gpt-5-3-codex",
    "openai/gpt-5-4",
    "openai/gpt-5-4-pro",
    "openai/gpt-5-5-pro",
]


def test_models_with_a_spec_of_responses_alone_are_guarded_and_no_others() -> None:
    assert {model.id for model in AIMLAPI.models.values() if not model.chat} == set(RESPONSES_ONLY)
    for model in RESPONSES_ONLY:
        assert refused(AIMLAPI, "chat", model) == "model"
        assert refused(AIMLAPI, "responses", model) is None
        found = refusal(AIMLAPI, "chat", {"model": model})
        assert found is not None
        assert "client.responses.create" in found[1]
    found = refusal(AIMLAPI, "chat", {"model": "openai/gpt-5-4-pro"})
    assert found is not None
    assert "or ask openai/gpt-5.4-pro" in found[1]


def test_dot_and_dash_are_two_models_at_aimlapi() -> None:
    # gpt-5.4-nano has a spec of chat, gpt-5-4 one of responses; grok-4-3 has both.
    assert refused(AIMLAPI, "chat", "openai/gpt-5.4-nano", temperature=1, top_k=3) is None
    assert refused(AIMLAPI, "responses", "openai/gpt-5-4", temperature=1) is None
    for api in ("chat", "responses"):
        assert refused(AIMLAPI, api, "x-ai/grok-4-3") is None


def test_alias_refuses_what_its_model_refuses() -> None:
    for vendor in VENDORS:
        for model in vendor.models.values():
            if model.alias_of is not None:
                assert structs.replace(model, id=model.alias_of, alias_of=None) == vendor.models[model.alias_of]


@pytest.mark.parametrize("model", SPECS)
def test_table_refuses_what_another_models_spec_has_and_this_one_lacks(model: str) -> None:
    apis: tuple[Api, ...] = ("chat", "responses")
    for api, taken in zip(apis, SPECS[model], strict=True):
        if not taken:
            assert refused(AIMLAPI, api, model) == "model"
            continue
        known = AIMLAPI.models[model].refuses_chat if api == "chat" else AIMLAPI.models[model].refuses_responses
        lacking = {name for specs in SPECS.values() for name in specs[apis.index(api)]} - taken
        # Effort is not refused: a page of the vendor names gpt-4.1-nano among the models that take it.
        assert known.keys() == lacking - {"reasoning_effort", "reasoning"}


@pytest.mark.parametrize("model", [NANO, MINI, PRO, OLD_NANO])
@pytest.mark.parametrize(("cap", "wanted"), [(0, True), (15, True), (15.5, True), (16, False), (100_000, False)])
def test_output_cap_of_a_response_is_at_least_16(model: str, cap: float, wanted: bool) -> None:
    assert (refused(AIMLAPI, "responses", model, max_output_tokens=cap) is not None) is wanted


@pytest.mark.parametrize(("model", "largest"), [("gpt-5-nano", 8192), ("gpt-5-mini", 16384)])
def test_bytespike_takes_no_more_than_its_documented_output(model: str, largest: int) -> None:
    assert refused(BYTESPIKE, "chat", model, max_tokens=largest) is None
    assert refused(BYTESPIKE, "chat", model, max_tokens=largest + 1) == "max_tokens"
    assert refused(BYTESPIKE, "responses", model, max_output_tokens=largest) is None
    assert refused(BYTESPIKE, "responses", model, max_output_tokens=largest + 1) == "max_output_tokens"
    found = refusal(BYTESPIKE, "chat", {"model": model, "max_tokens": largest + 1})
    assert found is not None
    assert str(largest) in found[1]


@pytest.mark.parametrize("model", ["gpt-5-nano", "gpt-5-mini"])
@pytest.mark.parametrize(("parameter", "value"), [("max_completion_tokens", 9), ("reasoning_effort", "low")])
def test_bytespike_refuses_over_chat_what_its_model_pages_lack(model: str, parameter: str, value: Any) -> None:
    assert refused(BYTESPIKE, "chat", model, **{parameter: value}) == parameter


@pytest.mark.parametrize(
    "parameter", ["temperature", "top_p", "n", "stop", "presence_penalty", "frequency_penalty", "seed", "user", "tools"]
)
def test_bytespike_takes_over_chat_what_its_pages_name(parameter: str) -> None:
    assert refused(BYTESPIKE, "chat", "gpt-5-nano", **{parameter: 1}) is None


def test_bytespike_steers_a_reasoning_model_over_responses() -> None:
    assert refused(BYTESPIKE, "responses", "gpt-5-nano", reasoning={"effort": "low"}, temperature=1) is None


@pytest.mark.parametrize("cap", [None, "many", [], {}])
def test_cap_that_is_no_number_is_left_to_the_server(cap: Any) -> None:
    assert refused(BYTESPIKE, "chat", "gpt-5-nano", max_tokens=cap) is None
    assert refused(AIMLAPI, "responses", NANO, max_output_tokens=cap) is None


UNKNOWN = ["gpt-5-nano ", "openai/gpt-5-nano-2026", "gpt-5-nano-2025-08-07", "openai/gpt-5-4-nano", "", None, 7, ["x"]]


@pytest.mark.parametrize("provider", [*VENDORS, COMPATIBLE], ids=lambda provider: provider.name)
@pytest.mark.parametrize("model", UNKNOWN)
def test_unknown_model_is_never_second_guessed(provider: Provider, model: Any) -> None:
    for api, names in (("chat", chat.PARAMETERS), ("responses", responses.PARAMETERS)):
        assert refusal(provider, api, {"model": model, **dict.fromkeys(names, 10**9)}) is None  # type: ignore[arg-type]


@given(st.text(), st.dictionaries(st.sampled_from(sorted(chat.PARAMETERS | responses.PARAMETERS)), st.integers()))
def test_no_unknown_name_with_any_parameters_is_refused(model: str, body: dict[str, Any]) -> None:
    for provider in (*VENDORS, COMPATIBLE):
        if model not in provider.models:
            assert refusal(provider, "chat", {**body, "model": model}) is None
            assert refusal(provider, "responses", {**body, "model": model}) is None


def test_request_without_a_model_is_left_to_the_server() -> None:
    assert refusal(AIMLAPI, "chat", {"temperature": 1}) is None


def test_other_servers_refuse_nothing_for_known_names() -> None:
    assert refused(COMPATIBLE, "chat", NANO, temperature=1) is None
    assert refused(COMPATIBLE, "chat", PRO) is None
    assert refused(AIMLAPI, "chat", "gpt-5-nano", temperature=1) is None


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_table_is_consistent(vendor: Provider) -> None:
    assert provider_of(vendor.base_url) is vendor
    assert vendor.default_model in vendor.models
    assert vendor.failures_are_free
    for name, model in vendor.models.items():
        assert name == model.id
        assert model.refuses_chat.keys() <= chat.PARAMETERS
        assert model.refuses_responses.keys() <= responses.PARAMETERS
        assert model.chat or model.responses


def test_same_family_has_one_name_at_both_vendors() -> None:
    assert AIMLAPI.models[NANO].family == BYTESPIKE.models["gpt-5-nano"].family
    assert AIMLAPI.models[MINI].family == BYTESPIKE.models["gpt-5-mini"].family


def test_credits_are_worth_what_each_vendor_says() -> None:
    assert (AIMLAPI.credits_per_usd, BYTESPIKE.credits_per_usd) == (2_000_000, 1_000_000)


@pytest.mark.parametrize(
    "url", ["https://api.aimlapi.com", "https://api.aimlapi.com:443/v2", "https://API.aimlapi.com"]
)
def test_vendor_is_found_by_host(url: str) -> None:
    assert provider_of(url) is AIMLAPI


@pytest.mark.parametrize("url", ["https://aimlapi.com", "https://x.example/api.aimlapi.com", "", "api.aimlapi.com"])
def test_other_hosts_are_no_vendor(url: str) -> None:
    assert provider_of(url) is COMPATIBLE
