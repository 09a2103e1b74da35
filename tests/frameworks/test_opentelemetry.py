"""Spans and metrics of calls, as OpenTelemetry's own SDK and its Prometheus exporter report them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import aimlasync.opentelemetry
from aimlasync import AimlasyncError, AsyncClient, Endpoint, Limits, Retry
from aimlasync.opentelemetry import Instrumentation
from aimlasync.simulator import Fault, Simulator
from aimlasync.store import Cache
from tests.support.servers import Script, raw_server, until

_SKIP = "pip install 'aimlasync[test]' runs these tests"
trace: Any = pytest.importorskip("opentelemetry.trace", reason=_SKIP)
sdk_trace: Any = pytest.importorskip("opentelemetry.sdk.trace", reason=_SKIP)
sdk_export: Any = pytest.importorskip("opentelemetry.sdk.trace.export", reason=_SKIP)
in_memory: Any = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason=_SKIP)
sdk_metrics: Any = pytest.importorskip("opentelemetry.sdk.metrics", reason=_SKIP)
sdk_readers: Any = pytest.importorskip("opentelemetry.sdk.metrics.export", reason=_SKIP)

NANO = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]
CHUNK = b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n'


class Telemetry:
    """The SDK's own providers, and what they collected."""

    def __init__(self) -> None:
        self.exporter = in_memory.InMemorySpanExporter()
        self.tracer_provider = sdk_trace.TracerProvider()
        self.tracer_provider.add_span_processor(sdk_export.SimpleSpanProcessor(self.exporter))
        self.reader = sdk_readers.InMemoryMetricReader()
        self.meter_provider = sdk_metrics.MeterProvider(metric_readers=[self.reader])

    def instrument(self, client: AsyncClient, **options: Any) -> Instrumentation:
        return aimlasync.opentelemetry.instrument(
            client, tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options
        )

    @property
    def spans(self) -> Any:
        return self.exporter.get_finished_spans()

    @property
    def span(self) -> Any:
        (span,) = self.spans
        return span

    def points(self, name: str) -> list[Any]:
        """The data points of one metric."""
        data = self.reader.get_metrics_data()
        metrics = [] if data is None else [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    def point(self, name: str, **attributes: Any) -> Any:
        (point,) = (p for p in self.points(name) if attributes.items() <= dict(p.attributes).items())
        return point


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
async def client(simulator: Simulator, telemetry: Telemetry) -> AsyncIterator[AsyncClient]:
    endpoint = Endpoint.aimlapi(api_key="test-key", base_url=simulator.base_url)
    async with AsyncClient(endpoints=[endpoint], retry=Retry(attempts=2, base=0.001)) as client:
        yield client


async def ask(client: AsyncClient, **options: Any) -> Any:
    return await client.chat.completions.create(model=NANO, messages=HELLO, **options)


def over(server: Any, **options: Any) -> AsyncClient:
    return AsyncClient(api_key="k", base_url=server.base_url, **{"retry": Retry(attempts=1), **options})


# --- spans -----------------------------------------------------------------------------------------------------------


async def test_a_call_is_a_client_span_by_the_conventions(
    client: AsyncClient, telemetry: Telemetry, simulator: Simulator
) -> None:
    telemetry.instrument(client)
    reply = await ask(client, max_completion_tokens=500, seed=7)
    span = telemetry.span
    assert span.name == f"chat {NANO}"
    assert span.kind is trace.SpanKind.CLIENT
    assert span.status.is_unset
    found = dict(span.attributes)
    assert found.pop("aimlasync.cost_usd") == reply.info.cost_usd
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aimlapi",
        "gen_ai.request.model": NANO,
        "gen_ai.request.max_tokens": 500,
        "gen_ai.request.seed": 7,
        "gen_ai.response.id": reply.id,
        "gen_ai.response.model": reply.model,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": reply.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": reply.usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": reply.usage.completion_tokens_details.reasoning_tokens,
        "openai.api.type": "chat_completions",
        "server.address": "127.0.0.1",
        "server.port": int(simulator.url.rpartition(":")[2]),
        "aimlasync.endpoint": "aimlapi",
        "aimlasync.attempts": 1,
        "aimlasync.request_id": reply.info.request_id,
        "aimlasync.inference_id": reply.info.inference_id,
    }


async def test_a_responses_call_says_which_api_it_is(client: AsyncClient, telemetry: Telemetry) -> None:
    telemetry.instrument(client)
    reply = await client.responses.create(model=NANO, input="Hello")
    assert telemetry.span.attributes["openai.api.type"] == "responses"
    assert telemetry.span.attributes["gen_ai.response.id"] == reply.id
    assert telemetry.span.attributes["gen_ai.response.finish_reasons"] == ("completed",)


async def test_spans_are_children_of_the_callers(client: AsyncClient, telemetry: Telemetry) -> None:
    telemetry.instrument(client)
    with telemetry.tracer_provider.get_tracer("mine").start_as_current_span("mine") as mine:
        await ask(client)
        stream = await ask(client, stream=True)
    await stream.collect()
    children = [span for span in telemetry.spans if span.name != "mine"]
    assert [span.parent.span_id for span in children] == [mine.get_span_context().span_id] * 2


@pytest.mark.parametrize("propagate", [False, True])
async def test_the_context_is_sent_only_if_asked(propagate: bool, telemetry: Telemetry) -> None:
    body = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}'
    async with raw_server(Script([body], content_type="application/json")) as server, over(server) as client:
        telemetry.instrument(client, propagate=propagate)
        await ask(client)
    sent = b"Traceparent: 00-%032x-" % telemetry.span.context.trace_id in server.requests[0]
    assert sent is propagate


async def test_a_stream_is_a_span_until_its_last_piece(client: AsyncClient, telemetry: Telemetry) -> None:
    telemetry.instrument(client)
    stream = await ask(client, stream=True)
    chunks = [chunk async for chunk in stream]
    whole = await stream.collect()
    found = telemetry.span.attributes
    assert found["gen_ai.request.stream"] is True
    assert found["gen_ai.response.time_to_first_chunk"] > 0
    assert found["gen_ai.usage.output_tokens"] == whole.usage.completion_tokens
    assert telemetry.point("gen_ai.client.operation.time_to_first_chunk").count == 1
    assert telemetry.point("gen_ai.client.operation.time_per_output_chunk").count == len(chunks) - 1


async def test_failed_attempts_are_events_and_the_last_is_the_error(
    client: AsyncClient, telemetry: Telemetry, simulator: Simulator
) -> None:
    simulator.faults = [Fault("status", status=500, message="secret words")]
    telemetry.instrument(client)
    with pytest.raises(AimlasyncError):
        await ask(client)
    span = telemetry.span
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes["error.type"] == "InternalServerError"
    assert span.attributes["http.response.status_code"] == 500
    assert span.attributes["aimlasync.attempts"] == 2
    assert [event.name for event in span.events] == ["aimlasync.attempt.failed"] * 2
    assert "secret words" not in span.to_json()
    point = telemetry.point("gen_ai.client.operation.duration")
    assert point.attributes["error.type"] == "InternalServerError"
    assert telemetry.points("gen_ai.client.token.usage") == []


async def test_a_failover_shows_who_failed_and_who_answered(telemetry: Telemetry) -> None:
    async with Simulator(faults=[Fault("status", status=500)]) as first, Simulator(vendor="bytespike") as second:
        endpoints = [
            Endpoint.aimlapi(api_key="a", base_url=first.base_url),
            Endpoint.bytespike(api_key="b", base_url=second.base_url),
        ]
        async with AsyncClient(endpoints=endpoints) as client:
            telemetry.instrument(client)
            await ask(client)
    span = telemetry.span
    assert [event.attributes["aimlasync.endpoint"] for event in span.events] == ["aimlapi"]
    assert span.attributes["aimlasync.endpoint"] == span.attributes["gen_ai.provider.name"] == "bytespike"
    assert span.attributes["server.port"] == int(second.url.rpartition(":")[2])


async def test_a_cut_stream_is_an_error_and_one_that_was_left_is_none(telemetry: Telemetry) -> None:
    async with raw_server(Script([CHUNK], end="reset"), Script([CHUNK], end="stall")) as server, over(server) as client:
        telemetry.instrument(client)
        with pytest.raises(AimlasyncError):
            await (await ask(client, stream=True)).collect()
        async with await ask(client, stream=True):
            pass
    cut, left = telemetry.spans
    assert cut.attributes["error.type"] == "TruncatedStreamError"
    assert left.attributes["aimlasync.left"] is True
    assert left.status.is_unset


async def test_a_cancelled_call_was_left_and_is_a_count_of_its_own(telemetry: Telemetry) -> None:
    async with raw_server(Script(head=b"", end="stall")) as server, over(server) as client:
        telemetry.instrument(client)
        task = asyncio.ensure_future(ask(client))
        await until(lambda: server.requests)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert telemetry.span.attributes["aimlasync.left"] is True
        assert telemetry.span.status.is_unset
        assert telemetry.point("gen_ai.client.operation.duration", **{"aimlasync.left": True}).count == 1
        assert telemetry.point("aimlasync.client.cancelled").value == 1
        assert telemetry.point("aimlasync.client.failed").value == 0


async def test_a_request_that_another_client_wrote_is_a_call_like_any(
    client: AsyncClient, telemetry: Telemetry
) -> None:
    telemetry.instrument(client)
    body = json.dumps({"model": NANO, "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}})
    async for _ in await client.forward("POST", "chat/completions", body.encode()):
        pass
    assert telemetry.span.attributes["gen_ai.usage.output_tokens"] > 0
    assert telemetry.span.attributes["gen_ai.response.time_to_first_chunk"] > 0


# --- content ---------------------------------------------------------------------------------------------------------


TOOL_TALK: Any = [
    {"role": "system", "content": "Be brief"},
    {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
    {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "sunny"},
]


async def test_content_is_captured_only_if_asked(client: AsyncClient, telemetry: Telemetry) -> None:
    stop = telemetry.instrument(client)
    await client.chat.completions.create(model=NANO, messages=TOOL_TALK)
    assert "Weather" not in telemetry.span.to_json()
    assert "sunny" not in telemetry.span.to_json()
    stop.stop()
    telemetry.exporter.clear()
    telemetry.instrument(client, capture_content=True)
    reply = await client.chat.completions.create(model=NANO, messages=TOOL_TALK)
    assert json.loads(telemetry.span.attributes["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief"}]},
        {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": "{}"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "sunny"}]},
    ]
    assert json.loads(telemetry.span.attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": reply.text}], "finish_reason": "stop"}
    ]


async def test_content_of_responses_is_captured_too(client: AsyncClient, telemetry: Telemetry) -> None:
    telemetry.instrument(client, capture_content=True)
    stream = await client.responses.create(model=NANO, input="Hello", instructions="Be brief", stream=True)
    whole = await stream.collect()
    found = telemetry.span.attributes
    assert json.loads(found["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief"}]
    assert json.loads(found["gen_ai.input.messages"])[0]["parts"] == [{"type": "text", "content": "Hello"}]
    assert whole.output_text in json.loads(found["gen_ai.output.messages"])[-1]["parts"][0]["content"]


# --- metrics ---------------------------------------------------------------------------------------------------------


async def test_durations_and_tokens_are_histograms(client: AsyncClient, telemetry: Telemetry) -> None:
    telemetry.instrument(client)
    replies = [await ask(client) for _ in range(3)]
    duration = telemetry.point("gen_ai.client.operation.duration")
    assert duration.count == 3
    assert duration.attributes["gen_ai.response.model"] == replies[0].model
    for kind, taken in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        point = telemetry.point("gen_ai.client.token.usage", **{"gen_ai.token.type": kind})
        assert point.sum == sum(getattr(reply.usage, taken) for reply in replies)
    assert telemetry.point("aimlasync.client.cost").value == pytest.approx(
        sum(reply.info.cost_usd for reply in replies)
    )


async def test_waits_retries_and_what_is_in_flight_are_told(telemetry: Telemetry) -> None:
    async with raw_server(Script(head=b"", end="stall")) as server:
        async with over(server, limits=Limits(concurrency=1)) as client:
            telemetry.instrument(client)
            tasks = [asyncio.ensure_future(ask(client)) for _ in range(3)]
            await until(lambda: client.queued == 2)
            assert telemetry.point("aimlasync.client.in_flight").value == 1
            assert telemetry.point("aimlasync.client.queued").value == 2
            assert telemetry.point("aimlasync.client.limit").value == 1
            assert telemetry.point("aimlasync.client.pause").value == 0
            assert telemetry.point("aimlasync.client.attempts").value == 1
            assert telemetry.points("aimlasync.client.cost") == [], "what is not known is not zero"
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert telemetry.point("aimlasync.client.queued").value == 0
            wait = telemetry.points("aimlasync.client.wait.duration")
            assert sum(point.count for point in wait) == 2
            assert {point.attributes["aimlasync.wait.reason"] for point in wait} == {"concurrency"}


async def test_retries_are_counted(client: AsyncClient, telemetry: Telemetry, simulator: Simulator) -> None:
    simulator.faults = [Fault("status", status=500, times=1)]
    telemetry.instrument(client)
    await ask(client)
    assert telemetry.point("aimlasync.client.retries").value == 1
    assert telemetry.point("aimlasync.client.failed").value == 1


async def test_a_reader_in_another_thread_asks_in_the_clients(client: AsyncClient, telemetry: Telemetry) -> None:
    telemetry.instrument(client)
    await ask(client)
    asked_in: list[int] = []
    statistics = client.statistics

    def noted() -> Any:
        asked_in.append(threading.get_ident())
        return statistics()

    client.statistics = noted  # type: ignore[method-assign]
    point = await asyncio.to_thread(telemetry.point, "aimlasync.client.attempts")
    assert point.value == 1
    assert set(asked_in) == {threading.get_ident()}


async def test_prometheus_sees_it_through_the_exporter_of_opentelemetry(client: AsyncClient) -> None:
    exporter: Any = pytest.importorskip("opentelemetry.exporter.prometheus", reason=_SKIP)
    prometheus: Any = pytest.importorskip("prometheus_client", reason=_SKIP)
    reader = exporter.PrometheusMetricReader()
    provider = sdk_metrics.MeterProvider(metric_readers=[reader])
    try:
        aimlasync.opentelemetry.instrument(client, meter_provider=provider)
        await ask(client)
        page = (await asyncio.to_thread(prometheus.generate_latest)).decode()
    finally:
        provider.shutdown()
    assert 'aimlasync_client_attempts_total{aimlasync_endpoint="aimlapi"' in page
    assert "gen_ai_client_operation_duration_seconds_bucket" in page
    assert 'gen_ai_token_type="output"' in page


# --- on and off ------------------------------------------------------------------------------------------------------


async def test_stop_undoes_it(client: AsyncClient, telemetry: Telemetry) -> None:
    watched = telemetry.instrument(client)
    with pytest.raises(RuntimeError, match="observed already"):
        telemetry.instrument(client)
    watched.stop()
    watched.stop()
    await ask(client)
    assert telemetry.spans == ()
    assert telemetry.points("aimlasync.client.attempts") == []
    telemetry.instrument(client)
    await ask(client)
    assert len(telemetry.spans) == 1


async def test_a_client_that_is_gone_is_not_kept_by_its_metrics(telemetry: Telemetry) -> None:
    client = AsyncClient(api_key="k", base_url="http://127.0.0.1:9/v1")
    telemetry.instrument(client)
    assert telemetry.points("aimlasync.client.limit")
    del client
    import gc

    gc.collect()
    assert telemetry.points("aimlasync.client.limit") == []


def test_importing_the_module_does_not_import_opentelemetry() -> None:
    code = "import sys, aimlasync.opentelemetry; print('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


async def test_a_missing_package_is_named_with_its_remedy(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ImportError, match=r"pip install 'aimlasync\[opentelemetry\]'"):
        aimlasync.opentelemetry.instrument(client)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_kept_answer_is_said_to_be_one_and_its_tokens_count_once(
    stream: bool, simulator: Simulator, telemetry: Telemetry, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"model": "openai/gpt-4.1-nano-2025-04-14", "messages": HELLO, "temperature": 0}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    cache = Cache(tmp_path / "answers")
    for _ in range(2):
        async with AsyncClient(api_key="k", base_url=simulator.base_url, cache=cache) as client:
            watched = telemetry.instrument(client)
            reply = await client.chat.completions.create(**asked)
            if stream:
                await reply.collect()
            watched.stop()
    assert [span.attributes.get("aimlasync.cached") for span in telemetry.spans] == [None, True]
    assert telemetry.points("gen_ai.client.token.usage")
    assert all(point.count == 1 for point in telemetry.points("gen_ai.client.token.usage"))
