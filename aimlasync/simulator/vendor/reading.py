"""Reads a request for a model's answer, and checks it as the vendor does.

The body becomes a `SimRequest`, or a `Problem` when the vendor would refuse it. Requests to both endpoints become the
same struct, so that answers, faults and limits need not know the endpoint. No I/O; it may import everything else in
this package.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from aimlasync.endpoints.providers import refusal
from aimlasync.simulator.vendor import tokens
from aimlasync.simulator.vendor.answer_form import check_ways, read_format, read_prompted_schema, read_tools
from aimlasync.simulator.vendor.catalogue import find, served
from aimlasync.simulator.vendor.conversation import read_items, read_messages, text_of
from aimlasync.simulator.vendor.request import SimRequest
from aimlasync.simulator.vendor.stored import StoredResponses
from aimlasync.simulator.vendor.vendors import Problem, Vendor, invalid

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read_request(
    raw: bytes,
    *,
    vendor: Vendor,
    api: str,
    path: str,
    headers: Mapping[str, str],
    validate: bool,
    stored: StoredResponses,
    extra_models: Collection[str] = (),
) -> SimRequest:
    """Read a request for a model's answer; `extra_models` are names of models that exist beside the vendor's.

    Raises Problem with the vendor's status when the vendor would refuse it.
    """
    try:
        body = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"Body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise Problem(400, "Body must be a JSON object", code="invalid_param")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("model", "Required" if model is None else "Expected a non-empty string")
    request = SimRequest(api=api, path=path, headers=headers, body=body, model=model)
    request.stream = _flag(body, "stream")
    if api == "chat":
        _read_chat(request, vendor, validate=validate)
    else:
        request.background = vendor.keeps_responses and _flag(body, "background")
        stores = vendor.stores or request.background
        request.store = stores if body.get("store") is None else _flag(body, "store")
        if request.background and not request.store:
            raise invalid("background", "Background mode requires store=true")
        _read_responses(request, vendor, stored, validate=validate)
    if request.schema is None and not request.tools:
        read_prompted_schema(request)
    _check_numbers(body)
    known = find(vendor, model)
    request.reasons = vendor.name != "bytespike" and _is_reasoning(model)
    if validate:
        if known is None and vendor.name != "openai" and model not in extra_models:
            raise Problem(
                vendor.unknown_model, f"Model {model!r} does not exist", code="model_not_found", param="model"
            )
        # The table of refused parameters has the model by its id; the request may have an alias.
        refused = refusal(
            vendor.provider,
            "chat" if api == "chat" else "responses",
            {**body, "model": known.id} if known is not None else body,
        )
        if refused is not None:
            parameter, reason = refused
            limits = known.refuses_chat if known is not None and api == "chat" else {}
            status = vendor.refused_parameter if parameter in limits else 400
            raise Problem(status, reason, code="unsupported_parameter", param=parameter)
    return request


def _read_chat(request: SimRequest, vendor: Vendor, *, validate: bool) -> None:
    body = request.body
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "Required" if messages is None else "Expected a non-empty array")
    instructions: list[str] = []
    prompt_tokens = 3
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system", "developer", "tool", "function"):
            raise invalid(f"messages[{index}].role", f"Invalid role {role!r}")
        text = text_of(message.get("content"))
        prompt_tokens += tokens.count(text) + 3
        if role == "user":
            request.text = text
        elif role in ("system", "developer"):
            instructions.append(text)
        elif role == "assistant" and message.get("tool_calls"):
            prompt_tokens += len(_encode(message["tool_calls"])) // 4
    request.instructions = "\n".join(instructions)
    conversation = read_messages(messages, validate=validate)
    request.turn, request.results = conversation.turn, conversation.results
    read_tools(request, vendor, validate=validate)
    check_ways(request, vendor, body.get("response_format"))
    options = body.get("stream_options")
    request.include_usage = isinstance(options, dict) and options.get("include_usage") is True
    n = body.get("n")
    request.n = n if isinstance(n, int) and n >= 1 else 1
    cap = body.get("max_completion_tokens", body.get("max_tokens"))
    request.max_tokens = int(cap) if isinstance(cap, (int, float)) and cap >= 1 else None
    read_format(request, body.get("response_format"))
    request.prompt_tokens = prompt_tokens + _schema_tokens(body, "tools", "response_format")


def _read_responses(request: SimRequest, vendor: Vendor, stored: StoredResponses, *, validate: bool) -> None:
    body = request.body
    given = body.get("input")
    if not isinstance(given, (str, list)) or not given:
        raise invalid("input", "Required" if given is None else "Expected a non-empty string or array")
    instructions = [body["instructions"]] if isinstance(body.get("instructions"), str) else []
    prompt_tokens = 3 + tokens.count("".join(instructions))
    request.items = items = list(stored.before(body))
    for index, item in enumerate(request.messages):
        if not isinstance(item, dict):
            raise invalid(f"input[{index}]", "Expected an object")
        kind = str(item.get("type") or "message")
        if validate and kind == "reasoning":
            _check_reasoning(item, request.model, vendor, stored)
        # An item reference may lack its type; unlike a message it has neither role nor content.
        refers = kind == "item_reference" or (kind == "message" and item.keys() <= {"id", "type"})
        items.append(stored.item(str(item.get("id"))) if refers else item)
    for item in items:
        kind = str(item.get("type") or "message")
        text = text_of(item.get(_TEXT_FIELDS.get(kind, "content")))
        prompt_tokens += tokens.count(text) + 3
        if kind == "message" and item.get("role") == "user":
            request.text = text
        elif kind == "message" and item.get("role") in ("system", "developer"):
            instructions.append(text)
    request.instructions = "\n".join(instructions)
    conversation = read_items(items, validate=validate)
    request.turn, request.results = conversation.turn, conversation.results
    read_tools(request, vendor, validate=validate)
    cap = body.get("max_output_tokens")
    request.max_tokens = int(cap) if isinstance(cap, (int, float)) and cap >= 1 else None
    form = body.get("text")
    # ByteSpike also takes the `response_format` of chat/completions here.
    form = form.get("format") if isinstance(form, dict) else body.get("response_format")
    check_ways(request, vendor, form)
    read_format(request, form)
    request.prompt_tokens = prompt_tokens + _schema_tokens(body, "tools", "text", "response_format")


# Type of an item that is no message -> the field that has its text.
_TEXT_FIELDS = {"function_call_output": "output", "function_call": "arguments"}


def _check_reasoning(item: dict[str, Any], model: str, vendor: Vendor, stored: StoredResponses) -> None:
    """Raise Problem for a reasoning item that the vendor does not accept.

    The AI/ML API's schema of some models has no such items; OpenAI needs encrypted content or a stored item.
    """
    if vendor.name == "aimlapi" and served(model).startswith(("gpt-5-pro", "gpt-4")):
        raise invalid("input", f"{model} does not take items of type 'reasoning'")
    if vendor.name == "openai" and not item.get("encrypted_content"):
        stored.item(str(item.get("id")))


def _schema_tokens(body: dict[str, Any], *names: str) -> int:
    return sum(len(_encode(body[name])) // 4 for name in names if body.get(name))


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(name, f"Expected boolean, received {type(value).__name__}")
    return bool(value)


# The bounds of numeric parameters, for which both vendors and OpenAI document the same values.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "n": (1, 128),
    "max_tokens": (1, 10**9),
    "max_completion_tokens": (1, 10**9),
    "max_output_tokens": (16, 10**9),
    "top_logprobs": (0, 20),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}


def _check_numbers(body: dict[str, Any]) -> None:
    for name in body.keys() & _BOUNDS.keys():
        value = body[name]
        if value is None:
            continue
        low, high = _BOUNDS[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise invalid(name, f"Expected a number from {low} to {high}, received {value!r}")


def _is_reasoning(model: str) -> bool:
    name = model.rpartition("/")[2]
    return name.startswith(("gpt-5", "o1", "o3", "o4")) and "chat" not in name
