"""What the parts of a large job cost, as measured on one processor of a 2-core virtual machine that others used too.

Data for `scale_model.py`. A cost that depends on a size is a curve through measured points, each the median of
two or more runs. They are of one day: `scale_model.py --check` measures its own between the real runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Asker = Literal["batch", "bulk"]
"""`BatchChat`, of datasets and clusters, or a shard's `bulk`."""


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

    calls: dict[tuple[Asker, str], Curve] = field(
        default_factory=lambda: {
            ("batch", "none"): flat(158e-6),
            ("batch", "sqlite"): Curve(((1e4, 636e-6), (1e5, 675e-6))),
            ("batch", "directory"): Curve(((1e4, 474e-6), (1e5, 646e-6))),
            ("batch", "redis"): Curve(((1e4, 642e-6), (1e5, 590e-6))),
            ("bulk", "none"): flat(149e-6),
            ("bulk", "sqlite"): Curve(((1e4, 467e-6), (1e5, 478e-6))),
            ("bulk", "directory"): Curve(((1e4, 445e-6), (1e5, 438e-6))),
            ("bulk", "redis"): Curve(((1e4, 475e-6), (1e5, 541e-6))),
        }
    )
    """A worker: a row from its fields to its record, by who asks and by the values in each store; of `bulk` with its
    journal, of a directory without the disk's files. `scale_curves.py --part store`."""
    redis: dict[Asker, Curve] = field(
        default_factory=lambda: {
            "batch": Curve(((1e4, 53e-6), (1e5, 45e-6))),
            "bulk": Curve(((1e4, 34e-6), (1e5, 32e-6))),
        }
    )
    """The server of a store: a row. The same."""
    values: dict[Asker, int] = field(default_factory=lambda: {"batch": 2, "bulk": 1})
    """What a store keeps of a row: `BatchChat` its record and the client's answer, `bulk` the answer."""
    file: float = 65e-6
    """Make a file on a disk with ext4, beyond one in memory: 20 on a disk at rest, 200 to 600 while any program creates
    and deletes thousands, and for minutes after. `scale_curves.py --part files`."""
    bytes_kept: dict[str, float] = field(default_factory=lambda: {"sqlite": 1440.0, "redis": 1253.0})
    """Bytes of a value of 1,070 in a store."""
    carry: Curve = Curve(((1, 183e-6), (3, 206e-6)))
    """The process in the middle of a cluster: a row from file to journal, by nodes. `processes.py --way ray`."""
    leases: Curve = Curve(((4, 161e-6), (100, 160e-6), (300, 170e-6), (1000, 211e-6)))
    """The server of a quota: one lease of requests and tokens, by workers. `shared_quota.py --cost`."""
    read: Curve = Curve(((1e4, 4.2e-6), (1e5, 3.5e-6), (1e6, 4.4e-6)))
    """A row that another shard asks about, by the rows of the file. `scale_curves.py --part reading`."""
    merge: Curve = Curve(((1e4, 8.6e-6), (1e5, 7.8e-6), (1e6, 9.7e-6)))
    """A line of `merge`, by lines; the number of journals changes it by less. `scale_curves.py --part merge`."""
    merge_bytes: float = 12.0
    """Memory of `merge` for a line. The same."""
    noticed: float = 3.0
    """Seconds until a lost worker's part is free, beyond those for which it is held. `scale_curves.py --part lost`."""
