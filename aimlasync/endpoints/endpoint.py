"""Endpoints: the base URL, key and limits of a server, as the user gives them.

The environment is read when an endpoint is created, and not later. Only a `Secret` holds a key, and only the
Authorization header reads it. A vendor's key from the environment is sent to that vendor's hosts and to loopback; any
other host gets only a key that the user passed. OpenAI's key and ids are read last, and are sent to OPENAI_BASE_URL,
else to api.openai.com. It may import `config`, `errors`, `headers`, `quota.protocol` and `endpoints.providers`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn, overload
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from aimlasync.config import Limits, of_kind
from aimlasync.endpoints.providers import AIMLAPI, BYTESPIKE, COMPATIBLE, VENDORS, Provider, provider_of
from aimlasync.errors import AimlasyncError
from aimlasync.headers import Headers, keyless
from aimlasync.quota.protocol import Quota

_VERSION_SEGMENT = re.compile(r"/v\d+[a-z]*\d*\Z")
_KNOWN_TAILS = ("/chat/completions", "/responses", "/models")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+\Z")

# Whose key and URL code written for AsyncOpenAI has in its environment. To its server, any compatible one is alike.
_OPENAI = Provider(
    name="openai",
    base_url="https://api.openai.com/v1",
    key_variables=("OPENAI_API_KEY",),
    url_variable="OPENAI_BASE_URL",
)
_READ = (*VENDORS, _OPENAI)
# What OpenAI's keys begin with, where that tells them from others.
_OPENAI_KEYS = ("sk-proj-", "sk-svcacct-", "sk-admin-")
_OPENAI_IDS = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}

KeySource = Callable[[], "str | Awaitable[str]"]
"""A function, also an async one, that returns the key to send now: for keys that expire."""


class Secret:
    """An API key that does not show in repr, str, format or JSON, and cannot be pickled or copied."""

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


class Endpoint:
    """One base URL with its key and limits.

    `base_url` may end with a slash or not; a bare host gets /v1, other paths are kept, and with `exact` all are.
    `api_key` may be a function, also an async one, that is called before each attempt: it keeps the key itself. With
    `quota`, the limits are those of the whole account, and all processes that share the quota keep them together.
    Raises ValueError for a URL, key or header that cannot be sent safely.
    """

    __slots__ = ("api_key", "base_url", "headers", "key_source", "limits", "name", "provider", "quota", "withheld")

    @keyless
    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | Secret | KeySource | None = None,
        name: str | None = None,
        limits: Limits | None = None,
        headers: Mapping[str, str] | None = None,
        provider: Provider | None = None,
        allow_http: bool = False,
        exact: bool = False,
        quota: Quota | None = None,
    ) -> None:
        self.base_url = _clean_url(base_url, allow_http=allow_http, exact=exact)
        self.provider = provider or provider_of(self.base_url)
        key = _clean_key(api_key)
        self.api_key = key if isinstance(key, Secret) else None
        self.key_source = key if callable(key) else None
        self.name = name or (self.provider.name if self.provider is not COMPATIBLE else urlsplit(self.base_url).netloc)
        self.limits = of_kind("limits", limits, Limits, "Limits(concurrency=8)")
        self.headers = Headers.hiding(headers or {}).checked("Endpoint(headers=)")
        if quota is not None and not hasattr(quota, "lease"):
            raise TypeError(f"quota= takes a quota, such as RedisQuota(url, name=...), not {type(quota).__name__}")
        self.quota = quota
        self.withheld: str | None = None
        """The environment variable whose key is not sent to this host; None where there is none, or a key was
        passed.
        """

    @classmethod
    @keyless
    def aimlapi(
        cls, *, api_key: str | Secret | KeySource | None = None, base_url: str | None = None, **options: Any
    ) -> Endpoint:
        """Return the AI/ML API, with the key from AIML_API_KEY (or AIMLAPI_API_KEY) unless one is given.

        A `base_url` of another host needs an `api_key`, unless it is AIML_API_URL.
        """
        return cls._vendor(AIMLAPI, api_key, base_url, options)

    @classmethod
    @keyless
    def bytespike(
        cls, *, api_key: str | Secret | KeySource | None = None, base_url: str | None = None, **options: Any
    ) -> Endpoint:
        """Return ByteSpike, with the key from BYTESPIKE_API_KEY unless one is given.

        A `base_url` of another host needs an `api_key`, unless it is BYTESPIKE_API_URL.
        """
        return cls._vendor(BYTESPIKE, api_key, base_url, options)

    @classmethod
    def _vendor(
        cls, vendor: Provider, api_key: str | Secret | KeySource | None, base_url: str | None, options: dict[str, Any]
    ) -> Endpoint:
        key = _clean_key(api_key)
        variable = _key_variable(vendor)
        if key is None and variable is None:
            raise AimlasyncError(f"no API key: set {vendor.key_variables[0]}, or pass api_key=")
        url = _checked_url(base_url, "base_url") if base_url else _usable_url(vendor)
        if key is None and variable is not None:
            if base_url and not _is_home(vendor, base_url):
                instead = f", or set {vendor.url_variable} beside it" if vendor.url_variable else ""
                raise AimlasyncError(f"{_for_others(vendor, variable)} for {_host(base_url)} pass api_key={instead}")
            key = _clean_key(os.environ[variable], variable)
        return cls(base_url=url, api_key=key, provider=vendor, **options)

    def url(self, path: str) -> str:
        """Return the URL of a path of the provider table: a leading slash means the host's root, else the base URL."""
        # A caller's path has no leading slash here: `endpoints.paths` removes or refuses it.
        if not path.startswith("/"):
            return f"{self.base_url}/{path}"
        return _VERSION_SEGMENT.sub("", self.base_url) + path

    @property
    def without_key(self) -> str:
        """A hint for the error when the server wants a key and none was sent."""
        if self.withheld is None:
            return "no key was sent: pass api_key="
        vendor = next(vendor for vendor in _READ if self.withheld in vendor.key_variables)
        return f"{_for_others(vendor, self.withheld)} pass api_key= for {_host(self.base_url)}"

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.base_url}>"


@keyless
def default_endpoints(
    api_key: str | Secret | KeySource | None,
    base_url: str | None,
    *,
    allow_http: bool,
    key_variable: str | None = None,
) -> list[Endpoint]:
    """Return the endpoints of a client that was given none: a list of one.

    `key_variable` names the environment variable of the key, where no `api_key` is given. With `base_url`, that server
    is the endpoint: a vendor's key from the environment is sent to it only if it is that vendor's host or loopback, and
    a server of no known vendor needs no key. Without `base_url`, the AI/ML API is the endpoint if its key is set, else
    ByteSpike, else OpenAI; a key that begins with sk-byts- belongs to ByteSpike, and one that begins like OpenAI's, or
    is in OPENAI_API_KEY, to OpenAI. Any other `api_key` goes to OPENAI_BASE_URL where that is set and nothing of a
    vendor is, else to the AI/ML API.
    Raises AimlasyncError, naming the variables, when there is no key.
    """
    key = _clean_key(api_key) or (None if key_variable is None else _clean_key(_named_key(key_variable)))
    if base_url is not None:
        base_url = _clean_url(base_url, allow_http=allow_http, exact=False)
        provider = provider_of(base_url)
        vendors = (provider, _OPENAI) if provider is not COMPATIBLE else _READ
        found = [(vendor, variable) for vendor in vendors if (variable := _key_variable(vendor)) is not None]
        variable = next((variable for vendor, variable in found if _is_home(vendor, base_url)), None)
        if key is None and variable is None and (_is_openai(base_url) or provider is not COMPATIBLE):
            needed = provider.key_variables or _OPENAI.key_variables
            raise AimlasyncError(f"no API key: set {needed[0]}, or pass api_key=")
        if key is None and variable is not None:
            key = _clean_key(os.environ[variable], variable)
        ids = _openai_ids() if variable in _OPENAI.key_variables or _is_openai(base_url) else None
        endpoint = Endpoint(base_url=base_url, api_key=key, allow_http=allow_http, headers=ids)
        if key is None and found:
            endpoint.withheld = found[0][1]
        return [endpoint]
    if key is not None:
        if _begins(key, "sk-byts-"):
            return [Endpoint.bytespike(api_key=key, allow_http=allow_http)]
        if _begins(key, *_OPENAI_KEYS) or _is_in(_OPENAI, key) or _names_another_server():
            return [_openai(key, allow_http)]
        return [Endpoint.aimlapi(api_key=key, allow_http=allow_http)]
    if _key_variable(AIMLAPI):
        return [Endpoint.aimlapi(allow_http=allow_http)]
    if _key_variable(BYTESPIKE):
        return [Endpoint.bytespike(allow_http=allow_http)]
    if variable := _key_variable(_OPENAI):
        return [_openai(_clean_key(os.environ[variable], variable), allow_http)]
    raise AimlasyncError(
        "no API key: set AIML_API_KEY (AI/ML API), BYTESPIKE_API_KEY (ByteSpike) or OPENAI_API_KEY (OpenAI, or the "
        "server of OPENAI_BASE_URL), or pass api_key= or endpoints="
    )


def _openai(key: Secret | KeySource | None, allow_http: bool) -> Endpoint:
    """Return the server of OPENAI_BASE_URL, else OpenAI's."""
    return Endpoint(base_url=_usable_url(_OPENAI), api_key=key, allow_http=allow_http, headers=_openai_ids())


def _openai_ids() -> dict[str, str]:
    """Return the headers for the organization and the project that the environment names."""
    return {header: value for name, header in _OPENAI_IDS.items() if (value := os.environ.get(name, "").strip())}


def _is_openai(base_url: str) -> bool:
    return _host(base_url) == _host(_OPENAI.base_url)


def _begins(key: Secret | KeySource, *beginnings: str) -> bool:
    return isinstance(key, Secret) and key.reveal().startswith(beginnings)


def _is_in(vendor: Provider, key: Secret | KeySource) -> bool:
    """Whether the environment has `key` as that vendor's, and as no other's."""
    holders = [
        each
        for each in _READ
        for name in each.key_variables
        if isinstance(key, Secret) and os.environ.get(name, "").strip() == key.reveal()
    ]
    return holders == [vendor]


def _names_another_server() -> bool:
    """Whether the environment has OPENAI_BASE_URL, and no key or URL of a vendor."""
    set_to = (os.environ.get(each.url_variable or "", "").strip() or _key_variable(each) for each in VENDORS)
    return bool(os.environ.get("OPENAI_BASE_URL", "").strip()) and not any(set_to)


def _key_variable(vendor: Provider) -> str | None:
    """Return the environment variable that holds a vendor's key, None when none is set."""
    return next((name for name in vendor.key_variables if os.environ.get(name, "").strip()), None)


def _named_key(variable: str) -> str:
    if not _VARIABLE.match(variable):
        raise AimlasyncError(
            "the environment variable of the key has an invalid name; it is not shown, as it may be the key itself"
        )
    if not (value := os.environ.get(variable, "").strip()):
        raise AimlasyncError("the environment variable that should hold the key is not set, or empty")
    return value


def _vendor_url(vendor: Provider) -> str:
    override = os.environ.get(vendor.url_variable, "").strip() if vendor.url_variable else ""
    return override or vendor.base_url


def _usable_url(vendor: Provider) -> str:
    """Return the URL of a vendor. Raises ValueError, with the name of its variable, where that has none."""
    url = _vendor_url(vendor)
    return url if url == vendor.base_url else _checked_url(url, vendor.url_variable or "base_url")


def _checked_url(url: str, name: str) -> str:
    """Return a URL as it is. Raises ValueError, with its name, for one that an endpoint cannot have."""
    _clean_url(url, allow_http=True, exact=False, name=name)
    return url


def _is_home(vendor: Provider, base_url: str) -> bool:
    """Whether a vendor's key from the environment may be sent to `base_url`."""
    host = urlsplit(base_url.strip()).hostname or ""
    if host == urlsplit(vendor.base_url).hostname or (vendor is not _OPENAI and is_loopback(host)):
        return True
    return _host(base_url) == _host(_vendor_url(vendor))


def _for_others(vendor: Provider, variable: str) -> str:
    besides = f"the host of {vendor.url_variable}" if vendor is _OPENAI else "this machine"
    return f"the key in {variable} goes to {urlsplit(vendor.base_url).hostname} and {besides} only:"


def _host(url: str) -> str:
    return urlsplit(url.strip()).netloc.rpartition("@")[2].lower()


@overload
def _clean_key(key: str | Secret | None, name: str = ...) -> Secret | None: ...
@overload
def _clean_key(key: str | Secret | KeySource | None, name: str = ...) -> Secret | KeySource | None: ...


def _clean_key(key: str | Secret | KeySource | None, name: str = "api_key") -> Secret | KeySource | None:
    """Strip a key. Raises ValueError, with where it is from and without showing it, for one that cannot be one."""
    if key is None or isinstance(key, Secret) or callable(key):
        return key
    if not isinstance(key, str):
        raise ValueError(f"api_key must be a str, or a function that returns one, not {type(key).__name__}")
    if not key.strip():
        return None
    if not _VISIBLE_ASCII.match(key.strip()):
        raise ValueError(f"{name} has a space, a control character or a letter outside ASCII in it; copy it again")
    if key.strip()[0] in "\"'":
        raise ValueError(f"{name} begins with a quote, which is no part of a key; take the quotes away")
    return Secret(key.strip())


def sent_key(key: str) -> str:
    """Return a key that a function of the caller's returned, stripped. Raises ValueError, without showing it."""
    clean = _clean_key(key) if isinstance(key, str) else None
    if clean is None:
        said = "an empty text" if isinstance(key, str) else type(key).__name__
        raise ValueError(f"the function that is api_key must return a key as a str; it returned {said}")
    return clean.reveal()


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


def _clean_url(url: str, *, allow_http: bool, exact: bool, name: str = "base_url") -> str:
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
        raise ValueError(f"{name} must not carry a user, a password, a query or a fragment")
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


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine's own loopback name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
