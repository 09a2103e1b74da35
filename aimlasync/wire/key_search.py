"""The search for keys in texts, bytes and containers of them: where a key is, in every form in which it is echoed.

A key is found in any case, cut at its end or masked in its middle, inside base64, and with characters escaped as in
JSON, URLs or HTML, up to three times over. It has no I/O. It may import `headers` and `reading`.
"""

from __future__ import annotations

import base64
import html
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from aimlasync.headers import Fields
from aimlasync.wire.reading import Placed

MARK = "[key]"
"""The text that replaces a key."""

# A part of a key of this length is cut out wherever it occurs. A shorter key of letters alone, or digits alone, is not
# searched for: it may be a placeholder ("test", "EMPTY") or a word of a message.
_PART = 8
_SHORTEST = 4
# A beginning of a key of this length is cut out where a mask or the end of the text follows.
_BEGINNING = 4
# A run of letters and digits of this length is searched for on its own.
_CORE = 5

_MASK = re.compile(rb"\*{2,}|\.{2,}|(?:\xe2\x80\xa6)+|(?:\xe2\x80\xa2){2,}")
_MASKS = (b"**", b"..", b"\xe2\x80\xa6", b"\xe2\x80\xa2")
_WORD = re.compile(rb"[a-z0-9]+")
_ESCAPE = re.compile(
    rb"%([0-9a-f]{2})|\\+(?:u([0-9a-f]{4})|x([0-9a-f]{2})|([\"'/\\]))|&#(?:x0*([0-9a-f]{1,5})|0*([0-9]{1,6}));"
    rb"|&(amp|lt|gt|quot|apos);"
)
_NAMED = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
# The most bytes of an escaped character, some of them escaped again.
_WIDEST = 16
_ROUNDS = 3
# Values that are nested deeper are replaced; no API sends such values.
_DEEPEST = 64


class KeySearch:
    """The search for some keys, prepared."""

    __slots__ = ("_forms",)

    def __init__(self, values: Iterable[str]) -> None:
        self._forms = [form for value in values for form in _forms_of(value)]

    def cut_from(self, data: bytes) -> bytes:
        """Return `data` with MARK in place of each key; `data` itself where there is none."""
        low = data.lower()
        spans = [span for form in self._forms for span in form.spans(low)]
        if not spans:
            return data
        spans.sort()
        pieces, at = [], 0
        for start, end in spans:
            if start >= at:
                pieces += [data[at:start], MARK.encode()]
            at = max(at, end)
        return b"".join([*pieces, data[at:]])

    def without(self, value: Any) -> Any:
        """Return `value` without keys, in texts, bytes and containers of them; `value` itself where there is none.

        Structs are changed in place.
        """
        # Nearly always there is no key, and one search in all texts together tells.
        texts = _texts_in(value)
        if texts is not None and not self._may_be_in(texts.lower()):
            return value
        return self._without(value, 0)

    def _may_be_in(self, low: bytes) -> bool:
        for form in self._forms:
            for needle in form.needles:
                if needle in low:
                    return True
        return False

    def _without(self, value: Any, depth: int) -> Any:
        """Return `value` without the keys in it: itself where it holds none."""
        if isinstance(value, str):
            data = value.encode("utf-8", "surrogatepass")
            cut = self.cut_from(data)
            return value if cut is data else cut.decode("utf-8", "surrogatepass")
        if isinstance(value, bytes):
            return self.cut_from(value)
        if depth > _DEEPEST and isinstance(value, (Mapping, list, tuple, msgspec.Struct)):
            return "..."
        if isinstance(value, Fields):
            return value.mapped(lambda line: self._without(line, depth))
        if isinstance(value, Mapping):
            items = [(k, v, self._without(k, depth + 1), self._without(v, depth + 1)) for k, v in value.items()]
            changed = any(k is not new_k or v is not new_v for k, v, new_k, new_v in items)
            return {new_k: new_v for _, _, new_k, new_v in items} if changed else value
        if isinstance(value, (list, tuple)):
            parts = [self._without(part, depth + 1) for part in value]
            return type(value)(parts) if any(a is not b for a, b in zip(value, parts, strict=True)) else value
        if isinstance(value, msgspec.Struct):
            self._clean(value, depth + 1)
        return value

    def _clean(self, struct: msgspec.Struct, depth: int) -> None:
        for name in struct.__struct_fields__:
            old = getattr(struct, name)
            if (new := self._without(old, depth)) is not old:
                msgspec.structs.force_setattr(struct, name, new)
        if isinstance(struct, Placed) and (sent := getattr(struct, "json_place", None)) is not None:
            struct.json_place = self._without(sent, depth)
        beside: dict[str, Any] = getattr(struct, "__dict__", {})
        for name, old in list(beside.items()):
            beside[name] = self._without(old, depth)


class _Form:
    """One form in which a key may occur in a text, in lower case, and the needles that are searched for."""

    __slots__ = ("_needles", "_text", "needles")

    def __init__(self, value: str) -> None:
        self._text = text = value.encode("utf-8", "surrogatepass").lower()
        # The longest run of letters and digits: encoders that escape special characters leave it as it is.
        core = max(_WORD.findall(text), key=len, default=b"")
        needles = {text[:_PART], text[-_PART:]}
        if len(core) >= min(len(text), _CORE):
            needles.add(core)
        for head in (value[:_PART], value[:_PART].lower()):
            needles |= {encoded(head).encode("utf-8", "surrogatepass").lower() for encoded in _ENCODERS}
        self._needles = frozenset(needles)
        # The beginning of a masked key, too; needles that begin with it need not be searched for.
        begun = text[:_BEGINNING]
        self.needles = [begun, *(needle for needle in needles if not needle.startswith(begun))]

    def spans(self, low: bytes) -> list[tuple[int, int]]:
        """Return where the key occurs in `low`, whole or in part, as (start, end)."""
        text = self._text
        found: list[tuple[int, int]] = []
        is_masked = any(mask in low for mask in _MASKS)
        if len(text) >= _PART and (is_masked or text[:_BEGINNING] in low[-_PART:]):
            found += self._beginnings(low)
        reach = len(text) * _WIDEST
        regions: list[tuple[int, int]] = []
        for needle in self._needles:
            at = low.find(needle)
            while at >= 0:
                start, end = max(0, at - reach), at + reach
                if regions and regions[-1][0] <= start <= regions[-1][1]:
                    start = regions.pop()[0]
                regions.append((start, end))
                at = low.find(needle, at + len(needle))
        for start, end in regions:
            found += [(start + a, start + b) for a, b in self._in_region(low[start:end])]
        return found

    def _beginnings(self, low: bytes) -> list[tuple[int, int]]:
        """Return where a beginning of the key is followed by a mask (and perhaps the key's end), or ends the text."""
        text, found = self._text, []
        at = low.find(text[:_BEGINNING])
        while at >= 0:
            end = at + _common(low, at, text)
            mask = _MASK.match(low, end)
            if mask is not None:
                rest = low[mask.end() : mask.end() + _PART]
                shown = next((n for n in range(len(rest), 1, -1) if text.endswith(rest[:n])), 0)
                found.append((at, mask.end() + shown if shown else end))
            elif end == len(low):
                found.append((at, end))
            at = low.find(text[:_BEGINNING], end)
        return found

    def _in_region(self, data: bytes) -> list[tuple[int, int]]:
        found = self._plainly(data)
        text, maps = data, []
        for _ in range(_ROUNDS):
            if (read := _unescaped(text)) is None:
                break
            text, outs, ins = read
            text = text.lower()
            maps.append((outs, ins))
            for start, end in self._plainly(text):
                for outs, ins in reversed(maps):
                    start, end = _back(start, outs, ins, is_end=False), _back(end, outs, ins, is_end=True)
                found.append((start, end))
        return found

    def _plainly(self, low: bytes) -> list[tuple[int, int]]:
        """Return where parts of the key occur unescaped."""
        text, found = self._text, []
        if len(text) < _PART:
            whole = re.compile(rb"(?<![a-z0-9])" + re.escape(text) + rb"(?![a-z0-9])")
            return [match.span() for match in whole.finditer(low)]
        at = low.find(text[:_PART])
        while at >= 0:
            end = at + _common(low, at, text)
            found.append((at, end))
            at = low.find(text[:_PART], end)
        left = 0
        at = low.find(text[-_PART:])
        while at >= 0:
            start, end = at, at + _PART
            while start > left and end - start < len(text) and low[start - 1] == text[start - 1 - end]:
                start -= 1
            found.append((start, end))
            left = end
            at = low.find(text[-_PART:], end)
        return found


def _texts_in(value: Any) -> bytes | None:
    """Return all texts in a value, one per line; None for a value that is nested too deep."""
    texts: list[str] = []
    raws: list[bytes] = []
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        deeper: list[Any] = []
        for part in level:
            kind = type(part)
            if kind is str:
                texts.append(part)
            elif part is None or kind is float or kind is int or kind is bool:
                continue
            elif kind is bytes:
                raws.append(part)
            elif kind is dict:
                deeper += part
                deeper += part.values()
            elif isinstance(part, (list, tuple)):
                deeper += part
            elif isinstance(part, Fields):
                texts += part.lines
            elif isinstance(part, msgspec.Struct):
                deeper += msgspec.structs.astuple(part)
                deeper.append(getattr(part, "__dict__", None))
                sent = getattr(part, "json_place", None)
                # Of a place, the bytes of the document; structs of one document share them.
                deeper.append(sent[0] if type(sent) is tuple else sent)
            elif isinstance(part, Mapping):
                deeper.append(dict(part))
            elif isinstance(part, str):
                texts.append(str(part))
        if not deeper:
            return b"\n".join(["\n".join(texts).encode("utf-8", "surrogatepass"), *raws])
        level = deeper
    return None


def _common(low: bytes, at: int, text: bytes) -> int:
    """Return how many bytes of `text` occur at `at`."""
    most = min(len(text), len(low) - at)
    return next((n for n in range(most) if low[at + n] != text[n]), most)


def _forms_of(value: str) -> list[_Form]:
    if len(value) < _SHORTEST or (len(value) < _PART and (value.isalpha() or value.isdigit())):
        return []
    key = value.encode("utf-8", "surrogatepass")
    forms = [value]
    for before in range(3):
        # Base64 of any text that contains the key, at each of three offsets; the characters that depend on the bytes
        # beside the key are left out.
        coded = base64.b64encode(b"\0" * before + key)[(0, 2, 3)[before] : (before + len(key)) * 8 // 6].decode()
        if len(coded) >= _PART:
            forms += {coded, coded.translate({ord("+"): "-", ord("/"): "_"})}
    return [_Form(form) for form in forms]


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _url(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


# How encoders write a text: those that escape special characters, and those that escape every character.
_ENCODERS: Sequence[Callable[[str], str]] = (
    _json,
    lambda text: _json(_json(text)),
    lambda text: "".join(c if c.isascii() and c.isalnum() else f"\\u{ord(c):04x}" for c in text),
    lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
    _url,
    lambda text: _url(_url(text)),
    lambda text: "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass")),
    html.escape,
    lambda text: "".join(f"&#x{ord(c):x};" for c in text),
    lambda text: "".join(f"&#{ord(c)};" for c in text),
)


def _unescaped(data: bytes) -> tuple[bytes, list[int], list[int]] | None:
    """Return `data` with its escapes decoded once, and where each piece of it was; None when it has no escape."""
    pieces: list[bytes] = []
    outs, ins = [0], [0]
    size = at = 0
    for match in _ESCAPE.finditer(data):
        for piece, here in ((data[at : match.start()], match.start()), (_read(match), match.end())):
            pieces.append(piece)
            size += len(piece)
            outs.append(size)
            ins.append(here)
        at = match.end()
    return (b"".join([*pieces, data[at:]]), outs, ins) if at else None


def _read(match: re.Match[bytes]) -> bytes:
    octet, four, two, itself, hexadecimal, decimal, name = match.groups()
    if octet is not None:
        return bytes([int(octet, 16)])
    if itself is not None:
        return bytes(itself)
    if name is not None:
        return _NAMED[name]
    number = int(decimal) if decimal is not None else int(four or two or hexadecimal, 16)
    return chr(min(number, 0x10FFFF)).encode("utf-8", "surrogatepass")


def _back(place: int, outs: list[int], ins: list[int], *, is_end: bool) -> int:
    """Return where a position of an unescaped text was in the escaped one."""
    piece = bisect_right(outs, place) - 1
    if piece % 2 == 0:
        # Between escapes, bytes correspond one to one.
        return ins[piece] + place - outs[piece]
    return ins[piece + 1] if is_end and place > outs[piece] else ins[piece]
