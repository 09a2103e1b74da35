"""CPU of one chat call with a reply of 1 KB, plain and over TLS, by client.

    python benchmarks/calls.py [--in-flight 32] [--unprimed]

wrk is the physical limit: it sends the same bytes and parses nothing. baseten makes batches of calls at its own pace.
`--unprimed` leaves glibc's allocator as each process happens to find it (see `measure.prime`), for aimlasync and
aiohttp alone: which of them depends on it.
"""

from __future__ import annotations

from arena import FLOOR, OURS, TO_CALL, Arena, Contest, arena, parser, table
from plots import bars

IN_FLIGHT = 32
SHORT = ["wrk", FLOOR, OURS, "raw aiohttp + json", "pyreqwest", "AsyncOpenAI", "AsyncOpenAI, aiohttp"]


def run(held: Arena, in_flight: int = IN_FLIGHT) -> None:
    for tls in (False, True):
        if tls and held.server.tls_port is None:
            continue
        names = SHORT[1:5] if tls and held.quick else SHORT if tls or held.quick else TO_CALL
        over = ", TLS" if tls else ""
        taken = held.hold(Contest("call", "whole", names, in_flight, tls=tls, least=100))
        title = f"One chat call, 1 KB reply{over}, {in_flight} in flight"
        medians = table(title, "us CPU", taken)
        bars(held.svg(f"call{'-tls' if tls else ''}"), title, "us of CPU", medians)


def run_unprimed(held: Arena, in_flight: int) -> None:
    contest = Contest("call", "whole", [FLOOR, OURS, "raw aiohttp + json"], in_flight, least=100)
    table("One chat call, allocator primed", "us CPU", held.hold(contest))
    held.close()
    held.primed = False
    table("One chat call, allocator as found", "us CPU", held.hold(contest))


if __name__ == "__main__":
    words = parser(__doc__)
    words.add_argument("--in-flight", type=int, default=IN_FLIGHT)
    words.add_argument("--unprimed", action="store_true")
    options = words.parse_args()
    with arena(options) as held:
        (run_unprimed if options.unprimed else run)(held, options.in_flight)
