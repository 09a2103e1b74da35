"""The console entry: `aimlasync`, and `python -m aimlasync`.

Law: imports nothing but the standard library until it knows that the extra is there.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError:
        sys.stderr.write("the command line needs its extra: pip install 'aimlasync[cli]'\n")
        raise SystemExit(2) from None
    from aimlasync.cli import cli

    cli(prog_name="aimlasync")


if __name__ == "__main__":
    main()
