"""A canned OpenAI-compatible server for benchmarks: no parsing to speak of, so that the client is what is measured.

    python benchmarks/server.py PORT [EVENTS] [--tls CERTIFICATE]

The first word of the path says what is answered, whatever is asked: `/whole/v1/...` a completion of 1 KB, `/chunks` a
chat stream and `/events` a responses stream of EVENTS events, sixteen to a write, `/paced` a chat stream of 100, one
to a write every 20 ms, `/giant-N` the Nth of `answers.GIANTS`, `/slow` the completion after three seconds, `/held-N`
the completion a second after N requests wait for it, `/count` how many were answered at `/whole`. Without such a word
the body decides between `/whole` and `/chunks`. It prints its port, and with `--tls` a second one, which speaks TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
from typing import cast

from answers import (
    EVENTS,
    GIANTS,
    STREAM_END,
    STREAM_HEAD,
    chat_events,
    chunked,
    completion,
    giant,
    response_events,
    stream,
)

PACED_EVENTS = 100
PACE = 0.02
SLOW = 3.0
SETTLE = 1.0


class Answers:
    """What there is to answer, and who waits to be answered together."""

    def __init__(self, events: int) -> None:
        self.whole = completion()
        self.chunks = stream(chat_events(events))
        self.events = stream(response_events(max(events, 8)))
        pieces = [chunked(event) for event in chat_events(PACED_EVENTS)]
        self.paced = [STREAM_HEAD + pieces[0], *pieces[1:-1], pieces[-1] + STREAM_END]
        self.held: list[asyncio.Transport] = []
        self.count = 0


class Canned(asyncio.Protocol):
    """Finds the end of each request, and answers."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

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
            self.answer(head.split(b" ", 2)[1].split(b"/", 2)[1], body)

    def answer(self, route: bytes, body: bytes) -> None:
        write, answers = self.transport.write, self.answers
        loop = asyncio.get_running_loop()
        if route == b"events":
            write(answers.events)
        elif route == b"paced":
            self.step(loop, 0)
        elif route.startswith(b"giant-"):
            write(giant(GIANTS[int(route[6:])]))
        elif route == b"slow":
            loop.call_later(SLOW, write, answers.whole)
        elif route.startswith(b"held-"):
            answers.held.append(self.transport)
            if len(answers.held) >= int(route[5:]):
                held, answers.held = answers.held, []
                for transport in held:
                    loop.call_later(SETTLE, transport.write, answers.whole)
        elif route == b"chunks" or (route == b"v1" and (b'"stream":true' in body or b'"stream": true' in body)):
            write(answers.chunks)
        elif route == b"count":
            text = b"%d" % answers.count
            write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
        else:
            answers.count += 1
            write(answers.whole)

    def step(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        self.transport.write(self.answers.paced[number])
        if number + 1 < len(self.answers.paced) and not self.transport.is_closing():
            loop.call_later(PACE, self.step, loop, number + 1)


async def serve(port: int, events: int, certificate: str | None) -> None:
    loop, answers = asyncio.get_running_loop(), Answers(events)
    contexts: list[ssl.SSLContext | None] = [None]
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        contexts.append(tls)
    for context in contexts:
        server = await loop.create_server(lambda: Canned(answers), "127.0.0.1", port, ssl=context, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="canned answers on loopback")
    parser.add_argument("port", type=int)
    parser.add_argument("events", type=int, nargs="?", default=EVENTS)
    parser.add_argument("--tls", metavar="CERTIFICATE", help="a PEM file with the key and the certificate")
    options = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(options.port, options.events, options.tls))
    else:
        uvloop.run(serve(options.port, options.events, options.tls))


if __name__ == "__main__":
    main()
