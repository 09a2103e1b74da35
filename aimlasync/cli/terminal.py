"""Where text meets the terminal: standard output and error as the commands use them.

`printable` decides what a terminal is given: stderr goes through it always, standard output where it is a terminal; a
pipe or a file gets the exact text. `attached` puts this between the commands and the system, so that no command need
think of it. An error of stderr is ignored, so that a message that cannot be printed stops no job. `warnings_said` says
what the library logs. Imports rich.
"""

from __future__ import annotations

import codecs
import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

# Control characters but tab and line feed, C1 included, which some terminals obey without an escape; characters that
# change the writing direction; and lone surrogates, which stand for bytes of a file name that are no text.
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_PIPE_CLOSED = 141
_STDOUT = "standard output"
_STDERR = "standard error"
# The parent of all loggers of the library.
_LOGGERS = "aimlasync"


def printable(text: str) -> str:
    """Return a text of others without what would drive a terminal or change the writing direction."""
    return _CONTROLS.sub("", text)


class Screen:
    """A text stream over `inner`, and its `buffer`; its errors have the `name`.

    `clean` removes what `printable` removes; `quiet` ignores errors.
    """

    def __init__(self, inner: Any, name: str, *, clean: bool = True, quiet: bool = False) -> None:
        self.inner = inner
        self._name = name
        self._clean = clean
        self._quiet = quiet
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.buffer = _Bytes(self)

    def write(self, text: str) -> int:
        """Write a text."""
        shown = printable(text) if self._clean else text
        with self._errors():
            self.inner.write(shown)
        return len(text)

    def write_bytes(self, data: Any) -> int:
        """Write bytes; where they are cleaned, as the UTF-8 text that they are."""
        if self._clean:
            self.write(self._decode(data))
        else:
            with self._errors():
                self.inner.buffer.write(data)
        return len(data)

    def flush(self) -> None:
        """Flush the stream."""
        with self._errors():
            self.inner.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, OSError):
                error.filename = self._name
            if not self._quiet:
                raise


class _Bytes:
    """The binary side of a screen."""

    def __init__(self, screen: Screen) -> None:
        self.write = screen.write_bytes
        self.flush = screen.flush

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


class _Closed:
    """Standard output that was closed when the process began."""

    closed = True
    encoding = "utf-8"
    errors = "strict"

    @property
    def buffer(self) -> _Closed:
        return self

    def write(self, _: object) -> int:
        raise OSError(errno.EBADF, "it is closed", _STDOUT)

    def flush(self) -> None:
        """Nothing is buffered."""

    def isatty(self) -> bool:
        return False


class _Console(Console):
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render, with what others wrote made printable; what moves the cursor is rich's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def say_how_to_end() -> None:
    """Say on stderr how typed input ends, where standard input is a terminal: a command would only seem to hang."""
    if sys.stdin.isatty():
        end = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
        sys.stderr.write(f"aimlasync: reading what is typed here; {end} on a line of its own ends it\n")


def console() -> Console:
    """Return a console on stderr, whose own colours and movements reach it."""
    stderr = sys.stderr
    while isinstance(stderr, Screen):
        stderr = stderr.inner
    file: Any = Screen(stderr, _STDERR, clean=False, quiet=True)
    return _Console(file=file, highlight=False, markup=False, emoji=False)


def say(text: str, style: str) -> None:
    """Write a line to stderr, where that is a terminal in a style of rich; `click.secho` cannot, its codes are cut."""
    console().print(Text(text, style=style), soft_wrap=True)


@contextmanager
def warnings_said() -> Iterator[None]:
    """Say the warnings of the library as the commands say all else, unless the program logs them in its own way."""
    logger = logging.getLogger(_LOGGERS)
    if logger.hasHandlers():
        yield
        return
    handler = _Said(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Said(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # A live view puts itself in the place of the stream.
        sys.stderr.write(f"aimlasync: {self.format(record)}\n")


@contextmanager
def attached() -> Iterator[None]:
    """Put screens in the place of the standard streams while the block lasts, and exit when standard output fails.

    Where its reader left, the exit code is 141, as of a program that SIGPIPE ended.
    """
    out, err = sys.stdout, sys.stderr
    devnull = open(os.devnull, "w", encoding="utf-8") if err is None else None  # noqa: SIM115  # closed below
    stderr: Any = Screen(devnull if err is None else err, _STDERR, quiet=True)
    stdout: Any = _Closed() if out is None else Screen(out, _STDOUT, clean=out.isatty())
    sys.stdout, sys.stderr = stdout, stderr
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        reader_left()
    except OSError as error:
        stderr.write(f"aimlasync: {_STDOUT}: {error.strerror}\n")
        _abandon(out)
        raise SystemExit(1) from None
    finally:
        try:
            stderr.inner.flush()
        except (OSError, ValueError):
            # Nobody can read it: the exit code is the command's, and not Python's 120 for a stream it cannot flush.
            _abandon(err)
        sys.stdout, sys.stderr = out, err
        if devnull is not None:
            devnull.close()


def reader_left() -> None:
    """Exit quietly, because the reader of standard output has closed it, as `head` does. Raises SystemExit."""
    _abandon(sys.stdout)
    raise SystemExit(_PIPE_CLOSED) from None


def _abandon(stream: Any) -> None:
    # What is buffered would fail once more when Python flushes it at its end, with a message.
    with suppress(OSError, ValueError, AttributeError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(devnull, stream.fileno())
        finally:
            os.close(devnull)


def one_line(text: str, max_length: int = 300) -> str:
    """Return a server's message as one line without control characters."""
    text = printable(" ".join(text.split())).rstrip(".")
    return text if len(text) <= max_length else text[: max_length - 3] + "..."


def counted(number: int, noun: str) -> str:
    """Return a number with what it counts: "1 row", "2,000 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
