"""aimlasync report: one HTML page about a job, from its journal.

Law: reads the journal and writes the page; never writes over the journal.
"""

from __future__ import annotations

import os

import click

from aimlasync.bulk.report import ReportError, collect, render
from aimlasync.cli.options import WrongUseError


@click.command()
@click.argument("journal", metavar="JOURNAL")
@click.option("-o", "--output", metavar="PATH", help="Where the page goes, - is stdout.  [default: JOURNAL.html]")
def report(journal: str, output: str | None) -> None:
    """Write one HTML page about a job: rows, speed, latency, errors, tokens, cost, labels.

    JOURNAL is the file beside a job's output. The page holds labels, row ids and error messages, and no other text; it
    loads nothing from anywhere.
    """
    path = output or f"{journal}.html"
    if path != "-" and os.path.realpath(path) in {os.path.realpath(journal), os.path.realpath(f"{journal}.manifest")}:
        raise WrongUseError(f"{path} is the journal itself; choose another --output")
    try:
        found = collect(journal)
    except ReportError as error:
        raise WrongUseError(str(error)) from None
    except (FileNotFoundError, IsADirectoryError) as error:
        raise WrongUseError(f"{journal}: {error.strerror}; the journal is a file beside the job's output") from None
    page = render(found).encode()
    if path == "-":
        click.echo(page, nl=False)
    else:
        with open(path, "wb") as file:
            file.write(page)
    if not found.rows:
        click.echo(f"aimlasync: {journal} is empty: no row is finished yet", err=True)
    elif path != "-":
        click.echo(f"aimlasync: {path}: {found.ok:,} rows ok, {found.failed:,} failed", err=True)
