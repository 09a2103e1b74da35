"""Claims about `cost.budget`: what is let through, what is counted, and that the cap holds whatever happens."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aimlasync.chat.types import PromptTokensDetails, Usage
from aimlasync.cost.budget import DEFAULT_OUTPUT_TOKENS, Budget, Reservation, output_cap
from aimlasync.cost.prices import Price, cost
from aimlasync.errors import BudgetExceededError
from aimlasync.responses.types import ResponseUsage

CENT = Price(input=0.001, output=0.01)
"""A token in for a tenth of a cent, a token out for a cent."""


def usage(prompt: int, answer: int) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=prompt + answer)


def budget(usd: float = 1.0, **prices: Price) -> Budget:
    return Budget(usd, prices=prices or {"m": CENT})


def state(budget: Budget) -> tuple[float, float, float]:
    return budget.spent, budget.reserved, budget.remaining


@pytest.mark.parametrize(
    ("body", "cap"),
    [
        ({}, None),
        ({"max_completion_tokens": None, "n": 3}, None),
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 10, "max_tokens": 20}, 10),
        ({"max_completion_tokens": 0, "max_output_tokens": 30}, 30),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"max_tokens": 10, "n": 0}, 10),
        ({"max_tokens": 10, "n": None}, 10),
    ],
)
def test_the_output_cap_of_a_request_covers_all_its_choices(body: dict[str, Any], cap: int | None) -> None:
    assert output_cap(body) == cap


# --- reserve -----------------------------------------------------------------------------------------------------


def test_worst_cost_is_set_aside() -> None:
    purse = budget()
    reservation = purse.reserve("m", 100, 20)
    assert (reservation.usd, reservation.model, reservation.priced) == (0.3, "m", True)
    assert state(purse) == (0, 0.3, 0.7)
    assert purse.usd == 1.0


def test_ten_calls_fill_a_budget_to_the_cent_and_empty_it_again() -> None:
    purse = budget(1.0)
    held = [purse.reserve("m", 0, 10) for _ in range(10)]
    assert state(purse) == (0, 1.0, 0)
    with pytest.raises(BudgetExceededError):
        purse.reserve("m", 1, 1)
    for reservation in held:
        purse.release(reservation)
    assert state(purse) == (0, 0, 1.0)


def test_call_that_does_not_fit_beside_those_in_flight_is_refused_with_the_numbers() -> None:
    purse = budget()
    purse.settle(purse.reserve("m", 0, 10), 0.125)
    purse.reserve("m", 0, 50)
    with pytest.raises(BudgetExceededError) as caught:
        purse.reserve("m", 30.4, 40)
    assert str(caught.value) == (
        "the call would pass the budget: m may cost up to $0.4304 (30 tokens in, 40 out), $0.375 of $1 is left "
        "($0.125 spent, $0.5 reserved by calls in flight)"
    )
    assert caught.value.billed is False
    assert not caught.value.retryable
    assert state(purse) == (0.125, 0.5, 0.375)


def test_refused_call_leaves_nothing_behind() -> None:
    purse = budget(0.1)
    for _ in range(3):
        with pytest.raises(BudgetExceededError):
            purse.reserve("m", 0, 11)
    assert state(purse) == (0, 0, 0.1)
    assert purse.reserve("m", 0, 10).usd == 0.1


def test_call_that_just_fits_is_let_through() -> None:
    assert budget(0.3).reserve("m", 100, 20).usd == 0.3


def test_request_without_a_cap_is_taken_to_give_the_default() -> None:
    assert budget(100).reserve("m", 0).usd == pytest.approx(DEFAULT_OUTPUT_TOKENS * 0.01)
    purse = Budget(100, prices={"m": CENT}, default_output_tokens=7)
    for cap in (None, 0, -5, float("nan")):
        assert purse.reserve("m", 0, cap).usd == 0.07


@pytest.mark.parametrize("tokens", [-1, float("nan"), float("-inf")])
def test_input_that_is_no_number_of_tokens_is_misuse(tokens: float) -> None:
    with pytest.raises(ValueError, match="input_tokens"):
        budget().reserve("m", tokens, 1)


@pytest.mark.parametrize("tokens", [10**400, 1e308, float("inf")])
def test_absurd_number_of_tokens_does_not_fit(tokens: float) -> None:
    purse = budget(1e6)
    for taken, given in ((tokens, 1), (1, tokens)):
        with pytest.raises(BudgetExceededError):
            purse.reserve("m", taken, given)
    assert purse.reserved == 0


@pytest.mark.parametrize("usd", [-0.01, float("nan"), float("inf"), 1e12])
def test_cap_that_is_no_amount_is_misuse(usd: float) -> None:
    with pytest.raises(ValueError, match="budget"):
        Budget(usd)


def test_default_output_below_one_is_misuse() -> None:
    with pytest.raises(ValueError, match="default_output_tokens"):
        Budget(1, default_output_tokens=0)


@pytest.mark.parametrize("price", [0.5, {"input": 1e-6}, None])
def test_what_is_no_price_or_no_number_is_named_before_anything_is_sent(price: Any) -> None:
    with pytest.raises(TypeError, match=r"price of m must be a Price, such as Price\.per_million"):
        Budget(1.0, prices={"m": price})
    wrong: Any = "5"
    with pytest.raises(TypeError, match="a number of US dollars, not '5'"):
        Budget(wrong)


def test_budget_of_nothing_lets_only_free_calls_through() -> None:
    purse = budget(0, free=Price(input=0, output=0), m=CENT)
    assert purse.reserve("free", 10, 10).usd == 0
    for model in ("m", "hidden"):
        with pytest.raises(BudgetExceededError):
            purse.reserve(model, 1, 1)


def test_prices_may_be_filled_after_the_budget_was_made() -> None:
    prices: dict[str, Price] = {}
    purse = Budget(1, prices=prices)
    prices["m"] = CENT
    assert purse.reserve("m", 0, 10).usd == 0.1


def test_price_that_changes_holds_for_what_is_reserved_from_then_on() -> None:
    prices = {"m": CENT}
    purse = Budget(1, prices=prices)
    before = purse.reserve("m", 100, 10)
    prices["m"] = Price(input=0.002, output=0.01)
    after = purse.reserve("m", 100, 10)
    assert (before.usd, after.usd) == (0.2, 0.3)
    purse.settle(after, usage=usage(100, 10))
    assert purse.spent == 0.3
    del prices["m"]
    assert not purse.reserve("m", 1, 1).priced


def test_price_that_comes_while_a_call_is_in_flight_says_what_it_cost() -> None:
    prices: dict[str, Price] = {}
    purse = Budget(1, prices=prices)
    reservation = purse.reserve("m", 100, 10)
    prices["m"] = CENT
    purse.settle(reservation, usage=usage(100, 10))
    assert (purse.spent, purse.unknown) == (0.2, 0)


def test_names_of_models_that_nobody_charges_for_are_not_kept() -> None:
    purse = budget()
    for number in range(10):
        purse.settle(purse.reserve(f"named-{number}", 10**6), usage=usage(1, 1))
    purse.reserve("m", 1, 1)
    assert list(purse._models) == ["m"]


# --- settle ------------------------------------------------------------------------------------------------------


def test_stated_cost_goes_before_the_computed_one() -> None:
    purse = budget()
    purse.settle(purse.reserve("m", 100, 20), 0.05, usage(100, 20))
    assert state(purse) == (0.05, 0, 0.95)
    assert purse.unknown == 0


@pytest.mark.parametrize(
    "used",
    [usage(50, 5), ResponseUsage(input_tokens=50, output_tokens=5)],
    ids=["chat", "responses"],
)
def test_cost_that_is_not_stated_is_computed_from_the_usage(used: Any) -> None:
    purse = budget()
    purse.settle(purse.reserve("m", 100, 20), None, used)
    assert state(purse) == pytest.approx((0.1, 0, 0.9))
    assert purse.unknown == 0


@pytest.mark.parametrize("cached", [None, 0, 30, 100])
@pytest.mark.parametrize(
    "price", [CENT, Price(input=1.5e-7, output=6e-7), Price(input=3e-6, output=0, cached_input=3e-7)]
)
def test_what_counts_as_spent_is_what_the_usage_costs_at_the_price(price: Price, cached: int | None) -> None:
    purse = Budget(10, prices={"m": price})
    used = usage(100, 20)
    if cached is not None:
        used.prompt_tokens_details = PromptTokensDetails(cached_tokens=cached)
    purse.settle(purse.reserve("m", 1000, 100), usage=used)
    assert purse.spent == pytest.approx(cost(price, used), abs=1e-12)


@pytest.mark.parametrize("used", [None, Usage(), ResponseUsage()], ids=["none", "chat", "responses"])
def test_cost_that_nobody_tells_stays_spent_as_reserved_and_is_counted(used: Any) -> None:
    purse = budget()
    purse.settle(purse.reserve("m", 100, 20), None, used)
    assert state(purse) == (0.3, 0, 0.7)
    assert purse.unknown == 1


@pytest.mark.parametrize("stated", [-1.0, float("nan"), float("inf"), 1e300])
def test_statement_that_is_no_amount_is_none(stated: float) -> None:
    purse = budget()
    purse.settle(purse.reserve("m", 100, 20), stated, usage(50, 5))
    assert purse.spent == pytest.approx(0.1)
    purse.settle(purse.reserve("m", 100, 20), stated)
    assert purse.spent == pytest.approx(0.4)
    assert purse.unknown == 1


def test_stated_cost_of_nothing_is_believed() -> None:
    purse = budget()
    purse.settle(purse.reserve("m", 100, 20), 0.0)
    assert state(purse) == (0, 0, 1.0)


def test_free_failure_gives_everything_back() -> None:
    purse = budget()
    purse.release(purse.reserve("m", 100, 20))
    assert (*state(purse), purse.unknown) == (0, 0, 1.0, 0)


def test_only_the_first_end_of_a_call_counts() -> None:
    purse = budget()
    first, second = purse.reserve("m", 100, 20), purse.reserve("m", 100, 20)
    purse.settle(first, 0.2)
    purse.release(second)
    for reservation in (first, second):
        purse.settle(reservation, 0.9, usage(500, 50))
        purse.settle(reservation)
        purse.release(reservation)
    assert (*state(purse), purse.unknown) == (0.2, 0, 0.8, 0)


def test_call_that_cost_more_than_reserved_counts_in_full_and_nothing_is_left_below_zero() -> None:
    purse = budget(0.5)
    purse.settle(purse.reserve("m", 100, 20), 0.8)
    assert state(purse) == (0.8, 0, 0)
    with pytest.raises(BudgetExceededError, match=r"\$0 of \$0.5 is left \(\$0.8 spent, \$0 reserved"):
        purse.reserve("m", 0, 1)


# --- what the vendor hides ---------------------------------------------------------------------------------------


def test_model_without_a_price_is_let_through_and_counted() -> None:
    purse = Budget(1.0)
    reservation = purse.reserve("hidden", 10**6, 10**6)
    assert (reservation.usd, reservation.priced, purse.calls_unpriced) == (0, False, 1)
    purse.settle(reservation)
    assert state(purse) == (0, 0, 1.0)
    assert (purse.unknown, purse.calls_unpriced) == (1, 1)


def test_model_without_a_price_is_refused_when_nothing_is_left() -> None:
    purse = Budget(1.0, prices={"m": CENT})
    purse.reserve("m", 0, 100)
    with pytest.raises(BudgetExceededError, match=r"hidden may cost \$0 or more, its price is not known"):
        purse.reserve("hidden", 1, 1)
    assert purse.calls_unpriced == 0


def test_price_is_learned_from_what_was_charged_and_the_highest_stays() -> None:
    purse = Budget(100.0)
    purse.settle(purse.reserve("hidden", 50), 0.2, usage(50, 50))
    purse.settle(purse.reserve("hidden", 50), 0.1, usage(50, 50))
    reservation = purse.reserve("hidden", 300, 200)
    assert (reservation.usd, reservation.priced) == (1.0, True)
    assert purse.calls_unpriced == 1
    purse.settle(reservation)
    assert purse.spent == pytest.approx(1.3)
    assert purse.unknown == 1


def test_price_learned_for_one_model_says_nothing_of_another() -> None:
    purse = Budget(100.0)
    purse.settle(purse.reserve("a", 1), 0.2, usage(50, 50))
    assert purse.reserve("b", 300, 200).usd == 0


@pytest.mark.parametrize(("stated", "used"), [(0.0, usage(5, 5)), (0.1, None), (0.1, Usage())])
def test_nothing_is_learned_from_free_calls_or_without_tokens(stated: float, used: Any) -> None:
    purse = Budget(100.0)
    purse.settle(purse.reserve("hidden", 1), stated, used)
    assert not purse.reserve("hidden", 1, 1).priced


def test_given_price_goes_before_a_learned_one() -> None:
    purse = budget(10)
    purse.settle(purse.reserve("m", 1, 1), 5.0, usage(1, 1))
    assert purse.reserve("m", 100, 20).usd == 0.3


def test_half_a_price_reserves_that_half_until_the_other_is_learned() -> None:
    purse = budget(10, m=Price(output=0.01))
    reservation = purse.reserve("m", 100, 20)
    assert (reservation.usd, reservation.priced, purse.calls_unpriced) == (0.2, False, 1)
    purse.settle(reservation, 0.24, usage(100, 20))
    assert purse.reserve("m", 100, 20).usd == pytest.approx(0.2 + 100 * 0.002)


# --- answers that take more than was asked for -------------------------------------------------------------------


def reasoned(prompt: int, answer: int, reasoning: int) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=prompt + answer + reasoning)


def test_reasoning_that_no_cap_covers_is_reserved_where_it_is_documented() -> None:
    purse = Budget(1000, prices={"m": CENT}, default_output_tokens=50)
    assert purse.reserve("m", 0, 10, reasons_outside=True).usd == 0.6
    assert purse.reserve("m", 0, reasons_outside=True).usd == 0.5


def test_what_an_answer_took_beyond_its_cap_is_reserved_from_then_on() -> None:
    purse = Budget(1000, prices={"m": CENT, "other": CENT}, default_output_tokens=50)
    purse.settle(purse.reserve("m", 100, 20), usage=reasoned(100, 20, 30))
    assert purse.spent == pytest.approx(0.1 + 0.5)
    assert purse.reserve("m", 100, 20).usd == pytest.approx(0.1 + 0.5)
    assert purse.reserve("m", 100).usd == pytest.approx(0.1 + 0.5)
    assert purse.reserve("other", 100, 20).usd == pytest.approx(0.1 + 0.2)
    purse.settle(purse.reserve("m", 100), usage=reasoned(100, 20, 70))
    assert purse.reserve("m", 100).usd == pytest.approx(0.1 + 0.9)


def test_prompt_that_the_server_adds_is_reserved_from_then_on() -> None:
    purse = Budget(1000, prices={"m": CENT})
    purse.settle(purse.reserve("m", 50, 10), usage=usage(165, 10))
    assert purse.reserve("m", 50, 10).usd == pytest.approx(0.165 + 0.1)


@pytest.mark.parametrize(
    ("prompt", "answer", "reasoning"), [(64, 1842, 2048), (32, 1248, 4032), (9, 566, 946), (165, 140, 268)]
)
def test_no_bill_of_the_vendors_pages_passes_the_cap(prompt: int, answer: int, reasoning: int) -> None:
    price = Price.per_million(input=5, output=30)
    purse = Budget(1.0, prices={"m": price})
    billed = 0.0
    flying: list[Reservation] = []
    while True:
        try:
            flying.append(purse.reserve("m", 100, 2048, reasons_outside=True))
        except BudgetExceededError:
            if not flying:
                break
        if len(flying) == 3 or purse.remaining < 0.2:
            for reservation in flying:
                purse.settle(reservation, usage=reasoned(prompt, answer, reasoning))
                billed += (prompt * 5 + (answer + reasoning) * 30) / 1e6
            flying.clear()
    assert billed <= purse.spent + 1e-9
    assert purse.spent <= 1.0
    assert purse.spent > 0.4


def test_what_is_free_is_sent_although_an_answer_passed_the_cap() -> None:
    purse = Budget(0.5, prices={"free": Price(input=0, output=0), "dear": CENT})
    purse.settle(purse.reserve("dear", 1, 1), cost_usd=2.0)
    assert purse.remaining == 0.0
    assert purse.reserve("free", 10).usd == 0.0
    for model in ("dear", "hidden"):
        with pytest.raises(BudgetExceededError, match=r"\$0 of \$0\.5 is left"):
            purse.reserve(model, 1, 1)


def test_thinking_that_a_request_bounds_beside_its_cap_is_in_the_cap() -> None:
    assert output_cap({"max_tokens": 100, "thinking_budget": 900}) == 1000
    assert output_cap({"thinking_budget": 900}) is None


# --- what it shows -----------------------------------------------------------------------------------------------


def test_repr_is_the_dashboard() -> None:
    purse = budget(2.5)
    purse.settle(purse.reserve("m", 100, 20))
    open_one = purse.reserve("m", 0, 12)
    purse.reserve("hidden", 1)
    assert repr(purse) == "<Budget $0.3 spent, $0.12 reserved of $2.5, 1 unknown, 1 unpriced>"
    assert repr(open_one) == "<Reservation m $0.12>"
    purse.release(open_one)
    assert repr(open_one) == "<Reservation m $0.12, closed>"


def test_smallest_amount_is_not_shown_as_nothing() -> None:
    purse = Budget(1, prices={"m": Price(input=1e-11, output=0)})
    assert repr(purse.reserve("m", 1, 1)) == "<Reservation m $0.000000001>"


# --- whatever happens --------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["cheap", "dear", "half", "free", "hidden", "other"])
TOKENS = st.integers(0, 2_000)
COSTS = st.none() | st.floats(0, 3) | st.sampled_from([float("nan"), -1.0])
USAGES = st.none() | st.builds(usage, st.integers(0, 3_000), st.integers(0, 3_000))


class Spending(RuleBasedStateMachine):
    """Calls come, go, fail and are settled twice; the cap is passed only by what settled above its reservation."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[Reservation] = []
        self.closed: list[Reservation] = []
        self.excess = 0.0

    @initialize(usd=st.floats(0, 20))
    def start(self, usd: float) -> None:
        prices = {
            "cheap": Price(input=1e-7, output=1e-6),
            "dear": CENT,
            "half": Price(output=0.001),
            "free": Price(input=0, output=0),
        }
        self.budget = Budget(usd, prices=prices, default_output_tokens=100)

    @rule(model=NAMES, taken=TOKENS, cap=st.none() | TOKENS)
    def reserve(self, model: str, taken: int, cap: int | None) -> None:
        before = state(self.budget)
        try:
            self.open.append(self.budget.reserve(model, taken, cap))
        except BudgetExceededError:
            assert state(self.budget) == before
            assert model != "free"
        else:
            assert self.open[-1].usd <= before[2]

    @precondition(lambda self: self.open)
    @rule(data=st.data(), stated=COSTS, used=USAGES)
    def settle(self, data: st.DataObject, stated: float | None, used: Usage | None) -> None:
        reservation = self.take(data)
        spent, unknown = self.budget.spent, self.budget.unknown
        self.budget.settle(reservation, stated, used)
        added = self.budget.spent - spent
        self.excess += max(0.0, added - reservation.usd)
        if stated is not None and stated >= 0:
            assert added == pytest.approx(stated, abs=1e-9)
        if self.budget.unknown > unknown:
            assert added == pytest.approx(reservation.usd, abs=1e-9)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        spent = self.budget.spent
        self.budget.release(self.take(data))
        assert self.budget.spent == spent

    @precondition(lambda self: self.closed)
    @rule(data=st.data(), stated=COSTS, used=USAGES, settles=st.booleans())
    def end_again(self, data: st.DataObject, stated: float | None, used: Usage | None, settles: bool) -> None:
        before = (*state(self.budget), self.budget.unknown)
        reservation = data.draw(st.sampled_from(self.closed))
        if settles:
            self.budget.settle(reservation, stated, used)
        else:
            self.budget.release(reservation)
        assert (*state(self.budget), self.budget.unknown) == before

    def take(self, data: st.DataObject) -> Reservation:
        reservation = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.closed.append(reservation)
        return reservation

    @invariant()
    def cap_holds(self) -> None:
        if hasattr(self, "budget"):
            assert self.budget.spent + self.budget.reserved <= self.budget.usd + self.excess + 1e-6

    @invariant()
    def nothing_is_negative(self) -> None:
        if hasattr(self, "budget"):
            assert min(*state(self.budget), self.budget.unknown, self.budget.calls_unpriced) >= 0
            assert self.budget.reserved == pytest.approx(sum(one.usd for one in self.open), abs=1e-9)


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
