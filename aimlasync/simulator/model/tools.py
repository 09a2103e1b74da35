"""Which tools the simulated model calls, with which arguments, and what it makes of their results.

Law: pure functions of a `SimRequest`. They know words, never a particular tool.
A tool is called when the last user text has a word of its name, or else of its description, or a sum that it can work
out; arguments are filled from
its schema and the text. Two places in a text are two calls. What was called since that text is not called again, so
the turn ends when all of it has been done.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections import Counter
from typing import Any

import msgspec

from aimlasync.simulator.model import extract as fields
from aimlasync.simulator.model import fill_schema as schema
from aimlasync.simulator.model import labels
from aimlasync.simulator.vendor.conversation import Call, Result
from aimlasync.simulator.vendor.request import SimRequest, Tool

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_WORD = re.compile(r"[^\W_]+")
# Verbs in a tool's name say nothing about what the text asks for.
_VERBS = frozenset(
    _WORD.findall(
        "get set find look lookup search list create make do run call fetch read write update delete add send the a an "
        "by for of in to current tool function my"
    )
)
# Words of descriptions that any text may have.
_COMMON = frozenset(
    labels.stem(word)
    for word in _WORD.findall(
        "about after again also available based before between data different each every first from function given "
        "have help into information like look make many more most name need number only other output please return "
        "request result should some such take tell text than that their them then there these they thing this tool "
        "used user using value want what when where which will with word would your"
    )
)
_LONGEST = 200
_LONGEST_REPR = 10_000


def calls(request: SimRequest, seed: int) -> list[Call]:
    """Return the calls to make: what `tool_choice` demands, or what the text asks for and is not done yet."""
    wanted = _wanted(request)
    if not wanted:
        return []
    # The calls come in the same order every time, so their number tells which were made.
    done = Counter(result.call.name for result in request.results) if request.tool_choice == "auto" else Counter()
    found: list[Call] = []
    for tool in wanted:
        goes = any(map(fields.is_place, tool.parameters.get("properties") or ()))
        texts = fields.each_place(request.text) if goes else [request.text]
        for text in texts[done[tool.name] :]:
            arguments = schema.fill(tool.parameters, text, seed=seed, sparse=True)
            found.append(Call(tool.name, _encode(arguments).decode()))
    return found if request.parallel_tool_calls else found[:1]


def told(results: list[Result]) -> str:
    """Return what the tools said, as a sentence."""
    return f"Here is what the tools say: {'; '.join(map(_told, results))}."


def values(results: list[Result]) -> dict[str, Any]:
    """Return the values by name that tools said as JSON objects, the latest first."""
    found: dict[str, Any] = {}
    for result in reversed(results):
        said = _value(result.output)
        if isinstance(said, dict):
            found = {**said, **found}
    return found


def _wanted(request: SimRequest) -> list[Tool]:
    tools, choice = request.tools, request.tool_choice
    if not tools or choice == "none":
        return []
    if choice.startswith("="):
        return [tool for tool in tools if tool.name == choice[1:]][:1]
    words = set(_WORD.findall(request.text.lower()))
    named = {tool.name: _named(tool, request.text, words) for tool in tools}
    stems = {labels.stem(word) for word in words}
    described = {tool.name: _described(tool, stems) for tool in tools}
    # One word of a description counts only when no tool has been named.
    least = 2 if any(named.values()) else 1
    wanted = [tool for tool in tools if named[tool.name] or described[tool.name] >= least]
    wanted.sort(key=lambda tool: (-named[tool.name], -described[tool.name]))
    return wanted or (tools[:1] if choice == "required" else [])


def _named(tool: Tool, text: str, words: set[str]) -> int:
    """Return how clearly `text` has the name of `tool`: 0 not at all."""
    if tool.name in words or f"call {tool.name}" in text:
        return 10
    if any(
        fields.is_sum(name) and any(fields.candidates(name, text)) for name in tool.parameters.get("properties") or ()
    ):
        return 1
    parts = set(_parts(tool.name)) - _VERBS
    return len({part for part in parts if part in words or f"{part}s" in words or part.rstrip("s") in words})


def _described(tool: Tool, stems: set[str]) -> int:
    about = {labels.stem(word) for word in _WORD.findall(tool.description.lower()) if len(word) > 3}
    return len((about - _COMMON) & stems)


def _parts(name: str) -> list[str]:
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().replace("-", "_").split("_")


def _told(result: Result) -> str:
    parts = _parts(result.call.name)
    what = " ".join(part for part in parts if part not in _VERBS) or " ".join(parts)
    arguments = _value(result.call.arguments)
    given = [_plain(value) for value in arguments.values()] if isinstance(arguments, dict) else []
    about = ", ".join(value for value in given if value)
    said = _plain(_value(result.output))
    said = f"{said[:_LONGEST]}…" if len(said) > _LONGEST else said.rstrip(". ")
    return f"{what} for {about}: {said}" if about else f"{what}: {said}"


def _plain(value: Any) -> str:
    """Return a value as one would say it; "" for null."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{' '.join(_parts(str(key)))} {_plain(inner)}" for key, inner in value.items())
        case list():
            return ", ".join(map(_plain, value))
        case _:
            return " ".join(str(value).split())


def _value(text: str) -> Any:
    """Return the value of `text`: JSON, or the `str` of a dict or list as some frameworks send it, or itself."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    if text[:1] in ("{", "[") and len(text) < _LONGEST_REPR:
        try:
            return literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    return text
