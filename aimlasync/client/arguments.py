"""From the keyword arguments of a call to its body, and the options of how it is sent.

A parameter given as None, or as its NOT_GIVEN or `omit`, is not sent; one that is not known goes through `extra_body`,
which also sends an explicit null. It may import `config`, `errors` and `wire`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar

from aimlasync.config import CALL_OPTIONS, CallOptions, check_headers, is_given
from aimlasync.errors import AnswerError
from aimlasync.spelling import close_to
from aimlasync.wire.base import Reply

R = TypeVar("R", bound=Reply)

# What most values are. Whether one is true is not asked: an array of numpy does not say.
_PLAIN = frozenset((str, int, float, bool, list, dict, type(None)))


def body_of(
    required: dict[str, Any], params: Mapping[str, Any], known: frozenset[str], stream: bool | None
) -> tuple[dict[str, Any], CallOptions]:
    """Split keyword arguments into what is sent and how. Raises ValueError for a header that cannot be sent."""
    if "extra_headers" in params:
        check_headers(params)
    options: dict[str, Any] = {}
    if type(required.get("model")) not in _PLAIN:
        required["model"] = _text_of(required["model"])
    for name, value in params.items():
        if type(value) not in _PLAIN:
            if not is_given(value):
                continue
            if isinstance(value, Decimal):
                # Such as a temperature. Only inside of a parameter may it be meant as text.
                value = float(value)
        if name in known:
            if value is not None:
                required[name] = value
        elif name in CALL_OPTIONS:
            options[name] = value
        else:
            first = () if "messages" in required else ("input",)
            hint = close_to(name, (*known, *CALL_OPTIONS, *required, *first, "stream"))
            raise TypeError(
                f"unknown parameter {name!r}{hint or ';'} to send it anyway, use extra_body={{{name!r}: ...}}"
            )
    if stream:
        required["stream"] = True
    if "extra_body" in options and (extra := options["extra_body"]):
        try:
            required.update(extra)
        except (TypeError, ValueError):
            raise TypeError(f"extra_body is a mapping of parameters, not {type(extra).__name__}") from None
    return required, options  # type: ignore[return-value]  # its names are CALL_OPTIONS, and cast() is a call


def _text_of(model: Any) -> Any:
    """Return the text that a member of an enum, or an object of a class of texts, stands for."""
    value = model.value if isinstance(model, Enum) else model
    return str.__str__(value) if isinstance(value, str) else value


async def asked_until_read(ask: Callable[[], Awaitable[R]], read: Callable[[R], R], params: CallOptions) -> R:
    """Return what `read` makes of the reply to `ask`, which sends `params`. Raises the AnswerError of `read`.

    A reply that a cache kept unread, and that cannot be read, is asked for again: else it would be found in vain for
    ever. Raises TypeError where a stream is asked for, which cannot be read.
    """
    if params.get("stream"):
        raise TypeError("parse returns a whole answer: leave stream=True out, or use .stream(...), which parses too")
    while True:
        reply = await ask()
        try:
            return read(reply)
        except AnswerError:
            if not reply.info.cached:
                raise
        params["cache"] = "refresh"
