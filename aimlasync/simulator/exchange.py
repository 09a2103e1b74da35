"""One HTTP request from its arrival to the last byte of its response.

Only this module writes responses to a connection. It decides nothing about answers, limits or faults: it asks the
modules that do, and sends what they return. Before the last write the ledger entry is complete and the request is no
longer in flight, so a client that has its reply sees both. A client that has left shows as CancelledError at an await
or as ConnectionError at a write; the request leaves the limits then too, and the server notes the disconnection. It may
import everything of the simulator but `lookups`, `server` and `thread`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from aimlasync.simulator.faults import Fault, choose
from aimlasync.simulator.ledger import Attempt
from aimlasync.simulator.limits import LimitExceeded
from aimlasync.simulator.model.answers import Answer, compose
from aimlasync.simulator.state import State
from aimlasync.simulator.vendor import catalogue
from aimlasync.simulator.vendor.request import SimRequest
from aimlasync.simulator.vendor.stored import Stored
from aimlasync.simulator.vendor.vendors import Problem, spend_headers
from aimlasync.simulator.wire import chat, http, responses

_encode = msgspec.json.Encoder().encode

_WRITE_SIZE = 1 << 16
# Seconds before a TCP reset. A reset may discard bytes that the client has not read yet.
_BEFORE_RESET = 0.02
# Faults that break the body; a streamed request gets a body of its own for them.
_BODY_FAULTS = ("malformed_json", "html", "truncated_body")


class Exchange:
    """One HTTP request and the response to it."""

    __slots__ = ("_attempt", "_fault", "_http_request", "_in_flight", "_keep_alive", "_state")

    def __init__(self, state: State, http_request: web.BaseRequest, attempt: Attempt) -> None:
        self._state = state
        self._http_request = http_request
        self._attempt = attempt
        self._fault: Fault | None = None
        self._keep_alive = http_request.keep_alive
        # Whether the request counts as in flight.
        self._in_flight = False

    async def send_answer(self, request: SimRequest, scripted: Answer | str | None) -> web.StreamResponse:
        """Admit the request, let its fault happen, and send the model's answer.

        Raises Problem when the request is not admitted.
        """
        state, attempt = self._state, self._attempt
        admission = state.admission
        answers = compose(request, scripted, seed=state.seed)
        completion = sum(answer.completion_tokens for answer in answers)
        if admission.is_out_of_credit:
            raise Problem(state.vendor.out_of_credit)
        attempt.time = admission.enter(
            request.prompt_tokens + completion, request.model, verbose=state.vendor.name != "aimlapi"
        )
        self._in_flight = attempt.admitted = True
        attempt.in_flight = admission.in_flight
        attempt.prompt_tokens, attempt.completion_tokens = request.prompt_tokens, completion
        attempt.called = tuple(call.name for answer in answers for call in answer.calls)
        fault = self._choose_fault(request)
        first, per_token = state.latency.draw(state.random)
        try:
            if (early := await self._early_fault(fault)) is not None:
                return early
            reasoning = sum(answer.reasoning_tokens or 0 for answer in answers)
            price = catalogue.cost(state.vendor, request.model, request.prompt_tokens, completion)
            if request.background and answers[0].raw is None:
                seconds = per_token * (completion - reasoning)
                return await self._begin(request, answers[0], price, first, seconds)
            if first:
                await asyncio.sleep(first)
            if request.stream:
                return await self._stream(request, answers, price, per_token * (completion - reasoning))
            if per_token:
                await asyncio.sleep(per_token * (completion - reasoning))
            return await self._reply(request, answers, price)
        finally:
            self._leave()

    async def _begin(
        self, request: SimRequest, answer: Answer, price: float, first: float, seconds: float
    ) -> web.StreamResponse:
        """Begin a response in the background: it is queued for half of `first`, and has ended `seconds` after that."""
        state = self._state
        id, meta = state.new_id(), catalogue.meta(state.vendor, price)
        events = responses.events(request, answer, id, meta)
        generated = sum(is_generated for _, is_generated in events)
        now = asyncio.get_running_loop().time()
        stored = Stored(
            items=[*request.items, *responses.output(request, answer, id)],
            input_count=len(request.items),
            response=responses.whole(request, answer, id) | ({} if meta is None else {"meta": meta}),
            events=events,
            begins=now + first / 2,
            first_token=now + first,
            pause=seconds / generated if generated else 0.0,
            ends=now + first + seconds,
        )
        state.stored.keep(id, stored)
        self._charge(price)
        if request.stream:
            return await self._send_events(request, stored)
        begun = {**stored.at(now), "status": "queued", "output": [], "usage": None, "output_text": ""}
        return await self._send(200, http.JSON, _encode(begun))

    async def send_stored_stream(self, request: SimRequest, stored: Stored, after: int) -> web.StreamResponse:
        """Send the events of a response in the background that follow number `after`; faults happen to it as well."""
        if (early := await self._early_fault(self._choose_fault(request))) is not None:
            return early
        return await self._send_events(request, stored, after)

    async def _send_events(
        self, request: SimRequest, stored: Stored, after: int = -1, settle: Callable[[int], None] | None = None
    ) -> web.StreamResponse:
        """Send each event after number `after` when it is due, until the response has ended or is cancelled.

        `settle` is told how many generated events were delivered: all of them, or those before the client left.
        """
        transport, fault = self._transport(), self._fault
        last = total = len(stored.events)
        if fault is not None and fault.kind.endswith("_stream"):
            last = min(after + 1 + (total // 2 if fault.at is None else fault.at), total - 1)
        self._attempt.status = 200
        unsent = [self._stream_head()]
        size = delivered = 0
        clock = asyncio.get_running_loop().time
        due = stored.first_token
        try:
            for number, (event, is_generated) in enumerate(stored.events[:last]):
                # Each event has a time of its own: a busy event loop delays some of them, but not their sum.
                due += stored.pause * is_generated
                if is_generated and (wait := due - clock()) > 0:
                    transport.write(b"".join(unsent))
                    unsent.clear()
                    size = 0
                    await asyncio.sleep(wait)
                if stored.is_cancelled:
                    break
                delivered += is_generated
                if number > after:
                    unsent.append(http.chunk(event))
                    size += len(event)
                if size > _WRITE_SIZE:
                    transport.write(b"".join(unsent))
                    unsent.clear()
                    size = 0
                    await self._http_request.writer.drain()
        except (asyncio.CancelledError, ConnectionError):
            if settle is not None and delivered and not self._state.is_closing:
                settle(delivered)
            raise
        if last < total and fault is not None:
            transport.write(b"".join(unsent))
            return await self._break_stream(fault.kind, request, last)
        unsent.append(http.chunk(b""))
        if settle is not None:
            settle(delivered)
        self._attempt.finished = True
        self._leave()
        transport.write(b"".join(unsent))
        await self._http_request.writer.drain()
        self._close_when_idle()
        return http.KEPT if self._keep_alive else http.CLOSED

    async def send_json(self, request: SimRequest, value: Any, *headers: tuple[str, str]) -> web.StreamResponse:
        """Send a JSON value that is no model's answer; faults happen to it as well."""
        if (early := await self._early_fault(self._choose_fault(request))) is not None:
            return early
        return await self._send(200, http.JSON, value if isinstance(value, bytes) else _encode(value), headers)

    def send_empty(self, status: int, *headers: tuple[str, str]) -> web.StreamResponse:
        """Send a status without a body."""
        return self._write(status, http.head(status, (*self._headers(), *headers), keep_alive=self._keep_alive))

    def send_error(self, problem: Problem, extra: Iterable[tuple[str, str]] = ()) -> web.StreamResponse:
        """Send an error in the vendor's shape."""
        state = self._state
        wait = None
        headers = list(extra)
        if isinstance(problem, LimitExceeded):
            wait = problem.wait
            if state.retry_after == "auto":
                headers.append(("Retry-After", str(max(1, math.ceil(wait or 1.0)))))
            elif isinstance(state.retry_after, (int, float)):
                headers.append(("Retry-After", f"{state.retry_after:g}"))
        if problem.status in (408, 413):
            self._keep_alive = False
        body = b""
        if self._http_request.method != "HEAD":
            body = _encode(state.vendor.error(problem, self._attempt.path, state.random))
        headers = [*self._headers(wait), *headers]
        data = http.whole(problem.status, http.JSON, body, headers, keep_alive=self._keep_alive)
        return self._write(problem.status, data)

    async def _reply(self, request: SimRequest, answers: list[Answer], price: float) -> web.StreamResponse:
        state = self._state
        id = state.new_id()
        meta = catalogue.meta(state.vendor, price)
        raw = answers[0].raw
        if raw is not None:
            body = raw if isinstance(raw, bytes) else _encode(raw)
        elif request.api == "chat":
            body = chat.body(request, answers, state.vendor, id, meta)
        else:
            body = _encode(responses.whole(request, answers[0], id))
        if self._fault is None or self._fault.kind not in _BODY_FAULTS:
            self._charge(price)
            self._store(request, answers, id)
        return await self._send(200, http.JSON, body, catalogue.meta_headers(meta))

    async def _send(self, status: int, content_type: str, body: bytes, extra: Any = ()) -> web.StreamResponse:
        """Send a complete response, or what its fault leaves of it."""
        headers = [*self._headers(), *extra]
        kind = self._fault.kind if self._fault is not None else ""
        if kind == "malformed_json":
            body = body[: len(body) // 2]
        elif kind == "html":
            content_type, body = "text/html; charset=utf-8", http.ERROR_PAGE
        data = http.whole(status, content_type, body, headers, keep_alive=self._keep_alive)
        if kind == "truncated_body":
            self._attempt.status = status
            transport = self._transport()
            transport.write(data[: len(data) - max(1, len(body) // 2)])
            self._leave()
            transport.close()
            return http.CLOSED
        response = self._write(status, data)
        if self._http_request.writer is not None:
            await self._http_request.writer.drain()
        self._close_when_idle()
        return response

    async def _stream(
        self, request: SimRequest, answers: list[Answer], price: float, seconds: float
    ) -> web.StreamResponse:
        """Send the answer as server-sent events, over `seconds`."""
        state, raw = self._state, answers[0].raw
        is_whole = self._fault is not None and self._fault.kind in _BODY_FAULTS
        if is_whole or (raw is not None and not isinstance(raw, list)):
            return await self._reply(request, answers, price)
        id, meta = state.new_id(), catalogue.meta(state.vendor, price)
        events = self._events(request, answers, id, meta)
        generated = sum(is_generated for _, is_generated in events)

        def settle(delivered: int) -> None:
            self._charge(price * delivered / generated if delivered < generated else price)
            if delivered == generated:
                self._store(request, answers, id)

        begins = asyncio.get_running_loop().time()
        pause = seconds / generated if generated else 0.0
        stream = Stored(items=[], input_count=0, response={}, events=events, first_token=begins, pause=pause)
        return await self._send_events(request, stream, settle=settle)

    def _events(
        self, request: SimRequest, answers: list[Answer], id: str, meta: dict[str, Any] | None
    ) -> list[tuple[bytes, bool]]:
        """Return the events of an answer, and whether the model takes its time to generate each."""
        if (raw := answers[0].raw) is not None:
            return [(b"data: %b\n\n" % (event if isinstance(event, bytes) else _encode(event)), True) for event in raw]
        if request.api == "chat":
            return chat.events(request, answers, self._state.vendor, id, meta)
        return responses.events(request, answers[0], id, meta)

    def _stream_head(self) -> bytes:
        head = [("Content-Type", http.EVENT_STREAM), ("Cache-Control", "no-cache"), ("Transfer-Encoding", "chunked")]
        return http.head(200, [*head, *self._headers()], keep_alive=self._keep_alive)

    async def _break_stream(self, kind: str, request: SimRequest, sent: int) -> web.StreamResponse:
        """End a stream as its fault demands, after `sent` events."""
        if kind == "stall_stream":
            await self._wait_forever()
        if kind == "reset_stream":
            await asyncio.sleep(_BEFORE_RESET)
            self._leave()
            http.reset(self._http_request)
            return http.CLOSED
        last = b""
        if kind == "error_in_stream":
            assert self._fault is not None
            problem = Problem(500, self._fault.message or "The upstream provider failed", code="upstream_error")
            error = {"error": {"message": problem.message, "type": "server_error", "code": problem.code, "param": None}}
            event = chat.error_event(error) if request.api == "chat" else responses.error_event(error, sent)
            last = http.chunk(event)
        self._leave()
        self._transport().write(last + http.chunk(b""))
        return http.KEPT if self._keep_alive else http.CLOSED

    def _choose_fault(self, request: SimRequest) -> Fault | None:
        """Choose what happens to the request, and note it."""
        self._fault = fault = choose(self._state.faults, request, self._state.random)
        if fault is not None:
            self._attempt.fault = fault.kind
        return fault

    async def _early_fault(self, fault: Fault | None) -> web.StreamResponse | None:
        """Let a fault happen that comes before the response; return None when the response is still to be sent."""
        if fault is None:
            return None
        match fault.kind:
            case "status":
                self._leave()
                return self.send_error(Problem(fault.status, fault.message), fault.headers.items())
            case "reset":
                self._leave()
                http.reset(self._http_request)
                return http.CLOSED
            case "stall":
                await self._wait_forever()
            case "slow_first_byte":
                await asyncio.sleep(fault.delay)
        return None

    def _close_when_idle(self) -> None:
        """After a response: with the fault close_idle, close the connection after its delay, or at its next request."""
        fault, transport = self._fault, self._http_request.transport
        if fault is None or fault.kind != "close_idle" or transport is None:
            return
        if fault.delay:
            asyncio.get_running_loop().call_later(fault.delay, transport.close)
        else:
            self._state.closing_connections.add(transport)

    async def _wait_forever(self) -> None:
        """Wait until the client leaves or the simulator closes; both cancel this."""
        await asyncio.get_running_loop().create_future()

    def _write(self, status: int, data: bytes) -> web.StreamResponse:
        self._attempt.status = status
        self._attempt.finished = True
        self._leave()
        self._transport().write(data)
        return http.KEPT if self._keep_alive else http.CLOSED

    def _transport(self) -> asyncio.Transport:
        transport = self._http_request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        return transport

    def _leave(self) -> None:
        if self._in_flight:
            self._in_flight = False
            self._state.admission.leave(self._attempt.model)

    def _store(self, request: SimRequest, answers: list[Answer], id: str) -> None:
        """Keep a response that a later request may continue."""
        if request.store and answers[0].raw is None:
            response = responses.whole(request, answers[0], id)
            stored = Stored(
                items=[*request.items, *response["output"]], input_count=len(request.items), response=response
            )
            self._state.stored.keep(id, stored)

    def _charge(self, price: float) -> None:
        self._attempt.cost_usd = price
        self._state.admission.charge(price)

    def _headers(self, wait: float | None = None) -> list[tuple[str, str]]:
        """Return the vendor's own headers; `wait` is the seconds until a rate limit has room."""
        state = self._state
        admission = state.admission
        match state.vendor.name:
            case "aimlapi":
                headers = [("x-inference-id", state.new_id()[:21])]
                if self._attempt.client_request_id is not None:
                    headers.append(("x-client-request-id", self._attempt.client_request_id))
                return headers
            case "bytespike":
                return spend_headers(admission.spent_usd, admission.balance_usd, time.time(), wait)
            case _:
                return [("x-request-id", f"req_{state.new_id()}"), *admission.headers()]
