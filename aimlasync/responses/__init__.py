"""Responses as structs: items that are sent and answered, the reply, and the events of a stream.

It may import `wire` and what lies below it. It exports the structs of requests and whole replies; those of a stream are
in `responses.events`, loaded with the first stream.

    types     items, tools, the reply, and the parameters of `create`
    events    the events of a stream
    assembler a stream's events as one reply
"""
