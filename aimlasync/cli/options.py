"""What the commands share: options, the client they lead to, and the way from an error to one line and an exit code.

Errors are turned into messages for people here alone. A key is never an argument, and never printed. Imports the public
names of the library.
"""

from __future__ import annotations

import errno
import functools
import math
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import click
import msgspec
from click.core import ParameterSource

from aimlasync import AsyncClient, Endpoint, Limits
from aimlasync.addresses import FULL
from aimlasync.bulk import FormError, InputError, JournalError, LabelsError, PromptError, RequestError
from aimlasync.bulk.jobs.caps import UnpricedError, read_seconds
from aimlasync.bulk.jobs.stop_rules import is_unpaid
from aimlasync.cli.ctrl_c import exit_code
from aimlasync.cli.terminal import printable, reader_left
from aimlasync.endpoints.endpoint import default_endpoints
from aimlasync.endpoints.providers import AIMLAPI, VENDORS, Api
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
from aimlasync.quota.protocol import Quota
from aimlasync.store import Cache, Store

F = TypeVar("F", bound=Callable[..., Any])

NO_KEY = (
    "no key: set AIML_API_KEY (AI/ML API) or BYTESPIKE_API_KEY (ByteSpike), or try the built-in simulator with "
    "--simulate"
)
_KEY_ENV = "name the variable that holds the key with --key-env"


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


class Number(click.FloatRange):
    """A finite number within bounds, called so in messages and help."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Fails for inf and nan: what has no bound is left out."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no amount; leave it out where there is no limit.", param, ctx)
        return number


class WholeNumber(click.IntRange):
    """A whole number within bounds, called so in messages and help."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises BadParameter for one that is more than anything can be counted to."""
        number = super().convert(value, param, ctx)
        return number if number <= sys.maxsize else self.fail(f"{value!r} is too large.", param, ctx)


def option_of(param: click.Parameter | None) -> str | None:
    """Return what a parameter is called on the command line."""
    if isinstance(param, click.Option):
        return param.opts[0]
    return None if param is None else param.metavar


class Duration(click.types.StringParamType):
    """A time such as 45s or 1h30m, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the seconds. Raises WrongUseError."""
        try:
            return value if isinstance(value, float) else read_seconds(value)
        except ValueError as error:
            raise WrongUseError(f"{option_of(param)}: {error}") from None


class FileName(click.types.StringParamType):
    """The name of a file, or its address, or -."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name. Raises WrongUseError for an empty one, as of a variable of the shell that is not set."""
        if value == "":
            raise WrongUseError(f"{option_of(param)}: an empty name; name a file")
        return super().convert(value, param, ctx)


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Which server a command talks to."""

    base_url: str | None = None
    key_env: str | None = None
    """Name of the environment variable that holds its key."""
    simulate: bool = False
    allow_http: bool = False


class ModelChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which model is asked, None the vendor's small one, and at which endpoint."""

    model: str | None = None
    endpoint: Api = "chat"


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The server that is asked, and the model there."""

    endpoint: Endpoint | None
    """None is the built-in simulator, which begins with the client and ends with it."""
    model: str
    """Empty where none is named and the server has no default."""
    where: Where = Where()
    """The options that led to it, for other processes that look for it themselves."""

    @property
    def family(self) -> str | None:
        """What its answers are kept under, None for its base URL: all simulators answer alike, each on its own port."""
        return "simulator" if self.endpoint is None else None

    def check_model(self) -> None:
        """Raise WrongUseError where it has no model."""
        if not self.model and self.endpoint is not None:
            raise WrongUseError(f"which model? {self.endpoint.name} has no default; say so with --model")


def with_options(
    options: Sequence[Callable[[F], F]], name: str, struct: type[msgspec.Struct]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds click's `options`; the command gets them as one `struct`, the argument `name`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def taking(**given: Any) -> Any:
            chosen = struct(**{field: given.pop(field) for field in struct.__struct_fields__})
            return command(**given, **{name: chosen})

        for add in reversed(options):
            add(taking)
        return taking

    return decorate


def refuse_unused(**reasons: str | None) -> None:
    """Raise WrongUseError for an option that was given and would change nothing; its reason says so, None is used."""
    source_of = click.get_current_context().get_parameter_source
    for name, reason in reasons.items():
        if reason is not None and source_of(name) is ParameterSource.COMMANDLINE:
            raise WrongUseError(f"--{name.replace('_', '-')} {reason}")


where_options = with_options(
    [
        click.option("--base-url", metavar="URL", help="Another server, such as http://127.0.0.1:8080/v1."),
        click.option(
            "--key-env",
            metavar="NAME",
            help="The environment variable that holds the key; for a --base-url of your own.",
        ),
        click.option("--simulate", is_flag=True, help="Ask the built-in simulator: no key, no cost."),
        click.option("--allow-http", is_flag=True, help="Allow an unencrypted base URL beyond this machine."),
    ],
    "where",
    Where,
)
"""The options that say which server is asked."""

model_options = with_options(
    [
        click.option("--model", metavar="ID", help="The model; by default the vendor's small one."),
        click.option(
            "--endpoint",
            type=click.Choice(["chat", "responses"]),
            default="chat",
            show_default=True,
            help="chat/completions or responses.",
        ),
    ],
    "choice",
    ModelChoice,
)
"""The options that say which model is asked, and at which endpoint."""


overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace files that this job did not write, or that have been changed."
)
"""For every command that writes files."""

structured_option = click.option(
    "--structured",
    type=click.Choice(["auto", "json_schema", "tool", "json_object", "text"]),
    default="auto",
    show_default=True,
    help="How to ask for an answer in a form; auto is the surest way that the model has.",
)
"""For every command whose answers have a form."""


def has_key() -> bool:
    """Whether the environment has a key of any vendor."""
    return any(os.environ.get(name, "").strip() for vendor in VENDORS for name in vendor.key_variables)


def find_server(where: Where, model: str | None = None, *, needs_model: bool = True) -> Server:
    """Return the server that `where` and the environment lead to. Raises CommandError."""
    if where.simulate:
        if where.base_url is not None:
            raise WrongUseError("--simulate and --base-url name two servers; use one of them")
        if where.key_env is not None:
            raise WrongUseError("--simulate needs no key; leave --key-env out")
        if where.allow_http:
            raise WrongUseError("--simulate asks no other machine; leave --allow-http out")
        return Server(endpoint=None, model=model or AIMLAPI.default_model, where=where)
    if where.base_url is None and where.key_env is None and not has_key():
        raise WrongUseError(NO_KEY)
    try:
        endpoint = default_endpoints(None, where.base_url, allow_http=where.allow_http, key_variable=where.key_env)[0]
    except (AimlasyncError, ValueError) as error:
        said = str(error).replace("pass allow_http=True", "add --allow-http").replace("pass api_key=", _KEY_ENV)
        said = said.replace("api_key ", "the key ").replace("base_url", "the base URL")
        raise WrongUseError(f"--key-env: {said}" if said.startswith("the environment") else said) from None
    server = Server(endpoint=endpoint, model=model or endpoint.provider.default_model, where=where)
    if needs_model:
        server.check_model()
    return server


@asynccontextmanager
async def open_client(
    server: Server,
    *,
    limits: Limits | None = None,
    quota: Quota | None = None,
    ttft: float = 0.15,
    spread: float = 0.4,
    store: Store | None = None,
) -> AsyncIterator[AsyncClient]:
    """Open a client for `server`, whose limits are those of `quota`; `ttft` and `spread` are the simulator's.

    Answers are kept in `store`, and those that are there are not asked for.
    """
    async with AsyncExitStack() as stack:
        endpoint = server.endpoint
        if endpoint is None:
            from aimlasync.simulator import Latency, Simulator

            latency = Latency.of(ttft=ttft, tokens_per_second=400, spread=spread)
            sim = await stack.enter_async_context(Simulator(latency=latency))
            endpoint = Endpoint(base_url=sim.base_url, api_key=sim.key, name="simulator", provider=AIMLAPI)
        endpoint.quota = quota
        cache = None
        if store is not None:
            cache = Cache(store, sampled=True, family=server.family)
            stack.push_async_callback(cache.close)
        yield await stack.enter_async_context(AsyncClient(endpoints=[endpoint], limits=limits, cache=cache))


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
        return said.replace("pass api_key=", _KEY_ENV)
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


def one_line(text: str, max_length: int = 300) -> str:
    """Return a server's message as one line without control characters."""
    text = printable(" ".join(text.split())).rstrip(".")
    return text if len(text) <= max_length else text[: max_length - 3] + "..."


def counted(number: int, noun: str) -> str:
    """Return a number with what it counts: "1 row", "2,000 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
