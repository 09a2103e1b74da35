"""Tasks: each turns a row into a request (`request`), and a reply into an answer (`read`).

`PromptTask` fills in a prompt with the columns of a row, `BatchTask` takes rows that are requests already, and
`classification` has the task with labels. Reading rows and writing results is the job's business. A task's `identity`
holds all that decides its answers; a job continues a journal only where that is the same. A task can be pickled, since
it is used in other processes and on other machines too. Pure functions. It may import the rows of an input and this
room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from aimlasync.bulk.input.columns import column_of, value_of
from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.bulk.input.values import json_value
from aimlasync.bulk.tasks.answer_schema import Form
from aimlasync.bulk.tasks.images import check_image_columns, check_images, image_urls
from aimlasync.bulk.tasks.messages import conversation, user_content
from aimlasync.bulk.tasks.prompt import Prompt, as_text, listed
from aimlasync.bulk.tasks.request import (
    Api,
    Request,
    RequestError,
    check_params,
    line_id,
    names_of_lines,
    request_of_line,
)
from aimlasync.bulk.tasks.result import Answer, Flaw, Read, Reply, Result, flaw_of
from aimlasync.bulk.tasks.text_column import needed_value
from aimlasync.chat.types import PARAMETERS as CHAT_PARAMETERS
from aimlasync.config import Structured
from aimlasync.errors import AimlasyncError, AnswerError, AnswerInvalidError, AnswerRefusedError, AnswerTruncatedError
from aimlasync.responses.types import PARAMETERS as RESPONSE_PARAMETERS
from aimlasync.spelling import close_to, spelled


class EmptyTextError(AimlasyncError):
    """The row has no text; nothing was sent."""


def empty_result(task: Task, row: Row, error: EmptyTextError) -> Result:
    """Return what becomes of a row that nothing was sent for."""
    return Result(Request(custom_id=task.custom_id(row), api="chat", body={}), error=error, row=row, calls=0)


class Task(Protocol):
    """What a job does to each of its rows."""

    name: str
    """The name of the input, for errors; the job sets it."""
    own_ids: bool
    """Whether the rows have ids of their own, which might not be unique."""
    read: Read | None
    """None accepts every reply."""
    columns: Sequence[str]
    """The columns of the input that decide what is asked about a row, and so its answer."""

    def identity(self) -> dict[str, Any]:
        """Return all that decides the answers, but for the rows."""

    def custom_id(self, row: Row) -> str:
        """Return the name of a row in the journal. Raises InputError."""

    def request(self, row: Row) -> Request:
        """Return what is asked about a row. Raises InputError."""

    def check(self, row: Row) -> str | None:
        """Raises InputError for a row that cannot be asked about. May return its `custom_id`, where that is known."""


class BatchTask:
    """Rows that are requests already: lines of OpenAI's Batch API or their bodies alone, chat and responses mixed."""

    @spelled
    def __init__(self, *, model: str | None = None, judge: bool = False) -> None:
        self.name = "input"
        self.own_ids = True
        self.columns: Sequence[str] = ("url", "body")
        self._model = model
        self.read: Read | None = read_any if judge else None

    def identity(self) -> dict[str, Any]:
        """Return all that decides the answers, but for the rows."""
        return {"task": "requests", "model": self._model, "judged": self.read is not None}

    def custom_id(self, row: Row) -> str:
        """Return the name of a row in the journal. Raises InputError."""
        name = row.fields.get("custom_id")
        if type(name) is str and name:
            return name
        try:
            return line_id(row.fields) or row.custom_id
        except RequestError as error:
            what = str(error)
        raise InputError(self.name, what, line=row.line)

    def request(self, row: Row) -> Request:
        """Return what is asked about a row. Raises InputError."""
        try:
            return request_of_line(row.fields, self._model, row.number)
        except RequestError as error:
            what = str(error)
        raise InputError(self.name, what, line=row.line)

    def check(self, row: Row) -> str | None:
        """Return the name of a row. Raises InputError for one that is no request."""
        return self.request(row).custom_id

    def names_of(self, block: bytes) -> list[str] | None:
        """Return the names of the rows in a block of lines that are all requests; None where they must be checked."""
        return names_of_lines(block, self._model)


class PromptTask:
    """A prompt template filled in with the columns of each row, with the images that other columns name.

    Without a `prompt` the column `messages` holds the conversation.
    `structured` is how an answer in a `form` is asked for, by default in the surest way that the model has.
    """

    @spelled
    def __init__(
        self,
        *,
        prompt: str | None = None,
        messages: str | None = None,
        images: Sequence[str] = (),
        model: str,
        endpoint: Api = "chat",
        system: str | None = None,
        params: Mapping[str, Any] | None = None,
        id_column: str | None = None,
        form: Form | None = None,
        structured: Structured = "auto",
        judge: bool = False,
    ) -> None:
        if (prompt is None) == (messages is None):
            raise ValueError("give prompt= or messages=")
        if messages is not None and images:
            raise ValueError("messages= brings its own images; leave images= out")
        self.name = "input"
        self.own_ids = id_column is not None
        self.prompt = Prompt(
            system or "",
            prompt or "",
            named_text=False,
            may_be_fixed=messages is not None or bool(images),
            fills_system=True,
        )
        self.messages = messages
        self.images = list(images)
        self._needed = self.prompt.columns()
        self.columns: Sequence[str] = [*self._needed, *self.images, *([] if messages is None else [messages])]
        self.model = model
        self.endpoint: Api = endpoint
        self._said = checked_params(endpoint, params)
        self._params = {**(form.params(endpoint) if form is not None else {}), **self._said}
        self.id_column = id_column
        self._form = form
        self._structured = None if form is None else structured
        self.read: Read | None = read_any if judge else None
        if form is not None:
            self.read = partial(_read_form, form)

    def identity(self) -> dict[str, Any]:
        """Return all that decides the answers, but for the rows."""
        return {
            "task": "prompt",
            "model": self.model,
            "endpoint": self.endpoint,
            "system": self.prompt.system,
            "prompt": self.prompt.template,
            "parameters": self._said,
            "form": None if self._form is None else self._form.identity,
            "id": self.id_column,
            "judged": self.read is not None,
            **({} if self.messages is None else {"messages": self.messages}),
            **({"images": self.images} if self.images else {}),
        }

    def check_columns(self, columns: list[str]) -> None:
        """Raises PromptError or InputError for a name that is no column."""
        self.prompt.check(columns)
        check_id_column(self.id_column, columns, self.name)
        check_image_columns(self.images, columns, self.name)

    def custom_id(self, row: Row) -> str:
        """Return the name of a row in the journal. Raises InputError."""
        return row.custom_id if self.id_column is None else id_of(row, self.id_column, self.name)

    def request(self, row: Row) -> Request:
        """Return what is asked about a row. Raises InputError, or EmptyTextError where its columns are empty."""
        if self.messages is not None:
            turns = conversation(row, self.messages, self.name)
        else:
            images = image_urls(row, self.images, self.name) if self.images else ()
            if not images and _is_empty(row.fields, self._needed):
                raise EmptyTextError("the columns of the prompt are empty, so nothing was sent", billed=False)
            turns = [{"role": "user", "content": user_content(self.prompt.user("", row.fields), images, self.endpoint)}]
        body = body_of(self.endpoint, self.model, self.prompt.system_for("", row.fields), turns, params=self._params)
        return Request(custom_id=self.custom_id(row), api=self.endpoint, body=body, structured=self._structured)

    @property
    def checks_columns_alone(self) -> bool:
        """Whether `check` says the same of all rows of a table that have its columns, whatever is in them."""
        return type(self) is PromptTask and self.messages is None and not self.images

    def check(self, row: Row) -> None:
        """Raises InputError for a row that lacks a column, or an image."""
        if self.messages is not None:
            conversation(row, self.messages, self.name)
        for name in self._needed:
            if name not in row.fields:
                needed_value(row, name, self.name)
        if self.images:
            check_images(row, self.images, self.name)


def _is_empty(fields: dict[str, Any], names: list[str]) -> bool:
    for name in names:
        value = fields[name] if name in fields else value_of(fields, name)
        if (value if type(value) is str else as_text(value)).strip():
            return False
    return True


def is_named(task: Task, row: Row) -> bool:
    """Whether a row is known by an id of its own, and not by its number."""
    return task.own_ids and not (isinstance(task, BatchTask) and line_id(row.fields) is None)


def check_id_column(column: str | None, columns: Sequence[str], name: str) -> None:
    """Raises InputError for an id that is no column of the input `name`."""
    if column is not None and column_of(columns, column) is None:
        raise InputError(name, f"no column {column!r} for --id; there are: {listed(columns, column)}")


def id_of(row: Row, column: str, name: str) -> str:
    """Return the id in a column. Raises InputError where it is empty or not there."""
    value = as_text(value_of(row.fields, column))
    if not value:
        if column_of(list(row.fields), column) is None:
            what = f"no column {column!r} for the id; there are: {listed(list(row.fields), column)}"
            raise InputError(name, what, line=row.line)
        raise InputError(name, f"{column!r} is empty; every row needs an id", line=row.line)
    return value


def checked_params(endpoint: Api, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the parameters with values that JSON knows, such as a number for one of numpy.

    Raises RequestError for a known one misspelt, or one of rows.
    Others are sent, whatever they are called: servers have parameters of their own.
    """
    check_params(params)
    known = CHAT_PARAMETERS if endpoint == "chat" else RESPONSE_PARAMETERS
    for name in params or ():
        if name not in known and (hint := close_to(name, known)):
            raise RequestError(f"params: unknown parameter {name!r}{hint}")
    checked: dict[str, Any] = json_value(dict(params or {}))
    return checked


def body_of(
    endpoint: Api,
    model: str,
    system: str,
    messages: list[dict[str, Any]],
    *,
    params: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the parameters of a call that says `messages` under `system`."""
    if endpoint == "responses":
        only = messages[0] if len(messages) == 1 else {}
        text = only.get("content") if only.keys() == {"role", "content"} and only["role"] == "user" else None
        body: dict[str, Any] = {"model": model, "input": text if isinstance(text, str) else messages}
        if system:
            body["instructions"] = system
    else:
        body = {"model": model, "messages": [{"role": "system", "content": system}, *messages] if system else messages}
    if params:
        body.update(params)
    return body


def read_any(reply: Reply) -> Answer:
    """Accept any answer that is neither refused nor truncated nor empty. Raises AnswerError."""
    if (flaw := flaw_of(reply)) is not None:
        kind, what = _FLAWS[flaw]
        raise kind(what, reply=reply, raw=reply.raw, info=reply.info)
    return Answer()


_FLAWS: Mapping[Flaw, tuple[type[AnswerError], str]] = {
    "refused": (AnswerRefusedError, "the model refused"),
    "cut": (AnswerTruncatedError, "the answer was cut by an output cap"),
    "failed": (AnswerInvalidError, "the server broke the answer off"),
    "empty": (AnswerInvalidError, "the answer is empty"),
}


def _read_form(form: Form, reply: Reply) -> Answer:
    form.read(reply)
    return Answer()
