"""aimlasync classify: a label for each row of a table.

It turns options into a task and a job, which `run_job` runs. Without a key it runs on the built-in simulator, and says
so: this is for a first look, and no other command does it. It may import bulk and the shared files of `cli`.
"""

from __future__ import annotations

from contextlib import closing

import click
import msgspec

from aimlasync import run
from aimlasync.bulk.input.formats import format_of_path
from aimlasync.bulk.input.rows import Format, InputError, Reading
from aimlasync.bulk.input.source import Source
from aimlasync.bulk.jobs.streamed import StreamedRows
from aimlasync.bulk.output.copies import Copies
from aimlasync.bulk.output.gold import check_gold_labels
from aimlasync.bulk.output.streams import open_stream
from aimlasync.bulk.output.tables import check_format, format_of_stream
from aimlasync.bulk.progress.quality import quality_of_job
from aimlasync.bulk.tasks.answer_schema import Form, load_form
from aimlasync.bulk.tasks.classification import ClassifyTask
from aimlasync.bulk.tasks.few_shot import read_shots
from aimlasync.bulk.tasks.images import check_image_columns
from aimlasync.bulk.tasks.labels import GRAMMAR, Labels, read_labels
from aimlasync.bulk.tasks.prompt import Prompt
from aimlasync.bulk.tasks.text_column import SAMPLE, text_column
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
    row_writer,
    said_text,
)
from aimlasync.cli.help import TopicCommand
from aimlasync.cli.job import AskedJob
from aimlasync.cli.job_options import JobOptions, id_option, job_options
from aimlasync.cli.options import FileName, Names, refuse_unused, structured_option, with_options
from aimlasync.cli.run_job import run_to_file, run_to_stream
from aimlasync.cli.server import ModelChoice, Server, Where, find_server, has_key, model_options, no_key, where_options
from aimlasync.cli.terminal import say
from aimlasync.cli.workers_option import own_part, worker_processes
from aimlasync.config import Structured
from aimlasync.endpoints.providers import AIMLAPI, Api, refusal

_UNASKED = "no AIML_API_KEY or BYTESPIKE_API_KEY: answers come from the built-in simulator, not from a model"
# The prompt of a row that is judged by its text.
_TEXT_ALONE = "{text}"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """The options that say what is asked about a row, and what may be answered."""

    labels: str | None
    schema: str | None
    structured: Structured
    multi: bool
    ordinal: bool
    few_shot: str | None
    confidence: bool
    text: str | None
    images: tuple[str, ...]
    prompt: str | None
    system: str | None
    id_column: str | None

    def check(self) -> None:
        """Raise WrongUseError for options that do not go together."""
        if self.labels is not None and self.schema is not None:
            raise WrongUseError("--labels or --schema, not both; a schema names its labels in an enum")
        if self.labels is None and self.schema is None:
            raise WrongUseError("say what to choose from: --labels support,billing,sales, or --schema FILE")
        if self.schema is not None and self.multi:
            raise WrongUseError("--multi goes with --labels; a schema says itself what may be several")
        if self.ordinal and (self.schema is not None or self.multi):
            raise WrongUseError("--ordinal goes with --labels, one a row, in order from the lowest to the highest")

    def answers(self) -> tuple[Labels | None, Form | None]:
        """Return the labels to choose from, or the form of an answer, as they are written or from their file."""
        if self.labels is not None:
            return read_labels(self.labels, multi=self.multi), None
        return None, load_form(file_name(self.schema or ""))


question_options = with_options(
    [
        click.option("--labels", metavar="A,B,C", help="The labels, in a form explained below, or @FILE."),
        click.option(
            "--schema", type=FileName(), metavar="FILE", help="Instead of labels: a JSON schema or module:Type."
        ),
        structured_option,
        click.option("--multi", is_flag=True, help="Each row gets all labels that apply."),
        click.option("--ordinal", is_flag=True, help="The labels are in order, lowest first."),
        click.option(
            "--few-shot", type=FileName(), metavar="FILE", help="Examples to show: a table of texts and labels."
        ),
        click.option(
            "--confidence", is_flag=True, help="Add how sure the model was, where it gives token probabilities."
        ),
        click.option(
            "--text", metavar="COLUMN", help="The column to judge. Default: text, or the only one with prose."
        ),
        image_option,
        click.option("--prompt", metavar="TEMPLATE", help="The user message: {text}, {any column}; or @FILE."),
        click.option("--system", metavar="TEMPLATE", help="The system message, in place of the built-in one."),
        id_option,
    ],
    "question",
    Question,
)
"""The options that say what is asked about a row, and what may be answered."""


@click.command(
    cls=TopicCommand,
    notes=GRAMMAR,
    help="""Give each row of FILE one of the labels.

    FILE is a table (CSV, JSONL, Parquet, ..., also at s3://...), or - for stdin. With -o answers are kept in
    PATH.journal: the same command again goes on where it stopped, tries failed rows again, and labels what is new.
    """,
)
@click.argument("files", type=FileName(), metavar="FILE...", nargs=-1, required=True)
@question_options
@output_option("A table, by extension .csv, .xlsx, ...; makes a run resumable.")
@click.option("--format", "format_", type=FORMATS, help="The format of FILE; by default it is detected.")
@click.option("--label-column", metavar="NAME", default="label", show_default=True, help="The column to add.")
@excel_option
@click.option("--gold", metavar="COLUMN", help="The right labels: prints accuracy, F1, confusion.")
@click.option("--columns", type=Names(), metavar="A,B,C", help="Columns of the output, as in export --help.")
@click.option("--no-simulate", is_flag=True, help="Without a key fail, instead of asking the simulator.")
@reading_options
@job_options
@model_options
@where_options
def classify(
    files: tuple[str, ...],
    question: Question,
    output: str,
    format_: Format | None,
    label_column: str,
    gold: str | None,
    columns: list[str] | None,
    excel: bool,
    no_simulate: bool,
    reading: Reading,
    flags: JobOptions,
    choice: ModelChoice,
    where: Where,
) -> None:
    """Run `aimlasync classify`."""
    if where.simulate and no_simulate:
        raise WrongUseError("--simulate or --no-simulate, not both")
    question.check()
    prompt, system = said_text(question.prompt, "--prompt"), said_text(question.system, "--system")
    question = msgspec.structs.replace(question, prompt=prompt, system=system)
    refuse_unused(
        label_column="names the column of --labels; a schema has names of its own" if question.labels is None else None,
    )
    answers = question.answers()
    unasked = not where.simulate and where.base_url is None and where.key_env is None and not has_key()
    if unasked and no_simulate:
        raise no_key()
    if unasked:
        where = msgspec.structs.replace(where, simulate=True)
    server = find_server(where, choice.model)
    if question.confidence:
        _check_confidence(server)
    to_file = is_file(output)
    workers = worker_processes(flags, files, format_) if to_file else None
    said, output = output, output_here(output)
    with closing(open_input(files, format_, reading, spool=to_file)) as source, Copies() as copies:
        task = _task(question, answers, source, server.model, choice.endpoint, label=gold or label_column)
        added = _added(source, task, label_column, confidence=question.confidence)
        if gold is not None:
            if not task.labels:
                raise WrongUseError("--gold compares labels, and the schema has no field with an enum")
            check_gold_labels(source, gold, quality_of_job(task.identity()))
        if columns is not None and not to_file:
            raise WrongUseError("--columns are those of a table; add -o PATH.csv, .jsonl or .parquet")
        written = format_of_path(output) or format_of_stream(source)
        check_format(output, written, excel=excel)
        if not (to_file or flags.dry_run):
            flags.check_stream()
        errors = check_outputs(source, said, output, flags.errors, copies, is_table=True, overwrite=flags.overwrite)
        options = flags.options(gold=gold, simulated=where.simulate)
        if unasked and own_part() is None:
            say(f"aimlasync: {_UNASKED}", "bold")
        asked = AskedJob(
            command="classify",
            source=source,
            task=task,
            options=options,
            flags=flags,
            server=server,
            models={server.model},
        )
        if to_file or flags.dry_run:
            code = run(
                run_to_file(asked, output, columns=columns, add=added, errors=errors, excel=excel, workers=workers)
            )
        else:
            with (
                open_stream(output) as out,
                row_writer(out, source, added, written, output, excel=excel) as write,
            ):
                rows = StreamedRows(source, task, options, write=write, flush=out.flush, added=added)
                code = run(run_to_stream(asked, rows))
    if code:
        raise SystemExit(code)


def _task(
    question: Question,
    answers: tuple[Labels | None, Form | None],
    source: Source,
    model: str,
    endpoint: Api,
    *,
    label: str,
) -> ClassifyTask:
    """Return the task, whose columns are there; `label` is that of the labels in a file of examples."""
    labels, form = answers
    text, beside = _text_columns(question, source)
    shots = []
    if question.few_shot is not None:
        shots = read_shots(
            file_name(question.few_shot),
            text=text if beside else text or "text",
            label=None if labels is None else label,
            columns=beside,
        )
    task = ClassifyTask(
        labels=labels,
        form=form,
        model=model,
        endpoint=endpoint,
        prompt=question.prompt or _TEXT_ALONE,
        system=question.system,
        text=text,
        images=question.images,
        multi=question.multi,
        ordinal=question.ordinal,
        shots=shots,
        confidence=question.confidence,
        id_column=question.id_column,
        structured=question.structured,
    )
    task.name = source.name
    task.check_columns(source.columns)
    check_image_columns(question.images, source.columns, source.name)
    return task


def _text_columns(question: Question, source: Source) -> tuple[str | None, list[str]]:
    """Return the column that is judged, if one is, and those that the prompt names beside it."""
    text, images = question.text, question.images
    sample = source.sample(1 if text is not None else SAMPLE)
    template = question.prompt or _TEXT_ALONE
    fills_system = question.system is not None
    named = Prompt(question.system or "", template, may_be_fixed=True, fills_system=fills_system).columns()
    beside = [name for name in named if name != "text"]
    column = None
    if text is not None or ("text" in named and (not images or "text" in source.columns)):
        column = text_column(source.columns, sample, text, source.name)
    elif len(beside) == 1 and not images:
        column = beside[0]
    if "text" not in named and column not in named:
        refuse_unused(text=f"{column}: the prompt names no such column; leave it out")
    return column, beside


def _added(source: Source, task: ClassifyTask, label_column: str, *, confidence: bool) -> dict[str, str]:
    """Return the columns to add, and what is in them. Raises InputError for a name that is taken."""
    if not label_column.strip():
        raise WrongUseError("--label-column is empty")
    if task.labels and task.form.identity is None:
        added = {label_column: "label"}
    else:
        added = {name: f"answer.{name}" for name in task.form.columns}
    if confidence:
        added["confidence"] = "confidence"
    for name in added:
        if name in source.columns:
            how = "with --label-column" if name == label_column else "in the schema"
            raise InputError(source.name, f"there is a column {name!r} already; choose another name {how}")
    return added


def _check_confidence(server: Server) -> None:
    provider = AIMLAPI if server.endpoint is None else server.endpoint.provider
    refused = refusal(provider, "chat", {"model": server.model, "logprobs": True})
    if refused is not None and refused[0] == "logprobs":
        raise WrongUseError(f"--confidence: {server.model} gives no token probabilities; choose another --model")
