"""Which job a journal belongs to: a file beside it, PATH.manifest; the run that has it locked has the journal.

Knows the journal's name and size and never its lines, which stay plain Batch results for any tool. The manifest is
written in place, because the lock is on the file and not on its name. The order of writes makes every crash
recoverable: a whole manifest has a journal, a torn one an empty journal or none; anything else is refused. `renew`
and `merge` put a manifest in the place of another, under its lock. Imports `disk` and `file_lock`.
"""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from aimlasync.bulk.journal.disk import BINARY, Sync, Write, errors_name, sync_directory, write_all
from aimlasync.bulk.journal.disk import sync as disk_sync
from aimlasync.bulk.journal.file_lock import HeldError, lock, unlock
from aimlasync.wire.canonical_json import PROPERTIES

VERSION = 2

_MARK = b'{"aimlasync":"journal",'
_AFRESH = "choose another -o, or begin anew with --restart (its answers are lost)"
_SHOWN = 3
# A checksum is not shown in a message: nobody can read it.
_DIGEST = re.compile("[0-9a-f]{64}")
_WIDTH = 60
# Of other jobs in a directory, which are looked at when one begins.
_MOST_JOURNALS = 1000


class JournalError(Exception):
    """A journal that cannot be used; the message says what to do."""


def claim(
    path: str,
    *,
    job: Mapping[str, Any],
    facts: Mapping[str, Any],
    restart: bool,
    overwrite: bool = False,
    may_differ: Collection[str] = (),
    write: Write,
    sync: Sync,
) -> int:
    """Lock the journal at `path` for `job` and see to it that it is there, emptied with `restart`.

    With `overwrite` a file without a manifest, which may be anybody's, is emptied too. A job that differs in nothing
    but `may_differ` is the same job, and the manifest stays as it is. Return a file descriptor for `release`. Raises
    JournalError when it is another job's, in use or not ours; OSError.
    """
    own = path + ".manifest"
    if _size(path) and not os.path.exists(own) and not overwrite:
        raise _unknown(path, "missing")
    fd = _open_locked(path, os.O_RDWR | os.O_CREAT)
    try:
        with errors_name(own):
            with open(fd, "rb", closefd=False) as file:
                file.seek(0)
                found, size = _decoded(file.read(), own), _size(path)
            if found is None and size and not overwrite:
                raise _unknown(path, "torn")
            if found is not None and not restart:
                try:
                    _compare(path, found, job, size, may_differ)
                    return fd
                except JournalError:
                    # An empty journal holds nothing that could be lost, so it becomes this job's.
                    if size != 0:
                        raise
            # A crash between any two of these leaves either what was there or an empty journal under a torn manifest.
            _empty(path, sync)
            with suppress(FileNotFoundError):
                os.unlink(gone_path(path))
            os.ftruncate(fd, 0)
            sync_directory(path, sync)
            os.lseek(fd, 0, os.SEEK_SET)
            write_all(write, fd, _encoded(job, facts))
            sync(fd)
    except BaseException:
        release(fd)
        raise
    return fd


def renew(path: str, fd: int, *, job: Mapping[str, Any], facts: Mapping[str, Any], write: Write, sync: Sync) -> int:
    """Let the manifest of the journal at `path`, which `fd` has locked, say `job` and `facts`.

    A crash leaves the old manifest or the new one. Return the descriptor that has the lock now. Raises OSError.
    """
    own, temporary = path + ".manifest", path + ".compact"
    new = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | BINARY, 0o600)
    try:
        lock(new)
        with errors_name(own):
            write_all(write, new, _encoded(job, facts))
            sync(new)
            os.replace(temporary, own)
            sync_directory(path, sync)
    except BaseException:
        release(new)
        with suppress(OSError):
            os.unlink(temporary)
        raise
    release(fd)
    return new


def spelled(path: str) -> str:
    """Return a path as JSON can have it; names need not be UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def gone_path(journal: str) -> str:
    """Return where the answers of rows are kept that are no longer in the table."""
    return f"{journal}.gone"


def facts_of(path: str) -> dict[str, Any] | None:
    """Return the facts in the manifest of the journal at `path`, None where there is no whole one; nothing is locked.

    They are true for a run that can claim the journal with the same job afterwards.
    """
    found = read_manifest((os.path.realpath(path) if os.path.islink(path) else path) + ".manifest")
    if not found:
        return None
    facts = found.get("facts")
    return facts if isinstance(facts, dict) else {}


def add_facts(path: str, facts: Mapping[str, Any]) -> None:
    """Add to the facts in the manifest of the journal at `path`, which no run has; a manifest that is not whole stays.

    Raises JournalError, OSError.
    """
    fd = _open_locked(path, os.O_RDWR)
    try:
        if found := read_manifest(path + ".manifest"):
            facts = {**(found.get("facts") or {}), **facts}
            fd = renew(path, fd, job=found.get("job") or {}, facts=facts, write=os.write, sync=disk_sync)
    finally:
        release(fd)


def job_of(path: str) -> dict[str, Any]:
    """Return what the manifest of the journal at `path` says of its job, {} where there is none to read."""
    job = (read_manifest(f"{path}.manifest") or {}).get("job")
    return job if isinstance(job, dict) else {}


def of_same_job(path: str) -> str | None:
    """Return a journal in the directory of the one at `path` that has answers of the same job, None for no other."""
    folder = os.path.dirname(path)
    if not (job := job_of(path)):
        return None
    with os.scandir(folder or ".") as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(".manifest"))[:_MOST_JOURNALS]
    others = (os.path.join(folder, name.removesuffix(".manifest")) for name in names)
    return next((other for other in others if other != path and _size(other) and job_of(other) == job), None)


def is_manifest(path: str) -> bool:
    """Whether a manifest is at `path`: also one that a run is about to write, or died while it wrote."""
    return read_manifest(path) is not None


def read_manifest(path: str) -> dict[str, Any] | None:
    """Return the manifest at `path`, {} for one that is not whole, None where there is none; nothing is locked."""
    try:
        with open(path, "rb") as file:
            return _decoded(file.read(), path) or {}
    except (OSError, JournalError):
        return None


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Lock the journal at `path`, which has a manifest. Raises JournalError when a run has it; OSError."""
    fd = _open_locked(path, os.O_RDWR)
    try:
        yield
    finally:
        release(fd)


def is_in_use(path: str) -> bool:
    """Whether a run has the journal at `path`."""
    try:
        with locked(path):
            return False
    except JournalError:
        return True
    except FileNotFoundError:
        return False


def release(fd: int) -> None:
    """Unlock the journal for another run."""
    unlock(fd)
    os.close(fd)


def _open_locked(path: str, flags: int) -> int:
    own = path + ".manifest"
    while True:
        fd = os.open(own, flags | BINARY, 0o600)
        try:
            lock(fd)
            # `merge` puts another file in its place, and a lock on the old one would exclude no other run.
            if _is_same(fd, own):
                return fd
        except HeldError:
            os.close(fd)
            raise JournalError(f"{path} is in use by another run; wait for it, or choose another -o") from None
        except BaseException:
            os.close(fd)
            raise
        release(fd)


def _is_same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def _empty(path: str, sync: Sync) -> None:
    with errors_name(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | BINARY, 0o600)
        try:
            sync(fd)
        finally:
            os.close(fd)


def _decoded(data: bytes, own: str) -> dict[str, Any] | None:
    """Return the manifest, None when a run died while it made it. Raises JournalError for what is no manifest."""
    # A power failure may leave zeros in the place of what was being written.
    if not data.strip(b"\0"):
        return None
    try:
        found = msgspec.json.decode(data.removeprefix(BOM_UTF8))
    except (ValueError, RecursionError):
        if data[: len(_MARK)] == _MARK[: len(data)]:
            return None
        found = None
    if isinstance(found, dict) and found.get("aimlasync") == "journal":
        return found
    raise JournalError(f"{own} is there and is not a manifest of ours; move it away, or choose another -o")


def _encoded(job: Mapping[str, Any], facts: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({"aimlasync": "journal", "version": VERSION, "job": job, "facts": facts}) + b"\n"


def _compare(
    path: str, found: dict[str, Any], job: Mapping[str, Any], size: int | None, may_differ: Collection[str]
) -> None:
    if found.get("version") != VERSION:
        raise JournalError(f"{path} was made by another version of aimlasync; finish it there, or {_AFRESH}")
    was = dict(_leaves(found.get("job")))
    now = dict(_leaves(msgspec.json.decode(msgspec.json.encode(job))))
    names = [name for name in {**now, **was} if name not in may_differ]
    other = [name for name in names if name not in was or name not in now or was[name] != now[name]]
    if other:
        # What is empty on one side is told by what it holds on the other.
        other = [name for name in other if not any(inner.startswith(f"{name}.") for inner in other)]
        shown = [f"{name}: {_difference(name, was, now)}" for name in other[:_SHOWN]]
        if len(other) > _SHOWN:
            shown.append(f"and {len(other) - _SHOWN} more")
        raise JournalError(f"{path} belongs to another job: {'; '.join(shown)}; {_AFRESH}")
    if size is None:
        raise JournalError(f"{path} is gone, but its manifest is there; put it back, or {_AFRESH}")


def _unknown(path: str, state: str) -> JournalError:
    what = f"{path} is there, but {path}.manifest, which says whose it is, is {state}"
    return JournalError(f"{what}; put that back, move the file away, or choose another -o; --overwrite takes its place")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys become dotted ones; the properties of a schema have their order too."""
    if isinstance(value, dict) and value:
        if name.rpartition(".")[2] == PROPERTIES:
            yield name, list(value)
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _difference(name: str, was: dict[str, Any], now: dict[str, Any]) -> str:
    if all(_DIGEST.fullmatch(str(side.get(name))) for side in (was, now)):
        return "its content has changed"
    texts = [msgspec.json.encode(side[name]).decode() if name in side else "not there" for side in (was, now)]
    start = 0
    if max(map(len, texts)) > _WIDTH:
        # Two long values may begin alike, so they are shown from where they differ.
        alike = next((at for at, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
        start = max(0, alike - _WIDTH // 3)
    cut = [f"{'...' if start else ''}{text[start:][:_WIDTH]}{'...' * (len(text) > start + _WIDTH)}" for text in texts]
    return f"was {cut[0]}, is {cut[1]}"
