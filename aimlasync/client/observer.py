"""The protocols of an observer of calls: it is told when a call begins and ends, an attempt fails, or events arrive.

`opentelemetry` implements them. An observer cannot change a call, except for the headers that it may add when the call
begins: what it raises is logged. A client without an observer pays for one check when a call begins, one when it ends,
and one for each read of a stream. It may import `errors`, `info`, `logs` and `wire.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from aimlasync.errors import AimlasyncError
from aimlasync.info import Info
from aimlasync.logs import log_of
from aimlasync.wire.base import Reply

if TYPE_CHECKING:
    from aimlasync.endpoints.endpoint import Endpoint
    from aimlasync.endpoints.providers import Api

_log = log_of("aimlasync.observer")


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


class Watching:
    """A `Watch` of one call that raises nothing, whatever the one of the observer does."""

    __slots__ = ("_watch", "headers")

    def __init__(self, begin: Callable[[], Watch]) -> None:
        self.headers: Mapping[str, str] = {}
        self._watch: Watch | None = None
        try:
            watch = begin()
            self.headers = dict(watch.headers)
            # Who has not begun is told of nothing.
            self._watch = watch
        except Exception:  # noqa: BLE001  # what observes a call is no part of it
            _log_failure()

    def stumbled(self, error: AimlasyncError, endpoint: str) -> None:
        if self._watch is not None:
            _tell(self._watch.stumbled, error, endpoint)

    def arrived(self, pieces: int) -> None:
        if self._watch is not None:
            _tell(self._watch.arrived, pieces)

    def answered(self, reply: Reply) -> None:
        if self._watch is not None:
            _tell(self._watch.answered, reply)

    def failed(self, error: BaseException | None) -> None:
        if self._watch is not None:
            _tell(self._watch.failed, error)


def _tell(method: Callable[..., None], *told: object) -> None:
    try:
        method(*told)
    except Exception:  # noqa: BLE001  # what observes a call is no part of it
        _log_failure()


def _log_failure() -> None:
    _log.exception("an observer failed; the call goes on")
