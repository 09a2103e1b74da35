"""The command line as tests run it, and what it leaves behind."""

from __future__ import annotations

import csv
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from click.testing import CliRunner, Result

from aimlasync.cli import cli
from tests.support.forked import Command

TICKETS = str(Path(__file__).parents[2] / "examples" / "tickets.csv")


def run(*args: str, stdin: str | bytes | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli, args, input=stdin, prog_name="aimlasync", catch_exceptions=False)


def ended(*args: str) -> tuple[int, str, str]:
    """Run a command to its end; return its exit code, stdout and stderr.

    It runs in this process, but for one with workers: they are forks of a process that has one thread, and would be
    started anew from here.
    """
    if "--workers" in args:
        return finish(start(*args))
    done = run(*args)
    return done.exit_code, done.stdout, done.stderr


def start(*args: str, stdin: IO[Any] | None = None) -> Command:
    """Run a command in a process of its own."""
    return Command(args, stdin=stdin)


def finish(process: Command | subprocess.Popen[str], *, timeout: float = 600) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of a process that is about to end."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode is not None
    return process.returncode, out, err


def until(what: Callable[[], bool]) -> None:
    """Wait for what a process or a thread is about to do."""
    deadline = time.monotonic() + 600
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def last_line(result: Result) -> str:
    """Return the last thing that was said on stderr."""
    return result.stderr.splitlines()[-1]


def table(path: str) -> list[dict[str, str]]:
    """Read a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lines(path: str) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def journal(path: str) -> list[dict[str, Any]]:
    """Read the journal beside an output."""
    return lines(f"{path}.journal")


def write(name: str, content: str | bytes) -> str:
    """Make a file."""
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def cities(count: int, name: str = "in.csv") -> str:
    """Make a file of so many rows, from City 1."""
    return write(name, "city\n" + "".join(f"City {number}\n" for number in range(1, count + 1)))
