"""What users configure: limits, timeouts, and the options of one call.

Plain data without I/O. It may import `headers` and `spelling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal, Protocol, TypedDict, TypeVar, get_args

import msgspec

from aimlasync.headers import Headers
from aimlasync.spelling import Spelled

KindT = TypeVar("KindT")


class Limits(msgspec.Struct, frozen=True, kw_only=True, metaclass=Spelled):
    """The limits of an endpoint; None means that a limit is unknown."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None
    """The most attempts in flight; None for a limit that is learned from refusals."""
    tokens_counted: Literal["used", "requested"] = "used"
    """Which tokens the server counts: those that were used, or the prompt and the whole `max_tokens` (OpenAI)."""

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "concurrency"):
            value = getattr(self, name)
            try:
                if value is not None and not 0 < value < float("inf"):
                    raise ValueError(f"{name} must be above zero and finite, not {value}")
            except TypeError:
                raise TypeError(f"{name} must be a number, not {value!r}") from None
        if self.concurrency is not None and self.concurrency != int(self.concurrency):
            raise ValueError(f"concurrency must be a whole number, not {self.concurrency}")
        if self.tokens_counted not in ("used", "requested"):
            raise ValueError(f"tokens_counted must be used or requested, not {self.tokens_counted}")

    @property
    def is_rated(self) -> bool:
        """Whether requests or tokens per minute are known."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None

    def share(self, index: int, count: int) -> Limits:
        """Return the limits of the `index`th of `count` equal parts, 1 for the first: for processes without a quota.

        Every part may have at least one attempt in flight. Raises ValueError for an index outside 1 to `count`.
        """
        if not 1 <= index <= count:
            raise ValueError(f"index must be from 1 to {count}, not {index}")
        rpm, tpm, concurrency = self.requests_per_minute, self.tokens_per_minute, self.concurrency
        return msgspec.structs.replace(
            self,
            requests_per_minute=None if rpm is None else rpm / count,
            tokens_per_minute=None if tpm is None else tpm / count,
            concurrency=None if concurrency is None else max(1, (concurrency + count - index) // count),
        )


class Timeout(msgspec.Struct, frozen=True, kw_only=True, metaclass=Spelled):
    """Bounds of one call, in seconds; None means unbounded.

    A bound that passes raises APITimeoutError with its name in `.phase`.
    """

    total: float | None = 600.0
    """From the call until its answer or the end of its stream, with queueing, all attempts and all backoffs."""
    answer: float | None = None
    """In place of `total` for an answer that is not streamed; None leaves `total`."""
    connect: float | None = 10.0
    """Making one connection."""
    first_token: float | None = None
    """Streams: from an attempt's start to its first event. Comments, which only keep the connection open, do not count.
    """
    idle: float | None = 120.0
    """Streams: between two events, while the reader waits for the next one."""
    attempt: float | None = None
    """Other calls: one attempt, from when it is sent until its last byte; waits for limits do not count.

    It may be billed, so it is not tried again.
    """

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            try:
                if value is not None and not value > 0:
                    raise ValueError(f"timeout {name} must be above zero, not {value}")
            except TypeError:
                raise TypeError(f"timeout {name} must be seconds as a number, not {value!r}") from None

    def but(self, total: float | Timeout | TimeoutOfHttpx | None) -> Timeout:
        """Return the bounds of one call: another `Timeout`, or these with another `total`.

        The `read` of an httpx.Timeout bounds an answer that is not streamed, and each gap of a stream.
        """
        if isinstance(total, Timeout):
            return total
        if total is not None and not isinstance(total, (int, float)) and hasattr(total, "read"):
            read, connect = total.read, total.connect
            if read is None:
                return msgspec.structs.replace(
                    self, total=None, answer=None, connect=connect, first_token=None, idle=None
                )
            return msgspec.structs.replace(self, answer=read, connect=connect, first_token=read, idle=read)
        return msgspec.structs.replace(self, total=total, answer=None)


class TimeoutOfHttpx(Protocol):
    """What is read of an httpx.Timeout, which users of AsyncOpenAI give."""

    connect: float | None
    read: float | None


Priority = Literal["interactive", "bulk"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)

Mode = Literal["json_schema", "tool", "json_object", "text"]
"""The ways to ask for an answer that fits a JSON schema, the surest first; see `structured.modes`."""

Structured = Mode | Literal["auto"]
"""What `structured=` takes."""


class AskOptions(TypedDict, total=False):
    """Options of one call that are not sent to the model, but for its priority."""

    timeout: Timeout | TimeoutOfHttpx | float | None
    """The total in seconds, or all bounds; also an httpx.Timeout."""
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, Any] | str | None
    """Added to the URL: a mapping, or a text that is quoted already. Values may be lists and mappings."""
    extra_body: Mapping[str, Any] | None
    """Further members of the request's body; they are added last, and None is sent as null."""
    tenant: str | None
    """The tenant that the call is for. Waiting tenants take turns, so that one with many calls delays no other."""
    structured: Structured | None
    """How to ask for the JSON schema in `response_format` or `text.format`: "auto" in the surest way that the model
    has, or one of "json_schema", "tool", "json_object" and "text"; None (the default of `create`) sends it as it is."""
    budget: Any
    """A `Budget` that the call counts against instead of the client's, for instance that of its tenant."""
    affinity: str | None
    """Calls with the same key go to the same endpoint while it is healthy, to use its prompt cache."""
    cache: bool | Literal["refresh"] | None
    """With the client's cache: False neither looks there nor keeps the answer, "refresh" asks and keeps the new answer,
    True does with a sampled answer what is done with others."""


class CallOptions(AskOptions, total=False):
    """Options of one call that are not sent to the model."""

    priority: Priority
    """Interactive calls are admitted before the bulk calls of the same client."""


NOT_GIVEN = omit = None
"""None, by the names that AsyncOpenAI's users know: a parameter that is not sent."""

NotGiven = Omit = NoneType
"""The type of `NOT_GIVEN`."""


def is_given(value: Any) -> bool:
    """Whether `value` is anything but the NOT_GIVEN or `omit` of another SDK."""
    return type(value).__name__ not in ("NotGiven", "Omit")


def check_headers(options: Any) -> None:
    """Check a call's `extra_headers`, and hide their values from tracebacks.

    Raises ValueError for a header that cannot be sent.
    """
    if options.get("extra_headers") is not None and is_given(options["extra_headers"]):
        options["extra_headers"] = Headers.hiding(options["extra_headers"])
        options["extra_headers"] = headers_given(options["extra_headers"], "extra_headers")


def headers_given(headers: Headers, where: str) -> Headers:
    """Return the headers that have a value, checked.

    Raises ValueError for a header that cannot be sent, and for an Authorization without a value: it would be sent.
    """
    absent = [name for name, value in headers.items() if not is_given(value)]
    if any(str(name).lower() == "authorization" for name in absent):
        raise ValueError(f"{where} cannot leave out Authorization; a client with api_key='' sends none")
    return (Headers({k: v for k, v in headers.items() if k not in absent}) if absent else headers).checked(where)


def priority_of(priority: Priority | None) -> Priority:
    """Return the priority that is given, by default "interactive". Raises ValueError for one that there is not."""
    if priority is None:
        return "interactive"
    if priority not in PRIORITIES:
        raise ValueError(f"priority must be {' or '.join(map(repr, PRIORITIES))}, not {priority!r}")
    return priority


def of_kind(name: str, value: KindT | None, kind: type[KindT], such_as: str) -> KindT | None:
    """Return the value of an option that takes a `kind` or None. Raises TypeError, with an example, for another."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name}= takes {kind.__name__}, such as {such_as}, not {type(value).__name__}")
    return value


def check_at_least(least: float, **options: float | None) -> None:
    """Check options that take a number or None. Raises TypeError for another kind, ValueError for less than `least`."""
    for name, value in options.items():
        try:
            if value is not None and not value >= least:
                raise ValueError(f"{name} must be {least} or more, not {value}")
        except TypeError:
            raise TypeError(f"{name} must be a number, not {value!r}") from None


CALL_OPTIONS = CallOptions.__optional_keys__
