"""What FILE and -o mean on the command line, for every command that reads rows and writes them; `-` is stdin or stdout.

The files are opened and checked by bulk's input and output rooms. It may import these, `options` and `terminal`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, get_args

import click
import msgspec

from aimlasync.addresses import shown
from aimlasync.bulk.input.compression import packing_of_path
from aimlasync.bulk.input.many import open_files
from aimlasync.bulk.input.remote import text_of
from aimlasync.bulk.input.rows import Format, InputError, Reading
from aimlasync.bulk.input.source import Source, open_stream
from aimlasync.bulk.journal.part_files import journal_of
from aimlasync.bulk.journal.record import Record
from aimlasync.bulk.output.copies import Copies
from aimlasync.bulk.output.elsewhere import written_here
from aimlasync.bulk.output.export import result_layout
from aimlasync.bulk.output.layout import Outcome
from aimlasync.bulk.output.result_rows import results_as_rows
from aimlasync.bulk.output.streams import is_stream
from aimlasync.bulk.output.tables import open_table, style_of
from aimlasync.bulk.output.target import Target, check_name, check_place, refuse_input
from aimlasync.bulk.tasks.result import Result
from aimlasync.cli.errors import WrongUseError
from aimlasync.cli.options import F, FileName, with_options
from aimlasync.cli.terminal import say_how_to_end
from aimlasync.cli.worker_process import PART

FORMATS = click.Choice(get_args(Format))
"""What `--format` may say."""

_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


def _delimiter(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    delimiter = _DELIMITERS.get(value.lower(), value)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise WrongUseError(f"--delimiter {value!r}: write one character, or tab")
    return delimiter


def output_option(what: str) -> Callable[[F], F]:
    """Return -o, whose help is `what` it may name; it is stdout where nothing is said."""
    return click.option("-o", "--output", type=FileName(), metavar="PATH", default="-", help=what)


excel_option = click.option("--excel", is_flag=True, help="CSV for spreadsheets: a byte order mark, and no formulas.")
"""For commands that write tables."""

image_option = click.option(
    "--image", "images", metavar="COLUMN", multiple=True, help="A column with images: addresses, or paths beside FILE."
)
"""For commands that ask about rows."""

reading_options = with_options(
    [
        click.option(
            "--encoding",
            metavar="NAME",
            help="The encoding of text that is not UTF-8 and has no byte order mark, such as cp1252.",
        ),
        click.option(
            "--delimiter", metavar="CHAR", callback=_delimiter, help="The delimiter of CSV; by default it is detected."
        ),
        click.option(
            "--header/--no-header", default=None, help="The first line names the columns, or they are 1, 2, 3."
        ),
        click.option("--sheet", metavar="NAME", help="The sheet of a workbook: its name, or its number from 1."),
    ],
    "reading",
    Reading,
)
"""The options that say how FILE is to be read."""


def open_input(
    files: Sequence[str], format_: Format | None, reading: Reading, *, spool: bool, default: Format = "csv"
) -> Source:
    """Open FILE; with `spool` stdin, or a pipe, is read into a temporary file first. Raises InputError."""
    if "-" not in files:
        source = results_as_rows(open_files(files, format_, reading=reading, spool=spool))
        if source.again and PART not in os.environ:
            more = f" and {len(source.again) - 1} more are" if len(source.again) > 1 else " is"
            click.echo(f"aimlasync: {source.again[0]}{more} named twice, and read once", err=True)
        return source
    if len(files) > 1:
        raise WrongUseError("- is stdin, and goes with no other FILE")
    if sys.stdin is None:
        raise InputError("stdin", "it is closed; name a file, or pipe the rows in")
    say_how_to_end()
    stdin: BinaryIO = sys.stdin.buffer
    # A separate reader, because a thread may be reading when the process ends, and closing sys.stdin would then hang.
    # Where stdin is no file, as in tests, it is used as it is.
    with suppress(OSError):
        stdin = open(stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
    return results_as_rows(open_stream(stdin, format_, spool=spool, reading=reading, default=default))


def said_text(said: str | None, option: str) -> str | None:
    """Return the text of an option, or with @FILE that of the file, without the line end at its end; @@ is an @.

    Raises WrongUseError for a file that cannot be read, and for a file's name without its @.
    """
    if said is None:
        return said
    if not said.startswith("@"):
        if os.path.splitext(said)[1] and os.path.isfile(said):
            # Every row would be asked with the name.
            raise WrongUseError(f"{option} {said}: the name of a file; write {option} @{said} for what is in it")
        return said
    if said.startswith("@@"):
        return said[1:]
    path = said[1:]
    try:
        return text_of(path).rstrip("\r\n")
    except UnicodeDecodeError:
        raise WrongUseError(f"{option} @{shown(path)}: the file is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        what = f"{option} {said}: {error.strerror or type(error).__name__}"
        raise WrongUseError(f"{what}; name a file of text after @, or write @@ for a text that begins with @") from None


def file_name(said: str) -> str:
    """Return the name of a file, also where it is written with the @ that options of texts and labels want."""
    return said[1:] if said.startswith("@") and not os.path.exists(said) else said


def output_here(output: str) -> str:
    """Return the path that a job writes to: of an address a file here, copied there when the command ends.

    A worker leaves the copy to its parent. Raises InputError, also at the end.
    """

    def say_copied(address: str) -> None:
        click.echo(f"aimlasync: copied to {address}", err=True)

    there = written_here(output, is_worker=PART in os.environ, copied=say_copied)
    return click.get_current_context().with_resource(there)


def is_file(output: str) -> bool:
    """Whether the output is a file that can have a journal beside it; /dev/null and pipes are streams."""
    return not is_stream(output)


def check_outputs(
    source: Source, said: str, output: str, errors: str | None, copies: Copies, *, is_table: bool, overwrite: bool
) -> Target | None:
    """Return where the lines of failed rows go. Raises InputError for what must not be written, before any call.

    `said` is what was said of the output, which may be an address; the job writes to the file `output`.
    The job looks again before it writes: the files may be changed while it runs.
    """
    journal = journal_of(output, is_table=is_table)
    if is_file(output):
        check_place(output, option="-o")
        for name in (said, output):
            refuse_input(name, (source,), option="-o")
        if is_table:
            Target(output, journal=journal, reads=(source,), overwrite=overwrite, option="-o").check()
    if errors is None:
        return None
    if output == "-":
        raise WrongUseError("--errors goes with a journal, and standard output has none; add -o PATH")
    target = Target(
        copies.of(errors, is_output=True),
        journal=journal,
        reads=(source,),
        taken=(output,),
        overwrite=overwrite,
        option="--errors",
        named=copies.named,
    )
    target.check()
    check_name(errors, "lines of a journal", ending=".jsonl, and export that", formats=("jsonl", "json"))
    return target


@contextmanager
def row_writer(
    out: BinaryIO, source: Source, added: Mapping[str, str], format: Format, path: str = "-", *, excel: bool = False
) -> Iterator[Callable[[Result, Record], None]]:
    """Give a function that writes a row, with the `added` columns, as soon as it is done."""
    layout = result_layout(source, added, format)
    if format == "jsonl" and packing_of_path(path) is None:
        encode = msgspec.json.Encoder().encode

        def write_object(result: Result, record: Record) -> None:
            assert result.row is not None
            out.write(encode(layout.object_of_row(result.row, Outcome(record.custom_id, record, result.row))) + b"\n")

        yield write_object
        return
    columns = set(source.columns)
    style = style_of(source, format, excel=excel)
    with open_table(out, path, format, layout.columns, layout.kinds, style) as table:

        def write(result: Result, record: Record) -> None:
            row = result.row
            assert row is not None
            if row.cells is None:
                for name in row.fields.keys() - columns:
                    what = f"{name!r} is not in the first row; a table needs the same columns everywhere: write .jsonl"
                    raise InputError(source.name, what, line=row.line)
            table.write(layout.of_row(row, Outcome(record.custom_id, record, row)))

        yield write
