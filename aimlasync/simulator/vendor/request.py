"""Reads a request for a model's answer, and checks it as the vendor does.

The body becomes a `SimRequest`, or a `Problem` when the vendor would refuse it. Requests to both endpoints become the
same struct, so that answers, faults and limits need not know the endpoint. No I/O; it may import everything else in
this package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from aimlasync.endpoints.providers import refusal
from aimlasync.simulator.vendor import tokens
from aimlasync.simulator.vendor.catalogue import find, served
from aimlasync.simulator.vendor.conversation import Result, read_items, read_messages, text_of
from aimlasync.simulator.vendor.schema_check import check, check_strict
from aimlasync.simulator.vendor.stored import StoredResponses
from aimlasync.simulator.vendor.vendors import Problem, Vendor
from aimlasync.structured.modes import MODES

_scan = json.JSONDecoder().raw_decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call."""

    name: str
    parameters: dict[str, Any]
    description: str = ""


class SimRequest(msgspec.Struct, kw_only=True):
    """One request for a model's answer; `Fault.match` and the simulator's `answer` get it."""

    api: str
    """"chat" or "responses". A request that calls no model has "models", "balance" or the like, and only `path` and
    `headers` beside it."""
    path: str
    headers: Mapping[str, str]
    number: int = 0
    """The attempt's number in the ledger."""
    body: dict[str, Any] = msgspec.field(default_factory=dict)
    model: str = ""
    stream: bool = False
    text: str = ""
    """The last user message."""
    instructions: str = ""
    """System and developer messages, and `instructions`."""
    tool_output: str | None = None
    """The tool's result, when the last message is one."""
    turn: int = 0
    """The number of the model's turns before this one."""
    results: list[Result] = msgspec.field(default_factory=list)
    """The tool results since the last user message, each with its call."""
    items: list[dict[str, Any]] = msgspec.field(default_factory=list)
    """Responses only: the items of the stored response that is continued, then those of the input."""
    schema: dict[str, Any] | None = None
    """The JSON schema that the answer must fit."""
    json_object: bool = False
    """Whether the answer must be any JSON object."""
    among_words: bool = False
    """Whether nothing but the prompt asks for the schema, so that the answer has words around it."""
    tools: list[Tool] = msgspec.field(default_factory=list)
    tool_choice: str = "auto"
    """"auto", "none", "required", or "=" and the name of one function."""
    parallel_tool_calls: bool = True
    store: bool = False
    background: bool = False
    """Responses only: whether the answer is to be fetched later."""
    max_tokens: int | None = None
    """The output cap of one choice."""
    n: int = 1
    include_usage: bool = False
    reasons: bool = False
    """Whether the model is a reasoning model: a part of the answer's tokens is reasoning and not in the text."""
    prompt_tokens: int = 0

    @property
    def messages(self) -> list[Any]:
        """The messages or input items as sent; an input that is a text becomes one user message."""
        given = self.body.get("messages", self.body.get("input"))
        return given if isinstance(given, list) else [{"role": "user", "content": given}]

    @property
    def digest(self) -> str:
        """A digest of `text`."""
        return blake2b(self.text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


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
        raise _invalid("model", "Required" if model is None else "Expected a non-empty string")
    request = SimRequest(api=api, path=path, headers=headers, body=body, model=model)
    request.stream = _flag(body, "stream")
    if api == "chat":
        _read_chat(request, vendor, validate=validate)
    else:
        request.background = vendor.keeps_responses and _flag(body, "background")
        stores = vendor.stores or request.background
        request.store = stores if body.get("store") is None else _flag(body, "store")
        if request.background and not request.store:
            raise _invalid("background", "Background mode requires store=true")
        _read_responses(request, vendor, stored, validate=validate)
    if request.schema is None and not request.tools:
        _read_prompted_schema(request)
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
        raise _invalid("messages", "Required" if messages is None else "Expected a non-empty array")
    instructions: list[str] = []
    prompt_tokens = 3
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system", "developer", "tool", "function"):
            raise _invalid(f"messages[{index}].role", f"Invalid role {role!r}")
        text = text_of(message.get("content"))
        prompt_tokens += tokens.count(text) + 3
        if role == "user":
            request.text = text
        elif role in ("system", "developer"):
            instructions.append(text)
        elif role == "assistant" and message.get("tool_calls"):
            prompt_tokens += len(_encode(message["tool_calls"])) // 4
        request.tool_output = text if role == "tool" else None
    request.instructions = "\n".join(instructions)
    conversation = read_messages(messages, validate=validate)
    request.turn, request.results = conversation.turn, conversation.results
    _read_tools(request, vendor, validate=validate)
    _check_ways(request, vendor, body.get("response_format"))
    options = body.get("stream_options")
    request.include_usage = isinstance(options, dict) and options.get("include_usage") is True
    n = body.get("n")
    request.n = n if isinstance(n, int) and n >= 1 else 1
    cap = body.get("max_completion_tokens", body.get("max_tokens"))
    request.max_tokens = int(cap) if isinstance(cap, (int, float)) and cap >= 1 else None
    _read_format(request, body.get("response_format"))
    request.prompt_tokens = prompt_tokens + _schema_tokens(body, "tools", "response_format")


def _read_responses(request: SimRequest, vendor: Vendor, stored: StoredResponses, *, validate: bool) -> None:
    body = request.body
    given = body.get("input")
    if not isinstance(given, (str, list)) or not given:
        raise _invalid("input", "Required" if given is None else "Expected a non-empty string or array")
    instructions = [body["instructions"]] if isinstance(body.get("instructions"), str) else []
    prompt_tokens = 3 + tokens.count("".join(instructions))
    request.items = items = list(stored.before(body))
    for index, item in enumerate(request.messages):
        if not isinstance(item, dict):
            raise _invalid(f"input[{index}]", "Expected an object")
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
        request.tool_output = text if kind == "function_call_output" else None
    request.instructions = "\n".join(instructions)
    conversation = read_items(items, validate=validate)
    request.turn, request.results = conversation.turn, conversation.results
    _read_tools(request, vendor, validate=validate)
    cap = body.get("max_output_tokens")
    request.max_tokens = int(cap) if isinstance(cap, (int, float)) and cap >= 1 else None
    form = body.get("text")
    # ByteSpike also takes the `response_format` of chat/completions here.
    form = form.get("format") if isinstance(form, dict) else body.get("response_format")
    _check_ways(request, vendor, form)
    _read_format(request, form)
    request.prompt_tokens = prompt_tokens + _schema_tokens(body, "tools", "text", "response_format")


# Type of an item that is no message -> the field that has its text.
_TEXT_FIELDS = {"function_call_output": "output", "function_call": "arguments"}


def _check_reasoning(item: dict[str, Any], model: str, vendor: Vendor, stored: StoredResponses) -> None:
    """Raise Problem for a reasoning item that the vendor does not accept.

    The AI/ML API's schema of some models has no such items; OpenAI needs encrypted content or a stored item.
    """
    if vendor.name == "aimlapi" and served(model).startswith(("gpt-5-pro", "gpt-4")):
        raise _invalid("input", f"{model} does not take items of type 'reasoning'")
    if vendor.name == "openai" and not item.get("encrypted_content"):
        stored.item(str(item.get("id")))


def _read_tools(request: SimRequest, vendor: Vendor, *, validate: bool) -> None:
    body = request.body
    # Only OpenAI documents what `strict` requires of a schema.
    strict = validate and vendor.name == "openai"
    request.tools = _parse_tools(body.get("tools"), nested=request.api == "chat", validate=validate, strict=strict)
    request.tool_choice = choice = _parse_tool_choice(body.get("tool_choice"))
    request.parallel_tool_calls = body.get("parallel_tool_calls") is not False
    if not validate:
        return
    if request.api == "chat" and not body.get("tools"):
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) is not None:
                raise _invalid(name, f"'{name}' is only allowed when 'tools' are specified")
    if choice.startswith("=") and choice[1:] not in {tool.name for tool in request.tools}:
        raise _invalid("tool_choice", f"Tool choice {choice[1:]!r} not found in 'tools' parameter")


def _check_ways(request: SimRequest, vendor: Vendor, form: Any) -> None:
    """Raise Problem for a way to ask for a structured answer that the vendor's models do not have."""
    kind = form.get("type") if isinstance(form, dict) else None
    asked = [kind] if kind in MODES else []
    if request.tools:
        asked.append("tool")
    for way in asked:
        if way != "text" and MODES.index(way) < MODES.index(vendor.structured):
            if way == "tool":
                raise Problem(400, f"{request.model} does not support tools", code="unsupported_value", param="tools")
            said = f"This response_format type is unavailable: {way}"
            raise Problem(400, said, code="unsupported_value", param="response_format")


def _read_prompted_schema(request: SimRequest) -> None:
    """Find a JSON schema of an object in the prompt, and take it out of the text that is answered."""
    for place in ("instructions", "text"):
        said: str = getattr(request, place)
        start = said.find("{")
        while start >= 0:
            try:
                schema, end = _scan(said, start)
            except (ValueError, RecursionError):
                schema, end = None, start + 1
            if isinstance(schema, dict) and schema.get("type") == "object" and "properties" in schema:
                setattr(request, place, said[:start] + said[end:])
                request.schema = _checked(schema, "prompt")
                request.among_words = not request.json_object
                return
            start = said.find("{", end)


def _read_format(request: SimRequest, form: Any) -> None:
    if not isinstance(form, dict):
        if form is not None:
            raise _invalid("response_format", "Expected an object")
        return
    kind = form.get("type")
    if kind == "json_schema":
        inner = form.get("json_schema", form)
        schema = inner.get("schema") if isinstance(inner, dict) else None
        if not isinstance(schema, dict):
            raise _invalid("json_schema.schema", "Required")
        request.schema = _checked(schema, "response_format.schema")
    elif kind == "json_object":
        request.json_object = True
    elif kind not in ("text", "grammar"):
        raise _invalid(
            "response_format.type",
            f"Invalid enum value. Expected 'text' | 'json_object' | 'json_schema', received {kind!r}",
        )


def _parse_tools(given: Any, *, nested: bool, validate: bool, strict: bool) -> list[Tool]:
    found = []
    for index, tool in enumerate(given if isinstance(given, list) else ()):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            continue
        function = tool.get("function") if nested or "name" not in tool else tool
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name:
            raise _invalid(f"tools[{index}].name", "Required")
        if validate and not _TOOL_NAME.match(name):
            raise _invalid(f"tools[{index}].name", f"{name!r} does not match ^[a-zA-Z0-9_-]{{1,64}}$")
        parameters = function.get("parameters")
        description = function.get("description")
        found.append(
            Tool(
                name,
                _checked(parameters, f"tools[{index}].parameters", strict=strict and function.get("strict") is True)
                if isinstance(parameters, dict)
                else _NO_PARAMETERS,
                description if isinstance(description, str) else "",
            )
        )
    return found


def _checked(schema: dict[str, Any], where: str, *, strict: bool = False) -> dict[str, Any]:
    try:
        check(schema, where=where)
        if strict:
            check_strict(schema, where=where)
    except (ValueError, RecursionError) as error:
        raise _invalid(where, str(error)) from None
    return schema


def _parse_tool_choice(given: Any) -> str:
    # Other types choose tools that the vendor executes itself.
    if isinstance(given, dict) and given.get("type", "function") == "function":
        function = given.get("function")
        name = function.get("name") if isinstance(function, dict) else given.get("name")
        return f"={name}"
    return given if isinstance(given, str) and given in ("none", "required") else "auto"


def _schema_tokens(body: dict[str, Any], *names: str) -> int:
    return sum(len(_encode(body[name])) // 4 for name in names if body.get(name))


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _invalid(name, f"Expected boolean, received {type(value).__name__}")
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
            raise _invalid(name, f"Expected a number from {low} to {high}, received {value!r}")


def _is_reasoning(model: str) -> bool:
    name = model.rpartition("/")[2]
    return name.startswith(("gpt-5", "o1", "o3", "o4")) and "chat" not in name


def _invalid(parameter: str, reason: str) -> Problem:
    return Problem(400, f"Body validation error!\n{parameter}: {reason}", code="invalid_param", param=parameter)
