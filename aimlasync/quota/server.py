"""One account's limits and budget, shared by the processes of one machine, without Redis: one process leases to all.

Law: knows sockets and frames; the arithmetic is `account`'s. Loopback only, and only for those who know the address,
which holds a secret: give it to children by the environment, and to nobody else.

    async with LeaseServer() as server:                                # one process
        environment["LEASES"] = server.address
    quota = ServedQuota(os.environ["LEASES"])                          # the others
    endpoint = Endpoint.aimlapi(limits=Limits(requests_per_minute=600), quota=quota)

Frames are a length of four bytes and MessagePack: [number, kind, body]. An answer has the number of its question and
kind ""; number 0 wants none. Whoever embeds this may send kinds of its own. A frame that is none, or whose values are
out of bounds, ends the connection and changes nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from aimlasync.cost.prices import Price
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
"""What is done with a frame of a kind, its body given as MessagePack; what it returns is the answer."""


class Link:
    """One connection, either way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hear: Hear) -> None:
        self._reader = reader
        self._writer = writer
        self._hear = hear
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._closed = False

    def send(self, kind: str, body: Any = None, number: int = 0) -> None:
        """Send what wants no answer; harmless when nobody is there any more."""
        if self._closed:
            return
        frame = _encode((number, kind, body))
        self._writer.write(len(frame).to_bytes(4) + frame)

    async def ask(self, kind: str, body: Any) -> bytes:
        """Send, and return the answer. Raises QuotaDownError when the connection ends before it."""
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
        """Hear until the other side is gone; raises what the hearing does."""
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
        """End; who waits for an answer gets an error."""
        self._closed = True
        self._writer.close()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_gone())


class LeaseServer:
    """Leases one account's limits and budget to other processes of this machine.

    `hear` is given (link, kind, body) for kinds of its own, and `gone` each link that ended.
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
        """What `ServedQuota` takes; who knows it may spend the quota."""
        assert self._server is not None, "it has not begun"
        return f"{self._server.sockets[0].getsockname()[1]}:{self._secret}"

    async def start(self) -> None:
        """Begin to lease."""
        # Its address is new: nobody knew another life of it.
        now = asyncio.get_running_loop().time()
        self._account = Account(secrets.token_hex(6), now, opens=now)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        """Stop; who asks from now on waits."""
        if self._server is not None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<LeaseServer for {len(self._tasks)}>"

    def draw(self, draw: Draw) -> int:
        """Draw from a purse in the same process."""
        return self._draw(draw).granted

    def _draw(self, draw: Draw) -> Drawn:
        return self._purses.setdefault(draw.purse, Purse()).draw(draw, 0.0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        with suppress(OSError, asyncio.IncompleteReadError):
            said = await reader.readexactly(len(self._secret))
        if not secrets.compare_digest(said, self._secret.encode()):
            writer.close()
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
    """The quota that the process at `address` leases; one per event loop.

    While that process does not answer, calls wait; with `share=N` they go on at a Nth of the limits, for N processes
    that share them, and a process that does not answer within `timeout` seconds is taken to be gone. Raises ValueError
    for an address or a share that is none. `hear` is given (kind, body) of what that process sends of its own, and
    kind "" when it is gone.
    """

    def __init__(
        self, address: str, *, share: float | None = None, timeout: float = 2.0, hear: Hear | None = None
    ) -> None:
        port, _, secret = address.partition(":")
        if not (port.isdecimal() and int(port) < 2**16 and secret):
            raise ValueError("not the address of a LeaseServer")
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
        """Return a budget of `usd` dollars for all processes together: give it to `AsyncClient(budget=...)`."""
        return SharedBudget(usd, quota=self, prices=prices, purse=purse, **options)

    async def lease(self, ask: Ask) -> Lease:
        """Ask the other process. Raises QuotaDownError, without `share`."""
        return await self._fallback.lease(ask)

    async def draw(self, draw: Draw) -> int:
        """Ask the other process."""
        return (await self._ask("draw", draw, Drawn)).granted

    async def connect(self) -> Link:
        """Return the connection, made anew if it must be. Raises QuotaDownError."""
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
