"""examples/gateway.py, as other people's clients see it: openai for Python and for Node, curl; the simulator judges."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aimlasync.simulator import Fault, Latency, Simulator, serve_in_thread

openai: Any = pytest.importorskip("openai", reason="pip install 'aimlasync[test]' runs these tests")

GATEWAY = Path(__file__).parents[2] / "examples" / "gateway.py"
NANO = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]
MODULES = os.environ.get("AIMLASYNC_NODE_MODULES", "")
RICH, OTHER, POOR = "key-of-the-rich", "key-of-another", "key-of-the-poor"


@contextlib.contextmanager
def gateway(aimlapi: Simulator, bytespike: Simulator | None = None) -> Iterator[str]:
    """Run the example before one or two vendors, and yield its base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PORT": str(port),
        "GATEWAY_TENANTS": json.dumps({RICH: 5.0, OTHER: 5.0, POOR: 0.0005}),
        "AIML_API_KEY": "a",
        "AIML_API_URL": aimlapi.base_url,
    }
    if bytespike is not None:
        environment |= {"BYTESPIKE_API_KEY": "b", "BYTESPIKE_API_URL": bytespike.base_url}
    served = subprocess.Popen(
        [sys.executable, "-W", "error", GATEWAY], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        # Its first line says that it listens.
        assert served.stdout is not None
        assert b"Running on" in served.stdout.readline()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        served.terminate()
        said, _ = served.communicate(timeout=600)
        assert b"Traceback" not in said, said.decode()


@pytest.fixture(scope="module")
def vendor() -> Iterator[Simulator]:
    with serve_in_thread() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def base_url(vendor: Simulator) -> Iterator[str]:
    with gateway(vendor) as url:
        yield url


def sdk(base_url: str, key: str = RICH) -> Any:
    return openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=300.0)


def ask(base_url: str, key: str = RICH, **options: Any) -> Any:
    with sdk(base_url, key) as client:
        return client.chat.completions.create(model=NANO, messages=HELLO, **options)


def wait_for(condition: Callable[[], object]) -> None:
    """What another process does is seen by looking."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


# --- clients ---------------------------------------------------------------------------------------------------------


def test_the_openai_package_of_python_is_served(base_url: str) -> None:
    with sdk(base_url) as client:
        whole = client.chat.completions.create(model=NANO, messages=HELLO)
        assert "Hello" in whole.choices[0].message.content
        assert whole.usage.total_tokens > 0
        pieces = client.chat.completions.create(model=NANO, messages=HELLO, stream=True)
        assert "Hello" in "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
        assert "Hello" in client.responses.create(model=NANO, input="Hello").output_text
        events = list(client.responses.create(model=NANO, input="Hello", stream=True))
        assert events[-1].type == "response.completed"
        assert NANO in [model.id for model in client.models.list()]


def test_what_it_does_not_serve_is_refused_and_costs_nothing(vendor: Simulator, base_url: str) -> None:
    before = len(vendor.ledger)
    with sdk(base_url) as client:
        asked: list[Callable[[], Any]] = [
            lambda: client.embeddings.create(model="text-embedding-3-small", input="Hello"),
            lambda: client.files.list(),
            lambda: client.responses.retrieve("resp_of_another"),
        ]
        for refused in asked:
            with pytest.raises(openai.NotFoundError) as caught:
                refused()
            assert caught.value.code == "not_served"
    assert len(vendor.ledger) == before


SCRIPT = """
const OpenAI = require("openai");
const [baseURL, apiKey, model] = process.argv.slice(1);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Hello" }];
(async () => {
  const whole = await client.chat.completions.create({ model, messages });
  let text = "";
  for await (const piece of await client.chat.completions.create({ model, messages, stream: true }))
    text += piece.choices?.[0]?.delta?.content ?? "";
  const response = await client.responses.create({ model, input: "Hello" });
  let last;
  for await (const event of await client.responses.create({ model, input: "Hello", stream: true })) last = event.type;
  const embedding = await client.embeddings.create({ model, input: "Hello" }).catch((error) => error);
  const models = [];
  for await (const one of client.models.list()) models.push(one.id);
  const stranger = new OpenAI({ baseURL, apiKey: "nobody's", maxRetries: 0 });
  const refused = await stranger.chat.completions.create({ model, messages }).catch((error) => error);
  console.log(JSON.stringify({
    whole: whole.choices[0].message.content, text, response: response.output_text, last,
    embedding: [embedding.status, embedding.code], models, refused: [refused.status, refused.code],
  }));
})();
"""


@pytest.mark.skipif(
    shutil.which("node") is None or not Path(MODULES, "openai").is_dir(),
    reason="npm install --prefix DIR openai, and AIMLASYNC_NODE_MODULES=DIR/node_modules, run this test",
)
def test_the_openai_package_of_node_is_served(base_url: str) -> None:
    done = subprocess.run(
        ["node", "-e", SCRIPT, base_url, RICH, NANO],
        env={**os.environ, "NODE_PATH": MODULES},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stderr == ""
    said = json.loads(done.stdout)
    for name in ("whole", "text", "response"):
        assert "Hello" in said[name]
    assert said["last"] == "response.completed"
    assert said["embedding"] == [404, "not_served"]
    assert said["refused"] == [401, "invalid_api_key"]
    assert NANO in said["models"]


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["curl", "-sSN", "--max-time", "300", *arguments], capture_output=True, text=True, timeout=600, check=False
    )


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="apt install curl runs this test")


def curl_stream(base_url: str, **body: Any) -> subprocess.CompletedProcess[str]:
    sent = json.dumps({"model": NANO, "messages": HELLO, "stream": True, **body})
    return curl(f"{base_url}/chat/completions", "-H", f"Authorization: Bearer {RICH}", "--json", sent)


@needs_curl
def test_curl_is_served_whole_and_streamed(base_url: str) -> None:
    streamed = curl_stream(base_url)
    assert streamed.returncode == 0
    assert streamed.stdout.endswith("data: [DONE]\n\n")
    sent = json.dumps({"model": NANO, "input": "Hello"})
    whole = curl("-i", f"{base_url}/responses", "-H", f"Authorization: Bearer {RICH}", "--json", sent)
    head, _, body = whole.stdout.replace("\r\n", "\n").partition("\n\n")
    assert "Content-Length: " in head, "an answer that is here whole needs no chunks"
    assert "x-inference-id" in head.lower()
    assert json.loads(body)["status"] == "completed"


# --- tenants ---------------------------------------------------------------------------------------------------------


@needs_curl
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_scheme_of_a_key_is_written_in_any_case(base_url: str, scheme: str) -> None:
    done = curl("-o", os.devnull, "-w", "%{http_code}", f"{base_url}/models", "-H", f"Authorization: {scheme} {RICH}")
    assert done.stdout == "200"


@needs_curl
@pytest.mark.parametrize("key", ["nobody's", "a", f"{RICH}x", ""])
def test_an_unknown_key_is_a_401_and_reaches_no_vendor(vendor: Simulator, base_url: str, key: str) -> None:
    before = len(vendor.ledger)
    done = curl("-w", "%{http_code}", f"{base_url}/models", "-H", f"Authorization: Bearer {key}")
    assert done.stdout.endswith("401")
    if key:
        with pytest.raises(openai.AuthenticationError) as caught:
            ask(base_url, key)
        assert caught.value.code == "invalid_api_key"
    assert len(vendor.ledger) == before


def test_a_spent_budget_is_a_402_and_anothers_is_untouched(vendor: Simulator, base_url: str) -> None:
    before = len(vendor.ledger)
    refused: Any = None
    for _ in range(100):
        try:
            ask(base_url, POOR, max_completion_tokens=100)
        except openai.APIStatusError as error:
            refused = error
            break
    assert refused.status_code == 402
    assert refused.code == "budget_exceeded"
    spent = sum(attempt.cost_usd for attempt in list(vendor.ledger)[before:])
    assert 0 < spent <= 0.0005
    assert ask(base_url, RICH).choices


# --- trouble ---------------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_cancels_its_call_at_the_vendor() -> None:
    slow = Latency.of(ttft=0.0, tokens_per_second=5)
    with serve_in_thread(latency=slow) as vendor, gateway(vendor) as base_url:
        async with openai.AsyncOpenAI(base_url=base_url, api_key=RICH) as client:
            stream = await client.chat.completions.create(model=NANO, messages=HELLO, stream=True)
            await anext(aiter(stream))
            await stream.close()
            await asyncio.to_thread(wait_for, lambda: vendor.ledger[0].disconnected)
            vendor.state.latency = Latency.of(ttft=60.0)
            asked = asyncio.ensure_future(client.chat.completions.create(model=NANO, messages=HELLO))
            await asyncio.to_thread(wait_for, lambda: len(vendor.ledger) == 2)
            asked.cancel()
            await asyncio.to_thread(wait_for, lambda: vendor.ledger[1].disconnected)
    assert len(vendor.ledger) == 2


@needs_curl
@pytest.mark.parametrize("kind", ["cut_stream", "reset_stream"])
def test_a_stream_that_was_cut_looks_cut(kind: str) -> None:
    with serve_in_thread(faults=[Fault(kind, at=4)]) as vendor, gateway(vendor) as base_url:
        done = curl_stream(base_url)
        assert done.returncode != 0, "curl takes it for a whole answer"
        assert done.stdout.startswith("data: {")
        with pytest.raises(Exception, match=r"incomplete|closed|terminated|Connection error"), sdk(base_url) as client:
            # The error is that of the package's HTTP client, which later versions of the package wrap in theirs.
            list(client.chat.completions.create(model=NANO, messages=HELLO, stream=True))


@needs_curl
def test_where_one_vendor_is_down_the_other_answers() -> None:
    with (
        serve_in_thread(faults=[Fault("status", status=500)]) as down,
        serve_in_thread(vendor="bytespike") as up,
        gateway(down, up) as base_url,
    ):
        for _ in range(4):
            assert "Hello" in ask(base_url).choices[0].message.content
        assert curl_stream(base_url).stdout.endswith("data: [DONE]\n\n")
    assert len(down.ledger) >= 1
    assert [attempt.status for attempt in up.ledger] == [200] * 5


def test_what_one_tenant_is_told_to_wait_all_wait() -> None:
    fault = Fault("status", status=429, headers={"Retry-After": "1"}, times=1)
    with serve_in_thread(faults=[fault]) as vendor, gateway(vendor) as base_url:
        assert ask(base_url, RICH).choices
        vendor.faults = [Fault("status", status=429, headers={"Retry-After": "2"}, times=1)]

        async def both() -> None:
            one = asyncio.ensure_future(asyncio.to_thread(ask, base_url, RICH))
            await asyncio.to_thread(wait_for, lambda: vendor.ledger[-1].status == 429)
            await asyncio.to_thread(ask, base_url, OTHER)
            await one

        asyncio.run(both())
    refused = [attempt for attempt in vendor.ledger if attempt.status == 429][-1]
    after = [attempt for attempt in vendor.ledger if attempt.number > refused.number]
    assert len(after) == 2
    assert min(attempt.time for attempt in after) >= refused.time + 2.0


def test_an_error_of_the_vendor_keeps_its_words_and_its_status(base_url: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught, sdk(base_url) as client:
        client.chat.completions.create(model="no-such-model", messages=HELLO)
    assert "no-such-model" in str(caught.value)


@pytest.mark.parametrize("tenants", ["team-a", "[5.0]", '{"team-a": null}', '{"team-a": -1}'])
def test_tenants_that_cannot_be_read_are_one_line(tenants: str) -> None:
    environment = {**os.environ, "GATEWAY_TENANTS": tenants}
    refused = subprocess.run([sys.executable, GATEWAY], env=environment, capture_output=True, text=True, timeout=600)
    assert refused.returncode == 1
    assert refused.stderr.startswith("GATEWAY_TENANTS: a JSON object of keys and US dollars is expected")
