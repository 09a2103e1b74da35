"""aimlasync bulk: any request for each row of a file.

It turns options into a task and a job, which `run_job` runs. It may import bulk and the shared files of `cli`.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click
import msgspec

from aimlasync import run
from aimlasync.bulk.input.rows import Format, InputError, Reading, Row
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.input.written_json import read_json
from aimlasync.bulk.jobs.streamed import StreamedRows
from aimlasync.bulk.journal.record import Record, encode_record
from aimlasync.bulk.output.copies import Copies
from aimlasync.bulk.output.result_rows import is_result_line
from aimlasync.bulk.output.streams import open_stream
from aimlasync.bulk.output.tables import is_journal_path
from aimlasync.bulk.tasks.answer_schema import load_form
from aimlasync.bulk.tasks.request import is_request_line
from aimlasync.bulk.tasks.result import Result
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
    output_option,
    reading_options,
    said_text,
)
from aimlasync.cli.help import TopicCommand
from aimlasync.cli.job import AskedJob
from aimlasync.cli.job_options import JobOptions, id_option, job_options
from aimlasync.cli.options import FileName, Names, refuse_unused, structured_option, with_options
from aimlasync.cli.run_job import run_to_file, run_to_stream
from aimlasync.cli.server import ModelChoice, Server, Where, find_server, model_options, where_options
from aimlasync.cli.workers_option import worker_processes
from aimlasync.config import Structured

MESSAGES = "messages"
"""The column that holds a conversation, where no prompt is given."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """The options that say what is asked about a row."""

    prompt: str | None
    images: tuple[str, ...]
    system: str | None
    params: str | None
    schema: str | None
    id_column: str | None
    structured: Structured


question_options = with_options(
    [
        click.option(
            "--prompt",
            metavar="TEMPLATE",
            help="The user message for a row; {column} and {column.key} are filled in; or @FILE.",
        ),
        image_option,
        click.option("--system", metavar="TEMPLATE", help="The system message, filled in the same way."),
        click.option(
            "--params", metavar="JSON", help="""Other parameters of the calls, such as '{"max_tokens": 200}'."""
        ),
        click.option(
            "--schema",
            type=FileName(),
            metavar="FILE",
            help="A JSON schema, or module:Type, that every answer must fit.",
        ),
        id_option,
        structured_option,
    ],
    "question",
    Question,
)
"""The options that say what is asked about a row."""


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
@output_option("The journal (.jsonl), or a table (.csv, .xlsx, .parquet, ...).")
@click.option("--format", "format_", type=FORMATS, help="The format of FILE; by default it is detected.")
@question_options
@click.option("--columns", type=Names(), metavar="A,B,C", help="Columns of a table, as in export --help.")
@excel_option
@reading_options
@job_options
@model_options
@where_options
def bulk(
    files: tuple[str, ...],
    output: str,
    format_: Format | None,
    question: Question,
    columns: list[str] | None,
    excel: bool,
    reading: Reading,
    flags: JobOptions,
    choice: ModelChoice,
    where: Where,
) -> None:
    """Run `aimlasync bulk`."""
    server = find_server(where, choice.model, needs_model=False)
    prompt, system = said_text(question.prompt, "--prompt"), said_text(question.system, "--system")
    question = msgspec.structs.replace(question, prompt=prompt, system=system)
    to_file = is_file(output)
    workers = worker_processes(flags, files, format_) if to_file else None
    said, output = output, output_here(output)
    # What stdin is that begins with no JSON.
    usual: Format = "jsonl" if prompt is None else "csv"
    with closing(open_input(files, format_, reading, spool=to_file, default=usual)) as source, Copies() as copies:
        first = source.sample(1)[0]
        task: Task
        if _is_request(question, source, first):
            task = _request_task(question, flags, server)
            # With a cap of money the price of each model must be known; of a pipe only the first line is looked at.
            rows = source if flags.max_usd is not None and source.can_reread else [first]
            bodies = (body if isinstance(body := row.fields.get("body"), dict) else row.fields for row in rows)
            # A body for which there is none is refused when the rows are looked at.
            models = {str(model) for body in bodies if (model := body.get("model") or server.model)}
        else:
            server.check_model()
            task = _prompt_task(question, source, flags, server, choice)
            models = {server.model}
        if not (to_file or flags.dry_run):
            flags.check_stream()
            if columns is not None:
                raise WrongUseError("--columns are those of a table; add -o PATH.csv, .jsonl or .parquet")
        is_table = columns is not None or not is_journal_path(output)
        errors = check_outputs(source, said, output, flags.errors, copies, is_table=is_table, overwrite=flags.overwrite)
        options = flags.options(gold=None, simulated=where.simulate)
        asked = AskedJob(
            command="bulk", source=source, task=task, options=options, flags=flags, server=server, models=models
        )
        if to_file or flags.dry_run:
            code = run(run_to_file(asked, output, columns=columns, errors=errors, excel=excel, workers=workers))
        else:
            with open_stream(output) as out:

                def write(result: Result, record: Record) -> None:
                    out.write(encode_record(record) + b"\n")

                streamed = StreamedRows(source, task, options, write=write, flush=out.flush, in_order=False)
                code = run(run_to_stream(asked, streamed))
    if code:
        raise SystemExit(code)


def _is_request(question: Question, source: Source, first: Row) -> bool:
    """Whether the rows are requests. Raises InputError or WrongUseError where they are not, and nothing is asked."""
    if question.prompt is not None:
        return False
    is_request = is_request_line(first.fields)
    if not is_request and MESSAGES not in source.columns:
        what = "not a line of OpenAI's Batch API (custom_id, url, body); say what to ask with --prompt"
        if is_result_line(first.fields):
            what = "answers, and no requests; say what to ask about each with --prompt, as in --prompt '{answer}'"
        raise InputError(source.name, what, line=first.line)
    if question.images:
        raise WrongUseError("--image goes with --prompt, which says what to ask about the images")
    return is_request


def _request_task(question: Question, flags: JobOptions, server: Server) -> BatchTask:
    """Return the task of rows that are requests. Raises WrongUseError for options that say what they say themselves."""
    if question.system or question.params or question.schema or question.id_column:
        raise WrongUseError("--system, --params, --schema and --id go with --prompt; requests bring their own")
    refuse_unused(
        endpoint="goes with --prompt; requests name their own by their url",
        structured="goes with --schema; requests bring their own",
    )
    return BatchTask(model=server.model or None, judge=flags.retry_invalid > 0)


def _prompt_task(
    question: Question, source: Source, flags: JobOptions, server: Server, choice: ModelChoice
) -> PromptTask:
    """Return the task of rows that a prompt is filled in with, or that hold a conversation."""
    refuse_unused(structured="goes with --schema, and no form is asked for" if question.schema is None else None)
    task = PromptTask(
        prompt=question.prompt,
        messages=MESSAGES if question.prompt is None else None,
        images=question.images,
        model=server.model,
        endpoint=choice.endpoint,
        system=question.system,
        params=_params(question.params),
        id_column=question.id_column,
        form=None if question.schema is None else load_form(file_name(question.schema)),
        structured=question.structured,
        judge=flags.retry_invalid > 0,
    )
    task.name = source.name
    task.check_columns(source.columns)
    return task


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
