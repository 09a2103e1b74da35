"""pytest fixtures that start the simulator, for tests of code that calls a model: no key, no network, no cost.

This is a pytest plugin, registered as `aimlasync` through the `pytest11` entry point. pytest loads it in every run of
every project that has aimlasync installed; so it imports only pytest until a fixture is used.

The simulator runs in a background thread with an event loop of its own, so the fixtures work in plain and in async
tests, and with any plugin for the latter:

    from aimlasync import AsyncClient

    async def test_tickets_are_routed(aimlasync_simulator):
        sim = aimlasync_simulator
        async with AsyncClient(api_key="test", base_url=sim.base_url) as client:
            reply = await client.chat.completions.create(
                model="openai/gpt-5-nano-2025-08-07",
                messages=[{"role": "user", "content": "Route to: support / billing. Input: I was charged twice."}],
            )
        assert reply.choices[0].message.content == "billing"
        assert sim.ledger.by_status() == {200: 1}

Code that makes a client of its own finds the simulator through the environment:

    def test_the_worker_reads_its_settings(aimlasync_simulator, monkeypatch):
        monkeypatch.setenv("AIML_API_KEY", "test")
        monkeypatch.setenv("AIML_API_URL", aimlasync_simulator.base_url)
        worker.main()

Faults, limits, latency and scripted answers are arguments of `aimlasync.simulator.Simulator`:

    def test_a_rate_limit_is_waited_out(aimlasync_simulator_factory):
        sim = aimlasync_simulator_factory(faults=[Fault("status", status=429, times=1)])

What a real server answers can be recorded once, and played from then on without a network or a key:

    async def test_a_ticket_is_routed(aimlasync_cassette):
        async with AsyncClient() as client:
            assert await route(client, "I was charged twice.") == "billing"

    cassettes      `Cassette`: records and plays, whatever client asks
    cassette_file  its file: JSON lines, without keys
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from os import PathLike

    from aimlasync.simulator import Simulator
    from aimlasync.testing.cassettes import Cassette, Mode

# Bytes of a file's name, with room for an ending.
_LONGEST = 180

__all__ = ["aimlasync_cassette", "aimlasync_simulator", "aimlasync_simulator_factory", "cassette"]


def cassette(
    path: str | PathLike[str],
    mode: Mode = "once",
    *,
    match: Collection[str] = ("method", "host", "path", "query", "body"),
    hide: Collection[str] = (),
) -> Cassette:
    """Return a cassette for `with`: inside, all clients' requests are answered from the file, or recorded into it.

    `mode`: "once" records when there is no file, and sends nothing when there is one; "none" never sends; "new" also
    sends what is not recorded; "all" records all anew. Equal requests are answered in their recorded order, each answer
    once. `match` says what makes two requests equal. `hide` names headers whose values are in no file, beside those
    that hold keys (authorization, cookie, api-key, ...); request headers are not written at all.
    A request that is not there raises UnrecordedRequestError, with its difference from the nearest one. Raises
    FileNotFoundError for "none" without a file, and ValueError for a file that is no cassette. The file is
    written at the end; where several processes record into one at once, it has what all recorded. In one process a
    second one raises RuntimeError.
    """
    from aimlasync.testing.cassettes import Cassette

    return Cassette(path, mode=mode, match=match, hide=hide)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the mode of the cassettes of `aimlasync_cassette`."""
    parser.getgroup("aimlasync").addoption(
        "--aimlasync-cassettes",
        choices=["once", "none", "new", "all"],
        default="once",
        help="Cassettes: record where there is no file (once), never send (none), add what is new, record all anew.",
    )


@pytest.fixture
def aimlasync_cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """Answer the test's requests from cassettes/MODULE/TEST.jsonl beside its file, or record them: see `cassette`.

    The mode is that of --aimlasync-cassettes. In a class, TEST is CLASS.TEST; of a name that cannot be a file's, it
    ends in a digest.
    """
    module = request.path
    within = [node.name for node in request.node.listchain() if isinstance(node, pytest.Class)]
    name = _file_name(".".join([*within, request.node.name]))
    path = module.parent / "cassettes" / module.stem / f"{name}.jsonl"
    with cassette(path, request.config.getoption("--aimlasync-cassettes")) as tape:
        yield tape


def _file_name(test: str) -> str:
    """Return a file's name that is no other test's."""
    name = "".join(c if c.isalnum() or c in "-_.[]" else "-" for c in test)
    if name != test or len(name.encode()) > _LONGEST:
        from hashlib import blake2b

        cut = name.encode()[:_LONGEST].decode(errors="ignore")
        name = f"{cut}-{blake2b(test.encode(errors='surrogatepass'), digest_size=4).hexdigest()}"
    return name


@pytest.fixture
def aimlasync_simulator_factory() -> Iterator[Callable[..., Simulator]]:
    """Return a function that starts a simulator with options of `Simulator`; all of them are closed after the test."""
    from contextlib import ExitStack

    from aimlasync.simulator import serve_in_thread

    with ExitStack() as running:

        def start(**options: Any) -> Simulator:
            return running.enter_context(serve_in_thread(**options))

        yield start


@pytest.fixture
def aimlasync_simulator(aimlasync_simulator_factory: Callable[..., Simulator]) -> Simulator:
    """Return a running simulator of the AI/ML API, see `aimlasync.simulator.Simulator`."""
    return aimlasync_simulator_factory()
