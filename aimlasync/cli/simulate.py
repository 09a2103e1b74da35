"""aimlasync simulate: the simulator as a server.

stdout carries lines that a shell can use, then the totals of its ledger.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import click

from aimlasync import run
from aimlasync.cli.ctrl_c import on_interrupt
from aimlasync.cli.errors import CommandError, WrongUseError
from aimlasync.cli.options import Number, WholeNumber

if TYPE_CHECKING:
    from aimlasync.config import Mode
    from aimlasync.simulator import Simulator


@click.command(
    help="""Run the simulator here until Ctrl-C.

    Then it prints what it was asked.
    """,
)
@click.option("--port", type=WholeNumber(0, 65535), default=8080, show_default=True, help="0 takes any free one.")
@click.option(
    "--vendor",
    type=click.Choice(["aimlapi", "bytespike", "openai"]),
    default="aimlapi",
    show_default=True,
    help="The vendor to behave like.",
)
@click.option(
    "--structured",
    type=click.Choice(["json_schema", "tool", "json_object", "text"]),
    default="json_schema",
    show_default=True,
    help="The surest way to a structured answer that its models have.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides ids, faults and latency.")
@click.option("--ttft", type=Number(0), default=0.0, metavar="SECONDS", help="Time to the first token.")
@click.option(
    "--tokens-per-second", type=Number(0, min_open=True), metavar="N", help="Tokens per second after the first."
)
@click.option("--spread", type=Number(0), default=0.0, help="Spread of both times (sigma of a lognormal).")
@click.option("--rpm", type=WholeNumber(1), help="Requests per minute, then 429.")
@click.option("--tpm", type=WholeNumber(1), help="Tokens per minute, then 429.")
@click.option("--concurrency", type=WholeNumber(1), help="Requests at once, then 429.")
@click.option("--fault", "faults", multiple=True, metavar="TEXT", help="Such as status:503,probability=0.1.")
@click.option("--balance-usd", type=Number(0), help="Money on the account; answers spend it.")
def simulate(
    port: int,
    vendor: str,
    structured: Mode,
    seed: int,
    ttft: float,
    tokens_per_second: float | None,
    spread: float,
    rpm: int | None,
    tpm: int | None,
    concurrency: int | None,
    faults: tuple[str, ...],
    balance_usd: float | None,
) -> None:
    """Run `aimlasync simulate`."""
    # Imported here, because the other commands need no server.
    from aimlasync.simulator import Fault, Latency, Simulator

    try:
        sim = Simulator(
            vendor=vendor,  # type: ignore[arg-type]  # click has checked it
            port=port,
            structured=structured,
            seed=seed,
            latency=Latency.of(ttft=ttft, tokens_per_second=tokens_per_second, spread=spread),
            requests_per_minute=rpm,
            tokens_per_minute=tpm,
            concurrency=concurrency,
            faults=[Fault.parse(text) for text in faults],
            balance_usd=balance_usd,
        )
    except (ValueError, TypeError) as error:
        raise WrongUseError(str(error)) from None
    run(_serve(sim, port))
    ledger = sim.ledger
    statuses = ", ".join(f"{count} with {status or 'none'}" for status, count in sorted(ledger.by_status().items()))
    click.echo(f"requests  {len(ledger)}" + (f", by status: {statuses}" if statuses else ""))
    tokens_in = sum(attempt.prompt_tokens for attempt in ledger)
    tokens_out = sum(attempt.completion_tokens for attempt in ledger)
    click.echo(f"tokens    {tokens_in:,} in, {tokens_out:,} out")
    click.echo(f"cost      ${ledger.cost_usd:.6f} (simulated)")


async def _serve(sim: Simulator, port: int) -> None:
    stop = asyncio.Event()
    with on_interrupt(lambda _: stop.set()):
        try:
            await sim.start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CommandError(f"port {port} is in use; choose another with --port (0 takes any)") from None
            if error.errno == errno.EACCES:
                raise CommandError(f"port {port} needs more rights; choose one above 1023 with --port") from None
            raise
        try:
            _greet(sim)
            await stop.wait()
        finally:
            await sim.close()


def _greet(sim: Simulator) -> None:
    click.echo(f"# {sim.vendor.name} simulated at {sim.base_url} until Ctrl-C; any key will do")
    provider = sim.vendor.provider
    if provider.url_variable is not None:
        click.echo(f"export {provider.url_variable}={sim.base_url}")
        click.echo(f"export {provider.key_variables[0]}=anything")
        click.echo(f"# for code that reads OPENAI_*: export OPENAI_BASE_URL={sim.base_url} OPENAI_API_KEY=anything")
    else:
        click.echo("export AIML_API_KEY=anything")
        click.echo(f"aimlasync chat --base-url {sim.base_url} --model any Hello")
