"""The ways to ask for an answer that fits a JSON schema, from the surest to the weakest, and how each is written.

    json_schema   the server constrains the answer to the schema
    tool          a tool whose arguments have the schema, which the model must call
    json_object   the server constrains the answer to JSON; the schema is in the prompt
    text          the schema is in the prompt

A body is written once, as `json_schema`; `rewritten` makes the others of it. Pure functions without I/O; it may import
`config`, `errors` and `wire.base`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from aimlasync.config import Mode
from aimlasync.errors import APIStatusError
from aimlasync.wire.base import encode, plain

MODES: tuple[Mode, ...] = get_args(Mode)

ANSWER_TOOL = "give_final_answer"
"""The tool whose arguments are the answer, in mode `tool`."""

_TOOL_TEXT = "Give the final answer. Call this once, when nothing else is left to do."
_PROMPT = "Answer with one JSON object and nothing else. It must fit this JSON schema:\n"
_BEGINNING = ("system", "developer", "user")

# What a refusal names when a server, or a model, does not have the way that was asked for.
_NAMES: dict[str, re.Pattern[str]] = {
    "format": re.compile(
        r"response.?(format|schema)|json.?schema|json.?object|json.?mode|structured.?output|text\.format|output.?(format|config)"
        r"|guided|constrained|grammar|mime.?type",
        re.IGNORECASE,
    ),
    "tool": re.compile(r"tool|function", re.IGNORECASE),
}
# The schema or the answer was at fault, and not the way: another schema, or another try, is the remedy.
_NOT_THE_WAY = re.compile(
    r"failed_generation|json_validate_failed|tool_use_failed|invalid.{0,3}schema|schema.{0,60}(too |exceed|invalid)"
    r"|context.?length|unauthori|quota|rate.?limit",
    re.IGNORECASE,
)
_UNSUPPORTED = re.compile(
    r"not.{0,20}support|unsupported|unavailable|not.{0,3}implemented|unrecogni|unknown|unexpected", re.I
)
# Statuses that say who may ask, when, or that nobody answered, and never how to ask.
_OTHER_REASONS = frozenset({401, 402, 403, 408, 409, 413, 425, 429})
# Where error bodies name the parameter that they refuse (OpenAI, FastAPI, class-validator, zod).
_PLACES = frozenset({"param", "loc", "path", "property", "field"})


def asked_schema(body: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return (name, schema) of the JSON schema that a body of either endpoint asks for, None where it asks for none."""
    form = body.get("response_format")
    if isinstance(form, Mapping):
        form = form.get("json_schema") if form.get("type") == "json_schema" else None
    elif isinstance(text := body.get("text"), Mapping):
        form = text.get("format")
        if isinstance(form, Mapping) and form.get("type") != "json_schema":
            form = None
    if not isinstance(form, Mapping) or form.get("schema") is None:
        return None
    return str(form.get("name") or "answer"), form["schema"]


def rewritten(body: Mapping[str, Any], mode: Mode) -> dict[str, Any]:
    """Return a body that asks in mode `json_schema`, as one that asks in `mode`; the body itself is not changed."""
    found = asked_schema(body)
    result = dict(body)
    if found is None or mode == "json_schema":
        return result
    name, schema = found
    is_chat = "messages" in body
    if is_chat or "response_format" in body:
        del result["response_format"]
    else:
        result["text"] = {key: value for key, value in body["text"].items() if key != "format"}
    if mode == "tool":
        _add_tool(result, name, schema, is_chat=is_chat)
    else:
        prompt = _PROMPT + encode(schema).decode()
        if is_chat:
            result["messages"] = _with_prompt(body["messages"], prompt, "text")
        elif isinstance(given := body.get("input"), str):
            result["input"] = f"{given}\n\n{prompt}"
        else:
            result["input"] = _with_prompt(given or (), prompt, "input_text")
        if mode == "json_object" and is_chat:
            result["response_format"] = {"type": "json_object"}
        elif mode == "json_object":
            result["text"] = {**(result.get("text") or {}), "format": {"type": "json_object"}}
    if not is_chat and not result.get("text"):
        result.pop("text", None)
    return result


def weaker(mode: Mode) -> Mode | None:
    """Return the next way to try where `mode` was refused, None after the last."""
    at = MODES.index(mode) + 1
    return MODES[at] if at < len(MODES) else None


def is_refusal(error: Exception, mode: Mode) -> bool:
    """Whether a server says that it, or the model, cannot be asked in `mode`."""
    if not isinstance(error, APIStatusError) or mode == "text" or error.status in _OTHER_REASONS:
        return False
    said = " ".join((error.message, error.code or "", *_places(error.body)))
    if not _NAMES["tool" if mode == "tool" else "format"].search(said) or _NOT_THE_WAY.search(said):
        return False
    # A 5xx, or an error under a 200, is of a server behind the server; it must say what it means.
    return 400 <= error.status < 500 or _UNSUPPORTED.search(said) is not None


def _places(body: Any, depth: int = 6) -> Iterator[str]:
    if isinstance(body, Mapping):
        for name, value in body.items():
            if name in _PLACES:
                yield " ".join(map(str, value)) if isinstance(value, list) else str(value)
            elif depth:
                yield from _places(value, depth - 1)
    elif isinstance(body, list) and depth:
        for value in body:
            yield from _places(value, depth - 1)


def _add_tool(body: dict[str, Any], name: str, schema: Any, *, is_chat: bool) -> None:
    function = {"name": ANSWER_TOOL, "description": f"{_TOOL_TEXT} The answer is a {name}.", "parameters": schema}
    others = list(body.get("tools") or ())
    choice = body.get("tool_choice")
    if is_chat:
        body["tools"] = [*others, {"type": "function", "function": function}]
        forced: dict[str, Any] = {"type": "function", "function": {"name": ANSWER_TOOL}}
    else:
        body["tools"] = [*others, {"type": "function", **function}]
        forced = {"type": "function", "name": ANSWER_TOOL}
    if choice in (None, "auto"):
        body["tool_choice"] = "required" if others else forced
    elif choice == "none":
        body["tool_choice"] = forced


def _with_prompt(items: Sequence[Any], prompt: str, part: str) -> list[Any]:
    """Return messages with the prompt at the end of the first one that has instructions or a question.

    A message of its own may be refused: some models have no system role, or take one system message alone.
    """
    result = list(items)
    for index, item in enumerate(result):
        message = item if isinstance(item, Mapping) else plain(encode(item))
        if message.get("role") not in _BEGINNING:
            continue
        content = message.get("content")
        if isinstance(content, str):
            result[index] = {**message, "content": f"{content}\n\n{prompt}"}
            return result
        if isinstance(content, (list, tuple)):
            result[index] = {**message, "content": [*content, {"type": part, "text": prompt}]}
            return result
    return [{"role": "system", "content": prompt}, *result]
