"""A name that begins with an underscore is used by the file that defines it, and by no other."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.import_graph import PACKAGE

# Files that still use another file's private names, and which. An entry leaves with its cause.
OFFENDERS: dict[str, set[str]] = {
    "agents/agent.py": {"_runner"},
    "bulk/input/source.py": {"_Hash"},
    "client/passthrough.py": {"_failure"},
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(tree: ast.Module) -> set[str]:
    """Return the private names that a file gives to functions, classes, variables and its objects' attributes."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                found.add(name)
    return set(filter(is_private, found))


def foreign(tree: ast.Module) -> Iterator[str]:
    """Yield the private names of other files that a file imports, or reaches through an object that is not its own."""
    own = defined(tree)
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=names):
                yield from (alias.name for alias in names if is_private(alias.name))
            case (
                ast.Attribute(value=ast.Name(id="self" | "cls"))
                | ast.Attribute(value=ast.Call(func=ast.Name(id="super")))
            ):
                continue
            case ast.Attribute(attr=name) if is_private(name) and name not in own:
                yield name


def parsed(text: str) -> ast.Module:
    return ast.parse(text)


def test_a_private_name_is_used_where_it_is_defined() -> None:
    found = {str(path.relative_to(PACKAGE)): set(foreign(parsed(path.read_text()))) for path in PACKAGE.rglob("*.py")}
    assert {name: names for name, names in found.items() if names} == OFFENDERS


def test_every_offender_is_a_file() -> None:
    assert {name for name in OFFENDERS if not (PACKAGE / name).is_file()} == set()


@pytest.mark.parametrize(
    "text",
    [
        "from aimlasync.other import _helper",
        "other._counter += 1",
        "value = self.other._counter",
        "other()._counter",
        "class Mine:\n    def add(self, other):\n        return other._counter",
    ],
)
def test_the_use_of_a_foreign_private_name_is_seen(text: str) -> None:
    assert set(foreign(parsed(text))) in ({"_helper"}, {"_counter"})


@pytest.mark.parametrize(
    "text",
    [
        "class Mine:\n    def __init__(self):\n        self._counter = 0\n\nMine()._counter += 1",
        "class Mine(Other):\n    def add(self):\n        super()._add()\n        self._counter += 1",
        "from aimlasync._version import __version__",
        "class Mine:\n    _counter: int = 0\n\nmine._counter",
    ],
)
def test_the_use_of_an_own_private_name_is_no_offence(text: str) -> None:
    assert set(foreign(parsed(text))) == set()
