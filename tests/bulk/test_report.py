"""The report of a job: its totals, its bounds, and a page that is whole, loads nothing and runs nothing of others'."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from aimlasync.bulk.journal.record import Facts, Failure, Record, Response, encode_record
from aimlasync.bulk.report import Report, ReportError, collect, render
from aimlasync.bulk.report.charts import TimeAxis, duration
from aimlasync.bulk.report.times import Histogram, Spans, Timeline

START = 1_772_658_000.0
VOID = {"meta", "br", "link", "img", "input", "hr"}


def line(custom_id: str = "a", error: Failure | None = None, *, status: int = 200, **info: Any) -> bytes:
    response = None if error else Response(status_code=status)
    record = Record(id="x", custom_id=custom_id, response=response, error=error, info=Facts(**info) if info else None)
    return encode_record(record) + b"\n"


def failed(code: str = "InternalServerError", message: str = "no", status: int | None = 503) -> Failure:
    return Failure(code=code, message=message, status=status, attempts=4)


class Page(HTMLParser):
    """What a browser makes of the page; fails when tags do not balance or anything is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names)
        assert not {"src", "href", "action", "data", "srcset", "poster", "background"} & set(names)
        assert not any(name.startswith("on") for name in names)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.text += f" {data}"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "out.csv.journal"


def read(path: Path, *lines: bytes) -> tuple[Report, Page]:
    path.write_bytes(b"".join(lines))
    report = collect(path)
    return report, Page(render(report))


def headline(page: Page, name: str) -> str:
    found = re.search(rf"{name}\s+(\S+(?: \S+)*)", page.text)
    assert found
    return found[1]


def test_a_row_counts_by_its_last_line_and_costs_by_all(journal: Path) -> None:
    report, page = read(
        journal,
        line("a", at=START, seconds=1.0, attempts=1, tokens_in=10, tokens_out=2, cost_usd=0.5),
        line("b", failed(), at=START + 1, seconds=2.0, attempts=4, tokens_in=5, tokens_out=1, cost_usd=0.25),
        line("c", failed("RateLimitError", "slow", 429), at=START + 2, attempts=4),
        line("d", failed(), at=START + 2, attempts=4),
        line("b", at=START + 3, seconds=1.0, attempts=2, tokens_in=5, tokens_out=1, cost_usd=0.25),
        line("c", failed(), at=START + 4, attempts=4),
    )
    assert (report.rows, report.ok, report.failed, report.rescued, report.lines) == (4, 2, 2, 1, 6)
    assert (report.calls, report.retries.amount) == (6, 13)
    assert (report.tokens_in.amount, report.tokens_out.amount, report.cost.amount) == (20, 4, 1.0)
    assert report.cost.unknown == 0
    assert [(kind.code, kind.lines, kind.superseded) for kind in report.kinds.values()] == [
        ("InternalServerError", 3, 1),
        ("RateLimitError", 1, 1),
    ]
    assert headline(page, "Rows ok") == "2"
    assert headline(page, "Rows failed") == "2"
    assert headline(page, "Cost") == "$1.00"


def test_what_nobody_stated_is_unknown_and_not_zero(journal: Path) -> None:
    _, page = read(journal, line("a", at=START), line("b"))
    for name in ("Cost", "Tokens in", "Tokens out", "Retries", "Duration"):
        assert headline(page, name) == "unknown", name
    _, page = read(journal, line("a", cost_usd=0.5), line("b"))
    assert headline(page, "Cost") == "at least $0.5"
    assert "1 answered row without a price" in page.text
    _, page = read(journal, line("a", cost_usd=0.0))
    assert headline(page, "Cost") == "$0.00"


def test_a_row_that_failed_unsent_is_no_call(journal: Path) -> None:
    report, _ = read(journal, line("a", failed(), attempts=0), line("b", attempts=5, calls=3))
    assert (report.calls, report.retries.amount, report.attempts) == (3, 2, {0: 1, 5: 1})
    assert report.cost.unknown == 1


def test_a_row_that_shares_a_call_adds_a_row_and_nothing_else(journal: Path) -> None:
    facts: dict[str, Any] = {"at": START, "seconds": 1.0, "attempts": 1, "tokens_in": 7, "cost_usd": 0.1, "label": "x"}
    report, page = read(journal, line("a", **facts), line("b", **facts, shared_with="a"))
    assert (report.rows, report.calls, report.tokens_in.amount, report.labels["x"]) == (2, 1, 7, 2)
    assert report.seconds.total == 1
    assert "1 row shared the call" in page.text


def test_a_torn_last_line_is_ignored_and_mentioned(journal: Path) -> None:
    whole = line("a", at=START, label="x")
    for end in range(1, len(whole) - 1):
        journal.write_bytes(whole + whole[:end])
        report = collect(journal)
        assert report.is_torn
        assert report.rows == 1
    assert "torn" in Page(render(report)).text
    # Without its line end alone, the line is whole.
    report, page = read(journal, whole, line("b")[:-1])
    assert report.rows == 2
    assert "torn" not in page.text


@pytest.mark.parametrize("bad", [b"{}\n", b"\n", b"\xff\xfe\n", b'{"custom_id":"\xff"}\n', b'{"custom_id":"a"\n'])
def test_a_bad_line_is_an_error_with_its_number(journal: Path, bad: bytes) -> None:
    journal.write_bytes(line("a") + line("b") + bad + line("c"))
    with pytest.raises(ReportError, match="line 3 is not"):
        collect(journal)
    journal.write_bytes(bad + line("c"))
    with pytest.raises(ReportError, match="not a journal: line 1"):
        collect(journal)


def test_records_on_one_line_are_no_torn_line(journal: Path) -> None:
    for end in (b"", b"\n"):
        journal.write_bytes(line("a") + line("b")[:-1] + line("c")[:-1] + end)
        with pytest.raises(ReportError, match="line 2: two records on one line; put a line end between them"):
            collect(journal)


def test_a_deep_line_is_an_error_and_a_text_is_no_journal(journal: Path) -> None:
    journal.write_bytes(line() + b'{"custom_id":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n")
    with pytest.raises(ReportError, match="line 2"):
        collect(journal)
    journal.write_bytes(b"hello")
    with pytest.raises(ReportError, match="not a journal"):
        collect(journal)


def test_an_empty_journal_says_so(journal: Path) -> None:
    report, page = read(journal)
    assert report.rows == 0
    assert "no row is finished yet" in page.text


def test_lines_of_openais_batch_api_have_totals_and_no_times(journal: Path) -> None:
    foreign = [
        {"id": "1", "custom_id": "a", "response": {"status_code": 200, "request_id": "r", "body": {}}, "error": None},
        {"id": "2", "custom_id": "b", "response": {"status_code": 400, "request_id": "r", "body": {}}, "error": None},
        {"id": "3", "custom_id": "c", "response": None, "error": {"code": "batch_expired", "message": "late"}},
    ]
    report, page = read(journal, *(json.dumps(each).encode() + b"\n" for each in foreign))
    assert (report.ok, report.failed) == (1, 2)
    assert {kind.code for kind in report.kinds.values()} == {"HTTP 400", "batch_expired"}
    assert "does not say when" in page.text
    assert headline(page, "Cost") == "unknown"


def test_one_line_alone_makes_a_page(journal: Path) -> None:
    _, page = read(
        journal, line(at=START, seconds=0.5, first_byte=0.1, queued=0.1, limited=0.2, label="x", confidence=1)
    )
    assert headline(page, "Duration") == "500 ms"
    assert page.tags.count("figure") == 4


@pytest.mark.parametrize("huge", [1e308, 1e18, 3e10, 1e9 - 1, 1e-300, 0.0, -1.0, -0.0])
def test_no_number_breaks_a_page(journal: Path, huge: float) -> None:
    every: dict[str, Any] = dict.fromkeys(
        ("at", "seconds", "first_byte", "queued", "limited", "cost_usd", "confidence"), huge
    )
    ints: dict[str, Any] = {name: int(huge) for name in ("attempts", "calls", "tokens_in", "tokens_out")}
    calm = line("a", at=START, seconds=1.0, queued=0.5)
    for lines in ([line("b", **every, **ints)], [calm, line("b", **every, **ints)], [line("b", **every, **ints), calm]):
        read(journal, *lines)


def test_labels_are_sorted_and_the_rest_is_summed(journal: Path) -> None:
    rows = [line(f"{n}-{m}", label=f"label {n:02}") for n in range(40) for m in range(n + 1)]
    report, page = read(journal, *rows, line("e", label=""), line("n", label=[]), line("m", label=["label 39", "two"]))
    assert report.labelled == 823
    shown = re.findall(r"label \d\d", page.text)
    assert shown[:3] == ["label 39", "label 38", "label 37"]
    assert "12 other labels" in page.text
    assert "a row may have several" in page.text
    _, page = read(journal, line("n", label=[]), line("e", label=[""]))
    assert "empty" in page.text
    _, page = read(journal, line("n", label=[]))
    assert "empty list" in page.text


HOSTILE = [
    "<script>alert(1)</script>",
    "</bdi></td></table></title></script><img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "$title ${body} {0} %s \\1",
    "\u202egnp.exe\u2066",
    "👩‍👩‍👧‍👦" * 60,
    "x" * 100_000,
    "\x00\x1b[31m\r\n\u2028",
    "https://example.com/?a=1&amp;b",
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plain.journal"
    calm = [line("a", failed("E", "m"), at=START, seconds=1.0), line("b", at=START, seconds=1.0, label="x")]
    _, plain = read(path, *calm)
    path.with_name("plain.journal.manifest").write_text(json.dumps({"job": {"model": text, "input": text}}))
    report, page = read(
        path,
        line(text, failed(text, text), at=START, seconds=1.0),
        line("b" + text, at=START, seconds=1.0, label=text, model=text, endpoint=text),
    )
    assert page.tags.count("script") == plain.tags.count("script") == 1
    assert page.scripts == plain.scripts
    assert not {"img", "b"} & set(page.tags)
    assert len(render(report)) < 40_000
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", render(report))


def test_a_hostile_name_of_the_file_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "<img onerror=x>&.journal"
    _, page = read(path, line())
    assert "aimlasync report: <img onerror=x>&" in page.text


def test_the_manifest_gives_a_name_and_no_prompt(journal: Path) -> None:
    manifest = {"aimlasync": "journal", "version": 2, "job": {"model": "gpt-x", "input": "in.csv", "prompt": "SECRET"}}
    manifest_path = journal.with_name(journal.name + ".manifest")
    manifest_path.write_text(json.dumps(manifest))
    _, page = read(journal, line())
    assert "gpt-x" in page.text
    assert "in.csv" in page.text
    assert "SECRET" not in page.text
    for bad in ("", "[]", "{", '{"job": 3}', '{"job": {"model": 3}}', "\x00"):
        manifest_path.write_text(bad)
        assert collect(journal).job == {}


def busy(rows: int) -> list[bytes]:
    chance = random.Random(1)
    lines = []
    for n in range(rows):
        at, seconds = START + n / 50 + (40_000 if n > rows / 2 else 0), chance.lognormvariate(0, 1)
        error = failed(f"Kind{n % 100}") if n % 50 == 0 else None
        info: dict[str, Any] = {
            "first_byte": seconds / 2,
            "queued": seconds / 8,
            "limited": seconds / 4,
            "attempts": 1 + n % 3,
        }
        lines.append(line(f"row-{n}", error, at=at, seconds=seconds, label=f"label {n % 7000}", confidence=0.7, **info))
    return lines


def test_a_page_is_the_same_each_time_whole_small_and_loads_nothing(journal: Path) -> None:
    report, _ = read(journal, *busy(10_000))
    text = render(report)
    assert render(collect(journal)) == text
    assert not re.search(r"https?:|//\w+\.|src=|url\((?!#)|@import", text)
    assert len(text) < 400_000
    assert len(report.labels) <= 5_001
    assert len(report.kinds) <= 41
    assert len(report.slowest) == 20
    # The hash seed changes nothing either.
    code = f"from aimlasync.bulk.report import *; print(render(collect({str(journal)!r})), end='')"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert other.stdout.decode() == text


def test_every_chart_has_words_and_a_table(journal: Path) -> None:
    text = render(read(journal, *busy(2_000))[0])
    charts = re.findall(r'<svg class="chart" role="img" aria-label="([^"]+)"', text)
    assert len(charts) == text.count("<figure>") == text.count("<summary>Table</summary>") == 5
    for rest in re.findall(r"<svg (?!class=\"chart\")[^>]*>", text):
        assert "aria-hidden" in rest


def test_memory_does_not_grow_with_rows(journal: Path) -> None:
    # What Python has allocated: the size of a process counts the pages of the journal, which is mapped, and a process
    # begins with the peak of the one that started it.
    code = (
        "import sys, tracemalloc; from aimlasync.bulk.report import *; tracemalloc.start();"
        "render(collect(sys.argv[1])); print(tracemalloc.get_traced_memory()[1])"
    )
    sizes = []
    for rows in (1_000, 10_000):
        journal.write_bytes(b"".join(busy(rows)))
        out = subprocess.run([sys.executable, "-c", code, str(journal)], capture_output=True, check=True).stdout
        sizes.append(int(out) / 2**20)
    assert sizes[1] - sizes[0] < 3, sizes


def test_a_nights_pause_is_a_gap_and_coarsens_nothing(journal: Path) -> None:
    report, page = read(journal, *busy(20_000))
    width = report.timeline.width
    assert width == 5.0
    (first, last), (resumed, _) = report.sessions
    assert last - first == pytest.approx(200, abs=40)
    assert resumed - last == pytest.approx(40_000, abs=30)
    assert "11 h" in page.text
    axis = TimeAxis(report.sessions, width, report.timeline.number)
    ((x, wide),) = axis.gaps
    assert wide <= 3
    assert x == pytest.approx(50, abs=6)


def test_waits_are_told_apart_and_weighed_by_time(journal: Path) -> None:
    _, page = read(
        journal,
        line("a", at=START, seconds=9.0, queued=0.0, limited=3.0),
        line("b", at=START, seconds=1.0, queued=1.0, limited=0.0),
        line("c", at=START, seconds=90.0, attempts=1),
    )
    assert (
        "30.0% of the time of all rows was spent waiting for a rate or a pause (hatched), 10.0% for conc"
        in " ".join(page.text.split())
    )
    _, page = read(journal, line("a", at=START, seconds=9.0))
    assert "What limited when" not in page.text


def test_rare_rows_of_a_long_job_are_wide_enough_to_see(journal: Path) -> None:
    report, _ = read(journal, *(line(f"{n}", at=START + 600 * n, seconds=601.0) for n in range(50)))
    assert len(report.sessions) == 1
    assert report.timeline.width >= 30_000 / 360


def test_a_long_call_fills_a_gap() -> None:
    spans = Spans()
    spans.add(0, 10)
    spans.add(4000, 4010)
    assert len(spans.sessions(1.0)) == 2
    spans.add(5, 4020)
    assert spans.sessions(1.0) == [(0, 4020)]


def test_spans_are_disjoint_sorted_and_few_in_any_order() -> None:
    chance, spans = random.Random(2), Spans()
    for _ in range(3_000):
        start = chance.uniform(0, 1e6)
        spans.add(start, start + chance.uniform(0, 50))
    assert len(spans.spans) <= 257
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans.spans))


def test_coarsening_loses_no_row() -> None:
    chance, timeline = random.Random(3), Timeline()
    for at in (chance.uniform(0, 10 ** chance.uniform(0, 10)) for _ in range(5_000)):
        timeline.column(at).ok += 1
    assert sum(column.ok for column in timeline.columns.values()) == 5_000
    assert len(timeline.columns) <= 360


def test_quantiles_are_within_their_bucket() -> None:
    chance, histogram = random.Random(4), Histogram()
    times = sorted(chance.lognormvariate(0, 2) for _ in range(5_000))
    for time in times:
        histogram.add(time)
    for share in (0.5, 0.95, 0.99, 1.0):
        assert histogram.quantile(share) == pytest.approx(times[int(share * 5_000) - 1], rel=0.013)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0123, "12.3 ms"),
        (0.99999, "1 s"),
        (59.99, "1 min"),
        (3599.7, "1 h"),
        (3725, "1 h 2 min"),
        (90_000, "1 d 1 h"),
        (8.64e8, "10,000 d"),
    ],
)
def test_times_are_said_as_a_person_does(seconds: float, said: str) -> None:
    assert duration(seconds) == said


class TestCommand:
    """aimlasync report."""

    def run(self, *args: str) -> Any:
        from click.testing import CliRunner

        from aimlasync.cli.report import report

        return CliRunner().invoke(report, args)

    def test_it_writes_beside_the_journal(self, journal: Path) -> None:
        journal.write_bytes(line() + line("b", failed()))
        result = self.run(str(journal))
        assert result.exit_code == 0
        assert "1 rows ok, 1 failed" in result.stderr
        assert result.stdout == ""
        Page(journal.with_name("out.csv.journal.html").read_text("utf-8"))

    def test_a_dash_is_stdout(self, journal: Path) -> None:
        journal.write_bytes(line(label="日本"))
        result = self.run(str(journal), "-o", "-")
        assert "日本" in Page(result.stdout).text
        assert result.stderr == ""

    def test_an_empty_journal_says_so_and_makes_a_page(self, journal: Path) -> None:
        journal.touch()
        result = self.run(str(journal))
        assert result.exit_code == 0
        assert "empty" in result.stderr
        assert journal.with_name("out.csv.journal.html").exists()

    def test_wrong_use_is_one_line(self, journal: Path) -> None:
        for args in ([str(journal)], [str(journal.parent)]):
            result = self.run(*args)
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        journal.write_bytes(b"id,text\n1,a\n")
        result = self.run(str(journal))
        assert result.exit_code == 2
        assert "not a journal" in result.stderr
        assert not journal.with_name("out.csv.journal.html").exists()

    def test_the_journal_is_never_written_over(self, journal: Path) -> None:
        journal.write_bytes(line())
        for path in (journal, journal.parent / "." / journal.name, f"{journal}.manifest"):
            assert self.run(str(journal), "-o", str(path)).exit_code == 2
        assert journal.read_bytes() == line()
