"""The simulator's idea of a token: about four bytes of UTF-8, the same in every run.

Law: pure functions. Real tokenizers differ; what matters here is that equal text costs equal tokens.
"""

from __future__ import annotations

import re

_PIECE = re.compile(r"\s*\S{1,16}|\s+")
_BYTES = 4


def count(text: str) -> int:
    """Return the tokens of `text`; 0 for none."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return (size + _BYTES - 1) // _BYTES


def cut(text: str, tokens: int) -> str:
    """Return the longest start of `text` that costs no more than `tokens`."""
    return text.encode("utf-8", "surrogatepass")[: tokens * _BYTES].decode("utf-8", "ignore")


def pieces(text: str) -> list[str]:
    """Split `text` as a stream would: by words, long ones in parts; joined they are `text` again."""
    return _PIECE.findall(text)
