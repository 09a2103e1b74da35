"""A nano model as judge over many answers, and how far it agrees with people and with a larger judge.

With AIML_API_KEY or BYTESPIKE_API_KEY set, this talks to the vendor; without a key the built-in simulator answers.
"""

import asyncio
import os
from operator import eq
from typing import Literal

import msgspec

from aimlasync import AnswerError, AsyncClient, run
from aimlasync.simulator import stand_in

JUDGES = [
    os.environ.get("MODEL", "openai/gpt-5-nano-2025-08-07"),
    os.environ.get("LARGER_MODEL", "openai/gpt-5-mini-2025-08-07"),
]
REFERENCES = {
    "How long is the trial?": "The trial is free for 14 days and needs no card.",
    "Can I export my data?": "All data can be exported as CSV from the settings page.",
    "Is there a desktop app?": "There is no desktop app for Linux.",
}
# (question, answer, what a person said of it)
ANSWERS = [
    ("How long is the trial?", "You can try it free for 14 days, no card needed.", "correct"),
    ("How long is the trial?", "The trial is free for 30 days and needs no card.", "wrong"),
    ("How long is the trial?", "Two weeks, and we do not ask for a card.", "correct"),
    ("Can I export my data?", "Yes, the settings page exports all data as CSV.", "correct"),
    ("Can I export my data?", "Please write to our team, they are happy to help.", "wrong"),
    ("Can I export my data?", "Your data cannot be exported as CSV from the settings page.", "wrong"),
    ("Is there a desktop app?", "No, there is no desktop app for Linux.", "correct"),
    ("Is there a desktop app?", "Yes, the desktop app for Linux is in the store.", "wrong"),
]


class Verdict(msgspec.Struct):
    """Whether the answer says what the reference says."""

    reason: str
    verdict: Literal["correct", "wrong"]


async def judge(client: AsyncClient, model: str, ask: str, answer: str) -> Verdict | None:
    try:
        reply = await client.chat.completions.parse(
            model=model,
            messages=[
                {"role": "system", "content": "Compare the answer with the reference."},
                {"role": "user", "content": f"Question: {ask}\nReference: {REFERENCES[ask]}\nAnswer: {answer}"},
            ],
            response_format=Verdict,
        )
    except AnswerError:
        return None
    verdict: Verdict = reply.parsed
    return verdict


def agreement(some: list[str], others: list[str]) -> str:
    """How often both say the same, and Cohen's kappa: 0 is what chance would bring, 1 is always."""
    same = sum(map(eq, some, others)) / len(some)
    chance = sum(some.count(name) * others.count(name) for name in {*some, *others}) / len(some) ** 2
    return f"{same:4.0%}, kappa {(same - chance) / (1 - chance) if chance < 1 else 1:.2f}"


async def main() -> None:
    async with AsyncClient() as client:
        calls = [judge(client, model, ask, answer) for model in JUDGES for ask, answer, _ in ANSWERS]
        found = await asyncio.gather(*calls)
    first, second = found[: len(ANSWERS)], found[len(ANSWERS) :]
    for (_, answer, person), verdict in zip(ANSWERS, first, strict=True):
        said = "no verdict" if verdict is None else f"{verdict.verdict}: {verdict.reason}"
        print(f"{answer}\n  person: {person}, judge: {said}")
    people = [person for _, _, person in ANSWERS]
    labels = [[verdict.verdict if verdict else "none" for verdict in one] for one in (first, second)]
    print(f"\njudge and people:       {agreement(labels[0], people)}")
    print(f"judge and larger judge: {agreement(*labels)}")


with stand_in():
    run(main())
