"""What a job adds up to: rows, failures, tokens and money, of which unknown is not zero."""

from __future__ import annotations

from typing import Any

import msgspec

from aimlasync.bulk.journal.record import Facts, Failure, Record
from aimlasync.bulk.progress.totals import Totals
from aimlasync.bulk.tasks.result import is_refused
from aimlasync.chat.types import decode_completion
from aimlasync.responses.types import decode_response


def record(error: str | None = None, **facts: Any) -> Record:
    failure = None if error is None else Failure(code=error, message=f"it was {error}")
    return Record(id="x", custom_id="row-1", error=failure, info=Facts(**facts))


def test_a_cost_that_nobody_stated_is_unknown_and_not_zero() -> None:
    totals = Totals()
    totals.add_record(record(tokens_in=3, tokens_out=4))
    assert (totals.cost, totals.replies, totals.priced) == (None, 1, 0)
    totals.add_record(record(tokens_in=1, tokens_out=1, cost_usd=0.0))
    assert (totals.cost, totals.replies, totals.priced) == (0.0, 2, 1)
    totals.add_record(record(cost_usd=0.5))
    assert (totals.cost, totals.uncounted, totals.tokens_in, totals.tokens_out) == (0.5, 1, 4, 5)


def test_a_failure_counts_as_paid_for_only_where_something_says_so() -> None:
    totals = Totals()
    totals.add_record(record("RateLimitError", attempts=3))
    assert (totals.failed, totals.replies, totals.uncounted) == (1, 0, 0)
    totals.add_record(record("AnswerRefusedError", tokens_in=5, tokens_out=1, cost_usd=0.1))
    assert (totals.failed, totals.replies, totals.tokens_in, totals.cost) == (2, 1, 5, 0.1)
    assert {kind: (one.count, one.message) for kind, one in totals.failures.items()} == {
        "RateLimitError": (1, "it was RateLimitError"),
        "AnswerRefusedError": (1, "it was AnswerRefusedError"),
    }


def test_a_row_that_shares_a_call_is_done_and_costs_nothing() -> None:
    totals = Totals()
    totals.add_record(record(shared_with="row-9", label="a"))
    assert (totals.ok, totals.shared, totals.replies, totals.uncounted, totals.labels) == (1, 1, 0, 0, {"a": 1})
    totals.add_record(record(shared_with="row-9", tokens_in=2, tokens_out=1, cost_usd=0.25))
    assert (totals.shared, totals.replies, totals.cost) == (2, 1, 0.25)


def test_a_refusal_is_seen_on_both_endpoints_and_an_answer_without_choices_is_none() -> None:
    def chat(**choice: Any) -> bool:
        return is_refused(decode_completion(msgspec.json.encode({"choices": [{"index": 0, **choice}]})))

    assert chat(message={"role": "assistant", "refusal": "no"}, finish_reason="stop")
    assert chat(message={"role": "assistant", "content": "a"}, finish_reason="content_filter")
    assert not chat(message={"role": "assistant", "content": "a"}, finish_reason="length")
    assert not is_refused(decode_completion(b'{"choices": []}'))
    assert is_refused(decode_response(b'{"id": "r", "incomplete_details": {"reason": "content_filter"}}'))
    assert not is_refused(decode_response(b'{"id": "r", "incomplete_details": {"reason": "max_output_tokens"}}'))
