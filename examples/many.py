"""Many texts at once: labels as they come, and a job that can be interrupted and gone on with.

With AIML_API_KEY or BYTESPIKE_API_KEY set, this talks to the vendor; without a key the built-in simulator answers.
"""

import csv
import os
import tempfile
from pathlib import Path

from aimlasync import AsyncClient, bulk, run
from aimlasync.simulator import stand_in

MODEL = os.environ.get("MODEL", "openai/gpt-5-nano-2025-08-07")
TICKETS = Path(__file__).with_name("tickets.csv")
LABELS = {
    "support": "something does not work, or how to do it",
    "billing": "invoices, payments, refunds",
    "sales": "prices, plans, quotes before buying",
}


async def main() -> None:
    with TICKETS.open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:40]
    async with AsyncClient() as client:
        async for result in bulk.classify(client, texts, labels=LABELS, model=MODEL):
            print(result.label if result.ok else result.error)

        output = Path(tempfile.mkdtemp()) / "answers.jsonl"
        task = bulk.PromptTask(prompt="In five words: {text}", model=MODEL)
        # The journal has one line for each row; this line again would go on where it stopped.
        summary = await bulk.run(client, TICKETS, output, task=task, options=bulk.Options(limit=40))
        print(f"{summary.totals.ok} of {summary.total} rows in {summary.journal}, {summary.left} left")


with stand_in():
    run(main())
