"""The benchmarks run: they find what they measure, and every answer is the one that was sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(("script", "pictures"), [("calls.py", ["call"]), ("chunks.py", ["chunks", "events"])])
def test_a_benchmark_compares_aimlasync_and_aiohttp(script: str, pictures: list[str], tmp_path: Path) -> None:
    words = ["--quick", "--rounds", "1", "--loops", "asyncio", "--peers", "raw aiohttp + json", "-o", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *words],
        env={name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout
    assert "left out" not in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith(("aimlasync", "raw aiohttp"))]
    assert len(rows) >= 2 * len(pictures)
    assert all("x" in row for row in rows)
    for picture in pictures:
        assert ElementTree.parse(tmp_path / f"{picture}.svg").getroot().tag.endswith("svg")


def test_the_readme_of_the_benchmarks_names_each_of_them() -> None:
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    commands = {path.name for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert {name for name in commands if name not in text} == set()


@pytest.mark.parametrize(
    ("script", "words", "rows"),
    [
        (
            "bulk_peers.py",
            ["--rows", "200", "--rounds", "1", "--peers", "AsyncOpenAI + semaphore"],
            ["floor", "aimlasync", "AsyncOpenAI"],
        ),
        ("features.py", ["--calls", "100", "--rounds", "1"], ["floor", "fixed concurrency", "everything"]),
    ],
)
def test_a_table_begins_with_the_floor(script: str, words: list[str], rows: list[str]) -> None:
    quick = [] if script == "features.py" else ["--quick"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *quick, *words],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stdout
    found = [line for line in done.stdout.splitlines() if line.startswith(tuple(rows))]
    assert found[0].startswith("floor")
    assert {row for row in rows if not any(line.startswith(row) for line in found)} == set()
