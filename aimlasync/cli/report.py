"""aimlasync report: one HTML page about a job, from its journal.

`bulk.output.target` decides where the page may be written.
"""

from __future__ import annotations

import click

from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.output.streams import is_stream
from aimlasync.bulk.output.target import Target
from aimlasync.bulk.report import ReportError, collect, render
from aimlasync.cli.options import WrongUseError, overwrite_option


@click.command()
@click.argument("journal", metavar="JOURNAL")
@click.option("-o", "--output", metavar="PATH", help="Where the page goes, - is stdout.  [default: JOURNAL.html]")
@overwrite_option
def report(journal: str, output: str | None, overwrite: bool) -> None:
    """Write one HTML page about a job: rows, speed, latency, errors, tokens, cost, labels.

    JOURNAL is the file beside a job's output. The page holds labels, row ids and error messages, and no other text; it
    loads nothing from anywhere.
    """
    path = output or f"{journal}.html"
    target = Target(path, journal=journal, overwrite=overwrite, option="-o")
    try:
        found = collect(journal)
    except ReportError as error:
        raise WrongUseError(str(error)) from None
    except (FileNotFoundError, IsADirectoryError) as error:
        raise WrongUseError(f"{journal}: {error.strerror}; the journal is a file beside the job's output") from None
    try:
        target.check()
    except InputError as error:
        raise WrongUseError(str(error)) from None
    with target.open() as file:
        file.write(render(found).encode())
    if not found.rows:
        click.echo(f"aimlasync: {journal} is empty: no row is finished yet", err=True)
    elif not is_stream(path):
        click.echo(f"aimlasync: {path}: {found.ok:,} rows ok, {found.failed:,} failed", err=True)
