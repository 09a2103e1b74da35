"""A value that fits a JSON schema, filled from a text.

Law: pure. Implements what strict structured output allows (object, array, string, number, boolean, null, enum, const,
anyOf, $ref with $defs, and the usual bounds) and the most used of the rest (oneOf, allOf, prefixItems, format).
The schema has passed `keywords.check`.
Not implemented: `pattern`, `not`, `if`, `dependentSchemas`; a value may break these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from zlib import crc32

from aimlasync.simulator.model import extract as fields
from aimlasync.simulator.model import grading, labels

_MAX_DEPTH = 6
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)")
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1M",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
    "byte": "c2lt",
}
_GRADES = frozenset(("score", "grade", "rating", "points", "stars", "mark"))
_REASONS = frozenset(("reason", "reasoning", "explanation", "why", "rationale", "justification", "comment"))
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def fill(
    schema: dict[str, Any],
    text: str,
    *,
    hints: str = "",
    seed: int = 0,
    sparse: bool = False,
    known: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Return a value that fits `schema`, the same for the same arguments.

    A plain field whose name and type are in `known` takes its value from there. With `sparse` a field that may be left
    out, may be null or has a default is filled only with what the text has for it.
    """
    return _Filler(schema, text, hints, seed, sparse, known).value(schema, "", 0)


class _Filler:
    def __init__(
        self, root: dict[str, Any], text: str, hints: str, seed: int, sparse: bool, known: Mapping[str, Any]
    ) -> None:
        self.root = root
        self.text = text
        self.hints = hints
        self.seed = seed
        self.sparse = sparse
        self.known = known
        self.grade = grading.grade(text)
        # What fields have taken of the text.
        self.taken: set[str] = set()
        # Numbers of the text, handed out in order to the number fields.
        self.numbers: Iterator[str] = iter(_NUMBER.findall(text))

    def value(self, schema: Any, name: str, depth: int) -> Any:
        if name in self.known and isinstance(schema, dict) and _is_of(self.known[name], schema):
            return self.known[name]
        if depth > 2 * _MAX_DEPTH:
            # Only a schema that requires itself, which nothing fits, gets here.
            return None
        if not isinstance(schema, dict) or not schema:
            return self.words()
        if "$ref" in schema:
            target = self.resolve(schema["$ref"])
            return self.value({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, name, depth + 1)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self.one_of(schema["enum"], schema, name)
        for union in ("anyOf", "oneOf"):
            if schema.get(union):
                return self.union(schema[union], schema, name, depth)
        if schema.get("allOf"):
            return self.value(self.merged(schema), name, depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list):
            rest = [one for one in kind if one != "null"]
            kind = rest[0] if rest and not (depth > _MAX_DEPTH and "null" in kind) else "null"
        if kind is None:
            kind = _implied(schema)
        match kind:
            case "object":
                return self.object(schema, depth)
            case "array":
                return self.array(schema, name, depth)
            case "integer" | "number":
                return self.number(schema, whole=kind == "integer", name=name)
            case "boolean":
                return self.boolean(schema, name)
            case "null":
                return None
            case _:
                return self.string(schema, name)

    def resolve(self, reference: Any) -> dict[str, Any]:
        found: Any = self.root
        if isinstance(reference, str) and reference.startswith("#/"):
            for part in reference[2:].split("/"):
                key = part.replace("~1", "/").replace("~0", "~")
                found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def merged(self, schema: dict[str, Any]) -> dict[str, Any]:
        whole = {k: v for k, v in schema.items() if k != "allOf"}
        for part in schema["allOf"]:
            part = self.resolve(part["$ref"]) if "$ref" in part else part
            for key, held in part.items():
                if key == "properties":
                    whole[key] = {**whole.get(key, {}), **held}
                elif key == "required":
                    whole[key] = [*whole.get(key, []), *held]
                else:
                    whole.setdefault(key, held)
        return whole

    def union(self, members: list[Any], schema: dict[str, Any], name: str, depth: int) -> Any:
        members = [member for member in members if isinstance(member, dict)]
        constants = [member["const"] for member in members if "const" in member]
        if len(constants) == len(members) > 0:
            return self.one_of(constants, schema, name, about=members)
        plain = [member for member in members if member.get("type") != "null"]
        if not plain or (depth > _MAX_DEPTH and len(plain) < len(members)):
            return None
        # A tagged union is decided by its tag, like an enum.
        tags = [self.tag(member) for member in plain]
        known = [tag for tag in tags if tag is not None]
        chosen = plain[0]
        if depth > _MAX_DEPTH:
            chosen = next((m for m in plain if "$ref" not in m and m.get("type") not in ("object", "array")), chosen)
        elif len(known) == len(plain) > 1:
            chosen = plain[tags.index(labels.choose(known, self.text, hints=self.hints, seed=self.seed))]
        return self.value({**{k: v for k, v in schema.items() if k == "description"}, **chosen}, name, depth + 1)

    def tag(self, member: dict[str, Any]) -> str | None:
        target = self.resolve(member["$ref"]) if "$ref" in member else member
        for held in (target.get("properties") or {}).values():
            if isinstance(held, dict):
                only = held.get("const", held["enum"][0] if len(held.get("enum") or ()) == 1 else None)
                if isinstance(only, str):
                    return only
        return None

    def one_of(self, options: list[Any], schema: dict[str, Any], name: str, about: list[Any] | None = None) -> Any:
        names = [option for option in options if isinstance(option, str)]
        if not names:
            return options[(crc32(f"{name}:{self.text}".encode("utf-8", "surrogatepass")) + self.seed) % len(options)]
        told = (self.hints, self.root.get("description"), schema.get("description"))
        lines = [line for line in told if isinstance(line, str)]
        lines += [f"{member['const']}: {member['description']}" for member in about or () if "description" in member]
        return labels.choose(names, self.text, hints="\n".join(filter(None, lines)), seed=self.seed)

    def object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        # Optional fields are left out once the schema has gone round in circles.
        names = list(properties) if depth <= _MAX_DEPTH else [name for name in properties if name in required]
        if self.sparse and "required" in schema:
            names = [name for name in names if name in required or self.found(properties[name], name)]
        filled = {name: self.field(properties[name], name, depth + 1) for name in names}
        other = schema.get("additionalProperties")
        for name in required:
            if name not in filled:
                filled[name] = self.value(other if isinstance(other, dict) else {}, name, depth + 1)
        if isinstance(other, dict) and not properties and depth <= _MAX_DEPTH:
            for index in range(max(1, _int(schema.get("minProperties"), 1))):
                filled.setdefault(f"key{index or ''}", self.value(other, "", depth + 1))
        return filled

    def field(self, schema: Any, name: str, depth: int) -> Any:
        if self.sparse and isinstance(schema, dict) and not self.found(schema, name):
            if "default" in schema:
                return schema["default"]
            if _is_nullable(schema):
                return None
        return self.value(schema, name, depth)

    def array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        first = [self.value(item, name, depth + 1) for item in schema.get("prefixItems") or ()]
        fewest = _int(schema.get("minItems"), 0)
        size = max(fewest, 0 if depth > _MAX_DEPTH or first else 1)
        size = min(size, _int(schema.get("maxItems"), size))
        item = schema.get("items", {})
        if item is False:
            return first
        while len(first) < size:
            first.append(self.value(item, name, depth + 1))
        if schema.get("uniqueItems") and len(first) > 1:
            return self.distinct(first, item)
        return first

    def distinct(self, values: list[Any], item: Any) -> list[Any]:
        item = self.resolve(item["$ref"]) if isinstance(item, dict) and "$ref" in item else item
        options = item.get("enum") if isinstance(item, dict) else None
        if options:
            rest = [option for option in options if option != values[0]]
            return [values[0], *rest][: len(values)]
        return [
            f"{v} {i}" if i and isinstance(v, str) else v + i if type(v) in (int, float) else v
            for i, v in enumerate(values)
        ]

    def number(self, schema: dict[str, Any], *, whole: bool, name: str) -> int | float:
        low, high = _range(schema, whole=whole)
        step = schema.get("multipleOf")
        if self.grade is not None and not step and not _GRADES.isdisjoint(fields.parts(name)):
            least = low if math.isfinite(low) else min(0, high)
            most = high if math.isfinite(high) else max(least, 10 if whole else 1)
            graded = least + self.grade.score * (most - least)
            return round(graded) if whole else min(max(round(graded, 2), least), most)
        for said in self.numbers:
            number = float(said)
            if low <= number <= high and not (whole and number % 1) and not (step and number % step):
                return int(number) if whole or "." not in said else number
        if not whole and any(word in name.lower() for word in ("confidence", "score", "probab")) and low <= 0.9 <= high:
            return 0.9
        default = schema.get("default")
        if isinstance(default, (int, float)) and low <= default <= high and not (whole and default % 1):
            return int(default) if whole else default
        number = 1.0 if low <= 1 <= high else low if math.isfinite(low) else high
        if step:
            number = math.ceil(number / step) * step
        elif not whole and math.isfinite(low) and math.isfinite(high) and not low <= 1 <= high:
            number = (low + high) / 2
        return int(number) if whole else number

    def boolean(self, schema: dict[str, Any], name: str) -> bool:
        told = schema.get("description")
        about = f"{name} {told if isinstance(told, str) else ''}"
        if self.grade is not None and (grading.is_good(name) or grading.is_bad(name)):
            return self.grade.passes == grading.is_good(name)
        return labels.applies(about, self.text)

    def found(self, schema: Any, name: str) -> bool:
        """Return whether the text has something for this field."""
        if not isinstance(schema, dict):
            return False
        options = schema.get("enum")
        if isinstance(options, list):
            stems = {labels.stem(word) for word in re.findall(r"\w+", self.text.lower())}
            return any(isinstance(option, str) and labels.stem(option.lower()) in stems for option in options)
        members = schema.get("anyOf")
        if isinstance(members, list):
            return any(self.found(member, name) for member in members)
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if "integer" in kinds or "number" in kinds:
            return fields.is_counted(name, self.text)
        if "boolean" in kinds:
            return labels.applies(name.replace("_", " "), self.text)
        return "string" in kinds and self.said(name) is not None

    def said(self, name: str) -> str | None:
        """Return what the text has for a text field of this name, and no field has taken yet."""
        return next((said for said in fields.candidates(name, self.text) if said not in self.taken), None)

    def string(self, schema: dict[str, Any], name: str) -> str:
        form = schema.get("format")
        if isinstance(form, str) and form in _FORMATS:
            found = fields.candidates("url" if form == "uri" else form, self.text)
            return next(found, _FORMATS[form]) if form in ("email", "uri", "date") else _FORMATS[form]
        default = schema.get("default")
        said = self.said(name)
        if self.grade is not None and not _REASONS.isdisjoint(fields.parts(name)):
            said = self.grade.reason
        if said is None:
            # A second city of a text that names one is the same city.
            again = next(fields.candidates(name, self.text), None)
            said = again or (default if isinstance(default, str) else self.words())
        self.taken.add(said)
        longest = _int(schema.get("maxLength"), 0)
        if longest:
            said = said[:longest]
        shortest = _int(schema.get("minLength"), 0)
        return said if len(said) >= shortest else said + "." * (shortest - len(said))

    def words(self) -> str:
        return " ".join(self.text[:120].split()[:6]) or "simulated"


def _is_nullable(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    members = [kind] if kind == "null" else kind if isinstance(kind, list) else []
    members += [one.get("type") for one in schema.get("anyOf") or () if isinstance(one, dict)]
    return "null" in members


def _is_of(value: Any, schema: dict[str, Any]) -> bool:
    """Return whether a plain `value` fits a plain `schema`; anything that would need a closer look does not."""
    kinds = schema.get("type")
    options = schema.get("enum")
    if options is not None:
        return value in options
    if schema.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength"}:
        return False
    named = {str: ("string",), bool: ("boolean",), int: ("integer", "number"), float: ("number",)}.get(type(value), ())
    return any(kind in named for kind in (kinds if isinstance(kinds, list) else [kinds])) and "maxLength" not in schema


def _implied(schema: dict[str, Any]) -> str:
    if "properties" in schema or "additionalProperties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if any(bound in schema for bound in _BOUNDS) else "string"


def _range(schema: dict[str, Any], *, whole: bool) -> tuple[float, float]:
    low, high, above, below = (
        bound if isinstance(bound := schema.get(name), (int, float)) and not isinstance(bound, bool) else None
        for name in _BOUNDS
    )
    lowest = -math.inf if low is None else low
    highest = math.inf if high is None else high
    if above is not None:
        lowest = max(lowest, math.floor(above) + 1 if whole else math.nextafter(above, math.inf))
    if below is not None:
        highest = min(highest, math.ceil(below) - 1 if whole else math.nextafter(below, -math.inf))
    return (
        (math.ceil(lowest), math.floor(highest))
        if whole and math.isfinite(lowest) and math.isfinite(highest)
        else (
            lowest,
            highest,
        )
    )


def _int(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
