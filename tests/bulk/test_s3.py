"""Inputs, outputs and stores of answers in a bucket, beside moto's server: what is asked, refused and left there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import s3

pytestmark = pytest.mark.skipif(not s3.is_installed(), reason=f"{s3.TO_INSTALL} runs these tests beside a bucket")


def test_a_bucket_is_read_written_and_kept_answers_in(tmp_path: Path) -> None:
    # One test, since what it looks at takes a server and some seconds.
    found = s3.run_scenario(tmp_path)
    objects_are_inputs_by_name_by_prefix_and_by_pattern(found["inputs"])
    an_output_is_gone_on_with_and_never_lost(found["outputs"])
    what_cannot_be_written_is_refused_before_any_call(found["outputs"])
    assert found["buckets"] == ["rows"]
    an_answer_is_one_call_to_keep_and_one_to_find(found["store"])
    assert found["inputs"]["password"]["error"].startswith("s3://rows/rows.csv: ")
    assert "hunter22" not in found["said"]


def objects_are_inputs_by_name_by_prefix_and_by_pattern(inputs: dict[str, Any]) -> None:
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


def an_output_is_gone_on_with_and_never_lost(outputs: dict[str, Any]) -> None:
    assert outputs["one s3://rows/out/done.csv --limit 1"][0] == 0
    assert outputs["two s3://rows/out/done.csv"][0] == 0
    assert outputs["done"] == 3
    code, said, files = outputs["one s3://rows/out/done.csv"]
    assert (code, files) == (2, 5)
    assert "not what done.csv in this directory is a copy of" in said


def what_cannot_be_written_is_refused_before_any_call(outputs: dict[str, Any]) -> None:
    assert "nothing can be written there" in outputs["three s3://nowhere/done.csv"][1]
    for words in ("three s3://rows", "three s3://rows/in"):
        assert outputs[words][1].endswith("a directory; name a file in it")
    assert outputs["left"] == []


def an_answer_is_one_call_to_keep_and_one_to_find(store: dict[str, Any]) -> None:
    assert store["puts"] == ["put_object"] * len(s3.KEYS)
    # s3fs has ten connections as it comes.
    assert store["pool"] == {"max_pool_connections": 64}
    assert store["gets"] == ["get_object"] * (len(s3.KEYS) + 1)
    assert store["kept"] == [*s3.KEYS, None]
    assert store["torn"] == [None]
    assert "bucket does not exist" in store["nowhere"]
    assert store["cached"] == [False, True]
