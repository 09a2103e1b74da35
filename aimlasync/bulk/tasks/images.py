"""Images that columns of a row name: an address, a path beside the input, or the image itself.

Reads the files, because their content is sent; looks at their first bytes before any call. Imports the rows of an input
and this room.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from typing import Any

import msgspec

from aimlasync.bulk.input.columns import column_of
from aimlasync.bulk.input.rows import InputError, Row
from aimlasync.bulk.tasks.prompt import listed
from aimlasync.bulk.tasks.text_column import needed_value

MAX_SIZE = 20 * 2**20
"""Of a file, in bytes; what vendors take is less than this, or about as much."""

_KINDS = (
    (b"\x89PNG\r\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)
_HEAD = 16


def image_urls(row: Row, columns: Sequence[str], name: str) -> list[str]:
    """Return the URLs of a row's images, files as data URLs; an empty cell has none. Raises InputError."""
    return [_url(item, row, name) for item in _items(row, columns, name)]


def check_image_columns(images: Sequence[str], columns: Sequence[str], name: str) -> None:
    """Raises InputError for a name that is no column of the input `name`."""
    for column in images:
        if column_of(columns, column) is None:
            raise InputError(name, f"no column {column!r} for --image; there are: {listed(columns, column)}")


def check_images(row: Row, columns: Sequence[str], name: str) -> None:
    """Raises InputError for an image that could not be sent; of a file only the first bytes are read."""
    for item in _items(row, columns, name):
        if isinstance(item, str) and not _is_url(item):
            _kind_of_file(_path(item, row, name), row, name)
        else:
            _url(item, row, name)


def _items(row: Row, columns: Sequence[str], name: str) -> list[Any]:
    items: list[Any] = []
    for column in columns:
        value = needed_value(row, column, name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = msgspec.json.decode(value)
            except (ValueError, RecursionError):
                raise InputError(name, f"{column!r} begins like a list and is no JSON", line=row.line) from None
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and {"bytes", "path"} & item.keys():
                # As the datasets library writes images into Parquet.
                item = (item.get("bytes") and {"bytes": item["bytes"]}) or item.get("path")
            if isinstance(item, str):
                item = item.strip()
            if item is None or item == "":
                continue
            if not isinstance(item, (str, dict)):
                raise InputError(name, f"{column!r} is no address and no path of an image", line=row.line)
            items.append(item)
    return items


def _is_url(item: str) -> bool:
    return item[:8].lower().startswith(("http://", "https://", "data:"))


def _url(item: Any, row: Row, name: str) -> str:
    if isinstance(item, dict):
        return _url_of_bytes(item.get("bytes"), row, name)
    if item.lower().startswith("data:") and not item.lower().startswith("data:image/"):
        raise InputError(name, f"no image: {_short(item)}", line=row.line)
    if _is_url(item):
        return str(item)
    path = _path(item, row, name)
    kind = _kind_of_file(path, row, name)
    with open(path, "rb") as file:
        return f"data:{kind};base64,{base64.b64encode(file.read(MAX_SIZE + 1)).decode()}"


def _url_of_bytes(said: Any, row: Row, name: str) -> str:
    try:
        head = base64.b64decode(said[:64], validate=True) if isinstance(said, str) else b""
    except binascii.Error:
        head = b""
    kind = _kind(head)
    if kind is None:
        raise InputError(name, "bytes that are no PNG, JPEG, GIF or WebP image", line=row.line)
    return f"data:{kind};base64,{said}"


def _path(item: str, row: Row, name: str) -> str:
    scheme, colon, rest = item.partition("://")
    if colon and scheme.lower() != "file":
        raise InputError(name, f"no way to get {_short(item)}; give https:// or a path", line=row.line)
    # Paths are those beside the input; of a pipe, those of the working directory.
    return os.path.join(os.path.dirname(row.file or name), rest if colon else item)


def _kind_of_file(path: str, row: Row, name: str) -> str:
    try:
        with open(path, "rb") as file:
            kind = _kind(file.read(_HEAD))
            size = os.fstat(file.fileno()).st_size
    except (OSError, ValueError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or "no path"
        raise InputError(
            name, f"no image at {_short(path)} ({said.lower()}); paths are beside the input", line=row.line
        ) from None
    if kind is None:
        raise InputError(name, f"{_short(path)} is no PNG, JPEG, GIF or WebP image", line=row.line)
    if size > MAX_SIZE:
        raise InputError(name, f"{_short(path)} has {size:,} bytes; make it smaller than {MAX_SIZE:,}", line=row.line)
    return kind


def _kind(head: bytes) -> str | None:
    kind = next((kind for magic, kind in _KINDS if head.startswith(magic)), None)
    return None if kind == "image/webp" and head[8:12] != b"WEBP" else kind


def _short(text: str) -> str:
    if len(text) <= 80:
        return text
    # The end of a path says more than its beginning.
    return f"{text[:77]}..." if _is_url(text) else f"...{text[-77:]}"
