"""The rooms of bulk import only those above them, in the order of bulk's docstring, and no room has a circle."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from aimlasync import bulk
from tests.support.import_graph import graph, modules, room

ROOT = Path(bulk.__file__).parent
ORDER = re.findall(r"^ {4}([a-z]+)  +\S", bulk.__doc__ or "", re.MULTILINE)


@cache
def imports() -> dict[str, set[str]]:
    """Which module of bulk imports which, those for type checkers left out."""
    return {
        name.removeprefix("bulk."): {target.removeprefix("bulk").lstrip(".") for target in targets if within(target)}
        for name, targets in graph(modules()).items()
        if within(name) and name != "bulk"
    }


def within(module: str) -> bool:
    return room(module) == "bulk"


def test_the_docstring_lists_every_room() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"report"}
    assert packages | {"api"} == set(ORDER)


def test_a_room_imports_only_rooms_above_it() -> None:
    for name in ORDER:
        targets = {room(target) for module, inner in imports().items() if room(module) == name for target in inner}
        assert targets - {name} <= set(ORDER[: ORDER.index(name)]), name


def test_no_modules_of_bulk_import_each_other_in_a_circle() -> None:
    TopologicalSorter(imports()).prepare()


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_the_docstring_of_a_room_lists_its_files(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    listed = set(re.findall(r"^([a-z_]+)  +\S", said, re.MULTILINE))
    assert listed == {file.stem for file in path.parent.glob("*.py")} - {"__init__"}
