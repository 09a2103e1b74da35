"""Makes structs of a plain value whose types fit, with the fields beside that no struct declares.

The structs of a reply refuse such fields. Of each there is a twin that ignores them: msgspec makes twins, they become
what they are twins of, and the fields are added. It works on values, without I/O. It may import `wire.objects`.
"""

from __future__ import annotations

import functools
import types
import typing
from typing import Any

import msgspec

from aimlasync.wire.objects import json_hook, open_up


def fitted(value: dict[str, Any], kind: Any, place: tuple[Any, ...]) -> Any:
    """Return the struct of a plain object, None where the types do not fit.

    Each struct in it has its `json_place`, and its undeclared fields as attributes.
    """
    twin = _twin_of(kind)
    try:
        made = msgspec.convert(value, twin, dec_hook=json_hook)
    except (ValueError, RecursionError):
        return None
    _become(made, value, place)
    return made


_kinds: dict[type, tuple[type[Any], dict[str, str], frozenset[str]]] = {}
"""What a twin becomes: the struct, its fields that hold structs (attributes by keys), and keys to leave alone."""

_HOLDERS = (dict, list)


def _become(struct: Any, value: dict[str, Any], place: tuple[Any, ...]) -> None:
    struct.__class__, holding, done = _kinds[struct.__class__]
    struct.json_place = place
    for key in value:
        if key in done:
            continue
        said = value[key]
        if key not in holding:
            struct.__dict__[key] = open_up(said) if said.__class__ in _HOLDERS else said
        elif said.__class__ is list:
            for number, one in enumerate(getattr(struct, holding[key])):
                _become(one, said[number], (*place, key, number))
        elif said is not None:
            _become(getattr(struct, holding[key]), said, (*place, key))


@functools.cache
def _twin_of(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    changed: list[tuple[str, Any, Any]] = []
    holding = {}
    for field in msgspec.structs.fields(kind):
        inner = _with_twins(field.type)
        if inner is not field.type:
            given: dict[str, Any] = {"default": field.default, "default_factory": field.default_factory}
            changed.append((field.name, inner, msgspec.field(**given, name=field.encode_name)))
            holding[field.encode_name] = field.name
    twin = msgspec.defstruct(kind.__name__, changed, bases=(kind,), forbid_unknown_fields=False, kw_only=True)
    # What has the name of a property or method of ours is in `to_dict` alone.
    _kinds[twin] = kind, holding, frozenset((*kind.__struct_encode_fields__, *dir(kind))).difference(holding)
    return twin


def _with_twins(wanted: Any) -> Any:
    """Return a type with the twins of the structs in it."""
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return _twin_of(wanted)
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    made = tuple(map(_with_twins, inner))
    if made == inner:
        return wanted
    return typing.Union[made] if origin in (typing.Union, types.UnionType) else origin[made]
