"""A request for one vendor, rewritten for another: the name of its model there, and parameters that it takes there.

It is driven by the provider table and the tables below, without I/O, and does not change its arguments. A translation
keeps the meaning of the request. Parameters that only steer effort or routing are left out, with a note. A difference
that would change the answer is a reason not to send the request there. The provider table never refuses the result. It
may import `chat.types` and `endpoints.providers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aimlasync.chat.types import DeveloperMessage, SystemMessage
from aimlasync.endpoints.providers import VENDORS, Api, Model, Provider, refusal

# Parameters with these values are left out where they are refused: they state the default.
_NO_OPS: Mapping[str, Any] = {
    "temperature": 1,
    "top_p": 1,
    "n": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": False,
    "logit_bias": {},
    "stop": [],
}

# Parameters that are left out where they are refused: they steer how much a model thinks, not what it is asked.
_EFFORT = frozenset({"reasoning_effort", "reasoning"})

# (vendor, family) -> parameters of effort that the model's page does not name. They are no refusals, since another page
# of the AI/ML API names gpt-4.1-nano among the models with effort. So they are left out only of a request that was
# written for another vendor.
_NO_EFFORT: Mapping[tuple[str, str], frozenset[str]] = {
    ("aimlapi", "gpt-4.1-nano"): _EFFORT,
    ("aimlapi", "gpt-5-pro"): _EFFORT,
}

# Vendor -> parameters that choose among that vendor's own upstreams, and mean nothing at another vendor.
_ROUTING: Mapping[str, frozenset[str]] = {"aimlapi": frozenset({"provider"})}
# Vendor -> routing parameters that its pages do not name; ByteSpike answers them with a 422.
_NO_ROUTING: Mapping[str, frozenset[str]] = {"bytespike": frozenset({"provider"})}

# Vendor -> role that its pages do not name -> role with the same meaning there.
_ROLES: Mapping[str, Mapping[str, str]] = {"bytespike": {"developer": "system"}}

# The two names of a chat's output cap; the AI/ML API calls the second a deprecated equivalent of the first.
_CAP_NAMES = (("max_completion_tokens", "max_tokens"), ("max_tokens", "max_completion_tokens"))

# Parameters of /v1/responses that refer to data stored at one vendor.
_KEPT = ("previous_response_id", "conversation", "prompt")


def translate(
    body: Mapping[str, Any], api: Api, source: Provider | None, target: Provider
) -> tuple[dict[str, Any], list[str]] | str:
    """Return (`body` as `target` takes it, a note for each change), or a text that says why `target` cannot serve it.

    `source` is the vendor that the body was written for, None when that is not known; for `target` itself nothing is
    changed. A dict that needs no change is returned itself. A `messages` or `input` that is neither a list nor a tuple
    is not read, since reading an iterator would exhaust it.
    """
    result = dict(body)
    notes: list[str] = []
    if source is not target:
        reason = _rename(result, notes, api, source, target)
        if reason is None and source is not None:
            reason = _kept(result, source)
        if reason is not None:
            return reason
        _fit_parameters(result, notes, api, source, target)
        if api == "chat":
            _fit_roles(result, notes, target)
    model = _model(result, target)
    if api == "responses" and model is not None and not model.responses:
        return f"{model.id} at {target.name} is not served over responses"
    refused = refusal(target, api, result)
    if refused is not None:
        return refused[1]
    if not notes and isinstance(body, dict):
        return body, notes
    return result, notes


def _model(body: Mapping[str, Any], provider: Provider) -> Model | None:
    name = body.get("model")
    return provider.models.get(name) if isinstance(name, str) else None


def _rename(body: dict[str, Any], notes: list[str], api: Api, source: Provider | None, target: Provider) -> str | None:
    """Replace the model's name by its name at `target`; return why that is not possible, None when it is."""
    name = body.get("model")
    if not isinstance(name, str) or name in target.models:
        return None
    places = VENDORS if source is None else (source, *VENDORS)
    known = next((place.models[name] for place in places if name in place.models), None)
    if known is not None:
        siblings = [model for model in target.models.values() if model.family == known.family]
        if siblings:
            # One that this endpoint serves, where the vendor has several.
            model = next((each for each in siblings if (each.chat if api == "chat" else each.responses)), siblings[0])
            body["model"] = model.id
            notes.append(f"model {name} is {model.id} at {target.name}")
            return None
    if source is None and (known is None or not target.models):
        # No table says that this is another vendor's name, so it may be the target's own.
        return None
    if known is None:
        return f"no table tells what {name} is called at {target.name}"
    return f"{target.name} is not known to serve {known.family}"


def _kept(body: Mapping[str, Any], source: Provider) -> str | None:
    """Return why a request needs data that is stored at `source`, None when it does not."""
    for parameter in _KEPT:
        if body.get(parameter) is not None:
            return f"{parameter} names what only {source.name} keeps"
    items = body.get("input")
    for item in items if isinstance(items, (list, tuple)) else ():
        kind = _member(item, "type")
        if kind == "item_reference":
            return f"an item of the input refers to what only {source.name} keeps"
        if kind == "reasoning" and _member(item, "encrypted_content"):
            return f"the input has reasoning that only {source.name} can decrypt"
    return None


def _fit_parameters(
    body: dict[str, Any], notes: list[str], api: Api, source: Provider | None, target: Provider
) -> None:
    model = _model(body, target)
    refused: Mapping[str, str] = {}
    missing: frozenset[str] = frozenset()
    if model is not None:
        refused = model.refuses_chat if api == "chat" else model.refuses_responses
        if source is not None:
            missing = _NO_EFFORT.get((target.name, model.family), missing)
    if api == "chat":
        for name, other in _CAP_NAMES:
            if name in refused and other not in refused and body.get(name) is not None:
                body[other] = _lower(body.pop(name), body.get(other))
                notes.append(f"{name} is {other} at {target.name}")
    routing = _NO_ROUTING.get(target.name, frozenset())
    if source is not None:
        routing |= _ROUTING.get(source.name, frozenset())
    for name, value in list(body.items()):
        if value is None:
            continue
        if name in routing:
            del body[name]
            notes.append(f"{name} left out: it chooses among the upstreams of another vendor than {target.name}")
        elif name in _EFFORT and (name in refused or name in missing):
            del body[name]
            notes.append(f"{name} left out: {body['model']} at {target.name} does not take it")
        elif name in refused and name in _NO_OPS and _same(value, _NO_OPS[name]):
            del body[name]
            notes.append(f"{name}={value!r} left out: it is the default, and {target.name} does not take it")


def _fit_roles(body: dict[str, Any], notes: list[str], target: Provider) -> None:
    roles = _ROLES.get(target.name)
    messages = body.get("messages")
    if roles is None or not isinstance(messages, (list, tuple)):
        return
    for role, other in roles.items():
        count = sum(_role(message) == role for message in messages)
        if count:
            messages = [_recast(message, other) if _role(message) == role else message for message in messages]
            notes.append(
                f"{count} {role} message{'s' if count > 1 else ''} sent as {other}: {target.name} has no such role"
            )
            body["messages"] = messages


def _role(message: Any) -> Any:
    return "developer" if isinstance(message, DeveloperMessage) else _member(message, "role")


def _recast(message: Any, role: str) -> Any:
    if isinstance(message, DeveloperMessage):
        return SystemMessage(content=message.content, name=message.name)
    if isinstance(message, Mapping):
        return {**message, "role": role}
    return msgspec.structs.replace(message, role=role)


def _member(item: Any, name: str) -> Any:
    """Return a member of a dict or of a struct, None when it has none."""
    if isinstance(item, Mapping):
        return item.get(name)
    return getattr(item, name, None) if isinstance(item, msgspec.Struct) else None


def _lower(value: Any, other: Any) -> Any:
    """Return the lower of two caps; a cap that is no number is left to the server."""
    if other is None:
        return value
    if isinstance(value, (int, float)) and isinstance(other, (int, float)):
        return min(value, other)
    return other


def _same(value: Any, default: Any) -> bool:
    # In Python True equals 1; in JSON it does not.
    return bool(value == default) and isinstance(value, bool) == isinstance(default, bool)
