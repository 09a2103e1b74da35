"""aimlasync export and merge: a journal as a table, journals of shards as one. Calls `bulk.export`, `bulk.merge`."""

from __future__ import annotations

import click

from aimlasync.addresses import shown
from aimlasync.bulk.input.rows import Format, Reading
from aimlasync.bulk.output.export import export as write_table
from aimlasync.bulk.output.layout import RESULTS
from aimlasync.bulk.output.merge import merge as merge_journals
from aimlasync.bulk.output.streams import is_stream
from aimlasync.cli.files import FORMATS, excel_option, output_option, reading_options
from aimlasync.cli.options import FileName, Names, overwrite_option
from aimlasync.cli.terminal import counted

_RESULTS = ", ".join(RESULTS)


@click.command(
    epilog=f"Columns: those of the input; of the journal: {_RESULTS}, correct (with --gold), "
    "answer.KEY of an answer in JSON, and body.PATH.IN.IT of a response.",
    help="""Write a JOURNAL as a table, in the order of the input.

    What an earlier command wrote there from the same journal is replaced; any other file is left alone. JOURNAL, PATH
    and FILE may be elsewhere: s3://BUCKET/NAME, https://...
    """,
)
@click.argument("journal", type=FileName(), metavar="JOURNAL")
@output_option("A table, by extension .csv, .xlsx, .parquet, ...; - is stdout.")
@click.option("--format", "format_", type=FORMATS, help="The format of the output; by default from its name.")
@click.option(
    "--input",
    "inputs",
    type=FileName(),
    metavar="FILE",
    multiple=True,
    help="The rows that were asked about: their columns and their order. Once for each FILE of the job.",
)
@click.option("--id", "id_", metavar="COLUMN", help="The column of FILE that names the rows; by default the job's.")
@click.option(
    "--columns",
    type=Names(),
    metavar="A,B,C",
    help="What to write, in this order. Default: the columns of FILE, answer (or label), error.",
)
@click.option("--gold", metavar="COLUMN", help="The column of FILE with the right labels, for the column `correct`.")
@click.option("--only-done", is_flag=True, help="Leave out rows that were not asked about.")
@excel_option
@reading_options
@overwrite_option
def export(
    journal: str,
    output: str,
    format_: Format | None,
    inputs: tuple[str, ...],
    id_: str | None,
    columns: list[str] | None,
    gold: str | None,
    only_done: bool,
    reading: Reading,
    overwrite: bool,
    excel: bool,
) -> None:
    """Run `aimlasync export`."""
    done = write_table(
        journal,
        output,
        format=format_,
        source=inputs or None,
        reading=reading,
        columns=columns,
        only_done=only_done,
        id=id_,
        gold=gold,
        overwrite=overwrite,
        excel=excel,
    )
    if not is_stream(output):
        failed = f", {done.failed:,} failed" if done.failed else ""
        missing = f"; {done.missing:,} have no answer yet" if done.missing else ""
        strange = (
            f"; {done.unmatched:,} answers are of no row of {' '.join(map(shown, inputs))}" if done.unmatched else ""
        )
        click.echo(f"{counted(done.rows, 'row')}{failed}{missing}{strange}: {shown(output)}", err=True)


@click.command(
    help="""Put the journals of shards together, one line for each row.

    A table is made of the whole with export. JOURNAL and PATH may be elsewhere: s3://...
    """,
)
@click.argument("journals", type=FileName(), metavar="JOURNAL...", nargs=-1, required=True)
@click.option("-o", "--output", type=FileName(), metavar="PATH", required=True, help="The journal to make (.jsonl).")
@overwrite_option
def merge(journals: tuple[str, ...], output: str, overwrite: bool) -> None:
    """Run `aimlasync merge`."""
    merged = merge_journals(journals, output, overwrite=overwrite)
    twice = f", {merged.duplicates:,} answered twice" if merged.duplicates else ""
    failed = f", {merged.failed:,} failed" if merged.failed else ""
    click.echo(f"{counted(merged.rows, 'row')}{failed}{twice}: {shown(output)}", err=True)
    if merged.missing:
        named, more = ", ".join(merged.missing[:5]), " and more" if len(merged.missing) > 5 else ""
        click.echo(f"aimlasync: not among these journals: shard {named}{more}", err=True)
    for path in merged.in_use:
        click.echo(f"aimlasync: {shown(path)}: a run still writes it; merge again when that has ended", err=True)
