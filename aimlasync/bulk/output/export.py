"""A journal as a table in any format, in the order of the input.

Reads a journal and its input and writes one file; memory is 12 bytes a line of the journal. Answers are read by the
decoders that read them from the wire. Imports input, journal, the results of requests, and this room.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from aimlasync.bulk.input.rows import AS_FOUND, Format, InputError, Reading, Row
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.journal.index import Index
from aimlasync.bulk.journal.manifest import job_of
from aimlasync.bulk.output.asked_rows import Rows, names_of, rows_of
from aimlasync.bulk.output.copies import Copies
from aimlasync.bulk.output.gold import Gold, gold_of
from aimlasync.bulk.output.layout import RESULTS, Layout, Outcome, result_name
from aimlasync.bulk.output.parquet_table import KindError
from aimlasync.bulk.output.rows_of_today import Find, finder
from aimlasync.bulk.output.tables import check_format, format_of_stream, open_table, style_of
from aimlasync.bulk.output.target import Target
from aimlasync.bulk.progress.quality import Quality
from aimlasync.bulk.tasks.request import is_request_line
from aimlasync.spelling import spelled


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    rows: int
    ok: int
    failed: int
    """Rows whose record is an error."""
    missing: int
    """Rows of the input that the journal has no record of, whether they were written or left out."""
    unmatched: int
    """Records of no row of the input; not written."""


@spelled
def export(
    journal_path: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    add: Mapping[str, str] | None = None,
    format: Format | None = None,
    source: Rows | Source | None = None,
    reading: Reading = AS_FOUND,
    order: Literal["input", "done"] = "input",
    only_done: bool = False,
    limit: int | None = None,
    id: str | None = None,
    id_of: Callable[[Row], str] | None = None,
    overwrite: bool = False,
    excel: bool = False,
    gold: str | None = None,
) -> Exported:
    """Write the journal as a table to `out_path`, "-" for standard output. Raises InputError, or OSError.

    All of them may be at addresses. The extension says the format unless `format` does, and .gz or .zst behind it that
    it is packed. CSV is written as the input is: its delimiter, line ends, byte order mark and header. With `excel` it
    has a byte order mark, and no value that a spreadsheet would run as a formula.

    What an earlier export or run of the same journal wrote there is replaced, if nobody has changed it since; any other
    file raises OverwriteError, a kind of InputError, unless `overwrite` is set.

    With `source`, files by their names which are read as `reading` says, the rows are the input's (the first `limit` of
    them), in its order; where it has changed since the job ran, rows keep what is still their answer, and those that
    are new or changed have no record. `id` is the column that names its rows, by default as the job was told, and
    `id_of` names a row instead. `only_done` leaves out those without a record. Without it they are the journal's: by
    number if all are named row-N, else as they were done, which `order="done"` asks for in any case, without columns of
    the input. Several lines of one custom_id are one row: the last ok one, else the last. `add` names columns and what
    of the journal is in them; they stand after the input's, where `columns` does not say what to write. Without both it
    is the answer, or the label of a job that has labels, and the error. With a `gold`
    column of the input there is a column `correct`: whether the label is the gold one, None where that is blank or
    there is no label.
    """
    with Copies() as copies, ExitStack() as stack:
        journal, out = copies.journal(journal_path), copies.of(out_path, is_output=True)
        if order == "done":
            source = None
        elif source is not None and not isinstance(source, Source):
            source = stack.enter_context(closing(rows_of(journal, source, reading)))
        written = _format_of(out, format, source, excel=excel)
        reads = () if source is None else (source,)
        target = Target(out, journal=journal, reads=reads, overwrite=overwrite, named=copies.named)
        index = stack.enter_context(Index([journal]))
        target.check()
        answer = "label" if job_of(journal).get("labels") else "answer"
        inputs, chosen = _columns(source, limit, columns, written, add, answer=answer)
        name = journal if source is None else source.name
        judged = None if gold is None else gold_of(source, gold, job_of(journal))
        layout = Layout(inputs, chosen, name=name, format=written, added=add, gold=judged)
        kinds, style, find = dict(layout.kinds), style_of(source, written, excel=excel), None
        while True:
            # When a kind that was guessed from the first row group is wrong, all is written again with text there.
            try:
                with target.open() as file, open_table(file, out, written, layout.columns, kinds, style) as table:
                    if source is None:
                        return _write_records(index, order, table.write, layout)
                    if find is None:
                        find = finder(index, journal, source, id_of or names_of(journal, id, name), limit=limit)
                    return _write_rows(index, islice(source, limit), table.write, layout, find, only_done)
            except KindError as error:
                kinds[error.column] = "text"


def _format_of(out: str, format: Format | None, source: Source | None, *, excel: bool) -> Format:
    if out != "-":
        return check_format(out, format, excel=excel)
    written = check_format("stdout", format or format_of_stream(source), excel=excel)
    if written in ("parquet", "xlsx"):
        what = "Parquet" if written == "parquet" else "a workbook"
        raise InputError("stdout", f"{what} is written to a file, not to a pipe; name one, or choose another format")
    return written


def check_columns(
    source: Source,
    columns: Sequence[str],
    format: Format,
    *,
    add: Mapping[str, str] | None = None,
    limit: int | None = None,
    gold: str | None = None,
) -> None:
    """Raises InputError for columns that an export could not write."""
    inputs, chosen = _columns(source, limit, columns, format, None)
    judged = None if gold is None else Gold(gold, Quality())
    Layout(inputs, chosen, name=source.name, format=format, added=add, gold=judged)


def _columns(
    source: Source | None,
    limit: int | None,
    columns: Sequence[str] | None,
    format: Format,
    add: Mapping[str, str] | None,
    *,
    answer: str = "answer",
) -> tuple[list[str], Sequence[str]]:
    """The columns of the input, and those to be written; `answer` is what a row is asked for."""
    if isinstance(columns, str):
        raise TypeError(f"columns= takes a list of names, such as [{columns!r}], not one text")
    if source is None:
        return [], ["custom_id", answer, "error", *(add or ())] if columns is None else list(columns)
    if not source.can_reread:
        raise InputError(source.name, "a pipe, and an export reads its input more than once; save it to a file first")
    first = source.sample(1)[0]
    inputs = source.columns
    requests = is_request_line(first.fields)
    known = requests and set(columns or ()) <= {*inputs, *RESULTS}
    if source.format in ("json", "jsonl") and not known:
        # Objects may have different members, and every member gets a column.
        inputs = list(dict.fromkeys(name for row in islice(source, limit) for name in row.fields))
    if columns is not None:
        return inputs, list(columns)
    if requests and add is None:
        return inputs, ["custom_id", answer, "error"]
    if format not in ("csv", "tsv"):
        # Outside of CSV, columns without a name are one column.
        inputs = list(dict.fromkeys(inputs))
    return inputs, [*inputs, *(add or (result_name(answer, inputs), result_name("error", inputs)))]


def result_layout(source: Source, added: Mapping[str, str], format: Format) -> Layout:
    """Return the layout of rows that are written as they come: the columns known so far, and what is added."""
    inputs = source.columns if format in ("csv", "tsv") else list(dict.fromkeys(source.columns))
    return Layout(inputs, [*inputs, *added], name=source.name, format=format, added=added)


def _write_rows(
    index: Index,
    rows: Iterator[Row],
    write: Callable[[list[Any]], None],
    layout: Layout,
    find: Find,
    only_done: bool,
) -> Exported:
    count = ok = failed = missing = 0
    for row in rows:
        name, record = find(row)
        if record is None:
            missing += 1
            if only_done:
                continue
        elif record.error is None:
            ok += 1
        else:
            failed += 1
        count += 1
        write(layout.of_row(row, Outcome(name, record, row)))
    return Exported(count, ok, failed, missing, max(0, index.rows - ok - failed))


def _write_records(index: Index, order: str, write: Callable[[list[Any]], None], layout: Layout) -> Exported:
    records = index.numbered() if order == "input" and index.is_numbered else index.records()
    for record in records:
        write(layout.values(None, Outcome(record.custom_id, record)))
    return Exported(index.rows, index.ok, index.rows - index.ok, 0, 0)
