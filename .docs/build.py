#!/usr/bin/env python3
"""Build the site of the documentation into `.docs/site`: the front page, the guide, and a reference from docstrings.

    pip install -e '.[docs]' && python .docs/build.py

Every warning is an error. The menu lists the guide's pages as its index does. The pages are laid out in `.docs/pages`
first, since the front page and CONTRIBUTING stand where GitHub shows them. A page of the reference names a public
module, whose docstrings are read and not imported.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGES = HERE / "pages"

# Page of the site -> file of the repository.
COPIED = {
    "index.md": "README.md",
    "benchmarks.md": "benchmarks/README.md",
    "contributing.md": ".github/CONTRIBUTING.md",
    "license.md": "aimlasync/LICENSE",
    **{f"guide/{page.name}": f"examples/guide/{page.name}" for page in (ROOT / "examples" / "guide").glob("*.md")},
    **{f"examples/{page.name}": f"examples/{page.name}" for page in (ROOT / "examples").glob("*.py")},
}
MODULES = {
    "aimlasync": "the client, its settings, errors and values",
    "aimlasync.client.resources": "the calls: `client.chat`, `client.responses`, `client.models`",
    "aimlasync.chat": "chat/completions: parameters, replies, chunks",
    "aimlasync.responses": "responses: parameters, replies, items, events",
    "aimlasync.errors": "errors",
    "aimlasync.bulk": "jobs of many rows",
    "aimlasync.agents": "agents: runs, tools, events, approvals",
    "aimlasync.relay": "streams to browsers, for any framework",
    "aimlasync.starlette": "Starlette and FastAPI",
    "aimlasync.aiohttp_web": "aiohttp's web server",
    "aimlasync.openai": "the SDK's own classes over this client",
    "aimlasync.httpx": "an httpx client over this client",
    "aimlasync.redis": "a quota shared by processes and machines",
    "aimlasync.ray": "Ray clusters and Ray Data",
    "aimlasync.opentelemetry": "spans and metrics",
    "aimlasync.testing": "fixtures for tests",
    "aimlasync.simulator": "the simulated vendors",
    "aimlasync.sse": "a parser of server-sent events",
}
# In the guide's index: the heading of a group of pages, and a page.
_HEADING = re.compile(r"\*\*(.+)\*\*")
_ENTRY = re.compile(r"\* \[.+\]\(([\w-]+\.md)\)")
_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#]+)")


def page_of(text: str, page: str, name: str) -> str:
    """Return the text of a file as a page: links lead to other pages, and a link to what is no page is left out."""
    if name.endswith(".py"):
        return f"# {name}\n\n```python\n{text}```\n"
    places = {(ROOT / file).resolve(): place for place, file in COPIED.items()}
    places[ROOT / "examples"] = "guide/README.md"

    def target(link: re.Match[str]) -> str:
        place = places.get(((ROOT / name).parent / link[1]).resolve(), "index.md")
        return "../" * page.count("/") + place

    return _LINK.sub(target, text)


def menu() -> str:
    """Return the menu as TOML."""
    guide: list[str] = []
    for line in (ROOT / "examples" / "guide" / "README.md").read_text(encoding="utf-8").splitlines():
        if heading := _HEADING.fullmatch(line):
            guide.append(f"{{ {json.dumps(heading[1])} = [")
        elif (entry := _ENTRY.match(line)) and guide:
            guide[-1] += f"{json.dumps('guide/' + entry[1])}, "
    reference = [f"{{ {json.dumps(module)} = {json.dumps(f'reference/{module}.md')} }}" for module in MODULES]
    entries = {
        "Front page": '"index.md"',
        "Guide": f'["guide/README.md", {", ".join(section + "] }" for section in guide)}]',
        "Reference": f'["reference/index.md", {", ".join(reference)}]',
        "Numbers": '"benchmarks.md"',
        "Contributing": '"contributing.md"',
    }
    return ", ".join(f"{{ {json.dumps(name)} = {where} }}" for name, where in entries.items())


def main() -> int:
    shutil.rmtree(PAGES, ignore_errors=True)
    pages = {page: page_of((ROOT / name).read_text(encoding="utf-8"), page, name) for page, name in COPIED.items()}
    listed = "".join(f"* [{module}]({module}.md): {about}\n" for module, about in MODULES.items())
    pages["reference/index.md"] = f"# Reference\n\n{listed}"
    pages |= {f"reference/{module}.md": f"# {module}\n\n::: {module}\n" for module in MODULES}
    for page, text in pages.items():
        path = PAGES / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    settings = (HERE / "zensical.toml").read_text(encoding="utf-8")
    with_menu = HERE / "with_menu.toml"
    with_menu.write_text(settings.replace("[project]\n", f"[project]\nnav = [{menu()}]\n", 1), encoding="utf-8")
    zensical = Path(sys.executable).with_name("zensical")
    return subprocess.run([zensical, "build", "--strict", "--config-file", with_menu], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
