"""aimlasync models: the catalogue of one server, one line per model on stdout, plain enough for grep."""

from __future__ import annotations

import click
import msgspec

from aimlasync import run
from aimlasync.cli.server import Where, find_server, open_client, where_options
from aimlasync.cli.terminal import printable
from aimlasync.wire.models import ModelList


@click.command(
    help="List the models on offer: id, context window, largest output.",
)
@click.option("--search", metavar="WORD", help="Only models with WORD in their id or one of its aliases.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, as the server sent it.")
@where_options
def models(search: str | None, as_json: bool, where: Where) -> None:
    """Run `aimlasync models`."""

    async def listed() -> ModelList:
        async with open_client(find_server(where, needs_model=False)) as client:
            return await client.models.list()

    word = (search or "").lower()
    found = [model for model in run(listed()) if any(word in name.lower() for name in (model.id, *model.aliases))]
    found.sort(key=lambda model: model.id)
    if as_json:
        for model in found:
            click.echo(msgspec.json.encode(model.to_dict()))
        return
    if not found:
        click.echo("aimlasync: no such model", err=True)
        return
    width = max(len("id"), *(len(printable(model.id)) for model in found))
    click.echo(f"{'id':<{width}}  {'context':>9}  {'max output':>10}")
    for model in found:
        click.echo(f"{printable(model.id):<{width}}  {_count(model.context):>9}  {_count(model.max_output):>10}")


def _count(tokens: int | None) -> str:
    return "-" if tokens is None else f"{tokens:,}"
