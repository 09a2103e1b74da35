"""Claims about `endpoints.learned_file`: what is kept of limits for the next run, and what a bad file does."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from aimlasync import AsyncClient, Endpoint
from aimlasync.admission.adaptive import Learned
from aimlasync.admission.learned import Finding
from aimlasync.admission.outcome import Outcome
from aimlasync.bulk import run as run_job
from aimlasync.endpoints.lane import Lane
from aimlasync.endpoints.learned_file import address, read, write
from aimlasync.endpoints.upstream import Upstream
from aimlasync.simulator import Simulator
from tests.support.permits import permit_now

MODEL = "openai/gpt-5-nano-2025-08-07"
HELLO: Any = [{"role": "user", "content": "Hello"}]


def upstream(client: AsyncClient) -> Upstream:
    return client._pipeline.balancer.upstreams[0]


def client_of(path: Path | None, url: str) -> AsyncClient:
    return AsyncClient(endpoints=[Endpoint(base_url=url, api_key="s3cret")], learned=path)


def test_what_was_written_is_read_beside_what_was_there(tmp_path: Path) -> None:
    path = str(tmp_path / "limits.json")
    assert read(path) == {}
    write(path, {("https://a/v1", "m"): Learned(in_flight=8.0, rate=2.5)})
    write(path, {("https://a/v1", "n"): Learned(in_flight=3.0)})
    write(path, {("https://a/v1", "m"): Learned(in_flight=9.0, rate=2.0)})
    assert read(path) == {
        ("https://a/v1", "m"): Learned(in_flight=9.0, rate=2.0),
        ("https://a/v1", "n"): Learned(in_flight=3.0),
    }
    assert os.listdir(tmp_path) == ["limits.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"version": 1, "learned": [{"endpoint": "e", "model": "m", "in_flight": -4, "rate": null, "at": 0}]}',
        b'{"version": 1, "learned": [{"endpoint": "e", "model": "m", "in_flight": 4, "rate": 0, "at": 0}]}',
    ],
)
def test_entries_that_make_no_sense_count_as_absent_and_are_written_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "limits.json"
    path.write_bytes(content)
    assert read(str(path)) == {}
    write(str(path), {("e", "m"): Learned(in_flight=4.0)})
    assert read(str(path)) == {("e", "m"): Learned(in_flight=4.0)}


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\xff",
        b"[1, 2]",
        b'{"api_key": "of a config.json"}',
        b'{"version": 2, "learned": []}',
        b'{"version": 1, "learned": [{"endpoint": "e"}]}',
        b'{"version": 1, "learned": ' + b"[" * 100_000,
        b" " * 2_000_000,
    ],
)
def test_a_file_of_another_kind_or_version_is_left_as_it_is(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "limits.json"
    path.write_bytes(content)
    assert read(str(path)) == {}
    write(str(path), {("e", "m"): Learned(in_flight=4.0)})
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["limits.json"]
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "is left as it is" in warning


def test_a_link_and_the_mode_of_a_file_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "limits.json", tmp_path / "link.json"
    write(str(path), {("e", "m"): Learned(in_flight=4.0)})
    path.chmod(0o640)
    link.symlink_to(path)
    write(str(link), {("e", "n"): Learned(in_flight=5.0)})
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert len(read(str(path))) == 2


def test_a_name_that_cannot_be_a_file_s_or_text_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write("limits\0.json", {("e", "m"): Learned(in_flight=4.0)})
    write(str(tmp_path / "limits.json"), {("e", "\ud800"): Learned(in_flight=4.0)})
    assert len([record for record in caplog.records if "could not be written" in record.getMessage()]) == 2
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_written_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(str(tmp_path / "no" / "where" / "limits.json"), {("e", "m"): Learned(in_flight=4.0)})
    write(str(tmp_path), {("e", "m"): Learned(in_flight=4.0)})
    assert [record.levelname for record in caplog.records if "could not be written" in record.getMessage()] == [
        "WARNING"
    ] * 2
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_neither_waited_for_nor_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "limits.json"
    os.mkfifo(path)
    # Somebody holds it open, so that nobody would wait for ever.
    holder = os.open(path, os.O_RDWR)
    try:
        assert read(str(path)) == {}
        write(str(path), {("e", "m"): Learned(in_flight=4.0)})
    finally:
        os.close(holder)
    assert stat.S_ISFIFO(path.stat().st_mode)
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "it is no regular file" in warning


def test_a_file_is_its_owners_and_names_no_credentials(tmp_path: Path) -> None:
    assert address("https://user:pa55@one.example:8080/v1/?key=s3cret#x") == "https://one.example:8080/v1"
    path = tmp_path / "limits.json"

    async def main() -> None:
        async with client_of(path, "https://one.example/v1") as client:
            upstream(client).lane("m").watch.learned = Finding(concurrency=5)

    asyncio.run(main())
    assert "s3cret" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["learned"][0]["endpoint"] == "https://one.example/v1"


def test_a_client_starts_with_what_the_last_one_learned_and_nothing_that_had_not_held(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"

    async def first() -> None:
        async with client_of(path, "https://one.example/v1") as client:
            lane = upstream(client).lane("m")
            upstream(client).lane("other")
            permits = [permit_now(lane) for _ in range(3)]
            for permit in permits:
                assert permit is not None
                permit.release(Outcome.OK)
            lane.watch.learned = Finding(requests_per_minute=600.0)

    async def second() -> None:
        async with client_of(path, "https://one.example/v1") as client:
            assert set(upstream(client).starts) == {"m"}
            assert upstream(client).lane("m").law.rate == pytest.approx(10.0, rel=0.05)
            assert upstream(client).lane("other").law.rate is None
        async with client_of(path, "https://two.example/v1") as client:
            assert upstream(client).starts == {}

    asyncio.run(first())
    before = path.read_text()
    asyncio.run(second())
    assert json.loads(path.read_text())["learned"] == json.loads(before)["learned"]


def test_a_client_writes_what_it_learned_itself_and_nothing_that_it_only_read(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    url = "https://one.example/v1"
    write(str(path), {(url, "m"): Learned(in_flight=4.0), (url, "n"): Learned(in_flight=5.0)})

    async def main() -> None:
        async with client_of(path, url) as client:
            upstream(client).lane("n").watch.learned = Finding(concurrency=50)
            # Another process learns meanwhile.
            write(str(path), {(url, "m"): Learned(in_flight=40.0)})

    asyncio.run(main())
    assert read(str(path)) == {(url, "m"): Learned(in_flight=40.0), (url, "n"): Learned(in_flight=50.0)}


def test_endpoints_of_one_address_with_keys_of_their_own_do_not_share_an_entry(tmp_path: Path) -> None:
    path, url = tmp_path / "limits.json", "https://one.example/v1"

    def both() -> AsyncClient:
        return AsyncClient(endpoints=[Endpoint(base_url=url, api_key=key) for key in ("free", "paid")], learned=path)

    async def main() -> None:
        async with both() as client:
            for number, each in enumerate(client._pipeline.balancer.upstreams):
                each.lane("m").watch.learned = Finding(concurrency=5 + 95 * number)
        async with both() as client:
            assert [each.lane("m").limiter.limit for each in client._pipeline.balancer.upstreams] == [5, 100]
        async with client_of(path, url) as client, client.with_options(api_key="another") as other:
            assert upstream(client).lane("m").limiter.limit == 5
            upstream(other).lane("m").watch.learned = Finding(concurrency=77)

    asyncio.run(main())
    assert sorted(each.in_flight for each in read(str(path)).values()) == [5.0, 100.0]


def test_a_model_that_is_asked_alone_is_kept_also_where_refusals_name_the_account(tmp_path: Path) -> None:
    path, url = tmp_path / "limits.json", "https://one.example/v1"

    def refused(client: AsyncClient) -> Lane:
        lane = upstream(client).lane("m")
        permit = permit_now(lane)
        assert permit is not None
        permit.release(Outcome.DROPPED, names_account=True)
        assert lane.counted is upstream(client).limiter
        return lane

    async def main() -> None:
        async with client_of(path, url) as client:
            refused(client).watch.learned = Finding(concurrency=40)
        async with client_of(path, url) as client:
            assert upstream(client).lane("m").limiter.limit == 40
            # It is a start for the account as well.
            assert 30 <= refused(client).law.limit <= 40

    asyncio.run(main())


def test_a_run_starts_no_slower_than_it_can_find_out_soon(tmp_path: Path) -> None:
    path = str(tmp_path / "limits.json")
    write(path, {("e", "slow"): Learned(in_flight=1.0, rate=0.05), ("e", "fast"): Learned(in_flight=1.0, rate=7.0)})
    assert {model: each.rate for (_, model), each in read(path).items()} == {"slow": 0.5, "fast": 7.0}


def test_a_file_never_grows_beyond_what_is_read_and_keeps_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "limits.json")
    long = "\U0001f600" * 250
    old = {("https://a/v1", f"{long}{number}"): Learned(in_flight=4.0) for number in range(1000)}
    # A clock that was ahead.
    monkeypatch.setattr("time.time", lambda: 4e9)
    write(path, old)
    monkeypatch.setattr("time.time", lambda: 2e9)
    new = {("https://a/v1", f"{number} {'m' * 200}"): Learned(in_flight=5.0) for number in range(900)}
    write(path, new)
    found = read(path)
    assert new.items() <= found.items()
    assert os.path.getsize(path) <= 1_000_000


async def test_a_job_keeps_what_was_learned_beside_its_journal(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    rows = [{"body": {"model": MODEL, "messages": HELLO}}]
    async with Simulator() as sim:
        async with AsyncClient(api_key="k", base_url=sim.base_url) as client:
            await run_job(client, rows, out)
        assert not (tmp_path / "out.jsonl.limits").exists()
        async with AsyncClient(api_key="k", base_url=sim.base_url) as client:
            upstream(client).lane(MODEL).watch.learned = Finding(concurrency=40)
            await run_job(client, rows, out)
        async with AsyncClient(api_key="k", base_url=sim.base_url) as client:
            await run_job(client, rows, out)
            assert upstream(client).lane(MODEL).law.limit == 40.0
