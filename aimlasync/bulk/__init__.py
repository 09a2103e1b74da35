"""Jobs of many rows: read them, ask about each, lose nothing and pay for nothing twice.

Law: a caller of the client, by its public names. Importing it imports no command line and no simulator.

    in      rows source parquet feed shard       one row at a time, whatever the size of the input
    ask     request task prompt labels form fits what is asked about a row, and how its answer is read
            classify columns shots confidence
    run     work ask dedupe patience caps        a fixed number of workers, and when it is enough
            mapping run job file_job stream_job  `map`, `classify`, `run`
    keep    journal manifest lock disk record    one line per row, appended, never lost
            keep done index merge export output  and read again
            target streams                       where it may write, and how a file is replaced whole
    see     tally pace forecast report           what a job comes to
    beyond  batch store                          the same for engines that run on many machines
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
from aimlasync.bulk.output.export import export
from aimlasync.bulk.output.merge import merge
from aimlasync.bulk.output.target import OverwriteError
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
    "LabelsError",
    "Options",
    "OverwriteError",
    "Prompt",
    "PromptError",
    "PromptTask",
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
    "export",
    "load_form",
    "map",
    "merge",
    "run",
]
