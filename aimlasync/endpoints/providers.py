"""The provider table: for each vendor its base URL, key variables and paths, and what each of its models accepts.

It is data and look-ups, without a code path per vendor and without I/O. Requests for a model that the table does not
name are sent as they are. A parameter is refused only where the vendor documents that the model does not take it. It
imports `config` alone.

Sources: the model pages and OpenAPI specs of the AI/ML API (docs.aimlapi.com, "Text models", read 2026-08),
docs.bytespike.ai (model pages, "Migration", "Errors reference", "Account: me"). Mind the spelling at the AI/ML API:
`openai/gpt-5.4-nano` is served over chat, `openai/gpt-5-4` over responses alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from aimlasync.config import Mode

Api = Literal["chat", "responses"]

_NOT_CHAT = "only /v1/responses serves it: call client.responses.create(model=..., input=...)"
_EFFORT = "leave it out; this reasoning model is steered with reasoning_effort"
_EFFORT_RESPONSES = "leave it out; this reasoning model is steered with reasoning={'effort': ...}"
_LEAVE = "leave it out; the model does not take it"
_USE_MAX_TOKENS = "use max_tokens"

_REASONING_CHAT = {
    "temperature": _EFFORT,
    "top_p": _EFFORT,
    "stop": _LEAVE,
    "frequency_penalty": _LEAVE,
    "presence_penalty": _LEAVE,
    "logprobs": _LEAVE,
    "top_logprobs": _LEAVE,
    "logit_bias": _LEAVE,
    "prediction": _LEAVE,
}
_REASONING_RESPONSES = {"temperature": _EFFORT_RESPONSES, "top_p": _EFFORT_RESPONSES}
_BYTESPIKE_CHAT = {"max_completion_tokens": _USE_MAX_TOKENS, "reasoning_effort": _LEAVE}


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What one vendor documents of one model."""

    id: str
    family: str
    """The same logical model has the same family at every vendor."""
    chat: bool = True
    responses: bool = True
    context: int | None = None
    """Context window in tokens."""
    max_output: int | None = None
    """Largest output cap the vendor accepts, in tokens."""
    refuses_chat: Mapping[str, str] = MappingProxyType({})
    """Chat parameter that the model does not take -> what to do instead."""
    refuses_responses: Mapping[str, str] = MappingProxyType({})
    structured: Mode = "json_schema"
    """The surest way to ask for an answer that fits a JSON schema."""
    takes_reasoning: bool | None = None
    """Whether the input of responses may hold reasoning items, and the output offers them encrypted; None where the
    vendor does not say."""
    alias_of: str | None = None
    """The id of the model that this is another name of."""
    successor: str | None = None
    """What the vendor tells to ask for where it does not serve this model any more."""
    reasons_outside: bool = False
    """Whether its replies count reasoning outside of `completion_tokens`, which an output cap may not cover."""


def _again(family: str) -> Model:
    """Return a reasoning model of the AI/ML API under the alias that has no date."""
    return Model(
        id=f"openai/{family}",
        family=family,
        alias_of=f"openai/{family}-2025-08-07",
        context=400_000,
        refuses_chat=_REASONING_CHAT,
        refuses_responses=_REASONING_RESPONSES,
        takes_reasoning=True,
    )


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """What one vendor documents of itself.

    A path that starts with "/" is taken from the root of the host, another one from the base URL with its version.
    """

    name: str
    base_url: str = ""
    key_variables: tuple[str, ...] = ()
    url_variable: str | None = None
    default_model: str = ""
    models: Mapping[str, Model] = MappingProxyType({})
    knows_aliases: bool = True
    """Whether models may have other names than those in the table."""
    chat_path: str = "chat/completions"
    responses_path: str = "responses"
    models_path: str = "models"
    model_path: str | None = "models/{id}"
    """None where the vendor has no path for one model; the list of models is searched instead."""
    balance_path: str | None = None
    out_of_credit: tuple[tuple[int, str], ...] = ((402, ""),)
    """(status, text in the message) pairs that mean no credit."""
    ratelimit_unit: Literal["requests", "usd"] = "requests"
    """What the vendor's plain X-RateLimit-* headers count."""
    failures_are_free: bool = False
    """True where the vendor states that failed calls are never charged."""
    credits_per_usd: float | None = None
    usage_states_charge: bool = True
    """Whether a cost in `usage` is what this vendor charges; resellers pass on what their own upstream charged them."""


AIMLAPI = Provider(
    name="aimlapi",
    base_url="https://api.aimlapi.com/v1",
    key_variables=("AIML_API_KEY", "AIMLAPI_API_KEY"),
    url_variable="AIML_API_URL",
    default_model="openai/gpt-5-nano-2025-08-07",
    models={
        model.id: model
        for model in (
            Model(
                id="openai/gpt-5-nano-2025-08-07",
                family="gpt-5-nano",
                context=400_000,
                refuses_chat=_REASONING_CHAT,
                refuses_responses=_REASONING_RESPONSES,
                takes_reasoning=True,
            ),
            Model(
                id="openai/gpt-5-mini-2025-08-07",
                family="gpt-5-mini",
                context=400_000,
                refuses_chat=_REASONING_CHAT,
                refuses_responses=_REASONING_RESPONSES,
                takes_reasoning=True,
            ),
            Model(
                id="openai/gpt-5-pro",
                family="gpt-5-pro",
                chat=False,
                refuses_responses=_REASONING_RESPONSES,
                takes_reasoning=False,
            ),
            Model(id="openai/gpt-4.1-nano-2025-04-14", family="gpt-4.1-nano", context=1_000_000, takes_reasoning=False),
            _again("gpt-5-nano"),
            _again("gpt-5-mini"),
            # Those whose only spec is one of /v1/responses.
            Model(
                id="openai/gpt-5-1-codex", family="gpt-5-1-codex", chat=False, refuses_responses=_REASONING_RESPONSES
            ),
            Model(
                id="openai/gpt-5-1-codex-mini",
                family="gpt-5-1-codex-mini",
                chat=False,
                refuses_responses=_REASONING_RESPONSES,
            ),
            Model(
                id="openai/gpt-5-2-codex", family="gpt-5-2-codex", chat=False, refuses_responses=_REASONING_RESPONSES
            ),
            Model(
                id="openai/gpt-5-3-codex", family="gpt-5-3-codex", chat=False, refuses_responses=_REASONING_RESPONSES
            ),
            Model(id="openai/gpt-5-2-pro", family="gpt-5-2-pro", chat=False),
            Model(id="openai/gpt-5-4", family="gpt-5-4", chat=False),
            Model(id="openai/gpt-5-4-pro", family="gpt-5-4-pro", chat=False),
            Model(id="openai/gpt-5-5-pro", family="gpt-5-5-pro", chat=False),
            # Others with a sibling at ByteSpike.
            Model(id="openai/gpt-5-2", family="gpt-5-2"),
            Model(id="openai/gpt-5.4-nano", family="gpt-5-4-nano"),
            Model(id="openai/gpt-5.4-mini", family="gpt-5-4-mini"),
            Model(id="openai/gpt-5.4-pro", family="gpt-5-4-pro"),
            Model(id="openai/gpt-5-5", family="gpt-5-5", refuses_responses=_REASONING_RESPONSES),
            Model(id="x-ai/grok-4-3", family="grok-4-3"),
            Model(id="google/gemini-3-1-pro-preview", family="gemini-3-1-pro", reasons_outside=True),
            Model(id="x-ai/grok-4-1-fast-reasoning", family="grok-4-1-fast", reasons_outside=True),
            Model(id="x-ai/grok-build-0-1", family="grok-build-0-1", reasons_outside=True),
        )
    },
    # `/v1/responses` is the only documented root of that endpoint, whatever version the base URL names.
    responses_path="/v1/responses",
    models_path="/v1/models",
    model_path="/model/{id}",
    balance_path="/v2/billing",
    out_of_credit=((402, ""), (403, "run out of credits")),
    failures_are_free=True,
    credits_per_usd=2_000_000,
    usage_states_charge=False,
)

BYTESPIKE = Provider(
    name="bytespike",
    base_url="https://llm.bytespike.ai/v1",
    key_variables=("BYTESPIKE_API_KEY",),
    url_variable="BYTESPIKE_API_URL",
    default_model="gpt-5-nano",
    knows_aliases=False,
    models={
        model.id: model
        for model in (
            Model(
                id="gpt-5-nano",
                family="gpt-5-nano",
                context=128_000,
                max_output=8_192,
                refuses_chat=_BYTESPIKE_CHAT,
                successor="gpt-5-4-nano",
            ),
            Model(
                id="gpt-5-mini",
                family="gpt-5-mini",
                context=128_000,
                max_output=16_384,
                refuses_chat=_BYTESPIKE_CHAT,
            ),
            Model(id="gpt-5-2", family="gpt-5-2"),
            Model(id="gpt-5-4", family="gpt-5-4"),
            Model(id="gpt-5-4-nano", family="gpt-5-4-nano"),
            Model(id="gpt-5-4-mini", family="gpt-5-4-mini"),
            Model(id="gpt-5-4-pro", family="gpt-5-4-pro", reasons_outside=True),
            Model(id="gpt-5-5", family="gpt-5-5", reasons_outside=True),
        )
    },
    models_path="/v1/models",
    model_path=None,
    balance_path="/api/v1/me/account",
    out_of_credit=((402, ""),),
    ratelimit_unit="usd",
    failures_are_free=True,
    credits_per_usd=1_000_000,
    usage_states_charge=False,
)

COMPATIBLE = Provider(name="openai-compatible")
"""Any other server: only OpenAI's paths are assumed."""

VENDORS = (AIMLAPI, BYTESPIKE)

# `max_output_tokens` below 16 is outside the schema of /v1/responses (AI/ML API spec and OpenAI alike).
_MIN_OUTPUT_TOKENS = 16
_CAPS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def provider_of(base_url: str) -> Provider:
    """Return the vendor whose host `base_url` names, else `COMPATIBLE`."""
    host = urlsplit(base_url).hostname
    for vendor in VENDORS:
        if host == urlsplit(vendor.base_url).hostname:
            return vendor
    return COMPATIBLE


def model_of(name: str) -> Model | None:
    """Return what the first vendor that knows a model documents of it, None where none does."""
    for vendor in VENDORS:
        if (known := vendor.models.get(name)) is not None:
            return known
    return None


def sibling_of(name: str, provider: Provider) -> Model | None:
    """Return what `provider` documents of a model that any vendor's table names, None where it documents nothing."""
    known = model_of(name)
    return next((each for each in provider.models.values() if known is not None and each.family == known.family), None)


def refusal(provider: Provider, api: Api, body: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (parameter, reason with the fix) if the table says that `provider` would refuse `body`, else None."""
    name = body.get("model")
    model = provider.models.get(name) if isinstance(name, str) else None
    if model is None:
        return None
    if api == "chat" and not model.chat:
        others = [each.id for each in provider.models.values() if each.chat and each.family == model.family]
        other = f", or ask {others[0]}, which is" if others else ""
        return "model", f"{model.id} is not served over chat/completions: {_NOT_CHAT}{other}"
    refused = model.refuses_chat if api == "chat" else model.refuses_responses
    for parameter in body:
        if parameter not in refused or body[parameter] is None:
            continue
        return parameter, f"{model.id} at {provider.name} does not take {parameter}: {refused[parameter]}"
    for parameter in _CAPS:
        value = body.get(parameter)
        if not isinstance(value, (int, float)):
            continue
        if model.max_output is not None and value > model.max_output:
            return parameter, f"{model.id} at {provider.name} takes {parameter} up to {model.max_output}, not {value}"
        if parameter == "max_output_tokens" and value < _MIN_OUTPUT_TOKENS:
            return parameter, f"max_output_tokens must be at least {_MIN_OUTPUT_TOKENS}, not {value}"
    return None
