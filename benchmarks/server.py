"""A canned OpenAI-compatible server for benchmarks: no parsing to speak of, so that the client is what is measured.

`python benchmarks/server.py PORT [EVENTS]` answers every chat call on loopback with the same 1 KB completion, or with a
stream of EVENTS chunks when the body asks for one.
"""

from __future__ import annotations

import asyncio
import json
import sys

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. " * 6


def completion() -> bytes:
    body = json.dumps(
        {
            "id": "chatcmpl-C2KfH9AvnoYVczpOq4JXrtYK3nw1K",
            "object": "chat.completion",
            "created": 1754672127,
            "model": "gpt-5-nano-2025-08-07",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []},
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
    ).encode()
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
            streams = b'"stream":true' in body or b'"stream": true' in body
            self.transport.write(self.streamed if streams else self.whole)


async def serve(port: int, events: int) -> None:
    whole, streamed = completion(), stream(events)
    server = await asyncio.get_running_loop().create_server(lambda: Canned(whole, streamed), "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 500))
