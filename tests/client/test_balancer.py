"""Claims about `client.balancer`: where calls go, which key they carry, and who may see it."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aimlasync.admission.outcome import Outcome
from aimlasync.client.balancer import Balancer
from aimlasync.client.call import Call
from aimlasync.config import Limits, Timeout
from aimlasync.endpoints.endpoint import Endpoint, default_endpoints
from aimlasync.endpoints.keys import Secret
from aimlasync.endpoints.providers import AIMLAPI, BYTESPIKE, COMPATIBLE, Api
from aimlasync.endpoints.upstream import Upstream
from aimlasync.endpoints.urls import is_loopback
from aimlasync.errors import (
    AimlasyncError,
    APIConnectionError,
    BadRequestError,
    InternalServerError,
    OverloadedError,
    RateLimitError,
    UnsupportedRequestError,
)
from aimlasync.headers import Headers
from aimlasync.info import Info
from aimlasync.resilience.retry import Retry
from aimlasync.wire.base import encode
from tests.support.virtual import run

KEY = "0f3a9c55d1e24b7788aa66cc33ee1100"
VARIABLES = ("AIML_API_KEY", "AIMLAPI_API_KEY", "BYTESPIKE_API_KEY", "AIML_API_URL")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def upstream(base_url: str = "https://api.aimlapi.com/v1", **options: Any) -> Upstream:
    return Upstream(Endpoint(base_url=base_url, api_key=KEY, **options), Limits())


# --- base URLs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "chat"),
    [
        ("https://llm.example", "https://llm.example/v1/chat/completions"),
        ("https://llm.example/", "https://llm.example/v1/chat/completions"),
        ("https://llm.example/v1", "https://llm.example/v1/chat/completions"),
        ("https://llm.example/v1/", "https://llm.example/v1/chat/completions"),
        ("https://llm.example/v1//", "https://llm.example/v1/chat/completions"),
        ("https://llm.example/v2", "https://llm.example/v2/chat/completions"),
        ("  https://llm.example/v1\n", "https://llm.example/v1/chat/completions"),
        ("https://llm.example:8443", "https://llm.example:8443/v1/chat/completions"),
        ("https://llm.example/v1/chat/completions", "https://llm.example/v1/chat/completions"),
        ("https://llm.example/chat/completions", "https://llm.example/v1/chat/completions"),
        ("https://llm.example/v1/chat/completions/", "https://llm.example/v1/chat/completions"),
        ("https://llm.example/v1/responses", "https://llm.example/v1/chat/completions"),
        ("https://llm.example/v1/models", "https://llm.example/v1/chat/completions"),
        ("https://llm.example/openai", "https://llm.example/openai/chat/completions"),
        ("https://llm.example/gate/v1", "https://llm.example/gate/v1/chat/completions"),
        ("https://llm.example/gate/v1beta", "https://llm.example/gate/v1beta/chat/completions"),
    ],
)
def test_chat_url_is_joined_from_any_usual_base(given: str, chat: str) -> None:
    made = upstream(given)
    assert made.urls["chat"] == chat
    assert made.urls["responses"] == chat.removesuffix("chat/completions") + "responses"


@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/", "/v2", "/v1/chat/completions", "/chat/completions"])
def test_aimlapi_serves_all_but_chat_from_its_own_roots(base: str) -> None:
    made = upstream(f"https://api.aimlapi.com{base}")
    version = "v2" if base == "/v2" else "v1"
    assert made.urls["chat"] == f"https://api.aimlapi.com/{version}/chat/completions"
    assert made.urls["responses"] == "https://api.aimlapi.com/v1/responses"
    assert made.path_url(AIMLAPI.models_path) == "https://api.aimlapi.com/v1/models"
    assert AIMLAPI.model_path is not None
    assert AIMLAPI.balance_path is not None
    assert made.path_url(AIMLAPI.model_path, id="openai/gpt-5-pro") == "https://api.aimlapi.com/model/openai/gpt-5-pro"
    assert made.path_url(AIMLAPI.balance_path) == "https://api.aimlapi.com/v2/billing"


def test_vendor_behind_a_prefix_keeps_the_prefix() -> None:
    made = upstream("https://gate.example/aimlapi/v1", provider=AIMLAPI)
    assert made.urls["responses"] == "https://gate.example/aimlapi/v1/responses"
    assert made.path_url("/v2/billing") == "https://gate.example/aimlapi/v2/billing"


@pytest.mark.parametrize("base", ["", "/v1", "/v1/"])
def test_bytespike_serves_from_its_roots(base: str) -> None:
    made = upstream(f"https://llm.bytespike.ai{base}")
    assert made.urls["chat"] == "https://llm.bytespike.ai/v1/chat/completions"
    assert made.urls["responses"] == "https://llm.bytespike.ai/v1/responses"
    assert made.path_url(BYTESPIKE.models_path) == "https://llm.bytespike.ai/v1/models"
    assert BYTESPIKE.balance_path is not None
    assert made.path_url(BYTESPIKE.balance_path) == "https://llm.bytespike.ai/api/v1/me/account"


def test_model_id_in_a_path_keeps_its_slashes_and_nothing_else() -> None:
    made = upstream("https://llm.example/v1")
    assert made.path_url("models/{id}", id="a/b c?d#e") == "https://llm.example/v1/models/a/b%20c%3Fd%23e"


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.aimlapi.com/v2", AIMLAPI),
        ("https://API.AIMLAPI.COM", AIMLAPI),
        ("https://llm.bytespike.ai", BYTESPIKE),
        ("https://api.openai.com/v1", COMPATIBLE),
        ("https://api.aimlapi.com.evil.example/v1", COMPATIBLE),
    ],
)
def test_vendor_is_known_by_its_host_alone(url: str, provider: Any) -> None:
    assert Endpoint(base_url=url, api_key=KEY).provider is provider


def test_endpoint_is_named_after_its_vendor_or_its_host() -> None:
    assert upstream().endpoint.name == "aimlapi"
    assert upstream("https://llm.example:8443/v1").endpoint.name == "llm.example:8443"
    assert upstream(name="mine").endpoint.name == "mine"


@pytest.mark.parametrize(
    "url",
    [
        "https://user:password@llm.example/v1",
        "https://user@llm.example/v1",
        "https://llm.example/v1?api-version=1",
        "https://llm.example/v1#top",
    ],
)
def test_url_with_a_user_a_query_or_a_fragment_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="must not carry") as caught:
        Endpoint(base_url=url, api_key=KEY)
    assert "password@" not in str(caught.value)
    assert "api-version" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "llm.example/v1", "//llm.example", "ftp://llm.example", "https://", "https:///v1"])
def test_what_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base_url must be"):
        Endpoint(base_url=url, api_key=KEY)


def test_password_of_an_unusable_url_is_not_shown() -> None:
    with pytest.raises(ValueError, match="base_url must be") as caught:
        Endpoint(base_url="ftp://user:hunter2@llm.example/v1?token=tok3n", api_key=KEY)
    assert "hunter2" not in str(caught.value)
    assert "tok3n" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://llm.example/v1", "http://10.0.0.7:8000", "http://127.0.0.1.evil.example/v1"])
def test_unencrypted_url_is_refused_unless_allowed(url: str) -> None:
    with pytest.raises(ValueError, match="allow_http=True"):
        Endpoint(base_url=url, api_key=KEY)
    assert Endpoint(base_url=url, api_key=KEY, allow_http=True).base_url.startswith("http://")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.8.9.1", "[::1]:8000"])
def test_unencrypted_loopback_is_allowed(host: str) -> None:
    assert upstream(f"http://{host}").urls["chat"].endswith("/v1/chat/completions")


@pytest.mark.parametrize("host", ["", "localhost.evil.example", "0.0.0.0", "10.0.0.1", "::", "loopback", "127.1"])
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


# --- keys --------------------------------------------------------------------------------------------------------


def test_key_is_stripped_and_sent_as_bearer_alone() -> None:
    made = Upstream(Endpoint(base_url="https://llm.example", api_key=f" {KEY}\n"), Limits())
    assert made.headers["Authorization"] == f"Bearer {KEY}"
    assert not {"x-api-key", "api-key"} & {name.lower() for name in made.headers}


@pytest.mark.parametrize("key", [None, "", "  "])
def test_no_key_sends_no_authorization(key: str | None) -> None:
    made = Upstream(Endpoint(base_url="http://localhost:8000", api_key=key), Limits())
    assert "Authorization" not in made.headers
    assert not made.secrets


@pytest.mark.parametrize(
    "key", ["ab\r\nX-Evil: 1", "ab\x00cd", "ab cd", "ab\x7f", "schl\u00fcssel", "\u201cabc\u201d", "a\tb"]
)
def test_key_that_no_header_may_carry_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        Endpoint(base_url="https://llm.example", api_key=key)
    assert key not in "".join(traceback.format_exception(caught.value))


def holders() -> list[Any]:
    endpoint = Endpoint.aimlapi(api_key=KEY, headers={"X-Limiter": "tok3n"})
    pool = Balancer([endpoint], Limits())
    return [Secret(KEY), endpoint, pool.upstreams[0], pool.upstreams[0].headers, endpoint.headers, pool]


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format, lambda x: f"{[x]}", lambda x: str({"k": x})])
def test_key_is_in_no_text_of_what_holds_it(index: int, show: Callable[[Any], str]) -> None:
    shown = show(holders()[index])
    assert KEY not in shown
    assert "tok3n" not in shown


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize(
    "take", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, msgspec.json.encode, encode, vars]
)
def test_key_cannot_be_pickled_copied_dumped_or_listed(index: int, take: Callable[[Any], Any]) -> None:
    holder = holders()[index]
    if take is copy.copy and index:
        # A shallow copy shares the secret; it does not copy it.
        assert KEY not in repr(take(holder))
        return
    with pytest.raises((TypeError, pickle.PicklingError)) as caught:
        take(holder)
    assert KEY not in str(caught.value)


def test_key_is_revealed_only_when_asked() -> None:
    assert Secret(KEY).reveal() == KEY
    assert repr(Secret(KEY)) == "<secret>"


def test_headers_show_their_names_alone() -> None:
    assert repr(Headers({"Authorization": KEY, "Accept": "x"})) == "<headers Authorization, Accept>"


# --- the environment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AIML_API_KEY", "AIMLAPI_API_KEY"])
def test_key_of_aimlapi_is_read_under_both_its_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, f" {KEY} ")
    (endpoint,) = default_endpoints(None, None, allow_http=False)
    assert (endpoint.provider, endpoint.base_url) == (AIMLAPI, "https://api.aimlapi.com/v1")
    assert endpoint.api_key is not None
    assert endpoint.api_key.reveal() == KEY


def test_first_name_wins_and_a_blank_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMLAPI_API_KEY", "second")
    monkeypatch.setenv("AIML_API_KEY", "first")
    assert Endpoint.aimlapi().api_key is not None
    assert Endpoint.aimlapi().api_key.reveal() == "first"  # type: ignore[union-attr]
    monkeypatch.setenv("AIML_API_KEY", "  ")
    assert Endpoint.aimlapi().api_key.reveal() == "second"  # type: ignore[union-attr]


def test_bytespike_is_used_when_only_its_key_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYTESPIKE_API_KEY", "sk-byts-1")
    (endpoint,) = default_endpoints(None, None, allow_http=False)
    assert (endpoint.provider, endpoint.base_url) == (BYTESPIKE, "https://llm.bytespike.ai/v1")


def test_aimlapi_comes_first_when_both_keys_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYTESPIKE_API_KEY", "sk-byts-1")
    monkeypatch.setenv("AIML_API_KEY", KEY)
    (endpoint,) = default_endpoints(None, None, allow_http=False)
    assert endpoint.provider is AIMLAPI


def test_error_without_any_key_names_both_variables() -> None:
    with pytest.raises(AimlasyncError, match=r"AIML_API_KEY.*BYTESPIKE_API_KEY"):
        default_endpoints(None, None, allow_http=False)


@pytest.mark.parametrize(
    ("make", "name"), [(Endpoint.aimlapi, "AIML_API_KEY"), (Endpoint.bytespike, "BYTESPIKE_API_KEY")]
)
def test_vendor_without_a_key_is_an_error_that_names_its_variable(make: Callable[[], Endpoint], name: str) -> None:
    with pytest.raises(AimlasyncError, match=name):
        make()


def test_vendors_own_url_without_a_key_is_an_error_that_names_its_variable() -> None:
    with pytest.raises(AimlasyncError, match="BYTESPIKE_API_KEY"):
        default_endpoints(None, "https://llm.bytespike.ai/v1", allow_http=False)


def test_other_server_needs_no_key() -> None:
    (endpoint,) = default_endpoints(None, "http://localhost:8000", allow_http=False)
    assert (endpoint.provider, endpoint.api_key) == (COMPATIBLE, None)


@pytest.mark.parametrize(("key", "provider"), [("sk-byts-abc", BYTESPIKE), (KEY, AIMLAPI), ("sk-abc", AIMLAPI)])
def test_given_key_chooses_the_vendor_by_its_prefix(key: str, provider: Any) -> None:
    (endpoint,) = default_endpoints(key, None, allow_http=False)
    assert endpoint.provider is provider


def test_given_key_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIML_API_KEY", "environment")
    (endpoint,) = default_endpoints(KEY, None, allow_http=False)
    assert endpoint.api_key is not None
    assert endpoint.api_key.reveal() == KEY


def test_key_of_one_vendor_never_goes_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIML_API_KEY", KEY)
    with pytest.raises(AimlasyncError, match="BYTESPIKE_API_KEY"):
        default_endpoints(None, "https://llm.bytespike.ai/v1", allow_http=False)


def test_url_of_aimlapi_may_come_from_the_environment_and_an_argument_beats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIML_API_URL", "https://gate.example/aimlapi/v1")
    (endpoint,) = default_endpoints(KEY, None, allow_http=False)
    assert (endpoint.base_url, endpoint.provider) == ("https://gate.example/aimlapi/v1", AIMLAPI)
    (endpoint,) = default_endpoints(KEY, "https://other.example", allow_http=False)
    assert endpoint.base_url == "https://other.example/v1"
    assert Endpoint.aimlapi(api_key=KEY, base_url="https://api.aimlapi.com").base_url == "https://api.aimlapi.com/v1"
    assert Endpoint.bytespike(api_key=KEY).base_url == "https://llm.bytespike.ai/v1"


FOREIGN = ["https://gate.example/v1", "https://api.aimlapi.com.evil.example", "https://evil.example/api.aimlapi.com"]
HOME = ["https://api.aimlapi.com", "https://API.aimlapi.com:443/v2", "http://localhost:8000", "http://127.0.0.1:1/v1"]


@pytest.mark.parametrize("url", FOREIGN)
def test_key_from_the_environment_goes_to_no_other_host(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIML_API_KEY", KEY)
    monkeypatch.setenv("BYTESPIKE_API_KEY", KEY)
    (endpoint,) = default_endpoints(None, url, allow_http=False)
    assert endpoint.api_key is None
    assert endpoint.without_key.startswith("the key in AIML_API_KEY goes to api.aimlapi.com and this machine only: ")
    for make, name in ((Endpoint.aimlapi, "AIML_API_KEY"), (Endpoint.bytespike, "BYTESPIKE_API_KEY")):
        with pytest.raises(
            AimlasyncError, match=f"{name} goes to .* pass api_key=, or set {name[:-3]}URL beside it"
        ) as e:
            make(base_url=url)
        assert KEY not in str(e.value)
        assert make(base_url=url, api_key="given").api_key is not None


@pytest.mark.parametrize("url", HOME)
def test_key_from_the_environment_goes_to_its_vendor_and_to_this_machine(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIML_API_KEY", KEY)
    (endpoint,) = default_endpoints(None, url, allow_http=False)
    for made in (endpoint, Endpoint.aimlapi(base_url=url)):
        assert made.api_key is not None
        assert made.api_key.reveal() == KEY


def test_key_goes_where_the_variable_beside_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIML_API_KEY", KEY)
    monkeypatch.setenv("AIML_API_URL", "https://gate.example/aimlapi/v1")
    for made in (
        *default_endpoints(None, None, allow_http=False),
        *default_endpoints(None, "https://gate.example/v2", allow_http=False),
        Endpoint.aimlapi(base_url="https://gate.example"),
    ):
        assert made.api_key is not None
    assert default_endpoints(None, "https://gate.example:8443", allow_http=False)[0].api_key is None


def test_variable_of_the_key_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIML_API_KEY", "vendors")
    monkeypatch.setenv("GATE_KEY", f" {KEY}\n")
    for url in (None, "https://gate.example/v1", "https://api.aimlapi.com"):
        (endpoint,) = default_endpoints(None, url, allow_http=False, key_variable="GATE_KEY")
        assert endpoint.api_key is not None
        assert endpoint.api_key.reveal() == KEY
    for name in ("NO_KEY", KEY, ""):
        with pytest.raises(AimlasyncError, match="environment variable") as caught:
            default_endpoints(None, None, allow_http=False, key_variable=name)
        assert KEY not in str(caught.value)


def test_url_from_the_environment_is_checked_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIML_API_URL", "http://gate.example/v1")
    with pytest.raises(ValueError, match="not encrypted"):
        Endpoint.aimlapi(api_key=KEY)
    monkeypatch.setenv("AIML_API_URL", "")
    assert Endpoint.aimlapi(api_key=KEY).base_url == "https://api.aimlapi.com/v1"


# --- upstreams -------------------------------------------------------------------------------------------------------


def test_endpoints_limits_beat_the_clients() -> None:
    mine = Endpoint.aimlapi(api_key=KEY, limits=Limits(concurrency=3))
    assert Upstream(mine, Limits(concurrency=9)).limiter.limit == 3
    assert Upstream(Endpoint.aimlapi(api_key=KEY), Limits(concurrency=9)).limiter.limit == 9
    assert Upstream(Endpoint.aimlapi(api_key=KEY), Limits()).limiter.limit >= 1


def test_endpoints_headers_are_sent() -> None:
    made = upstream(headers={"X-Limiter": "1", "User-Agent": "mine"})
    assert (made.headers["X-Limiter"], made.headers["User-Agent"]) == ("1", "mine")


def test_pool_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Balancer([], Limits())


HELLO: dict[str, Any] = {"model": "m", "messages": []}


def pool(*limits: int, **options: Any) -> Balancer:
    return Balancer(
        [
            Endpoint(base_url=f"https://{n}.example", api_key=KEY, limits=Limits(concurrency=limit))
            for n, limit in enumerate(limits)
        ],
        Limits(),
        **options,
    )


def call_for(of: Balancer, *upstreams: int, **options: Any) -> Call:
    info = Info(model="m")
    targets = of.targets("chat", HELLO, info, validate=True)
    options = {"timeout": Timeout(total=9), "started": asyncio.get_running_loop().time(), **options}
    retry = Retry(max_retry_after=options.pop("max_retry_after", 60.0))
    chosen = tuple(targets[n] for n in upstreams) or targets
    return Call(method="POST", targets=chosen, headers=Headers(), info=info, retry=retry, **options)


async def take(of: Balancer, count: int, **options: Any) -> list[int]:
    return [of.upstreams.index((await of.admit(call_for(of, **options))).target.upstream) for _ in range(count)]


async def test_least_loaded_lane_is_chosen() -> None:
    assert await take(pool(5, 5, 5), 6) == [0, 1, 2, 0, 1, 2]


async def test_load_is_the_share_of_the_limit_in_use() -> None:
    assert await take(pool(1, 3), 4) == [1, 1, 0, 1]
    assert sorted(await take(pool(2, 8), 5)) == [0, 1, 1, 1, 1]


async def test_the_faster_endpoint_is_chosen() -> None:
    both = pool(9, 9)
    both.upstreams[0].lane("m").circuit.succeeded(0.0, 2.0)
    both.upstreams[1].lane("m").circuit.succeeded(0.0, 0.1)
    assert await take(both, 5) == [1] * 5


class Slow:
    """A learned rate of one attempt in two seconds."""

    def delay(self, now: float) -> float:
        return 0.0

    def expected_wait(self, now: float, ahead: int) -> float:
        return 2.0 * ahead + 2.0

    def sent(self, now: float) -> None:
        pass


@pytest.mark.parametrize("of_account", [True, False])
async def test_an_endpoint_whose_rate_would_hold_a_call_is_not_chosen(of_account: bool) -> None:
    both = pool(99, 9)
    first = both.upstreams[0]
    first.lane("m").circuit.succeeded(0.0, 0.1)
    both.upstreams[1].lane("m").circuit.succeeded(0.0, 1.0)
    (first.limiter if of_account else first.lane("m").limiter).learned_rate = Slow()
    assert await take(both, 5) == [1] * 5


async def test_an_endpoint_that_failed_this_call_is_the_last_choice() -> None:
    both = pool(9, 9)
    call = call_for(both)
    call.tried |= {both.upstreams[0]}
    assert (await both.admit(call)).target.upstream is both.upstreams[1]
    call.tried |= {both.upstreams[1]}
    assert (await both.admit(call)).target.upstream is both.upstreams[0]


async def test_an_endpoint_that_left_the_rotation_is_not_chosen_and_the_last_one_says_why() -> None:
    both = pool(9, 9)
    both.upstreams[0].retire("key revoked")
    assert await take(both, 3) == [1, 1, 1]
    both.upstreams[1].retire("no credit")
    with pytest.raises(APIConnectionError, match=r"key revoked.*no credit"):
        await both.admit(call_for(both))


async def test_an_endpoint_that_keeps_failing_rests_and_is_probed_once() -> None:
    both = pool(9, 9)
    now = asyncio.get_running_loop().time()
    for _ in range(6):
        both.upstreams[0].circuit.failed(now, 0.1)
    assert await take(both, 4) == [1] * 4


async def test_calls_of_one_conversation_stay_together() -> None:
    three = pool(999, 999, 999)
    places = [set(await take(three, 5, affinity=f"talk-{n}")) for n in range(60)]
    assert all(len(place) == 1 for place in places)
    assert len(set().union(*places)) == 3


async def test_of_paused_endpoints_the_one_whose_pause_ends_first_is_chosen() -> None:
    both, now = pool(9, 9), asyncio.get_running_loop().time()
    both.upstreams[0].lane("m").circuit.succeeded(now, 0.1)
    both.upstreams[1].lane("m").circuit.succeeded(now, 2.0)
    both.upstreams[0].limiter.pause(now + 22.0)
    both.upstreams[1].limiter.pause(now + 0.05)
    assert await take(both, 1) == [1]


async def test_a_paused_endpoint_is_passed_over() -> None:
    both = pool(9, 9)
    both.upstreams[0].limiter.pause(asyncio.get_running_loop().time() + 30)
    assert await take(both, 3) == [1, 1, 1]


async def test_a_pause_longer_than_the_call_has_time_for_fails_at_once() -> None:
    one = pool(9)
    one.upstreams[0].limiter.pause(asyncio.get_running_loop().time() + 30)
    with pytest.raises(OverloadedError) as caught:
        await one.admit(call_for(one))
    assert caught.value.retry_after is not None
    assert 9 < caught.value.retry_after <= 30


def told(seconds: float, *, by: int = 429, vendor: Any = COMPATIBLE, max_retry_after: float = 60.0) -> float:
    """For how long an endpoint stands still after one of its callers was told to wait."""

    async def main() -> float:
        of = Balancer([Endpoint(base_url="https://one.example", api_key=KEY, provider=vendor)], Limits())
        attempt = await of.admit(call_for(of, max_retry_after=max_retry_after))
        now = asyncio.get_running_loop().time()
        error = RateLimitError if by == 429 else InternalServerError
        attempt.fail(error("busy", status=by, retry_after=seconds))
        return of.upstreams[0].limiter.paused_until - now

    return run(main())


@pytest.mark.parametrize("by", [429, 503])
@pytest.mark.parametrize("seconds", [0.25, 3, 60])
def test_a_stated_wait_is_everybodys_and_is_kept_in_full(by: int, seconds: float) -> None:
    assert 1.1 * seconds <= told(seconds, by=by) <= 1.25 * seconds


def test_a_stated_wait_is_kept_in_full_as_far_as_the_policy_allows() -> None:
    assert 110 <= told(100, max_retry_after=300) <= 125
    assert 44 <= told(40, max_retry_after=5) <= 50
    # Beyond that the endpoint is asked again after as long as the policy allows, and at least a minute.
    assert 330 <= told(3000, max_retry_after=300) <= 375
    assert 66 <= told(3000, max_retry_after=5) <= 75


def test_an_endpoint_goes_on_within_a_wait_that_is_not_meant_for_all() -> None:
    async def main() -> None:
        of, loop = Balancer([Endpoint(base_url="https://0.example", api_key="k")], Limits()), asyncio.get_running_loop()
        (upstream,) = of.upstreams

        async def refused(beside: int) -> float:
            attempts: list[Any] = [await of.admit(call_for(of)) for _ in range(beside + 1)]
            await asyncio.sleep(0.1)
            attempts.pop().fail(RateLimitError("busy", status=429, retry_after=30.0))
            paused = upstream.limiter.paused_until - loop.time()
            for attempt in attempts:
                attempt.succeed(None)
            return paused

        assert 1.0 < await refused(1) < 1.3
        assert (
            upstream.paused_because
            == "it asked for 30.0 s with HTTP 429, which is tested: it may take others meanwhile"
        )
        await asyncio.sleep(2.0)
        attempt = await of.admit(call_for(of))
        await asyncio.sleep(0.1)
        attempt.succeed(None)
        assert await refused(1) < 0
        # Nothing else was in flight: nobody would be taken.
        await asyncio.sleep(100.0)
        assert await refused(0) > 30.0

    run(main())


def test_a_window_of_dollars_is_waited_for_a_minute_at_a_time() -> None:
    assert 66 <= told(3 * 86_400, vendor=BYTESPIKE, max_retry_after=300) <= 75


def test_other_failures_pause_nobody() -> None:
    assert told(100, by=500) < 0


@pytest.mark.parametrize("stated", [50, 60])
def test_a_stated_wait_that_the_policy_allows_is_waited_for_and_not_refused(stated: float) -> None:
    async def main() -> float:
        one = pool(9)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        one.upstreams[0].pause(stated, begun, "it was told to")
        await one.admit(call_for(one, timeout=Timeout(total=600)))
        return loop.time() - begun

    assert 1.1 * stated <= run(main()) <= 1.25 * stated + 0.1


async def test_a_pause_longer_than_the_policy_allows_fails_at_once() -> None:
    one = pool(9)
    one.upstreams[0].pause(30, asyncio.get_running_loop().time(), "it was told to")
    with pytest.raises(OverloadedError) as caught:
        await one.admit(call_for(one, max_retry_after=20.0, timeout=Timeout(total=600)))
    assert caught.value.retry_after is not None
    assert 32 <= caught.value.retry_after <= 37.5


async def test_a_full_line_is_refused_at_once() -> None:
    one = pool(1, max_queue=2)
    permit = await one.admit(call_for(one))
    waiting = [asyncio.ensure_future(one.admit(call_for(one))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await one.admit(call_for(one))
    permit.release(Outcome.OK)
    permit = await waiting[0]
    permit.release(Outcome.OK)
    await waiting[1]


async def test_nobody_waits_longer_than_allowed() -> None:
    one = pool(1, max_wait=0.02)
    await one.admit(call_for(one))
    with pytest.raises(OverloadedError):
        await one.admit(call_for(one))
    assert one.upstreams[0].limiter.waiting == 0


async def test_permit_is_given_back_once_whoever_gives_it_back() -> None:
    one = pool(2)
    permit, other = await one.admit(call_for(one)), await one.admit(call_for(one))
    for outcome in (Outcome.OK, Outcome.DROPPED, Outcome.IGNORED):
        permit.release(outcome)
    assert one.upstreams[0].limiter.in_flight == 1
    other.release(Outcome.OK)
    other.release(Outcome.OK)
    assert one.upstreams[0].limiter.in_flight == 0


# --- what no endpoint can serve ----------------------------------------------------------------------------------


def vendors() -> Balancer:
    return Balancer([Endpoint.aimlapi(api_key=KEY), Endpoint.bytespike(api_key=KEY)], Limits())


def test_request_that_no_endpoint_takes_is_refused_with_the_fix_and_the_way_around() -> None:
    only = Balancer([Endpoint.aimlapi(api_key=KEY)], Limits())
    info = Info()
    body = {"model": "openai/gpt-5-nano-2025-08-07", "temperature": 0.5}
    with pytest.raises(UnsupportedRequestError) as caught:
        only.targets("chat", body, info, validate=True)
    failed = caught.value
    assert isinstance(failed, BadRequestError)
    assert isinstance(failed, ValueError)
    assert "temperature" in failed.message
    assert "reasoning_effort" in failed.message
    assert "validate=False" in failed.message
    assert (failed.status, failed.code, failed.param) == (400, "unsupported_parameter", "temperature")
    assert (failed.billed, failed.retryable, failed.info) == (False, False, info)


def test_model_of_the_other_api_is_refused_with_the_call_to_use() -> None:
    only = Balancer([Endpoint.aimlapi(api_key=KEY)], Limits())
    with pytest.raises(UnsupportedRequestError, match=r"client\.responses\.create") as caught:
        only.targets("chat", {"model": "openai/gpt-5-pro"}, Info(), validate=True)
    assert (caught.value.code, caught.value.param) == ("unsupported_model", "model")


def served(of: Balancer, api: Api, body: dict[str, Any]) -> list[Any]:
    """Per endpoint that can serve it, in order: its name and the body it gets."""
    targets = of.targets(api, body, Info(), validate=True)
    return [(target.upstream.endpoint.name, json.loads(target.body or b"")) for target in targets]


def test_the_same_model_goes_to_each_vendor_by_the_name_it_has_there() -> None:
    body = {"model": "openai/gpt-5-nano-2025-08-07", "max_completion_tokens": 50}
    assert served(vendors(), "chat", body) == [
        ("aimlapi", body),
        ("bytespike", {"model": "gpt-5-nano", "max_tokens": 50}),
    ]


def test_endpoint_that_cannot_serve_it_is_left_out_while_another_can() -> None:
    body = {"model": "gpt-5-nano", "temperature": 0.5}
    assert served(vendors(), "chat", body) == [("bytespike", body)]
    body = {"model": "openai/gpt-5-pro", "input": "hi"}
    assert served(vendors(), "responses", body)[0] == ("aimlapi", body)


def test_what_no_vendor_can_serve_names_each_reason() -> None:
    with pytest.raises(UnsupportedRequestError, match=r"aimlapi: .*; bytespike: "):
        vendors().targets("chat", {"model": "openai/gpt-5-pro"}, Info(), validate=True)


def test_unknown_model_goes_everywhere() -> None:
    body = {"model": "new/model", "temperature": 9}
    assert served(vendors(), "chat", body) == [("aimlapi", body), ("bytespike", body)]


def test_one_endpoint_is_asked_by_its_own_name_for_a_model() -> None:
    nano = "openai/gpt-5-nano-2025-08-07"
    (target,) = Balancer([Endpoint.bytespike(api_key="b")], Limits()).targets(
        "chat", {"model": nano, "messages": []}, Info(), validate=True
    )
    assert msgspec.json.decode(target.body or b"")["model"] == "gpt-5-nano"
    # The AI/ML API knows its models by other names too: what is said is sent.
    (target,) = Balancer([Endpoint.aimlapi(api_key="a")], Limits()).targets(
        "chat", {"model": "gpt-5-nano", "messages": []}, Info(), validate=True
    )
    assert msgspec.json.decode(target.body or b"")["model"] == "gpt-5-nano"
