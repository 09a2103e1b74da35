"""Structured answers: from a Python type to a strict JSON schema, and from an answer's text to a value of the type.

It may import `chat`, `responses` and what lies below them.

    schema   the strict JSON schema of a type
    parse    a reply's text as a value
    validate whether a value fits a JSON schema, where there is no Python type
"""
