"""Options of one call that are not sent to the model.

Law: plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from aimlasync.admission.fair_queue import Priority
from aimlasync.headers import Headers
from aimlasync.timeout import Timeout


class CallOptions(TypedDict, total=False):
    """Options of one call that are not sent to the model."""

    timeout: Timeout | float | None
    """Total in seconds, or every bound."""
    extra_headers: Mapping[str, str] | None
    extra_body: Mapping[str, Any] | None
    """Parameters that this version does not know; they go last, and an explicit null is sent."""
    priority: Priority
    """Interactive calls wait behind no bulk call of the same client."""
    tenant: str | None
    """Whom the call is for. Of those who wait, tenants take turns, so that one with many calls holds up no other."""
    affinity: str | None
    """Calls with the same key go to the same endpoint while it is well, for the sake of its prompt cache."""


def check_headers(options: Any) -> None:
    """Check a call's `extra_headers`, and put their values out of a traceback's sight.

    Raises ValueError for a header that cannot be sent.
    """
    if options.get("extra_headers") is not None:
        options["extra_headers"] = Headers.hiding(options["extra_headers"])
        options["extra_headers"] = options["extra_headers"].checked("extra_headers")


CALL_OPTIONS = CallOptions.__optional_keys__
