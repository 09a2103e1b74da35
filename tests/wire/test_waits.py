"""Waits in every notation, and none where nobody asks for one."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from aimlasync.wire.wait_sentences import in_words
from aimlasync.wire.waits import in_field, in_headers

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def now() -> float:
    return NOW


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit reached (TPM): Limit 10000, Used 9000. Please try again in 1.2s. Visit the docs.", 1.2),
        ("Please try again in 6m0s.", 360),
        ("Please try again in 120ms.", 0.12),
        ("Rate limit reached for model `x`. Please try again in 7m12.5s. Need more tokens?", 432.5),
        ("have exceeded the call rate limit of your pricing tier. Please retry after 26 seconds.", 26),
        ("Rate limit is exceeded. Try again in 12 seconds.", 12),
        ("You exceeded your current quota. Please retry in 34.074824224s.", 34.074824224),
        ("please wait 5 seconds before the next request", 5),
        ("you must wait for at least 10 sec", 10),
        ("Too Many Requests, retry after 3", 3),
        ("Retry after (seconds): 12", 12),
        ("rate limited, retry_after: 9", 9),
        ("retry-after=4", 4),
        ("try again in 2 minutes", 120),
        ("Try again in 1 minute, 30 seconds", 90),
        ("try again in 1 hour and 5 min", 3900),
        ("The limit resets in: 5 minutes", 300),
        ("Capacity will be available again in about 30 seconds", 30),
        ("try again at 2023-11-14T22:13:30Z", 10),
        ("Quota resets at 2023-11-14 22:13:40 UTC", 20),
        ("Please retry your request after 26 seconds", 26),
        ("请在 3 秒后重试", 3),
        ("2分钟后重试", 120),
        ("Usage limit reached for 5 hour. Your limit will reset at 2023-11-15 06:13:30", 10),
        ("[1308][已达到 5 小时的使用上限。您的限额将在 2023-11-15 06:13:30 重置。][2023]", 10),
        ("the limit resets at 2023-11-15T06:13:30+0800", 10),
    ],
)
def test_a_sentence_that_asks_for_a_wait_is_heard(message: str, seconds: float) -> None:
    assert in_words(message, now) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "message",
    [
        "Please try again later. Limit: 60 requests per 1 minute",
        "Please try again later; your limit is 1 minute",
        "retry up to 3 times",
        "retry after 3 attempts",
        "Request timed out after waiting 60 s",
        "gave up after a wait of 30 s",
        "the maximum retry time of 30s was exceeded",
        "the limit resets every 60 s",
        "Quota resets after 12:30",
        "try 3 models",
        "try again in 0s",
        "try again in 999999999 days",
        "",
    ],
)
def test_a_number_that_is_no_wait_is_not_taken_for_one(message: str) -> None:
    assert in_words(message, now) is None


def test_only_the_beginning_of_a_message_is_searched() -> None:
    # A hostile one has megabytes.
    assert in_words("try again " * 200_000 + "in 3s", now) is None


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("retryafter", 2.5, 2.5),
        ("retryafter", "3", 3),
        ("retryafterseconds", 7, 7),
        ("retryafterms", 1500, 1.5),
        ("retrydelay", "34.07s", 34.07),
        ("retrydelay", {"seconds": "3", "nanos": 500_000_000}, 3.5),
        ("estimatedtime", 20.0, 20),
        ("retryafter", int(NOW) + 5, 5),
        ("resetsinseconds", 602_705, 602_705),
        ("resetsat", int(NOW) + 600, 600),
        ("retryafter", 0, None),
        ("retryafter", -1, None),
        ("retryafter", True, None),
        ("retryafter", "soon", None),
        ("retryafter", [1], None),
        ("retrydelay", {"seconds": []}, None),
        ("retries", 3, None),
    ],
)
def test_a_field_states_a_wait_by_its_name(name: str, value: Any, seconds: float | None) -> None:
    assert in_field(name, value, now) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "1m30s"}, 90),
        ({"retry-after": "2s"}, 2),
        ({"retry-after": str(int(NOW) + 7)}, 7),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:25 GMT"}, 5),
        ({"retry-after": "2023-11-14T22:13:25Z"}, 5),
        ({"retry-after-ms": "1200", "retry-after": "2"}, 1.2),
        ({"x-ms-retry-after-ms": "1200", "retry-after": "2"}, 1.2),
        ({"x-ms-retry-after-ms": "soon", "retry-after": "2"}, 2),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_the_header_is_read_in_every_notation(headers: dict[str, str], seconds: float | None) -> None:
    assert in_headers(headers, now) == (None if seconds is None else pytest.approx(seconds))


NOON = "Sat, 28 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("ours", "date", "seconds"),
    [
        # By a clock that is right, that is an hour behind, ahead, and of a year ago.
        (0.0, NOON, 30.0),
        (-3600.0, NOON, 30.0),
        (3600.0, NOON, 30.0),
        (-365 * 86_400.0, NOON, 30.0),
        # Its Date is of the second in which it answered.
        (0.9, NOON, 29.1),
        # Without a Date that can be read there is our clock alone.
        (10.0, None, 20.0),
        (10.0, "noon", 20.0),
        (3600.0, "", 0.0),
    ],
)
@pytest.mark.parametrize("notation", ["date", "unix"])
def test_a_time_of_day_is_read_by_the_clock_of_the_server(
    ours: float, date: str | None, seconds: float, notation: str
) -> None:
    noon = parsedate_to_datetime(NOON).timestamp()
    stated = NOON.replace("12:00:00", "12:00:30") if notation == "date" else str(int(noon + 30))
    headers = {"retry-after": stated} if date is None else {"retry-after": stated, "date": date}
    assert in_headers(headers, lambda: noon + ours) == pytest.approx(seconds)


def test_a_wait_in_seconds_asks_no_clock() -> None:
    def now() -> float:
        raise AssertionError

    assert in_headers({"retry-after": "7", "date": NOON}, now) == 7.0
