"""The client: the pipeline from a request to its reply, and what users call.

It may import all rooms on the lines above it in the map of CONTRIBUTING.

    client            `AsyncClient`, which users make and call
    pipeline          the steps of a call, in their order
    resources         chat.completions and models
    responses_resource  responses: new ones
    arguments         from keyword arguments to a body
    stored_responses  retrieve, cancel, delete, input_items and wait of client.responses
    plain_calls       calls that ask no model; `stored_responses` is made of them
    openai_names      what users of AsyncOpenAI find on the client under its names
    another_key       a copy of a client for another key or URL
    raw_response      answers with their status, headers and bytes, as AsyncOpenAI has them
    event_streams     the events of AsyncOpenAI's stream helpers
    passthrough       requests of other clients, and answers as bytes
    whole_as_events   a whole answer as the events of a stream, for them
    answer_cache      equal requests answered from a store, or by one call
    answer_keys       the key of a request in it, and which requests have one
    kept_answers      an answer as it is kept, recorded and replayed
    shared_streams    one stream in flight that several equal calls read
    request_head      the id, headers and query that a call adds
    answer_modes      how one call asks for a structured answer at each upstream, and what a refusal teaches
    call              one call and its attempts, and what each does to its upstream when it ends
    target            an upstream that may serve a call, and the bytes that it takes
    balancer          chooses an upstream, and waits there for a permit
    wait_reasons      what a call waits for, in words
    changing_queues   calls that wait at one endpoint and go to another that has room
    drain             the calls that wait, which a drained client cancels
    attempts          one attempt: sent, within its bounds, and ended
    failure_signs     what an error says of capacity, health, key and cost
    failures          what a bad status, a header or a wrong body means; Retry-After is read here
    retries           whether there is another attempt, and the wait before it
    receive           from an attempt's bytes to a reply, or a stream
    receive_response  the same for responses
    large             decodes answers that are larger than most, in parts
    framing           how a body is framed, by its first bytes: events, JSON, a JSON value a line
    incoming          the events that the reads of a stream bring, a few at a time
    stream_reading    from events to the pieces of an answer, and how it ended
    stream            a streamed answer as its reader has it
    chat_stream       the events of chat/completions
    response_stream   the events of responses
    stream_bounds     the timeouts of a stream
    observer          the protocols of an observer of calls
    explanation       says where the time of a call went, and why it waited
"""

from aimlasync.client.client import AsyncClient

__all__ = ["AsyncClient"]
