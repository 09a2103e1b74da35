"""A worker's side of a shared quota: the lease it spends from, and the next one.

Law: one lease at a time and one question at a time; it knows no line, and is told what the line wants. Time is the
loop's, and cautious: a lease is taken to begin when the answer is here, and to end as if it had begun when the
question was sent. All mutable state is the lease, what was spent of it, what must still be told, and the timer.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Literal

from aimlasync.config import Limits
from aimlasync.quota.protocol import Ask, Lease, Quota, QuotaDownError

# An estimate that has grown since the lease was asked for still fits: the rest is settled with the answer.
_SHORT = 0.8
# Seconds until a settled difference is told, when nothing is asked meanwhile.
_TELL = 0.5
# Seconds until a place that failed is asked again, and for what a closing worker gives back.
_AGAIN = 1.0
# Seconds until a worker says that it is still there, when it wants nothing and when it waits for its lease to begin:
# its part stays its own, and a place that forgot is told so.
_STILL_HERE = 20.0
_STILL_WAITING = 1.0
# So many leases in a row that nothing could be spent of are followed by a rest.
_UNFIT = 5
# Seconds between two warnings.
_WARN_AGAIN = 60.0

_log = logging.getLogger("aimlasync.quota")


class Slip:
    """One attempt's part of a lease."""

    __slots__ = ("lease", "tokens")

    def __init__(self, lease: Held, tokens: float) -> None:
        self.lease = lease
        self.tokens = tokens


class Held:
    """A lease in hand."""

    __slots__ = (
        "ends",
        "epoch",
        "granted",
        "left_requests",
        "left_tokens",
        "number",
        "spent_requests",
        "spent_tokens",
        "starts",
        "step",
    )

    def __init__(self, lease: Lease, asked: float, now: float) -> None:
        self.number = lease.number
        self.epoch = lease.epoch
        self.step = lease.step
        self.granted = (lease.requests, lease.tokens)
        self.left_requests = lease.requests
        self.left_tokens = lease.tokens
        self.spent_requests = 0.0
        self.spent_tokens = 0.0
        self.starts = now + lease.starts
        self.ends = asked + lease.starts + lease.seconds


class Leases:
    """What one endpoint may send, leased from `quota`; `moved` is called whenever there may be more."""

    __slots__ = (
        "_asking",
        "_closed",
        "_corrections",
        "_epoch",
        "_held",
        "_held_by",
        "_limits",
        "_moved",
        "_paused_until",
        "_quota",
        "_rpm",
        "_spent_last",
        "_telling",
        "_timer",
        "_tpm",
        "_unfit",
        "_warned",
        "_worker",
    )

    def __init__(self, quota: Quota, limits: Limits) -> None:
        if not limits.is_rated:
            raise ValueError("quota= shares what limits= allow: give Limits(requests_per_minute=..., ...) as well")
        self._quota = quota
        self._limits = limits
        self._moved: Callable[[], None] = _nothing
        # In force: lower than our own where another worker gave less.
        self._rpm = limits.requests_per_minute
        self._tpm = limits.tokens_per_minute
        self._worker = secrets.token_hex(6)
        self._epoch = ""
        self._held: Held | None = None
        # What the lease before came to: the next one is asked for a little more.
        self._spent_last = 0
        # Leases in a row of which nothing could be spent.
        self._unfit = 0
        self._held_by: Literal["requests", "tokens", "pause"] = "requests"
        # Step -> tokens; of the epoch alone.
        self._corrections: dict[int, float] = {}
        self._paused_until = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        # What looks at the line again, and what tells what nobody asks about.
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._warned = float("-inf")
        self._closed = False

    def on_move(self, moved: Callable[[], None]) -> None:
        """Say what is to be called when there may be more to send."""
        self._moved = moved

    @property
    def counts_tokens(self) -> bool:
        """Whether an estimate of tokens is of any use here: another worker may have given a limit of tokens."""
        return True

    @property
    def held_by(self) -> Literal["requests", "tokens", "pause"]:
        """What the next attempt waits for."""
        return self._held_by

    def take(self, tokens: float, now: float) -> Slip | None:
        """Take one attempt of about `tokens` out of the lease, or return None."""
        held = self._held
        if held is None or not held.starts <= now < held.ends:
            return None
        if self._rpm is not None and held.left_requests < 1:
            return None
        if self._tpm is not None:
            # What is larger than a minute goes alone, at the price of a minute.
            tokens = min(tokens, self._tpm)
            if held.left_tokens < tokens * _SHORT:
                return None
            held.left_tokens = max(0.0, held.left_tokens - tokens)
            held.spent_tokens += tokens
        held.left_requests -= 1
        held.spent_requests += 1
        return Slip(held, tokens)

    def want(self, calls: int, tokens: float, now: float) -> None:
        """Lease enough for `calls` attempts, the first of about `tokens`; `moved` is called when they may go."""
        if self._held is not None and now < self._held.starts:
            # It is there, and its time will come.
            return
        if self._asking is not None or self._closed:
            return
        if self._unfit >= _UNFIT:
            # A place that grants what is of no use is not asked without end.
            self._unfit = 0
            self._look_again(_AGAIN, asyncio.get_running_loop())
        else:
            self._ask(calls + self._spent_last, tokens, ends=True)

    def settle(self, slip: Slip, tokens: float) -> None:
        """Note what an attempt really took."""
        difference, held = tokens - slip.tokens, slip.lease
        if not difference or self._tpm is None:
            return
        slip.tokens = tokens
        if held is self._held:
            held.spent_tokens = max(0.0, held.spent_tokens + difference)
        elif held.epoch == self._epoch:
            self._corrections[held.step] = self._corrections.get(held.step, 0.0) + difference
        elif difference > 0:
            # The place that counted it is not the one that is asked now: there it is as if it were sent now.
            self._owe({0: difference})
        else:
            return
        self._tell(_TELL)

    def withdraw(self, slip: Slip) -> None:
        """Put back the part of an attempt that was never sent."""
        held = slip.lease
        if held is self._held:
            held.left_requests += 1
            held.spent_requests -= 1
            held.left_tokens += slip.tokens
            held.spent_tokens = max(0.0, held.spent_tokens - slip.tokens)
            slip.tokens = 0.0
        else:
            self.settle(slip, 0.0)

    def pause(self, until: float) -> None:
        """Tell the other workers that the server told the account to wait until then."""
        self._paused_until = max(self._paused_until, until)
        self._tell(0.0)

    async def close(self) -> None:
        """Give back what is left."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._timer, self._telling):
            if timer is not None:
                timer.cancel()
        if self._asking is not None:
            # What it brings must be given back, else it is lost for a minute.
            await asyncio.wait([self._asking], timeout=_AGAIN)
            if self._asking is not None:
                self._asking.cancel()
        if self._epoch:
            try:
                async with asyncio.timeout(_AGAIN):
                    await self._quota.lease(self._question(0, 0.0, ends=True, leaves=True))
            except Exception as error:  # noqa: BLE001  # a place that is gone takes nothing back
                _log.debug("a lease could not be given back: %s", type(error).__name__)

    def _tell(self, delay: float) -> None:
        """See to it that the place is told by then, even if nothing is asked."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._telling is not None:
            if self._telling.when() <= loop.time() + delay:
                return
            self._telling.cancel()
        self._telling = loop.call_later(delay, self._tell_now)

    def _tell_now(self) -> None:
        self._telling = None
        held = self._held
        now = asyncio.get_running_loop().time()
        if self._asking is not None:
            self._tell(_TELL)
        elif held is None or not held.starts <= now < held.ends or self._corrections or self._paused_until > now:
            # What was leased and not spent, or that nothing is wanted: nobody need wait for it.
            self._ask(0, 0.0, ends=held is not None and now >= held.ends)
        else:
            self._tell_later(now)

    def _tell_later(self, now: float) -> None:
        held = self._held
        if held is None:
            self._tell(_STILL_HERE)
        else:
            self._tell(min(_STILL_WAITING, held.starts - now) if now < held.starts else max(0.0, held.ends - now))

    def _ask(self, calls: int, tokens: float, *, ends: bool) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        ending = self._held if ends else None
        question = self._question(calls, tokens, ends=ends)
        loop = asyncio.get_running_loop()
        self._asking = loop.create_task(self._answered(question, ending, loop), name="aimlasync lease")

    def _question(self, calls: int, tokens: float, *, ends: bool, leaves: bool = False) -> Ask:
        """What is to be said, and taken off the list of what is to be said."""
        held = self._held if ends else None
        corrections, self._corrections = self._corrections, {}
        paused_until, self._paused_until = self._paused_until, float("-inf")
        if held is not None:
            self._held = None
            self._unfit = self._unfit + 1 if calls and not held.spent_requests else 0
            self._spent_last = int(held.spent_requests)
        return Ask(
            worker=self._worker,
            requests_per_minute=self._limits.requests_per_minute,
            tokens_per_minute=self._limits.tokens_per_minute,
            calls=calls,
            tokens=tokens,
            epoch=self._epoch,
            lease=0 if held is None else held.number,
            spent_requests=0.0 if held is None else held.spent_requests,
            spent_tokens=0.0 if held is None else held.spent_tokens,
            corrections=corrections,
            pause=max(0.0, paused_until - asyncio.get_running_loop().time()),
            leaves=leaves,
        )

    async def _answered(self, question: Ask, ending: Held | None, loop: asyncio.AbstractEventLoop) -> None:
        asked = loop.time()
        try:
            lease = await self._quota.lease(question)
        except Exception as error:  # noqa: BLE001  # whatever it is, the line goes on when the place is back
            self._asking = None
            self._warn(error, loop.time())
            # What it was not told must be told.
            if question.pause:
                self._paused_until = max(self._paused_until, asked + question.pause)
            self._owe(question.corrections)
            self._look_again(_AGAIN, loop)
            return
        self._asking = None
        now = loop.time()
        if lease.requests_per_minute is not None or lease.tokens_per_minute is not None:
            self._rpm, self._tpm = lease.requests_per_minute, lease.tokens_per_minute
        if lease.epoch != self._epoch:
            # Another place, or one that lost its memory: what was counted too high in the old one is lost.
            self._epoch = lease.epoch
            corrections, self._corrections = self._corrections, {}
            self._owe(corrections)
        elif ending is not None and lease.ended:
            moved = self._corrections.pop(ending.step, 0.0)
            ending.step = lease.ended
            if moved:
                self._corrections[ending.step] = self._corrections.get(ending.step, 0.0) + moved
        if lease.number:
            # No more than was asked for, whatever it says.
            lease.requests = min(lease.requests, max(1.0, question.calls))
            self._held = Held(lease, asked, now)
            self._held_by = lease.held_by
            self._tell_later(now)
            self._look_again(lease.starts, loop)
        elif not self._closed:
            self._tell_later(now)
            # Who came while this was said has not been asked for.
            self._moved()

    def _owe(self, corrections: dict[int, float]) -> None:
        """See to it that what was taken beyond what was counted is told, wherever that was."""
        more = sum(tokens for tokens in corrections.values() if tokens > 0)
        if more:
            self._corrections[0] = self._corrections.get(0, 0.0) + more

    def _warn(self, error: Exception, now: float) -> None:
        again = now - self._warned < _WARN_AGAIN
        if not again:
            self._warned = now
        # The text of another error may hold a secret.
        why = str(error) if isinstance(error, QuotaDownError) else type(error).__name__
        level = logging.DEBUG if again else logging.WARNING
        _log.log(level, "no lease of the shared quota (%s): calls wait, and it is asked again every second", why)

    def _look_again(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._closed:
            return
        if seconds > 0:
            self._timer = loop.call_later(seconds, self._moved)
        else:
            self._moved()


def _nothing() -> None:
    return None
