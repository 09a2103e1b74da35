"""Decodes JSON that a model wrote: 5.0 and 1e3 are integers where an integer is wanted, as JSON Schema says.

It has no I/O. It may import `wire.json_text`. Source: JSON Schema 2020-12, core, section 4.2.3.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from aimlasync.wire.json_text import cut_deep

TOO_DEEP = "JSON is nested too deep"

# Beyond it a float is not exact.
_EXACT = 2.0**53


class WholeNumbers:
    """A decoder of one type, like msgspec's, which refuses every number with a decimal point for an int."""

    __slots__ = ("_strict", "_type")

    def __init__(self, type: Any) -> None:
        self._type = type
        self._strict = msgspec.json.Decoder(type)

    def decode(self, text: str | bytes, /) -> Any:
        """Return the value. Raises msgspec.DecodeError for what is no JSON, its ValidationError for another type."""
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if cut_deep(raw) is not raw:
            # As a model writes it that repeats itself without end.
            raise msgspec.DecodeError(TOO_DEEP)
        try:
            return self._strict.decode(text)
        except msgspec.ValidationError as error:
            refused = error
        try:
            return msgspec.convert(_any(text), self._type, str_keys=True)
        except msgspec.ValidationError as error:
            # What is wrong besides.
            refused = error
        except msgspec.DecodeError:
            pass
        raise refused


def _number(text: str) -> int | float:
    value = float(text)
    if abs(value) <= _EXACT and value.is_integer():
        exact = Decimal(text)
        return int(exact) if exact == exact.to_integral_value() else value
    return value


_any = msgspec.json.Decoder(float_hook=_number).decode
