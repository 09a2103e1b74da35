"""The import graph of the package: rooms, arrows and circles.

    python tests/support/import_graph.py            # what imports what, and whether anything goes in a circle

A room is a package or a module that lies at the root. Imports for type checkers alone are left out: they are not there
when the code runs. Imports inside functions count.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "aimlasync"
_HOLDS_STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Return each module below `package` by its dotted name without the first part; "" is the package itself."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def imports(path: Path) -> list[tuple[str, list[str]]]:
    """Return what a file imports when it runs: a module, and the names that are taken from it."""
    return [*_imports(path)]


def _imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    # Only statements hold imports: expressions are most of a tree.
    statements: list[ast.AST] = [ast.parse(path.read_text())]
    while statements:
        node = statements.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module, [alias.name for alias in node.names]
        statements += [each for each in ast.iter_child_nodes(node) if isinstance(each, _HOLDS_STATEMENTS)]


def graph(found: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return which of our modules each of our modules imports."""
    arrows: dict[str, set[str]] = {}
    for name, path in found.items():
        arrows[name] = set()
        for target, names in imports(path):
            if target.partition(".")[0] != "aimlasync":
                continue
            inner = target.partition(".")[2]
            for each in names or [""]:
                whole = f"{inner}.{each}".strip(".")
                arrows[name].add(whole if whole in found else inner)
        arrows[name].discard(name)
    return arrows


def room(module: str) -> str:
    """Return the package that a module lies in, or itself where it lies at the root."""
    return module.partition(".")[0]


def between_rooms(arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the same graph between rooms."""
    rooms: dict[str, set[str]] = {}
    for name, targets in arrows.items():
        if name:
            mine = rooms.setdefault(room(name), set())
            mine |= {room(target) for target in targets} - {room(name)}
    return rooms


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the sets of more than one node that can be reached from each other (Tarjan)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for target in sorted(arrows.get(node, ())):
            if target not in number:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], number[target])
        if low[node] == number[node]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == node:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(arrows):
        if node not in number:
            visit(node)
    return found


def inside(arrows: Mapping[str, set[str]], name: str) -> dict[str, set[str]]:
    """Return the graph of the modules of one room; its `__init__`, which shows them, is left out."""
    mine = {module for module in arrows if module.startswith(f"{name}.")}
    return {module: arrows[module] & mine for module in mine}


def main() -> None:
    """Print the graph."""
    package = Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE
    found = modules(package)
    arrows = graph(found)
    rooms = between_rooms(arrows)
    lines = sum(len(path.read_text().splitlines()) for path in found.values())
    print(
        f"{len(rooms)} rooms, {sum(map(len, rooms.values()))} arrows between them; {len(found)} modules, {lines} lines"
    )
    for name in sorted(rooms):
        print(f"  {name:<16}{' '.join(sorted(rooms[name])) or '-'}")
    for group in circles(rooms):
        print("circle between rooms:", " ".join(group))
    for name in sorted(rooms):
        for group in circles(inside(arrows, name)):
            print(f"circle in {name}:", " ".join(group))


if __name__ == "__main__":
    main()
