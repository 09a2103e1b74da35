"""The model of an agent, played by a script: a canned server for `agent_loops.py`.

`python benchmarks/agent_server.py TURNS` answers on chat/completions and responses of loopback: it calls the tool `add`
until there are TURNS results, then says TEXT. It prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from answers import TEXT, completion, completion_body, with_head
from server import Answers, Canned


def calling(call: dict[str, Any], id: str) -> bytes:
    """A completion that calls a tool."""
    reply = json.loads(completion_body())
    message = {"role": "assistant", "content": "", "tool_calls": [{"id": id, "type": "function", "function": call}]}
    reply["choices"][0] |= {"finish_reason": "tool_calls", "message": message}
    return whole(reply)


def response(item: dict[str, Any]) -> bytes:
    return whole(
        {
            "id": "resp_68963fb1b1a48199a6d1c7a8e2f0c1d2",
            "object": "response",
            "created_at": 1754672127,
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "model": "gpt-5-nano-2025-08-07",
            "output": [item],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": 12,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 96,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 108,
            },
            "metadata": {},
        }
    )


def whole(value: Any) -> bytes:
    return with_head(json.dumps(value).encode())


class Scripted(Canned):
    """Counts the results of tools in a request, and says what comes next."""

    def __init__(self, answers: Answers, chat: list[bytes], responses: list[bytes]) -> None:
        super().__init__(answers)
        self.chat = chat
        self.responses = responses

    def answer(self, route: bytes, body: bytes) -> None:
        if b'"messages"' in body:
            self.transport.write(self.chat[body.count(b'"tool_call_id"')])
        else:
            self.transport.write(self.responses[body.count(b'"function_call_output"')])


def script(turns: int) -> tuple[list[bytes], list[bytes]]:
    """Return the replies on both endpoints, by the number of results that the request brings."""
    chat, responses = [], []
    for number in range(turns):
        call = {"name": "add", "arguments": json.dumps({"a": number, "b": 1})}
        id = f"call_{number:024}"
        chat.append(calling(call, id))
        item = {"type": "function_call", "id": f"fc_{number:024}", "call_id": id, "status": "completed", **call}
        responses.append(response(item))
    content = [{"type": "output_text", "text": TEXT, "annotations": []}]
    last = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    return [*chat, completion()], [*responses, response(last)]


async def serve(turns: int) -> None:
    chat, responses = script(turns)
    answers = Answers(8)
    server = await asyncio.get_running_loop().create_server(
        lambda: Scripted(answers, chat, responses), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
