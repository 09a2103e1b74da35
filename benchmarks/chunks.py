"""CPU of one chunk of a chat stream and of one event of a responses stream, coalesced: sixteen to a write.

    python benchmarks/chunks.py

Streams of 500, four at a time, read with `async for`; every chunk is a typed object where the client has types.
"""

from __future__ import annotations

from answers import EVENTS
from arena import FLOOR, OURS, Arena, Contest, main, table
from plots import bars

NAMES = [FLOOR, OURS, "raw aiohttp + json", "pyreqwest", "AsyncOpenAI", "AsyncOpenAI, aiohttp", "litellm"]


def run(held: Arena) -> None:
    for what, title in (("chunks", "One streamed chat chunk"), ("events", "One event of a responses stream")):
        names = [FLOOR, OURS, "raw aiohttp + json", "AsyncOpenAI"] if held.quick else NAMES
        taken = held.hold(Contest(what, what, names, 4, pieces=EVENTS))
        medians = table(f"{title}, coalesced, {EVENTS} a stream, 4 streams at a time", "us CPU", taken)
        bars(held.svg(what), f"{title}, coalesced", "us of CPU", medians)


if __name__ == "__main__":
    main(run, __doc__)
