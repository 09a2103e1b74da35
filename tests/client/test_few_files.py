"""A process that may open few files, as on macOS: its calls wait or fail as calls do, and none for a module."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aimlasync.simulator import serve_in_thread

CALLS = """
import asyncio, resource, sys
from collections import Counter
from aimlasync import AimlasyncError, AsyncClient

async def main():
    async with AsyncClient(base_url=sys.argv[1], api_key="k") as client:
        async def one(number):
            try:
                reply = await client.responses.create(model="openai/gpt-5-nano-2025-08-07", input=f"{number}")
            except AimlasyncError:
                return "failed as a call"
            except BaseException as error:
                return repr(error)
            return "answered" if reply.output_text else "empty"
        print(sorted(Counter(await asyncio.gather(*map(one, range(150))))))

resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
asyncio.run(main())
"""


def test_calls_beyond_the_files_that_may_be_open_are_answered_or_fail_as_calls() -> None:
    pytest.importorskip("resource", reason="a limit of open files is set with it")
    with serve_in_thread() as sim:
        done = subprocess.run([sys.executable, "-c", CALLS, sim.base_url], capture_output=True, text=True)
    assert done.stdout.strip() in ("['answered']", "['answered', 'failed as a call']"), done.stderr
