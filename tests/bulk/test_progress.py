"""How fast a job is, and what holds it back."""

from __future__ import annotations

from typing import Any

from aimlasync.bulk.progress.progress import Progress, limited_by
from aimlasync.endpoints.statistics import EndpointStatistics


def test_speeds_are_those_of_the_last_half_minute() -> None:
    progress = Progress(100.0)
    assert progress.speed(100.0, 0, 0) == (0.0, 0.0)
    for second in range(1, 61):
        progress.sample(100.0 + second, second, 10 * second)
    assert progress.speed(160.0, 60, 600) == (1.0, 10.0)
    for second in range(61, 121):
        progress.sample(100.0 + second, 60, 600)
    assert progress.speed(220.0, 60, 600) == (0.0, 0.0)
    assert progress.seconds(220.0) == 120.0


def test_many_samples_in_a_moment_take_the_room_of_one() -> None:
    progress = Progress(0.0)
    for number in range(10_000):
        progress.sample(number / 10_000, number, number)
    assert len(progress._samples) <= 6


def one(**options: Any) -> EndpointStatistics:
    known: dict[str, Any] = dict.fromkeys(EndpointStatistics.__struct_fields__, 0)
    return EndpointStatistics(**{**known, "limited_by": None, **options})


def test_a_job_is_held_back_by_what_most_calls_wait_for() -> None:
    assert limited_by([one(limited_by="rate", queued=2), one(limited_by="tokens", queued=3)], 5, 5) == "tokens"
    assert limited_by([one(), one(limited_by="pause", queued=0)], 5, 9) == "pause"
    assert limited_by([one(in_flight=2), one(in_flight=3)], 5, 5) == "concurrency"
    assert limited_by([one(in_flight=4)], 4, 5) == "input"
    assert limited_by([one(in_flight=2)], 4, 5) == "input"
    assert limited_by([one(in_flight=1)], 4, 5) == "retry"
    assert limited_by([one()], 5, 5) == "retry"
    assert limited_by([one(in_flight=1)], 5, 5, 1) == "retry"
    assert limited_by([one(in_flight=1)], 5, 5, 2) == "store"
    assert limited_by([one(in_flight=3)], 5, 5, 2) == "concurrency"
    assert limited_by([one()], 0, 5) == "input"
