"""A canned OpenAI-compatible server for benchmarks: no parsing to speak of, so that the client is what is measured.

`python benchmarks/server.py PORT [EVENTS]` answers every chat call on loopback with the same 1 KB completion, or with a
stream of EVENTS chunks when the body asks for one.
`python benchmarks/server.py PORT 0 TURNS` plays the model of an agent, on chat/completions and responses: it calls the
tool `add` until there are TURNS results, then answers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. " * 6


def completion(text: str = TEXT, **said: Any) -> bytes:
    return whole(
        {
            "id": "chatcmpl-C2KfH9AvnoYVczpOq4JXrtYK3nw1K",
            "object": "chat.completion",
            "created": 1754672127,
            "model": "gpt-5-nano-2025-08-07",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls" if said else "stop",
                    "message": {"role": "assistant", "content": text, "refusal": None, "annotations": [], **said},
                }
            ],
            "usage": {
                "prompt_tokens": 12,
                "completion_tokens": 96,
                "total_tokens": 108,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            },
            "system_fingerprint": None,
        }
    )


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
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def stream(events: int) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    start = {"id": "chatcmpl-C2KfH9AvnoYVczpOq4JXrtYK3nw1K", "object": "chat.completion.chunk", "created": 1754672127}
    lines = []
    for number in range(events):
        last = number == events - 1
        delta = {} if last else {"content": "fox " if number else "The "}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": "stop" if last else None}
        chunk = {**start, "model": "gpt-5-nano-2025-08-07", "system_fingerprint": None, "choices": [choice]}
        lines.append(b"data: %b\n\n" % json.dumps(chunk).encode())
    lines.append(b"data: [DONE]\n\n")
    # Sixteen events to an HTTP chunk: what a busy server's writes look like after the kernel has joined them.
    pieces = [b"".join(lines[i : i + 16]) for i in range(0, len(lines), 16)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Canned(asyncio.Protocol):
    """Finds the end of each request, and answers."""

    def __init__(self, whole: bytes, streamed: bytes) -> None:
        self.whole = whole
        self.streamed = streamed
        self.pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pending += data
        while True:
            end = self.pending.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.pending[:end].lower()
            at = head.find(b"content-length:")
            length = 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self.pending) < end + 4 + length:
                return
            body = self.pending[end + 4 : end + 4 + length]
            self.pending = self.pending[end + 4 + length :]
            self.transport.write(self.answer(body))

    def answer(self, body: bytes) -> bytes:
        return self.streamed if b'"stream":true' in body or b'"stream": true' in body else self.whole


class Scripted(Canned):
    """Counts the results of tools in a request, and says what comes next."""

    def __init__(self, chat: list[bytes], responses: list[bytes]) -> None:
        super().__init__(b"", b"")
        self.chat = chat
        self.responses = responses

    def answer(self, body: bytes) -> bytes:
        if b'"messages"' in body:
            return self.chat[body.count(b'"tool_call_id"')]
        return self.responses[body.count(b'"function_call_output"')]


def script(turns: int) -> tuple[list[bytes], list[bytes]]:
    """Return the replies on both endpoints, by the number of results that the request brings."""
    chat, responses = [], []
    for number in range(turns):
        call = {"name": "add", "arguments": json.dumps({"a": number, "b": 1})}
        id = f"call_{number:024}"
        chat.append(completion("", tool_calls=[{"id": id, "type": "function", "function": call}]))
        item = {"type": "function_call", "id": f"fc_{number:024}", "call_id": id, "status": "completed", **call}
        responses.append(response(item))
    content = [{"type": "output_text", "text": TEXT, "annotations": []}]
    last = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    return [*chat, completion()], [*responses, response(last)]


async def serve(port: int, events: int, turns: int) -> None:
    canned = script(turns) if turns else (completion(), stream(events))
    kind: Any = Scripted if turns else Canned
    server = await asyncio.get_running_loop().create_server(lambda: kind(*canned), "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    given = [int(one) for one in sys.argv[1:]] + [500, 0][len(sys.argv) - 2 :]
    asyncio.run(serve(*given))
