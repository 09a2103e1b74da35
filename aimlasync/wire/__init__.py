"""What both endpoints share on the wire: the base of all structs, the model catalogue, and bodies of errors.

It may import `headers`, `config`, `info` and `errors`.

    base         what replies, requests and their parts have in common, and how they are encoded and decoded
    models       the catalogue of models, and the balance
    error_bodies from a body that says no to the error that it means
"""
