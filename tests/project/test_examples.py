"""The examples run as they are: on the simulator where no key is set."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from aimlasync.simulator import serve_in_thread

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quickstart.py", ["1 attempt", "USD"]),
        ("stream.py", ["[stop, 106 tokens, ", "USD"]),
        ("many.py", ["billing", "40 of 40 rows"]),
        (
            "router.py",
            ["[billing] This is the simulated billing team", "[support", "[sales]", "routing: 0.000", "USD"],
        ),
        ("judge.py", ["person: correct, judge: correct: ", "judge and people:        88%", "larger judge: 100%"]),
        ("agent.py", ["[find_order {", "42 mugs", "2 turns", "USD"]),
        ("structured.py", ["Team.BILLING", "Team.SUPPORT", "Team.SALES"]),
    ],
)
def test_an_example_runs_on_the_simulator_and_says_so(name: str, words: list[str]) -> None:
    done = example(name)
    assert done.stderr == "no AIML_API_KEY or BYTESPIKE_API_KEY: the built-in simulator answers\n"
    assert done.returncode == 0
    for word in words:
        assert word in done.stdout


def test_an_example_talks_to_the_vendor_where_a_key_is_set() -> None:
    with serve_in_thread() as simulator:
        done = example("quickstart.py", AIML_API_KEY="test", AIML_API_URL=simulator.base_url)
        assert len(simulator.ledger) == 2
    assert (done.stderr, done.returncode) == ("", 0)


def test_the_tickets_are_many_and_different() -> None:
    with (EXAMPLES / "tickets.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 300
    assert len({row["text"] for row in rows}) == len(rows)
    teams = Counter(row["team"] for row in rows)
    assert set(teams) == {"support", "billing", "sales"}
    assert min(teams.values()) > 50
