"""Money that workers share: the cap holds, and no worker gives up while another may return what it holds."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from aimlasync.bulk.workers.money import Claim, Claims
from aimlasync.quota.server import LeaseServer, Link, ServedQuota
from aimlasync.simulator import Latency, Simulator
from tests.support.commands import cities, finish, lines, start, until

Vendor = Callable[..., Simulator]

# A call may cost 130 tokens at this price and takes a thousandth of it, as the simulator states; one fits at a time.
ONE_AT_A_TIME = ("--params", '{"max_tokens": 60}', "--price", "1000,1000", "--max-usd", "0.2")
WORDS = ("bulk", "in.csv", "--prompt", "Where is {city}?", "-o", "out.jsonl", *ONE_AT_A_TIME)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_job_is_done_though_one_worker_holds_all_that_is_left(vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=0.02))
    cities(40)
    code, _, err = finish(start(*WORDS, "--workers", "3"))
    assert code == 0, err
    assert Counter(line["custom_id"] for line in lines("out.jsonl")) == {f"row-{n}": 1 for n in range(1, 41)}
    assert len(sim.ledger) == 40
    assert sim.ledger.cost_usd < 0.2


def test_a_cap_below_one_call_ends_all_workers_and_nothing_is_sent(vendor: Vendor) -> None:
    sim = vendor()
    cities(40)
    code, _, err = finish(start(*WORDS, "--max-usd", "0.05", "--workers", "3"))
    assert code == 1, err
    assert "less is left of $0.05 for all processes together; raise --max-usd; 0 rows done" in err
    assert len(sim.ledger) == 0


def test_ctrl_c_ends_a_worker_that_waits(vendor: Vendor) -> None:
    sim = vendor(latency=Latency.of(ttft=0.5))
    cities(40)
    process = start(*WORDS, "--workers", "2")
    until(lambda: len(sim.ledger) >= 2)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert len(lines("out.jsonl")) == len(sim.ledger) < 40


class Ears(Link):
    """A link that keeps what is sent."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def send(self, kind: str, body: object = None, number: int = 0) -> None:
        self.heard.append(kind)


def test_the_parent_says_when_there_may_be_more_and_when_there_is_none() -> None:
    claims, (a, b, c) = Claims(3), (Ears(), Ears(), Ears())
    claims.add(a, has_returned=True)
    claims.add(b, has_returned=False)
    assert (a.heard, b.heard) == ([], [])
    # Also to who waits: it may have tried before.
    claims.add(c, has_returned=True)
    assert (a.heard, b.heard, c.heard) == (["more"], ["more"], [])
    claims.add(a, has_returned=False)
    claims.add(b, has_returned=False)
    assert (a.heard, b.heard, c.heard) == (["more"], ["more"], ["more"])
    claims.add(c, has_returned=False)
    assert [link.heard[-1] for link in (a, b, c)] == ["none"] * 3


def test_what_is_returned_while_a_worker_says_that_it_waits_is_tried_for() -> None:
    claims, (a, b) = Claims(2), (Ears(), Ears())
    # Its word that it waits comes after the end of a part whose money it had not found.
    claims.part_ended()
    claims.add(a, has_returned=False)
    assert a.heard == ["more"]
    claims.add(a, has_returned=False)
    assert a.heard == ["more", "none"]
    claims = Claims(2)
    claims.add(a, has_returned=False)
    claims.drop(a)
    claims.add(b, has_returned=False)
    assert b.heard == []
    # The worker in the place of the one that was killed.
    claims.add(a, has_returned=False)
    assert (a.heard[-1], b.heard[-1]) == ("none", "none")


async def test_a_worker_returns_what_it_holds_before_it_waits_and_all_its_calls_wait_for_one_answer() -> None:
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    async with LeaseServer(hear=lambda link, kind, body: heard.put_nowait((kind, body))) as server:
        quotas = [ServedQuota(server.address) for _ in range(2)]
        budget, other = (quota.budget(1.0) for quota in quotas)
        for each, needs in ((budget, 600_000), (other, 600_000)):
            each._short = needs * 10**6
        assert await budget.refill()
        assert not await other.refill()
        claim = Claim(budget)
        claim.link = await quotas[0].connect()
        waits = [asyncio.create_task(claim.more()) for _ in range(3)]
        assert await heard.get() == ("short", b"\xc3")
        assert await other.refill()
        waits[0].cancel()
        claim.settle(True)
        assert await asyncio.gather(*waits[1:]) == [True, True]
        assert not claim.is_waiting
        assert heard.empty()
        for quota in quotas:
            await quota.close()
