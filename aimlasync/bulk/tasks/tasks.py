"""What is asked about each row, and how its answer is read.

Pure. A task turns a row into a request and a reply into an answer; reading rows and writing results is the job's
business. What decides the answers is the task's `identity`: a journal is gone on with only where that is the same.
Tasks can be pickled, because they are asked in other processes and on other machines too. Imports the rows of an input
and this room.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.bulk.tasks.answer_schema import Form
from aimlasync.bulk.tasks.prompt import Prompt, as_text
from aimlasync.bulk.tasks.request import Api, Request, RequestError, request_of_line
from aimlasync.bulk.tasks.result import Answer, Read, Reply, Result, is_refused
from aimlasync.chat.types import PARAMETERS as CHAT_PARAMETERS
from aimlasync.chat.types import ChatCompletion
from aimlasync.config import Structured, close_to
from aimlasync.errors import AimlasyncError, AnswerInvalidError, AnswerRefusedError, AnswerTruncatedError
from aimlasync.responses.types import PARAMETERS as RESPONSE_PARAMETERS


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

    def identity(self) -> dict[str, Any]:
        """Return all that decides the answers, but for the rows."""

    def custom_id(self, row: Row) -> str:
        """Return the name of a row in the journal. Raises InputError."""

    def request(self, row: Row) -> Request:
        """Return what is asked about a row. Raises InputError."""

    def check(self, row: Row) -> None:
        """Raises InputError for a row that cannot be asked about."""


class BatchTask:
    """Rows that are requests already: lines of OpenAI's Batch API, chat and responses mixed."""

    def __init__(self, *, model: str | None = None, judge: bool = False) -> None:
        self.name = "input"
        self.own_ids = True
        self._model = model
        self.read: Read | None = read_any if judge else None

    def identity(self) -> dict[str, Any]:
        """Return all that decides the answers, but for the rows."""
        return {"task": "requests", "model": self._model, "judged": self.read is not None}

    def custom_id(self, row: Row) -> str:
        """Return the name of a row in the journal. Raises InputError."""
        custom_id = row.fields.get("custom_id")
        if not isinstance(custom_id, str) or not custom_id:
            raise InputError(self.name, 'no "custom_id"; give each request a name of its own', line=row.line)
        return custom_id

    def request(self, row: Row) -> Request:
        """Return what is asked about a row. Raises InputError."""
        try:
            return request_of_line(row.fields, model=self._model)
        except RequestError as error:
            what = str(error)
        raise InputError(self.name, what, line=row.line)

    def check(self, row: Row) -> None:
        """Raises InputError for a row that is no request."""
        self.request(row)


class PromptTask:
    """A prompt template filled in with the columns of each row.

    `structured` is how an answer in a `form` is asked for, by default in the surest way that the model has.
    """

    def __init__(
        self,
        *,
        prompt: str,
        model: str,
        endpoint: Api = "chat",
        system: str | None = None,
        params: Mapping[str, Any] | None = None,
        id_column: str | None = None,
        form: Form | None = None,
        structured: Structured = "auto",
        judge: bool = False,
    ) -> None:
        self.name = "input"
        self.own_ids = id_column is not None
        self.prompt = Prompt(system or "", prompt, named_text=False)
        self._needed = self.prompt.columns()
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
        }

    def check_columns(self, columns: list[str]) -> None:
        """Raises PromptError or InputError for a name that is no column."""
        self.prompt.check(columns)
        if self.id_column is not None and self.id_column not in columns:
            raise InputError(self.name, f"no column {self.id_column!r} for --id; there are: {', '.join(columns)}")

    def custom_id(self, row: Row) -> str:
        """Return the name of a row in the journal. Raises InputError."""
        return row.custom_id if self.id_column is None else id_of(row, self.id_column, self.name)

    def request(self, row: Row) -> Request:
        """Return what is asked about a row."""
        return Request(
            custom_id=self.custom_id(row),
            api=self.endpoint,
            body=body_of(
                self.endpoint, self.model, self.prompt.system, self.prompt.user("", row.fields), params=self._params
            ),
            structured=self._structured,
        )

    def check(self, row: Row) -> None:
        """Raises InputError for a row that lacks a column."""
        for name in self._needed:
            if name not in row.fields:
                raise InputError(self.name, f"no {name!r} in this row; every row needs it", line=row.line)


def id_of(row: Row, column: str, name: str) -> str:
    """Return the id in a column. Raises InputError where it is empty."""
    value = as_text(row.fields.get(column))
    if not value:
        raise InputError(name, f"{column!r} is empty; every row needs an id", line=row.line)
    return value


def checked_params(endpoint: Api, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the parameters as they were given. Raises ValueError for one that is a known one misspelt.

    Others are sent, whatever they are called: servers have parameters of their own.
    """
    known = CHAT_PARAMETERS if endpoint == "chat" else RESPONSE_PARAMETERS
    for name in params or ():
        if name not in known and (hint := close_to(name, known)):
            raise ValueError(f"params: unknown parameter {name!r}{hint}")
    return dict(params or {})


def body_of(
    endpoint: Api,
    model: str,
    system: str,
    user: str,
    *,
    shots: list[dict[str, str]] | None = None,
    params: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the parameters of a call that asks `user` under `system`, after `shots` (earlier messages)."""
    messages = [*(shots or ()), {"role": "user", "content": user}]
    if endpoint == "responses":
        body: dict[str, Any] = {"model": model, "input": messages if shots else user}
        if system:
            body["instructions"] = system
    else:
        body = {"model": model, "messages": [{"role": "system", "content": system}, *messages] if system else messages}
    if params:
        body.update(params)
    return body


def read_any(reply: Reply) -> Answer:
    """Accept any answer that is neither refused nor truncated nor empty. Raises AnswerError."""
    _check_reply(reply)
    return Answer()


def _read_form(form: Form, reply: Reply) -> Answer:
    form.read(reply)
    return Answer()


def _check_reply(reply: Reply) -> None:
    if isinstance(reply, ChatCompletion):
        cut = reply.truncated
        empty = not any(choice.message.content or choice.message.tool_calls for choice in reply.choices)
    else:
        cut = reply.truncated or reply.status == "incomplete"
        empty = not (reply.output_text or reply.output)
    if is_refused(reply):
        raise AnswerRefusedError("the model refused", reply=reply, raw=reply.raw, info=reply.info)
    if cut:
        raise AnswerTruncatedError("the answer was cut by an output cap", reply=reply, raw=reply.raw, info=reply.info)
    if empty:
        raise AnswerInvalidError("the answer is empty", reply=reply, raw=reply.raw, info=reply.info)
