"""Options of a client that are of another kind than it takes: each is refused where it is given, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aimlasync import AsyncClient, Endpoint, Limits, Retry, Timeout
from aimlasync.bulk import Caps
from aimlasync.store import open_store

THERE: dict[str, Any] = {"api_key": "k", "base_url": "http://127.0.0.1:9/v1"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limits": 600}, r"^limits= takes Limits, such as Limits\(concurrency=8\), not int$"),
        ({"retry": 3}, r"^retry= takes Retry, such as Retry\(attempts=3\), not int$"),
        ({"budget": 5.0}, r"^budget= takes Budget, such as Budget\(5.0\), not float$"),
        ({"hedge": True}, r"^hedge= takes Hedge, such as Hedge\(\), not bool$"),
        ({"cache": True}, "^answers are kept in a store: a path, a URL or a Store, not True$"),
        ({"timeout": "5s"}, "^timeout total must be seconds as a number, not '5s'$"),
        ({"max_queue": "5"}, "^max_queue must be a number, not '5'$"),
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
        (lambda: Endpoint(base_url="http://127.0.0.1:9/v1", limits={"concurrency": 5}), "limits= takes Limits"),  # type: ignore[arg-type]
        (lambda: Endpoint(base_url="http://127.0.0.1:9/v1", quota="redis://"), "quota= takes a quota, .*, not str"),  # type: ignore[arg-type]
        (lambda: Retry(max_backoff="5"), "max_backoff must be a number, not '5'"),  # type: ignore[arg-type]
        (lambda: Caps(deadline="2h"), "deadline must be a number, not '2h'"),  # type: ignore[arg-type]
        (lambda: open_store(3), "a path, a URL or a Store, not 3"),  # type: ignore[arg-type]
    ],
)
def test_a_text_where_a_number_belongs_is_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AsyncClient(**THERE, max_wait=-1), "max_wait must be 0 or more, not -1"),
        (lambda: AsyncClient(**THERE, max_queue_per_tenant=-1), "max_queue_per_tenant must be 0 or more, not -1"),
        (lambda: Retry(attempts=0), "attempts must be 1 or more, not 0"),
        (lambda: Retry(base=float("nan")), "base must be 0 or more, not nan"),
        (lambda: Caps(max_tokens=-1), "max_tokens must be 0 or more, not -1"),
    ],
)
def test_a_number_that_is_too_low_is_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


async def test_what_is_set_or_copied_later_is_held_to_the_same() -> None:
    wrong: Any = 5
    async with AsyncClient(**THERE) as client:
        with pytest.raises(TypeError, match="retry= takes Retry"):
            client.with_options(retry=wrong)
        with pytest.raises(TypeError, match="max_retries= takes int, such as 2, not str"):
            client.with_options(max_retries="5")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="extra_body is a mapping of parameters, not str"):
            await client.responses.create(model="m", input="x", extra_body="a")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="budget= takes Budget"):
            client.budget = wrong
        with pytest.raises(TypeError, match="budget= takes Budget"):
            await client.responses.create(model="m", input="x", budget=wrong)
        assert client.budget is None


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AIML_API_KEY": '"sk-abcdef"'}, "^AIML_API_KEY begins with a quote, which is no part of a key"),
        ({"AIML_API_KEY": "sk-abc\nsk-def"}, "^AIML_API_KEY has a space, a control character or a letter outside"),
        ({"OPENAI_API_KEY": "Bearer sk-abc"}, "^OPENAI_API_KEY has a space, a control character"),
        ({"AIML_API_KEY": "k", "AIML_API_URL": "127.0.0.1:9"}, "^AIML_API_URL must be an http.* got '127.0.0.1:9'$"),
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "'http://127.0.0.1:9'"}, "^OPENAI_BASE_URL must be an http"),
    ],
)
def test_what_is_wrong_in_the_environment_is_told_by_the_name_of_its_variable(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=words) as caught:
        AsyncClient()
    assert "sk-" not in str(caught.value)
    # It is of no matter to a client that is told another server and key.
    assert AsyncClient(**THERE).limits == Limits()


def test_a_variable_that_holds_nothing_but_blanks_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIML_API_KEY", "k")
    monkeypatch.setenv("AIML_API_URL", " ")
    assert Endpoint.aimlapi().base_url == Endpoint.aimlapi(base_url="https://api.aimlapi.com/v1").base_url


def test_a_key_in_quotes_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match=r"^api_key begins with a quote") as caught:
        AsyncClient(api_key="'sk-abc'")
    assert "sk-" not in str(caught.value)


async def test_what_a_call_cannot_mean_is_refused_with_what_there_is() -> None:
    wrong: Any = "bluk"
    said = "^priority must be 'interactive' or 'bulk', not 'bluk'$"
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    async with AsyncClient(**THERE) as client:
        for call in (
            lambda: client.chat.completions.create(model="m", messages=[], priority=wrong),
            lambda: client.responses.create(model="m", input="x", priority=wrong),
            lambda: client.ask("chat", body, priority=wrong),
            lambda: client.forward("POST", "chat/completions", b"{}", priority=wrong),
            lambda: client.forward("GET", "models", priority=wrong),
        ):
            with pytest.raises(ValueError, match=said):
                await call()
        with pytest.raises(ValueError, match=r"^api must be 'chat' or 'responses', not 'completions'$"):
            await client.ask("completions", body)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://[::1", "must be an http\\(s\\) URL with a host, such as https://host/v1$"),
        ("http://127.0.0.1:9/ v1", "has a space or a letter outside ASCII"),
        ("https://ex ample/v1", "has a space or a letter outside ASCII"),
        ("https://host.example/vé", "has a space or a letter outside ASCII"),
        ("https://bücher.example", "has a space or a letter outside ASCII"),
    ],
)
def test_a_base_url_that_no_request_can_have_is_refused_when_the_client_is_made(
    url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIML_API_KEY", "k")
    for make in (lambda: AsyncClient(base_url=url), lambda: Endpoint.aimlapi(base_url=url)):
        with pytest.raises(ValueError, match=f"^base_url {words}|^base_url .* {words}"):
            make()
    monkeypatch.setenv("AIML_API_URL", url)
    with pytest.raises(ValueError, match=f"^AIML_API_URL {words}|^AIML_API_URL .* {words}"):
        AsyncClient()
