"""Rows on a Ray cluster: `aimlasync.bulk.BatchChat` in Ray Data, and bulk jobs whose calls are made by many machines.

Law: an extra (`pip install 'aimlasync[ray]'`), and the only place that imports ray. Nothing here asks a model:
that is `BatchChat`'s business, which runs in the cluster's processes with the keys of their environment.
Ray reports its use to its makers unless told not to; here it is told not to.

    data      map_dataset, classify_dataset, read_dataset, write_dataset: Ray Data, for rows and results of any size
    cluster   connect, machines, processors, and Cluster: processes that answer requests, for the commands and
              `bulk.run(..., answerer=)`
"""

import os

# Before ray is imported, which looks at them once. A batch ends with its slowest row, so that small ones, and many of
# them, use their places best: Ray's own would be four at once.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DATA_DEFAULT_ASYNC_BATCH_UDF_MAX_CONCURRENCY", "16")

try:
    import ray  # noqa: F401
except ImportError:
    raise ImportError("aimlasync.ray needs Ray: pip install 'aimlasync[ray]'") from None

from aimlasync.ray.cluster import Cluster, connect, machines, processors
from aimlasync.ray.data import classify_dataset, map_dataset, read_dataset, write_dataset

__all__ = [
    "Cluster",
    "classify_dataset",
    "connect",
    "machines",
    "map_dataset",
    "processors",
    "read_dataset",
    "write_dataset",
]
