"""What exceptions of aiohttp mean: each becomes an error of `errors`, without the request in it.

It also has the bounds that aiohttp's parser is given. It may import `base`, `http11`, `errors` and aiohttp.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import re
from collections.abc import Mapping
from types import NoneType
from typing import Any

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from aimlasync.errors import AimlasyncError, APIConnectionError, APITimeoutError
from aimlasync.transport.base import NoRoomError, StaleConnectionError
from aimlasync.transport.http11 import MAX_HEAD

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# How aiohttp says that a head is too large, and that it cannot decode a body.
_TOO_MUCH = re.compile(r"Got more than|Too many (?:headers|trailers)")
_ENCODING = re.compile(r"Can not decode content-encoding: [^']+")

# The most fields that a response's head may have; each may be as large as a whole head that `http11` reads.
_MAX_FIELDS = 256
# Releases of aiohttp before 3.14 do not count header fields.
_COUNTS_FIELDS = "max_headers" in inspect.signature(aiohttp.ClientSession.__init__).parameters
HEAD_BOUNDS: Mapping[str, Any] = {
    "max_line_size": MAX_HEAD,
    "max_field_size": MAX_HEAD,
    **({"max_headers": _MAX_FIELDS} if _COUNTS_FIELDS else {}),
}
"""Bounds of a response's head, for aiohttp's parser: its own are below what gateways send."""

# How OpenSSL says that nobody it trusts has signed a certificate.
_UNKNOWN_AUTHORITY = (18, 19, 20, 21)

# Of this process, or of its machine.
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS))

FOREIGN = (TimeoutError, aiohttp.ClientError, HttpProcessingError, OSError)
"""What aiohttp raises."""

# A compressed body whose connection is gone: aiohttp 3.14 may know neither an end nor an error of it.
WHILE_READING = (*FOREIGN, RuntimeError)


def _unused_proxy(url: URL) -> str:
    """Say that the environment names a proxy for a URL, since most programs would use it; "" where it names none."""
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    host = url.host or "localhost"
    if host in _LOOPBACK or not (proxies.get(url.scheme) or proxies.get("all")) or proxy_bypass(host):
        return ""
    name = url.scheme if proxies.get(url.scheme) else "all"
    return f"; {name.upper()}_PROXY of the environment is not used: give proxy= to a client, --proxy to a command"


def _of_authorities(error: Exception) -> str:
    """Say where another authority is named, "" where that is not what is wrong with a certificate."""
    if getattr(error, "verify_code", None) not in _UNKNOWN_AUTHORITY:
        return ""
    given = os.environ.get("SSL_CERT_FILE")
    if given and not os.path.isfile(given):
        return f"; SSL_CERT_FILE is {given}, which is no file"
    return "; if you trust who signed it, name the file of that authority in SSL_CERT_FILE"


def _kind(error: BaseException) -> str:
    return type(error).__name__


def _final(said: str, billed: bool | None = None) -> APIConnectionError:
    failure = APIConnectionError(said, billed=billed)
    failure.retryable = False
    return failure


def _undecodable(error: BaseException) -> APIConnectionError | None:
    """Return the error of a body that is not in the encoding that its header says, or in one that was not asked for."""
    said = _ENCODING.search(str(error))
    # Asking again brings the same, and each answer may be billed.
    return None if said is None else _final(f"the body of the response cannot be read: {said[0]}")


def broken(error: BaseException) -> APIConnectionError:
    """Return the error of a response that broke off while its body was read."""
    return _undecodable(error) or APIConnectionError(
        f"the connection broke in the middle of the response ({_kind(error)})"
    )


def translated(error: BaseException, url: URL, *, fresh: bool, proxy: URL | None = None) -> AimlasyncError:
    """Say what went wrong without the request in it; what was never sent is not billed."""
    where = f"{url.host}:{url.port}"
    unused = _unused_proxy(url) if proxy is None else ""
    by = f" through the proxy {proxy.host}:{proxy.port}" if proxy is not None else ""
    if isinstance(error, (aiohttp.ServerTimeoutError, asyncio.TimeoutError)):
        said = f"no connection to {where}{by} within the connect timeout{unused}"
        return APITimeoutError(said, phase="connect", billed=False)
    if isinstance(error, aiohttp.ClientSSLError):
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            reason = getattr(error.certificate_error, "verify_message", "") or _kind(error)
            advice = _of_authorities(error.certificate_error)
            said = f"the TLS certificate of {where} was not accepted: {reason}{advice}"
        else:
            said = f"no TLS connection to {where}: {getattr(error.os_error, 'reason', '') or _kind(error)}"
        # It is as wrong the next time, and asking again may tell somebody in between more.
        return _final(said, billed=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        code = error.os_error.errno
        reason = os.strerror(code) if code and code > 0 else error.os_error.strerror or _kind(error.os_error)
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            where = f"the proxy {error.host}:{error.port}, which is the way to {where}"
        if code in _NO_ROOM:
            return NoRoomError(f"no connection can be made to {where}: {reason}", billed=False)
        return APIConnectionError(f"could not connect to {where}: {reason}{unused}", billed=False)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        refused = APIConnectionError(f"the proxy refused to connect to {where}: HTTP {error.status}", billed=False)
        # With 407 it wants another password, with 403 no such connection.
        refused.retryable = error.status >= 500 or error.status == 429
        return refused
    # Either of them may have done what follows.
    where += by
    if isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionError, aiohttp.ClientOSError)):
        if isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, (str, NoneType)):
            # What there is of a head.
            return APIConnectionError(f"{where} closed the connection in the middle of its answer")
        if not fresh:
            return StaleConnectionError(f"a kept connection to {where} had been closed by the server")
        return APIConnectionError(f"{where} closed the connection before it answered")
    if isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
        if _TOO_MUCH.search(error.message or ""):
            # They will be as large the next time, and each answer may be billed.
            return _final(
                f"the headers of the response from {where} are larger than {MAX_HEAD} bytes, or more than {_MAX_FIELDS}"
            )
        # The first line is the parser's; what follows is the server's.
        why = (error.message or "").partition("\n")[0].strip(" :") or _kind(error)
        said = f"{where} sent something that is not HTTP ({why})"
        # On a kept connection it may be what was left of the answer before.
        return _undecodable(error) or (_final(said) if fresh else APIConnectionError(said))
    if isinstance(error, aiohttp.ClientPayloadError):
        return APIConnectionError(f"{where} broke the connection in the middle of the response")
    return APIConnectionError(f"the request to {where} failed ({_kind(error)})")
