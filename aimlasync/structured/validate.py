"""Checks whether a value fits a JSON schema, as far as the strict schemas of answers go.

The check covers `type`, `enum`, `const`, `properties`, `required`, `additionalProperties: false`, `items`, `anyOf` and
`$ref` within the schema. The server enforces the other keywords. It has no I/O and imports nothing of this library.
"""

from __future__ import annotations

from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def misfit(value: Any, schema: dict[str, Any]) -> str | None:
    """Return what is wrong with `value`, and where, None when it fits; the text shows nothing of the value."""
    try:
        return _misfit(value, schema, schema, "the answer")
    except RecursionError:
        # Of a schema that refers to itself.
        return "the answer is nested too deep"


def _misfit(value: Any, part: Any, root: dict[str, Any], where: str) -> str | None:
    if not isinstance(part, dict):
        return None
    if isinstance(reference := part.get("$ref"), str):
        return _misfit(value, _resolved(reference, root), root, where)
    if isinstance(choices := part.get("anyOf"), list):
        said = [_misfit(value, choice, root, where) for choice in choices]
        if said and None not in said:
            return f"{where} fits none of its alternatives"
    if "type" in part and not _is_of(value, part["type"]):
        return f"{where} is not of type {part['type']}"
    allowed = [part["const"]] if "const" in part else part.get("enum")
    if isinstance(allowed, list) and not any(_is_same(value, each) for each in allowed):
        return f"{where} is none of the values that it may have"
    if isinstance(value, list):
        inner = (_misfit(item, part.get("items"), root, f"{where}[{at}]") for at, item in enumerate(value))
        return next(filter(None, inner), None)
    if isinstance(value, dict):
        return _misfit_object(value, part, root, where)
    return None


def _misfit_object(value: dict[str, Any], part: dict[str, Any], root: dict[str, Any], where: str) -> str | None:
    properties = part.get("properties") or {}
    for name in part.get("required") or ():
        if name not in value:
            return f"{where} has no {name!r}"
    if part.get("additionalProperties") is False and value.keys() - properties.keys():
        return f"{where} has members that the schema does not know"
    inner = (_misfit(value[name], each, root, f"{name!r}") for name, each in properties.items() if name in value)
    return next(filter(None, inner), None)


def _is_of(value: Any, names: Any) -> bool:
    for name in names if isinstance(names, list) else [names]:
        kinds = _TYPES.get(name)
        if name == "integer" and isinstance(value, float) and value.is_integer():
            # JSON Schema: a number without a fraction is an integer, however it is written.
            return True
        if kinds is None or (isinstance(value, kinds) and (name == "boolean" or not isinstance(value, bool))):
            return True
    return False


def _is_same(value: Any, other: Any) -> bool:
    numbers = isinstance(value, (int, float)) and isinstance(other, (int, float))
    return bool(value == other) and (type(value) is type(other) or (numbers and bool not in (type(value), type(other))))


def _resolved(reference: str, root: dict[str, Any]) -> Any:
    found: Any = root
    for step in reference.lstrip("#/").split("/"):
        if step:
            found = found.get(step) if isinstance(found, dict) else None
    return found
