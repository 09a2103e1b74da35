"""The pages of the documentation and their code blocks: README, CONTRIBUTING and whatever lies in examples/guide.

A block behind a line that is a file's name and a colon (`` `rows.csv`: ``) is that file. A comment
`<!-- not run: why -->` on the line before a fence says that nobody can run the block here.
This module imports nothing but the standard library.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
GUIDE = ROOT / "examples" / "guide"
PAGES = [README, CONTRIBUTING, *sorted(GUIDE.glob("*.md"))]

_FENCE = re.compile(
    r"(?:^`(?P<file>[\w.-]+)`:\n\n)?"
    r"(?:^<!-- not run: (?P<why>.+) -->\n)?"
    r"^```(?P<language>.*)\n(?P<code>(?:.*\n)*?)^```$",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    language: str
    file: str | None
    """The file that the block is, None where it is none."""
    line: int
    """Of the page, on which the code begins."""
    code: str
    not_run: str | None
    """Why nobody can run it here."""

    @property
    def is_test(self) -> bool:
        """Whether pytest runs it."""
        return self.file is not None and self.file.startswith("test_") and self.file.endswith(".py")

    def commands(self) -> Iterator[list[str]]:
        """Iterate the commands of a shell block as words, without comments; those behind && are commands too."""
        for line in self.code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                at = words.index("&&")
                yield words[:at]
                words = words[at + 1 :]
            if words:
                yield words


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order. Raises ValueError for a fence that is none of them."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        language, file, why, code = match.group("language", "file", "why", "code")
        if not language.isalnum():
            raise ValueError(f"{page.name}:{line}: the fence names no language, or more than one")
        found.append(Block(language=language, file=file, line=line, code=code, not_run=why))
    if len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)) != 2 * len(found):
        raise ValueError(f"{page.name}: a fence is not closed, is indented, or is written with tildes")
    return found
