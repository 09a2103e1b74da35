"""Claims about `info`: what headers tell of a call, and which request ids may be sent."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimlasync.info import Info, check_request_id

TRACE = {
    "x-inference-id": "V1StGXR8Z5jdHi6BmyT8k",
    "x-request-id": "req_7",
    "x-aimlapi-credits-used": "2480",
    "x-aimlapi-usd-spent": "0.001240000",
}


def seen(**headers: str) -> Info:
    info = Info()
    info.saw_headers(200, {name.replace("_", "-"): value for name, value in headers.items()})
    return info


def test_nothing_is_known_before_an_attempt() -> None:
    info = Info()
    assert (info.attempts, info.status, info.cost_usd, info.credits, info.inference_id) == (0, None, None, None, None)
    assert (info.timing.queued, info.timing.limited, info.timing.first_byte, info.timing.total) == (None,) * 4
    assert info.headers == {}
    # Thousands of calls may wait for theirs.
    assert info.headers is Info().headers


def test_ids_and_cost_are_read_from_the_headers() -> None:
    info = Info()
    info.saw_headers(200, TRACE)
    assert (info.status, info.headers) == (200, TRACE)
    assert (info.inference_id, info.server_request_id) == ("V1StGXR8Z5jdHi6BmyT8k", "req_7")
    assert (info.cost_usd, info.credits) == (0.00124, 2480.0)


def test_headers_without_a_cost_leave_it_unknown() -> None:
    info = seen(content_type="text/event-stream")
    assert (info.cost_usd, info.credits, info.inference_id, info.server_request_id) == (None, None, None, None)


@pytest.mark.parametrize("value", ["", "free", "0,5", "$1"])
def test_cost_that_is_no_number_is_unknown(value: str) -> None:
    info = seen(x_aimlapi_usd_spent=value, x_aimlapi_credits_used="7")
    assert (info.cost_usd, info.credits) == (None, 7.0)


def test_call_that_cost_nothing_says_zero_and_not_none() -> None:
    info = seen(x_aimlapi_usd_spent="0.000000000", x_aimlapi_credits_used="0")
    assert (info.cost_usd, info.credits) == (0.0, 0.0)


def test_ids_are_those_of_the_last_attempt() -> None:
    info = Info()
    info.saw_headers(503, TRACE)
    info.saw_headers(200, {"x-request-id": "req_8"})
    assert (info.status, info.inference_id, info.server_request_id) == (200, None, "req_8")


def test_later_cost_replaces_an_earlier_one_and_a_silent_one_does_not() -> None:
    info = Info()
    info.saw_cost(0.5, 10)
    info.saw_cost(None, None)
    assert (info.cost_usd, info.credits) == (0.5, 10)
    info.saw_cost(0.75, None)
    assert (info.cost_usd, info.credits) == (0.75, 10)


def test_credits_alone_are_dollars_where_the_rate_is_known() -> None:
    info = Info()
    info.saw_cost(None, 14_391, credits_per_usd=2_000_000)
    assert info.cost_usd == pytest.approx(0.0071955)
    assert info.credits == 14_391
    info = Info()
    info.saw_cost(None, 14_391)
    assert (info.cost_usd, info.credits) == (None, 14_391)


def test_stated_dollars_beat_the_rate() -> None:
    info = Info()
    info.saw_cost(0.5, 10, credits_per_usd=2_000_000)
    assert info.cost_usd == 0.5


@pytest.mark.parametrize("value", ["a", "A-z.0:9_", "x" * 128])
def test_valid_request_id_is_returned(value: str) -> None:
    assert check_request_id(value) == value


@pytest.mark.parametrize("value", ["", "x" * 129, "a b", "a/b", "a\n", "\u00e9", "\u0663", "a,b", "a=b", "a\r\nX: y"])
def test_request_id_that_the_vendor_would_drop_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="X-Client-Request-Id"):
        check_request_id(value)


@given(st.text(max_size=140))
def test_only_the_vendors_alphabet_is_sent(value: str) -> None:
    valid = re.fullmatch("[A-Za-z0-9._:-]{1,128}", value) is not None
    if valid:
        assert check_request_id(value) == value
    else:
        with pytest.raises(ValueError, match="1 to 128"):
            check_request_id(value)
