"""The simulator: an HTTP server on loopback that behaves like the AI/ML API, ByteSpike, or an OpenAI-compatible server.

Law: owns the socket and the options, routes requests, checks keys; what happens to one request is in `exchange`.
It runs inside the caller's event loop and binds to loopback unless told otherwise. It needs no key, costs nothing and
calls nobody.
"""

from __future__ import annotations

import asyncio
import re
import time
import weakref
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from random import Random
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web

from aimlasync.simulator import faults, lookups
from aimlasync.simulator.exchange import Exchange
from aimlasync.simulator.faults import Fault
from aimlasync.simulator.latency import Latency
from aimlasync.simulator.ledger import Attempt, Ledger
from aimlasync.simulator.limits import Admission
from aimlasync.simulator.model import scripts
from aimlasync.simulator.model.answers import Answer
from aimlasync.simulator.model.scripts import Script
from aimlasync.simulator.vendor import request as asked
from aimlasync.simulator.vendor.request import SimRequest
from aimlasync.simulator.vendor.stored import Stored
from aimlasync.simulator.vendor.vendors import VENDORS, Problem, VendorName
from aimlasync.simulator.wire import http

MAX_BODY = 64 * 1024 * 1024

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
_METHODS = {"chat": "POST", "responses": "POST"}


class Simulator:
    """A vendor on loopback.

    Use it as an async context manager, or `start` and `close` it. `base_url` goes into the client under test; `ledger`
    tells afterwards what it did.

    `vendor` chooses paths, bodies, headers, errors and the table of models. With `validate` unknown models and refused
    parameters get the vendor's error ("openai" accepts any model). `keys` are the keys that are accepted, None accepts
    any. `requests_per_minute` and `tokens_per_minute` hold in every 60 seconds, `concurrency` at every moment; passing
    one gets a 429, with Retry-After as the vendor does it, computed ("auto"), of a fixed number of seconds, or never
    (None). `balance_usd` is spent by answers. `answer` may return the answer to a request, or None for the usual one,
    or raise `Problem` for an error. `clock` times the limits and the ledger.

    `script` has the model's turns of a conversation in order, the last one repeated: an `Answer`, a `Call`, a text, or
    a `Problem`. A mapping has several by name; a request chooses by header `X-Script`, `metadata.script`, or its model,
    and gets the usual answers when it names none. The turn is told from the assistant's messages in the request.
    """

    def __init__(
        self,
        *,
        vendor: VendorName = "aimlapi",
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        latency: Latency | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        concurrency: int | None = None,
        retry_after: Literal["vendor", "auto"] | float | None = "vendor",
        balance_usd: float | None = None,
        keys: Collection[str] | None = None,
        faults: Sequence[Fault] = (),
        answer: Callable[[SimRequest], Answer | str | None] | None = None,
        script: Script | Mapping[str, Script] = (),
        validate: bool = True,
        keep_bodies: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if vendor not in VENDORS:
            raise ValueError(f"unknown vendor {vendor!r}; known: {', '.join(VENDORS)}")
        self.vendor = VENDORS[vendor]
        self.seed = seed
        self.latency = latency or Latency()
        self.faults = list(faults)
        self.keys = None if keys is None else frozenset(keys)
        self.retry_after = (
            ("auto" if self.vendor.sends_retry_after else None) if retry_after == "vendor" else retry_after
        )
        self.ledger = Ledger()
        self.random = Random(seed)
        """Decides ids, faults and latency."""
        self.clock = clock or time.monotonic
        self.admission = Admission(
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrency=concurrency,
            balance_usd=balance_usd,
            clock=self.clock,
        )
        self.is_closing = False
        self.stored = Stored()
        """Responses that requests may continue."""
        self._answer = answer
        self._script = scripts.checked(script) if script else ()
        self._validate = validate
        self._keep_bodies = keep_bodies
        self._host = host
        self._port = port
        # What listens and the connections it made; None while not started.
        self._listening: asyncio.Server | None = None
        self._server: web.Server | None = None
        # Authorization header -> digest of its key, "" when it is not accepted.
        self._digests: dict[str, str] = {}
        # Connections that die when the next request comes (fault close_idle).
        self._doomed: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    @property
    def url(self) -> str:
        """Root of the server."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def base_url(self) -> str:
        """Base URL for clients."""
        return f"{self.url}/v1"

    async def start(self) -> None:
        """Begin to listen; does nothing when started already."""
        if self._listening is not None:
            return
        self.is_closing = False
        self._server = web.Server(
            self._handle,
            request_factory=_make_request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=3600.0,
        )
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._server, self._host, self._port, backlog=4096)
        self._port = self._listening.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and cut what is open; does nothing when closed already."""
        listening, server = self._listening, self._server
        if listening is None or server is None:
            return
        self._listening = self._server = None
        self.is_closing = True
        listening.close()
        for connection in server.connections:
            transport = connection.transport
            if transport is not None:
                transport.abort()
        await server.shutdown(1.0)
        await listening.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = self.url if self._listening is not None else "closed"
        return (
            f"<Simulator of {self.vendor.name}, {state}, {self.admission.in_flight} in flight, {len(self.ledger)} seen>"
        )

    def new_id(self) -> str:
        """Return 22 characters that no other id has."""
        return urlsafe_b64encode(self.random.randbytes(16))[:22].decode()

    def choose_fault(self, request: SimRequest) -> Fault | None:
        """Return the fault that happens to `request`, or None."""
        return faults.choose(self.faults, request, self.random) if self.faults else None

    def draw_latency(self) -> tuple[float, float]:
        """Return the seconds to the first token and per token after it."""
        return self.latency.draw(self.random)

    def close_when_idle(self, request: web.BaseRequest, delay: float) -> None:
        """Close a connection without a word: after `delay` seconds, or at its next request."""
        transport = request.transport
        if transport is not None:
            if delay:
                asyncio.get_running_loop().call_later(delay, transport.close)
            else:
                self._doomed.add(transport)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        if transport is not None and self._doomed and transport in self._doomed:
            transport.close()
            return http.CLOSED
        path = request.path
        api = self.vendor.paths.get(path) or lookups.api_of(self.vendor, path)
        headers = request.headers
        oversized = (request.content_length or 0) > MAX_BODY
        if headers.get("Expect", "").lower() == "100-continue" and not oversized:
            http.proceed(request)
        raw = b""
        try:
            if request.can_read_body and not oversized:
                raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            oversized = True
        client_id = headers.get("X-Client-Request-Id")
        attempt = Attempt(
            number=0,
            time=self.clock(),
            path=path,
            api=api,
            client_request_id=client_id if client_id is not None and _REQUEST_ID.match(client_id) else None,
            custom_id=headers.get("X-Custom-Id"),
        )
        self.ledger.add(attempt)
        exchange = Exchange(self, request, attempt)
        try:
            try:
                if oversized:
                    raise Problem(413)
                return await self._route(exchange, attempt, request, raw)
            except Problem as problem:
                return exchange.refuse(problem)
        except (asyncio.CancelledError, ConnectionError) as error:
            attempt.finished = False
            attempt.disconnected = not self.is_closing
            if isinstance(error, ConnectionError):
                return http.CLOSED
            raise

    async def _route(
        self, exchange: Exchange, attempt: Attempt, request: web.BaseRequest, raw: bytes
    ) -> web.StreamResponse:
        api, headers = attempt.api, request.headers
        if not api:
            missing = f"Cannot {request.method} {attempt.path}" if self.vendor.name == "aimlapi" else None
            raise Problem(404, missing)
        if request.method != _METHODS.get(api, "GET"):
            raise Problem(405)
        if api != "health" and not (self.vendor.open_catalogue and api in ("models", "model")):
            attempt.key_digest = self._check_key(headers.get("Authorization", ""))
        if api in ("chat", "responses"):
            return await self._infer(exchange, attempt, raw, headers)
        return await lookups.answer(self, exchange, attempt, request)

    async def _infer(self, exchange: Exchange, attempt: Attempt, raw: bytes, headers: Any) -> web.StreamResponse:
        read = asked.read(
            raw,
            vendor=self.vendor,
            api=attempt.api,
            path=attempt.path,
            headers=headers,
            validate=self._validate,
            stored=self.stored,
            also=self._script if isinstance(self._script, Mapping) else (),
        )
        read.number = attempt.number
        attempt.model = read.model
        attempt.stream = read.stream
        attempt.text_digest = read.digest
        metadata = read.body.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("custom_id"), str):
            attempt.custom_id = metadata["custom_id"]
        if self._keep_bodies:
            attempt.body = read.body
        attempt.turn, attempt.results = read.turn, len(read.results)
        scripted = self._answer(read) if self._answer is not None else None
        if scripted is None and self._script:
            attempt.script = scripts.named(self._script, read)
            scripted = scripts.turn(self._script, attempt.script, read.turn)
        return await exchange.answer(read, scripted)

    def _check_key(self, authorization: str) -> str:
        """Return a digest of the key that was sent.

        Raises Problem(401) when there is none or it is not accepted.
        """
        digest = self._digests.get(authorization)
        if digest is None:
            scheme, _, key = authorization.partition(" ")
            key = key.strip()
            accepted = scheme.lower() == "bearer" and key and (self.keys is None or key in self.keys)
            digest = sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:12] if accepted else ""
            if len(self._digests) < 10_000:
                self._digests[authorization] = digest
        if not digest:
            raise Problem(401)
        return digest


def _make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)
