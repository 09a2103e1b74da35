"""Four thousand calls in flight against a server that takes three seconds for each.

    python benchmarks/waiting.py

All begin at once, on connections that do not exist yet. The time until the last is answered, of which three seconds are
the server's; CPU of a call; the most memory the process ever had; calls that failed. AsyncOpenAI keeps a thousand
connections as it comes; baseten's client refuses more than 1,024 at a time and is not asked.
"""

from __future__ import annotations

from arena import FLOOR, LOOPS, OURS, Arena, main

NAMES = [FLOOR, OURS, "raw aiohttp + json", "pyreqwest", "AsyncOpenAI", "AsyncOpenAI, aiohttp"]


def run(held: Arena) -> None:
    calls = 1000 if held.quick else 4000
    names = NAMES[:3] if held.quick else NAMES
    print(f"\n{calls:,} calls in flight, three seconds each")
    print(f"{'':<36}{'seconds':>9}{'us CPU':>9}{'MiB':>9}{'errors':>9}")
    for name in names:
        # For a client that takes milliseconds a call, one loop says it all.
        for loop in (
            loop for loop in LOOPS if loop in held.options.loops and (loop == "asyncio" or name in (FLOOR, OURS))
        ):
            if held.options.peers and name not in (FLOOR, OURS) and name not in held.options.peers:
                continue
            client = held.fresh(name, loop)
            if client is None:
                continue
            try:
                client.ask("open", base=held.server.base("slow"), most=calls, pieces=1)
                spent = client.ask("spend", what="call", times=calls, in_flight=calls)
                peak = client.ask("peak")["peak"]
                errors, each = spent["errors"], spent["cpu"] / calls * 1e6
                print(f"{name + ', ' + loop:<36}{spent['wall']:>9.2f}{each:>9.0f}{peak:>9.0f}{errors:>9}", flush=True)
                if errors:
                    print(f"  the first failed with {spent['said']}")
            finally:
                client.close()


if __name__ == "__main__":
    main(run, __doc__)
