"""Run the blocks of one page in order, in this directory, as a reader would.

Python blocks share their names and, like `python -m asyncio`, may await at the top level; clients that a page leaves
open are closed at its end. Files are written, test files are given to pytest, and commands are run, each as far as this
machine can. It is what the process of one page does: see `tests.support.forked`.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import importlib
import inspect
import os
import subprocess
import sys
import types
from pathlib import Path

import click

from aimlasync import AsyncClient
from aimlasync.cli import cli
from tests.support import forked
from tests.support.pages import ROOT, Block, blocks

LEFT_OUT = 77

# What a reader does once, on a machine of his own; the tools of an environment are its set-up too.
_SET_UP = ("pip", "python3", "export")
_ENVIRONMENT = ".venv/bin/"
# Addresses of servers that a block asks for and that a machine may lack.
_SERVERS = ("REDIS_URL",)


class CannotRun(Exception):
    """A package or a server that a block needs is not here."""


def imported(tree: ast.Module) -> None:
    """Import what a block imports, to know before it runs. Raises CannotRun."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
        for name in names:
            try:
                importlib.import_module(name)
            except ImportError as missing:
                if name.partition(".")[0] == "aimlasync" and "pip install" not in str(missing):
                    raise
                advice = "" if "pip install" in str(missing) else f": pip install {name.partition('.')[0]}"
                raise CannotRun(f"{missing}{advice}") from None


def run_python(block: Block, page: Path, module: types.ModuleType, runner: asyncio.Runner) -> None:
    """Run a block; a traceback shows the page's own lines."""
    code = "\n" * (block.line - 1) + block.code
    tree = ast.parse(code, str(page))
    imported(tree)
    compiled = compile(code, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if block.not_run is not None:
        return
    for name in _SERVERS:
        if name in block.code and name not in os.environ:
            raise CannotRun(f"{name} is not set")
    if not compiled.co_flags & inspect.CO_COROUTINE:
        exec(compiled, module.__dict__)
        return

    async def run() -> None:
        await eval(compiled, module.__dict__)

    runner.run(run())


def run_commands(block: Block) -> None:
    """Run each command of ours, or have the command line read it; a file that is run must be there."""
    for words in block.commands():
        name = Path(words[0]).name
        if words[0] in _SET_UP or (words[0].startswith(_ENVIRONMENT) and name != "aimlasync"):
            continue
        if name == "python":
            assert (ROOT / words[1]).is_file(), f"there is no {words[1]}"
            continue
        assert name == "aimlasync", f"nobody can say whether this runs: {' '.join(words)}"
        if "--ray" in words or words[1] == "simulate" or block.not_run is not None:
            command = cli.get_command(click.Context(cli), words[1])
            assert command is not None, f"there is no command {words[1]}"
            command.make_context(words[1], words[2:]).close()
            continue
        code, said = forked.run(words[1:], timeout=600)
        assert code == 0, f"{' '.join(words)}: exit {code}\n{said}"


def run_tests(block: Block) -> None:
    """Give a test file to pytest, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(block.file)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout, done.stdout


def run_block(block: Block, page: Path, module: types.ModuleType, runner: asyncio.Runner) -> None:
    """Do with one block what a reader would."""
    if block.file is not None:
        Path(block.file).write_text(block.code, encoding="utf-8")
        if block.file.endswith(".py"):
            imported(ast.parse(block.code))
        if block.is_test:
            run_tests(block)
    elif block.language == "python":
        run_python(block, page, module, runner)
    elif block.language == "sh":
        run_commands(block)
    else:
        assert block.language == "text", f"nobody runs {block.language}: is it a file, or a text?"


async def close(module: types.ModuleType) -> None:
    """Close the clients that the page's names still hold."""
    for value in list(vars(module).values()):
        if isinstance(value, AsyncClient):
            await value.close()


def main(page: Path) -> int:
    """Run all blocks; the first that fails ends it.

    Return 0 if all ran, and 77 if all did but for those that need a package or server that is not here.
    """
    # What is left open of what a page made is a warning, here as at the end of a process.
    gc.freeze()
    # A module, so that types that the page defines are found where typing looks for them.
    module = types.ModuleType("page")
    sys.modules["page"] = module
    left_out: list[str] = []
    with asyncio.Runner() as runner:
        for block in blocks(page):
            try:
                run_block(block, page, module, runner)
            except CannotRun as why:
                left_out.append(f"line {block.line}: {why}")
            except Exception:
                print(f"{page}:{block.line}: the block that begins here failed", file=sys.stderr)
                raise
        runner.run(close(module))
    vars(module).clear()
    gc.collect()
    print(*left_out, sep="; ")
    return LEFT_OUT if left_out else 0
