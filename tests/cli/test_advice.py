"""What messages advise works: each option and command that they name exists, and following them ends well."""

from __future__ import annotations

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import aimlasync
from aimlasync.bulk.journal.record import decode_record
from aimlasync.bulk.report.failure_words import _WORDS
from aimlasync.cli import cli
from aimlasync.simulator import Answer, Fault, SimRequest, Simulator
from aimlasync.simulator.thread import serve_in_thread
from tests.support.commands import finish, run, start

ROOT = Path(aimlasync.__file__).parent
OPTIONS = {
    option
    for command in cli.commands.values()
    for parameter in command.params
    for option in (*parameter.opts, *parameter.secondary_opts)
    if option.startswith("--")
} | {"--help", "--version"}
# Options of other programs that messages name.
OTHERS = {"ray start --head"}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)


def texts() -> Iterator[tuple[str, str]]:
    """Every text in the code of commands and jobs that is no docstring."""
    for path in [*ROOT.glob("cli/*.py"), *ROOT.glob("bulk/**/*.py")]:
        tree = ast.parse(path.read_text())
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield path.name, node.value


def test_every_option_and_command_in_a_message_exists() -> None:
    named = 0
    for name, text in texts():
        for other in OTHERS:
            text = text.replace(other, "")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text):
            named += 1
            assert option in OPTIONS, f"{name}: {text}"
        for command in re.findall(r"(?:^|[(:`] ?)aimlasync ([a-z]+)\b(?! report)", text):
            assert command in cli.commands or command == "report", f"{name}: {text}"
    assert named > 100


CLASSIFY = "classify in.csv --labels a,b"
BULK = "bulk in.csv"

# Files, a command, what it says, and the command that this leads to.
ADVICE: list[tuple[dict[str, str | bytes], str, str, str]] = [
    ({"in.csv": "q,a\nwhere is my parcel,it is on its way\n"}, CLASSIFY, "Say so with --text", f"{CLASSIFY} --text q"),
    ({"in.csv": "My card was charged,1\nIt does nothing,2\n"}, CLASSIFY, "say --no-header", f"{CLASSIFY} --no-header"),
    (
        {"in.csv": "text\ncaf\xe9 cr\xe8me\n".encode("cp1252")},
        CLASSIFY,
        "--encoding cp1252",
        f"{CLASSIFY} --encoding cp1252",
    ),
    (
        {"in.dat": "text\nhello\n"},
        "classify in.dat --labels a,b",
        "--format",
        "classify in.dat --labels a,b --format csv",
    ),
    ({}, f"{CLASSIFY} -o out.csv", "replace it with --overwrite", f"{CLASSIFY} -o out.csv --overwrite"),
    ({"out.csv": ""}, f"{CLASSIFY} -o taken.csv", "choose another -o", f"{CLASSIFY} -o free.csv"),
    ({}, f"{CLASSIFY} --errors e.jsonl", "add -o PATH", f"{CLASSIFY} --errors e.jsonl -o new.csv"),
    ({}, f"{CLASSIFY} --dedupe", "add -o PATH", f"{CLASSIFY} --dedupe -o new.csv"),
    ({}, f"{CLASSIFY} --columns label", "add -o PATH.csv", f"{CLASSIFY} --columns label -o new.csv"),
    ({"in.csv": "text,label\nhello,x\n"}, CLASSIFY, "with --label-column", f"{CLASSIFY} --label-column team"),
    (
        {"in.csv": "text,team,other\nhello,A,x\n"},
        f"{CLASSIFY} --gold other",
        "choose another --gold",
        f"{CLASSIFY} --gold team",
    ),
    ({}, "classify in.csv", "--labels support,billing,sales", "classify in.csv --labels support,billing,sales"),
    ({}, "classify in.csv --labels 'a;b'", "--labels 'a,b'", CLASSIFY),
    ({}, "classify in.csv --labels a b", "name two or more, with commas between", CLASSIFY),
    (
        {},
        f"{BULK} --prompt '{{text}}' --max-completion-tokens 300",
        "--params '{\"max_completion_tokens\": ...}'",
        f"{BULK} --prompt '{{text}}' --params '{{\"max_completion_tokens\": 300}}'",
    ),
    ({}, f"{CLASSIFY} --temperature 0", "No such option '--temperature'", CLASSIFY),
    ({}, f"{CLASSIFY} --limt 1", "'--limit'", f"{CLASSIFY} --limit 1"),
    (
        {"l.txt": "a\nb\n"},
        "classify in.csv --labels l.txt",
        "--labels @l.txt",
        "classify in.csv --labels @l.txt",
    ),
    ({"l.csv": "support\nbilling\n"}, "classify in.csv --labels @l.csv", "the line label,description", ""),
    ({}, f"{CLASSIFY} --prompt '{{{{ text }}}}'", "{text}", f"{CLASSIFY} --prompt '{{text}}'"),
    ({}, BULK, "say what to ask with --prompt", f"{BULK} --prompt 'Translate {{text}}'"),
    ({}, f"{BULK} --image text", "--prompt", f"{BULK} --prompt 'Translate {{text}}'"),
    (
        {},
        f"{BULK} --prompt '{{text}}' --params '{{\"model\": \"gpt-x\"}}'",
        "name it with --model",
        f"{BULK} --prompt '{{text}}' --model openai/gpt-5-nano-2025-08-07",
    ),
    (
        {},
        f"{CLASSIFY} --model unlisted/model --max-usd 1 -o new.csv",
        "--price 0.05,0.40",
        f"{CLASSIFY} --model openai/gpt-5-nano-2025-08-07 --max-usd 1 -o new.csv --price 0.05,0.40",
    ),
    ({}, f"{CLASSIFY} --price 1", "--price 0.05,0.40", f"{CLASSIFY} --price 0.05,0.40"),
    (
        {},
        "report done.csv.journal --input in.csv",
        "--gold COLUMN",
        "report done.csv.journal --input in.csv --gold team",
    ),
    (
        {},
        "export done.csv.journal --columns label,correct",
        "name it with --gold, and in an export their file with --input",
        "export done.csv.journal --columns label,correct --gold team --input in.csv",
    ),
    (
        {},
        "export done.csv.journal --columns label,correct --gold team",
        "name their file with --input",
        "export done.csv.journal --columns label,correct --gold team --input in.csv",
    ),
    (
        {},
        "classify in.csv --labels a,b,c -o done.csv",
        "--restart",
        "classify in.csv --labels a,b,c -o done.csv --restart",
    ),
    ({}, "report done.csv", "its journal is done.csv.journal", "report done.csv.journal"),
    ({}, "export done.csv", "its journal is done.csv.journal", "export done.csv.journal"),
    ({}, "models --simulate --key-env X", "leave --key-env out", "models --simulate"),
]


def words(command: str) -> list[str]:
    return shlex.split(command)


@pytest.mark.parametrize(("files", "command", "said", "then"), ADVICE, ids=[each[1] for each in ADVICE])
def test_following_what_a_message_says_ends_well(
    files: dict[str, str | bytes], command: str, said: str, then: str, vendor: Callable[..., Simulator]
) -> None:
    vendor()
    rows = {"in.csv": "text,team\nhello,A\n", "out.csv": "somebody's\n", "taken.csv": "somebody's\n"}
    Path("in.csv").write_text(rows["in.csv"])
    assert run(*words(f"{CLASSIFY} -o done.csv")).exit_code == 0
    for name, content in {**rows, **files}.items():
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    refused = run(*words(command))
    assert refused.exit_code in (1, 2), refused.stderr
    assert said in " ".join(refused.stderr.split())
    if not then:
        path = Path("l.csv")
        path.write_text(f"label,description\n{path.read_text()}")
        then = command
    done = run(*words(then))
    assert done.exit_code == 0, done.stderr


def test_a_job_that_a_cap_stopped_goes_on_when_it_is_raised(vendor: Callable[..., Simulator]) -> None:
    vendor()
    Path("in.csv").write_text("text\n" + "".join(f"hello {n}\n" for n in range(30)))
    args = (*words(CLASSIFY), "-o", "out.csv", "--concurrency", "1", "--max-tokens")
    stopped = run(*args, "400")
    assert stopped.exit_code == 1
    assert "raise it and run the same command to go on" in stopped.stderr
    assert run(*args, "400000").exit_code == 0


@pytest.mark.parametrize(
    ("flawed", "said"),
    [
        (Answer(text="half an ans", finish_reason="length"), "1 cut by an output cap"),
        (Answer(text="half an ans", finish_reason="content_filter"), "1 refused"),
        (Answer(text="half an ans", finish_reason="malformed_function_call"), "1 broken off by the server"),
        (Answer(text="", finish_reason="stop"), "1 empty"),
    ],
)
def test_an_answer_that_was_taken_for_good_is_asked_for_again_as_the_summary_says(
    vendor: Callable[..., Simulator], flawed: Answer, said: str
) -> None:
    asked = []

    def answer(request: SimRequest) -> Answer:
        asked.append(request)
        return flawed if len(asked) == 1 else Answer(text="whole")

    vendor(answer=answer)
    Path("in.csv").write_text("text\nhello\n")
    args = ("bulk", "in.csv", "--prompt", "{text}", "-o", "out.jsonl")
    first = run(*args)
    assert first.exit_code == 0
    assert f"{said} (taken for good; --retry-invalid asks again)" in " ".join(first.stderr.split())
    again = run(*args, "--retry-invalid", "1")
    assert again.exit_code == 0, again.stderr
    assert len(asked) == 2
    assert "whole" in Path("out.jsonl").read_text()


@pytest.mark.parametrize("fault", [Fault("status", status=422, times=1), Fault("status", status=400, times=1)])
def test_a_row_that_failed_is_tried_again_by_the_same_command(fault: Fault, vendor: Callable[..., Simulator]) -> None:
    vendor(faults=[fault])
    Path("in.csv").write_text("text\none\ntwo\n")
    args = (*words(CLASSIFY), "-o", "out.csv", "--concurrency", "1")
    failed = run(*args)
    assert failed.exit_code == 3
    assert "1 row failed; the same command tries it again" in failed.stderr
    assert run(*args).exit_code == 0


def test_what_a_report_says_of_failures_are_options_that_a_job_takes(vendor: Callable[..., Simulator]) -> None:
    vendor()
    Path("in.csv").write_text("text\none\n")
    values = {"N": "600", "IN,OUT": "0.05,0.40", None: "openai/gpt-5-nano-2025-08-07"}
    for number, (_, do) in enumerate(_WORDS.values()):
        args = [*words(CLASSIFY), "-o", f"out{number}.csv"]
        for option, value in re.findall(r"(--[a-z-]+)(?: (\d+m?|N|IN,OUT))?", do):
            plain = {"--max-usd": "5"}.get(option, values.get(value or None, value))
            args += [option, plain]
        assert run(*args).exit_code == 0, (do, args)
    assert "aimlasync models" in _WORDS["NotFoundError"][1]
    assert run("models").exit_code == 0


@pytest.mark.parametrize("name", ["aimlapi", "openai"])
def test_what_a_simulator_prints_leads_a_shell_to_it(name: str) -> None:
    process = start("simulate", "--port", "0", "--vendor", name)
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        script = [f'aimlasync() {{ {shlex.quote(sys.executable)} -m aimlasync "$@"; }}\n', *said]
        if not said[-1].startswith("aimlasync chat"):
            script.append("aimlasync chat Hello\n")
        done = subprocess.run(["sh"], input="".join(script), capture_output=True, text=True, check=False)
    finally:
        process.send_signal(signal.SIGINT)
        finish(process)
    assert done.returncode == 0, done.stderr
    assert "Simulated answer" in done.stdout


def test_the_proxy_of_the_environment_is_used_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:s3cret@127.0.0.1:1")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    ask = ["chat", "hi", "--model", "m", "--allow-http", "--key-env", "OPENAI_API_KEY", "--base-url"]
    without = run(*ask, "http://model.invalid/v1")
    assert without.exit_code == 1
    assert "HTTP_PROXY of the environment is not used: give proxy= to a client, --proxy to a command" in without.stderr
    through = run(*ask, "http://model.invalid/v1", "--proxy")
    assert through.exit_code == 1
    assert "could not connect to the proxy 127.0.0.1:1, which is the way to model.invalid" in through.stderr
    assert "s3cret" not in without.stderr + through.stderr
    monkeypatch.setenv("no_proxy", "model.invalid")
    unnamed = run(*ask, "http://model.invalid/v1", "--proxy")
    assert (unnamed.exit_code, unnamed.stderr) == (
        2,
        "aimlasync: --proxy: the environment names none for http://model.invalid/v1; set HTTPS_PROXY\n",
    )
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    assert "HTTPS_PROXY must be an http(s) URL" in run(*ask, "http://model.invalid/v1", "--proxy").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("classify --labels a,b --proxy", "--simulate asks no other machine; leave --proxy out"),
        ("classify --labels a,b --canary 3", "--canary is the sample of a --dry-run; add that, or leave it out"),
        ("classify --labels a,b --allow-http", "--simulate asks no other machine; leave --allow-http out"),
        ("classify --labels a,b --overwrite", "--overwrite goes with a journal"),
        ("classify --labels a,b --restart --keep-failed -o o.csv", "--restart and --keep-failed: nothing that failed"),
        ("classify --labels a,b --text text --prompt {id}", "--text text: the prompt names no such column"),
        (
            "classify --schema s.json --label-column l",
            "--label-column names the column of --labels; a schema has names",
        ),
        ("bulk --prompt {text} --structured tool -o o.csv", "--structured goes with --schema"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(words: str, said: str) -> None:
    Path("in.csv").write_text("id,text\n1,one\n")
    Path("s.json").write_text('{"type": "object", "properties": {"topic": {"enum": ["a", "b"]}}}')
    command, *options = words.split()
    done = run(command, "in.csv", "--simulate", *options)
    assert (done.exit_code, len(done.stderr.splitlines()), done.stdout) == (2, 1, ""), done.stderr
    assert said in done.stderr


def test_an_amount_is_finite() -> None:
    Path("in.csv").write_text("text\none\n")
    for option in ("--max-usd", "--rpm", "--tpm"):
        for amount in ("inf", "nan", "1e999"):
            done = run("classify", "in.csv", "--labels", "a,b", "--simulate", option, amount)
            assert (done.exit_code, done.stdout) == (2, ""), (option, amount)
            assert done.stderr.endswith(f"'{option}': '{amount}' is no amount; leave it out where there is no limit.\n")


def test_a_number_that_nothing_counts_to_is_refused() -> None:
    Path("in.csv").write_text("text\none\n")
    many = str(10**30)
    for option in ("--limit", "--concurrency", "--max-tokens"):
        done = run("classify", "in.csv", "--labels", "a,b", "--simulate", option, many)
        assert (done.exit_code, done.stdout) == (2, ""), option
        assert done.stderr.endswith(f"'{option}': '{many}' is too large.\n")


def test_a_key_in_quotes_is_called_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in.csv").write_text("text\none\n")
    monkeypatch.setenv("MY_KEY", '"sk-abc"')
    server = ("--base-url", "http://127.0.0.1:9/v1", "--key-env", "MY_KEY", "--model", "m")
    done = run("classify", "in.csv", "--labels", "a,b", *server)
    assert (done.exit_code, done.stderr.splitlines()) == (
        2,
        ["aimlasync: the key begins with a quote, which is no part of a key; take the quotes away"],
    )


def test_requests_take_no_option_of_a_prompt() -> None:
    Path("in.jsonl").write_text('{"model": "m", "input": "x"}\n')
    for option in (("--endpoint", "responses"), ("--structured", "tool")):
        done = run("bulk", "in.jsonl", "--simulate", *option)
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert f"aimlasync: {option[0]} goes with --" in done.stderr


def test_a_prompt_over_other_columns_asks_about_rows_without_a_text() -> None:
    Path("in.csv").write_text("title,text\nCard charged,\n,\n")
    Path("shots.csv").write_text("title,label\nApp crashes,a\n")
    words = ("classify", "in.csv", "--labels", "a,b", "--prompt", "Say {title}", "--simulate")
    done = run(*words, "--few-shot", "shots.csv", "-o", "o.csv")
    assert done.exit_code == 3, done.stderr
    rows = Path("o.csv").read_text().splitlines()
    assert (rows[1] in ("Card charged,,a", "Card charged,,b"), rows[2]) == (True, ",,"), rows
    Path("shots.csv").write_text("text,label\nApp crashes,a\n")
    done = run(*words[:-1], "--simulate", "--prompt", "{title}{text}", "--few-shot", "shots.csv")
    assert (done.exit_code, "no column 'title', which the prompt names" in done.stderr) == (2, True), done.stderr


def test_a_job_that_may_open_few_files_keeps_its_rows_and_one_with_a_soft_limit_raises_it() -> None:
    resource = pytest.importorskip("resource", reason="a limit of open files is set with it")
    rows = 40
    Path("in.csv").write_text("text\n" + "".join(f"text {number}\n" for number in range(rows)))
    with serve_in_thread() as sim:
        server = ("--base-url", sim.base_url, "--key-env", "MY_KEY", "--model", "openai/gpt-5-nano-2025-08-07")
        words = ("classify", "in.csv", "--labels", "a,b", *server, "--concurrency", str(rows), "-o", "o.csv")

        def limited(soft: int, hard: int) -> subprocess.CompletedProcess[str]:
            code = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}));"
            code += "runpy.run_module('aimlasync', run_name='__main__', alter_sys=True)"
            env = {**os.environ, "MY_KEY": "k"}
            return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=env)

        few = limited(30, 30)
        assert few.returncode in (0, 1, 3), few.stderr
        assert not re.search(r"Traceback|\.py: Too many", few.stderr), few.stderr
        for line in Path("o.csv.journal").read_text().splitlines():
            decode_record(line)
        whole = limited(30, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        assert (whole.returncode, len(Path("o.csv").read_text().splitlines())) == (0, rows + 1), whole.stderr
