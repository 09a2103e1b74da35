"""Whether the refusals of several models come from one limit of the account, and not from a limit of each model.

A row of refusals begins with a refusal, and ends with an answer to an attempt that was sent after that refusal was
known. It speaks for the account if two models are refused again in it, by attempts sent after its beginning, and more
often than they are at other times; unless both are passed over: refused since before another one was answered. A model
that is refused again after another one was answered speaks for limits of each model. Three signs more for one than for
the other decide. Where refusals last, no row is longer than others: `admission.account_trial` finds out.

Servers name the account also where the limits are each model's. So a refusal that names it decides at once, but only
the first time. What was taken for the account's is given back to the models where one of them is spared: of three
refusals, in the mean, that met other models, one would have met it. Of many models one is spared by chance sooner, so
that takes more; and twice as much each time that it was given back. It is arithmetic alone. It may import
`admission.adaptive`, `admission.hung` and `config`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from aimlasync.admission.adaptive import AdaptiveLimit, Learned
from aimlasync.admission.hung import Hung
from aimlasync.config import Limits

# So many signs decide. Two models whose own minutes are used up at the same time look like an account once or twice.
_SIGNS = 3
# More refusals in a row than chance makes of the usual share: so many standard deviations above the mean, and one.
_DEVIATIONS = 2
# Seconds after a give-back in which no row counts: all models begin together, and are refused together.
_DEAF = 30.0
# The refusals that would have met a model in the mean, from which on it is spared: the first time, and at most. Of so
# many answers the latest half counts for twice the others.
_SPARED, _MAX_SPARED = 3.0, 48.0
_ANSWERS = 64
# So many models are watched at once, of which none was answered yet.
_MAX_MODELS = 256


class AccountSigns:
    """What the refusals of an endpoint's models say together. Its mutable state: the row under way, and the balance."""

    __slots__ = (
        "_again",
        "_answers",
        "_balance",
        "_began",
        "_beside",
        "_count",
        "_deaf_until",
        "_enough",
        "_in_row",
        "_passed",
        "_shares",
        "_since",
        "_spared",
        "_was_named",
        "is_account",
        "refused_models",
    )

    def __init__(self) -> None:
        self.is_account = False
        """Whether the limits are the account's."""
        # Whether a row is under way, when it began, the models that were refused again in it, how often, the shares of
        # their attempts that are refused at all times, summed up, and the answers to older attempts beside it.
        self._in_row = False
        self._began = 0.0
        self._again: set[str] = set()
        self._count, self._shares, self._beside = 0, 0.0, 0
        self.refused_models: dict[str, float] = {}
        """The models that were refused and not answered since -> when another one was, infinite before that. While
        there is none, and the limits are not the account's, an answer says nothing."""
        # Those of them that were refused while another one was answered.
        self._passed: set[str] = set()
        # Signs for the account less signs for the models, from 0 to _SIGNS; whether a refusal named the account.
        self._balance = 0
        self._was_named = False
        # Since when the limits are taken for the account's, and until when no row counts.
        self._since = self._deaf_until = -math.inf
        # While they are: the answers of each model of late, how many refusals would have met it in the mean since its
        # last one, and how many of them are enough.
        self._enough = _SPARED
        self._answers: dict[str, float] = {}
        self._spared: dict[str, float] = {}

    def is_passed_over(self, model: str) -> bool:
        """Whether a model was refused, and not answered since, while another one was: its waits are its own."""
        return not self.is_account and model in self._passed

    def refused(
        self,
        model: str,
        sent_at: float,
        now: float,
        *,
        share: float,
        names_account: bool = False,
        names_rate: bool = False,
    ) -> None:
        """Take in a refusal of an attempt that was sent at `sent_at`, of a model of which such a `share` is refused.

        One that names a rate (`names_rate`) and not whose begins no row: each model learns a rate from its own.
        """
        if names_account and not self._was_named:
            self._was_named = True
            self.take_for_account(now)
        elif sent_at >= self.refused_models.get(model, math.inf):
            self.refused_models[model] = math.inf
            self._balance = max(self._balance - 1, 0)
        if self.is_account and sent_at >= self._since:
            self._spare(model, now)
        if len(self.refused_models) >= _MAX_MODELS:
            self.refused_models.clear()
            self._passed.clear()
        self.refused_models.setdefault(model, math.inf)
        if names_rate and not names_account:
            return
        if not self._in_row:
            self._in_row, self._began = True, now
            self._again.clear()
            self._count, self._shares, self._beside = 0, 0.0, 0
        elif sent_at >= self._began and len(self._again) < _MAX_MODELS:
            self._again.add(model)
            self._count += 1
            self._shares += share

    def _spare(self, model: str, now: float) -> None:
        """Note that this model was refused, and those that were answered of late were not."""
        answers, spared = self._answers, self._spared
        if not self._in_row and (total := sum(answers.values())):
            for other, count in answers.items():
                spared[other] = spared.get(other, 0.0) + count / total
            if total > _ANSWERS:
                self._answers = {other: count / 2 for other, count in answers.items() if count > 0.5}
        spared.pop(model, None)
        if max(spared.values(), default=0.0) >= self._enough + math.log(max(1, len(spared))):
            self.give_back(now)

    def answered(self, model: str, sent_at: float, now: float) -> None:
        """Take in an answer to an attempt that was sent at `sent_at`."""
        if self.is_account and (model in self._answers or len(self._answers) < _MAX_MODELS):
            self._answers[model] = self._answers.get(model, 0) + 1
        if sent_at < self._began:
            self._beside += 1
            return
        self.refused_models.pop(model, None)
        is_sign = self._in_row and now >= self._deaf_until and self._speaks()
        self._passed.discard(model)
        self._passed.update(self.refused_models)
        if is_sign:
            self.refused_models.clear()
            self._balance = min(self._balance + 1, _SIGNS)
            if self._balance == _SIGNS and not self.is_account:
                self.take_for_account(now)
        self._in_row = False
        for other, since in self.refused_models.items():
            if since == math.inf:
                self.refused_models[other] = now

    def take_for_account(self, now: float) -> None:
        """Take the limits for the account's, as if refusals had said so."""
        self.is_account, self._since = True, now

    def give_back(self, now: float) -> None:
        """Take the limits for those of each model."""
        self._deaf_until = now + _DEAF
        self._balance, self.is_account = 0, False
        self._enough = min(2 * self._enough, _MAX_SPARED)
        self._answers.clear()
        self._spared.clear()

    def _speaks(self) -> bool:
        """Whether the row speaks for the account: two models are refused in it, and more often than at other times."""
        if len(self._again) < 2 or self._again <= self._passed:
            return False
        share = self._shares / self._count
        expected = (self._count + self._beside) * share
        return self._count > expected + _DEVIATIONS * math.sqrt(expected * (1 - share)) + 1


def law_of_all(
    laws: Sequence[AdaptiveLimit], in_flight: int, limits: Limits, now: float, rate: float | None = None
) -> AdaptiveLimit:
    """Return one law for the models that had these, of which so many attempts are in flight together.

    `rate` is what they were answered a second while more was refused, where that was measured.
    """
    if not laws:
        return AdaptiveLimit(is_rated=limits.is_rated)
    levels, rates = [law.limit for law in laws], [law.rate for law in laws if law.rate is not None]
    # Models that use little of their limits have large ones together.
    level = min(sum(levels), max(in_flight, *levels))
    if rate is None and len(rates) == len(laws):
        rate = sum(rates)
    start = Learned(level, rate)
    return begun(AdaptiveLimit(is_rated=limits.is_rated, start=start), in_flight, now)


def begun(law: AdaptiveLimit, in_flight: int, now: float) -> AdaptiveLimit:
    """Count what is in flight as sent now: of a law that nothing was sent by, the first refusal says one a second.

    What hung when the law was put aside may have ended since; what still does is found again.
    """
    law.hung = Hung()
    for _ in range(in_flight):
        law.sent(now)
    return law
