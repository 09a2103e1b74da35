"""Paths from a caller's text: what is sent stays below the base URL, however a server or proxy reads it.

Pure. A path is refused, or quoted, before it is joined to a base URL. Imports `errors` and `info`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode

from aimlasync.errors import UnsupportedRequestError
from aimlasync.info import Info

# How often a proxy and the servers behind it may unquote a path.
_ROUNDS = 4
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[/\\]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_QUERY = re.compile(r"[!-~]*\Z")
# Of RFC 3986's path, and the percent sign of what is quoted already.
_PATH = "/%:@!$&'()*+,;=~"


def refused(why: str) -> UnsupportedRequestError:
    """Return the error of a request that is not sent."""
    return UnsupportedRequestError(why, status=400, code="unsupported_request", info=Info(), billed=False)


def path_below(path: str) -> str:
    """Return a path below a base URL as it is sent; parts that are quoted already stay so, one slash before it is taken
    off.

    Raises UnsupportedRequestError for one that might lead elsewhere, or that has a query in it.
    """
    if not isinstance(path, str):
        raise refused(f"a path is a str, not {type(path).__name__}")
    path = path[1:] if path[:1] == "/" else path
    _check(path, "the path")
    if "?" in path or "#" in path:
        raise refused("the path has a query or a fragment in it; a query goes into query=, without the ?")
    return quote(path, safe=_PATH)


def query_of(query: str) -> str:
    """Return a query as it is sent. Raises UnsupportedRequestError for one that is not quoted."""
    if not isinstance(query, str) or not _QUERY.match(query) or "#" in query:
        raise refused("the query has a character that must be quoted; urllib.parse.urlencode does that")
    return query


def id_in_path(value: str, what: str) -> str:
    """Return an id quoted as a part of a path; slashes stay as they are. Raises UnsupportedRequestError."""
    if not isinstance(value, str) or not value:
        raise refused(f"{what} is a text that is not empty, not {value if value == '' else type(value).__name__!r}")
    _check(value, what)
    return quote(value, safe="/:")


def query_from(filters: Mapping[str, Any]) -> str:
    """Return filters as a query. Raises UnsupportedRequestError for half a surrogate pair."""
    try:
        return urlencode(filters, safe=",/")
    except UnicodeEncodeError:
        pass
    raise refused("a filter has half a surrogate pair in it")


def _check(path: str, what: str) -> None:
    """Refuse what is no path below anything, also behind quotes that somebody on the way may take off."""
    for _ in range(_ROUNDS):
        if _CONTROL.search(path):
            raise refused(f"{what} has a control character or half a surrogate pair in it")
        if _SCHEME.match(path):
            raise refused(f"{what} is a whole URL; give what stands below the base URL")
        parts = path.replace("\\", "/").split("/")
        # What stands behind a semicolon is a parameter to some servers: "..;x" is "..".
        if any(part.partition(";")[0].strip() in (".", "..") for part in parts):
            raise refused(f"{what} has . or .. in it; give what stands below the base URL")
        if parts[0] == "" and len(parts) > 1:
            raise refused(f"{what} begins with a slash too many; give what stands below the base URL")
        if (read := unquote(path, errors="replace")) == path:
            return
        path = read
    raise refused(f"{what} is quoted over and over")
