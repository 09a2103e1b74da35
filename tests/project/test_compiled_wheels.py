"""The option to compile a wheel is off by default, and lists only modules that mean the same when they are compiled."""

from __future__ import annotations

import ast
import importlib.machinery
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HOOK = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]
MODULES = [path.removeprefix("/") for path in HOOK["include"]]


def test_the_listed_modules_exist() -> None:
    assert MODULES
    assert all((ROOT / module).is_file() for module in MODULES)


def test_a_plain_build_compiles_nothing_and_needs_hatchling_alone() -> None:
    assert HOOK["enable-by-default"] is False
    assert PROJECT["build-system"]["requires"] == ["hatchling"]
    assert not any("mypyc" in each for each in PROJECT["project"]["dependencies"])


@pytest.mark.parametrize("module", MODULES)
def test_a_listed_module_means_the_same_when_it_is_compiled(module: str) -> None:
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        # mypyc drops the options of a class without a word: a frozen struct could be changed, and has no hash.
        assert not (isinstance(node, ast.ClassDef) and node.keywords), f"{module}:{node.lineno}: an option of a class"
        # With the transport compiled, an error raised after an `except` was chained to what had been caught there.
        assert not isinstance(node, ast.AsyncFunctionDef), f"{module}:{node.lineno}: a coroutine"


@pytest.mark.parametrize("module", MODULES)
def test_a_compiled_module_is_of_its_source(module: str) -> None:
    """An extension beside a source shadows it, also when the source was changed since."""
    source = (ROOT / module).with_suffix("")
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        compiled = source.with_name(source.name + suffix)
        if compiled.exists():
            assert compiled.stat().st_mtime >= source.with_suffix(".py").stat().st_mtime, f"build {compiled} again"
