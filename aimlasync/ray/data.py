"""Ray Data: a dataset in, the same dataset with answers out, at any size.

Law: a few lines over `Dataset.map_batches`; what is lazy stays lazy. Ray does a block again when its machine dies: a
`store` that all machines reach makes that free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow.fs
import ray
import ray.data

from aimlasync.bulk.batch_chat import BatchChat
from aimlasync.bulk.input.rows import Format, InputError
from aimlasync.bulk.input.source import format_of_path
from aimlasync.bulk.output.directory import check_free, replacing_directory
from aimlasync.config import Limits
from aimlasync.ray.cluster import processors

BATCH = 32
# Calls are mostly waited for. What is left is for Ray's reading and writing, which waits for ever where processes that
# ask, fewer machines than there were, have taken it all.
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
    """Return `dataset` with the answers to what is `asked` about each row: the words of `BatchChat`.

    `workers` are the processes that ask: a number, or the fewest and the most of them, between which Ray chooses; by
    default one, and as many as the cluster has processors. `limits` are the account's: each process gets the part that
    is its own when there are as many as may be, unless a `quota` is shared by all. A process has 16 batches at work.
    What all rows would meet (a bad key, no credit) ends the execution; `stop=False` makes it an error of each row.
    `remote` are further arguments of Ray's actors, such as {"num_cpus": 1}; by default each has a quarter of one.
    """
    least, most = (1, processors()) if workers is None else (workers, workers) if isinstance(workers, int) else workers
    if limits is not None and quota is None:
        # The last part is the smallest, where they are not equal.
        limits = limits.share(most, most)
    words = {**asked, "limits": limits, "quota": quota, "stop": stop}
    # What is wrong with the words is said here, and not by a process far away.
    BatchChat(**words)
    return dataset.map_batches(
        BatchChat,
        fn_constructor_kwargs=words,
        # Arrow keeps the types of columns that it is not asked about, and the answers'.
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        udf_modifying_row_count=False,
        **{"num_cpus": CPUS, **(remote or {})},
    )


def read_dataset(path: str, format: Format | None = None) -> ray.data.Dataset:
    """Return the rows of a Parquet, JSONL or CSV file, or of a directory of such, that all machines see.

    Raises InputError when neither `format` nor the name's end says which.
    """
    format = format or format_of_path(path)
    if format == "parquet":
        return ray.data.read_parquet(path)
    if format == "jsonl":
        return ray.data.read_json(path, file_extensions=None)
    if format == "csv":
        return ray.data.read_csv(path)
    raise InputError(path, "neither .csv nor .jsonl nor .parquet; say which with format=")


def write_dataset(dataset: ray.data.Dataset, path: str, format: Format = "parquet", *, overwrite: bool = False) -> None:
    """Carry it out, and write the rows as files in the directory `path`, which all machines see.

    The directory is there when all rows are, so that a job that died and is run again has no row twice. Raises
    OverwriteError, a kind of InputError, for one that has files of rows already, unless `overwrite` is set. An address
    such as s3://... is written as it goes: what a run that died has left there is refused until it is overwritten.
    """
    if "://" in path:
        filesystem, place = pyarrow.fs.FileSystem.from_uri(path)
        found = filesystem.get_file_info(pyarrow.fs.FileSelector(place, allow_not_found=True))
        check_free(path, [info.base_name for info in found], overwrite=overwrite)
        _write(dataset, path, format, mode=ray.data.SaveMode.OVERWRITE)
        return
    with replacing_directory(path, overwrite=overwrite) as folder:
        _write(dataset, folder, format)


def _write(dataset: ray.data.Dataset, path: str, format: Format, **options: Any) -> None:
    if format == "parquet":
        dataset.write_parquet(path, **options)
    elif format == "jsonl":
        dataset.write_json(path, **options)
    else:
        dataset.write_csv(path, **options)
