"""Whether the refusals of several models come from one limit of the account, and not from a limit of each model.

A row of refusals begins with a refusal, and ends with an answer to an attempt that was sent after that refusal was
known. A row in which two models are refused again, by attempts sent after its beginning, speaks for the account. A
model that is refused, and refused again after another one was answered, speaks for limits of each model. Three signs
more for one than for the other decide. A refusal that names the account decides at once. It is arithmetic alone, and
imports nothing of this library.
"""

from __future__ import annotations

import math

# So many signs decide. Two models whose own minutes are used up at the same time look like an account once or twice.
_SIGNS = 3
# So many models are watched at once, of which none was answered yet.
_MAX_MODELS = 256


class AccountSigns:
    """What the refusals of an endpoint's models say together. Its mutable state: the row under way, and the balance."""

    __slots__ = ("_again", "_balance", "_began", "_in_row", "is_account", "refused_models")

    def __init__(self) -> None:
        self.is_account = False
        """Whether the limits are the account's."""
        # Whether a row is under way, when it began, and the models that were refused again in it.
        self._in_row = False
        self._began = 0.0
        self._again: set[str] = set()
        self.refused_models: dict[str, float] = {}
        """The models that were refused and not answered since -> when another one was, infinite before that. While
        there is none, an answer says nothing."""
        # Signs for the account less signs for the models, from 0 to 2 * _SIGNS.
        self._balance = 0

    def refused(self, model: str, sent_at: float, now: float, *, names_account: bool = False) -> None:
        """Take in a refusal of an attempt that was sent at `sent_at`."""
        if names_account:
            self._balance, self.is_account = 2 * _SIGNS, True
        elif sent_at >= self.refused_models.get(model, math.inf):
            self.refused_models[model] = math.inf
            self._balance = max(self._balance - 1, 0)
            if not self._balance:
                self.is_account = False
        if len(self.refused_models) >= _MAX_MODELS:
            self.refused_models.clear()
        self.refused_models.setdefault(model, math.inf)
        if not self._in_row:
            self._in_row, self._began = True, now
            self._again.clear()
        elif sent_at >= self._began:
            self._again.add(model)

    def answered(self, model: str, sent_at: float, now: float) -> None:
        """Take in an answer to an attempt that was sent at `sent_at`."""
        if sent_at < self._began:
            return
        if self._in_row and len(self._again) > 1:
            self.refused_models.clear()
            self._balance = min(self._balance + 1, 2 * _SIGNS)
            if self._balance == _SIGNS and not self.is_account:
                self._balance, self.is_account = 2 * _SIGNS, True
        self._in_row = False
        self.refused_models.pop(model, None)
        for other, since in self.refused_models.items():
            if since == math.inf:
                self.refused_models[other] = now
