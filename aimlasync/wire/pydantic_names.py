"""What AsyncOpenAI's users know of pydantic, for all that a reply is made of: dumps, and a place in pydantic's models.

It works on values, without I/O. It may import `wire.dumped` and `wire.pydantic_fields` when they are used.
"""

from __future__ import annotations

from typing import Any, TypedDict, Unpack


class Dump(TypedDict, total=False):
    """Options of `model_dump`, as pydantic has them."""

    include: Any
    exclude: Any
    exclude_unset: bool
    exclude_defaults: bool
    exclude_none: bool
    # They change nothing here.
    context: Any
    fallback: Any
    round_trip: bool
    serialize_as_any: bool
    warnings: bool | str


class _Serializer:
    """Found on a class by pydantic, where a field of type Any or a list of anything holds an instance."""

    def __get__(self, instance: object, kind: Any) -> Any:
        from aimlasync.wire.pydantic_fields import serializer_of

        return serializer_of(kind)


class PydanticNames:
    """Base of what has `to_dict`."""

    __slots__ = ()

    __pydantic_serializer__ = _Serializer()

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists."""
        raise NotImplementedError

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict` as JSON text."""
        from aimlasync.wire.dumped import as_text

        return as_text(self.to_dict(), indent)

    def model_dump(
        self, *, mode: str = "json", by_alias: bool | None = None, **options: Unpack[Dump]
    ) -> dict[str, Any]:
        """Return `to_dict()` with all the keys of AsyncOpenAI's dump, None where nothing was sent.

        The options are pydantic's; `mode`, `by_alias`, `warnings` and the like change nothing here.
        """
        from aimlasync.wire.dumped import dump

        return dump(self, **options)

    def model_dump_json(
        self, *, indent: int | None = None, by_alias: bool | None = None, **options: Unpack[Dump]
    ) -> str:
        """Return `model_dump` as JSON text."""
        from aimlasync.wire.dumped import as_text, dump

        return as_text(dump(self, **options), indent)
