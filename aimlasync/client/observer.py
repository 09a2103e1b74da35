"""What may watch a client's calls: told of their beginning, their stumbles, their pieces and their end.

Law: says what an observer is, and nothing of what it does. A watch is told, never asked: nothing that it does changes
a call, but for the headers that it may add at the beginning. Where nobody watches, a call costs one look at its
beginning, one at its end, and a stream one with every read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from aimlasync.errors import AimlasyncError
from aimlasync.info import Info
from aimlasync.wire.base import Reply

if TYPE_CHECKING:
    from aimlasync.endpoints.endpoint import Endpoint
    from aimlasync.endpoints.providers import Api


class Watch(Protocol):
    """Watches one call."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Sent with the call."""

    def stumbled(self, error: AimlasyncError, endpoint: str) -> None:
        """Note that an attempt failed, whether or not another one follows."""

    def arrived(self, pieces: int) -> None:
        """Note that a read brought that many pieces of a stream."""

    def answered(self, reply: Reply) -> None:
        """Note the end: the answer is whole. Only the first of all ends counts."""

    def failed(self, error: BaseException | None) -> None:
        """Note the end: there is no answer, or only a part of one; None where a reader left its stream."""


class Observer(Protocol):
    """Watches all calls of a client."""

    def began(self, api: Api, body: Mapping[str, Any], info: Info, endpoints: Sequence[Endpoint]) -> Watch:
        """Return what watches a call that begins now and may go to any of `endpoints`; `info` grows with the call."""
