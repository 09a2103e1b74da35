"""Endpoints: where calls may go, and with which key.

Law: reads the environment when an endpoint is made, and never again; knows the provider table, not HTTP.
A key is held by `Secret` alone, which shows itself to nobody but the header that needs it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

from aimlasync.errors import AimlasyncError
from aimlasync.limits import Limits
from aimlasync.providers import AIMLAPI, BYTESPIKE, COMPATIBLE, VENDORS, Provider, provider_of
from aimlasync.quota import Quota

_VERSION_SEGMENT = re.compile(r"/v\d+[a-z]*\d*\Z")
_KNOWN_TAILS = ("/chat/completions", "/responses", "/models")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+\Z")


class Secret:
    """A key that cannot be seen by accident: not in repr, str, format, pickle, copy or JSON."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key, for the header that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled or copied; make the endpoint where it is used, from the environment")


class Headers(dict[str, str]):
    """Request headers whose repr names them without their values: one of them is the key."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"

    __str__ = __repr__


class Endpoint:
    """One base URL with its key and limits.

    `base_url` may end with a slash or not; a bare host gets /v1, other paths are kept. With `quota` the limits are the
    account's, which every process that shares it keeps together.
    Raises ValueError for a URL or key that cannot be sent safely.
    """

    __slots__ = ("api_key", "base_url", "headers", "limits", "name", "provider", "quota")

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None = None,
        name: str | None = None,
        limits: Limits | None = None,
        headers: Mapping[str, str] | None = None,
        provider: Provider | None = None,
        allow_http: bool = False,
        quota: Quota | None = None,
    ) -> None:
        self.base_url = _clean_url(base_url, allow_http=allow_http)
        self.provider = provider or provider_of(self.base_url)
        self.api_key = _clean_key(api_key)
        self.name = name or (self.provider.name if self.provider is not COMPATIBLE else urlsplit(self.base_url).netloc)
        self.limits = limits
        self.headers = Headers(headers or {})
        self.quota = quota

    @classmethod
    def aimlapi(cls, *, api_key: str | None = None, base_url: str | None = None, **options: Any) -> Endpoint:
        """Return the AI/ML API, with the key from AIML_API_KEY (or AIMLAPI_API_KEY) unless one is given."""
        return cls._vendor(AIMLAPI, api_key, base_url, options)

    @classmethod
    def bytespike(cls, *, api_key: str | None = None, base_url: str | None = None, **options: Any) -> Endpoint:
        """Return ByteSpike, with the key from BYTESPIKE_API_KEY unless one is given."""
        return cls._vendor(BYTESPIKE, api_key, base_url, options)

    @classmethod
    def _vendor(cls, vendor: Provider, api_key: str | None, base_url: str | None, options: dict[str, Any]) -> Endpoint:
        key = (api_key or "").strip() or _key_from_environment(vendor)
        if not key:
            raise AimlasyncError(f"no API key: set {vendor.key_variables[0]}, or pass api_key=")
        override = os.environ.get(vendor.url_variable) if vendor.url_variable else None
        return cls(base_url=base_url or override or vendor.base_url, api_key=key, provider=vendor, **options)

    def url(self, path: str) -> str:
        """Join a path of the provider table: one with a leading slash to the root, another to the base."""
        if not path.startswith("/"):
            return f"{self.base_url}/{path}"
        return _VERSION_SEGMENT.sub("", self.base_url) + path

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.base_url}>"


def default_endpoints(api_key: str | None, base_url: str | None, *, allow_http: bool) -> list[Endpoint]:
    """Return the endpoint that a client uses when none is named.

    With `base_url`, that server, and the vendor's key from the environment unless `api_key` is given. Without, the
    AI/ML API if it has a key, else ByteSpike; a key that begins with sk-byts- is ByteSpike's.
    Raises AimlasyncError, naming both variables, when there is no key.
    """
    api_key = (api_key or "").strip() or None
    if base_url is not None:
        provider = provider_of(base_url)
        vendors = (provider,) if provider is not COMPATIBLE else VENDORS
        key = api_key or next(filter(None, map(_key_from_environment, vendors)), None)
        if key is None and provider is not COMPATIBLE:
            raise AimlasyncError(f"no API key: set {provider.key_variables[0]}, or pass api_key=")
        return [Endpoint(base_url=base_url, api_key=key, allow_http=allow_http)]
    if api_key:
        if api_key.startswith("sk-byts-"):
            return [Endpoint.bytespike(api_key=api_key, allow_http=allow_http)]
        return [Endpoint.aimlapi(api_key=api_key, allow_http=allow_http)]
    if _key_from_environment(AIMLAPI):
        return [Endpoint.aimlapi(allow_http=allow_http)]
    if _key_from_environment(BYTESPIKE):
        return [Endpoint.bytespike(allow_http=allow_http)]
    raise AimlasyncError(
        "no API key: set AIML_API_KEY (AI/ML API) or BYTESPIKE_API_KEY (ByteSpike), or pass api_key= or endpoints="
    )


def _key_from_environment(vendor: Provider) -> str | None:
    return next((value for name in vendor.key_variables if (value := os.environ.get(name, "").strip())), None)


def _clean_key(key: str | None) -> Secret | None:
    """Strip a key and refuse what no header may carry, without showing it."""
    if key is None or not key.strip():
        return None
    if not _HEADER_VALUE.match(key.strip()):
        raise ValueError("api_key has a space, a control character or a letter outside ASCII in it; copy it again")
    return Secret(key.strip())


def _clean_url(url: str, *, allow_http: bool) -> str:
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url must be an http(s) URL with a host, such as https://host/v1; got {_shown(url)}")
    if "@" in url or parts.query or parts.fragment:
        raise ValueError("base_url must not carry a user, a password, a query or a fragment")
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname):
        raise ValueError(
            f"base_url {_shown(url)} is not encrypted: use https://, or pass allow_http=True if the network is yours"
        )
    try:
        parts.port  # noqa: B018  # raises where it is no port
    except ValueError:
        raise ValueError(f"base_url has no usable port: {_shown(url)}") from None
    path = parts.path.rstrip("/")
    for tail in _KNOWN_TAILS:
        path = path.removesuffix(tail).rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path or "/v1", "", ""))


def _shown(url: str) -> str:
    """The URL without a user or password in it, for a message."""
    return repr(url.strip().rpartition("@")[2].partition("?")[0])


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine's own loopback name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
