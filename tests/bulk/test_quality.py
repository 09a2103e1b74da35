"""Labels beside gold ones: what is judged, the numbers of it, and the same from a journal."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimlasync.bulk import InputError, Quality, evaluate, export
from aimlasync.bulk.input.source import open_source
from aimlasync.bulk.journal.record import Facts, Failure, Record, Response, encode_record
from aimlasync.bulk.output.gold import check_gold_labels
from aimlasync.bulk.progress.quality import wilson

LABELS = ["support", "billing", "sales"]


def judged(*pairs: tuple[Any, Any], labels: list[str] = LABELS, ordinal: bool = False) -> Quality:
    quality = Quality(labels=labels, ordinal=ordinal)
    for gold, label in pairs:
        quality.add(gold, label)
    return quality


def test_one_label_a_row_makes_a_confusion_table_with_gold_values_that_are_no_labels() -> None:
    quality = judged(("a", "a"), (" a ", "a"), ("a", "b"), ("c", "b"), ("c", "b"), labels=["a", "b"])
    assert (quality.judged, quality.right) == (5, 2)
    assert quality.confusion() == [("a", [2, 1]), ("b", [0, 0]), ("c", [0, 2])]
    assert quality.strange == {"c": 2}
    assert quality.mistakes() == [("c", "b", 2), ("a", "b", 1)]


def test_several_labels_a_row_are_compared_one_by_one_and_as_a_whole() -> None:
    quality = judged(
        ("a|b", ["b", "a"]), ("a, c", ["a"]), ("[]", []), ("[]", ["b"]), ("", ["b"]), labels=["a", "b", "c"]
    )
    assert (quality.judged, quality.right, quality.blank) == (4, 2, 1)
    # given and right, given, right
    assert quality.counts == {"a": [2, 2, 2], "b": [1, 2, 1], "c": [0, 0, 1]}


@given(st.lists(st.tuples(st.frozensets(st.sampled_from("abc")), st.frozensets(st.sampled_from("abc")))))
def test_counts_of_several_labels_are_what_counting_says(rows: list[tuple[frozenset[str], frozenset[str]]]) -> None:
    quality = judged(*(("|".join(right) or "[]", list(found)) for right, found in rows))
    assert quality.right == sum(right == found for right, found in rows)
    for label in "abc":
        counts = quality.counts.get(label, [0, 0, 0])
        assert counts == [
            sum(label in right and label in found for right, found in rows),
            sum(label in found for _, found in rows),
            sum(label in right for right, _ in rows),
        ]


@pytest.mark.parametrize("blank", ["", "  ", None])
def test_a_row_without_a_gold_label_is_not_judged(blank: str | None) -> None:
    quality = judged(("billing", "billing"), (blank, "sales"), (blank, "support"))
    assert (quality.judged, quality.right, quality.blank, quality.accuracy) == (1, 1, 2, 1.0)
    assert judged((blank, "sales")).accuracy is None


@pytest.mark.parametrize(
    ("gold", "label", "is_right"),
    [
        ("Billing", "billing", True),
        (" BILLING\u00a0", "billing", True),
        ("biling", "billing", False),
        (3, "3", True),
        (3.0, "3", True),
        ("3.0", "3", True),
        (["billing"], "billing", True),
        ('["billing"]', "billing", True),
        ('["Billing", "sales"]', ["sales", "billing"], True),
        ("sales, renewals", ["sales, renewals"], True),
        ("sales, renewals|3", ["3", "sales, renewals"], True),
        ("[" * 2000 + "]" * 2000, "3", False),
    ],
)
def test_a_gold_label_may_be_spelled_in_another_way(gold: Any, label: Any, is_right: bool) -> None:
    quality = judged((gold, label), labels=[*LABELS, "3", "sales, renewals"])
    assert (quality.judged, quality.right) == (1, is_right)


def test_what_was_spelled_differently_can_be_said() -> None:
    quality = judged(("Billing", "billing"), ("billing", "billing"), ("BILLING", "sales"))
    assert quality.respelled == {"Billing": "billing", "BILLING": "billing"}
    assert not quality.strange


def test_each_label_has_precision_recall_and_f1() -> None:
    quality = judged(
        ("billing", "billing"), ("billing", "billing"), ("billing", "sales"), ("sales", "sales"), labels=LABELS
    )
    support, billing, sales = quality.per_label()
    assert (support.precision, support.recall, support.f1) == (None, None, None)
    assert (billing.precision, billing.recall, billing.f1) == (1.0, 2 / 3, 0.8)
    assert (sales.precision, sales.recall, sales.f1, sales.gold, sales.given) == (0.5, 1.0, 2 / 3, 1, 2)
    assert quality.macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)


def test_the_interval_is_wilsons() -> None:
    # Source: Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
    assert wilson(0, 0) is None
    for right, of, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        assert wilson(right, of) == pytest.approx((low, high), abs=5e-5)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=5e-5)


def test_ordinal_labels_are_off_by_steps() -> None:
    scale = ["1", "2", "3", "4", "5"]
    quality = judged((1, "1"), (2, "3"), (5, "1"), ("", "2"), labels=scale, ordinal=True)
    assert (quality.mean_distance, quality.within_one) == (5 / 3, 2 / 3)
    assert judged((1, "1"), labels=scale).mean_distance is None


# A journal


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "out.jsonl"
    labels = {"row-1": "billing", "row-2": "sales", "row-3": "sales", "row-5": "support"}
    records = [
        Record(id="x", custom_id=name, response=Response(status_code=200), info=Facts(label=label))
        for name, label in labels.items()
    ]
    failure = Failure(code="RateLimitError", message="no")
    records.append(Record(id="x", custom_id="row-4", error=failure))
    path.write_bytes(b"".join(encode_record(record) + b"\n" for record in records))
    return path


def test_a_journal_is_judged_by_a_column_or_by_labels(journal: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,team\na,Billing\nb,billing\nc,\nd,billing\ne,support\n")
    by_column = evaluate(journal, "team", input=rows)
    by_name = evaluate(journal, {"row-1": "billing", "row-2": "billing", "row-4": "billing", "row-5": "support"})
    for quality in (by_column, by_name):
        assert (quality.judged, quality.right) == (3, 2)
    assert by_column.blank == 1
    with pytest.raises(InputError, match="no column 'tema' for --gold; there are: text, team"):
        evaluate(journal, "tema", input=rows)
    with pytest.raises(InputError, match="name their file with --input"):
        evaluate(journal, "team")


def test_gold_labels_of_a_program_are_found_by_ids_of_any_kind(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    records = [
        Record(id="x", custom_id=name, response=Response(status_code=200), info=Facts(label="billing"))
        for name in ("1", "2", "3")
    ]
    path.write_bytes(b"".join(encode_record(record) + b"\n" for record in records))
    given: list[Any] = [
        {1: "billing", "2": "sales", 3: float("nan")},
        pd.Series(["billing", "sales", None], index=[1, 2, 3]),
        pd.Series(["billing", "sales", pd.NA], index=np.array([1, 2, 3], "int32")),
    ]
    for gold in given:
        quality = evaluate(path, gold)
        assert (quality.judged, quality.right, quality.blank) == (2, 1, 1)
    with pytest.raises(InputError, match=r"none of its rows has a gold label: they are named like '1', .* for 'row-1'"):
        evaluate(path, {"row-1": "billing"})
    wrong: Any = ["billing"]
    with pytest.raises(TypeError, match="gold labels by custom_id, not a list"):
        evaluate(path, wrong)
    for wrong in ([{"text": "a", "team": "b"}], pd.DataFrame({"text": ["a"], "team": ["b"]})):
        with pytest.raises(TypeError, match="come as a file, or as several, not as a"):
            evaluate(path, "team", input=wrong)
        with pytest.raises(TypeError, match="come as a file, or as several, not as a"):
            export(path, tmp_path / "out.csv", source=wrong)


def test_a_source_stays_open_for_whoever_opened_it(journal: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,team\na,Billing\nb,billing\nc,\nd,billing\ne,support\n")
    with closing(open_source(str(rows))) as source:
        for _ in range(2):
            assert evaluate(journal, "team", input=source).judged == 3
        assert sum(1 for _ in source) == 5


def test_an_export_says_which_labels_are_right(journal: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / "wrong.csv"
    rows.write_text("text,team\na,Billing\nb,billing\nc,\nd,billing\ne,support\n")
    columns = ["text", "team", "label", "correct"]
    source = open_source(str(rows))
    export(str(journal), str(out), source=source, columns=columns, gold="team")
    assert out.read_text().splitlines() == [
        "text,team,label,correct",
        "a,Billing,billing,true",
        "b,billing,sales,false",
        "c,,sales,",
        "d,billing,,",
        "e,support,support,true",
    ]
    with pytest.raises(InputError, match="name it with --gold"):
        export(str(journal), str(out), source=source, columns=columns, overwrite=True)
    source.close()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("text,team\na,\nb, \n", "'team' is blank in every row"),
        ("text,team\na,Rechnung\nb,\n", "no 'team' is one of the labels: it has 'Rechnung', and labels are 'support'"),
    ],
)
def test_a_gold_column_that_judges_nothing_is_refused(tmp_path: Path, rows: str, said: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(rows)
    with closing(open_source(str(path))) as source:
        source.sample(1)
        with pytest.raises(InputError, match=said):
            check_gold_labels(source, "team", judged())


def test_gold_labels_that_only_later_rows_have_are_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b", "team": "Sales"}\n')
    with closing(open_source(str(path))) as source:
        source.sample(1)
        check_gold_labels(source, "team", judged())
