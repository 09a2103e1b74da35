"""What a run has done so far: its history, the calls that wait, and what it took; plain data that can be saved.

Law: no I/O. A history is kept in its endpoint's own form, so that nothing is lost between a reply and the next request.
A turn's calls stay in `pending` until all of them have a result, and only then join the history: whatever interrupts a
run, its history is one that a server takes, and a result that exists is never asked for again.
"""

from __future__ import annotations

import uuid
from typing import Any, Literal, Self

import msgspec

from aimlasync.wire.base import encode

Endpoint = Literal["chat", "responses"]


class ToolCall(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A call that the model asked for, and what became of it."""

    id: str
    name: str
    arguments: str
    """JSON text as the model wrote it, which may be invalid."""
    approved: bool | None = None
    """Set it to answer for a call that waits for approval; None until somebody did."""
    output: str | None = None
    """What the model is told; None until there is a result."""
    is_error: bool = False


class Usage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Tokens and money of all model calls of a run, re-asks and sub-agents included."""

    requests: int = 0
    """Model calls made."""
    attempts: int = 0
    """HTTP tries that these calls took."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    uncounted: int = 0
    """Calls whose tokens nobody stated; the sums above lack them."""
    stated_usd: float = 0.0
    """US dollars of the calls whose cost is known."""
    unpriced: int = 0
    """Calls whose cost is not known."""

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    @property
    def cost_usd(self) -> float | None:
        """US dollars of all calls; None as soon as the cost of one of them is not known, or nothing was called."""
        # Vendors state billionths; what is beyond is the drift of the sum.
        return round(self.stated_usd, 12) if self.requests and not self.unpriced else None

    def add(self, other: Usage) -> None:
        """Take in what another run used."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Repeat(msgspec.Struct, array_like=True):
    """How many turns in a row made the same call, and a checksum of the result that it had each time."""

    count: int
    mark: int


class Run(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One conversation with its tools: begun by `run` or `stream`, saved with `to_json`, gone on with `history=`."""

    model: str
    endpoint: Endpoint = "chat"
    id: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex)
    status: Literal["open", "waiting", "completed"] = "open"
    """completed: there is an output. waiting: calls in `waiting` need an approval. open: everything else."""
    items: list[Any] = msgspec.field(default_factory=list)
    """The history, instructions left out: messages of chat/completions, or input items of responses."""
    pending: list[ToolCall] = msgspec.field(default_factory=list)
    """Calls of the last turn, while one of them has no result."""
    output: Any = None
    """The answer: a text, or a value of the type asked for; None before the run is completed."""
    text: str = ""
    """The text of the last turn."""
    turns: int = 0
    tool_calls: int = 0
    """Calls that have a result."""
    usage: Usage = msgspec.field(default_factory=Usage)
    response_id: str | None = None
    """The last response, where the server stores them."""
    sent: int = 0
    """How many items the server has stored with it."""
    repeats: dict[str, Repeat] = msgspec.field(default_factory=dict)
    """The calls of the last turn, and how often in a row they were made with the same result."""

    @property
    def waiting(self) -> list[ToolCall]:
        """The calls that wait for `approved` to be set; none unless the status is waiting."""
        return [call for call in self.pending if call.output is None] if self.status == "waiting" else []

    def to_json(self) -> bytes:
        """Return all of it as JSON bytes. Raises TypeError for an input that has no JSON."""
        return encode(self)

    @classmethod
    def from_json(cls, data: bytes | str, *, output: Any = None) -> Self:
        """Return a saved run; `output` is the type of its answer, which is plain data without it.

        Raises msgspec.DecodeError for what is no saved run.
        """
        run = msgspec.json.decode(data, type=cls)
        if output is not None and run.output is not None:
            run.output = msgspec.convert(run.output, output)
        return run

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.status}, {self.turns} turns, {self.tool_calls} tool calls>"
