"""Bulk jobs on a Ray cluster: `aimlasync.bulk.BatchChat` in Ray Data, and jobs whose calls many machines make.

An extra (`pip install 'aimlasync[ray]'`), and the only package that imports ray. Model calls are made by `BatchChat` in
the processes of the cluster, with the keys of their environment. Ray's usage reports are switched off by default. Ray
Data, pandas and pyarrow are loaded with the first use of a function for datasets: what answers the commands' requests
starts in half the time without them.

    data      map_dataset, classify_dataset: Ray Data, for rows and results of any size
    files     read_dataset, write_dataset, unwritten: datasets from files and to files
    quota     RayQuota: limits that all processes of a program keep together without Redis
    cluster   connect, machines, processors, and Cluster: processes that answer requests, for the commands and for
              `bulk.run(..., answerer=)`
    patience  how long one of them may say nothing
"""

import os
from typing import TYPE_CHECKING, Any

# ray reads these once, when it is imported. A batch ends with its slowest row, so many small batches at a time keep a
# process busier than Ray's default of four.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DATA_DEFAULT_ASYNC_BATCH_UDF_MAX_CONCURRENCY", "16")

try:
    import ray  # noqa: F401
except ImportError:
    raise ImportError("aimlasync.ray needs Ray: pip install 'aimlasync[ray]'") from None

from aimlasync.ray.cluster import Cluster, connect, machines, processors
from aimlasync.ray.quota import RayQuota, own_share, shared_quota

if TYPE_CHECKING:
    from aimlasync.ray.data import classify_dataset, map_dataset
    from aimlasync.ray.files import read_dataset, unwritten, write_dataset

__all__ = [
    "Cluster",
    "RayQuota",
    "classify_dataset",
    "connect",
    "machines",
    "map_dataset",
    "own_share",
    "processors",
    "read_dataset",
    "shared_quota",
    "unwritten",
    "write_dataset",
]


def __getattr__(name: str) -> Any:
    match name:
        case "classify_dataset" | "map_dataset":
            from aimlasync.ray import data

            return getattr(data, name)
        case "read_dataset" | "unwritten" | "write_dataset":
            from aimlasync.ray import files

            return getattr(files, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
