"""Several files, a directory or a pattern as one input of `bulk` and `classify`."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from aimlasync.bulk.input.many import open_files
from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.simulator import Simulator
from tests.support.commands import finish, last_line, lines, run, start, table, write

Vendor = Callable[..., Simulator]

ASK = ("--prompt", "Where is {city}?")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in/deep").mkdir(parents=True)
    write("in/a.csv", "city,land\nRome,Italy\nParis,France\n")
    write("in/b.csv", "land,city\nPeru,Lima\n")
    write("in/deep/c.csv", "city,land\nOslo,Norway\n")
    write("in/_SUCCESS", "")
    write("in/.hidden.csv", "no\n")
    write("in/notes.txt", "no rows")


def names(path: str = "out.jsonl") -> list[str]:
    return sorted(line["custom_id"] for line in lines(path))


ALL = ["row-1", "row-2", "row-3", "row-4"]


@pytest.mark.parametrize(
    "said", [("in",), ("in/**/*.csv",), ("in/a.csv", "in/b.csv", "in/deep"), ("in/*.csv", "in/b.csv", "in/deep/c.csv")]
)
def test_all_ways_to_say_several_files_are_one_input(vendor: Vendor, said: tuple[str, ...]) -> None:
    sim = vendor()
    columns = ("--columns", "place,city,land,custom_id")
    for _ in range(2):
        assert run("bulk", *said, *ASK, "-o", "out.csv", *columns).exit_code == 0
    assert len(sim.ledger) == 4
    rows = sorted(table("out.csv"), key=lambda row: row["place"])
    assert [(row["place"], row["city"], row["land"]) for row in rows] == [
        ("in/a.csv:2", "Rome", "Italy"),
        ("in/a.csv:3", "Paris", "France"),
        ("in/b.csv:2", "Lima", "Peru"),
        ("in/deep/c.csv:2", "Oslo", "Norway"),
    ]
    assert sorted(row["custom_id"] for row in rows) == ALL


def test_a_file_that_is_named_twice_is_read_once_which_is_said(vendor: Vendor) -> None:
    sim = vendor()
    result = run("bulk", "in/a.csv", "./in/a.csv", "in/../in/a.csv", *ASK, "--progress", "none", "-o", "out.jsonl")
    assert result.exit_code == 0
    assert len(sim.ledger) == 2
    assert result.stderr.splitlines()[0] == "aimlasync: ./in/a.csv and 1 more are named twice, and read once"
    again = run("bulk", "in", "in/b.csv", *ASK, "--progress", "none", "-o", "all.jsonl")
    assert again.stderr.splitlines()[0] == "aimlasync: in/b.csv is named twice, and read once"


def asked(*names: str, body: str = '{"model": "m", "messages": []}') -> str:
    return "".join(f'{{"custom_id": "{name}", "body": {body}}}\n' for name in names)


def test_blocks_of_lines_are_checked_at_once_in_each_of_several_files() -> None:
    write("1.jsonl", asked("a", "b"))
    write("2.jsonl", "")
    write("3.jsonl", "\n" + asked("c"))
    Path("4.jsonl.gz").write_bytes(gzip.compress(asked("d", "e").encode()))
    source = open_files(["1.jsonl", "2.jsonl", "3.jsonl", "4.jsonl.gz"])
    blocks: list[tuple[bytes, int]] = []
    rows: list[Row] = []

    def skim(block: bytes, above: int) -> int | None:
        blocks.append((block, above))
        return None if block.startswith(b"\n") else block.count(b"\n")

    found = source.survey(rows.append, skim=skim)
    assert [block.count(b"\n") for block, _ in blocks] == [2, 2, 2]
    assert [above for _, above in blocks] == [0, 0, 0]
    # Of the file whose block has a line that is looked at, numbers go on.
    assert [(row.number, row.line, row.file) for row in rows] == [(3, 2, "3.jsonl")]
    assert (found.rows, found.digest) == (5, source.digest())
    rows.clear()
    assert source.survey(rows.append) == found
    assert [(row.number, row.file) for row in rows] == [
        *((number, "1.jsonl") for number in (1, 2)),
        (3, "3.jsonl"),
        *((number, "4.jsonl.gz") for number in (4, 5)),
    ]
    rows.clear()
    assert source.survey(rows.append, limit=3).rows == len(rows) == 3


def test_what_is_wrong_in_one_of_several_files_of_lines_is_said_with_its_line_before_anything_is_asked(
    vendor: Vendor,
) -> None:
    sim = vendor()
    write("1.jsonl", asked("a", "b"))
    for text, why in (
        (asked("c", "b"), "2.jsonl: line 2: 'b' is the id of an earlier row too"),
        (asked("c") + "\n" + asked("b", "d"), "2.jsonl: line 3: 'b' is the id of an earlier row too"),
        (asked("c") + "{]\n", "2.jsonl: line 2: not JSON"),
        (asked("c") + asked("d", body='{"model": "m"}'), '2.jsonl: line 2: neither "messages"'),
    ):
        write("2.jsonl", text)
        result = run("bulk", "1.jsonl", "2.jsonl", "-o", "out.jsonl")
        assert result.exit_code != 0, why
        assert why in last_line(result), result.stderr
    assert not sim.ledger
    write("2.jsonl", "{]\n")
    with pytest.raises(InputError, match=r"^2\.jsonl: line 1: not JSON"):
        open_files(["1.jsonl", "2.jsonl"]).survey(lambda row: None)


def test_a_file_that_is_added_between_others_asks_about_its_rows_alone(vendor: Vendor) -> None:
    sim = vendor()
    words = ("bulk", "in", *ASK, "-o", "out.csv")
    assert run(*words).exit_code == 0
    write("in/aa.csv", "city,land\nBern,Switzerland\n")
    result = run(*words)
    assert result.exit_code == 0
    assert "in has changed: 4 kept, 1 new" in result.stderr
    assert len(sim.ledger) == 5
    assert [row["city"] for row in table("out.csv")] == ["Rome", "Paris", "Bern", "Lima", "Oslo"]


def test_shards_and_workers_and_ids_take_several_files_as_they_take_one(vendor: Vendor) -> None:
    sim = vendor()
    words = ("bulk", "in", *ASK, "--id", "city")
    for part in ("1/2", "2/2"):
        run(*words, "-o", f"part{part[0]}.jsonl", "--shard", part)
    parts = [names("part1.jsonl"), names("part2.jsonl")]
    assert sorted(parts[0] + parts[1]) == ["Lima", "Oslo", "Paris", "Rome"]
    code, _, err = finish(start(*words, "-o", "out.jsonl", "--workers", "2"))
    assert code == 0, err
    assert names() == ["Lima", "Oslo", "Paris", "Rome"]
    assert len(sim.ledger) == 8
    write("in/z.csv", "city,land\nRome,Italy\n")
    result = run(*words, "-o", "other.jsonl")
    assert result.exit_code == 2
    assert last_line(result) == (
        "aimlasync: in/z.csv: line 2: 'Rome' is the id of an earlier row too; every row needs its own"
    )


def test_classify_takes_several_files_and_packed_ones_and_leaves_out_empty_ones(vendor: Vendor) -> None:
    vendor()
    Path("in/d.csv.gz").write_bytes(gzip.compress(b"city,land\nBonn,Germany\n"))
    write("in/e.csv", "city,land\n")
    result = run("classify", "in", "--text", "city", "--labels", "big,small", "-o", "out.csv")
    assert result.exit_code == 0, result.stderr
    assert [row["city"] for row in table("out.csv")] == ["Rome", "Paris", "Lima", "Bonn", "Oslo"]
    assert all(row["label"] for row in table("out.csv"))
    result = run("classify", "in/a.csv", "in/b.csv", "--text", "city", "--labels", "big,small")
    assert result.stdout.splitlines()[0] == "city,land,label"
    assert len(result.stdout.splitlines()) == 4


def test_shards_of_parquet_files_are_those_of_the_same_rows_in_csv(vendor: Vendor) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    sim = vendor()
    for name, before in (("a", 0), ("b", 7)):
        rows = [f"city {n}" for n in range(before, before + 7)]
        Path("many").mkdir(exist_ok=True)
        write(f"many/{name}.csv", "city,land\n" + "".join(f"{row},x\n" for row in rows))
        table_of = pa.table({"city": rows, "land": ["x"] * 7})
        Path("pq").mkdir(exist_ok=True)
        parquet.write_table(table_of, f"pq/{name}.parquet", row_group_size=2)
    for shard in ("1/3", "2/3", "3/3"):
        for kind in ("many", "pq"):
            for limit in ("9", "14"):
                words = ("bulk", kind, *ASK, "-o", f"{kind}.{shard[0]}.jsonl", "--shard", shard, "--limit", limit)
                assert run(*words).exit_code == 0
        assert names(f"pq.{shard[0]}.jsonl") == names(f"many.{shard[0]}.jsonl") != []
    assert len(sim.ledger) == 28


@pytest.mark.parametrize(
    "said",
    [("in",), ("in/**/*.csv",), ("in/a.csv", "in/b.csv", "in/deep"), ("in/a.csv", "in/b.csv", "in/deep/c.csv")],
)
def test_an_export_takes_its_input_as_the_job_takes_it(vendor: Vendor, said: tuple[str, ...]) -> None:
    vendor()
    assert run("bulk", *said, *ASK, "-o", "out.jsonl").exit_code == 0
    words = [word for name in said for word in ("--input", name)]
    result = run("export", "out.jsonl", *words, "-o", "table.csv", "--columns", "place,city,custom_id")
    assert result.exit_code == 0, result.stderr
    assert last_line(result) == "4 rows: table.csv"
    assert [(row["place"], row["city"], row["custom_id"]) for row in table("table.csv")] == [
        ("in/a.csv:2", "Rome", "row-1"),
        ("in/a.csv:3", "Paris", "row-2"),
        ("in/b.csv:2", "Lima", "row-3"),
        ("in/deep/c.csv:2", "Oslo", "row-4"),
    ]
    refused = run("export", "out.jsonl", *words, "-o", "https://example.org/table.csv")
    assert refused.exit_code == 2
    assert last_line(refused).startswith("aimlasync: https://example.org/table.csv: ")
    into_a_file_of_it = run("export", "out.jsonl", *words, "-o", "in/a.csv", "--overwrite")
    assert into_a_file_of_it.exit_code == 2
    what = "the input itself; choose another name, or name the files of the input without it"
    assert last_line(into_a_file_of_it) == f"aimlasync: in/a.csv: {what}"


def test_parquet_files_keep_their_types(vendor: Vendor) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    vendor()
    Path("pq").mkdir()
    for name, number in (("a", 1), ("b", 2)):
        parquet.write_table(pa.table({"city": [name], "n": pa.array([number], pa.int32())}), f"pq/{name}.parquet")
    assert run("bulk", "pq", *ASK, "-o", "out.parquet").exit_code == 0
    read = parquet.read_table("out.parquet")
    assert read.column("n").to_pylist() == [1, 2]
    assert read.schema.field("n").type == pa.int32()
    parquet.write_table(pa.table({"city": ["c"], "n": ["three"]}), "pq/c.parquet")
    result = run("bulk", "pq", *ASK, "-o", "other.parquet")
    assert result.exit_code == 2
    assert "pq/c.parquet: 'n' is string here and int32 in pq/a.parquet" in result.stderr


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (("in/*.tsv",), "in/*.tsv: no file matches; check the pattern"),
        (("in/a.csv", "nope.csv"), "nope.csv: no such file; check the name"),
        (("in/a.csv", "-"), "- is stdin, and goes with no other FILE"),
        (("in/a.csv", "odd.csv"), "odd.csv: a column 'city' is not there, unlike in in/a.csv; make them alike"),
        (("in/a.csv", "bad.csv"), "bad.csv: line 3: 3 fields under a header of 2"),
        (("in/a.csv", "rows.jsonl"), "rows.jsonl: jsonl, and the files before are csv; ask in separate jobs"),
        (("bare",), "bare: a directory without .csv"),
        (("in", "-o", "in/out.jsonl"), "in/out.jsonl: in the input, where the next run would read it; choose"),
        (
            ("one", "-o", "one/out.csv"),
            "one/out.csv: in the input, where the next run would read it; choose another -o",
        ),
        (
            ("o*e/*.csv", "-o", "one/out.csv"),
            "one/out.csv: in the input, where the next run would read it; choose another -o",
        ),
        (
            ("in/*.csv", "-o", "in/out.csv"),
            "in/out.csv: in the input, where the next run would read it; choose another -o, or",
        ),
        (("in/*.csv", "-o", "x.jsonl", "--errors", "in/x.csv"), "in/x.csv: in the input"),
    ],
)
def test_what_cannot_be_read_together_is_said_in_one_line(vendor: Vendor, said: tuple[str, ...], what: str) -> None:
    sim = vendor()
    Path("bare").mkdir()
    Path("one").mkdir()
    write("one/a.csv", "city,land\nRome,Italy\n")
    write("odd.csv", "town,land\nRome,Italy\n")
    write("bad.csv", "city,land\nRome,Italy\nRome,Italy,3\n")
    write("rows.jsonl", '{"city":"Rome","land":"Italy"}\n')
    result = run("bulk", *said, *ASK, *(() if "-o" in said else ("-o", "out.jsonl")))
    assert result.exit_code == 2
    assert what in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert len(sim.ledger) == 0


def test_an_output_that_a_pattern_does_not_match_may_lie_beside_its_files(vendor: Vendor) -> None:
    vendor()
    for _ in range(2):
        assert run("bulk", "in/*.csv", *ASK, "-o", "in/deep/out.csv").exit_code == 0
        assert run("bulk", "in/*.csv", *ASK, "-o", "in/out.jsonl").exit_code == 0


def test_files_without_any_rows_are_an_error(vendor: Vendor) -> None:
    vendor()
    write("x.csv", "city\n")
    write("y.csv", "city\n")
    result = run("bulk", "x.csv", "y.csv", *ASK, "-o", "out.jsonl")
    assert result.exit_code == 2
    assert "y.csv: a header and no rows" in result.stderr
