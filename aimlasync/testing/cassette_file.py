"""The file of a cassette: JSON lines, one exchange each, written to be read in a diff.

Keys are sorted. A body that is JSON stands there as JSON, and a stream as the list of its events. No request header is
written, and no key in any form that `wire.redaction` knows. It may import `headers`, `wire` and the client's parts.
"""

from __future__ import annotations

import base64
import codecs
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlsplit

import msgspec

from aimlasync.client.passthrough import end_to_end
from aimlasync.headers import secrets_in
from aimlasync.wire.redaction import Secrets

FORMAT = 1

HIDDEN = ("api-key", "authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key")
"""Headers that are in no cassette, nor is their value where a server echoes it."""

# Names of keys in a query. Who has a signed address of an image may read the image.
_SIGNED = ("sig", "signature", "x-amz-security-token", "x-amz-signature", "x-goog-signature")
_KEYS = ("access-token", "api-key", "apikey", "code", "key", "subscription-key", "token", *_SIGNED)

# Names of keys in a body; "key" or "token" are also names of what is no secret there.
_KEYS_IN_BODIES = ("access-token", "apikey", "client-secret", "password")

# Seconds for which the turn to write a file is waited for.
_PATIENCE = 10.0

_encode = msgspec.json.Encoder(order="sorted").encode
# A text that is an address as a whole.
_ADDRESS = re.compile(r"https?://\S+\Z", re.IGNORECASE)
_BLOCK = re.compile(rb"\r\n\r\n|\n\n|\r\r")
# What a body that is no JSON is the only value of.
_WRAPPED = ("base64", "text")
_BOUNDARY = re.compile(rb"--([^\r\n]{1,70})\r\nContent-(?:Disposition|Type|Length): ", re.IGNORECASE)
_FIELDS = ("data", "event", "id", "retry")


class CassetteFileError(ValueError):
    """The file is no cassette, or is of a newer version."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was asked: the body is JSON, else {"text": ...} or {"base64": ...}; None without one."""

    method: str
    url: str
    body: Any = None


class Reply(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What came: a body, or the events of a stream; `broken` says why there was no more of it."""

    status: int = 0
    headers: dict[str, str] = {}
    body: Any = None
    events: list[dict[str, Any]] | None = None
    broken: str | None = None
    error: str | None = None
    """The message of a connection that could not be made; there was no response."""


class Exchange(msgspec.Struct, forbid_unknown_fields=True):
    """A request and its reply."""

    request: Request
    response: Reply


class _Head(msgspec.Struct):
    cassette: int


def check_place(path: str) -> None:
    """Raise CassetteFileError where a cassette would take the place of what is no file, such as a device."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise CassetteFileError(f"{path}: neither a file nor free for one; name another")


def check_writable(path: str) -> None:
    """Raise CassetteFileError where nothing could be recorded, since that is found out when all is paid for."""
    place = os.path.dirname(os.path.realpath(path)) if path else ""
    while place and not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place) or not os.access(place, os.W_OK):
        raise CassetteFileError(f"{path!r}: no file can be made there, and nothing recorded; name another place")


def read(path: str) -> list[Exchange]:
    """Return the exchanges of a file. Raises FileNotFoundError, CassetteFileError."""
    with open(path, "rb") as file:
        # An editor may have put a byte order mark before it.
        lines = [line for line in file.read().removeprefix(codecs.BOM_UTF8).splitlines() if line.strip()]
    try:
        head = msgspec.json.decode(lines[0], type=_Head) if lines else _Head(FORMAT)
    except (ValueError, RecursionError):
        raise CassetteFileError(f'{path}: no cassette; its first line should be {{"cassette":{FORMAT}}}') from None
    if head.cassette > FORMAT:
        raise CassetteFileError(
            f"{path}: a cassette of format {head.cassette}, and this version knows {FORMAT}; upgrade"
        )
    found = []
    for number, line in enumerate(lines[1:], 2):
        try:
            found.append(msgspec.json.decode(line, type=Exchange))
            _check(found[-1])
        except (ValueError, RecursionError) as error:
            raise CassetteFileError(f"{path}: line {number} is no exchange: {error}") from None
    return found


def _check(exchange: Exchange) -> None:
    """Raise ValueError for what nobody records, and an editor may have left."""
    reply = exchange.response
    if reply.error is None and not 100 <= reply.status <= 999:
        raise ValueError(f"no status, nor the `error` of a connection that was not made, but {reply.status}")
    if reply.events is not None and reply.body is not None:
        raise ValueError("both a `body` and the `events` of a stream")
    for value in (exchange.request.body, reply.body):
        bytes_of(value)
    for event in reply.events or ():
        if odd := event.keys() - {"comment", "text", *_FIELDS}:
            raise ValueError(f"an event of a stream has no field {min(odd)!r}")


State = tuple[int, int, int] | None
"""What a change of a file changes; None where there is none."""


def state_of(path: str) -> State:
    """Return the state of a file."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def write(path: str, known: Sequence[Exchange], own: Sequence[Exchange], seen: State) -> None:
    """Write the file anew: `known`, and `own` after them. It appears whole, where the path is a link behind that.

    Where the file is not as it was `seen`, another process has written it: then all that is there stays, in place of
    `known`, unless it is no cassette any more. Waits while another process writes. Raises CassetteFileError, also where
    one was killed there.
    """
    path = os.path.realpath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = f"{path}.writing"
    with _turn(beside) as file:
        if state_of(path) != seen:
            with suppress(FileNotFoundError, CassetteFileError):
                known = read(path)
        for line in (_Head(FORMAT), *known, *own):
            file.write(_encode(line) + b"\n")
        file.close()
        os.replace(beside, path)


@contextmanager
def _turn(beside: str) -> Iterator[BinaryIO]:
    """Make the file that one process at a time can make; it is gone afterwards."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            file = open(beside, "xb")  # noqa: SIM115
            break
        except FileExistsError:
            if time.monotonic() >= until:
                said = f"{beside}: another process is writing this cassette, or was killed there; then remove the file"
                raise CassetteFileError(said) from None
        time.sleep(0.01)
    try:
        with file:
            yield file
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


# What is hidden


def secrets_of(url: str, headers: Iterable[Mapping[str, str]], body: bytes | None, hidden: frozenset[str]) -> list[str]:
    """Return the values of a request that may not be shown: of `hidden` headers, and of keys in query and body."""
    found = [value for each in headers for value in secrets_in(each, hidden)]
    _add_keys_of_url(url, (*_KEYS, *hidden), found)
    if body is not None:
        _add_keys(value_of(body), hidden, found)
    return found


def _add_keys_of_url(url: str, names: Collection[str], found: list[str]) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.password:
        found.append(parts.password)
    for name, value in parse_qsl(parts.query):
        if name.lower().replace("_", "-") in names:
            found.append(value)


def _add_keys(value: Any, hidden: frozenset[str], found: list[str]) -> None:
    """Add the keys in a body: for this server, for an MCP server, or in the address of an image or a file."""
    if isinstance(value, dict):
        for name, inner in value.items():
            spelled = name.lower().replace("_", "-")
            if isinstance(inner, str) and spelled in (*_KEYS_IN_BODIES, *hidden):
                found += secrets_in({spelled: inner}, (spelled,))
            elif isinstance(inner, str) and spelled == "server-url":
                _add_keys_of_url(inner, (*_KEYS, *hidden), found)
            else:
                _add_keys(inner, hidden, found)
    elif isinstance(value, str):
        if _ADDRESS.match(value) is not None:
            # A page may have a `code` or a `key` that is none.
            _add_keys_of_url(value, (*_SIGNED, *hidden), found)
    elif isinstance(value, list):
        for inner in value:
            _add_keys(inner, hidden, found)


def request_of(method: str, url: str, body: bytes | None, secrets: Secrets) -> Request:
    """Return a request as it is written and compared."""
    # The text between the parts of a form is random.
    if body is not None and (between := _BOUNDARY.match(body)) is not None:
        body = body.replace(between[1], b"boundary")
    return Request(method, secrets.without(url), None if body is None else value_of(secrets.cut_from(body)))


def headers_of(headers: Mapping[str, str], secrets: Secrets, hidden: frozenset[str]) -> dict[str, str]:
    """Return what is written of the headers of a response."""
    kept = {name.lower(): value for name, value in end_to_end(headers).items() if name.lower() not in hidden}
    return {name: str(secrets.without(value)) for name, value in kept.items()}


# Bodies


def value_of(body: bytes) -> Any:
    """Return a body as JSON: itself, or an object that says what it is."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        pass
    else:
        # What reads like {"text": ...} below is written as text, so that it comes again as it was.
        if isinstance(value, (dict, list)) and not _is_wrapped(value):
            return value
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


def bytes_of(value: Any) -> bytes:
    """Return the body that a value is."""
    if _is_wrapped(value):
        ((kind, text),) = value.items()
        return text.encode() if kind == "text" else base64.b64decode(text)
    return b"" if value is None else _encode(value)


def _is_wrapped(value: Any) -> bool:
    return isinstance(value, dict) and any(value.keys() == {name} and isinstance(value[name], str) for name in _WRAPPED)


def events_of(body: bytes, *, is_whole: bool) -> list[dict[str, Any]]:
    """Return the events of a stream; what is not one is kept as {"text": ...}, and the half of one is left out."""
    blocks = _BLOCK.split(body)
    return [_event_of(block) for block in (blocks if is_whole else blocks[:-1]) if block]


def _event_of(block: bytes) -> dict[str, Any]:
    event: dict[str, Any] = {}
    for line in block.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        name = name if name else "comment"
        if not colon or name in event or name not in (*_FIELDS, "comment"):
            return {"text": block.decode("utf-8", "replace")}
        value = value.removeprefix(" ")
        if name == "data" and value[:1] in ("{", "["):
            try:
                event[name] = msgspec.json.decode(value)
                continue
            except (ValueError, RecursionError):
                pass
        event[name] = value
    return event


def bytes_of_event(event: Mapping[str, Any]) -> bytes:
    """Return an event as it is sent."""
    if isinstance(text := event.get("text"), str):
        return f"{text}\n\n".encode()
    lines = [f": {event['comment']}".encode()] if "comment" in event else []
    for name in ("event", "id", "retry", "data"):
        if name in event:
            value = event[name]
            text = value if isinstance(value, str) else _encode(value).decode()
            lines += [f"{name}: {line}".encode() for line in text.split("\n")]
    return b"\n".join(lines) + b"\n\n"


# What is compared

PARTS = ("method", "host", "path", "query", "body")
"""What of two requests may be compared."""


def part_of(request: Request, part: str) -> Any:
    """Return one of PARTS."""
    if part == "method":
        return request.method
    if part == "body":
        return request.body
    url = urlsplit(request.url)
    if part == "host":
        return url.netloc
    return url.path if part == "path" else sorted(parse_qsl(url.query, keep_blank_values=True))
