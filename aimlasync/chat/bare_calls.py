"""Tool calls that have their name and arguments without the object `function` around, as some gateways send them.

It has no I/O. It may import `wire.base`.
"""

from __future__ import annotations

from aimlasync.wire.base import Open, encode


def said_bare(call: Open) -> tuple[str | None, str | None] | None:
    """Return the name and the arguments that stand beside the fields of a call, None where neither does."""
    beside = vars(call)
    name, arguments = beside.get("name"), beside.get("arguments")
    if not isinstance(name, str) and arguments is None:
        return None
    if arguments is not None and not isinstance(arguments, str):
        arguments = encode(arguments).decode()
    return name if isinstance(name, str) else None, arguments
