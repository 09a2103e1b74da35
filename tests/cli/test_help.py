"""What `--help` says: one screen a topic, every option in one of them, exit codes; hints for what is misspelled."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from aimlasync.bulk.progress.progress import Snapshot
from aimlasync.cli import cli, display
from aimlasync.cli.help import EXIT_CODES, TopicCommand, topics_of
from aimlasync.simulator import Latency, Simulator
from tests.support.commands import run, write

TOPICS = ["", "labels", "prompt", "files", "limits", "job", "server"]
LONG = [name for name, command in cli.commands.items() if isinstance(command, TopicCommand)]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["", *cli.commands])
@pytest.mark.parametrize("topic", TOPICS)
def test_help_is_a_screen_of_80_columns(name: str, topic: str) -> None:
    asked = [*filter(None, [name]), "--help", *([topic] if topic and name in LONG else [])]
    lines = run(*asked).stdout.splitlines()
    assert 5 < len(lines) < 60
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", LONG)
def test_every_option_is_named_on_the_first_screen_and_explained_on_one(name: str) -> None:
    first = run(name, "--help").stdout
    for option in cli.commands[name].params:
        if isinstance(option, click.Option):
            topics = topics_of(str(option.name))
            assert topics, option.name
            flag = option.opts[-1]
            assert re.search(rf"(?m)(^|[ ,/]){flag}\b", first), flag
            explained = run(name, "--help", topics[0]).stdout
            assert re.search(rf"(?m)^ +(-\w, )?{flag}\b", explained), flag


def test_help_of_what_is_no_topic_is_the_first_screen() -> None:
    assert run("classify", "--help", "tickets.csv").stdout == run("classify", "-h").stdout


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("lables", "--help labels is the nearest; there are: labels, prompt, files, limits, job, server"),
        ("Jobs", "--help job is the nearest; there are: "),
        ("max-usd", "--help limits is the nearest; there are: "),
        ("xyz", "no topic; there are: labels, prompt, "),
    ],
)
def test_help_of_a_misspelt_topic_is_an_error_that_names_the_nearest(word: str, advice: str) -> None:
    result = run("classify", "--help", word)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"aimlasync: --help {word}: no topic; ")
    assert advice in result.stderr


def test_classify_says_how_labels_are_written() -> None:
    for topic in ([], ["labels"]):
        said = run("classify", "--help", *topic).stdout
        assert "@FILE is a file: .json the same" in said


def test_exit_codes_are_in_help_and_in_the_guide() -> None:
    guide = Path(__file__).parents[2].joinpath("examples/guide/command-line.md").read_text()
    for page in (run("--help").stdout, run("bulk", "--help").stdout):
        words = " ".join(page.split())
        for code, said in EXIT_CODES:
            assert f"{code} {said}" in words
            assert f"\n| {code} | " in guide


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["clasify", "t.csv"], "'classify'"),
        (["reports", "t"], "'report'"),
        (["classify", "t.csv", "--lables", "a,b"], "--labels"),
        (["bulk", "t.csv", "--max-us", "1"], "--max-usd"),
    ],
)
def test_what_is_misspelled_is_refused_with_what_was_meant(args: list[str], hint: str) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert re.search(rf"Did you mean .*{hint}", done.stderr)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["classify", "t.csv", "--max-usd", "ten"], "'--max-usd': 'ten' is not a valid number."),
        (["bulk", "t.csv", "--max-tokens", "1.5"], "'--max-tokens': '1.5' is not a valid whole number."),
        (["simulate", "--ttft", "1s"], "'--ttft': '1s' is not a valid number."),
        (["bulk", "t.csv", "--max-usd", "0"], "'--max-usd': 0.0 is not in the range x>0."),
    ],
)
def test_what_is_no_number_is_refused_in_plain_words(args: list[str], said: str) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert f"Invalid value for {said}" in done.stderr


# Progress without a terminal


def snapshot(**values: object) -> Snapshot:
    known = {"at": 0.0, "seconds": 10.0, "total": 5000, "done": 1200, "failed": 3, "in_flight": 40, "limited_by": None}
    rates = {"calls_per_second": 95.4, "tokens_per_second": 12_345.0, "cost_usd": 0.0132, "eta_seconds": 40.0}
    return Snapshot(**{**known, **rates, **values})  # type: ignore[arg-type]


def test_a_line_says_how_far_a_job_is() -> None:
    assert display.progress_line("bulk in.csv", snapshot(limited_by="requests")) == (
        "bulk in.csv: 1,203 of 5,000 (24 %) rows, 3 failed, 40 in flight, 95 calls/s, 12k tokens/s, $0.0132, 0:40 left"
        ", held back by requests per minute"
    )
    bare = snapshot(total=None, failed=0, cost_usd=None, eta_seconds=None)
    assert display.progress_line("bulk -", bare) == "bulk -: 1,200 rows, 40 in flight, 95 calls/s, 12k tokens/s"


def test_a_job_without_a_terminal_says_now_and_then_how_far_it_is(
    vendor: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "_FIRST_LINE", 0.0)
    monkeypatch.setattr(display, "_LINE", 0.0)
    vendor(latency=Latency.of(ttft=0.05))
    write("in.csv", "text\none\ntwo\n")
    args = ("classify", "in.csv", "--labels", "a,b", "-o")
    done = run(*args, "out.csv")
    assert "aimlasync: classify in.csv: 0 of 2 (0 %) rows" in done.stderr
    # A line of a log is one line, however long.
    name = "a table whose name is about as long as a line of a terminal is wide, or a little longer.csv"
    write(name, "text\none\n")
    said = run("classify", name, "--labels", "a,b", "-o", "third.csv").stderr
    assert re.search(rf"^aimlasync: classify {name}: 0 of 1 \(0 %\) rows, .* calls/s, .*$", said, re.MULTILINE), said
    assert "of 2 (" not in run(*args, "other.csv", "--progress", "none").stderr


def test_the_list_of_commands_says_each_in_a_whole_sentence() -> None:
    said = run("--help").stdout
    assert "..." not in said.split("Commands:")[1].replace("[ARGS]...", ""), said
