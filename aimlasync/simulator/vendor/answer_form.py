"""What a request says of the form of its answer: tools, the choice of one, `response_format`, a schema in the prompt.

It is noted in the request, or a `Problem` where the vendor would refuse it. No I/O; it may import `request`,
`schema_check` and `vendors`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from aimlasync.simulator.vendor.request import SimRequest, Tool
from aimlasync.simulator.vendor.schema_check import check, check_strict
from aimlasync.simulator.vendor.vendors import Problem, Vendor, invalid
from aimlasync.structured.modes import MODES

_scan = json.JSONDecoder().raw_decode

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


def read_tools(request: SimRequest, vendor: Vendor, *, validate: bool) -> None:
    """Note the tools, and which of them must be called. Raises Problem."""
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
                raise invalid(name, f"'{name}' is only allowed when 'tools' are specified")
    if choice.startswith("=") and choice[1:] not in {tool.name for tool in request.tools}:
        raise invalid("tool_choice", f"Tool choice {choice[1:]!r} not found in 'tools' parameter")


def check_ways(request: SimRequest, vendor: Vendor, form: Any) -> None:
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


def read_prompted_schema(request: SimRequest) -> None:
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


def read_format(request: SimRequest, form: Any) -> None:
    """Note the schema of a `response_format`. Raises Problem."""
    if not isinstance(form, dict):
        if form is not None:
            raise invalid("response_format", "Expected an object")
        return
    kind = form.get("type")
    if kind == "json_schema":
        inner = form.get("json_schema", form)
        schema = inner.get("schema") if isinstance(inner, dict) else None
        if not isinstance(schema, dict):
            raise invalid("json_schema.schema", "Required")
        request.schema = _checked(schema, "response_format.schema")
    elif kind == "json_object":
        request.json_object = True
    elif kind not in ("text", "grammar"):
        raise invalid(
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
            raise invalid(f"tools[{index}].name", "Required")
        if validate and not _TOOL_NAME.match(name):
            raise invalid(f"tools[{index}].name", f"{name!r} does not match ^[a-zA-Z0-9_-]{{1,64}}$")
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
        raise invalid(where, str(error)) from None
    return schema


def _parse_tool_choice(given: Any) -> str:
    # Other types choose tools that the vendor executes itself.
    if isinstance(given, dict) and given.get("type", "function") == "function":
        function = given.get("function")
        name = function.get("name") if isinstance(function, dict) else given.get("name")
        return f"={name}"
    return given if isinstance(given, str) and given in ("none", "required") else "auto"
