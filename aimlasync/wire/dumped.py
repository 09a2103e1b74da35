"""What pydantic's methods return for a reply of AsyncOpenAI, for our structs: `model_dump` and its options, and more.

`to_dict` returns what the server sent. A dump also has the keys that AsyncOpenAI's model of the object has, with None
where nothing was sent. It has no I/O. It may import `wire.json_text`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any, cast

import msgspec

from aimlasync.wire.json_text import encode, plain_value

# The keys that the SDK's models have had for years; those that a server always sends are among them. A class that is
# not named here is dumped with what was sent.
_KEYS: Mapping[str, tuple[str, ...]] = {
    name: tuple(keys.split())
    for name, keys in {
        "chat.ChatCompletion": "id choices created model object service_tier system_fingerprint usage",
        "chat.Choice": "finish_reason index logprobs message",
        "chat.Message": "content refusal role annotations audio function_call tool_calls",
        "chat.ToolCall": "id function type",
        "chat.FunctionCall": "arguments name",
        "chat.Logprobs": "content refusal",
        "chat.TokenLogprob": "token bytes logprob top_logprobs",
        "chat.TopLogprob": "token bytes logprob",
        "chat.Usage": "completion_tokens prompt_tokens total_tokens completion_tokens_details prompt_tokens_details",
        "chat.PromptTokensDetails": "audio_tokens cached_tokens",
        "chat.CompletionTokensDetails": "accepted_prediction_tokens audio_tokens reasoning_tokens "
        "rejected_prediction_tokens",
        "chat.ChatCompletionChunk": "id choices created model object service_tier system_fingerprint usage",
        "chat.ChunkChoice": "delta finish_reason index logprobs",
        "chat.Delta": "content function_call refusal role tool_calls",
        "chat.ToolCallDelta": "index id function type",
        "chat.FunctionDelta": "arguments name",
        "responses.Response": "id created_at error incomplete_details instructions metadata model object output "
        "parallel_tool_calls temperature tool_choice tools top_p background conversation max_output_tokens "
        "max_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_retention reasoning "
        "safety_identifier service_tier status text top_logprobs truncation usage user",
        "responses.OutputMessage": "id content role status type",
        "responses.OutputText": "annotations text type logprobs",
        "responses.OutputRefusal": "refusal type",
        "responses.FunctionCall": "arguments call_id name type id status",
        "responses.ReasoningItem": "id summary type content encrypted_content status",
        "responses.ResponseUsage": "input_tokens input_tokens_details output_tokens output_tokens_details total_tokens",
        "responses.InputTokensDetails": "cached_tokens",
        "responses.OutputTokensDetails": "reasoning_tokens",
        "wire.Model": "id created object owned_by",
    }.items()
}
# What `parse` adds, and AsyncOpenAI's dump has.
_PARSED = {
    "chat.Message": ("parsed",),
    "chat.FunctionCall": ("parsed_arguments",),
    "responses.OutputText": ("parsed",),
    "responses.FunctionCall": ("parsed_arguments",),
}
_EVERY: Any = True


def dump(
    struct: Any,
    *,
    include: Any = None,
    exclude: Any = None,
    exclude_unset: bool = False,
    exclude_defaults: bool = False,
    exclude_none: bool = False,
    **_: Any,
) -> dict[str, Any]:
    """Return a struct, or an object without one, as plain dicts and lists, by options of pydantic's `model_dump`."""
    made = struct.to_dict()
    if not isinstance(struct, msgspec.Struct):
        made = _without_nulls(made) if exclude_none or exclude_defaults else made
    else:
        _shape(struct, made, fill=not (exclude_unset or exclude_defaults), nulls=not (exclude_none or exclude_defaults))
    return cast(dict[str, Any], _chosen(made, _EVERY if include is None else include, exclude))


def as_text(value: Any, indent: int | None) -> str:
    """Return a plain value as JSON text."""
    return encode(value).decode() if indent is None else json.dumps(value, indent=indent, ensure_ascii=False)


def extra(struct: Any) -> dict[str, Any]:
    """Return what was sent beside the fields that AsyncOpenAI's model of the object has."""
    declared = _KEYS.get(_name(struct)) or struct.__struct_encode_fields__
    found = {name: (getattr(struct, name, value), value) for name, value in struct.to_dict().items()}
    # As AsyncOpenAI has them: objects are dicts, whether a struct describes them here or not.
    return {
        name: value if isinstance(one, msgspec.Struct) else one
        for name, (one, value) in found.items()
        if name not in declared
    }


def _name(struct: Any) -> str:
    kind = type(struct)
    return f"{kind.__module__.split('.')[1]}.{kind.__name__}"


def _shape(struct: Any, made: dict[str, Any], *, fill: bool, nulls: bool) -> None:
    """Add the keys that nothing was sent for, or remove those with None, here and in what is inside."""
    for field, name in zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True):
        value, inner = getattr(struct, field), made.get(name)
        if isinstance(value, msgspec.Struct) and isinstance(inner, dict):
            _shape(value, inner, fill=fill, nulls=nulls)
        elif isinstance(inner, dict) and not nulls:
            made[name] = _without_nulls(inner)
        elif isinstance(value, list) and isinstance(inner, list):
            for one, inside in zip(value, inner, strict=False):
                if isinstance(one, msgspec.Struct) and isinstance(inside, dict):
                    _shape(one, inside, fill=fill, nulls=nulls)
    for name in _PARSED.get(_name(struct), ()):
        if name in struct.__dict__:
            made[name] = _plain(struct.__dict__[name])
    if fill:
        for name in _KEYS.get(_name(struct), ()):
            if name not in made:
                value = getattr(struct, name, None)
                made[name] = value if isinstance(value, (str, int, float)) or value == [] else None
    if not nulls:
        for name in [name for name, value in made.items() if value is None]:
            del made[name]


def _without_nulls(made: dict[str, Any]) -> dict[str, Any]:
    # Not in what is inside: a schema may mean its null.
    return {name: value for name, value in made.items() if value is not None}


def _plain(value: Any) -> Any:
    of_pydantic = getattr(value, "model_dump", None)
    return of_pydantic(mode="json") if of_pydantic is not None else msgspec.to_builtins(value, enc_hook=plain_value)


def _chosen(value: Any, include: Any, exclude: Any) -> Any:
    """Return the part of a value that pydantic's `include` and `exclude` choose: sets and mappings, `__all__` too."""
    if include is _EVERY and exclude is None:
        return value
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return value
    kept = []
    for key, inner in items:
        wanted, unwanted = _below(include, key, len(value)), _below(exclude, key, len(value))
        if wanted is not None and unwanted is not _EVERY:
            kept.append((key, _chosen(inner, wanted, unwanted)))
    return dict(kept) if isinstance(value, dict) else [inner for _, inner in kept]


def _below(choice: Any, key: Any, length: int) -> Any:
    """Return what `choice` says of a member: True for all of it, a choice inside of it, None for nothing."""
    if choice is _EVERY or choice is None:
        return choice
    if choice is Ellipsis:
        return _EVERY
    for name in (key, key - length if isinstance(key, int) else key, "__all__"):
        if name in choice:
            inside = _EVERY if isinstance(choice, Set) else choice[name]
            return _EVERY if inside is Ellipsis else (inside or None)
    return None
