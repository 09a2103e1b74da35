"""What type checkers and editors see: ten small programs of users are clean under mypy --strict and pyright.

Each `reveal_type(...)  # X` in tests/typing/ must be revealed as X by both. Names stand there without their modules.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aimlasync.responses import events, items

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "typing"

_EXPECTED = re.compile(r"reveal_type\(.*\)  # (.+)$")
_MYPY = re.compile(r'^([^:]+):(\d+): note: Revealed type is "(.+)"$')
_MODULES = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")

Revealed = dict[tuple[str, int], str]


def expected() -> Revealed:
    found: Revealed = {}
    for path in sorted(PROGRAMS.glob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := _EXPECTED.search(line):
                found[path.name, number] = match[1]
    return found


def test_every_type_that_is_revealed_is_said() -> None:
    assert len(list(PROGRAMS.glob("*.py"))) == 10
    revealed = sum(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reveal_type"
        for path in PROGRAMS.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    assert revealed == len(expected()) > 40


def test_mypy_sees_the_types_that_users_expect() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-pretty",
            "--no-error-summary",
            *map(str, sorted(PROGRAMS.glob("*.py"))),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    revealed: Revealed = {}
    for line in done.stdout.splitlines():
        match = _MYPY.match(line)
        assert match, done.stdout
        said = _MODULES.sub("", match[3]).replace("'] | Literal['", "', '")
        revealed[Path(match[1]).name, int(match[2])] = said
    assert done.returncode == 0, done.stderr
    assert revealed == expected()


def test_pyright_sees_the_types_that_users_expect() -> None:
    pytest.importorskip("pyright", reason="pip install 'pyright[nodejs]' checks the programs with pyright too")
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(PROGRAMS)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    revealed: Revealed = {}
    for found in json.loads(done.stdout)["generalDiagnostics"]:
        assert found["severity"] == "information", found
        said = re.search(r'Type of ".*" is "(.+)"$', found["message"], re.DOTALL)
        assert said, found
        revealed[Path(found["file"]).name, found["range"]["start"]["line"] + 1] = said[1]
    assert revealed == expected()


def test_the_type_that_checkers_see_is_the_one_on_the_wire() -> None:
    tagged: set[Any] = {
        each
        for module in (events, items)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, (events.Event, items.Tagged))
        # What others are made from has the name of its class.
        if each.__struct_config__.tag != each.__name__
    }
    assert len(tagged) == 53 + 17
    for each in tagged:
        hint = re.fullmatch(r"ClassVar\[Literal\['(.+)'\]\]", each.__annotations__["type"].replace('"', "'"))
        assert hint, each
        assert hint[1] == each.__struct_config__.tag == each().type
