"""Inputs and outputs that are no local files, by fsspec."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aimlasync.simulator import Simulator
from tests.support.commands import finish, last_line, lines, run, start, table, write

fsspec = pytest.importorskip("fsspec", reason="pip install 'aimlasync[fsspec]' runs these tests")

Vendor = Callable[..., Simulator]

ASK = ("--prompt", "Where is {city}?")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.pipe({"/in/a.csv": b"city\nRome\nParis\n", "/in/b.csv": b"city\nOslo\n", "/in/_SUCCESS": b""})
    yield system
    system.rm("/", recursive=True)


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


def test_an_output_elsewhere_is_gone_on_with_on_another_machine(
    vendor: Vendor, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = vendor()
    words = ("bulk", "memory://in/a.csv", *ASK, "-o", "memory://out/done.csv")
    assert run(*words, "--limit", "1").exit_code == 0
    assert memory.cat("/out/done.csv").startswith(b"city,answer,error\nRome,")
    (tmp_path / "another").mkdir()
    monkeypatch.chdir(tmp_path / "another")
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    assert len(sim.ledger) == 2
    assert len(memory.cat("/out/done.csv").splitlines()) == 3
    assert len(memory.cat("/out/done.csv.journal").splitlines()) == 2
    assert not any("memory" in path.name for path in Path().iterdir())


def test_worker_processes_read_and_write_elsewhere(vendor: Vendor, tmp_path: Path) -> None:
    sim = vendor()
    write("rows.csv", "city\n" + "".join(f"City {n}\n" for n in range(20)))
    words = ("bulk", f"file://{tmp_path}/here/rows.csv", *ASK, "-o", f"file://{tmp_path}/out.jsonl", "--workers", "2")
    code, _, err = finish(start(*words))
    assert code == 0, err
    assert len(lines(f"{tmp_path}/out.jsonl")) == 20 == len(sim.ledger)


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
        (("memory://in/a.csv", "-o", "o.jsonl", "--errors", "s3://b/e.jsonl"), "s3://b/e.jsonl: no local file"),
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
