"""The console entry: `aimlasync`, and `python -m aimlasync`.

It checks that the extra `cli` is installed before it imports `cli`. Until then it imports the standard library and
`_command_line` alone, so that a missing extra is one line and not a traceback.
"""

import os
import sys

from aimlasync._command_line import collect_seldom, end_quietly, open_as_many_files_as_allowed


def main() -> None:
    """Run the command line."""
    end_quietly()
    _hold_standard_streams()
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError:
        sys.stderr.write("the command line needs its extra: pip install 'aimlasync[cli]'\n")
        raise SystemExit(2) from None
    from aimlasync.cli import cli, exit_code, signals_interrupt

    collect_seldom()
    open_as_many_files_as_allowed()
    try:
        with signals_interrupt():
            cli(prog_name="aimlasync")
    except KeyboardInterrupt:
        raise SystemExit(exit_code()) from None


def _hold_standard_streams() -> None:
    """Take the places of streams that are closed: a journal that got number 2 would be written to by any warning."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # What is written to a closed standard output is an error, and nobody misses what is said to a closed 2.
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)


if __name__ == "__main__":
    main()
