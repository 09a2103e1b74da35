"""aimlasync classify: a label for each row of a table.

Law: turns options into a `bulk.job` and its end into an exit code; what people see is in `display`.
With no key it runs on the built-in simulator, and says so: what a first look needs, and no other command does.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from typing import BinaryIO

import click

from aimlasync import Limits
from aimlasync.bulk.file_job import FileJob
from aimlasync.bulk.job import Plan
from aimlasync.bulk.labels import SAMPLE, Prompt, instructions, read_labels, text_column
from aimlasync.bulk.rows import Format, InputError
from aimlasync.bulk.source import Source, format_of_path, open_source, open_stream
from aimlasync.bulk.stream_job import StreamJob
from aimlasync.cli.display import Progress, show_summary
from aimlasync.cli.options import (
    NO_KEY,
    Server,
    Where,
    WrongUseError,
    advised,
    api_of,
    find_server,
    has_key,
    model_options,
    open_client,
    where_options,
)
from aimlasync.cli.signals import on_interrupt

SOME_FAILED = 3

_UNASKED = "no AIML_API_KEY or BYTESPIKE_API_KEY: answers come from the built-in simulator, not from a model"


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--labels", required=True, metavar="A,B,C", help="The labels to choose from.")
@click.option("--text", metavar="COLUMN", help="The column to judge; by default `text`, or the only one with prose.")
@click.option("--prompt", metavar="TEMPLATE", help="The user message; {text} and {any column} are filled in.")
@click.option("-o", "--output", metavar="PATH", default="-", help="CSV or JSONL by extension; makes a run resumable.")
@click.option("--format", "format_", type=click.Choice(["csv", "jsonl"]), help="Of FILE, when its name does not say.")
@click.option("--label-column", metavar="NAME", default="label", show_default=True, help="The column to add.")
@click.option("--gold", metavar="COLUMN", help="The right labels: prints accuracy and a confusion table.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N rows.")
@click.option("--concurrency", type=click.IntRange(1), default=32, show_default=True, help="Calls at once.")
@click.option("--rpm", type=click.FloatRange(0, min_open=True), metavar="N", help="Requests per minute.")
@click.option("--tpm", type=click.FloatRange(0, min_open=True), metavar="N", help="Tokens per minute.")
@click.option("--restart", is_flag=True, help="Throw away the answers of an earlier run.")
@click.option("--no-simulate", is_flag=True, help="Without a key fail, instead of asking the simulator.")
@model_options
@where_options
def classify(
    file: str,
    labels: str,
    text: str | None,
    prompt: str | None,
    output: str,
    format_: Format | None,
    label_column: str,
    gold: str | None,
    limit: int | None,
    concurrency: int,
    rpm: float | None,
    tpm: float | None,
    restart: bool,
    no_simulate: bool,
    model: str | None,
    endpoint: str,
    base_url: str | None,
    simulate: bool,
    allow_http: bool,
) -> None:
    """Give each row of FILE one of the labels; FILE is CSV or JSONL, - is stdin.

    With -o the answers are kept in PATH.journal as they come: run the same command again to go on after Ctrl-C or an
    error, or to try failed rows again.
    """
    if simulate and no_simulate:
        raise WrongUseError("--simulate or --no-simulate, not both")
    names = read_labels(labels)
    unasked = not simulate and base_url is None and not has_key()
    if unasked and no_simulate:
        raise WrongUseError(NO_KEY)
    where = Where(base_url=base_url, simulate=simulate or unasked, allow_http=allow_http)
    server = find_server(where, model)
    to_file = _is_file(output)
    limits = Limits(requests_per_minute=rpm, tokens_per_minute=tpm, concurrency=concurrency)
    with closing(_open(file, format_, keep=to_file)) as source:
        sample = source.sample(1 if text is not None else SAMPLE)
        plan = Plan(
            labels=names,
            model=server.model,
            endpoint=api_of(endpoint),
            prompt=Prompt(instructions(names), prompt or "{text}"),
            text=text_column(source.columns, sample, text, source.name),
            label_column=label_column,
            gold=gold,
            limit=limit,
            concurrency=concurrency,
            format=(format_of_path(output) if output != "-" else None) or source.format,
            simulated=where.simulate,
        )
        _check_columns(source, plan)
        if output != "-":
            _check_output(source, output)
        if unasked:
            click.secho(f"aimlasync: {_UNASKED}", err=True, bold=True)
        if to_file:
            code = asyncio.run(_run(FileJob(source, plan, path=output, restart=restart), server, limits))
        else:
            with _open_output(output) as out:
                code = asyncio.run(_run(StreamJob(source, plan, out), server, limits))
    if code:
        raise SystemExit(code)


async def _run(job: FileJob | StreamJob, server: Server, limits: Limits) -> int:
    """Run a job, show it, and return the exit code."""
    signals: list[int] = []

    def interrupt(number: int) -> None:
        signals.append(number)
        again = job.interrupt()
        progress.note("stopping at once" if again else "finishing the calls in flight; Ctrl-C again stops at once")

    started = time.monotonic()
    is_new = job.pending != 0
    try:
        with Progress(job) as progress, on_interrupt(interrupt):
            if is_new:
                async with open_client(server, limits=limits) as client:
                    await job.run(client, progress.saw)
            seconds = time.monotonic() - started
            written = job.finish()
    finally:
        job.close()
    show_summary(job, seconds, written=written, is_new=is_new)
    resumable = isinstance(job, FileJob)
    again = "run the same command to go on" if resumable else "with -o PATH the same command would go on"
    if job.stopped_by is not None:
        click.echo(f"aimlasync: stopped: {advised(job.stopped_by)}; {again}", err=True)
        return 1
    if signals:
        click.echo(f"aimlasync: interrupted, {job.tally.labelled} rows are labelled; {again}", err=True)
        return 128 + signals[0]
    if job.tally.failed:
        more = "; the same command tries them again" if resumable else ""
        click.echo(f"aimlasync: failed rows have an empty label{more}", err=True)
        return SOME_FAILED
    return 0


def _check_columns(source: Source, plan: Plan) -> None:
    """Raise InputError or PromptError for what the columns show to be wrong."""
    plan.prompt.check(source.columns)
    there = ", ".join(column for column in source.columns if column)
    if plan.gold is not None and plan.gold not in source.columns:
        raise InputError(source.name, f"no column {plan.gold!r} for --gold; there are: {there}")
    if not plan.label_column.strip():
        raise WrongUseError("--label-column is empty")
    if plan.label_column in source.columns:
        raise InputError(
            source.name, f"there is a column {plan.label_column!r} already; choose another name with --label-column"
        )


def _open(file: str, format_: Format | None, *, keep: bool) -> Source:
    if file != "-":
        return open_source(file, format_)
    stdin: BinaryIO = sys.stdin.buffer
    # A reader of our own: a thread may sit in it when the process ends, which sys.stdin does not bear. Where stdin is
    # no file, as in tests, it is what it is.
    with suppress(OSError):
        stdin = open(stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
    return open_stream(stdin, format_ or "csv", keep=keep)


def _is_file(output: str) -> bool:
    """Whether the output is a file that can have a journal beside it; /dev/null and pipes are streams."""
    return output != "-" and (os.path.isfile(output) or not os.path.exists(output))


def _check_output(source: Source, output: str) -> None:
    if os.path.isdir(output):
        raise WrongUseError(f"{output}: a directory; name a file in it")
    folder = os.path.dirname(output) or "."
    if not os.path.isdir(folder):
        raise WrongUseError(f"{output}: there is no directory {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise WrongUseError(f"{output}: no right to write into {folder}; choose another -o")
    if source.same_file(output):
        raise WrongUseError(f"{output}: the input itself; choose another -o")


def _open_output(output: str) -> AbstractContextManager[BinaryIO]:
    if output != "-":
        return open(output, "wb")
    return nullcontext(sys.stdout.buffer)
