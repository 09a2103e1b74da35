"""An MCP server over stdio for tests that does what servers should not; its argument says what.

mute    answers nothing
endless a list of tools that always has another page
same    the same page again and again
names   names that endpoints do not take, that become equal, or that are none
slow    a tool that never answers
long    a tool with a result of three million characters
raises  a tool that the server refuses to call
dies    a tool that ends the server
mortal  the same, once: it leaves a file, whose path is the second argument, and works where that is
parts   tools whose results have structured content beside their texts
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KIND = sys.argv[1]
LONG = "a_name_that_is_longer_than_any_endpoint_takes_and_differs_only_at_the_end_"
# The texts and the structured content of a result, by the tool's name.
PARTS: dict[str, tuple[list[str], Any]] = {
    "summary": (["2 items"], {"items": [{"id": 1}, {"id": 2}]}),
    "none": ([], {"items": []}),
    "same": (['{ "items": [] }'], {"items": []}),
    "text": (["sunny"], {"result": "sunny"}),
    "number": (["4"], {"result": 4}),
    "list": (["a", "2"], {"result": ["a", 2]}),
}
NAMES = {"names": ["a.b", "a/b", "a_b", "", "a.b", LONG + "1", LONG + "2", "été", "ok"], "parts": [*PARTS]}


def tools(cursor: str | None) -> dict[str, Any]:
    names = NAMES.get(KIND, [KIND])
    page = int(cursor or 0)
    if KIND == "endless":
        names = [f"tool{page}"]
    listed = [{"name": name, "description": name, "inputSchema": {"type": "object"}} for name in names]
    more = {"endless": str(page + 1), "same": "1"}.get(KIND)
    return {"tools": listed, **({} if more is None else {"nextCursor": more})}


def answer(request: dict[str, Any]) -> dict[str, Any] | None:
    match request["method"]:
        case "initialize":
            version = request["params"]["protocolVersion"]
            return {
                "result": {
                    "protocolVersion": version,
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "odd", "version": "1"},
                }
            }
        case "tools/list":
            return {"result": tools((request.get("params") or {}).get("cursor"))}
        case "tools/call":
            name = request["params"]["name"]
            if KIND == "slow":
                return None
            if KIND == "raises":
                return {"error": {"code": -32602, "message": "item must be positive"}}
            if KIND == "dies":
                sys.exit()
            if KIND == "mortal" and not Path(sys.argv[2]).exists():
                Path(sys.argv[2]).touch()
                sys.exit()
            if KIND == "parts":
                texts, structured = PARTS[name]
                content = [{"type": "text", "text": text} for text in texts]
                return {"result": {"content": content, "structuredContent": structured}}
            if KIND == "image":
                image = {"type": "image", "data": "aGk=", "mimeType": "image/jpeg"}
                sound = {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"}
                return {"result": {"content": [{"type": "text", "text": "a cat:"}, image, sound]}}
            text = "x" * 3_000_000 if KIND == "long" else f"this is {name}"
            return {"result": {"content": [{"type": "text", "text": text}]}}
    return {"error": {"code": -32601, "message": "no such method"}}


for line in sys.stdin:
    asked = json.loads(line)
    if KIND == "mute" or "id" not in asked:
        continue
    answered = answer(asked)
    if answered is not None:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **answered}), flush=True)
