"""Inputs and outputs that are no local files, by fsspec."""

from __future__ import annotations

import errno
import gzip
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from aimlasync import AsyncClient, bulk
from aimlasync.addresses import AddressError
from aimlasync.bulk.input.many import open_files
from aimlasync.bulk.input.remote import stamp_of
from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.jobs.job_rows import pending_rows
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.journal.id_set import IdSet
from aimlasync.bulk.output.elsewhere import Elsewhere, written_here
from aimlasync.bulk.tasks.tasks import PromptTask
from aimlasync.simulator import Simulator
from tests.support.addresses import read_elsewhere
from tests.support.commands import finish, last_line, lines, run, start, table, write
from tests.support.memory_files import memory_files
from tests.support.web_server import Page, serving

fsspec = pytest.importorskip("fsspec", reason="pip install 'aimlasync[fsspec]' runs these tests")

Vendor = Callable[..., Simulator]

ASK = ("--prompt", "Where is {city}?")
COPY = "simplecache::"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def memory() -> Iterator[Any]:
    files = {"/in/a.csv": b"city\nRome\nParis\n", "/in/b.csv": b"city\nOslo\n", "/in/_SUCCESS": b""}
    with memory_files(files) as system:
        yield system


def web_server(rows: bytes) -> AbstractContextManager[str]:
    """Serve rows by names that say how."""

    def page(target: str) -> Page:
        name = target[1:].partition(".")[0]
        body = gzip.compress(rows) if name == "gzip" else rows
        headers = {"Content-Encoding": "gzip"} if name == "gzip" else {}
        if name.startswith("led"):
            headers["Location"] = "/403.jsonl?sig=hunter22" if name == "led-403" else "/a.jsonl?sig=hunter22"
        if name in ("open", "cut"):
            headers["Content-Length"] = "" if name == "open" else str(3 * len(body))
        return Page({"403": 403, "404": 404, "led": 302, "led-403": 302}.get(name, 200), body, headers)

    return serving(page)


@pytest.mark.parametrize("said", ["memory://in", "memory://in/*.csv"])
def test_files_elsewhere_are_an_input_like_any_other(vendor: Vendor, memory: Any, said: str) -> None:
    sim = vendor()
    for _ in range(2):
        assert run("bulk", said, *ASK, "-o", "out.csv", "--columns", "place,city,answer").exit_code == 0
    assert len(sim.ledger) == 3
    rows = [(row["place"], row["city"]) for row in table("out.csv")]
    assert rows == [
        ("memory://in/a.csv:2", "Rome"),
        ("memory://in/a.csv:3", "Paris"),
        ("memory://in/b.csv:2", "Oslo"),
    ]


def test_names_that_look_like_patterns_are_names_first(memory: Any) -> None:
    memory.pipe({"/[in]/a*.csv": b"city\nRome\n", "/[in]/ab.csv": b"city\nOslo\n", "/i/c.csv": b"city\nParis\n"})
    names = ("[in]", "[in]/a*.csv", "[i]/*.csv")
    found = {}
    for name in names:
        with closing(open_files([f"memory://{name}"])) as source:
            found[name] = source.paths
    assert found == {
        "[in]": ["memory://[in]/a*.csv", "memory://[in]/ab.csv"],
        "[in]/a*.csv": ["memory://[in]/a*.csv"],
        "[i]/*.csv": ["memory://i/c.csv"],
    }


def test_the_next_file_is_copied_while_rows_of_one_are_asked_about(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, get_file = [threading.Event(), threading.Event()], type(memory).get_file

    def copy(self: Any, path: str, *rest: Any) -> None:
        get_file(self, path, *rest)
        copied["a" not in path].set()

    with closing(open_files(["memory://in"])) as source:
        monkeypatch.setattr(type(memory), "get_file", copy)
        rows = iter(source)
        assert next(rows).fields == {"city": "Rome"}
        assert copied[0].is_set()
        assert copied[1].wait(600)
        assert [row.fields["city"] for row in rows] == ["Paris", "Oslo"]
        memory.rm("/in/b.csv")
        rows = iter(source)
        assert [next(rows).number, next(rows).number] == [1, 2]
        with pytest.raises(InputError, match=r"memory://in/b\.csv: no such file"):
            next(rows)


def test_the_event_loop_has_turns_while_a_copy_is_waited_for(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, get_file = threading.Event(), type(memory).get_file

    def copy(self: Any, path: str, *rest: Any) -> None:
        assert "b" not in path or goes_on.wait(600)
        get_file(self, path, *rest)

    monkeypatch.setattr(type(memory), "get_file", copy)
    with closing(open_files(["memory://in"])) as source:
        rows = pending_rows(source, PromptTask(prompt="{city}", model="m"), Options(), done=IdSet())
        first = [row.fields["city"] for row in islice(filter(None, rows), 2)]
        pauses = [next(rows) for _ in range(3)]
        goes_on.set()
        assert [*first, *pauses] == ["Rome", "Paris", None, None, None]
        assert [row.fields["city"] for row in rows if row is not None] == ["Oslo"]


def go_to_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory that has nothing of what was written here."""
    (tmp_path / "another").mkdir()
    monkeypatch.chdir(tmp_path / "another")


def test_an_output_elsewhere_is_gone_on_with_on_another_machine(
    vendor: Vendor, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = vendor()
    words = ("bulk", "memory://in/a.csv", *ASK, "-o", "memory://out/done.csv")
    assert run(*words, "--limit", "1").exit_code == 0
    assert memory.cat("/out/done.csv").startswith(b"city,answer,error\nRome,")
    go_to_another_machine(tmp_path, monkeypatch)
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    assert last_line(result) == "aimlasync: copied to memory://out/done.csv"
    assert len(sim.ledger) == 2
    assert len(memory.cat("/out/done.csv").splitlines()) == 3
    assert len(memory.cat("/out/done.csv.journal").splitlines()) == 2
    assert not any("memory" in path.name for path in Path().iterdir())


async def test_programs_read_and_write_elsewhere_as_commands_do(vendor: Vendor, memory: Any) -> None:
    sim = vendor()
    task = PromptTask(prompt="Where is {city}?", model="openai/gpt-4.1-nano-2025-04-14")
    for _ in range(2):
        async with AsyncClient() as client:
            summary = await bulk.run(client, "memory://in", "memory://out/done.csv", task=task)
        assert summary.is_complete
    assert len(sim.ledger) == 3
    assert len(memory.cat("/out/done.csv").splitlines()) == 4
    async with AsyncClient() as client:
        with pytest.raises(InputError, match=r"^https://host/done.csv: an output cannot be written there"):
            await bulk.run(client, "memory://in", "https://me:hunter22@host/done.csv", task=task)


def test_worker_processes_read_and_write_elsewhere(vendor: Vendor, tmp_path: Path) -> None:
    sim = vendor()
    write("rows.csv", "city\n" + "".join(f"City {n}\n" for n in range(20)))
    there = f"simplecache::file://{tmp_path}"
    code, _, err = finish(start("bulk", f"{there}/here/rows.csv", *ASK, "-o", f"{there}/out.jsonl", "--workers", "2"))
    assert code == 0, err
    assert err.count("aimlasync: copied to ") == 1
    assert len(lines(f"{tmp_path}/out.jsonl")) == 20 == len(sim.ledger)
    assert len(lines("out.jsonl")) == 20


def test_an_address_of_this_machine_is_its_path(vendor: Vendor, tmp_path: Path) -> None:
    sim = vendor()
    write("rows.csv", "city\nRome\n")
    words = ("bulk", f"FILE://{tmp_path}/here/rows.csv", *ASK, "-o", f"file://{tmp_path}/out.jsonl")
    for _ in range(2):
        assert run(*words).exit_code == 0
    assert len(lines(f"{tmp_path}/out.jsonl")) == 1 == len(sim.ledger)
    assert [path.name for path in Path().iterdir()] == ["rows.csv"]


def test_answers_of_another_machine_are_never_written_over(
    vendor: Vendor, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = vendor()
    words = ("bulk", "memory://in/a.csv", *ASK, "-o", "memory://out/done.csv")
    assert run(*words, "--limit", "1").exit_code == 0
    go_to_another_machine(tmp_path, monkeypatch)
    assert run(*words).exit_code == 0
    done = memory.cat("/out/done.csv")
    monkeypatch.chdir(tmp_path / "here")
    result = run(*words)
    assert result.exit_code == 2
    assert "memory://out/done.csv: not what done.csv in this directory is a copy of" in last_line(result)
    assert memory.cat("/out/done.csv") == done
    monkeypatch.chdir(tmp_path / "another")
    assert run(*words).exit_code == 0
    assert len(sim.ledger) == 2


def test_of_two_runs_at_once_the_first_one_does_not_write_over_the_other(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Elsewhere("memory://out/done.csv")
    first.begin()
    write(first.path, "first")
    go_to_another_machine(tmp_path, monkeypatch)
    with written_here("memory://out/done.csv") as path:
        write(path, "second")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(AddressError, match=r"another run has gone on with it meanwhile; the answers are here"):
        first.end()
    assert memory.cat("/out/done.csv") == b"second"
    assert Path("done.csv").read_text() == "first"


def test_a_run_that_is_killed_goes_on_with_what_it_left_here(memory: Any) -> None:
    output = Elsewhere("memory://out/done.csv")
    output.begin()
    write(output.path, "killed")
    with written_here("memory://out/done.csv") as path:
        assert Path(path).read_text() == "killed"
    assert memory.cat("/out/done.csv") == b"killed"


def test_a_store_that_fails_at_the_end_leaves_the_answers_here(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def put_file(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    output = Elsewhere("memory://out/done.csv")
    output.begin()
    write(output.path, "answers")
    monkeypatch.setattr(type(memory), "put_file", put_file)
    with pytest.raises(AddressError, match=r"ConnectionError: gone.*are here, in done\.csv.*the same command copies"):
        output.end()
    assert Path("done.csv").read_text() == "answers"


def test_a_refused_run_leaves_nothing_there_and_nothing_here(vendor: Vendor, memory: Any) -> None:
    vendor()
    memory.pipe("/out/mine.jsonl", b"not of a job")
    for words in (("memory://in/a.csv", "-o", "memory://out/mine.jsonl"), ("no.csv", "-o", "memory://out/other.csv")):
        assert run("bulk", *words, *ASK).exit_code == 2
        assert memory.find("/out") == ["/out/mine.jsonl"]
        assert list(Path().iterdir()) == []


def test_files_of_archives_and_web_servers_are_inputs(tmp_path: Path) -> None:
    rows = b'{"city": "Rome"}\n{"city": "Oslo"}\n'
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a.jsonl", "in/b.jsonl", "in/_done"):
            archive.writestr(name, rows)
    packed = f"file://{tmp_path}/x.zip"
    with web_server(rows) as web:
        found = read_elsewhere(
            [
                *(f"zip://{name}::{packed}" for name in ("a.jsonl", "*.jsonl", "in", "", "no.jsonl")),
                *(f"{web}/{name}" for name in ("a.jsonl?sig=hunter22", "open.jsonl", "gzip.jsonl", "led.jsonl")),
                *(f"{web}/{name}" for name in ("403.jsonl?sig=hunter22", "404.jsonl", "cut.jsonl", "led-403.jsonl")),
                f"simplecache::{web}/a.jsonl?sig=hunter22",
                web.replace("//", "//me:hunter22@") + "/a.jsonl",
                "http://127.0.0.1:1/a.jsonl",
            ]
        )
    assert "hunter22" not in str(list(found.values()))
    got = [answer.get("rows") or answer["error"].partition(": ")[2] for answer in found.values()]
    missing = "no such file; check the address"
    assert got[:9] == [2, 2, 2, 4, missing, 2, 2, 2, 2]
    assert got[9].startswith("cannot be reached (ClientResponseError: 403, message='Forbidden'")
    assert got[10] == missing
    assert "not completed" in got[11]
    assert got[12].startswith("cannot be reached (ClientResponseError: 403")
    assert got[13:15] == [2, 2]
    assert got[15].startswith("cannot be reached (ClientConnectorError")
    assert found[f"zip://in::{packed}"]["files"] == [f"zip://in/b.jsonl::{packed}"]


def test_an_archive_on_a_server_without_ranges_is_read_through_a_copy(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.jsonl", b'{"city": "Rome"}\n')
    with web_server((tmp_path / "x.zip").read_bytes()) as web:
        names = [
            f"zip://a.jsonl::{through}{web}/{name}.zip" for through, name in (("", "a"), ("", "open"), (COPY, "a"))
        ]
        whole, streamed, copied = read_elsewhere(names).values()
    assert copied["rows"] == 1
    for found in (whole, streamed):
        assert found["error"].endswith(
            "gives whole files alone: write simplecache:: before that address, to read a copy"
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("memory://in/nope.csv", "-o", "out.jsonl"), "memory://in/nope.csv: no such file; check the address"),
        (("memory://in/*.tsv", "-o", "out.jsonl"), "memory://in/*.tsv: no file of rows there; check the address"),
        (
            ("odd://in/a.csv", "-o", "out.jsonl"),
            "odd://in/a.csv: cannot be reached (ValueError: Protocol not known: odd",
        ),
        (
            ("memory://in/a.csv", "-o", "odd://out.jsonl"),
            "odd://out.jsonl: cannot be reached (ValueError: Protocol not known: odd",
        ),
        (("memory://in/a.csv", "-o", "https://h/o.jsonl"), "https://h/o.jsonl: an output cannot be written there"),
        (("memory://in/a.csv", "-o", "o.jsonl", "--store", "redis"), "--store redis: no URL of a Redis: set REDIS_URL"),
        (("memory://in/a.csv", "-o", "memory://out/"), "memory://out/: a directory; name a file in it"),
        (
            ("memory://in/a.csv", "-o", "o.jsonl", "--errors", "https://h/e.jsonl"),
            "https://h/e.jsonl: an output cannot be written there",
        ),
    ],
)
def test_what_cannot_be_reached_is_one_line(
    vendor: Vendor, memory: Any, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    sim = vendor()
    result = run("bulk", *words, *ASK)
    assert result.exit_code == 2
    assert said in last_line(result)
    assert len(result.stderr.splitlines()) == 1
    assert len(sim.ledger) == 0


@pytest.mark.parametrize("words", [("s3://b/in.csv", "-o", "out.csv"), ("in.csv", "-o", "s3://b/out.csv")])
def test_without_fsspec_the_extra_is_named_and_no_folder_is_made(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    vendor()
    write("in.csv", "city\nRome\n")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    result = run("bulk", *words, *ASK)
    assert result.exit_code == 2
    assert "s3:// needs fsspec; install it with: pip install 'aimlasync[fsspec]'" in last_line(result)
    assert [path.name for path in Path().iterdir()] == ["in.csv"]


def test_an_object_that_changes_while_it_is_read_is_read_as_one_version(memory: Any, monkeypatch: Any) -> None:
    # A file system whose connection broke goes on with what is there by then.
    old, new = b"city\nRome\nRome\n", b"city\nOslo\nOslo\n"
    memory.pipe("/torn.csv", old)
    read = type(memory).get_file

    def broken(self: Any, name: str, path: str) -> None:
        if memory.cat("/torn.csv") == old:
            memory.pipe("/torn.csv", new)
            Path(path).write_bytes(old[:10] + new[10:])
        else:
            read(self, name, path)

    monkeypatch.setattr(type(memory), "get_file", broken)
    with closing(open_files(["memory://torn.csv"])) as source:
        assert [row.fields for row in source] == [{"city": "Oslo"}] * 2


def test_an_object_that_changes_whenever_it_is_read_is_refused(memory: Any, monkeypatch: Any) -> None:
    read, count = type(memory).get_file, iter(range(100))

    def changing(self: Any, name: str, path: str) -> None:
        read(self, name, path)
        memory.pipe("/in/a.csv", b"city\n" + b"Rome\n" * next(count))

    monkeypatch.setattr(type(memory), "get_file", changing)
    with pytest.raises(InputError, match="changes while it is read; write it whole"):
        open_files(["memory://in/a.csv"])


def test_many_small_objects_are_copied_at_once(monkeypatch: Any) -> None:
    files = {f"/many/{number:02}.csv": f"city\nnumber {number}\n".encode() for number in range(40)}
    together = threading.Barrier(9)
    with memory_files(files) as system:
        read = type(system).get_file

        def waiting(self: Any, name: str, path: str) -> None:
            # The first one tells how large they are, and the second has begun by then.
            if not name.endswith(("00.csv", "01.csv")) and name < "/many/11.csv":
                together.wait(60)
            read(self, name, path)

        monkeypatch.setattr(type(system), "get_file", waiting)
        with closing(open_files(["memory://many"])) as source:
            assert [row.fields["city"] for row in source] == [f"number {number}" for number in range(40)]


def test_credentials_that_expire_during_a_job_are_said_and_fresh_ones_go_on(
    vendor: Vendor, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = vendor()
    words = ("bulk", "memory://in", *ASK, "-o", "out.csv")

    def info(self: Any, path: str, **_: Any) -> Any:
        # What S3 says to HEAD, whose answers have no body.
        if len(sim.ledger) > 0:
            raise OSError(errno.EINVAL, "Bad Request")
        return known(self, path)

    def cat_file(self: Any, path: str, **_: Any) -> bytes:
        raise PermissionError("The provided token has expired.")

    known = type(memory).info
    with monkeypatch.context() as expired:
        expired.setattr(type(memory), "info", info)
        expired.setattr(type(memory), "cat_file", cat_file)
        result = run(*words)
    assert result.exit_code == 2
    assert last_line(result) == (
        "aimlasync: memory://in/a.csv: cannot be reached (PermissionError: The provided token has expired.); "
        "check the address and its credentials, which may have expired; 3 rows done; run the same command to go on"
    )
    assert run(*words).exit_code == 0
    assert len(sim.ledger) == 3
    assert len(table("out.csv")) == 3


def test_what_objects_are_is_asked_once_before_the_first_call_and_once_at_the_end(
    vendor: Vendor, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim, asked = vendor(), Counter[tuple[str, bool]]()

    def counted(address: str) -> tuple[int, int]:
        asked[address, len(sim.ledger) > 0] += 1
        return stamp_of(address)

    monkeypatch.setattr("aimlasync.bulk.input.many.stamp_of", counted)
    assert run("bulk", "memory://in/*.csv", *ASK, "-o", "out.jsonl").exit_code == 0
    assert asked == {(f"memory://in/{name}.csv", is_after): 1 for name in "ab" for is_after in (False, True)}
