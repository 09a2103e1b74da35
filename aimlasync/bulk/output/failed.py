"""The lines of a journal that are failures, in a file of their own.

Reads the journal and writes one file, whole or not at all; memory is 12 bytes a line. Imports `Index` and `Target`.
"""

from __future__ import annotations

from aimlasync.bulk.journal.index import Index
from aimlasync.bulk.journal.record import decode_glance
from aimlasync.bulk.output.target import Target


def write_failed(journal: str, target: Target) -> int:
    """Write the last line of every row that has no good answer, and return how many there are.

    Raises OverwriteError for a file that the job did not write, and OSError.
    """
    count = 0
    with Index([journal]) as index, target.open() as file:
        for line in index.lines():
            glance = decode_glance(line)
            if glance is not None and glance.error is not None:
                file.write(line)
                count += 1
    return count
