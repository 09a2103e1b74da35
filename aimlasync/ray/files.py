"""Datasets from files and to files: `read_dataset`, `write_dataset`, and `unwritten` for a job that is run again.

All machines must reach the files. It may import bulk's input and output.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
import ray.data
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from aimlasync.bulk.input.formats import format_of_path
from aimlasync.bulk.input.rows import Format, InputError
from aimlasync.bulk.output.directory import check_free, replacing_directory
from aimlasync.logs import log_of

Mode = Literal["new", "overwrite", "append", "resume"]

_log = log_of("aimlasync.ray")


def read_dataset(path: str, format: Format | None = None) -> ray.data.Dataset:
    """Return the rows of a Parquet, JSONL or CSV file, or of a directory of such files; all machines must reach it.

    Raises InputError when neither `format` nor the suffix of the name says which format it is.
    """
    format, path = format or format_of_path(path), _absolute(path)
    if format == "parquet":
        return ray.data.read_parquet(path)
    if format == "jsonl":
        return ray.data.read_json(path, file_extensions=None)
    if format == "csv":
        return ray.data.read_csv(path)
    raise InputError(path, "neither .csv nor .jsonl nor .parquet; say which with format=")


def write_dataset(
    dataset: ray.data.Dataset,
    path: str,
    format: Format = "parquet",
    *,
    mode: Mode = "new",
    overwrite: bool = False,
    partition_by: Sequence[str] = (),
) -> None:
    """Execute `dataset` and write its rows as files in the directory `path`, which all machines must reach.

    `mode` says what becomes of files of rows that are there: "new" refuses them, "overwrite" (or `overwrite=True`)
    replaces them, "append" leaves them and writes others beside them, "resume" does so for the rows that `unwritten`
    left of a run that died. With "new" and "overwrite" the directory appears when all rows are written; at an address
    such as s3://..., and with the others, files appear one by one, and stay when the job dies. `partition_by` are
    columns whose values become folders, such as lang=de.
    Raises OverwriteError, a kind of InputError, for files that are refused, and ValueError for what only Parquet can
    do: "resume", since no other file shows that it was cut off, and partitions.
    """
    mode, path = "overwrite" if overwrite else mode, _absolute(path)
    if format != "parquet" and (mode == "resume" or partition_by):
        raise ValueError(f"{'mode=resume' if mode == 'resume' else 'partition_by='} goes with format='parquet'")
    options: dict[str, Any] = {"partition_cols": list(partition_by)} if partition_by else {}
    if "://" not in path and mode in ("new", "overwrite"):
        with replacing_directory(path, overwrite=mode == "overwrite") as folder:
            _write(dataset, folder, format, **options)
        return
    filesystem, place = _place(path)
    names = [posixpath.relpath(info.path, place) for info in _files(filesystem, place)]
    check_free(path, names, overwrite=mode != "new")
    if mode == "resume":
        for info in _files(filesystem, place):
            if not _is_whole(filesystem, info):
                _log.warning("%s was cut off when a run died: it is deleted, and its rows are written again", info.path)
                filesystem.delete_file(info.path)
    save = ray.data.SaveMode.OVERWRITE if mode == "overwrite" else ray.data.SaveMode.APPEND
    _write(dataset, path, format, mode=save, **options)


def unwritten(dataset: ray.data.Dataset, path: str, *, id_column: str) -> ray.data.Dataset:
    """Return the rows of `dataset` whose id no Parquet file in the directory `path` has; all where there is none.

    Give it the rows before they are asked about, and write the answers with `mode="resume"`. A row that failed is
    written too. The ids that are there take eight bytes each on every machine. Files that were cut off do not count.
    """
    filesystem, place = _place(path)
    paths = [info.path for info in _files(filesystem, place) if _is_whole(filesystem, info)]
    if not paths:
        return dataset
    written = ray.data.read_parquet(paths, filesystem=filesystem, columns=[id_column]).map_batches(
        lambda table: pa.table({"hash": _hashes(table[id_column])}), batch_format="pyarrow"
    )
    found = [batch["hash"] for batch in written.iter_batches(batch_format="numpy")]
    there = ray.put(np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64))

    def left(table: pa.Table) -> pa.Table:
        known, hashes = ray.get(there), _hashes(table[id_column])
        at = np.searchsorted(known, hashes)
        return table.filter(pa.array(known[np.minimum(at, len(known) - 1)] != hashes)) if len(known) else table

    return dataset.map_batches(left, batch_format="pyarrow")


def _hashes(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """Return a number of eight bytes for each id: the same for 7 and "7", as both name the same row."""
    digests = (blake2b(str(value).encode(), digest_size=8).digest() for value in column.to_pylist())
    return np.frombuffer(b"".join(digests), np.uint64)


def _absolute(path: str) -> str:
    """Return the path as processes see it whose directory is another."""
    return path if "://" in path else os.path.abspath(path)


def _place(path: str) -> tuple[FileSystem, str]:
    filesystem, place = FileSystem.from_uri(path if "://" in path else os.path.realpath(path))
    return filesystem, place


def _files(filesystem: FileSystem, place: str) -> list[FileInfo]:
    """Return the files in a directory and in the folders of its partitions."""
    infos = filesystem.get_file_info(FileSelector(place, allow_not_found=True, recursive=True))
    return [info for info in infos if info.type == FileType.File]


def _is_whole(filesystem: FileSystem, info: FileInfo) -> bool:
    """Whether a file of Parquet has its end, which is written last."""
    if not info.path.endswith(".parquet"):
        return True
    try:
        with filesystem.open_input_file(info.path) as file:
            pyarrow.parquet.read_metadata(file)
    except (pa.ArrowInvalid, OSError):
        return False
    return True


def _write(dataset: ray.data.Dataset, path: str, format: Format, **options: Any) -> None:
    if format == "parquet":
        dataset.write_parquet(path, **options)
    elif format == "jsonl":
        dataset.write_json(path, **options)
    else:
        dataset.write_csv(path, **options)
