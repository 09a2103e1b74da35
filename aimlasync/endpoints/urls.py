"""URLs that users give: base URLs of servers and the URL of a proxy, checked before anything is sent to them.

Plain http:// is for loopback, unless it is allowed. It imports nothing of the library.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

_KNOWN_TAILS = ("/chat/completions", "/responses", "/models")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+\Z")


def clean_url(url: str, *, allow_http: bool, exact: bool, name: str = "base_url") -> str:
    """Return a base URL without what users add to it: a slash or a path of the API at its end; a bare host gets /v1.

    With `exact` its path is kept. Raises ValueError, which shows no password, for one that cannot be sent to safely.
    """
    must = f"{name} must be an http(s) URL with a host, such as https://host/v1"
    parts = _parsed(url)
    if parts is None:
        # What cannot be taken apart is not shown, as any part of it may be a password.
        raise ValueError(must)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{must}; got {_shown(url)}")
    if not _VISIBLE_ASCII.match(url.strip()):
        raise ValueError(
            f"{name} {_shown(url)} has a space or a letter outside ASCII in it: "
            "write a path with %20 and the like, a host as its xn-- name"
        )
    if "@" in url or parts.query or parts.fragment:
        raise ValueError(f"{name} must not carry a user, a password, a query (give default_query=) or a fragment")
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname):
        raise ValueError(
            f"{name} {_shown(url)} is not encrypted: use https://, or pass allow_http=True if the network is yours"
        )
    try:
        parts.port  # noqa: B018  # raises for an invalid port
    except ValueError:
        raise ValueError(f"{name} has an invalid port after {parts.hostname}") from None
    path = parts.path.rstrip("/")
    if exact:
        return urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    for tail in _KNOWN_TAILS:
        path = path.removesuffix(tail).rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path or "/v1", "", ""))


def checked_url(url: str, name: str) -> str:
    """Return a URL as it is. Raises ValueError, with its name, for one that an endpoint cannot have."""
    clean_url(url, allow_http=True, exact=False, name=name)
    return url


def host_of(url: str) -> str:
    """Return the host and port of a URL, in lower case."""
    return urlsplit(url.strip()).netloc.rpartition("@")[2].lower()


def proxy_secrets(proxy: str | None) -> list[str]:
    """Return the secrets in the URL of a proxy. Raises ValueError, which shows none, for an invalid URL."""
    if proxy is None:
        return []
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except (ValueError, TypeError, AttributeError):
        usable = False
    if not usable:
        raise ValueError("proxy= must be an http(s) URL with a host, such as http://user:password@host:3128")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    pair = f"{user}:{password}"
    return [parts.netloc.rpartition("@")[0], user, password, pair, b64encode(pair.encode()).decode()]


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine's own loopback name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parsed(url: str) -> SplitResult | None:
    if not isinstance(url, str) or not url.strip().isprintable():
        return None
    try:
        return urlsplit(url.strip())
    except ValueError:
        return None


def _shown(url: str) -> str:
    """Return the URL without user and password, for a message."""
    return repr(url.strip().rpartition("@")[2].partition("?")[0])
