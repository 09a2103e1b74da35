"""What the process of a command line sets for itself, and no program that uses the library wants set.

Ctrl-C while the command line is being imported ends it at once and quietly: nothing has begun. The package imports this
file first, because `python -m aimlasync` and the console script import the package before any line of `__main__`. In
every other program it does nothing. It imports nothing but the standard library.
"""

from __future__ import annotations

import gc
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


def collect_seldom() -> None:
    """Let the garbage collector pass over what was imported, and look less often.

    Calls in flight are thousands of objects and hardly any garbage in cycles: with 2,000 of them it took a sixth of the
    processor's time.
    """
    gc.freeze()
    gc.set_threshold(10_000)


def open_as_many_files_as_allowed() -> None:
    """Raise the soft limit of open files to the hard one: it is 256 on macOS, and each call in flight has a socket."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where there is no hard limit, macOS refuses more than the system's own.
    for most in (65_536, hard, 10_240):
        if resource.RLIM_INFINITY != soft < most:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
                return


if is_command():
    end_quietly()
