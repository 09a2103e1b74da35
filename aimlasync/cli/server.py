"""Which server a command asks, and the client it leads to.

A key is never an argument, and never printed. It may import `errors`, `options`, and of the library what a client is
made of; the simulator only where it is the server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import click
import msgspec

from aimlasync import AsyncClient, Endpoint, Limits
from aimlasync.cli.errors import KEY_ENV, WrongUseError
from aimlasync.cli.options import with_options
from aimlasync.endpoints.endpoint import default_endpoints
from aimlasync.endpoints.environment import OPENAI, proxy_for, variable_with_key
from aimlasync.endpoints.providers import AIMLAPI, VENDORS, Api
from aimlasync.endpoints.urls import proxy_secrets
from aimlasync.errors import AimlasyncError
from aimlasync.quota.protocol import Quota
from aimlasync.store import Cache, Store

_NO_KEY = (
    "no key: set AIML_API_KEY (AI/ML API) or BYTESPIKE_API_KEY (ByteSpike), or try the built-in simulator with "
    "--simulate"
)


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Which server a command talks to."""

    base_url: str | None = None
    key_env: str | None = None
    """Name of the environment variable that holds its key."""
    simulate: bool = False
    allow_http: bool = False
    proxy: bool = False
    """Whether the proxy of the environment is used."""


class ModelChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which model is asked, None the vendor's small one, and at which endpoint."""

    model: str | None = None
    endpoint: Api = "chat"


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The server that is asked, and the model there."""

    endpoint: Endpoint | None
    """None is the built-in simulator, which begins with the client and ends with it."""
    model: str
    """Empty where none is named and the server has no default."""
    where: Where = Where()
    """The options that led to it, for other processes that look for it themselves."""

    @property
    def family(self) -> str | None:
        """What its answers are kept under, None for its base URL: all simulators answer alike, each on its own port."""
        return "simulator" if self.endpoint is None else None

    def check_model(self) -> None:
        """Raise WrongUseError where it has no model."""
        if not self.model and self.endpoint is not None:
            raise WrongUseError(f"which model? {self.endpoint.name} has no default; say so with --model")


where_options = with_options(
    [
        click.option("--base-url", metavar="URL", help="Another server, such as http://127.0.0.1:8080/v1."),
        click.option(
            "--key-env",
            metavar="NAME",
            help="The environment variable that holds the key; for a --base-url of your own.",
        ),
        click.option("--simulate", is_flag=True, help="Ask the built-in simulator: no key, no cost."),
        click.option("--allow-http", is_flag=True, help="Allow an unencrypted base URL beyond this machine."),
        click.option("--proxy", is_flag=True, help="Use the proxy that HTTPS_PROXY names."),
    ],
    "where",
    Where,
)
"""The options that say which server is asked."""

model_options = with_options(
    [
        click.option("--model", metavar="ID", help="The model; by default the vendor's small one."),
        click.option(
            "--endpoint",
            type=click.Choice(["chat", "responses"]),
            default="chat",
            show_default=True,
            help="chat/completions or responses.",
        ),
    ],
    "choice",
    ModelChoice,
)
"""The options that say which model is asked, and at which endpoint."""


def has_key() -> bool:
    """Whether the environment has a key of any vendor."""
    return any(map(variable_with_key, VENDORS))


def no_key() -> WrongUseError:
    """Return the error of a command without a key. A key of OpenAI is not read unasked: it says how to ask."""
    found = variable_with_key(OPENAI)
    return WrongUseError(_NO_KEY if found is None else f"{_NO_KEY}; {found} is read with --key-env {found}")


def find_server(where: Where, model: str | None = None, *, needs_model: bool = True) -> Server:
    """Return the server that `where` and the environment lead to. Raises CommandError."""
    if where.simulate:
        if where.base_url is not None:
            raise WrongUseError("--simulate and --base-url name two servers; use one of them")
        if where.key_env is not None:
            raise WrongUseError("--simulate needs no key; leave --key-env out")
        if where.allow_http or where.proxy:
            beyond = "--allow-http" if where.allow_http else "--proxy"
            raise WrongUseError(f"--simulate asks no other machine; leave {beyond} out")
        return Server(endpoint=None, model=model or AIMLAPI.default_model, where=where)
    if where.base_url is None and where.key_env is None and not has_key():
        raise no_key()
    try:
        endpoint = default_endpoints(None, where.base_url, allow_http=where.allow_http, key_variable=where.key_env)[0]
        if where.proxy:
            _check_proxy(endpoint.base_url)
    except (AimlasyncError, ValueError) as error:
        said = str(error).replace("pass allow_http=True", "add --allow-http").replace("pass api_key=", KEY_ENV)
        said = said.replace("api_key ", "the key ").replace("base_url", "the base URL").replace("proxy=", "HTTPS_PROXY")
        raise WrongUseError(f"--key-env: {said}" if said.startswith("the environment") else said) from None
    server = Server(endpoint=endpoint, model=model or endpoint.provider.default_model, where=where)
    if needs_model:
        server.check_model()
    return server


def _check_proxy(base_url: str) -> None:
    """Raise WrongUseError where the environment names no proxy for a server, ValueError where that is no URL."""
    if (proxy := proxy_for(base_url)) is None:
        raise WrongUseError(f"--proxy: the environment names none for {base_url}; set HTTPS_PROXY")
    proxy_secrets(proxy)


@asynccontextmanager
async def open_client(
    server: Server,
    *,
    limits: Limits | None = None,
    quota: Quota | None = None,
    spread: float = 0.4,
    store: Store | None = None,
) -> AsyncIterator[AsyncClient]:
    """Open a client for `server`, whose limits are those of `quota`; `spread` is the simulator's.

    Answers are kept in `store`, and those that are there are not asked for.
    """
    async with AsyncExitStack() as stack:
        endpoint = server.endpoint
        if endpoint is None:
            from aimlasync.simulator import Latency, Simulator

            latency = Latency.of(ttft=0.15, tokens_per_second=400, spread=spread)
            sim = await stack.enter_async_context(Simulator(latency=latency))
            endpoint = Endpoint(base_url=sim.base_url, api_key=sim.key, name="simulator", provider=AIMLAPI)
        endpoint.quota = quota
        cache = None
        if store is not None:
            cache = Cache(store, sampled=True, family=server.family)
            stack.push_async_callback(cache.close)
        proxy = proxy_for(endpoint.base_url) if server.where.proxy else None
        client = AsyncClient(endpoints=[endpoint], limits=limits, cache=cache, proxy=proxy)
        yield await stack.enter_async_context(client)
