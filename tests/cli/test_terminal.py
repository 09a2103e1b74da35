"""What reaches a terminal and what a pipe; streams that are closed or break; signals, from the first moment on."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimlasync.cli.ctrl_c import exit_code, starting
from aimlasync.cli.terminal import Screen, printable, say_how_to_end
from aimlasync.simulator import Fault, Latency, Simulator
from tests.support.commands import finish, lines, run, start, until, write
from tests.support.forked import Command, on_terminal, run_to

Vendor = Callable[..., Simulator]

# A window title, colours by ESC and by C1, a bell, a return to the start of the line, directions.
EVIL = "\x1b]0;TITLE\x07\x1b[31mRED\x9b32mC1\x1b[2J\u202eback\u2066in\r"
NAMED = EVIL.replace("\r", "")
# What rich itself may send: colours, movements of the cursor, and hiding it.
OWN = re.compile(rb"\x1b\[(?:[0-9;]*m|[0-9]*[ABCDK]|2K|\?25[lh])")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)


def record(name: str, answer: str) -> str:
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}}]}
    return json.dumps(
        {"id": "x", "custom_id": name, "response": {"status_code": 200, "body": body}, "error": None},
        ensure_ascii=False,
    )


def test_typed_input_is_told_how_it_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    master, slave = pty.openpty()
    with open(slave) as typed, open("in.csv", "w+") as file:
        for stdin, said in ((file, ""), (typed, "aimlasync: reading what is typed here; Ctrl-D on a line of its own")):
            monkeypatch.setattr(sys, "stdin", stdin)
            say_how_to_end()
            err = capsys.readouterr().err
            assert err.startswith(said)
            assert bool(err) == bool(said)
    os.close(master)


def test_what_is_printable_has_nothing_that_drives_a_terminal() -> None:
    assert printable(EVIL) == "]0;TITLE[31mRED32mC1[2Jbackin"
    assert printable("a\tb\nc é 日本 \u200e\u200d👩‍👧") == "a\tb\nc é 日本 \u200e\u200d👩‍👧"
    assert printable("bytes \udc9b31m") == "bytes 31m"


@given(st.text())
def test_printable_takes_out_control_characters_and_nothing_else(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if (ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160]
    assert [c for c in text if c.isalnum() or c in " \t\n"] == [c for c in shown if c.isalnum() or c in " \t\n"]


def test_bytes_for_a_screen_are_text_wherever_they_are_cut() -> None:
    class Inner:
        said = ""

        def write(self, text: str) -> None:
            self.said += text

        def flush(self) -> None: ...

    inner = Inner()
    screen = Screen(inner, "screen")
    for byte in f"é{EVIL}日".encode():
        screen.buffer.write(bytes([byte]))
    assert inner.said == f"é{printable(EVIL)}日"


NAME = f"name{NAMED.replace('/', '')}"
COMMANDS: list[tuple[list[str], int]] = [
    (["bulk", "in.csv", "--prompt", "{text}", "--id", "id", "-o", "out.jsonl", "--errors", f"{NAME}.err"], 3),
    (["bulk", "in.csv", "--prompt", "{text}", "--id", "id", "-o", f"{NAME}.jsonl", "--model", f"m{EVIL}"], 1),
    (["bulk", "in.csv", "--prompt", "{text}", "--id", "id"], 3),
    (["bulk", "in.csv", "--prompt", "{text}", "--id", "id", "-o", "out.jsonl", "--progress", "json"], 3),
    (["bulk", "in.csv", "--prompt", "{text}", "--id", "id", "-o", "out.jsonl", "--workers", "2"], 3),
    (["bulk", f"{NAME}.csv", "--prompt", "{nope}", "-o", "out.jsonl"], 2),
    (["classify", "in.csv", "--text", "text", "--labels", f"a{NAMED},b", "--gold", "gold", "-o", "out.csv"], 3),
    (["classify", "in.csv", "--text", "text", "--labels", f"a{NAMED},b"], 3),
    (["classify", "in.csv", "--text", "nope", "--labels", "a,b"], 2),
    (["chat", f"hello {EVIL}"], 0),
    (["chat", f"hello {EVIL}", "--no-stream", "--endpoint", "responses"], 0),
    (["chat", "fail"], 1),
    (["models", "--search", EVIL], 0),
    (["export", "j.jsonl"], 0),
    (["export", "j.jsonl", "--format", "csv"], 0),
    (["export", "j.jsonl", "-o", "/dev/tty", "--format", "csv"], 2),
    (["export", "j.jsonl", "-o", "/dev/stderr", "--format", "csv"], 2),
    (["export", f"{NAME}.jsonl"], 2),
    (["export", "j.jsonl", "-o", f"{NAME}.csv"], 2),
    (["report", "j.jsonl", "-o", "-"], 0),
    (["report", "j.jsonl", "-o", f"{NAME}.html"], 0),
    (["report", f"{NAME}.csv"], 2),
    (["merge", "j.jsonl", "-o", f"{NAME}.merged"], 0),
    (["merge", "j.jsonl", "-o", "-"], 0),
    ([f"nope{EVIL}"], 2),
    (["chat", f"--nope{EVIL}"], 2),
    (["chat", "x", "--base-url", f"http://{EVIL}"], 2),
    (["simulate", "--fault", EVIL], 2),
]


@pytest.mark.parametrize(("command", "code"), COMMANDS, ids=range(len(COMMANDS)))
def test_nothing_that_others_wrote_drives_the_terminal(command: list[str], code: int, vendor: Vendor) -> None:
    def fails(request: Any) -> bool:
        return "fail" in json.dumps(request.body)

    vendor(faults=[Fault("status", status=400, message=f"no {EVIL}", match=fails)], latency=Latency.of(ttft=0.3))
    rows = "".join(f'"{NAMED}{n}",{text},"a{NAMED}"\n' for n, text in enumerate(["fail", "one", "two"]))
    write("in.csv", f'id,text,gold,"column{NAMED}"\n'.replace(f',"column{NAMED}"', "") + rows)
    write(f"{NAME}.csv", f'id,"column{NAMED}"\n1,x\n')
    write("j.jsonl", record(f"row{EVIL}", f"answer {EVIL}") + "\n")
    found, sent = on_terminal(*command)
    said = OWN.sub(b"", sent.replace(b"\r\n", b"\n")).decode()
    # Rich goes to the start of the line before it takes its view off the screen.
    assert printable(said) == said.replace("\r", ""), sent
    assert b"TITLE\x07" not in sent
    assert b"\x1b[31mRED" not in sent
    assert b"Traceback" not in sent
    assert found == code, sent


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (
            ["classify", "in.csv", "--text", "text", "--labels", "a,b"],
            rb"\x1b\[1maimlasync: no AIML_API_KEY.*model\x1b\[0m",
        ),
        (["chat", "Hello", "--simulate"], rb"\x1b\[2m\d+ tokens in, \d+ out.* s\x1b\[0m"),
    ],
)
def test_a_line_of_our_own_has_its_style_on_a_terminal(command: list[str], line: bytes) -> None:
    write("in.csv", "text\nGood morning.\n")
    code, sent = on_terminal(*command)
    assert code == 0
    assert re.search(line, sent), sent
    assert not re.search(rb"(?<!\x1b)\[\d+m", sent), sent


def test_what_a_pipe_or_file_is_given_is_exact() -> None:
    write("j.jsonl", record(f"row{EVIL}", EVIL) + "\n")
    exact = f'custom_id,answer,error\n"row{EVIL}","{EVIL}",\n'.encode()
    command = [sys.executable, "-m", "aimlasync", "export", "j.jsonl", "--format", "csv"]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == exact
    with open("out", "wb") as out:
        subprocess.run(command, stdout=out, check=True)
    assert Path("out").read_bytes() == exact
    code, sent = on_terminal("export", "j.jsonl", "--format", "csv")
    assert (code, sent.replace(b"\r\n", b"\n")) == (0, printable(exact.decode()).encode())


# Closed and broken streams

ASK = ("bulk", "in.csv", "--prompt", "{text}", "--simulate")
TO_STDOUT = [
    ["export", "j.jsonl"],
    ["report", "j.jsonl", "-o", "-"],
    ["merge", "j.jsonl", "-o", "-"],
    ["models", "--simulate"],
    ["chat", "hello", "--simulate"],
    ["bulk", "in.csv", "--prompt", "{text}", "--simulate"],
    ["classify", "in.csv", "--labels", "a,b", "--simulate"],
    ["--help"],
    ["export", "--help"],
]


def in_shell(command: list[str], how: str) -> tuple[int, str, str]:
    """Run a command with redirections of a shell."""
    words = [sys.executable, "-W", "error", "-m", "aimlasync", *command]
    done = subprocess.run(
        ["bash", "-c", f'"$@" {how}', "bash", *words], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def files() -> None:
    write("in.csv", "text\none\ntwo\n")
    write("j.jsonl", record("row-1", "yes") + "\n")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", TO_STDOUT, ids=" ".join)
@pytest.mark.parametrize(("out", "said"), [(None, "it is closed"), ("/dev/full", "No space left on")])
def test_an_answer_that_cannot_be_written_is_one_line(command: list[str], out: str | None, said: str) -> None:
    code, err = run_to(out, command)
    assert code == 1
    assert err.splitlines()[-1].startswith(f"aimlasync: standard output: {said}")
    assert "Traceback" not in err


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("how", "said"), [(">&-", "it is closed"), ("</dev/null >&-", "it is closed"), (">/dev/full", "No space left on")]
)
def test_a_shell_that_gives_it_nothing_to_write_to_is_told_in_one_line(how: str, said: str) -> None:
    code, out, err = in_shell(TO_STDOUT[0], how)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(f"aimlasync: standard output: {said}")
    assert "Traceback" not in err


@pytest.mark.usefixtures("files")
def test_nothing_is_asked_for_an_answer_that_nobody_can_read(vendor: Vendor) -> None:
    sim = vendor()
    for command in (["chat", "hello"], ["bulk", "in.csv", "--prompt", "{text}"]):
        assert in_shell(command, ">&-")[0] == 1
    assert not len(sim.ledger)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("how", "unbuffered"),
    [("2>&-", ""), (">&- 2>&-", "1"), ("<&- >&- 2>&-", ""), ("2>/dev/full", ""), ("2>/dev/full", "1")],
)
@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one", "two"])
def test_a_job_that_cannot_be_heard_is_done_all_the_same(
    how: str, workers: tuple[str, ...], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    code, out, err = in_shell([*ASK, "-o", "out.jsonl", *workers], how)
    assert (code, out, err) == (0, "", "")
    assert sorted(line["custom_id"] for line in lines("out.jsonl")) == ["row-1", "row-2"]
    assert json.loads(Path("out.jsonl.manifest").read_text())["aimlasync"] == "journal"


@pytest.mark.usefixtures("files")
def test_a_closed_stdin_is_one_line() -> None:
    for command in (["chat", "-", "--simulate"], ["bulk", "-", *ASK[2:], "--format", "csv", "-o", "out.jsonl"]):
        code, out, err = in_shell(command, "<&-")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "closed" in err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["export", "merge"])
def test_a_reader_that_leaves_ends_it_quietly(command: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("j.jsonl", "w") as file:
        file.writelines(record(f"row-{number}", "yes" * 20) + "\n" for number in range(5000))
    words = [command, "j.jsonl", "-o", "-"]
    code, out, err = in_shell(words, "| head -1; exit ${PIPESTATUS[0]}")
    assert (code, out.count("\n"), err) == (141, 1, "")


# Signals


def job(sim: Simulator, *options: str) -> Command:
    """A job whose first calls are under way."""
    write("in.csv", "text\n" + "".join(f"row {number}\n" for number in range(200)))
    process = start("bulk", "in.csv", "--prompt", "{text}", "-o", "out.jsonl", "--concurrency", "8", *options)
    until(lambda: len(sim.ledger) >= 8)
    return process


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one", "two"])
@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGHUP],
        [signal.SIGHUP, signal.SIGHUP],
        [signal.SIGTERM, signal.SIGHUP],
        [signal.SIGHUP, signal.SIGTERM],
        [signal.SIGINT],
    ],
)
def test_a_hang_up_lets_calls_finish_and_more_of_it_changes_nothing(
    numbers: list[signal.Signals], workers: tuple[str, ...], vendor: Vendor
) -> None:
    sim = vendor(latency=Latency.of(ttft=0.5))
    process = job(sim, *workers)
    assert process.stderr is not None
    first, *others = numbers
    process.send_signal(first)
    # Of two that come at once the one with the lower number is the first.
    said = process.stderr.readline()
    assert "finishing the calls in flight" in said
    for number in others:
        process.send_signal(number)
    code, _, err = finish(process)
    assert code == 128 + first
    assert "Traceback" not in said + err
    assert len(lines("out.jsonl")) == len(sim.ledger) < 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_drops_the_calls_in_flight(number: signal.Signals, vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=20.0))
    process = job(sim)
    process.send_signal(number)
    assert process.stderr is not None
    assert "finishing the calls in flight" in process.stderr.readline()
    process.send_signal(number)
    assert finish(process)[0] == 128 + number
    assert lines("out.jsonl") == []


def test_what_nohup_ignores_stays_ignored(vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=0.5))
    write("in.csv", "text\n" + "".join(f"row {number}\n" for number in range(16)))
    words = ["bulk", "in.csv", "--prompt", "{text}", "-o", "out.jsonl", "--concurrency", "8"]
    command = [sys.executable, "-m", "aimlasync", *words]
    process = subprocess.Popen(["nohup", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: len(sim.ledger) >= 8)
    process.send_signal(signal.SIGHUP)
    assert finish(process)[0] == 0
    assert len(lines("out.jsonl")) == 16


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_terminal_that_goes_away_costs_no_answer(
    vendor: Vendor, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    sim = vendor(latency=Latency.of(ttft=1.0))
    write("in.csv", "text\n" + "".join(f"row {number}\n" for number in range(200)))
    pid, fd = pty.fork()
    if pid == 0:
        words = ["bulk", "in.csv", "--prompt", "{text}", "-o", "out.jsonl", "--concurrency", "8"]
        os.execv(sys.executable, [sys.executable, "-m", "aimlasync", *words])
    until(lambda: len(sim.ledger) >= 8)
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    assert len(lines("out.jsonl")) == len(sim.ledger) < 200


@pytest.mark.parametrize("module", ["aimlasync.client.client", "click", "aimlasync.cli.display", "aimlasync.bulk"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_imports_ends_it_quietly(module: str, number: signal.Signals) -> None:
    # A file that Python runs before anything else, and that sends the signal when the module is about to be imported.
    write(
        "sitecustomize.py",
        "import os, sys\n"
        "class Sender:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Sender())\n",
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *os.environ.get("PYTHONPATH", "").split(":")])}
    done = subprocess.run(
        [sys.executable, "-m", "aimlasync", "models", "--simulate"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")


def test_a_program_that_imports_the_library_keeps_its_ctrl_c() -> None:
    code = "import signal, aimlasync; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_command_that_is_called_in_a_program_leaves_its_streams_as_they_were() -> None:
    out, err = sys.stdout, sys.stderr
    write("j.jsonl", record("row-1", "yes") + "\n")
    assert run("export", "j.jsonl").exit_code == 0
    assert (sys.stdout, sys.stderr) == (out, err)


def test_code_that_sets_handlers_of_its_own_is_ended_by_a_signal_and_leaves_ours() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def begin_ray() -> None:
        with starting():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            signal.raise_signal(signal.SIGTERM)

    def ctrl_c() -> None:
        with starting():
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        begin_ray()
    assert exit_code() == 128 + signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
