"""Images in the result of a tool, which the model sees.

A tool returns an `Image`, or a list with images and other values. The text of the result says where each was, and the
images go beside it: chat takes them in a message of the user, responses in the result itself. It works on values,
without I/O, and imports nothing of this library.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, NamedTuple, Self

import msgspec

MARK = "[image]"
"""What stands in the text of a result where an image was."""


class Image(msgspec.Struct, frozen=True):
    """An image that a tool returns. The model must be one that sees images; others refuse the request."""

    url: str
    """https://..., or data:image/png;base64,..."""

    @classmethod
    def of(cls, data: bytes, media_type: str = "image/png") -> Self:
        """Return an image whose bytes are sent with the request."""
        return cls(f"data:{media_type};base64,{b64encode(data).decode()}")


class WithImages(NamedTuple):
    """The result of a tool as text, and its images as URLs."""

    text: str
    images: list[str]


def without_images(result: Any) -> tuple[Any, list[str]]:
    """Return a result with a mark in the place of each image, and the URLs of the images."""
    if isinstance(result, Image):
        return MARK, [result.url]
    if not isinstance(result, (list, tuple)) or not (
        images := [part.url for part in result if isinstance(part, Image)]
    ):
        return result, []
    parts = [MARK if isinstance(part, Image) else part for part in result]
    return "\n".join(parts) if all(isinstance(part, str) for part in parts) else parts, images
