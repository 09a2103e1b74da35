"""The head of a request: what all requests of a kind share is checked and put together once.

It may import `headers`, and the type of the pool's `Origin`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from yarl import URL

from aimlasync.headers import check_target, joined, sendable

if TYPE_CHECKING:
    from aimlasync.transport.connection_pool import Origin

# Names of callers' headers that are remembered as harmless.
_MAX_NAMES = 64


class Route:
    """What all requests with one method, URL and set of endpoint's headers have in common."""

    __slots__ = ("_apart", "_beginning", "_method", "_names", "_prefix", "_shared", "_start", "headers", "origin")

    def __init__(self, method: str, url: URL, headers: Mapping[str, str], origin: Origin) -> None:
        check_target(method, url.raw_path_qs)
        self.headers = headers
        self.origin = origin
        self._method = method
        self._start = f"{method} {url.raw_path_qs} HTTP/1.1\r\n"
        # Host stands among the endpoint's headers, so that one of a call replaces it like any other.
        host = {} if any(name.lower() == "host" for name in headers) else {"Host": url.host_port_subcomponent or ""}
        self._shared = sendable({**host, **headers})
        self._names = {name.lower() for name in self._shared}
        # Names that calls bring: checked, and not among the endpoint's.
        self._apart: set[str] = set()
        self._prefix = self._start + _lines(self._shared)
        self._beginning = self._prefix.encode()

    def head(self, own: Mapping[str, str], body: bytes | None) -> bytes:
        """Return the request up to its body."""
        try:
            apart, lines = self._apart, ""
            for name, value in own.items():
                # A name that was checked, and a value without a control character.
                if name not in apart or not value.isascii() or not value.isprintable():
                    return self._head(own, body)
                lines = f"{lines}{name}: {value}\r\n"
            if body is not None:
                return self._beginning + f"{lines}Content-Length: {len(body)}\r\n\r\n".encode()
        except AttributeError:
            # A value that is no str.
            pass
        return self._head(own, body)

    def _head(self, own: Mapping[str, str], body: bytes | None) -> bytes:
        own = sendable(own)
        if self._names.isdisjoint(map(str.lower, own)):
            lines = self._prefix + _lines(own)
            if len(self._apart) < _MAX_NAMES:
                self._apart.update(own)
        else:
            lines = self._start + _lines(joined(self._shared, own))
        if body is not None:
            lines += f"Content-Length: {len(body)}\r\n"
        elif self._method not in ("GET", "HEAD", "DELETE", "OPTIONS"):
            lines += "Content-Length: 0\r\n"
        return f"{lines}\r\n".encode()


def _lines(headers: Mapping[str, str]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
