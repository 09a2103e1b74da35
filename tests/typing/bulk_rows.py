"""Rows labelled in a loop, and a file of them in a job."""

from typing import reveal_type

from aimlasync import AsyncClient, Limits
from aimlasync.bulk import ClassifyTask, Options, classify, run


async def main() -> None:
    async with AsyncClient(limits=Limits(requests_per_minute=600)) as client:
        async for result in classify(client, ["a", "b"], labels=["x", "y"], model="m"):
            reveal_type(result.fields)  # dict[str, Any]
            reveal_type(result.label)  # str | list[str] | None
            if result.error is not None:
                reveal_type(result.error)  # AimlasyncError
        task = ClassifyTask(model="m", labels={"x": "the first", "y": ""}, structured="json_object")
        summary = await run(client, "in.csv", "out.csv", task=task, options=Options(concurrency=8))
        reveal_type(summary.totals.ok)  # int
        reveal_type(summary.totals.cost)  # float | None
