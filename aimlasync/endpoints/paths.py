"""Paths and queries that callers give: checked and quoted, so that the URL stays below the base URL.

A proxy and the server behind it may each unquote a path, so a path is checked as it is and as it reads after unquoting.
Functions from text to text, without I/O. It may import `errors` and `info`. Source of the quoting: RFC 3986.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any
from urllib.parse import quote, unquote, urlencode

from aimlasync.errors import UnsupportedRequestError
from aimlasync.info import Info

# How many times a proxy and the servers behind it may unquote a path.
_ROUNDS = 4
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[/\\]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SEPARATOR = re.compile("[;?#]")
_QUERY = re.compile(r"[!-~]*\Z")
# Characters of a path that are not quoted (RFC 3986), and the percent sign of what is quoted already.
_PATH = "/%:@!$&'()*+,;=~"


def refused(why: str) -> UnsupportedRequestError:
    """Return the error of a request that this library refuses to send."""
    return UnsupportedRequestError(why, status=400, code="unsupported_request", info=Info(), billed=False)


def path_below(path: str) -> str:
    """Return a path below a base URL, quoted; what is quoted already stays so, and one leading slash is removed.

    Raises UnsupportedRequestError for a path that could lead out of the base URL, or that contains a query.
    """
    if not isinstance(path, str):
        raise refused(f"a path must be a str, not {type(path).__name__}")
    path = path[1:] if path[:1] == "/" else path
    _check(path, "the path")
    if "?" in path or "#" in path:
        raise refused("the path has a query or a fragment in it; a query goes into query=, without the ?")
    return quote(path, safe=_PATH)


def query_of(query: str) -> str:
    """Return `query` unchanged. Raises UnsupportedRequestError for a query that is not quoted."""
    if not isinstance(query, str) or not _QUERY.match(query) or "#" in query:
        raise refused("the query has a character that must be quoted; urllib.parse.urlencode does that")
    return query


def id_in_path(value: str, what: str) -> str:
    """Return an id, quoted as a part of a path; its slashes stay. Raises UnsupportedRequestError."""
    if not isinstance(value, str) or not value:
        raise refused(f"{what} must be a str that is not empty, not {value if value == '' else type(value).__name__!r}")
    _check(value, what)
    return quote(value, safe="/:")


def segment_of(value: str, what: str) -> str:
    """Return an id, quoted as one segment of a path. Raises UnsupportedRequestError for one that is no segment."""
    quoted = id_in_path(value, what)
    read = value
    for _ in range(_ROUNDS):
        if "/" in read or "\\" in read:
            raise refused(f"{what} has a slash in it, so that it would name another path")
        read = unquote(read, errors="replace")
    return quoted


def query_from(parameters: Mapping[str, Any]) -> str:
    """Return parameters as a quoted query, with the spelling of AsyncOpenAI: `a[]=` for lists, `a[b]=` for mappings.

    None is left out. Raises UnsupportedRequestError for half a surrogate pair.
    """
    try:
        return urlencode([pair for name, value in parameters.items() for pair in _pairs(name, value)], safe=",/[]")
    except UnicodeEncodeError:
        pass
    raise refused("a query parameter has half a surrogate pair in it")


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _pairs(f"{name}[{key}]", inner)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from _pairs(f"{name}[]", inner)
    elif isinstance(value, Enum):
        yield from _pairs(name, value.value)
    elif value is not None:
        yield name, str(value).lower() if isinstance(value, bool) else str(value)


def _check(path: str, what: str) -> None:
    """Raise for a path that leads out of the base URL, now or after it is unquoted on its way."""
    for _ in range(_ROUNDS):
        if _CONTROL.search(path):
            raise refused(f"{what} has a control character or half a surrogate pair in it")
        if _SCHEME.match(path):
            raise refused(f"{what} is a whole URL; give the part below the base URL")
        parts = path.replace("\\", "/").split("/")
        # Some servers read the text after a semicolon as a parameter, and a question mark or number sign that was
        # quoted as the beginning of a query or fragment: "..;x" and "..?x" are "..".
        if any(_SEPARATOR.split(part, 1)[0].strip() in (".", "..") for part in parts):
            raise refused(f"{what} has . or .. in it; give the part below the base URL")
        if parts[0] == "" and len(parts) > 1:
            raise refused(f"{what} begins with two slashes; give the part below the base URL")
        if (read := unquote(path, errors="replace")) == path:
            return
        path = read
    raise refused(f"{what} is quoted more than {_ROUNDS - 1} times")
