"""A directory of rows that replaces another whole: it is written beside it and renamed.

A directory is replaced only if nothing but files of rows is in it, and only if that is asked for. Imports the errors of
`target` and `streams`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.output.streams import named
from aimlasync.bulk.output.target import OverwriteError

# What Ray writes.
_ROWS = (".parquet", ".json", ".jsonl", ".csv")


@contextmanager
def replacing_directory(path: str, *, overwrite: bool = False) -> Iterator[str]:
    """Give a new directory beside `path` that takes its place when the block ends well, and is gone when it does not.

    Raises OverwriteError for a directory with files in it, unless `overwrite` is set: more files beside them would make
    their rows twice. What is no file of rows is never taken away: InputError.
    """
    path = os.path.realpath(path)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise InputError(path, "a file, and rows are written as files in a directory; name one")
    check_free(path, _names(path), overwrite=overwrite)
    temporary = f"{path}.{secrets.token_hex(6)}.part"
    try:
        with named(path):
            os.makedirs(temporary)
        yield temporary
        there = _names(path)
        check_free(path, there, overwrite=overwrite)
        with named(path):
            if not there:
                # On Windows a directory cannot be renamed over an empty one.
                with suppress(FileNotFoundError):
                    os.rmdir(path)
                os.rename(temporary, path)
                return
            old = f"{temporary}.old"
            os.rename(path, old)
            try:
                os.rename(temporary, path)
            except BaseException:
                os.rename(old, path)
                raise
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def check_free(path: str, there: Collection[str], *, overwrite: bool) -> None:
    """Raise InputError or OverwriteError for a directory with `there` in it: files of rows, in folders such as a=1."""
    strange = next((name for name in there if not name.endswith(_ROWS) or not _is_partition(name)), None)
    if strange is not None:
        raise InputError(path, f"there is {strange!r} in it, which is no file of rows; name another directory")
    if there and not overwrite:
        what = "has files of rows already, and more beside them would make rows twice"
        raise OverwriteError(path, f"{what}; choose another directory, or replace them with overwrite=True")


def _is_partition(name: str) -> bool:
    return all("=" in folder for folder in name.replace(os.sep, "/").split("/")[:-1])


def _names(path: str) -> list[str]:
    """Return what is in a directory and in its partitions: files, and folders that are no partition."""
    names = []
    for folder, folders, files in os.walk(path):
        inner = [*files, *(name for name in folders if "=" not in name)]
        names += [os.path.relpath(os.path.join(folder, name), path) for name in inner]
    return names
