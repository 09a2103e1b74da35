"""Counts the tokens of a text as one for every four bytes of UTF-8.

Real tokenizers count differently; the simulator needs only that equal texts have equal counts in every run. Pure
functions without imports from the package.
"""

from __future__ import annotations

import re

_PIECE = re.compile(r"\s*\S{1,16}|\s+")
_BYTES_PER_TOKEN = 4


def count(text: str) -> int:
    """Return the number of tokens of `text`."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return (size + _BYTES_PER_TOKEN - 1) // _BYTES_PER_TOKEN


def cut(text: str, tokens: int) -> str:
    """Return the longest prefix of `text` that has no more than `tokens`."""
    return text.encode("utf-8", "surrogatepass")[: tokens * _BYTES_PER_TOKEN].decode("utf-8", "ignore")


def pieces(text: str) -> list[str]:
    """Split `text` into the deltas of a stream: words, and parts of long words; joined they are `text` again."""
    return _PIECE.findall(text)
