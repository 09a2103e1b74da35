"""Claims about `endpoints.translate`: the same request for another vendor, or the reason why there is none."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync import responses
from aimlasync.chat import types as chat
from aimlasync.chat.types import DeveloperMessage, Message, SystemMessage, UserMessage
from aimlasync.endpoints.providers import AIMLAPI, BYTESPIKE, COMPATIBLE, Api, Model, Provider, refusal
from aimlasync.endpoints.translate import translate
from aimlasync.wire.base import encode, plain

NANO, MINI = "openai/gpt-5-nano-2025-08-07", "openai/gpt-5-mini-2025-08-07"
PRO, OLD_NANO = "openai/gpt-5-pro", "openai/gpt-4.1-nano-2025-04-14"

# A vendor of our own that serves every family, and whose chat takes the older name of the cap alone.
MINE = Provider(
    name="mine",
    models={
        family: Model(
            id=family,
            family=family,
            responses=family != "gpt-5-mini",
            refuses_chat={"max_tokens": "use max_completion_tokens"} if family == "gpt-4.1-nano" else {},
        )
        for family in ("gpt-5-nano", "gpt-5-mini", "gpt-5-pro", "gpt-4.1-nano")
    },
)

ASK = [{"role": "user", "content": "Hello"}]


def translated(
    body: Mapping[str, Any], source: Provider | None, target: Provider, api: Api = "chat"
) -> tuple[dict[str, Any], list[str]]:
    """What becomes of `body`; it is left as it was."""
    before = copy.deepcopy(dict(body))
    found = translate(body, api, source, target)
    assert dict(body) == before
    assert not isinstance(found, str), found
    assert refusal(target, api, found[0]) is None
    return found


def reason(body: Mapping[str, Any], source: Provider | None, target: Provider, api: Api = "chat") -> str:
    """Why it cannot be served there."""
    before = copy.deepcopy(dict(body))
    found = translate(body, api, source, target)
    assert dict(body) == before
    assert isinstance(found, str), found
    return found


# --- nothing to do -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [AIMLAPI, BYTESPIKE, COMPATIBLE])
def test_body_for_its_own_vendor_is_the_same_object(source: Provider) -> None:
    name = source.default_model or "llama-3"
    body = {"model": name, "messages": [{"role": "developer", "content": "x"}], "provider": "openai", "n": 1}
    assert translate(body, "chat", source, source) == (body, [])
    assert translated(body, source, source)[0] is body


def test_body_that_needs_no_change_is_the_same_object() -> None:
    body = {"model": "gpt-5-nano", "messages": ASK, "temperature": 0.3, "max_tokens": 100}
    assert translated(body, None, BYTESPIKE)[0] is body
    assert translated(body, MINE, BYTESPIKE)[0] is body


def test_mapping_that_is_no_dict_becomes_one() -> None:
    body = MappingProxyType({"model": "gpt-5-nano", "messages": ASK})
    assert translate(body, "chat", None, BYTESPIKE) == (dict(body), [])


def test_own_vendor_still_says_what_it_refuses() -> None:
    assert "reasoning_effort" in reason({"model": NANO, "temperature": 1}, AIMLAPI, AIMLAPI)
    assert "client.responses.create" in reason({"model": PRO}, AIMLAPI, AIMLAPI)


# --- the model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [(NANO, "gpt-5-nano"), (MINI, "gpt-5-mini")])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_model_gets_the_name_it_has_there_and_back(one: str, other: str, api: Api) -> None:
    there, notes = translated({"model": one, "stream": True}, AIMLAPI, BYTESPIKE, api)
    assert there == {"model": other, "stream": True}
    assert notes == [f"model {one} is {other} at bytespike"]
    back, notes = translated(there, BYTESPIKE, AIMLAPI, api)
    assert back == {"model": one, "stream": True}
    assert notes == [f"model {other} is {one} at aimlapi"]


def test_family_that_the_target_lacks_is_a_reason() -> None:
    assert reason({"model": OLD_NANO}, AIMLAPI, BYTESPIKE) == "bytespike is not known to serve gpt-4.1-nano"
    assert reason({"model": PRO}, None, BYTESPIKE, "responses") == "bytespike is not known to serve gpt-5-pro"
    assert reason({"model": NANO}, AIMLAPI, COMPATIBLE) == "openai-compatible is not known to serve gpt-5-nano"


def test_model_that_no_table_names_passes_where_its_vendor_is_unknown_or_the_same() -> None:
    for target in (AIMLAPI, BYTESPIKE, COMPATIBLE):
        body = {"model": "llama-3", "messages": ASK, "temperature": 0.5}
        assert translated(body, None, target)[0] is body
        assert translated(body, target, target)[0] is body


def test_model_that_no_table_names_does_not_move() -> None:
    assert reason({"model": "gpt-6"}, BYTESPIKE, AIMLAPI) == "no table tells what gpt-6 is called at aimlapi"


@pytest.mark.parametrize(
    ("there", "here", "apis"),
    [
        ("gpt-5-2", "openai/gpt-5-2", ("chat", "responses")),
        ("gpt-5-4", "openai/gpt-5-4", ("responses",)),
        ("gpt-5-4-nano", "openai/gpt-5.4-nano", ("chat",)),
        ("gpt-5-4-mini", "openai/gpt-5.4-mini", ("chat",)),
        ("gpt-5-4-pro", "openai/gpt-5-4-pro", ("responses",)),
        ("gpt-5-4-pro", "openai/gpt-5.4-pro", ("chat",)),
        ("gpt-5-5", "openai/gpt-5-5", ("chat", "responses")),
    ],
)
def test_siblings_go_from_either_vendor_to_the_other(there: str, here: str, apis: tuple[Api, ...]) -> None:
    for api in apis:
        assert translated({"model": there}, BYTESPIKE, AIMLAPI, api)[0] == {"model": here}
        assert translated({"model": here}, AIMLAPI, BYTESPIKE, api)[0] == {"model": there}
        assert translated({"model": here}, None, BYTESPIKE, api)[0] == {"model": there}


@pytest.mark.parametrize(("alias", "there"), [("openai/gpt-5-nano", "gpt-5-nano"), ("openai/gpt-5-mini", "gpt-5-mini")])
def test_alias_moves_like_the_model_that_it_names(alias: str, there: str) -> None:
    assert translated({"model": alias}, AIMLAPI, BYTESPIKE)[0] == {"model": there}
    assert translated({"model": there}, BYTESPIKE, AIMLAPI)[0] == {"model": f"{alias}-2025-08-07"}


def test_sibling_that_serves_another_endpoint_alone_is_a_reason() -> None:
    found = reason({"model": "gpt-5-4"}, BYTESPIKE, AIMLAPI, "chat")
    assert "openai/gpt-5-4 is not served over chat/completions" in found
    assert "client.responses.create" in found


def test_vendor_without_a_table_is_not_second_guessed() -> None:
    for name in (NANO, "gpt-5-nano", PRO):
        body = {"model": name, "messages": ASK, "temperature": 0, "reasoning_effort": "low", "provider": {"sort": "x"}}
        assert translated(body, None, COMPATIBLE)[0] is body


def test_name_of_unknown_origin_is_found_in_any_table() -> None:
    assert translated({"model": NANO}, None, BYTESPIKE)[0] == {"model": "gpt-5-nano"}
    assert translated({"model": "gpt-5-mini"}, None, AIMLAPI)[0] == {"model": MINI}


def test_alias_that_another_table_names_is_found_there() -> None:
    other = Provider(name="other", models={"x/nano": Model(id="x/nano", family="gpt-5-nano")})
    assert translated({"model": "gpt-5-nano"}, AIMLAPI, other)[0] == {"model": "x/nano"}


def test_name_that_the_target_knows_is_kept() -> None:
    body = {"model": "gpt-5-nano"}
    assert translated(body, AIMLAPI, BYTESPIKE)[0] is body


@pytest.mark.parametrize("model", [None, 7, ["x"], {}])
def test_model_that_is_no_name_is_left_to_the_server(model: Any) -> None:
    body = {"model": model, "messages": ASK}
    assert translated(body, AIMLAPI, BYTESPIKE)[0] is body
    assert translated({"messages": ASK}, AIMLAPI, BYTESPIKE) == ({"messages": ASK}, [])


def test_chat_with_a_model_of_responses_only_is_a_reason() -> None:
    assert "client.responses.create" in reason({"model": "gpt-5-pro", "messages": ASK}, MINE, AIMLAPI)
    assert translated({"model": "gpt-5-pro", "input": "x"}, MINE, AIMLAPI, "responses")[0]["model"] == PRO


def test_responses_with_a_model_of_chat_only_is_a_reason() -> None:
    assert reason({"model": MINI, "input": "x"}, AIMLAPI, MINE, "responses") == (
        "gpt-5-mini at mine is not served over responses"
    )


# --- the output cap ----------------------------------------------------------------------------------------------


def test_cap_takes_the_name_that_the_target_takes() -> None:
    there, notes = translated({"model": NANO, "max_completion_tokens": 500}, AIMLAPI, BYTESPIKE)
    assert there == {"model": "gpt-5-nano", "max_tokens": 500}
    assert notes[-1] == "max_completion_tokens is max_tokens at bytespike"
    there, notes = translated({"model": OLD_NANO, "max_tokens": 500}, AIMLAPI, MINE)
    assert there == {"model": "gpt-4.1-nano", "max_completion_tokens": 500}
    assert notes[-1] == "max_tokens is max_completion_tokens at mine"


def test_cap_whose_name_is_taken_keeps_it() -> None:
    assert translated({"model": "gpt-5-nano", "max_tokens": 500}, BYTESPIKE, AIMLAPI)[0]["max_tokens"] == 500
    assert translated({"model": NANO, "max_tokens": 500}, AIMLAPI, BYTESPIKE)[0]["max_tokens"] == 500


@pytest.mark.parametrize(("new", "old", "left"), [(500, 300, 300), (300, 500, 300), (300, None, 300), (300, "x", "x")])
def test_lower_of_two_caps_holds(new: Any, old: Any, left: Any) -> None:
    body = {"model": NANO, "max_completion_tokens": new, "max_tokens": old}
    assert translated(body, AIMLAPI, BYTESPIKE)[0] == {"model": "gpt-5-nano", "max_tokens": left}


def test_cap_that_the_target_takes_by_neither_name_is_a_reason() -> None:
    refused = {"max_tokens": "leave it out", "max_completion_tokens": "leave it out"}
    other = Provider(name="other", models={"x": Model(id="x", family="gpt-5-nano", refuses_chat=refused)})
    for cap in refused:
        assert reason({"model": NANO, cap: 5}, AIMLAPI, other) == f"x at other does not take {cap}: leave it out"


@pytest.mark.parametrize(("name", "largest"), [(NANO, 8192), (MINI, 16384)])
def test_cap_above_what_the_target_gives_is_a_reason(name: str, largest: int) -> None:
    for cap in ("max_tokens", "max_completion_tokens"):
        assert translated({"model": name, cap: largest}, AIMLAPI, BYTESPIKE)[0]["max_tokens"] == largest
        assert f"up to {largest}, not {largest + 1}" in reason({"model": name, cap: largest + 1}, AIMLAPI, BYTESPIKE)
    body = {"model": name, "input": "x", "max_output_tokens": largest + 1}
    assert f"up to {largest}" in reason(body, AIMLAPI, BYTESPIKE, "responses")


# --- parameters that the target refuses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 1),
        ("temperature", 1.0),
        ("top_p", 1),
        ("frequency_penalty", 0),
        ("presence_penalty", 0.0),
        ("logprobs", False),
        ("logit_bias", {}),
        ("stop", []),
    ],
)
def test_default_that_the_target_refuses_is_left_out_with_a_note(name: str, value: Any) -> None:
    there, notes = translated({"model": "gpt-5-nano", name: value}, BYTESPIKE, AIMLAPI)
    assert there == {"model": NANO}
    assert notes[-1] == f"{name}={value!r} left out: it is the default, and aimlapi does not take it"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("temperature", True),
        ("top_p", 0.5),
        ("frequency_penalty", 0.1),
        ("presence_penalty", False),
        ("logprobs", True),
        ("logit_bias", {"5": 1}),
        ("stop", ["."]),
        ("top_logprobs", 2),
        ("prediction", {"type": "content", "content": "x"}),
    ],
)
def test_value_that_means_something_and_is_refused_is_a_reason(name: str, value: Any) -> None:
    assert f"does not take {name}" in reason({"model": "gpt-5-nano", name: value}, BYTESPIKE, AIMLAPI)


def test_default_that_the_target_takes_is_kept() -> None:
    body = {"model": OLD_NANO, "temperature": 1, "top_p": 1, "n": 1, "presence_penalty": 0}
    assert translated(body, AIMLAPI, MINE)[0] == {**body, "model": "gpt-4.1-nano"}
    assert translated({"model": "gpt-5-nano", "n": 1}, BYTESPIKE, AIMLAPI)[0] == {"model": NANO, "n": 1}


def test_refused_defaults_are_left_out_of_responses_too() -> None:
    body = {"model": "gpt-5-nano", "input": "x", "temperature": 1, "top_p": 1}
    there, notes = translated(body, BYTESPIKE, AIMLAPI, "responses")
    assert there == {"model": NANO, "input": "x"}
    assert len(notes) == 3
    assert "does not take temperature" in reason({**body, "temperature": 0}, BYTESPIKE, AIMLAPI, "responses")


def test_null_is_left_as_it_is() -> None:
    body = {"model": "gpt-5-nano", "temperature": None, "max_completion_tokens": None, "provider": None}
    assert translated(body, BYTESPIKE, AIMLAPI)[0] == {**body, "model": NANO}
    assert translated(body, AIMLAPI, BYTESPIKE)[0] is body


# --- effort and routing ------------------------------------------------------------------------------------------


def test_effort_that_the_target_refuses_is_left_out_with_a_note() -> None:
    there, notes = translated({"model": NANO, "reasoning_effort": "low"}, AIMLAPI, BYTESPIKE)
    assert there == {"model": "gpt-5-nano"}
    assert notes[-1] == "reasoning_effort left out: gpt-5-nano at bytespike does not take it"


def test_effort_that_the_target_takes_is_kept() -> None:
    body = {"model": NANO, "reasoning": {"effort": "low"}, "input": "x"}
    assert translated(body, AIMLAPI, BYTESPIKE, "responses")[0] == {**body, "model": "gpt-5-nano"}
    body = {"model": "gpt-5-nano", "reasoning_effort": "low"}
    assert translated(body, MINE, AIMLAPI)[0] == {**body, "model": NANO}


@pytest.mark.parametrize("family", ["gpt-4.1-nano", "gpt-5-pro"])
def test_effort_that_the_models_page_lacks_is_left_out_where_the_request_comes_from_elsewhere(family: str) -> None:
    name = OLD_NANO if family == "gpt-4.1-nano" else PRO
    body = {"model": family, "input": "x", "reasoning": {"effort": "high"}}
    assert translated(body, MINE, AIMLAPI, "responses")[0] == {"model": name, "input": "x"}
    body["model"] = name
    assert translated(body, None, AIMLAPI, "responses")[0] is body


def test_routing_means_nothing_at_another_vendor() -> None:
    body = {"model": "gpt-5-nano", "messages": ASK, "provider": "openai"}
    for source, target in ((AIMLAPI, BYTESPIKE), (None, BYTESPIKE), (MINE, BYTESPIKE), (AIMLAPI, MINE)):
        there, notes = translated(body, source, target)
        assert there == {"model": "gpt-5-nano", "messages": ASK}
        assert len(notes) == 1
        assert notes[0].startswith("provider left out")
    assert translated({**body, "model": NANO}, None, AIMLAPI)[0]["provider"] == "openai"
    assert translated(body, None, COMPATIBLE)[0] is body


# --- roles -------------------------------------------------------------------------------------------------------


def test_developer_speaks_as_system_where_there_is_no_such_role() -> None:
    messages: list[Any] = [
        {"role": "developer", "content": "Be brief.", "name": "a"},
        DeveloperMessage(content="Be kind.", name="b"),
        Message(role="developer", content="Be true."),
        UserMessage(content="Hello"),
        *ASK,
    ]
    there, notes = translated({"model": NANO, "messages": messages}, AIMLAPI, BYTESPIKE)
    assert there["messages"][:3] == [
        {"role": "system", "content": "Be brief.", "name": "a"},
        SystemMessage(content="Be kind.", name="b"),
        Message(role="system", content="Be true."),
    ]
    assert all(one is other for one, other in zip(there["messages"][3:], messages[3:], strict=True))
    assert notes[-1] == "3 developer messages sent as system: bytespike has no such role"
    assert [message["role"] for message in plain(encode(there))["messages"]] == ["system"] * 3 + ["user"] * 2


def test_one_message_is_one_message() -> None:
    body = {"model": "gpt-5-nano", "messages": ({"role": "developer", "content": "x"},)}
    there, notes = translated(body, None, BYTESPIKE)
    assert there["messages"] == [{"role": "system", "content": "x"}]
    assert notes == ["1 developer message sent as system: bytespike has no such role"]


def test_roles_that_the_target_has_are_kept() -> None:
    messages = [{"role": role, "content": "x"} for role in ("system", "user", "assistant", "tool")]
    assert translated({"model": NANO, "messages": messages}, AIMLAPI, BYTESPIKE)[0]["messages"] is messages
    messages = [{"role": "developer", "content": "x"}]
    assert translated({"model": "gpt-5-nano", "messages": messages}, BYTESPIKE, AIMLAPI)[0]["messages"] is messages


def test_roles_of_responses_are_kept() -> None:
    items = [{"role": "developer", "content": "x"}]
    body = {"model": "gpt-5-nano", "input": items, "messages": items}
    assert translated(body, None, BYTESPIKE, "responses")[0] is body


@pytest.mark.parametrize("messages", [None, "Hello", 7, {}, [7, None, "x"], [{}], [{"role": ["developer"]}]], ids=repr)
def test_messages_that_are_none_are_left_to_the_server(messages: Any) -> None:
    body = {"model": "gpt-5-nano", "messages": messages}
    assert translated(body, None, BYTESPIKE)[0] is body


def test_iterator_of_messages_is_not_emptied() -> None:
    messages = iter([{"role": "developer", "content": "x"}])
    found = translate({"model": NANO, "messages": messages}, "chat", AIMLAPI, BYTESPIKE)
    assert not isinstance(found, str)
    assert len(list(found[0]["messages"])) == 1


# --- what one vendor keeps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"), [("previous_response_id", "resp_1"), ("conversation", "conv_1"), ("prompt", {"id": "p"})]
)
def test_request_that_names_what_its_vendor_keeps_does_not_move(name: str, value: Any) -> None:
    body = {"model": NANO, "input": "x", name: value}
    assert reason(body, AIMLAPI, BYTESPIKE, "responses") == f"{name} names what only aimlapi keeps"
    assert translated(body, AIMLAPI, AIMLAPI, "responses")[0] is body
    assert translated({**body, name: None}, AIMLAPI, BYTESPIKE, "responses")[0]["model"] == "gpt-5-nano"


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "..."},
        responses.ReasoningItem(id="rs_1", encrypted_content="..."),
    ],
    ids=["reference", "dict", "struct"],
)
def test_input_that_only_its_vendor_can_read_does_not_move(item: Any) -> None:
    body = {"model": NANO, "input": [{"role": "user", "content": "x"}, item]}
    assert "only aimlapi" in reason(body, AIMLAPI, BYTESPIKE, "responses")
    assert translated(body, AIMLAPI, AIMLAPI, "responses")[0] is body


def test_input_that_anybody_can_read_moves_unchanged() -> None:
    items = [
        {"role": "user", "content": "x"},
        responses.ReasoningItem(id="rs_1"),
        responses.FunctionCall(call_id="c", name="f", arguments="{}"),
        responses.FunctionCallOutput(call_id="c", output="1"),
    ]
    assert translated({"model": NANO, "input": items}, AIMLAPI, BYTESPIKE, "responses")[0]["input"] is items


# --- any request -------------------------------------------------------------------------------------------------

VALUE = st.none() | st.sampled_from([0, 1, 1.0, True, False, 20, 9_000, "low", "auto", []]) | st.just({"effort": "low"})
PROVIDERS = st.sampled_from([AIMLAPI, BYTESPIKE, COMPATIBLE, MINE])
MODELS = st.sampled_from([NANO, MINI, PRO, OLD_NANO, "gpt-5-nano", "gpt-5-mini", "gpt-5-pro", "gpt-5-4", None])
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["developer", "system", "user"])}), max_size=3)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(chat.PARAMETERS | responses.PARAMETERS)), VALUE, max_size=6),
    MODELS,
    MESSAGES,
    st.sampled_from(["chat", "responses"]),
    st.none() | PROVIDERS,
    PROVIDERS,
)
def test_what_comes_out_is_taken_noted_and_final(
    params: dict[str, Any],
    model: str | None,
    messages: list[dict[str, Any]],
    api: Api,
    source: Provider | None,
    target: Provider,
) -> None:
    body = {"model": model, "messages": messages, **params}
    before = copy.deepcopy(body)
    found = translate(body, api, source, target)
    assert body == before
    if isinstance(found, str):
        assert found
        return
    there, notes = found
    assert refusal(target, api, there) is None
    assert (there is body) is (not notes) is (there == body)
    assert there.keys() <= body.keys() | {"max_tokens", "max_completion_tokens"}
    again = translate(there, api, target, target)
    assert again == (there, [])
    once_more = translate(there, api, source, target)
    assert once_more == (there, [])
