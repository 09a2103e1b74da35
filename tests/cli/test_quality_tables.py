"""How good labels are, in 80 columns of a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from aimlasync.bulk import Quality
from aimlasync.cli.quality_tables import quality_facts, quality_tables


def shown(quality: Quality) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=80, color_system=None)
    for table in quality_tables(quality, 80):
        console.print(table)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def judged(labels: list[str]) -> Quality:
    quality = Quality(labels=labels)
    for at, label in enumerate(labels):
        for _ in range(12_345 if at == 0 else at):
            quality.add(label, label)
        quality.add(label, labels[(at + 1) % len(labels)])
    return quality


@pytest.mark.parametrize("count", [2, 5, 8, 12, 13, 60])
@pytest.mark.parametrize("length", [1, 9, 40])
def test_tables_fit_and_no_number_is_cut(count: int, length: int) -> None:
    lines = shown(judged([f"{at:02}{'x' * length}" for at in range(count)]))
    assert max(map(len, lines)) <= 80
    assert "12,346" in "\n".join(lines)
    # Names that are too long are cut with an ellipsis, and numbers never.
    assert all("…" not in cell for line in lines for cell in line.split()[1:] if cell[:1].isdigit() and length < 9)


def test_a_confusion_has_names_numbers_or_is_a_list_of_mistakes() -> None:
    named = shown(judged(["00x", "01x"]))
    assert any(line.split() == ["right", "\\", "given", "00x", "01x"] for line in named)
    wide = shown(judged([f"a long label {at}" for at in range(7)]))
    assert any(line.split() == ["right", "\\", "given", *map(str, range(1, 8))] for line in wide)
    assert any(line.startswith("  3 a long label 2") for line in wide)
    many = shown(judged([f"a long label {at}" for at in range(30)]))
    assert any(line.split() == ["gold", "given", "instead", "rows"] for line in many)


def test_what_is_not_judged_or_spelled_differently_is_said() -> None:
    quality = Quality(labels=["a", "b"])
    assert list(quality_facts(quality, "team")) == [
        ("accuracy", "unknown: no row with a label has a gold one in 'team'", True)
    ]
    for gold in ("A", "", "x", "x"):
        quality.add(gold, "a")
    said = [f"{name}: {words}" for name, words, _ in quality_facts(quality, "team")]
    assert said[0] == "accuracy: 33.3 % (1 of 3); 95 % interval 6.1 to 79.2 %"
    assert said[2:] == [
        "not judged: 1 labelled row, whose gold label in 'team' is blank",
        "gold: spelled differently: 'A' is a",
        "gold: of 2 rows is none of the labels, so none is right: 'x' (2)",
    ]
