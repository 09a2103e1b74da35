"""Ctrl-C while the command line is being imported ends it at once and quietly: nothing has begun.

The package imports this file first, because `python -m aimlasync` and the console script import the package before any
line of `__main__`. In every other program it does nothing. It imports nothing but the standard library.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from itertools import pairwise


def is_command() -> bool:
    """Whether this process is the command line, and no program that uses the library."""
    name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    return ("-m", "aimlasync") in pairwise(sys.orig_argv) if name == "-m" else name in ("aimlasync", "aimlasync.exe")


def end_quietly() -> None:
    """Let Ctrl-C end the process as the system does, unless it is ignored or somebody handles it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Not in a thread.
        with suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if is_command():
    end_quietly()
