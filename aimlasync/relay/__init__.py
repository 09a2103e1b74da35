"""Relays model streams to browsers as server-sent events, and errors as HTTP statuses, for any web framework.

It deals in bytes and plain values: it imports no framework and, of the package, only streams, structs and errors. What
else can be relayed, such as the run of an agent, has a method `relayed` that returns a `Source`.
Implements the format of WHATWG HTML, "Server-sent events"; examples/guide/web.md has the messages.

A browser's EventSource reconnects whenever a stream ends, and each time that would be a new call with new costs. So the
first message carries an id, which the browser sends back as `Last-Event-ID`, and a request with that header is refused
with 409, because there is nothing to resume. An EventSource never reconnects after a status other than 200, and other
clients see an error; a 204 would look to them like an empty success.

The files, from the lowest to the highest:

    failures     an error as an HTTP response: what a browser is told, and what the log is
    messages     one server-sent event as bytes, and what is read to make them
    call_stream  the stream of a call as a source
    relay        one stream to one browser, from its first message to its last
"""

from aimlasync.relay.failures import NOT_RESUMABLE, Failure, failed, failure
from aimlasync.relay.messages import HEADERS, KEEP_ALIVE, Events, Named, Relayable, Source, chosen, message
from aimlasync.relay.relay import Relay, Relayed, RelayOptions, Streamed

__all__ = [
    "HEADERS",
    "KEEP_ALIVE",
    "NOT_RESUMABLE",
    "Events",
    "Failure",
    "Named",
    "Relay",
    "RelayOptions",
    "Relayable",
    "Relayed",
    "Source",
    "Streamed",
    "chosen",
    "failed",
    "failure",
    "message",
]
