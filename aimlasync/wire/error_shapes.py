"""What an error body says, whichever of the vendors' and gateways' shapes it has.

Bodies are read as layers: an object, and the object inside it that has the error, until none follows. The innermost
word counts, since gateways wrap what the server behind them said. Names are compared without case, underscores and
hyphens. It has no I/O. It may import `wire.begun_json`, `wire.json_text`, `wire.waits` and `wire.wait_sentences`.
Sources: OpenAI, Azure, AI/ML API, ByteSpike, Gemini (a list of objects, google.rpc.Status), OpenRouter (`metadata`),
Anthropic, Mistral, Groq, vLLM, FastAPI (`detail`), LiteLLM (the JSON of another server inside a message), NestJS,
RFC 9457, OAuth, Cloudflare, Hugging Face, MiniMax (`base_resp`), Baidu (`error_msg`), Apigee (`fault`), Bedrock.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from aimlasync.wire import waits
from aimlasync.wire.begun_json import MAX_DEPTH, read_begun
from aimlasync.wire.json_text import is_deeper
from aimlasync.wire.wait_sentences import in_words

_Layer = Mapping[str, Any]

# Where the error is inside a body.
_INSIDE = ("error", "errors", "detail", "fault", "baseresp", "message")
_MESSAGES = (
    "message",
    "errordescription",
    "msg",
    "errormsg",
    "errormessage",
    "statusmsg",
    "faultstring",
    "detail",
    "error",
    "errors",
    "title",
)
_CODES = ("code", "errorcode")
_TYPES = ("type", "errortype")
_STATUSES = ("code", "statuscode", "status", "httpstatus", "httpcode", "httpstatuscode")
# What stands beside an error and may state a wait.
_BESIDE = ("details", "metadata")
# Words that say no more than that this is an error, or nothing.
_EMPTY = frozenset(("", "error", "fail", "failed", "failure", "none", "null"))
# A code that is the text of `error`, beside a message: invalid_token.
_CODE_WORD = re.compile(r"[a-z0-9]+(?:[_.-][a-z0-9]+)+")
_LONGEST_CHAIN = 6

# An error that is passed on as text: a status, a space, then the JSON of the server behind (AI/ML API, batch cancel
# page), or that JSON alone.
_UPSTREAM = re.compile(r"\s*(?:\d{3}\s+)?(\{.*)", re.DOTALL)


class ErrorDetail(msgspec.Struct, kw_only=True):
    """The fields of an error body, whichever of the known shapes it has."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    request_id: str | None = None
    status: int | None = None
    """A status from 400 to 599 that the body states."""
    retry_after: float | None = None
    """Seconds that the body asks to wait."""


def read_error(body: Any) -> ErrorDetail:
    """Return what a decoded error body says; it may be an object, a list of them, or a text."""
    return _read_layers(body, 2)


def read_text(text: str) -> tuple[Any, ErrorDetail] | None:
    """Return (the decoded body, what it says), None for a body that is no JSON or states nothing."""
    return _read_text(text, 2)


def _read_text(text: str, levels: int) -> tuple[Any, ErrorDetail] | None:
    try:
        decoded = shallow(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        # The body was cut, or is nested too deep for msgspec.
        decoded = read_begun(text)
        detail = _read_layers(decoded, levels)
        return (decoded, detail) if detail.message or detail.code else None
    return decoded, _read_layers(decoded, levels)


def _read_layers(body: Any, levels: int) -> ErrorDetail:
    """Read a body; `levels` bounds how often an error is taken out of the text of another."""
    if isinstance(body, str):
        body = {"message": body}
    layers = _layers(body)
    # The innermost first.
    layers.reverse()
    detail = ErrorDetail(
        message=next((said for _, said in layers if said), ""),
        code=_first(_code, layers),
        # What is wrong with a field of the request is said by the innermost; its kind is that of the error around it.
        type=_first(_type, [layer for layer in layers if "loc" not in layer[0]]) or _first(_type, layers),
        param=_first(_param, layers),
        request_id=_first(lambda layer: _word(layer.get("requestid")), layers),
        status=_first(_stated_status, layers),
        retry_after=_first(_wait, layers),
    )
    if levels:
        _read_inside(detail, layers, levels - 1)
    if detail.retry_after is None:
        detail.retry_after = in_words(detail.message)
    return detail


def _layers(body: Any) -> list[tuple[_Layer, str]]:
    """Return the objects of a body from the outermost to the innermost, each with its message."""
    found: list[tuple[_Layer, str]] = []
    inside = body
    while len(found) < _LONGEST_CHAIN:
        layer = _object(inside)
        if layer is None:
            break
        # Of a list, every message is told (FastAPI, class-validator).
        told = _text(inside) if isinstance(inside, list) and len(inside) > 1 else ""
        # FastChat says what is wrong where its answer would be.
        names = (*_MESSAGES, "text") if layer.get("errorcode") else _MESSAGES
        found.append((layer, told or next(filter(None, (_text(layer.get(name)) for name in names)), "")))
        named = (layer[name] for name in _INSIDE if _object(layer.get(name)) is not None)
        inside = next(named, None) or _under_its_type(inside)
    return found


def _under_its_type(body: Any) -> _Layer | None:
    """Return an error that stands under its type, as Bedrock has it: {"throttlingException": {"message": ...}}."""
    for name, part in body.items() if isinstance(body, Mapping) else ():
        if isinstance(part, Mapping) and isinstance(name, str) and name.endswith("Exception"):
            return {"type": name, **part}
    return None


def _object(value: Any) -> _Layer | None:
    """Return an object, or the first one of a list, with its names made comparable."""
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, Mapping)), None)
    if not isinstance(value, Mapping):
        return None
    return {_name(name): part for name, part in value.items() if isinstance(name, str)}


def _name(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _first(read: Any, layers: Iterable[tuple[_Layer, str]]) -> Any:
    return next((value for value in (read(layer) for layer, _ in layers) if value is not None), None)


def _code(layer: _Layer) -> str | None:
    for name in _CODES:
        if (code := _word(layer.get(name))) is not None:
            return code
    own = layer.get("statuscode")
    if _status(own) is None and own != 200 and (code := _word(own)) is not None:
        # A number of the server's own.
        return code
    error = layer.get("error")
    if isinstance(error, str) and _CODE_WORD.fullmatch(error) and any(layer.get(name) for name in _MESSAGES[:3]):
        return error
    return None


def _type(layer: _Layer) -> str | None:
    # Google's status is a word: RESOURCE_EXHAUSTED.
    for name in (*_TYPES, "status"):
        kind = layer.get(name)
        if isinstance(kind, str) and not kind.isdecimal() and (word := _word(kind)) is not None:
            return word
    return None


def _param(layer: _Layer) -> str | None:
    place = layer.get("loc")
    if isinstance(place, list) and place:
        # FastAPI's: ["body", "messages", 0].
        return ".".join(str(step) for step in (place[1:] if place[0] == "body" and len(place) > 1 else place))
    return _word(layer.get("param"))


def _stated_status(layer: _Layer) -> int | None:
    return next((status for name in _STATUSES if (status := _status(layer.get(name))) is not None), None)


def _wait(layer: _Layer) -> float | None:
    """Return the wait that the fields of an object state, or of what stands beside the error in it."""
    for name, value in layer.items():
        if (wait := waits.in_field(name, value)) is not None:
            return wait
    for name in _BESIDE:
        beside = layer.get(name)
        for part in beside if isinstance(beside, list) else (beside,):
            fields = _object(part)
            if fields is None:
                continue
            headers = fields.get("headers")
            if isinstance(headers, Mapping) and (wait := _wait_in_headers(headers)) is not None:
                return wait
            for name, value in fields.items():
                if (wait := waits.in_field(name, value)) is not None:
                    return wait
    return None


def _wait_in_headers(headers: Mapping[Any, Any]) -> float | None:
    """Return the wait that headers inside a body state (OpenRouter)."""
    lowered = {str(name).lower(): str(value) for name, value in headers.items()}
    wait = waits.in_headers(lowered)
    if wait is not None:
        return wait
    resets = [
        waits.until(lowered.get(f"x-ratelimit-reset{kind}"), time.time)
        for kind in ("", "-requests", "-tokens")
        if lowered.get(f"x-ratelimit-remaining{kind}") == "0"
    ]
    return max((reset for reset in resets if reset is not None), default=None)


def _read_inside(detail: ErrorDetail, layers: Sequence[tuple[_Layer, str]], levels: int) -> None:
    """Read the error of a server behind, which is in the message of this one, or beside it as text."""
    message = detail.message
    passed_on = _UPSTREAM.match(message)
    nested = None if passed_on is None else _read_text(passed_on[1], levels)
    if nested is not None:
        detail.message = nested[1].message or message
        _add(detail, nested[1])
        return
    start = message.find('{"')
    nested = None if start < 0 else _read_text(message[start:], levels)
    if nested is not None:
        _add(detail, nested[1])
    metadata = _first(lambda layer: _object(layer.get("metadata")), layers) or {}
    raw = metadata.get("raw")
    if raw:
        # What the provider said, behind a router that says "Provider returned error".
        read = _read_text(raw, levels) if isinstance(raw, str) else (raw, _read_layers(raw, levels))
        inner = read[1] if read is not None else ErrorDetail(message=raw)
        _add(detail, inner)
        if inner.message and inner.message not in message:
            provider = metadata.get("providername")
            by = f" ({provider})" if isinstance(provider, str) and provider else ""
            detail.message = f"{message}{by}: {inner.message}" if message else inner.message


def _add(detail: ErrorDetail, inner: ErrorDetail) -> None:
    """Let the words of the error inside count before those of the one around it."""
    detail.code = inner.code or detail.code
    detail.type = inner.type or detail.type
    detail.param = inner.param or detail.param
    detail.request_id = detail.request_id or inner.request_id
    if detail.retry_after is None:
        detail.retry_after = inner.retry_after


def shallow(value: Any) -> Any:
    """Return `value` with everything below MAX_DEPTH replaced by None; itself where nothing is that deep.

    Code that works on error bodies may be recursive.
    """
    return _pruned(value, MAX_DEPTH) if is_deeper(value, MAX_DEPTH) else value


def _pruned(value: Any, levels: int) -> Any:
    if not isinstance(value, (dict, list)):
        return value
    if not levels:
        return None
    if isinstance(value, list):
        return [_pruned(item, levels - 1) for item in value]
    return {name: _pruned(item, levels - 1) for name, item in value.items()}


def _text(value: Any) -> str:
    """Return a message as text: servers send text, lists of texts (class-validator) and objects (FastAPI's detail)."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return "; ".join(filter(None, map(_text, value)))
    if isinstance(value, Mapping):
        return _text(value.get("message")) or _text(value.get("msg")) or _text(value.get("error"))
    return ""


def _word(value: Any) -> str | None:
    """Return a code or type as text; servers send strings and numbers."""
    if isinstance(value, str):
        return None if value.lower() in _EMPTY else value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        # Python refuses to write very long numbers.
        return str(value)
    return None


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) == 3:
        value = int(value)
    if isinstance(value, int) and 400 <= value <= 599:
        return value
    return None
