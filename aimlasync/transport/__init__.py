"""Bytes over connections: the only place that knows aiohttp.

It may import `headers` and `errors`. `Transport` is the seam of the pipeline: whoever sends requests in another way
(a recording, a test) gives the client another one.

    base             what a transport promises
    connection_pool  the default transport: idle connections, and who dials
    connection       one connection, and the exchange on it
    http11           HTTP/1.1 responses from bytes
    aiohttp_session  the same over aiohttp's ClientSession, for proxies
"""

from aimlasync.transport.aiohttp_session import AiohttpTransport
from aimlasync.transport.base import RawReply, StaleConnectionError, Transport
from aimlasync.transport.connection_pool import LeanTransport

__all__ = ["AiohttpTransport", "LeanTransport", "RawReply", "StaleConnectionError", "Transport"]
