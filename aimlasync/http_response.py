"""The HTTP side of an answer or an error, in the shape of an httpx.Response, for code written for AsyncOpenAI.

Made when it is asked for. It has no I/O, and may import `headers`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from aimlasync.headers import Fields


class HttpResponse:
    """Status, headers and body of a response; names of headers in any case."""

    def __init__(
        self,
        status: int | None,
        headers: Mapping[str, str],
        content: bytes | None = None,
        *,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.status_code = status or 0
        """The HTTP status, 0 where no response came."""
        self.headers = headers if isinstance(headers, Fields) else Fields.of(headers)
        self._content = content
        self._close = close

    async def aclose(self) -> None:
        """Close the stream that this is the response of; harmless where the body is here."""
        if self._close is not None:
            await self._close()

    @property
    def content(self) -> bytes:
        """The body's bytes. Raises TypeError for a stream, whose body is read by iterating it."""
        if self._content is None:
            raise TypeError("the body is read by iterating the stream")
        return self._content

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the decoded body. Raises msgspec.DecodeError for a body that is no JSON."""
        return msgspec.json.decode(self.content)

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status_code < 300

    @property
    def is_error(self) -> bool:
        """Whether the status is 4xx or 5xx."""
        return self.status_code >= 400

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status_code}>"


class ErrorBody(dict[str, Any]):
    """A body of an error, whole; what it lacks is looked up in its `error` object, which is AsyncOpenAI's `body`."""

    def __missing__(self, name: str) -> Any:
        return self._inner[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a member of the body or of its `error` object."""
        if name not in self:
            return default
        return self[name]

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or name in self._inner

    @property
    def _inner(self) -> Mapping[str, Any]:
        inner = dict.get(self, "error")
        return inner if isinstance(inner, Mapping) else {}
