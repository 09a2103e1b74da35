"""What is said to the model about a row: a system message, and a template filled in with the row's columns.

Pure; imports the columns of an input and msgspec.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from aimlasync.bulk.input.columns import column_of, value_of

_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class PromptError(ValueError):
    """A prompt template that cannot be filled."""


class Prompt:
    """The messages for a row: a system message, and a template in which {column} stands for a value.

    {column.key} is a value within a column. With `named_text`, {text} is the text that is judged, whatever its column
    is called. Only with `may_be_fixed` may a template name no column.
    """

    def __init__(
        self, system: str, template: str = "{text}", *, named_text: bool = True, may_be_fixed: bool = False
    ) -> None:
        self.system = system
        self.template = template
        self._named_text = named_text
        # Literal text, and as one-tuples the names to fill in.
        self._pieces: list[str | tuple[str]] = []
        end = 0
        for match in _PIECES.finditer(template):
            self._pieces.append(template[end : match.start()])
            end = match.end()
            if match[1] is not None:
                self._pieces.append((match[1],))
            elif match[0] in ("{{", "}}"):
                self._pieces.append(match[0][0])
            else:
                raise PromptError(f"a lone {match[0]} in the prompt; write {match[0] * 2} for the character itself")
        self._pieces.append(template[end:])
        if not (self.columns() or may_be_fixed):
            name = "{text}" if named_text else "{column}"
            raise PromptError(f"the prompt has no {name} in it; every row would be asked the same")

    def columns(self) -> list[str]:
        """Return the names to fill in."""
        return [piece[0] for piece in self._pieces if isinstance(piece, tuple)]

    def check(self, columns: Sequence[str]) -> None:
        """Raises PromptError for a name that is none of `columns`."""
        for name in self.columns():
            if column_of(columns, name) is None and not (self._named_text and name == "text"):
                raise PromptError(f"the prompt names {{{name}}}, which is no column; there are: {listed(columns)}")

    def user(self, text: str, fields: dict[str, Any]) -> str:
        """Return the user message for a row whose text is `text`."""
        return "".join(
            piece
            if isinstance(piece, str)
            else text
            if self._named_text and piece[0] == "text"
            else as_text(fields[piece[0]] if piece[0] in fields else value_of(fields, piece[0]))
            for piece in self._pieces
        )


def as_text(value: Any) -> str:
    """Return a JSON value as text for a prompt: strings as they are, null as nothing, the rest as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None or value is UNSET else msgspec.json.encode(value).decode()


def listed(columns: Sequence[str]) -> str:
    """Return the names of the first columns, for an error."""
    shown = [column for column in columns if column][:20]
    return ", ".join(shown) + (", ..." if len(columns) > 20 else "")
