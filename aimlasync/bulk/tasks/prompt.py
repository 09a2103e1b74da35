"""The prompt of a row: a system message, and a template filled in with the row's columns.

Pure; imports the columns of an input and msgspec.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from aimlasync.bulk.input.columns import column_of, value_of

_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

# How Jinja, Handlebars and Mustache write a value, and a statement; with blanks it is meant as one for sure.
_JINJA = re.compile(r"\{\{[-#/]?[ \t]+([\w.]+)[^{}]*\}\}|\{%[^{}]*%\}|\{\{([#/>&!]\w+[^{}]*)\}\}")
_WORD = re.compile(r"\{\{([\w.]+)\}\}")


class PromptError(ValueError):
    """A prompt template that cannot be filled."""


class Prompt:
    """The messages for a row: a system message, and a template in which {column} stands for a value.

    {column.key} is a value within a column. With `named_text`, {text} is the text that is judged, whatever its column
    is called. Only with `may_be_fixed` may a template name no column. With `fills_system` the system message is a
    template too.
    """

    def __init__(
        self,
        system: str,
        template: str = "{text}",
        *,
        named_text: bool = True,
        may_be_fixed: bool = False,
        fills_system: bool = False,
    ) -> None:
        self.system = system
        """As it was given."""
        self.template = template
        self._named_text = named_text
        self._pieces = _pieces(template, "prompt")
        self._system_pieces: list[str | tuple[str]] = _pieces(system, "system message") if fills_system else [system]
        if not (_names(self._pieces) or may_be_fixed):
            if (match := _WORD.search(template)) is not None:
                raise _jinja(match)
            name = "{text}" if named_text else "{column}"
            raise PromptError(f"the prompt has no {name} in it; every row would be asked the same")
        # As formats of Python, which are filled in without a look at the pieces; a system message without names is that
        # of every row.
        self._names, self._form = _names(self._pieces), _form(self._pieces)
        self._system_names, self._system_form = _names(self._system_pieces), _form(self._system_pieces)
        self._fixed_system = None if self._system_names else self._system_form % ()

    def columns(self) -> list[str]:
        """Return the names to fill in."""
        return list(dict.fromkeys([*_names(self._pieces), *_names(self._system_pieces)]))

    def check(self, columns: Sequence[str]) -> None:
        """Raises PromptError for a name that is none of `columns`."""
        for what, pieces in (("prompt", self._pieces), ("system message", self._system_pieces)):
            for name in _names(pieces):
                if not self._is_known(name, columns):
                    there = f"which is no column; there are: {listed(columns, name)}"
                    raise PromptError(
                        f"the {what} names {{{name}}}, {there}; braces themselves are written {{{{ and }}}}"
                    )
            for match in _WORD.finditer(self.template if what == "prompt" else self.system):
                if len(pieces) > 1 and self._is_known(match[1], columns):
                    raise _jinja(match)

    def _is_known(self, name: str, columns: Sequence[str]) -> bool:
        return (self._named_text and name == "text") or column_of(columns, name) is not None

    def user(self, text: str, fields: dict[str, Any]) -> str:
        """Return the user message for a row whose text is `text`."""
        return self._form % self._values(self._names, text, fields)

    def system_for(self, text: str, fields: dict[str, Any]) -> str:
        """Return the system message for a row."""
        fixed = self._fixed_system
        return self._system_form % self._values(self._system_names, text, fields) if fixed is None else fixed

    def _values(self, names: list[str], text: str, fields: dict[str, Any]) -> tuple[str, ...]:
        values = []
        for name in names:
            if name == "text" and self._named_text:
                values.append(text)
            else:
                value = fields[name] if name in fields else value_of(fields, name)
                values.append(value if type(value) is str else as_text(value))
        return tuple(values)


def _pieces(template: str, what: str) -> list[str | tuple[str]]:
    """Return literal text, and as one-tuples the names to fill in. Raises PromptError."""
    if (match := _JINJA.search(template)) is not None:
        raise _jinja(match)
    pieces: list[str | tuple[str]] = []
    end = 0
    for match in _PIECES.finditer(template):
        pieces.append(template[end : match.start()])
        end = match.end()
        if match[1] is not None:
            pieces.append((match[1],))
        elif match[0] in ("{{", "}}"):
            pieces.append(match[0][0])
        else:
            raise PromptError(f"a lone {match[0]} in the {what}; write {match[0] * 2} for the character itself")
    pieces.append(template[end:])
    return pieces


def _names(pieces: list[str | tuple[str]]) -> list[str]:
    return [piece[0] for piece in pieces if isinstance(piece, tuple)]


def _form(pieces: list[str | tuple[str]]) -> str:
    return "".join(piece.replace("%", "%%") if isinstance(piece, str) else "%s" for piece in pieces)


def _jinja(match: re.Match[str]) -> PromptError:
    if match[1] is None:
        return PromptError(f"{match[0]} is a template of Jinja, which is not read here; write a column as {{column}}")
    return PromptError(f"{match[0]} is how Jinja writes it; here a column is written {{{match[1]}}}")


def as_text(value: Any) -> str:
    """Return a JSON value as text for a prompt: strings as they are, null as nothing, the rest as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None or value is UNSET else msgspec.json.encode(value).decode()


def listed(columns: Sequence[str], near: str = "") -> str:
    """Return the names of columns for an error: of more than 20, those that are spelled like `near`, else the first.

    Names with what is not seen are written as literals.
    """
    shown = [column if column.isprintable() else repr(column) for column in columns if column]
    if near and len(shown) > 20:
        shown = difflib.get_close_matches(near, shown, n=20, cutoff=0)
    return ", ".join(shown[:20]) + (", ..." if len(columns) > 20 else "") or "none"
