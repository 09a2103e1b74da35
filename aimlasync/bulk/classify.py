"""One label for each row: the question, the call, the result.

Law: a caller of the client, by its public names alone; keeps nothing and prints nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aimlasync.bulk.labels import Prompt, answer_type, instructions, row_text
from aimlasync.bulk.rows import Row
from aimlasync.bulk.work import Work
from aimlasync.errors import AimlasyncError, AnswerError, AnswerInvalidError

if TYPE_CHECKING:
    from aimlasync.chat import ChatCompletion
    from aimlasync.client import AsyncClient
    from aimlasync.responses import Response

Api = Literal["chat", "responses"]


class EmptyTextError(AimlasyncError):
    """The row has no text; nothing was sent."""


@dataclass(slots=True)
class Result:
    """What became of one row: a label, or an error; either may come with a reply, which was paid for."""

    row: Row
    label: str | None = None
    error: AimlasyncError | None = None
    reply: ChatCompletion | Response | None = None


def classify(
    client: AsyncClient,
    rows: Iterable[Row] | AsyncIterator[Row],
    *,
    labels: Sequence[str],
    model: str,
    text: str = "text",
    prompt: Prompt | None = None,
    endpoint: Api = "chat",
    concurrency: int = 32,
    name: str = "input",
) -> Work[Row, Result]:
    """Ask for the label of each row and return the results as they come: `async with classify(...) as results:`.

    A row that fails is a `Result` with its `error`; the work goes on. Raises InputError from the iteration for a row
    without the column `text`, naming `name`.
    """
    answer = answer_type(labels)
    asked = prompt or Prompt(instructions(labels))
    system = {"role": "system", "content": asked.system}

    async def ask(said: str) -> ChatCompletion | Response:
        if endpoint == "responses":
            return await client.responses.parse(
                model=model, instructions=asked.system, input=said, text_format=answer, priority="bulk"
            )
        messages: list[dict[str, Any]] = [system, {"role": "user", "content": said}]
        return await client.chat.completions.parse(
            model=model, messages=messages, response_format=answer, priority="bulk"
        )

    async def label(row: Row) -> Result:
        found = row_text(row, text, name)
        if not found.strip():
            return Result(row, error=EmptyTextError("the text is empty, so nothing was sent", billed=False))
        try:
            reply = await ask(asked.user(found, row.fields))
        except AnswerError as error:
            return Result(row, error=error, reply=error.reply)
        except AimlasyncError as error:
            return Result(row, error=error)
        if reply.parsed is None:
            failed = AnswerInvalidError("the answer is a tool call, not a label", reply=reply, info=reply.info)
            return Result(row, error=failed, reply=reply)
        return Result(row, label=reply.parsed.label.value, reply=reply)

    return Work(rows, label, workers=concurrency)
