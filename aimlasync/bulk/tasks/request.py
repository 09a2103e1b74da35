"""One request of a job, and how it is read from a line of OpenAI's Batch API.

How a row of a table becomes a request is in `tasks` (a prompt) and `classification` (labels). It is plain data and its
reading, without I/O. The line format is that of OpenAI's Batch API, "The request input object":
{"custom_id": "...", "method": "POST", "url": "/v1/chat/completions", "body": {...}}.
A line may be the body alone, and its custom_id may be a number. It may import the names of rows and of the
parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import Annotated, Any, Literal

import msgspec

from aimlasync.bulk.input.rows import numbered_id
from aimlasync.chat.types import PARAMETERS as CHAT_PARAMETERS
from aimlasync.config import Structured
from aimlasync.responses.types import PARAMETERS as RESPONSE_PARAMETERS
from aimlasync.wire.as_sent import sendable

Api = Literal["chat", "responses"]

_APIS: dict[str, Api] = {"/chat/completions": "chat", "/responses": "responses"}
_PARAMETERS = {
    "messages": CHAT_PARAMETERS | {"model", "messages", "stream"},
    "input": RESPONSE_PARAMETERS | {"model", "input", "stream"},
}
# What names a line, and is no parameter.
_NAMES = ("custom_id", "id")


class RequestError(ValueError):
    """What is given is no request; the message says what is wrong and what to do."""


class _UsualLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line as OpenAI documents it; all of it is decoded, since what is skipped is not checked."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1)]
    body: dict[str, Any]
    method: Literal["POST"] = "POST"
    url: Literal["/v1/chat/completions", "/v1/responses"] = "/v1/chat/completions"


_usual_line = msgspec.json.Decoder(_UsualLine).decode


class Request(msgspec.Struct, gc=False):
    """What is asked for one row."""

    custom_id: str
    api: Api
    body: dict[str, Any]
    """The parameters: model, and messages or input, and whatever else."""
    structured: Structured | None = None
    """How to ask for the JSON schema in the parameters; None sends them as they are."""

    @property
    def model(self) -> str:
        """The model asked for."""
        model = self.body.get("model", "")
        return model if type(model) is str else str(model)


def is_request_line(fields: Mapping[str, Any]) -> bool:
    """Whether a row is a request: a line of OpenAI's Batch API, or the body of one."""
    return isinstance(fields.get("body"), dict) or is_body(fields)


def is_body(fields: Mapping[str, Any]) -> bool:
    """Whether a row is the parameters of a call: a model with messages or input, or nothing but parameters."""
    if isinstance(fields.get("messages"), list):
        known = _PARAMETERS["messages"]
    elif isinstance(fields.get("input"), (str, list)):
        known = _PARAMETERS["input"]
    else:
        return False
    return isinstance(fields.get("model"), str) or fields.keys() - known <= {"custom_id"}


def line_id(fields: Mapping[str, Any]) -> str | None:
    """Return the name that a request line has, a number too; None for one without. Raises RequestError."""
    name = fields.get("custom_id")
    if type(name) is str and name:
        return name
    key = next((name for name in _NAMES if name in fields), None) if is_body(fields) else "custom_id"
    if key is None or key not in fields:
        return None
    name = fields[key]
    if isinstance(name, (int, float)) and not isinstance(name, bool):
        return repr(name)
    if name is not None and not isinstance(name, str):
        raise RequestError(f'"{key}" is {name!r}; a text or a number names a request')
    if not name:
        raise RequestError(f'no "{key}"; give each request a name of its own')
    return name


def request_of_line(fields: Mapping[str, Any], model: str | None = None, row: int | None = None) -> Request:
    """Return the request of a line. Raises RequestError.

    `model` is for a body that names none, and the number of the `row` for a line that does not name itself.
    """
    custom_id, url, body = fields.get("custom_id"), fields.get("url"), fields.get("body")
    if type(custom_id) is not str or not custom_id:
        custom_id = line_id(fields) or ("" if row is None or "custom_id" in fields else numbered_id(row))
        if not custom_id:
            raise RequestError('no "custom_id"; give each request a name of its own')
    if not isinstance(body, dict):
        if not is_body(fields):
            raise RequestError(
                'no "body" with the parameters of a request; rows of a table need a PromptTask or --prompt'
            )
        url, body = None, {key: value for key, value in fields.items() if key not in _NAMES}
    if (method := fields.get("method", "POST")) != "POST" and "body" in fields and str(method).upper() != "POST":
        raise RequestError(f'"method" is {method!r}; only POST is asked in bulk')
    if url == "/v1/chat/completions":
        api: Api = "chat"
    elif url == "/v1/responses":
        api = "responses"
    else:
        api = api_of_body(body) if url is None else _api_of_url(url)
    if not (asked := body.get("model")) and model:
        body, asked = {**body, "model": model}, model
    # Mostly nothing is wrong with it.
    if api != "chat" or not asked or "stream" in body or type(body.get("messages")) is not list:
        _check_body(api, body)
    # By position, which is faster than by name.
    return Request(custom_id, api, body)


def names_of_lines(block: bytes, model: str | None) -> list[str] | None:
    """Return the names of the lines in a block of JSONL, None where one of them is not written as usual.

    `request_of_line` refuses none of the lines that are usual, and says the same names; it takes five times as long.
    """
    names: list[str] = []
    try:
        for line in map(_usual_line, BytesIO(block)):
            body = line.body
            if line.url == "/v1/responses":
                is_given = type(body["input"]) in (str, list)
            else:
                is_given = type(body["messages"]) is list
            if not is_given or body.get("stream") or not (model or body["model"]):
                return None
            names.append(line.custom_id)
    except (ValueError, RecursionError, KeyError):
        return None
    return names


def request_of(given: Request | Mapping[str, Any], number: int) -> Request:
    """Return what `bulk.map` was given as a request: one, a Batch line, or just the parameters of a call.

    Messages of earlier replies are made plain values. Raises RequestError, with the number of the request.
    """
    try:
        request = _request_of(given, number)
    except RequestError as error:
        raise RequestError(f"request {number}: {error}") from None
    name = "messages" if request.api == "chat" else "input"
    items = request.body.get(name)
    # What JSON cannot carry is the failure of this request alone, when it is encoded.
    with suppress(TypeError, RecursionError):
        if isinstance(items, (list, tuple)) and (plain := sendable(items)) is not items:
            return msgspec.structs.replace(request, body={**request.body, name: plain})
    return request


def _request_of(given: Request | Mapping[str, Any], number: int) -> Request:
    if isinstance(given, Request):
        _check_body(given.api, given.body)
        return given
    if type(given) is not dict and not isinstance(given, Mapping):
        what = f"a {type(given).__name__}, and no dict of the parameters of a call"  # type: ignore[unreachable]  # programs give what types refuse
        raise RequestError(f"{what}: {{'model': ..., 'input': ...}}")
    if "custom_id" in given and isinstance(given.get("body"), dict):
        return request_of_line(given)
    body = dict(given)
    api = api_of_body(body)
    _check_body(api, body)
    return Request(custom_id=f"row-{number}", api=api, body=body)


def api_of_body(body: Mapping[str, Any]) -> Api:
    """Return which endpoint takes these parameters. Raises RequestError when none does."""
    if "messages" in body:
        return "chat"
    if "input" in body or "prompt" in body:
        return "responses"
    raise RequestError('neither "messages" (chat/completions) nor "input" (responses); give one of them')


def check_params(params: Mapping[str, Any] | None) -> None:
    """Raises RequestError for a parameter of all calls that each row brings itself."""
    for name in params or {}:
        if (instead := _OF_ROWS.get(name)) is not None:
            what = f'"{name}" is among the parameters (--params), and would replace that of every row'
            raise RequestError(f"{what}; {instead}")


_OF_ROWS = {
    "model": "name it with --model",
    "messages": "say it with --prompt and --system",
    "input": "say it with --prompt",
    "instructions": "say it with --system",
    "stream": "leave it out, nobody would read the stream",
    "stream_options": "leave it out, nobody would read the stream",
}


def _check_body(api: Api, body: Mapping[str, Any]) -> None:
    if body.get("stream"):
        raise RequestError('"stream" is set, and nobody would read the stream; remove it')
    if not body.get("model"):
        raise RequestError('no "model" in the body; name one there, or with --model')
    if api == "chat":
        messages = body.get("messages")
        if type(messages) is not list and not isinstance(messages, (list, tuple)):
            raise RequestError('no "messages" in the body; chat/completions needs a list of them')
    elif not isinstance(body.get("input"), (str, list, tuple)) and ("input" in body or "prompt" not in body):
        raise RequestError('no "input" in the body; responses needs a text or a list there')


def _api_of_url(url: Any) -> Api:
    # Some tools write the whole address, and some leave the version out.
    path = str(url).split("?", 1)[0].rstrip("/")
    for end, api in _APIS.items():
        if path.endswith(end):
            return api
    raise RequestError(f'"url" is {url!r}; it must be /v1/chat/completions or /v1/responses')
