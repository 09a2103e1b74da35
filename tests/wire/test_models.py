"""Claims about `wire.models`: three vendors' shapes of a model, and what is left on an account."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from aimlasync.wire.models import Model, decode_balance, decode_model, decode_models

JSON = dict[str, Any]

AIML: JSON = {
    "id": "openai/gpt-5-nano-2025-08-07",
    "aliases": ["gpt-5-nano", "openai/gpt-5-nano"],
    "type": "openai/chat-completions",
    "info": {
        "name": "GPT-5 nano",
        "developer": "OpenAI",
        "contextLength": 400_000,
        "outputMax": 128_000,
        "releasedAt": "2025-08-07",
        "docsUrl": "https://docs.example/nano",
        "docsJson": "https://docs.example/nano.json",
        "new": 1,
    },
    "tags": ["fast"],
    "pricing": {
        "kind": "fixed",
        "currency": "USD",
        "units": [{"name": "token", "measure": "output", "price": 0.52, "per": 1_000_000}],
    },
}
BYTESPIKE: JSON = {
    "id": "gpt-5-nano",
    "object": "model",
    "owned_by": "openai",
    "family": "gpt-5",
    "capabilities": ["chat", "tools"],
    "context_window": 128_000,
    "max_output_tokens": 8192,
    "input_modalities": ["text", "image"],
    "pricing_url": "https://x.example",
    "created": 1764672127,
}
OPENAI: JSON = {"id": "llama-3", "object": "model", "created": 1764672127, "owned_by": "vllm"}


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_list_of_every_vendors_models_is_read() -> None:
    body = {"object": "list", "data": [AIML, BYTESPIKE, OPENAI]}
    models = decode_models(raw(body))
    assert len(models) == 3
    assert [model.id for model in models] == ["openai/gpt-5-nano-2025-08-07", "gpt-5-nano", "llama-3"]
    assert [model.context for model in models] == [400_000, 128_000, None]
    assert [model.max_output for model in models] == [128_000, 8192, None]
    assert [model.owned_by for model in models] == [None, "openai", "vllm"]
    assert models.to_dict() == body
    assert models.raw == raw(body)


def test_model_of_aimlapi_has_its_info_aliases_and_prices() -> None:
    model = decode_models(raw({"data": [AIML]})).data[0]
    assert (model.type, model.tags, model.aliases) == ("openai/chat-completions", ["fast"], AIML["aliases"])
    assert model.info_ is not None
    assert (model.info_.name, model.info_.developer, model.info_.docs_url) == (
        "GPT-5 nano",
        "OpenAI",
        "https://docs.example/nano",
    )
    assert model.pricing["units"][0]["per"] == 1_000_000


def test_facts_of_the_call_and_info_of_the_model_are_told_apart() -> None:
    model = decode_model(raw(AIML))
    assert model.info.attempts == 0
    assert model.info_ is not None


def test_model_of_bytespike_has_its_family_and_limits() -> None:
    model = decode_model(raw(BYTESPIKE))
    assert (model.family, model.context_window, model.max_output_tokens, model.capabilities) == (
        "gpt-5",
        128_000,
        8192,
        ["chat", "tools"],
    )


@pytest.mark.parametrize("body", [AIML, BYTESPIKE, OPENAI])
def test_single_model_is_read_bare_and_in_its_envelope(body: JSON) -> None:
    for shape in (body, {"object": "model", "data": body}):
        model = decode_model(raw(shape))
        assert model.id == body["id"]
        assert model.to_dict() == body


@pytest.mark.parametrize("body", [b"{}", b'{"data":null}', b'{"object":"list","data":{}}', b'{"data":"none"}'])
def test_list_without_models_is_empty(body: bytes) -> None:
    assert list(decode_models(body)) == []


def test_a_list_by_another_name_is_read_and_a_name_is_an_id_where_there_is_no_other() -> None:
    # Cohere, Ollama
    body = {"models": [{"name": "command"}, "x", {"name": "llama", "model": "llama:8b", "id": ""}, {"slug": "s"}]}
    models = decode_models(raw(body))
    assert [model.id for model in models] == ["command", "llama:8b", "s"]
    assert models.to_dict() == {"models": body["models"]}
    assert models.data[0].to_dict() == {"name": "command"}
    both = decode_models(raw({"data": [{"id": "a", "name": "A"}, {"name": "b"}], "models": body["models"]}))
    assert [model.id for model in both] == ["a", "b"]


def test_one_broken_entry_costs_only_itself() -> None:
    broken = {**AIML, "info": "none", "aliases": None, "tags": 3, "context_window": "many"}
    models = decode_models(raw({"data": [None, "x", broken, {**BYTESPIKE, "context_window": "128000"}]}))
    assert [model.id for model in models] == [AIML["id"], "gpt-5-nano"]
    assert (models.data[0].aliases, models.data[0].context) == ([], None)
    assert models.data[1].context == 128_000


@pytest.mark.parametrize("name", ["openai/gpt-5-nano-2025-08-07", "gpt-5-nano", "GPT-5-NANO", "OpenAI/gpt-5-nano"])
def test_model_is_named_by_its_id_and_its_aliases_case_aside(name: str) -> None:
    assert decode_model(raw(AIML)).named(name)


@pytest.mark.parametrize("name", ["", "gpt-5", "gpt-5-nano-2025-08-07"])
def test_model_is_not_named_by_a_part_of_its_name(name: str) -> None:
    assert not decode_model(raw(AIML)).named(name)


@pytest.mark.parametrize("decode", [decode_models, decode_model, decode_balance])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"3"])
def test_what_is_no_json_object_is_a_decode_error(decode: Any, body: bytes) -> None:
    if decode is decode_models and body == b"[]":
        # A bare array is a catalogue too: some servers leave the object around it out.
        assert len(decode(body)) == 0
        return
    with pytest.raises(msgspec.DecodeError):
        decode(body)


@pytest.mark.parametrize(
    ("body", "usd"),
    [
        ({"current_balance": 12.5, "currency": "USD"}, 12.5),
        ({"current_balance": "12.50"}, 12.5),
        ({"current_balance": 0}, 0.0),
        ({"user": {"id": 1}, "balance": {"available_usd": 7.25, "lifetime_spent_usd": 3}}, 7.25),
        ({"balance": {"available_usd": "7.25"}}, 7.25),
        ({}, None),
        ({"balance": {}}, None),
        ({"balance": None, "current_balance": None}, None),
    ],
)
def test_balance_is_read_in_dollars_or_not_known(body: JSON, usd: float | None) -> None:
    assert decode_balance(raw(body)) == usd


def test_balance_in_credits_is_not_taken_for_dollars() -> None:
    assert decode_balance(raw({"balance": 25_000_000, "lowBalance": False})) is None


def test_model_without_anything_has_defaults() -> None:
    assert decode_model(b"{}") == Model()
    assert (Model().context, Model().max_output) == (None, None)
