"""The simulator: an HTTP server on loopback that behaves like the AI/ML API, ByteSpike, or an OpenAI-compatible server.

It owns the socket, routes requests and checks keys; what happens to one request is in `exchange`, and what all
requests share is in `state`. It runs on the caller's event loop and listens on loopback by default. It needs no key and
opens no connection. It may import everything of the simulator but `thread`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b, sha256
from typing import Any, Literal, Self

import msgspec
from aiohttp import web

from aimlasync.config import Limits, Mode
from aimlasync.event_loop import stop_listening
from aimlasync.simulator import lookups
from aimlasync.simulator.exchange import Exchange
from aimlasync.simulator.faults import Fault
from aimlasync.simulator.latency import Latency
from aimlasync.simulator.ledger import Attempt, Ledger
from aimlasync.simulator.limits import Admission
from aimlasync.simulator.model import scripts
from aimlasync.simulator.model.scripts import Script, Turn
from aimlasync.simulator.state import State
from aimlasync.simulator.vendor.reading import read_request
from aimlasync.simulator.vendor.request import SimRequest
from aimlasync.simulator.vendor.vendors import VENDORS, Problem, Vendor, VendorName
from aimlasync.simulator.wire import http
from aimlasync.spelling import spelled
from aimlasync.structured.modes import MODES

MAX_BODY = 64 * 1024 * 1024

# Conversations that a script's problems are remembered for.
_MAX_CONVERSATIONS = 10_000

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
_METHODS = {"chat": ("POST",), "responses": ("POST",), **lookups.METHODS}


class Simulator:
    """A vendor on loopback.

    Use it as an async context manager, or call `start` and `close`. `base_url` goes into the client under test;
    `ledger` has an entry for each request. `faults` may be changed while the simulator runs.

    `vendor` selects paths, bodies, headers, errors and the table of models. With `validate` unknown models and refused
    parameters get the vendor's error ("openai" accepts any model). `keys` are the accepted keys, None accepts any.
    `requests_per_minute` and `tokens_per_minute` hold in every window of 60 seconds, `concurrency` at every moment; a
    request beyond one of them gets a 429. `model_limits` has limits of single models, which hold besides those of the
    account. `retry_after` sets its Retry-After header: as the vendor does it, computed ("auto"), a fixed number of
    seconds, or none (None). `balance_usd` is what answers may cost together. `answer` may return the answer to a
    request as a script has it, return None for the usual one, or raise `Problem` for an error. `seed` selects ids,
    latencies, faults and equal answers. `clock` times the limits and the ledger. `keep_bodies` keeps the decoded
    request bodies in the ledger.

    `script` has the model's turns of a conversation in order, the last one repeated: an `Answer`, a `Call` or a text.
    A `Problem` before one of them is given once to each conversation, so that a retry gets what follows. A mapping has
    several scripts by name; a request names one by header `X-Script`, `metadata.script`, or its model, and gets the
    usual answers when it names none. The number of the turn is the number of assistant turns in the request.

    `structured` is the surest way to a structured answer that its models have: "json_schema", "tool", "json_object" or
    "text"; they refuse those above it. A schema in the prompt is filled in; without `json_object` among words.

    Raises ValueError for an unknown vendor or an empty script, TypeError for a script that is no list of turns, or a
    latency that is none.
    """

    key = "sk-simulator-0000"
    """A key for who has none: no word of an answer, since an answer that echoes the key is not kept in a store."""

    @spelled
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
        model_limits: Mapping[str, Limits] | None = None,
        retry_after: Literal["vendor", "auto"] | float | None = "vendor",
        balance_usd: float | None = None,
        keys: Collection[str] | None = None,
        faults: Sequence[Fault] = (),
        answer: Callable[[SimRequest], Turn | None] | None = None,
        script: Script | Mapping[str, Script] = (),
        structured: Mode = "json_schema",
        validate: bool = True,
        keep_bodies: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if vendor not in VENDORS:
            raise ValueError(f"unknown vendor {vendor!r}; known: {', '.join(VENDORS)}")
        if structured not in MODES:
            raise ValueError(f"unknown structured={structured!r}; known: {', '.join(MODES)}")
        if not isinstance(latency, (Latency, type(None))):
            raise TypeError(f"latency= is a Latency, as in Latency(first_token=0.1), not {latency!r}")
        if isinstance(faults, Fault) or any(not isinstance(each, Fault) for each in faults):
            raise TypeError(f"faults= is a list of Fault, as in [Fault('status', status=503)], not {faults!r}")
        if answer is not None and not callable(answer):
            raise TypeError(f"answer= is a function of the request; a list of answers is script=, not {answer!r}")
        profile = msgspec.structs.replace(VENDORS[vendor], structured=structured)
        if retry_after == "vendor":
            retry_after = "auto" if profile.sends_retry_after else None
        clock = clock or time.monotonic
        admission = Admission(
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrency=concurrency,
            models=model_limits or {},
            balance_usd=balance_usd,
            clock=clock,
        )
        self.state = State(
            profile,
            admission,
            seed=seed,
            latency=latency or Latency(),
            retry_after=retry_after,
            faults=faults,
            clock=clock,
        )
        """What the requests share."""
        self._keys = None if keys is None else frozenset(keys)
        self._answer = answer
        self._script = scripts.checked(script) if script else ()
        # A digest of each conversation whose script has problems before an answer -> its requests so far.
        self._given: dict[bytes, int] = {}
        self._validate = validate
        self._keep_bodies = keep_bodies
        self._host = host
        self._port = port
        # The listening socket and aiohttp's server of the connections; None while not started.
        self._listening: asyncio.Server | None = None
        self._server: web.Server | None = None
        # Authorization header -> digest of its key, "" for a key that is not accepted.
        self._digests: dict[str, str] = {}

    @property
    def vendor(self) -> Vendor:
        """The vendor that is simulated."""
        return self.state.vendor

    @property
    def ledger(self) -> Ledger:
        """The requests so far, in order of arrival."""
        return self.state.ledger

    @property
    def admission(self) -> Admission:
        """The limits, and what counts against them now."""
        return self.state.admission

    @property
    def faults(self) -> list[Fault]:
        """The faults that may happen to the next requests."""
        return self.state.faults

    @faults.setter
    def faults(self, faults: Sequence[Fault]) -> None:
        self.state.faults = list(faults)

    @property
    def url(self) -> str:
        """The root URL of the server."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def base_url(self) -> str:
        """The base URL for clients."""
        return f"{self.url}/v1"

    async def start(self) -> None:
        """Start to listen; does nothing when it listens already."""
        if self._listening is not None:
            return
        self.state.is_closing = False
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
        """Stop listening and abort all connections; does nothing when it is closed already."""
        listening, server = self._listening, self._server
        if listening is None or server is None:
            return
        self._listening = self._server = None
        self.state.is_closing = True
        await stop_listening(listening)
        for connection in server.connections:
            transport = connection.transport
            if transport is not None:
                transport.abort()
        await server.shutdown(1.0)
        await listening.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        where = self.url if self._listening is not None else "closed"
        return (
            f"<Simulator of {self.vendor.name}, {where}, {self.admission.in_flight} in flight, {len(self.ledger)} seen>"
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        state, transport = self.state, request.transport
        if transport is not None and state.closing_connections and transport in state.closing_connections:
            transport.close()
            return http.CLOSED
        path = request.path
        api = state.vendor.paths.get(path) or lookups.api_of(state.vendor, path)
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
            time=state.clock(),
            path=path,
            api=api,
            client_request_id=client_id if client_id is not None and _REQUEST_ID.match(client_id) else None,
            custom_id=headers.get("X-Custom-Id"),
        )
        state.ledger.add(attempt)
        exchange = Exchange(state, request, attempt)
        try:
            try:
                if oversized:
                    raise Problem(413)
                return await self._route(exchange, attempt, request, raw)
            except Problem as problem:
                return exchange.send_error(problem)
        except (asyncio.CancelledError, ConnectionError) as error:
            attempt.finished = False
            attempt.disconnected = not state.is_closing
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
        if request.method not in _METHODS.get(api, ("GET",)):
            raise Problem(405)
        if api != "health" and not (self.vendor.open_catalogue and api in ("models", "model")):
            attempt.key_digest = self._check_key(headers.get("Authorization", ""))
        if api in ("chat", "responses"):
            return await self._infer(exchange, attempt, raw, headers)
        return await lookups.answer(self.state, exchange, attempt, request)

    async def _infer(self, exchange: Exchange, attempt: Attempt, raw: bytes, headers: Any) -> web.StreamResponse:
        """Read a request for a model's answer, note it in the ledger, and send the answer."""
        request = read_request(
            raw,
            vendor=self.vendor,
            api=attempt.api,
            path=attempt.path,
            headers=headers,
            validate=self._validate,
            stored=self.state.stored,
            extra_models=self._script if isinstance(self._script, Mapping) else (),
        )
        request.number = attempt.number
        attempt.model = request.model
        attempt.stream = request.stream
        attempt.text_digest = request.digest
        metadata = request.body.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("custom_id"), str):
            attempt.custom_id = metadata["custom_id"]
        if self._keep_bodies:
            attempt.body = request.body
        attempt.turn, attempt.results = request.turn, len(request.results)
        scripted = scripts.answered(self._answer(request)) if self._answer is not None else None
        if scripted is None and self._script:
            attempt.script = scripts.named(self._script, request)
            scripted = scripts.turn(self._script, attempt.script, request.turn, lambda: self._problems_given(request))
        return await exchange.send_answer(request, scripted)

    def _problems_given(self, request: SimRequest) -> int:
        """Count a request, and return how many there were before it that brought the same conversation."""
        key = blake2b(repr((request.model, request.messages)).encode("utf-8", "replace"), digest_size=16).digest()
        given = self._given.pop(key, 0)
        # Put last: what is dropped is the oldest.
        self._given[key] = given + 1
        if len(self._given) > _MAX_CONVERSATIONS:
            del self._given[next(iter(self._given))]
        return given

    def _check_key(self, authorization: str) -> str:
        """Return a digest of the key that was sent.

        Raises Problem(401) when there is no key or it is not accepted.
        """
        digest = self._digests.get(authorization)
        if digest is None:
            scheme, _, key = authorization.partition(" ")
            key = key.strip()
            accepted = scheme.lower() == "bearer" and key and (self._keys is None or key in self._keys)
            digest = sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:12] if accepted else ""
            if len(self._digests) < 10_000:
                self._digests[authorization] = digest
        if not digest:
            raise Problem(401)
        return digest


def _make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)
