"""Names that a user meets outside of the code stand in the guide: loggers, variables, states, exit codes, messages."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

from aimlasync.agents import web_events
from aimlasync.resilience.circuit_breaker import State
from tests.support.pages import GUIDE

PACKAGE = Path(web_events.__file__).parents[1]
SOURCES = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def page(name: str) -> str:
    return (GUIDE / f"{name}.md").read_text(encoding="utf-8")


def found(pattern: str) -> set[str]:
    return {name for text in SOURCES.values() for name in re.findall(pattern, text)}


def test_every_file_stands_in_the_docstring_of_its_package() -> None:
    for init in PACKAGE.rglob("*/__init__.py"):
        inside = {path.stem for path in init.parent.glob("[!_]*.py")}
        inside |= {path.parent.name for path in init.parent.glob("*/__init__.py")}
        docstring = ast.get_docstring(ast.parse(SOURCES[init])) or ""
        assert inside <= set(re.findall(r"\w+", docstring)), init


def test_every_logger_is_documented() -> None:
    loggers = found(r'log_of\("([^"]+)"\)')
    assert loggers
    assert loggers == set(re.findall(r"^\| `(aimlasync\.\w+)`", page("observability"), re.MULTILINE))


def test_every_environment_variable_is_documented() -> None:
    read = found(r'environ(?:\.get\(|\[)"([A-Z_]+)"') | found(r'"([A-Z]+_API_(?:KEY|URL))"')
    # An example in a docstring.
    read.discard("LEASES")
    assert read
    assert read <= set(re.findall(r"`([A-Z_]+)`", page("options")))


def test_every_state_of_an_endpoint_is_documented() -> None:
    # `statistics()` says ok where the circuit is closed.
    words = {"ok" if state == "closed" else state for state in get_args(State)}
    assert words <= set(re.findall(r"^\| `([a-z-]+)` \|", page("endpoints"), re.MULTILINE))


def test_every_message_and_code_of_a_run_is_documented() -> None:
    text = page("agents-web")
    documented = set(re.findall(r"^ {4}(\w+) ", web_events.__doc__ or "", re.MULTILINE)) - {"message"}
    assert documented >= {"tool_started", "approval_needed", "done", "error"}
    assert all(f"| `{name}`" in text for name in documented)
    source = SOURCES[Path(web_events.__file__)]
    codes = set(re.findall(r'\(?\d{3}, "(\w+)", ', source))
    assert codes >= {"max_turns", "refused"}
    assert all(f"`{code}`" in text for code in codes)


def test_every_code_of_a_failure_is_documented() -> None:
    source = SOURCES[PACKAGE / "relay" / "failures.py"]
    codes = set(re.findall(r'\b\d{3}, "(\w+)", "', source))
    assert codes >= {"overloaded", "no_answer"}
    assert all(f"`{code}`" in page("web") for code in codes)
