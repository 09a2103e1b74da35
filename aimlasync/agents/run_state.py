"""The state of a run: its history, its pending tool calls, and its usage.

Plain data that can be saved and loaded; no I/O. The history is kept in the endpoint's own form, so that nothing is lost
between a reply and the next request. The calls of a turn stay in `pending` until all of them have a result, and only
then their results join the history. So whatever interrupts a run, a server accepts its history, and a tool call that
has a result is never executed again. This module may import the package's `wire` alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, cast

import msgspec
from msgspec.structs import replace

from aimlasync.wire.base import encode

if TYPE_CHECKING:
    # One with a default, so that `Run` alone is `Run[Any]`.
    from typing_extensions import TypeVar

    OutputT = TypeVar("OutputT", default=Any)
else:
    from typing import TypeVar

    OutputT = TypeVar("OutputT")

Endpoint = Literal["chat", "responses"]


class ToolCall(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A tool call that the model asked for, and its result."""

    id: str
    name: str
    arguments: str
    """JSON text as the model wrote it, which may be invalid."""
    approved: bool | None = None
    """Set it to decide on a call that waits for approval; None is undecided."""
    output: str | None = None
    """The text that the model gets as the result; None until there is one."""
    is_error: bool = False
    """Whether `output` says why there is no result."""
    images: list[str] = []
    """The URLs of the images in the result, which the model gets beside the text."""


class Usage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Tokens and cost of all model calls of a run, repairs and sub-agents included."""

    requests: int = 0
    """Model calls made."""
    attempts: int = 0
    """HTTP attempts that these calls took."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    uncounted: int = 0
    """Model calls whose reply states no tokens; the sums above lack them."""
    stated_usd: float = 0.0
    """US dollars of the model calls whose cost is known."""
    unpriced: int = 0
    """Model calls whose cost is unknown."""

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    @property
    def cost_usd(self) -> float | None:
        """US dollars of all model calls; None when there were none, or the cost of one of them is unknown."""
        # Vendors state billionths of a dollar; smaller digits are rounding errors of the sum.
        return round(self.stated_usd, 12) if self.requests and not self.unpriced else None

    def add(self, other: Usage) -> None:
        """Add the usage of another run."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Repeat(msgspec.Struct, array_like=True):
    """How many consecutive turns made the same call, and a checksum of the result that it had each time."""

    count: int
    checksum: int


class Run(msgspec.Struct, Generic[OutputT], kw_only=True, omit_defaults=True):
    """One conversation with tools: begun by `run` or `stream`, saved with `to_json`, continued with `history=`."""

    model: str
    endpoint: Endpoint = "chat"
    id: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex)
    status: Literal["open", "waiting", "completed"] = "open"
    """completed: there is an output. waiting: the calls in `waiting` need an approval. open: everything else."""
    items: list[Any] = msgspec.field(default_factory=list)
    """The history without the instructions: messages of chat/completions, or input items of responses."""
    pending: list[ToolCall] = msgspec.field(default_factory=list)
    """The tool calls of the last turn, as long as one of them has no result.

    The run replaces a call when there is something new about it; only `approved` is ever set, by those who decide.
    """
    output: OutputT = cast(Any, None)
    """The answer: a text, or a value of the type asked for; None before the run is completed."""
    text: str = ""
    """The text of the last turn."""
    turns: int = 0
    """Model calls that have a reply."""
    tool_calls: int = 0
    """Tool calls that have a result."""
    usage: Usage = msgspec.field(default_factory=Usage)
    response_id: str | None = None
    """The id of the last response, where the server stores responses."""
    sent: int = 0
    """How many of `items` the server has stored with that response."""
    repeats: dict[str, Repeat] = msgspec.field(default_factory=dict)
    """For each tool call of the last turn, in how many consecutive turns it had the same result."""

    @property
    def waiting(self) -> list[ToolCall]:
        """The tool calls whose `approved` is to be set; none unless the status is waiting."""
        return [call for call in self.pending if call.output is None] if self.status == "waiting" else []

    def decide(self, approvals: Mapping[str, bool]) -> None:
        """Decide on calls that wait for approval, by their ids.

        Raises ValueError for an id that no waiting call has or that several have, TypeError for a decision that is not
        True or False; nothing is decided then.
        """
        waiting = [call for call in self.pending if call.output is None]
        found: list[tuple[ToolCall, bool]] = []
        for id, approved in approvals.items():
            meant = [call for call in waiting if call.id == id]
            if not isinstance(approved, bool):
                raise TypeError(f"the approval of {id!r} must be True or False, not {approved!r}")
            if len(meant) != 1:
                known = ", ".join(call.id for call in waiting) or "none"
                who = f"several calls with the id {id!r} wait" if meant else f"no call with the id {id!r} waits"
                raise ValueError(f"{who} for an approval; waiting: {known}")
            found.append((meant[0], approved))
        for call, approved in found:
            call.approved = approved

    def abandon(self, why: str = "it has no result, because the user went on without it") -> None:
        """Give up the calls that have no result, so that the run can go on with `input=`; the model is told why."""
        self.pending = [
            call if call.output is not None else replace(call, output=f"error: {why}", is_error=True)
            for call in self.pending
        ]
        if self.status == "waiting":
            self.status = "open"

    def to_json(self) -> bytes:
        """Return the whole run as JSON bytes. Raises TypeError for an input that has no JSON form."""
        return encode(self)

    @classmethod
    def from_json(cls, data: bytes | str, *, output: Any = None) -> Self:
        """Return a saved run; `output` is the type of its answer, which stays plain data when it is not given.

        Raises msgspec.DecodeError for data that is no saved run.
        """
        run: Self = msgspec.json.decode(data, type=cls)
        if output is not None and run.output is not None:
            run.output = msgspec.convert(run.output, output)
        return run

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.status}, turns={self.turns} tool_calls={self.tool_calls}>"


Save = Callable[[Run], Awaitable[None] | None]
"""Stores a run, for instance its `to_json`, under its id; awaited if need be."""
