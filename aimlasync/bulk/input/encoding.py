"""Text in another encoding as lines of UTF-8.

Pure. A wrong byte is an InputError with its line and place in the file. Imports `rows`.
"""

from __future__ import annotations

import codecs

from aimlasync.bulk.input.rows import InputError, Lines

# The longer mark is looked for first, because it begins with the shorter one.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def marked_encoding(head: bytes) -> str | None:
    """Return the encoding that a byte order mark says, None for UTF-8 and for text without one."""
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)


def encoding_of(head: bytes, said: str | None) -> str | None:
    """Return the encoding of a text, None for UTF-8: what its mark says, else what is `said` of one or more files."""
    return None if head.startswith(codecs.BOM_UTF8) else marked_encoding(head) or said


class Utf8Lines:
    """`lines` in `encoding` as lines of UTF-8. Raises InputError about `name`."""

    def __init__(self, lines: Lines, encoding: str, name: str) -> None:
        check_encoding(encoding, name)
        self._lines = lines
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._encoding = encoding
        self._name = name
        # What was decoded behind the last line end; bytes and lines before it.
        self._rest = ""
        self._before = self._above = 0

    def readline(self, limit: int, /) -> bytes:
        """Return one or several lines with their ends; b"" at the end."""
        while True:
            block = self._lines.readline(limit)
            text = self._rest + self._decoded(block)
            end = len(text) if not block or len(text) >= limit else text.rfind("\n") + 1
            self._rest = text[end:]
            if end or not block:
                return text[:end].encode("utf-8", "surrogatepass")

    def _decoded(self, block: bytes) -> str:
        try:
            text = self._decoder.decode(block, not block)
        except UnicodeDecodeError as error:
            place = self._before + len(block) - len(error.object) + error.start
            line = 1 + self._above + codecs.decode(error.object[: error.start], self._encoding, "ignore").count("\n")
            said = f"not {self._encoding}: 0x{error.object[error.start]:02x} at byte {place}"
            raise InputError(self._name, f"{said}; name another --encoding", line=line) from None
        self._before += len(block)
        self._above += text.count("\n")
        return text


def check_encoding(encoding: str, name: str) -> None:
    """Raise InputError for what is no encoding of text."""
    try:
        "".encode(encoding)
    except (LookupError, ValueError, TypeError):
        what = f"there is no encoding {encoding!r}; use Python's names, such as cp1252, latin-1, utf-16 or shift_jis"
        raise InputError(name, what) from None
