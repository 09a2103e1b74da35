"""An SQLite file on a full disk, one that is damaged, and times of a clock that was wrong."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aimlasync.store import SQLiteStore, open_store, protocol

KEYS = [f"{number:032x}" for number in range(40)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of values; it stands still until a test moves it."""
    at = [1_800_000_000.0]
    monkeypatch.setattr(protocol, "now", lambda: at[0])
    return at


_FULL = """
import asyncio, resource, signal, sys
from aimlasync.store import SQLiteStore, protocol

async def main():
    at = [1_800_000_000.0]
    protocol.now = lambda: at[0]
    store = SQLiteStore(sys.argv[1], max_bytes=10**6)
    print(await store.get([sys.argv[2]]))
    try:
        await store.put("f" * 32, b"new")
    except OSError as error:
        print(error)
    try:
        await SQLiteStore(sys.argv[1] + ".new.db").put("f" * 32, b"new")
    except OSError as error:
        print(error)
    # There is room again, and the file is looked at once more after a minute.
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    at[0] += 60
    await store.put("f" * 32, b"new")
    print(await store.get(["f" * 32, sys.argv[2]]))
    await store.close()

_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
asyncio.run(main())
"""


async def _keep(path: Path) -> None:
    store = SQLiteStore(path)
    await store.put(KEYS[0], b"kept")
    await store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of a process")
def test_what_is_kept_is_read_on_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    asyncio.run(_keep(path))
    # A file may not grow beyond the first page, as little as on a full disk.
    done = subprocess.run(
        [sys.executable, "-B", "-c", _FULL, path, KEYS[0]], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    kept, refused, new, again = done.stdout.splitlines()
    assert kept == "[b'kept']"
    assert refused.startswith(f"{path}: it can only be read (")
    assert new.startswith(f"{path}.new.db: ")
    assert again == "[b'new', b'kept']"


@pytest.mark.parametrize("where", [18, 100])
async def test_a_damaged_file_says_what_to_do(where: int, tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    store = SQLiteStore(path)
    await store.put(KEYS[0], b"kept")
    await store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:where] + b"\xff" * 20 + whole[where + 20 :])
    with pytest.raises(OSError, match="delete it, and it is made again"):
        await store.get(KEYS[:1])
    os.unlink(path)
    await store.put(KEYS[0], b"again")
    assert await store.get(KEYS[:1]) == [b"again"]
    await store.close()
    with sqlite3.connect(path) as made:
        assert made.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    made.close()


@pytest.mark.parametrize("name", ["answers", "answers.sqlite"])
async def test_uses_at_a_wrong_time_are_not_the_last_ones_for_ever(
    name: str, tmp_path: Path, clock: list[float]
) -> None:
    store: Any = open_store(tmp_path / name, max_bytes=10_000)
    clock[0] += 10**9
    for key in KEYS[:9]:
        await store.put(key, bytes(1000))
    clock[0] -= 10**9
    for key in KEYS[9:30]:
        clock[0] += 1
        await store.put(key, bytes(1000))
        assert await store.get([key]) == [bytes(1000)]
    assert await store.get(KEYS[:9]) == [None] * 9
    await store.close()


@pytest.mark.parametrize("name", ["answers", "answers.sqlite", "memory://wrong-clock/answers"])
async def test_what_was_written_at_a_wrong_time_ends(name: str, tmp_path: Path, clock: list[float]) -> None:
    if "://" in name:
        pytest.importorskip("fsspec")
    store: Any = open_store(name if "://" in name else tmp_path / name, ttl=60)
    clock[0] += 59
    await store.put(KEYS[0], b"of a clock that is a little fast")
    clock[0] += 10**9
    await store.put(KEYS[1], b"of a wrong clock")
    clock[0] -= 10**9 + 59
    assert await store.get(KEYS[:2]) == [b"of a clock that is a little fast", None]
    await store.close()
