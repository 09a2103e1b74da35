"""TCP keepalive: a connection whose other end is gone, or was forgotten by a network, ends within two minutes.

While a model thinks for minutes, nothing is sent. Gateways forget such connections, and a machine that lost its power
says nothing. With keepalive, the kernel asks during silence: the gateway sees traffic, and the attempt learns of an end
that does not answer. It imports nothing of this library.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

# Seconds of silence before the kernel asks, seconds between two questions, and questions without an answer: that is
# below the shortest of the usual bounds (NAT 60 s, load balancers 350 s).
_IDLE, _INTERVAL, _COUNT = 45, 15, 4

# The names that this system has; macOS calls the first one otherwise.
_OPTIONS = [
    (getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", _IDLE),
        ("TCP_KEEPALIVE", _IDLE),
        ("TCP_KEEPINTVL", _INTERVAL),
        ("TCP_KEEPCNT", _COUNT),
    )
    if hasattr(socket, name)
]


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Let the kernel look whether the other end of a connection is still there."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    # A socket that is not TCP's, or was closed meanwhile; the connection says so itself.
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _OPTIONS:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
