"""Labels to choose from: names, JSON, a file of them or a type, and what cannot be a list of labels."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Literal

import pytest

from aimlasync.bulk import LabelsError
from aimlasync.bulk.tasks.labels import MAX_LABELS, labels_of, read_labels


class Mood(enum.Enum):
    A = "a"
    TWO = 2


def test_labels_are_trimmed() -> None:
    assert read_labels(" a , b c,d ") == {"a": "", "b c": "", "d": ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no labels"),
        (" , ", "no labels"),
        ("a,,b", "an empty label"),
        ("a, b ,a", "'a' is there twice"),
        (",".join(map(str, range(MAX_LABELS + 1))), "a strict schema takes at most 1000"),
        ("@no-such-file", "No such file"),
    ],
)
def test_labels_that_nobody_could_answer_with_are_refused(text: str, said: str) -> None:
    with pytest.raises(LabelsError, match=said):
        read_labels(text)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ('"sales, renewals", support', {"sales, renewals": "", "support": ""}),
        ('["billing", "sales"]', {"billing": "", "sales": ""}),
        ('{"billing": "money", "sales": null}', {"billing": "money", "sales": ""}),
        ('[{"label": "a", "description": "first"}, {"label": "b"}]', {"a": "first", "b": ""}),
        ("[1, 2]", {"1": "", "2": ""}),
        ("Electronics: Phones,Books", {"Electronics: Phones": "", "Books": ""}),
    ],
)
def test_labels_of_a_command_are_names_or_json(text: str, labels: dict[str, str]) -> None:
    assert read_labels(text) == labels


_FIRST = {"a": "first", "b": ""}
_SALES = {"sales": "before buying", "Electronics: Phones": ""}


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("l.json", '{"a": "first", " b ": ""}', _FIRST),
        ("l.txt", "a: first\n\n b \n", _FIRST),
        ("l", "\ufeffa:first\r\nb:", _FIRST),
        ("l.csv", "label,description\nsales,before buying\nElectronics: Phones,\n", _SALES),
        ("l.csv", "Label;Meaning\nsales;before buying\nElectronics: Phones;\n", _SALES),
        ("l.tsv", "description\tname\nbefore buying\tsales\n\tElectronics: Phones\n", _SALES),
        (
            "l.jsonl",
            '{"label": "sales", "description": "before buying"}\n{"label": "Electronics: Phones", "description": ""}\n',
            _SALES,
        ),
        ("l.json", '[{"label": "sales", "description": "before buying"}, {"name": "Electronics: Phones"}]', _SALES),
        ("l.txt", 'sales: before buying\n"Electronics: Phones"\n', _SALES),
        ("l.txt", '"sales": before buying\n"Electronics: Phones"\n', _SALES),
    ],
)
def test_labels_of_a_file_have_meanings(tmp_path: Path, name: str, text: str, labels: dict[str, str]) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert read_labels(f"@{path}") == labels


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("l.json", "{", "not JSON"),
        ("l.json", "[" * 5000 + "]" * 5000, "not JSON .nested more than 100 levels deep"),
        ("l.json", '{"a": 1}', "neither an object"),
        ("l.json", '["a", "a"]', "'a' is in .* twice"),
        ("l.json", "[]", "no labels"),
        ("l.json", '[{"team": "a"}]', 'every object needs a "label"'),
        ("l.json", '{"labels": ["a", "b"]}', "neither an object of label and description"),
        ("l.csv", "team,size\nbilling,1\nsales,2\n", "no column `label`; begin the file with the line label,descr"),
        ("l.txt", "a\na: again", "'a' is in .* twice"),
        ("l.txt", ": nothing", "an empty label"),
        ("l.txt", "Electronics: Phones\nElectronics: Laptops", "twice; name each once; quote a label that has a colon"),
        ("l.txt", "billing", "one label is in"),
        ("l.txt", "billing\nBilling", "differ in spelling alone"),
    ],
)
def test_a_bad_file_of_labels_is_refused_with_its_name(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(LabelsError, match=said) as caught:
        read_labels(f"@{path}")
    assert str(path) in str(caught.value)


def test_labels_of_a_program_are_checked_too() -> None:
    assert labels_of(["a", 2]) == labels_of(Literal["a", 2]) == labels_of(Mood) == {"a": "", "2": ""}
    assert labels_of("a, b") == {"a": "", "b": ""}
    assert labels_of(["a"], multi=True) == {"a": ""}
    for wrong in (["a"], ["a", "A"], ["a", None], {"a": "", "": ""}, {"a", "b"}):
        with pytest.raises(LabelsError):
            labels_of(wrong)
    with pytest.raises(LabelsError, match="separates the labels of a row"):
        labels_of(["a|b", "c"], multi=True)
