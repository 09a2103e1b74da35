"""Misspelt options: the error says which one was meant."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from aimlasync import AsyncClient, Budget, Endpoint, Hedge, Limits, Price, Retry, Timeout, agents, bulk
from aimlasync.simulator import Fault, Latency, Simulator
from aimlasync.store import Cache

KEY = "sk-of-a-user-0001"


@pytest.mark.parametrize(
    ("make", "option", "said"),
    [
        (AsyncClient, "max_retry", "AsyncClient has no option 'max_retry', did you mean 'max_retries'?"),
        (
            AsyncClient(api_key="k").with_options,
            "timeouts",
            "AsyncClient.with_options has no option 'timeouts', did you mean 'timeout'?",
        ),
        (AsyncClient, "rpm", "AsyncClient has no option 'rpm', did you mean 'limits'?"),
        (AsyncClient, "concurrency", "AsyncClient has no option 'concurrency', did you mean 'limits'?"),
        (Endpoint, "url", "Endpoint has no option 'url', did you mean 'base_url'?"),
        (Endpoint.aimlapi, "limit", "Endpoint has no option 'limit', did you mean 'limits'?"),
        (Budget, "price", "Budget has no option 'price', did you mean 'prices'?"),
        (Limits, "rpm", "Limits has no option 'rpm', did you mean 'requests_per_minute'?"),
        (Limits, "concurency", "Limits has no option 'concurency', did you mean 'concurrency'?"),
        (Retry, "max_attempts", "Retry has no option 'max_attempts', did you mean 'attempts'?"),
        (Timeout, "first", "Timeout has no option 'first'; it has total, answer, connect, first_token, idle, attempt"),
        (Hedge, "most", "Hedge has no option 'most'; it has " + ", ".join(Hedge.__struct_fields__)),
        (Price, "inptu", "Price has no option 'inptu', did you mean 'input'?"),
        (Latency, "ttft", "Latency has no option 'ttft', did you mean 'first_token'?"),
        (agents.tool, "timout", "tool has no option 'timout', did you mean 'timeout'?"),
        (Cache, "max_byte", "Cache has no option 'max_byte', did you mean 'max_bytes'?"),
        (Simulator, "seeds", "Simulator has no option 'seeds', did you mean 'seed'?"),
        (Latency.of, "tps", "Latency.of has no option 'tps'; it has ttft, tokens_per_second, spread"),
        (Fault, "probabilty", "Fault has no option 'probabilty', did you mean 'probability'?"),
        (bulk.Options, "max_usd", "Options has no option 'max_usd', did you mean 'caps'?"),
        (bulk.Caps, "deadlin", "Caps has no option 'deadlin', did you mean 'deadline'?"),
        (bulk.PromptTask, "temperature", "PromptTask has no option 'temperature', did you mean 'params'?"),
        (bulk.ClassifyTask, "label", "ClassifyTask has no option 'label', did you mean 'labels'?"),
        (bulk.BatchChat, "promt", "BatchChat has no option 'promt', did you mean 'prompt'?"),
        (bulk.map, "concurency", "map has no option 'concurency', did you mean 'concurrency'?"),
        (
            partial(bulk.classify, AsyncClient(api_key="k"), [], labels=["a", "b"], model="m"),
            "ordnal",
            "ClassifyTask has no option 'ordnal', did you mean 'ordinal'?",
        ),
        (bulk.run, "tasks", "run has no option 'tasks', did you mean 'task'?"),
        (bulk.export, "column", "export has no option 'column', did you mean 'columns'?"),
        (bulk.evaluate, "inputs", "evaluate has no option 'inputs', did you mean 'input'?"),
    ],
)
def test_a_misspelt_option_is_told_with_the_one_that_was_meant(
    make: Callable[..., Any], option: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIML_API_KEY", KEY)
    with pytest.raises(TypeError) as refused:
        make(**{option: 1})
    assert str(refused.value) == said
    assert refused.value.__cause__ is None


def test_what_else_is_wrong_with_options_is_said_as_before() -> None:
    with pytest.raises(TypeError, match="timeout total must be seconds as a number, not '5'"):
        Timeout(total="5")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes Limits"):
        Endpoint(base_url="https://h.example", limits=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        Budget()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Extra positional arguments"):
        Limits(5)  # type: ignore[call-arg]


def test_the_error_of_a_misspelt_option_shows_no_key() -> None:
    with pytest.raises(TypeError, match="did you mean 'base_url'") as refused:
        AsyncClient(api_key=KEY, base_ulr="https://h.example")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="did you mean 'family'") as refused_too:
        Cache(f"redis://:{KEY}@h.example", familiy="a")  # type: ignore[call-arg]
    for trace in (refused.value.__traceback__, refused_too.value.__traceback__):
        while trace is not None:
            if trace.tb_frame.f_code.co_filename != __file__:
                assert KEY not in repr(trace.tb_frame.f_locals)
            trace = trace.tb_next


def test_options_are_still_values() -> None:
    assert msgspec.json.decode(msgspec.json.encode(Limits(concurrency=3)), type=Limits) == Limits(concurrency=3)
    assert msgspec.structs.replace(Timeout(), total=5.0) == Timeout(total=5.0)
