"""Many requests, their results as they come: the loop that most programs want, without a file.

Law: a caller of the client, by its public names; keeps nothing beyond what is in flight and not yet read.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from aimlasync.bulk.input.rows import Row
from aimlasync.bulk.jobs.ask_one import ask
from aimlasync.bulk.jobs.async_iter import later
from aimlasync.bulk.jobs.input_order import InOrder
from aimlasync.bulk.jobs.worker_pool import Work
from aimlasync.bulk.tasks.answer_schema import form_of
from aimlasync.bulk.tasks.classification import ClassifyTask
from aimlasync.bulk.tasks.request import Request, request_of
from aimlasync.bulk.tasks.result import Read, Result
from aimlasync.bulk.tasks.tasks import EmptyTextError, empty_result

if TYPE_CHECKING:
    from aimlasync.client import AsyncClient

T = TypeVar("T")
Q = TypeVar("Q")
R = TypeVar("R")
Order = Literal["completion", "input"]
Given = Request | Mapping[str, Any]

# Rows at work where nobody says: more than any adaptive limit starts with, and little memory.
WORKERS = 256
# Rows that may wait in the client's line: it must never be empty while there is room at a server, and a longer one is
# asked about for nothing when the job is stopped.
MAX_WAITING = 16


def map(
    client: AsyncClient,
    requests: Iterable[Given] | AsyncIterable[Given],
    *,
    concurrency: int | None = None,
    order: Order = "completion",
    return_exceptions: bool = True,
    read: Read | None = None,
    retry_invalid: int = 0,
) -> AsyncGenerator[Result]:
    """Ask for each of `requests` and iterate the results: `async for result in bulk.map(client, requests)`.

    A request is a `Request`, a line of OpenAI's Batch API as a dict, or the parameters of a call as a dict, with
    `messages` (chat/completions) or `input` (responses). They are read as they are needed, never all at once. At most
    `concurrency` are at work; None leaves it to the client's limits. `order="input"` holds back what is early, at
    most a few times the concurrency, and makes the rest wait.
    A request that fails is a result with its `error`; with `return_exceptions=False` the first error is raised and the
    calls in flight are cancelled. Left early, they are cancelled too (`contextlib.aclosing` makes it at once).
    `read` judges each reply, and is given `retry_invalid` more replies for one that it refuses with an AnswerError.
    Raises RequestError for what is no request.
    """

    async def do(request: Request) -> Result:
        return await ask(client, request, read=read, retry_invalid=retry_invalid)

    return _results(client, requests, request_of, do, concurrency, order, return_exceptions)


def classify(
    client: AsyncClient,
    texts: Iterable[str | Mapping[str, Any]] | AsyncIterable[str | Mapping[str, Any]],
    *,
    labels: Sequence[str] | Mapping[str, str] | type[Any],
    model: str,
    text: str = "text",
    multi: bool = False,
    concurrency: int | None = None,
    order: Order = "input",
    retry_invalid: int = 0,
    **options: Any,
) -> AsyncGenerator[Result]:
    """Ask for the label of each text and iterate the results: `result.label`, or `result.error`.

    A text is a string, or a row as a dict whose column `text` holds it. `labels` are names, names with their
    meanings, or a type (Struct, dataclass, TypedDict) to fill in. `options` are those of `ClassifyTask`.
    """
    if isinstance(labels, type):
        task = ClassifyTask(form=form_of(labels), model=model, text=text, **options)
    else:
        meanings = dict(labels) if isinstance(labels, Mapping) else dict.fromkeys(labels, "")
        task = ClassifyTask(labels=meanings, model=model, text=text, multi=multi, **options)

    def row_of(given: str | Mapping[str, Any], number: int) -> Row:
        return Row(number, number, {text: given} if isinstance(given, str) else dict(given), raw=b"")

    async def do(row: Row) -> Result:
        try:
            request = task.request(row)
        except EmptyTextError as error:
            return empty_result(task, row, error)
        result = await ask(client, request, read=task.read, retry_invalid=retry_invalid)
        result.row = row
        return result

    return _results(client, texts, row_of, do, concurrency, order, True)


def _results(
    client: AsyncClient,
    items: Iterable[T] | AsyncIterable[T],
    prepare: Callable[[T, int], Q],
    ask_for: Callable[[Q], Awaitable[Result]],
    concurrency: int | None,
    order: Order,
    return_exceptions: bool,
) -> AsyncGenerator[Result]:
    return each(
        items,
        prepare,
        ask_for,
        workers=concurrency or WORKERS,
        order=order,
        check=None if return_exceptions else _raise,
        may_take=lambda: client.queued < MAX_WAITING,
    )


def _raise(result: Result) -> None:
    if result.error is not None:
        raise result.error


async def each(
    items: Iterable[T] | AsyncIterable[T],
    prepare: Callable[[T, int], Q],
    do: Callable[[Q], Awaitable[R]],
    *,
    workers: int,
    order: Order,
    check: Callable[[R], None] | None = None,
    may_take: Callable[[], bool] | None = None,
) -> AsyncGenerator[R]:
    """Do `do` to what `prepare` makes of each item and its number, from 1, and iterate the results.

    `order="input"` holds back what is early, at most a few times `workers`, and makes the rest wait. What `check`
    raises of a result ends it, as soon as there is one; `may_take` is that of `Work`.
    """
    in_order = InOrder[R](8 * workers) if order == "input" else None
    numbered: Iterator[tuple[int, Q]] | AsyncIterator[tuple[int, Q]]
    if in_order is not None or isinstance(items, AsyncIterable):
        numbered = _numbered_later(items, prepare, in_order)
    else:
        numbered = _numbered(items, prepare)

    async def work(item: tuple[int, Q]) -> tuple[int, R]:
        return item[0], await do(item[1])

    async with Work(numbered, work, workers=workers, may_take=may_take) as results:
        async for number, result in results:
            if check is not None:
                check(result)
            if in_order is None:
                yield result
            else:
                for ready in in_order.add(number, result):
                    yield ready


def _numbered(items: Iterable[T], prepare: Callable[[T, int], Q]) -> Iterator[tuple[int, Q]]:
    for number, given in enumerate(items, 1):
        yield number, prepare(given, number)


async def _numbered_later(
    items: Iterable[T] | AsyncIterable[T], prepare: Callable[[T, int], Q], in_order: InOrder[R] | None
) -> AsyncGenerator[tuple[int, Q]]:
    number = 0
    async for given in later(items):
        number += 1
        if in_order is not None:
            await in_order.room(number)
        yield number, prepare(given, number)
