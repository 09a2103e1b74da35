"""What every test starts from: one loop of each kind, each transport, no vendor's key, no proxy."""

from __future__ import annotations

import gc
import inspect
import os
import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from aimlasync import AsyncClient, Endpoint
from aimlasync.simulator import Simulator, serve_in_thread
from aimlasync.transport import connection_pool
from aimlasync.transport.aiohttp_session import AiohttpTransport
from tests.support.servers import KEY

_OURS = (
    *("AIML_API_KEY", "AIMLAPI_API_KEY", "BYTESPIKE_API_KEY", "AIML_API_URL", "BYTESPIKE_API_URL"),
    *("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"),
)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    if request.param:
        pytest.importorskip("uvloop", reason="pip install 'aimlasync[uvloop]' runs these tests on uvloop too")
    return "asyncio", {"use_uvloop": request.param}


# Tests of these files go through sockets: each runs over both transports, since what callers were promised holds for
# both. aiohttp's own knows its loops, so that it is run on one of them.
_OVER_BOTH = {
    "test_answer_modes",
    "test_cancellation",
    "test_models",
    "test_client",
    "test_endings",
    "test_costs",
    "test_error_bodies",
    "test_errors",
    "test_passthrough",
    "test_heads_and_proxies",
    "test_hedging",
    "test_providers",
    "test_responses",
    "test_secrets",
    "test_sent_as_said",
    "test_stored_responses",
    "test_stream",
    "test_tls",
    "test_tolerance",
    "test_transports",
    "test_under_load",
    "test_words_of_a_server",
}


# What starts something that is slow to start, once for all tests of the file: they come first, so that a worker of
# pytest-xdist that has nothing left to do does not take the half of them and start it a second time. They mostly wait.
_FIRST = {"test_ray", "test_ray_processes"}
# The longest single tests, for which the other workers would wait at the end. They come first in the second half, where
# another worker begins.
_FIRST_OF_THE_SECOND_HALF = {"test_benchmarks", "test_types"}


# How fast a machine is says nothing of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # Containers set it, and people do not: what a command says is read as it is where its output is buffered.
    os.environ.pop("PYTHONUNBUFFERED", None)
    # What a script starts with `&` ignores Ctrl-C, and so would every command that a test starts and interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # What nohup starts ignores a hang-up; unlike that, a handler is not inherited by commands.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    worker = getattr(config, "workerinput", None)
    if worker is not None and config.args == config.getini("testpaths"):
        # In a clone that is new each worker compiles other files first, and reads those that the others have compiled.
        files = sorted(map(str, Path(__file__).parent.rglob("test_*.py")))
        begin = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        config.args = files[begin:] + files[:begin]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    # What is collected stays to the end: to look through it for garbage, again and again, took half of the collection.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        # As the command line does. Tests took a fourteenth longer with the threshold of Python 3.11.
        gc.set_threshold(10_000)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in _OVER_BOTH and inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("over")
        metafunc.parametrize("over", ["lean", "session"], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        twice = params.get("over") == "session" and params.get("anyio_backend") is True
        (left_out if twice else kept).append(item)
    # Workers find the files in different orders, and are to have the same.
    kept.sort(key=lambda item: item.path)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    first = [item for item in kept if item.path.stem in _FIRST]
    second = [item for item in kept if item.path.stem in _FIRST_OF_THE_SECOND_HALF]
    others = [item for item in kept if item.path.stem not in _FIRST | _FIRST_OF_THE_SECOND_HALF]
    # Four more, so that with any even number of workers it is not the last thing of the one before.
    half = len(kept) // 2 - len(first) + 4
    items[:] = [*first, *others[:half], *second, *others[half:]]


@pytest.fixture
def over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The transport that clients make for themselves."""
    name = str(request.param)
    if name == "session":
        monkeypatch.setattr(connection_pool, "LeanTransport", AiohttpTransport)
    return name


@pytest.fixture(scope="module", autouse=True)
def garbage() -> Iterator[None]:
    """Look for what the tests of a file left open: a worker of pytest-xdist that has ended tells nobody of it."""
    yield
    gc.collect()
    # What is left lives on, such as modules, and is not looked at again: that took a fifteenth of a second a file.
    gc.freeze()


@pytest.fixture(autouse=True)
def no_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _OURS:
        monkeypatch.delenv(name, raising=False)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Simulator]]:
    """Start a simulator that the command line takes for the AI/ML API."""
    with ExitStack() as stack:

        def begin(**options: Any) -> Simulator:
            sim = stack.enter_context(serve_in_thread(**options))
            monkeypatch.setenv("AIML_API_URL", sim.base_url)
            monkeypatch.setenv("AIML_API_KEY", KEY)
            return sim

        yield begin


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncClient]:
    endpoint = Endpoint.aimlapi(api_key="test-key", base_url=simulator.base_url)
    async with AsyncClient(endpoints=[endpoint]) as client:
        yield client
