"""The arguments of tool calls as values, for tools whose definition says what they are.

`openai.pydantic_function_tool` keeps the model beside the schema; the arguments of another strict tool are JSON. It
works on values, without I/O, and imports nothing of this library.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

Read = Callable[[str], Any]


def readers_of(tools: Iterable[Any]) -> dict[str, Read]:
    """Return what reads the arguments of each tool that says what they are, by its name; it raises ValueError."""
    return dict(filter(None, map(_reader_of, tools)))


def flat(tools: Iterable[Any]) -> list[Any]:
    """Return tools in the form of responses, also those that `openai.pydantic_function_tool` made for chat."""
    return [
        {"type": "function", **tool["function"]} if hasattr(_function(tool), "model") and "name" not in tool else tool
        for tool in tools
    ]


def _function(tool: Any) -> Mapping[str, Any]:
    """Return what says a tool's name: the tool itself in the form of responses."""
    said = msgspec.to_builtins(tool) if isinstance(tool, msgspec.Struct) else tool
    inner = said.get("function", said) if isinstance(said, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _reader_of(tool: Any) -> tuple[str, Read] | None:
    function = _function(tool)
    if (model := getattr(function, "model", None)) is not None:
        return str(function.get("name")), model.model_validate_json
    return (str(function.get("name")), json.loads) if function.get("strict") else None
