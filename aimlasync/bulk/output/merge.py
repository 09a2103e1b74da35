"""Journals of the shards of one job as one journal.

Reads journals and writes one; memory is 12 bytes a line. Of the lines of one custom_id exactly one is kept. The
manifests must be of the same job but for the shard. Imports input, journal and this room.
"""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.input.shard import Shard
from aimlasync.bulk.journal.index import Index
from aimlasync.bulk.journal.manifest import is_in_use, locked
from aimlasync.bulk.output.cells import text_of
from aimlasync.bulk.output.copies import Copies
from aimlasync.bulk.output.replace import replace
from aimlasync.bulk.output.streams import is_stream
from aimlasync.bulk.output.target import Target, check_name
from aimlasync.spelling import spelled
from aimlasync.wire.canonical_json import canonical

_MOST = 1000


@dataclass(frozen=True, slots=True)
class Merged:
    """What is in the merged journal."""

    rows: int
    """Different custom_ids, each with one line."""
    ok: int
    failed: int
    duplicates: int
    """Ok lines that were left out for another of the same custom_id: rows that were paid for twice."""
    missing: tuple[str, ...] = ()
    """Shards of the job, as "2/3", whose journals were not among them, a thousand at most.

    None where a journal is that of no shard, or they are those of another number of shards.
    """
    in_use: tuple[str, ...] = ()
    """Journals that a run still writes: what it adds later is not there."""


@spelled
def merge(
    paths: Sequence[str | os.PathLike[str]], out_path: str | os.PathLike[str], *, overwrite: bool = False
) -> Merged:
    """Write the journals at `paths` as one to `out_path`, and their manifests as one beside it; all may be addresses.

    The last ok line of a custom_id is kept, else its last. "-" is standard output, which gets no manifest. A journal
    that an earlier merge for the same job made there is replaced, if no run has gone on with it; any other file raises
    OverwriteError, a kind of InputError, unless `overwrite` is set. Raises InputError, also for a name such as
    out.csv, since a table is made with `export`; or OSError when it cannot be written.
    """
    if isinstance(paths, (str, os.PathLike)):
        raise TypeError(f"merge takes a list of journals, such as [{str(paths)!r}], not one path")
    with Copies() as copies:
        return _merge(copies.journals(paths), copies.of(out_path, is_output=True), overwrite)


def _merge(paths: Sequence[str], out_path: str, overwrite: bool) -> Merged:
    if not paths:
        raise InputError(out_path, "no journals to merge into it; name some")
    check_name(out_path, "a journal", ending=".jsonl, and export that", formats=("jsonl", "json"))
    for number, path in enumerate(paths):
        if any(os.path.abspath(path) == os.path.abspath(other) for other in paths[:number]):
            raise InputError(path, "named twice, and each of its rows would be; name it once")
        if not os.path.exists(path):
            raise InputError(path, "no journal can be read there (No such file or directory); check the name")
        if os.path.exists(path) and os.path.exists(out_path) and os.path.samefile(path, out_path):
            raise InputError(out_path, "one of the journals to merge; choose another name for the merged one")
    manifest, missing = _merged_manifest(paths)
    target = Target(out_path, journal=out_path, overwrite=overwrite, is_journal=True)
    goes = is_stream(out_path)
    was = None if goes else _manifest(out_path)
    if was is not None and manifest is not None and canonical(was["job"]) != canonical(manifest["job"]):
        target.refuse("the journal of another job, with its answers")
        target.drops_manifest = True
    with locked(os.path.realpath(out_path)) if was is not None else nullcontext(), Index(paths) as index:
        if manifest is None and not goes and os.path.exists(sidecar := f"{out_path}.manifest"):
            raise InputError(sidecar, "tells of another job, and the journals have no manifest; move it away")
        # No run writes what this user may not.
        in_use = tuple(path for path in paths if os.access(path, os.W_OK) and is_in_use(os.path.realpath(path)))
        with target.open() as file:
            file.writelines(index.lines())
        # The manifest is replaced after the journal, so that what a crash leaves can be merged again.
        if manifest is not None and not goes:
            replace(os.path.realpath(out_path) + ".manifest", msgspec.json.encode(manifest) + b"\n")
        return Merged(index.rows, index.ok, index.rows - index.ok, index.duplicates, missing, in_use)


def _merged_manifest(paths: Sequence[str]) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The manifest of all, without the shard and with the facts that all agree on; None when there are none.

    And the shards that are not there.
    """
    found = [_manifest(path) for path in paths]
    with_one = [path for path, manifest in zip(paths, found, strict=True) if manifest is not None]
    if not with_one:
        return None, ()
    shards: list[Any] = []
    whole: dict[str, Any] | None = None
    for path, manifest in zip(paths, found, strict=True):
        if manifest is None:
            if os.path.exists(path):
                raise InputError(path, f"has no {path}.manifest, and {with_one[0]} has one; put it there")
            # Who reads it says that it is not there.
            continue
        shards.append(manifest["job"].pop("shard", None))
        if whole is None:
            whole = manifest
            continue
        for part, other in (
            ({"version": whole.get("version")}, {"version": manifest.get("version")}),
            (whole["job"], manifest["job"]),
        ):
            differ = [
                f"{name} ({_short(other.get(name))}, there {_short(part.get(name))})"
                for name in {**part, **other}
                if canonical(part.get(name)) != canonical(other.get(name))
            ]
            if differ:
                raise InputError(
                    path, f"another job than that of {paths[0]}: differs in {', '.join(differ)}; merge it elsewhere"
                )
        facts = manifest["facts"]
        whole["facts"] = {name: fact for name, fact in whole["facts"].items() if name in facts and facts[name] == fact}
    return whole, _missing(shards)


def _missing(shards: Sequence[Any]) -> tuple[str, ...]:
    """Return the others of these shards, where all are shards of one number of them."""
    try:
        (count,) = {Shard.parse(shard).count for shard in shards}
    except (ValueError, AttributeError):
        return ()
    others = (shard for n in range(1, count + 1) if (shard := f"{n}/{count}") not in shards)
    return tuple(islice(others, _MOST))


def _manifest(path: str) -> dict[str, Any] | None:
    name = f"{path}.manifest"
    try:
        with open(name, "rb") as file:
            manifest = msgspec.json.decode(file.read().removeprefix(BOM_UTF8))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(name, f"cannot be read ({error.strerror}); check its permissions") from None
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("aimlasync") != "journal":
        raise InputError(name, "not the manifest of a journal; move it away, or name another journal")
    for part in ("job", "facts"):
        if not isinstance(manifest.setdefault(part, {}), dict):
            raise InputError(name, f"not the manifest of a journal: {part!r} is no object; move it away")
    return manifest


def _short(value: Any) -> str:
    text = text_of(value) or "nothing"
    return text if len(text) <= 40 else f"{text[:37]}..."
