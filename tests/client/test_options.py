"""Options of a client that are of another kind than it takes: each is refused where it is given, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aimlasync import AsyncClient, Endpoint, Limits, Timeout
from aimlasync.store import open_store

THERE: dict[str, Any] = {"api_key": "k", "base_url": "http://127.0.0.1:9/v1"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limits": 600}, r"^limits= takes a Limits, such as Limits\(concurrency=8\), not a int$"),
        ({"retry": 3}, r"^retry= takes a Retry, such as Retry\(attempts=3\), not a int$"),
        ({"budget": 5.0}, r"^budget= takes a Budget, such as Budget\(5.0\), not a float$"),
        ({"hedge": True}, r"^hedge= takes a Hedge, such as Hedge\(\), not a bool$"),
        ({"cache": True}, "^answers are kept in a store: a path, a URL or a Store, not True$"),
        ({"timeout": "5s"}, "^timeout total must be seconds as a number, not '5s'$"),
    ],
)
def test_an_option_of_another_kind_is_refused_where_the_client_is_made(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        AsyncClient(**THERE, **options)


@pytest.mark.parametrize("endpoints", [Endpoint(base_url="http://127.0.0.1:9/v1"), ["http://127.0.0.1:9/v1"]])
def test_endpoints_that_are_no_list_of_endpoints_are_refused(endpoints: Any) -> None:
    with pytest.raises(TypeError, match="endpoints= takes a list of Endpoint, such as"):
        AsyncClient(endpoints=endpoints)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Limits(requests_per_minute="600"), "requests_per_minute must be a number, not '600'"),  # type: ignore[arg-type]
        (lambda: Timeout(idle="5"), "timeout idle must be seconds as a number, not '5'"),  # type: ignore[arg-type]
        (lambda: Endpoint(base_url="http://127.0.0.1:9/v1", limits={"concurrency": 5}), "limits= takes a Limits"),  # type: ignore[arg-type]
        (lambda: open_store(3), "a path, a URL or a Store, not 3"),  # type: ignore[arg-type]
    ],
)
def test_a_text_where_a_number_belongs_is_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        make()


async def test_what_is_set_or_copied_later_is_held_to_the_same() -> None:
    wrong: Any = 5
    async with AsyncClient(**THERE) as client:
        with pytest.raises(TypeError, match="retry= takes a Retry"):
            client.with_options(retry=wrong)
        with pytest.raises(TypeError, match="budget= takes a Budget"):
            client.budget = wrong
        assert client.budget is None
