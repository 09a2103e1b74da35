"""Reads the beginning of a JSON text: an error body that was cut, or that is nested too deep for a JSON parser.

It is iterative and takes linear time, so that no input raises a RecursionError. It has no I/O. It may import
`wire.json_text`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from aimlasync.wire.json_text import without_halves

# Containers that are nested deeper are read as null.
MAX_DEPTH = 32

# The most tokens that are read: a megabyte of brackets has a million of them.
_MOST = 100_000

_INSIDE = r'[^"\\]*+(?:\\.[^"\\]*+)*+'
_TOKEN = re.compile(rf'[ \t\r\n]*+(?:("{_INSIDE}")|([{{}}\[\],:])|([^\s{{}}\[\],:"]++))', re.DOTALL)
_BEGUN_STRING = re.compile(rf'[ \t\r\n]*+"({_INSIDE})', re.DOTALL)
# What is read of a container that is skipped: the strings and brackets, to find its end.
_BRACKETS = re.compile(rf'"{_INSIDE}"|[\[{{]++|[\]}}]++', re.DOTALL)
# Half a unicode escape at the end of a cut string.
_HALF = re.compile(r"\\u[0-9a-fA-F]{0,3}\Z")
_NOTHING: Any = object()


def read_begun(text: str) -> Any:
    """Return the value of `text` up to where it is cut or invalid; None when it begins neither an object nor an array.

    A string that is cut is kept up to the cut. A number or word at the end of the text is dropped, as it may be cut.
    """
    root: Any = None
    # The open containers, each with a list that holds its key while the value is missing.
    stack: list[tuple[Any, list[str]]] = []
    at, end = 0, len(text)
    for _ in range(_MOST):
        match = _TOKEN.match(text, at)
        if match is None:
            begun = _BEGUN_STRING.match(text, at)
            if begun is not None and stack and not _wants_key(*stack[-1]):
                _put(stack, _string(_HALF.sub("", begun[1])))
            break
        at = match.end()
        string, mark, word = match.groups()
        if mark in ("{", "[") and len(stack) >= MAX_DEPTH:
            at = _end_of(text, match.end())
            _put(stack, None)
        elif mark in ("{", "["):
            made: Any = {} if mark == "{" else []
            if root is None:
                root = made
            else:
                _put(stack, made)
            stack.append((made, []))
        elif mark in ("}", "]"):
            if stack:
                stack.pop()
            if not stack:
                break
        elif mark is None and not stack:
            break
        elif string is not None:
            container, key = stack[-1]
            value = _string(string[1:-1])
            if _wants_key(container, key):
                key.append(value if isinstance(value, str) else "")
            else:
                _put(stack, value)
        elif word is not None and at < end:
            _put(stack, _word(word))
    return root


def _end_of(text: str, at: int) -> int:
    """Return the end of a container whose content begins at `at`."""
    depth = 1
    for match in _BRACKETS.finditer(text, at):
        run = match[0]
        if run[0] in "[{":
            depth += len(run)
        elif run[0] in "]}":
            if len(run) >= depth:
                return match.start() + depth
            depth -= len(run)
    return len(text)


def _wants_key(container: Any, key: list[str]) -> bool:
    return isinstance(container, dict) and not key


def _put(stack: list[tuple[Any, list[str]]], value: Any) -> None:
    container, key = stack[-1]
    if isinstance(container, list):
        if value is not _NOTHING:
            container.append(value)
    elif isinstance(container, dict) and key:
        name = key.pop()
        if value is not _NOTHING:
            container[name] = value


def _string(inside: str) -> Any:
    try:
        return without_halves(json.loads(f'"{inside}"', strict=False))
    except ValueError:
        return _NOTHING


def _word(word: str) -> Any:
    if word.isdecimal() and len(word) < 16:
        return int(word)
    try:
        return json.loads(word)
    except ValueError:
        return _NOTHING
