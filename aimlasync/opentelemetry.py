"""Spans and metrics of a client's calls, by OpenTelemetry's semantic conventions for generative AI.

    watched = aimlasync.opentelemetry.instrument(client)      # the global providers, unless others are given
    ...
    watched.stop()

Law: an `Observer` of the client and nothing more; the one module that knows OpenTelemetry, by its API alone.
One span a call (not an attempt), a child of the caller's current span, from the call to the last piece of its stream;
each attempt that failed is an event in it. What people wrote and models answered is in no span unless
`capture_content=True`.
Source of the names: opentelemetry.io, "Semantic conventions for generative AI systems", client spans and client metrics
(in development; as of `opentelemetry-semantic-conventions` 0.66b2). What the conventions have no name for begins with
`aimlasync.`: waits, attempts, and the gauges and counters of `AsyncClient.statistics()`, one time series an endpoint.
A Prometheus view is OpenTelemetry's own: `opentelemetry-exporter-prometheus` as the meter provider's reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from aimlasync import AsyncClient, Endpoint, Info
from aimlasync._version import __version__
from aimlasync.budget import OUTPUT_CAPS
from aimlasync.chat import ChatCompletion
from aimlasync.errors import AimlasyncError, APIStatusError
from aimlasync.lane import EndpointStatistics
from aimlasync.prices import tokens_of
from aimlasync.providers import COMPATIBLE, Api
from aimlasync.responses import Response
from aimlasync.wire import Reply, encode

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["Instrumentation", "instrument"]

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_SOONER = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKENS = tuple(4**power for power in range(14))
# Request parameter -> attribute, the first parameter that is there.
_ASKED: Mapping[str, Sequence[str]] = {
    "gen_ai.request.max_tokens": OUTPUT_CAPS,
    "gen_ai.request.temperature": ("temperature",),
    "gen_ai.request.top_p": ("top_p",),
    "gen_ai.request.frequency_penalty": ("frequency_penalty",),
    "gen_ai.request.presence_penalty": ("presence_penalty",),
    "gen_ai.request.seed": ("seed",),
}
# Seconds that a reader in another thread waits for the client's loop before it takes what it was told last.
_PATIENCE = 1.0
# Seconds for which one answer serves: a collection asks once for each of its instruments.
_FRESH = 0.1


def instrument(
    client: AsyncClient,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_content: bool = False,
    propagate: bool = False,
) -> Instrumentation:
    """Trace and measure the chat and responses calls of `client` from now on, those of its copies included.

    `capture_content` puts messages and answers into the spans; `propagate` sends the span's context (`traceparent`) to
    the vendor. Raises ImportError without opentelemetry-api, RuntimeError when the client is observed already.
    """
    try:
        for name in ("trace", "metrics", "propagate"):
            importlib.import_module(f"opentelemetry.{name}")
    except ModuleNotFoundError:
        is_missing = True
    else:
        is_missing = False
    if is_missing:
        raise ImportError("aimlasync.opentelemetry needs the API: pip install 'aimlasync[opentelemetry]'")
    instrumentation = Instrumentation(client, tracer_provider, meter_provider, capture_content, propagate)
    client.observe(instrumentation)
    return instrumentation


class Instrumentation:
    """What `instrument` did; `stop()` undoes it."""

    def __init__(
        self,
        client: AsyncClient,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        capture_content: bool,
        propagate: bool,
    ) -> None:
        from opentelemetry import metrics, trace

        self._client = weakref.ref(client)
        self.captures_content = capture_content
        self.propagates = propagate
        self.tracer = trace.get_tracer("aimlasync", __version__, tracer_provider)
        meter = metrics.get_meter("aimlasync", __version__, meter_provider)
        seconds = {"unit": "s"}
        self.duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
            **seconds,
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self.first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            description="Time to receive the first chunk.",
            explicit_bucket_boundaries_advisory=_SOONER,
            **seconds,
        )
        self.each_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_per_output_chunk",
            description="Time per output chunk after the first one.",
            explicit_bucket_boundaries_advisory=_SOONER,
            **seconds,
        )
        self.wait = meter.create_histogram(
            "aimlasync.client.wait.duration",
            description="Time that calls waited here before they were sent.",
            explicit_bucket_boundaries_advisory=_SOONER,
            **seconds,
        )
        self._statistics = _Statistics(self._client)
        for name, unit, description, read in _GAUGES:
            meter.create_observable_gauge(name, [self._statistics.observer(read)], unit, description)
        for name, unit, description, read in _COUNTERS:
            meter.create_observable_counter(name, [self._statistics.observer(read)], unit, description)

    def stop(self) -> None:
        """Watch no more calls and report no more numbers; calls under way are still seen to their end."""
        client = self._client()
        if client is not None and not self._statistics.is_stopped:
            client.observe(None)
        self._statistics.is_stopped = True

    def began(self, api: Api, body: Mapping[str, Any], info: Info, endpoints: Sequence[Endpoint]) -> _Watched:
        """Begin a span; see `aimlasync.watch.Observer`."""
        self._statistics.runs_here()
        return _Watched(self, api, body, info, endpoints)


class _Watched:
    """One call."""

    def __init__(
        self, home: Instrumentation, api: Api, body: Mapping[str, Any], info: Info, endpoints: Sequence[Endpoint]
    ) -> None:
        from opentelemetry import propagate, trace

        self._home = home
        self._info = info
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._started = self._latest = time.perf_counter()
        self._has_first = False
        self._has_ended = False
        self._streams = bool(body.get("stream"))
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": info.model,
            # A sampler may look at it; the endpoint that answers replaces it.
            **_place(endpoints[0]),
        }
        self._span: Span = home.tracer.start_span(
            f"chat {info.model}", kind=trace.SpanKind.CLIENT, attributes=attributes
        )
        self.headers: dict[str, str] = {}
        if home.propagates:
            context: Context = trace.set_span_in_context(self._span)
            carrier: dict[str, str] = {}
            propagate.inject(carrier, context=context)
            self.headers = {name.title(): value for name, value in carrier.items()}
        if self._span.is_recording():
            self._span.set_attributes(_asked(api, body))
            if home.captures_content:
                self._span.set_attributes(_said(api, body))

    def stumbled(self, error: AimlasyncError, endpoint: str) -> None:
        self._span.add_event(
            "aimlasync.attempt.failed", {"error.type": type(error).__name__, "aimlasync.endpoint": endpoint}
        )

    def arrived(self, pieces: int) -> None:
        now = time.perf_counter()
        attributes = self._dimensions()
        if not self._has_first:
            self._has_first = True
            pieces -= 1
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", now - self._started)
            self._home.first_chunk.record(now - self._started, attributes)
            self._latest = now
        # Of those that came in one read, the first was waited for.
        for _ in range(pieces):
            self._home.each_chunk.record(now - self._latest, attributes)
            self._latest = now

    def answered(self, reply: Reply) -> None:
        if self._has_ended:
            return
        attributes = self._dimensions()
        if isinstance(reply, (ChatCompletion, Response)):
            if reply.model:
                attributes["gen_ai.response.model"] = reply.model
            taken = tokens_of(reply.usage)
            if taken is not None:
                for kind, count in zip(("input", "output"), taken, strict=True):
                    self._home.tokens.record(count, {**attributes, "gen_ai.token.type": kind})
            if self._span.is_recording():
                self._span.set_attributes(_replied(reply))
                if self._home.captures_content:
                    self._span.set_attribute("gen_ai.output.messages", _json(_answers(reply)))
        self._end(attributes)

    def failed(self, error: BaseException | None) -> None:
        from opentelemetry import trace

        if self._has_ended:
            return
        attributes = self._dimensions()
        if error is None:
            self._span.set_attribute("aimlasync.left", True)
        else:
            attributes["error.type"] = type(error).__name__
            # A vendor's message may repeat what it was asked.
            self._span.set_status(trace.StatusCode.ERROR, str(error) if self._home.captures_content else None)
            if isinstance(error, APIStatusError):
                self._span.set_attribute("http.response.status_code", error.status)
        self._end(attributes)

    def _end(self, attributes: dict[str, Any]) -> None:
        self._has_ended = True
        home, info = self._home, self._info
        for reason, seconds in (("concurrency", info.timing.queued), ("rate", info.timing.limited)):
            if seconds is not None:
                home.wait.record(seconds, {**attributes, "aimlasync.wait.reason": reason})
        home.duration.record(time.perf_counter() - self._started, attributes)
        known = {
            "aimlasync.endpoint": info.endpoint or None,
            "aimlasync.attempts": info.attempts,
            "aimlasync.request_id": info.request_id,
            "aimlasync.wait.concurrency": info.timing.queued,
            "aimlasync.wait.rate": info.timing.limited,
            "aimlasync.cost_usd": info.cost_usd,
        }
        self._span.set_attributes({name: value for name, value in {**attributes, **known}.items() if value is not None})
        self._span.end()

    def _dimensions(self) -> dict[str, Any]:
        """What metrics are told apart by: few values each."""
        endpoint = self._endpoints.get(self._info.endpoint) or next(iter(self._endpoints.values()))
        return {"gen_ai.operation.name": "chat", "gen_ai.request.model": self._info.model, **_place(endpoint)}


# What is asked for, and what is answered


def _place(endpoint: Endpoint) -> Mapping[str, Any]:
    return _at(endpoint.base_url, "openai" if endpoint.provider is COMPATIBLE else endpoint.provider.name)


@functools.lru_cache(64)
def _at(base_url: str, provider: str) -> Mapping[str, Any]:
    url = urlsplit(base_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    return {"gen_ai.provider.name": provider, "server.address": url.hostname or "", "server.port": port}


def _asked(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"openai.api.type": "responses" if api == "responses" else "chat_completions"}
    for attribute, names in _ASKED.items():
        value = next((body[name] for name in names if body.get(name) is not None), None)
        if isinstance(value, (int, float)):
            found[attribute] = value
    if body.get("stream"):
        found["gen_ai.request.stream"] = True
    if isinstance(body.get("n"), int) and body["n"] != 1:
        found["gen_ai.request.choice.count"] = body["n"]
    stop = body.get("stop")
    if stop:
        found["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else [str(text) for text in stop]
    return found


def _replied(reply: ChatCompletion | Response) -> dict[str, Any]:
    cached: Any = None
    thought: Any = None
    if isinstance(reply, ChatCompletion):
        reasons = [choice.finish_reason for choice in reply.choices if choice.finish_reason]
        if reply.usage is not None:
            cached, thought = reply.usage.prompt_tokens_details, reply.usage.completion_tokens_details
    else:
        reasons = [reply.status] if reply.status else []
        if reply.usage is not None:
            cached, thought = reply.usage.input_tokens_details, reply.usage.output_tokens_details
    taken = tokens_of(reply.usage) or (None, None)
    found = {
        "gen_ai.response.id": reply.id or None,
        "gen_ai.response.finish_reasons": reasons or None,
        "gen_ai.usage.input_tokens": taken[0],
        "gen_ai.usage.output_tokens": taken[1],
        "gen_ai.usage.cache_read.input_tokens": cached.cached_tokens if cached else None,
        "gen_ai.usage.reasoning.output_tokens": thought.reasoning_tokens if thought else None,
    }
    return {name: value for name, value in found.items() if value is not None}


# Content, as the conventions' JSON schemas of messages have it


def _json(value: Any) -> str:
    return encode(value).decode()


def _said(api: Api, body: Mapping[str, Any]) -> dict[str, str]:
    asked = body.get("messages") if api == "chat" else body.get("input")
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else msgspec.json.decode(encode(asked or []))
    found = {"gen_ai.input.messages": _json([_message(item) for item in items])}
    if isinstance(body.get("instructions"), str):
        found["gen_ai.system_instructions"] = _json([{"type": "text", "content": body["instructions"]}])
    return found


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    """A message of a chat, or an item of a responses call."""
    kind = item.get("type")
    if kind == "function_call":
        return {"role": "assistant", "parts": [_called(item.get("call_id"), item)]}
    if kind == "function_call_output" or item.get("role") == "tool":
        name = item.get("call_id") or item.get("tool_call_id")
        response = item.get("output") if kind else item.get("content")
        return {"role": "tool", "parts": [{"type": "tool_call_response", "id": name, "response": response}]}
    content = item.get("content")
    if isinstance(content, str):
        parts = [{"type": "text", "content": content}]
    else:
        parts = [_part(part) for part in content or ()]
    parts += [_called(call.get("id"), call.get("function") or {}) for call in item.get("tool_calls") or ()]
    return {"role": item.get("role") or kind, "parts": parts}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(part.get("text"), str):
        return {"type": "text", "content": part["text"]}
    return dict(part)


def _called(id: Any, function: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_call", "id": id, "name": function.get("name"), "arguments": function.get("arguments")}


def _answers(reply: ChatCompletion | Response) -> list[dict[str, Any]]:
    if isinstance(reply, Response):
        items = [_message(msgspec.json.decode(encode(item))) for item in reply.output]
        return [{**item, "finish_reason": reply.status} for item in items]
    return [
        {
            **_message({"role": "assistant", **msgspec.json.decode(encode(choice.message))}),
            "finish_reason": choice.finish_reason,
        }
        for choice in reply.choices
    ]


# Numbers that are asked for

# None where the number is not known.
_Read = Callable[[EndpointStatistics], float | None]

_GAUGES: Sequence[tuple[str, str, str, _Read]] = (
    ("aimlasync.client.in_flight", "{attempt}", "Attempts in flight.", lambda of: of.in_flight),
    ("aimlasync.client.queued", "{call}", "Calls that wait for their turn.", lambda of: of.queued),
    ("aimlasync.client.limit", "{attempt}", "Attempts that may be in flight.", lambda of: of.limit),
    ("aimlasync.client.pause", "s", "Time until the endpoint may be asked again.", lambda of: of.paused_for),
)
_COUNTERS: Sequence[tuple[str, str, str, _Read]] = (
    ("aimlasync.client.attempts", "{attempt}", "Attempts made.", lambda of: of.attempts),
    ("aimlasync.client.retries", "{attempt}", "Attempts made because one had failed.", lambda of: of.retries),
    ("aimlasync.client.hedges", "{attempt}", "Attempts made because one was slow.", lambda of: of.hedges),
    ("aimlasync.client.refused", "{attempt}", "Attempts refused: 429, 503, no connection.", lambda of: of.refused),
    ("aimlasync.client.failed", "{attempt}", "Attempts that failed otherwise.", lambda of: of.failed),
    ("aimlasync.client.cost", "{USD}", "Cost that the vendor stated.", lambda of: of.cost_usd),
)


class _Statistics:
    """`client.statistics()`, for readers in whatever thread: asked in the client's own, which is the only one safe."""

    def __init__(self, client: weakref.ref[AsyncClient]) -> None:
        self._client = client
        self._latest: list[EndpointStatistics] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self.is_stopped = False
        # When a reader in another thread asked.
        self._asked = float("-inf")
        # Without a loop, the first call tells which one it is.
        with contextlib.suppress(RuntimeError):
            self.runs_here()

    def runs_here(self) -> None:
        """Note the running loop as the client's."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.get_ident()

    def observer(self, read: _Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Return what a meter calls for one number of each endpoint."""
        from opentelemetry.metrics import Observation

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            if self.is_stopped:
                return []
            read_now = [(read(of), of.name) for of in self._now()]
            return [Observation(value, {"aimlasync.endpoint": name}) for value, name in read_now if value is not None]

        return observe

    def _now(self) -> list[EndpointStatistics]:
        loop = self._loop
        if loop is None or threading.get_ident() == self._thread:
            self._ask(None)
        elif loop.is_running() and time.monotonic() - self._asked > _FRESH:
            self._asked = time.monotonic()
            told = threading.Event()
            # Closed meanwhile, it says no more than it did.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._ask, told)
                told.wait(_PATIENCE)
        return self._latest

    def _ask(self, told: threading.Event | None) -> None:
        client = self._client()
        self._latest = [] if client is None else client.statistics()
        if told is not None:
            told.set()
