"""The README says what is true: its commands run, its Python is valid, its options exist."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aimlasync.simulator import Simulator, serve_in_thread

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def installed(name: str) -> str:
    """The command as installed beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def commands() -> list[str]:
    return [code.strip() for language, code in BLOCKS if language == "sh"][:2]


def test_the_readme_opens_with_one_sentence_and_two_commands() -> None:
    opening = README.split("## ")[0].strip().splitlines()
    assert opening[0] == "# aimlasync"
    assert len([line for line in opening[1:] if line]) == 1
    assert README.split("## ")[1].startswith("Two commands")
    assert all(len(command.splitlines()) == 1 for command in commands())


def test_the_first_command_classifies(tmp_path: Path) -> None:
    # The set-up before it is what made this interpreter's environment.
    run = shlex.split(commands()[0].split("&&")[-1])
    run[0] = installed("aimlasync")
    run[run.index("examples/tickets.csv")] = str(ROOT / "examples" / "tickets.csv")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIML", "BYTESPIKE"))}
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "simulator" in done.stderr
    assert "360" in done.stderr
    assert len((tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()) > 360


def test_the_second_command_is_the_one_that_runs_this() -> None:
    assert shlex.split(commands()[1].split("&&")[-1])[0].endswith("/pytest")


@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "python"])
def test_the_python_is_valid(code: str) -> None:
    compile(code.replace("=...,", "=None,"), "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_example_runs() -> None:
    code = next(code for language, code in BLOCKS if language == "python" and "run(main())" in code)
    with serve_in_thread() as simulator:
        environment = {**os.environ, "AIML_API_KEY": "test", "AIML_API_URL": simulator.base_url}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stderr == ""
    assert done.returncode == 0


async def test_the_web_app_serves(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="pip install 'aimlasync[test]' has what this example needs")
    from web import browser, events_of, serving

    monkeypatch.setenv("AIML_API_KEY", "test")
    monkeypatch.setenv("AIML_API_URL", simulator.base_url)
    names: dict[str, Any] = {}
    exec(next(code for language, code in BLOCKS if language == "python" and "FastAPI(" in code), names)
    async with serving(names["app"]) as server, browser() as session:
        async with session.get(f"{server.url}/chat?question=Hello&user=ann") as response:
            events = [event.event async for event in events_of(response)]
    assert set(events) == {"message", "done"}


@pytest.mark.parametrize("command", ["chat", "classify", "models", "simulate"])
def test_every_option_the_readme_names_exists(command: str) -> None:
    help_text = subprocess.run(
        [installed("aimlasync"), command, "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    for line in re.findall(rf"aimlasync {command} .*", README):
        for option in re.findall(r"--[a-z-]+", line.partition("#")[0]):
            assert option in help_text, f"{command} {option}"
