"""Jobs of many rows: read them, ask about each, lose nothing and pay for nothing twice.

Law: a caller of the client, by its public names. Importing it imports no command line and no simulator.

    rows source     CSV and JSONL, one row at a time      labels     prompt and strict schema of a list of labels
    work feed       a fixed number of workers             classify   one label per row
    journal record  the append-only record                job        all of it (file_job, stream_job)
    order output    rows with labels, in input order      tally patience   totals, and when to give up
"""

from aimlasync.bulk.classify import EmptyTextError, Result, classify
from aimlasync.bulk.journal import Journal, JournalError
from aimlasync.bulk.labels import LabelsError, Prompt, PromptError
from aimlasync.bulk.rows import InputError, Reader, Row
from aimlasync.bulk.work import Work

__all__ = [
    "EmptyTextError",
    "InputError",
    "Journal",
    "JournalError",
    "LabelsError",
    "Prompt",
    "PromptError",
    "Reader",
    "Result",
    "Row",
    "Work",
    "classify",
]
