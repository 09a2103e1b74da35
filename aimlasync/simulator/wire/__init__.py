"""How an answer looks on the wire. Values become bytes here; only `http` touches a connection.

It may import what a vendor is and what the model answers.

    chat        the body and the stream events of chat/completions
    responses   the body and the stream events of responses
    http        HTTP/1.1 responses, and the ways to break a connection
"""
