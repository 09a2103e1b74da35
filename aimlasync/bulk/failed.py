"""The lines of a journal that are failures, in a file of their own.

Law: reads the journal, writes one file, whole or not at all; bounded memory.
"""

from __future__ import annotations

from aimlasync.bulk.index import Index
from aimlasync.bulk.output import writing
from aimlasync.bulk.record import decode_glance


def write_failed(journal: str, path: str) -> int:
    """Write the last line of every row that has no good answer, and return how many there are. Raises OSError."""
    count = 0
    with Index([journal]) as index, writing(path) as file:
        for line in index.lines():
            if decode_glance(line).error is not None:
                file.write(line)
                count += 1
    return count
