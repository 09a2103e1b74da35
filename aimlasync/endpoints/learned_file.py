"""What was learned of limits, in a small file, so that the next run need not begin slowly.

The file is JSON: a version, and for each endpoint (its address, without credentials) and model the attempts in flight,
the attempts per second and when that was learned. It holds no secrets: of a client's endpoints that share an address,
with keys of their own, each is named by its place among them. It is written whole, under another name, and then
renamed, so that a reader never sees half of it; of two processes that write at the same instant, one may lose what it
added. A file that is none of these, or of another version, tells nothing and is never written over. It may import
`admission.adaptive`.
"""

from __future__ import annotations

import math
import os
import shutil
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from aimlasync.admission.adaptive import Learned
from aimlasync.logs import log_of

_VERSION = 1
# The newest are kept. A larger file is none of ours.
_MAX_ENTRIES = 1000
_MAX_BYTES = 1_000_000
# Attempts per second that a run starts with at least. A slower rate that is right is found again by a few refusals; one
# that is wrong, as of a server that was busy for an hour, would take minutes to be found out.
_LEAST_RATE = 0.5

_log = log_of("aimlasync.limits")


class _Entry(msgspec.Struct):
    endpoint: str
    model: str
    in_flight: float
    rate: float | None
    at: float
    """Unix time."""


class _File(msgspec.Struct):
    version: int
    learned: list[_Entry]


def address(base_url: str) -> str:
    """Return what names an endpoint in the file: its URL without user, password, query and fragment."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def addresses(base_urls: Iterable[str]) -> list[str]:
    """Return what names each of a client's endpoints in the file: its address, and "(2)" for the second that has it."""
    seen = Counter[str]()
    names = []
    for name in map(address, base_urls):
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def read(path: str) -> dict[tuple[str, str], Learned]:
    """Return what is known by (address, model): nothing where there is no file that can be read."""
    try:
        entries = _entries(path)
    except (OSError, ValueError) as error:
        _log.info("%s tells nothing of learned limits: %s", path, error)
        return {}
    return {
        (entry.endpoint, entry.model): Learned(
            in_flight=entry.in_flight, rate=None if entry.rate is None else max(_LEAST_RATE, entry.rate)
        )
        for entry in entries
    }


def write(path: str, learned: Mapping[tuple[str, str], Learned]) -> None:
    """Put what was learned, if anything was, beside what the file has of other endpoints and models.

    A file that cannot be written is a warning: what was learned is worth no failure.
    """
    if not learned:
        return
    try:
        _write(path, learned)
    except (OSError, ValueError) as error:
        _log.warning("what was learned of limits could not be written to %s: %s", path, error)


def _write(path: str, learned: Mapping[tuple[str, str], Learned]) -> None:
    now = round(time.time())
    known = {(entry.endpoint, entry.model): entry for entry in _entries(path)}
    for (endpoint, model), each in learned.items():
        known[endpoint, model] = _Entry(endpoint, model, round(each.in_flight, 1), each.rate, now)
    # A clock that was ahead once makes nothing newer than what was learned just now.
    newest = sorted(known.values(), key=lambda entry: (min(entry.at, now), (entry.endpoint, entry.model) in learned))
    while True:
        newest = newest[-_MAX_ENTRIES:]
        content = msgspec.json.format(msgspec.json.encode(_File(_VERSION, newest)), indent=1)
        if len(content) <= _MAX_BYTES:
            break
        newest = newest[(len(newest) + 1) // 2 :]
    path = os.path.realpath(path)
    folder, name = os.path.split(path)
    number, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        with suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _entries(path: str) -> list[_Entry]:
    """Return what a file has, nothing where there is none. Raises OSError, and ValueError for another kind of file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            # A pipe may never end, and a device would be replaced by a file.
            raise ValueError("it is no regular file, and is left as it is; name another")
        with open(path, "rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return []
    if not raw:
        return []
    try:
        found = msgspec.json.decode(raw, type=_File)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ValueError("it is no file of learned limits, and is left as it is; name another") from None
    if len(raw) > _MAX_BYTES or found.version != _VERSION:
        raise ValueError("it is of another version, and is left as it is; name another, or delete it")
    return [entry for entry in found.learned[-_MAX_ENTRIES:] if _is_sane(entry)]


def _is_sane(entry: _Entry) -> bool:
    numbers = [entry.in_flight, 1.0 if entry.rate is None else entry.rate]
    return all(math.isfinite(number) and number > 0 for number in numbers)
