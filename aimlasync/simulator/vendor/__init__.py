"""A vendor's HTTP API as its documentation describes it: paths, models, errors, and how it reads a request.

The lowest part of the simulator: it imports `aimlasync.endpoints.providers` and nothing else of the package. No I/O.

    vendors        paths, error bodies and headers of each vendor; `Problem`, a request that gets an error
    tokens         how many tokens a text has
    catalogue      the models with their prices, and the bodies of the model listing
    conversation   the turns, tool calls and tool results that a request brings along
    schema_check   whether a JSON schema is valid, and strict
    stored         responses that a later request may continue
    request        a request for an answer, as the rest of the simulator sees it
    answer_form    the tools and schemas that a request brings
    reading        a body, read and checked as the vendor does it, as a request
"""
