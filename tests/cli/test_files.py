"""Files of every kind, in and out, as commands take them."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest

from aimlasync.bulk.input.source import open_source
from aimlasync.simulator import Simulator
from tests.support.commands import last_line, lines, run, table, write

CLASSIFY = ("--labels", "billing,support", "--simulate")
QUIET = ("--simulate", "--progress", "none")
NO_ROOM = f"{tempfile.gettempdir()}: {{}} for temporary files; make room there, or set TMPDIR to another directory"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def workbook(*rows: list[object]) -> bytes:
    book, file = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(file)
    return file.getvalue()


def cells(path: str) -> list[tuple[object, ...]]:
    return list(openpyxl.load_workbook(path).active.iter_rows(values_only=True))


def test_a_table_keeps_its_delimiter_and_gets_a_label() -> None:
    write("in.csv", "sep=;\r\nid;text\r\n1;=an invoice\r\n")
    assert run("classify", "in.csv", *CLASSIFY, "-o", "out.csv").exit_code == 0
    assert Path("out.csv").read_bytes() == b"sep=;\r\nid;text;label\r\n1;=an invoice;billing\r\n"
    assert run("classify", "in.csv", *CLASSIFY).stdout_bytes == Path("out.csv").read_bytes()
    done = run("export", "out.csv.journal", "--input", "in.csv", "--columns", "text,label", "--excel", "-o", "safe.csv")
    assert done.exit_code == 0
    assert Path("safe.csv").read_bytes() == "\ufeffsep=;\r\ntext;label\r\n'=an invoice;billing\r\n".encode()


def test_report_and_export_read_the_rows_as_the_job_was_told_to() -> None:
    book, file = openpyxl.Workbook(), io.BytesIO()
    for row in (["text", "team"], ["an invoice", "billing"]):
        book.active.append(row)
    book.create_sheet("Notes").append(["by Ann"])
    book.save(file)
    write("in.xlsx", file.getvalue())
    assert run("classify", "in.xlsx", "--sheet", "1", *CLASSIFY, "-o", "sheet.csv").exit_code == 0
    write("in.csv", "text~team\na café's invoice~billing\n".encode("cp1252"))
    how = ("--encoding", "cp1252", "--delimiter", "~")
    assert run("classify", "in.csv", *how, *CLASSIFY, "-o", "text.csv").exit_code == 0
    for name, rows in (("sheet", "in.xlsx"), ("text", "in.csv")):
        journal = f"{name}.csv.journal"
        for more in ((), ("--input", rows)):
            done = run("report", journal, "--gold", "team", *more, "-o", f"{name}.html")
            assert (done.exit_code, "1 of 1 row" in Path(f"{name}.html").read_text()) == (0, True), done.stderr
        done = run("export", journal, "--input", rows, "--columns", "team,label", "-o", f"{name}-again.jsonl")
        assert done.exit_code == 0, done.stderr
        assert lines(f"{name}-again.jsonl") == [{"team": "billing", "label": "billing"}]
    # Another file is read as its content says, and what a command says goes before what the job was told.
    write("other.csv", "text,team\nan invoice,support\n")
    assert run("report", "sheet.csv.journal", "--gold", "team", "--input", "other.csv", "-o", "o.html").exit_code == 0
    refused = run("export", "sheet.csv.journal", "--input", "in.xlsx", "--sheet", "Notes", "--columns", "team")
    assert refused.exit_code == 2


def test_a_workbook_comes_in_and_goes_out() -> None:
    write("in.xlsx", workbook(["id", "text"], [7, "an invoice"], [8, None]))
    assert run("classify", "in.xlsx", *CLASSIFY, "-o", "out.xlsx").exit_code == 3
    assert cells("out.xlsx") == [("id", "text", "label"), (7, "an invoice", "billing"), (8, None, None)]
    assert run("classify", "in.xlsx", *CLASSIFY).stdout == "id,text,label\n7,an invoice,billing\n8,,\n"
    write("rows.csv", "text\nan invoice\n")
    assert run("bulk", "rows.csv", "--prompt", "{text}", "--simulate", "-o", "all.xlsx").exit_code == 0
    assert cells("all.xlsx")[0] == ("text", "answer", "error")


def test_parquet_on_standard_output_is_lines_of_json() -> None:
    file = io.BytesIO()
    pa.parquet.write_table(pa.table({"text": ["an invoice"], "n": [float("nan")]}), file)
    write("in.parquet", file.getvalue())
    done = run("classify", "in.parquet", *CLASSIFY)
    assert json.loads(done.stdout) == {"text": "an invoice", "n": None, "label": "billing"}


def test_packed_rows_come_through_a_pipe_and_go_out_packed() -> None:
    packed = gzip.compress(b'{"text":"an invoice"}\n')
    assert json.loads(run("classify", "-", *CLASSIFY, stdin=packed).stdout)["label"] == "billing"
    assert run("classify", "-", *CLASSIFY, "-o", "out.jsonl.gz", stdin=packed).exit_code == 0
    assert gzip.decompress(Path("out.jsonl.gz").read_bytes()) == b'{"text":"an invoice","label":"billing"}\n'
    assert run("bulk", "-", "--prompt", "{text}", "--simulate", "-o", "all.jsonl.gz", stdin=packed).exit_code == 0
    assert len(lines("all.jsonl.gz.journal")) == 1
    with closing(open_source("all.jsonl.gz")) as source:
        assert [list(row.fields) for row in source] == [["text", "answer", "error"]]


def test_rows_without_a_header_are_asked_about_by_number() -> None:
    write("in.csv", "1,an invoice came\n2,it does not work\n")
    refused = run("classify", "in.csv", *CLASSIFY)
    assert refused.exit_code == 2
    assert "say --no-header if it is a row, or --header if it is one" in last_line(refused)
    done = run("classify", "in.csv", "--no-header", "--text", "2", *CLASSIFY)
    assert done.stdout == "1,an invoice came,billing\n2,it does not work,support\n"


def test_an_encoding_and_a_delimiter_are_said_where_they_cannot_be_found() -> None:
    write("in.csv", "id~text\n1~Rechnung für März invoice\n".encode("cp1252"))
    assert "--encoding cp1252" in last_line(run("classify", "in.csv", *CLASSIFY))
    done = run("classify", "in.csv", "--encoding", "cp1252", "--delimiter", "~", *CLASSIFY)
    assert done.stdout == "\ufeffid~text~label\n1~Rechnung für März invoice~billing\n"
    assert last_line(run("classify", "in.csv", "--delimiter", "ab", *CLASSIFY)).endswith("write one character, or tab")


@pytest.mark.parametrize(
    ("command", "output", "said"),
    [
        ("classify", "out.jsonl", "--excel is for .csv, .tsv and .xlsx, and this is jsonl; leave it out"),
        ("bulk", "out.jsonl", "--excel is for .csv, .tsv and .xlsx, and this is jsonl; leave it out"),
        ("classify", "out.xls", "a workbook is written as .xlsx; end its name so"),
        ("bulk", "out.txt", "neither .csv nor .tsv, .jsonl, .json, .parquet or .xlsx; end its name in one of them"),
    ],
)
def test_what_cannot_be_written_is_said_before_any_call(command: str, output: str, said: str) -> None:
    write("in.csv", "text\nan invoice\n")
    asked = CLASSIFY if command == "classify" else ("--prompt", "{text}", "--simulate")
    done = run(command, "in.csv", *asked, "-o", output, "--excel")
    assert (done.exit_code, last_line(done)) == (2, f"aimlasync: {output}: {said}")
    assert os.listdir() == ["in.csv"]


def result(name: str, text: str | None) -> str:
    if text is None:
        return json.dumps({"id": name, "custom_id": name, "response": None, "error": {"code": "e", "message": "no"}})
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    response = {"status_code": 200, "request_id": "r", "body": {**body, "choices": [choice]}}
    return json.dumps({"id": name, "custom_id": name, "response": response, "error": None})


def test_a_result_file_is_the_input_of_another_job() -> None:
    write("results.jsonl", f"{result('a', 'an invoice')}\n{result('b', None)}\n")
    done = run("classify", "results.jsonl", "--text", "answer", *CLASSIFY, "-o", "out.csv")
    assert done.exit_code == 3
    assert Path("out.csv").read_text() == (
        "custom_id,answer,error,error_message,finish_reason,model,label\na,an invoice,,,stop,,billing\nb,,e,no,,,\n"
    )
    again = run("export", "out.csv.journal", "--input", "results.jsonl", "--columns", "custom_id,answer,label")
    assert again.stdout.splitlines()[0] == '{"custom_id":"a","answer":"an invoice","label":"billing"}'
    done = run(
        "bulk", "results.jsonl", "--prompt", "Judge: {answer}", "--id", "custom_id", "--simulate", "-o", "j.jsonl"
    )
    assert done.exit_code == 3
    assert [(line["custom_id"], line["error"] and line["error"]["code"]) for line in lines("j.jsonl")] == [
        ("b", "EmptyTextError"),
        ("a", None),
    ]
    refused = run("bulk", "results.jsonl", "--simulate", "-o", "k.jsonl")
    assert "answers, and no requests; say what to ask about each with --prompt" in last_line(refused)


def test_a_journal_of_labels_is_read_with_its_labels() -> None:
    write("in.csv", "text\nan invoice\n")
    run("classify", "in.csv", *CLASSIFY, "-o", "out.csv")
    done = run(
        "bulk", "out.csv.journal", "--format", "jsonl", "--prompt", "Why {label}?", "--simulate", "-o", "why.csv"
    )
    assert done.exit_code == 0, done.stderr
    assert Path("why.csv").read_text().startswith("custom_id,answer,label,error,")


def test_nested_columns_are_asked_about_and_written() -> None:
    write("in.jsonl", '{"meta":{"title":"an invoice","n":1}}\n')
    done = run("classify", "in.jsonl", "--text", "meta.title", *CLASSIFY, "-o", "out.jsonl")
    assert done.exit_code == 0
    done = run(
        "export", "out.jsonl.journal", "--input", "in.jsonl", "--columns", "meta.title,meta.n,label", "-o", "t.csv"
    )
    assert Path("t.csv").read_text() == "meta.title,meta.n,label\nan invoice,1,billing\n"
    refused = run("export", "out.jsonl.journal", "--input", "in.jsonl", "--columns", "meta_title")
    assert "no column 'meta_title'" in last_line(refused)


def test_a_column_of_messages_and_bodies_alone_are_asked_in_bulk() -> None:
    hello = [{"role": "user", "content": "Hello"}]
    write("chats.jsonl", "".join(json.dumps({"id": n, "messages": hello}) + "\n" for n in (1, 2)))
    assert run("bulk", "chats.jsonl", "--simulate", "--id", "id", "-o", "chats.out.jsonl").exit_code == 0
    assert sorted(line["custom_id"] for line in lines("chats.out.jsonl")) == ["1", "2"]
    write("bodies.jsonl", "".join(json.dumps({"messages": hello, "max_tokens": n}) + "\n" for n in (10, 20)))
    assert run("bulk", "bodies.jsonl", "--simulate", "-o", "bodies.out.jsonl").exit_code == 0
    assert sorted(line["custom_id"] for line in lines("bodies.out.jsonl")) == ["row-1", "row-2"]
    done = run("export", "bodies.out.jsonl", "--input", "bodies.jsonl", "--columns", "max_tokens,ok", "-o", "ok.csv")
    assert Path("ok.csv").read_text() == "max_tokens,ok\n10,true\n20,true\n", done.stderr


def test_pictures_are_classified_by_their_paths() -> None:
    os.mkdir("data")
    write("data/a.png", b"\x89PNG\r\n\x1a\n")
    write("data/in.csv", "file\na.png\n")
    done = run("classify", "data/in.csv", "--image", "file", *CLASSIFY, "-o", "out.csv")
    assert done.exit_code == 0, done.stderr
    write("data/in.csv", "file\nb.png\n")
    refused = run("classify", "data/in.csv", "--image", "file", *CLASSIFY)
    assert "data/in.csv: line 2: no image at data/b.png (no such file or directory)" in last_line(refused)
    refused = run("classify", "data/in.csv", "--image", "picture", *CLASSIFY)
    assert "no column 'picture' for --image; there are: file" in last_line(refused)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("command", [["rows.csv", "-o", "out.xlsx"], ["rows.xlsx", "-o", "out.jsonl"], ["-"]])
def test_a_full_directory_of_temporary_files_is_named(
    command: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("rows.csv", "text\nHi\n")
    if command[0] == "rows.xlsx":
        assert run("bulk", "rows.csv", "--prompt", "{text}", *QUIET, "-o", "rows.xlsx").exit_code == 0

    def full() -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    asked = ("bulk", command[0], "--prompt", "{text}", *QUIET, *(command[1:] or ("-o", "out.jsonl")))
    result = run(*asked, stdin="text\nHi\n")
    assert result.exit_code == 1
    assert last_line(result) == f"aimlasync: {NO_ROOM.format(os.strerror(code))}"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="fills a disk with it")
def test_a_disk_that_fills_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("bulk", "rows.csv", "--prompt", "{text}", *QUIET)
    write("rows.csv", "text\nHi\n")
    assert run(*asked, "-o", "rows.xlsx").exit_code == 0
    assert last_line(run(*asked, "-o", "/dev/full")) == f"aimlasync: /dev/full: {os.strerror(errno.ENOSPC)}"
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "w+b"))  # noqa: SIM115
    for words, rows in ((("-", "-o", "out.jsonl"), "text\nHi\n"), (("rows.xlsx", "-o", "out.jsonl"), "")):
        result = run("bulk", *words, *asked[2:], stdin=rows)
        assert (result.exit_code, last_line(result)) == (1, f"aimlasync: {NO_ROOM.format(os.strerror(errno.ENOSPC))}")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux")
def test_a_name_need_not_be_utf_8_and_what_is_sent_must_be() -> None:
    name = os.fsdecode(b"\xff.csv")
    write(name, "text\nHi\n")
    ends = ("--simulate", "--progress", "none")
    for _ in range(2):
        assert run("bulk", name, "--prompt", "{text}", *ends, "-o", os.fsdecode(b"\xfe.csv")).exit_code == 0
    for words in (("--prompt", "\udcff{text}"), ("--prompt", "{text}", "--system", "\udcff")):
        result = run("bulk", name, *words, *ends, "-o", "out.jsonl")
        assert result.exit_code == 2
        assert "\\udcff" in last_line(result)
        assert last_line(result).endswith(" is not UTF-8; write it in UTF-8")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a directory that is somebody's current one")
def test_a_current_directory_that_was_deleted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "in.csv"
    rows.write_text("text\none\n")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = run("classify", str(rows), "--labels", "a,b", "--simulate", "-o", "out.csv")
    assert done.exit_code == 1
    assert "aimlasync: the current directory: it was deleted; change to another" in done.stderr


def test_every_answer_of_the_simulator_is_kept_in_a_store() -> None:
    # One that echoes the key is not, and the simulator speaks of itself.
    write("rows.csv", "text\n" + "".join(f"Hi {number}\n" for number in range(12)))
    assert run("bulk", "rows.csv", "--prompt", "{text}", *QUIET, "--store", "answers", "-o", "o.jsonl").exit_code == 0
    assert sum(file.is_file() for file in Path("answers").rglob("*")) == 12


def test_an_export_of_a_job_with_labels_has_their_column() -> None:
    write("in.csv", "text\nI have something to ask\n")
    for options in ((), ("--multi",)):
        words = ("--labels", "a,b", *options, "--simulate", "-o", "out.csv", "--restart")
        assert run("classify", "in.csv", *words).exit_code == 0
        (row,) = table("out.csv")
        done = run("export", "out.csv.journal", "--input", "in.csv", "-o", "-")
        assert done.stdout.splitlines() == ["text,label,error", f"{row['text']},{row['label']},"]
        alone = run("export", "out.csv.journal", "--format", "csv", "-o", "-")
        assert alone.stdout.startswith("custom_id,label,error\n")
    done = run("export", "out.csv.journal", "--input", "out.csv", "-o", "-")
    assert done.stdout.startswith("text,label,result_label,error\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_an_input_like_any_other(vendor: Callable[..., Simulator]) -> None:
    sim = vendor()
    os.mkfifo("pipe")
    data = "id,text\n" + "".join(f"{number},row {number}\n" for number in range(70))

    def write_all() -> None:
        Path("pipe").write_text(data)

    writer = threading.Thread(target=write_all)
    writer.start()
    done = run("bulk", "pipe", "--prompt", "{text}", "--id", "id", "-o", "out.csv")
    writer.join()
    assert done.exit_code == 0, done.stderr
    assert len(sim.ledger) == 70
    assert [row["id"] for row in table("out.csv")] == [str(number) for number in range(70)]


def test_a_table_on_stdin_is_told_from_json(vendor: Callable[..., Simulator]) -> None:
    vendor()
    for data in ("id,text\n1,hello\n", '{"id":1,"text":"hello"}\n', '[{"id":1,"text":"hello"}]'):
        done = run("bulk", "-", "--prompt", "{text}", "--id", "id", "-o", "out.jsonl", "--restart", stdin=data)
        assert done.exit_code == 0, done.stderr
