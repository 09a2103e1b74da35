"""Journals of shards as one: one line a row, nothing lost, one manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.bulk.input.rows import InputError
from aimlasync.bulk.journal.index import Index
from aimlasync.bulk.journal.manifest import locked
from aimlasync.bulk.journal.record import Failure, Record, Response, decode_record, encode_record
from aimlasync.bulk.output.merge import Merged, merge


def line(custom_id: str, ok: bool = True, body: str = "1") -> bytes:
    if ok:
        response = Response(status_code=200, body=msgspec.Raw(body.encode()))
        return encode_record(Record(id="x", custom_id=custom_id, response=response)) + b"\n"
    return encode_record(Record(id="x", custom_id=custom_id, error=Failure(code="E", message=body))) + b"\n"


def journal(path: Path, *lines: bytes, manifest: dict[str, Any] | None = None) -> str:
    path.write_bytes(b"".join(lines))
    if manifest is not None:
        Path(f"{path}.manifest").write_bytes(msgspec.json.encode(manifest))
    return str(path)


def manifest(shard: Any, facts: dict[str, Any] | None = None, **job: Any) -> dict[str, Any]:
    whole = {"model": "m", "input": {"digest": "d"}, "shard": shard, **job}
    return {"aimlasync": "journal", "version": 2, "job": whole, "facts": facts or {}}


def test_every_row_has_one_line_and_the_last_good_one_wins(tmp_path: Path) -> None:
    one = journal(tmp_path / "1", line("a"), line("b", ok=False), line("c", body="2"), line("d", ok=False))
    two = journal(tmp_path / "2", line("b", body="3"), line("c", ok=False), line("a", body="4"), line("d", ok=False))
    out = tmp_path / "out"
    assert merge([one, two], str(out)) == Merged(rows=4, ok=3, failed=1, duplicates=1)
    records = [decode_record(text) for text in out.read_bytes().splitlines()]
    assert [(record.custom_id, record.response and bytes(record.response.body)) for record in records] == [
        ("c", b"2"),
        ("b", b"3"),
        ("a", b"4"),
        ("d", None),
    ]
    assert out.stat().st_mode & 0o077 == 0
    assert not Path(f"{out}.manifest").exists()


def test_a_torn_last_line_is_missing_and_a_whole_one_without_end_is_not(tmp_path: Path) -> None:
    one = journal(tmp_path / "1", line("a"), line("b")[:-9])
    two = journal(tmp_path / "2", line("c"), line("d")[:-1])
    three = journal(tmp_path / "3")
    out = tmp_path / "out"
    assert merge([one, two, three], str(out)).rows == 3
    assert out.read_bytes() == line("a") + line("c") + line("d")


@pytest.mark.parametrize("bad", [b"{}\n", b"\n", b"nonsense\n", b'{"custom_id":"\xff"}\n', b"[" * 9999 + b"\n"])
def test_a_bad_line_in_the_middle_is_named(tmp_path: Path, bad: bytes) -> None:
    one = journal(tmp_path / "1", line("a"))
    two = journal(tmp_path / "2", line("b"), bad, line("c"))
    with pytest.raises(InputError) as caught:
        merge([one, two], str(tmp_path / "out"))
    assert str(caught.value).startswith(f"{two}: line 2: not a record of a journal (")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rest", [b"", b"\n", b"\n" + line("c")])
@pytest.mark.parametrize("before", [b"", line("z")])
def test_records_on_one_line_are_no_torn_line(tmp_path: Path, before: bytes, rest: bytes) -> None:
    two = journal(tmp_path / "2", before, line("a")[:-1] + line("b")[:-1], rest)
    with pytest.raises(InputError) as caught:
        merge([journal(tmp_path / "1", line("d")), two], str(tmp_path / "out"))
    assert (
        str(caught.value) == f"{two}: line {2 if before else 1}: two records on one line; put a line end between them"
    )


def test_manifests_become_one_without_the_shard(tmp_path: Path) -> None:
    one = journal(tmp_path / "1", line("a"), manifest=manifest("1/2", {"rows": 2, "started": 1}))
    two = journal(tmp_path / "2", line("b"), manifest=manifest("2/2", {"rows": 2, "started": 5}))
    out = tmp_path / "out"
    merge([one, two], str(out))
    assert msgspec.json.decode(Path(f"{out}.manifest").read_bytes()) == {
        "aimlasync": "journal",
        "version": 2,
        "job": {"model": "m", "input": {"digest": "d"}},
        "facts": {"rows": 2},
    }


@pytest.mark.parametrize(
    ("shards", "missing"),
    [
        (["1/2", "2/2"], ()),
        (["2/2"], ("1/2",)),
        (["3/4", "1/4"], ("2/4", "4/4")),
        # Of a journal that is all of them, or that of another number of shards, nothing is known.
        ([None], ()),
        (["1/2", None], ()),
        (["1/2", "1/3"], ()),
        (["x"], ()),
        ([["1/2"]], ()),
    ],
)
def test_shards_that_are_not_there_are_named(tmp_path: Path, shards: list[Any], missing: tuple[str, ...]) -> None:
    paths = [
        journal(tmp_path / f"{number}", line(f"row-{number}"), manifest=manifest(shard))
        for number, shard in enumerate(shards)
    ]
    assert merge(paths, str(tmp_path / "out")).missing == missing


def test_of_very_many_shards_not_all_are_named(tmp_path: Path) -> None:
    path = journal(tmp_path / "1", line("a"), manifest=manifest("1/999999999"))
    assert len(merge([path], str(tmp_path / "out")).missing) == 1000


def test_jobs_that_differ_are_not_merged(tmp_path: Path) -> None:
    one = journal(tmp_path / "1", line("a"), manifest=manifest("1/2"))
    two = journal(tmp_path / "2", line("b"), manifest=manifest("2/2", model="n", labels=["x"]))
    with pytest.raises(InputError) as caught:
        merge([one, two], str(tmp_path / "out"))
    assert str(caught.value) == (
        f'{two}: another job than that of {one}: differs in model (n, there m), labels (["x"], there nothing); '
        "merge it elsewhere"
    )


def test_jobs_whose_answers_have_their_fields_in_another_order_are_not_merged(tmp_path: Path) -> None:
    forms: list[Any] = [{"properties": {"reason": {}, "label": {}}}, {"properties": {"label": {}, "reason": {}}}]
    paths = [
        journal(tmp_path / f"{number}", line(f"row-{number}"), manifest=manifest(f"{number}/2", form=form))
        for number, form in enumerate(forms, 1)
    ]
    with pytest.raises(InputError, match=r"another job than that of .*: differs in form"):
        merge(paths, str(tmp_path / "out"))
    merge(paths[:1], str(tmp_path / "out"))
    with pytest.raises(InputError, match="the journal of another job"):
        merge(paths[1:], str(tmp_path / "out"))


def test_what_cannot_be_merged_is_said(tmp_path: Path) -> None:
    one = journal(tmp_path / "1", line("a"), manifest=manifest("1/2"))
    bare = journal(tmp_path / "2", line("b"))
    out = str(tmp_path / "out")
    with pytest.raises(TypeError, match="merge takes a list of journals, such as"):
        merge(one, out)
    with pytest.raises(InputError, match="no journals to merge"):
        merge([], out)
    with pytest.raises(InputError, match=r"2: has no .*2\.manifest, and .*1 has one"):
        merge([one, bare], out)
    with pytest.raises(InputError, match="one of the journals to merge"):
        merge([one, bare], bare)
    journal(tmp_path / "out", manifest=manifest("1/2"))
    with pytest.raises(InputError, match=r"nowhere: no journal can be read there \(No such file"):
        merge([str(tmp_path / "nowhere")], out)
    with pytest.raises(InputError, match=r"out\.manifest: tells of another job"):
        merge([bare], out)
    Path(f"{one}.manifest").write_text("[]")
    with pytest.raises(InputError, match=r"1\.manifest: not the manifest of a journal"):
        merge([one], out)


NAMES = st.sampled_from(["a", "b", "c", "row-1", "row-2", "é"])


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(NAMES, st.booleans())), min_size=1, max_size=3))
def test_merged_is_what_a_dict_says(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[tuple[str, bool]]]
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    last: dict[str, tuple[bool, str]] = {}
    duplicates = 0
    paths = []
    for number, shard in enumerate(shards):
        lines = []
        for at, (name, ok) in enumerate(shard):
            was_ok = last.get(name, (False, ""))[0]
            duplicates += ok and was_ok
            body = f"{number}.{at}1"
            lines.append(line(name, ok, body))
            if ok or not was_ok:
                last[name] = ok, body
        paths.append(journal(folder / str(number), *lines))
    out = folder / "out"
    merged = merge(paths, str(out))
    found = {}
    for text in out.read_bytes().splitlines():
        record = decode_record(text)
        assert record.custom_id not in found
        said = record.error.message if record.error else bytes(record.response.body).decode() if record.response else ""
        found[record.custom_id] = record.error is None, said
    assert found == last
    assert (merged.rows, merged.ok, merged.duplicates) == (len(last), sum(ok for ok, _ in last.values()), duplicates)


def test_names_that_share_a_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aimlasync.bulk.journal.index.hash", lambda name: 7, raising=False)
    names = [f"n{number}" for number in range(20)]
    path = journal(tmp_path / "1", *[line(name, body=f'"{name}"') for name in [*names, *names[:5]]])
    with Index([path]) as index:
        assert (index.rows, index.duplicates) == (20, 5)
        for name in names:
            record = index.find(name)
            assert record is not None
            assert record.custom_id == name
        assert index.find("other") is None
        assert [record.custom_id for record in index.records()] == [*names[5:], *names[:5]]


def test_a_journal_may_grow_while_it_is_read(tmp_path: Path) -> None:
    path = journal(tmp_path / "1", line("a"), line("b")[:20])
    with Index([path]) as index:
        with open(path, "ab") as file:
            file.write(line("b")[20:] + line("c"))
        assert [record.custom_id for record in index.records()] == ["a"]
        assert index.find("b") is None


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_journal_that_is_not_there_is_said_to_be_missing(tmp_path: Path, has_manifest: bool) -> None:
    one = journal(tmp_path / "1", line("a"), manifest=manifest("1/2") if has_manifest else None)
    with pytest.raises(InputError, match=r"2: no journal can be read there \(No such file"):
        merge([one, str(tmp_path / "2")], str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["out.csv", "out.XLSX", "out.parquet", "out.tsv.gz"])
def test_a_journal_is_not_written_under_the_name_of_a_table(tmp_path: Path, name: str) -> None:
    one = journal(tmp_path / "1", line("a"))
    with pytest.raises(InputError, match="export"):
        merge([one], str(tmp_path / name), overwrite=True)
    assert not (tmp_path / name).exists()
    for fits in ("out.jsonl", "out.csv.journal"):
        assert merge([one], str(tmp_path / fits)).rows == 1


def test_journals_that_a_run_still_writes_are_named(tmp_path: Path) -> None:
    one, two = (journal(tmp_path / f"{n}", line(f"{n}"), manifest=manifest(f"{n}/2")) for n in (1, 2))
    with locked(one):
        merged = merge([one, two], str(tmp_path / "out"))
    assert (merged.rows, merged.in_use) == (2, (one,))
    assert merge([one, two], str(tmp_path / "out")).in_use == ()
