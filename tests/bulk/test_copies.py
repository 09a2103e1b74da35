"""Commands that read journals, and write tables and pages, at addresses."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from aimlasync import bulk
from aimlasync.bulk.journal.record import decode_record, encode_record
from aimlasync.bulk.report import collect
from aimlasync.simulator import Fault, Simulator
from tests.support.commands import finish, last_line, run, start, table, write
from tests.support.memory_files import memory_files
from tests.support.web_server import Page, serving

pytest.importorskip("fsspec", reason="pip install 'aimlasync[fsspec]' runs these tests")

NO_FILE = "memory://no: no such file; check the address"
NO_OUTPUT = "an output cannot be written there; name a path or an address of a store"
ASK = ("--prompt", "Where is {city}?", "--simulate", "--progress", "none")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def memory() -> Iterator[Any]:
    with memory_files({"/in/rows.csv": b"city\nRome\nParis\n"}) as system:
        yield system


@pytest.fixture
def journal(memory: Any) -> str:
    """The journal of a job that was run in another directory, and has left nothing here."""
    assert run("bulk", "memory://in/rows.csv", *ASK, "-o", "memory://out/done.csv").exit_code == 0
    for path in Path().iterdir():
        path.unlink()
    return "memory://out/done.csv.journal"


def web_server(name: str) -> AbstractContextManager[str]:
    """Serve one file here; what is beside it is forbidden."""

    def page(target: str) -> Page:
        is_there = target.partition("?")[0] == f"/{name}"
        return Page(200, Path(name).read_bytes()) if is_there else Page(403, b"")

    return serving(page)


def said(*words: str) -> tuple[int, str]:
    result = run(*words)
    assert len(result.stderr.splitlines()) == 1
    return result.exit_code, last_line(result)


def test_a_journal_elsewhere_is_a_table_there_again_and_again(memory: Any, journal: str) -> None:
    words = ("export", journal, "--input", "memory://in/rows.csv", "-o", "memory://out/new.csv")
    for columns in ("city", "city,answer"):
        assert said(*words, "--columns", columns) == (0, "2 rows: memory://out/new.csv")
        assert memory.cat("/out/new.csv").startswith(columns.encode())
    memory.pipe("/out/new.csv", b"city\nmine\n")
    code, line = said(*words)
    assert (code, line.partition("; ")[0]) == (
        2,
        "aimlasync: memory://out/new.csv: was changed since this job wrote it",
    )
    assert memory.cat("/out/new.csv") == b"city\nmine\n"
    assert run(*words, "--overwrite").exit_code == 0
    assert list(Path().iterdir()) == []


def test_a_full_disk_is_named_whichever_it_is(memory: Any, journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    no_space = os.strerror(errno.ENOSPC)
    export = ("export", journal, "-o", "memory://out/new.csv")
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "put_file", full)
        code, line = said(*export)
        assert (code, line.startswith("aimlasync: memory://out/new.csv: nothing can be written there")) == (2, True)
        assert line.endswith(f"{no_space}); make room there")
    monkeypatch.setattr(type(memory), "get_file", full)
    here = f"aimlasync: {tempfile.gettempdir()}: {no_space} for temporary files; make room there, or set TMPDIR to "
    for words in (export, ("bulk", "memory://in/rows.csv", *ASK)):
        assert said(*words) == (1, f"{here}another directory")
    # A job copies what it goes on with into this directory.
    assert said("bulk", "memory://in/rows.csv", *ASK, "-o", "memory://out/done.csv") == (
        1,
        f"aimlasync: done.csv: {no_space}",
    )


def test_no_copy_stays(memory: Any, journal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    for code, words in ((0, ("export", journal, "-o", "memory://out/new.csv")), (2, ("report", "memory://out/no"))):
        assert run(*words).exit_code == code
        assert list((tmp_path / "scratch").iterdir()) == []


def test_what_a_job_wrote_beside_its_journal_is_known_there_too(memory: Any, journal: str) -> None:
    words = (journal, "--columns", "answer", "-o", "memory://out/done.csv")
    assert said("export", *words)[0] == 0
    assert memory.cat("/out/done.csv").startswith(b"answer\n")
    code, line = said("export", journal, "-o", "memory://in/rows.csv")
    assert (code, line.partition("; ")[0]) == (
        2,
        "aimlasync: memory://in/rows.csv: is there, and is not what this job wrote",
    )


def test_a_file_system_may_have_an_error_of_its_own_for_a_missing_file(
    memory: Any, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_file = type(memory).get_file

    def get(self: Any, path: str, *rest: Any) -> None:
        if not self.exists(path):
            # As ftplib's.
            raise Exception("550 No such file")
        get_file(self, path, *rest)

    monkeypatch.setattr(type(memory), "get_file", get)
    assert said("export", journal, "-o", "memory://out/new.csv")[0] == 0
    assert said("report", "memory://out/no")[1].startswith("aimlasync: memory://out/no: No such file or directory; ")


def test_who_may_read_files_and_list_none_reads_a_journal(
    memory: Any, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.rm("/out/done.csv.journal.outputs")
    real = type(memory).info

    def info(self: Any, path: str, **options: Any) -> Any:
        found = real(self, path, **options) if self.exists(path) else None
        if found is None or found["type"] == "directory":
            # As S3 says of what is not there, too.
            raise PermissionError("Access Denied")
        return found

    def get(self: Any, path: str, to: str) -> None:
        info(self, path)
        Path(to).write_bytes(self.cat(path))

    monkeypatch.setattr(type(memory), "exists", lambda self, path, **_: path in self.store)
    for name, do in (("info", info), ("get_file", get), ("isdir", lambda self, path: bool(info(self, path)))):
        monkeypatch.setattr(type(memory), name, do)
    assert run("export", journal, "--columns", "ok").stdout.splitlines() == ['{"ok":true}'] * 2
    assert said("report", journal, "-o", "page.html")[0] == 0
    code, line = said("export", journal, "-o", "memory://out/no.csv")
    assert (code, "PermissionError: Access Denied" in line) == (2, True)


def test_a_journal_elsewhere_and_a_table_here_and_the_other_way_round(memory: Any, journal: str) -> None:
    memory.get_file("/out/done.csv.journal", "mine.jsonl")
    for _ in range(2):
        assert said("export", journal, "-o", "here.csv", "--columns", "answer")[0] == 0
        assert said("export", "mine.jsonl", "-o", "memory://new/there.jsonl", "--columns", "answer")[0] == 0
    assert len(table("here.csv")) == 2 == len(memory.cat("/new/there.jsonl").splitlines())
    assert sorted(path.name for path in Path().iterdir()) == ["here.csv", "mine.jsonl", "mine.jsonl.outputs"]
    assert run("export", journal, "--columns", "ok").stdout.splitlines() == ['{"ok":true}'] * 2


def test_a_page_is_written_beside_its_journal(memory: Any, journal: str) -> None:
    for _ in range(2):
        assert said("report", journal) == (0, f"aimlasync: {journal}.html: 2 rows ok, 0 failed")
    assert b"</html>" in memory.cat("/out/done.csv.journal.html")
    assert said("report", "memory://out/done.csv") == (
        2,
        "aimlasync: memory://out/done.csv: the output of a job, and no journal; its journal is "
        "memory://out/done.csv.journal",
    )


def test_rows_that_a_job_read_elsewhere_have_the_right_labels(memory: Any) -> None:
    memory.pipe({"/in/gold.csv": b"text,right\nrefund,billing\ncrash,bug\n"})
    words = ("memory://in/gold.csv", "--labels", "billing,bug", "--gold", "right")
    assert run("classify", *words, "-o", "out.csv", "--simulate").exit_code == 0
    assert run("report", "out.csv.journal", "--gold", "right").exit_code == 0
    for end in ("", ".manifest"):
        memory.put_file(f"out.csv.journal{end}", f"/out/labels{end}")
    for input in (None, "memory://in/gold.csv", ["memory://in/gold.csv"]):
        assert bulk.evaluate("memory://out/labels", "right", input=input).judged == 2
    memory.rm("/in/gold.csv")
    assert said("report", "out.csv.journal", "--gold", "right") == (
        2,
        "aimlasync: memory://in/gold.csv: no such file; check the address",
    )


def test_journals_of_shards_elsewhere_are_one_there(memory: Any) -> None:
    parts = [f"memory://out/{part}.jsonl" for part in (1, 2)]
    for number, part in enumerate(parts, 1):
        assert run("bulk", "memory://in/rows.csv", *ASK, "--shard", f"{number}/2", "-o", part).exit_code == 0
    whole = "memory://out/whole.jsonl"
    for _ in range(2):
        assert said("merge", *parts, "-o", whole) == (0, f"2 rows: {whole}")
    assert len(memory.cat("/out/whole.jsonl").splitlines()) == 2
    assert memory.cat("/out/whole.jsonl.manifest").startswith(b'{"aimlasync":"journal"')
    assert run("merge", *parts, "-o", parts[0]).exit_code == 2
    # The job of the whole goes on with it, and asks nothing.
    assert "nothing was asked" in run("bulk", "memory://in/rows.csv", *ASK, "-o", whole).stderr


def test_a_program_gives_addresses_as_the_commands_do(memory: Any, journal: str) -> None:
    rows = Path("memory.csv")
    rows.write_bytes(memory.cat("/in/rows.csv"))
    for source in ("memory://in/rows.csv", ["memory://in/rows.csv"], rows):
        done = bulk.export(journal, "memory://out/new.jsonl", source=source, columns=["city", "ok"])
        assert (done.rows, done.ok, done.unmatched) == (2, 2, 0)
        assert memory.cat("/out/new.jsonl") == b'{"city":"Rome","ok":true}\n{"city":"Paris","ok":true}\n'
    assert bulk.merge([journal], "memory://out/one.jsonl").rows == 2
    assert memory.cat("/out/one.jsonl.manifest").startswith(b'{"aimlasync":"journal"')
    assert collect(journal).ok == 2
    rows.unlink()
    assert list(Path().iterdir()) == []


def test_a_program_is_told_of_an_address_as_the_commands_are(memory: Any, journal: str) -> None:
    table = "memory://out/done.csv"
    told = f"{table}: the output of a job, and no journal; its journal is {table}.journal"
    calls: list[Callable[[], object]] = [
        lambda: bulk.export(table, "x.csv"),
        lambda: bulk.merge([journal, table], "x.jsonl"),
        lambda: bulk.evaluate(table, "city"),
        lambda: collect(table),
    ]
    for call in calls:
        with pytest.raises(bulk.InputError) as raised:
            call()
        assert str(raised.value) == told
    with pytest.raises(bulk.OverwriteError, match=r"\Amemory://in/rows.csv: is there, and is not what this job wrote"):
        bulk.export(journal, "memory://in/rows.csv")
    assert list(Path().iterdir()) == []


def test_the_column_that_named_the_rows_of_a_job_names_them_in_a_program_too(memory: Any) -> None:
    memory.pipe("/in/named.csv", b"key,city\nk1,Rome\nk2,Paris\n")
    assert run("bulk", "memory://in/named.csv", *ASK, "--id", "key", "-o", "memory://out/n.jsonl").exit_code == 0
    for how in ({}, {"id": "key"}, {"id_of": lambda row: str(row.fields["key"])}):
        done = bulk.export("memory://out/n.jsonl", "memory://out/n.csv", source="memory://in/named.csv", **how)
        assert (done.ok, done.unmatched) == (2, 0)
    other = bulk.export("memory://out/n.jsonl", "memory://out/o.csv", source="memory://in/named.csv", id="city")
    assert (other.missing, other.unmatched) == (2, 2)


def test_a_job_does_not_write_its_copy_over_a_merged_journal(memory: Any) -> None:
    whole, words = "memory://out/whole.jsonl", ("bulk", "memory://in/rows.csv", *ASK, "-o")
    assert run(*words, whole, "--limit", "1").exit_code == 0
    for number in (1, 2):
        assert run(*words, f"part-{number}.jsonl", "--shard", f"{number}/2").exit_code == 0
    assert said("merge", "part-1.jsonl", "part-2.jsonl", "-o", whole, "--overwrite")[0] == 0
    merged = memory.cat("/out/whole.jsonl")
    assert len(merged.splitlines()) == 2
    assert "not what whole.jsonl in this directory is a copy of" in said(*words, whole)[1]
    assert memory.cat("/out/whole.jsonl") == merged


def test_what_another_writes_meanwhile_is_left(memory: Any, journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    get_file = type(memory).get_file

    def get(self: Any, path: str, *rest: Any) -> None:
        if path == "/out/new.csv.journal.manifest":
            self.pipe("/out/new.csv", b"of another")
        get_file(self, path, *rest)

    monkeypatch.setattr(type(memory), "get_file", get)
    code, line = said("export", journal, "-o", "memory://out/new.csv")
    assert code == 2
    assert line.startswith("aimlasync: memory://out/new.csv: was changed meanwhile, and is left as it is")
    assert memory.cat("/out/new.csv") == b"of another"


def test_lines_of_failed_rows_are_written_elsewhere(vendor: Callable[..., Simulator], memory: Any) -> None:
    vendor(faults=[Fault("status", status=422, match=lambda asked: "Rome" in asked.text)])
    words = ("bulk", "memory://in/rows.csv", *ASK[:2], "-o", "out.jsonl", "--errors", "memory://out/failed.jsonl")
    for _ in range(2):
        assert run(*words).exit_code == 3
        assert memory.cat("/out/failed.jsonl").count(b"\n") == 1
    memory.pipe("/out/failed.jsonl", b"mine")
    result = run(*words)
    assert result.exit_code == 2
    assert last_line(result).startswith("aimlasync: memory://out/failed.jsonl: was changed since this job wrote it")


def test_texts_labels_and_schemas_may_be_elsewhere(memory: Any) -> None:
    schema = b'{"type": "object", "properties": {"ok": {"type": "boolean"}}}'
    memory.pipe(
        {"/in/prompt.txt": b"\xef\xbb\xbfWhere is {city}?\r\n", "/in/form.json": schema, "/in/bad.txt": b"\xff"}
    )
    memory.pipe({"/in/labels.csv": b"label\nfar\nnear\n", "/in/labels.txt": b"far\nnear\n"})
    rows, ends = "memory://in/rows.csv", ("--simulate", "--progress", "none")
    asked = run("bulk", rows, "--prompt", "@memory://in/prompt.txt", *ends)
    assert asked.exit_code == 0
    assert "Where is Rome?\u201d" in asked.stdout
    for words in (("--labels", "@memory://in/labels.csv"), ("--labels", "@memory://in/labels.txt")):
        assert run("classify", rows, *words, *ends).exit_code == 0
    assert run("bulk", rows, *ASK, "--schema", "memory://in/form.json").exit_code == 0
    wrong = {
        NO_FILE: ("classify", rows, "--labels", "@memory://no"),
        "@memory://in/bad.txt: the file is not UTF-8; save it as UTF-8": (
            "bulk",
            rows,
            "--prompt",
            "@memory://in/bad.txt",
        ),
    }
    for line, command in wrong.items():
        code, found = said(*command, *ends)
        assert (code, found.endswith(line)) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ("export", "mine.jsonl", "--input", "memory://in/rows.csv", "-o", "memory://in/rows.csv"),
        ("bulk", "memory://in/rows.csv", *ASK, "-o", "memory://in/rows.csv"),
        ("bulk", "memory://in/rows.csv", *ASK, "-o", "out.csv", "--errors", "memory://in/rows.csv"),
        ("classify", "memory://in/", "--labels", "a,b", "--simulate", "-o", "memory://in/rows.csv"),
    ],
)
def test_the_input_is_never_written_over(memory: Any, words: tuple[str, ...]) -> None:
    write("rows.csv", "city\nRome\n")
    assert run("bulk", "rows.csv", *ASK, "-o", "mine.jsonl").exit_code == 0
    Path("rows.csv").unlink()
    code, line = said(*words, "--overwrite")
    assert code == 2
    assert line.startswith("aimlasync: memory://in/rows.csv: the input itself; choose another ")
    assert memory.cat("/in/rows.csv") == b"city\nRome\nParis\n"


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(("read", "code"), [("memory://in/", 2), ("memory://in/*.csv", 0)])
def test_nothing_is_written_where_the_next_run_would_read_it(read: str, code: int) -> None:
    refused = "aimlasync: memory://in/out.csv: the input itself; choose another -o"
    assert said("bulk", read, *ASK, "-o", "memory://in/out.csv") == (2, refused)
    # A pattern without ** goes no deeper.
    assert run("bulk", read, *ASK, "-o", "memory://in/deep/out.csv").exit_code == code


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("report", "memory://out/no.journal"), "memory://out/no.journal: No such file or directory; the journal is"),
        (("export", "memory://in"), "memory://in: a directory; name a file in it"),
        (("export", "memory://in/rows.csv"), "memory://in/rows.csv: not a journal: "),
        (("export", "odd://in/a"), "odd://in/a: cannot be reached (ValueError: Protocol not known: odd"),
        (("export", "mine", "-o", "https://h/x.csv"), "https://h/x.csv: an output cannot be written there"),
        (("merge", "memory://in/rows.csv", "-o", "memory://in/x"), "memory://in/rows.csv: not a journal: "),
    ],
)
def test_what_is_wrong_is_one_line_about_the_address(memory: Any, words: tuple[str, ...], line: str) -> None:
    code, found = said(*words)
    assert code == 2
    assert found.removeprefix("aimlasync: ").startswith(line)


def test_archives_and_web_servers_have_journals(memory: Any, journal: str) -> None:
    for end in ("", ".manifest"):
        memory.get_file(f"/out/done.csv.journal{end}", f"done{end}")
    with zipfile.ZipFile("x.zip", "w") as archive:
        for end in ("", ".manifest"):
            archive.write(f"done{end}")
    with web_server("done") as web:
        # File systems leave threads and connections behind, so that they are in a process of their own.
        found = [
            finish(start("export", address, "--columns", "answer,ok"))
            for address in (f"{web}/done?sig=hunter22", f"zip://done::file://{Path('x.zip').absolute()}")
        ]
        found.append(finish(start("report", f"{web}/done?sig=hunter22")))
    assert [(code, len(out.splitlines())) for code, out, _ in found] == [(0, 2), (0, 2), (2, 0)]
    assert [err for _, _, err in found[:2]] == ["", ""]
    assert "hunter22" not in found[2][2]
    assert found[2][2].splitlines() == [f"aimlasync: {web}/done: {NO_OUTPUT}"]


def test_several_journals_are_copied_at_once_and_merged_in_their_order(
    memory: Any, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:02}.jsonl" for number in range(20)]
    record = decode_record(memory.cat("/out/done.csv.journal").splitlines()[0])
    for name in names:
        # One row is in all of them: the last line is kept.
        own = [encode_record(replace(record, id=name, custom_id=row)) + b"\n" for row in ("twice", name)]
        memory.pipe(f"/parts/{name}", b"".join(own))
        Path(name).write_bytes(memory.cat(f"/parts/{name}"))
    assert bulk.merge(names, "near.jsonl").rows == 21
    together, lock, at_once, most = threading.Barrier(8), threading.Lock(), 0, 0
    read = type(memory).get_file

    def waiting(self: Any, name: str, path: str) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        if name.endswith(".jsonl") and name < "/parts/08":
            together.wait(60)
        try:
            read(self, name, path)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(type(memory), "get_file", waiting)
    assert bulk.merge([f"memory://parts/{name}" for name in names], "far.jsonl").rows == 21
    assert Path("far.jsonl").read_bytes() == Path("near.jsonl").read_bytes()
    assert most == 8
