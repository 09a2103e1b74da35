"""A table that has changed: its rows keep the answers that are still theirs, and only the others are asked about."""

from __future__ import annotations

import csv
import errno
import io
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from aimlasync import AsyncClient
from aimlasync.bulk import (
    Caps,
    ClassifyTask,
    Job,
    JournalError,
    Options,
    PromptTask,
    Shard,
    Summary,
    Task,
    export,
    run,
)
from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.input.source import open_source
from aimlasync.bulk.journal.journal import Journal
from aimlasync.bulk.journal.known_rows import GONE, SAME, NamedRows, NumberedRows, give
from aimlasync.bulk.journal.record import decode_record, encode_record
from aimlasync.bulk.journal.table_changes import Changes
from aimlasync.bulk.output.export import Exported
from aimlasync.simulator import Answer, Simulator

MODEL = "openai/gpt-5-nano"
Table = list[dict[str, Any]]


def cities(*names: str) -> Table:
    return [{"id": name.lower(), "city": name, "note": ""} for name in names]


def prompt(**options: Any) -> Task:
    return PromptTask(prompt="Tell of {city}", model=MODEL, **options)


def labels(**options: Any) -> Task:
    return ClassifyTask(labels=["big", "small"], text="city", model=MODEL, **options)


def asked(simulator: Simulator) -> list[str]:
    """What was asked about, by the last word of each prompt."""
    return [attempt.body["messages"][-1]["content"].split()[-1] for attempt in simulator.ledger if attempt.body]


def of(kept: int, *, failed: int = 0, new: int = 0, changed: int = 0, gone: int = 0) -> Changes:
    return Changes(kept=kept, failed=failed, new=new, changed=changed, gone=gone)


@asynccontextmanager
async def refusing(names: list[str]) -> AsyncIterator[tuple[Simulator, AsyncClient]]:
    """Give a simulator that refuses what is asked about these names, which may change, and its client."""

    def answer(request: Any) -> Answer:
        return Answer(refusal="no") if any(name in request.text for name in names) else Answer(text="yes")

    async with (
        Simulator(answer=answer, keep_bodies=True) as simulator,
        AsyncClient(api_key="k", base_url=simulator.base_url) as client,
    ):
        yield simulator, client


class Weekly:
    """The same command, week after week."""

    def __init__(self, client: AsyncClient, simulator: Simulator, folder: Path, task: Any, *, named: bool) -> None:
        self.client = client
        self.simulator = simulator
        self.input, self.output = folder / "in.csv", folder / "out.csv"
        self._options = {"id_column": "id"} if named else {}
        self._task = task

    def write(self, rows: Table) -> None:
        file = io.StringIO()
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        self.input.write_text(file.getvalue())

    def is_of_today(self, rows: Table) -> bool:
        """Whether the output has the rows in their order, each with an answer, and the journal one line of each."""
        lines = [decode_record(line) for line in Path(f"{self.output}.journal").read_bytes().splitlines()]
        return self.table() == [{**row, "said": "true"} for row in rows] and len(lines) == len(rows)

    def sort_journal(self, *, reverse: bool) -> None:
        """Put the journal in the order of the rows' names, as though answers had come in that order."""
        journal = Path(f"{self.output}.journal")
        records = [decode_record(line) for line in journal.read_bytes().splitlines()]
        records.sort(key=lambda record: record.custom_id, reverse=reverse)
        journal.write_bytes(b"".join(encode_record(record) + b"\n" for record in records))

    def export(self, *, named: bool, **options: Any) -> Exported:
        if named:
            options["id_of"] = lambda row: row.fields["id"]
        with closing(open_source(str(self.input))) as source:
            return export(f"{self.output}.journal", str(self.output), source=source, **options)

    async def run(self, rows: Table | None = None, **options: Any) -> tuple[Summary, list[str]]:
        """Return the summary, and what was asked about."""
        if rows is not None:
            self.write(rows)
        before = len(self.simulator.ledger)
        summary = await run(
            self.client, self.input, self.output, task=self._task(**self._options), add={"said": "ok"}, **options
        )
        return summary, asked(self.simulator)[before:]

    def table(self) -> Table:
        with self.output.open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
async def simulator() -> Any:
    async with Simulator(keep_bodies=True) as simulator:
        yield simulator


@pytest.fixture(params=[True, False], ids=["by id", "by content"])
def named(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=[prompt, labels])
def weekly(
    request: pytest.FixtureRequest, client: AsyncClient, simulator: Simulator, tmp_path: Path, named: bool
) -> Weekly:
    return Weekly(client, simulator, tmp_path, request.param, named=named)


FIRST = cities("Paris", "Rome", "Oslo", "Bern", "Cairo")


async def test_what_is_new_is_asked_and_the_rest_is_kept(weekly: Weekly) -> None:
    first, all_asked = await weekly.run(FIRST)
    assert first.changes is None
    assert sorted(all_asked) == sorted(row["city"] for row in FIRST)
    grown = [*cities("Lima"), *FIRST, *cities("Quito")]
    summary, again = await weekly.run(grown)
    assert sorted(again) == ["Lima", "Quito"]
    assert summary.changes == of(5, new=2)
    assert str(summary.changes) == "5 kept, 2 new"
    assert weekly.is_of_today(grown)
    # And the table of today is the one that the next run knows.
    summary, again = await weekly.run()
    assert (summary.changes, again) == (None, [])


async def test_a_table_in_another_order_asks_nothing_and_its_answers_move_along(weekly: Weekly) -> None:
    await weekly.run(FIRST)
    summary, again = await weekly.run(FIRST[::-1])
    assert (summary.changes, again) == (of(5), [])
    assert weekly.is_of_today(FIRST[::-1])


async def test_answers_move_along_with_their_rows(tmp_path: Path, named: bool) -> None:
    async with (
        Simulator(answer=lambda asked: f"It was: {asked.text}") as simulator,
        AsyncClient(api_key="k", base_url=simulator.base_url) as client,
    ):
        weekly = Weekly(client, simulator, tmp_path, prompt, named=named)
        for rows in (FIRST, FIRST[::-1], [*cities("Lima"), *FIRST[2:], FIRST[0]], FIRST):
            await weekly.run(rows)
            weekly.export(named=named)
            assert all(row["answer"].endswith(f"Tell of {row['city']}") for row in weekly.table())
        assert len(simulator.ledger) == 6


async def test_what_is_edited_is_asked_again_and_what_no_prompt_names_is_not_looked_at(
    weekly: Weekly, named: bool
) -> None:
    await weekly.run(FIRST)
    edited = [dict(row) for row in FIRST]
    edited[1]["city"] = "Roma"
    edited[2]["note"] = "checked"
    summary, again = await weekly.run(edited)
    assert again == ["Roma"]
    assert summary.changes == of(4, changed=1)
    assert weekly.is_of_today(edited)


async def test_the_answers_of_rows_that_are_gone_come_back_with_them(weekly: Weekly) -> None:
    await weekly.run(FIRST)
    summary, again = await weekly.run(FIRST[2:])
    assert (summary.changes, again) == (of(3, gone=2), [])
    assert weekly.is_of_today(FIRST[2:])
    summary, again = await weekly.run(FIRST)
    assert (summary.changes, again) == (of(5), [])
    assert weekly.is_of_today(FIRST)
    # With --restart nothing is left of them.
    await weekly.run(FIRST[2:])
    await weekly.run(FIRST[2:], restart=True)
    _, again = await weekly.run(FIRST)
    assert sorted(again) == ["Paris", "Rome"]


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
async def test_rows_that_say_the_same_have_an_answer_each(
    client: AsyncClient, simulator: Simulator, tmp_path: Path, backwards: bool
) -> None:
    weekly = Weekly(client, simulator, tmp_path, prompt, named=False)
    await weekly.run(cities("Rome", "Oslo", "Rome"))
    summary, again = await weekly.run(cities("Oslo", "Rome", "Rome", "Rome"))
    assert (summary.changes, again) == (of(3, new=1), ["Rome"])
    # The order in which answers came: the first of those that say the same moves to the row that is left. Where that
    # is not the one in the place of Bern, Bern took the place of a row with an answer.
    weekly.sort_journal(reverse=backwards)
    summary, again = await weekly.run(cities("Rome", "Bern"))
    expected = of(1, changed=1, gone=2) if backwards else of(1, new=1, gone=3)
    assert (summary.changes, again) == (expected, ["Bern"])


async def test_a_row_that_failed_is_asked_again_also_where_it_has_moved(tmp_path: Path) -> None:
    bad = ["Rome"]
    async with refusing(bad) as (simulator, client):
        weekly = Weekly(client, simulator, tmp_path, lambda: prompt(judge=True), named=False)
        first, _ = await weekly.run(FIRST)
        assert first.totals.failed == 1
        bad.clear()
        rows = [*cities("Lima"), *FIRST]
        summary, again = await weekly.run(rows)
        assert summary.changes == of(4, failed=1, new=1)
        assert sorted(again) == ["Lima", "Rome"]
        assert weekly.is_of_today(rows)


async def test_requests_are_known_by_their_id_and_what_they_ask(
    client: AsyncClient, simulator: Simulator, tmp_path: Path
) -> None:
    def request(name: str, text: str, **more: Any) -> dict[str, Any]:
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}
        return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}

    out = tmp_path / "out.jsonl"
    await run(client, [request("a", "A"), request("b", "B"), request("c", "C")], out)
    # The order of members says nothing.
    reordered = json.loads(json.dumps(request("b", "B"), sort_keys=True))
    today = [request("d", "D"), reordered, request("a", "A", user="u")]
    summary = await run(client, today, out)
    assert summary.changes == of(1, new=1, changed=1, gone=1)
    assert sorted(asked(simulator)) == ["A", "A", "B", "C", "D"]
    assert sorted(decode_record(line).custom_id for line in out.read_bytes().splitlines()) == ["a", "b", "d"]


async def test_the_changes_are_known_before_the_first_call(weekly: Weekly) -> None:
    await weekly.run(FIRST)
    seen: list[Any] = []

    def begin(job: Job) -> None:
        seen.append((job.rows.changes, job.pending, len(weekly.simulator.ledger)))

    await weekly.run([*FIRST, *cities("Lima")], begin=begin)
    assert seen == [(of(5, new=1), 1, 5)]


async def test_rows_beyond_a_limit_keep_their_answers(weekly: Weekly) -> None:
    await weekly.run(FIRST)
    summary, again = await weekly.run([*cities("Lima"), *FIRST], options=Options(limit=2))
    assert (summary.changes, again, summary.total) == (of(5, new=1), ["Lima"], 2)
    _, again = await weekly.run()
    assert again == []


async def test_a_shard_follows_its_own_rows(client: AsyncClient, simulator: Simulator, tmp_path: Path) -> None:
    weekly = Weekly(client, simulator, tmp_path, prompt, named=True)
    options = Options(shard=Shard.parse("1/2"))
    _, first = await weekly.run(FIRST, options=options)
    grown = [*FIRST[::-1], *cities("Lima", "Quito", "Sofia", "Tunis")]
    summary, again = await weekly.run(grown, options=options)
    assert summary.changes is not None
    assert summary.changes.kept == len(first)
    assert summary.changes.new == len(again)
    assert not set(first) & set(again)


async def test_caps_count_what_the_table_of_today_takes(weekly: Weekly) -> None:
    first, _ = await weekly.run(FIRST)
    a_row = first.totals.tokens // 5
    options = Options(caps=Caps(max_tokens=3 * a_row), concurrency=1)
    grown = [*FIRST, *cities("Lima")]
    summary, again = await weekly.run(grown, options=options)
    assert (again, summary.capped_by) == (["Lima"], None)
    assert summary.totals.tokens > first.totals.tokens
    # Within one table it holds over all runs.
    more = [*grown, *cities(*(f"City{n}" for n in range(10, 20)))]
    summary, again = await weekly.run(more, options=options)
    assert summary.capped_by == "tokens"
    assert 0 < len(again) < 10
    summary, again = await weekly.run(options=options)
    assert (summary.capped_by, again) == ("tokens", [])


@pytest.mark.parametrize("change", ["model", "prompt"])
async def test_another_question_is_refused_with_the_way_out(
    client: AsyncClient, simulator: Simulator, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "out.jsonl"
    rows = [{"city": "Rome"}]
    await run(client, rows, out, task=prompt())
    said: dict[str, Any] = {"model": MODEL, "prompt": "Tell of {city}", change: "{city}"}
    other = PromptTask(**said)
    with pytest.raises(JournalError, match=f"another job: {change}: .*; choose another -o, or .* --restart"):
        await run(client, [*rows, {"city": "Oslo"}], out, task=other)
    assert len(simulator.ledger) == 1


async def test_an_export_follows_a_table_that_no_run_has_seen(weekly: Weekly, named: bool) -> None:
    await weekly.run(FIRST)
    edited = [*cities("Lima"), *[dict(row) for row in FIRST[::-1]]]
    edited[2]["city"] = "Berlin"
    weekly.write(edited)
    done = weekly.export(named=named, add={"said": "ok"})
    assert (done.rows, done.ok, done.missing, done.unmatched) == (6, 4, 2, 1)
    assert [row["said"] for row in weekly.table()] == ["", "true", "", "true", "true", "true"]


@pytest.mark.parametrize("when", ["during a run", "before one that found no room"])
async def test_an_export_gives_no_answer_of_another_row_where_a_run_has_not_followed(
    weekly: Weekly, named: bool, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = [*cities("Lima"), *[dict(row) for row in FIRST[::-1]]]
    edited[2]["city"] = "Berlin"
    answered = 0

    def edit(result: Any, record: Any) -> None:
        nonlocal answered
        answered += 1
        if answered == len(FIRST):
            weekly.write(edited)

    def full(journal: Journal, lines: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", journal.path)

    if when == "during a run":
        with pytest.raises(InputError, match="changed during the run"):
            await weekly.run(FIRST, seen=edit)
    else:
        await weekly.run(FIRST)
        with monkeypatch.context() as disk:
            disk.setattr(Journal, "rewrite", full)
            with pytest.raises(OSError, match="No space left"):
                await weekly.run(edited)
    done = weekly.export(named=named, add={"said": "ok"})
    assert (done.rows, done.ok, done.missing, done.unmatched) == (6, 4, 2, 1)
    assert [row["said"] for row in weekly.table()] == ["", "true", "", "true", "true", "true"]
    assert (await weekly.run())[1] == ["Lima", "Berlin"]


async def test_answers_taken_unread_are_asked_again_where_they_are_no_good(tmp_path: Path) -> None:
    bad = ["Rome"]
    async with refusing(bad) as (simulator, client):
        judge = False
        weekly = Weekly(client, simulator, tmp_path, lambda: prompt(judge=judge), named=False)
        first, _ = await weekly.run(FIRST)
        assert (first.totals.ok, first.totals.flaws["refused"]) == (5, 1)
        judge = True
        second, again = await weekly.run(options=Options(retry_invalid=1))
        assert (again, second.totals.ok, second.totals.failed) == (["Rome", "Rome"], 4, 1)
        assert second.totals.tokens > first.totals.tokens
        bad.clear()
        judge = False
        third, again = await weekly.run()
        assert (again, third.totals.ok, third.totals.failed) == (["Rome"], 5, 0)


# Which answers go to which rows


def test_answers_go_to_equal_rows_as_far_as_they_go_whatever_the_order() -> None:
    random.seed(5)
    for _ in range(300):
        old = [random.choice("abcdef") for _ in range(random.randrange(12))]
        new = [random.choice("abcdef") for _ in range(random.randrange(12))]
        numbers = sorted(random.sample(range(1, 40), len(new)))
        rows = NumberedRows()
        for number, content in zip(numbers, new, strict=True):
            rows.add(number, f"row-{number}", content)
        good = [random.random() < 0.7 for _ in old]
        fates = give(
            rows, ((f"row-{n}", content, ok) for n, (content, ok) in enumerate(zip(old, good, strict=True), 1))
        )
        at = {
            n if fate == SAME else fate: content
            for n, (fate, content) in enumerate(zip(fates, old, strict=True), 1)
            if fate != GONE
        }
        both = Counter(old) & Counter(new)
        assert len(at) == rows.taken == both.total()
        assert all(dict(zip(numbers, new, strict=True))[number] == content for number, content in at.items())
        for number in numbers:
            taken = rows.answer_of(number)
            assert (taken is not None) == (number in at)
            assert taken is None or old[int(taken[4:]) - 1] == at[number]
        # No failure has a row that a good answer of the same content could have.
        for content in both:
            lost = sum(ok for ok, fate, each in zip(good, fates, old, strict=True) if each == content and fate == GONE)
            used = sum(
                not ok for ok, fate, each in zip(good, fates, old, strict=True) if each == content and fate != GONE
            )
            assert not (lost and used)


def test_rows_with_ids_take_no_answer_of_another_id_or_content() -> None:
    rows = NamedRows()
    for number, name in enumerate("abc", 1):
        rows.add(number, name, f"of {name}")
    assert [rows.take("a", "of a"), rows.take("a", "of a"), rows.take("b", "of a"), rows.take("d", "of a")] == [
        SAME,
        GONE,
        GONE,
        GONE,
    ]
    assert (rows.rows, rows.taken) == (3, 1)
    assert [rows.without(name) for name in "abd"] == [None, "changed", "gone"]
