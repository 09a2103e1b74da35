"""What the commands share of options: the kinds of their values, and how a group of them becomes one value.

It may import `errors`.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec
from click.core import ParameterSource

from aimlasync.bulk.jobs.caps import read_seconds
from aimlasync.cli.errors import WrongUseError, option_of

F = TypeVar("F", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite number within bounds, called so in messages and help."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Fails for inf and nan: what has no bound is left out."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no amount; leave it out where there is no limit.", param, ctx)
        return number


class WholeNumber(click.IntRange):
    """A whole number within bounds, called so in messages and help."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises BadParameter for one that is more than anything can be counted to."""
        number = super().convert(value, param, ctx)
        return number if number <= sys.maxsize else self.fail(f"{value!r} is too large.", param, ctx)


class Duration(click.types.StringParamType):
    """A time such as 45s or 1h30m, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the seconds. Raises WrongUseError."""
        try:
            return value if isinstance(value, float) else read_seconds(value)
        except ValueError as error:
            raise WrongUseError(f"{option_of(param)}: {error}") from None


class FileName(click.types.StringParamType):
    """The name of a file, or its address, or -."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name. Raises WrongUseError for an empty one, as of a variable of the shell that is not set."""
        if value == "":
            raise WrongUseError(f"{option_of(param)}: an empty name; name a file")
        return super().convert(value, param, ctx)


class Names(click.types.StringParamType):
    """Names with commas between them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the names as a list."""
        return [name.strip() for name in value.split(",")]


def with_options(
    options: Sequence[Callable[[F], F]], name: str, struct: type[msgspec.Struct]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds click's `options`; the command gets them as one `struct`, the argument `name`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def taking(**given: Any) -> Any:
            chosen = struct(**{field: given.pop(field) for field in struct.__struct_fields__})
            return command(**given, **{name: chosen})

        for add in reversed(options):
            add(taking)
        return taking

    return decorate


def refuse_unused(**reasons: str | None) -> None:
    """Raise WrongUseError for an option that was given and would change nothing; its reason says so, None is used."""
    source_of = click.get_current_context().get_parameter_source
    for name, reason in reasons.items():
        if reason is not None and source_of(name) is ParameterSource.COMMANDLINE:
            raise WrongUseError(f"--{name.replace('_', '-')} {reason}")


overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace files that this job did not write, or that have been changed."
)
"""For every command that writes files."""

structured_option = click.option(
    "--structured",
    type=click.Choice(["auto", "json_schema", "tool", "json_object", "text"]),
    default="auto",
    show_default=True,
    help="How to ask for an answer in a form; auto is the surest way that the model has.",
)
"""For every command whose answers have a form."""
