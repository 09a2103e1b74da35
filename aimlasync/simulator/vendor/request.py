"""A request for a model's answer as the rest of the simulator sees it, whichever endpoint it was sent to.

`reading` makes one of a body. No I/O; it may import `conversation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from aimlasync.simulator.vendor.conversation import Result


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call."""

    name: str
    parameters: dict[str, Any]
    description: str = ""


class SimRequest(msgspec.Struct, kw_only=True):
    """One request for a model's answer; `Fault.match` and the simulator's `answer` get it."""

    api: str
    """"chat" or "responses". A request that calls no model has "models", "balance" or the like, and only `path` and
    `headers` beside it."""
    path: str
    headers: Mapping[str, str]
    number: int = 0
    """The attempt's number in the ledger."""
    body: dict[str, Any] = msgspec.field(default_factory=dict)
    model: str = ""
    stream: bool = False
    text: str = ""
    """The last user message."""
    instructions: str = ""
    """System and developer messages, and `instructions`."""
    turn: int = 0
    """The number of the model's turns before this one."""
    results: list[Result] = msgspec.field(default_factory=list)
    """The tool results since the last user message, each with its call."""
    items: list[dict[str, Any]] = msgspec.field(default_factory=list)
    """Responses only: the items of the stored response that is continued, then those of the input."""
    schema: dict[str, Any] | None = None
    """The JSON schema that the answer must fit."""
    json_object: bool = False
    """Whether the answer must be any JSON object."""
    among_words: bool = False
    """Whether nothing but the prompt asks for the schema, so that the answer has words around it."""
    tools: list[Tool] = msgspec.field(default_factory=list)
    tool_choice: str = "auto"
    """"auto", "none", "required", or "=" and the name of one function."""
    parallel_tool_calls: bool = True
    store: bool = False
    background: bool = False
    """Responses only: whether the answer is to be fetched later."""
    max_tokens: int | None = None
    """The output cap of one choice."""
    n: int = 1
    include_usage: bool = False
    reasons: bool = False
    """Whether the model is a reasoning model: a part of the answer's tokens is reasoning and not in the text."""
    prompt_tokens: int = 0

    @property
    def messages(self) -> list[Any]:
        """The messages or input items as sent; an input that is a text becomes one user message."""
        given = self.body.get("messages", self.body.get("input"))
        return given if isinstance(given, list) else [{"role": "user", "content": given}]

    @property
    def digest(self) -> str:
        """A digest of `text`."""
        return blake2b(self.text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
