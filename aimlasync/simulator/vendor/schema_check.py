"""Checks that a JSON schema is valid: every keyword that `model.fill_schema` reads has a value of the right kind.

A vendor refuses an invalid schema with 400 before any model sees it, and so does the simulator. Pure functions without
imports from the package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_MAX_SIZE = 10_000


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= _MAX_SIZE and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= 1e300 and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_KINDS = ("object", "array", "string", "number", "integer", "boolean", "null")
_KEYWORDS: Mapping[str, Callable[[Any], bool]] = {
    "type": lambda value: value in _KINDS or (_is_list(value) and all(kind in _KINDS for kind in value)),
    "properties": _is_object,
    "$defs": _is_object,
    "definitions": _is_object,
    "required": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "enum": _is_list,
    "anyOf": _is_list,
    "oneOf": _is_list,
    "allOf": _is_list,
    "prefixItems": _is_list,
    "items": lambda value: isinstance(value, (dict, bool)),
    "additionalProperties": lambda value: isinstance(value, (dict, bool)),
    "$ref": _is_text,
    "description": _is_text,
    "multipleOf": lambda value: _is_number(value) and value > 0,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties"), _is_size),
}
_SUBSCHEMAS = frozenset(("items", "additionalProperties", "anyOf", "oneOf", "allOf", "prefixItems"))
_NAMED = frozenset(("properties", "$defs", "definitions"))


def check(schema: Any, *, where: str = "schema") -> None:
    """Raise ValueError, with the path, when a keyword of `schema` has a value that JSON schema does not allow."""
    if not isinstance(schema, dict):
        if not isinstance(schema, bool):
            raise ValueError(f"{where} must be an object")
        return
    for keyword in schema.keys() & _KEYWORDS.keys():
        value = schema[keyword]
        if not _KEYWORDS[keyword](value):
            raise ValueError(f"{where}.{keyword} cannot be {str(value)[:60]}")
    for keyword in schema.keys() & _SUBSCHEMAS:
        value = schema[keyword]
        if isinstance(value, list):
            for index, inner in enumerate(value):
                check(inner, where=f"{where}.{keyword}[{index}]")
        else:
            check(value, where=f"{where}.{keyword}")
    for keyword in schema.keys() & _NAMED:
        for name, inner in schema[keyword].items():
            check(inner, where=f"{where}.{keyword}.{name}")


def check_strict(schema: Any, *, where: str) -> None:
    """Raise ValueError when OpenAI does not accept `schema` with `strict: true`; the schema has passed `check`.

    Every object must set `additionalProperties` to false and require all of its properties.
    """
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if kind == "object" or "properties" in schema or (isinstance(kind, list) and "object" in kind):
        if schema.get("additionalProperties") is not False:
            raise ValueError(f"{where}: 'additionalProperties' is required to be supplied and to be false")
        missing = set(schema.get("properties") or ()) - set(schema.get("required") or ())
        if missing:
            raise ValueError(f"{where}: 'required' must include every key in properties; missing {min(missing)!r}")
    for keyword in schema.keys() & _SUBSCHEMAS:
        value = schema[keyword]
        for inner in value if isinstance(value, list) else (value,):
            check_strict(inner, where=f"{where}.{keyword}")
    for keyword in schema.keys() & _NAMED:
        for name, inner in schema[keyword].items():
            check_strict(inner, where=f"{where}.{keyword}.{name}")
