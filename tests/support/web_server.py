"""A web server of files, in a thread of its own.

It imports nothing of the library.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol


class Page(NamedTuple):
    """What is answered. `headers` may state another length than that of the body; "" is to state none."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class Pages(Protocol):
    """What is where."""

    def __call__(self, target: str, /) -> Page:
        """Return what is answered to a request of this target, which begins with a slash."""


@contextmanager
def serving(page_at: Pages) -> Iterator[str]:
    """Answer GET and HEAD; give the URL without a slash at its end."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            page = page_at(self.path)
            self.send_response(page.status)
            for name, value in {"Content-Length": str(len(page.body)), **page.headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(page.body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
