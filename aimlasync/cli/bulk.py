"""aimlasync bulk: any request for each row of a file.

It turns options into a task and a job, which `run_job` runs. It may import bulk and the shared files of `cli`.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any

import click

from aimlasync import run
from aimlasync.bulk.input.rows import Format, InputError, Reading
from aimlasync.bulk.input.written_json import read_json
from aimlasync.bulk.jobs.streamed import StreamedRows
from aimlasync.bulk.journal.record import Record, encode_record
from aimlasync.bulk.output.copies import Copies
from aimlasync.bulk.output.result_rows import is_result_line
from aimlasync.bulk.output.streams import open_stream
from aimlasync.bulk.output.tables import is_journal_path
from aimlasync.bulk.tasks.answer_schema import load_form
from aimlasync.bulk.tasks.request import is_request_line
from aimlasync.bulk.tasks.tasks import BatchTask, PromptTask, Task
from aimlasync.cli.errors import WrongUseError
from aimlasync.cli.files import (
    FORMATS,
    check_outputs,
    excel_option,
    file_name,
    image_option,
    is_file,
    open_input,
    output_here,
    reading_options,
    said_text,
)
from aimlasync.cli.help import TopicCommand
from aimlasync.cli.job_options import JobOptions, id_option, job_options
from aimlasync.cli.options import FileName, refuse_unused, structured_option
from aimlasync.cli.run_job import run_to_file, run_to_stream
from aimlasync.cli.server import ModelChoice, Where, find_server, model_options, where_options
from aimlasync.cli.workers_option import worker_processes
from aimlasync.config import Structured

MESSAGES = "messages"
"""The column that holds a conversation, where no prompt is given."""


@click.command(
    cls=TopicCommand,
    help="""Ask about each row of FILE, and go on where a run stopped.

    FILE has requests in the format of OpenAI's Batch API (JSONL with custom_id, url and body, or the bodies alone),
    rows (CSV, JSONL, Excel, Parquet, ...) for a --prompt, or a column `messages`; - is stdin. FILE may be elsewhere:
    s3://BUCKET/DIR/, https://...; so may PATH. The output has one line for each, in the Batch API's result format; run
    the same command again to go on after Ctrl-C, a crash or an error, or to ask about what is new or changed in FILE.
    """,
)
@click.argument("files", type=FileName(), metavar="FILE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=FileName(),
    metavar="PATH",
    default="-",
    help="The journal (.jsonl), or a table (.csv, .xlsx, .parquet, ...).",
)
@click.option("--format", "format_", type=FORMATS, help="The format of FILE; by default it is detected.")
@click.option(
    "--prompt",
    metavar="TEMPLATE",
    help="The user message for a row; {column} and {column.key} are filled in; or @FILE.",
)
@image_option
@click.option("--system", metavar="TEMPLATE", help="The system message, filled in the same way.")
@click.option("--params", metavar="JSON", help="""Other parameters of the calls, such as '{"max_tokens": 200}'.""")
@click.option(
    "--schema", type=FileName(), metavar="FILE", help="A JSON schema, or module:Type, that every answer must fit."
)
@id_option
@structured_option
@click.option("--columns", metavar="A,B,C", help="Columns of a table, as in export --help.")
@excel_option
@reading_options
@job_options
@model_options
@where_options
def bulk(
    files: tuple[str, ...],
    output: str,
    format_: Format | None,
    prompt: str | None,
    images: tuple[str, ...],
    system: str | None,
    params: str | None,
    schema: str | None,
    id_column: str | None,
    columns: str | None,
    structured: Structured,
    excel: bool,
    reading: Reading,
    flags: JobOptions,
    choice: ModelChoice,
    where: Where,
) -> None:
    """Run `aimlasync bulk`."""
    server = find_server(where, choice.model, needs_model=False)
    prompt, system = said_text(prompt, "--prompt"), said_text(system, "--system")
    to_file = is_file(output)
    workers = worker_processes(flags, files, format_) if to_file else None
    said, output = output, output_here(output)
    # What stdin is that begins with no JSON.
    usual: Format = "jsonl" if prompt is None else "csv"
    with closing(open_input(files, format_, reading, spool=to_file, default=usual)) as source, Copies() as copies:
        first = source.sample(1)[0]
        task: Task
        is_request = prompt is None and is_request_line(first.fields)
        if prompt is None and not is_request and MESSAGES not in source.columns:
            what = "not a line of OpenAI's Batch API (custom_id, url, body); say what to ask with --prompt"
            if is_result_line(first.fields):
                what = "answers, and no requests; say what to ask about each with --prompt, as in --prompt '{answer}'"
            raise InputError(source.name, what, line=first.line)
        if prompt is None and images:
            raise WrongUseError("--image goes with --prompt, which says what to ask about the images")
        if is_request:
            if system or params or schema or id_column:
                raise WrongUseError("--system, --params, --schema and --id go with --prompt; requests bring their own")
            refuse_unused(
                endpoint="goes with --prompt; requests name their own by their url",
                structured="goes with --schema; requests bring their own",
            )
            task = BatchTask(model=server.model or None, judge=flags.retry_invalid > 0)
            # With a cap of money the price of each model must be known; of a pipe only the first line is looked at.
            asked = source if flags.max_usd is not None and source.can_reread else [first]
            bodies = (body if isinstance(body := row.fields.get("body"), dict) else row.fields for row in asked)
            # A body for which there is none is refused when the rows are looked at.
            models = {str(model) for body in bodies if (model := body.get("model") or server.model)}
        else:
            server.check_model()
            refuse_unused(structured="goes with --schema, and no form is asked for" if schema is None else None)
            task = PromptTask(
                prompt=prompt,
                messages=MESSAGES if prompt is None else None,
                images=images,
                model=server.model,
                endpoint=choice.endpoint,
                system=system,
                params=_params(params),
                id_column=id_column,
                form=None if schema is None else load_form(file_name(schema)),
                structured=structured,
                judge=flags.retry_invalid > 0,
            )
            task.name = source.name
            task.check_columns(source.columns)
            models = {server.model}
        if not (to_file or flags.dry_run):
            flags.check_stream()
            if columns is not None:
                raise WrongUseError("--columns are those of a table; add -o PATH.csv, .jsonl or .parquet")
        is_table = columns is not None or not is_journal_path(output)
        errors = check_outputs(source, said, output, flags.errors, copies, is_table=is_table, overwrite=flags.overwrite)
        options = flags.options(gold=None, simulated=where.simulate)
        title = f"bulk {os.path.basename(source.name)}"
        wanted = None if columns is None else [name.strip() for name in columns.split(",")]
        if to_file or flags.dry_run:
            code = run(
                run_to_file(
                    title,
                    source,
                    task,
                    options,
                    flags,
                    server,
                    output,
                    columns=wanted,
                    errors=errors,
                    models=models,
                    excel=excel,
                    workers=workers,
                )
            )
        else:
            with open_stream(output) as out:

                def write(record: Record) -> None:
                    out.write(encode_record(record) + b"\n")

                rows = StreamedRows(
                    source, task, options, write=lambda result, record: write(record), flush=out.flush, in_order=False
                )
                code = run(run_to_stream(title, rows, options, flags, server, models=models))
    if code:
        raise SystemExit(code)


def _params(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = read_json(text)
    except ValueError as error:
        raise WrongUseError(f"""--params: not JSON ({error}); write '{{"max_tokens": 200}}'""") from None
    if not isinstance(value, dict):
        raise WrongUseError("""--params: not a JSON object; write '{"max_tokens": 200}'""")
    return value
