"""A request as the JSON bytes that are sent; what JSON or UTF-8 has no form for is mended, or refused in plain words.

It has no I/O. It may import `config`, `errors`, `info` and `wire.base`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from operator import is_
from typing import Any

import msgspec

from aimlasync.config import is_given
from aimlasync.errors import UnencodableRequestError
from aimlasync.info import Info
from aimlasync.wire.base import encode

# Parts of a request that lie deeper are left as they are.
_DEEPEST = 100


def encode_request(body: Mapping[str, Any]) -> bytes:
    """Return a request as JSON.

    Half a surrogate pair, with which texts end that were cut in the middle of a character, becomes U+FFFD, and both
    halves of a pair their character. NOT_GIVEN and `omit` of other SDKs are left out at any depth.

    Raises UnencodableRequestError for what JSON cannot carry: an object of an unknown type, a key that is no text or
    number, a value that contains itself; and for a parameter, or a value of one that is an object, that is nan or
    infinite, since it would go as null, which means that it was not given.
    """
    try:
        encoded = encode(body)
        if encoded.find(b"null") >= 0:
            _check_numbers(body)
        return encoded
    except (UnicodeEncodeError, RecursionError):
        pass
    except (TypeError, ValueError) as error:
        # A ValueError is of an integer of thousands of digits.
        given = _given(body, _DEEPEST)
        if given is body:
            raise _unencodable(_at(_place_of(body), error)) from None
        body = given
    _check_numbers(body)
    try:
        return encode(_sendable(msgspec.to_builtins(dict(body), enc_hook=_read_once), "the request"))
    except UnicodeEncodeError:
        why = "an object in it has half a surrogate pair"
    except RecursionError:
        why = "it contains itself, or is nested too deep"
    except TypeError as error:
        raise _unencodable(_at(_place_of(body), error)) from None
    raise _unencodable(f"the request cannot be sent as JSON: {why}")


def _check_numbers(body: Mapping[str, Any]) -> None:
    for name, value in body.items():
        if _is_no_number(value):
            raise _unencodable(f"{name} is {value}, and JSON has no such number")
        if isinstance(value, dict):
            for key, part in value.items():
                if _is_no_number(part):
                    raise _unencodable(f"{key!r} of {name} is {part}, and JSON has no such number")


def _is_no_number(value: Any) -> bool:
    if not isinstance(value, float) and getattr(value, "shape", None) == ():
        # Not all numbers of numpy are floats of Python.
        value = value.item()
    return isinstance(value, float) and not isfinite(value)


def _given(value: Any, levels: int) -> Any:
    """Return a value without the parts that other SDKs leave out; itself where there are none."""
    kept: Any = value
    if isinstance(value, dict) and levels:
        kept = {name: _given(part, levels - 1) for name, part in value.items() if is_given(part)}
        same = len(kept) == len(value) and all(map(is_, kept.values(), value.values()))
    elif isinstance(value, (list, tuple)) and levels:
        kept = [_given(part, levels - 1) for part in value if is_given(part)]
        same = len(kept) == len(value) and all(map(is_, kept, value))
    else:
        same = True
    return value if same else kept


def _unencodable(why: str) -> UnencodableRequestError:
    return UnencodableRequestError(why, status=400, code="unencodable_request", info=Info(), billed=False)


def _place_of(value: Any, place: str = "") -> str:
    """Return where the first part is that JSON has no form for, such as tools[0].function; "" for the whole."""
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        parts = ((f"{place}.{name}" if place else str(name), part) for name, part in value.items())
    elif isinstance(value, (list, tuple)):
        parts = ((f"{place}[{number}]", part) for number, part in enumerate(value))
    for inside, part in parts:
        try:
            encode(part)
        except (UnicodeEncodeError, RecursionError):
            # That has a form, or is told in words of its own.
            continue
        except (TypeError, ValueError):
            return _place_of(part, inside)
    return place


def _at(place: str, error: Exception) -> str:
    return f"{place}: {error}" if place else str(error)


def _read_once(value: Any) -> Any:
    if isinstance(value, Iterator):
        # The first attempt has read it.
        raise TypeError(f"a {type(value).__name__} can be read only once, and the request cannot be sent as it is")
    return dict(value) if isinstance(value, Mapping) else msgspec.json.decode(encode(value))


def _sendable(value: Any, place: str) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        for key in value:
            if isinstance(key, tuple):
                raise TypeError(f"{place} has the key {key!r}, a tuple: keys of JSON are texts")
        return {_sendable(key, place): _sendable(item, f"{place}, {key!r}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sendable(item, place) for item in value]
    return value


def _text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
