"""Whose the limits of an endpoint are: each model learns its own, or all share one law, because they are the account's.

What the refusals say together is weighed in `admission.account`; here the lanes of the models are given the law that
follows. It has no I/O. It may import `admission` and the type of `upstream`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimlasync.admission.account import AccountSigns, begun, law_of_all
from aimlasync.admission.account_trial import AccountTrial
from aimlasync.admission.adaptive import AdaptiveLimit, Learned
from aimlasync.admission.endpoint_limiter import UNLIMITED
from aimlasync.admission.learned import Watch
from aimlasync.admission.outcome import Refused
from aimlasync.admission.recall import Recall
from aimlasync.logs import log_of

if TYPE_CHECKING:
    from aimlasync.endpoints.lane import Lane
    from aimlasync.endpoints.upstream import Upstream

_log = log_of("aimlasync.limits")


class AccountLimits:
    """The signs that the limits of an endpoint are its account's, and the one law of all models while they are."""

    __slots__ = ("_law", "_own", "_recall", "_trial", "_upstream", "_watch", "signs")

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.signs = AccountSigns()
        self._trial = AccountTrial()
        # None while each model has its own.
        self._law: AdaptiveLimit | None = None
        self._watch, self._recall = Watch(), Recall()
        # While a trial is on: what each model had learned before.
        self._own: dict[Lane, tuple[AdaptiveLimit, Watch]] = {}

    def refused(self, lane: Lane, sent_at: float, now: float, kind: Refused | None, *, names_account: bool) -> None:
        """Take in a refusal of one model: it may speak of a limit of the account."""
        # A server that is away refuses no model in particular.
        if kind != "down" or names_account:
            is_rate = kind in ("rate", "tokens")
            # What names attempts at once is not refused by chance.
            share = 0.0 if kind == "concurrency" else lane.counters.share_refused
            self.signs.refused(lane.model, sent_at, now, share=share, names_account=names_account, names_rate=is_rate)
            if lane.counters.answered:
                self._trial.refused(lane.model, now, self._answers)
            self._heed(now)

    def answered(self, lane: Lane, sent_at: float, now: float) -> None:
        """Take in an answer of one model while another is refused, or while the limits are the account's."""
        signs, trial = self.signs, self._trial
        signs.answered(lane.model, sent_at, now)
        if not signs.is_account and self._learns and trial.begins(sent_at, now, self._answers):
            signs.take_for_account(now)
        self._heed(now)

    def join(self, lane: Lane) -> None:
        """Let a lane learn with all others, where the limits are the account's."""
        if self._law is not None:
            lane.counted, lane.law, lane.watch = self._upstream.limiter, self._law, self._watch
            lane.recall = self._recall
            lane.limiter.learned_rate, lane.limiter.limit = None, UNLIMITED

    def start(self, lane: Lane, known: Learned, now: float) -> None:
        """Let the law that counts for a lane, its own or that of all, start again with what is known."""
        _log.info("%s refuses no more: half of what it took before a bad time is tried again", lane.name)
        counted, is_rated = lane.counted, self._upstream.stated.is_rated
        law = begun(AdaptiveLimit(is_rated=is_rated, start=known), counted.in_flight, now)
        lanes = [lane] if self._law is None else list(self._upstream.lanes.values())
        for each in lanes:
            each.law, each.law_since = law, now
        if self._law is not None:
            self._law = law
        counted.learned_rate, counted.limit = law, law.allowed

    def answers(self, lane: Lane) -> int:
        """Return the answers of a model, or of all together where the limits are the account's."""
        return lane.counters.answered if self._law is None else self._answers()

    def attempts(self, lane: Lane) -> int:
        """Return the attempts of a model, or of all together where the limits are the account's."""
        lanes = [lane] if self._law is None else self._upstream.lanes.values()
        return sum(each.counters.attempts for each in lanes)

    def tokens_each(self, lane: Lane) -> float:
        """Return the tokens of an answer of a model, or of all together, in the mean."""
        lanes = [lane] if self._law is None else list(self._upstream.lanes.values())
        tokens = sum(each.counters.prompt_tokens + each.counters.completion_tokens for each in lanes)
        return tokens / max(1, sum(each.counters.answered for each in lanes))

    def _answers(self) -> int:
        upstream = self._upstream
        return upstream.forgotten.answered + sum(each.counters.answered for each in upstream.lanes.values())

    @property
    def _learns(self) -> bool:
        return self._upstream.stated.concurrency is None

    def _heed(self, now: float) -> None:
        """Let all models have one law, or each its own, as the refusals or a trial say."""
        signs, trial = self.signs, self._trial
        if signs.is_account and trial.is_on and (is_account := trial.shows(now, self._answers)) is not None:
            if is_account:
                trial.end(now, is_account=True)
                self._own.clear()
                self._say()
            else:
                signs.give_back(now)
        if signs.is_account != (self._law is not None) and self._learns:
            was_tried = trial.is_on
            self._share(now) if signs.is_account else self._give_back(now)
            if not was_tried:
                self._say()

    def _say(self) -> None:
        whose = "they are the account's" if self.signs.is_account else "each model has its own"
        _log.info("the limits of %s, as its refusals say: %s", self._upstream.endpoint.name, whose)

    def _share(self, now: float) -> None:
        """Let all models have one law."""
        upstream, trial, limiter = self._upstream, self._trial, self._upstream.limiter
        laws = [lane.law for lane in upstream.asked()]
        self._recall = Recall(self._answers())
        self._law = law_of_all(laws, limiter.in_flight, upstream.stated, now, trial.rate)
        limiter.learned_rate, limiter.limit = self._law, self._law.allowed
        for lane in upstream.lanes.values():
            upstream.keep(lane)
            if trial.is_on:
                self._own[lane] = lane.law, lane.watch
            self.join(lane)
            lane.law_since = now
        self._advance()

    def _give_back(self, now: float) -> None:
        """Let each model have a law of its own: after a trial, the one that it had before."""
        upstream, limiter = self._upstream, self._upstream.limiter
        self._trial.end(now, is_account=False)
        self._law = limiter.learned_rate = None
        limiter.limit = UNLIMITED
        for lane in upstream.lanes.values():
            lane.recall = Recall(lane.counters.answered)
            law, lane.watch = self._own.get(lane) or (upstream.law_for(lane.model), Watch())
            lane.counted, lane.law = lane.limiter, begun(law, lane.limiter.in_flight, now)
            lane.limiter.learned_rate, lane.limiter.limit = law, law.allowed
            lane.law_since = now
        self._own.clear()
        self._advance()

    def _advance(self) -> None:
        # Once each has its new limit: the endpoint admits from all of them.
        for lane in self._upstream.lanes.values():
            if lane.limiter.queue.waiting:
                lane.limiter.advance()
