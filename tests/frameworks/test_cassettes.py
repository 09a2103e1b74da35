"""Cassettes: what a server answered comes again without it, no key is in the file, and what is missing is shown."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aimlasync import APIConnectionError, APIStatusError, AsyncClient, BadRequestError, TruncatedStreamError
from aimlasync.simulator import Fault, Simulator
from aimlasync.testing import cassette, cassette_file
from aimlasync.testing.cassette_file import CassetteFileError
from aimlasync.testing.cassettes import Cassette, UnrecordedRequestError
from aimlasync.wire.redaction import Secrets
from tests.support.servers import Script, raw_server, until

pytest_plugins = ["pytester"]

MODEL = "openai/gpt-5-nano-2025-08-07"
KEY = "sk-a-long-sentinel"
NOBODY = "http://127.0.0.1:9/v1"
EDITED = '{"cassette": 1}\n{"request": {"method": "GET", "url": "u"}, "response": {%s}}\n'
ANYWHERE = ("method", "path", "query", "body")


def asked(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def in_order(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert pairs == sorted(pairs, key=lambda pair: pair[0])
    return dict(pairs)


async def everything(client: AsyncClient) -> list[Any]:
    """One of each kind: whole answers, streams, an error, the catalogue."""
    seen: list[Any] = [
        (await client.chat.completions.create(**asked())).to_dict(),
        (await client.responses.create(model=MODEL, input="Hello")).to_dict(),
    ]
    streams: list[Any] = [
        await client.chat.completions.create(**asked(), stream=True),
        await client.responses.create(model=MODEL, input="Hello", stream=True),
    ]
    seen += [[piece.to_dict() async for piece in stream] for stream in streams]
    with pytest.raises(BadRequestError) as refused:
        await client.chat.completions.create(**asked(), extra_body={"temperature": "hot"})
    return [*seen, refused.value.status, refused.value.body, (await client.models.list()).to_dict()]


async def test_everything_comes_again_without_the_server(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tape.jsonl"
    async with Simulator() as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        with cassette(path) as tape:
            live = await everything(client)
        assert (tape.recorded, tape.played, len(sim.ledger)) == (6, 0, 6)
        url = sim.base_url
    async with AsyncClient(api_key="test", base_url=url) as client:
        with cassette(path) as tape:
            assert await everything(client) == live
        assert (tape.recorded, tape.played) == (0, 6)
    async with AsyncClient(api_key="test", base_url=NOBODY) as client:
        with cassette(path, "none", match=ANYWHERE):
            assert await everything(client) == live
    assert KEY not in path.read_text()


async def test_the_file_is_readable_in_a_diff(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    async with Simulator() as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        with cassette(path):
            await client.chat.completions.create(**asked())
            stream: Any = await client.chat.completions.create(**asked(), stream=True)
            await stream.collect()
    head, whole, streamed = lines(path)
    assert head == {"cassette": 1}
    assert whole["request"]["body"] == asked()
    assert whole["response"]["body"]["choices"][0]["message"]["role"] == "assistant"
    events = streamed["response"]["events"]
    assert events[0]["data"]["object"] == "chat.completion.chunk"
    assert events[-1] == {"data": "[DONE]"}
    for text in path.read_text().splitlines():
        json.loads(text, object_pairs_hook=in_order)
    assert "authorization" not in path.read_text().lower()


async def test_no_key_and_no_named_header_is_in_the_file_also_where_a_server_echoes_them(tmp_path: Path) -> None:
    echo = b'{"id":"c","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":' + (
        b'"assistant","content":"Bearer sk-a-long-sentinel, acme-secret-tenant, secret-in-query"}}]}'
    )
    headers = [("Set-Cookie", "id=secret-cookie"), ("X-Echo", "acme-secret-tenant"), ("X-Tenant", "acme-secret-tenant")]
    refused = b'{"error":{"message":"no such key sk-a-long-sentinel"}}'
    path = tmp_path / "tape.jsonl"
    async with (
        raw_server(
            Script([echo], content_type="application/json", headers=headers, end="keep"),
            Script([refused], status=401, content_type="application/json", end="keep"),
        ) as server,
        AsyncClient(api_key=KEY, base_url=server.base_url) as client,
    ):
        with cassette(path, hide=["X-Tenant"]):
            more: dict[str, Any] = {
                "extra_headers": {"X-Tenant": "acme-secret-tenant", "Cookie": "a=secret-cookie"},
                "extra_query": {"api_key": "secret-in-query"},
            }
            await client.chat.completions.create(**asked("I am acme-secret-tenant"), **more)
            with pytest.raises(Exception, match="no such key"):
                await client.chat.completions.create(**asked(), **more)
    text = path.read_text()
    assert "[key]" in text
    for secret in ("sentinel", "acme", "secret-cookie", "secret-in-query"):
        assert secret not in text
    # And the request is still known by its other parts.
    async with AsyncClient(api_key=KEY, base_url=server.base_url) as client:
        with cassette(path, "none", hide=["X-Tenant"]):
            assert (await client.chat.completions.create(**asked("I am acme-secret-tenant"), **more)).text


async def test_keys_in_a_body_are_in_no_file(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    keys = {"api_key": "sk-one-12345", "headers": {"Authorization": "Bearer two-12345", "X-Api-Key": "three-12345"}}
    more = {"metadata": {"key": "a plain word"}, "prompt_cache_key": "this stays", "extra": [keys]}
    async with Simulator(vendor="openai") as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        with cassette(path):
            await client.chat.completions.create(**asked("I said two-12345"), extra_body=more)
        with cassette(path, "none"):
            await client.chat.completions.create(**asked("I said two-12345"), extra_body=more)
    text = path.read_text()
    assert not any(key in text for key in ("one-12345", "two-12345", "three-12345"))
    assert "a plain word" in text
    assert "this stays" in text


async def test_equal_requests_are_answered_in_their_order_and_once_each(tmp_path: Path) -> None:
    said = iter(["one", "two"])
    path = tmp_path / "tape.jsonl"
    async with (
        Simulator(answer=lambda _: next(said)) as sim,
        AsyncClient(api_key=KEY, base_url=sim.base_url) as client,
    ):
        with cassette(path):
            for _ in range(2):
                await client.chat.completions.create(**asked())
    async with AsyncClient(api_key="test", base_url=sim.base_url) as client:
        with cassette(path):
            texts = [(await client.chat.completions.create(**asked())).text for _ in range(2)]
            with pytest.raises(UnrecordedRequestError, match="it is there 2 times, and all were played"):
                await client.chat.completions.create(**asked())
        with cassette(path, "none"):
            replies = await asyncio.gather(*(client.chat.completions.create(**asked()) for _ in range(2)))
        (statistics,) = client.statistics()
    assert texts == ["one", "two"] == [reply.text for reply in replies]
    assert statistics.in_flight == 0


async def test_a_request_that_is_not_there_is_shown_beside_the_nearest_one(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    async with Simulator() as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        with cassette(path):
            await client.responses.create(model=MODEL, input="Hello")
            await client.chat.completions.create(**asked("Hello"))
        with cassette(path), pytest.raises(UnrecordedRequestError) as missing:
            await client.chat.completions.create(**asked("Hello there"))
        assert len(sim.ledger) == 2
    said = str(missing.value).splitlines()
    assert said[0].startswith(f"{path}: POST {sim.base_url}/chat/completions is not in the cassette; ")
    assert said[1:3] == ["--- nearest in the cassette", "+++ asked for"]
    assert [line for line in said[3:] if line[0] in "+-"] == [
        '-      "content": "Hello",',
        '+      "content": "Hello there",',
    ]


async def test_the_modes_say_what_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    with pytest.raises(FileNotFoundError, match="mode='none' records none"), cassette(path, "none"):
        pass
    async with Simulator() as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        for mode, texts, calls in (
            ("once", "a", 1),
            ("new", "ab", 2),
            ("none", "ab", 2),
            ("new", "ab", 2),
            ("all", "b", 3),
            ("once", "b", 3),
        ):
            with cassette(path, mode):  # type: ignore[arg-type]
                for text in texts:
                    await client.chat.completions.create(**asked(text))
            assert len(sim.ledger) == calls, mode
        assert [line["request"]["body"] for line in lines(path)[1:]] == [asked("b")]
        # Outside of it, requests are sent.
        await client.chat.completions.create(**asked("b"))
        assert len(sim.ledger) == 4


async def test_where_nothing_can_be_recorded_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "tape.jsonl").write_text('{"cassette":1}\n')
    for path in ("", tmp_path / "file" / "tape.jsonl"):
        with pytest.raises(CassetteFileError, match="no file can be made there"), cassette(path, "all"):
            pass
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CassetteFileError, match="no file can be made there"), cassette(tmp_path / "new" / "tape.jsonl"):
        pass
    # What is only played may be on a read-only disk.
    with cassette(tmp_path / "tape.jsonl"):
        pass


async def test_what_another_process_recorded_meanwhile_is_kept(tmp_path: Path) -> None:
    path, other = tmp_path / "tape.jsonl", tmp_path / "other.jsonl"

    def bodies() -> list[Any]:
        return [line["request"]["body"] for line in lines(path)[1:]]

    async with Simulator() as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        with cassette(path):
            await client.chat.completions.create(**asked("a"))
        with cassette(other):
            await client.chat.completions.create(**asked("b"))
        with cassette(path, "new"):
            await client.chat.completions.create(**asked("a"))
            await client.chat.completions.create(**asked("c"))
            # Another process ends.
            path.write_text(path.read_text() + other.read_text().splitlines()[1] + "\n")
        assert bodies() == [asked("a"), asked("b"), asked("c")]
        with cassette(path, "all"):
            await client.chat.completions.create(**asked("d"))
            path.write_text(other.read_text())
        assert bodies() == [asked("b"), asked("d")]
        for left in (None, "<<<<<<< HEAD\n"):
            with cassette(path, "new"):
                await client.chat.completions.create(**asked(f"e{left}"))
                path.unlink() if left is None else path.write_text(left)
        assert bodies() == [asked("b"), asked("d"), asked("eNone"), asked("e<<<<<<< HEAD\n")]


async def test_what_broke_breaks_again_and_retries_come_again(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    faults = [
        Fault("status", status=500, times=1),
        Fault("reset", match=lambda asked: "to break" in str(asked.body)),
        Fault("reset_stream", at=2, times=1),
    ]
    retry: dict[str, Any] = {"max_retries": 1}

    async def ask(client: AsyncClient) -> list[Any]:
        seen: list[Any] = [(await client.chat.completions.create(**asked())).info.attempts]
        with pytest.raises(APIConnectionError):
            await client.with_options(max_retries=0).chat.completions.create(**asked("to break"))
        stream: Any = await client.chat.completions.create(**asked("c"), stream=True)
        with pytest.raises(TruncatedStreamError) as cut:
            await stream.collect()
        return [*seen, cut.value.partial.to_dict()]

    async with Simulator(faults=faults) as sim, AsyncClient(api_key=KEY, base_url=sim.base_url, **retry) as client:
        with cassette(path):
            live = await ask(client)
    async with AsyncClient(api_key="test", base_url=sim.base_url, **retry) as client:
        with cassette(path):
            assert await ask(client) == live


async def test_a_copy_with_another_key_is_recorded_once(tmp_path: Path) -> None:
    async with Simulator(vendor="openai") as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        with cassette(tmp_path / "tape.jsonl") as tape:
            await client.with_options(api_key="sk-quite-another-sentinel").chat.completions.create(**asked())
        assert (tape.recorded, len(sim.ledger)) == (1, 1)
    assert "sentinel" not in (tmp_path / "tape.jsonl").read_text()


async def test_a_reader_that_leaves_may_leave_again(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    async with Simulator(faults=[Fault("stall_stream", at=2)]) as sim:
        url = sim.base_url
        async with AsyncClient(api_key=KEY, base_url=url) as client:
            with cassette(path):
                async with await client.chat.completions.create(**asked(), stream=True) as stream:
                    first = (await anext(stream)).to_dict()
    assert lines(path)[1]["response"]["broken"] == "its reader left"
    async with AsyncClient(api_key="test", base_url=url) as client:
        with cassette(path, "none"):
            async with await client.chat.completions.create(**asked(), stream=True) as stream:
                assert (await anext(stream)).to_dict() == first


async def test_the_sdk_over_the_client_is_recorded_too(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    from aimlasync.openai import AsyncOpenAI

    path = tmp_path / "tape.jsonl"
    texts = []
    async with Simulator(vendor="openai") as sim:
        async with AsyncOpenAI(api_key=KEY, base_url=sim.base_url) as client:
            with cassette(path):
                texts.append((await client.chat.completions.create(**asked())).choices[0].message.content)
    async with AsyncOpenAI(api_key="test", base_url=sim.base_url) as client:
        with cassette(path, "none"):
            texts.append((await client.chat.completions.create(**asked())).choices[0].message.content)
    assert texts[0]
    assert texts[0] == texts[1]
    assert KEY not in path.read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("rows\n", 'no cassette; its first line should be {"cassette":1}'),
        ('{"cassette": 2}\n', "a cassette of format 2"),
        ('{"cassette": 1}\n{"request": 1}\n', "line 2 is no exchange"),
        ('{"cassette": 1}\n{"request": {"method": "\xff"}}\n', "line 2 is no exchange"),
        (EDITED % '"status": 200, "bodyy": {}', "line 2 is no exchange: Object contains unknown field `bodyy`"),
        (EDITED % '"status": 200, "body": {"base64": "abc"}', "line 2 is no exchange: Incorrect padding"),
        (EDITED % "", "line 2 is no exchange: no status, nor the `error`"),
        (EDITED % '"status": 200, "body": {}, "events": []', "line 2 is no exchange: both a `body` and the `events`"),
        (
            EDITED % '"status": 200, "events": [{"dat": 1}]',
            "line 2 is no exchange: an event of a stream has no field 'dat'",
        ),
        ('{"cassette": 1}\n{"request": {"method": "GET", "url": "u", "body": ' + "[" * 5000 + "\n", "line 2 is no"),
    ],
)
def test_what_is_no_cassette_is_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "tape.jsonl").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=said), cassette(tmp_path / "tape.jsonl"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes")
def test_what_is_no_file_is_left_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        for mode in ("all", "once"):
            with pytest.raises(ValueError, match="neither a file nor free for one"), cassette(place, mode):
                pass
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


async def test_a_link_to_a_cassette_stays_one(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "tape.jsonl").symlink_to(tmp_path / "shared" / "tape.jsonl")
    async with Simulator() as simulator:
        for played in (0, 1):
            async with AsyncClient(api_key="k", base_url=simulator.base_url) as client:
                with cassette(tmp_path / "tape.jsonl") as tape:
                    await client.responses.create(model=MODEL, input="Hello")
                assert tape.played == played
    assert (tmp_path / "tape.jsonl").is_symlink()
    assert (tmp_path / "shared" / "tape.jsonl").is_file()


async def test_what_no_response_has_come_to_is_written_as_that(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    fault = Fault("slow_first_byte", delay=600)
    async with Simulator(faults=[fault]) as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        with cassette(path) as tape:
            call = asyncio.ensure_future(client.chat.completions.create(**asked()))
            await until(lambda: tape.recorded)
        call.cancel()
        await asyncio.wait([call])
    assert lines(path)[1]["response"] == {"error": "its caller left"}


def test_options_that_there_are_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode must be one of once, none, new, all"):
        cassette(tmp_path / "t", "never")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="match may name method, host, path, query, body, not 'port'"):
        cassette(tmp_path / "t", match=["port"])


async def test_cassettes_may_end_in_any_order_and_leave_nothing_behind(tmp_path: Path) -> None:
    first, second = cassette(tmp_path / "1.jsonl"), cassette(tmp_path / "2.jsonl")
    async with Simulator() as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        with first:
            second.__enter__()
        await client.chat.completions.create(**asked())
        second.__exit__(None, None, None)
        await client.chat.completions.create(**asked())
        assert (first.recorded, second.recorded, len(sim.ledger)) == (0, 1, 2)


async def test_a_cassette_within_a_cassette_is_asked_first(tmp_path: Path) -> None:
    async with Simulator() as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        for _ in range(2):
            with cassette(tmp_path / "1.jsonl", "new") as outer, cassette(tmp_path / "2.jsonl") as inner:
                await client.chat.completions.create(**asked())
    assert (outer.played, outer.recorded, inner.played, inner.recorded) == (0, 0, 1, 0)


async def test_a_cassette_may_be_used_again_and_not_twice_at_once(tmp_path: Path) -> None:
    tape = cassette(tmp_path / "tape.jsonl")
    async with Simulator() as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        for recorded in (1, 0, 0):
            with tape:
                await client.chat.completions.create(**asked())
                with pytest.raises(RuntimeError, match="in use already"):
                    tape.__enter__()
            assert (tape.recorded, tape.played) == (recorded, 1 - recorded)
        assert len(sim.ledger) == 1


def test_an_edited_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "tape.jsonl").write_bytes(b'\xef\xbb\xbf{"cassette":1}\r\n')
    with cassette(tmp_path / "tape.jsonl", "none") as tape:
        assert tape.played == 0


def test_one_name_is_no_collection_of_letters(tmp_path: Path) -> None:
    tape = cassette(tmp_path / "tape.jsonl", match="body", hide="X-Tenant")
    assert tape._match == ["body"]
    assert "x-tenant" in tape._hidden


@pytest.mark.parametrize(
    "body",
    [b'{"text":"{}"}', b'{"base64":"aGk="}', b'{"text":1}', b"words", b"\xff\x00", b"[1]", b"3", b""],
)
def test_a_body_comes_again_as_it_was_whatever_it_reads_like(body: bytes) -> None:
    assert cassette_file.bytes_of(cassette_file.value_of(body)) == body


def test_a_form_is_the_same_whatever_stands_between_its_parts() -> None:
    form = '--{0}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--{0}--\r\n'
    one, other = (
        cassette_file.request_of("POST", "u", form.format(between).encode(), Secrets()) for between in ("9f8", "a.b+c")
    )
    assert one == other
    changed = form.format("9f8").replace("RIFF", "WAVE").encode()
    assert cassette_file.request_of("POST", "u", changed, Secrets()) != one


# pytest with the plugin that is registered as `aimlasync`, and with no other that is installed.
BARE = ("-p", "no:cacheprovider", "--disable-plugin-autoload", "-p", "aimlasync")


def test_the_files_of_tests_with_one_name_are_two(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest

        class TestA:
            def test_one(self, aimlasync_cassette):
                print(aimlasync_cassette.path)

        class TestB:
            def test_one(self, aimlasync_cassette):
                print(aimlasync_cassette.path)

        @pytest.mark.parametrize("given", [1, 2, 3, 4], ids=["a/b", "a-b", "x" * 300, "x" * 299 + "y"])
        def test_given(given, aimlasync_cassette):
            print(aimlasync_cassette.path)
        """
    )
    ran = pytester.runpytest_inprocess(*BARE, "-s")
    assert ran.ret == 0
    found = [line for line in ran.outlines if ".jsonl" in line]
    names = [Path(line.removeprefix("test_it.py ").lstrip(".")).name for line in found]
    assert len(set(names)) == 6
    assert "TestA.test_one.jsonl" in names
    assert all(len(name) < 200 for name in names)


def test_the_fixture_names_the_file_after_the_test(pytester: pytest.Pytester, vendor: Any) -> None:
    sim = vendor(latency=None)
    pytester.makepyfile(
        test_it="""
        import asyncio
        from aimlasync import AsyncClient

        def test_one(aimlasync_cassette):
            async def ask():
                async with AsyncClient() as client:
                    return await client.chat.completions.create(
                        model="openai/gpt-5-nano-2025-08-07", messages=[{"role": "user", "content": "Hello"}]
                    )

            assert asyncio.run(ask()).text
        """
    )
    assert pytester.runpytest_inprocess(*BARE).ret == 0
    assert (pytester.path / "cassettes" / "test_it" / "test_one.jsonl").is_file()
    assert pytester.runpytest_inprocess(*BARE, "--aimlasync-cassettes", "none").ret == 0
    assert len(sim.ledger) == 1


def test_a_cassette_says_what_it_did(tmp_path: Path) -> None:
    assert (
        repr(Cassette("t.jsonl", mode="none", match=ANYWHERE, hide=()))
        == "<Cassette t.jsonl none: 0 played, 0 recorded>"
    )


async def test_keys_in_the_url_of_an_mcp_server_are_cut_out(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    url = "https://me:secret-of-user@host/mcp?token=secret-in-query&page=2"
    for bad in ("", "https://[bad"):
        tools = [{"type": "mcp", "server_label": "l", "server_url": bad or url}]
        async with Simulator(vendor="openai") as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
            with cassette(path, "all"), suppress(APIStatusError):
                await client.responses.create(model="gpt-5-nano", input="Hello", tools=tools)
        assert "secret-" not in path.read_text()
        assert (bad or "page=2") in path.read_text()


async def test_a_signed_address_of_an_image_is_written_without_its_signature_and_played_with_another(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tape.jsonl"

    def parts(signature: str) -> list[dict[str, Any]]:
        addresses = [
            f"https://bucket.s3.amazonaws.com/a.png?X-Amz-Security-Token=1token-{signature}&X-Amz-Signature={signature}",
            f"https://account.blob.core.windows.net/c/a.png?sv=2022-11-02&sig={signature}%3D",
            "https://shop.example/item?code=python3&page=2",
        ]
        asked = {"type": "text", "text": "Is this python3? See https://shop.example/?sig=not-of-an-image"}
        return [asked, *({"type": "image_url", "image_url": {"url": address}} for address in addresses)]

    async with Simulator(vendor="openai") as sim, AsyncClient(api_key=KEY, base_url=sim.base_url) as client:
        for signature in ("5ecret0f5f8", "5ecret1e7a9"):
            with cassette(path) as tape:
                messages = [{"role": "user", "content": parts(signature)}]
                await client.chat.completions.create(model=MODEL, messages=messages)
        assert (tape.played, len(sim.ledger)) == (1, 1)
    written = path.read_text()
    assert "5ecret" not in written
    assert written.count("python3") >= 2
    assert "not-of-an-image" in written
