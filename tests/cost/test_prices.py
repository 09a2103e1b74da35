"""Claims about `cost.prices`: what a catalogue's prices say, what a call cost, and that unknown is never 0."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.chat.types import CompletionTokensDetails, PromptTokensDetails, Usage
from aimlasync.cost.prices import Price, cost, price_of, prices_of
from aimlasync.cost.tokens import tokens_of
from aimlasync.responses.types import InputTokensDetails, OutputTokensDetails, ResponseUsage
from aimlasync.simulator.vendor import catalogue
from aimlasync.simulator.vendor.vendors import VENDORS
from aimlasync.wire.models import Model, decode_model, decode_models

NANO = Price.per_million(input=0.05, output=0.4, cached_input=0.005)


def unit(measure: Any, price: Any, per: Any = 1_000_000, name: Any = "token") -> dict[str, Any]:
    return {"name": name, "measure": measure, "price": price, "per": per}


def priced(*units: Any, kind: Any = "fixed", **more: Any) -> Price | None:
    return price_of(Model(id="m", pricing={"kind": kind, "currency": "USD", "units": list(units), **more}))


def chat(prompt: int, answer: int, *, cached: int | None = None, reasoning: int | None = None) -> Usage:
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=answer,
        total_tokens=prompt + answer,
        prompt_tokens_details=None if cached is None else PromptTokensDetails(cached_tokens=cached),
        completion_tokens_details=None if reasoning is None else CompletionTokensDetails(reasoning_tokens=reasoning),
    )


def response(taken: int, given: int, *, cached: int | None = None, reasoning: int | None = None) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=taken,
        output_tokens=given,
        total_tokens=taken + given,
        input_tokens_details=None if cached is None else InputTokensDetails(cached_tokens=cached),
        output_tokens_details=None if reasoning is None else OutputTokensDetails(reasoning_tokens=reasoning),
    )


# --- the catalogue -----------------------------------------------------------------------------------------------


def test_fixed_price_is_read_for_one_token() -> None:
    found = priced(unit("input", 0.05), unit("output", 0.4), unit("cached_input", 0.005))
    assert found == NANO
    assert (NANO.input, NANO.output, NANO.cached_input) == pytest.approx((5e-8, 4e-7, 5e-9))


@pytest.mark.parametrize(("price", "per"), [(3.25, 1_000_000), (0.00325, 1000), (0.00000325, 1)])
def test_price_is_always_divided_by_its_number_of_units(price: float, per: int) -> None:
    found = priced(unit("output", price, per))
    assert found is not None
    assert found.output == pytest.approx(3.25e-6)


def test_measure_that_is_not_told_stays_unknown() -> None:
    # The vendor's own example names the output alone.
    assert priced(unit("output", 3.25)) == Price(output=3.25e-6)


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("input", "input"),
        ("Input_Tokens", "input"),
        ("prompt", "input"),
        ("completion", "output"),
        ("cached-input", "cached_input"),
        ("cache read", "cached_input"),
        ("input_cache_read", "cached_input"),
        ("input_cache_write", "cache_write"),
    ],
)
def test_words_in_use_for_a_measure_are_read(word: str, field: str) -> None:
    assert priced(unit(word, 1)) == Price(**{field: 1e-6})


def test_highest_price_of_a_measure_is_taken() -> None:
    assert priced(unit("input", 1), unit("input", 2), unit("input", 1.5)) == Price(input=2e-6)


@pytest.mark.parametrize(
    "odd",
    [
        unit("output", 1, name="second"),
        unit("output", 1, name=None),
        unit("storage", 1),
        unit(None, 1),
        unit(["output"], 1),
        unit("output", None),
        unit("output", "1"),
        unit("output", True),
        unit("output", -1),
        unit("output", float("nan")),
        unit("output", float("inf")),
        unit("output", 10**400),
        unit("output", 1, 0),
        unit("output", 1, -5),
        unit("output", 1, None),
        unit("output", 1, "1000000"),
        {"name": "token", "measure": "output", "price": 1},
        "output",
        None,
        7,
    ],
    ids=repr,
)
def test_unit_that_does_not_say_a_token_price_is_passed_over(odd: Any) -> None:
    assert priced(odd) is None
    assert priced(odd, unit("input", 1)) == Price(input=1e-6)


def test_price_of_a_million_without_its_number_of_units_is_not_believed() -> None:
    assert priced(unit("output", 3.25, 1)) is None


@pytest.mark.parametrize("currency", ["EUR", "credits", 5, ["USD"]])
def test_other_currency_is_no_price(currency: Any) -> None:
    assert priced(unit("output", 1), currency=currency) is None


def test_currency_that_is_left_out_is_the_dollar() -> None:
    assert priced(unit("output", 1), currency=None) == Price(output=1e-6)
    entry = {"kind": "fixed", "units": [unit("output", 1)]}
    assert price_of(Model(id="m", pricing=entry)) == Price(output=1e-6)


VARIANTS = {
    "kind": "variants",
    "dimensions": ["resolution"],
    "variants": [{"when": {"resolution": "720p"}, "price": 0.39, "unit": "second", "per": 1}],
}


@pytest.mark.parametrize(
    "pricing",
    [None, {}, [], "free", 0, VARIANTS, {"kind": "variable"}, {"kind": "fixed"}, {"kind": "fixed", "units": {}}],
    ids=repr,
)
def test_price_that_depends_on_the_request_or_is_missing_is_unknown(pricing: Any) -> None:
    assert price_of(Model(id="m", pricing=pricing)) is None


def test_kind_decides_before_the_units_do() -> None:
    assert priced(unit("output", 1), kind="variants") is None
    assert priced(unit("output", 1), kind=None) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["token", "input", "output", "USD"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*unit(1, 1)]), inner),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(JSON | st.builds(unit, st.just("input"), JSON, JSON), max_size=3), JSON)
def test_no_catalogue_breaks_the_reading(units: list[Any], currency: Any) -> None:
    found = priced(*units, currency=currency)
    assert found is None or found.input is not None or found.output is not None


def test_prices_are_found_by_id_and_by_alias() -> None:
    price = [unit("input", 1)]
    models = [
        Model(id="a", aliases=["b", "c"], pricing={"kind": "fixed", "units": price}),
        Model(id="c", pricing={"kind": "fixed", "units": [unit("input", 2)]}),
        Model(id="d", aliases=["e"], pricing={"kind": "variable"}),
    ]
    one, two = Price(input=1e-6), Price(input=2e-6)
    assert prices_of(models) == {"a": one, "b": one, "c": two}
    assert prices_of(reversed(models)) == {"a": one, "b": one, "c": two}
    assert prices_of([]) == {}


def test_prices_of_the_simulated_catalogue_are_those_it_charges() -> None:
    vendor = VENDORS["aimlapi"]
    listed = decode_models(json.dumps(catalogue.listing(vendor, {"include": "pricing"})).encode())
    prices = prices_of(listed)
    assert {model.id for model in listed} <= prices.keys()
    for model in listed:
        assert cost(prices[model.id], chat(1234, 567)) == pytest.approx(catalogue.cost(vendor, model.id, 1234, 567))
        assert prices[model.aliases[0]] == prices[model.id]
    assert prices_of(decode_models(json.dumps(catalogue.listing(VENDORS["bytespike"], {})).encode())) == {}


def test_price_of_one_looked_up_model_is_read() -> None:
    body = json.dumps(catalogue.one(VENDORS["aimlapi"], "gpt-5-nano")).encode()
    assert price_of(decode_model(body)) == Price.per_million(input=0.065, output=0.52)


@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf"), 0.05, 2.5])
def test_price_that_cannot_be_one_tokens_is_refused_with_the_fix(value: float) -> None:
    with pytest.raises(ValueError, match=r"output must be US dollars for one token.*per_million"):
        Price(output=value)


def test_price_is_a_value() -> None:
    assert copy.copy(NANO) == pickle.loads(pickle.dumps(NANO)) == NANO
    assert len({NANO, Price.per_million(input=0.05, output=0.4, cached_input=0.005)}) == 1
    with pytest.raises(AttributeError):
        NANO.input = 1.0  # type: ignore[misc]


# --- what a call cost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [chat, response])
def test_cost_is_tokens_times_price_with_cached_tokens_at_theirs(of: Any) -> None:
    assert cost(NANO, of(1_000_000, 1_000_000)) == pytest.approx(0.45)
    assert cost(NANO, of(1_000_000, 0)) == pytest.approx(0.05)
    assert cost(NANO, of(1_000_000, 0, cached=400_000)) == pytest.approx(0.6 * 0.05 + 0.4 * 0.005)
    assert cost(NANO, of(1_000_000, 0, cached=1_000_000)) == pytest.approx(0.005)
    assert cost(NANO, of(10, 1_000_000, cached=0, reasoning=999)) == pytest.approx(0.4 + 10 * 5e-8)


def test_vendors_example_comes_out_at_its_charge() -> None:
    # AI/ML API's gpt-5-5 page: 15 and 182 tokens at 1.3 times 5 and 30 dollars a million.
    assert cost(Price.per_million(input=6.5, output=39), chat(15, 182)) == pytest.approx(0.0071955)


@pytest.mark.parametrize("of", [chat, response])
def test_cached_tokens_without_a_price_cost_what_others_do(of: Any) -> None:
    price = Price.per_million(input=1, output=1)
    assert cost(price, of(500, 500, cached=300)) == pytest.approx(0.001)


@pytest.mark.parametrize("of", [chat, response])
def test_unknown_is_none_and_never_zero(of: Any) -> None:
    assert cost(None, of(1, 1)) is None
    assert cost(NANO, None) is None
    assert cost(Price(), of(1, 1)) is None
    assert cost(Price(output=1e-6), of(1, 1)) is None
    assert cost(Price(input=1e-6), of(1, 1)) is None
    assert cost(Price(cached_input=1e-6), of(2, 0, cached=1)) is None
    assert cost(NANO, of(0, 0)) is None
    assert cost(NANO, of(0, 50)) is None
    assert cost(NANO, of(-1, 5)) is None
    assert cost(NANO, of(5, -1)) is None
    assert cost(NANO, of(10**400, 1)) is None
    assert cost(NANO, of(1, 10**400)) is None


@pytest.mark.parametrize("of", [chat, response])
def test_price_that_is_not_needed_may_be_unknown(of: Any) -> None:
    assert cost(Price(input=1e-6), of(5, 0)) == pytest.approx(5e-6)
    assert cost(Price(cached_input=1e-6), of(5, 0, cached=5)) == pytest.approx(5e-6)


@pytest.mark.parametrize("of", [chat, response])
def test_free_model_costs_zero(of: Any) -> None:
    assert cost(Price(input=0, output=0), of(5, 5)) == 0


@pytest.mark.parametrize("of", [chat, response])
def test_parts_larger_than_the_whole_are_no_tokens_to_count(of: Any) -> None:
    # The gpt-5-nano page of 2025: 448 reasoning tokens in an output of 424, which are credits.
    assert cost(NANO, of(1, 424, reasoning=448)) is None
    assert cost(NANO, of(5, 5, cached=6)) is None
    assert cost(NANO, of(5, 5, cached=-1)) is None


def test_tokens_are_counted_for_both_endpoints() -> None:
    assert tokens_of(chat(3, 4)) == tokens_of(response(3, 4)) == (3, 4)
    assert tokens_of(chat(3, 0)) == (3, 0)
    assert tokens_of(None) is None
    assert tokens_of(Usage()) is None
    assert tokens_of(ResponseUsage()) is None


COUNT = st.integers(-2, 10**13) | st.integers()
PER_TOKEN = st.none() | st.floats(0, 0.01)


@settings(max_examples=150, deadline=None)
@given(
    st.builds(Price, input=PER_TOKEN, output=PER_TOKEN, cached_input=PER_TOKEN),
    st.sampled_from([chat, response]),
    COUNT,
    COUNT,
    st.none() | COUNT,
    st.none() | COUNT,
)
def test_cost_is_finite_and_never_negative(
    price: Price, of: Any, taken: int, given: int, cached: int | None, reasoning: int | None
) -> None:
    found = cost(price, of(taken, given, cached=cached, reasoning=reasoning))
    assert found is None or 0 <= found < float("inf")
