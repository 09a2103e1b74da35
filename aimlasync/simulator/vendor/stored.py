"""Keeps responses that a later request may continue, refer to an item of, fetch, cancel or delete.

The number of kept responses is bounded: the least recently used one is dropped, as a vendor drops responses after a
month. Plain data without I/O; it may import `vendors` for the errors.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from aimlasync.simulator.vendor.vendors import Problem

_MAX_RESPONSES = 10_000
# An item's id is its kind, an underscore, the 22 characters of its response's id, and for some kinds a position.
_ID_LENGTH = 22


class Stored(msgspec.Struct, kw_only=True, eq=False):
    """One response. A response in the background runs by the clock: nothing has to be awaited for it."""

    items: list[dict[str, Any]]
    """The conversation that it ends, its output included."""
    input_count: int
    """How many of `items` are its input."""
    response: dict[str, Any]
    """The response as it is when it has ended."""
    events: list[tuple[bytes, bool]] = []
    """Its stream, where it runs in the background: the bytes of each event, and whether it takes time to generate."""
    begins: float = 0.0
    """The loop's time at which it is no longer queued."""
    first_token: float = 0.0
    """The loop's time of the first generated event; each one after it takes `pause` seconds."""
    pause: float = 0.0
    ends: float = 0.0
    is_cancelled: bool = False

    def at(self, now: float) -> dict[str, Any]:
        """Return the response as a look-up at the loop's time `now` finds it."""
        status = "cancelled" if self.is_cancelled else "queued" if now < self.begins else "in_progress"
        if now >= self.ends and not self.is_cancelled:
            return self.response
        unknown = {"usage": None, "incomplete_details": None, "output_text": ""}
        return {**self.response, "status": status, "output": [], **unknown}


class StoredResponses:
    """The stored responses, by their ids without the prefix."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Stored] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, id: str, stored: Stored) -> None:
        """Keep a response."""
        self._kept[id] = stored
        if len(self._kept) > _MAX_RESPONSES:
            self._kept.popitem(last=False)

    def find(self, id: str) -> Stored:
        """Return a response. Raises Problem(404) for one that is not stored."""
        found = self._kept.get(id.removeprefix("resp_"))
        if found is None:
            raise Problem(404, f"Response with id {id!r} not found.", code="not_found", param="id")
        self._kept.move_to_end(id.removeprefix("resp_"))
        return found

    def forget(self, id: str) -> None:
        """Delete a response. Raises Problem(404) for one that is not stored."""
        self.find(id)
        del self._kept[id.removeprefix("resp_")]

    def before(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the items of the response that a request continues; an empty list when it names no response.

        Raises Problem(400) for a response that is not stored.
        """
        id = body.get("previous_response_id")
        if id is None:
            return []
        try:
            return self.find(str(id)).items
        except Problem:
            pass
        reason = f"Previous response with id {str(id)!r} not found."
        raise Problem(400, reason, code="previous_response_not_found", param="previous_response_id")

    def item(self, id: str) -> dict[str, Any]:
        """Return a stored item.

        Raises Problem(404) for an item that is not stored.
        """
        stored = self._kept.get(id.partition("_")[2][:_ID_LENGTH])
        for item in () if stored is None else stored.items:
            if item.get("id") == id:
                return item
        reason = (
            f"Item with id {id!r} not found. Items are not persisted when `store` is set to false. Try again with "
            "`store` set to true, or remove this item from your input."
        )
        raise Problem(404, reason, code="item_not_found", param="input")
