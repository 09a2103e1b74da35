"""The rooms of bulk import only those above them, in the order of bulk's docstring, and no room has a circle."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from aimlasync import bulk

ROOT = Path(bulk.__file__).parent
ORDER = re.findall(r"^([a-z]+)  +\S", bulk.__doc__ or "", re.MULTILINE)


def imports() -> dict[str, set[str]]:
    """Which module of bulk imports which, those for type checkers left out."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        tree = ast.parse(path.read_text())
        for_checkers = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for inner in ast.walk(node)
        }
        found[name] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and id(node) not in for_checkers:
                module = node.module or ""
                if module == "aimlasync.bulk" or module.startswith("aimlasync.bulk."):
                    inner = module.removeprefix("aimlasync.bulk").lstrip(".")
                    both = {f"{inner}.{alias.name}".strip(".") for alias in node.names}
                    known = {each for each in both if (ROOT / f"{each.replace('.', '/')}.py").exists()}
                    found[name] |= known or {inner}
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


def test_the_docstring_lists_every_room() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"report"}
    assert packages | {"api"} == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_a_room_imports_only_rooms_above_it(name: str) -> None:
    targets = {room(target) for module, inner in imports().items() if room(module) == name for target in inner}
    assert targets - {name, "fits"} <= set(ORDER[: ORDER.index(name)])


def test_no_modules_of_bulk_import_each_other_in_a_circle() -> None:
    TopologicalSorter({name: targets for name, targets in imports().items() if name}).prepare()


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_the_docstring_of_a_room_lists_its_files(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    listed = set(re.findall(r"^([a-z_]+)  +\S", said, re.MULTILINE))
    assert listed == {file.stem for file in path.parent.glob("*.py")} - {"__init__"}
