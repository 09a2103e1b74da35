"""Imports go one way, each third-party package has its one place, and importing the library is cheap."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest

from tests.support.import_graph import PACKAGE, between_rooms, circles, graph, imports, inside, modules, room

# From low to high: a room imports rooms of lower floors alone.
FLOORS = [
    {
        "_version",
        "_command_line",
        "plain_stores",
        "addresses",
        "headers",
        "logs",
        "sse",
        "event_loop",
        "deadlines",
        "spelling",
    },
    {"config", "info", "http_response", "store"},
    {"errors"},
    {"transport"},
    {"resilience"},
    {"wire"},
    {"chat"},
    {"responses"},
    {"cost", "structured"},
    {"quota"},
    {"admission"},
    {"endpoints"},
    {"client"},
    {"simulator", "relay", "bulk"},
    {"agents", "starlette", "aiohttp_web", "httpx", "opentelemetry", "ray", "redis", "testing"},
    {"openai"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}

ONLY_IN = {
    "aiohttp": {"transport", "simulator", "aiohttp_web"},
    "aiolimiter": {"admission"},
    "yarl": {"transport"},
    "click": {"cli", "__main__"},
    "pyarrow": {"bulk", "ray"},
    "httpx": {"httpx"},
    "httpx2": {"agents", "httpx"},
    "fsspec": {"addresses"},
    "mcp": {"agents"},
    "openai": {"httpx", "openai"},
    "opentelemetry": {"opentelemetry"},
    "ray": {"ray"},
    "redis": {"redis", "store"},
    "rich": {"cli", "__main__"},
    "starlette": {"starlette"},
    "sse_starlette": {"starlette"},
    "uvloop": {"event_loop"},
}

CORE = {"aiohttp", "msgspec", "anyio", "aiolimiter"}

MODULES = modules()


@cache
def arrows() -> dict[str, set[str]]:
    return graph(MODULES)


def test_every_room_has_its_floor() -> None:
    assert set(between_rooms(arrows())) == set(FLOOR)


def test_a_room_imports_lower_rooms_alone() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, targets in between_rooms(arrows()).items()
        for target in targets
        if target and FLOOR[target] >= FLOOR[name]
    ]
    assert wrong == []


def test_nothing_below_its_callers_imports_the_package_itself() -> None:
    assert {room(name) for name, targets in arrows().items() if "" in targets and name} <= {
        name for name, floor in FLOOR.items() if floor > FLOOR["client"]
    }


def test_no_room_has_a_circle_inside() -> None:
    found = {name: circles(inside(arrows(), name)) for name in between_rooms(arrows())}
    assert {name: each for name, each in found.items() if each} == {}


def test_a_third_party_package_is_imported_in_its_one_place() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, path in MODULES.items()
        if name
        for target, _ in imports(path)
        if room(name) not in ONLY_IN.get(target.partition(".")[0], {room(name)})
    ]
    assert wrong == []


def test_importing_the_library_imports_its_four_dependencies_and_nothing_more() -> None:
    code = (
        "import sys; import aiohttp, msgspec, anyio, aiolimiter; before = set(sys.modules); import aimlasync;"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["aimlasync"]


def test_the_library_imports_no_optional_part_of_its_own() -> None:
    code = "import sys, aimlasync; print(*[m for m in sys.modules if m.startswith('aimlasync.')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    optional = {"cli", "bulk", "simulator", "testing", "agents", "starlette", "ray", "redis", "opentelemetry", "httpx"}
    optional |= {"relay", "aiohttp_web"}
    assert not optional & {module.split(".")[1] for module in out.split()}


def test_the_core_dependencies_are_exactly_four() -> None:
    import re
    import tomllib

    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[<>=~! ]", line)[0] for line in project["dependencies"]} == CORE


def test_the_top_level_holds_six_visible_entries() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached"], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    top = {line.partition("/")[0] for line in tracked.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= {
        "pyproject.toml",
        "README.md",
        "aimlasync",
        "tests",
        "benchmarks",
        "examples",
    }
