"""Quota, budget and answers in a cluster of Redis servers, of which the URL names one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from aimlasync import AsyncClient, Endpoint, Limits
from aimlasync.simulator import Simulator
from tests.support.commands import run
from tests.support.redis_server import RedisNodes

pytest.importorskip("redis", reason="pip install 'aimlasync[redis]' runs these tests")

from aimlasync.redis import RedisQuota, RedisStore

NAMES = "abcdefgh"
"""Half of these names lie on either node."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisNodes]:
    nodes = RedisNodes()
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.close()


async def test_an_account_is_kept_on_whichever_node_has_its_key(cluster: RedisNodes) -> None:
    async def ask(name: str, simulator: Simulator) -> None:
        limits = Limits(requests_per_minute=6000)
        async with RedisQuota(cluster.url, name=name, timeout=60.0) as quota:
            endpoint = Endpoint(base_url=simulator.base_url, api_key=simulator.key, limits=limits, quota=quota)
            async with AsyncClient(endpoints=[endpoint], budget=quota.budget(1.0)) as client:
                reply = await client.responses.create(model="openai/gpt-5-nano-2025-08-07", input="Hello")
                assert reply.output_text
            assert not quota.is_down

    async with Simulator() as simulator:
        await asyncio.gather(*(ask(name, simulator) for name in NAMES))


async def test_answers_are_kept_on_all_nodes_and_read_at_once(cluster: RedisNodes) -> None:
    store = RedisStore(cluster.url)
    keys = [letter * 32 for letter in NAMES]
    assert await store.get(keys) == [None] * len(keys)
    for key in keys:
        await store.put(key, key.encode())
    assert await store.get(keys) == [key.encode() for key in keys]
    await store.close()


def test_a_command_takes_one_node_for_the_cluster(
    cluster: RedisNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", cluster.url)
    Path("in.jsonl").write_text("".join(f'{{"id": {n}, "text": "row {n}"}}\n' for n in range(20)))
    words = ["bulk", "in.jsonl", "--prompt", "{text}", "--id", "id", "--simulate", "--restart", "-o", "out.jsonl"]
    for name in NAMES[:4]:
        done = run(*words, "--rpm", "6000", "--quota", f"redis#{name}", "--store", cluster.url)
        assert done.exit_code == 0, done.stderr
        assert "20 answered" in done.stderr
        assert "failed" not in done.stderr
