"""What chat completions and responses share on the wire: base structs, the model catalogue, error bodies, redaction.

It may import `headers`, `sse`, `info` and `errors`.

    base          the base of all structs, which keeps fields that it does not declare
    json_text     JSON in and out
    canonical_json   JSON by which equal requests are found
    objects       objects that no struct describes
    reading       reads JSON into structs where a field is unknown or has another type
    undeclared    makes structs of a value, and keeps the fields that they do not declare
    as_sent       from a struct back to the JSON that the server sent
    dumped        dumps with the options of pydantic's `model_dump`
    pydantic_names   the methods of pydantic that users of AsyncOpenAI know
    pydantic_fields  structs as fields of pydantic's models, and as what FastAPI returns
    request_body  a request as the bytes that are sent
    models        the model catalogue, and the account's balance
    error_bodies  from the body of an error response to an error of `errors`
    error_shapes  what an error body says, in the shapes of all vendors and gateways
    waits         waits that servers state: Retry-After, durations, times
    wait_sentences  waits that error messages ask for in words
    begun_json    reads a JSON text that is cut, or nested too deep
    pieces        texts that arrive in pieces
    halves        characters of which two pieces have a half each
    redaction     which keys no error may show
    key_search    finds keys, and cuts them out
"""
