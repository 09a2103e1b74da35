"""Claims about `Limiter.held_by`: it names what the head of the queue waits for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aimlasync.admission.adaptive import AdaptiveLimit
from aimlasync.admission.endpoint_limiter import EndpointLimiter
from aimlasync.admission.limiter import Limiter
from aimlasync.config import Limits
from tests.support.virtual import run


@pytest.mark.parametrize(
    ("limits", "tokens", "ahead", "what"),
    [
        ({}, 0.0, 5, "concurrency"),
        ({"requests_per_minute": 6}, 0.0, 1, "requests"),
        ({"tokens_per_minute": 600}, 500.0, 1, "tokens"),
        ({"requests_per_minute": 6000, "tokens_per_minute": 600}, 700.0, 1, "tokens"),
    ],
)
def test_the_head_of_the_line_is_told_what_it_waits_for(
    limits: dict[str, Any], tokens: float, ahead: int, what: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = Limiter(EndpointLimiter(Limits(**limits)), limit=5)
        assert limiter.held_by(loop.time()) is None
        for _ in range(ahead):
            assert limiter.enter_nowait(tokens, loop.time()) is not None
        waiting = asyncio.create_task(limiter.enter(tokens))
        await asyncio.sleep(0)
        assert limiter.held_by(loop.time()) == what
        limiter.pause(loop.time() + 5)
        assert limiter.held_by(loop.time()) == "pause"
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert limiter.held_by(loop.time()) is None

    run(main())


def test_a_learned_rate_has_its_own_name() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        adaptive = AdaptiveLimit()
        adaptive.answered(loop.time(), 8, loop.time(), 7)
        adaptive.refused(loop.time(), loop.time(), 7, kind="rate")
        limiter = Limiter(EndpointLimiter(Limits()), limit=8, learned_rate=adaptive)
        waiting = asyncio.create_task(limiter.enter(0.0))
        await asyncio.sleep(0)
        assert limiter.held_by(loop.time()) == "rate"
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    run(main())
