"""Grades an answer against a reference, for prompts that ask the model to judge.

A prompt asks for a judgement when it has a section headed "Reference:" (or a similar word) and a section headed
"Answer:". Words and numbers are compared, and denials; the meaning is not. Pure functions of a text; it imports
`extract`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from aimlasync.simulator.model.extract import name_parts

# A heading, then the text below it up to the next heading.
_PART = r"(?:^|\n)[ \t]*\W{{0,3}}(?:{})\W{{0,3}}:[ \t]*(.*?)(?=\n[ \t]*\W{{0,3}}[a-z][\w ]{{2,30}}\W{{0,3}}:|\Z)"
_REFERENCE = re.compile(
    _PART.format("reference(?: answer)?|expected(?: answer)?|gold|ground truth|source|fact"), re.IGNORECASE | re.DOTALL
)
_ANSWER = re.compile(
    _PART.format("(?:(?:candidate|model|given|student)(?:'s)? )?(?:answer|response|reply|output)"),
    re.IGNORECASE | re.DOTALL,
)
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NOT = _set("not no never cannot without isn doesn don won")
_EMPTY = _set(
    "a an and are as at be been by can do does for from has have if in is it its of on or that the their them there "
    "they this to up was we were which will with you your"
)
_GOOD = _set("correct right pass passed good yes true supported accurate faithful acceptable valid match agree")
_BAD = _set(
    "incorrect wrong fail failed bad no false unsupported inaccurate unfaithful unacceptable invalid mismatch disagree "
    "hallucinated hallucination"
)
_ENOUGH = 0.5
_MAX_PROMPT = 20_000


class Grade(msgspec.Struct, frozen=True):
    """How much of a reference an answer has."""

    shared: int
    """Number of words of the reference that the answer has."""
    words: int
    """Number of words of the reference."""
    contradicts: bool
    """Whether a number of the reference is missing, or only one of the two has a denial."""

    @property
    def score(self) -> float:
        """The grade, from 0 to 1."""
        return self.shared / self.words * (0.3 if self.contradicts else 1.0)

    @property
    def passes(self) -> bool:
        """Whether the grade is good enough."""
        return self.score >= _ENOUGH

    @property
    def reason(self) -> str:
        """The grade in one sentence."""
        found = f"The answer has {self.shared} of the {self.words} words of the reference"
        return f"{found}, but a number or a denial differs." if self.contradicts else f"{found}."


def grade(text: str) -> Grade | None:
    """Return the grade of the answer in `text` against the reference in it, None when one of them is missing."""
    text = text[:_MAX_PROMPT]
    # A text of one line cannot have two headings.
    reference = _REFERENCE.search(text) if "\n" in text else None
    answer = None if reference is None else _ANSWER.search(text)
    if reference is None or answer is None:
        return None
    wanted, given = _words(reference[1]), _words(answer[1])
    content = wanted - _EMPTY - _NOT
    if not content:
        return None
    numbers = {word for word in content if word[0].isdigit()}
    contradicts = not numbers <= given or bool(wanted & _NOT) != bool(given & _NOT)
    return Grade(len(content & given), len(content), contradicts)


def verdict(names: Sequence[str], text: str) -> str | None:
    """Return which of two opposite verdicts fits the answer in `text`.

    None when `names` has no two opposite verdicts, or `text` has no answer and reference.
    """
    good = [name for name in names if is_good(name)]
    bad = [name for name in names if is_bad(name)]
    if not good or not bad:
        return None
    found = grade(text)
    return None if found is None else (good if found.passes else bad)[0]


@lru_cache(maxsize=1024)
def is_good(name: str) -> bool:
    """Return whether a label or field of this name approves an answer."""
    return not _GOOD.isdisjoint(name_parts(name)) and not is_bad(name)


@lru_cache(maxsize=1024)
def is_bad(name: str) -> bool:
    """Return whether a label or field of this name rejects an answer."""
    words = name_parts(name)
    return not _BAD.isdisjoint(words) or ("not" in words and not _GOOD.isdisjoint(words))


def _words(text: str) -> frozenset[str]:
    return frozenset(word.rstrip("s") if len(word) > 3 else word for word in _WORD.findall(text.lower()))
