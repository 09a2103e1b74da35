"""What `text_format=` and tools become in the request for a response, whole or streamed, and what reads the answer.

It works on values, without I/O. It may import `schema` and `tool_arguments`.
"""

from __future__ import annotations

from typing import Any

from aimlasync.structured.schema import Format, format_of
from aimlasync.structured.tool_arguments import Read, flat, readers_of


def asked_for(text_format: Any, params: dict[str, Any]) -> tuple[Format[Any] | None, dict[str, Read]]:
    """Put a type and the tools into the parameters of a call, and return what reads its text and its tool calls.

    Raises TypeError for what is no type, or for a type that strict JSON schema cannot express.
    """
    form = format_of(text_format) if text_format else None
    if form is not None:
        params.setdefault("structured", "auto")
        params["text"] = {**(params.get("text") or {}), "format": form.responses()}
    tools = list(params.get("tools") or ())
    params["tools"] = flat(tools) or None
    return form, readers_of(tools)
