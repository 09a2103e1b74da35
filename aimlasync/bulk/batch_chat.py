"""`BatchChat`: a function from a batch of rows to the same rows with answers, for engines such as Ray Data and Spark.

It knows no engine and imports none. It can be pickled and then holds no key: keys are read from the environment of the
process that makes the calls. A row never raises: its result or error is in its columns. The request and the reading of
an answer are a task's; columns are in `batch_columns`, clients in `loop_clients`, and cached answers in `answer_store`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import msgspec

from aimlasync.bulk.answer_store import key_of, record_for, scope_of
from aimlasync.bulk.batch_columns import column_names, column_of, json_values, with_columns
from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.bulk.input.values import json_value
from aimlasync.bulk.input.written_json import read_json
from aimlasync.bulk.jobs.ask_one import asking
from aimlasync.bulk.jobs.stop_rules import STOP_GRACE, StopRules
from aimlasync.bulk.jobs.worker_pool import MAX_WAITING, WORKERS, WorkerPool
from aimlasync.bulk.journal.convert import record_of
from aimlasync.bulk.journal.record import Facts, Failure, Record, encode_record
from aimlasync.bulk.loop_clients import ClientOptions, in_background
from aimlasync.bulk.output.layout import RESULTS, Outcome
from aimlasync.bulk.output.parquet_table import Kind
from aimlasync.bulk.progress.progress import limited_by
from aimlasync.bulk.tasks.answer_schema import Form, form_of, form_of_schema
from aimlasync.bulk.tasks.classification import ClassifyTask, Shot
from aimlasync.bulk.tasks.messages import without_nulls
from aimlasync.bulk.tasks.prompt import listed
from aimlasync.bulk.tasks.request import Api, Request, RequestError
from aimlasync.bulk.tasks.tasks import BatchTask, EmptyTextError, PromptTask, Task, empty_result, id_of
from aimlasync.config import Limits, Structured, Timeout
from aimlasync.errors import AimlasyncError, ClientClosedError
from aimlasync.resilience.retry import Retry
from aimlasync.spelling import spelled
from aimlasync.store import Store, open_store
from aimlasync.store.protocol import if_reachable

if TYPE_CHECKING:
    from aimlasync.client.client import AsyncClient

B = TypeVar("B")
T = TypeVar("T")

RECORD = "record"
"""Of `add`: the line that a journal would have for the row."""


class BatchChat:
    """Asks about each row of a batch: `await chat(batch)`, or `chat.sync(batch)` where there is no event loop.

    What is asked: `labels` to choose from, a `prompt` template with {column} in it, or both; `schema` (a JSON schema,
    or a type) for answers in a form; `messages`, the column of whole conversations, or of `input` for responses;
    without any of these the rows are lines of OpenAI's Batch API. `task` is any of them ready made.

    A batch is a dict of lists or arrays, a frame of pandas or polars, an Arrow table or record batch, and so is what
    comes back, with columns of the same types for every batch (`multi` labels are lists, of dtype object in pandas):
    those of `add`, column -> what is in it: custom_id, ok, answer, label, confidence, error, error_message, status,
    attempts, tokens_in, tokens_out, cost_usd, seconds, model, request_id, finish_reason, or record, a journal's line.

    `limits` are those of each process; with a `quota` they are the account's, which all processes keep together: it is
    what makes one in each process, such as `functools.partial(RedisQuota, url, name=...)`. `store`, also as the path or
    URL that `open_store` takes, keeps good answers by what was asked: rows that are in it are not asked again. `family`
    names servers that answer alike; without it answers of one base URL are no answers of another.
    `id_column` names the rows. `key_env` names the environment variable that holds the key in each process, for a
    `base_url` that is no vendor's. `stop=True` raises the error that every row would meet (a bad key, no credit, a
    server that is gone); otherwise it is in their columns.

    Raises InputError, PromptError or AimlasyncError for what is wrong with all rows: no such column, no key.
    """

    @spelled
    def __init__(
        self,
        *,
        model: str | None = None,
        prompt: str | None = None,
        labels: Sequence[str] | Mapping[str, str] | None = None,
        schema: Mapping[str, Any] | type[Any] | None = None,
        messages: str | None = None,
        task: Task | None = None,
        text: str = "text",
        system: str | None = None,
        multi: bool = False,
        shots: Sequence[Shot] = (),
        confidence: bool = False,
        params: Mapping[str, Any] | None = None,
        structured: Structured = "auto",
        endpoint: Api = "chat",
        id_column: str | None = None,
        add: Mapping[str, str] | None = None,
        base_url: str | None = None,
        key_env: str | None = None,
        allow_http: bool = False,
        limits: Limits | None = None,
        quota: Callable[[], Any] | None = None,
        timeout: Timeout | float | None = None,
        retry: Retry | None = None,
        retry_invalid: int = 0,
        store: Store | str | None = None,
        family: str | None = None,
        stop: bool = False,
    ) -> None:
        asks = {"prompt": prompt, "labels": labels, "schema": schema}
        if messages is not None and (said := [name for name, value in asks.items() if value is not None]):
            raise ValueError(f"messages= is what is asked already; leave {said[0]}= out")
        judge = retry_invalid > 0
        form = None if schema is None else form_of(schema) if isinstance(schema, type) else _form(schema)
        if task is not None:
            self.task = task
        elif not (model or (messages is None and not any(asks.values()))):
            raise ValueError("which model? Say so with model=")
        elif labels is not None or (form is not None and prompt is None):
            self.task = ClassifyTask(
                model=model or "",
                labels=labels,
                form=form,
                text=text,
                endpoint=endpoint,
                prompt=prompt or "{text}",
                system=system,
                multi=multi,
                shots=shots,
                confidence=confidence,
                params=params,
                structured=structured,
                id_column=id_column,
            )
        elif prompt is not None:
            self.task = PromptTask(
                prompt=prompt,
                model=model or "",
                endpoint=endpoint,
                system=system,
                params=params,
                structured=structured,
                id_column=id_column,
                form=form,
                judge=judge,
            )
        else:
            self.task = BatchTask(model=model, judge=judge)
        self.task.name = "batch"
        self.add = dict(add) if add is not None else _default_columns(self.task)
        for column, fact in self.add.items():
            if fact != RECORD and fact not in RESULTS:
                raise ValueError(f"add: {column!r} shall be {fact!r}; known are {', '.join([*RESULTS, RECORD])}")
        self.store = None if store is None else open_store(store)
        self.stop = stop
        # What asks now, and the copy of the client that it asks through: what `drain` stops.
        self._at_work: set[tuple[WorkerPool[int, None], AsyncClient]] = set()
        self._is_drained = False
        # Of all batches, since each alone may be too short to show that a server is gone.
        self._rules = StopRules(alike=not isinstance(self.task, BatchTask))
        self._messages = messages
        self._params = json_value(dict(params or {}))
        self._model = model
        self._api: Api = endpoint
        self._id_column = id_column if task is None else getattr(task, "id_column", None)
        # Rows without an id are named by a digest of their request, because numbers would repeat in each batch.
        self._has_ids = id_column is not None if messages is not None else self.task.own_ids
        self._retry_invalid = retry_invalid
        self._client_options = ClientOptions(
            base_url=base_url,
            key_env=key_env,
            allow_http=allow_http,
            limits=limits,
            timeout=timeout,
            retry=retry,
            quota=quota,
            store=self.store,
            family=family,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_at_work": set()}

    def __repr__(self) -> str:
        return f"<BatchChat {self.task.identity()['task']} adds {', '.join(self.add)}>"

    async def __call__(self, batch: B) -> B:
        """Return `batch` with the columns of `add`, in the same order and of the same kind."""
        names = column_names(batch)
        fields = self._fields(batch, names)
        for column in self.add:
            if column in names:
                raise InputError("batch", f"there is a column {column!r} already; name another in add=")
        asked = [self._request(row) for row in fields]
        answers = iter(await self.records([each for each in asked if isinstance(each, Request)]))
        records = [next(answers) if isinstance(each, Request) else each for each in asked]
        outcomes = [Outcome(record.custom_id, record) for record in records]
        whole: B = with_columns(batch, {column: self._column(fact, outcomes) for column, fact in self.add.items()})
        return whole

    def sync(self, batch: B) -> B:
        """Do the same where no event loop runs: Dask's `map_partitions`, `datasets.map`, a pandas frame at hand."""
        return in_background(self(batch))

    def frames(self, frames: Iterable[B]) -> Iterator[B]:
        """Do the same to each of many: Spark's `mapInPandas(chat.frames, schema)`."""
        for frame in frames:
            yield self.sync(frame)

    @property
    def client(self) -> AsyncClient:
        """The client of this event loop. Raises AimlasyncError without a key."""
        return self._client_options.client().client

    def activity(self) -> tuple[int, str]:
        """Return the calls at a server of this event loop's client, and what most others wait for, else "input"."""
        endpoints = self.client.statistics()
        return sum(endpoint.in_flight for endpoint in endpoints), limited_by(endpoints, 0, 1) or "input"

    def drain(self) -> None:
        """Send nothing more: calls in flight finish, and batches with a row that was not sent raise ClientClosedError.

        With a `store` the answers of such batches are kept. For a handler of SIGTERM, in the event loop that asks.
        """
        self._is_drained = True
        for pool, client in self._at_work:
            pool.stop()
            client.drain()

    async def records(
        self, requests: Sequence[Request], *, seen: Callable[[int, Record], object] | None = None
    ) -> list[Record]:
        """Return what became of each request, in their order: from the store, or by asking.

        `seen` is given the position and the record of each as soon as it is there. Raises ClientClosedError after
        `drain`, once what was sent is there.
        """
        found = self._client_options.client()
        client = found.client.with_options()
        keys: list[str] = []
        if self.store is not None:
            scope = scope_of(self.task.identity(), found.server)
            keys = [key_of(scope, request) for request in requests]
        records = await self._stored(requests, keys)
        rules = self._rules
        rules.succeeded = rules.succeeded or any(records)
        fatal: list[AimlasyncError] = []
        if seen is not None:
            for at, record in enumerate(records):
                if record is not None:
                    seen(at, record)

        ask = asking(client, read=self.task.read, retry_invalid=self._retry_invalid)

        async def do(at: int) -> None:
            result = await ask(requests[at])
            record = record_of(result)
            if self.store is not None and record.error is None:
                await if_reachable(self.store, self.store.put(keys[at], encode_record(record)))
            records[at] = record
            if seen is not None:
                seen(at, record)
            if self.stop and (error := rules.check(result.error)) is not None and not fatal:
                fatal.append(error)
                pool.stop()
                # Calls in flight may be paid for already; those that are tried again would go on for a minute.
                asyncio.get_running_loop().call_later(STOP_GRACE, pool.cancel)

        missing = [at for at, record in enumerate(records) if record is None]
        pool = WorkerPool(
            missing,
            do,
            workers=max(1, min(len(missing), WORKERS)),
            may_take=lambda: client.takes_more(MAX_WAITING),
            on_result=lambda at, _: None,
            # What a drained client has not sent.
            unsent=(ClientClosedError,),
        )
        at_work = (pool, client)
        self._at_work.add(at_work)
        if self._is_drained:
            pool.stop()
        try:
            async with pool:
                await pool.wait()
        finally:
            self._at_work.discard(at_work)
        if fatal:
            raise fatal[0]
        if self._is_drained and not all(records):
            raise ClientClosedError("this BatchChat was drained, and rows of the batch were not sent")
        return [record for record in records if record is not None]

    async def close(self) -> None:
        """Close the client of this event loop, for all copies that ask in the same way; a later batch opens another."""
        await self._client_options.close()
        if self.store is not None:
            await self.store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _stored(self, requests: Sequence[Request], keys: Sequence[str]) -> list[Record | None]:
        if self.store is None or not requests:
            return [None] * len(requests)
        found = await if_reachable(self.store, self.store.get(keys))
        return [
            None if value is None else record_for(value, request)
            for value, request in zip(found or [None] * len(requests), requests, strict=True)
        ]

    def _fields(self, batch: Any, names: list[str]) -> list[dict[str, Any]]:
        """Return the rows as dicts of the columns that are asked about, as JSON values. Raises InputError."""
        task = self.task
        if self._messages is not None:
            needed = [self._messages]
        elif isinstance(task, ClassifyTask):
            task.prompt.check(names)
            needed = [*task.columns]
        elif isinstance(task, PromptTask):
            needed = [*task.prompt.columns(), *task.images]
        else:
            needed = ["custom_id", "body", *(name for name in ("url", "method") if name in names)]
        if self._id_column is not None:
            needed.append(self._id_column)
        columns = []
        for name in dict.fromkeys(needed):
            if name not in names:
                raise InputError("batch", f"no column {name!r}; there are: {listed(names, name)}")
            if names.count(name) > 1:
                raise InputError(
                    "batch", f"{names.count(name)} columns {name!r}; rename them, or leave all but one out"
                )
            try:
                columns.append((name, json_values(column_of(batch, name))))
            except TypeError as error:
                said = f"{name!r}: {error}; datasets gives single rows without batched=True"
                raise InputError("batch", said) from None
        if len({len(values) for _, values in columns}) > 1:
            there = ", ".join(f"{len(values)} in {name!r}" for name, values in columns)
            raise InputError("batch", f"columns of different lengths: {there}")
        return [{name: values[at] for name, values in columns} for at in range(len(columns[0][1]) if columns else 0)]

    def _request(self, fields: dict[str, Any]) -> Request | Record:
        """Return what is asked about a row, or the record of a row that nothing can be asked about."""
        row = Row(1, 1, fields)
        try:
            if self._messages is not None:
                name = "" if self._id_column is None else id_of(row, self._id_column, "batch")
                request = Request(custom_id=name, api=self._api, body=self._body(fields[self._messages]))
            elif isinstance(self.task, BatchTask):
                request = self.task.request(Row(1, 1, {**fields, "body": _object(fields["body"])}))
            else:
                request = self.task.request(row)
            content = key_of(b"", request)
        except EmptyTextError as error:
            return record_of(empty_result(self.task, row, error))
        except (InputError, RequestError, TypeError, ValueError) as error:
            said = str(error).removeprefix("batch: line 1: ")
            failure = Failure(code=type(error).__name__, message=said, attempts=0)
            return Record(id="", custom_id="", error=failure, info=Facts(attempts=0))
        return request if self._has_ids else msgspec.structs.replace(request, custom_id=content)

    def _body(self, said: Any) -> dict[str, Any]:
        if isinstance(said, str) and said.lstrip().startswith("["):
            said = read_json(said)
        if not isinstance(said, (str, list)) or not said:
            raise InputError("batch", f"{self._messages!r} is neither a text nor a list of messages", line=1)
        said = without_nulls(said)
        if self._api == "responses":
            return {"model": self._model, "input": said, **self._params}
        messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
        return {"model": self._model, "messages": messages, **self._params}

    def _column(self, fact: str, outcomes: Sequence[Outcome]) -> tuple[Kind | Literal["texts"], list[Any]]:
        if fact == RECORD:
            return "text", [encode_record(outcome.record).decode() for outcome in outcomes]
        kind, get = RESULTS[fact]
        values = [get(outcome) for outcome in outcomes]
        return (
            "texts" if fact == "label" and isinstance(self.task, ClassifyTask) and self.task.multi else kind
        ), values


def _form(schema: Mapping[str, Any]) -> Form:
    return form_of_schema(str(schema.get("title") or schema.get("name") or "answer"), schema)


def _default_columns(task: Task) -> dict[str, str]:
    answers = ["label"] if isinstance(task, ClassifyTask) and task.labels else ["answer"]
    return {name: name for name in (*answers, "error", "error_message", "tokens_in", "tokens_out", "cost_usd")}


def _object(body: Any) -> Any:
    if isinstance(body, (str, bytes)):
        return read_json(body)
    return without_nulls(body)
