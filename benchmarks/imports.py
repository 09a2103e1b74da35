"""Time of `import aimlasync`, alone and with a client made, against importing its four dependencies.

    python benchmarks/imports.py [--rounds 15]

Method: a fresh interpreter for each, in turn; the CPU time that the import statement took in it; medians. All from
byte code, as after an installation: a first round compiles it into a directory of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

TIMED = "import time; a = time.process_time(); {}; print(time.process_time() - a)"
STATEMENTS = {
    "aiohttp, msgspec, anyio, aiolimiter": "import aiohttp, msgspec, anyio, aiolimiter",
    "aimlasync": "import aimlasync",
    "aimlasync, and a client": 'import aimlasync; aimlasync.AsyncClient("key", "http://localhost")',
    "openai": "import openai",
}


def run(rounds: int) -> None:
    spent: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(rounds + 1):
            for name, statement in STATEMENTS.items():
                command = [sys.executable, "-c", TIMED.format(statement)]
                done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
                if number and done.returncode == 0:
                    spent[name].append(float(done.stdout))
    floor = statistics.median(spent["aiohttp, msgspec, anyio, aiolimiter"])
    print("\nImporting it, in a fresh interpreter")
    for name, values in spent.items():
        if not values:
            print(f"(left out: {name}: not installed)")
            continue
        middle = statistics.median(values)
        print(f"{name:<38}{middle * 1000:8.1f} ms CPU {middle / floor:8.2f}x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="import times")
    parser.add_argument("--rounds", type=int, default=15)
    run(parser.parse_args().rounds)
