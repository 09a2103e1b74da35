"""Endpoints: the base URL, key and limits of a server, as the user gives them, and those of a client that names none.

The environment is read when an endpoint is created, and not later; `environment` says whose keys go where. It may
import `config`, `errors`, `headers`, `quota.protocol`, and of this package `providers`, `environment`, `keys`, `urls`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from aimlasync.config import Limits, of_kind
from aimlasync.endpoints.environment import (
    OPENAI,
    OPENAI_KEYS,
    READ,
    is_home,
    is_in_environment,
    is_openai,
    key_in,
    names_another_server,
    openai_ids,
    usable_url,
    variable_with_key,
    where_it_goes,
)
from aimlasync.endpoints.keys import KeySource, Secret, begins, clean_key
from aimlasync.endpoints.providers import AIMLAPI, BYTESPIKE, COMPATIBLE, Provider, provider_of
from aimlasync.endpoints.urls import checked_url, clean_url, host_of
from aimlasync.errors import AimlasyncError
from aimlasync.headers import Headers, keyless
from aimlasync.quota.protocol import Quota
from aimlasync.spelling import spelled

_VERSION_SEGMENT = re.compile(r"/v\d+[a-z]*\d*\Z")


class Endpoint:
    """One base URL with its key and limits.

    `base_url` may end with a slash or not; a bare host gets /v1, other paths are kept, and with `exact` all are.
    `api_key` may be a function, also an async one, that is called before each attempt: it keeps the key itself. With
    `quota`, the limits are those of the whole account, and all processes that share the quota keep them together.
    Raises ValueError for a URL, key or header that cannot be sent safely.
    """

    __slots__ = ("api_key", "base_url", "headers", "key_source", "limits", "name", "provider", "quota", "withheld")

    @keyless
    @spelled
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
        self.base_url = clean_url(base_url, allow_http=allow_http, exact=exact)
        self.provider = provider or provider_of(self.base_url)
        key = clean_key(api_key)
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
        key = clean_key(api_key)
        variable = variable_with_key(vendor)
        if key is None and variable is None:
            raise AimlasyncError(f"no API key: set {vendor.key_variables[0]}, or pass api_key=")
        url = checked_url(base_url, "base_url") if base_url else usable_url(vendor)
        if key is None and variable is not None:
            if base_url and not is_home(vendor, base_url):
                instead = f", or set {vendor.url_variable} beside it" if vendor.url_variable else ""
                raise AimlasyncError(
                    f"{where_it_goes(vendor, variable)} for {host_of(base_url)} pass api_key={instead}"
                )
            key = clean_key(os.environ[variable], variable)
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
        vendor = next(vendor for vendor in READ if self.withheld in vendor.key_variables)
        return f"{where_it_goes(vendor, self.withheld)} pass api_key= for {host_of(self.base_url)}"

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
    key = clean_key(api_key) or (None if key_variable is None else clean_key(key_in(key_variable)))
    if base_url is not None:
        base_url = clean_url(base_url, allow_http=allow_http, exact=False)
        provider = provider_of(base_url)
        vendors = (provider, OPENAI) if provider is not COMPATIBLE else READ
        found = [(vendor, variable) for vendor in vendors if (variable := variable_with_key(vendor)) is not None]
        variable = next((variable for vendor, variable in found if is_home(vendor, base_url)), None)
        if key is None and variable is None and (is_openai(base_url) or provider is not COMPATIBLE):
            needed = provider.key_variables or OPENAI.key_variables
            raise AimlasyncError(f"no API key: set {needed[0]}, or pass api_key=")
        if key is None and variable is not None:
            key = clean_key(os.environ[variable], variable)
        ids = openai_ids() if variable in OPENAI.key_variables or is_openai(base_url) else None
        endpoint = Endpoint(base_url=base_url, api_key=key, allow_http=allow_http, headers=ids)
        if key is None and found:
            endpoint.withheld = found[0][1]
        return [endpoint]
    if key is not None:
        if begins(key, "sk-byts-"):
            return [Endpoint.bytespike(api_key=key, allow_http=allow_http)]
        if begins(key, *OPENAI_KEYS) or is_in_environment(OPENAI, key) or names_another_server():
            return [_openai(key, allow_http)]
        return [Endpoint.aimlapi(api_key=key, allow_http=allow_http)]
    if variable_with_key(AIMLAPI):
        return [Endpoint.aimlapi(allow_http=allow_http)]
    if variable_with_key(BYTESPIKE):
        return [Endpoint.bytespike(allow_http=allow_http)]
    if variable := variable_with_key(OPENAI):
        return [_openai(clean_key(os.environ[variable], variable), allow_http)]
    raise AimlasyncError(
        "no API key: set AIML_API_KEY (AI/ML API), BYTESPIKE_API_KEY (ByteSpike) or OPENAI_API_KEY (OpenAI, or the "
        "server of OPENAI_BASE_URL), or pass api_key= or endpoints="
    )


def _openai(key: Secret | KeySource | None, allow_http: bool) -> Endpoint:
    """Return the server of OPENAI_BASE_URL, else OpenAI's."""
    return Endpoint(base_url=usable_url(OPENAI), api_key=key, allow_http=allow_http, headers=openai_ids())
