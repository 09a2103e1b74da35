"""Ray Data: returns a dataset with answers added, at any size.

A thin layer over `Dataset.map_batches`, which stays lazy. Ray computes a block again when its machine dies; a `store`
that all machines reach saves the calls of such a block. It may import bulk's `BatchChat`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray.data

from aimlasync.bulk.batch_chat import BatchChat
from aimlasync.config import Limits
from aimlasync.ray.cluster import processors
from aimlasync.ray.quota import own_share, shared_quota

BATCH = 32
# Processors of a process, which mostly waits for calls. The rest is left to Ray's reading and writing: that would wait
# forever if, after the loss of a machine, the processes held all processors.
CPUS = 0.25


def classify_dataset(
    dataset: ray.data.Dataset, labels: Sequence[str] | Mapping[str, str], **options: Any
) -> ray.data.Dataset:
    """Return `dataset` with a `label` for each row's `text`; `options` are those of `map_dataset`."""
    return map_dataset(dataset, labels=labels, **options)


def map_dataset(
    dataset: ray.data.Dataset,
    *,
    workers: int | tuple[int, int] | None = None,
    batch_size: int = BATCH,
    limits: Limits | None = None,
    quota: Callable[[], Any] | None = None,
    stop: bool = True,
    remote: Mapping[str, Any] | None = None,
    **asked: Any,
) -> ray.data.Dataset:
    """Return `dataset` with answers for each row; `asked` are the options of `BatchChat`.

    `workers` is the number of processes that make calls, or the least and the largest number, between which Ray
    chooses; by default 1 and the number of processors of the cluster. `limits` are those of the account, which all
    processes of this program keep together, through a `quota` such as a RedisQuota or else a process of the cluster;
    its concurrency is split for the largest number of processes. A process has 16 batches in progress.
    An error that every row would have (a bad key, no credit) ends the execution; `stop=False` makes it an error of each
    row. `remote` are further arguments of Ray's actors, such as {"num_cpus": 1}; by default each has a quarter of a
    processor. Raises what `BatchChat` raises for its options.
    """
    least, most = (1, processors()) if workers is None else (workers, workers) if isinstance(workers, int) else workers
    if limits is not None:
        limits = own_share(limits, most)
        if quota is None and limits.is_rated:
            quota = shared_quota(asked.get("base_url") or "")
    options = {**asked, "limits": limits, "quota": quota, "stop": stop}
    # Wrong options raise here, and not in a process of the cluster.
    BatchChat(**options)
    return dataset.map_batches(
        BatchChat,
        fn_constructor_kwargs=options,
        # Arrow keeps the types of all columns.
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        udf_modifying_row_count=False,
        **{"num_cpus": CPUS, **(remote or {})},
    )
