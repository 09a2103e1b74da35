"""The options that `classify` and `bulk` share, and what they say about how a job runs.

It turns flags into values, and requests nothing but the vendor's list of prices, where money is capped. It may import
the values of a job, and `options`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click
import msgspec

from aimlasync import AsyncClient, Limits, Price, prices_of
from aimlasync.addresses import has_password
from aimlasync.bulk.input.shard import Shard
from aimlasync.bulk.jobs.caps import Caps, EveryModel
from aimlasync.bulk.jobs.options import Options
from aimlasync.bulk.journal.journal import Durability
from aimlasync.cli.errors import WrongUseError
from aimlasync.cli.options import Duration, FileName, Number, WholeNumber, overwrite_option, refuse_unused, with_options
from aimlasync.errors import AimlasyncError
from aimlasync.store import Store, open_store


class JobOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of the command line that say how a job runs."""

    limit: int | None
    concurrency: int | None
    rpm: float | None
    tpm: float | None
    shard: str | None
    workers: int | None
    restart: bool
    overwrite: bool
    keep_failed: bool
    retry_invalid: int
    dedupe: bool
    durability: Durability
    max_usd: float | None
    price: str | None
    max_tokens: int | None
    rpd: int | None
    tpd: int | None
    deadline: float | None
    timeout: float | None
    dry_run: bool
    canary: int
    errors: str | None
    progress: str
    ray: str | None
    store: str | None
    quota: str | None

    @property
    def limits(self) -> Limits:
        """The limits of the vendor."""
        return Limits(requests_per_minute=self.rpm, tokens_per_minute=self.tpm, concurrency=self.concurrency)

    def kept_answers(self) -> Store | None:
        """Return the store of answers that was named. Raises WrongUseError for what cannot be one."""
        if self.store is None:
            return None
        if has_password(self.store):
            raise WrongUseError(
                "--store: a password is never an argument; set REDIS_URL everywhere and say --store redis, and leave "
                "those of object stores to their own settings"
            )
        if self.store == "redis" and not os.environ.get("REDIS_URL"):
            raise WrongUseError("--store redis: no URL of a Redis: set REDIS_URL")
        try:
            return open_store(self.store)
        except ValueError as error:
            raise WrongUseError(f"--store: {error}") from None

    def check_stream(self) -> None:
        """Raise WrongUseError for what takes a journal, where there is none."""
        given = {
            "--shard": self.shard,
            "--workers": self.workers,
            "--restart": self.restart,
            "--keep-failed": self.keep_failed,
            "--dedupe": self.dedupe,
            "--durability power": self.durability == "power",
            "--errors": self.errors,
            "--rpd": self.rpd,
            "--tpd": self.tpd,
            "--ray": self.ray is not None,
            "--overwrite": self.overwrite,
        }
        if name := next((name for name, value in given.items() if value), None):
            raise WrongUseError(f"{name} goes with a journal, and standard output and pipes have none; add -o PATH")

    def options(self, *, gold: str | None, simulated: bool) -> Options:
        """Return how the job runs. Raises WrongUseError."""
        self.kept_answers()
        if self.restart and self.dry_run:
            raise WrongUseError("--restart and --dry-run: an estimate throws no answers away; use one of them")
        if self.restart and self.keep_failed:
            raise WrongUseError("--restart and --keep-failed: nothing that failed is kept; use one of them")
        refuse_unused(canary=None if self.dry_run else "is the sample of a --dry-run; add that, or leave it out")
        if self.ray is not None and self.workers is not None:
            raise WrongUseError("--workers and --ray: a cluster has processes of its own; use one of them")
        try:
            shard = None if self.shard is None else Shard.parse(self.shard)
        except ValueError as error:
            raise WrongUseError(str(error)) from None
        return Options(
            concurrency=self.concurrency,
            limit=self.limit,
            shard=shard,
            retry_invalid=self.retry_invalid,
            keep_failed=self.keep_failed,
            dedupe=self.dedupe,
            timeout=self.timeout,
            caps=Caps(
                max_usd=self.max_usd,
                max_tokens=self.max_tokens,
                requests_per_day=self.rpd,
                tokens_per_day=self.tpd,
                deadline=self.deadline,
            ),
            gold=gold,
            canary=self.canary if self.dry_run else None,
            simulated=simulated,
        )

    async def prices(self, client: AsyncClient, models: set[str]) -> Mapping[str, Price]:
        """Return what `models` cost, as given, else as the vendor lists it. Raises WrongUseError for no price."""
        if self.price is not None:
            return EveryModel(_price(self.price))
        if self.max_usd is None and not self.dry_run:
            return {}
        prices: dict[str, Price] = {}
        try:
            prices = prices_of(await client.models.list(include="pricing"))
        except AimlasyncError:
            if self.max_usd is None:
                return {}
        unknown = sorted(model for model in models if model not in prices)
        if unknown and self.max_usd is not None:
            raise WrongUseError(
                f"--max-usd: the price of {unknown[0]} is not known; say it in US dollars for a million tokens, in and "
                "out: --price 0.05,0.40"
            )
        return prices


def priced(options: Options, prices: Mapping[str, Price]) -> Options:
    """Return the options with what models cost, which is known only once there is a client."""
    return replace(options, caps=replace(options.caps, prices=prices))


class _Address(click.types.StringParamType):
    """An address that may be left out; a file after it is meant as FILE."""

    name = "[ADDRESS]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the address. Raises WrongUseError for a file."""
        if os.path.isfile(value):
            raise WrongUseError(f"--ray {value}: that is a file, and no address; write FILE before --ray")
        return value


def _price(text: str) -> Price:
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
        if len(numbers) != 2:
            raise ValueError
        return Price.per_million(input=numbers[0], output=numbers[1])
    except ValueError:
        raise WrongUseError(f"--price {text}: write two amounts in US dollars, in and out: --price 0.05,0.40") from None


id_option = click.option(
    "--id", "id_column", metavar="COLUMN", help="The column that names a row. Default: a row is known by its content."
)
"""For both commands that ask about rows."""

job_options = with_options(
    [
        click.option("--limit", type=WholeNumber(1), metavar="N", help="Only the first N rows."),
        click.option(
            "--concurrency",
            type=WholeNumber(1),
            metavar="N",
            help="Calls at once. Default: learned from the server.",
        ),
        click.option("--rpm", type=Number(0, min_open=True), metavar="N", help="Requests per minute."),
        click.option("--tpm", type=Number(0, min_open=True), metavar="N", help="Tokens per minute."),
        click.option("--shard", metavar="I/N", help="Only the I-th of N parts, for N machines: 1/4 to 4/4."),
        click.option(
            "--workers", type=WholeNumber(1), metavar="N", help="N processes; they share the limits and caps."
        ),
        click.option("--restart", is_flag=True, help="Throw away the answers of earlier runs, and ask about all rows."),
        overwrite_option,
        click.option("--keep-failed", is_flag=True, help="Do not ask again about rows that failed in an earlier run."),
        click.option(
            "--retry-invalid",
            type=WholeNumber(0),
            default=0,
            show_default=True,
            metavar="N",
            help="Ask again when an answer is refused, cut, empty or invalid.",
        ),
        click.option("--dedupe", is_flag=True, help="Identical rows share one call."),
        click.option(
            "--durability",
            type=click.Choice(["process", "power"]),
            default="process",
            show_default=True,
            help="What answers survive: a killed process, or a power failure too.",
        ),
        click.option("--max-usd", type=Number(0, min_open=True), metavar="USD", help="Stop before more is spent."),
        click.option("--price", metavar="IN,OUT", help="US dollars for a million tokens, where none are stated."),
        click.option("--max-tokens", type=WholeNumber(1), metavar="N", help="Use no more tokens in the whole job."),
        click.option("--rpd", type=WholeNumber(1), metavar="N", help="Requests a day: then stop, and say until when."),
        click.option("--tpd", type=WholeNumber(1), metavar="N", help="Tokens a day, in and out."),
        click.option("--deadline", type=Duration(), metavar="TIME", help="Take no more rows after 90s, 30m, 2h."),
        click.option(
            "--timeout",
            type=Duration(),
            metavar="TIME",
            help="The longest wait for the answer of one row, from when it was sent.",
        ),
        click.option("--dry-run", is_flag=True, help="Ask about a sample, and estimate what all rows would cost."),
        click.option(
            "--canary",
            type=WholeNumber(1),
            default=20,
            show_default=True,
            metavar="N",
            help="The rows of a dry run.",
        ),
        click.option(
            "--errors",
            type=FileName(),
            metavar="PATH",
            help="Write the lines of the rows that failed to a file of their own (.jsonl).",
        ),
        click.option(
            "--progress",
            type=click.Choice(["auto", "json", "none"]),
            default="auto",
            show_default=True,
            help="A live view on a terminal, JSON lines on stderr, or nothing.",
        ),
        click.option(
            "--ray",
            type=_Address(),
            is_flag=False,
            flag_value="",
            help="Use the machines of a Ray cluster. Without ADDRESS: a running one, or one started on this machine.",
        ),
        click.option(
            "--store",
            metavar="STORE",
            help="Answer equal requests from here, and keep answers: FILE.sqlite, DIR, redis://HOST, s3://BUCKET/DIR.",
        ),
        click.option(
            "--quota",
            metavar="REDIS",
            help="Keep --rpm and --tpm with all commands that say the same redis://HOST[#ACCOUNT]; redis is REDIS_URL.",
        ),
    ],
    "flags",
    JobOptions,
)
"""The options that say how a job runs."""
