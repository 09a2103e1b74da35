"""What pydantic asks of a class: how our structs are checked, dumped and described where its models hold them.

So a struct may be the field of a pydantic model, a type of `TypeAdapter`, and what FastAPI returns. Only pydantic calls
it, so nobody else needs `pydantic_core`. It has no I/O.
"""

from __future__ import annotations

import functools
from typing import Any

from pydantic_core import SchemaSerializer, core_schema


def schema_of(kind: Any) -> core_schema.CoreSchema:
    """Return the schema of a struct: an instance stays itself, and an object of JSON becomes one."""
    return core_schema.no_info_plain_validator_function(kind.model_validate, serialization=_DUMPED)


@functools.cache
def serializer_of(kind: type) -> SchemaSerializer:
    """Return what dumps an instance that a field of any type holds."""
    return SchemaSerializer(core_schema.is_instance_schema(kind, serialization=_DUMPED))


def _dumped(value: Any, info: core_schema.SerializationInfo) -> dict[str, Any]:
    dumped: dict[str, Any] = value.model_dump(
        include=info.include,
        exclude=info.exclude,
        exclude_unset=info.exclude_unset,
        exclude_defaults=info.exclude_defaults,
        exclude_none=info.exclude_none,
    )
    return dumped


_DUMPED = core_schema.plain_serializer_function_ser_schema(_dumped, info_arg=True)
