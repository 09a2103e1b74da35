"""Files by address, such as `s3://`, `gs://`, `https://` and `zip://...::...`, which fsspec opens, here alone.

Inputs, outputs and stores of answers use it. fsspec is imported when an address is opened. Whatever a file system
raises becomes an `AddressError`: one line, without the passwords and signatures that an address may hold. It imports
the standard library alone.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# A drive of Windows is one letter. Before the address may stand what it is read through, as in simplecache::s3://.
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
_LINK = re.compile(r"(?:(?<=::)|\A)[a-z][a-z0-9+.-]+(?=::|://)", re.IGNORECASE)
_LOCAL = re.compile(r"(?:file|local)://", re.IGNORECASE)
_HTTP = re.compile(r"https?://", re.IGNORECASE)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk that is full, or of a file that may grow no further."""

# Of one object store.
_CONNECTIONS = 64

# Within messages of file systems.
_PASSWORD = re.compile(r"://[^\s'\"@/]*:[^\s'\"@]*@")
_QUERY = re.compile(r"(://[^\s'\"?]*)\?[^\s'\"]*")
# What file systems say where an archive is read in parts, and a server gives none.
_SEEKS = re.compile(r"\bseek|range request")
# Characters of what a file system says that one line has.
_MOST = 300


class AddressError(ValueError):
    """An address where nothing can be read or written; `address` is it without secrets."""

    def __init__(self, address: str, what: str) -> None:
        self.address = shown(address)
        self.what = what
        super().__init__(f"{self.address}: {what}")


def is_address(text: str) -> bool:
    """Whether a text is the address of a file, and no path."""
    return _ADDRESS.match(text) is not None


def begins_like_one(text: str) -> bool:
    """Whether a text begins with a scheme, also where its slashes are missing, as after `Path("s3://bucket")`."""
    return "://" in text or _SCHEME.match(text) is not None


def is_http(address: str) -> bool:
    """Whether it is read from a web server, which has no directories and takes no files."""
    return _HTTP.match(address) is not None


def path_of(text: str) -> str:
    """Return the path that a file:// address means; any other text as it is. Raises AddressError."""
    found = _LOCAL.match(text)
    if found is None:
        return text
    path = text[found.end() :]
    if not path.startswith("/"):
        raise AddressError(text, f"the path of a {found[0].lower()} URL begins with a third slash")
    return path[1:] if os.name == "nt" else path


def shown(address: str) -> str:
    """Return an address without its password and the name before it, and without a query that may be a signature."""
    if not is_address(address):
        return address
    return "::".join(map(_shown, address.split("::")))


def real_name(path: str) -> str:
    """Return a path with its links followed, or an address without its secrets: what two names of one file share."""
    return shown(path) if is_address(path) else os.path.realpath(path)


def has_password(address: str) -> bool:
    """Whether somebody's password is in an address."""
    return any(_parts(link)[1] for link in address.split("::"))


def name_in(address: str) -> str:
    """Return the part of an address that ends with the name of its file, without secrets."""
    return next((_shown(link) for link in address.split("::") if "://" in link), address)


def opened(address: str, *, anew: bool = False) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it. Raises AddressError.

    File systems are kept by fsspec, with what they have listed; `anew` drops those of this kind.
    """
    scheme = address.partition(":")[0].lower()
    try:
        from fsspec import available_protocols
        from fsspec.core import get_filesystem_class, url_to_fs
    except ImportError:
        what = f"{scheme}:// needs fsspec; install it with: pip install 'aimlasync[fsspec]'"
        raise AddressError(address, what) from None
    links = _LINK.sub(lambda scheme: scheme[0].lower(), address).split("::")
    if links[-1].endswith("://"):
        raise AddressError(address, "there is nothing behind the scheme; name what is there")
    if len(links) > 1 and "://" not in links[-1] and links[-1] not in available_protocols():
        what = f"what is behind the last :: is an address too, here {Path(os.path.abspath(links[-1])).as_uri()}"
        raise AddressError(address, what)
    with reaching(address):
        if anew:
            for link in links:
                get_filesystem_class(link.partition("://")[0]).clear_instance_cache()
        system, root = url_to_fs("::".join(links), **_pool(scheme))
        return system, str(root)


def _pool(scheme: str) -> dict[str, Any]:
    """Return options for as many connections as are used: of S3 ten are usual, which much in a far bucket waits for."""
    if scheme not in ("s3", "s3a"):
        return {}
    from fsspec.config import conf

    return {"config_kwargs": {"max_pool_connections": _CONNECTIONS, **conf.get(scheme, {}).get("config_kwargs", {})}}


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Let whatever a file system raises be an AddressError, but for a disk here that is full, whose file is named."""
    try:
        yield
    except AddressError:
        raise
    except FileNotFoundError:
        raise AddressError(address, "no such file; check the address") from None
    except ImportError as missing:
        what = f"its file system needs a package that is not installed ({said(missing, address)})"
        raise AddressError(address, what) from None
    except Exception as error:  # each file system has errors of its own
        is_full = getattr(error, "errno", None) in FULL
        if is_full and getattr(error, "filename", None):
            raise
        why, advice = said(error, address), "check the address and its credentials"
        if _is_refused(error):
            advice = f"{advice}, which may have expired"
        if "::" in address and _SEEKS.search(why):
            advice = "its server gives whole files alone: write simplecache:: before that address, to read a copy"
        elif is_full:
            advice = "make room there"
        raise AddressError(address, f"cannot be reached ({why}); {advice}") from None


def info_of(system: Any, path: str) -> Any:
    """Return what a file system says of a file, and raise what it says when it refuses that.

    What a HEAD is refused with has no body, and no reason in it.
    """
    try:
        return system.info(path)
    except OSError as error:
        if _is_refused(error):
            system.cat_file(path, start=0, end=1)
        raise


def _is_refused(error: BaseException) -> bool:
    """Whether it is for its credentials that a server refused a request, as far as can be known."""
    known = (getattr(error, name, None) for name in ("status", "status_code", "code"))
    return (
        isinstance(error, PermissionError)
        # An object store says 400 of a token that has expired, and of a key that is none.
        or getattr(error, "errno", None) == errno.EINVAL
        or any(status in (400, 401, 403) for status in known)
    )


def said(error: BaseException, address: str) -> str:
    """Return what an error says in one line, without the secrets of an address, and of those that it has led to."""
    text = " ".join(str(error).split())
    for secret in sorted(_secrets(address), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = _QUERY.sub(r"\1", _PASSWORD.sub("://", text))
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."


def _parts(link: str) -> tuple[str, str, str, str]:
    """Return the scheme with its slashes, user and password, the rest, and the query of one link of an address."""
    scheme, mark, rest = link.partition("://")
    head, ask, query = rest.partition("?")
    if not (_HTTP.match(link) or "=" in query):
        # A question mark in the name of a file.
        head, ask, query = rest, "", ""
    place = head.partition("/")[0]
    user, at, _ = place.rpartition("@")
    # A user without a password is no secret, and may be a container; a password may have a slash.
    is_secret = ":" in user if at else ":" in place and not place.rpartition(":")[2].isdigit()
    user, at, after = head.rpartition("@") if is_secret else ("", "", head)
    return scheme + mark, user + at, after, ask + query


def _shown(link: str) -> str:
    scheme, _, rest, _ = _parts(link)
    return scheme + rest


def _secrets(address: str) -> Iterator[str]:
    """Give what must not be printed, also where a message has only a part of the address."""
    for link in address.split("::"):
        _, user, _, query = _parts(link)
        name, _, password = user.removesuffix("@").partition(":")
        values = [part.partition("=")[2] for part in query[1:].split("&")]
        found = (user, f"{name}:{password}", password, *re.split("[/@]", password), query[1:], *values)
        yield from (secret for secret in found if secret.strip(":"))
