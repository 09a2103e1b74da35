"""Answers as Python types: from a type to a strict JSON schema, and from a text to a value of the type.

It may import `chat`, `responses` and what lies below them.

    schema   the strict JSON schema of a type
    parse    a reply's text as a value
    validate whether a value fits a schema, where there is no type
"""
