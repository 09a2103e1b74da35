"""What S3 is asked and left with by inputs, outputs and stores, in a process of its own beside moto's server.

`python -m tests.support.s3 DIRECTORY` prints as JSON what `scenario` returns.
"""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

TO_INSTALL = "pip install 'moto[s3]' flask flask-cors s3fs"
ROWS = b'{"city": "Rome"}\n{"city": "Oslo"}\n'
FILES = {
    "in/a.jsonl": ROWS,
    "in/b.jsonl": ROWS,
    "in/sub/c.jsonl.gz": gzip.compress(ROWS),
    "in/_SUCCESS": b"",
    "odd/a b#1%20?.jsonl": ROWS,
    "odd/[x]*.jsonl": ROWS,
    "rows.csv": b"city\nRome\nOslo\n",
}
KEYS = [f"{number:03x}{number:029x}" for number in range(20)]


def is_installed() -> bool:
    """Whether there is a server to test beside, and what speaks with it."""
    return all(importlib.util.find_spec(name) is not None for name in ("moto", "flask", "flask_cors", "s3fs"))


def run_scenario(folder: Path) -> dict[str, Any]:
    """Return what `scenario` returns in another process."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FSSPEC_"))}
    keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hunter22", "AWS_DEFAULT_REGION": "us-east-1"}
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(folder)],
        env=given | keys | {"AWS_EC2_METADATA_DISABLED": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"said": done.stdout + done.stderr}


class Calls(logging.Handler):
    """The calls of S3, by their names."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.names: list[str] = []
        log = logging.getLogger("s3fs")
        log.setLevel(logging.DEBUG)
        log.propagate = False
        log.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Note a call."""
        if record.msg.startswith("CALL"):
            assert isinstance(record.args, tuple)
            self.names.append(str(record.args[0]))


def scenario(folder: Path) -> dict[str, Any]:
    """Read, write and keep answers in a bucket of moto's server, and return what came of it."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    # moto's own server looks through the folders of all its services at each request, for the one that is asked.
    server = make_server("127.0.0.1", 0, create_backend_app("s3"), threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        os.environ["FSSPEC_S3_ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_port}"
        import s3fs

        bucket = s3fs.S3FileSystem()
        bucket.mkdir("rows")
        bucket.pipe({f"rows/{name}": data for name, data in FILES.items()})
        found = {"inputs": inputs(), "outputs": outputs(folder, bucket), "store": asyncio.run(store(bucket))}
        return found | {"buckets": bucket.ls("", refresh=True)}
    finally:
        server.shutdown()
        server.server_close()


def _pool() -> Any:
    from aimlasync.addresses import opened

    return opened("s3://rows/answers")[0].config_kwargs


def inputs() -> dict[str, Any]:
    """Read inputs."""
    import s3fs

    from tests.support.addresses import read

    names = (
        "in/a.jsonl",
        "in",
        "in/*.jsonl",
        "odd",
        "odd/a b#1%20?.jsonl",
        "odd/[x]*.jsonl",
        "rows.csv",
        "no.csv",
        "no",
    )
    found = {name: read(f"s3://rows/{name}") for name in names}
    found["upper case"] = read("S3://rows/rows.csv")
    found["two"] = read("s3://rows/in/a.jsonl", "s3://rows/in/b.jsonl")
    found["patterns"] = read("s3://rows/in/a*.jsonl", "s3://rows/in/b*.jsonl")
    # As another process does, whose file system is another one.
    other = s3fs.S3FileSystem(skip_instance_cache=True)
    other.pipe("rows/in/d.jsonl", ROWS * 2)
    found["later"] = read("s3://rows/in")
    other.pipe("rows/in/d.jsonl", ROWS)
    found["changed"] = read("s3://rows/in")
    other.rm_file("rows/in/d.jsonl")
    found["nowhere"] = read("s3://nowhere/rows.csv")
    found["password"] = read("s3://AKIA:hunter22@rows/rows.csv")
    return found


def outputs(folder: Path, bucket: Any) -> dict[str, Any]:
    """Run jobs whose output is there, as three machines do."""
    from tests.support.commands import run

    ask = ("bulk", "s3://rows/rows.csv", "--prompt", "Where is {city}?", "--simulate", "--progress", "none", "-o")
    found: dict[str, Any] = {}

    def job(machine: str, *words: str) -> None:
        (folder / machine).mkdir(exist_ok=True)
        os.chdir(folder / machine)
        result = run(*ask, *words)
        there = bucket.find("rows/out", refresh=True) if bucket.exists("rows/out") else []
        found[f"{machine} {' '.join(words)}"] = [result.exit_code, result.stderr.splitlines()[-1], len(there)]

    job("one", "s3://rows/out/done.csv", "--limit", "1")
    job("two", "s3://rows/out/done.csv")
    found["done"] = len(bucket.cat("rows/out/done.csv").splitlines())
    job("one", "s3://rows/out/done.csv")
    job("three", "s3://nowhere/done.csv")
    job("three", "s3://rows")
    job("three", "s3://rows/in")
    found["left"] = os.listdir(folder / "three")
    return found


async def store(bucket: Any) -> dict[str, Any]:
    """Keep answers there."""
    from aimlasync import AsyncClient
    from aimlasync.simulator import Simulator
    from aimlasync.store import fsspec_files, open_store

    # Nothing is measured here, on a machine that may be slow.
    fsspec_files._TIMEOUT = 600
    first, second, calls = open_store("s3://rows/answers"), open_store("s3://rows/answers", ttl=60), Calls()
    await asyncio.gather(*(first.put(key, key.encode()) for key in KEYS))
    found: dict[str, Any] = {"puts": sorted(calls.names), "pool": _pool()}
    calls.names.clear()
    values = await second.get([*KEYS, "f" * 32])
    found |= {"gets": sorted(calls.names), "kept": [None if value is None else value.decode() for value in values]}
    # fsspec's file systems are for threads that have no event loop.
    await asyncio.to_thread(bucket.pipe, f"rows/answers/{KEYS[0][:3]}/{KEYS[0][3:]}", b"torn")
    found["torn"] = await second.get(KEYS[:1])
    try:
        await open_store("s3://nowhere/answers").put(KEYS[0], b"one")
    except OSError as error:
        found["nowhere"] = str(error)
    async with (
        Simulator() as simulator,
        AsyncClient(base_url=simulator.base_url, api_key="k", cache="s3://rows/cache") as client,
    ):
        replies = [
            await client.chat.completions.create(
                model="openai/gpt-4.1-nano-2025-04-14", messages=[{"role": "user", "content": "Hi"}], temperature=0
            )
            for _ in range(2)
        ]
        found["cached"] = [reply.info.cached for reply in replies]
    return found


if __name__ == "__main__":
    print(json.dumps(scenario(Path(sys.argv[1]))))
