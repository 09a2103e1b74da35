"""One request from its arrival to its last byte.

Law: the only code that writes to a connection. It decides nothing about answers, limits or faults: it asks, then sends.
The ledger line and the place in flight are settled before the last write, so whoever has the reply sees them settled.
A client that left shows as CancelledError at an await, or as ConnectionError at a write; the place is given back then
too, and the server notes who left.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from aimlasync.simulator.faults import Fault
from aimlasync.simulator.ledger import Attempt
from aimlasync.simulator.limits import TooMany
from aimlasync.simulator.model import answers
from aimlasync.simulator.vendor import catalogue
from aimlasync.simulator.vendor.request import SimRequest
from aimlasync.simulator.vendor.vendors import Problem, spend_headers
from aimlasync.simulator.wire import chat, http, responses

if TYPE_CHECKING:
    from aimlasync.simulator.server import Simulator

_encode = msgspec.json.Encoder().encode

_WRITE_SIZE = 1 << 16
# Gives a client the time to read what came before a reset, which may discard it.
_BEFORE_RESET = 0.02


class Exchange:
    """One request and the response that is being made for it."""

    __slots__ = ("_attempt", "_fault", "_inside", "_kept", "_request", "_sim")

    def __init__(self, sim: Simulator, request: web.BaseRequest, attempt: Attempt) -> None:
        self._sim = sim
        self._request = request
        self._attempt = attempt
        self._fault: Fault | None = None
        self._kept = request.keep_alive
        # True while it holds a place in flight.
        self._inside = False

    async def answer(self, asked: SimRequest, scripted: answers.Answer | str | None) -> web.StreamResponse:
        """Admit the request, let its fault happen, and send the answer.

        Raises Problem when it is not admitted.
        """
        sim, attempt = self._sim, self._attempt
        said = answers.compose(asked, scripted, seed=sim.seed)
        completion = sum(answer.completion_tokens for answer in said)
        if sim.admission.is_broke:
            raise Problem(sim.vendor.out_of_credit)
        attempt.time = sim.admission.enter(asked.prompt_tokens + completion, verbose=sim.vendor.name != "aimlapi")
        self._inside = attempt.admitted = True
        attempt.in_flight = sim.admission.in_flight
        attempt.prompt_tokens, attempt.completion_tokens = asked.prompt_tokens, completion
        attempt.called = tuple(call.name for answer in said for call in answer.calls)
        self._fault = fault = sim.choose_fault(asked)
        if fault is not None:
            attempt.fault = fault.kind
        first, per_token = sim.draw_latency()
        try:
            if fault is not None:
                early = await self._early_fault(fault)
                if early is not None:
                    return early
            if first:
                await asyncio.sleep(first)
            thought = sum(answer.reasoning_tokens or 0 for answer in said)
            price = catalogue.cost(sim.vendor, asked.model, asked.prompt_tokens, completion)
            if asked.stream:
                return await self._stream(asked, said, price, per_token * (completion - thought))
            if per_token:
                await asyncio.sleep(per_token * (completion - thought))
            return await self._reply(asked, said, price)
        finally:
            self._leave()

    async def plain(self, asked: SimRequest, value: Any, *headers: tuple[str, str]) -> web.StreamResponse:
        """Send a JSON value that is no model's answer; faults happen here too."""
        self._fault = fault = self._sim.choose_fault(asked)
        if fault is not None:
            self._attempt.fault = fault.kind
            early = await self._early_fault(fault)
            if early is not None:
                return early
        return await self._send(200, http.JSON, value if isinstance(value, bytes) else _encode(value), headers)

    def nothing(self, status: int, *headers: tuple[str, str]) -> web.StreamResponse:
        """Send a status without a body."""
        return self._write(status, http.head(status, (*self._headers(), *headers), keep_alive=self._kept))

    def refuse(self, problem: Problem, extra: Iterable[tuple[str, str]] = ()) -> web.StreamResponse:
        """Send an error in the vendor's shape."""
        sim = self._sim
        wait = None
        headers = list(extra)
        if isinstance(problem, TooMany):
            wait = problem.wait
            if sim.retry_after == "auto":
                headers.append(("Retry-After", str(max(1, math.ceil(wait or 1.0)))))
            elif isinstance(sim.retry_after, (int, float)):
                headers.append(("Retry-After", f"{sim.retry_after:g}"))
        if problem.status in (408, 413):
            self._kept = False
        body = b""
        if self._request.method != "HEAD":
            body = _encode(sim.vendor.error(problem, self._attempt.path, sim.random))
        headers = [*self._headers(wait), *headers]
        return self._write(problem.status, http.whole(problem.status, http.JSON, body, headers, keep_alive=self._kept))

    async def _reply(self, asked: SimRequest, said: list[answers.Answer], price: float) -> web.StreamResponse:
        sim = self._sim
        id = sim.new_id()
        meta = catalogue.meta(sim.vendor, price)
        extra: list[tuple[str, str]] = []
        if meta is not None:
            extra = [
                ("x-aimlapi-credits-used", str(meta["usage"]["credits_used"])),
                ("x-aimlapi-usd-spent", f"{price:.9f}"),
            ]
        raw = said[0].raw
        if raw is not None:
            body = raw if isinstance(raw, bytes) else _encode(raw)
        elif asked.api == "chat":
            body = chat.body(asked, said, sim.vendor, id, meta)
        else:
            body = responses.body(asked, said[0], id)
        if self._fault is None or self._fault.kind not in ("malformed_json", "html", "truncated_body"):
            self._charge(price)
            self._store(asked, said, id)
        return await self._send(200, http.JSON, body, extra)

    async def _send(self, status: int, content_type: str, body: bytes, extra: Any = ()) -> web.StreamResponse:
        """Send a whole response, unless its fault breaks it."""
        headers = [*self._headers(), *extra]
        kind = self._fault.kind if self._fault is not None else ""
        if kind == "malformed_json":
            body = body[: len(body) // 2]
        elif kind == "html":
            content_type, body = "text/html; charset=utf-8", http.ERROR_PAGE
        data = http.whole(status, content_type, body, headers, keep_alive=self._kept)
        if kind == "truncated_body":
            self._attempt.status = status
            self._transport().write(data[: len(data) - max(1, len(body) // 2)])
            self._leave()
            http.close(self._request)
            return http.CLOSED
        sent = self._write(status, data)
        if self._request.writer is not None:
            await self._request.writer.drain()
        if kind == "close_idle" and self._fault is not None:
            self._sim.close_when_idle(self._request, self._fault.delay)
        return sent

    async def _stream(
        self, asked: SimRequest, said: list[answers.Answer], price: float, seconds: float
    ) -> web.StreamResponse:
        sim, fault = self._sim, self._fault
        kind = fault.kind if fault is not None else ""
        raw = said[0].raw
        if kind in ("malformed_json", "html", "truncated_body") or (raw is not None and not isinstance(raw, list)):
            return await self._reply(asked, said, price)
        id, meta = sim.new_id(), catalogue.meta(sim.vendor, price)
        if raw is not None:
            script = [
                (b"data: %b\n\n" % (event if isinstance(event, bytes) else _encode(event)), True) for event in raw
            ]
        elif asked.api == "chat":
            script = chat.events(asked, said, sim.vendor, id, meta)
        else:
            script = responses.events(asked, said[0], id, meta)
        made = sum(is_made for _, is_made in script)
        pause = seconds / made if made else 0.0
        total = len(script)
        broken = kind.endswith("_stream")
        if broken and fault is not None:
            script = script[: min(total // 2 if fault.at is None else fault.at, total - 1)]
        transport = self._transport()
        self._attempt.status = 200
        waiting = [
            http.head(
                200,
                [
                    ("Content-Type", http.EVENT_STREAM),
                    ("Cache-Control", "no-cache"),
                    ("Transfer-Encoding", "chunked"),
                    *self._headers(),
                ],
                keep_alive=self._kept,
            )
        ]
        size = delivered = 0
        clock = asyncio.get_running_loop().time
        due = clock()
        try:
            for event, is_made in script:
                if is_made and pause:
                    # Against the clock, not event by event: a busy loop catches up instead of slowing the model down.
                    due += pause
                    late = clock() - due
                    if late < 0:
                        transport.write(b"".join(waiting))
                        waiting.clear()
                        size = 0
                        await asyncio.sleep(-late)
                waiting.append(http.chunk(event))
                delivered += is_made
                size += len(event)
                if size > _WRITE_SIZE:
                    transport.write(b"".join(waiting))
                    waiting.clear()
                    size = 0
                    await self._request.writer.drain()
        except (asyncio.CancelledError, ConnectionError):
            if delivered and made and not sim.is_closing:
                self._charge(price * delivered / made)
            raise
        if broken:
            transport.write(b"".join(waiting))
            return await self._end_badly(kind, asked, len(script))
        waiting.append(http.chunk(b""))
        self._charge(price)
        self._store(asked, said, id)
        self._attempt.finished = True
        self._leave()
        transport.write(b"".join(waiting))
        await self._request.writer.drain()
        if kind == "close_idle" and fault is not None:
            sim.close_when_idle(self._request, fault.delay)
        return http.KEPT if self._kept else http.CLOSED

    async def _end_badly(self, kind: str, asked: SimRequest, sent: int) -> web.StreamResponse:
        if kind == "stall_stream":
            await self._silence()
        if kind == "reset_stream":
            await asyncio.sleep(_BEFORE_RESET)
            self._leave()
            http.reset(self._request)
            return http.CLOSED
        last = b""
        if kind == "error_in_stream":
            assert self._fault is not None
            problem = Problem(500, self._fault.message or "The upstream provider failed", code="upstream_error")
            error = {"error": {"message": problem.message, "type": "server_error", "code": problem.code, "param": None}}
            event = chat.error_event(error) if asked.api == "chat" else responses.error_event(error, sent)
            last = http.chunk(event)
        self._leave()
        self._transport().write(last + http.chunk(b""))
        return http.KEPT if self._kept else http.CLOSED

    async def _early_fault(self, fault: Fault) -> web.StreamResponse | None:
        """Let a fault happen that comes before the response; None when the response is still to be sent."""
        match fault.kind:
            case "status":
                self._leave()
                return self.refuse(Problem(fault.status, fault.message), fault.headers.items())
            case "reset":
                self._leave()
                http.reset(self._request)
                return http.CLOSED
            case "stall":
                await self._silence()
            case "slow_first_byte":
                await asyncio.sleep(fault.delay)
        return None

    async def _silence(self) -> None:
        """Wait until the client leaves or the simulator closes; both cancel."""
        await asyncio.get_running_loop().create_future()

    def _write(self, status: int, data: bytes) -> web.StreamResponse:
        self._attempt.status = status
        self._attempt.finished = True
        self._leave()
        self._transport().write(data)
        return http.KEPT if self._kept else http.CLOSED

    def _transport(self) -> asyncio.Transport:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        return transport

    def _leave(self) -> None:
        if self._inside:
            self._inside = False
            self._sim.admission.leave()

    def _store(self, asked: SimRequest, said: list[answers.Answer], id: str) -> None:
        """Keep a response that a later request may continue."""
        if asked.store and said[0].raw is None:
            self._sim.stored.keep(id, [*asked.items, *responses.output(asked, said[0], id)])

    def _charge(self, price: float) -> None:
        self._attempt.cost_usd = price
        self._sim.admission.charge(price)

    def _headers(self, wait: float | None = None) -> list[tuple[str, str]]:
        sim = self._sim
        match sim.vendor.name:
            case "aimlapi":
                headers = [("x-inference-id", sim.new_id()[:21])]
                if self._attempt.client_request_id is not None:
                    headers.append(("x-client-request-id", self._attempt.client_request_id))
                return headers
            case "bytespike":
                return spend_headers(sim.admission.spent_usd, sim.admission.balance_usd, time.time(), wait)
            case _:
                return [("x-request-id", f"req_{sim.new_id()}"), *sim.admission.headers()]
