"""Finds what a text has for a field of a given name: a city, an order number, a date, a sum to calculate.

The patterns go by the words of the field's name, such as "city" or "email"; nothing here is written for a particular
schema. Pure functions without imports from the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

_CAPITALISED = r"[A-Z]\w+(?:[ -][A-Z]\w+)*"
_BETWEEN = r"(?:\s*,\s*(?:and\s+|or\s+)?|\s+(?:and|or)\s+)"
_PLACES = re.compile(rf"\b(?:in|for|at|to|near|from)\s+({_CAPITALISED}(?:{_BETWEEN}{_CAPITALISED})*)")
_PLACE = frozenset(("city", "location", "place", "country", "region", "destination", "town"))
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_SUM = frozenset(("expression", "formula", "calculation", "equation"))
_QUOTED = re.compile(r"[\"“]([^\"”“]{1,200})[\"”]")
_NUMBERED = re.compile(r"(?<=\d)\W{0,2}([^\W\d]+)|\b([^\W\d]{1,40})(?=\W{0,2}\d)")
# The start of a text shows what it asks for; reading more would only cost time.
_MAX_TEXT = 4000
# Words of a field's name -> the pattern of its value; all patterns that apply are tried in this order.
_PATTERNS: tuple[tuple[frozenset[str], re.Pattern[str]], ...] = (
    (frozenset(("email", "mail")), re.compile(r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+")),
    (frozenset(("url", "link", "website")), re.compile(r"https?://[^\s\"'<>]*[^\s\"'<>.,;:!?)]")),
    (frozenset(("date", "day", "when")), re.compile(r"\b\d{4}-\d\d-\d\d\b")),
    (_SUM, re.compile(r"(?<!\w)[(-]{0,8}\d[\d.]*(?:\s*[-+*/%^()]+\s*\(*\d[\d.]*\)*)+")),
    (frozenset(("currency",)), re.compile(r"\b[A-Z]{3}\b")),
    (
        frozenset(("id", "number", "code", "order", "invoice", "ticket", "sku", "reference", "tracking")),
        re.compile(r"(?<![\w.-])(?=[\w-]*\d)[A-Z][\w-]*\w|(?<=#)\w+|(?<![\w.-])\d+\b"),
    ),
    (
        frozenset(("name", "person", "customer", "user", "author", "recipient", "who")),
        re.compile(rf"(?<=[a-z,] ){_CAPITALISED}"),
    ),
)


@lru_cache(maxsize=1024)
def name_parts(name: str) -> tuple[str, ...]:
    """Return the words of a name in snake or camel case, in lower case."""
    return tuple(part.lower() for part in _PART.findall(name))


@lru_cache(maxsize=1024)
def _patterns(name: str) -> tuple[re.Pattern[str], ...]:
    words = set(name_parts(name))
    return tuple(pattern for kind, pattern in _PATTERNS if kind & words)


def is_place(name: str) -> bool:
    """Return whether a field of this name holds a place."""
    return name.lower() in _PLACE


def is_sum(name: str) -> bool:
    """Return whether a field of this name holds a sum to calculate."""
    return not _SUM.isdisjoint(name_parts(name))


def candidates(name: str, text: str) -> Iterator[str]:
    """Iterate the values that `text` has for a string field of this name, the most likely first."""
    text = text[:_MAX_TEXT]
    if is_place(name):
        listed = _PLACES.search(text)
        if listed:
            yield from re.split(_BETWEEN, listed[1])
        return
    yield from matches(name, text)
    for quoted in _QUOTED.finditer(text):
        yield quoted[1]


def matches(name: str, text: str) -> Iterator[str]:
    """Iterate what looks in `text` like the value of a field of this name."""
    for pattern in _patterns(name):
        yield from (match[0] for match in pattern.finditer(text[:_MAX_TEXT]))


def has_number_for(name: str, text: str) -> bool:
    """Return whether `text` has a number next to a word of this name."""
    near = {word for pair in _NUMBERED.findall(text[:_MAX_TEXT].lower()) for word in pair if word}
    return any(part in near or f"{part}s" in near or part.rstrip("s") in near for part in name_parts(name))


def text_per_place(text: str) -> list[str]:
    """Return `text` once for each place in its list of places, with that place in the list's stead."""
    listed = _PLACES.search(text[:_MAX_TEXT])
    if listed is None:
        return [text]
    before, after = text[: listed.start(1)], text[listed.end(1) :]
    return [f"{before}{place}{after}" for place in dict.fromkeys(re.split(_BETWEEN, listed[1]))]
