"""Instructions that the parsers take: no clock, no noise, the same number every time.

    python benchmarks/parsers.py

Method: valgrind's callgrind counts what the process executes, kernel excluded, with a fixed hash seed and address
layout. Each parser is run N and then N + 10 times in one process; the difference, by event or body, has neither the
start of the interpreter nor the reading of commands in it. `aimlasync` is fed as from a socket, 16 events at a time;
json is given lines that are cut already, msgspec and pydantic the bytes of one event.
Without valgrind the same loops are timed instead, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from answers import chat_events, completion, completion_body, joined, response_events, stream

MORE = 10


def parsers() -> dict[str, tuple[int, Callable[[], object]]]:
    """By name: how many events or bodies one run has, and the run."""
    from aimlasync import sse
    from aimlasync.chat.chunks import decode_chunk
    from aimlasync.chat.types import decode_completion
    from aimlasync.responses.events import decode_event
    from aimlasync.transport.heads import Heads
    from aimlasync.transport.http11 import ResponseReader

    many = 64
    chunks, events = chat_events(many), response_events(many)
    pieces, event_pieces = joined(chunks), joined(events)
    lines = [event[6:-2] for event in chunks[:-1]]
    body, response, chunked_response = completion_body(), completion(), stream(chunks)

    def frame() -> None:
        parser = sse.Parser()
        assert sum(len(parser.feed(piece)) for piece in pieces) == len(chunks)

    def frame_and_decode() -> None:
        parser = sse.Parser()
        for piece in pieces:
            for event in parser.feed(piece):
                if event.data != b"[DONE]":
                    assert decode_chunk(event.data).choices

    def frame_and_decode_events() -> None:
        parser = sse.Parser()
        for piece in event_pieces:
            for event in parser.feed(piece):
                assert decode_event(event.data).type

    heads = Heads()

    def read(data: bytes) -> None:
        reader = ResponseReader(heads=heads)
        reader.feed(data)
        assert reader.is_ended

    found: dict[str, tuple[int, Callable[[], object]]] = {
        "aimlasync: SSE framing, an event": (len(chunks), frame),
        "aimlasync: framing and typed chat chunk": (len(chunks), frame_and_decode),
        "aimlasync: framing and typed responses event": (len(events), frame_and_decode_events),
        "aimlasync: HTTP response of 1 KB": (1, lambda: read(response)),
        f"aimlasync: HTTP chunked, {len(pieces)} chunks": (1, lambda: read(chunked_response)),
        "aimlasync: typed completion of 1 KB": (1, lambda: decode_completion(body)),
        "json: chat chunk": (len(lines), lambda: [json.loads(line) for line in lines]),
        "json: completion of 1 KB": (1, lambda: json.loads(body)),
    }
    try:
        from openai._models import construct_type
        from openai._streaming import SSEDecoder
        from openai.types.chat import ChatCompletion, ChatCompletionChunk
    except ImportError:
        print("left out: openai, not installed", file=sys.stderr)
        return found

    def openai_frame() -> None:
        assert sum(1 for _ in SSEDecoder().iter_bytes(iter(pieces))) == len(chunks)

    def openai_decode() -> None:
        for event in SSEDecoder().iter_bytes(iter(pieces)):
            if event.data != "[DONE]":
                construct_type(type_=ChatCompletionChunk, value=event.json())

    return {
        **found,
        "openai: SSE framing, an event": (len(chunks), openai_frame),
        "openai: framing and typed chat chunk": (len(chunks), openai_decode),
        "openai: typed completion of 1 KB": (
            1,
            lambda: construct_type(type_=ChatCompletion, value=json.loads(body)),
        ),
    }


def child() -> None:
    """Run what is asked for on stdin: a parser's number and how often."""
    every = list(parsers().values())
    print("ready", flush=True)
    for line in sys.stdin:
        number, times = map(int, line.split())
        run = every[number][1]
        before = time.process_time()
        for _ in range(times):
            run()
        print(time.process_time() - before, flush=True)


class Counted:
    """The child, and what it executes."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "callgrind"
        self.dumps = 0
        command = [sys.executable, __file__, "--child"]
        self.counts = shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None
        if self.counts:
            tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={self.out}"]
            command = [*(["setarch", "-R"] if shutil.which("setarch") else []), *tool, *command]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.process.stdout.readline()
        if self.counts:
            self._control("-i", "on")

    def of(self, number: int, times: int) -> float:
        """Instructions, or nanoseconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.counts:
            self._control("-z")
        self.process.stdin.write(f"{number} {times}\n")
        self.process.stdin.flush()
        seconds = float(self.process.stdout.readline())
        if not self.counts:
            return seconds * 1e9
        self._control("-d")
        self.dumps += 1
        dumped = Path(f"{self.out}.{self.dumps}").read_text()
        return float(re.findall(r"^totals: (\d+)", dumped, re.MULTILINE)[0])

    def _control(self, *words: str) -> None:
        subprocess.run(["callgrind_control", *words, str(self.process.pid)], capture_output=True, check=True)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        counted = Counted(Path(folder))
        what = "Instructions (callgrind)" if counted.counts else "Nanoseconds (valgrind is not installed)"
        print(f"\n{what} of one event or body")
        try:
            for number, (name, (pieces, _)) in enumerate(parsers().items()):
                # Once for what is made on first use.
                counted.of(number, 5)
                less, more = counted.of(number, 2), counted.of(number, 2 + MORE)
                print(f"{name:<48}{(more - less) / MORE / pieces:>12,.0f}", flush=True)
        finally:
            counted.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["--child"]:
        child()
    else:
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
        run()
