"""Whether the refusals of several models come from one limit of the account, and not from a limit of each model.

A row of refusals begins with a refusal, and ends with an answer to an attempt that was sent after that refusal was
known. A row in which two models are refused again, by attempts sent after its beginning, speaks for the account. A row
in which one model is refused again while another is answered speaks for the models. Three rows more for one than for
the other decide. A refusal that names the account decides at once. It is arithmetic alone, and imports nothing of this
library.
"""

from __future__ import annotations

# So many rows decide. Two models whose own minutes are used up at the same time look like an account once or twice.
_ROWS = 3


class AccountSigns:
    """What the refusals of an endpoint's models say together. Its mutable state: the row under way, and the balance."""

    __slots__ = ("_again", "_balance", "_began", "in_row", "is_account")

    def __init__(self) -> None:
        self.in_row = False
        """Whether a row of refusals is under way: only then `answered` has to be called."""
        self.is_account = False
        """Whether the limits are the account's."""
        self._began = 0.0
        # The models that were refused again in this row.
        self._again: set[str] = set()
        # Rows for the account less rows for the models, from 0 to 2 * _ROWS.
        self._balance = 0

    def refused(self, model: str, sent_at: float, now: float, *, names_account: bool = False) -> None:
        """Take in a refusal of an attempt that was sent at `sent_at`."""
        if names_account:
            self._balance, self.is_account = 2 * _ROWS, True
        if not self.in_row:
            self.in_row, self._began = True, now
            self._again.clear()
        elif sent_at >= self._began:
            self._again.add(model)

    def answered(self, model: str, sent_at: float) -> None:
        """Take in an answer to an attempt that was sent at `sent_at`."""
        if sent_at < self._began:
            return
        self.in_row = False
        if len(self._again) > 1:
            self._balance = min(self._balance + 1, 2 * _ROWS)
            if self._balance == _ROWS and not self.is_account:
                self._balance, self.is_account = 2 * _ROWS, True
        elif self._again and model not in self._again:
            self._balance = max(self._balance - 1, 0)
            if not self._balance:
                self.is_account = False
