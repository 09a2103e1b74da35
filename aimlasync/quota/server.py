"""A shared quota for the processes of one machine, without Redis: one process runs the place, the others connect to it.

This file has the sockets and frames; the arithmetic is in `quota.account` and `quota.purse`. The server listens on
loopback, and its address holds a secret: pass it to child processes by the environment, and to no other process. It may
import `cost.prices` and the other files of this package.

    async with LeaseServer() as server:                                # one process
        environment["LEASES"] = server.address
    quota = ServedQuota(os.environ["LEASES"])                          # the others
    endpoint = Endpoint.aimlapi(limits=Limits(requests_per_minute=600), quota=quota)

A frame is a length of four bytes and a MessagePack array: [number, kind, body]. An answer has the number of its request
and the kind ""; a request with number 0 gets no answer. A program that embeds this file may send frames of its own
kinds. An invalid frame, or one with values out of bounds, ends the connection and changes nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self, TypeVar

import msgspec

from aimlasync.cost.prices import Price
from aimlasync.event_loop import stop_listening
from aimlasync.quota.account import Account
from aimlasync.quota.fallback import Fallback, check_share
from aimlasync.quota.protocol import Ask, Draw, Drawn, Lease, QuotaDownError
from aimlasync.quota.purse import Purse
from aimlasync.quota.shared_budget import SharedBudget

T = TypeVar("T")

_MAX_FRAME = 16 * 2**20
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw]).decode

Hear = Callable[[str, bytes], Any]
"""Handles a frame: gets its kind and its body as MessagePack, and returns the body of the answer."""


class Link:
    """One connection, seen from either side: `hear` handles the frames that arrive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hear: Hear) -> None:
        self._reader = reader
        self._writer = writer
        self._hear = hear
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._closed = False

    def send(self, kind: str, body: Any = None, number: int = 0) -> None:
        """Send a frame; with number 0 it gets no answer. Does nothing after the connection has ended."""
        if self._closed:
            return
        frame = _encode((number, kind, body))
        self._writer.write(len(frame).to_bytes(4) + frame)

    async def ask(self, kind: str, body: Any) -> bytes:
        """Send a request and return the body of its answer. Raises QuotaDownError when the connection ends first."""
        if self._closed:
            raise _gone()
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self.send(kind, body, number)
            return bytes(await answer)
        finally:
            del self._waiting[number]

    async def listen(self) -> None:
        """Handle frames until the connection ends. Raises what `hear` raises."""
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(4))
                if size > _MAX_FRAME:
                    return
                number, kind, body = _decode(await self._reader.readexactly(size))
                if kind:
                    answer = self._hear(kind, bytes(body))
                    if number:
                        self.send("", answer, number)
                elif (waiting := self._waiting.get(number)) is not None and not waiting.done():
                    waiting.set_result(bytes(body))
        except (OSError, asyncio.IncompleteReadError, msgspec.DecodeError):
            return
        finally:
            self.close()

    def close(self) -> None:
        """End the connection; requests that wait for an answer raise QuotaDownError."""
        self._closed = True
        self._writer.close()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_gone())


class LeaseServer:
    """The shared place of one account, for other processes of this machine.

    `hear` is called with (link, kind, body) for frames of the caller's own kinds, and `gone` with each link that ended.
    """

    def __init__(
        self,
        *,
        hear: Callable[[Link, str, bytes], Any] | None = None,
        gone: Callable[[Link], object] | None = None,
    ) -> None:
        self._own = hear
        self._gone = gone
        self._secret = secrets.token_hex(16)
        self._purses: dict[str, Purse] = {}
        self._account: Account | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """The address for `ServedQuota`; a process that knows it can spend the quota."""
        assert self._server is not None, "the server was not started"
        return f"{self._server.sockets[0].getsockname()[1]}:{self._secret}"

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        # The address is new, so no worker knows an earlier epoch, and there is none to wait for.
        now = asyncio.get_running_loop().time()
        self._account = Account(secrets.token_hex(6), now, opens=now)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        """Stop and close all connections."""
        if self._server is not None:
            await stop_listening(self._server)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<LeaseServer for {len(self._tasks)}>"

    def draw(self, draw: Draw) -> int:
        """Draw from a purse, in the process of the server; return the units granted."""
        return self._draw(draw).granted

    def _draw(self, draw: Draw) -> Drawn:
        return self._purses.setdefault(draw.purse, Purse()).draw(draw, 0.0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Here, so that a task that is cancelled before it began leaves no connection open.
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        with suppress(OSError, asyncio.IncompleteReadError):
            said = await reader.readexactly(len(self._secret))
        if not secrets.compare_digest(said, self._secret.encode()):
            return
        link: Link

        def hear(kind: str, body: bytes) -> Any:
            if kind == "lease":
                assert self._account is not None
                return self._account.lease(msgspec.msgpack.decode(body, type=Ask), asyncio.get_running_loop().time())
            if kind == "draw":
                return self._draw(msgspec.msgpack.decode(body, type=Draw))
            return None if self._own is None else self._own(link, kind, body)

        link = Link(reader, writer, hear)
        try:
            await link.listen()
        finally:
            if self._gone is not None:
                self._gone(link)


class ServedQuota:
    """The quota of the `LeaseServer` at `address`; one per event loop.

    While the server does not answer, calls wait. With `share=N` they go on at 1/N of the limits, for N processes that
    share them, and a server that does not answer within `timeout` seconds counts as down. `hear` is called with
    (kind, body) of the frames that the server sends by itself, and with kind "" when the connection has ended.
    Raises ValueError for an invalid address or share.
    """

    def __init__(
        self, address: str, *, share: float | None = None, timeout: float = 2.0, hear: Hear | None = None
    ) -> None:
        port, _, secret = address.partition(":")
        if not (port.isdecimal() and int(port) < 2**16 and secret):
            raise ValueError("address must be the `address` of a LeaseServer")
        check_share(share)
        self._port = int(port)
        self._secret = secret
        self._hear: Hear = hear or _ignore
        self._timeout = None if share is None else timeout
        self._link: Link | None = None
        self._listening: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._fallback = Fallback(
            self._lease, "the process that leases the shared quota", share=share, raises=share is None
        )

    def budget(
        self, usd: float, *, prices: Mapping[str, Price] | None = None, purse: str = "usd", **options: Any
    ) -> SharedBudget:
        """Return a budget of `usd` dollars for all processes together, for `AsyncClient(budget=...)`."""
        return SharedBudget(usd, quota=self, prices=prices, purse=purse, **options)

    async def lease(self, ask: Ask) -> Lease:
        """Ask the server for a lease. Without `share`, raises QuotaDownError while the server is down."""
        return await self._fallback.lease(ask)

    async def draw(self, draw: Draw) -> int:
        """Ask the server for units of a budget. Raises QuotaDownError."""
        return (await self._ask("draw", draw, Drawn)).granted

    async def connect(self) -> Link:
        """Return the connection, after connecting if there is none. Raises QuotaDownError."""
        async with self._connecting:
            if self._link is None:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                except OSError:
                    raise QuotaDownError("the process that leases the shared quota does not answer") from None
                writer.write(self._secret.encode())
                link = self._link = Link(reader, writer, self._hear)
                self._listening = asyncio.get_running_loop().create_task(self._listen(link), name="aimlasync leases")
            return self._link

    async def close(self) -> None:
        """Close the connection; harmless more than once."""
        self._fallback.close()
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<ServedQuota {'open' if self._link is not None else 'closed'}>"

    async def _lease(self, ask: Ask) -> Lease:
        return await self._ask("lease", ask, Lease)

    async def _ask(self, kind: str, question: Ask | Draw, answer: type[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                said = await (await self.connect()).ask(kind, question)
            return msgspec.msgpack.decode(said, type=answer)
        except (TimeoutError, msgspec.DecodeError) as error:
            raise QuotaDownError(type(error).__name__) from None

    async def _listen(self, link: Link) -> None:
        try:
            await link.listen()
            self._hear("", b"")
        finally:
            self._link = None


def _gone() -> QuotaDownError:
    return QuotaDownError("the process that leases the shared quota is gone")


def _ignore(kind: str, body: bytes) -> None:
    return None
