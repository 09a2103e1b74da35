"""Claims about a run: calls are made and told in order, nothing that was done is lost, and every bound is kept."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any, Literal

import anyio
import msgspec
import pytest

from aimlasync import (
    AnswerInvalidError,
    AnswerRefusedError,
    AnswerTruncatedError,
    APIStatusError,
    AsyncClient,
    Budget,
    BudgetExceededError,
    Endpoint,
    InternalServerError,
    Price,
    Retry,
    agents,
)
from aimlasync.simulator import Answer, Call, Problem
from tests.support.scripted import ENDPOINTS, MODEL, calls, scripted, sent, told
from tests.support.servers import LEARNS_NOTHING

pytestmark = pytest.mark.parametrize("endpoint", ENDPOINTS)
PLAIN = "openai/gpt-4.1-nano-2025-04-14"


class Report(msgspec.Struct):
    city: str
    umbrella: bool


async def weather(city: str) -> str:
    """What the weather is like in a city."""
    return f"sunny in {city}"


async def fails(text: str) -> str:
    """Fails."""
    raise LookupError(text)


async def test_a_model_calls_a_tool_and_answers(endpoint: Any) -> None:
    async with scripted(Call.of("weather", city="Rome"), "It is sunny.") as (sim, client):
        run = await agents.run(
            client,
            model=MODEL,
            instructions="Be brief.",
            input="How is Rome?",
            tools=[weather],
            endpoint=endpoint,
        )
    assert (run.output, run.text, run.status) == ("It is sunny.", "It is sunny.", "completed")
    assert (run.turns, run.tool_calls, run.pending) == (2, 1, [])
    assert told(run) == ["sunny in Rome"]
    assert [one.status for one in sim.ledger] == [200, 200]
    first = sim.ledger[0].body
    assert [tool.get("function", tool)["name"] for tool in first["tools"]] == ["weather"]
    for one in sim.ledger:
        said = one.body.get("instructions") or one.body["messages"][0]
        assert said in ("Be brief.", {"role": "system", "content": "Be brief."})


async def test_calls_are_made_side_by_side_and_told_in_order(endpoint: Any) -> None:
    turn = asyncio.Event()
    finished = []

    async def first() -> str:
        await turn.wait()
        finished.append("first")
        return "1"

    async def second() -> str:
        turn.set()
        finished.append("second")
        return "2"

    async with scripted(calls(Call.of("first"), Call.of("second")), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[first, second], endpoint=endpoint)
    assert finished == ["second", "first"]
    assert told(run) == ["1", "2"]


async def test_a_failing_tool_loses_no_sibling_result(endpoint: Any) -> None:
    async def slow(n: int) -> int:
        await asyncio.sleep(0.01)
        return n

    turn = calls(
        Call.of("slow", n=1),
        Call.of("fails", text="no such row"),
        Call.of("slow", n="x"),
        Call("slow", '{"n": '),
        Call.of("nowhere"),
        Call.of("slow", n=2),
    )
    async with scripted(turn, "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[slow, fails], endpoint=endpoint)
    assert run.output == "done"
    one, failed, wrong, broken, unknown, two = told(run)
    assert (one, two) == ("1", "2")
    # What an error says may be for nobody outside, so the model is told only that there was one.
    assert failed == "error: the tool failed; try it another way, or answer without it"
    assert wrong.startswith("error: the arguments of slow are wrong: Expected `int`")
    assert broken.startswith("error: the arguments of slow are wrong: Input data was truncated")
    assert unknown == "error: there is no tool 'nowhere'; the tools are: slow, fails"


async def test_a_tool_says_in_its_own_words_why_it_has_no_result(endpoint: Any) -> None:
    async def look_up(name: str) -> str:
        raise agents.ToolError(f"nobody is called {name}; try a surname")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    made: list[Any] = [look_up, agents.tool(fails, timeout=5), cancelled]
    turn = calls(Call.of("look_up", name="X"), Call.of("cancelled"))
    async with scripted(turn, "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=made, endpoint=endpoint)
    assert told(run) == ["error: nobody is called X; try a surname", "error: it was cancelled"]


async def test_a_tool_that_cancels_its_own_task_has_a_result(endpoint: Any) -> None:
    async def gives_up() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return "never"

    async def other() -> str:
        return "ok"

    seen: list[tuple[str, str]] = []

    def say(call: Any, error: BaseException) -> None:
        seen.append((call.name, type(error).__name__))

    async with scripted(calls(Call.of("gives_up"), Call.of("other")), "done") as (_, client):
        async with agents.stream(
            client, model=MODEL, tools=[gives_up, other], on_tool_error=say, input="go", endpoint=endpoint
        ) as running:
            finished = [event.call.output async for event in running if isinstance(event, agents.ToolFinished)]
    assert (running.run.status, running.run.output, running.run.tool_calls) == ("completed", "done", 2)
    assert told(running.run) == ["error: it was cancelled", "ok"]
    assert set(finished) == {"error: it was cancelled", "ok"}
    assert seen == [("gives_up", "CancelledError")]


async def test_a_result_that_cannot_be_sent_is_made_so_that_it_can(endpoint: Any) -> None:
    class Odd(msgspec.Struct):
        n: int

        def __post_init__(self) -> None:
            raise KeyError("a bug in a type")

    async def half() -> str:
        return "é \ud800"

    async def thing() -> object:
        return object()

    async def odd(n: int) -> None: ...

    odd.__annotations__["n"] = Odd
    turn = calls(Call.of("half"), Call.of("thing"), Call("odd", '{"n": {"n": 1}}'))
    async with scripted(turn, "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[half, thing, odd], endpoint=endpoint)
    text, error, wrong = told(run)
    assert text == "é ?"
    assert error.startswith("error: the tool failed")
    assert wrong.startswith("error: the arguments of odd are wrong")


async def test_a_tool_that_takes_too_long_is_told_so(endpoint: Any) -> None:
    @agents.tool(timeout=0.01)
    async def slow() -> None:
        await anyio.sleep_forever()

    async with scripted(Call.of("slow"), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[slow], endpoint=endpoint)
    assert told(run) == ["error: it took longer than 0.01 s"]


async def test_calls_of_one_turn_keep_to_their_tools_concurrency(endpoint: Any) -> None:
    at_work: list[int] = []
    most = 0

    @agents.tool(concurrency=2)
    async def work(n: int) -> int:
        nonlocal most
        at_work.append(n)
        most = max(most, len(at_work))
        await asyncio.sleep(0)
        at_work.remove(n)
        return n

    turn = calls(*(Call.of("work", n=n) for n in range(6)))
    async with scripted(turn, "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[work], endpoint=endpoint)
    assert told(run) == [str(n) for n in range(6)]
    assert most == 2


async def test_tools_see_a_context_that_the_model_never_sees(endpoint: Any) -> None:
    def read(context: agents.RunContext[dict[str, str]], key: str) -> str:
        assert context.client is client
        assert context.run.turns == 1
        assert context.call.name == "read"
        return context.context[key]

    async with scripted(Call.of("read", key="a"), "done") as (sim, client):
        run = await agents.run(
            client, model=MODEL, input="go", tools=[read], context={"a": "1", "b": "secret"}, endpoint=endpoint
        )
    assert told(run) == ["1"]
    assert "secret" not in str([one.body for one in sim.ledger])


# --- structured answers ---------------------------------------------------------------------------------------------

GOOD = '{"city": "Rome", "umbrella": false}'


@pytest.mark.parametrize(
    "text",
    [GOOD, f"```json\n{GOOD}\n```", f"Here it is:\n```\n{GOOD}\n```\nGood luck!", f"{GOOD} I hope that {{helps}}."],
)
async def test_an_answer_of_a_type_comes_after_tools_and_cheap_damage_is_repaired(endpoint: Any, text: str) -> None:
    async with scripted(Call.of("weather", city="Rome"), text) as (sim, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[weather], output=Report, endpoint=endpoint)
    assert run.output == Report("Rome", False)
    assert len(sim.ledger) == 2
    for one in sim.ledger:
        form = one.body.get("response_format") or one.body["text"]["format"]
        assert form["type"] == "json_schema"


async def test_an_answer_of_another_type_is_asked_for_again_and_all_of_it_is_counted(endpoint: Any) -> None:
    async with scripted('{"city": "Rome"}', GOOD) as (sim, client):
        run = await agents.run(client, model=MODEL, input="go", output=Report, endpoint=endpoint)
    assert run.output == Report("Rome", False)
    assert run.turns == run.usage.requests == 2
    again = sent(sim)[1][-1]
    assert again["role"] == "user"
    assert "not a valid Report" in again["content"]
    assert "missing required field `umbrella`" in again["content"]


async def test_an_answer_that_stays_invalid_is_an_error_with_the_run(endpoint: Any) -> None:
    async with scripted("no JSON here") as (sim, client):
        with pytest.raises(AnswerInvalidError, match="not a Report") as caught:
            await agents.run(client, model=MODEL, input="go", output=Report, endpoint=endpoint, max_repairs=2)
    assert len(sim.ledger) == 3
    assert caught.value.run.usage.requests == 3
    assert caught.value.reply is not None


async def test_other_types_than_structs_are_answers_too(endpoint: Any) -> None:
    async with scripted('{"value": "billing"}') as (_, client):
        run = await agents.run(client, model=MODEL, input="go", output=Literal["billing", "sales"], endpoint=endpoint)
    assert run.output == "billing"


@pytest.mark.parametrize("output", [None, Report])
async def test_a_refusal_and_a_cut_answer_are_errors_with_the_run(endpoint: Any, output: Any) -> None:
    for answer, kind in (
        (Answer(refusal="No."), AnswerRefusedError),
        (Answer(text='{"city": "Ro', finish_reason="length"), AnswerTruncatedError),
        (Answer(text="", finish_reason="content_filter"), AnswerRefusedError),
    ):
        async with scripted(Call.of("weather", city="Rome"), answer) as (_, client):
            with pytest.raises(kind) as caught:
                await agents.run(client, model=MODEL, input="go", tools=[weather], output=output, endpoint=endpoint)
        assert told(caught.value.run) == ["sunny in Rome"]


# --- bounds ---------------------------------------------------------------------------------------------------------


async def test_max_turns_stops_a_run_that_can_be_gone_on_with(endpoint: Any) -> None:
    counted = 0

    async def count() -> int:
        nonlocal counted
        counted += 1
        return counted

    async with scripted(*[Call.of("count")] * 4, "done") as (sim, client):
        agent = agents.Agent(model=MODEL, tools=[count], endpoint=endpoint, max_turns=3)
        with pytest.raises(agents.MaxTurnsExceeded, match="3 turns") as caught:
            await agents.run(client, agent, input="go")
        stopped = caught.value.run
        assert told(stopped) == ["1", "2", "3"]
        assert len(sim.ledger) == 3
        run = await agents.run(client, agent, history=stopped)
    assert run is stopped
    assert run.output == "done"
    assert told(run) == ["1", "2", "3", "4"]


async def test_max_tool_calls_stops_before_the_first_call_too_many(endpoint: Any) -> None:
    made = []

    async def note(n: int) -> None:
        made.append(n)

    turn = calls(*(Call.of("note", n=n) for n in range(3)))
    async with scripted(turn, turn, "done") as (_, client):
        with pytest.raises(agents.MaxToolCallsExceeded) as caught:
            await agents.run(client, model=MODEL, input="go", tools=[note], max_tool_calls=5, endpoint=endpoint)
        stopped = caught.value.run
        assert made == [0, 1, 2]
        assert [call.output for call in stopped.pending] == [None, None, None]
        run = await agents.run(client, history=stopped, tools=[note])
    assert made == [0, 1, 2] * 2
    assert run.output == "done"


async def test_the_same_call_with_the_same_result_is_stopped(endpoint: Any) -> None:
    async with scripted(Call.of("weather", city="Rome")) as (_, client):
        with pytest.raises(agents.RepeatedCallsError, match="weather") as caught:
            await agents.run(client, model=MODEL, input="go", tools=[weather], max_turns=99, endpoint=endpoint)
    results = told(caught.value.run)
    assert results[:3] == ["sunny in Rome"] * 3
    assert len(results) == 5
    assert all("made 3 times with the same arguments" in text or "made 4 times" in text for text in results[3:])


async def test_a_call_whose_result_changes_is_no_repetition(endpoint: Any) -> None:
    left = list(range(8))

    async def poll() -> int:
        return left.pop()

    async with scripted(*[Call.of("poll")] * 8, "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[poll], endpoint=endpoint)
    assert run.output == "done"
    assert told(run)[-1] == "0"


async def test_the_model_may_come_to_its_senses_after_it_was_told_of_its_repetition(endpoint: Any) -> None:
    async with scripted(*[Call.of("weather", city="Rome")] * 4, "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[weather], endpoint=endpoint)
    assert run.output == "done"


async def test_a_budget_stops_a_run_before_the_call_that_would_pass_it(endpoint: Any) -> None:
    prices = {MODEL: Price.per_million(input=1, output=1)}
    async with scripted(*[Call.of("weather", city="Rome")] * 50, client={"budget": Budget(1, prices=prices)}) as (
        sim,
        client,
    ):
        with pytest.raises(BudgetExceededError, match="pass the budget") as caught:
            await agents.run(
                client,
                model=MODEL,
                input="go",
                tools=[weather],
                endpoint=endpoint,
                budget=0.005,
                max_turns=50,
                max_repeats=None,
            )
    run = caught.value.run
    assert run.turns == len(sim.ledger) >= 1
    assert 0 < run.usage.cost_usd <= 0.005


async def test_a_budget_may_be_shared_by_runs(endpoint: Any) -> None:
    budget = Budget(1.0)
    async with scripted("hello") as (_, client):
        runs = [await agents.run(client, model=MODEL, input="go", endpoint=endpoint, budget=budget) for _ in range(2)]
    assert budget.spent == pytest.approx(sum(run.usage.cost_usd or 0 for run in runs))
    assert budget.reserved == 0


async def test_a_budget_reserves_the_output_cap_that_extra_body_sets(endpoint: Any) -> None:
    # Without a cap 4,096 output tokens are reserved: 4 cents of the 1 cent that there is.
    prices = {MODEL: Price(input=0.0, output=0.00001)}
    cap = {"max_completion_tokens": 100} if endpoint == "chat" else {"max_output_tokens": 100}
    async with scripted("hello", client={"budget": Budget(1, prices=prices)}) as (_, client):
        asked: Any = {"model": MODEL, "input": "go", "endpoint": endpoint, "budget": 0.01}
        with pytest.raises(BudgetExceededError):
            await agents.run(client, **asked)
        run = await agents.run(client, **asked, extra_body=cap)
    assert run.output == "hello"


async def test_a_timeout_ends_model_call_and_tools_and_keeps_what_was_done(endpoint: Any) -> None:
    ended = []

    async def forever() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    turn = calls(Call.of("weather", city="Rome"), Call.of("forever"))
    given: dict[str, Any] = {"model": MODEL, "input": "go", "tools": [weather, forever], "endpoint": endpoint}
    timeout = 0.1
    while not ended:
        # Longer on a busy machine, which has to come to the tools first.
        timeout *= 2
        async with scripted(turn, "done") as (_, client):
            with pytest.raises(agents.RunTimeoutError, match=f"{timeout:g} s") as caught:
                await agents.run(client, **given, timeout=timeout)
    assert ended == [True]
    run = caught.value.run
    assert [call.output for call in run.pending] == ["sunny in Rome", None]
    assert run.status == "open"


# --- what it takes --------------------------------------------------------------------------------------------------


async def test_tokens_and_cost_are_summed_over_all_calls(endpoint: Any) -> None:
    async with scripted(Call.of("weather", city="Rome"), "done") as (sim, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[weather], endpoint=endpoint)
    usage = run.usage
    assert (usage.requests, usage.attempts, usage.uncounted, usage.unpriced) == (2, 2, 0, 0)
    assert usage.input_tokens == sum(one.prompt_tokens for one in sim.ledger)
    assert usage.output_tokens == sum(one.completion_tokens for one in sim.ledger)
    assert usage.cost_usd == pytest.approx(sum(one.cost_usd for one in sim.ledger), rel=0.01)


async def test_a_cost_that_nobody_states_is_none(endpoint: Any) -> None:
    async with scripted("done", vendor="openai") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", endpoint=endpoint)
    assert run.usage.input_tokens > 0
    assert run.usage.unpriced == 1
    assert run.usage.cost_usd is None
    assert agents.Usage().cost_usd is None


async def test_retries_are_counted_and_a_call_that_fails_keeps_the_run(endpoint: Any) -> None:
    retry = Retry(attempts=2, base=0.001)
    async with scripted(Call.of("weather", city="Rome"), Problem(500), client={"retry": retry}) as (_, client):
        with pytest.raises(InternalServerError) as caught:
            await agents.run(client, model=MODEL, input="go", tools=[weather], endpoint=endpoint)
    run = caught.value.run
    assert told(run) == ["sunny in Rome"]
    assert (run.usage.requests, run.usage.attempts) == (2, 3)
    # This vendor states that failures are free.
    assert run.usage.cost_usd is not None
    assert pickle.loads(pickle.dumps(caught.value)).run.id == run.id


# --- saved and gone on with -----------------------------------------------------------------------------------------


async def test_a_finished_run_goes_on_with_a_new_input_after_it_was_saved(endpoint: Any) -> None:
    async with scripted(Call.of("weather", city="Rome"), GOOD, GOOD) as (sim, client):
        agent = agents.Agent(model=MODEL, tools=[weather], endpoint=endpoint, output=Report)
        run = await agents.run(client, agent, input="go")
        restored = agents.Run.from_json(run.to_json(), output=Report)
        assert restored == run
        with pytest.raises(ValueError, match="nothing to ask"):
            await agents.run(client, agent, history=restored)
        again = await agents.run(client, agent, history=restored, input="And now?")
    assert again.turns == 3
    assert sent(sim)[2][-1]["content"] == "And now?"
    assert again.usage.requests == 3


async def test_a_call_waits_for_approval_and_its_siblings_do_not(endpoint: Any) -> None:
    made = []

    @agents.tool(approve=True)
    async def delete(name: str) -> str:
        made.append(name)
        return f"{name} is gone"

    turn = calls(Call.of("delete", name="a"), Call.of("weather", city="Rome"), Call.of("delete", name="b"))
    async with scripted(turn, "done") as (sim, client):
        agent = agents.Agent(model=MODEL, tools=[delete, weather], endpoint=endpoint)
        run = await agents.run(client, agent, input="go")
        answer: Any = run.output
        assert (run.status, answer, made) == ("waiting", None, [])
        assert [call.arguments for call in run.waiting] == ['{"name":"a"}', '{"name":"b"}']
        assert run.pending[1].output == "sunny in Rome"

        run = agents.Run.from_json(run.to_json())
        assert (await agents.run(client, agent, history=run)).status == "waiting"
        with pytest.raises(ValueError, match="calls without a result"):
            await agents.run(client, agent, history=run, input="more")
        run.waiting[0].approved = True
        run.pending[2].approved = False
        run = await agents.run(client, agent, history=agents.Run.from_json(run.to_json()))
    assert run.output == "done"
    assert made == ["a"]
    assert told(run) == [
        "a is gone",
        "sunny in Rome",
        "error: this call was not approved; do not make it again",
    ]
    assert len(sim.ledger) == 2


async def test_approval_is_asked_of_the_run_or_of_the_tools_own_and_fails_closed(endpoint: Any) -> None:
    asked = []

    async def yes(call: agents.ToolCall) -> bool:
        asked.append(call.name)
        return True

    async def broken(call: agents.ToolCall) -> bool:
        raise OSError("the desk is closed")

    one = agents.tool(weather, name="one", approve=True)
    two = agents.tool(weather, name="two", approve=broken)
    turn = calls(Call.of("one", city="Rome"), Call.of("two", city="Rome"), Call.of("weather", city="Rome"))
    async with scripted(turn, "done") as (_, client):
        run = await agents.run(
            client, model=MODEL, input="go", tools=[one, two, weather], approve=yes, endpoint=endpoint
        )
    assert asked == ["one"]
    assert told(run)[0] == told(run)[2] == "sunny in Rome"
    assert "not approved" in told(run)[1]


# --- what differs between the endpoints -----------------------------------------------------------------------------


async def test_reasoning_goes_back_only_where_it_is_taken(endpoint: Any) -> None:
    for model, encrypted in ((MODEL, True), (PLAIN, False)):
        async with scripted(Call.of("weather", city="Rome"), "done") as (sim, client):
            run = await agents.run(client, model=model, input="go", tools=[weather], endpoint=endpoint)
        kinds = [item.get("type") for item in run.items]
        assert ("reasoning" in kinds) is (encrypted and endpoint == "responses")
        assert ("include" in sim.ledger[0].body) is (encrypted and endpoint == "responses")
        assert [one.status for one in sim.ledger] == [200, 200]
    async with scripted(Call.of("weather", city="Rome"), "done") as (sim, client):
        extra: Any = {"include": []} if endpoint == "responses" else {}
        run = await agents.run(client, model=MODEL, input="go", tools=[weather], endpoint=endpoint, **extra)
    assert "reasoning" not in [item.get("type") for item in run.items]


async def test_what_the_server_stores_is_not_sent_again(endpoint: Any) -> None:
    async with scripted(Call.of("weather", city="Rome"), Call.of("weather", city="Oslo"), "done") as (sim, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[weather], endpoint=endpoint, store=True)
        assert run.output == "done"
        lengths = [len(items) for items in sent(sim)]
        if endpoint == "chat":
            assert lengths == [1, 3, 5]
            return
        assert lengths == [1, 1, 1]
        assert sim.ledger[1].body["previous_response_id"]
        # A server keeps nothing for ever.
        run = agents.Run.from_json(run.to_json())
        run.response_id = "resp_forgotten"
        sim.ledger.clear()
        again = await agents.run(client, history=run, input="more", tools=[weather], store=True)
    assert again.output == "done"
    assert [one.status for one in sim.ledger] == [400, 200]
    (whole,) = sent(sim)
    assert len(whole) == len(again.items) - 1


async def test_a_tool_choice_holds_until_a_tool_was_called(endpoint: Any) -> None:
    for choice in ("required", "weather"):
        async with scripted(Call.of("weather", city="Rome"), "done") as (sim, client):
            run = await agents.run(
                client, model=MODEL, input="go", tools=[weather], tool_choice=choice, endpoint=endpoint
            )
        assert run.output == "done"
        first, second = (one.body.get("tool_choice") for one in sim.ledger)
        assert first == choice or "weather" in str(first)
        assert second is None


async def test_text_beside_calls_is_kept(endpoint: Any) -> None:
    async with scripted(Answer(text="Let me look.", calls=[Call.of("weather", city="Rome")]), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[weather], endpoint=endpoint)
    assert "Let me look." in [item.get("content") for item in run.items]


async def test_messages_may_be_the_input(endpoint: Any) -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    async with scripted("one", "two") as (sim, client):
        run = await agents.run(client, model=MODEL, input=messages, endpoint=endpoint)
    assert run.output == "two"
    assert len(sent(sim)[0]) == 3


# --- agents and sub-agents ------------------------------------------------------------------------------------------


async def test_an_agent_is_a_tool_of_another_and_what_it_uses_is_counted(endpoint: Any) -> None:
    clerk = agents.Agent(name="clerk", model="clerk", tools=[weather], endpoint=endpoint)
    script = {
        "chief": [Call.of("clerk", task="How is Rome?"), "All is well."],
        "clerk": [Call.of("weather", city="Rome"), "Sunny, sir."],
    }
    async with scripted(script=script) as (sim, client):
        run = await agents.run(
            client,
            model="chief",
            input="go",
            tools=[clerk.as_tool(description="Knows the weather.")],
            endpoint=endpoint,
        )
    assert run.output == "All is well."
    assert told(run) == ["Sunny, sir."]
    assert run.turns == 2
    assert run.usage.requests == run.usage.attempts == len(sim.ledger) == 4
    assert run.usage.input_tokens == sum(one.prompt_tokens for one in sim.ledger)


async def test_a_sub_agent_that_fails_is_a_tool_error_and_counted(endpoint: Any) -> None:
    clerk = agents.Agent(name="clerk", model="clerk", tools=[weather], endpoint=endpoint, max_turns=2)
    script = {"chief": [Call.of("clerk", task="x"), "So be it."], "clerk": [Call.of("weather", city="Rome")]}
    async with scripted(script=script) as (_, client):
        run = await agents.run(
            client, model="chief", input="go", tools=[clerk.as_tool(description="Clerk.")], endpoint=endpoint
        )
    assert told(run) == ["error: MaxTurnsExceeded: no answer within 2 turns"]
    assert run.usage.requests == 4


async def test_agents_that_work_for_each_other_without_end_are_told_to_stop(endpoint: Any) -> None:
    clerk = agents.Agent(name="clerk", model="clerk", endpoint=endpoint)
    clerk.tools["ask"] = ask = clerk.as_tool(name="ask", description="Asks a clerk.")
    # Each run of the clerk asks another one, and answers with what it was told.
    script = {"chief": [Call.of("ask", task="x"), "So be it."], "clerk": [Call.of("ask", task="x"), "No."]}
    async with scripted(script=script) as (sim, client):
        run = await agents.run(client, model="chief", input="go", tools=[ask], endpoint=endpoint)
    assert (run.output, told(run)) == ("So be it.", ["No."])
    assert len(sim.ledger) == 22
    deepest = [result for items in sent(sim) for result in items if "works for another" in str(result)]
    assert "error: clerk would be agent number 11 that works for another" in str(deepest[0])


async def test_of_many_tools_the_nearest_are_named(endpoint: Any) -> None:
    tools: list[Any] = [weather, *(agents.tool(weather, name=f"tool_{number:04}") for number in range(999))]
    async with scripted(Call.of("functions.wether", city="Rome"), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=tools, endpoint=endpoint)
    (said,) = told(run)
    begin = "error: there is no tool 'functions.wether'; of the 1000 tools these are the nearest: weather, tool_0"
    assert said.startswith(begin)
    assert len(said) < 400


async def test_a_deep_copy_of_what_holds_agent_and_client_runs_over_the_same_client(endpoint: Any) -> None:
    desk = agents.Agent(model=MODEL, tools=[weather], output=Report, endpoint=endpoint)
    async with scripted(Call.of("weather", city="Rome"), '{"city":"Rome","umbrella":false}') as (_, client):
        copied = copy.deepcopy({"client": client, "agent": desk})
        run = await agents.run(copied["client"], copied["agent"], input="go")
        assert run.output == Report("Rome", umbrella=False)
        assert client.statistics()[0].answered == 2
        copied["agent"].tools["weather"].timeout = 5
        assert desk.tools["weather"].timeout is None
        with pytest.raises(TypeError, match="a client cannot be pickled: make one in each process that uses it"):
            pickle.dumps(client)


async def test_a_run_is_executed_once_at_a_time(endpoint: Any) -> None:
    paid: list[int] = []

    @agents.tool(approve=True)
    async def pay(amount: int) -> str:
        await asyncio.sleep(0)
        paid.append(amount)
        return "paid"

    async def save(run: agents.Run) -> None:
        saved.append(run.status)

    async with scripted(calls(Call.of("pay", amount=5)), "done") as (_, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[pay], endpoint=endpoint)
        yes = {call.id: True for call in run.waiting}
        saved: list[str] = []
        # Somebody pressed the button twice.
        ends = await asyncio.gather(
            *[agents.run(client, history=run, approvals=yes, tools=[pay], save=save) for _ in range(2)],
            return_exceptions=True,
        )
        assert ends[0] is run
        assert (type(ends[1]), "is under way" in str(ends[1])) == (ValueError, True)
        assert (paid, saved, run.status) == ([5], ["completed"], "completed")
        again = await agents.run(client, history=run, input="and now?", tools=[pay])
        assert again.status == "completed"


async def test_a_tool_that_swallows_its_cancellation_ends_no_later_than_its_run(endpoint: Any) -> None:
    started = asyncio.Event()

    async def stubborn() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "cleaned up"
        return ""

    async with scripted(Call.of("stubborn"), "done") as (sim, client):
        made: dict[str, Any] = {"model": MODEL, "input": "go", "tools": [stubborn], "endpoint": endpoint}
        with pytest.raises(agents.AgentError, match="longer than") as caught:
            await agents.run(client, **made, timeout=0.05)
        # It has a result, so that it is not executed again.
        assert [call.output for call in caught.value.run.pending] == ["cleaned up"]
        started.clear()
        task = asyncio.create_task(agents.run(client, **made))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(sim.ledger) == 2


async def test_what_is_asked_is_a_text_or_messages(endpoint: Any) -> None:
    async with scripted("done") as (_, client):
        given: list[tuple[Any, str]] = [
            ({"role": "user", "content": "x"}, "not dict"),
            (b"x", "not bytes"),
            (5, "not int"),
            (["x"], "not a list of str"),
        ]
        for wrong, said in given:
            with pytest.raises(TypeError, match=f"input= takes a text or a list of messages, {said}"):
                await agents.run(client, model=MODEL, input=wrong, endpoint=endpoint)


async def test_what_decides_and_what_saves_may_be_plain_functions(endpoint: Any) -> None:
    saved: list[str] = []
    tools = [agents.tool(weather, approve=True), agents.tool(fails, approve=lambda call: False)]
    turn = calls(Call.of("weather", city="Rome"), Call.of("fails", text="x"))
    async with scripted(turn, "done") as (_, client):
        run = await agents.run(
            client,
            model=MODEL,
            input="go",
            tools=tools,
            endpoint=endpoint,
            approve=lambda call: "Rome" in call.arguments,
            save=lambda run: saved.append(run.status),
        )
    assert told(run) == ["sunny in Rome", "error: this call was not approved; do not make it again"]
    assert saved == ["completed"]


async def test_misuse_is_said_before_anything_is_sent(endpoint: Any) -> None:
    async with AsyncClient(endpoints=[Endpoint(base_url="http://127.0.0.1:9/v1", api_key="k")]) as client:
        with pytest.raises(ValueError, match="model="):
            await agents.run(client, input="go", endpoint=endpoint)
        with pytest.raises(ValueError, match="input="):
            await agents.run(client, model=MODEL, endpoint=endpoint)
        wrong: Any = agents.Agent(model=MODEL)
        with pytest.raises(TypeError, match="client is an AsyncClient, the first argument, not Agent"):
            await agents.run(wrong, input="go", endpoint=endpoint)
        wrong = "5"
        with pytest.raises(TypeError, match="timeout must be a number, not '5'"):
            await agents.run(client, model=MODEL, input="go", timeout=wrong, endpoint=endpoint)
        with pytest.raises(TypeError, match="fails: timeout must be a number, not '5'"):
            agents.tool(fails, timeout=wrong)
        with pytest.raises(ValueError, match="two tools"):
            await agents.run(client, model=MODEL, input="go", tools=[weather, weather], endpoint=endpoint)
        with pytest.raises(TypeError, match="dict"):
            await agents.run(client, model=MODEL, input="go", output=dict[str, int], endpoint=endpoint)
        nowhere: Any = "telex"
        with pytest.raises(ValueError, match="endpoint must be"):
            await agents.run(client, model=MODEL, input="go", endpoint=nowhere)
        other: Any = "chat" if endpoint == "responses" else "responses"
        with pytest.raises(ValueError, match="history is one of"):
            await agents.run(client, history=agents.Run(model=MODEL, endpoint=other), input="go", endpoint=endpoint)


async def test_an_error_of_the_first_call_carries_the_run_too(endpoint: Any) -> None:
    async with scripted(Problem(400, "no")) as (_, client):
        with pytest.raises(APIStatusError) as caught:
            await agents.run(client, model=MODEL, input="go", endpoint=endpoint)
    assert len(caught.value.run.items) == 1


async def test_a_retry_gets_what_a_script_has_behind_a_problem(endpoint: Any) -> None:
    script = Problem(500), Call.of("weather", city="Rome"), Problem(503), "done"
    options = {"retry": Retry(base=0.001), "limits": LEARNS_NOTHING}
    async with scripted(*script, client=options) as (sim, client):
        run = await agents.run(client, model=MODEL, input="go", tools=[weather], endpoint=endpoint)
    assert run.output == "done"
    assert [one.status for one in sim.ledger] == [500, 200, 503, 200]
