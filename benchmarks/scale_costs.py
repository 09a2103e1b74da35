"""What the parts of a large job cost, as measured on one processor of a 2-core virtual machine that others used too.

Data for `scale_model.py`. A cost that depends on a size is a curve through measured points, each the least of three
or more runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Curve:
    """Costs by a size: linear in its logarithm between the measured points, and no lower beyond them."""

    points: tuple[tuple[float, float], ...]

    def at(self, size: float) -> float:
        points = self.points
        if size <= points[0][0] or len(points) == 1:
            return points[0][1]
        last = len(points) - 1
        to = next((n for n in range(1, last) if size <= points[n][0]), last)
        (one, low), (other, high) = points[to - 1], points[to]
        cost = low + (high - low) * math.log(size / one) / math.log(other / one)
        return cost if size <= other else max(high, cost)


def flat(cost: float) -> Curve:
    return Curve(((1.0, cost),))


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of one processor, but where it says otherwise. Behind each: the command that measures it."""

    calls: dict[str, Curve] = field(
        default_factory=lambda: {
            "none": flat(160e-6),
            "sqlite": Curve(((1e3, 638e-6), (1e4, 599e-6), (1e5, 646e-6), (1e6, 697e-6))),
            "directory": Curve(((1e3, 765e-6), (1e4, 752e-6), (1e5, 565e-6), (1e6, 645e-6))),
            "redis": Curve(((1e3, 594e-6), (1e4, 561e-6), (1e5, 525e-6), (1e6, 579e-6))),
        }
    )
    """A worker: one call from the row to the record, by the answers in each store; of a directory the first ones make
    its folders. `scale_curves.py --part store`."""
    redis: Curve = Curve(((1e3, 40e-6), (1e4, 37e-6), (1e5, 37e-6), (1e6, 44e-6)))
    """The server of a store: a row, by its answers. The same."""
    bytes_kept: dict[str, float] = field(default_factory=lambda: {"sqlite": 1440.0, "redis": 1253.0})
    """Bytes of an answer in a store, for a record of 1,070. The same."""
    carry: float = 220e-6
    """The process in the middle of a cluster: read a row, send it, take its record in. `processes.py --way ray`."""
    journal: float = 4e-6
    """Append a record to a journal."""
    leases: Curve = Curve(((4, 161e-6), (100, 160e-6), (300, 170e-6), (1000, 211e-6)))
    """The server of a quota: one lease of requests and tokens, by workers. `shared_quota.py --cost`."""
    read: Curve = Curve(((1e4, 4.4e-6), (1e5, 3.8e-6), (1e6, 4.4e-6)))
    """A row that another shard asks about, by the rows of the file. `scale_curves.py --part reading`."""
    merge: Curve = Curve(((1e4, 8.6e-6), (1e5, 7.8e-6), (1e6, 9.7e-6)))
    """A line of `merge`, by lines; the number of journals changes it by less. `scale_curves.py --part merge`."""
    merge_bytes: float = 12.0
    """Memory of `merge` for a line. The same."""
    noticed: float = 3.0
    """Seconds until a lost worker's part is free, beyond those for which it is held. `scale_curves.py --part lost`."""
