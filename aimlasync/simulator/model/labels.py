"""Chooses the label that a text belongs to, by the words of the text.

A label's score is the sum of three parts: the weight of the words of its families in the text, whether the text has the
label's own name, and the words by which the prompt describes the label. The prompt's list of labels is removed from the
text first, because it names every label. Among equal scores a hash of the text decides, so the answer is the same in
every run. Pure functions; nothing here is written for a particular text. It may import `words` and `grading`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

from aimlasync.simulator.model import grading
from aimlasync.simulator.model.words import WORD, families_of, family_weights

# "Route to: support / billing / sales.", "one of: a, b or c"
_LISTED = re.compile(
    r"(?:(?:route\s+to|one\s+of|classify\s+(?:\w+\s+){0,4}(?:as|into))\s*:?|(?:labels?|categories|classes|options|teams)\s*:)\s*"
    r"((?:[\"'`*\[]*[\w-]+(?: [\w-]+)?[\"'`*\]]*\s*(?:/|,|\||\bor\b|\band\b)\s*(?:or\s+|and\s+)?)+"
    r"[\"'`*]*[\w-]+[\"'`*]*)",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"\s*(?:/|,|\||\bor\b|\band\b)\s*(?:(?:or|and)\s+)?", re.IGNORECASE)
_MARKER = re.compile(
    r"(?:^|[\n.?!:;])\s*(input|text|ticket|message|review|comment|e-?mail|customer|user|question)\s*:\s*", re.IGNORECASE
)
# Names of labels for texts that no other label fits.
_REST = frozenset(("other", "others", "none", "unknown", "general", "misc", "else", "neutral", "unclear"))
# Words of a yes-or-no question that say nothing about its subject.
_QUESTION_WORDS = frozenset(
    WORD.findall("is are has have was does needs need should whether if the a an of this that text it")
)
# The start of a text shows its subject; reading more would only cost time.
_MAX_TEXT = 4000
_MAX_PROMPT = 20_000
# What the label's own name, and each word of its description, adds to its score.
_NAME_WEIGHT = 3
_DESCRIPTION_WEIGHT = 1
# Letters that do not decompose into a plain letter and an accent.
_PLAIN = str.maketrans({"ł": "l", "\u0131": "i", "ø": "o", "æ": "ae", "đ": "d", "œ": "oe"})


def routed_label(instructions: str, text: str) -> str | None:
    """Return the label for a prompt such as "Route to: a / b / c. Input: ...", None for any other prompt."""
    listed = _LISTED.search(text) or _LISTED.search(instructions)
    if listed is None:
        return None
    names = [name.strip("\"'`*[] ") for name in _SEPARATOR.split(listed[1])]
    names = [name for name in dict.fromkeys(names) if name]
    if len(names) < 2 or (listed.string is text and _MARKER.search(text) is None):
        return None
    return choose(names, text, hints=instructions)


def choose(names: Sequence[str], text: str, *, hints: str = "", seed: int = 0) -> str:
    """Return the one of `names` that fits `text` best; `hints` may describe them in lines such as "name: words".

    Two opposite verdicts, such as "correct" and "incorrect", are decided by `grading`.
    """
    verdict = grading.verdict(names, text)
    if verdict is not None:
        return verdict
    scores = score(names, text, hints=hints)
    best = max(scores)
    if best == 0:
        rest = [name for name in names if _words(name) & _REST] or [
            name for name in names if "support" in families_of(fold(name))
        ]
        if rest:
            return rest[0]
    equal = [name for name, value in zip(names, scores, strict=True) if value == best]
    return equal[(crc32(text.encode("utf-8", "surrogatepass")) + seed) % len(equal)] if len(equal) > 1 else equal[0]


def score(names: Sequence[str], text: str, *, hints: str = "") -> list[float]:
    """Return a score for how well each of `names` fits `text`; 0 means not at all."""
    plain = fold(_subject(text, names)[:_MAX_TEXT])
    words = WORD.findall(plain)
    present = set(words)
    weights = family_weights(plain, words)
    stems = {stem(word) for word in words}
    own = [_is_named(name, stems) for name in names]
    if all(own):
        # A text that has all names favours none of them.
        own = [False] * len(names)
    described = _described(tuple(names), hints) if hints else [frozenset[str]()] * len(names)
    return [
        sum(weights.get(family, 0.0) for family in families_of(fold(name)))
        + _NAME_WEIGHT * named
        + _DESCRIPTION_WEIGHT * len(about & present)
        for name, named, about in zip(names, own, described, strict=True)
    ]


def fold(text: str) -> str:
    """Return `text` in lower case, without accents on Latin letters, and composed (NFC) in other scripts."""
    if text.isascii():
        return text.lower()
    lowered = text.casefold().replace("\u0307", "").translate(_PLAIN)
    parts = unicodedata.normalize("NFKD", lowered)
    kept = []
    latin = False
    for letter in parts:
        if unicodedata.combining(letter) and latin:
            continue
        latin = letter < "\u0250"
        kept.append(letter)
    return unicodedata.normalize("NFC", "".join(kept))


def _subject(text: str, names: Sequence[str]) -> str:
    """Return the part of the prompt that is to be labelled: after the last "Input:", or without the list of labels."""
    listed = _LISTED.search(text)
    if listed is not None:
        markers = list(_MARKER.finditer(text, listed.end()))
        if markers:
            return text[[m for m in markers if m[1].lower() == markers[0][1].lower()][-1].end() :]
    any_name = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if name)
    run = rf"(?:[\W_]{{0,5}}\b(?:(?:or|and)\W)?(?:{any_name})\b){{{max(2, len(names))},}}"
    return re.sub(run, " ", text[:_MAX_PROMPT], flags=re.IGNORECASE) if any_name else text


def _is_named(name: str, stems: set[str]) -> bool:
    own = _words(name)
    return bool(own) and all(stem(word) in stems for word in own)


@lru_cache(maxsize=1024)
def _words(name: str) -> frozenset[str]:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return frozenset(WORD.findall(fold(spaced)))


def stem(word: str) -> str:
    """Return `word` without the endings of English inflection."""
    for ending in ("ing", "ers", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word.rstrip("e")


@lru_cache(maxsize=256)
def _described(names: tuple[str, ...], hints: str) -> list[frozenset[str]]:
    """Return the words by which `hints` describes each name, as in "billing: invoices, refunds" or "- sales = quotes".

    Words that describe every name are left out.
    """
    any_name = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    about: list[frozenset[str]] = []
    for name in names:
        found: set[str] = set()
        pattern = (
            rf"(?<!\w){re.escape(name)}[\"'`*]*\s*(?::|=|\(|\u2013|\u2014| - )\s*"
            rf"(.+?)(?=(?<!\w)(?:{any_name})[\"'`*]*\s*[:=(]|[\n;)]|$)"
        )
        for match in re.finditer(pattern, hints, re.IGNORECASE | re.MULTILINE):
            found |= {word for word in WORD.findall(fold(match[1])) if len(word) >= 4}
        about.append(frozenset(found))
    common = frozenset.intersection(*about) if about else frozenset()
    return [words - common for words in about]


def applies(about: str, text: str) -> bool:
    """Return whether `text` has the subject that a yes-or-no question is `about`."""
    plain = fold(text[:_MAX_TEXT])
    words = WORD.findall(plain)
    weights = family_weights(plain, words)
    asked = _words(about) - _QUESTION_WORDS
    if any(weights.get(family, 0.0) for word in asked for family in families_of(word)):
        return True
    stems = {stem(word) for word in words}
    return any(stem(word) in stems for word in asked if len(word) > 2)
