"""The words by which everyday texts tell their subject or mood.

Law: a table and its look-up. General words of a language only: nothing here may come from one particular text.
A word with ``*`` matches every word that begins so, a phrase matches word by word, and a word of another script than
Latin matches anywhere, because not every script sets words apart. ``:2`` makes an entry count double. Entries are in
lower case, Latin letters without accents.
"""

from __future__ import annotations

import re
from functools import lru_cache

from aimlasync.simulator.model.word_lists import NAMES, WORDS

WORD = re.compile(r"[^\W_]+")
_LAST_LATIN = "\u024f"
_ENTRY = re.compile(r"(.+?)(?::([\d.]+))?\Z")
_LONGEST = 14
_SHORTEST = 3

_exact: dict[str, list[tuple[str, float]]] = {}
_prefix: dict[str, list[tuple[str, float]]] = {}
# First word of a phrase -> its words.
_phrases: dict[str, list[tuple[list[str], str, float]]] = {}
_anywhere: list[tuple[str, str, float]] = []


def weigh(plain: str, words: list[str]) -> dict[str, float]:
    """Return the weight of each family in a folded text, given also as the words it consists of."""
    if not _exact:
        _index()
    found: dict[str, float] = {}

    def add(entries: list[tuple[str, float]]) -> None:
        for family, weight in entries:
            found[family] = found.get(family, 0.0) + weight

    for word in set(words):
        if word in _exact:
            add(_exact[word])
        for size in range(_SHORTEST, min(len(word), _LONGEST) + 1):
            if word[:size] in _prefix:
                add(_prefix[word[:size]])
    said: set[tuple[str, str]] = set()
    for at, word in enumerate(words):
        for phrase, family, weight in _phrases.get(word, ()):
            key = (family, " ".join(phrase))
            if key not in said and words[at : at + len(phrase)] == phrase:
                said.add(key)
                add([(family, weight)])
    for text, family, weight in _anywhere:
        if text in plain:
            add([(family, weight)])
    return found


@lru_cache(maxsize=1024)
def families(name: str) -> tuple[str, ...]:
    """Return the families that a folded label name stands for."""
    parts = {*WORD.findall(name), name}
    return tuple(family for family, names in NAMES.items() if parts & names)


def _index() -> None:
    for family, table in WORDS.items():
        for entry in table.replace("\n", " ").split(","):
            match = _ENTRY.match(entry.strip())
            assert match is not None, entry
            _index_entry(match[1], family, float(match[2] or 1))


def _index_entry(text: str, family: str, weight: float) -> None:
    words = WORD.findall(text)
    if text.endswith("*"):
        _prefix.setdefault(text[:-1], []).append((family, weight))
    elif not words or text[0] > _LAST_LATIN:
        _anywhere.append((text, family, weight))
    elif len(words) > 1:
        _phrases.setdefault(words[0], []).append((words, family, weight))
    else:
        _exact.setdefault(words[0], []).append((family, weight))
