"""aimlasync chat: one question, and its answer as it arrives. stdout has the answer alone.

It may import the client, its streams, the structs of `chat` and `responses`, and `options`.
"""

from __future__ import annotations

import sys

import click

from aimlasync import run
from aimlasync.bulk.output.streams import check_stream
from aimlasync.chat.types import ChatCompletion
from aimlasync.cli.errors import WrongUseError
from aimlasync.cli.server import ModelChoice, Where, find_server, model_options, open_client, where_options
from aimlasync.cli.terminal import say, say_how_to_end
from aimlasync.client.chat_stream import ChatStream
from aimlasync.client.response_stream import ResponseStream
from aimlasync.client.stream import Stream
from aimlasync.cost.tokens import tokens_of
from aimlasync.responses.types import Response


@click.command(
    help="Ask MESSAGE and print the answer; - reads it from stdin.",
)
@click.argument("words", metavar="MESSAGE", nargs=-1, required=True)
@click.option("--system", metavar="TEXT", help="Instructions for the model.")
@click.option("--no-stream", is_flag=True, help="Print the answer when it is whole.")
@model_options
@where_options
def chat(
    words: tuple[str, ...],
    system: str | None,
    no_stream: bool,
    choice: ModelChoice,
    where: Where,
) -> None:
    """Run `aimlasync chat`."""
    message, *others = words
    if others:
        raise WrongUseError(f'the message is {len(words)} words; put it in quotes: aimlasync chat "{message} ..."')
    # Output is checked before the answer is paid for.
    check_stream("-")
    if message == "-":
        if sys.stdin is None:
            raise WrongUseError("-: standard input is closed")
        say_how_to_end()
        message = sys.stdin.buffer.read().decode("utf-8", "replace")
    if not message.strip():
        raise WrongUseError("the message is empty")
    run(_chat(where, choice, message, system=system, stream=not no_stream))


async def _chat(where: Where, choice: ModelChoice, message: str, *, system: str | None, stream: bool) -> None:
    server = find_server(where, choice.model)
    async with open_client(server, spread=0.0) as client:
        answer = Answer()
        reply: ChatCompletion | Response | ChatStream | ResponseStream
        if choice.endpoint == "responses":
            reply = await client.responses.create(model=server.model, input=message, instructions=system, stream=stream)
        else:
            messages = [{"role": "user", "content": message}]
            if system:
                messages.insert(0, {"role": "system", "content": system})
            reply = await client.chat.completions.create(model=server.model, messages=messages, stream=stream)
        if isinstance(reply, Stream):
            async with reply:
                try:
                    async for piece in reply.text:
                        answer.write(piece)
                    reply = await reply.collect()
                finally:
                    answer.end()
        _close(reply, answer)


class Answer:
    """What has been printed so far."""

    def __init__(self) -> None:
        self.is_empty = True
        # The last character printed: the answer ends with exactly one line end.
        self._last = "\n"

    def write(self, text: str) -> None:
        """Print a piece at once."""
        if text:
            click.echo(text, nl=False)
            self.is_empty, self._last = False, text[-1]

    def end(self) -> None:
        """End the line."""
        if self._last != "\n":
            click.echo()
            self._last = "\n"


def _close(reply: ChatCompletion | Response, answer: Answer) -> None:
    """Print what has not been printed, and for people what it took."""
    if answer.is_empty:
        text = reply.text if isinstance(reply, ChatCompletion) else reply.output_text
        refusal = reply.refusal if isinstance(reply, Response) else reply.choices[0].message.refusal
        answer.write(text or refusal or "")
        answer.end()
    if reply.truncated:
        click.echo("aimlasync: the answer was cut by an output cap", err=True)
    if sys.stderr.isatty():
        info = reply.info
        tokens = tokens_of(reply.usage)
        counted = "" if tokens is None else f"{tokens[0]} tokens in, {tokens[1]} out"
        cost = "" if info.cost_usd is None else f" · ${info.cost_usd:.6f}"
        seconds = "" if info.timing.total is None else f" · {info.timing.total:.1f} s"
        say(f"{counted}{cost}{seconds}".removeprefix(" · "), "dim")
