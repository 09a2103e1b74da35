"""How many tokens the images, files, sounds and videos of a request may take: a bound for money, a guess for limits.

Their size in bytes says little, so they are no text: a data: URL of two megabytes is an image of a few thousand tokens.
It reads requests of both endpoints, made of dicts or structs, without I/O. It may import `cost.plain_text`.

Sources: OpenAI, "Images and vision" (a patch model takes up to 1,536 patches at 2.46 tokens, a tile model 1,445 tokens;
gpt-4o-mini 48,169; 10,000 patches with detail "original") and "File inputs" (text and an image of each page);
Anthropic, "PDF support" (up to 3,000 tokens of text a page, 1,600 of its image); Google, "Understand and count tokens"
(32 tokens for a second of sound, 300 for one of video).
"""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from aimlasync.cost.plain_text import is_text

_IMAGE, _LIKELY_IMAGE = 4_096, 1_024
_ORIGINAL_IMAGE = 16_384
# A part of a model's name -> tokens of its dearest image, where that is more than others take.
_DEAR_IMAGES = {"gpt-4o-mini": 48_169}
_PAGE, _LIKELY_PAGE = 5_000, 2_000
# The pages of a file that cannot be looked into: the most that vendors document, and a guess.
_PAGES, _LIKELY_PAGES = 100, 10
_MAX_PAGES = 1_000
# Bytes of a page whose file does not tell their number; empty pages are smaller, and cost less.
_PAGE_BYTES = 4_096
# Bytes for a token: sound of 8 kbit/s is a bound, of 128 kbit/s a guess; video of 240 kbit/s and 4 Mbit/s.
_SOUND_BYTES, _LIKELY_SOUND_BYTES = 30, 500
_VIDEO_BYTES, _LIKELY_VIDEO_BYTES = 100, 1_500
# A sound and a video elsewhere: ten minutes and a quarter of an hour, half a minute each as a guess.
_SOUND, _LIKELY_SOUND = 19_200, 960
_VIDEO, _LIKELY_VIDEO = 270_000, 9_000

# The types of parts and items that are no text; the name of each tells of what.
_KINDS = frozenset(
    (
        "image",
        "image_url",
        "input_image",
        "output_image",
        "computer_screenshot",
        "image_generation_call",
        "input_audio",
        "audio_url",
        "video_url",
        "input_video",
        "file",
        "input_file",
        "document",
    )
)
# Where a part says what it holds: these members, of the part or of an object in it.
_VALUES = ("url", "image_url", "file_data", "data", "file_url", "video_url", "result")
_HOLDERS = ("image_url", "file", "input_audio", "video_url", "source", "audio_url")

_PAGE_MARK = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_PAGE_COUNT = re.compile(rb"/Count\s+(\d{1,5})")
_OBJECTS = re.compile(rb"/Type\s*/ObjStm[^\0]{0,300}?stream\r?\n")
_MAX_OBJECTS = 1 << 20


class Media(msgspec.Struct, frozen=True):
    """What is no text in one request."""

    size: int = 0
    """Bytes of the body that are no text."""
    most: int = 0
    """A bound of their tokens."""
    likely: int = 0
    """A guess at their tokens."""

    def __bool__(self) -> bool:
        return self.most > 0

    def input_bound(self, size: int) -> int:
        """Return what `input_bound` does, for the request that holds this."""
        return max(0, size - self.size) + self.most


NO_MEDIA = Media()


def media_in(body: Mapping[str, Any]) -> Media:
    """Return what a request of either endpoint holds beside text."""
    held = []
    for member in ("messages", "input"):
        items = body.get(member)
        if isinstance(items, (list, tuple)) and not is_text(items):
            held.append(items)
    if not held:
        return NO_MEDIA
    model = body.get("model")
    name = model if isinstance(model, str) else ""
    size = most = likely = 0
    for items in held:
        for item in items:
            for part, kind in _parts(item):
                one = _weigh(part, kind, name)
                size, most, likely = size + one.size, most + one.most, likely + one.likely
    return Media(size, most, likely) if most else NO_MEDIA


def input_bound(body: Mapping[str, Any], size: int) -> int:
    """Return a bound of the tokens of a request's input, whose body takes `size` bytes.

    A token of text has at least one byte. What the server adds is not in it: its own prompts, the results of its own
    tools, and what a `previous_response_id` stands for.
    """
    return media_in(body).input_bound(size)


def _parts(item: Any) -> Iterator[tuple[Any, str]]:
    """Give an item of a conversation and what it is made of, as far as it is no text, each with its type."""
    for member in ("content", "output"):
        inner = _get(item, member)
        if isinstance(inner, (list, tuple)):
            for part in inner:
                yield from _parts(part)
        elif isinstance(inner, (Mapping, msgspec.Struct)):
            yield from _parts(inner)
    kind = _get(item, "type")
    if kind is None and isinstance(item, msgspec.Struct):
        kind = item.__struct_config__.tag
    if isinstance(kind, str) and kind in _KINDS:
        yield item, kind


def _weigh(part: Any, kind: str, model: str) -> Media:
    value, detail, is_inside = _value(part)
    content = kind
    if value[:5] == "data:":
        # An image_url may hold a PDF; the data: URL says what it is.
        content, is_inside = value[5:40].partition(";")[0], True
    size = len(value) if is_inside else 0
    decoded = size * 3 // 4
    if "image" in content or content == "computer_screenshot":
        most = next((tokens for name, tokens in _DEAR_IMAGES.items() if name in model), _IMAGE)
        return Media(size, max(most, _ORIGINAL_IMAGE) if detail == "original" else most, _LIKELY_IMAGE)
    if "audio" in content:
        most, likely = decoded // _SOUND_BYTES + 1, decoded // _LIKELY_SOUND_BYTES + 1
        return Media(size, most, likely) if is_inside else Media(0, _SOUND, _LIKELY_SOUND)
    if "video" in content:
        most, likely = decoded // _VIDEO_BYTES + 1, decoded // _LIKELY_VIDEO_BYTES + 1
        return Media(size, most, likely) if is_inside else Media(0, _VIDEO, _LIKELY_VIDEO)
    if content.startswith("text/"):
        return Media(size, decoded, decoded // 4)
    if is_inside:
        pages = _pages(value)
        return Media(size, pages * _PAGE, pages * _LIKELY_PAGE)
    return Media(0, _PAGES * _PAGE, _LIKELY_PAGES * _LIKELY_PAGE)


def _value(part: Any) -> tuple[str, Any, bool]:
    """Return what a part holds, the detail in which it is read, and whether it is there itself."""
    held = (_get(part, name) for name in _HOLDERS)
    holder = next((one for one in held if isinstance(one, (Mapping, msgspec.Struct))), part)
    for name in _VALUES:
        value = _get(holder, name)
        if isinstance(value, str):
            return value, _get(holder, "detail"), name in ("data", "file_data", "result")
    return "", None, False


def _pages(value: str) -> int:
    """Return how many pages a file has, from itself where it is a PDF that says so, else from its size."""
    try:
        data = binascii.a2b_base64(value.partition(",")[2] if value[:5] == "data:" else value)
    except ValueError:
        data = b""
    found = 0
    if data[:1024].find(b"%PDF") >= 0:
        found = max(len(_PAGE_MARK.findall(data)), _count(data))
        for objects in _OBJECTS.finditer(data) if not found else ():
            try:
                inflated = zlib.decompressobj().decompress(data[objects.end() :], _MAX_OBJECTS)
            except zlib.error:
                continue
            found = max(found + len(_PAGE_MARK.findall(inflated)), _count(inflated))
    return min(found, _MAX_PAGES) or min(_PAGES, 1 + len(value) * 3 // 4 // _PAGE_BYTES)


def _count(data: bytes) -> int:
    return max((int(count) for count in _PAGE_COUNT.findall(data)), default=0)


def _get(item: Any, name: str) -> Any:
    if type(item) is dict or isinstance(item, Mapping):
        return item.get(name)
    return getattr(item, name, None)
