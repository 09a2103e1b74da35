"""Whose the limits of an endpoint are: each model learns its own, or all share one law, because they are the account's.

What the refusals say together is weighed in `admission.account`; here the lanes of the models are given the law that
follows. It has no I/O. It may import `admission` and the type of `upstream`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aimlasync.admission.account import AccountSigns, begun, law_of_all
from aimlasync.admission.adaptive import AdaptiveLimit
from aimlasync.admission.endpoint_limiter import UNLIMITED
from aimlasync.admission.learned import Watch
from aimlasync.admission.outcome import Refused

if TYPE_CHECKING:
    from aimlasync.endpoints.lane import Lane
    from aimlasync.endpoints.upstream import Upstream

_log = logging.getLogger("aimlasync.limits")


class AccountLimits:
    """The signs that the limits of an endpoint are its account's, and the one law of all models while they are."""

    __slots__ = ("_law", "_upstream", "_watch", "signs")

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.signs = AccountSigns()
        # None while each model has its own.
        self._law: AdaptiveLimit | None = None
        self._watch = Watch()

    def refused(self, lane: Lane, sent_at: float, now: float, kind: Refused | None, *, names_account: bool) -> None:
        """Take in a refusal of one model: it may speak of a limit of the account."""
        # A server that is away refuses no model in particular.
        if kind != "down" or names_account:
            is_rate = kind == "rate"
            # What names attempts at once is not refused by chance.
            share = 0.0 if kind == "concurrency" else lane.counters.share_refused
            self.signs.refused(lane.model, sent_at, now, share=share, names_account=names_account, names_rate=is_rate)
            self._heed()

    def answered(self, lane: Lane, sent_at: float, now: float) -> None:
        """Take in an answer of one model while another is refused."""
        self.signs.answered(lane.model, sent_at, now)
        self._heed()

    def join(self, lane: Lane) -> None:
        """Let a lane learn with all others, where the limits are the account's."""
        if self._law is not None:
            lane.counted, lane.law, lane.watch = self._upstream.limiter, self._law, self._watch
            lane.limiter.learned_rate, lane.limiter.limit = None, UNLIMITED

    def answers(self, lane: Lane) -> int:
        """Return the answers of a model, or of all together where the limits are the account's."""
        if self._law is None:
            return lane.counters.answered
        upstream = self._upstream
        return upstream.forgotten.answered + sum(each.counters.answered for each in upstream.lanes.values())

    def _heed(self) -> None:
        """Let all models have one law, or each its own, as the refusals say."""
        upstream, is_account = self._upstream, self.signs.is_account
        if is_account == (self._law is not None) or upstream.stated.concurrency is not None:
            return
        now = asyncio.get_running_loop().time()
        laws, limiter = [lane.law for lane in upstream.asked()], upstream.limiter
        self._law = law_of_all(laws, limiter.in_flight, upstream.stated, now) if is_account else None
        limiter.learned_rate = self._law
        limiter.limit = UNLIMITED if self._law is None else int(self._law.limit)
        whose = "each model has its own" if self._law is None else "they are the account's"
        _log.info("the limits of %s, as its refusals say: %s", upstream.endpoint.name, whose)
        for lane in upstream.lanes.values():
            if self._law is not None:
                upstream.keep(lane)
                self.join(lane)
            else:
                law = begun(upstream.law_for(lane.model), lane.limiter.in_flight, now)
                lane.counted, lane.law, lane.watch = lane.limiter, law, Watch()
                lane.limiter.learned_rate, lane.limiter.limit = law, int(law.limit)
            lane.law_since = now
        # Once each has its new limit: the endpoint admits from all of them.
        for lane in upstream.lanes.values():
            if lane.limiter.queue.waiting:
                lane.limiter.advance()
