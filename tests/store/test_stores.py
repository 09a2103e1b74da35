"""Every store of answers: what was put is found by every process, bounds hold, and what cannot be is refused."""

from __future__ import annotations

import asyncio
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from aimlasync.store import DirectoryStore, SQLiteStore, Store, fsspec_files, open_store, protocol, sqlite

KEYS = [f"{n:032x}" for n in range(64)]


@pytest.fixture(params=["directory", "sqlite", "fsspec"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Return what opens the same store again and again."""
    if request.param == "fsspec":
        pytest.importorskip("fsspec")
    name = {"directory": "answers", "sqlite": "in/answers.sqlite", "fsspec": f"memory://{tmp_path.name}/answers"}
    where = name[request.param]
    return lambda **bounds: open_store(where if "://" in where else tmp_path / where, **bounds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of values; it stands still until a test moves it."""
    at = [1_800_000_000.0]
    monkeypatch.setattr(protocol, "now", lambda: at[0])
    return at


async def test_what_was_put_is_found_by_another_and_nothing_else(make: Callable[..., Any]) -> None:
    first, second = make(), make()
    try:
        assert await second.get(KEYS[:2]) == [None, None]
        await first.put(KEYS[0], b"one")
        await first.put(KEYS[0], b"two\x00")
        await first.put(KEYS[1], b"")
        assert await second.get([KEYS[2], KEYS[1], KEYS[0]]) == [None, b"", b"two\x00"]
        assert await second.get([]) == []
    finally:
        await first.close()
        await second.close()
    assert await first.get(KEYS[:1]) == [b"two\x00"]
    await first.close()
    await first.close()


async def test_a_copy_that_was_pickled_is_the_same_store(make: Callable[..., Any]) -> None:
    store = make(ttl=60)
    await store.put(KEYS[0], b"one")
    other = pickle.loads(pickle.dumps(store))
    assert (repr(other), other.ttl) == (repr(store), 60)
    assert await other.get(KEYS[:1]) == [b"one"]
    await other.close()
    await store.close()


async def test_a_value_is_gone_after_its_time(make: Callable[..., Any], clock: list[float]) -> None:
    store = make(ttl=60)
    await store.put(KEYS[0], b"one")
    clock[0] += 59
    # To be read is not to be written.
    assert await store.get(KEYS[:1]) == [b"one"]
    clock[0] += 1
    assert await store.get(KEYS[:1]) == [None]
    await store.put(KEYS[0], b"two")
    assert await store.get(KEYS[:1]) == [b"two"]
    await store.close()


@pytest.mark.parametrize("name", ["answers", "answers.sqlite"])
async def test_what_was_used_least_recently_goes_first(name: str, tmp_path: Path, clock: list[float]) -> None:
    store: Any = open_store(tmp_path / name, max_bytes=10_000)
    for key in KEYS[:9]:
        clock[0] += 1
        await store.put(key, bytes(1000))
    clock[0] += 1
    assert await store.get(KEYS[:1]) == [bytes(1000)]
    for key in KEYS[9:11]:
        clock[0] += 1
        await store.put(key, bytes(1000))
    kept = [key for key, value in zip(KEYS[:11], await store.get(KEYS[:11]), strict=True) if value is not None]
    assert kept == [KEYS[0], *KEYS[3:11]]
    await store.put(KEYS[20], bytes(20_000))
    assert (await store.get(KEYS[3:4] + KEYS[20:21])) == [bytes(1000), None]
    await store.close()


@pytest.mark.parametrize("name", ["answers", "answers.sqlite"])
async def test_a_store_stays_within_its_bound(name: str, tmp_path: Path) -> None:
    stores: list[Any] = [open_store(tmp_path / name, max_bytes=20_000) for _ in range(2)]
    for number in range(100):
        await stores[number % 2].put(KEYS[number % 50], bytes(900))
    found = await stores[0].get(KEYS[:50])
    held = sum(len(value) + protocol.SEAL for value in found if value is not None)
    # Two processes that write, each a sixteenth above.
    assert 15_000 <= held <= 20_000 * (1 + 2 / 16)
    for store in stores:
        await store.close()


async def test_a_deleted_temporary_file_is_one_that_nobody_writes(tmp_path: Path, clock: list[float]) -> None:
    store = DirectoryStore(tmp_path, max_bytes=100)
    await store.put(KEYS[0], b"x")
    old, new = (tmp_path / KEYS[0][:3] / f".{KEYS[0][3:]}.host.1.{n}" for n in "12")
    for path, age in ((old, 7200), (new, 10)):
        path.touch()
        os.utime(path, (clock[0] - age,) * 2)
    await store.put(KEYS[1], bytes(80))
    assert (old.exists(), new.exists()) == (False, True)


async def test_a_file_that_was_deleted_or_replaced_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    first, second = SQLiteStore(path), SQLiteStore(path)
    for value in (b"one", b"two"):
        await first.put(KEYS[0], value)
        assert await second.get(KEYS[:1]) == [value]
        for name in tmp_path.iterdir():  # noqa: ASYNC240
            name.unlink()
        assert await second.get(KEYS[:1]) == [None]
    await second.put(KEYS[1], b"kept")
    # It has still the first file, whose WAL has the name of the other's.
    await first.close()
    third = SQLiteStore(path)
    assert await third.get(KEYS[:2]) == [None, b"kept"]
    await third.close()
    await second.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_a_damaged_value_is_none_in_sqlite_too(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    store = SQLiteStore(path)
    await store.put(KEYS[0], b"one")
    await store.put(KEYS[1], b"two")
    with sqlite3.connect(path) as other:
        other.execute("UPDATE answers SET value = (SELECT value FROM answers WHERE key = ?)", (KEYS[1],))
    other.close()
    assert await store.get(KEYS[:2]) == [None, b"two"]
    await store.close()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
def test_two_writers_and_a_kill_leave_no_torn_value(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    code = (
        "import asyncio, sys; from aimlasync.store import open_store\n"
        "async def write():\n"
        "    store, size = open_store(sys.argv[1], max_bytes=4_000_000), int(sys.argv[2])\n"
        "    for n in range(10**9):\n"
        "        await store.put(f'{n % 40:032x}', bytes([n % 40]) * size)\n"
        "        print(n, flush=True)\n"
        "asyncio.run(write())"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), size], stdout=subprocess.PIPE)
        for size in ("30000", "50000")
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            for _ in range(60):
                writer.stdout.readline()
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()

    async def read() -> list[bytes | None]:
        store = open_store(path)
        await store.put(KEYS[63], b"goes on")
        found = await store.get(KEYS[:40])
        await store.close()
        return found

    found = asyncio.run(read())
    assert all(value in (bytes([n]) * 30000, bytes([n]) * 50000) for n, value in enumerate(found))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_process_opens_the_file_for_itself(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, sys; from aimlasync.store import SQLiteStore\n"
        "store = SQLiteStore(sys.argv[1]); one, two = '1' * 32, '2' * 32\n"
        "asyncio.run(store.put(one, b'parent'))\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    assert asyncio.run(store.get([one])) == [b'parent']\n"
        "    asyncio.run(store.put(two, b'child')); asyncio.run(store.close()); os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "assert asyncio.run(store.get([one, two])) == [b'parent', b'child']\n"
        "asyncio.run(store.close())"
    )
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(tmp_path / "a.db")], check=True)


async def test_a_read_that_is_cancelled_leaves_the_store_usable(make: Callable[..., Any]) -> None:
    store = make()
    await store.put(KEYS[0], b"one")
    for work in (store.get(KEYS[:1]), store.put(KEYS[1], b"two"), store.close()):
        task = asyncio.ensure_future(work)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await store.get(KEYS[:1]) == [b"one"]
    await store.close()


# What is refused


def test_the_form_of_a_text_decides_which_store_it_names(tmp_path: Path) -> None:
    assert isinstance(open_store(tmp_path / "a"), DirectoryStore)
    assert isinstance(open_store(f"file://{tmp_path}/a"), DirectoryStore)
    for name in ("a.sqlite", "a.sqlite3", "a.db", "A.SQLITE"):
        assert isinstance(open_store(tmp_path / name), SQLiteStore)
    store: Store = DirectoryStore(tmp_path)
    assert open_store(store) is store
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("s3:/bucket/answers", "neither a path nor a URL"),
        (Path("s3://bucket/answers"), "neither a path nor a URL"),
        ("nowhere://bucket/answers", r"^nowhere://bucket/answers: .*nowhere"),
        ("webdav://me:secret@host/answers", r"^webdav://host/answers: "),
        ("", "not an empty text"),
        ("s3:", "neither a path nor a URL"),
        ("redis:cache", "neither a path nor a URL"),
        ("file://host/answers", "third slash"),
        ("https://me:secret@host/answers", "cannot be written there"),
        ("/dev/null/a.sqlite", "cannot be opened"),
        ("a\0b.sqlite", "cannot be opened"),
    ],
)
def test_what_is_no_place_for_answers_is_refused_in_one_line(
    where: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said) as refused:
        open_store(where)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)
    assert os.listdir(tmp_path) == []


def test_a_tilde_is_the_home_where_no_shell_has_seen_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert repr(open_store("~/answers.sqlite")) == f"SQLiteStore({str(tmp_path / 'answers.sqlite')!r})"
    assert repr(open_store(Path("~/answers"))) == f"DirectoryStore({str(tmp_path / 'answers')!r})"


async def test_a_file_that_another_process_holds_is_read_and_waited_for_once(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY", 0.01)
    path = tmp_path / "answers.sqlite"
    first = SQLiteStore(path)
    await first.put(KEYS[0], b"kept")
    await first.close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store = SQLiteStore(path)
    assert await store.get(KEYS[:1]) == [b"kept"]
    with pytest.raises(OSError, match="locked"):
        await store.put(KEYS[0], b"new")
    holder.execute("ROLLBACK")
    holder.close()
    with pytest.raises(OSError, match="a moment ago"):
        await store.put(KEYS[0], b"new")
    assert await store.get(KEYS[:1]) == [b"kept"]
    clock[0] += 60
    await store.put(KEYS[0], b"new")
    assert await store.get(KEYS[:1]) == [b"new"]
    await store.close()


async def test_a_file_that_cannot_even_be_read_is_waited_for_once(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY", 0.01)
    path = tmp_path / "answers.sqlite"
    store = SQLiteStore(path)
    await store.put(KEYS[0], b"kept")
    await store.close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OSError, match="locked"):
        await store.get(KEYS[:1])
    holder.close()
    # Each call of a job would wait for it in turn, and nothing be sent meanwhile.
    for work in (store.get(KEYS[:1]), store.put(KEYS[0], b"new")):
        with pytest.raises(OSError, match="a moment ago"):
            await work
    clock[0] += 60
    assert await store.get(KEYS[:1]) == [b"kept"]
    await store.close()


async def test_reads_do_not_fail_where_their_times_cannot_be_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY", 0.01)
    monkeypatch.setattr(sqlite, "_MOST_READ", 1)
    store = SQLiteStore(tmp_path / "answers.sqlite", max_bytes=1000)
    await store.put(KEYS[0], b"kept")
    holder = sqlite3.connect(tmp_path / "answers.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert await store.get(KEYS[:1]) == [b"kept"]
    assert await store.get(KEYS[:1]) == [b"kept"]
    holder.close()
    await store.close()


async def test_a_file_is_read_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a read-only ?disk%20" / "answers.sqlite"
    store = SQLiteStore(path)
    await store.put(KEYS[0], b"kept")
    await store.close()
    # As on a read-only disk, the file of the WAL cannot be made.
    (path.parent / "answers.sqlite-wal").mkdir()
    with pytest.raises(OSError, match="unable to open"):
        await store.get(KEYS[:1])
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert await store.get(KEYS[:2]) == [b"kept", None]
    with pytest.raises(OSError, match=r"it can only be read \(unable to open"):
        await store.put(KEYS[1], b"new")
    assert await store.get(KEYS[:1]) == [b"kept"]
    await store.close()


def test_a_scheme_whose_package_is_missing_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match=r"s3://bucket/answers: its file system needs a package .*s3fs"):
        open_store("s3://bucket/answers")
    for name in [name for name in sys.modules if name.partition(".")[0] == "fsspec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ValueError, match="s3:// needs fsspec; install it with"):
        open_store("s3://bucket/answers")


def test_bounds_that_a_place_does_not_have_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("redis")
    for where in ("redis://cache:6379/0", "memory://answers"):
        with pytest.raises(ValueError, match="max_bytes= is not for a"):
            open_store(where, max_bytes=1)
    with pytest.raises(ValueError, match="where the store is made"):
        open_store(DirectoryStore(tmp_path), ttl=1)
    for bounds in ({"max_bytes": 0}, {"ttl": 0.0}, {"ttl": float("nan")}):
        with pytest.raises(ValueError, match="must be above zero"):
            open_store(tmp_path / "a.sqlite", **bounds)
    with pytest.raises(TypeError, match="ttl must be a number of seconds, not '1d'"):
        open_store(tmp_path / "a.sqlite", ttl=cast(Any, "1d"))


def test_where_nothing_can_be_kept_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.sqlite")
    (tmp_path / "rows.csv").touch()
    for where in (tmp_path / "pipe.sqlite", "/dev/null", "/dev/zero"):
        with pytest.raises(ValueError, match="neither a file nor a directory"):
            open_store(where)
    for where in (tmp_path / "rows.csv" / "answers", tmp_path / "rows.csv" / "all" / "a.sqlite", "a\0b", "a" * 300):
        with pytest.raises(ValueError, match="cannot be opened"):
            open_store(where)
    # A link to what is not there yet is made with the first answer.
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "there.sqlite")
    assert isinstance(open_store(tmp_path / "link.sqlite"), SQLiteStore)


async def test_a_store_that_one_user_closes_serves_the_others(tmp_path: Path) -> None:
    store = open_store(tmp_path / "answers.sqlite")
    keys = [f"{number:032x}" for number in range(80)]

    async def use(mine: list[str]) -> None:
        for key in mine:
            await store.put(key, key.encode())
            assert await store.get([key]) == [key.encode()]

    users = [asyncio.create_task(use(keys[number::8])) for number in range(8)]
    while not all(user.done() for user in users):
        await asyncio.gather(store.close(), store.close())
    await asyncio.gather(*users)
    assert await store.get(keys) == [key.encode() for key in keys]
    await store.close()


async def test_a_file_of_others_or_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("rows, and no answers" * 10)
    with pytest.raises(ValueError, match="no store of answers"):
        open_store(tmp_path / "text.sqlite")
    (tmp_path / "text").write_text("rows")
    with pytest.raises(ValueError, match="a file, and a store is a directory"):
        open_store(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE mine (x)")
        other.execute("PRAGMA user_version=3")
    other.close()
    with pytest.raises(ValueError, match="of another program"):
        open_store(tmp_path / "other.db")
    with sqlite3.connect(tmp_path / "plain.db") as plain:
        plain.execute("CREATE TABLE mine (x)")
    plain.close()
    with pytest.raises(ValueError, match="of another program"):
        open_store(tmp_path / "plain.db")
    # Tables that are in the WAL alone, since the other program is running.
    running = sqlite3.connect(tmp_path / "running.db")
    running.execute("PRAGMA journal_mode=WAL")
    running.execute("CREATE TABLE mine (x)")
    store = open_store(tmp_path / "running.db")
    with pytest.raises(OSError, match="of another program"):
        await store.put(KEYS[0], b"x")
    await store.close()
    assert running.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
    running.close()
    store = SQLiteStore(tmp_path / "a.sqlite")
    await store.put(KEYS[0], b"x")
    await store.close()
    with sqlite3.connect(tmp_path / "a.sqlite") as later:
        later.execute("PRAGMA user_version=2")
    later.close()
    with pytest.raises(ValueError, match=r"a store of format 2, and this version of aimlasync knows 1; upgrade"):
        open_store(tmp_path / "a.sqlite")
    with pytest.raises(OSError, match="a store of format 2"):
        await store.get(KEYS[:1])
    with pytest.raises(OSError, match="a store of format 2"):
        await store.put(KEYS[0], b"y")
    await store.close()


async def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = SQLiteStore(tmp_path / "file" / "a.sqlite") if sys.platform == "win32" else SQLiteStore(tmp_path / "d.db")
    (tmp_path / "d.db").mkdir()
    with pytest.raises(OSError, match=r"d\.db"):
        await store.put(KEYS[0], b"x")
    await store.close()


async def test_a_file_system_that_fails_or_hangs_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = type(pytest.importorskip("fsspec").filesystem("memory"))
    store, calls, goes_on = open_store("memory://failing/answers"), [], threading.Event()

    def failing(*_: Any, **__: Any) -> bytes:
        calls.append("failing")
        raise RuntimeError("ftp://me:hunter22@host is gone")

    def hanging(*_: Any, **__: Any) -> bytes:
        calls.append("hanging")
        goes_on.wait(600)
        return b""

    monkeypatch.setattr(memory, "cat_file", failing)
    with pytest.raises(OSError, match=r"^RuntimeError: ftp://host is gone$"):
        await store.get(KEYS[:1])
    with pytest.raises(OSError, match="a moment ago"):
        await store.get(KEYS[:1])
    monkeypatch.setattr(memory, "cat_file", hanging)
    monkeypatch.setattr(fsspec_files, "_TIMEOUT", 0.01)
    store = open_store("memory://failing/answers")
    try:
        with pytest.raises(OSError, match="TimeoutError"):
            await store.get(KEYS[:1])
        with pytest.raises(OSError, match="a moment ago"):
            await store.put(KEYS[0], b"one")
    finally:
        goes_on.set()
    assert calls == ["failing", "hanging"]


async def test_folders_are_made_where_a_file_system_has_some(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    store = fsspec_files.FsspecStore(f"file://{tmp_path}/a/b")
    await asyncio.gather(*(store.put(key, b"one") for key in KEYS[:8]))
    assert await store.get(KEYS[:9]) == [b"one"] * 8 + [None]


def test_a_url_with_a_password_is_never_pickled() -> None:
    pytest.importorskip("fsspec")
    store = fsspec_files.FsspecStore("memory://me:hunter22@host/answers")
    assert repr(store) == "FsspecStore('memory://host/answers')"
    with pytest.raises(TypeError, match="a password is never pickled"):
        pickle.dumps(store)
