"""Structured answers: from a Python type to a strict JSON schema, and from an answer's text to a value of the type.

It may import `chat`, `responses` and what lies below them.

    schema           the strict JSON schema of a type
    pydantic_models  the strict JSON schema of a pydantic model, where the program has pydantic
    modes            the ways to ask for an answer that fits it, from the surest to the weakest
    answer_text      where the answer is in a reply, whichever way it was asked for
    numbers          reads 5.0 and 1e3 as integers where the schema has integers
    tool_arguments   the arguments of tool calls as values
    text_format      a type and the tools of a response, whole or streamed
    parse            a reply's answer as a value
    validate         whether a value fits a JSON schema, where there is no Python type
"""
