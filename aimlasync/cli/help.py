"""`--help` in topics: the options that people use first, and one screen for each group of the others.

Which topic an option belongs to is said here alone. Imports `options`, and the parameters of calls for an error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from aimlasync.cli.errors import WrongUseError

_TOPIC = "aimlasync.help.topic"

_TOPICS: Mapping[str, tuple[str, str]] = {
    "labels": (
        "Labels and quality",
        "labels schema structured multi ordinal gold few_shot confidence label_column retry_invalid",
    ),
    "prompt": (
        "What is asked about each row",
        "text prompt system params images schema structured retry_invalid id_column model endpoint",
    ),
    "files": (
        "What is read and written",
        "output columns excel errors overwrite format_ encoding delimiter header sheet",
    ),
    "limits": (
        "Money, speed and time",
        "dry_run canary max_usd price max_tokens deadline timeout concurrency rpm tpm rpd tpd",
    ),
    "job": (
        "How a job runs and goes on",
        "limit dedupe keep_failed restart progress durability shard workers ray store quota",
    ),
    "server": (
        "Who is asked",
        "model endpoint base_url key_env simulate no_simulate allow_http proxy",
    ),
}
"""Topic -> its title, and its options by the names that the command has for them."""

_FIRST = {
    "labels": "labels schema multi ordinal gold few_shot",
    "prompt": "text prompt system params schema id_column model",
    "files": "output columns excel",
    "limits": "dry_run max_usd concurrency rpm",
    "job": "limit dedupe",
}
"""Of each topic, what the first screen explains."""

EXIT_CODES: Sequence[tuple[str, str]] = (
    ("0", "done"),
    ("1", "it failed, or a cap stopped it"),
    ("2", "wrong use or input"),
    ("3", "some rows failed"),
    ("75", "a limit of the day is used up"),
    ("129, 130, 143", "SIGHUP, Ctrl-C, SIGTERM"),
    ("141", "the reader of stdout left"),
)
"""Exit code -> what it means, for every command."""


class TopicCommand(click.Command):
    """A command with many options: `--help` explains those used first, `--help TOPIC` those of a topic."""

    def __init__(self, *args: Any, notes: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self._notes = notes

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line. Raises WrongUseError for a parameter of the calls that is given as an option."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as unknown:
            from aimlasync import chat, responses

            name = unknown.option_name.strip("-").replace("-", "_")
            if "params" not in self._options() or name not in chat.PARAMETERS | responses.PARAMETERS:
                raise
            said = f"{unknown.option_name}: a parameter of the calls, and no option; say it as in"
        raise WrongUseError(f"{said} --params '{{\"{name}\": ...}}'")

    def get_help_option(self, ctx: click.Context) -> click.Option:
        """Return the option, which takes a topic."""
        return click.Option(
            ["-h", "--help"],
            type=_Topic(),
            is_flag=False,
            flag_value="",
            metavar="[TOPIC]",
            expose_value=False,
            is_eager=True,
            callback=_show,
            help=f"Show options: the first ones, or those of {', '.join(_TOPICS)}.",
        )

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description, on the first screen."""
        if not ctx.meta.get(_TOPIC):
            super().format_help_text(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of the topic, or the first of all."""
        topic = ctx.meta.get(_TOPIC)
        if topic:
            title, names = _TOPICS[topic]
            self._write(ctx, formatter, f"{title}:", names)
            if topic == "labels":
                self._write_notes(formatter)
            return
        shown: set[str] = set()
        for name in self._topics():
            first = [option for option in _FIRST.get(name, "").split() if option not in shown]
            self._write(ctx, formatter, f"{_TOPICS[name][0]} ({name}):", " ".join(first))
            shown.update(first)
        self._write_notes(formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what else there is, on the first screen."""
        if ctx.meta.get(_TOPIC):
            return
        with formatter.section("More, explained by --help TOPIC"):
            formatter.write_dl(self._rest())
        formatter.write_paragraph()
        formatter.write_text(exit_codes())

    def _write_notes(self, formatter: click.HelpFormatter) -> None:
        if self._notes:
            formatter.write("\n")
            for line in self._notes.splitlines():
                formatter.write(f"{line}\n")

    def _write(self, ctx: click.Context, formatter: click.HelpFormatter, title: str, names: str) -> None:
        options = self._options()
        records = [options[name].get_help_record(ctx) for name in names.split() if name in options]
        if rows := [record for record in records if record is not None]:
            with formatter.section(title.removesuffix(":")):
                # Names in a column of one width, whatever the section.
                formatter.write_dl([(f"{name:17}", said) for name, said in rows], col_max=26)

    def _topics(self) -> list[str]:
        return [name for name in _TOPICS if name != "labels" or "labels" in self._options()]

    def _rest(self) -> list[tuple[str, str]]:
        """Return the topics and those of their options that the first screen does not explain."""
        options, told = self._options(), {name for names in _FIRST.values() for name in names.split()}
        rows = []
        for topic in self._topics():
            rest = [name for name in _TOPICS[topic][1].split() if name in options and name not in told]
            told.update(rest)
            rows.append((topic, " ".join(options[name].opts[-1] for name in rest)))
        return rows

    def _options(self) -> dict[str, click.Parameter]:
        return {str(option.name): option for option in self.params if isinstance(option, click.Option)}


def exit_codes() -> str:
    """Return the exit codes in a sentence."""
    return f"Exit codes: {'; '.join(f'{code} {said}' for code, said in EXIT_CODES)}."


def topics_of(option: str) -> list[str]:
    """Return the topics of an option by the name that the command has for it."""
    return [topic for topic, (_, names) in _TOPICS.items() if option in names.split()]


class _Topic(click.types.StringParamType):
    """A topic; a file or an option that stands there belongs to the command, whose help is shown whole."""

    name = "topic"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word = value.replace("-", "_")
        if value in _TOPICS or not word.replace("_", "").isalpha() or os.path.exists(value):
            return value if value in _TOPICS else ""
        from difflib import get_close_matches

        names = topics_of(word) or get_close_matches(value.lower(), _TOPICS, n=1)
        advice = f"--help {names[0]} is the nearest; " if names else ""
        raise WrongUseError(f"--help {value}: no topic; {advice}there are: {', '.join(_TOPICS)}")


def _show(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    if value is None or ctx.resilient_parsing:
        return
    ctx.meta[_TOPIC] = value
    click.echo(ctx.get_help(), color=ctx.color)
    ctx.exit()
