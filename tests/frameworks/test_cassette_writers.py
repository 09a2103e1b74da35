"""Several processes, and several cassettes of one process, record into one file: it has what all recorded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aimlasync import AsyncClient
from aimlasync.simulator import Simulator
from aimlasync.testing import cassette, cassette_file
from aimlasync.testing.cassettes import Mode
from tests.frameworks.test_cassettes import KEY, asked, lines


@pytest.mark.parametrize("mode", ["once", "new", "all"])
@pytest.mark.parametrize("before", [0, 2])
def test_what_another_process_recorded_meanwhile_stays(mode: Mode, before: int, tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    if before and mode != "once":
        asyncio.run(record(path, "all", *(f"old {n}" for n in range(before))))
    old = [f"old {n}" for n in range(before)] if before and mode == "new" else []
    other = f"import asyncio, sys; sys.path[:] = {sys.path!r}; from pathlib import Path; import {__name__} as tests; "
    other += f"asyncio.run(tests.record(Path({str(path)!r}), {mode!r}, 'other 0', 'other 1'))"

    async def both() -> None:
        async with Simulator() as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
            with cassette(path, mode):
                await client.chat.completions.create(**asked("own 0"))
                done = await asyncio.create_subprocess_exec(sys.executable, "-c", other)
                assert await done.wait() == 0
                await client.chat.completions.create(**asked("own 1"))

    asyncio.run(both())
    said = [line["request"]["body"]["messages"][0]["content"] for line in lines(path)[1:]]
    assert said == [*old, "other 0", "other 1", "own 0", "own 1"]
    assert os.listdir(tmp_path) == [path.name]


async def record(path: Path, mode: Mode, *texts: str) -> None:
    async with Simulator() as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        with cassette(path, mode):
            for text in texts:
                await client.chat.completions.create(**asked(text))


def test_processes_write_a_file_in_turn_and_lose_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "tape.jsonl")
    write = f"import sys; sys.path[:] = {sys.path!r}; from aimlasync.testing import cassette_file as file; "
    write += "each = lambda n: file.Exchange(file.Request('GET', f'u{n}'), file.Reply(200)); "
    write += f"[file.write({path!r}, [], [each(f'{{sys.argv[1]}}-{{n}}')], None) for n in range(50)]"
    done = [subprocess.Popen([sys.executable, "-c", write, str(n)]) for n in range(3)]
    assert [process.wait() for process in done] == [0, 0, 0]
    found = [exchange.request.url for exchange in cassette_file.read(path)]
    assert sorted(found) == sorted(f"u{process}-{n}" for process in range(3) for n in range(50))


def test_a_writer_that_was_killed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tape.jsonl.writing").touch()
    monkeypatch.setattr(cassette_file, "_PATIENCE", 0.0)
    with pytest.raises(cassette_file.CassetteFileError, match=r"tape\.jsonl\.writing: .* remove the file"):
        cassette_file.write(str(tmp_path / "tape.jsonl"), [], [], None)


async def test_one_file_has_one_cassette_that_records(tmp_path: Path) -> None:
    with cassette(tmp_path / "tape.jsonl"), pytest.raises(RuntimeError, match="records into this file already"):
        cassette(tmp_path / "tape.jsonl", "all").__enter__()
    async with Simulator() as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        with cassette(tmp_path / "tape.jsonl"):
            await client.chat.completions.create(**asked())
        with cassette(tmp_path / "tape.jsonl"), cassette(tmp_path / "tape.jsonl") as inner:
            await client.chat.completions.create(**asked())
    assert inner.played == 1
