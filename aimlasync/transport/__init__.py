"""Transports: they send the bytes of an attempt, and are the only part of the client that knows aiohttp.

It may import `headers` and `errors`. The transports are loaded with the first client, or the first use of their names.
Code that sends requests in another way (a recording, a test) gives the client a `Transport` of its own.

    base             the interface of a transport, and what all of them share
    connection_pool  the default transport: makes connections, keeps idle ones and closes them
    dialler          makes connections, with what aiohttp has for that
    tcp_keepalive    ends connections whose other end is gone
    connecting       connects to one address, without TLS
    resolver         the addresses of a name, in the order in which they are dialled
    route            the head of a request
    connection       one connection, and the exchange on it
    reply            the response of one exchange
    wakeups          the tasks that go on in the next turn of the loop
    http11           HTTP/1.1 responses from bytes
    heads            the heads of these responses
    aiohttp_errors   what exceptions of aiohttp mean
    aiohttp_session  a transport over aiohttp's ClientSession, for proxies
    over_httpx       a transport over an httpx client, for `openai`
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from aimlasync.transport.base import RawReply, StaleConnectionError, Transport

if TYPE_CHECKING:
    from aimlasync.transport.aiohttp_session import AiohttpTransport
    from aimlasync.transport.connection_pool import LeanTransport

__all__ = ["AiohttpTransport", "LeanTransport", "RawReply", "StaleConnectionError", "Transport", "usual_transport"]


def usual_transport(proxy: str | None) -> Callable[[], Transport]:
    """Load the transport of a client that was given none, and return what makes it; proxies are aiohttp's business."""
    if proxy is None:
        from aimlasync.transport.connection_pool import LeanTransport

        return LeanTransport
    from aimlasync.transport.aiohttp_session import AiohttpTransport

    return partial(AiohttpTransport, proxy=proxy)


def __getattr__(name: str) -> Any:
    match name:
        case "AiohttpTransport":
            from aimlasync.transport.aiohttp_session import AiohttpTransport

            return AiohttpTransport
        case "LeanTransport":
            from aimlasync.transport.connection_pool import LeanTransport

            return LeanTransport
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
