"""aimlasync report: one HTML page about a job, from its journal.

`bulk.output.target` decides where the page may be written.
"""

from __future__ import annotations

import click

from aimlasync.addresses import shown
from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.journal.record import WHERE_IT_IS
from aimlasync.bulk.output.copies import Copies
from aimlasync.bulk.output.evaluate import evaluate
from aimlasync.bulk.output.streams import is_stream
from aimlasync.bulk.output.target import Target, check_name
from aimlasync.bulk.report import ReportError, collect, render
from aimlasync.cli.errors import WrongUseError
from aimlasync.cli.options import FileName, overwrite_option


@click.command(
    help="""Write an HTML page about a job.

    It has what was asked, labels, quality, cost and failures; then speed and latency.
    JOURNAL is the file beside a job's output. The page holds labels, row ids, error messages, and numbers and listed
    values of answers in a schema, but no prompt and no other text of an answer; it loads nothing from anywhere.
    JOURNAL, PATH and FILE may be elsewhere: s3://BUCKET/NAME, https://...
    """,
)
@click.argument("journal", type=FileName(), metavar="JOURNAL")
@click.option(
    "-o", "--output", type=FileName(), metavar="PATH", help="Where the page goes, - is stdout.  [default: JOURNAL.html]"
)
@click.option("--gold", metavar="COLUMN", help="The right labels: adds accuracy, F1 and confusion.")
@click.option(
    "--input",
    "input_",
    type=FileName(),
    metavar="FILE",
    help="The rows with --gold; by default those that the job read.",
)
@overwrite_option
def report(journal: str, output: str | None, gold: str | None, input_: str | None, overwrite: bool) -> None:
    """Run `aimlasync report`."""
    if input_ is not None and gold is None:
        raise WrongUseError("--input has the rows with the right labels; say which column with --gold COLUMN")
    name, said = journal, output or f"{journal}.html"
    with Copies() as copies:
        journal = copies.journal(journal)
        path = said if said == "-" else copies.of(said, is_output=True)
        target = Target(path, journal=journal, overwrite=overwrite, option="-o", named=copies.named)
        try:
            found = collect(journal, quality=None if gold is None else evaluate(journal, gold, input=input_))
        except ReportError as error:
            raise WrongUseError(str(error)) from None
        except (FileNotFoundError, IsADirectoryError) as error:
            raise WrongUseError(f"{journal}: {error.strerror}; {WHERE_IT_IS}") from None
        try:
            target.check()
            check_name(said, "an HTML page", ending=".html")
        except InputError as error:
            raise WrongUseError(str(error)) from None
        with target.open() as file:
            file.write(render(found).encode())
    if not found.rows:
        click.echo(f"aimlasync: {shown(name)} is empty: no row is finished yet", err=True)
    elif not is_stream(said):
        click.echo(f"aimlasync: {shown(said)}: {found.ok:,} rows ok, {found.failed:,} failed", err=True)
