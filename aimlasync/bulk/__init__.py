"""Jobs of many rows: one request for each row, no answer lost, and none paid for twice.

It uses the client by its public names, and imports no command line and no simulator. A room imports those above it,
never one below:

    input     a file or stream as rows: CSV, JSONL, Parquet; a shard of them
    tasks     what is asked about a row, how its answer is read, and the result
    journal   one line per finished row, appended; read again, locked, compacted
    progress  totals, speed, what holds a job back, the summary
    jobs      the runner, its worker pool, caps and stop rules; rows with a journal, rows of a stream
    output    a journal as a table, as one of several, as its failures; where files may be written
    workers   a job in several processes: the parent's side and the worker's
    api       `map` and `classify` over an iterable, `run` over a file with a journal

Beside api: batch_chat (with batch_columns, loop_clients) and answer_store for engines that run on many machines;
report, one HTML page about a journal.

A row of `run` goes through jobs/runner.py (in and out), jobs/ask_one.py (request, call, result) and jobs/journaled.py
(which rows, and their records); its request is made by its task (tasks/tasks.py, tasks/classification.py).
"""

from aimlasync.bulk.answer_store import DirectoryStore, Store
from aimlasync.bulk.api import classify, map, run
from aimlasync.bulk.batch_chat import BatchChat
from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.bulk.input.shard import Shard
from aimlasync.bulk.jobs.ask_one import Answerer
from aimlasync.bulk.jobs.caps import Caps
from aimlasync.bulk.jobs.job import Job
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.journal.journal import Journal, JournalError
from aimlasync.bulk.journal.record import Record
from aimlasync.bulk.output.evaluate import evaluate
from aimlasync.bulk.output.export import export
from aimlasync.bulk.output.merge import merge
from aimlasync.bulk.output.target import OverwriteError
from aimlasync.bulk.progress.quality import LabelQuality, Quality
from aimlasync.bulk.progress.summary import Summary
from aimlasync.bulk.tasks.answer_schema import Form, FormError, load_form
from aimlasync.bulk.tasks.classification import ClassifyTask
from aimlasync.bulk.tasks.labels import LabelsError
from aimlasync.bulk.tasks.prompt import Prompt, PromptError
from aimlasync.bulk.tasks.request import Request, RequestError
from aimlasync.bulk.tasks.result import Answer, Result
from aimlasync.bulk.tasks.tasks import BatchTask, EmptyTextError, PromptTask, Task

__all__ = [
    "Answer",
    "Answerer",
    "BatchChat",
    "BatchTask",
    "Caps",
    "ClassifyTask",
    "DirectoryStore",
    "EmptyTextError",
    "Form",
    "FormError",
    "InputError",
    "Job",
    "Journal",
    "JournalError",
    "LabelQuality",
    "LabelsError",
    "Options",
    "OverwriteError",
    "Prompt",
    "PromptError",
    "PromptTask",
    "Quality",
    "Record",
    "Request",
    "RequestError",
    "Result",
    "Row",
    "Shard",
    "Store",
    "Summary",
    "Task",
    "classify",
    "evaluate",
    "export",
    "load_form",
    "map",
    "merge",
    "run",
]
