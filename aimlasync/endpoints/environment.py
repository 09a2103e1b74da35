"""What the environment says of servers: whose keys and URLs it has, to which hosts a key of it may be sent, and how.

A vendor's key from the environment is sent to that vendor's hosts and to loopback; any other host gets only a key that
the user passed. OpenAI's key and ids are read last, and are sent to OPENAI_BASE_URL, else to api.openai.com. It may
import `errors`, `providers`, `keys` and `urls`.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from aimlasync.endpoints.keys import KeySource, Secret
from aimlasync.endpoints.providers import VENDORS, Provider
from aimlasync.endpoints.urls import checked_url, host_of, is_loopback
from aimlasync.errors import AimlasyncError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

OPENAI = Provider(
    name="openai",
    base_url="https://api.openai.com/v1",
    key_variables=("OPENAI_API_KEY",),
    url_variable="OPENAI_BASE_URL",
)
"""Whose key and URL code written for AsyncOpenAI has in its environment. Any compatible server stands for it."""

READ = (*VENDORS, OPENAI)
"""Whose keys and URLs are read, in this order."""

OPENAI_KEYS = ("sk-proj-", "sk-svcacct-", "sk-admin-")
"""What OpenAI's keys begin with, where that tells them from others."""

_OPENAI_IDS = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}


def is_openai(base_url: str) -> bool:
    """Whether a URL is OpenAI's own."""
    return host_of(base_url) == host_of(OPENAI.base_url)


def is_in_environment(vendor: Provider, key: Secret | KeySource) -> bool:
    """Whether the environment has `key` as that vendor's, and as no other's."""
    holders = [
        each
        for each in READ
        for name in each.key_variables
        if isinstance(key, Secret) and os.environ.get(name, "").strip() == key.reveal()
    ]
    return holders == [vendor]


def names_another_server() -> bool:
    """Whether the environment has OPENAI_BASE_URL, and no key or URL of a vendor."""
    set_to = (os.environ.get(each.url_variable or "", "").strip() or variable_with_key(each) for each in VENDORS)
    return bool(os.environ.get("OPENAI_BASE_URL", "").strip()) and not any(set_to)


def variable_with_key(vendor: Provider) -> str | None:
    """Return the environment variable that holds a vendor's key, None when none is set."""
    return next((name for name in vendor.key_variables if os.environ.get(name, "").strip()), None)


def key_in(variable: str) -> str:
    """Return the key that a variable holds. Raises AimlasyncError, without showing its name, which may be the key."""
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


def usable_url(vendor: Provider) -> str:
    """Return the URL of a vendor. Raises ValueError, with the name of its variable, where that has none."""
    url = _vendor_url(vendor)
    return url if url == vendor.base_url else checked_url(url, vendor.url_variable or "base_url")


def is_home(vendor: Provider, base_url: str) -> bool:
    """Whether a vendor's key from the environment may be sent to `base_url`."""
    host = urlsplit(base_url.strip()).hostname or ""
    if host == urlsplit(vendor.base_url).hostname or (vendor is not OPENAI and is_loopback(host)):
        return True
    return host_of(base_url) == host_of(_vendor_url(vendor))


def where_it_goes(vendor: Provider, variable: str) -> str:
    """Say to which hosts the key in a variable goes: the first half of an error."""
    besides = f"the host of {vendor.url_variable}" if vendor is OPENAI else "this machine"
    return f"the key in {variable} goes to {urlsplit(vendor.base_url).hostname} and {besides} only:"


def openai_ids() -> dict[str, str]:
    """Return the headers for the organization and the project that the environment names."""
    return {header: value for name, header in _OPENAI_IDS.items() if (value := os.environ.get(name, "").strip())}


def proxy_for(base_url: str) -> str | None:
    """Return the proxy that HTTPS_PROXY, ALL_PROXY and NO_PROXY name for a server, as the SDK's own client does."""
    from urllib.request import getproxies, proxy_bypass

    parts, proxies = urlsplit(base_url), getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or proxy_bypass(parts.netloc):
        return None
    return found if "://" in found else f"http://{found}"
