"""Names of the files beside an output: its journal, and the journals of the workers of a job.

Names alone, no content. A part that is locked belongs to a worker that is still ending. Imports the standard library.
"""

from __future__ import annotations

import glob
import os
import re
from contextlib import suppress

_NAME = re.compile(r"\.part-([1-9][0-9]*)-of-([1-9][0-9]*)\Z")


def journal_of(output: str, *, is_table: bool) -> str:
    """Return the journal of the job that writes `output`."""
    return f"{output}.journal" if is_table else output


def part_path(journal: str, index: int, count: int) -> str:
    """Return the journal of the `index`th of `count` workers of the job with this journal."""
    return f"{journal}.part-{index}-of-{count}"


def parts_of(journal: str) -> list[str]:
    """Return the parts that lie beside a journal."""
    names = {path.removesuffix(".manifest") for path in glob.glob(f"{glob.escape(journal)}.part-*")}
    return sorted(name for name in names if _NAME.search(name))


def identity_of_part(path: str, job: dict[str, object]) -> dict[str, object]:
    """Return what the manifest of a part says of its job."""
    found = _NAME.search(path)
    assert found is not None
    return {**job, "part": f"{found[1]}/{found[2]}"}


def remove_part(path: str) -> None:
    """Delete a part and its manifest; the manifest last, which says whose the other is."""
    for name in (path, f"{path}.manifest"):
        with suppress(FileNotFoundError):
            os.unlink(name)
