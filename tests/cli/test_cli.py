"""The command line: what it prints where, how it ends, and that nothing is lost or asked twice."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest

from aimlasync.cli import cli
from aimlasync.simulator import Answer, Fault, Latency, Simulator, serve_in_thread
from tests.support.commands import TICKETS, finish, journal, last_line, run, start, table, until, write
from tests.support.forked import Command
from tests.support.servers import KEY

LABELS = ("--labels", "support,billing,sales")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# The main flows, as a user runs them


def test_classify_without_a_key_says_loudly_that_it_simulates() -> None:
    code, out, err = finish(start("classify", TICKETS, *LABELS, "--limit", "40", "--gold", "team", "-o", "out.csv"))
    assert (code, out) == (0, "")
    first = err.splitlines()[0]
    assert "no AIML_API_KEY or BYTESPIKE_API_KEY: answers come from the built-in simulator, not from a model" in first
    assert "classify tickets.csv (simulated)" in err
    assert "40 labelled" in err
    assert "accuracy" in err
    assert "right \\ given" in err
    assert "\x1b" not in err
    rows = table("out.csv")
    assert [row["id"] for row in rows] == [f"T{number:03}" for number in range(1, 41)]
    assert {row["label"] for row in rows} <= {"support", "billing", "sales"}
    # The texts stay out of sight.
    assert not [row["text"] for row in rows if row["text"][:30] in err]


def test_classify_writes_to_stdout_in_the_order_of_the_input() -> None:
    with open(TICKETS) as tickets:
        code, out, err = finish(start("classify", "-", *LABELS, "--limit", "30", stdin=tickets))
    assert code == 0, err
    rows = list(csv.DictReader(out.splitlines(keepends=True)))
    assert [row["id"] for row in rows] == [f"T{number:03}" for number in range(1, 31)]
    assert not list(Path().iterdir())


def test_chat_streams_to_stdout_and_says_nothing_else() -> None:
    for endpoint in ("chat", "responses"):
        code, out, err = finish(start("chat", "Hello", "--simulate", "--endpoint", endpoint, "--system", "Be brief."))
        assert (code, err) == (0, "")
        assert "“Hello”" in out
        assert out.endswith("\n")
        assert not out.endswith("\n\n")


def test_models_are_listed() -> None:
    code, out, err = finish(start("models", "--simulate"))
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["id", "context", "max", "output"]
    assert any(line.split() == ["openai/gpt-5-nano-2025-08-07", "400,000", "-"] for line in out.splitlines())


def test_simulate_serves_until_ctrl_c_and_prints_its_ledger() -> None:
    process = start("simulate", "--port", "0", "--fault", "status:503,times=1")
    assert process.stdout is not None
    head = [process.stdout.readline() for _ in range(4)]
    url = head[1].strip().removeprefix("export AIML_API_URL=")
    assert head[0].startswith("# aimlapi simulated at http://127.0.0.1:")
    assert head[2] == "export AIML_API_KEY=anything\n"
    # A comment, so that a shell that takes the lines in sends no other program's calls here.
    assert head[3] == f"# for code that reads OPENAI_*: export OPENAI_BASE_URL={url} OPENAI_API_KEY=anything\n"
    asked = run("chat", "Hi", "--base-url", url, "--model", "openai/gpt-5-nano-2025-08-07")
    assert asked.exit_code == 1
    assert "401" in asked.stderr
    os.environ["AIML_API_KEY"] = "anything"
    try:
        assert run("chat", "Hi", "--base-url", url, "--model", "openai/gpt-5-nano-2025-08-07").exit_code == 0
    finally:
        del os.environ["AIML_API_KEY"]
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, err) == (0, "")
    assert "by status: 1 with 200, 1 with 401, 1 with 503" in out
    assert "tokens" in out
    assert "cost      $0.0000" in out


def test_the_entry_names_its_extra_when_it_is_missing() -> None:
    without = "import sys; sys.modules['click'] = None; from aimlasync.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "the command line needs its extra: pip install 'aimlasync[cli]'\n"


def test_a_command_collects_seldom_and_a_program_as_it_likes() -> None:
    program = """
import gc, sys
# Python 3.12 begins with some that are frozen.
began = gc.get_threshold(), gc.get_freeze_count()
import aimlasync.cli
print((gc.get_threshold(), gc.get_freeze_count()) == began)
sys.argv = ["aimlasync", "--version"]
from aimlasync.__main__ import main
try:
    main()
finally:
    print(gc.get_threshold()[0], gc.get_freeze_count() > 10_000)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    before, *_, after = done.stdout.splitlines()
    assert (before, after) == ("True", "10000 True"), done.stderr


def test_a_key_of_openai_is_read_where_the_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    without = run("models").stderr
    assert "no key: set AIML_API_KEY" in without
    assert "OPENAI" not in without
    with serve_in_thread() as simulator:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-user")
        monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url)
        refused = run("models")
        assert refused.exit_code == 2
        assert refused.stderr.rstrip().endswith("; OPENAI_API_KEY is read with --key-env OPENAI_API_KEY")
        assert len(simulator.ledger) == 0
        assert run("models", "--key-env", "OPENAI_API_KEY").exit_code == 0


# Going on after an end


def read_until(process: Command, said: str) -> None:
    """Read stderr up to the line that says it."""
    assert process.stderr is not None
    assert any(said in line for line in process.stderr), f"it ended without {said!r}"


def interrupted(sim: Simulator, *, after: int, by: signal.Signals) -> tuple[int, str]:
    process = start("classify", TICKETS, *LABELS, "-o", "out.csv", "--concurrency", "8")
    until(lambda: sim.ledger.by_status().get(200, 0) >= after)
    process.send_signal(by)
    code, out, err = finish(process)
    assert KEY not in out + err
    return code, err


def test_ctrl_c_and_the_same_command_ask_about_every_row_exactly_once(vendor: Callable[..., Simulator]) -> None:
    sim = vendor(latency=Latency.of(ttft=0.01))
    code, err = interrupted(sim, after=60, by=signal.SIGINT)
    assert code == 130
    assert "run the same command to go on" in err
    part = table("out.csv")
    assert 60 <= len(part) < 360
    assert len(journal("out.csv")) == len(part) == len(sim.ledger)
    code, _, err = finish(start("classify", TICKETS, *LABELS, "-o", "out.csv"))
    assert code == 0, err
    assert f"360 labelled ({len(part)} by earlier runs)" in err
    assert len(sim.ledger) == 360
    assert set(Counter(attempt.text_digest for attempt in sim.ledger).values()) == {1}
    whole = table("out.csv")
    assert [row["id"] for row in whole] == [row["id"] for row in table(TICKETS)]
    assert all(row["label"] for row in whole)
    assert sorted(record["custom_id"] for record in journal("out.csv")) == sorted(f"row-{n}" for n in range(1, 361))
    assert KEY not in Path("out.csv.journal").read_text() + Path("out.csv").read_text()
    # Done is done.
    code, _, err = finish(start("classify", TICKETS, *LABELS, "-o", "out.csv"))
    assert code == 0
    assert "Everything is done already; nothing was asked." in err
    assert len(sim.ledger) == 360


def test_a_second_ctrl_c_stops_at_once_and_keeps_what_is_finished(vendor: Callable[..., Simulator]) -> None:
    sim = vendor(faults=[Fault("stall", after=40)])
    process = start("classify", TICKETS, *LABELS, "-o", "out.csv", "--concurrency", "8")
    until(lambda: len(sim.ledger) == 48)
    process.send_signal(signal.SIGINT)
    read_until(process, "Ctrl-C again stops at once")
    process.send_signal(signal.SIGINT)
    code, _, _ = finish(process)
    assert code == 130
    assert len(table("out.csv")) == len(journal("out.csv")) == 40
    sim.faults.clear()
    assert finish(start("classify", TICKETS, *LABELS, "-o", "out.csv"))[0] == 0
    assert len(table("out.csv")) == 360
    assert len(sim.ledger) == 48 + 320


def test_a_killed_run_loses_no_more_than_its_last_moment(vendor: Callable[..., Simulator]) -> None:
    sim = vendor(latency=Latency.of(ttft=0.01))
    code, _ = interrupted(sim, after=100, by=signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not Path("out.csv").exists()
    before = len(journal("out.csv"))
    # What the killed process had sent, read there or not yet, is in the ledger when its connections are gone.
    server = sim._server
    assert server is not None
    until(lambda: not server.connections and sim.admission.in_flight == 0)
    asked = len(sim.ledger)
    assert finish(start("classify", TICKETS, *LABELS, "-o", "out.csv"))[0] == 0
    assert len(sim.ledger) - asked == 360 - before
    assert Counter(row["label"] != "" for row in table("out.csv")) == {True: 360}


def test_two_runs_at_once_fail_clearly(vendor: Callable[..., Simulator]) -> None:
    sim = vendor(faults=[Fault("stall", after=5)])
    process = start("classify", TICKETS, *LABELS, "-o", "out.csv")
    until(lambda: len(sim.ledger) > 5)
    second = run("classify", TICKETS, *LABELS, "-o", "out.csv")
    process.kill()
    finish(process)
    assert second.exit_code == 2
    assert second.stderr.startswith("aimlasync: out.csv.journal is in use by another run")


def test_an_input_that_changes_during_the_run_makes_no_output(vendor: Callable[..., Simulator]) -> None:
    sim = vendor(faults=[Fault("stall", after=5)])
    write("in.csv", "text\n" + "hello\n" * 50)
    process = start("classify", "in.csv", "--labels", "a,b", "-o", "out.csv")
    until(lambda: len(sim.ledger) > 10)
    write("in.csv", "text\n" + "other\n" * 50)
    process.send_signal(signal.SIGINT)
    read_until(process, "Ctrl-C again stops at once")
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 2
    assert err.splitlines()[-1].startswith("aimlasync: in.csv: changed during the run")
    assert not Path("out.csv").exists()


def test_failed_rows_are_kept_and_tried_again(vendor: Callable[..., Simulator]) -> None:
    sim = vendor(faults=[Fault("status", status=422, times=2, after=5)])
    write("in.csv", "text\n" + "".join(f"I want refund number {n}\n" for n in range(10)) + '""\n')
    first = run("classify", "in.csv", "--labels", "a,b", "-o", "out.jsonl", "--concurrency", "1")
    assert first.exit_code == 3
    assert "8 labelled, 3 failed" in first.stderr
    assert "2 UnprocessableEntityError, such as row-6: HTTP 422" in first.stderr
    assert "1 EmptyTextError, such as row-11" in first.stderr
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["label"] is None for row in rows] == [n in (5, 6, 10) for n in range(11)]
    errors = [record["error"] for record in journal("out.jsonl") if record["error"]]
    assert errors[0] == {
        "code": "UnprocessableEntityError",
        "message": errors[0]["message"],
        "status": 422,
        "attempts": 1,
    }
    second = run("classify", "in.csv", "--labels", "a,b", "-o", "out.jsonl")
    assert second.exit_code == 3
    assert "10 labelled (8 by earlier runs), 1 failed" in second.stderr
    assert len(sim.ledger) == 12


@pytest.mark.parametrize("change", ["labels", "prompt", "model", "endpoint", "answerer"])
def test_the_journal_of_another_job_is_refused(change: str, vendor: Callable[..., Simulator]) -> None:
    sim = vendor()
    write("in.csv", "text\nhello\n")
    command = ["classify", "in.csv", "--labels", "a,b", "-o", "out.csv"]
    assert run(*command).exit_code == 0
    other = {
        "labels": ["--labels", "a,b,c"],
        "prompt": ["--prompt", "Say: {text}"],
        "model": ["--model", "openai/gpt-5-mini-2025-08-07"],
        "endpoint": ["--endpoint", "responses"],
        "answerer": ["--simulate"],
    }.get(change, [])
    refused = run(*command, *other)
    assert refused.exit_code == 2
    line = refused.stderr.splitlines()[-1]
    assert line.startswith("aimlasync: out.csv.journal belongs to another job: ")
    assert re.search(rf"{change}\S*: was .+, is ", line)
    assert "--restart" in line
    assert len(sim.ledger) == 1
    assert run(*command, *other, "--restart").exit_code == 0


# What stops a job


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (401, None, "check the key in AIML_API_KEY"),
        (402, None, "top up the account"),
        (403, "not for you", "use a key that may do this"),
        (404, None, "check --model"),
        (400, "no such parameter", "change --model, --endpoint or the prompt"),
    ],
)
def test_what_would_fail_for_every_row_stops_the_job(
    status: int, message: str | None, said: str, vendor: Callable[..., Simulator]
) -> None:
    sim = vendor(faults=[Fault("status", status=status, message=message)])
    done = run("classify", TICKETS, *LABELS, "-o", "out.csv", "--concurrency", "4")
    assert done.exit_code == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"aimlasync: stopped: HTTP {status}: ")
    assert said in line
    assert "run the same command to go on" in line
    # Three that were refused, a sample of eight and the shortest row, which decide, and what is in flight.
    assert len(sim.ledger) <= 16
    assert not Path("out.csv").exists()


def test_credit_that_ends_midway_keeps_the_finished_rows(vendor: Callable[..., Simulator]) -> None:
    sim = vendor(faults=[Fault("status", status=402, after=20)])
    done = run("classify", TICKETS, *LABELS, "-o", "out.csv", "--concurrency", "4")
    assert done.exit_code == 1
    assert len(table("out.csv")) == 20
    sim.faults.clear()
    assert run("classify", TICKETS, *LABELS, "-o", "out.csv", "--limit", "30").exit_code == 0
    assert len(table("out.csv")) == 30


def test_a_request_that_the_table_refuses_is_never_sent(vendor: Callable[..., Simulator]) -> None:
    sim = vendor()
    done = run("classify", TICKETS, *LABELS, "--model", "openai/gpt-5-pro")
    assert done.exit_code == 1
    assert "only /v1/responses serves it: add --endpoint responses (checked before sending)" in done.stderr
    assert not len(sim.ledger)
    # What it says works.
    done = run("classify", TICKETS, *LABELS, "--model", "openai/gpt-5-pro", "--endpoint", "responses", "--limit", "2")
    assert done.exit_code == 0
    assert len(sim.ledger) == 2


def test_a_parameter_that_the_table_refuses_is_told_as_to_somebody_who_writes_no_code() -> None:
    done = run("bulk", TICKETS, "--prompt", "{text}", "--simulate", "--params", '{"temperature": 0}', "-o", "out.csv")
    assert done.exit_code == 1
    assert "does not take temperature: leave it out" in done.stderr
    assert "validate=False" not in done.stderr
    assert "change --model" not in done.stderr


def test_a_reader_that_leaves_ends_the_job() -> None:
    process = start("classify", TICKETS, *LABELS)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(600) == 141
    assert "Traceback" not in err


# One line for what is wrong


@pytest.mark.parametrize(
    ("name", "content", "args", "said"),
    [
        ("in.csv", None, [], "in.csv: no such file"),
        (
            "in.txt",
            "text\na\n",
            [],
            "in.txt: neither .csv nor .tsv, .jsonl, .json, .parquet or .xlsx; say which with --format",
        ),
        ("in.csv", "", [], "in.csv: empty"),
        ("in.csv", "text\n", [], "in.csv: a header and no rows"),
        ("in.csv", "id,text\n1,a\n2,b,c\n", [], "in.csv: line 3: 3 fields under a header of 2"),
        ("in.csv", b"text\n\xff\n", [], "in.csv: line 2: not UTF-8"),
        ("in.csv", "text\na\0\n", [], "in.csv: line 2: a NUL"),
        ("in.csv", "id,n\n1,2\n", [], "in.csv: which column is the text? Say so with --text; there are: id, n"),
        ("in.csv", "text\na\n", ["--text", "body"], "in.csv: no column 'body'; there are: text"),
        ("in.csv", "text\na\n", ["--gold", "team"], "in.csv: no column 'team' for --gold; there are: text"),
        (
            "in.csv",
            "text,label\na,b\n",
            [],
            "there is a column 'label' already; choose another name with --label-column",
        ),
        (
            "in.csv",
            "text\na\n",
            ["--prompt", "{text} {x}"],
            "the prompt names {x}, which is no column; there are: text",
        ),
        ("in.csv", "text\na\n", ["--labels", "a,a"], "the label 'a' is there twice"),
        ("in.csv", "text\na\n", ["--labels", " "], "no labels"),
        ("in.csv", "text\na\n", ["-o", "in.csv"], "in.csv: the input itself; choose another -o"),
        ("in.csv", "text\na\n", ["-o", "no/out.csv"], "no/out.csv: there is no directory no"),
        ("in.csv", "text\na\n", ["-o", "."], ".: a directory"),
        ("in.csv", "text\na\n", ["--no-simulate"], "no key: set AIML_API_KEY"),
        ("in.csv", "text\na\n", ["--simulate", "--base-url", "http://127.0.0.1"], "--simulate and --base-url"),
        ("in.csv", "text\na\n", ["--base-url", "http://127.0.0.1"], "which model?"),
        ("in.csv", "text\na\n", ["--base-url", "http://10.0.0.1"], "use https://, or add --allow-http"),
        ("in.jsonl", "\n", [], "in.jsonl: no rows"),
        ("in.jsonl", '{"text":"a"}\n{"text"\n', [], "in.jsonl: line 2: not JSON"),
        ("in.jsonl", '{"text":"a"}\n3\n', [], "in.jsonl: line 2: not a JSON object"),
        ("in.jsonl", '{"text":"a"}\n{"t":"a"}\n', [], "in.jsonl: line 2: no 'text' in this row"),
        ("in.jsonl", '{"text":"a"}\n{"text":["a"]}\n', [], "in.jsonl: line 2: 'text' is not text"),
        ("in.jsonl", '{"text":"a"}\n{"text":"a","label":1}\n', [], "in.jsonl: line 2: there is a 'label' already"),
        ("in.csv", "text,team\na,x\n", ["--gold", "team"], "in.csv: no 'team' is one of the labels: it has 'x'"),
        ("in.csv", "text,team\na,\n", ["--gold", "team"], "in.csv: 'team' is blank in every row"),
        ("in.csv", "text\na\n", ["--labels", "a"], "one label is there, 'a'"),
        ("in.csv", "text\na\n", ["--labels", "a,b", "--multi", "--ordinal"], "--ordinal goes with --labels, one a"),
        ("in.csv", "text\na\n", ["--columns", "label"], "--columns are those of a table; add -o"),
        ("in.jsonl", '{"text":"a","c":1}\n{"text":"a"}\n', ["--prompt", "{text}{c}"], "in.jsonl: line 2: no 'c'"),
    ],
)
def test_what_is_wrong_is_one_line_before_any_call(
    name: str, content: str | bytes | None, args: list[str], said: str
) -> None:
    if content is not None:
        write(name, content)
    labels = [] if "--labels" in args else ["--labels", "a,b"]
    done = run("classify", name, *labels, *args)
    assert done.exit_code == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("aimlasync: ")
    assert said in line
    assert done.stdout == ""
    assert not [path for path in Path().iterdir() if path.name != name]


def test_a_column_that_only_later_rows_have_is_in_the_table_too(vendor: Callable[..., Simulator]) -> None:
    vendor()
    write("in.jsonl", '{"text":"one"}\n{"text":"two","more":1}\n')
    assert run("classify", "in.jsonl", "--labels", "a,b", "-o", "out.csv").exit_code == 0
    rows = table("out.csv")
    assert [row["more"] for row in rows] == ["", "1"]
    assert all(row["label"] for row in rows)


def test_a_directory_is_no_input() -> None:
    done = run("classify", ".", "--labels", "a,b", "--format", "csv")
    assert (done.exit_code, done.stderr.splitlines()[-1][:34]) == (2, "aimlasync: .: a directory without ")


def test_an_error_late_in_a_stream_comes_after_the_rows_before_it() -> None:
    done = run("classify", "-", "--labels", "a,b", "--simulate", "--format", "jsonl", stdin='{"text":"a"}\n{"x":1}\n')
    assert done.exit_code == 2
    assert json.loads(done.stdout)["label"] in ("a", "b")
    assert done.stderr.splitlines() == [
        "aimlasync: 2 labels: a, b",
        "aimlasync: stdin: line 2: no 'text' in this row; every row needs it; it has: x",
    ]


def test_stdin_with_an_output_file_is_resumable() -> None:
    text = "text\n" + "".join(f"ticket {n}\n" for n in range(6))
    first = run("classify", "-", "--labels", "a,b", "-o", "out.csv", "--limit", "4", stdin=text)
    assert first.exit_code == 0, first.stderr
    second = run("classify", "-", "--labels", "a,b", "-o", "out.csv", stdin=text)
    assert "6 labelled (4 by earlier runs)" in second.stderr
    assert len(table("out.csv")) == 6


def test_without_a_key_chat_names_both_and_the_simulator() -> None:
    for args in (["chat", "Hello"], ["models"]):
        done = run(*args)
        assert done.exit_code == 2
        assert all(word in done.stderr for word in ("AIML_API_KEY", "BYTESPIKE_API_KEY", "--simulate"))
        assert len(done.stderr.splitlines()) == 1


def test_chat_reads_stdin_and_refuses_nothing() -> None:
    assert "“from a pipe”" in run("chat", "-", "--simulate", stdin="from a pipe").stdout
    done = run("chat", "-", "--simulate", "--no-stream", stdin=" \n")
    assert (done.exit_code, done.stderr) == (2, "aimlasync: the message is empty\n")


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_chat_prints_a_refusal(endpoint: str) -> None:
    for mode in ([], ["--no-stream"]):
        done = run("chat", "[refuse] hello", "--simulate", "--endpoint", endpoint, *mode)
        assert done.exit_code == 0
        assert done.stdout == "I'm sorry, but I can't help with that.\n"


def test_an_error_of_the_vendor_is_one_line_with_advice_and_no_key(vendor: Callable[..., Simulator]) -> None:
    vendor(keys=["another"])
    done = run("chat", "Hello")
    assert done.exit_code == 1
    assert done.stderr.startswith("aimlasync: HTTP 401: ")
    assert "check the key in AIML_API_KEY or BYTESPIKE_API_KEY" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert KEY not in done.output


def test_models_can_be_searched_and_printed_as_json() -> None:
    found = run("models", "--simulate", "--search", "NANO", "--json").stdout.splitlines()
    assert found
    assert all("nano" in json.loads(line)["id"] for line in found)
    nothing = run("models", "--simulate", "--search", "zebra")
    assert (nothing.exit_code, nothing.stdout) == (0, "")


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("simulate", "--port", str(port))
    assert done.exit_code == 1
    assert done.stderr == f"aimlasync: port {port} is in use; choose another with --port (0 takes any)\n"
    assert done.stdout == ""


def test_a_fault_that_does_not_exist_is_one_line() -> None:
    done = run("simulate", "--fault", "earthquake")
    assert done.exit_code == 2
    assert done.stderr.startswith("aimlasync: unknown fault 'earthquake'; known: status, reset")


def test_every_command_and_option_has_help() -> None:
    listed = run("--help").stdout
    for name, command in cli.commands.items():
        assert name in listed
        assert command.help
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, (name, parameter.name)
            # A key on a command line is a key in the shell's history.
            assert parameter.name == "key_env" or "key" not in (parameter.name or "")


def test_a_warning_of_the_library_is_said_as_the_command_says_all_else() -> None:
    program = (
        "import logging\nfrom aimlasync.cli import cli\n"
        "@cli.command()\ndef warn():\n"
        "    logging.getLogger('aimlasync.store').info('not this')\n"
        "    logging.getLogger('aimlasync.store').warning('a store failed')\n"
        "cli(['warn'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "aimlasync: a store failed\n")


def test_help_is_whole_where_python_strips_docstrings() -> None:
    program = "from aimlasync.cli import cli\nfor each in (cli, *cli.commands.values()): print(repr(each.help))"
    told = [
        subprocess.run([sys.executable, *flags, "-c", program], capture_output=True, text=True, check=True).stdout
        for flags in ([], ["-OO"])
    ]
    assert told[0] == told[1]
    assert "None" not in told[0].splitlines()


def test_a_prompt_reaches_the_model_with_its_columns(vendor: Callable[..., Simulator]) -> None:
    sim = vendor(keep_bodies=True)
    write("in.csv", "text,channel\nhello,mail\n")
    assert run("classify", "in.csv", "--labels", "a,b", "--prompt", "By {channel}: {text}").exit_code == 0
    body = sim.ledger[0].body
    assert body is not None
    assert [message["content"] for message in body["messages"]][1] == "By mail: hello"
    system = body["messages"][0]["content"]
    assert "a, b" in system
    assert system.count(". ") == 1


# Which key goes where


def elsewhere(sim: Simulator) -> str:
    """The base URL of a simulator by an address that is not known to be this machine's."""
    return sim.base_url.replace("127.0.0.1", "0.0.0.0")


NAMED = ["--allow-http", "--model", "openai/gpt-5-nano-2025-08-07"]


@pytest.mark.parametrize("command", [["chat", "Hi"], ["classify", TICKETS, *LABELS, "--limit", "2"], ["models"]])
def test_a_vendors_key_goes_to_no_other_server(
    command: list[str], vendor: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = vendor()
    monkeypatch.delenv("AIML_API_URL")
    named = NAMED if command[0] != "models" else NAMED[:1]
    done = run(*command, "--base-url", elsewhere(sim), *named)
    if command[0] == "models":
        # Nobody needs a key for it here.
        assert done.exit_code == 0
        assert KEY not in done.output
        return
    assert done.exit_code == 1
    assert "the key in AIML_API_KEY goes to api.aimlapi.com and this machine only" in last_line(done)
    assert "--key-env" in last_line(done)
    assert "api_key=" not in done.stderr
    assert KEY not in done.output + done.stderr
    monkeypatch.setenv("GATE_KEY", KEY)
    assert run(*command, "--base-url", elsewhere(sim), *named, "--key-env", "GATE_KEY").exit_code == 0
    # It is no key that this simulator knows to be one.
    monkeypatch.delenv("AIML_API_KEY")
    done = run(*command, "--base-url", elsewhere(sim), *named)
    assert "no key was sent" in last_line(done)
    assert "--key-env" in last_line(done)


def test_bulk_and_its_workers_take_the_key_from_the_variable_that_is_named(
    vendor: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = vendor()
    monkeypatch.delenv("AIML_API_URL")
    monkeypatch.setenv("GATE_KEY", KEY)
    command = ["bulk", TICKETS, "--prompt", "{text}", "--base-url", elsewhere(sim), *NAMED, "--key-env", "GATE_KEY"]
    assert run(*command, "--limit", "4", "-o", "one.jsonl").exit_code == 0
    code, out, err = finish(start(*command, "--limit", "4", "-o", "two.jsonl", "--workers", "2"))
    assert code == 0, err
    assert KEY not in out + err + "".join(path.read_text() for path in Path().glob("*.jsonl*") if path.is_file())


@pytest.mark.parametrize("name", ["NO_SUCH_KEY", "sk-sentinel-5f1c2e77aa", ""])
def test_a_variable_that_is_none_is_said_and_not_shown(name: str) -> None:
    done = run("chat", "Hi", "--key-env", name)
    assert done.exit_code == 2
    assert last_line(done).startswith("aimlasync: --key-env: the")
    assert "sentinel" not in done.stderr
    assert run("chat", "Hi", "--simulate", "--key-env", "PATH").exit_code == 2


class Keyless(BaseHTTPRequestHandler):
    """A server that needs no key, and would show one."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        said = self.headers.get("Authorization", "no key")
        body = json.dumps({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_a_server_that_needs_no_key_is_asked_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIML_API_KEY", KEY)
    with HTTPServer(("127.0.0.1", 0), Keyless) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        done = run("chat", "Hi", "--no-stream", "--base-url", f"http://0.0.0.0:{server.server_port}", *NAMED)
        server.shutdown()
        thread.join()
    assert (done.exit_code, done.stdout) == (0, "no key\n")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("support,billing", ["aimlasync: 2 labels: support, billing"]),
        ('"sales, renewals",support', ['aimlasync: 2 labels: "sales, renewals", support']),
        ('["low","high"]', ["aimlasync: 2 labels: low, high"]),
        (
            '{"low":"can wait","high":""}',
            ["aimlasync: 2 labels, and what they mean:", "  low   can wait", "  high"],
        ),
    ],
)
def test_labels_are_printed_back_before_anything_is_asked(
    labels: str, said: list[str], vendor: Callable[..., Simulator]
) -> None:
    vendor(faults=[Fault("status", status=401)])
    write("in.csv", "text\nhello\n")
    done = run("classify", "in.csv", "--labels", labels, "-o", "out.csv")
    assert done.stderr.splitlines()[: len(said)] == said


def test_what_is_wrong_by_gold_can_be_written_with_the_labels(vendor: Callable[..., Simulator]) -> None:
    vendor(answer=lambda request: Answer(text='{"label":"a"}'))
    write("in.csv", "text,team\none,A\ntwo,b\nthree,\n")
    args = (
        "classify",
        "in.csv",
        "--labels",
        "a,b",
        "--gold",
        "team",
        "-o",
        "out.csv",
        "--columns",
        "text,label,correct",
    )
    done = run(*args)
    assert done.exit_code == 0
    assert Path("out.csv").read_text().splitlines() == ["text,label,correct", "one,a,true", "two,a,false", "three,a,"]
    assert "50.0 % (1 of 2); 95 % interval 9.5 to 90.5 %" in done.stderr
    assert "1 labelled row, whose gold label in 'team' is blank" in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["chat"], "MESSAGE is missing; say it in quotes, or - for standard input (--help lists the options)"),
        (["chat", "hello", "there"], 'the message is 2 words; put it in quotes: aimlasync chat "hello ..."'),
        (
            ["classify", "--labels", "a,b"],
            "FILE... is missing; name a file, or - for standard input (--help lists the options)",
        ),
        (
            ["bulk", "--prompt", "{text}"],
            "FILE... is missing; name a file, or - for standard input (--help lists the options)",
        ),
    ],
)
def test_what_is_missing_or_too_much_is_one_line_that_says_what_to_do(args: list[str], said: str) -> None:
    done = run(*args)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"aimlasync: {said}\n")


def test_a_job_whose_answers_are_beside_it_says_so(vendor: Callable[..., Simulator]) -> None:
    vendor()
    write("in.csv", "text\nI want a refund\n")
    asked = ("classify", "in.csv", "--labels", "a,b")
    hint = "aimlasync: out.csv.journal has answers to the same requests: 'aimlasync export out.csv.journal -o ...'"
    assert hint not in run(*asked, "-o", "out.csv").stderr
    assert hint not in run(*asked, "-o", "out.csv").stderr
    assert hint in run(*asked, "-o", "out.xlsx").stderr
    # It is another job.
    assert hint not in run("classify", "in.csv", "--labels", "a,c", "-o", "other.csv").stderr
    assert run("export", "out.csv.journal", "-o", "again.csv").exit_code == 0
