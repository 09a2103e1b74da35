"""Answers by what was asked: whole or not there, the same key everywhere, any number of writers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aimlasync.bulk import DirectoryStore, Request
from aimlasync.bulk.answer_store import key_of, scope_of
from aimlasync.store.protocol import sealed, unsealed

TASK = {"task": "prompt", "model": "m"}
URL = "https://api.example/v1"


def asked(text: str, api: str = "chat") -> Request:
    return Request(custom_id="r", api=api, body={"model": "m", "messages": [{"role": "user", "content": text}]})  # type: ignore[arg-type]


def only_file(store: Path) -> Path:
    (file,) = store.glob("*/*")
    return file


KEY = key_of(scope_of(TASK, URL), asked("a"))


async def test_what_was_put_is_found_and_nothing_else(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "s")
    other = key_of(scope_of(TASK, URL), asked("b"))
    assert await store.get([KEY, other]) == [None, None]
    await store.put(KEY, b"one")
    await store.put(KEY, b"two")
    assert await store.get([other, KEY]) == [None, b"two"]
    file = only_file(tmp_path / "s")
    assert file.name == KEY[3:]
    assert file.stat().st_mode & 0o077 == 0


async def test_a_torn_answer_is_no_answer_wherever_it_is_torn(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    await store.put(KEY, b"an answer")
    file = only_file(tmp_path)
    whole = file.read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        assert await store.get([KEY]) == [None]
        file.write_bytes(whole[:end] + bytes(len(whole) - end))
        assert await store.get([KEY]) == [None]
    await store.put(KEY, b"again")
    assert await store.get([KEY]) == [b"again"]


def test_a_value_is_good_for_its_own_key_alone() -> None:
    assert unsealed(KEY, sealed(KEY, b"x")) == b"x"
    assert unsealed("0" * 32, sealed(KEY, b"x")) is None
    assert unsealed(KEY, b"") is None
    assert unsealed(KEY, None) is None


async def test_what_a_killed_writer_left_is_no_answer(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    await store.put(KEY, b"x")
    file = only_file(tmp_path)
    file.rename(file.with_name(f".{file.name}.host.1.1"))
    assert await store.get([KEY]) == [None]


def test_writers_of_one_key_do_not_disturb_each_other(tmp_path: Path) -> None:
    values = [bytes([n]) * 5000 for n in range(8)]
    stores = [DirectoryStore(tmp_path) for _ in values]
    start = threading.Barrier(len(values))
    seen: set[bytes | None] = set()

    def write(store: DirectoryStore, value: bytes) -> None:
        start.wait()
        for _ in range(50):
            store._write(KEY, value)
            seen.add(store._read(KEY))

    threads = [threading.Thread(target=write, args=each) for each in zip(stores, values, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen <= set(values)
    assert len(list(tmp_path.glob("*/*"))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
def test_an_answer_outlives_the_process_that_was_killed_after_it(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, signal, sys; from aimlasync.bulk import DirectoryStore\n"
        "asyncio.run(DirectoryStore(sys.argv[1]).put(sys.argv[2], b'paid'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), KEY], check=False)
    assert done.returncode == -9
    assert DirectoryStore(tmp_path)._read(KEY) == b"paid"


def test_a_key_says_all_that_decides_an_answer_and_is_the_same_in_every_process() -> None:
    scope = scope_of(TASK, URL)
    others = [
        key_of(scope, asked("b")),
        key_of(scope, asked("a", "responses")),
        key_of(scope_of({**TASK, "judged": True}, URL), asked("a")),
        key_of(scope_of(TASK, "https://other.example/v1"), asked("a")),
    ]
    assert len({KEY, *others}) == 5
    turned = Request(custom_id="z", api="chat", body=dict(reversed(asked("a").body.items())))
    assert key_of(scope, turned) == KEY
    code = (
        "from aimlasync.bulk import Request; from aimlasync.bulk.answer_store import key_of, scope_of\n"
        f"print(key_of(scope_of({TASK!r}, {URL!r}), Request(custom_id='', api='chat', body={asked('a').body!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == KEY


async def test_a_store_that_is_removed_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "s")
    store.remove()
    await store.put(KEY, b"x")
    (tmp_path / "s" / "letters").mkdir()
    store.remove()
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["letters"]
    (tmp_path / "s" / "letters").rmdir()
    store.remove()
    assert not (tmp_path / "s").exists()


async def test_a_store_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        await DirectoryStore(tmp_path / "file").put(KEY, b"x")
    with pytest.raises(OSError, match="file"):
        await DirectoryStore(tmp_path / "file").get([KEY])


@pytest.mark.parametrize(
    "key", ["../x", "..", "", "/etc/passwd", "a" * 31, "a" * 33, "../" + "a" * 29, "A" * 32, KEY + "\n"]
)
async def test_no_key_leaves_the_directory(key: str, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "s")
    with pytest.raises(ValueError, match="is no key of an answer"):
        await store.put(key, b"x")
    with pytest.raises(ValueError, match="is no key of an answer"):
        await store.get([key])
    assert os.listdir(tmp_path) == []


def test_an_address_is_no_directory() -> None:
    with pytest.raises(ValueError, match=r"s3://bucket/answers: an address"):
        DirectoryStore("s3://bucket/answers")
