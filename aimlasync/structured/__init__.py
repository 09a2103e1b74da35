"""Structured answers: from a Python type to a strict JSON schema, and from an answer's text to a value of the type.

It may import `chat`, `responses` and what lies below them.

    schema   the strict JSON schema of a type
    modes    the ways to ask for an answer that fits it, for models that do not have the first
    answer_text   where the answer is in a reply, whichever way it was asked for
    pydantic_models   the strict JSON schema of a pydantic model, where the program has pydantic
    parse    a reply's answer as a value
    validate whether a value fits a JSON schema, where there is no Python type
"""
