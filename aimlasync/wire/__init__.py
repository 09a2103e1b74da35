"""What chat completions and responses share on the wire: base structs, the model catalogue, error bodies, redaction.

It may import `headers`, `info` and `errors`.

    base         the base of all structs, the encoder, and the tolerant decoder
    models       the model catalogue, and the account's balance
    error_bodies from the body of an error response to an error of `errors`
    begun_json   reads a JSON text that is cut, or nested too deep
    redaction    cuts keys out of errors
"""
