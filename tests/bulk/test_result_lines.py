"""Result lines of other servers than ours: read, told to be an answer or a failure, or refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from aimlasync.bulk.journal.record import decode_glance, decode_record

BODY = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
ANSWER = {"status_code": 200, "request_id": "r", "body": BODY}


def line(**parts: Any) -> bytes:
    return json.dumps({"id": "1", "custom_id": "a", "response": None, "error": None, **parts}).encode()


@pytest.mark.parametrize(
    ("written", "code", "message"),
    [
        # vLLM's run-batch.
        (line(error={"message": "too long", "type": "BadRequestError", "code": 400}), "400", "too long"),
        (line(error={"message": "gone", "type": "expired"}), "expired", "gone"),
        (line(error={"code": None, "message": None}), "error", "error"),
        (line(error="no such model"), "error", "no such model"),
        (line(response={"status_code": "500", "body": {"error": {"message": "oops"}}}), "HTTP 500", "oops"),
    ],
)
def test_a_failure_of_another_server_is_one(written: bytes, code: str, message: str) -> None:
    for read in (decode_record(written), decode_glance(written)):
        assert read is not None
        assert read.error is not None
        assert (read.custom_id, read.error.code, read.error.message) == ("a", code, message)


def test_a_line_without_the_id_of_the_call_and_one_whose_row_has_a_number_are_read() -> None:
    without = json.dumps({"custom_id": 7, "response": {**ANSWER, "status_code": "200"}})
    record = decode_record(without)
    assert (record.id, record.custom_id, record.error) == ("", "7", None)
    assert record.response is not None
    assert (record.response.status_code, msgspec.json.decode(record.response.body)) == (200, BODY)


@pytest.mark.parametrize(
    "written",
    [line(custom_id=None), line(custom_id=["a"]), line(response={"status_code": "ok"}), line(response=5), b"[1]", b"7"],
)
def test_what_names_no_row_or_has_no_status_is_no_record(written: bytes) -> None:
    for read in (decode_record, decode_glance):
        with pytest.raises(msgspec.DecodeError):
            read(written)
