"""Jobs of many rows on the command line: what is asked, what is kept, what stops them; the ledger is the judge."""

from __future__ import annotations

import csv
import json
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aimlasync.simulator import Answer, Fault, Latency, SimRequest, Simulator
from tests.support.commands import cities, ended, finish, last_line, lines, run, start, table, until, write
from tests.support.servers import KEY

NANO = "openai/gpt-5-nano-2025-08-07"
# No reasoning model: it gives token probabilities.
PLAIN = "openai/gpt-4.1-nano-2025-04-14"
SCHEMA = {
    "type": "object",
    "properties": {"team": {"enum": ["a", "b"]}, "urgent": {"type": "boolean"}},
}
CITIES = "id,city\nx,Paris\ny,Rome\nz,Oslo\n"
ASK = ("--prompt", "Tell of {city}")
LABELS = ("--labels", "a,b")

Vendor = Callable[..., Simulator]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)


def request(name: str, text: str = "Hello", *, api: str = "chat", **body: Any) -> str:
    """A line of a Batch input."""
    asked = {"messages": [{"role": "user", "content": text}]} if api == "chat" else {"input": text}
    url = "/v1/chat/completions" if api == "chat" else "/v1/responses"
    whole = {"custom_id": name, "method": "POST", "url": url, "body": {"model": NANO, **asked, **body}}
    return json.dumps(whole) + "\n"


def texts(sim: Simulator) -> list[str]:
    """What was asked about, in order; the simulator must keep bodies."""
    return [(attempt.body or {})["messages"][-1]["content"] for attempt in sim.ledger]


# What is asked, and what comes out


def test_a_batch_of_chat_and_responses_becomes_batch_results(vendor: Vendor) -> None:
    sim = vendor()
    write("in.jsonl", request("one") + request("two", api="responses") + request("three", "[refuse] me"))
    done = run("bulk", "in.jsonl", "-o", "out.jsonl")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "3 answered" in done.stderr
    assert "1 refused (taken for good; --retry-invalid asks again)" in done.stderr
    assert Counter(attempt.api for attempt in sim.ledger) == {"chat": 2, "responses": 1}
    found = {line["custom_id"]: line for line in lines("out.jsonl")}
    assert set(found) == {"one", "two", "three"}
    for line in found.values():
        assert set(line) == {"id", "custom_id", "response", "error", "info"}
        assert set(line["response"]) == {"status_code", "request_id", "body"}
        assert line["response"]["status_code"] == 200
        assert line["error"] is None
    assert found["one"]["response"]["body"]["object"] == "chat.completion"
    assert found["two"]["response"]["body"]["object"] == "response"
    assert json.loads(Path("out.jsonl.manifest").read_text())["aimlasync"] == "journal"
    assert KEY not in Path("out.jsonl").read_text() + Path("out.jsonl.manifest").read_text()


def test_rows_are_asked_by_prompt_system_and_params_and_named_by_their_id(vendor: Vendor) -> None:
    sim = vendor(keep_bodies=True)
    write("in.csv", CITIES)
    words = ("--system", "Be brief.", "--params", '{"max_completion_tokens": 200}', "--id", "id")
    assert run("bulk", "in.csv", *ASK, *words, "-o", "out.jsonl").exit_code == 0
    assert {line["custom_id"] for line in lines("out.jsonl")} == {"x", "y", "z"}
    bodies = [attempt.body for attempt in sim.ledger]
    assert {body["messages"][1]["content"] for body in bodies if body} == {
        f"Tell of {c}" for c in ("Paris", "Rome", "Oslo")
    }
    assert all(body and body["messages"][0] == {"role": "system", "content": "Be brief."} for body in bodies)
    assert all(body and body["max_completion_tokens"] == 200 for body in bodies)


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
@pytest.mark.parametrize("form", ["form.json", "forms.py:Form"])
def test_a_schema_makes_every_answer_fit_it(form: str, endpoint: str, vendor: Vendor) -> None:
    vendor()
    write("in.csv", CITIES)
    write("form.json", json.dumps(SCHEMA))
    write(
        "forms.py",
        "import msgspec\nfrom typing import Literal\n\n"
        "class Form(msgspec.Struct):\n    team: Literal['a', 'b']\n    urgent: bool\n",
    )
    words = ("--schema", form, "--endpoint", endpoint, "--columns", "id,answer.team,answer.urgent", "-o", "out.csv")
    done = run("bulk", "in.csv", *ASK, *words)
    assert done.exit_code == 0, done.stderr
    rows = table("out.csv")
    assert [row["id"] for row in rows] == ["x", "y", "z"]
    assert {row["answer.team"] for row in rows} <= {"a", "b"}
    assert {row["answer.urgent"] for row in rows} <= {"true", "false"}


def test_a_pipe_goes_to_stdout_line_by_line_and_to_a_file_resumably(vendor: Vendor) -> None:
    sim = vendor()
    given = request("one") + request("two", api="responses")
    streamed = run("bulk", "-", stdin=given)
    assert streamed.exit_code == 0
    assert {json.loads(line)["custom_id"] for line in streamed.stdout.splitlines()} == {"one", "two"}
    assert not list(Path().iterdir())
    for _ in range(2):
        kept = run("bulk", "-", "-o", "out.jsonl", stdin=given)
        assert (kept.exit_code, kept.stdout) == (0, "")
    assert "Everything is done already; nothing was asked." in kept.stderr
    assert len(lines("out.jsonl")) == 2
    assert len(sim.ledger) == 4


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_table_has_the_rows_in_the_order_of_the_input(name: str, vendor: Vendor) -> None:
    vendor(faults=[Fault("status", status=422, match=lambda asked: "Rome" in asked.text)])
    write("in.csv", CITIES)
    if name == "out.parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    done = run("bulk", "in.csv", *ASK, "-o", name)
    assert done.exit_code == 3
    assert last_line(done) == "aimlasync: 1 row failed; the same command tries it again"
    rows = table(name) if name == "out.csv" else parquet.read_table(name).to_pylist()
    assert [row["id"] for row in rows] == ["x", "y", "z"]
    assert [bool(row["answer"]) for row in rows] == [True, False, True]
    assert [row["error"] or "" for row in rows] == ["", "UnprocessableEntityError", ""]
    assert len(lines(f"{name}.journal")) == 3


# Going on after an end


def test_ctrl_c_in_bulk_loses_nothing_and_asks_nothing_twice(vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=0.01))
    cities(400)
    process = start("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "8")
    until(lambda: sim.ledger.by_status().get(200, 0) >= 60)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    first = [line["custom_id"] for line in lines("out.jsonl")]
    assert f"aimlasync: interrupted, {len(first)} rows done; run the same command to go on" in err
    assert len(first) == len(sim.ledger) < 400
    code, _, err = ended("bulk", "in.csv", *ASK, "-o", "out.jsonl")
    assert code == 0, err
    assert Counter(line["custom_id"] for line in lines("out.jsonl")) == {f"row-{n}": 1 for n in range(1, 401)}
    assert len(sim.ledger) == 400
    assert "City 7" not in err


def test_failed_rows_are_asked_again_unless_they_are_to_be_kept(vendor: Vendor) -> None:
    sim = vendor(faults=[Fault("status", status=422, times=2, after=2)])
    cities(6)
    command = ("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "1")
    assert run(*command).exit_code == 3
    kept = run(*command, "--keep-failed")
    assert kept.exit_code == 3
    assert last_line(kept) == "aimlasync: 2 rows failed"
    assert len(sim.ledger) == 6
    again = run(*command)
    assert again.exit_code == 0
    assert "6 answered (4 by earlier runs)" in again.stderr
    assert len(sim.ledger) == 8
    assert len(lines("out.jsonl")) == 6


def test_the_failed_lines_are_written_to_a_file_of_their_own(vendor: Vendor) -> None:
    vendor(faults=[Fault("status", status=422, times=2, after=2)])
    cities(6)
    assert run("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "1", "--errors", "bad.jsonl").exit_code == 3
    assert lines("bad.jsonl") == [line for line in lines("out.jsonl") if line["error"]]
    assert [line["custom_id"] for line in lines("bad.jsonl")] == ["row-3", "row-4"]


def bad_first(bad: str) -> Callable[[SimRequest], Answer | None]:
    """Answers badly when a text comes for the first time."""
    seen: set[str] = set()

    def answer(asked: SimRequest) -> Answer | None:
        if asked.text in seen:
            return None
        seen.add(asked.text)
        match bad:
            case "refused":
                return Answer(refusal="No.")
            case "cut":
                return Answer(text='{"team"', finish_reason="length")
            case _:
                return Answer(text='{"team": "neither"}')

    return answer


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
@pytest.mark.parametrize("bad", ["refused", "cut", "invalid"])
def test_an_answer_that_is_no_good_is_asked_for_again_and_all_of_it_counts(
    bad: str, endpoint: str, vendor: Vendor
) -> None:
    sim = vendor(answer=bad_first(bad))
    write("in.csv", CITIES)
    write("form.json", json.dumps(SCHEMA))
    command = ("bulk", "in.csv", *ASK, "--schema", "form.json", "--endpoint", endpoint)
    done = run(*command, "--retry-invalid", "1", "-o", "out.jsonl")
    assert done.exit_code == 0, done.stderr
    assert len(sim.ledger) == 6
    found = [line["info"] for line in lines("out.jsonl")]
    assert [(info["calls"], info["attempts"]) for info in found] == [(2, 2)] * 3
    assert sum(info["tokens_in"] for info in found) == sum(attempt.prompt_tokens for attempt in sim.ledger)
    assert sum(info["tokens_out"] for info in found) == sum(attempt.completion_tokens for attempt in sim.ledger)
    if endpoint == "chat":
        assert sum(info["cost_usd"] for info in found) == pytest.approx(sim.ledger.cost_usd)


def test_an_answer_that_stays_bad_fails_and_what_it_took_is_kept(vendor: Vendor) -> None:
    sim = vendor(answer=lambda asked: "no JSON")
    write("in.csv", CITIES)
    write("form.json", json.dumps(SCHEMA))
    done = run("bulk", "in.csv", *ASK, "--schema", "form.json", "--retry-invalid", "2", "-o", "out.jsonl")
    assert done.exit_code == 3
    assert "3 AnswerInvalidError, such as row-" in done.stderr
    assert "no JSON" not in done.stderr
    assert len(sim.ledger) == 9
    found = lines("out.jsonl")
    assert all(line["error"]["code"] == "AnswerInvalidError" and line["response"]["body"] for line in found)
    assert sum(line["info"]["cost_usd"] for line in found) == pytest.approx(sim.ledger.cost_usd)


def test_identical_rows_share_one_call_also_across_runs(vendor: Vendor) -> None:
    sim = vendor()
    write("in.csv", "city\n" + "Paris\nRome\n" * 5 + "Oslo\n")
    command = ("bulk", "in.csv", *ASK, "--dedupe", "-o", "out.csv")
    first = run(*command, "--limit", "4")
    assert first.exit_code == 0, first.stderr
    assert len(sim.ledger) == 2
    second = run(*command)
    assert second.exit_code == 0
    assert "8 rows had the answer of an equal request, and cost nothing" in second.stderr
    assert len(sim.ledger) == 3
    by_city: dict[str, set[str]] = {}
    for row in table("out.csv"):
        by_city.setdefault(row["city"], set()).add(row["answer"])
    assert [len(answers) for answers in by_city.values()] == [1, 1, 1]
    assert all(by_city.values())
    infos = [line["info"] for line in lines("out.csv.journal")]
    assert sum("shared_with" in info for info in infos) == 8
    assert sum(info.get("cost_usd") or 0 for info in infos) == pytest.approx(sim.ledger.cost_usd)


def test_a_refusal_is_shared_in_one_run_and_asked_about_once_in_the_next(vendor: Vendor) -> None:
    sim = vendor(faults=[Fault("status", status=422, times=1)])
    write("in.csv", "city\n" + "Paris\n" * 3)
    first = run("bulk", "in.csv", *ASK, "--dedupe", "-o", "out.jsonl")
    assert first.exit_code == 3
    assert "3 UnprocessableEntityError" in first.stderr
    assert len(sim.ledger) == 1
    assert run("bulk", "in.csv", *ASK, "--dedupe", "-o", "out.jsonl").exit_code == 0
    assert len(sim.ledger) == 2


def test_a_row_without_a_text_is_not_promised_another_try(vendor: Vendor) -> None:
    sim = vendor(faults=[Fault("status", status=422, times=2, after=1)])
    write("in.csv", "text,n\n,1\none,2\ntwo,3\nthree,4\n")
    command = ("classify", "in.csv", *LABELS, "-o", "out.csv", "--concurrency", "1")
    first = run(*command)
    assert (first.exit_code, last_line(first)) == (3, "aimlasync: 3 rows failed; the same command tries 2 rows again")
    second = run(*command)
    assert (second.exit_code, last_line(second)) == (3, "aimlasync: 1 row failed")
    assert len(sim.ledger) == 5


# How much it may take


def test_a_spending_cap_stops_the_job_resumably_and_is_never_passed(vendor: Vendor) -> None:
    sim = vendor()
    cities(60)
    command = ("bulk", "in.csv", *ASK, "--params", '{"max_completion_tokens": 200}', "-o", "out.jsonl")
    capped = run(*command, "--max-usd", "0.001")
    assert capped.exit_code == 1
    assert re.match(r"aimlasync: stopped: the call would pass the budget: .+; raise --max-usd; ", last_line(capped))
    assert last_line(capped).endswith("rows done; run the same command to go on")
    assert 0 < sim.ledger.cost_usd <= 0.001
    done = len(lines("out.jsonl"))
    assert 0 < done < 60
    # What earlier runs took counts too.
    again = run(*command, "--max-usd", "0.001")
    assert again.exit_code == 1
    assert sim.ledger.cost_usd <= 0.001
    assert run(*command).exit_code == 0
    assert len({line["custom_id"] for line in lines("out.jsonl")}) == 60


def test_a_cap_that_no_call_fits_in_costs_nothing_and_says_so(vendor: Vendor) -> None:
    sim = vendor()
    cities(3)
    stopped = run("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--max-usd", "0.0000001")
    assert stopped.exit_code == 1
    assert not any(attempt.api == "chat" for attempt in sim.ledger)
    assert "$0.0000: nothing was sent" in stopped.stderr


def test_a_job_whose_first_calls_were_refused_says_that_nothing_was_billed(vendor: Vendor) -> None:
    sim = vendor()
    cities(3)
    stopped = run("bulk", "in.csv", *ASK, "--model", "gpt5-nano", "-o", "out.jsonl")
    assert stopped.exit_code == 1
    assert last_line(stopped).startswith("aimlasync: stopped: HTTP 404: Model 'gpt5-nano' does not exist; check --")
    assert [attempt for attempt in sim.ledger if attempt.api == "chat"]
    assert "$0.0000: nothing was billed" in stopped.stderr


def test_a_shard_without_rows_says_so(vendor: Vendor) -> None:
    sim = vendor()
    write("in.csv", "id,city\na,Rome\n")
    said = [run("bulk", "in.csv", *ASK, "--id", "id", "-o", f"{n}.jsonl", "--shard", f"{n}/2").stderr for n in (1, 2)]
    assert ["No row is this shard's; nothing was asked." in each for each in said].count(True) == 1
    assert len([attempt for attempt in sim.ledger if attempt.api == "chat"]) == 1


def test_a_misspelt_parameter_is_one_line(vendor: Vendor) -> None:
    vendor()
    cities(3)
    wrong = run("bulk", "in.csv", *ASK, "--params", '{"temprature": 1}', "-o", "out.jsonl")
    assert wrong.exit_code == 2
    assert last_line(wrong) == "aimlasync: params: unknown parameter 'temprature', did you mean 'temperature'?"


def test_a_spending_cap_needs_a_price(vendor: Vendor) -> None:
    sim = vendor(vendor="openai")
    cities(3)
    command = ("bulk", "in.csv", *ASK, "--model", "my-own", "--max-usd", "1", "-o", "out.jsonl")
    refused = run(*command)
    assert refused.exit_code == 2
    assert refused.stderr == (
        "aimlasync: --max-usd: the price of my-own is not known; say it in US dollars for a million tokens, in and "
        "out: --price 0.05,0.40\n"
    )
    assert not any(attempt.api == "chat" for attempt in sim.ledger)
    assert run(*command, "--price", "0.05,0.40").exit_code == 0
    for wrong in ("1", "a,b", "1,2,3", "-1,2"):
        assert last_line(run(*command, "--price", wrong)).startswith(f"aimlasync: --price {wrong}: write two amounts")


@pytest.mark.parametrize("how", [[], ["--concurrency", "2"]])
def test_a_cap_of_tokens_stops_the_job_resumably(how: list[str], vendor: Vendor) -> None:
    sim = vendor()
    cities(60)
    command = ("bulk", "in.csv", *ASK, "-o", "out.jsonl", *how)
    capped = run(*command, "--max-tokens", "1500")
    assert capped.exit_code == 1
    done = len(lines("out.jsonl"))
    assert last_line(capped) == (
        f"aimlasync: stopped: --max-tokens is used up; {done} rows done, {60 - done} left; raise it and run the same "
        "command to go on"
    )
    assert sum(attempt.prompt_tokens + attempt.completion_tokens for attempt in sim.ledger) <= 1600
    assert len(sim.ledger) == done
    again = run(*command, "--max-tokens", "1500")
    assert again.exit_code == 1
    assert len(sim.ledger) == done
    assert run(*command).exit_code == 0
    assert len(sim.ledger) == 60


def test_a_spending_cap_holds_for_every_model_of_a_batch(vendor: Vendor) -> None:
    sim = vendor()
    write("in.jsonl", request("first") + "".join(request(f"r{n}", model=PLAIN, max_tokens=50) for n in range(200)))
    command = ("bulk", "in.jsonl", "-o", "out.jsonl", "--max-usd", "0.0005")
    done = run(*command, "--price", "1,4")
    assert done.exit_code == 1
    assert sim.ledger.cost_usd <= 0.0005
    write("in.jsonl", request("first") + request("second", model="no/such"))
    refused = run(*command, "--restart")
    assert refused.exit_code == 2
    assert "--max-usd: the price of no/such is not known" in refused.stderr


def test_a_cap_stops_a_job_on_a_pipe_too(vendor: Vendor) -> None:
    sim = vendor()
    done = run("bulk", "-", *ASK, "--max-tokens", "1500", stdin='{"city": "Paris"}\n' * 60)
    assert done.exit_code == 1
    asked = len(sim.ledger)
    assert len(done.stdout.splitlines()) == asked < 60
    assert last_line(done) == (
        f"aimlasync: stopped: --max-tokens is used up; {asked} rows done; raise it and with -o PATH the same command "
        "would go on"
    )


def test_a_deadline_stops_the_job_resumably(vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=0.05))
    cities(200)
    command = ("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "2")
    late = run(*command, "--deadline", "0.3s")
    assert late.exit_code == 1
    done = len(lines("out.jsonl"))
    assert last_line(late) == (
        f"aimlasync: stopped: --deadline has passed; {done} rows done, {200 - done} left; give it more time and run "
        "the same command to go on"
    )
    assert len(sim.ledger) == done < 200
    assert run("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--limit", str(done)).exit_code == 0
    assert len(sim.ledger) == done


def test_a_dry_run_says_what_all_would_take_and_its_answers_are_not_paid_twice(vendor: Vendor) -> None:
    sim = vendor()
    cities(50)
    command = ("bulk", "in.csv", *ASK, "-o", "out.csv")
    dry = run(*command, "--dry-run", "--canary", "5")
    assert (dry.exit_code, dry.stdout) == (0, "")
    assert "dry run" in dry.stderr
    assert "5 rows, whose answers are kept" in dry.stderr
    assert "45 rows, about 45 calls" in dry.stderr
    assert re.search(
        r"tokens +about [\d,]+( \([\d,]+ to [\d,]+\))? in, about [\d,]+( \([\d,]+ to [\d,]+\))? out", dry.stderr
    )
    assert re.search(r"cost +about \$", dry.stderr)
    asked = [attempt for attempt in sim.ledger if attempt.api == "chat"]
    assert len(asked) == 5
    assert not Path("out.csv").exists()
    assert run(*command).exit_code == 0
    assert len(table("out.csv")) == 50
    done = run(*command, "--dry-run").stderr
    assert "0 rows, whose answers are kept" in done
    assert re.search(r"left +no row\s*$", done)
    assert len([attempt for attempt in sim.ledger if attempt.api == "chat"]) == 50


def test_a_dry_run_without_an_output_leaves_nothing_behind(vendor: Vendor) -> None:
    sim = vendor()
    cities(50)
    dry = run("bulk", "in.csv", *ASK, "--dry-run", "--canary", "5")
    assert (dry.exit_code, dry.stdout) == (0, "")
    assert "whose answers are kept" not in dry.stderr
    assert [path.name for path in Path().iterdir()] == ["in.csv"]
    assert len([attempt for attempt in sim.ledger if attempt.api == "chat"]) == 5


# Several machines


def test_shards_merged_and_exported_are_the_whole_in_the_order_of_the_input(vendor: Vendor) -> None:
    sim = vendor()
    write("in.csv", "id,city\n" + "".join(f"n{n},City {n}\n" for n in range(30)))
    for shard in ("1/3", "2/3", "3/3"):
        done = run("bulk", "in.csv", *ASK, "--id", "id", "--shard", shard, "-o", f"part{shard[0]}.jsonl")
        assert done.exit_code == 0
    assert len(sim.ledger) == 30
    parts = [f"part{n}.jsonl" for n in (1, 2, 3)]
    assert all(len(lines(part)) < 30 for part in parts)
    merged = run("merge", *reversed(parts), "-o", "all.jsonl")
    assert (merged.exit_code, merged.stderr) == (0, "30 rows: all.jsonl\n")
    most = run("merge", *parts[:2], "-o", "most.jsonl")
    assert most.stderr.endswith(": most.jsonl\naimlasync: not among these journals: shard 3/3\n")
    columns = ("--columns", "id,answer,custom_id")
    out = run("export", "all.jsonl", "-o", "all.csv", "--input", "in.csv", *columns)
    assert (out.exit_code, out.stderr) == (0, "30 rows: all.csv\n")
    rows = table("all.csv")
    assert [row["id"] for row in rows] == [f"n{n}" for n in range(30)]
    assert all(row["answer"] for row in rows)


def test_the_merged_journal_is_gone_on_with_as_one_job(vendor: Vendor) -> None:
    sim = vendor()
    cities(10)
    for shard in ("1/2", "2/2"):
        assert run("bulk", "in.csv", *ASK, "--shard", shard, "-o", f"part{shard[0]}.jsonl").exit_code == 0
    assert run("merge", "part1.jsonl", "part2.jsonl", "-o", "all.jsonl").exit_code == 0
    whole = run("bulk", "in.csv", *ASK, "-o", "all.jsonl")
    assert whole.exit_code == 0
    assert "Everything is done already; nothing was asked." in whole.stderr
    assert len(sim.ledger) == 10


def test_the_journals_of_two_jobs_are_not_merged(vendor: Vendor) -> None:
    vendor()
    cities(2)
    for name in ("one", "two"):
        assert run("bulk", "in.csv", "--prompt", f"{name} {{city}}", "-o", f"{name}.jsonl").exit_code == 0
    refused = run("merge", "one.jsonl", "two.jsonl", "-o", "all.jsonl")
    assert refused.exit_code == 2
    assert "aimlasync: two.jsonl: another job than that of one.jsonl: differs in prompt" in refused.stderr
    assert not Path("all.jsonl").exists()


# What is wrong is said before any call


@pytest.mark.parametrize(
    ("content", "args", "said"),
    [
        (request("one") + request("one"), [], "in.jsonl: line 2: 'one' is the id of an earlier row too"),
        (request("one") + "{}\n", [], 'in.jsonl: line 2: no "body"'),
        (request("one") + '{"custom_id":"b","body":3}\n', [], 'in.jsonl: line 2: no "body"'),
        (request("one") + "{\n", [], "in.jsonl: line 2: not JSON"),
        (request("one") + request("b", stream=True), [], 'in.jsonl: line 2: "stream" is set'),
        (
            request("one") + '{"custom_id":"b","url":"/v1/embeddings","body":{"model":"m","input":"x"}}\n',
            [],
            "line 2: ",
        ),
        ('{"city":"Paris"}\n', [], "in.jsonl: line 1: not a line of OpenAI's Batch API"),
        ('{"city":"Paris"}\n{"town":"Rome"}\n', [*ASK], "in.jsonl: line 2: no 'city' in this row"),
        (
            '{"city":"a","id":"x"}\n{"city":"b","id":"x"}\n',
            [*ASK, "--id", "id"],
            "in.jsonl: line 2: 'x' is the id of an earlier row too",
        ),
        ('{"city":"a","id":""}\n', [*ASK, "--id", "id"], "in.jsonl: line 1: 'id' is empty"),
        ('{"city":"a"}\n', [*ASK, "--id", "id"], "in.jsonl: no column 'id' for --id; there are: city"),
        ('{"city":"a"}\n', ["--prompt", "Hello"], "the prompt has no {column} in it"),
        ('{"city":"a"}\n', ["--prompt", "{town}"], "the prompt names {town}, which is no column; there are: city"),
        ('{"city":"a"}\n', ["--prompt", "{city"], "a lone { in the prompt"),
        ('{"city":"a"}\n', [*ASK, "--params", "{"], "--params: not JSON"),
        ('{"city":"a"}\n', [*ASK, "--params", "[" * 200 + "]" * 200], "not JSON (nested more than 100 levels deep)"),
        ('{"city":"a"}\n', [*ASK, "--params", "[" * 5000 + "]" * 5000], "not JSON (nested more than 100 levels deep)"),
        ('{"city":"a"}\n', [*ASK, "--params", "[]"], "--params: not a JSON object"),
        ('{"city":"a"}\n', [*ASK, "--schema", "none.json"], "none.json: No such file"),
        ('{"city":"a"}\n', [*ASK, "--schema", "no_module_here:Type"], "no_module_here: cannot be imported"),
        ('{"city":"a"}\n', [*ASK, "--schema", "json:Type"], "json has no Type; name a type in it"),
        ('{"city":"a"}\n', [*ASK, "--schema", "json:loads"], "json:loads: "),
        ('{"city":"a"}\n', [*ASK, "--schema", "in.jsonl"], "in.jsonl: not the schema of an object"),
        ('{"city":"a"}\n', [*ASK, "--shard", "4/3"], "4/3 is no shard; write 1/3 to 3/3"),
        ('{"city":"a"}\n', [*ASK, "--deadline", "soon"], "--deadline: 'soon' is no duration"),
        ('{"city":"a"}\n', [*ASK, "--timeout", "0"], "--timeout: '0' is no duration"),
        (
            '{"city":"a"}\n',
            [*ASK, "--api-key=sk-12"],
            "--api-key: keys come from the environment only; set AIML_API_KEY",
        ),
        (
            '{"city":"a"}\n',
            [*ASK, "--token", "sk-12"],
            "--token: keys come from the environment only; set AIML_API_KEY",
        ),
        (
            '{"city":"a"}\n',
            [*ASK, "--columns", "town"],
            "in.jsonl: no column 'town'; there are: city, custom_id, place, ok",
        ),
        ('{"city":"a"}\n', [*ASK, "--restart", "--dry-run"], "an estimate throws no answers away"),
        ('{"city":"a"}\n', [*ASK, "--errors", "no/bad.jsonl"], "no/bad.jsonl: there is no directory no"),
        ('{"city":"a"}\n', [*ASK, "--errors", "out.jsonl"], "out.jsonl: belongs to the output itself"),
        ('{"city":"a"}\n', [*ASK, "--errors", "in.jsonl"], "in.jsonl: the input itself; choose another --errors"),
        ('{"city":"a"}\n', [*ASK, "-o", "out.txt"], "out.txt: neither .csv nor .tsv, .jsonl, .json, .parquet or .xlsx"),
        (request("one"), ["--system", "x"], "--system, --params, --schema and --id go with --prompt"),
        (
            '{"city":"a"}\n',
            [*ASK, "--max-usd", "1", "--model", "no/such"],
            "--max-usd: the price of no/such is not known",
        ),
        ('{"city":"a"}\n', [*ASK, "--base-url", "http://127.0.0.1:1"], "which model?"),
        (
            request("one") + request("two", model=None),
            ["--base-url", "http://127.0.0.1:1"],
            'in.jsonl: line 2: no "model" in the body; name one there, or with --model',
        ),
    ],
)
def test_what_is_wrong_is_one_line_before_any_call(content: str, args: list[str], said: str, vendor: Vendor) -> None:
    sim = vendor()
    write("in.jsonl", content)
    output = [] if "-o" in args else ["-o", "out.jsonl"]
    done = run("bulk", "in.jsonl", *output, *args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert done.stderr.startswith("aimlasync: ")
    assert "sk-12" not in done.stderr
    assert not any(attempt.api in ("chat", "responses") for attempt in sim.ledger)


def test_a_server_without_a_default_needs_no_model_where_each_request_names_one(vendor: Vendor) -> None:
    sim = vendor()
    write("in.jsonl", request("one") + request("two", api="responses", model="gpt-5-nano"))
    command = ["bulk", "in.jsonl", "--base-url", sim.base_url]
    assert run(*command, "-o", "out.jsonl", "--max-usd", "1", "--price", "1,2").exit_code == 0
    assert run(*command, "-o", "-").exit_code == 0
    assert sorted(attempt.model for attempt in sim.ledger) == sorted([NANO, "gpt-5-nano"] * 2)


@pytest.mark.parametrize(
    "option",
    [
        ["--shard", "1/3"],
        ["--dedupe"],
        ["--restart"],
        ["--keep-failed"],
        ["--durability", "power"],
        ["--errors", "bad.jsonl"],
        ["--columns", "city"],
    ],
)
def test_what_takes_a_journal_is_refused_where_there_is_none(option: list[str], vendor: Vendor) -> None:
    sim = vendor()
    cities(3)
    done = run("bulk", "in.csv", *ASK, *option)
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.fullmatch(rf"aimlasync: {option[0]}.*; add -o PATH.*\n", done.stderr)
    assert not len(sim.ledger)


def test_a_schema_whose_module_fails_is_one_line(vendor: Vendor) -> None:
    vendor()
    cities(1)
    write("broken.py", "1 / 0\n")
    done = run("bulk", "in.csv", *ASK, "--schema", "broken.py:Form")
    assert done.exit_code == 2
    assert done.stderr == (
        "aimlasync: broken.py: cannot be imported (division by zero); name a JSON schema, or module:Type\n"
    )


# What stops a job


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("status", status=402, after=3), "top up the account"),
        (
            Fault("status", status=403, after=3, message="You've run out of credits. Please top up your balance"),
            "top up the account",
        ),
        (Fault("status", status=401, after=3), "check the key in AIML_API_KEY or BYTESPIKE_API_KEY"),
    ],
)
def test_no_credit_and_a_bad_key_stop_the_job_at_once_resumably(fault: Fault, said: str, vendor: Vendor) -> None:
    sim = vendor(faults=[fault])
    cities(200)
    command = ("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "2")
    done = run(*command)
    assert done.exit_code == 1
    assert last_line(done).startswith(f"aimlasync: stopped: HTTP {fault.status}: ")
    assert f"{said}; 3 rows done; run the same command to go on" in last_line(done)
    assert len(lines("out.jsonl")) == 3
    assert len(sim.ledger) <= 6
    sim.faults.clear()
    sim.ledger.clear()
    assert run(*command, "--limit", "10").exit_code == 0
    assert len(sim.ledger) == 7


def test_an_account_that_runs_empty_stops_the_job(vendor: Vendor) -> None:
    sim = vendor(balance_usd=0.0005)
    cities(200)
    done = run("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--concurrency", "2")
    assert done.exit_code == 1
    assert "top up the account" in last_line(done)
    assert len(lines("out.jsonl")) == sum(attempt.status == 200 for attempt in sim.ledger)


def test_a_bad_request_of_a_batch_fails_alone(vendor: Vendor) -> None:
    vendor()
    bad = [request(f"bad{n}", model="no/such-model") for n in range(5)]
    write("in.jsonl", "".join(bad) + request("good"))
    done = run("bulk", "in.jsonl", "-o", "out.jsonl")
    assert done.exit_code == 3
    assert [line["custom_id"] for line in lines("out.jsonl") if line["error"] is None] == ["good"]


# What is seen


def test_progress_as_json_is_json_on_every_line_and_nothing_of_a_prompt(vendor: Vendor) -> None:
    vendor(latency=Latency.of(ttft=0.05))
    write("in.csv", "city\n" + "".join(f"secret-{n}\n" for n in range(40)))
    done = run("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--progress", "json", "--concurrency", "4")
    assert done.exit_code == 0
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(found) >= 2
    for line in found:
        assert {
            "done",
            "failed",
            "in_flight",
            "calls_per_second",
            "tokens_per_second",
            "cost_usd",
            "eta_seconds",
            "limited_by",
        } <= set(line)
    assert (found[0]["done"], found[-1]["done"], found[-1]["total"]) == (0, 40, 40)
    assert found[-1]["cost_usd"] > 0
    assert "secret" not in done.stderr


@pytest.mark.parametrize("status", [422, 500])
def test_nothing_of_a_prompt_or_key_is_on_the_screen(status: int, vendor: Vendor) -> None:
    vendor(faults=[Fault("status", status=status, after=2, times=6)])
    write("in.csv", "text\n" + "".join(f"secret-{n} is what I have to say\n" for n in range(20)))
    for command in (("bulk", "--prompt", "{text}"), ("classify", *LABELS)):
        done = run(command[0], "in.csv", *command[1:], "-o", f"{command[0]}.csv", "--system", "secret-system")
        assert done.exit_code in (0, 3)
        assert "secret" not in done.stderr
        assert KEY not in done.stderr


def test_the_journal_can_be_made_to_survive_a_power_failure(vendor: Vendor) -> None:
    vendor()
    cities(20)
    done = run("bulk", "in.csv", *ASK, "-o", "out.jsonl", "--durability", "power")
    assert done.exit_code == 0
    assert len(lines("out.jsonl")) == 20


# Classification


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_several_labels_a_row_are_measured_against_gold(endpoint: str, vendor: Vendor) -> None:
    given = {"one": ["a"], "two": ["a", "b"], "three": []}
    vendor(answer=lambda asked: json.dumps({"labels": given[asked.text]}))
    write("in.csv", "text,gold\none,a\ntwo,b|a\nthree,b\n")
    words = ("--multi", "--gold", "gold", "--endpoint", endpoint, "-o", "out.csv")
    done = run("classify", "in.csv", *LABELS, *words)
    assert done.exit_code == 0, done.stderr
    assert [row["label"] for row in table("out.csv")] == ["a", "a|b", ""]
    assert "66.7 % (2 of 3)" in done.stderr
    assert re.search(r"a +100.0 % +100.0 % +100.0 % +2 +2", done.stderr)
    assert re.search(r"b +100.0 % +50.0 % +66.7 % +2 +1", done.stderr)


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_examples_are_shown_as_earlier_turns(endpoint: str, vendor: Vendor) -> None:
    sim = vendor(keep_bodies=True)
    write("in.csv", "text\nI have something to ask\n")
    write("shots.csv", "text,label\ngood day,a\nbad day,b\n")
    words = ("--few-shot", "shots.csv", "--endpoint", endpoint, "-o", "out.csv")
    assert run("classify", "in.csv", *LABELS, *words).exit_code == 0
    body = sim.ledger[0].body
    assert body is not None
    turns = body["messages"][1:] if endpoint == "chat" else body["input"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert [json.loads(turn["content"]) for turn in turns if turn["role"] == "assistant"] == [
        {"label": "a"},
        {"label": "b"},
    ]


def test_an_example_with_another_label_is_refused(vendor: Vendor) -> None:
    vendor()
    write("in.csv", "text\nI have something to ask\n")
    write("shots.csv", "text,label\ngood day,c\n")
    done = run("classify", "in.csv", *LABELS, "--few-shot", "shots.csv")
    assert done.exit_code == 2
    assert "'c', which is none of the labels" in done.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", '{"refund": "wants money back", "other": "the rest"}'),
        ("labels.txt", "refund: wants money back\nother: the rest\n"),
    ],
)
def test_labels_of_a_file_bring_their_meanings(name: str, content: str, vendor: Vendor) -> None:
    sim = vendor(keep_bodies=True)
    write(name, content)
    write("in.csv", "text\nGive me my money\n")
    done = run("classify", "in.csv", "--labels", f"@{name}", "-o", "out.csv")
    assert done.exit_code == 0, done.stderr
    assert table("out.csv")[0]["label"] in ("refund", "other")
    system = (sim.ledger[0].body or {})["messages"][0]["content"]
    assert "refund: wants money back" in system
    assert "other: the rest" in system


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "labels.json"], "labels.json is a file; its labels are read with an @ before it: --labels @"),
        (["--labels", "labels.json", "--multi"], "labels.json is a file; its labels are read with an @ before it"),
        (["--labels", "a,b", "--schema", "labels.json"], "--labels or --schema, not both"),
        ([], "say what to choose from: --labels support,billing,sales, or --schema FILE"),
    ],
)
def test_what_to_choose_from_is_said_once_and_a_file_of_it_with_an_at(
    words: list[str], said: str, vendor: Vendor
) -> None:
    sim = vendor()
    write("labels.json", '["a", "b"]')
    write("in.csv", "text\nGive me my money\n")
    done = run("classify", "in.csv", *words, "-o", "out.csv")
    assert (done.exit_code, len(done.stderr.splitlines()), len(sim.ledger)) == (2, 1, 0), done.stderr
    assert said in done.stderr


def test_a_file_may_have_an_at_before_its_name_everywhere(vendor: Vendor) -> None:
    sim = vendor(keep_bodies=True)
    write("in.csv", "text\none\n")
    write("shots.csv", "text,label\ngood day,b\n")
    write("form.json", json.dumps(SCHEMA))
    assert run("classify", "in.csv", *LABELS, "--few-shot", "@shots.csv", "-o", "a.csv").exit_code == 0
    assert "good day" in str(sim.ledger[0].body)
    assert run("classify", "in.csv", "--schema", "@form.json", "-o", "b.csv").exit_code == 0
    assert run("bulk", "in.csv", "--prompt", "{text}", "--schema", "@form.json", "-o", "c.jsonl").exit_code == 0
    # It is the same job as without.
    again = run("bulk", "in.csv", "--prompt", "{text}", "--schema", "form.json", "-o", "c.jsonl")
    assert "Everything is done already" in again.stderr
    assert "@none.json" not in run("classify", "in.csv", "--schema", "@none.json").stderr


@pytest.mark.parametrize("command", ["export", "report", "merge"])
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.xlsx"])
def test_where_a_journal_is_wanted_its_table_is_refused_with_the_name_of_the_journal(
    command: str, name: str, vendor: Vendor
) -> None:
    vendor()
    other, another = ("page", "page2") if command == "report" else ("other.jsonl", "another.jsonl")
    write("in.csv", "text\nGive me my money\n")
    assert run("classify", "in.csv", *LABELS, "-o", name).exit_code == 0
    done = run(command, name, "-o", other)
    assert (done.exit_code, done.stderr) == (
        2,
        f"aimlasync: {name}: the output of a job, and no journal; its journal is {name}.journal\n",
    )
    assert run(command, f"{name}.journal", "-o", other).exit_code == 0
    # Nobody is told to delete a line of a file that is no journal.
    done = run(command, "in.csv", "-o", another)
    assert done.exit_code == 2
    assert "in.csv: not a journal: line 1 is not" in done.stderr
    assert done.stderr.endswith("; the journal is a file beside the job's output\n")
    if command == "merge":
        done = run(command, f"{name}.journal", "none.journal", "-o", "another.jsonl")
        said = "none.journal: no journal can be read there (No such file or directory); check the name"
        assert (done.exit_code, done.stderr) == (2, f"aimlasync: {said}\n")
        assert not Path("another.jsonl").exists()


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_confidence_is_a_column_of_its_own(endpoint: str, vendor: Vendor) -> None:
    vendor()
    write("in.csv", "text\n" + "".join(f"text number {n}\n" for n in range(5)))
    words = ("--confidence", "--endpoint", endpoint, "--model", PLAIN, "-o", "out.csv")
    done = run("classify", "in.csv", *LABELS, *words)
    assert done.exit_code == 0, done.stderr
    found = [float(row["confidence"]) for row in table("out.csv")]
    assert all(0 < sureness < 1 for sureness in found)
    assert len(set(found)) > 1


def test_confidence_that_a_model_does_not_give_is_refused_with_what_to_do(vendor: Vendor) -> None:
    sim = vendor()
    write("in.csv", "text\none\n")
    done = run("classify", "in.csv", *LABELS, "--confidence", "--model", NANO, "-o", "out.csv")
    assert done.exit_code == 2
    assert done.stderr == f"aimlasync: --confidence: {NANO} gives no token probabilities; choose another --model\n"
    assert not len(sim.ledger)


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_a_schema_adds_a_column_for_each_of_its_properties(endpoint: str, vendor: Vendor) -> None:
    vendor(answer=lambda asked: json.dumps({"team": "b", "urgent": True}))
    write("form.json", json.dumps(SCHEMA))
    write("in.csv", "text,gold\none,b\ntwo,a\n")
    words = ("--schema", "form.json", "--gold", "gold", "--endpoint", endpoint, "-o", "out.csv")
    done = run("classify", "in.csv", *words)
    assert done.exit_code == 0, done.stderr
    assert [(row["team"], row["urgent"]) for row in table("out.csv")] == [("b", "true"), ("b", "true")]
    assert "50.0 % (1 of 2)" in done.stderr


@pytest.mark.parametrize("answer", ["{}", '{"team": "c", "urgent": true}', '{"team": "a", "urgent": 1}', "[]"])
def test_an_answer_that_does_not_fit_a_schema_is_a_failed_row(answer: str, vendor: Vendor) -> None:
    vendor(answer=lambda asked: answer)
    write("form.json", json.dumps(SCHEMA))
    write("in.csv", "text\none\n")
    done = run("classify", "in.csv", "--schema", "form.json", "-o", "out.csv")
    assert done.exit_code == 3
    assert "1 AnswerInvalidError, such as row-1: " in done.stderr
    assert table("out.csv") == [{"text": "one", "team": "", "urgent": ""}]


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "-"])
def test_a_row_that_fails_stays_with_an_empty_label(name: str, vendor: Vendor) -> None:
    vendor(faults=[Fault("status", status=422, match=lambda asked: asked.text == "two")])
    write("in.csv", "text\none\ntwo\nthree\n")
    done = run("classify", "in.csv", *LABELS, "-o", name)
    assert done.exit_code == 3
    if name == "out.jsonl":
        rows = [(row["text"], bool(row["label"])) for row in lines(name)]
    elif name == "-":
        rows = [(row["text"], bool(row["label"])) for row in csv.DictReader(done.stdout.splitlines())]
    else:
        rows = [(row["text"], bool(row["label"])) for row in table(name)]
    assert rows == [("one", True), ("two", False), ("three", True)]


# The same command on a table that has changed


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["one", "workers"])
@pytest.mark.parametrize("command", [("bulk", *ASK), ("classify", "--text", "city", *LABELS)], ids=["bulk", "classify"])
@pytest.mark.parametrize("known", [[], ["--id", "id"]], ids=["content", "id"])
def test_a_table_that_has_changed_is_gone_on_with_and_it_is_said_first(
    known: list[str], command: tuple[str, ...], workers: list[str], vendor: Vendor
) -> None:
    sim = vendor(keep_bodies=True)
    words = [command[0], "in.csv", *command[1:], *known, *workers, "-o", "out.csv"]
    write("in.csv", CITIES)
    code, _, err = ended(*words)
    assert (code, "has changed" in err) == (0, False), err
    # One more, in front; one edited; one gone.
    write("in.csv", "id,city\nw,Bern\ny,Roma\nx,Paris\n")
    code, _, err = ended(*words)
    assert code == 0, err
    # Without an id nothing tells the edited row from a new one, but for its place.
    said = "in.csv has changed: 1 kept, 1 new, 1 changed, 1 gone"
    assert err.splitlines()[0] == f"aimlasync: {said}"
    assert sorted(text.split()[-1] for text in texts(sim)) == ["Bern", "Oslo", "Paris", "Roma", "Rome"]
    assert [row["id"] for row in table("out.csv")] == ["w", "y", "x"]
    assert len(lines("out.csv.journal")) == 3
    report = run("report", "out.csv.journal", "-o", "report.html")
    assert "3 rows ok, 0 failed" in report.stderr


def test_a_changed_table_is_said_as_json_too(vendor: Vendor) -> None:
    vendor()
    cities(3)
    words = ["bulk", "in.csv", *ASK, "-o", "out.jsonl", "--progress", "json"]
    assert run(*words).exit_code == 0
    cities(5)
    found = [json.loads(line) for line in run(*words).stderr.splitlines()]
    assert found[0] == {"changes": {"kept": 3, "failed": 0, "new": 2, "changed": 0, "gone": 0}}


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_the_summary_says_what_of_the_cost_is_this_runs(workers: list[str], vendor: Vendor) -> None:
    vendor(vendor="openai")
    words = ["bulk", "in.csv", *ASK, "--model", "my-own", "--price", "20,20", "-o", "out.jsonl", *workers]
    cities(3)
    first = ended(*words)[2]
    assert "by this run" not in first
    known = {line["custom_id"] for line in lines("out.jsonl")}
    cities(5)
    second = ended(*words)[2]
    costs = {line["custom_id"]: line["info"]["cost_usd"] for line in lines("out.jsonl")}
    mine = sum(cost for name, cost in costs.items() if name not in known)
    assert f"${sum(costs.values()):.4f} at the price given or listed, ${mine:.4f} of it by this run" in second
    # Where nothing was asked, nothing is said of this run.
    assert "by this run" not in ended(*words)[2]


def test_the_advice_to_ask_again_about_bad_answers_works(vendor: Vendor) -> None:
    sim = vendor()
    write("in.jsonl", request("one") + request("two", "[refuse] me"))
    assert "--retry-invalid asks again" in run("bulk", "in.jsonl", "-o", "out.jsonl").stderr
    again = run("bulk", "in.jsonl", "-o", "out.jsonl", "--retry-invalid", "2")
    assert again.exit_code == 3
    assert "1 AnswerRefusedError" in again.stderr
    assert len(sim.ledger) == 2 + 3


def test_an_export_takes_the_table_of_today(vendor: Vendor) -> None:
    vendor()
    write("in.csv", CITIES)
    assert run("bulk", "in.csv", *ASK, "-o", "out.jsonl").exit_code == 0
    write("in.csv", "id,city\nw,Bern\nz,Oslo\nx,Paris\n")
    done = run("export", "out.jsonl", "--input", "in.csv", "--columns", "id,ok", "-o", "out.csv")
    assert done.stderr == "3 rows; 1 have no answer yet; 1 answers are of no row of in.csv: out.csv\n"
    assert Path("out.csv").read_text() == "id,ok\nw,\nz,true\nx,true\n"


@pytest.mark.parametrize("words", [["--id", "ID"], []])
def test_an_export_names_the_columns_where_that_of_the_id_is_not_there(words: list[str], vendor: Vendor) -> None:
    vendor()
    write("in.csv", CITIES)
    assert run("bulk", "in.csv", *ASK, "--id", "id", "-o", "out.jsonl").exit_code == 0
    missing = "ID" if words else "id"
    if not words:
        write("in.csv", CITIES.replace("id", "name"))
    done = run("export", "out.jsonl", "--input", "in.csv", *words, "-o", "out.csv")
    there = "id, city" if words else "name, city"
    said = f"aimlasync: in.csv: line 2: no column {missing!r} for the id; there are: {there}\n"
    assert (done.exit_code, done.stderr) == (2, said)


# What is said to the model


def test_prompts_and_system_messages_may_be_files_with_columns(vendor: Vendor) -> None:
    sim = vendor(keep_bodies=True)
    write("in.csv", CITIES)
    write("ask.txt", "Tell of {city}\n")
    write("system.txt", "\ufeffYou know all of {city}.\nBe brief.\n")
    words = ("--prompt", "@ask.txt", "--system", "@system.txt")
    assert run("bulk", "in.csv", *words, "-o", "out.jsonl").exit_code == 0
    bodies = [attempt.body["messages"] for attempt in sim.ledger if attempt.body]
    assert {(said[0]["content"], said[1]["content"]) for said in bodies} == {
        (f"You know all of {city}.\nBe brief.", f"Tell of {city}") for city in ("Paris", "Rome", "Oslo")
    }
    # The columns of the system message decide the answer too.
    write("in.csv", CITIES.replace("Rome", "Roma"))
    assert "2 kept, 1 changed" in run("bulk", "in.csv", *words, "-o", "out.jsonl").stderr
    classified = ("--text", "city", "--system", "A city of {id}: one of a, b.", "--prompt", "@@{text}")
    assert run("classify", "in.csv", *LABELS, *classified, "-o", "out.csv").exit_code == 0
    said = [attempt.body["messages"] for attempt in sim.ledger if attempt.body][-1]
    assert re.fullmatch("A city of [xyz]: one of a, b.", said[0]["content"])
    assert said[-1]["content"].startswith("@")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt", "@none.txt"], "--prompt @none.txt: No such file or directory; name a file of text after @"),
        (["--prompt", "ask.txt"], "--prompt ask.txt: the name of a file; write --prompt @ask.txt"),
        ([*ASK, "--system", "./ask.txt"], "--system ./ask.txt: the name of a file; write --system @./ask.txt"),
        (["--prompt", "Tell of {{ city }}"], "{{ city }} is how Jinja writes it; here a column is written {city}"),
        ([*ASK, "--system", "Know {{city}}"], "{{city}} is how Jinja writes it; here a column is written {city}"),
        ([*ASK, "--system", "Know {town}"], "the system message names {town}, which is no column; there are: id, city"),
        ([*ASK, "--params", '{"model": "other"}'], '"model" is among the parameters (--params)'),
        ([*ASK, "--params", '{"messages": []}'], "say it with --prompt and --system"),
        ([*ASK, "--params", '{"stream": true}'], "nobody would read the stream"),
    ],
)
def test_texts_that_would_be_taken_literally_are_refused(words: list[str], said: str, vendor: Vendor) -> None:
    sim = vendor()
    write("in.csv", CITIES)
    write("ask.txt", "Tell of {city}")
    done = run("bulk", "in.csv", *words, "-o", "out.jsonl")
    assert (done.exit_code, len(done.stderr.splitlines()), len(sim.ledger)) == (2, 1, 0), done.stderr
    assert said in done.stderr


# Money


def test_a_price_that_is_given_is_in_the_summary_the_column_and_the_report(vendor: Vendor) -> None:
    vendor(vendor="openai")
    cities(10)
    words = ("--model", "my-own", "--price", "1,2")
    done = run("bulk", "in.csv", *ASK, *words, "-o", "out.jsonl")
    facts = [line["info"] for line in lines("out.jsonl")]
    total = sum(each["tokens_in"] * 1e-6 + each["tokens_out"] * 2e-6 for each in facts)
    assert sum(each["cost_usd"] for each in facts) == pytest.approx(total)
    assert f"${total:.4f} at the price given or listed" in done.stderr
    run("export", "out.jsonl", "--columns", "custom_id,cost_usd", "-o", "out.csv")
    assert sum(float(row["cost_usd"]) for row in table("out.csv")) == pytest.approx(total)
    run("report", "out.jsonl", "-o", "report.html")
    assert f"${total:.4f}" in Path("report.html").read_text() or f"{total:.6f}" in Path("report.html").read_text()
    # Workers too; this process has threads, so that they are no forks of it.
    done = run("bulk", "in.csv", *ASK, *words, "--workers", "2", "-o", "two.jsonl")
    assert done.exit_code == 0, done.stderr
    assert all(line["info"]["at_price"] for line in lines("two.jsonl"))


def test_the_model_of_a_later_line_is_priced_on_a_pipe_too(vendor: Vendor) -> None:
    sim = vendor()
    given = "".join(request(f"r{n}") for n in range(3)) + request("dear", model="no/such") + request("last")
    done = run("bulk", "-", "--max-usd", "1", "--concurrency", "1", stdin=given)
    assert done.exit_code == 1
    assert last_line(done).startswith("aimlasync: stopped: the price of no/such is not known")
    assert "say it with --price IN,OUT" in last_line(done)
    assert not [attempt for attempt in sim.ledger if attempt.model == "no/such"]


def test_a_dry_run_of_a_sorted_file_says_what_all_rows_take(vendor: Vendor) -> None:
    sim = vendor()
    write("in.csv", "city\n" + "".join(f"{'word ' * (1 + n)}{n}\n" for n in range(400)))
    words = ("bulk", "in.csv", *ASK, "-o", "out.jsonl")
    dry = run(*words, "--dry-run")
    found = re.search(r"tokens +about ([\d,]+)(?: \(([\d,]+) to ([\d,]+)\))? in", dry.stderr)
    assert found is not None, dry.stderr
    said = [int(number.replace(",", "")) for number in found.groups() if number]
    sim.ledger.clear()
    assert run(*words).exit_code == 0
    true = sum(attempt.prompt_tokens for attempt in sim.ledger if attempt.api == "chat")
    assert abs(said[0] - true) < 0.05 * true
    assert re.search(r"cost +about \$[\d.]+", dry.stderr)


def test_the_last_line_of_progress_as_json_has_the_labels(vendor: Vendor) -> None:
    vendor(answer=lambda request: Answer(text='{"label":"a"}'))
    write("in.csv", "text,team\none,A\ntwo,b\nthree,\n")
    done = run("classify", "in.csv", "--labels", "a,b", "--gold", "team", "-o", "out.csv", "--progress", "json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[0] == {"labels": {"a": "", "b": ""}}
    assert (lines[-1]["labels"], lines[-1]["judged"], lines[-1]["right"]) == ({"a": 3}, 2, 1)
