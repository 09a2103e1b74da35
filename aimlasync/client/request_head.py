"""What a call adds to the requests of an endpoint: its id, its headers and its query.

The id is sent with every attempt of a call, so that the server's logs and ours can be matched. It may import `call` and
what lies below `client`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from aimlasync.client.call import Settings
from aimlasync.client.target import Target
from aimlasync.endpoints.paths import query_from, query_of
from aimlasync.headers import Headers
from aimlasync.info import Info, check_request_id

_CLIENT_REQUEST_ID = "X-Client-Request-Id"


class RequestIds:
    """The ids of one client's calls: a random prefix and a counter."""

    __slots__ = ("_numbers", "_prefix")

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._prefix = os.urandom(8).hex()

    def info(self, model: str, extra_headers: Mapping[str, str] | None) -> Info:
        """Return the facts of a new call, with the id that `extra_headers` give it, or a new one."""
        if extra_headers and _CLIENT_REQUEST_ID in extra_headers:
            return Info(model=model, request_id=check_request_id(extra_headers[_CLIENT_REQUEST_ID]))
        return Info(model=model, request_id=f"{self._prefix}-{next(self._numbers)}")


def headers_of(info: Info, settings: Settings, extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers that a call adds to its endpoint's; `extra` are checked, and all of them in one spelling."""
    if not extra and not settings.headers:
        return {_CLIENT_REQUEST_ID: info.request_id}
    return Headers({**settings.headers, **(extra or {}), _CLIENT_REQUEST_ID: info.request_id})


def address(
    targets: Sequence[Target], path: str | None, settings: Settings, query: Mapping[str, Any] | str | None
) -> None:
    """Give the targets a path of the call's own, below their base URLs, and the query of the client and the call.

    Raises UnsupportedRequestError for a query that cannot be sent.
    """
    if query is None or isinstance(query, Mapping):
        written = query_from({**settings.query, **(query or {})})
    else:
        written = "&".join(filter(None, (query_from(settings.query), query_of(query))))
    for target in targets:
        url = target.url if path is None else target.upstream.endpoint.url(path)
        target.url = f"{url}?{written}" if written else url
