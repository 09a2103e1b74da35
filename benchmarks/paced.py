"""CPU of one chunk of a chat stream that comes alone: 64 streams at a time, a chunk of each every 20 ms.

    python benchmarks/paced.py

One event is one read of one socket, so that the loop and the kernel cost more than the client; a client that does not
keep up reads several at once, which makes it look cheaper than it is.
"""

from __future__ import annotations

from arena import FLOOR, OURS, Arena, Contest, main, table
from plots import bars
from server import PACE, PACED_EVENTS

STREAMS = 64
NAMES = [FLOOR, OURS, "raw aiohttp + json", "pyreqwest", "AsyncOpenAI", "AsyncOpenAI, aiohttp"]


def run(held: Arena) -> None:
    names, rounds = (NAMES[:4], 1) if held.quick else (NAMES, min(held.rounds, 4))
    taken = held.hold(Contest("chunks", "paced", names, STREAMS, pieces=PACED_EVENTS, times=STREAMS, rounds=rounds))
    title = f"One streamed chat chunk, one to a read, {STREAMS} streams, every {PACE * 1000:.0f} ms"
    bars(held.svg("paced"), title, "us of CPU", table(title, "us CPU", taken))


if __name__ == "__main__":
    main(run, __doc__)
