"""Packed files: gzip by the standard library, Zstandard by zstandard, which is imported only for such a file.

A packed file is read and written one block at a time. One that was cut off or damaged is an InputError. Imports `rows`.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal

from aimlasync.bulk.input.rows import InputError

Packing = Literal["gzip", "zstd"]

_MAGIC: tuple[tuple[bytes, Packing], ...] = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
# A Zstandard frame to be skipped, with which files begin that are made for many threads or for seeking.
_SKIPPED = [bytes((number,)) for number in range(0x50, 0x60)]
_EXTENSIONS: dict[str, Packing] = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_BLOCK = 2**16
# The most that a frame may look back (zstd --long=31), as in dumps of many years of text; the package stops at 2^27.
_WINDOW = 2**31


def packing_of(head: bytes) -> Packing | None:
    """Return how a file that begins with `head` is packed."""
    if head[:1] in _SKIPPED and head[1:4] == b"\x2a\x4d\x18":
        return "zstd"
    return next((packing for magic, packing in _MAGIC if head.startswith(magic)), None)


def packing_of_path(path: str) -> Packing | None:
    """Return how a file of this name is packed."""
    return _EXTENSIONS.get(os.path.splitext(path)[1].lower())


def unpacked_path(path: str) -> str:
    """Return the name without the extension that says how the file is packed."""
    return os.path.splitext(path)[0] if packing_of_path(path) is not None else path


def unpacked(file: BinaryIO, packing: Packing, name: str) -> io.BufferedReader:
    """Return the content of a packed file, read from where that is. Raises InputError about `name`, also later."""
    raw = gzip.GzipFile(fileobj=file, mode="rb") if packing == "gzip" else _Zstd(file, name)
    return io.BufferedReader(_Checked(raw, packing, name), _BLOCK)


@contextmanager
def packing_for(file: BinaryIO, path: str) -> Iterator[BinaryIO]:
    """Give a file whose content goes to `file`, packed as the extension of `path` says; `file` is not closed."""
    packing = packing_of_path(path)
    if packing is None:
        yield file
        return
    packed: Any
    if packing == "gzip":
        # Without a name and a time the same rows are the same bytes.
        packed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
    else:
        packed = zstandard(path).ZstdCompressor().stream_writer(file, closefd=False)
    try:
        yield packed
    except BaseException:
        if packing == "gzip":
            # It would write an end when it is collected, as if all were there, into a file that is closed.
            packed.fileobj = None
        raise
    packed.close()


def zstandard(name: str) -> Any:
    """Return zstandard. Raises InputError about `name` when it is not installed."""
    try:
        import zstandard
    except ImportError:
        raise InputError(name, "Zstandard needs zstandard; install it with: pip install 'aimlasync[zstd]'") from None
    return zstandard


class _Checked(io.RawIOBase):
    """What is unpacked, with errors as one line."""

    def __init__(self, raw: Any, packing: Packing, name: str) -> None:
        self._raw = raw
        self._packing = packing
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            data: bytes = self._raw.read(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            said = str(error).rstrip(".")
            raise InputError(self._name, f"damaged or cut off ({self._packing}: {said}); get it again") from None
        buffer[: len(data)] = data
        return len(data)


class _Zstd:
    """The frames of a Zstandard file; the package's own reader takes a frame that was cut off for a whole one."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._zstandard = zstandard(name)
        self._file = file
        self._frame: Any = None
        self._packed = b""
        self._ready = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._ready:
            if not self._packed:
                self._packed = self._file.read(_BLOCK)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the last frame has no end")
                return b""
            if self._frame is None:
                # Frames may be concatenated, as cat does it.
                self._frame = self._zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
            try:
                self._ready = memoryview(self._frame.decompress(self._packed))
            except self._zstandard.ZstdError as error:
                raise zlib.error(str(error)) from None
            self._packed = b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        data = bytes(self._ready[:size])
        self._ready = self._ready[size:]
        return data
