"""Cassettes: what servers really answered, recorded into a file and played from it without a network.

While a cassette is in use, it stands before the transport of every client (`Pipeline.enter`): of chat, responses,
everything else that a client asks, and of the SDK's classes over it. The file is `cassette_file`'s. It may import the
client.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Literal, Self, get_args

from aimlasync.client.another_key import SharedTransport
from aimlasync.client.pipeline import Pipeline
from aimlasync.errors import AimlasyncError, APIConnectionError
from aimlasync.headers import Fields
from aimlasync.testing import cassette_file
from aimlasync.testing.cassette_file import HIDDEN, PARTS, Exchange, Reply, Request
from aimlasync.transport.base import MAX_BODY, RawReply, ReadBody, Transport, gathered
from aimlasync.wire.redaction import Secrets

Mode = Literal["once", "none", "new", "all"]
"""Record when there is no file; never send; send what is not recorded, too; record all anew."""

_MOST_LINES = 80
_WIDEST = 200


class UnrecordedRequestError(AssertionError):
    """A request is not in the cassette, or was made more often than it is there; it says which one is nearest."""


class Cassette:
    """A file of recorded exchanges, in use inside of `with`; see `aimlasync.testing.cassette`."""

    def __init__(
        self, path: str | os.PathLike[str], *, mode: Mode, match: Collection[str], hide: Collection[str]
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
        # One name is a collection of names, too, and not one of letters.
        match, hide = ((given,) if isinstance(given, str) else given for given in (match, hide))
        if unknown := sorted(set(match) - set(PARTS)):
            raise ValueError(f"match may name {', '.join(PARTS)}, not {unknown[0]!r}")
        self.path = os.fspath(path)
        self.mode: Mode = mode
        self.played = 0
        """Requests that were answered from the file."""
        self.recorded = 0
        """Requests that were sent."""
        self._match = [part for part in PARTS if part in match]
        self._hidden = frozenset((*HIDDEN, *(name.lower() for name in hide)))
        self._exchanges: list[Exchange] = []
        # So many of them are the file's, which was then in this state.
        self._known = 0
        self._seen: cassette_file.State = None
        # Those that were played already, by their number.
        self._used: set[int] = set()
        # Responses of this recording.
        self._open: list[_Recorded] = []
        self._may_send = mode != "none"

    def __repr__(self) -> str:
        return f"<Cassette {self.path} {self.mode}: {self.played} played, {self.recorded} recorded>"

    def __enter__(self) -> Self:
        if self in _in_use:
            raise RuntimeError(f"{self.path}: this cassette is in use already; make another")
        cassette_file.check_place(self.path)
        # Before it is read.
        self._seen = cassette_file.state_of(self.path)
        # Each use begins at the beginning of the file.
        self._exchanges, self._open, self.played, self.recorded = [], [], 0, 0
        self._used.clear()
        self._may_send = self.mode != "none"
        if self.mode != "all":
            try:
                self._exchanges = cassette_file.read(self.path)
            except FileNotFoundError:
                if self.mode == "none":
                    said = f"{self.path}: there is no such cassette, and mode='none' records none"
                    raise FileNotFoundError(said) from None
            else:
                self._may_send = self.mode == "new"
        self._known = len(self._exchanges)
        # Both would record what any client asks.
        place = os.path.realpath(self.path)
        if self._may_send and any(tape._may_send and os.path.realpath(tape.path) == place for tape in _in_use):
            raise RuntimeError(f"{self.path}: another cassette records into this file already; use that one")
        # Where some are recorded, perhaps none is added.
        if self._may_send and not self._exchanges:
            cassette_file.check_writable(self.path)
        if not _in_use:
            Pipeline.enter = _enter  # type: ignore[method-assign, assignment]
        _in_use.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _in_use.remove(self)
        if not _in_use:
            Pipeline.enter = _enter_without  # type: ignore[method-assign]
        for recorded in self._open:
            recorded.write()
        if self.recorded:
            known, own = self._exchanges[: self._known], self._exchanges[self._known :]
            cassette_file.write(self.path, known, own, self._seen)

    async def send(
        self,
        method: str,
        url: str,
        headers: tuple[Mapping[str, str], Mapping[str, str]],
        body: bytes | None,
        secrets: Secrets,
        live: Callable[[], Awaitable[RawReply]],
    ) -> RawReply:
        """Return the recorded response to a request, or that of `live()`, which is recorded."""
        for each in headers:
            secrets = secrets.with_headers(each)
        secrets = secrets.with_values(cassette_file.secrets_of(url, headers, body, self._hidden))
        request = cassette_file.request_of(method, url, body, secrets)
        found = self._take(request)
        if found is not None:
            self.played += 1
            return _played(found.response)
        if not self._may_send:
            raise UnrecordedRequestError(self._nearest(request))
        self.recorded += 1
        # Said until a response comes: its caller may leave before, and will again.
        exchange = Exchange(request, Reply(error="its caller left"))
        number = len(self._exchanges)
        self._exchanges.append(exchange)
        self._used.add(number)
        try:
            reply = await live()
        except AimlasyncError as failed:
            exchange.response.error = str(secrets.without(failed.message))
            raise
        exchange.response.error = None
        recorded = _Recorded(reply, exchange.response, secrets, self._hidden)
        self._open.append(recorded)
        return recorded

    def _take(self, request: Request) -> Exchange | None:
        """Return the first exchange of an equal request that was not played yet."""
        for number, exchange in enumerate(self._exchanges):
            if number not in self._used and self._is_same(request, exchange.request):
                self._used.add(number)
                return exchange
        return None

    def _is_same(self, one: Request, other: Request) -> bool:
        return all(cassette_file.part_of(one, part) == cassette_file.part_of(other, part) for part in self._match)

    def _nearest(self, request: Request) -> str:
        said = f"{self.path}: {request.method} {request.url} is not in the cassette"
        how = "record it with mode 'new' (pytest --aimlasync-cassettes new), or all anew with 'all'"
        same = sum(self._is_same(request, exchange.request) for exchange in self._exchanges)
        if same:
            return f"{said} once more: it is there {same} times, and all were played; {how}"
        if not self._exchanges:
            return f"{said}, which is empty; {how}"
        asked = _lines(request)

        def likeness(exchange: Exchange) -> float:
            return difflib.SequenceMatcher(None, _lines(exchange.request), asked).ratio()

        nearest = max(self._exchanges, key=likeness)
        diff = list(
            difflib.unified_diff(_lines(nearest.request), asked, "nearest in the cassette", "asked for", lineterm="")
        )
        cut = ["..."] if len(diff) > _MOST_LINES else []
        return "\n".join([f"{said}; {how}", *(line[:_WIDEST] for line in diff[:_MOST_LINES]), *cut])


# The cassettes in use, in the order in which their use began: the last one is asked first. Any of them may end first.
_in_use: list[Cassette] = []
_enter_without = Pipeline.enter


def _enter(pipeline: Pipeline) -> tuple[asyncio.AbstractEventLoop, Transport]:
    loop, transport = _enter_without(pipeline)
    # A shared transport sends through the pipeline of another client, which the cassettes stand before as well.
    if not isinstance(transport, SharedTransport):
        for tape in _in_use:
            transport = _Taped(tape, transport, pipeline.balancer.upstreams[0].secrets)
    return loop, transport


class _Taped:
    """A transport with a cassette before it."""

    def __init__(self, tape: Cassette, transport: Transport, secrets: Secrets) -> None:
        self._tape = tape
        self._transport = transport
        self._secrets = secrets

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        own: Mapping[str, str],
        body: bytes | None,
        *,
        connect: float | None,
        fresh: bool = False,
    ) -> Awaitable[RawReply]:
        """Send a request, or play its recorded response."""
        live = partial(self._transport.send, method, url, headers, own, body, connect=connect, fresh=fresh)
        return self._tape.send(method, url, (headers, own), body, self._secrets, live)

    async def close(self) -> None:
        """Close the transport."""
        await self._transport.close()


def _lines(request: Request) -> list[str]:
    body = json.dumps(request.body, indent=2, sort_keys=True, ensure_ascii=False)
    return [f"{request.method} {request.url}", *body.splitlines()]


class _Recorded:
    """A response that is recorded while it is read."""

    def __init__(self, reply: RawReply, into: Reply, secrets: Secrets, hidden: frozenset[str]) -> None:
        self.status = into.status = reply.status
        self.headers = reply.headers
        into.headers = cassette_file.headers_of(reply.headers, secrets, hidden)
        self._reply = reply
        self._into = into
        self._secrets = secrets
        self._pieces: list[bytes] = []
        # Until the end is seen.
        into.broken = "its reader left"

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        """Return the whole body."""
        return await gathered(self, max_bytes)

    async def read_some(self) -> bytes:
        """Return what has arrived."""
        try:
            piece = await self._reply.read_some()
        except AimlasyncError as error:
            self._into.broken = str(self._secrets.without(error.message))
            raise
        self._pieces.append(piece)
        if not piece:
            self._into.broken = None
        return piece

    def abort(self) -> None:
        """Drop the connection."""
        self._reply.abort()

    def finish(self) -> None:
        """Note the end of the answer, and give the connection back."""
        self._into.broken = None
        self._reply.finish()

    def write(self) -> None:
        """Write what came into the exchange."""
        body = self._secrets.cut_from(b"".join(self._pieces))
        if "event-stream" in self._into.headers.get("content-type", ""):
            self._into.events = cassette_file.events_of(body, is_whole=self._into.broken is None)
        else:
            self._into.body = cassette_file.value_of(body)


def _played(reply: Reply) -> RawReply:
    """Return a recorded response. Raises APIConnectionError where there was none."""
    if reply.error is not None:
        raise APIConnectionError(reply.error)
    if reply.events is None:
        pieces = [cassette_file.bytes_of(reply.body)]
    else:
        pieces = [cassette_file.bytes_of_event(event) for event in reply.events]
    return _Played(reply, pieces)


class _Played(ReadBody):
    """A response out of a cassette; a stream comes event by event."""

    def __init__(self, reply: Reply, pieces: list[bytes]) -> None:
        super().__init__(reply.status, Fields.of(reply.headers), b"")
        self._pieces = iter([piece for piece in pieces if piece])
        self._broken = reply.broken

    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        return await gathered(self, max_bytes)

    async def read_some(self) -> bytes:
        await asyncio.sleep(0)
        piece = next(self._pieces, b"")
        if not piece and self._broken is not None:
            raise APIConnectionError(f"as it was recorded: {self._broken}")
        return piece
