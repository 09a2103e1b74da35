"""README, CONTRIBUTING and the guide say what is true: every block runs, every link, option and name exists."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import pytest

from aimlasync import AsyncClient, Budget, Endpoint, Hedge, Limits, Retry, Timeout
from aimlasync.cli import cli
from aimlasync.simulator import Simulator, serve_in_thread
from tests.project.test_layers import FLOOR
from tests.support import forked, run_page
from tests.support.pages import CONTRIBUTING, GUIDE, PAGES, README, ROOT, blocks

NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
GUIDE_PAGES = [name for name in NAMES if name.startswith("examples/guide/") and not name.endswith("README.md")]
_LINK = re.compile(r"\]\(([^)#:]+)\)")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


_EXTRAS = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]


def prose_of(name: str) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(name), flags=re.DOTALL | re.MULTILINE)


def installed(name: str) -> str:
    """The command as installed beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def without_keys() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AIML", "BYTESPIKE"))}


def commands() -> list[str]:
    return [block.code.strip() for block in blocks(README) if block.language == "sh"][:2]


# The front page


def test_the_readme_opens_with_one_sentence_three_numbers_and_two_commands() -> None:
    opening, commands_section = prose_of("README.md").split("## ")[:2]
    lines = [line for line in opening.splitlines() if line]
    assert lines[0] == "# aimlasync"
    assert not lines[1].startswith(("*", "#"))
    numbers = lines[2:]
    assert len(numbers) == 3
    assert all(line.startswith("* ") and re.search(r"\d", line) for line in numbers)
    assert commands_section.startswith("Two commands")
    assert all(len(command.splitlines()) == 1 for command in commands())


def test_the_readme_is_short_and_has_five_entry_points() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 160
    entries = text.partition("## Five entry points")[2].partition("\n## ")[0].split("\n### ")[1:]
    assert len(entries) == 5
    for entry in entries:
        code = entry.partition("```")[2].partition("```")[0].splitlines()[1:]
        assert 0 < len([line for line in code if line]) <= 10
        assert "(examples/guide/" in entry


def test_the_first_command_classifies(tmp_path: Path) -> None:
    # The set-up before it is what made this interpreter's environment.
    run = shlex.split(commands()[0].split("&&")[-1])
    run[0] = installed("aimlasync")
    run[run.index("examples/tickets.csv")] = str(ROOT / "examples" / "tickets.csv")
    done = subprocess.run(
        run, cwd=tmp_path, env=without_keys(), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "simulator" in done.stderr
    assert "360" in done.stderr
    assert len((tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()) > 360


def test_the_second_command_is_the_one_that_runs_this() -> None:
    assert shlex.split(commands()[1].split("&&")[-1])[0].endswith("/pytest")


def test_every_extra_of_users_is_on_the_front_page_and_no_page_names_another() -> None:
    of_users = set(_EXTRAS) - {"test", "bench", "peers", "frameworks", "docs"}
    table = text_of("README.md").partition("| extra |")[2].partition("\n\n")[0]
    assert of_users <= set(_CODE.findall(table))
    for name in NAMES:
        named = re.findall(r"(?:aimlasync|\.)\[([a-z,]+)\]", text_of(name))
        assert {extra for group in named for extra in group.split(",")} <= set(_EXTRAS), name


# Every page


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str | None]:
    from tests.support.redis_server import RedisServer

    try:
        server = RedisServer()
    except pytest.skip.Exception:
        yield None
        return
    server.start()
    yield server.url
    server.close()


@pytest.mark.parametrize("name", NAMES)
def test_every_block_of_a_page_runs(name: str, tmp_path: Path, redis_url: str | None) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with serve_in_thread() as aimlapi, serve_in_thread(vendor="bytespike") as bytespike:
        environment = {
            **without_keys(),
            "AIML_API_KEY": "test",
            "AIML_API_URL": aimlapi.base_url,
            "OPENAI_API_KEY": "test",
            "OPENAI_BASE_URL": aimlapi.base_url,
            "BYTESPIKE_API_KEY": "test",
            "BYTESPIKE_API_URL": bytespike.base_url,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        if redis_url is not None:
            environment["REDIS_URL"] = redis_url
        code, out, err = forked.run_program(partial(run_page.main, ROOT / name), tmp_path, environment, timeout=900)
    assert not err, err
    if code == run_page.LEFT_OUT:
        pytest.skip(f"all ran but {out.splitlines()[-1]}")
    assert code == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file(name: str) -> None:
    for link in _LINK.findall(prose_of(name)):
        assert ((ROOT / name).parent / link).exists(), link


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_to_a_heading_leads_to_one(name: str) -> None:
    page = ROOT / name
    for file, anchor in re.findall(r"\]\(([^)#:]*)#([\w-]+)\)", prose_of(name)):
        target = page.parent / file if file else page
        assert anchor in anchors(target), f"{file}#{anchor}"


def options() -> set[str]:
    """Every option of every command."""
    return {
        option
        for command in cli.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help"}


@pytest.mark.parametrize("name", NAMES)
def test_every_option_that_a_page_names_exists(name: str) -> None:
    # An option of another program stands behind that program's name.
    named = {span.split()[0] for span in _CODE.findall(prose_of(name)) if span.startswith("-")}
    assert {option for option in named if option != "-"} <= options()


def loggers() -> set[str]:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "aimlasync").rglob("*.py"))
    return set(re.findall(r"log_of\(\"([\w.]+)\"\)", source))


def measured() -> set[str]:
    """Names of metrics and attributes."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "aimlasync" / "opentelemetry").glob("*.py"))
    return set(re.findall(r"\"(aimlasync\.[\w.]+)\"", source))


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, _, attribute = dotted.rpartition(".")
    try:
        importlib.import_module(dotted)
    except ModuleNotFoundError:
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    except ImportError as missing:
        return "pip install" in str(missing)
    return True


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_ours_in_a_page_exists(name: str) -> None:
    for span in _CODE.findall(prose_of(name)):
        if re.fullmatch(r"aimlasync(\.\w+)+", span):
            assert span in loggers() | measured() or exists(span), span


@pytest.mark.parametrize("name", ["README.md", "examples/guide/web.md", "examples/guide/production.md"])
async def test_the_web_app_of_a_page_serves(
    name: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str | None
) -> None:
    pytest.importorskip("fastapi", reason="pip install 'aimlasync[test]' has what this example needs")
    from tests.support.web import browser, events_of, serving

    monkeypatch.setenv("AIML_API_KEY", "test")
    monkeypatch.setenv("AIML_API_URL", simulator.base_url)
    monkeypatch.setenv("BYTESPIKE_API_KEY", "test")
    # Never asked: the first vendor answers.
    monkeypatch.setenv("BYTESPIKE_API_URL", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    if name.endswith("production.md"):
        if redis_url is None:
            pytest.skip("there is no Redis here")
        monkeypatch.setenv("REDIS_URL", redis_url)
    names: dict[str, Any] = {"__name__": "page"}
    code = next(block.code for block in blocks(ROOT / name) if "FastAPI(" in block.code)
    # A machine that is slow, and a Redis that begins with a pause, are no overload.
    exec(re.sub(r"(max_wait\W+)5\.0", r"\g<1>60.0", code), names)
    async with serving(names["app"]) as server, browser() as session:
        async with session.get(f"{server.url}/chat?question=Hello&user=ann") as response:
            events = [event.event async for event in events_of(response)]
    assert set(events) == {"message", "done"}


_ITEM = re.compile(r"^ *(?:[*#-]|\d+\.) ", re.MULTILINE)
_CELL = re.compile(r"(?<!\\)\||\n(?=\|)")


def sentences(name: str) -> Iterator[str]:
    """The sentences of a page: of its paragraphs, the items of its lists and the cells of its tables."""
    for block in re.split(r"\n\s*\n", re.sub(r"\]\([^)]*\)", "]", prose_of(name))):
        parts = _CELL.split(block) if block.startswith("|") else _ITEM.split(block)
        for part in parts:
            yield from re.split(r"(?<=[.!?:;])\s+", part)


@pytest.mark.parametrize("name", NAMES)
def test_no_sentence_has_more_than_thirty_words(name: str) -> None:
    assert [one for one in sentences(name) if len(re.findall(r"\S*\w\S*", one)) > 30] == []


# The guide


def options_of(taker: Any) -> dict[str, str]:
    """Option -> default, as the guide writes them."""
    parameters = inspect.signature(taker).parameters.values()
    return {
        each.name: "required" if each.default is inspect.Parameter.empty else f"`{each.default!r}`"
        for each in parameters
    }


def test_every_option_of_a_command_is_on_a_page() -> None:
    pages = "".join(map(text_of, GUIDE_PAGES))
    for command in cli.commands.values():
        for option in command.params:
            if isinstance(option, click.Option):
                names = "|".join(map(re.escape, (*option.opts, *option.secondary_opts)))
                assert re.search(rf"(?<![\w-])({names})(?![\w-])", pages), f"{command.name} {option.opts}"


def installed_by(name: str) -> tuple[set[str], set[str]]:
    """What a reader has who installs what a page says: distributions with theirs, and extras."""
    todo, found, extras = ["aiohttp", "msgspec", "anyio"], set[str](), set[str]()
    for words in re.findall(r"pip install ([^`\n]+)", text_of(name)):
        todo += [word for word in shlex.split(words) if not word.startswith("-")]
    while todo:
        match = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", todo.pop())
        assert match is not None
        project = re.sub(r"[-_.]+", "-", match[1].lower())
        if project in ("aimlasync", "-"):
            extras |= set((match[2] or "").split(",")) & set(_EXTRAS)
            todo += [each for extra in extras for each in _EXTRAS[extra] if re.split(r"\W", each)[0] != "aimlasync"]
        elif project not in found:
            found.add(project)
            with suppress(importlib.metadata.PackageNotFoundError):
                todo += [each for each in importlib.metadata.requires(project) or () if "extra ==" not in each]
    return found, extras


def modules(tree: ast.AST) -> Iterator[str]:
    """What a block imports, a name that is taken from a package as its module too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def extra_of(module: str) -> str | None:
    """The extra that a module of ours asks for when it is imported without it."""
    path = ROOT / module.replace(".", "/")
    source = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    asked = None if source is None else re.search(r"Error\(.*aimlasync\[(\w+)\]", source.read_text(encoding="utf-8"))
    return None if asked is None else asked[1]


packages_distributions = cache(importlib.metadata.packages_distributions)
_FORMATS = {".parquet": "parquet", ".xlsx": "excel", ".zst": "zstd"}


@pytest.mark.parametrize("name", GUIDE_PAGES)
def test_a_page_says_how_to_install_what_its_blocks_need(name: str) -> None:
    found, extras = installed_by(name)
    homes = packages_distributions()
    for block in blocks(ROOT / name):
        if block.language == "sh" and block.file is None and block.not_run is None:
            written = {Path(words[-1]).suffix for words in block.commands() if "-o" in words[-2:]}
            assert {_FORMATS[each] for each in written & set(_FORMATS)} <= extras, f"line {block.line}"
        for module in modules(ast.parse(block.code)) if block.language == "python" else ():
            top = module.partition(".")[0]
            if top == "aimlasync":
                assert extra_of(module) in {None, *extras}, f"line {block.line}: {module}"
            elif top not in sys.stdlib_module_names and top in homes:
                projects = {re.sub(r"[-_.]+", "-", each.lower()) for each in homes[top]}
                assert projects & found, f"line {block.line}: {module}"


@pytest.mark.parametrize("taker", [AsyncClient, Endpoint, Limits, Timeout, Retry, Hedge, Budget])
def test_the_tables_of_options_are_those_of_the_code(taker: type[Any]) -> None:
    section = text_of("examples/guide/options.md").partition(f"\n## {taker.__name__}\n")[2].partition("\n## ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", section, re.MULTILINE)) == options_of(taker)


@pytest.mark.parametrize("name", GUIDE_PAGES)
def test_a_page_of_the_guide_answers_one_question_and_is_in_the_index(name: str) -> None:
    lines = text_of(name).splitlines()
    assert lines[0].startswith("# ")
    assert lines[2].endswith("?")
    assert len(lines) <= 150
    assert f"]({Path(name).name}): {lines[2]}" in (GUIDE / "README.md").read_text(encoding="utf-8")


# CONTRIBUTING


def test_every_room_is_on_the_map_from_low_to_high() -> None:
    section = CONTRIBUTING.read_text(encoding="utf-8").partition("## The map")[2].partition("\n## ")[0]
    rooms = [room for line in re.findall(r"^\|(.*?)\|", section, re.M) for room in _CODE.findall(line)]
    assert sorted(rooms) == sorted(FLOOR)
    assert rooms == sorted(rooms, key=lambda room: FLOOR[room])


def test_contributing_is_short_and_every_file_that_it_names_is_there() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    assert commands()[1] in text
    paths = [span.split()[-1] for span in _CODE.findall(text) if span.split()[-1].endswith(".py")]
    assert paths
    for path in paths:
        assert (ROOT / path).is_file() or (ROOT / "aimlasync" / path).is_file(), path
