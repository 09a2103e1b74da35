"""Memory of one call in flight, with 5,000 of them, each on a connection of its own, plain and over TLS.

    python benchmarks/memory.py

The server answers none before all have arrived. What a fresh process has with all of them waiting, less what it had
before the first one, shared among them; `a task` is one that waits for a timer and calls nobody. asyncio's TLS takes a
buffer of 256 KiB for each connection, whoever uses it, and is therefore measured with 1,000 calls.
"""

from __future__ import annotations

from arena import FLOOR, LOOPS, OURS, Arena, main
from plots import bars
from serving import Server, canned_server

NAMES = [FLOOR, OURS, "raw aiohttp + json", "a task"]


def run(held: Arena) -> None:
    authority = held.server.authority
    certificate = None if authority is None else authority.with_name("server.pem")
    found: dict[str, dict[str, float]] = {}
    most = 1000 if held.quick else 5000
    print(f"\nMemory of a call in flight, {most:,} at once\n{'':<40}{'calls':>9}{'KiB each':>12}{'errors':>9}")
    with canned_server(certificate=certificate) as server:
        for tls in (False, True):
            for loop in (loop for loop in LOOPS if loop in held.options.loops):
                calls = min(most, 1000) if tls and loop == "asyncio" else most
                for name in NAMES:
                    if tls and (certificate is None or name == "a task" or (held.quick and loop == "asyncio")):
                        continue
                    taken = of_call(held, server, name, loop, calls, tls=tls)
                    if taken is not None:
                        row = f"{name}{', TLS' if tls else ''}"
                        found.setdefault(row, {})[loop] = taken[0]
                        print(f"{row + ', ' + loop:<40}{calls:>9,}{taken[0]:>12.1f}{taken[1]:>9}", flush=True)
    bars(held.svg("memory"), f"Memory of a call in flight, {most:,} at once", "KiB", found)


def of_call(held: Arena, server: Server, name: str, loop: str, calls: int, *, tls: bool) -> tuple[float, int] | None:
    client = held.fresh(name, loop)
    if client is None:
        return None
    try:
        # Its first call makes what all calls share.
        client.ask("open", base=server.base("whole", tls=tls), most=calls, pieces=1)
        client.ask("spend", what="call", times=10, in_flight=1)
        client.ask("close")
        client.ask("open", base=server.base(f"held-{calls}", tls=tls), most=calls, pieces=1)
        seen = client.ask("hold", times=calls)
        if seen["errors"]:
            print(f"  {name} on {loop}: {seen['errors']} calls FAILED, the first with {seen['said']}")
        return (seen["most"] - seen["before"]) * 1024 / calls, seen["errors"]
    finally:
        client.close()


if __name__ == "__main__":
    main(run, __doc__)
