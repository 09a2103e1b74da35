"""The form of an answer: a strict JSON schema, from labels, a file or a Python type, and how an answer is read by it.

Pure, but for loading what `load_form` is told to. Where a schema of a file says nothing it is made strict: every object
closed, every property required. Imports the client's schemas and parsers, and
input.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from aimlasync.addresses import shown
from aimlasync.bulk.input.remote import text_of
from aimlasync.bulk.input.written_json import read_json
from aimlasync.bulk.tasks.request import Api
from aimlasync.bulk.tasks.result import Reply
from aimlasync.chat.types import ChatCompletion
from aimlasync.errors import AnswerInvalidError
from aimlasync.structured.numbers import WholeNumbers
from aimlasync.structured.parse import parse_completion, parse_response
from aimlasync.structured.schema import Format, format_of
from aimlasync.structured.validate import misfit


class FormError(ValueError):
    """A schema that cannot be used; the message says what to do."""


class Form:
    """What an answer must look like."""

    def __init__(
        self,
        form: Format[Any],
        identity: Any = None,
        *,
        is_checked: bool = False,
        made: tuple[Callable[..., Form], tuple[Any, ...]] | None = None,
    ) -> None:
        self._format = form
        # What makes it again in another process, because a decoder cannot be pickled.
        self._made = made
        # Whether answers are checked against the schema beyond what the decoder checks.
        self._is_checked = is_checked
        self.identity = identity
        """What must be the same for a journal to be gone on with."""
        properties = form.schema.get("properties") or {}
        self.columns = list(properties)
        """The names at the top of an answer."""
        self.label_column = label_field(form.schema)
        """The first of them that has a fixed set of values, None when none has."""
        self.labels = label_values(form.schema)
        """That set."""

    def __reduce__(self) -> tuple[Any, ...]:
        if self._made is None:
            raise TypeError("this form cannot be pickled; make it with form_of or form_of_schema")
        return self._made

    def params(self, endpoint: Api) -> dict[str, Any]:
        """Return the parameters that ask for it."""
        if endpoint == "responses":
            return {"text": {"format": self._format.responses()}}
        return {"response_format": self._format.chat()}

    def example(self, answer: Any) -> dict[str, Any]:
        """Return an answer that a person wrote, with the columns of the form alone; the cells of a table are texts.

        A text that does not fit is read as JSON, an empty one as null, and a lone value is the label. Raises FormError.
        """
        schema, label = self._format.schema, self.label_column or self.columns[0]
        given = dict(answer) if isinstance(answer, Mapping) else {label: answer}
        if label not in given and "label" in given:
            given[label] = given["label"]
        whole = {name: _fitting(given[name], name, schema) for name in self.columns if name in given}
        if wrong := misfit(whole, schema):
            raise FormError(f"it does not fit the schema: {wrong}")
        return whole

    def read(self, reply: Reply) -> Any:
        """Return the value that an answer is. Raises AnswerError."""
        if isinstance(reply, ChatCompletion):
            value = parse_completion(reply, self._format).parsed
        else:
            value = parse_response(reply, self._format).parsed
        if value is None:
            raise AnswerInvalidError("the answer is a tool call", reply=reply, raw=reply.raw, info=reply.info)
        if self._is_checked and (wrong := misfit(value, self._format.schema)):
            raise AnswerInvalidError(
                f"the answer does not fit the schema: {wrong}", reply=reply, raw=reply.raw, info=reply.info
            )
        return value


def _fitting(value: Any, name: str, schema: dict[str, Any]) -> Any:
    """Return what a cell is for the property `name`, and the cell itself where it is nothing that fits."""
    read: list[Any] = [value]
    if isinstance(value, str):
        with suppress(ValueError):
            read.append(read_json(value) if value.strip() else None)
    one = {**schema, "required": [name]}
    return next((each for each in read if misfit({name: each}, one) is None), value)


def form_of(type_: Any) -> Form:
    """Return the form of a Python type. Raises TypeError, naming the field that strict JSON schema cannot express."""
    form = format_of(type_)
    return Form(form, form.schema, made=(form_of, (type_,)))


def form_of_schema(name: str, schema: Mapping[str, Any]) -> Form:
    """Return the form of a JSON schema, which is made strict where it is silent; `name` is for errors and servers.

    Raises FormError for what is not the schema of an object.
    """
    # A deep copy, because `_close` changes it.
    whole = msgspec.json.decode(msgspec.json.encode(schema))
    for part in ("json_schema", "schema"):
        # The whole `response_format` of a request, or its `json_schema`.
        if isinstance(whole.get(part), dict):
            whole = whole[part]
    if whole.get("type") != "object" or not whole.get("properties"):
        raise FormError(f'{name}: not the schema of an object; it needs "type": "object" and "properties"')
    if (wrong := _close(whole)) is not None:
        raise FormError(f"{name}: no answer fits it: {wrong}")
    title = os.path.splitext(os.path.basename(name))[0]
    slug = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in title)[:64] or "answer"
    decoder = WholeNumbers(dict[str, Any])
    return Form(
        Format(slug, whole, decoder, False), whole, is_checked=True, made=(form_of_schema, (name, dict(schema)))
    )


def load_form(name: str) -> Form:
    """Return the form of a JSON schema in a file, or of a Python type given as `module:Type` or `file.py:Type`.

    Raises FormError.
    """
    path, colon, attribute = name.rpartition(":")
    if colon and attribute.isidentifier() and not os.path.exists(name):
        try:
            form = format_of(_type(path, attribute))
            # Made again by its name, because the types of a file are known in this process alone.
            return Form(form, form.schema, made=(load_form, (name,)))
        except TypeError as error:
            raise FormError(f"{name}: {error}") from None
    try:
        schema = read_json(text_of(name))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise FormError(f"{shown(name)}: {why}; name a JSON schema") from None
    except ValueError as error:
        raise FormError(f"{shown(name)}: not JSON ({error}); name a JSON schema") from None
    return form_of_schema(shown(name), schema if isinstance(schema, dict) else {})


def _type(module: str, attribute: str) -> Any:
    try:
        if module.endswith(".py"):
            spec = importlib.util.spec_from_file_location("aimlasync_schema", module)
            assert spec is not None
            assert spec.loader is not None
            loaded = importlib.util.module_from_spec(spec)
            # Annotations are looked up by the module's name.
            sys.modules[spec.name] = loaded
            spec.loader.exec_module(loaded)
        else:
            if "" not in sys.path:
                sys.path.insert(0, "")
            loaded = importlib.import_module(module)
    except Exception as error:  # noqa: BLE001  # whatever code of the user's own raises
        what = str(error) or type(error).__name__
        raise FormError(f"{module}: cannot be imported ({what}); name a JSON schema, or module:Type") from None
    try:
        return getattr(loaded, attribute)
    except AttributeError:
        raise FormError(f"{module} has no {attribute}; name a type in it") from None


def _close(schema: Any) -> str | None:
    """Make a schema strict where it is silent; return why nothing fits it, where that is so of one of its objects."""
    if isinstance(schema, list):
        return next(filter(None, map(_close, schema)), None)
    if not isinstance(schema, dict):
        return None
    if isinstance(properties := schema.get("properties"), dict):
        is_closed = schema.setdefault("additionalProperties", False) is False
        required = schema.setdefault("required", list(properties))
        missing = [each for each in required if each not in properties] if isinstance(required, list) else []
        if is_closed and missing:
            return f'"required" names {missing[0]!r}, which is none of the "properties"'
        for property, part in properties.items():
            if isinstance(part, dict) and part.get("enum") == []:
                return f'the "enum" of {property!r} is empty'
    inner = [
        list(part.values()) if word in _NAMED and isinstance(part, dict) else part
        for word, part in schema.items()
        if word not in _VALUES
    ]
    return next(filter(None, map(_close, inner)), None)


# Words of JSON Schema whose value has schemas by name, and those whose value is no schema.
_NAMED = ("properties", "$defs", "definitions", "patternProperties")
_VALUES = ("enum", "const", "default", "examples", "required")


def label_field(schema: Any) -> str | None:
    """Return the first property of a schema that has a fixed set of values, None where none has."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return next((name for name, part in (properties or {}).items() if _enum(part, schema)), None)


def label_values(schema: Any) -> list[Any]:
    """Return that set."""
    name = label_field(schema)
    return [] if name is None else list(_enum(schema["properties"][name], schema) or ())


def _enum(part: Any, schema: dict[str, Any]) -> list[Any] | None:
    """Return the values that a property may have, references followed, None where they are not listed."""
    if not isinstance(part, dict):
        return None
    if isinstance(reference := part.get("$ref"), str):
        return _enum((schema.get("$defs") or {}).get(reference.rpartition("/")[2]), schema)
    if part.get("type") == "array":
        return _enum(part.get("items"), schema)
    values = part.get("enum")
    return values if isinstance(values, list) else None
