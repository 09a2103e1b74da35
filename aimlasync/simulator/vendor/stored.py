"""Keeps responses that a later request may continue by `previous_response_id`, or refer to an item of by its id.

The number of kept responses is bounded: the least recently used one is dropped, as a vendor drops responses after a
month. Plain data without I/O; it may import `vendors` for the errors.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from aimlasync.simulator.vendor.vendors import Problem

_MAX_RESPONSES = 10_000
# An item's id is its kind, an underscore, the 22 characters of its response's id, and for some kinds a position.
_ID_LENGTH = 22


class StoredResponses:
    """Each stored response as the items of the conversation that it ends, by the id of the response."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, id: str, items: list[dict[str, Any]]) -> None:
        """Keep a conversation, its last answer included."""
        self._kept[id] = items
        if len(self._kept) > _MAX_RESPONSES:
            self._kept.popitem(last=False)

    def before(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the items of the response that a request continues; an empty list when it names no response.

        Raises Problem(400) for a response that is not stored.
        """
        id = body.get("previous_response_id")
        if id is None:
            return []
        found = self._kept.get(str(id).removeprefix("resp_"))
        if found is None:
            reason = f"Previous response with id {str(id)!r} not found."
            raise Problem(400, reason, code="previous_response_not_found", param="previous_response_id")
        self._kept.move_to_end(str(id).removeprefix("resp_"))
        return found

    def item(self, id: str) -> dict[str, Any]:
        """Return a stored item.

        Raises Problem(404) for an item that is not stored.
        """
        for item in self._kept.get(id.partition("_")[2][:_ID_LENGTH], ()):
            if item.get("id") == id:
                return item
        reason = (
            f"Item with id {id!r} not found. Items are not persisted when `store` is set to false. Try again with "
            "`store` set to true, or remove this item from your input."
        )
        raise Problem(404, reason, code="item_not_found", param="input")
