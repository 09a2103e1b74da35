"""What FILE and -o mean on the command line, for every command that reads rows and writes them.

Law: opens and checks; `-` is stdin or stdout.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import BinaryIO

import msgspec

from aimlasync.bulk.ask import Result
from aimlasync.bulk.export import Outcome, result_layout
from aimlasync.bulk.output import open_table
from aimlasync.bulk.record import Record
from aimlasync.bulk.rows import Format, InputError
from aimlasync.bulk.source import Source, open_source, open_stream
from aimlasync.cli.options import WrongUseError


def open_input(file: str, format_: Format | None, *, keep: bool, default: Format = "csv") -> Source:
    """Open FILE; with `keep` stdin is kept, so that it can be read again. Raises InputError."""
    if file != "-":
        return open_source(file, format_)
    stdin: BinaryIO = sys.stdin.buffer
    # A reader of our own: a thread may sit in it when the process ends, which sys.stdin does not bear. Where stdin is
    # no file, as in tests, it is what it is.
    with suppress(OSError):
        stdin = open(stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
    return open_stream(stdin, format_ or default, keep=keep)


def is_file(output: str) -> bool:
    """Whether the output is a file that can have a journal beside it; /dev/null and pipes are streams."""
    return output != "-" and (os.path.isfile(output) or not os.path.exists(output))


def check_output(source: Source, output: str, option: str = "-o") -> None:
    """Raise WrongUseError for an output, the value of `option`, that cannot be written."""
    if os.path.isdir(output):
        raise WrongUseError(f"{output}: a directory; name a file in it")
    folder = os.path.dirname(output) or "."
    if not os.path.isdir(folder):
        raise WrongUseError(f"{output}: there is no directory {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise WrongUseError(f"{output}: no right to write into {folder}; choose another {option}")
    if source.same_file(output):
        raise WrongUseError(f"{output}: the input itself; choose another {option}")


def check_errors(source: Source, output: str, errors: str | None) -> None:
    """Raise WrongUseError for an --errors file that cannot be written, or would take the place of what is kept."""
    if errors is None:
        return
    check_output(source, errors, "--errors")
    kept = (output, f"{output}.journal", f"{output}.manifest", f"{output}.journal.manifest")
    if os.path.realpath(errors) in map(os.path.realpath, kept):
        raise WrongUseError(f"{errors}: belongs to the output itself; choose another --errors")


def open_output(output: str) -> AbstractContextManager[BinaryIO]:
    """Open a stream for rows."""
    if output != "-":
        return open(output, "wb")
    return nullcontext(sys.stdout.buffer)


@contextmanager
def row_writer(
    out: BinaryIO, source: Source, added: Mapping[str, str], format: Format
) -> Iterator[Callable[[Result, Record], None]]:
    """Give what writes a row, with what is added to it, as soon as it is done."""
    layout = result_layout(source, added, format)
    if format == "jsonl":
        encode = msgspec.json.Encoder().encode

        def write_object(result: Result, record: Record) -> None:
            assert result.row is not None
            out.write(encode(layout.object_of_row(result.row, Outcome(record.custom_id, record))) + b"\n")

        yield write_object
        return
    columns = set(source.columns)
    with open_table(out, format, layout.columns, layout.kinds, source.name) as table:

        def write(result: Result, record: Record) -> None:
            row = result.row
            assert row is not None
            if row.cells is None:
                for name in row.fields.keys() - columns:
                    what = f"{name!r} is not in the first row; CSV needs the same columns everywhere: write .jsonl"
                    raise InputError(source.name, what, line=row.line)
            table.write(layout.of_row(row, Outcome(record.custom_id, record)))

        yield write
