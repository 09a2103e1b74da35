"""The grid: 274 unknown servers and their traffic, on which laws for adaptive limits are judged.

`benchmarks/adaptive_grid.py` runs all of it, the tests a few of its cells. It imports nothing of the library.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Callable, Iterator  # noqa: UP035

from tests.support.unknown_servers import CALLERS, TRIP, Cell, Draw, Latency, RateLimit, Server

_SPREADS = {0.2: 0.3, 0.5: 0.5, 1.0: 0.5, 2.0: 0.8, 5.0: 0.5}


def lognormal(mean: float, spread: float) -> Latency:
    """Return latencies of this mean, with a spread of their logarithm."""
    return lambda draw, now: mean * draw.lognormvariate(-spread * spread / 2, spread)


def _p95(mean: float) -> float:
    spread = _SPREADS[mean]
    return mean * math.exp(-spread * spread / 2 + 1.645 * spread)


def _cell(
    group: str,
    name: str,
    server: Callable[[], Server],
    mean: float,
    best: float | list[tuple[float, float]],
    **more: Any,
) -> Cell:
    values: dict[str, Any] = {
        "latency": lognormal(mean, _SPREADS[mean]),
        "seconds": 180.0,
        "begin": max(10.0, 10 * mean),
        "best": best if isinstance(best, list) else [(0.0, best)],
        "p95": _p95(mean),
        **more,
    }
    return Cell(group, name, lambda: [server()], **values)


def _hard() -> Iterator[Cell]:
    for level in (1, 2, 5, 10, 50, 200):
        for mean, seconds in ((0.2, 90.0), (1.0, 180.0), (5.0, 400.0)):
            name, best = f"{level} in flight, {mean} s", level / (mean + 2 * TRIP)
            yield _cell("hard limit", name, partial(Server, in_flight=level), mean, best, seconds=seconds)


def _always_told() -> Iterator[Cell]:
    # Gateways that state the same wait with each refusal.
    for level in (1, 5, 50, 200):
        for mean, seconds in ((0.2, 120.0), (1.0, 300.0), (5.0, 600.0)):
            for told in (1.0, 10.0, 60.0):
                name, best = f"{level} in flight, {mean} s, {told:g} s told", level / (mean + 2 * TRIP)
                server = partial(Server, in_flight=level, always_says=told)
                yield _cell("hard limit, always told", name, server, mean, best, seconds=seconds)
    for kind, window, told in (
        ("bucket", 1.0, 1.0),
        ("bucket", 1.0, 10.0),
        ("fixed", 60.0, 60.0),
        ("sliding", 60.0, 60.0),
    ):
        for rate in (1.0, 5.0, 20.0, 200.0):

            def limited(kind: str = kind, rate: float = rate, told: float = told, w: float = window) -> Server:
                return Server(rate=RateLimit(kind, rate, w), always_says=told)

            name = f"{kind} of {rate}/s, {told:g} s told"
            yield _cell(f"{kind}, always told", name, limited, 1.0, rate, seconds=420.0, begin=0.0)


def _rates() -> Iterator[Cell]:
    for kind, window in (("bucket", 1.0), ("fixed", 60.0), ("sliding", 60.0)):
        for rate in (0.2, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 200.0):
            for says_when in (False, True):
                for mean in (1.0,) if window > 1 or says_when else (0.2, 1.0, 5.0):

                    def server(
                        kind: str = kind, rate: float = rate, told: bool = says_when, w: float = window
                    ) -> Server:
                        return Server(rate=RateLimit(kind, rate, w), says_when=told)

                    group = (kind if window == 1 else f"{kind} minute") + (", told" if says_when else "")
                    name, best = f"{kind} of {rate}/s, {mean} s", min(rate, CALLERS / mean)
                    if window > 1:
                        yield _cell(group, name, server, mean, best, seconds=360.0, begin=0.0)
                        continue
                    seconds = 400.0 if rate <= 2 else {0.2: 120.0, 1.0: 180.0, 5.0: 300.0}[mean]
                    yield _cell(group, name, server, mean, best, seconds=seconds)


def _queues() -> Iterator[Cell]:
    for slots in (1, 4, 16, 64):
        for mean, seconds in ((0.2, 90.0), (1.0, 240.0), (5.0, 900.0)):
            more: dict[str, Any] = {"seconds": seconds, "begin": max(20.0, 20 * mean), "knee": slots}
            name = f"{slots} slots, {mean} s"
            yield _cell("queue", name, partial(Server, slots=slots), mean, slots / mean, **more)
    for batch in (8, 64, 256):
        for mean, seconds in ((1.0, 180.0), (5.0, 500.0)):
            more = {"seconds": seconds, "begin": 20 * mean, "knee": batch}
            name, best = f"batch of {batch}, {mean} s", batch / (mean + 2 * TRIP)
            yield _cell("batch", name, partial(Server, batch=batch), mean, best, **more)


def _both() -> Iterator[Cell]:
    for level, rate, mean in ((50, 50.0, 0.2), (50, 50.0, 1.0), (10, 20.0, 1.0), (20, 10.0, 1.0), (100, 20.0, 5.0)):

        def server(level: float = level, rate: float = rate) -> Server:
            return Server(in_flight=level, rate=RateLimit("bucket", rate, 1.0))

        best = min(level / (mean + 2 * TRIP), rate)
        name = f"{level} in flight and {rate}/s, {mean} s"
        yield _cell("both", name, server, mean, best, seconds=300.0 if mean == 5 else 180.0)


def _scaled(factor: float) -> Callable[[Server], None]:
    def change(server: Server) -> None:
        server.in_flight *= factor
        server.slots *= factor
        if server.rate is not None:
            server.rate.rate *= factor

    return change


def _switched(is_down: bool) -> Callable[[Server], None]:
    return lambda server: setattr(server, "is_down", is_down)


def _changes() -> Iterator[Cell]:
    servers: list[tuple[str, Callable[[], Server], float]] = [
        ("100 in flight", lambda: Server(in_flight=100), 100 / 1.02),
        ("bucket of 50/s", lambda: Server(rate=RateLimit("bucket", 50.0, 1.0)), 50.0),
        ("bucket of 5/s", lambda: Server(rate=RateLimit("bucket", 5.0, 1.0)), 5.0),
        ("32 slots", lambda: Server(slots=32), 32.0),
    ]
    for name, server, best in servers:
        for group, what, seconds, changes, bests, recovers in (
            ("change", "halves, doubles", 240.0, ((80.0, _scaled(0.5)), (160.0, _scaled(2.0))), [1.0, 0.5, 1.0], 160.0),
            ("change", "doubles", 240.0, ((100.0, _scaled(2.0)),), [1.0, 2.0], 100.0),
            (
                "dies",
                "dies for 30 s",
                200.0,
                ((60.0, _switched(True)), (90.0, _switched(False))),
                [1.0, 0.0, 1.0],
                90.0,
            ),
        ):
            steps = [(at, best * share) for at, share in zip([0.0, *(at for at, _ in changes)], bests)]  # noqa: B905
            more: dict[str, Any] = {"changes": changes, "recovers": recovers, "seconds": seconds}
            yield _cell(group, f"{name} {what}", server, 1.0, steps, begin=20.0, **more)


def _mixed_latency(draw: Draw, now: float) -> float:
    return (0.5 if draw.random() < 0.8 else 10.0) * draw.lognormvariate(-0.045, 0.3)


def _drifting(draw: Draw, now: float) -> float:
    return (0.5 + 2.0 * now / 240) * draw.lognormvariate(-0.125, 0.5)


def _stepping(draw: Draw, now: float) -> float:
    return (0.6 if now < 120 else 2.4) * draw.lognormvariate(-0.125, 0.5)


def _traffic() -> Iterator[Cell]:
    mean = 0.8 * 0.5 + 0.2 * 10
    bucket = lambda: [Server(rate=RateLimit("bucket", 20.0, 1.0))]  # noqa: E731
    for name, server, best, seconds, begin, knee in (
        ("50 in flight", lambda: [Server(in_flight=50)], 50 / mean, 240.0, 40.0, math.nan),
        ("10 in flight", lambda: [Server(in_flight=10)], 10 / mean, 300.0, 40.0, math.nan),
        ("bucket of 20/s", bucket, 20.0, 240.0, 40.0, math.nan),
        ("16 slots", lambda: [Server(slots=16)], 16 / mean, 300.0, 40.0, 16.0),
        ("400 in flight", lambda: [Server(in_flight=400)], 400 / mean, 240.0, 60.0, math.nan),
    ):
        yield Cell("streams", name, server, _mixed_latency, seconds, begin, [(0.0, best)], knee=knee)
    for what, latency in (("drifts", _drifting), ("steps", _stepping)):
        seconds_at = [(t, 0.5 + 2 * t / 240 if what == "drifts" else 0.6 if t < 120 else 2.4) for t in range(0, 240, 5)]
        for name, server, level, knee in (
            ("50 in flight", lambda: [Server(in_flight=50)], 50, math.nan),
            ("300 in flight", lambda: [Server(in_flight=300)], 300, math.nan),
            ("bucket of 20/s", bucket, None, math.nan),
            ("16 slots", lambda: [Server(slots=16)], 16, 16.0),
        ):
            bests = [(0.0, 20.0)] if level is None else [(float(t), level / seconds) for t, seconds in seconds_at]
            yield Cell("drift", f"{name} {what}", server, latency, 240.0, 20.0, bests, knee=knee)


def _models() -> Iterator[Cell]:
    def bucket(rate: float) -> Server:
        return Server(rate=RateLimit("bucket", rate, 1.0))

    for name, servers, best in (
        ("5/s and 50/s", lambda: [bucket(5.0), bucket(50.0)], 55.0),
        ("5 and 50 in flight", lambda: [Server(in_flight=5), Server(in_flight=50)], 55 / 1.02),
    ):
        yield Cell("two models", name, servers, lognormal(1.0, 0.5), 180.0, 20.0, [(0.0, best)], models=2, laws=2)


def _small_windows() -> Iterator[Cell]:
    """Strict windows of a second, and buckets of a second and of a tenth, where refusals pause nobody."""
    for mean in (0.2, 0.5, 2.0):
        for kind, window, levels in (
            ("", 0.0, (2, 5, 10, 50, 100, 300)),
            ("sliding", 1.0, (5, 10, 50, 100, 200, 500)),
            ("bucket", 1.0, (5, 10, 50, 100, 200, 500)),
            ("bucket", 0.1, (5, 10, 50, 100, 200, 500)),
        ):
            for level in levels:

                def server(kind: str = kind, level: float = level, window: float = window) -> Server:
                    return Server(rate=RateLimit(kind, level, window)) if kind else Server(in_flight=level)

                name = f"{kind} of {level}/s over {window} s, {mean} s" if kind else f"{level} in flight, {mean} s"
                best = min(level if kind else level / mean, 300 / mean)
                seconds = 120.0 if mean > 1 or level <= 10 else 60.0
                more: dict[str, Any] = {"callers": 300, "trip": 0.0025, "pauses": False, "seconds": seconds}
                yield _cell("small windows", name, server, mean, best, **more)


def _by_chance() -> Iterator[Cell]:
    """Servers that refuse a share of the attempts at any rate, beside a limit or a queue of their own."""
    for chance in (0.01, 0.05, 0.2):
        for mean in (0.2, 1.0):
            for name, limits, best in (
                ("50 in flight", {"in_flight": 50}, 50 / (mean + 2 * TRIP)),
                ("bucket of 20/s", {}, 20.0),
                ("16 slots", {"slots": 16}, 16 / mean),
            ):

                def server(name: str = name, limits: dict[str, Any] = limits, chance: float = chance) -> Server:
                    rate = RateLimit("bucket", 20.0, 1.0) if name.startswith("bucket") else None
                    return Server(rate=rate, chance=chance, **limits)

                yield _cell(
                    "by chance", f"{chance:.0%}, {name}, {mean} s", server, mean, best, seconds=300.0, begin=60.0
                )


def _resets() -> Iterator[Cell]:
    """Servers that take so many connections, and that break some of them by chance."""
    for limit in (8, 30, 100):
        for mean in (0.2, 1.0, 5.0):

            def full(limit: int = limit) -> Server:
                return Server(in_flight=limit, resets=True)

            best = limit / (mean + 2 * TRIP)
            yield _cell("resets", f"above {limit}, {mean} s", full, mean, best, seconds=300.0, begin=60.0)
    for chance in (0.01, 0.05):
        for limit in (30, CALLERS):

            def flaky(limit: int = limit, chance: float = chance) -> Server:
                return Server(in_flight=limit, chance=chance, resets=True)

            name = f"{chance:.0%} and above {limit}, 1.0 s"
            yield _cell("resets", name, flaky, 1.0, limit / (1.0 + 2 * TRIP), seconds=300.0, begin=60.0)


def grid() -> list[Cell]:
    """Return all cells, group by group."""
    groups = (_hard, _always_told, _rates, _queues, _both, _changes, _traffic, _small_windows, _models)
    return [cell for group in (*groups, _by_chance, _resets) for cell in group()]
