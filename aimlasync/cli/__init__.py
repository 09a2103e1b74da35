"""The command line: it reads options, calls the library, and prints for people.

Answers go to stdout and messages to stderr; `-` is stdin or stdout; an option means the same in every command; keys
come from the environment and from nowhere else. It may import all of the library, and the simulator only where a
command needs it. Exit codes: 0 done · 1 the job or call failed · 2 wrong use or input · 3 some rows failed · 75 a limit
by the day stopped the job · 129, 130, 143 ended by SIGHUP, Ctrl-C, SIGTERM · 141 the reader of standard output left.

    bulk, chat, classify, export, models, report, simulate   one command each (`export` has `merge` too)
    options         kinds of values, and what several commands take
    server          which server is asked, and the client for it
    errors          what goes wrong, as one line and an exit code
    job_options     the options that `bulk` and `classify` share
    workers_option  --workers: worker processes, and what Ctrl-C does to them
    worker_process  how one of them is started
    ray_option      --ray: a Ray cluster
    quota_option    --quota: limits that commands keep together through Redis
    job             a job as a command asks for it
    run_job         runs a job: Ctrl-C, progress, the summary, the exit code
    help            `--help` in topics of one screen, and what was meant by a misspelt word
    display         what is on the screen while a job runs
    job_summary     what is printed of a job before it runs and when it ends
    quality_tables  agreement with a gold column, as tables on the screen
    ctrl_c          signal handlers
    terminal        text that is safe for a terminal
    files           what FILE and -o mean
"""

from __future__ import annotations

from typing import Any

import click

from aimlasync._version import __version__
from aimlasync.cli.bulk import bulk
from aimlasync.cli.chat import chat
from aimlasync.cli.classify import classify
from aimlasync.cli.ctrl_c import exit_code, signals_interrupt
from aimlasync.cli.errors import one_line_errors
from aimlasync.cli.export import export, merge
from aimlasync.cli.help import exit_codes
from aimlasync.cli.models import models
from aimlasync.cli.report import report
from aimlasync.cli.simulate import simulate
from aimlasync.cli.terminal import attached, warnings_said
from aimlasync.cli.workers_option import ARGUMENTS


class _Commands(click.Group):
    def main(self, *args: Any, **options: Any) -> Any:
        with attached(), warnings_said():
            return super().main(*args, **options)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with one_line_errors():
            return super().make_context(*args, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        with one_line_errors():
            return super().invoke(ctx)


@click.group(
    cls=_Commands,
    epilog=exit_codes(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Ask models one question or one for each row of a table: AI/ML API, ByteSpike, OpenAI-compatible servers.

    Keys are read from AIML_API_KEY or BYTESPIKE_API_KEY.
    """,
)
@click.version_option(__version__, prog_name="aimlasync")
def cli() -> None:
    """Run `aimlasync`."""


for command in (chat, classify, bulk, report, export, merge, models, simulate):
    cli.add_command(command)

__all__ = ["cli", "exit_code", "signals_interrupt"]
