"""The journal: whole lines or nothing, one job, one process, one owner."""

# ruff: noqa: ASYNC240  # the journal itself writes from the loop: a write to a file does not wait

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from aimlasync.bulk import Journal, JournalError
from aimlasync.bulk.journal import Failure, Record, Response, raw_body

MANIFEST = {"input": "abc", "labels": ["a", "b"], "model": "m"}


def record(number: int) -> Record:
    response = Response(status_code=200, request_id="r", body=msgspec.Raw(b'{"choices":[]}'), attempts=1)
    return Record(id=f"id-{number}", custom_id=f"row-{number}", response=response, error=None)


def numbers(journal: Journal) -> list[str]:
    return [record.custom_id for _, record in journal.records()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.csv.journal"


async def fill(path: Path, *rows: int) -> None:
    journal = Journal.open(str(path), MANIFEST)
    list(journal.records())
    for number in rows:
        journal.append(record(number))
    journal.close()


async def test_records_come_back_in_the_shape_of_a_batch_result(path: Path) -> None:
    await fill(path, 1, 2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"aimlasync": "journal", "version": 1, **MANIFEST}
    assert list(lines[1]) == ["id", "custom_id", "response", "error"]
    assert lines[1]["response"]["body"] == {"choices": []}
    journal = Journal.open(str(path), MANIFEST)
    assert numbers(journal) == ["row-1", "row-2"]
    journal.close()


async def test_only_the_owner_may_read_it(path: Path) -> None:
    await fill(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


async def test_a_last_line_torn_at_any_byte_is_cut_off_and_the_rest_stays(path: Path) -> None:
    await fill(path, 1, 2, 3)
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        journal = Journal.open(str(path), MANIFEST)
        # Without its line end alone, the record is whole.
        kept = ["row-1", "row-2", "row-3"] if end == len(whole) - 1 else ["row-1", "row-2"]
        assert numbers(journal) == kept, end
        journal.append(record(4))
        journal.close()
        journal = Journal.open(str(path), MANIFEST)
        assert numbers(journal) == [*kept, "row-4"], end
        journal.close()


async def test_a_first_line_torn_at_any_byte_is_written_again(path: Path) -> None:
    await fill(path)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        Journal.open(str(path), MANIFEST).close()
        assert path.read_bytes() == whole, end


@pytest.mark.parametrize("bad", [b"", b"{", b'{"id":1}', b"\0" * 9])
async def test_a_bad_line_in_the_middle_is_an_error_with_its_number(path: Path, bad: bytes) -> None:
    await fill(path, 1, 2, 3)
    lines = path.read_bytes().splitlines()
    lines[2] = bad
    data = b"\n".join(lines) + b"\n"
    path.write_bytes(data)
    journal = Journal.open(str(path), MANIFEST)
    with pytest.raises(JournalError, match=r"out\.csv\.journal: line 3: not a record"):
        numbers(journal)
    journal.close()
    assert path.read_bytes() == data


async def test_zeros_after_a_power_failure_are_a_torn_line(path: Path) -> None:
    await fill(path, 1)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100)
    journal = Journal.open(str(path), MANIFEST)
    assert numbers(journal) == ["row-1"]
    journal.close()
    assert path.read_bytes() == whole


async def test_two_runs_at_once_fail_clearly(path: Path) -> None:
    pytest.importorskip("fcntl")
    first = Journal.open(str(path), MANIFEST)
    for restart in (False, True):
        with pytest.raises(JournalError, match="in use by another run"):
            Journal.open(str(path), MANIFEST, restart=restart)
    first.close()
    Journal.open(str(path), MANIFEST).close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["a"]}, "labels"),
        ({"input": "x", "model": "n"}, "input, model"),
        ({"endpoint": "responses"}, "endpoint"),
    ],
)
async def test_the_journal_of_another_job_is_refused_by_name(path: Path, change: dict[str, object], said: str) -> None:
    await fill(path, 1)
    with pytest.raises(JournalError, match=rf"differs in: {said};.*--restart"):
        Journal.open(str(path), {**MANIFEST, **change})
    journal = Journal.open(str(path), {**MANIFEST, **change}, restart=True)
    assert numbers(journal) == []
    journal.close()


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"a":1}\n', b"[]\n"])
def test_a_file_that_is_no_journal_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError, match="not a journal"):
        Journal.open(str(path), MANIFEST)
    assert path.read_bytes() == content


def test_a_journal_of_another_version_is_refused(path: Path) -> None:
    path.write_bytes(b'{"aimlasync":"journal","version":9}\n')
    with pytest.raises(JournalError, match="another version"):
        Journal.open(str(path), MANIFEST)


async def test_a_full_batch_is_one_write_and_a_part_of_one_waits(path: Path) -> None:
    journal = Journal.open(str(path), MANIFEST)
    start = path.stat().st_size
    for number in range(255):
        journal.append(record(number))
    assert path.stat().st_size == start
    journal.append(record(255))
    assert path.read_bytes().count(b"\n") == 257
    journal.append(record(256))
    journal.flush()
    assert path.read_bytes().count(b"\n") == 258
    journal.close()


async def test_a_single_record_is_written_without_being_asked_to(path: Path) -> None:
    import asyncio

    journal = Journal.open(str(path), MANIFEST)
    journal.append(record(1))
    async with asyncio.timeout(5):
        while path.read_bytes().count(b"\n") < 2:  # noqa: ASYNC110  # the journal tells nobody when it writes
            await asyncio.sleep(0.01)
    journal.close()


FULL_DISK = """
import asyncio, resource, sys
sys.path.insert(0, {tests!r})
from test_bulk_journal import MANIFEST, Journal, record

# A full disk, as far as one can be had: the files of this process may not grow beyond 4 KiB.
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

async def main():
    journal = Journal.open({path!r}, MANIFEST)
    written = 0
    try:
        for number in range(100):
            journal.append(record(number))
            journal.flush()
            written += 1
    except OSError as error:
        assert "out.csv.journal" in str(error), error
    try:
        journal.append(record(0))
    except OSError as error:
        assert "out.csv.journal" in str(error), error
    else:
        raise AssertionError("a journal that could not be written took another record")
    journal.close()
    print(written)

asyncio.run(main())
"""


def test_a_full_disk_is_an_error_and_what_was_written_stays(path: Path) -> None:
    pytest.importorskip("resource")
    # In a process of its own: the limit would also hold for a file that this one's output goes to.
    code = FULL_DISK.format(tests=str(Path(__file__).parent), path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    journal = Journal.open(str(path), MANIFEST)
    assert numbers(journal) == [f"row-{number}" for number in range(int(done.stdout))]
    assert numbers(journal) != []
    journal.close()


def test_a_body_over_several_lines_becomes_one() -> None:
    assert bytes(raw_body(b'{\n  "a": "b\\nc"\r\n}')) == b'{"a":"b\\nc"}'
    assert bytes(raw_body(b'{"a": 1.0}')) == b'{"a": 1.0}'


async def test_failures_are_kept_with_what_is_known(path: Path) -> None:
    journal = Journal.open(str(path), MANIFEST)
    failure = Failure(code="RateLimitError", message="HTTP 429: slow down", status=429, attempts=4)
    journal.append(Record(id="x", custom_id="row-1", response=None, error=failure))
    journal.close()
    line = json.loads(path.read_text().splitlines()[1])
    assert line["response"] is None
    assert line["error"] == {"code": "RateLimitError", "message": "HTTP 429: slow down", "status": 429, "attempts": 4}
