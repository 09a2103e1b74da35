"""Fills a JSON schema with values from a text.

The value of an enum is the option that fits the text best (`_Filler.enum`, by `labels.choose`). The file implements the
keywords that strict structured output allows (object, array, string, number, boolean, null, enum, const, anyOf, $ref
with $defs, and the usual bounds, also those that a description says) and the most used other ones (oneOf, allOf,
prefixItems, format). Not implemented are `pattern`, `not`, `if` and `dependentSchemas`: a value may violate these. The
schema has passed `schema_check.check`. Pure functions; it may import `extract`, `grading`, `labels` and `said_bounds`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from zlib import crc32

from aimlasync.simulator.model import extract, grading, labels
from aimlasync.simulator.model.said_bounds import bounds

_MAX_DEPTH = 6
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)")
# Format -> the value of a string field that the text has nothing for.
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
    "base64": "c2lt",
}
# Names of fields that hold a grade, and of fields that hold its reason.
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
    """Return a value that fits `schema`; the same arguments always give the same value.

    `hints` are instructions that may describe the values of an enum. A plain field takes its value from `known` when
    that has its name and type. With `sparse`, a field that is optional, nullable or has a default is filled only when
    the text has a value for it.
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
        # Texts that string fields have taken already.
        self.taken: set[str] = set()
        # The numbers of the text; each number field takes the next one that fits.
        self.numbers: Iterator[str] = iter(_NUMBER.findall(text))

    def value(self, schema: Any, name: str, depth: int) -> Any:
        if name in self.known and isinstance(schema, dict) and _fits(self.known[name], schema):
            return self.known[name]
        if depth > 2 * _MAX_DEPTH:
            # Only a schema that requires itself gets here, and no finite value fits that.
            return None
        if not isinstance(schema, dict) or not schema:
            return self.words()
        if "$ref" in schema:
            target = self.resolve(schema["$ref"])
            return self.value({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, name, depth + 1)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self.enum(schema["enum"], schema, name)
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
        schema = {**bounds(schema.get("description")), **schema}
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
            return self.enum(constants, schema, name, described_by=members)
        plain = [member for member in members if member.get("type") != "null"]
        if not plain or (depth > _MAX_DEPTH and len(plain) < len(members)):
            return None
        # The member of a tagged union is chosen by its tag, as the value of an enum is.
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

    def enum(self, options: list[Any], schema: dict[str, Any], name: str, described_by: list[Any] | None = None) -> Any:
        """Return the option that fits the text best; options that are no texts are chosen by a hash of the text."""
        names = [option for option in options if isinstance(option, str)]
        if not names:
            return options[(crc32(f"{name}:{self.text}".encode("utf-8", "surrogatepass")) + self.seed) % len(options)]
        descriptions = (self.hints, self.root.get("description"), schema.get("description"))
        lines = [line for line in descriptions if isinstance(line, str)]
        lines += [
            f"{member['const']}: {member['description']}" for member in described_by or () if "description" in member
        ]
        return labels.choose(names, self.text, hints="\n".join(filter(None, lines)), seed=self.seed)

    def object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        # A recursive schema ends by leaving out its optional fields.
        names = list(properties) if depth <= _MAX_DEPTH else [name for name in properties if name in required]
        if self.sparse and "required" in schema:
            names = [name for name in names if name in required or self.has_value_for(properties[name], name)]
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
        if self.sparse and isinstance(schema, dict) and not self.has_value_for(schema, name):
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
        if self.grade is not None and not step and not _GRADES.isdisjoint(extract.name_parts(name)):
            least = low if math.isfinite(low) else min(0, high)
            most = high if math.isfinite(high) else max(least, 10 if whole else 1)
            graded = least + self.grade.score * (most - least)
            return round(graded) if whole else min(max(round(graded, 2), least), most)
        for digits in self.numbers:
            number = float(digits)
            if low <= number <= high and not (whole and number % 1) and not (step and number % step):
                return int(number) if whole or "." not in digits else number
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
        description = schema.get("description")
        about = f"{name} {description if isinstance(description, str) else ''}"
        if self.grade is not None and (grading.is_good(name) or grading.is_bad(name)):
            return self.grade.passes == grading.is_good(name)
        return labels.applies(about, self.text)

    def has_value_for(self, schema: Any, name: str) -> bool:
        """Return whether the text has a value for this field."""
        if not isinstance(schema, dict):
            return False
        options = schema.get("enum")
        if isinstance(options, list):
            stems = {labels.stem(word) for word in re.findall(r"\w+", self.text.lower())}
            return any(isinstance(option, str) and labels.stem(option.lower()) in stems for option in options)
        members = schema.get("anyOf")
        if isinstance(members, list):
            return any(self.has_value_for(member, name) for member in members)
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if "integer" in kinds or "number" in kinds:
            return extract.has_number_for(name, self.text)
        if "boolean" in kinds:
            return labels.applies(name.replace("_", " "), self.text)
        return "string" in kinds and self.untaken(name) is not None

    def untaken(self, name: str) -> str | None:
        """Return the best value of the text for a string field of this name that no field has taken yet."""
        return next((one for one in extract.candidates(name, self.text) if one not in self.taken), None)

    def string(self, schema: dict[str, Any], name: str) -> str:
        form = schema.get("format")
        if isinstance(form, str) and form in _FORMATS:
            found = extract.matches("url" if form == "uri" else form, self.text)
            return next(found, _FORMATS[form]) if form in ("email", "uri", "date") else _FORMATS[form]
        if form == "decimal":
            return str(self.number(schema, whole=False, name=name))
        default = schema.get("default")
        value = self.untaken(name)
        if self.grade is not None and not _REASONS.isdisjoint(extract.name_parts(name)):
            value = self.grade.reason
        if value is None:
            # A second field for a city gets the same city when the text names only one.
            again = next(extract.candidates(name, self.text), None)
            value = again or (default if isinstance(default, str) else self.words())
        self.taken.add(value)
        longest = _int(schema.get("maxLength"), 0)
        if longest:
            value = value[:longest]
        shortest = _int(schema.get("minLength"), 0)
        return value if len(value) >= shortest else value + "." * (shortest - len(value))

    def words(self) -> str:
        return " ".join(self.text[:120].split()[:6]) or "simulated"


def _is_nullable(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    members = [kind] if kind == "null" else kind if isinstance(kind, list) else []
    members += [one.get("type") for one in schema.get("anyOf") or () if isinstance(one, dict)]
    return "null" in members


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    """Return whether a plain `value` fits a plain `schema`; False for a schema with bounds, which are not checked."""
    kinds = schema.get("type")
    options = schema.get("enum")
    if options is not None:
        return value in options
    if schema.keys() & {*_BOUNDS, "multipleOf", "minLength", "maxLength"}:
        return False
    named = {str: ("string",), bool: ("boolean",), int: ("integer", "number"), float: ("number",)}.get(type(value), ())
    return any(kind in named for kind in (kinds if isinstance(kinds, list) else [kinds]))


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
    if whole and math.isfinite(lowest) and math.isfinite(highest):
        return math.ceil(lowest), math.floor(highest)
    return lowest, highest


def _int(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
