"""What users of AsyncOpenAI find on the client under its names, each a line over what is there already.

It may import the parts of this package that it names, when they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NoReturn, Self

if TYPE_CHECKING:
    from aimlasync.client.call import Settings
    from aimlasync.client.pipeline import Pipeline
    from aimlasync.client.raw_response import RawResources, StreamedResources


class Answer(int):
    """A yes or a no: a property's value that may also be called, as the method of that name at AsyncOpenAI."""

    def __call__(self) -> bool:
        return bool(self)

    def __repr__(self) -> str:
        return repr(bool(self))

    __str__ = __repr__


class _Elsewhere:
    """A name that AsyncOpenAI has and this library has not: it is missing, and the error says where it is."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, resource: object, kind: type) -> NoReturn:
        raise AttributeError(
            f"{kind.__name__} has no {self._name}: aimlasync.openai.AsyncOpenAI has it, with the same arguments, and "
            f"takes this client as aimlasync= (pip install 'aimlasync[openai]')"
        )


class _Key:
    """The name `api_key`: the key is not read here, and another one needs another client."""

    def __get__(self, client: object, kind: type) -> NoReturn:
        raise AttributeError(f"the key of an {kind.__name__} is not shown: {_OTHER_KEY}")

    def __set__(self, client: object, key: object) -> NoReturn:
        raise AttributeError(f"the key of an {type(client).__name__} is not changed: {_OTHER_KEY}")


_OTHER_KEY = "with_options(api_key=...) returns a client with another, and api_key= may be a function"


# No `__getattr__`: with one, Python takes several times as long to find each attribute that there is.
class RawAnswers:
    """`with_raw_response` and `with_streaming_response`, on the client and on its resources."""

    ELSEWHERE: ClassVar[tuple[str, ...]] = ()
    """Names that AsyncOpenAI has here and this library has not."""

    def __init_subclass__(cls) -> None:
        for name in cls.__dict__.get("ELSEWHERE", ()):
            setattr(cls, name, _Elsewhere(name))

    def __dir__(self) -> list[str]:
        found = {name: value for kind in reversed(type(self).__mro__) for name, value in vars(kind).items()}
        return [name for name in super().__dir__() if not isinstance(found.get(name), (_Elsewhere, _Key))]

    @property
    def with_raw_response(self) -> RawResources:
        """The same methods; each returns a `RawResponse`: headers, status_code, text, and `parse()` for the answer."""
        from aimlasync.client.raw_response import RawResources

        return RawResources(self)

    @property
    def with_streaming_response(self) -> StreamedResources:
        """`create`, for `async with`: its `StreamedResponse` hands out the body's bytes, lines or text as they come."""
        from aimlasync.client.raw_response import StreamedResources

        return StreamedResources(self)


class OpenAINames(RawAnswers):
    """The names of AsyncOpenAI."""

    ELSEWHERE = (
        *("audio", "batches", "completions", "containers", "conversations", "embeddings", "evals", "files"),
        *("fine_tuning", "images", "moderations", "realtime", "skills", "uploads", "vector_stores", "videos"),
        *("webhooks", "delete", "get", "get_api_list", "patch", "post", "put"),
    )

    api_key = _Key()
    _pipeline: Pipeline
    _settings: Settings

    @property
    def beta(self) -> Self:
        """This client: `beta.chat.completions` is `chat.completions`."""
        return self

    @property
    def base_url(self) -> str:
        """The base URL of the first endpoint."""
        return self._pipeline.balancer.upstreams[0].endpoint.base_url

    @property
    def max_retries(self) -> int:
        """How often a call is tried again at most."""
        return self._settings.retry.attempts - 1


def no_http_client(given: object) -> None:
    """Raises TypeError for an httpx client; it says what takes its place."""
    if given is not None:
        raise TypeError(
            "http_client= is not taken: give proxy= for a proxy, or transport=HttpxTransport(http_client) of "
            "aimlasync.transport.over_httpx to send with an httpx client of yours"
        )


def ids_headers(
    organization: str | None, project: str | None, headers: Mapping[str, str] | None
) -> Mapping[str, str] | None:
    """Return `headers` behind those that name an organization and a project at OpenAI."""
    ids = {"OpenAI-Organization": organization, "OpenAI-Project": project}
    given = {name: value for name, value in ids.items() if value}
    return {**given, **(headers or {})} if given else headers
