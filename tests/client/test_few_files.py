"""A process that may open few files, as on macOS: its calls wait for those that are open, and no module does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aimlasync.simulator import serve_in_thread

CALLS = """
import asyncio, resource, sys
from collections import Counter
from aimlasync import AimlasyncError, AsyncClient, Limits

async def main():
    limits = Limits(concurrency=None if sys.argv[2] == "learned" else 1000)
    async with AsyncClient(base_url=sys.argv[1], api_key="k", limits=limits) as client:
        async def one(number):
            model, streams = "openai/gpt-5-nano-2025-08-07", sys.argv[3] == "streamed"
            try:
                reply = await client.responses.create(model=model, input=f"{number}", stream=streams)
                if streams:
                    reply = await reply.collect()
            except AimlasyncError:
                return "failed as a call"
            except BaseException as error:
                return repr(error)
            return "answered" if reply.output_text else "empty"
        print(sorted(Counter(await asyncio.gather(*map(one, range(150))))))

resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
asyncio.run(main())
"""


REFUSED = """
import asyncio, resource, sys
from aimlasync import APIConnectionError, AsyncClient, Endpoint, Retry
from aimlasync.transport import LeanTransport

async def main():
    endpoints = [Endpoint(base_url=sys.argv[1], api_key="k", name=name) for name in ("one", "two")]
    # Each call makes its connection.
    transport = LeanTransport(keepalive=0.0)
    async with AsyncClient(endpoints=endpoints, transport=transport, retry=Retry(attempts=2, base=0.001)) as client:
        async def one():
            try:
                return (await client.responses.create(model="openai/gpt-5-nano-2025-08-07", input="Hi")).status
            except APIConnectionError as error:
                return "Too many open files" in str(error)
        await one()
        client.statistics()
        # The application's own.
        files = []
        try:
            while True:
                files.append(open("/dev/null"))
        except OSError:
            pass
        refused = [await one() for _ in range(20)]
        states = [each.state for each in client.statistics()]
        for file in files:
            file.close()
        print(all(refused), states, await one())
    await transport.close()

resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
asyncio.run(main())
"""


def printed(code: str, *arguments: str) -> str:
    pytest.importorskip("resource", reason="a limit of open files is set with it")
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


@pytest.mark.parametrize("limits", ["learned", "stated"])
@pytest.mark.parametrize("kind", ["whole", "streamed"])
def test_calls_beyond_the_files_that_may_be_open_wait_for_those_that_are(limits: str, kind: str) -> None:
    with serve_in_thread() as sim:
        assert printed(CALLS, sim.base_url, limits, kind) == "['answered']"


def test_a_process_that_may_open_no_file_blames_no_endpoint() -> None:
    with serve_in_thread() as sim:
        assert printed(REFUSED, sim.base_url) == "True ['ok', 'ok'] completed"
