"""Imports only point down, each third-party package has its one place, and importing the library is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import aimlasync

PACKAGE = Path(aimlasync.__file__).parent

LEVEL = {
    "_version": 0,
    "_command_line": 0,
    "errors": 0,
    "error_bodies": 0,
    "info": 0,
    "headers": 0,
    "begun_json": 0,
    "redaction": 1,
    "paths": 1,
    "sse": 0,
    "schema": 0,
    "timeout": 0,
    "providers": 0,
    "wire": 1,
    "chat": 1,
    "chat_chunks": 1,
    "responses": 1,
    "response_events": 1,
    "catalogue": 1,
    "parse": 1,
    "line": 0,
    "event_loop": 0,
    "race": 0,
    "limits": 1,
    "quota": 0,
    "minute": 0,
    "account": 1,
    "till": 2,
    "fallback": 2,
    "leases": 1,
    "shared_budget": 2,
    "gate": 1,
    "hedge": 1,
    "options": 0,
    "endpoint": 2,
    "call": 3,
    "life": 3,
    "lane": 3,
    "retry": 1,
    "signals": 1,
    "health": 1,
    "concurrency": 1,
    "estimate": 1,
    "prices": 1,
    "budget": 1,
    "translate": 1,
    "transport": 1,
    "watch": 1,
    "http1": 0,
    "deadline": 0,
    "session": 2,
    "exchange": 2,
    "lean": 2,
    "pool": 3,
    "stream": 3,
    "chat_stream": 3,
    "response_stream": 3,
    "resources": 4,
    "forward": 4,
    "client": 4,
    "agents": 5,
    "bulk": 5,
    "relay": 5,
    "ray": 5,
    "starlette": 5,
    "aiohttp_web": 5,
    "simulator": 5,
    "testing": 5,
    "httpx": 5,
    "opentelemetry": 5,
    "redis": 5,
    "lease_server": 5,
    "cli": 6,
    "__main__": 6,
}

# Callers of the client use what everybody may use.
PUBLIC = {
    "aimlasync",
    "aimlasync.errors",
    "aimlasync.sse",
    "aimlasync.simulator",
    "aimlasync.agents",
    "aimlasync.bulk",
    "aimlasync.chat.types",
    "aimlasync.responses.types",
    "aimlasync.responses.events",
    "aimlasync.wire.models",
    "aimlasync.endpoints.providers",
    "aimlasync.wire.base",
    "aimlasync.quota.server",
    "aimlasync.redis",
    "aimlasync.relay",
}

ONLY_IN = {
    "aiohttp": {"session", "exchange", "lean", "simulator", "aiohttp_web"},
    "aiolimiter": {"gate"},
    "yarl": {"session", "exchange", "lean"},
    "click": {"cli", "__main__"},
    "pyarrow": {"bulk", "ray"},
    "httpx": {"httpx"},
    "httpx2": {"agents", "httpx"},
    "mcp": {"agents"},
    "openai": {"httpx"},
    "opentelemetry": {"opentelemetry"},
    "ray": {"ray"},
    "redis": {"redis"},
    "starlette": {"starlette"},
    "sse_starlette": {"starlette"},
    "uvloop": {"event_loop"},
}

CORE = {"aiohttp", "msgspec", "anyio", "aiolimiter"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if name != "__init__":
            yield name, path


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Each imported module, and whether it is only for type checkers."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [node.module]
            if node.module == "aimlasync":
                # `from aimlasync import chat` names a module, `from aimlasync import AsyncClient` the package.
                own = {f"aimlasync.{alias.name}" for alias in node.names if (PACKAGE / f"{alias.name}.py").exists()}
                names = [*own, *(["aimlasync"] if len(own) < len(node.names) else [])]
        for name in names:
            yield name, id(node) in typing_only


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(getattr(value, "stem", value)))
def test_arrows_point_down(name: str, path: Path) -> None:
    level = LEVEL[name]
    for target, typing_only in imported(path):
        top = target.partition(".")[0]
        if top in ONLY_IN and not typing_only:
            assert name in ONLY_IN[top], f"{name} imports {top}"
        if top != "aimlasync":
            continue
        module = target.split(".")[1] if "." in target else ""
        if module == name or typing_only:
            continue
        if level >= 5:
            public = any(target == name or target.startswith(f"{name}.") for name in PUBLIC - {"aimlasync"})
            public = public or target in ("aimlasync", "aimlasync.cli")
            assert public or LEVEL[module] < level, f"{name} imports {target}"
            continue
        assert module, f"{name} imports the package itself"
        assert LEVEL[module] <= level, f"{name} (L{level}) imports {module} (L{LEVEL[module]})"


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
