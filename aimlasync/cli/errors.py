"""What goes wrong in a command, as one line on stderr and an exit code.

Errors are turned into messages for people here alone: what, where, what to do. It imports the public names of the
library.
"""

from __future__ import annotations

import errno
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from aimlasync.addresses import FULL
from aimlasync.bulk import FormError, InputError, JournalError, LabelsError, PromptError, RequestError
from aimlasync.bulk.jobs.caps import UnpricedError
from aimlasync.bulk.jobs.stop_rules import is_unpaid
from aimlasync.cli.ctrl_c import exit_code
from aimlasync.cli.terminal import one_line, reader_left
from aimlasync.errors import (
    AimlasyncError,
    AnswerError,
    AnswerTruncatedError,
    APIConnectionError,
    APIResponseValidationError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnsupportedRequestError,
)

KEY_ENV = "name the variable that holds the key with --key-env"
"""What a command says where a program is told to pass a key."""


class CommandError(click.ClickException):
    """One line on stderr, and the exit code."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    def show(self, file: Any = None) -> None:
        """Print it."""
        click.echo(f"aimlasync: {self.message}", err=True)


class WrongUseError(CommandError):
    """The user must change the command, the environment or the input."""

    exit_code = 2


def option_of(param: click.Parameter | None) -> str | None:
    """Return what a parameter is called on the command line."""
    if isinstance(param, click.Option):
        return param.opts[0]
    return None if param is None else param.metavar


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what goes wrong inside into one line and an exit code."""
    try:
        yield
    except click.NoSuchOption as error:
        if not _OF_A_KEY.fullmatch(error.option_name):
            raise
        raise WrongUseError(f"{error.option_name}: {_NO_ARGUMENT}") from None
    except click.MissingParameter as error:
        if (name := option_of(error.param)) not in _FROM_STDIN:
            raise
        raise WrongUseError(f"{name} is missing; {_FROM_STDIN[name]} (--help lists the options)") from None
    except (FormError, InputError, JournalError, LabelsError, PromptError, RequestError) as error:
        raise WrongUseError(str(error)) from None
    except AimlasyncError as error:
        raise CommandError(advised(error)) from None
    except BrokenPipeError:
        reader_left()
    except OSError as error:
        name, what = error.filename, error.strerror or type(error).__name__
        if isinstance(error, FileNotFoundError) and not name:
            # Only what is asked for without a name has none.
            name, what = "the current directory", "it was deleted; change to another, and run the same command again"
        if error.errno in FULL:
            # What is written has the name of its file, or of the directory of temporary files.
            name = name or "standard output"
            if name == tempfile.gettempdir():
                what = f"{what} for temporary files; make room there, or set TMPDIR to another directory"
        if error.errno in (errno.EMFILE, errno.ENFILE):
            what = f"{what}; set a lower --concurrency, or raise ulimit -n, and run the same command again"
        raise CommandError(f"{name}: {what}" if name else what) from None
    except UnicodeEncodeError as error:
        # What the system has given as bytes is kept so, for names of files; it cannot be in a request.
        raise WrongUseError(f"{error.object[:60]!a} is not UTF-8; write it in UTF-8") from None
    except KeyboardInterrupt:
        click.echo("aimlasync: interrupted", err=True)
        raise SystemExit(exit_code()) from None


def advised(error: AimlasyncError) -> str:
    """Return what went wrong and what to do, in one line."""
    said = one_line(error.message)
    if isinstance(error, AuthenticationError) and "pass api_key=" in said:
        return said.replace("pass api_key=", KEY_ENV)
    if isinstance(error, UnsupportedRequestError):
        for in_code, here in _OF_PROGRAMS:
            said = said.replace(in_code, here)
    if isinstance(error, (UnpricedError, UnsupportedRequestError)):
        # It says itself what to do.
        return said
    if is_unpaid(error):
        return f"{said}; top up the account"
    advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), None)
    return f"{said}; {advice}" if advice else said


# An option by which other programs take a key; the arguments of a process are seen by all users, and kept by shells.
_OF_A_KEY = re.compile(r"-{1,2}([a-z]+[-_]?)?(key|token|secret)", re.IGNORECASE)
_NO_ARGUMENT = (
    "keys come from the environment only; set AIML_API_KEY or BYTESPIKE_API_KEY, "
    "or name another variable with --key-env"
)

# What is missing when a command is given nothing, as behind a pipe.
_FROM_STDIN = {
    "FILE...": "name a file, or - for standard input",
    "MESSAGE": "say it in quotes, or - for standard input",
}

# What a program is told to do, and what a command can do of it.
_OF_PROGRAMS = (
    ("; validate=False sends it anyway", ""),
    ("call client.responses.create(model=..., input=...)", "add --endpoint responses"),
)

_ADVICE: tuple[tuple[type[AimlasyncError], str], ...] = (
    (AuthenticationError, "check the key in AIML_API_KEY or BYTESPIKE_API_KEY"),
    (PermissionDeniedError, "use a key that may do this"),
    (NotFoundError, "check --model (aimlasync models lists them) and --base-url"),
    (BadRequestError, "change --model, --endpoint or the prompt"),
    (RateLimitError, "wait, or ask less often"),
    (BudgetExceededError, "raise --max-usd"),
    (APIConnectionError, "check the network and --base-url"),
    (AnswerTruncatedError, "allow more tokens for an answer"),
    (AnswerError, "no row was answered as asked: change --model, --structured or the prompt"),
    (APIResponseValidationError, "check --base-url"),
)
