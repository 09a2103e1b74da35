"""All benchmarks of speed and memory, one after the other: tables on stdout, pictures in a directory.

    python benchmarks/all.py [--quick] [-o benchmark-results] [--python litellm=.venv/peers/bin/python]

`--quick` takes about five minutes and has fewer clients, rounds and calls; the whole takes about twenty-five. What
takes an hour's quota or kills processes is a command of its own: `limits`, `crash`, `bulk`. README.md says what is
measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import bulk_peers
import calls
import chunks
import features
import giants
import growth
import imports
import memory
import paced
import parsers
import throughput
import waiting
from arena import Arena, arena, parser
from bulk_peers import CLIENTS

WORKLOADS: list[Callable[[Arena], object]] = [
    calls.run,
    chunks.run,
    paced.run,
    throughput.run,
    memory.run,
    waiting.run,
    giants.run,
    bulk_peers.run,
    growth.run,
    lambda held: features.run(held.server.base("whole"), rounds=3 if held.quick else 7),
    lambda held: imports.run(rounds=5 if held.quick else 15),
    lambda held: parsers.run(),
]


def main() -> int:
    began, failed = time.monotonic(), 0
    with arena(parser(__doc__, also=list(CLIENTS)).parse_args()) as held:
        for workload in WORKLOADS:
            try:
                workload(held)
            except Exception as error:  # noqa: BLE001  # the others are worth their figures
                failed += 1
                print(f"\nFAILED: {error!r}", flush=True)
        print(f"\n{time.monotonic() - began:.0f} s; pictures in {held.options.output}/")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
