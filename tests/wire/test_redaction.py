"""A key is found in whatever form a server echoes it, and nothing else is changed."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimlasync.headers import Fields, secrets_in
from aimlasync.info import Info
from aimlasync.wire.key_search import MARK
from aimlasync.wire.redaction import Secrets
from tests.support.cases import case

KEYS = [
    "sk-sentinel-5f1c2e77aa",
    "0f3a9c55d1e24b7788aa66cc33ee1100",
    "sk-proj-Zx81+/==\"\\q'<&>%4",
    "a-b-c-d-1-2-3-4-x-y",
    "\u00e9t\u00e9-cl\u00e9-2041",
    "eyJhbGciOiJIUzI1NiJ9." + "QmFzZTY0IHRleHQ" * 20 + ".sig-_nature",
]


def all_of(pattern: str, key: str) -> str:
    return "".join(pattern % byte for byte in key.encode())


ECHOES: dict[str, Callable[[str], str]] = {
    "whole": lambda key: key,
    "upper": str.upper,
    "lower": str.lower,
    "json": lambda key: json.dumps(key)[1:-1],
    "json in json": lambda key: json.dumps(json.dumps(key))[1:-1],
    "json, slashes escaped": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "json, not a letter as it is": lambda key: "".join(f"\\u{ord(char):04X}" for char in key),
    "json, specials escaped": lambda key: "".join(
        c if c.isalnum() and c.isascii() else f"\\u{ord(c):04x}" for c in key
    ),
    "url": lambda key: quote(key, safe=""),
    "url twice": lambda key: quote(quote(key, safe=""), safe=""),
    "url, not a letter as it is": lambda key: all_of("%%%02X", key),
    "html": html.escape,
    "html, not a letter as it is": lambda key: "".join(f"&#{ord(char)};" for char in key),
    "html, hexadecimal": lambda key: "".join(f"&#x{ord(char):x};" for char in key),
    "basic": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "basic, without a user": lambda key: base64.b64encode(f":{key}".encode()).decode(),
    "base64 of a header": lambda key: base64.b64encode(f"Authorization: Bearer {key}\n".encode()).decode(),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(f"{key}:x".encode()).decode(),
    "base64, quoted": lambda key: quote(base64.b64encode(f"ab{key}".encode()).decode(), safe=""),
}


def shows(text: str, key: str, length: int = 8) -> bool:
    """Whether a part of the key is there to read."""
    low, key = text.lower(), key.lower()
    return any(key[at : at + length] in low for at in range(len(key) - length + 1))


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
@pytest.mark.parametrize("echo", ECHOES)
def test_a_key_is_found_in_every_form(key: str, echo: str) -> None:
    if echo == "upper" and not key.isascii():
        pytest.skip("case is that of ASCII")
    said = ECHOES[echo](key)
    for text in (said, f"bad key {said}.", f'{{"a": "{said}", "b": "{said}"}}', f"x{said}", f"/v1?key={said}&a=b#"):
        for found in (Secrets([key]).without(text), Secrets([key]).cut_from(text.encode()).decode()):
            assert MARK in found, found
            assert not shows(found, key)
            assert said not in found


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_what_stands_around_a_key_stays(key: str) -> None:
    for echo in ("whole", "json", "url", "html", "json, not a letter as it is"):
        said = ECHOES[echo](key)
        assert Secrets([key]).without(f"%41 \\u0042 &lt; {said} &gt;\\n%2") == f"%41 \\u0042 &lt; {MARK} &gt;\\n%2"


@pytest.mark.parametrize("key", KEYS[:4], ids=range(4))
@pytest.mark.parametrize("length", [5, 7, 8, 12, 18])
def test_a_key_that_is_cut_or_masked_is_not_shown(key: str, length: int) -> None:
    begun = key[:length]
    for after in ("...", "***", "\u2026", "**********", "", "\u2022\u2022\u2022\u2022"):
        with case(after):
            assert begun.lower() not in Secrets([key]).without(f"your key {begun}{after}").lower()
            if after:
                assert begun.lower() not in Secrets([key]).without(f"your key {begun}{after} is wrong").lower()
                masked = Secrets([key]).without(f"your key {begun}{after}{key[-4:]} is wrong")
                assert masked == f"your key {MARK} is wrong"


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_the_end_of_a_key_is_not_shown(key: str) -> None:
    assert not shows(Secrets([key]).without(f"...{key[3:]} and ...{key[-9:]}"), key)


@pytest.mark.parametrize(
    "text",
    ["", "no key here", "sentinel", "sk-...", "sk-proj", "the keys of others: sk-other-99aa", "5f1c2e7", "test ..."],
)
def test_a_text_without_the_key_is_the_same_object(text: str) -> None:
    secrets = Secrets(KEYS[:1])
    data = text.encode()
    assert secrets.without(text) is text
    assert secrets.cut_from(data) is data


@pytest.mark.parametrize("placeholder", ["", "x", "test", "EMPTY", "ollama", "1234567"])
def test_a_placeholder_changes_no_word(placeholder: str) -> None:
    text = f"the {placeholder} of ollama has an EMPTY test 1234567..."
    assert Secrets([placeholder]).without(text) == text


def test_a_short_password_is_cut_out_as_a_whole_word_alone() -> None:
    assert Secrets(["pa55"]).without("pa55 xpa55 pa55x (PA55)") == f"{MARK} xpa55 pa55x ({MARK})"


def test_values_of_all_kinds_are_cleaned_and_kept_where_there_is_no_key() -> None:
    key, secrets = KEYS[0], Secrets(KEYS[:1])
    clean = {"a": [1, None, "b", (2.5, b"c")], "d": {"e": True}}
    assert secrets.without(clean) is clean
    assert secrets.without({key: [key, (key.encode(), 1)]}) == {MARK: [MARK, (MARK.encode(), 1)]}
    fields = secrets.without(Fields({"x-echo": f"X-Echo: {key}", "x-a": "X-A: b"}))
    assert (fields["X-Echo"], fields["x-a"]) == (MARK, "b")
    info = Info(server_request_id=key, headers={"x-echo": key})
    assert secrets.without(info) is info
    assert (info.server_request_id, info.headers["x-echo"]) == (MARK, MARK)


def test_no_value_is_nested_too_deep() -> None:
    deep: Any = KEYS[0]
    for _ in range(100_000):
        deep = [deep]
    Secrets(KEYS[:1]).without(deep)


@settings(max_examples=300, deadline=None)
@given(st.text(), st.text(), st.sampled_from(KEYS), st.sampled_from(sorted(ECHOES)))
def test_a_key_is_found_wherever_it_stands(before: str, after: str, key: str, echo: str) -> None:
    said = ECHOES["whole" if echo == "upper" else echo](key)
    found = Secrets([key]).without(before + said + after)
    assert said not in found
    assert MARK in found


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="%\\u0041&#x;lt\u00e9ab \n", max_size=80))
def test_any_text_passes(text: str) -> None:
    Secrets([*KEYS, "ab41", "\\u0041&lt;%41"]).without(text)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"Authorization": "Bearer abc"}, ["abc"]),
        ({"authorization": "abc"}, ["abc"]),
        ({"Authorization": f"Basic {base64.b64encode(b'me:pass').decode()}"}, ["bWU6cGFzcw==", "me:pass", "pass"]),
        ({"Cookie": 'a=one; b="two"'}, ["one", "two"]),
        ({"X-Api-Key": "a", "api-key": "b", "X-Auth-Token": "c", "Client-Secret": "d"}, ["a", "b", "c", "d"]),
        ({"Ocp-Apim-Subscription-Key": "a", "Proxy-Authorization": "Bearer b", "apikey": "c"}, ["a", "b", "c"]),
        ({"X-Mine": "a", "X-Other": "b"}, ["a"]),
        ({"Accept": "a", "X-Keyboard": "b", "Content-Type": "c"}, []),
    ],
)
def test_values_of_headers_that_look_like_keys_are_secrets(headers: dict[str, str], found: list[str]) -> None:
    assert secrets_in(headers, frozenset({"x-mine"})) == found


def test_secrets_show_nothing() -> None:
    assert KEYS[0] not in f"{Secrets(KEYS)!r} {Secrets(KEYS)}"
