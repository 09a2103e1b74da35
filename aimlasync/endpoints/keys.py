"""API keys: held so that they do not show, and checked before one is sent.

Only a `Secret` holds a key, and only the Authorization header reads it. It imports nothing of the library.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NoReturn, overload

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+\Z")

KeySource = Callable[[], "str | Awaitable[str]"]
"""A function, also an async one, that returns the key to send now: for keys that expire."""


class Secret:
    """An API key that does not show in repr, str, format or JSON, and cannot be pickled or copied."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key, for the header that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled or copied; make the endpoint where it is used, from the environment")


@overload
def clean_key(key: str | Secret | None, name: str = ...) -> Secret | None: ...
@overload
def clean_key(key: str | Secret | KeySource | None, name: str = ...) -> Secret | KeySource | None: ...


def clean_key(key: str | Secret | KeySource | None, name: str = "api_key") -> Secret | KeySource | None:
    """Strip a key. Raises ValueError, with where it is from and without showing it, for one that cannot be one."""
    if key is None or isinstance(key, Secret) or callable(key):
        return key
    if not isinstance(key, str):
        raise ValueError(f"api_key must be a str, or a function that returns one, not {type(key).__name__}")
    if not key.strip():
        return None
    if not _VISIBLE_ASCII.match(key.strip()):
        raise ValueError(f"{name} has a space, a control character or a letter outside ASCII in it; copy it again")
    if key.strip()[0] in "\"'":
        raise ValueError(f"{name} begins with a quote, which is no part of a key; take the quotes away")
    return Secret(key.strip())


def begins(key: Secret | KeySource, *beginnings: str) -> bool:
    """Whether it is known to begin with one of `beginnings`; what a function will return is not."""
    return isinstance(key, Secret) and key.reveal().startswith(beginnings)


def sent_key(key: str) -> str:
    """Return a key that a function of the caller's returned, stripped. Raises ValueError, without showing it."""
    clean = clean_key(key) if isinstance(key, str) else None
    if clean is None:
        said = "an empty text" if isinstance(key, str) else type(key).__name__
        raise ValueError(f"the function that is api_key must return a key as a str; it returned {said}")
    return clean.reveal()
