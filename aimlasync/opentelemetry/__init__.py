"""Spans and metrics of a client's calls, by OpenTelemetry's semantic conventions for generative AI.

    instrumentation = aimlasync.opentelemetry.instrument(client)      # the global providers, unless others are given
    ...
    instrumentation.stop()

There is one span for each call (not for each attempt): a child of the caller's current span, from the start of the call
to the last event of its stream. Each failed attempt is an event of the span. Prompts and answers are in no span unless
`capture_content=True`.

Source of the names: opentelemetry.io, "Semantic conventions for generative AI systems", client spans and client metrics
(in development; as of `opentelemetry-semantic-conventions` 0.66b2). Names that the conventions lack begin with
`aimlasync.`: waits, attempts, and the gauges and counters of `AsyncClient.statistics()`, one time series per endpoint.
For Prometheus, `opentelemetry-exporter-prometheus` is the reader of the meter provider.

This package only observes the client. It is the only one that knows OpenTelemetry, and uses its API without its SDK.

    attributes        endpoint, request and reply as attributes of spans and metrics
    content           prompts and answers as the conventions' messages
    statistics        the client's statistics as gauges and counters
    instrumentation   `instrument`, and the span of each call
"""

from aimlasync.opentelemetry.instrumentation import Instrumentation, instrument

__all__ = ["Instrumentation", "instrument"]
