"""The client: the pipeline from a request to its reply, and what users call.

It may import everything below it, and nothing above it imports its parts but by this package's names.

    client       what users make and call
    pipeline     the way of a call, in the order in which it happens
    resources    chat.completions, responses, models: from arguments to a body
    stored_responses   retrieve, cancel, delete, input_items and wait of client.responses
    answer_modes  how one call asks for a structured answer at each upstream, and what is learned from a refusal
    receive      from an attempt's bytes to a reply, or a stream
    passthrough  requests of other clients, and answers as bytes
    call         one call and its attempts, and their books
    balancer     the choice between upstreams
    deadlines    many deadlines with one timer
    waits        the calls that are not sent yet
    observer     what may watch calls
    stream       an answer in pieces; chat_stream and response_stream know the pieces
    framing      what a body is by its first bytes: events, JSON, a JSON value a line
    stream_bounds   how long a stream may keep its reader waiting
    attempt_bounds  how long an attempt may take
    request_head    the id, headers and query that a call adds
    plain_calls     calls that ask no model; stored_responses is made of them
    answer_modes    the ways to ask a model for an answer in a form
"""

from aimlasync.client.client import AsyncClient

__all__ = ["AsyncClient"]
