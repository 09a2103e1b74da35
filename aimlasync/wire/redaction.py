"""Redaction: which keys no error may show, since servers, gateways and proxies are known to echo what they were sent.

`key_search` finds them; it is loaded, and prepared, with the first error. It has no I/O. It may import `headers` and
`key_search`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aimlasync.headers import secrets_in

if TYPE_CHECKING:
    from aimlasync.wire.key_search import KeySearch


class Secrets:
    """The keys that no error may show.

    `named` are names of headers, in lower case, whose values count as keys besides the names that look like it.
    """

    __slots__ = ("_search", "_values", "named")

    def __init__(self, values: Iterable[str] = (), *, named: frozenset[str] = frozenset()) -> None:
        self._values = frozenset(filter(None, values))
        self.named = named
        # Prepared at the first error.
        self._search: KeySearch | None = None

    def __repr__(self) -> str:
        return f"<{len(self._values)} secrets>"

    def __bool__(self) -> bool:
        return bool(self._values)

    def with_headers(self, headers: Mapping[str, str]) -> Secrets:
        """Return these keys and those in `headers`."""
        more = secrets_in(headers, self.named)
        return self if self._values.issuperset(more) else Secrets([*self._values, *more], named=self.named)

    def with_values(self, values: Iterable[str]) -> Secrets:
        """Return these keys and `values`."""
        return (
            self if self._values.issuperset(more := set(values)) else Secrets([*self._values, *more], named=self.named)
        )

    def cut_from(self, data: bytes) -> bytes:
        """Return `data` with a mark in place of each key; `data` itself where there is none."""
        return self._prepared().cut_from(data)

    def without(self, value: Any) -> Any:
        """Return `value` without keys, in texts, bytes and containers of them; `value` itself where there is none.

        Structs are changed in place.
        """
        return self._prepared().without(value)

    def redact(self, error: BaseException) -> None:
        """Cut the keys out of all attributes of `error`: message, body, code, raw bytes, partial answer, headers."""
        kept = {**vars(error), "args": error.args}
        if (clean := self.without(kept)) is not kept:
            for name, value in clean.items():
                setattr(error, name, value)

    def _prepared(self) -> KeySearch:
        if self._search is None:
            from aimlasync.wire.key_search import KeySearch

            self._search = KeySearch(self._values)
        return self._search
