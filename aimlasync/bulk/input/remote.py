"""Files of object stores and the like (`s3://`, `gs://`, `https://`, `zip://`), which `aimlasync.addresses` opens.

A file is copied into a temporary one before it is read, because a job reads its input more than once. Imports
`formats`, `rows` and `spool`.
"""

from __future__ import annotations

import glob
import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from aimlasync.addresses import AddressError, info_of, is_address, is_http, opened, reaching
from aimlasync.bulk.input.formats import format_of_path
from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.input.spool import filled

# What file systems say of a file that is another when the file is, without case and hyphens; the best first. What else
# they say may depend on how it was asked for.
_VERSIONS = (
    *("etag", "contentmd5", "md5hash", "crc32c", "digest", "sha", "hex", "blobid", "crc", "generation"),
    *("mtime", "lastmodified", "modified", "modify", "modificationtime", "updated", "lastwritetime", "created"),
)
# How often a file is copied that is another afterwards.
_TRIES = 3


class UnreachableError(InputError):
    """A file at an address where it cannot be reached, which may be over at another time or with other credentials."""


def paths_at(address: str) -> list[str]:
    """Return the files that an address means: itself, those below it, or those that it matches. Raises InputError."""
    with input_errors():
        system, root = opened(address, anew=True)
        with reaching(address):
            if system.isfile(root):
                return [address]
            if system.isdir(root):
                folder = root.strip("/")
                below = (path for path in system.find(root) if _is_rows(path.lstrip("/").removeprefix(folder)))
                found = sorted(below)
            # A question mark in a URL begins its query.
            elif glob.has_magic(root.partition("?")[0] if is_http(root) else root):
                matching = system.glob(root, detail=True)
                found = sorted(path for path, info in matching.items() if info["type"] != "directory")
            else:
                # It is opened to say why not.
                return [address]
        if not found:
            raise AddressError(address, "no file of rows there; check the address")
        return [_address_of(path, address, system, root) for path in map(str, found)]


def open_copy(address: str) -> BinaryIO:
    """Return a temporary copy of the file. Raises InputError, and OSError where there is no room for it."""
    with input_errors():
        system, root = opened(address)
        with reaching(address):
            return filled(lambda path: _copy(address, system, root, path))


def text_of(path: str) -> str:
    """Return the text of a file here or at an address. Raises InputError, OSError and UnicodeDecodeError."""
    if not is_address(path):
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    with io.TextIOWrapper(open_copy(path), encoding="utf-8-sig") as copy:
        return copy.read()


def stamp_of(address: str) -> tuple[int, int]:
    """Return the size of the file, and a number that is another when the file is. Raises InputError."""
    with input_errors():
        system, root = opened(address)
        with reaching(address):
            return version_in(info_of(system, root))


def version_in(info: Mapping[str, Any]) -> tuple[int, int]:
    """Return what `stamp_of` does, of what a file system says of a file."""
    known = {str(name).lower().replace("-", "").replace("_", ""): value for name, value in info.items()}
    version = next((str(known[name]) for name in _VERSIONS if known.get(name)), "")
    return int(info.get("size") or 0), int.from_bytes(hashlib.sha256(version.encode()).digest()[:8])


def _copy(address: str, system: Any, root: str, path: str) -> None:
    """Copy one version of a file: where a connection breaks, file systems go on with what is there by then."""
    for _ in range(_TRIES):
        before = _version(system, root)
        system.get_file(root, path)
        if _version(system, root) == before:
            return
    raise AddressError(address, "changes while it is read; write it whole, under a name of its own")


def _version(system: Any, root: str) -> tuple[int, int] | None:
    # A web server that signs addresses gives a file and says nothing of it; its file is read in one answer.
    if is_http(root):
        return None
    # What it has listed is as old as the list.
    system.invalidate_cache(root.rpartition("/")[0])
    return version_in(info_of(system, root))


@contextmanager
def input_errors() -> Iterator[None]:
    """Let what is wrong with an address be an UnreachableError."""
    try:
        yield
    except AddressError as error:
        raise UnreachableError(error.address, error.what) from None


def _is_rows(path: str) -> bool:
    parts = path.strip("/").split("/")
    return not any(part.startswith((".", "_")) for part in parts) and format_of_path(path) is not None


def _address_of(path: str, address: str, system: Any, root: str) -> str:
    """Return the address of a `path` that was found where `address` leads to the directory or pattern `root`.

    It is made of the address: what a file system calls a path may have no host, and no archive that it is in.
    """
    links = address.split("::")
    at = next(number for number, link in enumerate(links) if "://" in link)
    if is_http(path):
        links[at] = path
        return "::".join(links)
    magic = next((number for number, char in enumerate(root) if char in "*?["), len(root))
    folder = root[: root.rfind("/", 0, magic) + 1] if magic < len(root) else f"{root.rstrip('/')}/"
    pattern, path, folder = root[len(folder) :], path.lstrip("/"), folder.lstrip("/")
    if not (links[at].rstrip("/").endswith(pattern.rstrip("/")) and path.startswith(folder)):
        return str(system.unstrip_protocol(path))
    base = links[at].removesuffix(pattern)
    links[at] = f"{base}{'' if base.endswith('/') else '/'}{path.removeprefix(folder)}"
    return "::".join(links)
