"""Tells the subject and the mood of a text by the words that it uses.

The words are in `word_lists.toml`, which also explains the format of its entries; the file is read when the first text
is weighed. They form families, such as "billing" or "positive", and a label name stands for one or more of them.
Pure functions otherwise; no import from the package.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from importlib.resources import files

WORD = re.compile(r"[^\W_]+")
_LAST_LATIN = "\u024f"
_ENTRY = re.compile(r"(.+?)(?::([\d.]+))?\Z")
_LONGEST_PREFIX = 14
_SHORTEST_PREFIX = 3


class _Lexicon:
    """The entries of the word lists, indexed by how they match; an entry adds a weight to a family."""

    def __init__(self) -> None:
        text = files("aimlasync.simulator.model").joinpath("word_lists.toml").read_text(encoding="utf-8")
        tables: dict[str, dict[str, str]] = tomllib.loads(text)
        self.labels = {family: frozenset(names.split()) for family, names in tables["labels"].items()}
        self.words: dict[str, list[tuple[str, float]]] = {}
        self.prefixes: dict[str, list[tuple[str, float]]] = {}
        # First word of a phrase -> the words of the phrase.
        self.phrases: dict[str, list[tuple[list[str], str, float]]] = {}
        # Texts that match also within a word.
        self.substrings: list[tuple[str, str, float]] = []
        for family, entries in tables["entries"].items():
            for entry in entries.replace("\n", " ").split(","):
                match = _ENTRY.match(entry.strip())
                assert match is not None, entry
                self._add(match[1], family, float(match[2] or 1))

    def _add(self, text: str, family: str, weight: float) -> None:
        words = WORD.findall(text)
        if text.endswith("*"):
            self.prefixes.setdefault(text[:-1], []).append((family, weight))
        elif not words or text[0] > _LAST_LATIN:
            self.substrings.append((text, family, weight))
        elif len(words) > 1:
            self.phrases.setdefault(words[0], []).append((words, family, weight))
        else:
            self.words.setdefault(words[0], []).append((family, weight))


_lexicon = cache(_Lexicon)


def family_weights(plain: str, words: list[str]) -> dict[str, float]:
    """Return the weight of each family in a folded text, which is given also as the list of its words."""
    lexicon = _lexicon()
    weights: dict[str, float] = {}

    def add(entries: list[tuple[str, float]]) -> None:
        for family, weight in entries:
            weights[family] = weights.get(family, 0.0) + weight

    for word in set(words):
        if word in lexicon.words:
            add(lexicon.words[word])
        for size in range(_SHORTEST_PREFIX, min(len(word), _LONGEST_PREFIX) + 1):
            if word[:size] in lexicon.prefixes:
                add(lexicon.prefixes[word[:size]])
    # A phrase counts once, however often it occurs, as a word does.
    counted: set[tuple[str, str]] = set()
    for position, word in enumerate(words):
        for phrase, family, weight in lexicon.phrases.get(word, ()):
            key = (family, " ".join(phrase))
            if key not in counted and words[position : position + len(phrase)] == phrase:
                counted.add(key)
                add([(family, weight)])
    for text, family, weight in lexicon.substrings:
        if text in plain:
            add([(family, weight)])
    return weights


@lru_cache(maxsize=1024)
def families_of(name: str) -> tuple[str, ...]:
    """Return the families that a folded label name stands for."""
    parts = {*WORD.findall(name), name}
    return tuple(family for family, names in _lexicon().labels.items() if parts & names)
