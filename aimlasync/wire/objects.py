"""The objects of a reply that no struct describes.

`Object` is a dict whose keys are attributes too; `Unknown` is an item, part or event of an unknown `type`. It works on
bytes and values, without I/O. It may import `wire.json_text` and `wire.pydantic_names`.
"""

from __future__ import annotations

from operator import is_not
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import msgspec

from aimlasync.wire.json_text import cut_deep, is_deeper, plain, plain_value
from aimlasync.wire.pydantic_names import PydanticNames


class Object(dict[str, Any], PydanticNames):
    """A JSON object that no struct describes: a dict whose keys are readable as attributes, at any depth.

    A key that is the name of a dict's method, such as "items", is read by `["items"]` alone.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(f"the object has no field {name!r}") from None
        opened = open_up(value)
        if opened is not value:
            self[name] = opened
        return opened

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"the object has no field {name!r}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists."""
        return cast(dict[str, Any], msgspec.to_builtins(self, enc_hook=plain_value))


# Lists within lists that are opened, which is done at once; deeper ones stay as they are.
_MAX_LISTS = 50


def open_up(value: Any, lists: int = _MAX_LISTS) -> Any:
    """Return a JSON value with its objects as `Object`; what lies deeper is opened when it is read.

    It changes nothing; a list that has no other objects is returned as it is.
    """
    if type(value) is dict:
        return Object(value)
    if type(value) is list and lists:
        opened = [open_up(item, lists - 1) if type(item) in (dict, list) else item for item in value]
        if any(map(is_not, opened, value)):
            return opened
    return value


class Unknown(PydanticNames):
    """An item, part or event of an unknown `type`, kept as the server sent it; its fields are attributes."""

    __slots__ = ("_object", "raw", "type")
    _object: Object

    def __init__(self, type: str, raw: bytes) -> None:
        self.type = type
        self.raw = raw

    def __getattr__(self, name: str) -> Any:
        if name == "_object":
            self._object = Object(plain(cut_deep(self.raw)))
            return self._object
        if name in Unknown.__slots__:
            # A copy that is being made has no bytes yet.
            raise AttributeError(name)
        return getattr(self._object, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in Unknown.__slots__:
            object.__setattr__(self, name, value)
        else:
            self._object[name] = value

    def to_dict(self) -> dict[str, Any]:
        """Return the object as the server sent it, with what was set since."""
        return self._object.to_dict()

    def __copy__(self) -> Self:
        made = type(self)(self.type, self.raw)
        # It may have been changed; what is set on one is not set on the other.
        made._object = Object(self._object)
        return made

    def __repr__(self) -> str:
        return f"Unknown(type={self.type!r}, raw={self.raw!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unknown) and (self.type, self.raw) == (other.type, other.raw)

    def __hash__(self) -> int:
        return hash((self.type, self.raw))


if TYPE_CHECKING:
    AnyJson: TypeAlias = Any
    Json: TypeAlias = Any
else:

    class _Anything(type):
        def __instancecheck__(cls, _: object) -> bool:
            return True

    class AnyJson(metaclass=_Anything):
        """JSON whose objects are read as `Object`."""

    Json = AnyJson | None
    """The type of a field that holds any JSON."""


def json_hook(_: type, value: Any) -> Any:
    """Return the value of a field of type `Json`, for the `dec_hook` of msgspec."""
    return Object(value) if type(value) is dict else open_up(value)


# Levels of a value in a field of type `Json` that a decoder takes which refuses what is odd.
_MAX_LEVELS = 100


def shallow_hook(kind: type, value: Any) -> Any:
    """Do what `json_hook` does. Raises ValueError for more than a hundred levels: what is so deep is not exact."""
    if type(value) in (dict, list) and is_deeper(value, _MAX_LEVELS):
        raise ValueError("nested too deep")
    return json_hook(kind, value)
