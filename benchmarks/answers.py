"""What the servers of the benchmarks answer, byte for byte: a completion of 1 KB, chat chunks, response events."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. " * 6
EVENTS = 500
"""Pieces of a stream that carry a delta or its end; `[DONE]` is not counted."""
AT_ONCE = 16
"""Events of a coalesced stream in one HTTP chunk: what a busy server's writes look like once the kernel joined them."""

WORDS = ("fox ", "dog ", "owl ", "elk ", "yak ", "ant ", "cat ")
"""Of four characters each; some clients take one word a hundred times for a model that is stuck."""

_CHUNK = {"id": "chatcmpl-C2KfH9AvnoYVczpOq4JXrtYK3nw1K", "object": "chat.completion.chunk", "created": 1754672127}
_OF_ITEM = {"item_id": "msg_68af4030baa48193b0b43b4c2a176a1a0767e8d7a4dbd8fe", "output_index": 0, "content_index": 0}


def completion_body() -> bytes:
    return json.dumps(
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


def completion() -> bytes:
    return with_head(completion_body())


def with_head(body: bytes) -> bytes:
    """A JSON body as a response."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chat_events(events: int = EVENTS) -> list[bytes]:
    lines = []
    for number in range(events):
        last = number == events - 1
        delta = {} if last else {"content": WORDS[number % len(WORDS)]}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": "stop" if last else None}
        chunk = {**_CHUNK, "model": "gpt-5-nano-2025-08-07", "system_fingerprint": None, "choices": [choice]}
        lines.append(b"data: %b\n\n" % json.dumps(chunk).encode())
    return [*lines, b"data: [DONE]\n\n"]


def response_events(events: int = EVENTS) -> list[bytes]:
    """A response of one message, in as many events: its beginning and end take eight of them."""
    deltas = events - 8
    words = [WORDS[number % len(WORDS)] for number in range(deltas)]
    text = "".join(words)
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item: dict[str, Any] = {"id": _OF_ITEM["item_id"], "type": "message", "status": "in_progress", "role": "assistant"}
    whole: dict[str, Any] = {
        "id": "resp_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b",
        "object": "response",
        "error": None,
    }
    whole |= {"created_at": 1756315696, "model": "gpt-5-nano-2025-08-07", "incomplete_details": None, "tools": []}
    usage = {"input_tokens": 12, "output_tokens": deltas, "total_tokens": deltas + 12}
    done = {**item, "status": "completed", "content": [{**part, "text": text}]}
    said: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}},
        {"type": "response.in_progress", "response": {**whole, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **_OF_ITEM, "part": part},
        *({"type": "response.output_text.delta", **_OF_ITEM, "delta": word, "logprobs": []} for word in words),
        {"type": "response.output_text.done", **_OF_ITEM, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **_OF_ITEM, "part": {**part, "text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": {**whole, "status": "completed", "output": [done], "usage": usage}},
    ]
    return [
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps({**event, "sequence_number": number}).encode())
        for number, event in enumerate(said)
    ]


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def chunked(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def joined(events: list[bytes]) -> list[bytes]:
    return [b"".join(events[i : i + AT_ONCE]) for i in range(0, len(events), AT_ONCE)]


def stream(events: list[bytes]) -> bytes:
    """The whole response of a coalesced stream."""
    return STREAM_HEAD + b"".join(chunked(piece) for piece in joined(events)) + STREAM_END


@cache
def giant(name: str) -> bytes:
    """A whole response that is larger than any model sends: one of GIANTS."""
    if name == "text":
        message = {"role": "assistant", "content": "The quick brown fox. " * (50_000_000 // 21)}
        return with_head(json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}).encode())
    if name == "logprobs":
        top = b",".join([b'{"token":"fox","logprob":-1.25,"bytes":[102,111,120]}'] * 20)
        token = b'{"token":"fox","logprob":-0.25,"bytes":[102,111,120],"top_logprobs":[%b]}' % top
        choice = (
            b'{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"fox"},"logprobs":{"content":['
        )
        return with_head(b'{"choices":[%b%b]}}]}' % (choice, b",".join([token] * 4_000)))
    if name == "choices":
        return with_head(
            b'{"choices":[%b]}' % b",".join([b'{"message":{"content":"fox"},"finish_reason":"stop"}'] * 10**6)
        )
    ending = b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    piece = {"events": b'data: {"choices":[{"delta":{"content":"fox"}}]}\n\n', "empty events": b"data: {}\n\n"}[name]
    return STREAM_HEAD + chunked(EVENT_OF_GIANT + piece * 100_000 + ending) + STREAM_END


EVENT_OF_GIANT = b'data: {"choices":[{"delta":{"content":"fox"}}]}\n\n'
GIANTS = ("text", "logprobs", "choices", "events", "empty events")
