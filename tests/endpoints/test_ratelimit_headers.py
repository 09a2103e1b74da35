"""Claims about `endpoints.ratelimit_headers`: what response headers say of the limits, in every vendor's notation."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from aimlasync.endpoints.ratelimit_headers import Signal, read, retry_after

NOW = 1_764_672_000.0  # 2025-12-02T10:40:00Z

OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-reset-tokens": "6m0s",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": "2025-12-02T10:40:02Z",
    "anthropic-ratelimit-tokens-limit": "50000",
    "anthropic-ratelimit-tokens-remaining": "49000",
    "anthropic-ratelimit-tokens-reset": "2025-12-02T10:41:00Z",
}
BYTESPIKE = {
    "x-ratelimit-limit": "50.00",
    "x-ratelimit-remaining": "4.18",
    "x-ratelimit-reset": str(int(NOW) + 3 * 86_400),
    "x-quota-remaining-credits": "192.40",
}


def said(headers: dict[str, str], unit: Literal["requests", "usd"] = "requests") -> Signal:
    signal = read(headers, unit=unit, now=lambda: NOW)
    assert signal is not None
    return signal


def facts(headers: dict[str, str], unit: Literal["requests", "usd"] = "requests") -> dict[str, Any]:
    """What is said, without what is not."""
    return {name: value for name, value in msgspec.structs.asdict(said(headers, unit)).items() if value is not None}


def test_a_reset_at_a_time_of_day_is_read_by_the_clock_of_the_server() -> None:
    headers = {**ANTHROPIC, "date": "Tue, 02 Dec 2025 10:40:00 GMT"}
    for ours in (NOW - 18_000, NOW, NOW + 18_000):
        signal = read(headers, unit="requests", now=partial(float, ours))
        assert signal is not None
        assert (signal.reset_requests, signal.reset_tokens) == (2.0, 60.0)


# --- notations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["requests", "usd"])
@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "application/json", "retry-after": "3", "x-request-id": "ratelimit"}]
)
def test_headers_without_limits_say_nothing(headers: dict[str, str], unit: Literal["requests", "usd"]) -> None:
    assert read(headers, unit=unit) is None


def test_openai_is_read() -> None:
    assert facts(OPENAI) == {
        "limit_requests": 60,
        "remaining_requests": 59,
        "reset_requests": 1.0,
        "limit_tokens": 150_000,
        "remaining_tokens": 149_984,
        "reset_tokens": 360.0,
    }


def test_anthropic_is_read() -> None:
    assert facts(ANTHROPIC) == {
        "limit_requests": 50,
        "remaining_requests": 49,
        "reset_requests": 2.0,
        "limit_tokens": 50_000,
        "remaining_tokens": 49_000,
        "reset_tokens": 60.0,
    }


@pytest.mark.parametrize("prefix", ["x-ratelimit", "ratelimit"])
def test_plain_headers_and_the_drafts_count_requests(prefix: str) -> None:
    headers = {f"{prefix}-limit": "100", f"{prefix}-remaining": "7", f"{prefix}-reset": "30"}
    assert facts(headers) == {"limit_requests": 100, "remaining_requests": 7, "reset_requests": 30.0}


def test_policies_that_follow_the_drafts_limit_are_left_out() -> None:
    headers = {"ratelimit-limit": "10, 10;w=1, 1000;w=3600", "ratelimit-remaining": "9", "ratelimit-reset": "1"}
    assert said(headers).limit_requests == 10


def test_names_are_read_in_any_case_where_the_mapping_allows_it() -> None:
    titled = CIMultiDictProxy(CIMultiDict({name.title(): value for name, value in OPENAI.items()}))
    assert read(titled, unit="requests", now=lambda: NOW) == said(OPENAI)


def test_nonsense_beside_a_fact_does_not_hide_it() -> None:
    assert facts({"x-ratelimit-remaining-requests": "many", "x-ratelimit-limit-requests": "9"}) == {"limit_requests": 9}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("120ms", 0.12),
        ("1h2m3s", 3723),
        ("4m12.172s", 252.172),
        ("0s", 0),
        ("6m", 360),
        ("1h", 3600),
        ("1.5h", 5400),
        ("2d3h", 183_600),
        ("7.66s", 7.66),
        ("532µs", 0.000532),
        ("532us", 0.000532),
        ("900ns", 9e-7),
        (" 20s ", 20),
        ("20", 20),
        ("0", 0),
        ("1.5", 1.5),
        ("33011.382867", 33_011.382867),
        ("999999999", None),  # seconds, and 31 years of them
        ("1764672030", 30),
        ("1764672030.5", 30.5),
        ("1764671000", 0),
        ("1764672030250", 30.25),
        ("1764671000000", 0),
        ("1764672030250000", None),  # microseconds, which nobody sends
        ("2025-12-02T10:40:30Z", 30),
        ("2025-12-02T10:40:30.250Z", 30.25),
        ("2025-12-02T11:40:30+01:00", 30),
        ("2025-12-02T10:40:30", 30),
        ("2025-12-02T10:39:00Z", 0),
        ("2035-12-02T10:39:00Z", None),
        ("Tue, 02 Dec 2025 10:40:30 GMT", 30),
        ("Tue, 02 Dec 2025 10:39:00 GMT", 0),
        ("Sun, 02 Dec 2035 10:39:00 GMT", None),
    ],
)
def test_reset_is_read_as_the_seconds_from_now(text: str, seconds: float | None) -> None:
    for name in ("x-ratelimit-{}-requests", "x-ratelimit-{}", "ratelimit-{}", "anthropic-ratelimit-requests-{}"):
        signal = said({name.format("remaining"): "5", name.format("reset"): text})
        assert signal.reset_requests == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "-5s",
        "soon",
        "5 s",
        "5x",
        "s",
        "ms",
        "1..5s",
        "nan",
        "inf",
        "5s soon",
        "٣s",
        "0001-01-01T00:00",
        "1".zfill(65),
    ],
)
def test_nonsense_reset_is_unsaid(text: str) -> None:
    signal = said({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": text})
    assert (signal.reset_requests, signal.pause) in [(None, None), (0.0, None)]


@pytest.mark.parametrize("text", ["", "-1", "4.18", "50.00", "1e3", "1_000", "0x10", "nan", "unlimited", "٣", "9" * 19])
def test_count_that_is_no_whole_number_is_unsaid(text: str) -> None:
    assert read({"x-ratelimit-remaining-requests": text}, unit="requests") is None
    assert read({"x-ratelimit-remaining": text}, unit="requests") is None


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be set here")
def test_time_without_a_zone_is_utc_wherever_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "America/New_York")
            time.tzset()
            signal = said({"x-ratelimit-remaining": "5", "x-ratelimit-reset": "2025-12-02T10:40:30"})
    finally:
        time.tzset()
    assert signal.reset_requests == 30


@pytest.mark.parametrize(
    "name",
    [
        "x-ratelimit-remaining",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-remaining-tokens",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-tokens-remaining",
        "ratelimit-remaining",
    ],
)
def test_each_notation_is_known_by_what_remains_and_needs_nothing_else(name: str) -> None:
    kind = "remaining_tokens" if "tokens" in name else "remaining_requests"
    assert facts({name: "5"}) == {kind: 5}


# --- several windows ---------------------------------------------------------------------------------------------


def anthropic(kind: str, limit: int, remaining: int, reset: int) -> dict[str, str]:
    prefix = f"anthropic-ratelimit-{kind}"
    times = f"2025-12-02T10:40:{reset:02}Z"
    return {f"{prefix}-limit": str(limit), f"{prefix}-remaining": str(remaining), f"{prefix}-reset": times}


def test_of_several_windows_the_one_with_the_least_left_is_told() -> None:
    headers = {
        **anthropic("requests", 50, 49, 2),
        **anthropic("tokens", 90_000, 80_000, 30),
        **anthropic("input-tokens", 80_000, 79_000, 40),
        **anthropic("output-tokens", 10_000, 1_000, 50),
    }
    signal = said(headers)
    assert (signal.limit_tokens, signal.remaining_tokens, signal.reset_tokens) == (10_000, 1_000, 50)
    assert signal.pause is None


def test_pause_covers_all_that_has_run_out() -> None:
    headers = {
        **anthropic("requests", 50, 0, 5),
        **anthropic("input-tokens", 80_000, 0, 20),
        **anthropic("output-tokens", 10_000, 0, 10),
        **anthropic("tokens", 90_000, 10, 50),
    }
    assert said(headers).pause == 20


def test_requests_are_read_from_a_gateway_and_the_server_behind_it() -> None:
    gateway = {"ratelimit-limit": "10", "ratelimit-remaining": "3", "ratelimit-reset": "9"}
    assert said({**OPENAI, **gateway}).remaining_requests == 3
    assert said({**OPENAI, **gateway, "ratelimit-remaining": "none"}).remaining_requests == 59


# --- pause -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_nothing_left_pauses_until_the_reset(kind: str) -> None:
    headers = {**OPENAI, f"x-ratelimit-remaining-{kind}": "0", f"x-ratelimit-reset-{kind}": "4m12.172s"}
    assert said(headers).pause == pytest.approx(252.172)


@pytest.mark.parametrize("reset", [None, "0s", "soon", "1764671000"])
def test_nothing_left_until_nobody_knows_when_is_no_pause(reset: str | None) -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-limit-requests": "60"}
    if reset is not None:
        headers["x-ratelimit-reset-requests"] = reset
    assert said(headers).pause is None


def test_something_left_is_no_pause() -> None:
    for headers in (OPENAI, ANTHROPIC, {**OPENAI, "x-ratelimit-remaining-requests": "1"}):
        assert said(headers).pause is None


def test_limit_of_zero_is_unlimited_and_no_pause() -> None:
    zero = {"x-ratelimit-limit": "0", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}
    assert said(zero).pause is None
    assert said(zero, "usd").pause is None
    # Nor does it hide a limit.
    assert said({**zero, "ratelimit-remaining": "5", "ratelimit-limit": "9"}).remaining_requests == 5


# --- US dollars --------------------------------------------------------------------------------------------------


def test_dollars_are_never_a_request_count() -> None:
    assert facts(BYTESPIKE, "usd") == {"usd_limit": 50.0, "usd_remaining": 4.18, "usd_reset": 3 * 86_400.0}
    whole = {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "4", "x-ratelimit-reset": "60"}
    assert facts(whole, "usd") == {"usd_limit": 50.0, "usd_remaining": 4.0, "usd_reset": 60.0}


@pytest.mark.parametrize("left", ["0", "0.00", "-0.02"])
def test_no_dollars_left_pauses_until_the_reset_however_far(left: str) -> None:
    assert said({**BYTESPIKE, "x-ratelimit-remaining": left}, "usd").pause == 3 * 86_400


@pytest.mark.parametrize("left", ["0.01", "50.00", "nan", "-inf", "?"])
def test_other_dollars_are_no_pause(left: str) -> None:
    assert said({**BYTESPIKE, "x-ratelimit-remaining": left}, "usd").pause is None


def test_dollars_that_are_nonsense_are_unsaid() -> None:
    headers = {"x-ratelimit-remaining": "?", "x-ratelimit-limit": "-1", "x-ratelimit-reset": "soon"}
    assert read(headers, unit="usd") is None


def test_dollars_of_an_unknown_server_are_not_counted_as_requests() -> None:
    assert facts(BYTESPIKE) == {"reset_requests": 3 * 86_400.0}


def test_named_requests_beside_dollars_are_requests() -> None:
    signal = said({**OPENAI, **BYTESPIKE}, "usd")
    assert (signal.remaining_requests, signal.usd_remaining) == (59, 4.18)


# --- any bytes ---------------------------------------------------------------------------------------------------

NAMES = [
    *OPENAI,
    *ANTHROPIC,
    *BYTESPIKE,
    *(f"anthropic-ratelimit-{way}-tokens-{what}" for way in ("input", "output") for what in ("limit", "remaining")),
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
]
TEXTS = st.one_of(
    st.text(max_size=80),
    st.from_regex(r"-?[0-9]{0,20}([.][0-9]{0,4})?(ms|us|[dhms])?([0-9]{1,3}s)?", fullmatch=True),
    st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?"),
    st.sampled_from(["0", "0.0", "-0", "1", "60", "1764672030", "nan", "-inf", "1e400", "\udcff", "9" * 5000]),
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), TEXTS), st.sampled_from(["requests", "usd"]))
def test_no_headers_break_the_reading_of_them(headers: dict[str, str], unit: Literal["requests", "usd"]) -> None:
    signal = read(headers, unit=unit, now=lambda: NOW)
    if signal is None:
        return
    told = {name: value for name, value in msgspec.structs.asdict(signal).items() if value is not None}
    assert told
    for name, value in told.items():
        assert math.isfinite(value)
        assert value >= 0 or name == "usd_remaining"
    if signal.pause is not None:
        assert signal.pause > 0
        assert 0 in (signal.remaining_requests, signal.remaining_tokens) or (signal.usd_remaining or 0) <= 0


# --- retry-after -------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(TEXTS | st.text("0123456789 ,:-+GMTueDcOt", max_size=40), TEXTS)
def test_no_retry_after_breaks_the_reading_of_it(stated: str, milliseconds: str) -> None:
    wait = retry_after({"retry-after": stated, "retry-after-ms": milliseconds}, now=lambda: NOW)
    assert wait is None or 0 <= wait < math.inf
