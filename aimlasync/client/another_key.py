"""A copy of a client for another key or URL: endpoints and limits of its own, over the same connections.

It may import `balancer`, `pipeline` and what lies below `client`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from aimlasync.client.balancer import Balancer
from aimlasync.client.pipeline import Pipeline
from aimlasync.config import Limits
from aimlasync.endpoints.endpoint import Endpoint, default_endpoints
from aimlasync.endpoints.keys import KeySource, Secret
from aimlasync.transport.base import RawReply
from aimlasync.wire.redaction import Secrets


class SharedTransport:
    """The transport of another client, which closes it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        own: Mapping[str, str],
        body: bytes | None,
        *,
        connect: float | None,
        fresh: bool = False,
    ) -> Awaitable[RawReply]:
        """Send with the transport of that client. Raises ClientClosedError when it is closed."""
        _, transport = self._pipeline.enter()
        return transport.send(method, url, headers, own, body, connect=connect, fresh=fresh)

    async def close(self) -> None:
        """Do nothing."""


def with_another_key(
    pipeline: Pipeline,
    limits: Limits,
    secrets: Secrets,
    api_key: str | Secret | KeySource | None,
    base_url: str | None,
) -> Pipeline:
    """Return a pipeline to another URL, or to the same one with another key.

    A key that was given for one host is not sent to another. Raises ValueError for a client of several endpoints, and
    what `Endpoint` raises.
    """
    old = pipeline.balancer
    if len(old.upstreams) > 1:
        raise ValueError("api_key= and base_url= are for a client of one endpoint; make another client")
    here = old.upstreams[0].endpoint
    # Whoever allowed one URL to be unencrypted has a network of their own.
    allow_http = here.base_url.startswith("http:")
    if base_url is None:
        endpoint = Endpoint(
            base_url=here.base_url,
            api_key=api_key,
            name=here.name,
            limits=here.limits,
            headers=here.headers,
            provider=here.provider,
            allow_http=allow_http,
            exact=True,
        )
    else:
        (endpoint,) = default_endpoints(api_key, str(base_url), allow_http=allow_http)
    balancer = Balancer(
        [endpoint],
        limits,
        max_queue=old.max_queue,
        max_queue_per_tenant=old.max_queue_per_tenant,
        max_wait=old.max_wait,
        secrets=secrets,
    )
    return pipeline.to(balancer, SharedTransport(pipeline))
