"""`instrument`, and the span and the metrics of each call.

`Instrumentation` is an `Observer` of a client, and `CallSpan` the `Watch` of one call (see `client.observer`).
OpenTelemetry's API is imported when a client is instrumented, not with this module.
"""

from __future__ import annotations

import asyncio
import importlib
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aimlasync import AsyncClient, Endpoint, Info
from aimlasync._version import __version__
from aimlasync.chat.types import ChatCompletion
from aimlasync.cost.tokens import tokens_of
from aimlasync.endpoints.providers import Api
from aimlasync.errors import AimlasyncError, APIStatusError
from aimlasync.opentelemetry.attributes import endpoint_attributes, reply_attributes, request_attributes
from aimlasync.opentelemetry.content import input_attributes, output_attributes
from aimlasync.opentelemetry.statistics import StatisticsReader
from aimlasync.responses.types import Response
from aimlasync.wire.base import Reply

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Span, TracerProvider

# Bucket boundaries, those of the conventions: seconds of a call, seconds of a shorter time, tokens.
_CALL_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_SHORT_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKENS = tuple(4**power for power in range(14))


def instrument(
    client: AsyncClient,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_content: bool = False,
    propagate: bool = False,
) -> Instrumentation:
    """Trace and measure the chat and responses calls of `client` and of its copies, from now on.

    `capture_content` puts prompts and answers into the spans; `propagate` sends the span's context (`traceparent`) to
    the vendor. Raises ImportError without opentelemetry-api, RuntimeError when the client has an observer already.
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
    """The observer that `instrument` adds to a client; `stop()` removes it."""

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

        def histogram(name: str, unit: str, description: str, boundaries: Sequence[float]) -> Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=boundaries)

        self.duration = histogram("gen_ai.client.operation.duration", "s", "GenAI operation duration.", _CALL_SECONDS)
        self.tokens = histogram(
            "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", _TOKENS
        )
        self.first_chunk = histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "Time to receive the first chunk.", _SHORT_SECONDS
        )
        self.each_chunk = histogram(
            "gen_ai.client.operation.time_per_output_chunk",
            "s",
            "Time per output chunk after the first one.",
            _SHORT_SECONDS,
        )
        self.wait = histogram(
            "aimlasync.client.wait.duration",
            "s",
            "Time that calls waited here before they were sent.",
            _SHORT_SECONDS,
        )
        self._statistics = StatisticsReader(self._client)
        self._statistics.register(meter)

    def stop(self) -> None:
        """Trace no new calls and report no more statistics; calls in progress are traced to their end."""
        client = self._client()
        if client is not None and not self._statistics.is_stopped:
            client.observe(None)
        self._statistics.is_stopped = True

    def began(self, api: Api, body: Mapping[str, Any], info: Info, endpoints: Sequence[Endpoint]) -> CallSpan:
        """Start the span of a call; see `aimlasync.client.observer.Observer`."""
        self._statistics.note_loop()
        return CallSpan(self, api, body, info, endpoints)


class CallSpan:
    """The span and the metrics of one call; see `aimlasync.client.observer.Watch`."""

    def __init__(
        self,
        instrumentation: Instrumentation,
        api: Api,
        body: Mapping[str, Any],
        info: Info,
        endpoints: Sequence[Endpoint],
    ) -> None:
        from opentelemetry import propagate, trace

        self._instrumentation = instrumentation
        self._info = info
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._started = self._latest = time.perf_counter()
        self._has_first_chunk = False
        self._has_ended = False
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": info.model,
            # Samplers need an endpoint at the start; the attributes of the endpoint that answers replace it.
            **endpoint_attributes(endpoints[0]),
        }
        self._span: Span = instrumentation.tracer.start_span(
            f"chat {info.model}", kind=trace.SpanKind.CLIENT, attributes=attributes
        )
        self.headers: dict[str, str] = {}
        """Headers to send with the call."""
        if instrumentation.propagates:
            context: Context = trace.set_span_in_context(self._span)
            carrier: dict[str, str] = {}
            propagate.inject(carrier, context=context)
            self.headers = {name.title(): value for name, value in carrier.items()}
        if self._span.is_recording():
            self._span.set_attributes(request_attributes(api, body))
            if instrumentation.captures_content:
                self._span.set_attributes(input_attributes(api, body))

    def stumbled(self, error: AimlasyncError, endpoint: str) -> None:
        """Add an event for an attempt that failed."""
        self._span.add_event(
            "aimlasync.attempt.failed", {"error.type": type(error).__name__, "aimlasync.endpoint": endpoint}
        )

    def arrived(self, pieces: int) -> None:
        """Record the times of the chunks of one read."""
        now = time.perf_counter()
        attributes = self._metric_attributes()
        if not self._has_first_chunk:
            self._has_first_chunk = True
            pieces -= 1
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", now - self._started)
            self._instrumentation.first_chunk.record(now - self._started, attributes)
            self._latest = now
        # Of the chunks of one read, the first one has the time since the last read, and the others have 0.
        for _ in range(pieces):
            self._instrumentation.each_chunk.record(now - self._latest, attributes)
            self._latest = now

    def answered(self, reply: Reply) -> None:
        """End the span with a complete reply."""
        if self._has_ended:
            return
        attributes = self._metric_attributes()
        if isinstance(reply, (ChatCompletion, Response)):
            if reply.model:
                attributes["gen_ai.response.model"] = reply.model
            # A kept answer took its tokens once, and they were counted then.
            tokens = None if self._info.cached else tokens_of(reply.usage)
            if tokens is not None:
                for kind, count in zip(("input", "output"), tokens, strict=True):
                    self._instrumentation.tokens.record(count, {**attributes, "gen_ai.token.type": kind})
            if self._span.is_recording():
                self._span.set_attributes(reply_attributes(reply))
                if self._instrumentation.captures_content:
                    self._span.set_attributes(output_attributes(reply))
        self._end(attributes)

    def failed(self, error: BaseException | None) -> None:
        """End the span with an error, or because the caller (cancelled) or the stream's reader (None) left."""
        from opentelemetry import trace

        if self._has_ended:
            return
        attributes = self._metric_attributes()
        if error is None or isinstance(error, asyncio.CancelledError):
            attributes["aimlasync.left"] = True
        else:
            attributes["error.type"] = type(error).__name__
            # The message is content: a vendor's error may quote the prompt.
            message = str(error) if self._instrumentation.captures_content else None
            self._span.set_status(trace.StatusCode.ERROR, message)
            if isinstance(error, APIStatusError):
                self._span.set_attribute("http.response.status_code", error.status)
        self._end(attributes)

    def _end(self, attributes: dict[str, Any]) -> None:
        self._has_ended = True
        instrumentation, info = self._instrumentation, self._info
        for reason, seconds in (("concurrency", info.timing.queued), ("rate", info.timing.limited)):
            if seconds is not None:
                instrumentation.wait.record(seconds, {**attributes, "aimlasync.wait.reason": reason})
        instrumentation.duration.record(time.perf_counter() - self._started, attributes)
        found = {
            **attributes,
            "aimlasync.endpoint": info.endpoint or None,
            "aimlasync.attempts": info.attempts,
            "aimlasync.cached": info.cached or None,
            "aimlasync.request_id": info.request_id,
            "aimlasync.inference_id": info.inference_id,
            "aimlasync.server_request_id": info.server_request_id,
            "aimlasync.wait.concurrency": info.timing.queued,
            "aimlasync.wait.rate": info.timing.limited,
            "aimlasync.cost_usd": info.cost_usd,
        }
        self._span.set_attributes({name: value for name, value in found.items() if value is not None})
        self._span.end()

    def _metric_attributes(self) -> dict[str, Any]:
        """Return the attributes of a metric; each has few different values."""
        endpoint = self._endpoints.get(self._info.endpoint) or next(iter(self._endpoints.values()))
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": self._info.model,
            **endpoint_attributes(endpoint),
        }
