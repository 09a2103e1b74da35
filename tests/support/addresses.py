"""Reads inputs by their addresses, in a process of its own: file systems leave threads and connections behind.

`python -m tests.support.addresses ADDRESS...` prints a JSON list: of each its files and rows, or what was wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from typing import Any

from aimlasync.bulk.input.many import open_files
from aimlasync.bulk.input.rows import InputError


def read(*addresses: str) -> dict[str, Any]:
    """Return the files that addresses mean as one input, and how many rows they have, or what is wrong with them."""
    try:
        with closing(open_files(addresses)) as source:
            rows = list(source)
            found = {"name": source.name, "files": list(source.paths), "rows": len(rows), "stamp": source.stamp()[0]}
            return found | {"again": len(list(source)), "digest": source.digest()}
    except InputError as error:
        return {"error": str(error)}


def read_elsewhere(addresses: list[str], **options: Any) -> dict[str, dict[str, Any]]:
    """Return what `read` returns in another process, by address."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, *addresses], capture_output=True, text=True, check=True, timeout=600, **options
    )
    return dict(zip(addresses, json.loads(done.stdout), strict=True))


if __name__ == "__main__":
    print(json.dumps([read(address) for address in sys.argv[1:]]))
