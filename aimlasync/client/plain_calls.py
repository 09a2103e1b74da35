"""Calls that go to one upstream and ask no model: the catalogue, the balance, stored responses, files.

They go through the pipeline like any other. It may import `pipeline` and what lies below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from aimlasync.client.attempts import Receive
from aimlasync.client.call import Call, Settings
from aimlasync.client.pipeline import Pipeline
from aimlasync.client.request_head import headers_of
from aimlasync.client.target import Target
from aimlasync.config import Timeout
from aimlasync.endpoints.upstream import Upstream

T = TypeVar("T")


async def ask(
    pipeline: Pipeline,
    method: str,
    upstream: Upstream,
    url: str,
    receive: Receive[T],
    settings: Settings,
    *,
    extra_headers: Mapping[str, str] | None = None,
    timeout: Timeout | float | None = None,
    streams: bool = False,
) -> T:
    """Send a request without a body, and return what `receive` makes of the response.

    It is retried like a call: the method must be one that may be sent twice.
    """
    loop, transport = pipeline.enter()
    # A POST without a body states its length, which some servers insist on.
    body = b"" if method == "POST" else None
    call = plain_call(pipeline, method, upstream, url, body, settings, extra_headers)
    call.streams = streams
    if timeout is not None:
        call.timeout = settings.timeout.but(timeout)
    return await pipeline.run(call, receive, loop, transport)


def plain_call(
    pipeline: Pipeline,
    method: str,
    upstream: Upstream,
    url: str,
    body: bytes | None,
    settings: Settings,
    extra_headers: Mapping[str, str] | None,
) -> Call:
    """Return such a call; whoever runs it says what becomes of the response."""
    info = pipeline.ids.info("", extra_headers)
    headers = headers_of(info, settings, extra_headers)
    target = Target(upstream, url, body)
    return Call(
        method, (target,), headers, info, settings.timeout, settings.retry, pipeline.now(), waits=settings.waits
    )
