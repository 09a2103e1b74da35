"""Inputs, outputs and stores of answers in a bucket, beside moto's server: what is asked, refused and left there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import s3

pytestmark = pytest.mark.skipif(not s3.is_installed(), reason=f"{s3.TO_INSTALL} runs these tests beside a bucket")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return s3.run_scenario(tmp_path_factory.mktemp("s3"))


def test_objects_are_inputs_by_name_by_prefix_and_by_pattern(found: dict[str, Any]) -> None:
    inputs = found["inputs"]
    rows = {name: read["rows"] for name, read in inputs.items() if "rows" in read}
    assert rows == {
        **{
            "in/a.jsonl": 2,
            "in": 6,
            "in/*.jsonl": 4,
            "two": 4,
            "patterns": 4,
            "later": 10,
            "changed": 8,
            "rows.csv": 2,
            "upper case": 2,
        },
        **{"odd": 4, "odd/a b#1%20?.jsonl": 2, "odd/[x]*.jsonl": 2},
    }
    assert all(read["again"] == read["rows"] for read in inputs.values() if "rows" in read)
    assert inputs["later"]["digest"] != inputs["changed"]["digest"]
    assert inputs["in"]["files"] == [f"s3://rows/in/{name}" for name in ("a.jsonl", "b.jsonl", "sub/c.jsonl.gz")]
    for name in ("no.csv", "no", "nowhere"):
        assert inputs[name]["error"].endswith("no such file; check the address")


def test_an_output_in_a_bucket_is_gone_on_with_and_never_lost(found: dict[str, Any]) -> None:
    outputs = found["outputs"]
    assert outputs["one s3://rows/out/done.csv --limit 1"][0] == 0
    assert outputs["two s3://rows/out/done.csv"][0] == 0
    assert outputs["done"] == 3
    code, said, files = outputs["one s3://rows/out/done.csv"]
    assert (code, files) == (2, 5)
    assert "not what done.csv in this directory is a copy of" in said


def test_what_cannot_be_written_is_refused_before_any_call(found: dict[str, Any]) -> None:
    outputs = found["outputs"]
    assert "nothing can be written there" in outputs["three s3://nowhere/done.csv"][1]
    for words in ("three s3://rows", "three s3://rows/in"):
        assert outputs[words][1].endswith("a directory; name a file in it")
    assert outputs["left"] == []
    assert found["buckets"] == ["rows"]


def test_an_answer_is_one_call_to_keep_and_one_to_find(found: dict[str, Any]) -> None:
    store = found["store"]
    assert store["puts"] == ["put_object"] * len(s3.KEYS)
    assert store["gets"] == ["get_object"] * (len(s3.KEYS) + 1)
    assert store["kept"] == [*s3.KEYS, None]
    assert store["torn"] == [None]
    assert "bucket does not exist" in store["nowhere"]
    assert store["cached"] == [False, True]


def test_no_key_is_printed(found: dict[str, Any]) -> None:
    assert found["inputs"]["password"]["error"].startswith("s3://rows/rows.csv: ")
    assert "hunter22" not in found["said"]
