"""Chooses the tools that the simulated model calls, and puts their results into a sentence.

A tool is called when the last user text has a word of the tool's name, or else of its description, or a sum that the
tool can calculate. The arguments are filled from the tool's schema and the text; a text with two places makes two
calls. A call that was made since that text is not made again, so the model answers when all calls are made. Pure
functions of a `SimRequest`; nothing here is written for a particular tool. It may import `extract`, `fill_schema`,
`labels` and what a vendor is.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections import Counter
from typing import Any

import msgspec

from aimlasync.simulator.model import extract, labels
from aimlasync.simulator.model.fill_schema import fill
from aimlasync.simulator.vendor.conversation import Call, Result
from aimlasync.simulator.vendor.request import SimRequest, Tool

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_WORD = re.compile(r"[^\W_]+")
# Words of a tool's name that do not show what the tool is for.
_VERBS = frozenset(
    _WORD.findall(
        "get set find look lookup search list create make do run call fetch read write update delete add send the a an "
        "by for of in to current tool function my"
    )
)
# Words of a tool's description that any text may have.
_COMMON = frozenset(
    labels.stem(word)
    for word in _WORD.findall(
        "about after again also available based before between data different each every first from function given "
        "have help into information like look make many more most name need number only other output please return "
        "request result should some such take tell text than that their them then there these they thing this tool "
        "used user using value want what when where which will with word would your"
    )
)
_MAX_RESULT = 200
_MAX_REPR = 10_000


def choose_calls(request: SimRequest, seed: int) -> list[Call]:
    """Return the calls to make: those that `tool_choice` demands, or those for the text that are not made yet."""
    wanted = _wanted(request)
    if not wanted:
        return []
    # The calls of a tool have the same order in every turn, so their number shows which of them were made.
    done = Counter(result.call.name for result in request.results) if request.tool_choice == "auto" else Counter()
    found: list[Call] = []
    for tool in wanted:
        has_place = any(map(extract.is_place, tool.parameters.get("properties") or ()))
        texts = extract.text_per_place(request.text) if has_place else [request.text]
        for text in texts[done[tool.name] :]:
            arguments = fill(tool.parameters, text, seed=seed, sparse=True)
            found.append(Call(tool.name, _encode(arguments).decode()))
    return found if request.parallel_tool_calls else found[:1]


def summary(results: list[Result]) -> str:
    """Return the results of tools in a sentence."""
    return f"Here is what the tools say: {'; '.join(map(_summary_of, results))}."


def named_values(results: list[Result]) -> dict[str, Any]:
    """Return the values by name of all results that are JSON objects; a later result overrides an earlier one."""
    found: dict[str, Any] = {}
    for result in results:
        value = _decode_loosely(result.output)
        if isinstance(value, dict):
            found |= value
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
    # One word of a description is enough only when the text names no tool.
    least = 2 if any(named.values()) else 1
    wanted = [tool for tool in tools if named[tool.name] or described[tool.name] >= least]
    wanted.sort(key=lambda tool: (-named[tool.name], -described[tool.name]))
    return wanted or (tools[:1] if choice == "required" else [])


def _named(tool: Tool, text: str, words: set[str]) -> int:
    """Return how clearly `text` names `tool`; 0 means not at all."""
    if tool.name in words or f"call {tool.name}" in text:
        return 10
    if any(
        extract.is_sum(name) and any(extract.candidates(name, text)) for name in tool.parameters.get("properties") or ()
    ):
        return 1
    parts = set(_parts(tool.name)) - _VERBS
    return len({part for part in parts if part in words or f"{part}s" in words or part.rstrip("s") in words})


def _described(tool: Tool, stems: set[str]) -> int:
    about = {labels.stem(word) for word in _WORD.findall(tool.description.lower()) if len(word) > 3}
    return len((about - _COMMON) & stems)


def _parts(name: str) -> list[str]:
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().replace("-", "_").split("_")


def _summary_of(result: Result) -> str:
    parts = _parts(result.call.name)
    what = " ".join(part for part in parts if part not in _VERBS) or " ".join(parts)
    arguments = _decode_loosely(result.call.arguments)
    texts = [_in_words(value) for value in arguments.values()] if isinstance(arguments, dict) else []
    about = ", ".join(text for text in texts if text)
    output = _in_words(_decode_loosely(result.output))
    output = f"{output[:_MAX_RESULT]}…" if len(output) > _MAX_RESULT else output.rstrip(". ")
    return f"{what} for {about}: {output}" if about else f"{what}: {output}"


def _in_words(value: Any) -> str:
    """Return a value in words, "" for null."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{' '.join(_parts(str(key)))} {_in_words(inner)}" for key, inner in value.items())
        case list():
            return ", ".join(map(_in_words, value))
        case _:
            return " ".join(str(value).split())


def _decode_loosely(text: str) -> Any:
    """Return the value of `text` as JSON or as a Python dict or list, whose `str` some frameworks send; else `text`."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    if text[:1] in ("{", "[") and len(text) < _MAX_REPR:
        try:
            return literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    return text
